// The pass: how much goes, what widths are left, what is repaired.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "mcompress/calibration.h"
#include "mcompress/pipeline.h"
#include "numeric/regression.h"
#include "passes/common/channels/channel_selection.h"
#include "passes/common/kernel_names.h"
#include "support/models.h"
#include "support/noise_samples.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

const std::string kChain =
    "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,3,8,8] x) => (float[N,4,8,8] y) <" +
    weights("wa", {64, 3, 3, 3}) + ", " + weights("ba", {64}) + ", " +
    weights("wb", {32, 64, 1, 1}) + ", " + weights("wc", {4, 32, 1, 1}) +
    "> { a = Conv<pads=[1,1,1,1]>(x, wa, ba) r = Relu(a) b = Conv(r, wb) y = Conv(b, wc) }";

std::int64_t dim(const Model& model, std::string_view name, std::size_t axis) {
  return model.graph().find(name)->initializer()->dims()[axis];
}

TEST(PruneChannels, CutsWidthsThatKernelsLike) {
  auto model = model_from_text(kChain);
  const auto run = run_passes(*model, {"infer-shapes", "prune-channels"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(run->count("prune-channels", "groups"), 3);
  const std::int64_t a = dim(*model, "wa", 0), b = dim(*model, "wb", 0);
  EXPECT_EQ(a % 16, 0);
  EXPECT_EQ(b % 8, 0);
  EXPECT_LT(a + b, 96);
  EXPECT_EQ(dim(*model, "ba", 0), a);
  EXPECT_EQ(dim(*model, "wb", 1), a);
  EXPECT_EQ(dim(*model, "wc", 1), b);
  EXPECT_EQ(dim(*model, "wc", 0), 4);
  EXPECT_EQ(run->why("Conv node that makes 'y'"), "'y' is a graph output");
}

TEST(PruneChannels, WeakChannelsGoFirst) {
  auto model = model_from_text(kChain);
  // 48 of 64 channels are not read at all: whatever is cut of them changes nothing.
  Editor editor(*model);
  Value& wb = *model->graph().find("wb");
  std::vector<float> values = read_floats(*wb.initializer()).value();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i % 64 < 48) values[i] = 0;
  }
  editor.set_constant(wb, make_float_tensor(values, {32, 64, 1, 1}));
  const auto before = model->clone();
  const auto run = run_passes(*model, {"infer-shapes", "prune-channels"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_LT(dim(*model, "wa", 0), 64);
  EXPECT_EQ(dim(*model, "wb", 0), 32);
  expect_same_results(*before, *model, 1e-4);
}

// Two groups that are worth the same by multiplications; by the runtime's time one saves more.
TEST(ChannelSelection, TimeAndMultiplicationsAddUp) {
  auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,8,4,4] x) => (float[N,8,4,4] y) <" +
      weights("wa", {64, 8, 1, 1}) + ", " + weights("wb", {8, 64, 1, 1}) + ", " +
      weights("wc", {64, 8, 1, 1}) + ", " + weights("wd", {8, 64, 1, 1}) +
      "> { a = Conv(x, wa) b = Conv(a, wb) c = Conv(b, wc) y = Conv(c, wd) }");
  run_passes(*model, {"infer-shapes"});
  const ChannelTrace trace(*model);
  std::size_t a = 0, c = 0;
  for (std::size_t g = 0; g < trace.groups().size(); ++g) {
    for (const ChannelMember& member : trace.groups()[g].facts.members) {
      if (member.tensor == "wa" && member.role == ChannelMember::Role::kMakes) a = g;
      if (member.tensor == "wc" && member.role == ChannelMember::Role::kMakes) c = g;
    }
  }
  ASSERT_NE(a, c);
  const std::vector<double> macs = product_macs(*model);
  ChannelGoal goal;
  goal.most.assign(trace.groups().size(), 0.75);
  goal.times.assign(macs.size(), 0);
  for (const Node* node : model->graph().nodes()) {
    const bool late = node->output(0)->name() == "c" || node->output(0)->name() == "y";
    goal.times[node->id()] = late ? 3 : 1;
  }
  std::vector<std::string> why(trace.groups().size(), "not asked for");
  why[a] = why[c] = {};
  const std::vector<double> scores(trace.units(), 1.0);
  const auto cut_of = [&](std::size_t g, const ChannelChoice& choice) {
    std::int64_t count = 0;
    for (const std::uint32_t unit : trace.groups()[g].units) count += choice.cut[unit] ? 1 : 0;
    return count;
  };
  // 3 + 3 of 8 microseconds: 48 of 64 units of c leave 2 + 1.5.
  goal.time = 0.5;
  ChannelChoice choice = choose_channels(trace, scores, why, macs, goal);
  EXPECT_EQ(cut_of(a, choice), 0);
  EXPECT_EQ(cut_of(c, choice), 48);
  EXPECT_NEAR(choice.time, 3.5 / 8, 1e-9);
  EXPECT_NEAR(choice.macs, 0.625, 1e-9);
  // Both at once: c first, then as many of a as multiplications want.
  goal.macs = 0.5;
  choice = choose_channels(trace, scores, why, macs, goal);
  EXPECT_EQ(cut_of(c, choice), 48);
  EXPECT_EQ(cut_of(a, choice), 16);
  EXPECT_LE(choice.macs, 0.5);
  goal.time = 0;  // alike by multiplications: any 64 of the 128
  choice = choose_channels(trace, scores, why, macs, goal);
  EXPECT_EQ(cut_of(a, choice) + cut_of(c, choice), 64);
  EXPECT_GT(cut_of(a, choice), 0);
}

// 32 channels of 8 independent ones: the gates of a recurrent layer can have all of them from 8 to
// 16 that are left. What reads a layer that lost hidden units is fitted, too.
TEST(PruneChannels, RecurrentLayersMakeUpForInputsThatWent) {
  const struct {
    std::string op;
    std::int64_t gates;
  } layers[] = {{"LSTM", 4}, {"GRU", 3}, {"RNN", 1}};
  for (const auto& [op, gates] : layers) {
    for (const bool hidden : {false, true}) {
      const std::string text =
          "<ir_version: 8, opset_import: [\"\" : 17]> g (float[6,1,8] x) => (float[6,1,4] y) <" +
          weights("e", {8, 32}) + ", " + weights("w", {2, gates * 16, 32}, -0.2F, 0.2F) + ", " +
          weights("r", {2, gates * 16, 16}, -0.2F, 0.2F) + ", " + weights("b", {2, gates * 32}) +
          ", " + weights("z", {32, 4}) +
          ", int64[3] flat = {0, 0, 32}> { a = MatMul(x, e) h = " + op +
          "<hidden_size=16, direction=\"bidirectional\">(a, w, r, b) " +
          "t = Transpose<perm=[0,2,1,3]>(h) s = Reshape(t, flat) y = MatMul(s, z) }";
      double errors[2];
      for (const bool refit : {false, true}) {
        auto model = model_from_text(text);
        const auto before = model->clone();
        Diagnostics diagnostics;
        Datum include = Datum::list(), options = Datum::map();
        include.push(Datum::string(hidden ? "w" : "e"));
        if (hidden) include.push(Datum::string("r"));
        options.set("pass", Datum::string("prune-channels"));
        options.set("sparsity", Datum::real(0.5));
        options.set("include", std::move(include));
        options.set("refit", Datum::boolean(refit));
        Datum passes = Datum::list(), whole = Datum::map();
        passes.push(Datum::string("infer-shapes"));
        passes.push(std::move(options));
        whole.set("passes", std::move(passes));
        auto recipe = parse_recipe(whole, builtin_passes(), diagnostics);
        ASSERT_TRUE(recipe.ok());
        NoiseSamples data({6, 1, 8});
        Services services;
        services.runtime = *find_runtime("onnxruntime");
        services.calibration_data = &data;
        services.diagnostics = &diagnostics;
        Explain explain;
        Report report;
        const Status status =
            run_pipeline(*model, *recipe, builtin_passes(), services, {}, explain, report);
        ASSERT_TRUE(status.ok()) << to_string(status.error().diagnostic);
        EXPECT_EQ(dim(*model, "w", 2), hidden ? 32 : 16) << op;
        EXPECT_EQ(dim(*model, "w", 1), gates * (hidden ? 8 : 16)) << op;
        errors[refit ? 1 : 0] = error_on_new_samples(*before, *model, {6, 1, 8});
      }
      EXPECT_LT(errors[1], (hidden ? 0.7 : 0.02) * errors[0]) << op << hidden;
    }
  }
}

TEST(KernelNames, LongestNameWithin) {
  const std::map<std::string, std::size_t, std::less<>> places = {
      {"/a/Conv", 1}, {"/a/Conv_1", 2}, {"/Relu_output_0", 3}, {"conv", 4}};
  EXPECT_EQ(place_of_kernel(places, "/a/Conv"), 1U);
  EXPECT_EQ(place_of_kernel(places, "/a/Conv_1_token_6"), 2U);
  EXPECT_EQ(place_of_kernel(places, "/Relu_output_0_nchwc"), 3U);
  EXPECT_EQ(place_of_kernel(places, "fused conv"), 4U);
  EXPECT_EQ(place_of_kernel(places, "deconvolution"), std::nullopt);
  EXPECT_EQ(place_of_kernel(places, "ReorderOutput"), std::nullopt);
}

// Of every tensor of the group, at the widths that are left.
TEST(PruneChannels, TellsTheBytesOfEachGroup) {
  auto model = model_from_text(kChain);
  const auto run = run_passes(*model, {"infer-shapes", "prune-channels"});
  ASSERT_TRUE(run->status.ok());
  const auto a = static_cast<std::uint64_t>(dim(*model, "wa", 0));
  const auto b = static_cast<std::uint64_t>(dim(*model, "wb", 0));
  std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> bytes;
  for (const Decision& decision : run->explain.all()) {
    if (decision.pass != "prune-channels" || !decision.applied) continue;
    bytes[decision.what.substr(0, 3)] = {decision.bytes_before, decision.bytes_after};
  }
  if (a < 64) {
    EXPECT_EQ(bytes["64 "],
              std::pair(std::uint64_t{(64 * 27 + 64 + 32 * 64) * 4}, (a * 27 + a + b * a) * 4));
  }
  if (b < 32) {
    EXPECT_EQ(bytes["32 "], std::pair(std::uint64_t{(32 * 64 + 4 * 32) * 4}, (b * a + 4 * b) * 4));
  }
  EXPECT_EQ(bytes.size(), (a < 64 ? 1U : 0U) + (b < 32 ? 1U : 0U));
}

TEST(PruneChannels, NothingToCut) {
  auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,3] x) => (float[N,64] y) <" +
      weights("w", {3, 64}) + "> { y = MatMul(x, w) }");
  const auto run = run_passes(*model, {"infer-shapes", "prune-channels"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("MatMul node that makes 'y'"), "'y' is a graph output");
}

TEST(PruneChannels, TooNarrow) {
  auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,3] x) => (float[N,2] y) <" +
      weights("w", {3, 4}) + ", " + weights("v", {4, 2}) +
      "> { a = MatMul(x, w) y = MatMul(a, v) }");
  const auto run = run_passes(*model, {"infer-shapes", "prune-channels"});
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("MatMul node that makes 'a'"),
            "4 channels are too few to leave a width that kernels like");
}

// y = 2 a - b + 3 with c = a: without a, c takes its place.
TEST(Regression, OthersMakeUpForWhatIsGone) {
  CrossMoments moments(1, 2);
  std::vector<float> targets, rows;
  for (int i = 0; i < 64; ++i) {
    const int row = i / 8;
    const auto c = static_cast<float>(i % 8), b = static_cast<float>(row);
    targets.push_back(2 * c - b + 3);
    rows.push_back(b), rows.push_back(c);
  }
  moments.add(targets, rows);
  const std::vector<float> prior{-1, 0}, bias{3};
  const auto fit = moments.fit(prior, bias, true, 1e-9);
  ASSERT_TRUE(fit.has_value());
  EXPECT_NEAR(fit->weights[0], -1, 1e-4);
  EXPECT_NEAR(fit->weights[1], 2, 1e-4);
  EXPECT_NEAR(fit->bias[0], 3, 1e-3);
  EXPECT_GT(fit->error_before, 0.1);
  EXPECT_NEAR(moments.error(prior, bias), fit->error_before, 1e-6);
  EXPECT_NEAR(moments.error(fit->weights, fit->bias), 0, 1e-6);
  EXPECT_NEAR(fit->error_after, 0, 1e-6);
}

// Two inputs that are the same: one alone costs nothing, as the other makes up for it. Of
// independent ones each costs its share w^2 var / sum.
TEST(Regression, LossOfABlockIsWhatCanNotBeMadeUpFor) {
  const std::vector<double> independent{1, 0, 0, 4};
  const std::vector<float> weights_of{3, 1};
  auto losses = block_losses(independent, weights_of, 2, {{0}, {1}}, 1e-12);
  ASSERT_TRUE(losses.has_value());
  EXPECT_NEAR((*losses)[0], 9.0 / 13, 1e-9);
  EXPECT_NEAR((*losses)[1], 4.0 / 13, 1e-9);
  const std::vector<double> alike{1, 1, 1, 1};
  losses = block_losses(alike, weights_of, 2, {{0}, {1}, {0, 1}}, 1e-9);
  ASSERT_TRUE(losses.has_value());
  EXPECT_NEAR((*losses)[0], 0, 1e-6);
  EXPECT_NEAR((*losses)[2], 1, 1e-6);
  EXPECT_FALSE(block_losses(std::vector<double>(4), weights_of, 2, {{0}}, 1e-3).has_value());
}

}  // namespace
}  // namespace mcompress::testing
