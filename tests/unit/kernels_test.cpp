// The kernels against plain loops, on every instruction set this machine has.
#include "numeric/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

namespace mcompress {
namespace {

std::vector<float> some_floats(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    value = static_cast<float>(static_cast<std::int32_t>(random() % 200001) - 100000) / 37.0f;
    if (random() % 9 == 0) value = 0.0f;
  }
  return values;
}

void on_every_target(const std::function<void()>& check) {
  for (const std::int64_t target : kernel::available_targets()) {
    kernel::force_targets(target);
    SCOPED_TRACE(kernel::target_name(target));
    check();
  }
  kernel::force_targets(0);
}

constexpr std::array<std::size_t, 12> kLengths = {1, 2, 3, 7, 8, 9, 15, 16, 33, 511, 513, 2000};

std::int8_t code_of(float scaled) {
  return static_cast<std::int8_t>(std::nearbyint(std::clamp(scaled, -127.0f, 127.0f)));
}

int pair_of(int a, int b) {
  return std::max(std::max(a, 0) + std::max(b, 0), -(std::min(a, 0) + std::min(b, 0)));
}

TEST(Kernels, RoundCodes) {
  on_every_target([] {
    for (const std::size_t n : kLengths) {
      const std::vector<float> x = some_floats(n, static_cast<std::uint32_t>(n));
      std::vector<float> scaled(n);
      std::vector<std::int8_t> codes(n);
      kernel::round_codes(x.data(), n, 0.0625f, scaled.data(), codes.data());
      for (std::size_t i = 0; i < n; ++i) {
        ASSERT_EQ(scaled[i], x[i] * 0.0625f) << n << " " << i;
        ASSERT_EQ(codes[i], code_of(scaled[i])) << n << " " << i;
      }
    }
  });
}

TEST(Kernels, RoundCodesTiesGoToEven) {
  const std::vector<float> x = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 126.5f, 127.5f, -130.0f, 0.49f};
  on_every_target([&] {
    std::vector<float> scaled(x.size());
    std::vector<std::int8_t> codes(x.size());
    kernel::round_codes(x.data(), x.size(), 1.0f, scaled.data(), codes.data());
    EXPECT_EQ(codes, (std::vector<std::int8_t>{0, 2, 2, 0, -2, 126, 127, -127, 0}));
  });
}

TEST(Kernels, CodeErrors) {
  on_every_target([] {
    for (const std::size_t n : kLengths) {
      std::vector<float> scaled = some_floats(n, 7);
      for (float& value : scaled) value /= 32.0f;
      std::vector<std::int8_t> codes(n);
      std::array<double, 8> squares{}, sums{};
      int worst = 0;
      for (std::size_t i = 0; i < n; ++i) {
        codes[i] = code_of(scaled[i]);
        const double error = static_cast<double>(scaled[i] - static_cast<float>(codes[i]));
        squares[i % 8] += error * error;
        sums[i % 8] += error;
      }
      for (std::size_t i = 0; i + 1 < n; i += 2)
        worst = std::max(worst, pair_of(codes[i], codes[i + 1]));
      if (n % 2 != 0) worst = std::max(worst, std::abs(static_cast<int>(codes[n - 1])));
      double square = 0, sum = 0;
      for (std::size_t lane = 0; lane < 8; ++lane) {
        square += squares[lane];
        sum += sums[lane];
      }
      const kernel::CodeErrors found = kernel::code_errors(scaled.data(), codes.data(), n);
      ASSERT_EQ(found.squares, square) << n;
      ASSERT_EQ(found.sum, sum) << n;
      ASSERT_EQ(found.worst_pair, worst) << n;
    }
  });
}

TEST(Kernels, PairPeak) {
  on_every_target([] {
    for (const std::size_t n : kLengths) {
      const std::vector<float> x = some_floats(n, 3);
      float peak = 0;
      for (std::size_t i = 0; i + 1 < n; i += 2) {
        peak = std::max(peak, std::max(x[i], 0.0f) + std::max(x[i + 1], 0.0f));
        peak = std::max(peak, -(std::min(x[i], 0.0f) + std::min(x[i + 1], 0.0f)));
      }
      ASSERT_EQ(kernel::pair_peak(x.data(), n), peak) << n;
    }
  });
}

TEST(Kernels, SumsOfRunsAndRows) {
  on_every_target([] {
    for (const std::size_t n : kLengths) {
      const std::vector<float> x = some_floats(3 * n, 11);
      std::array<double, 8> lanes{};
      for (std::size_t i = 0; i < n; ++i) lanes[i % 8] += static_cast<double>(x[i]);
      double expected = 0;
      for (const double lane : lanes) expected += lane;
      ASSERT_EQ(kernel::sum(x.data(), n), expected) << n;

      std::vector<double> sums(n, 0.25), wanted(n, 0.25);
      kernel::add_rows(x.data(), 3, n, sums.data());
      for (std::size_t i = 0; i < 3 * n; ++i) wanted[i % n] += static_cast<double>(x[i]);
      ASSERT_EQ(sums, wanted) << n;
    }
  });
}

}  // namespace
}  // namespace mcompress
