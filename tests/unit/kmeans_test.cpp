// Exact k-means and prefix codes against every partition and independent decoding.
#include "numeric/kmeans.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "codec/code_lengths.h"
#include "numeric/entropy_code.h"

namespace mcompress {
namespace {

WeightedPoints some_points(std::mt19937& random, std::size_t n, bool with_zero) {
  std::vector<int> grid(41);
  std::iota(grid.begin(), grid.end(), -20);
  std::shuffle(grid.begin(), grid.end(), random);
  grid.resize(n);
  if (with_zero && std::ranges::find(grid, 0) == grid.end()) grid[0] = 0;
  std::ranges::sort(grid);
  WeightedPoints points;
  std::uniform_real_distribution<double> weight(0.1, 3);
  for (const int x : grid) {
    points.values.push_back(x * 0.25);
    points.weights.push_back(weight(random));
  }
  return points;
}

double run_cost(const WeightedPoints& points, std::size_t from, std::size_t to, bool at_zero) {
  double w = 0, x = 0;
  for (std::size_t i = from; i < to; ++i) {
    w += points.weights[i], x += points.weights[i] * points.values[i];
  }
  const double mean = at_zero || w == 0 ? 0 : x / w;
  double cost = 0;
  for (std::size_t i = from; i < to; ++i) {
    cost += points.weights[i] * std::pow(points.values[i] - mean, 2);
  }
  return cost;
}

// Every cut into runs, each of which may be the one of zero.
double best_by_trial(const WeightedPoints& points, std::size_t k, bool zero) {
  const std::size_t n = points.values.size();
  double best = std::numeric_limits<double>::infinity();
  std::function<void(std::size_t, std::size_t, double, bool)> cut =
      [&](std::size_t from, std::size_t left, double cost, bool zero_left) {
        if (from == n && !zero_left) best = std::min(best, cost);
        if (left == 0) return;
        for (std::size_t to = from; to <= n; ++to) {
          if (to > from) {
            cut(to, left - 1, cost + run_cost(points, from, to, false), zero_left);
          }
          if (zero_left) cut(to, left - 1, cost + run_cost(points, from, to, true), false);
        }
      };
  cut(0, k, 0, zero);
  return best;
}

TEST(ExactKmeans, IsTheBestOfAllPartitions) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 12; ++trial) {
    const bool zero = trial % 2 == 1;
    const WeightedPoints points = some_points(random, 8, trial % 3 == 0);
    const ExactKmeans kmeans(points, 5, zero);
    for (std::size_t k = 1; k <= 5; ++k) {
      const KmeansResult result = kmeans.clusters(k);
      EXPECT_NEAR(result.error, best_by_trial(points, k, zero), 1e-9) << trial << " k " << k;
      EXPECT_EQ(result.centroids.size(), k);
      EXPECT_TRUE(std::ranges::is_sorted(result.centroids));
      if (zero) {
        EXPECT_NE(std::ranges::find(result.centroids, 0.0), result.centroids.end());
      }
      // The centroids stand for the error they claim.
      double error = 0;
      for (std::size_t i = 0; i < points.values.size(); ++i) {
        double least = std::numeric_limits<double>::infinity();
        for (const double c : result.centroids) {
          least = std::min(least, std::pow(points.values[i] - c, 2));
        }
        error += points.weights[i] * least;
      }
      EXPECT_LE(error, result.error + 1e-9);
    }
  }
}

TEST(ExactKmeans, HasNoMoreClustersThanPoints) {
  const WeightedPoints points{{-1, 2}, {1, 1}};
  EXPECT_EQ(ExactKmeans(points, 16, false).clusters(16).centroids, (std::vector<double>{-1, 2}));
  EXPECT_EQ(ExactKmeans(points, 16, true).clusters(16).centroids, (std::vector<double>{-1, 0, 2}));
}

TEST(BinnedValues, KeepsZerosApartAndSumsTheSameWithAnyThreads) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> values(3000000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 3 == 0 ? 0 : normal(random);
  const BinnedValues one = binned_values(values, {}, 512, Executor(1));
  const BinnedValues four = binned_values(values, {}, 512, Executor(4));
  EXPECT_EQ(one.points.values, four.points.values);
  EXPECT_EQ(one.points.weights, four.points.weights);
  EXPECT_TRUE(std::ranges::is_sorted(one.points.values));
  const auto zero = std::ranges::find(one.points.values, 0.0);
  ASSERT_NE(zero, one.points.values.end());
  EXPECT_EQ(one.points.weights[static_cast<std::size_t>(zero - one.points.values.begin())], 1e6);
}

// A prefix code exists, is full, and no shorter one does: by trial for few symbols.
TEST(CodeLengths, AreTheShortestWithinALimit) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<std::uint64_t> counts(5);
    for (auto& count : counts) count = 1 + random() % (trial < 10 ? 10 : 1000);
    for (const unsigned limit : {3U, 4U}) {
      std::uint64_t best = ~std::uint64_t{0};
      for (unsigned code = 0; code < 1U << 15; ++code) {
        double kraft = 0;
        std::uint64_t bits = 0;
        bool fits = true;
        for (std::size_t s = 0; s < 5; ++s) {
          const unsigned length = code >> (3 * s) & 7;
          fits = fits && length >= 1 && length <= limit;
          kraft += std::ldexp(1.0, -static_cast<int>(length));
          bits += counts[s] * length;
        }
        if (fits && kraft <= 1) best = std::min(best, bits);
      }
      const auto lengths = codec::code_lengths(counts, limit);
      EXPECT_EQ(coded_bits(counts, lengths), best) << trial << " limit " << limit;
      EXPECT_LE(*std::ranges::max_element(lengths), limit);
    }
  }
}

TEST(CodeLengths, AreWithinABitOfTheEntropy) {
  const std::vector<std::uint64_t> counts = {700, 0, 200, 60, 30, 10};
  EXPECT_NEAR(entropy_bits(counts) / 1000, 1.28633, 1e-5);
  EXPECT_EQ(coded_bits(counts, codec::code_lengths(counts, 15)), 700 + 400 + 180 + 160);
}

// Read from the top: follows one element through the levels.
TEST(WaveletMatrix, IsReadBackElementByElement) {
  std::mt19937 random(5);
  for (const std::size_t alphabet : {2U, 3U, 16U, 200U}) {
    std::geometric_distribution<int> skewed(alphabet > 16 ? 0.03 : 0.35);
    std::vector<std::uint8_t> symbols(5000);
    for (auto& s : symbols) {
      s = static_cast<std::uint8_t>(std::min<int>(skewed(random), static_cast<int>(alphabet) - 1));
    }
    std::array<std::uint64_t, 256> counts{};
    for (const auto s : symbols) ++counts[s];
    const auto lengths = codec::code_lengths(counts, 12);
    const WaveletMatrix matrix = wavelet_matrix(symbols, lengths);
    std::uint64_t bits = 0;
    for (const auto level : matrix.level_bits) bits += level;
    EXPECT_EQ(bits, coded_bits(counts, lengths));
    std::vector<std::uint8_t> runs;
    for (std::size_t i = 0; i < matrix.leaves.size(); ++i) {
      runs.insert(runs.end(), matrix.leaf_counts[i], matrix.leaves[i]);
    }
    ASSERT_EQ(runs.size(), symbols.size());
    const auto bit_at = [&](std::size_t level, std::size_t i) {
      return std::to_integer<unsigned>(matrix.bits[level][i / 8]) >> (i % 8) & 1;
    };
    for (std::size_t i = 0; i < symbols.size(); i += 37) {
      std::size_t at = i, level = 0;
      for (;; ++level) {
        std::size_t zeros = 0, ones = 0;
        for (std::size_t j = 0; j < at; ++j) (bit_at(level, j) != 0 ? ones : zeros) += 1;
        std::size_t all_zeros = 0;
        for (std::size_t j = 0; j < matrix.level_bits[level]; ++j)
          all_zeros += 1 - bit_at(level, j);
        at = bit_at(level, at) != 0 ? all_zeros + ones : zeros;
        const std::size_t next =
            level + 1 < matrix.level_bits.size() ? matrix.level_bits[level + 1] : 0;
        if (at >= next) break;  // it ends here
      }
      EXPECT_EQ(runs[at], symbols[i]) << alphabet << " at " << i;
      EXPECT_EQ(lengths[symbols[i]], level + 1);
    }
  }
}

}  // namespace
}  // namespace mcompress
