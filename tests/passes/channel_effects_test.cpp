// Trial cuts: what the outputs of a model lose by the cheapest units of each group, against the
// same arithmetic done here; what groups that compete by kind give.
#include "passes/common/channels/channel_effects.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "mcompress/pipeline.h"
#include "passes/common/guard.h"
#include "passes/common/padding.h"
#include "support/models.h"
#include "support/pass_fixture.h"
#include "support/sessions.h"

namespace mcompress::testing {
namespace {

class Probe final : public Pass {
 public:
  using Work = std::function<Status(Model&, PassContext&)>;
  explicit Probe(Work work) : work_(std::move(work)) {}
  Status run(Model& model, PassContext& context) override { return work_(model, context); }

 private:
  Work work_;
};

Status with_context(Model& model, DataSource& data, const Probe::Work& work) {
  PassRegistry registry;
  PassInfo info;
  info.name = "probe";
  info.summary = "runs a function";
  info.create = [&](const Datum&, Diagnostics&) -> Result<std::unique_ptr<Pass>> {
    return std::unique_ptr<Pass>(std::make_unique<Probe>(work));
  };
  info.print = [](const Datum& options) { return options; };
  EXPECT_TRUE(registry.add(std::move(info)).ok());
  Diagnostics diagnostics;
  Datum passes = Datum::list();
  passes.push(Datum::string("probe"));
  Datum recipe = Datum::map();
  recipe.set("passes", std::move(passes));
  auto parsed = parse_recipe(recipe, registry, diagnostics);
  EXPECT_TRUE(parsed.ok());
  Services services;
  services.runtime = *find_runtime("onnxruntime");
  services.calibration_data = &data;
  services.diagnostics = &diagnostics;
  Explain explain;
  Report report;
  return run_pipeline(model, *parsed, registry, services, {}, explain, report);
}

std::vector<float> seeded(std::size_t count, unsigned seed) {
  std::vector<float> values;
  for (std::size_t i = 0; i < count; ++i) {
    seed = seed * 1664525U + 1013904223U;
    values.push_back(static_cast<float>(seed >> 8U) / static_cast<float>(1U << 23U) - 1.0F);
  }
  return values;
}

// h = x A, y = h B, with and without what the first units of h make.
double noise_without(const std::vector<float>& x, const std::vector<float>& a,
                     const std::vector<float>& b, std::size_t hidden, std::size_t gone) {
  const std::size_t inputs = a.size() / hidden, outputs = b.size() / hidden;
  double lost = 0, all = 0;
  for (std::size_t row = 0; row < x.size() / inputs; ++row) {
    for (std::size_t o = 0; o < outputs; ++o) {
      double whole = 0, missing = 0;
      for (std::size_t h = 0; h < hidden; ++h) {
        double unit = 0;
        for (std::size_t i = 0; i < inputs; ++i) {
          unit += double{x[row * inputs + i]} * double{a[i * hidden + h]};
        }
        whole += unit * double{b[h * outputs + o]};
        if (h < gone) missing += unit * double{b[h * outputs + o]};
      }
      lost += missing * missing, all += whole * whole;
    }
  }
  return lost / all;
}

TEST(ChannelEffects, TrialsMeasureWhatTheOutputsLose) {
  const auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,5] x) => (float[N,3] y) <" +
      weights("a", {5, 6}) + ", " + weights("b", {6, 3}) +
      "> { h = MatMul(x, a) y = MatMul(h, b) }");
  run_passes(*model, {"infer-shapes"});
  const std::vector<float> x = seeded(8 * 5, 1);
  const auto a = read_floats(*model->graph().find("a")->initializer()).value();
  const auto b = read_floats(*model->graph().find("b")->initializer()).value();
  FakeData data(x, 5);
  const Status done = with_context(*model, data, [&](Model& seen, PassContext& context) {
    const ChannelTrace trace(seen);
    EXPECT_EQ(trace.groups().size(), 2);
    const std::vector<std::string> why{"", trace.groups()[1].facts.frozen};
    std::vector<double> scores(trace.units(), 100);
    for (std::size_t u = 0; u < 6; ++u) {
      scores[trace.groups()[0].units[u]] = static_cast<double>(u + 1);
    }
    ChannelTrialOptions options;
    options.repair = false;
    auto effects = channel_effects(trace, scores, why, options, context);
    if (!effects.ok()) return Status(effects.error());
    EXPECT_TRUE((*effects)[0].tried);
    EXPECT_FALSE((*effects)[1].tried);  // it stays: nothing was tried
    // One of six units, then three: scores 1, and 1 + 2 + 3.
    const double one = noise_without(x, a, b, 6, 1), three = noise_without(x, a, b, 6, 3);
    EXPECT_NEAR((*effects)[0].noise, three, 1e-4 * three);
    EXPECT_DOUBLE_EQ((*effects)[0].scored, 6);
    EXPECT_NEAR((*effects)[0].exponent, std::clamp(std::log(three / one) / std::log(6.0), 1.0, 4.0),
                1e-3);
    // With the readers fitted, less is lost.
    options.repair = true;
    auto fitted = channel_effects(trace, scores, why, options, context);
    if (!fitted.ok()) return Status(fitted.error());
    EXPECT_LT((*fitted)[0].noise, (*effects)[0].noise);
    return ok_status();
  });
  EXPECT_TRUE(done.ok()) << (done.ok() ? "" : to_string(done.error().diagnostic));
  // Trials are made on copies.
  EXPECT_EQ(model->graph().find("a")->initializer()->dims()[1], 6);
}

// noise (s / scored)^exponent, cheapest first: 0.5 (s / 4)^2 for s of 1, 1 + 2, and 1 + 2 + 3.
TEST(ChannelEffects, EachUnitHasWhatIsLostAfterTheCheaperOnes) {
  const auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,5] x) => (float[N,3] y) <" +
      weights("a", {5, 3}) + ", " + weights("b", {3, 3}) +
      "> { h = MatMul(x, a) y = MatMul(h, b) }");
  run_passes(*model, {"infer-shapes"});
  const ChannelTrace trace(*model);
  const auto& group = trace.groups()[0];
  ChannelEffect effect{true, 4, 0.5, 2, 0};
  std::vector<double> scores(trace.units(), 7);
  scores[group.units[0]] = 3, scores[group.units[1]] = 1, scores[group.units[2]] = 2;
  apply_effect(trace, group, effect, scores);
  EXPECT_NEAR(scores[group.units[1]], 0.5 * 1 / 16, 1e-12);
  EXPECT_NEAR(scores[group.units[2]], 0.5 * (9 - 1) / 16, 1e-12);
  EXPECT_NEAR(scores[group.units[0]], 0.5 * (36 - 9) / 16, 1e-12);
  EXPECT_EQ(scores[trace.groups()[1].units[0]], 7);  // of another group
  // What went before counts.
  scores[group.units[0]] = 3, scores[group.units[1]] = 1, scores[group.units[2]] = 2;
  effect.spent = 4;
  apply_effect(trace, group, effect, scores);
  EXPECT_NEAR(scores[group.units[1]], 0.5 * (25 - 16) / 16, 1e-12);
}

// 4 heads and 32 hidden units, 20 of which nothing reads.
std::unique_ptr<Model> transformer() {
  auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,5,16] x) => (float[N,5,16] y) <" +
      weights("q", {16, 32}) + ", " + weights("k", {16, 32}) + ", " + weights("v", {16, 32}) +
      ", " + weights("o", {32, 16}) + ", " + weights("up", {16, 32}) + ", " +
      weights("down", {32, 16}) +
      ", int64[4] heads = {0, 5, 4, 8}, int64[3] flat = {0, 5, 32}> { "
      "a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v) "
      "a1 = Reshape(a, heads) b1 = Reshape(b, heads) c1 = Reshape(c, heads) "
      "a2 = Transpose<perm=[0,2,1,3]>(a1) b2 = Transpose<perm=[0,2,3,1]>(b1) "
      "c2 = Transpose<perm=[0,2,1,3]>(c1) s = MatMul(a2, b2) p = Softmax<axis=-1>(s) "
      "d = MatMul(p, c2) d1 = Transpose<perm=[0,2,1,3]>(d) d2 = Reshape(d1, flat) "
      "e = MatMul(d2, o) f = Add(x, e) u = MatMul(f, up) r = Relu(u) w = MatMul(r, down) "
      "y = Add(f, w) }");
  Editor editor(*model);
  Value& down = *model->graph().find("down");
  std::vector<float> values = read_floats(*down.initializer()).value();
  std::fill(values.begin(), values.begin() + 20 * 16, 0.0F);
  editor.set_constant(down, make_float_tensor(values, {32, 16}));
  return model;
}

TEST(ChannelScopes, KindsGiveTheSameShare) {
  const auto left = [](const std::string& scope) {
    const auto model = transformer();
    const auto run = run_passes(*model, {"infer-shapes",
                                         "prune-channels:{\"sparsity\": 0.25, \"steps\": 1, "
                                         "\"width-multiple\": 1, \"scope\": \"" +
                                             scope + "\"}"});
    EXPECT_TRUE(run->status.ok());
    const auto dim = [&](std::string_view name, std::size_t axis) {
      return model->graph().find(name)->initializer()->dims()[axis];
    };
    return std::pair(dim("o", 0), dim("up", 1));
  };
  EXPECT_EQ(left("kind"), std::pair(std::int64_t{24}, std::int64_t{24}));  // 1 of 4, 8 of 32
  EXPECT_EQ(left("auto"), left("kind"));  // nothing but `sparsity` is asked
  EXPECT_EQ(left("global"), std::pair(std::int64_t{32}, std::int64_t{23}));  // 9 of the 20
}

// Two sequences of four positions, the last ones padded.
class PaddedData final : public FakeData {
 public:
  PaddedData() : FakeData(seeded(2 * 4, 3), 4) {}
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    auto feeds = FakeData::batch(first, count);
    feeds->push_back(
        {"attention_mask", make_int64_tensor(std::vector<std::int64_t>{1, 1, 1, 0}, {1, 4})});
    return feeds;
  }
};

TEST(ChannelEffects, PaddingIsLeftOut) {
  PaddedData data;
  EXPECT_EQ(counted_positions(*data.batch(0, 1)), (std::vector<bool>{true, true, true, false}));
  EXPECT_TRUE(counted_positions(*FakeData({1, 2}, 2).batch(0, 1)).empty());

  const auto text = [](const char* offset) {
    return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1,4] x, int64[1,4] attention_mask)"
           " => (float[1,4,1] y) <float[4] offset = " +
           std::string(offset) +
           ", int64[1] last = {2}> { z = Add(x, offset) y = Unsqueeze(z, last) }";
  };
  const auto original = model_from_text(text("{0, 0, 0, 0}"));
  const auto padding = model_from_text(text("{0, 0, 0, 9}")),
             seen = model_from_text(text("{0, 9, 0, 0}"));
  const std::shared_ptr<Runtime> runtime = *find_runtime("onnxruntime");
  Guard all(*runtime, data, 2), counted(*runtime, data, 2);
  counted.leave_padding_out();
  ASSERT_TRUE(all.open_reference(nullptr, *original).ok());
  ASSERT_TRUE(counted.open_reference(nullptr, *original).ok());
  EXPECT_LT(*all.sqnr_db(*padding), 0);
  EXPECT_EQ(*counted.sqnr_db(*padding), 200);
  EXPECT_LT(*counted.sqnr_db(*seen), 0);

  // Samples side by side give the same figure to the last bit.
  const auto nearly = model_from_text(text("{0.1, 0.3, 0, 0}"));
  const double alone = *all.sqnr_db(*nearly);
  EXPECT_GT(alone, 0);
  for (const int threads : {1, 4}) {
    const Executor executor(threads);
    Guard together(*runtime, data, 2);
    ASSERT_TRUE(together.open_reference(nullptr, *original, &executor).ok());
    EXPECT_EQ(*together.sqnr_db(*nearly), alone);
  }
}

}  // namespace
}  // namespace mcompress::testing
