#include "numeric/fold.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace mcompress {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct BatchNorm {
  std::vector<float> gamma, beta, mean, variance;
  double epsilon = 1e-5;
  BatchNormParameters view() const { return {gamma, beta, mean, variance, epsilon}; }
};

std::string refusal(const BatchNorm& bn) {
  std::vector<double> a(bn.gamma.size()), c(bn.gamma.size());
  return batch_norm_affine(bn.view(), a, c).value_or("");
}

TEST(BatchNormAffine, HandComputed) {
  const BatchNorm bn{{6, -1}, {1, 2}, {0.5f, -3}, {3, 15}, 1.0};
  std::vector<double> a(2), c(2);
  ASSERT_FALSE(batch_norm_affine(bn.view(), a, c));
  EXPECT_EQ(a, (std::vector<double>{3, -0.25}));
  EXPECT_EQ(c, (std::vector<double>{-0.5, 1.25}));
}

TEST(BatchNormAffine, RefusesWithTheReason) {
  EXPECT_EQ(refusal({{1}, {0}, {0}, {-2}, 0.5}),
            "channel 0: variance + epsilon is -1.5, not above 0");
  EXPECT_EQ(refusal({{1, 1}, {0, 0}, {0, 0}, {1, 0}, 0.0}),
            "channel 1: variance + epsilon is 0, not above 0");
  EXPECT_EQ(refusal({{kNan}, {0}, {0}, {1}}), "channel 0: scale is nan, not a finite number");
  EXPECT_EQ(refusal({{1}, {kInf}, {0}, {1}}), "channel 0: shift is inf, not a finite number");
  EXPECT_EQ(refusal({{1}, {0}, {-kInf}, {1}}), "channel 0: mean is -inf, not a finite number");
  EXPECT_EQ(refusal({{1}, {0}, {0}, {kInf}}), "channel 0: variance is inf, not a finite number");
  EXPECT_EQ(refusal({{3e38f}, {0}, {0}, {0}, 1e-4}),
            "channel 0: folded scale is 3e+40, too large for float32");
  EXPECT_EQ(refusal({{1e30f}, {0}, {1e10f}, {1}, 0.0}),
            "channel 0: folded shift is -1e+40, too large for float32");
  EXPECT_EQ(refusal({{1, 2}, {0}, {0, 0}, {1, 1}}),
            "scale has 2 channels, another parameter has 1");
  EXPECT_EQ(refusal({{1}, {0}, {0}, {1}, NAN}), "epsilon is not a finite number");
  EXPECT_EQ(refusal({{}, {}, {}, {}}), "");
}

// conv(x) then batch norm equals the folded conv, for a 1x1 kernel over three input channels.
TEST(Fold, OutputSideEqualsTheSequence) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-2, 2);
  const ChannelLayout layout{1, 4, 3};
  std::vector<float> w(12), bias(4), x(3);
  for (auto* v : {&w, &bias, &x}) {
    for (float& f : *v) f = uniform(random);
  }
  const BatchNorm bn{{1, 2, -0.5f, 0}, {0.1f, 0.2f, 0.3f, 0.4f}, {1, -1, 2, -2}, {1, 4, 0.25f, 9}};
  std::vector<double> a(4), c(4);
  ASSERT_FALSE(batch_norm_affine(bn.view(), a, c));
  std::vector<float> folded = w, folded_bias(4);
  // Chunks that cut channels apart.
  ASSERT_FALSE(scale_channels(0, std::span(folded).first(5), layout, a));
  ASSERT_FALSE(scale_channels(5, std::span(folded).subspan(5), layout, a));
  ASSERT_FALSE(fold_bias(bias, a, c, folded_bias));
  for (std::size_t o = 0; o < 4; ++o) {
    double before = bias[o], after = folded_bias[o];
    for (std::size_t i = 0; i < 3; ++i) {
      before += static_cast<double>(w[o * 3 + i]) * static_cast<double>(x[i]);
      after += static_cast<double>(folded[o * 3 + i]) * static_cast<double>(x[i]);
    }
    const double expected = (before - static_cast<double>(bn.mean[o])) *
                                static_cast<double>(bn.gamma[o]) /
                                std::sqrt(static_cast<double>(bn.variance[o]) + bn.epsilon) +
                            static_cast<double>(bn.beta[o]);
    EXPECT_NEAR(after, expected, 1e-5);
  }
}

TEST(Fold, InputSideEqualsTheSequence) {
  // W [2 outputs, 3 inputs, 2 taps], x' = a x + c before it.
  const ChannelLayout inputs{2, 3, 2};
  const std::vector<float> w = {1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, 7};
  const std::vector<double> a = {2, 0.5, -1}, c = {1, -1, 0.5};
  std::vector<double> sums(2);
  add_shift_products(0, std::span(w).first(7), inputs, c, sums);
  add_shift_products(7, std::span(w).subspan(7), inputs, c, sums);
  EXPECT_EQ(sums, (std::vector<double>{3 - 7 + 5.5, -3 + 7 + 1}));
  std::vector<float> folded = w;
  ASSERT_FALSE(scale_channels(0, folded, inputs, a));
  EXPECT_EQ(folded, (std::vector<float>{2, 4, 1.5f, 2, -5, -6, -2, -4, -1.5f, -2, 5, -7}));
}

TEST(Fold, RefusesOverflowAndNan) {
  const ChannelLayout layout{1, 2, 2};
  std::vector<float> w = {1, 2, 1e38f, 3};
  const std::vector<double> a = {1, 10};
  EXPECT_EQ(scale_channels(0, w, layout, a).value_or(""),
            "channel 1: scaled weight is inf, not finite or too large for float32");
  std::vector<float> bad = {1, kNan};
  EXPECT_EQ(scale_channels(0, bad, layout, a).value_or(""),
            "channel 0: scaled weight is nan, not finite or too large for float32");
  std::vector<float> out(2);
  const std::vector<double> shift = {0, 1e39};
  EXPECT_EQ(fold_bias({}, a, shift, out).value_or(""),
            "channel 1: folded bias is 1e+39, not finite or too large for float32");
  const std::vector<float> one = {1};
  EXPECT_EQ(fold_bias(one, a, shift, out).value_or(""), "bias has 1 entries for 2 channels");
  const std::vector<double> fine = {0.5, -1};
  EXPECT_FALSE(fold_bias({}, a, fine, out));
  EXPECT_EQ(out, (std::vector<float>{0.5f, -1}));
}

TEST(Fold, RoundsOnce) {
  // float(double(w) * a): not the float product of w and float(a).
  const double a = 1.0 / 3.0;
  std::vector<float> w = {0.7f};
  ASSERT_FALSE(scale_channels(0, w, ChannelLayout{}, std::span(&a, 1)));
  EXPECT_EQ(w[0], static_cast<float>(static_cast<double>(0.7f) / 3.0));
}

TEST(ChannelLayout, RunsCoverEveryElementOnce) {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    const auto size = [&](unsigned largest) {
      return static_cast<std::int64_t>(1 + random() % largest);
    };
    const ChannelLayout layout{size(4), size(5), size(6)};
    const auto total = static_cast<std::size_t>(layout.elements());
    const std::size_t first = random() % (total + 1), count = random() % (total - first + 1);
    std::size_t next = 0;
    for_each_channel_run(layout, static_cast<std::int64_t>(first), count,
                         [&](std::int64_t channel, std::size_t offset, std::size_t length) {
                           EXPECT_EQ(offset, next);
                           EXPECT_GT(length, 0u);
                           for (std::size_t i = 0; i < length; ++i) {
                             const auto flat = static_cast<std::int64_t>(first + offset + i);
                             EXPECT_EQ(channel, layout.channel_of(flat));
                           }
                           next += length;
                         });
    EXPECT_EQ(next, count);
  }
}

TEST(ScaleChannels, OfColumnsFromAnyElementOn) {
  ChannelLayout layout;
  layout.outer = 4;
  layout.channels = 3;
  layout.inner = 1;
  const std::vector<double> a = {2.0, 0.5, -1.0 / 3.0};
  std::vector<float> w = {1, 2, 3, 4, 5, 6, 7};
  ASSERT_FALSE(scale_channels(2, w, layout, a));
  for (std::size_t i = 0; i < w.size(); ++i) {
    EXPECT_EQ(w[i], static_cast<float>(static_cast<double>(i + 1) * a[(i + 2) % 3])) << i;
  }
  std::vector<float> large = {1, 1, 1e38f, 1, 1};
  EXPECT_EQ(scale_channels(1, large, layout, std::vector<double>{1e3, 1.0, 1.0}).value_or(""),
            "channel 0: scaled weight is inf, not finite or too large for float32");
}

}  // namespace
}  // namespace mcompress
