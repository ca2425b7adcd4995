// The pass: how much goes, what widths are left, what is repaired.
#include <gtest/gtest.h>

#include <cmath>

#include "mcompress/calibration.h"
#include "numeric/regression.h"
#include "support/models.h"
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
