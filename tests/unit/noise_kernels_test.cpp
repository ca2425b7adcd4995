// The kernels that judge roundings against plain loops, on every instruction set of this machine.
#include "numeric/noise_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "numeric/fixed_math.h"
#include "numeric/kernels.h"

namespace mcompress {
namespace {

void with_each_target(const std::function<void()>& check) {
  for (const std::int64_t target : kernel::available_targets()) {
    kernel::force_targets(target);
    SCOPED_TRACE(kernel::target_name(target));
    check();
  }
  kernel::force_targets(0);
}

TEST(NoiseKernels, LogarithmsDigitByDigit) {
  std::mt19937_64 random(5);
  for (const std::size_t n : {std::size_t{1}, std::size_t{7}, std::size_t{8}, std::size_t{1003}}) {
    std::vector<double> x(n), y(n);
    for (double& value : x) {
      value = std::ldexp(1.0 + static_cast<double>(random() >> 12) * 0x1p-52,
                         static_cast<int>(random() % 2000) - 1000);
    }
    x[0] = std::numeric_limits<double>::min();
    x[n / 2] = std::numeric_limits<double>::max();
    x[n - 1] = 1.0;
    with_each_target([&] {
      kernel::log2_each(x.data(), n, y.data());
      for (std::size_t i = 0; i < n; ++i) {
        ASSERT_EQ(std::bit_cast<std::uint64_t>(y[i]),
                  std::bit_cast<std::uint64_t>(fixed_log2(x[i])))
            << x[i];
      }
    });
  }
}

TEST(NoiseKernels, ErrorsOfRoundedRows) {
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  for (const std::size_t channels : {std::size_t{1}, std::size_t{5}, std::size_t{64}}) {
    constexpr std::size_t kTiles = 3, kRows = kTiles * kernel::kRowTile;
    std::vector<float> rows(kRows * channels), tiles(rows.size()), found(kRows);
    std::vector<float> factors(channels), weights(channels);
    for (float& value : rows) value = 3 * normal(random);
    for (float& value : factors) value = 1 + std::fabs(normal(random));
    for (float& value : weights) value = std::fabs(normal(random));
    for (std::size_t r = 0; r < kRows; ++r) {
      for (std::size_t c = 0; c < channels; ++c) {
        tiles[(r / kernel::kRowTile * channels + c) * kernel::kRowTile + r % kernel::kRowTile] =
            rows[r * channels + c];
      }
    }
    // The largest values are clipped on both sides.
    const kernel::RowRounding rounding{factors.data(), weights.data(), 0.043F, -77.0F, 178.0F};
    with_each_target([&] {
      kernel::rounded_row_errors(tiles.data(), kTiles, channels, rounding, found.data());
      for (std::size_t r = 0; r < kRows; ++r) {
        float expected = 0;
        for (std::size_t c = 0; c < channels; ++c) {
          const float y = rows[r * channels + c] * factors[c];
          const float code = std::nearbyint(std::clamp(y * (1 / 0.043F), -77.0F, 178.0F));
          const float error = code * 0.043F - y;
          expected += error * error * weights[c];
        }
        ASSERT_EQ(found[r], expected) << channels << " " << r;
      }
    });
  }
}

TEST(NoiseKernels, LargestProduct) {
  std::mt19937 random(2);
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{9}, std::size_t{200}}) {
    std::vector<float> a(n);
    std::vector<double> b(n);
    double expected = 0;
    for (std::size_t i = 0; i < n; ++i) {
      a[i] = static_cast<float>(random() % 1000) / 7.0F;
      b[i] = static_cast<double>(random() % 1000) / 13.0;
      expected = std::max(expected, static_cast<double>(a[i]) * b[i]);
    }
    with_each_target([&] { EXPECT_EQ(kernel::largest_product(a.data(), b.data(), n), expected); });
  }
  const float below = -1;
  const double factor = 2;
  with_each_target([&] { EXPECT_EQ(kernel::largest_product(&below, &factor, 1), 0.0); });
}

}  // namespace
}  // namespace mcompress
