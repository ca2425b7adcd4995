// Factors per channel: which values can be scaled, that nothing changes in float32, and that the
// integer model comes nearer to the original.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>

#include "ir/facts.h"
#include "mcompress/precision.h"
#include "passes/common/integer/channel_scales.h"
#include "support/arrays.h"
#include "support/executor.h"
#include "support/models.h"
#include "support/pass_fixture.h"
#include "support/scaling_data.h"

namespace mcompress::testing {
namespace {

const std::string kImages = "(float[N,3,8,8] x) => (float[N,5] y)";
const std::string kConvs =
    weights("a", {6, 3, 3, 3}) + ", " + weights("ab", {6}) + ", " + weights("d", {6, 1, 3, 3}) +
    ", " + weights("db", {6}) + ", " + weights("e", {6, 6, 1, 1}) + ", " + weights("eb", {6}) +
    ", " + weights("f", {5, 6, 1, 1}) + ", " + weights("l", {6, 5}) + ", " +
    weights("s", {6, 1, 1}, 0.1f, 0.9f) + ", " + weights("h", {6, 2, 3, 3}) + ", " +
    weights("t", {6, 4, 1, 1}) + ", float zero = {0}, float six = {6}";

// Applies the same seeded factors to every group of a model.
struct Applied {
  std::unique_ptr<Model> before, after;
  std::size_t groups = 0;
  std::vector<std::string> left;
};
Applied apply_everywhere(const std::string& text) {
  Applied applied;
  applied.before = model_from_text(text);
  applied.after = model_from_text(text);
  (void)run_passes(*applied.after, {"infer-shapes"});
  Services services;
  Diagnostics diagnostics;
  services.diagnostics = &diagnostics;
  Explain explain;
  Report report;
  const auto tensors = make_tensor_factory(0);
  const Executor executor(1);
  Editor editor(*applied.after, &onnx_catalog());
  PassContext context(editor, services, explain, report.root(), *tensors, executor, 0);
  const ScaleGroups groups = find_scale_groups(applied.after->graph());
  for (const auto& [node, why] : groups.left) applied.left.push_back(why);
  std::mt19937 random(7);
  for (const ScaleGroup& group : groups.found) {
    std::vector<double> scales(static_cast<std::size_t>(group.channels));
    for (double& s : scales) s = std::exp2(static_cast<double>(random() % 512) / 128 - 2);
    auto done = apply_scales(context, group, scales);
    EXPECT_TRUE(done.ok() && done->empty());
    ++applied.groups;
  }
  EXPECT_TRUE(verify(*applied.after).ok());
  return applied;
}

void expect_groups(std::string_view body, std::size_t groups,
                   const std::string& signature = kImages, const std::string& given = kConvs) {
  const Applied applied = apply_everywhere(scaling_model(signature, given, body));
  EXPECT_EQ(applied.groups, groups) << body;
  expect_same_results(*applied.before, *applied.after, 2e-5, 2);
}

TEST(ChannelScales, PassThroughWhatKeepsAFactor) {
  const std::string tail = " p = GlobalAveragePool(z) q = Flatten(p) y = Gemm(q, l)";
  expect_groups("c = Conv(x, a, ab) z = Relu(c)" + tail, 1);
  expect_groups("c = Conv(x, a) z = LeakyRelu<alpha=0.2>(c)" + tail, 1);
  expect_groups("c = Conv(x, a, ab) z = PRelu(c, s)" + tail, 1);
  expect_groups("c = Conv(x, a, ab) r = Relu(c) z = MaxPool<kernel_shape=[2,2]>(r)" + tail, 1);
  expect_groups("c = Conv(x, a, ab) r = Mul(c, s) z = Identity(r)" + tail, 1);
  expect_groups("c = Conv(x, a, ab) r = Add(s, c) z = Sub(r, s)" + tail, 1);
  expect_groups(
      "c = Conv(x, a) r = Relu(c) k = Conv<group=6,pads=[1,1,1,1]>(r, d, db) z = Relu(k)" + tail,
      2);
  expect_groups("c = Conv(x, a) r = Relu(c) k = Conv<group=3>(r, h) z = Relu(k)" + tail, 2);
  // A residual sum ties the channels of both branches; `e` takes factors on both sides.
  expect_groups("c = Conv(x, a, ab) k = Conv(c, e, eb) z = Add(c, k)" + tail, 1);
  // Two readers.
  expect_groups(
      "c = Conv(x, a) r = Relu(c) k = Conv(r, e) m = Conv(r, f) mm = GlobalAveragePool(m) "
      "z = Relu(k) p = GlobalAveragePool(z) q = Flatten(p) u = Gemm(q, l) v = Flatten(mm) "
      "y = Add(u, v)",
      2);
}

TEST(ChannelScales, OfProductsAndNormalisations) {
  const std::string given = weights("g", {6}, 0.5f, 2.0f) + ", " + weights("b", {6}) + ", " +
                            weights("p", {6, 7}) + ", " + weights("q", {6, 7}) + ", " +
                            weights("pb", {7}) + ", " + weights("r", {7, 4});
  const std::string io = "(float[N,3,6] x) => (float[N,3,4] y)";
  expect_groups(
      "n = LayerNormalization(x, g, b) u = MatMul(n, p) v = MatMul(n, q) w = Mul(u, v) "
      "y = MatMul(w, r)",
      1, io, given);
  expect_groups(
      "n = LayerNormalization(x, g) u = MatMul(n, p) v = Add(u, pb) w = Relu(v) "
      "y = MatMul(w, r)",
      2, io, given);
}

// The gain of a normalisation that is written out: what it multiplies can not be scaled.
TEST(ChannelScales, OfGains) {
  const std::string given = weights("g", {6}, 0.5f, 2.0f) + ", " + weights("p", {6, 7}) + ", " +
                            weights("q", {6, 7}) + ", " + weights("r", {7, 4});
  const std::string io = "(float[N,3,6] x) => (float[N,3,4] y)";
  expect_groups(
      "t = Softsign(x) n = Mul(t, g) u = MatMul(n, p) v = MatMul(n, q) w = Sub(u, v) s = Tanh(w) "
      "y = MatMul(s, r)",
      1, io, given);
  // Its shape is read, too, as exporters do.
  expect_groups(
      "t = Softsign(x) n = Mul(t, g) d = Shape(n) u = MatMul(n, p) z = Softsign(u) "
      "y = MatMul(z, r) k = Identity(d)",
      1, io, given);
  // A residual reads it as well.
  expect_groups(
      "t = Softsign(x) n = Mul(t, g) u = Softsign(n) v = Add(u, n) w = MatMul(v, p) s = Tanh(w) "
      "y = MatMul(s, r)",
      0, io, given);
}

TEST(ChannelScales, StopAtWhatDoesNot) {
  const auto why = [](std::string_view body) {
    const Applied applied = apply_everywhere(scaling_model(kImages, kConvs, body));
    EXPECT_EQ(applied.groups, 0u) << body;
    return applied.left.empty() ? std::string() : applied.left.front();
  };
  const std::string tail = " p = GlobalAveragePool(z) q = Flatten(p) y = Gemm(q, l)";
  EXPECT_NE(why("c = Conv(x, a) z = Sigmoid(c)" + tail).find("Sigmoid"), std::string::npos);
  EXPECT_NE(why("c = Conv(x, a) r = Sigmoid(c) z = Mul(c, r)" + tail).find("reads it"),
            std::string::npos);
  EXPECT_NE(why("c = Conv(x, a) z = Clip(c, six, six)" + tail).size(), 0u);
  EXPECT_NE(why("c = Conv(x, a) t0 = Transpose<perm=[0,1,3,2]>(c) z = Relu(t0)" + tail).size(), 0u);
}

// A weight [rows, columns, 1, 1] or [rows, columns] whose rows shrink and whose columns grow.
std::string uneven(std::string_view name, std::int64_t rows, std::int64_t columns, bool conv,
                   bool shrink_rows, bool grow_columns) {
  std::mt19937 random(static_cast<unsigned>(name.front()));
  std::normal_distribution<float> normal;
  std::string text = "float[" + std::to_string(rows) + "," + std::to_string(columns) +
                     (conv ? ",1,1] " : "] ") + std::string(name) + " = {";
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      float value = normal(random);
      if (shrink_rows) value *= std::exp2(-static_cast<float>(r % 8));
      if (grow_columns) value *= std::exp2(static_cast<float>(c % 8));
      text += (r + c > 0 ? "," : "") + std::to_string(value);
    }
  }
  return text + "}";
}

TEST_F(ScalingData, EqualizedChannelsKeepTheirDigits) {
  const std::string text = scaling_model(
      "(float[N,16,6,6] x) => (float[N,8,6,6] y)",
      uneven("a", 32, 16, true, true, false) + ", " + uneven("b", 8, 32, true, false, true),
      "c = Conv(x, a) r = Relu(c) y = Conv(r, b)");
  const auto original = model_from_text(text);
  open(*original, "x", {24, 16, 6, 6}, {1});
  const auto floats = model_from_text(text);
  const auto scaled = run(*floats, {"infer-shapes", "equalize:equalize=on"});
  EXPECT_EQ(scaled->applied("equalize"), 1);
  expect_same_results(*original, *floats, 1e-4);

  const auto plain = model_from_text(text);
  (void)run(*plain, {"infer-shapes", "quantize-static:guard-sqnr=0"});
  const auto forced = model_from_text(text);
  (void)run(*forced, {"infer-shapes", "equalize:equalize=on", "quantize-static:guard-sqnr=0"});
  const auto chosen = model_from_text(text);
  const auto judged =
      run(*chosen, {"infer-shapes", "equalize:effort=best", "quantize-static:guard-sqnr=0"});
  EXPECT_GT(judged->count("equalize", "scaled"), 0);
  EXPECT_EQ(judged->applied("equalize"), 1);
  const double before = sqnr_db(*original, *plain);
  EXPECT_GT(sqnr_db(*original, *forced), before + 3);
  EXPECT_GT(sqnr_db(*original, *chosen), before + 3);
}

// Channels that never come near 0, read by what can hold a bias: what they have in common moves
// on. Where the reader pads, or channels reach 0, nothing moves, and the reason is said.
TEST_F(ScalingData, ABiasIsAbsorbedWhereAllValuesOfAChannelHaveItInCommon) {
  const auto numbers = [](const std::string& name, const std::string& dims, std::size_t count,
                          const std::function<double(std::size_t)>& value) {
    std::string text = "float[" + dims + "] " + name + " = {";
    for (std::size_t i = 0; i < count; ++i) {
      text += (i > 0 ? ", " : "") + std::to_string(value(i));
    }
    return text + "}";
  };
  const auto wave = [](std::size_t i) {
    return 0.2 * std::sin(1.0 + 2.3 * static_cast<double>(i));
  };
  const auto model = [&](double bias, bool pads) {
    const std::string kernel = pads ? "8,16,3,3" : "8,16,1,1";
    return scaling_model("(float[N,16,6,6] x) => (float[N,8,6,6] y)",
                         numbers("a", "16,16,1,1", 256, wave) + ", " +
                             numbers("k", "16", 16, [&](std::size_t) { return bias; }) + ", " +
                             numbers("b", kernel, pads ? 1152 : 128, wave),
                         std::string("c = Conv(x, a, k) r = Relu(c) y = Conv") +
                             (pads ? "<pads = [1, 1, 1, 1]>" : "") + "(r, b)");
  };
  const auto explained = [](const PassRun& run, const std::string& reason) {
    return std::ranges::any_of(run.explain.all(), [&](const Decision& decision) {
      return decision.why.find(reason) != std::string::npos;
    });
  };
  const auto original = model_from_text(model(8, false));
  open(*original, "x", {48, 16, 6, 6}, {1});
  const auto floats = model_from_text(model(8, false));
  const auto absorbed = run(*floats, {"infer-shapes", "equalize:equalize=on"});
  EXPECT_EQ(absorbed->count("equalize", "absorbed"), 1);
  EXPECT_GT(sqnr_db(*original, *floats), 50);  // what falls below three deviations is cut off

  const auto plain = model_from_text(model(8, false));
  (void)run(*plain, {"infer-shapes", "equalize:equalize=on,absorb-bias=false",
                     "quantize-static:guard-sqnr=0"});
  (void)run(*floats, {"infer-shapes", "quantize-static:guard-sqnr=0"});
  EXPECT_GT(sqnr_db(*original, *floats), sqnr_db(*original, *plain) + 2);

  const auto padded = model_from_text(model(8, true));
  const auto left = run(*padded, {"infer-shapes", "equalize:equalize=on"});
  EXPECT_EQ(left->count("equalize", "absorbed"), 0);
  EXPECT_TRUE(explained(*left, "pads with zeros or has no bias to hold a shift"));

  const auto low = model_from_text(model(0, false));
  const auto nothing = run(*low, {"infer-shapes", "equalize:equalize=on"});
  EXPECT_EQ(nothing->count("equalize", "absorbed"), 0);
  EXPECT_TRUE(explained(*nothing, "reach down to 0: no bias to absorb"));
}

TEST_F(ScalingData, AClipKeepsTheFactorOneWhereItCuts) {
  // Channels of Clip(0, 6): the first ones reach 6, the others stay far below.
  const std::string text = scaling_model("(float[N,16,6,6] x) => (float[N,8,6,6] y)",
                                         uneven("a", 32, 16, true, true, false) + ", " +
                                             uneven("b", 8, 32, true, false, true) +
                                             ", float zero = {0}, float six = {6}",
                                         "c = Conv(x, a) r = Clip(c, zero, six) y = Conv(r, b)");
  const auto original = model_from_text(text);
  open(*original, "x", {24, 16, 6, 6}, {1});
  const auto floats = model_from_text(text);
  const auto scaled = run(*floats, {"infer-shapes", "equalize:equalize=on"});
  EXPECT_EQ(scaled->applied("equalize"), 1);
  // Half of the samples made the limits; the others hardly pass them.
  EXPECT_GT(sqnr_db(*original, *floats), 45);
  const auto before = read_floats(*maker_of(*model_from_text(text), "c")->input(1)->constant());
  const auto after = read_floats(*maker_of(*floats, "c")->input(1)->constant());
  std::size_t kept = 0;
  std::size_t grown = 0;
  for (std::size_t row = 0; row < 32; ++row) {
    const float factor = (*after)[row * 16] / (*before)[row * 16];
    EXPECT_GE(factor, 0.999F);  // only channels with room are made larger
    if (row % 8 == 0) {
      EXPECT_NEAR(factor, 1, 1e-6) << "channel " << row << " is cut at 6";
    }
    kept += std::fabs(factor - 1) < 1e-6 ? 1U : 0U;
    grown += factor > 2 ? 1U : 0U;
  }
  EXPECT_GE(kept, 4U);
  EXPECT_GE(grown, 12U);
}

TEST_F(ScalingData, SmoothingFoldsIntoANormalisationForAllItsReaders) {
  std::string gamma = "float[16] g = {";
  for (int i = 0; i < 16; ++i) gamma += (i > 0 ? "," : "") + std::to_string(i == 5 ? 60.0 : 0.5);
  const std::string text = scaling_model(
      "(float[N,4,16] x) => (float[N,4,12] y)",
      gamma + "}, " + weights("b", {16}) + ", " + weights("p", {16, 12}) + ", " +
          weights("q", {16, 12}),
      "n = LayerNormalization(x, g, b) u = MatMul(n, p) v = MatMul(n, q) y = Add(u, v)");
  const auto original = model_from_text(text);
  open(*original, "x", {32, 4, 16}, {1});
  const auto floats = model_from_text(text);
  const auto scaled = run(*floats, {"infer-shapes", "smooth:smooth=on"});
  EXPECT_EQ(scaled->count("smooth", "scaled"), 1);
  EXPECT_EQ(scaled->count("smooth", "inserted"), 0);
  EXPECT_EQ(count_nodes(*floats, "Mul"), 0);
  expect_same_results(*original, *floats, 1e-4);
  EXPECT_LT(constant_reals(maker_of(*floats, "n")->input(1))->at(5), 30);
}

// By structure and by what it brings: only where a linear operator reads a normalisation, as it is
// or in another shape, and only where the outputs come nearer.
TEST_F(ScalingData, SmoothingByDefaultNeedsANormalisationAndAGain) {
  const auto norm_model = [](double outlier, std::string_view body) {
    std::string gamma = "float[16] g = {";
    for (int i = 0; i < 16; ++i) {
      gamma += (i > 0 ? "," : "") + std::to_string(i == 5 ? outlier : 1.0);
    }
    return scaling_model("(float[N,4,16] x) => (float[N,4,12] y)",
                         gamma + "}, int64[2] flat = {-1,16}, int64[3] deep = {-1,4,12}, " +
                             weights("b", {16}, 0.0F, 0.1F) + ", " + weights("p", {16, 12}),
                         body);
  };
  const std::string direct = "n = LayerNormalization(x, g, b) y = MatMul(n, p)";
  const std::string reshaped =
      "n = LayerNormalization(x, g, b) r = Reshape(n, flat) u = MatMul(r, p) y = Reshape(u, deep)";
  for (const std::string& body : {direct, reshaped}) {
    const auto original = model_from_text(norm_model(60, body));
    open(*original, "x", {32, 4, 16}, {1});
    const auto plain = model_from_text(norm_model(60, body));
    (void)run(*plain, {"infer-shapes", "quantize-static:guard-sqnr=0"});
    const auto smoothed = model_from_text(norm_model(60, body));
    const auto result = run(*smoothed, {"infer-shapes", "smooth", "quantize-static:guard-sqnr=0"});
    EXPECT_EQ(result->count("smooth", "scaled") + result->count("smooth", "inserted"), 1) << body;
    EXPECT_GT(sqnr_db(*original, *smoothed), sqnr_db(*original, *plain) + 3) << body;
    const auto fast = model_from_text(norm_model(60, body));
    EXPECT_EQ(run(*fast, {"infer-shapes", "smooth:effort=fast"})->applied("smooth"), 0);
  }
  const auto even = model_from_text(norm_model(1, direct));
  open(*even, "x", {32, 4, 16}, {1});
  EXPECT_EQ(run(*even, {"infer-shapes", "smooth"})->applied("smooth"), 0);
}

TEST_F(ScalingData, SmoothingLeavesAMulWhereNothingTakesTheFactor) {
  const std::string given = weights("w", {16, 12}) + ", " + weights("k", {16, 12});
  const std::string text =
      scaling_model("(float[N,4,16] x) => (float[N,4,12] y)", given,
                    "s = Sigmoid(x) t = Mul(x, s) u = MatMul(t, w) v = MatMul(t, k) y = Add(u, v)");
  const auto original = model_from_text(text);
  std::vector<float> factors(16, 0.5F);
  factors[3] = 80;
  open(*original, "x", {32, 4, 16}, factors);
  const auto floats = model_from_text(text);
  const auto scaled = run(*floats, {"infer-shapes", "smooth:smooth=on"});
  EXPECT_EQ(scaled->count("smooth", "inserted"), 1);
  EXPECT_EQ(count_nodes(*floats, "Mul"), 2);
  expect_same_results(*original, *floats, 1e-4);
  const auto without = model_from_text(text);
  const auto equalized = run(*without, {"infer-shapes", "equalize:equalize=on"});
  EXPECT_EQ(equalized->applied("equalize"), 0);
  const auto off = model_from_text(text);
  EXPECT_EQ(run(*off, {"infer-shapes", "smooth"})->applied("smooth"), 0);
}

TEST_F(ScalingData, WithoutDataNothingIsTouchedAndThatIsSaid) {
  const std::string text =
      scaling_model(kImages, kConvs,
                    "c = Conv(x, a) z = Relu(c) p = GlobalAveragePool(z) q = Flatten(p) "
                    "y = Gemm(q, l)");
  const auto model = model_from_text(text);
  data_.reset();
  const auto result = run(*model, {"infer-shapes", "equalize:equalize=on"});
  EXPECT_EQ(result->applied("equalize"), 0);
  EXPECT_NE(result->why("channels").find("calibration data"), std::string::npos);
}

}  // namespace
}  // namespace mcompress::testing
