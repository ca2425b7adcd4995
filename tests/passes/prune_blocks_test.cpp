// Depth pruning: which residual branches go, what is left, and what stays with which reason.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "mcompress/mcompress.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

// Seeded inputs of one shape, a sample each.
class NoiseSamples final : public DataSource {
 public:
  explicit NoiseSamples(std::vector<std::int64_t> dims) : dims_(std::move(dims)) {}
  std::int64_t count() const override { return 12; }
  std::uint64_t digest() const override { return 1; }
  std::string description() const override { return "noise"; }
  bool can_batch() const override { return false; }
  const Labels& labels() const override { return labels_; }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t /*count*/) override {
    std::mt19937 random(static_cast<unsigned>(first + 1));
    std::int64_t elements = 1;
    for (const std::int64_t dim : dims_) elements *= dim;
    std::vector<float> values;
    for (std::int64_t i = 0; i < elements; ++i) {
      values.push_back(static_cast<float>(random() % 2000) / 1000.0F - 1.0F);
    }
    std::vector<NamedTensor> feeds;
    feeds.push_back({"x", make_float_tensor(values, dims_)});
    return feeds;
  }

 private:
  std::vector<std::int64_t> dims_;
  Labels labels_;
};

// Residual blocks of two convolutions. Those of `weak` make next to nothing but a bias of 0.5.
std::string residual_net(int blocks, const std::vector<int>& weak) {
  std::string constants = weights("stem", {8, 3, 3, 3});
  std::string nodes = "x0 = Conv<pads=[1,1,1,1]>(x, stem) ";
  for (int i = 0; i < blocks; ++i) {
    const std::string n = std::to_string(i);
    const float size = std::ranges::count(weak, i) > 0 ? 1e-5F : 0.3F;
    constants += ", " + weights("wa" + n, {8, 8, 3, 3}, -0.3F, 0.3F) + ", " +
                 weights("wb" + n, {8, 8, 3, 3}, -size, size) + ", " +
                 weights("bb" + n, {8}, 0.4F, 0.6F);
    nodes += "a" + n + " = Conv<pads=[1,1,1,1]>(x" + n + ", wa" + n + ") r" + n + " = Relu(a" + n +
             ") b" + n + " = Conv<pads=[1,1,1,1]>(r" + n + ", wb" + n + ", bb" + n + ") x" +
             std::to_string(i + 1) + " = Add(b" + n + ", x" + n + ") ";
  }
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1,3,6,6] x) => (float[1,8,6,6] y) <" +
         constants + "> { " + nodes + "y = Sigmoid(x" + std::to_string(blocks) + ") }";
}

struct Depth {
  std::unique_ptr<Model> before, model;
  Status status = ok_status();
  Explain explain;
  Report report;
  Diagnostics diagnostics;
  std::string why(std::string_view subject) const {
    for (const Decision& decision : explain.all()) {
      if (decision.subject == subject && !decision.applied) return decision.why;
    }
    return {};
  }
  std::int64_t applied() const {
    return std::ranges::count_if(explain.all(), [](const Decision& d) { return d.applied; });
  }
};

std::unique_ptr<Depth> prune_depth(const std::string& text, Datum options,
                                   std::vector<std::int64_t> dims = {1, 3, 6, 6}) {
  auto made = std::make_unique<Depth>();
  made->model = model_from_text(text);
  made->before = made->model->clone();
  options.set("pass", Datum::string("prune-blocks"));
  Datum passes = Datum::list();
  passes.push(Datum::string("infer-shapes"));
  passes.push(std::move(options));
  Datum recipe = Datum::map();
  recipe.set("passes", std::move(passes));
  auto parsed = parse_recipe(recipe, builtin_passes(), made->diagnostics);
  EXPECT_TRUE(parsed.ok());
  NoiseSamples data(std::move(dims));
  Services services;
  services.runtime = *find_runtime("onnxruntime");
  services.calibration_data = &data;
  services.diagnostics = &made->diagnostics;
  made->status = run_pipeline(*made->model, *parsed, builtin_passes(), services, {}, made->explain,
                              made->report);
  return made;
}

Datum counting(std::int64_t count) {
  Datum options = Datum::map();
  options.set("count", Datum::integer(count));
  return options;
}

// The weak branches go whichever they are, and their mean, 0.5, stands in.
TEST(PruneBlocks, WeakBranchesGoAndTheirMeanStays) {
  for (const std::vector<int>& weak : {std::vector<int>{1, 3}, {0, 2}, {2, 4}}) {
    const auto made = prune_depth(residual_net(5, weak), counting(2));
    ASSERT_TRUE(made->status.ok()) << to_string(made->status.error().diagnostic);
    EXPECT_EQ(count_nodes(*made->model, "Conv"), 1 + 2 * 3);
    EXPECT_EQ(made->applied(), 2);
    for (int i = 0; i < 5; ++i) {
      const std::string name = "wa" + std::to_string(i);
      const bool gone = made->model->graph().find(name) == nullptr;
      EXPECT_EQ(gone, std::ranges::count(weak, i) > 0) << name;
    }
    expect_same_results(*made->before, *made->model, 1e-3);
  }
}

TEST(PruneBlocks, StopsAtTheShareOfMultiplications) {
  Datum options = Datum::map();
  options.set("flops", Datum::real(0.65));
  const auto made = prune_depth(residual_net(4, {}), std::move(options));
  ASSERT_TRUE(made->status.ok());
  // A branch is 1152 of 4824 multiplications a position: two have to go.
  EXPECT_EQ(count_nodes(*made->model, "Conv"), 1 + 2 * 2);
}

TEST(PruneBlocks, WhatIsReadElsewhereStays) {
  // The sum's other side has another shape: it is broadcast.
  const std::string broadcast =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1,3,6,6] x) => (float[1,3,6,6] y) <" +
      weights("w", {3, 3, 3, 3}) +
      "> { m = GlobalAveragePool(x) e = Conv<pads=[1,1,1,1]>(x, w) y = Add(m, e) }";
  auto made = prune_depth(broadcast, counting(1));
  ASSERT_TRUE(made->status.ok());
  EXPECT_EQ(made->applied(), 0);
  EXPECT_EQ(made->why("Add node that makes 'y'"),
            "the shape of what would be left is not known to be that of the sum");
  // Two inputs joined are no block.
  const std::string joined =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1,3,6,6] x) => (float[1,3,6,6] y) <" +
      weights("w", {3, 3, 3, 3}) + ", " + weights("s", {1, 3, 6, 6}) +
      "> { t = Mul(s, s) u = Relu(t) e = Conv<pads=[1,1,1,1]>(x, w) y = Add(u, e) }";
  made = prune_depth(joined, counting(1));
  ASSERT_TRUE(made->status.ok());
  EXPECT_EQ(made->applied(), 0);
  EXPECT_EQ(made->why("Add node that makes 'y'"), "joins two ways that do not begin at one value");
  // What a branch makes is an output, too: nothing of it would go.
  const std::string shown =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1,3,6,6] x) => (float[1,3,6,6] y, "
      "float[1,3,6,6] e) <" +
      weights("w", {3, 3, 3, 3}) + "> { e = Conv<pads=[1,1,1,1]>(x, w) y = Add(x, e) }";
  made = prune_depth(shown, counting(1));
  ASSERT_TRUE(made->status.ok());
  EXPECT_EQ(made->applied(), 0);
}

TEST(PruneBlocks, NeedsData) {
  auto model = model_from_text(residual_net(2, {}));
  const auto run = run_passes(*model, {"infer-shapes", "prune-blocks"});
  EXPECT_FALSE(run->status.ok());
  EXPECT_FALSE(run->changed);
}

}  // namespace
}  // namespace mcompress::testing
