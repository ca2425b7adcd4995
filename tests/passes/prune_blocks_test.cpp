// Depth pruning: which residual branches go, what is left, and what stays with which reason.
#include <gtest/gtest.h>

#include <algorithm>

#include "mcompress/mcompress.h"
#include "support/models.h"
#include "support/noise_samples.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

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

// Sizes are open, but what is left has those of the sum: they come from the same input.
TEST(PruneBlocks, OpenSizesThatAreTheSameOnes) {
  const std::string head = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,S,8] x";
  const std::string constants =
      " => (float[N,S,8] y) <" + weights("stem", {8, 8}) + ", " + weights("w", {8, 8});
  const auto made = prune_depth(head + ")" + constants +
                                    "> { a = MatMul(x, stem) s = Shape(a) e = MatMul(a, w) "
                                    "f = Reshape(e, s) t = Add(a, f) y = Tanh(t) }",
                                counting(1), {1, 5, 8});
  ASSERT_TRUE(made->status.ok()) << to_string(made->status.error().diagnostic);
  EXPECT_EQ(made->applied(), 1);
  EXPECT_EQ(count_nodes(*made->model, "MatMul"), 1);
  // The sum may be longer than what would be left: that is broadcast where it has one position.
  const auto longer = prune_depth(
      head + ")" + constants + ", int64[3] two = {1, 2, 1}" +
          "> { a = MatMul(x, stem) e = MatMul(a, w) f = Tile(e, two) t = Add(a, f) y = Tanh(t) }",
      counting(1), {1, 1, 8});
  ASSERT_TRUE(longer->status.ok()) << to_string(longer->status.error().diagnostic);
  EXPECT_EQ(longer->applied(), 0);
  EXPECT_EQ(longer->why("Add node that makes 't'"),
            "the shape of what would be left is not known to be that of the sum");
}

TEST(PruneBlocks, TheBlockBehindMakesUpForTheOneThatWent) {
  Datum alone = counting(1);
  alone.set("refit", Datum::boolean(false));
  const auto with = prune_depth(residual_net(3, {}), counting(1));
  const auto without = prune_depth(residual_net(3, {}), std::move(alone));
  ASSERT_TRUE(with->status.ok() && without->status.ok());
  EXPECT_EQ(count_nodes(*with->model, "Conv"), 1 + 2 * 2);
  EXPECT_LT(error_on_new_samples(*with->before, *with->model, {1, 3, 6, 6}),
            0.9 * error_on_new_samples(*without->before, *without->model, {1, 3, 6, 6}));
}

TEST(PruneBlocks, NeedsData) {
  auto model = model_from_text(residual_net(2, {}));
  const auto run = run_passes(*model, {"infer-shapes", "prune-blocks"});
  EXPECT_FALSE(run->status.ok());
  EXPECT_FALSE(run->changed);
}

}  // namespace
}  // namespace mcompress::testing
