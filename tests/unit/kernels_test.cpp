// The kernels against plain loops, on every instruction set this machine has.
#include "numeric/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <span>
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

// What count_run should have done with the first `done` values.
struct PlainCounts {
  std::vector<std::size_t> counts = std::vector<std::size_t>(4096);  // of bins -2048 to 2047
  std::size_t zeros = 0;
  PlainCounts(std::span<const float> values, double width) {
    for (const float v : values) {
      const double bin = std::trunc(static_cast<double>(v) / width) - (v < 0 ? 1 : 0);
      if (v == 0) ++zeros;
      if (v != 0) ++counts[static_cast<std::size_t>(bin + 2048)];
    }
  }
};

void check_count_run(const std::vector<float>& x, std::size_t expected_done) {
  constexpr float kWidth = 1.0f / 64;
  std::vector<std::uint16_t> counts(kernel::kCountCopies * 4097);
  const kernel::CountedRun run =
      kernel::count_run(x.data(), x.size(), {-2.5f, 7.0f, 1 / kWidth, 2048},
                        counts.data() + kernel::kCountCopies * 2048);
  ASSERT_EQ(run.done, expected_done);
  if (run.done == 0) return;
  const std::span<const float> done = std::span(x).first(run.done);
  ASSERT_EQ(run.min, *std::ranges::min_element(done));
  ASSERT_EQ(run.max, *std::ranges::max_element(done));
  const PlainCounts plain(done, static_cast<double>(kWidth));
  ASSERT_EQ(run.zeros, plain.zeros);
  for (std::size_t bin = 0; bin < 4096; ++bin) {
    std::size_t sum = 0;
    for (std::size_t copy = 0; copy < kernel::kCountCopies; ++copy) {
      sum += counts[bin * kernel::kCountCopies + copy];
    }
    ASSERT_EQ(sum, plain.counts[bin]) << "bin " << bin;
  }
}

TEST(Kernels, CountRunCountsAllOrStopsInFrontOfWhatItCanNotCount) {
  on_every_target([] {
    std::mt19937 random(5);
    const auto values = [&](std::size_t n, std::uint32_t zeros_of_8) {
      std::vector<float> x(n);
      for (float& v : x) {
        // Bin borders and the limits themselves are among them.
        v = static_cast<float>(random() % 1217) / 128 - 2.5f;
        if (random() % 8 < zeros_of_8) v = random() % 2 == 0 ? 0.0f : -0.0f;
      }
      return x;
    };
    for (const std::size_t n : {0, 1, 15, 255, 256, 257, 511, 512, 3000, 70001}) {
      for (const std::uint32_t zeros : {0U, 4U, 7U, 8U}) {
        check_count_run(values(n, zeros), n);
      }
    }
    const float infinity = std::numeric_limits<float>::infinity();
    const float odd[] = {std::numeric_limits<float>::quiet_NaN(),
                         -std::numeric_limits<float>::quiet_NaN(),
                         infinity,
                         -infinity,
                         7.0001f,
                         -2.5001f,
                         3e38f,
                         -3e38f};
    for (const float bad : odd) {
      for (const std::size_t at : {0, 1, 255, 256, 300, 511, 1023, 1024, 1100, 1199}) {
        std::vector<float> x = values(1200, 3);
        x[at] = bad;
        // Whole steps of 256 as long as there are some, then one by one.
        check_count_run(x, at < 1024 ? at / 256 * 256 : at);
      }
    }
    // As many of one value as the counts hold.
    std::vector<float> same(kernel::kMostCounted, 1.0f);
    check_count_run(same, same.size());
  });
}

TEST(Kernels, SumsOfRunsAndRows) {
  on_every_target([] {
    for (const std::size_t n : kLengths) {
      const std::vector<float> x = some_floats(3 * n, 11);
      std::array<double, 3> of_rows = {0.25, 0.5, 0.75}, expected = of_rows;
      kernel::row_sums(x.data(), 3, n, of_rows.data());
      for (std::size_t row = 0; row < 3; ++row) {
        std::array<double, 16> lanes{};
        const float* const from = x.data() + row * n;
        std::size_t i = 0;
        for (; i + 128 <= n; i += 128) {  // eight of a lane in float
          for (std::size_t lane = 0; lane < 16; ++lane) {
            const auto at = [&](std::size_t k) { return from[i + 16 * k + lane]; };
            lanes[lane] += static_cast<double>(((at(0) + at(1)) + (at(2) + at(3))) +
                                               ((at(4) + at(5)) + (at(6) + at(7))));
          }
        }
        for (; i < n; ++i) lanes[i % 16] += static_cast<double>(from[i]);
        for (const std::size_t half : {8, 4, 2, 1}) {
          for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
        }
        expected[row] += lanes[0];
      }
      ASSERT_EQ(of_rows, expected) << n;

      std::vector<double> sums(n, 0.25), wanted(n, 0.25);
      kernel::add_rows(x.data(), 3, n, sums.data());
      for (std::size_t i = 0; i < 3 * n; ++i) wanted[i % n] += static_cast<double>(x[i]);
      ASSERT_EQ(sums, wanted) << n;
    }
  });
}

}  // namespace
}  // namespace mcompress
