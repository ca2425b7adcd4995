#include "numeric/weight_quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace mcompress {
namespace {

std::vector<float> normal(std::size_t count, unsigned seed, float mean = 0) {
  std::mt19937 engine(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    // Sum of uniform numbers: the same on every standard library.
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(engine() % 65536U) / 65536.0;
    value = static_cast<float>(sum) * 0.05F + mean;
  }
  return values;
}

int worst_pair_sum(const std::vector<std::int8_t>& codes) {
  int worst = 0;
  for (std::size_t i = 0; i + 1 < codes.size(); i += 2) {
    for (const int sign : {1, -1}) {
      worst = std::max(worst, std::max(0, sign * codes[i]) + std::max(0, sign * codes[i + 1]));
    }
  }
  return worst;
}

TEST(RoundChannel, FullRangeIsAbsmaxOver127) {
  const std::vector<float> weights = {0.0F, 1.27F, -0.635F, 0.01F, 0.004F, -1.0F};
  std::vector<std::int8_t> codes(weights.size());
  WeightRounding how;
  how.search_scale = false;
  EXPECT_FLOAT_EQ(round_channel(weights, how, codes), 0.01F);
  EXPECT_EQ(codes, (std::vector<std::int8_t>{0, 127, -64, 1, 0, -100}));
}

TEST(RoundChannel, SearchNeverDoesWorseThanTheFullRange) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::vector<float> weights = normal(200, seed);
    const auto noise = [&](bool search) {
      std::vector<std::int8_t> codes(weights.size());
      WeightRounding how;
      how.search_scale = search;
      const double scale = round_channel(weights, how, codes);
      double total = 0;
      for (std::size_t i = 0; i < weights.size(); ++i) {
        total += std::pow(codes[i] * scale - weights[i], 2);
      }
      return total;
    };
    EXPECT_LE(noise(true), noise(false) * (1 + 1e-6)) << "seed " << seed;
  }
}

TEST(RoundChannel, PairsStayInsideSixteenBits) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    const std::vector<float> weights = normal(256, seed, 0.04F);
    std::vector<std::int8_t> codes(weights.size());
    WeightRounding how;
    how.saturation_free = true;
    how.taps = seed % 2 == 0 ? 0 : 4;
    how.tap_stride = 64;
    round_channel(weights, how, codes);
    EXPECT_LE(worst_pair_sum(codes), 128) << "seed " << seed;
    // Two products of the largest uint8 with such a pair stay below 2^15.
    EXPECT_LT(255 * worst_pair_sum(codes), 32768);
  }
}

TEST(RoundChannel, WithoutTheLimitThePairsOfThatDataWouldSaturate) {
  const std::vector<float> weights = normal(256, 3, 0.04F);
  std::vector<std::int8_t> codes(weights.size());
  round_channel(weights, {}, codes);
  EXPECT_GT(worst_pair_sum(codes), 128);
}

TEST(RoundChannel, DepthwiseErrorsCancel) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    const std::vector<float> weights = normal(9, seed, 0.02F);
    std::vector<std::int8_t> codes(9);
    WeightRounding how;
    how.taps = 9;
    const double scale = round_channel(weights, how, codes);
    double sum = 0;
    for (std::size_t i = 0; i < 9; ++i) sum += codes[i] - weights[i] / scale;
    EXPECT_LE(std::fabs(sum), 0.51) << "seed " << seed;
  }
}

TEST(RoundChannel, ExactZerosStayZero) {
  std::vector<float> weights = normal(9, 5, 0.1F);
  weights[2] = weights[7] = 0;
  std::vector<std::int8_t> codes(9);
  WeightRounding how;
  how.taps = 9;
  round_channel(weights, how, codes);
  EXPECT_EQ(codes[2], 0);
  EXPECT_EQ(codes[7], 0);
}

TEST(RoundChannel, DeadChannelsAndStrangeNumbers) {
  std::vector<std::int8_t> codes(3, 9);
  EXPECT_EQ(round_channel(std::vector<float>{0, 0, 0}, {}, codes), 1.0F);
  EXPECT_EQ(codes, (std::vector<std::int8_t>{0, 0, 0}));
  const float denormal = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(round_channel(std::vector<float>{denormal, 0, -denormal}, {}, codes), 1.0F);
  const float infinity = std::numeric_limits<float>::infinity();
  const float scale = round_channel(std::vector<float>{std::nanf(""), infinity, -2.54F}, {}, codes);
  EXPECT_TRUE(std::isnormal(scale));
  EXPECT_EQ(codes[0], 0);
  EXPECT_EQ(codes[1], -codes[2]);
}

TEST(RoundChannel, LeastScaleIsRespected) {
  std::vector<std::int8_t> codes(2);
  WeightRounding how;
  how.least_scale = 0.5F;
  EXPECT_GE(round_channel(std::vector<float>{1.0F, -3.0F}, how, codes), 0.5F);
  EXPECT_EQ(codes, (std::vector<std::int8_t>{2, -6}));
}

TEST(RoundChannel, SevenBitsAreNeverLeft) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::vector<float> weights = normal(9 * 8, seed, 0.02F);
    for (const std::int64_t taps : {std::int64_t{0}, std::int64_t{9}}) {
      std::vector<std::int8_t> codes(weights.size());
      WeightRounding how;
      how.max_code = 63;
      how.taps = taps;
      const float scale = round_channel(weights, how, codes);
      for (std::size_t i = 0; i < codes.size(); ++i) {
        ASSERT_LE(std::abs(codes[i]), 63);
        const float kept = std::clamp(weights[i], -63.5F * scale, 63.5F * scale);
        ASSERT_NEAR(static_cast<float>(codes[i]) * scale, kept, scale * (taps > 0 ? 1.01F : 0.51F));
      }
    }
  }
}

TEST(RoundChannel, AFixedScaleIsUsedAndKeepsPairsInside) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::vector<float> weights = normal(9 * 8, seed, 0.1F);
    WeightRounding how;
    how.saturation_free = true;
    how.taps = 9;
    const float least = least_shared_scale(weights, how);
    float absmax = 0;
    for (const float weight : weights) absmax = std::max(absmax, std::abs(weight));
    EXPECT_GE(least, absmax / 127);
    for (const float factor : {1.0F, 1.7F}) {
      how.fixed_scale = least * factor;
      std::vector<std::int8_t> codes(weights.size());
      EXPECT_EQ(round_channel(weights, how, codes), how.fixed_scale);
      EXPECT_LE(worst_pair_sum(codes), 128);
      for (std::size_t i = 0; i < codes.size(); ++i) {
        ASSERT_NEAR(static_cast<float>(codes[i]) * how.fixed_scale, weights[i],
                    how.fixed_scale * 1.01F);
      }
    }
  }
  EXPECT_EQ(least_shared_scale(std::vector<float>(4, 0.0F), {}), 0.0F);
}

TEST(RoundChannelAffine, SevenBitsAndSharedParameters) {
  const std::vector<float> weights = {-0.1F, 0.0F, 0.3F, 0.92F};
  std::vector<std::uint8_t> codes(4);
  const AffineChannel channel = round_channel_affine(weights, codes, 127);
  EXPECT_FLOAT_EQ(channel.scale, 1.02F / 127);
  EXPECT_EQ(channel.zero_point, 12);
  EXPECT_EQ(codes, (std::vector<std::uint8_t>{0, 12, 49, 127}));
  const AffineChannel shared = affine_channel({-1.0F, 1.55F}, 255);
  EXPECT_FLOAT_EQ(shared.scale, 0.01F);
  EXPECT_EQ(shared.zero_point, 100);
  round_affine(weights, shared, 255, codes);
  EXPECT_EQ(codes, (std::vector<std::uint8_t>{90, 100, 130, 192}));
  round_affine(std::vector<float>{-9.0F, 9.0F}, shared, 255, std::span(codes).first(2));
  EXPECT_EQ(codes[0], 0);
  EXPECT_EQ(codes[1], 255);
}

TEST(RoundChannelAffine, ZeroIsExactAndTheRangeFits) {
  const std::vector<float> weights = {-0.1F, 0.0F, 0.3F, 0.92F};
  std::vector<std::uint8_t> codes(4);
  const AffineChannel channel = round_channel_affine(weights, codes);
  EXPECT_FLOAT_EQ(channel.scale, 1.02F / 255);
  EXPECT_EQ(channel.zero_point, 25);
  EXPECT_EQ(codes[1], channel.zero_point);
  EXPECT_EQ(codes[3], 255);
  for (std::size_t i = 0; i < 4; ++i) {
    const float back = static_cast<float>(codes[i] - channel.zero_point) * channel.scale;
    EXPECT_NEAR(back, weights[i], channel.scale * 0.51F);
  }
}

}  // namespace
}  // namespace mcompress
