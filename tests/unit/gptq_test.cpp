// GPTQ against the plain loop it comes from (Optimal Brain Quantization with the inverse spelled
// out), and against rounding to nearest.
#include "numeric/gptq.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "numeric/patches.h"

namespace mcompress {
namespace {

using Matrix = std::vector<std::vector<double>>;

// Rows of inputs that depend on each other: three hidden causes and a little noise.
std::vector<float> correlated_rows(std::size_t rows, std::size_t columns, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Matrix mix(3, std::vector<double>(columns));
  for (auto& line : mix) {
    for (double& x : line) x = normal(random);
  }
  std::vector<float> values;
  for (std::size_t r = 0; r < rows; ++r) {
    const double causes[3] = {normal(random), normal(random), normal(random)};
    for (std::size_t c = 0; c < columns; ++c) {
      double x = 0.3 * normal(random) + 0.5;
      for (std::size_t i = 0; i < 3; ++i) x += causes[i] * mix[i][c];
      values.push_back(static_cast<float>(x));
    }
  }
  return values;
}

std::vector<float> normal_weights(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> weights(count);
  for (float& w : weights) w = normal(random);
  return weights;
}

Matrix plain_gram(const std::vector<float>& rows, std::size_t columns, bool centred) {
  const std::size_t count = rows.size() / columns;
  std::vector<double> mean(columns, 0);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t c = 0; c < columns; ++c)
      mean[c] += double{rows[r * columns + c]} / static_cast<double>(count);
  }
  Matrix gram(columns, std::vector<double>(columns, 0));
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t i = 0; i < columns; ++i) {
      for (std::size_t j = 0; j < columns; ++j) {
        const double a = double{rows[r * columns + i]} - (centred ? mean[i] : 0);
        const double b = double{rows[r * columns + j]} - (centred ? mean[j] : 0);
        gram[i][j] += a * b / static_cast<double>(count);
      }
    }
  }
  return gram;
}

Matrix inverse(Matrix a) {
  const std::size_t n = a.size();
  Matrix b(n, std::vector<double>(n, 0));
  for (std::size_t i = 0; i < n; ++i) b[i][i] = 1;
  for (std::size_t p = 0; p < n; ++p) {
    std::size_t best = p;
    for (std::size_t r = p; r < n; ++r) {
      if (std::fabs(a[r][p]) > std::fabs(a[best][p])) best = r;
    }
    std::swap(a[p], a[best]);
    std::swap(b[p], b[best]);
    const double pivot = a[p][p];
    for (std::size_t c = 0; c < n; ++c) a[p][c] /= pivot, b[p][c] /= pivot;
    for (std::size_t r = 0; r < n; ++r) {
      if (r == p) continue;
      const double factor = a[r][p];
      for (std::size_t c = 0; c < n; ++c) a[r][c] -= factor * a[p][c], b[r][c] -= factor * b[p][c];
    }
  }
  return b;
}

// Optimal Brain Quantization in a fixed order: after each column its error is spread over the
// others by the inverse of what is left of H, from which the column is then eliminated.
std::vector<int> plain_obq(const std::vector<double>& weights, const Matrix& damped,
                           const std::vector<std::uint32_t>& order, double scale, int limit) {
  const std::size_t n = weights.size();
  std::vector<double> w = weights;
  Matrix inv = inverse(damped);
  std::vector<int> codes(n);
  for (const std::uint32_t j : order) {
    const int code = std::clamp(static_cast<int>(std::nearbyint(w[j] / scale)), -limit, limit);
    codes[j] = code;
    const double error = (w[j] - code * scale) / inv[j][j];
    const std::vector<double> line = inv[j];
    for (std::size_t k = 0; k < n; ++k) w[k] -= error * line[k];
    for (std::size_t r = 0; r < n; ++r) {
      for (std::size_t c = 0; c < n; ++c) inv[r][c] -= line[r] * line[c] / line[j];
    }
    inv[j][j] = 1;  // never used again
  }
  return codes;
}

double cost_of(const float* weights, const std::int16_t* codes, double scale, const Matrix& gram) {
  double cost = 0;
  for (std::size_t i = 0; i < gram.size(); ++i) {
    for (std::size_t j = 0; j < gram.size(); ++j) {
      cost += (codes[i] * scale - double{weights[i]}) * gram[i][j] *
              (codes[j] * scale - double{weights[j]});
    }
  }
  return cost;
}

struct Problem {
  std::size_t rows, columns;
  std::vector<float> inputs, weights, scales;
  std::vector<std::int16_t> nearest;
  GramFactor factor;
  Matrix damped;
};

Problem make_problem(std::size_t rows, std::size_t columns, int limit, const FactorOptions& how,
                     unsigned seed) {
  Problem problem{rows,
                  columns,
                  correlated_rows(200, columns, seed),
                  normal_weights(rows * columns, seed + 1),
                  {},
                  {},
                  {},
                  {}};
  for (std::size_t r = 0; r < rows; ++r) {
    float largest = 0;
    for (std::size_t c = 0; c < columns; ++c) {
      largest = std::max(largest, std::fabs(problem.weights[r * columns + c]));
    }
    problem.scales.push_back(largest / static_cast<float>(limit));
    for (std::size_t c = 0; c < columns; ++c) {
      problem.nearest.push_back(static_cast<std::int16_t>(
          std::nearbyint(problem.weights[r * columns + c] / problem.scales.back())));
    }
  }
  const Executor executor(1);
  GramMatrix gram(columns);
  gram.add(problem.inputs, executor);
  problem.factor = *factor_gram(gram.moments(), columns, how);
  problem.damped.assign(columns, std::vector<double>(columns));
  for (std::size_t i = 0; i < columns; ++i) {
    for (std::size_t j = 0; j < columns; ++j) {
      problem.damped[i][j] = problem.factor.damped[i * columns + j];
    }
  }
  return problem;
}

TEST(Gptq, GramIsThatOfTheRowsWhateverTheThreadsAndPortions) {
  constexpr std::size_t kColumns = 150;
  const std::vector<float> rows = correlated_rows(1100, kColumns, 3);
  for (const bool centred : {false, true}) {
    const Matrix plain = plain_gram(rows, kColumns, centred);
    std::vector<double> first;
    for (const int threads : {1, 3}) {
      const Executor executor(threads);
      GramMatrix gram(kColumns);
      gram.add(std::span(rows).first(512 * kColumns), executor);
      gram.add(std::span(rows).subspan(512 * kColumns), executor);
      EXPECT_EQ(gram.rows(), 1100);
      const std::vector<double> made = centred ? gram.centred() : gram.moments();
      for (std::size_t i = 0; i < kColumns; ++i) {
        for (std::size_t j = 0; j < kColumns; ++j) {
          ASSERT_NEAR(made[i * kColumns + j], plain[i][j], 2e-5) << i << ' ' << j;
        }
      }
      if (first.empty()) first = made;
      EXPECT_EQ(first, made);
    }
  }
}

TEST(Gptq, FactorIsTheRootOfTheInverse) {
  for (const bool pairs : {false, true}) {
    FactorOptions how;
    how.pairs = pairs;
    const Problem p = make_problem(1, 21, 7, how, 5);
    const Matrix inv = inverse(p.damped);
    const std::size_t n = p.columns;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        double product = 0;
        for (std::size_t k = 0; k <= std::min(i, j); ++k) {
          product += p.factor.upper[k * n + i] * p.factor.upper[k * n + j];
        }
        EXPECT_NEAR(product, inv[p.factor.order[i]][p.factor.order[j]], 1e-9);
        if (j < i) {
          EXPECT_EQ(p.factor.upper[i * n + j], 0);
        }
      }
    }
    if (!pairs) continue;
    for (std::size_t i = 0; i + 1 < n; i += 2) {
      EXPECT_EQ(p.factor.order[i] ^ 1U, p.factor.order[i + 1]);
    }
    EXPECT_EQ(p.factor.order.back(), 20U);
  }
}

TEST(Gptq, RoundsAsThePlainLoopDoes) {
  constexpr int kLimit = 7;
  const Problem p = make_problem(20, 37, kLimit, {}, 11);
  RoundingGrid grid;
  grid.scales = p.scales;
  grid.codes = {-kLimit, kLimit};
  const Executor executor(2);
  for (const std::size_t block : {std::size_t{4}, std::size_t{128}}) {
    std::vector<std::int16_t> codes = p.nearest;
    // Without the descent; rows where nearest codes are better keep those.
    const GptqCosts costs = round_rows(p.weights, p.factor, grid, {block, 0}, executor, codes);
    std::size_t same = 0;
    for (std::size_t r = 0; r < p.rows; ++r) {
      const float* weights = p.weights.data() + r * p.columns;
      const std::vector<int> plain = plain_obq({weights, weights + p.columns}, p.damped,
                                               p.factor.order, double{p.scales[r]}, kLimit);
      const std::int16_t* row = codes.data() + r * p.columns;
      if (std::equal(plain.begin(), plain.end(), row)) ++same;
    }
    EXPECT_GE(same, p.rows - 1) << block;
    EXPECT_LT(costs.rounded, 0.5 * costs.given);
  }
}

TEST(Gptq, DescentNeverCostsMoreAndStaysOnTheGrid) {
  for (const int limit : {7, 127}) {
    const Problem p = make_problem(24, 40, limit, {}, 17);
    RoundingGrid grid;
    grid.scales = p.scales;
    grid.codes = {-limit, limit};
    std::vector<std::int16_t> codes = p.nearest;
    const GptqCosts costs = round_rows(p.weights, p.factor, grid, {}, Executor(2), codes);
    double given = 0;
    double reached = 0;
    for (std::size_t r = 0; r < p.rows; ++r) {
      const std::size_t at = r * p.columns;
      const double scale = double{p.scales[r]};
      const double before = cost_of(&p.weights[at], &p.nearest[at], scale, p.damped);
      const double after = cost_of(&p.weights[at], &codes[at], scale, p.damped);
      EXPECT_LE(after, before * (1 + 1e-12)) << r;
      given += before;
      reached += after;
    }
    EXPECT_NEAR(costs.given, given, 1e-9 * given);
    EXPECT_NEAR(costs.descended, reached, 1e-6 * given);
    EXPECT_LE(costs.descended, costs.rounded);
    EXPECT_LE(costs.rounded, costs.given);
    for (const std::int16_t code : codes) EXPECT_LE(std::abs(code), limit);
  }
}

TEST(Gptq, GroupsHaveTheirOwnScalesAndZeroPoints) {
  const std::size_t columns = 22;  // groups of 8, 8 and 6
  const Problem p = make_problem(6, columns, 7, {}, 23);
  std::vector<float> scales;
  std::vector<std::int32_t> zeros;
  std::vector<std::int16_t> codes;
  for (std::size_t r = 0; r < p.rows; ++r) {
    for (std::size_t g = 0; g < 3; ++g) {
      float low = 0;
      float high = 0;
      for (std::size_t c = g * 8; c < std::min(columns, g * 8 + 8); ++c) {
        low = std::min(low, p.weights[r * columns + c]);
        high = std::max(high, p.weights[r * columns + c]);
      }
      scales.push_back((high - low) / 15);
      zeros.push_back(static_cast<std::int32_t>(std::nearbyint(-low / scales.back())));
    }
    for (std::size_t c = 0; c < columns; ++c) {
      const std::size_t i = r * 3 + c / 8;
      codes.push_back(static_cast<std::int16_t>(std::clamp(
          std::nearbyint(p.weights[r * columns + c] / scales[i]) + static_cast<float>(zeros[i]),
          0.0F, 15.0F)));
    }
  }
  const std::vector<std::int16_t> nearest = codes;
  RoundingGrid grid;
  grid.group = 8;
  grid.scales = scales;
  grid.zero_points = zeros;
  grid.codes = {0, 15};
  const GptqCosts costs = round_rows(p.weights, p.factor, grid, {}, Executor(1), codes);
  EXPECT_LT(costs.descended, 0.5 * costs.given);
  double given = 0;
  double reached = 0;
  const auto cost = [&](std::size_t r, const std::vector<std::int16_t>& of) {
    std::vector<double> error(columns);
    for (std::size_t c = 0; c < columns; ++c) {
      const std::size_t i = r * 3 + c / 8;
      error[c] =
          (of[r * columns + c] - zeros[i]) * double{scales[i]} - double{p.weights[r * columns + c]};
    }
    double sum = 0;
    for (std::size_t i = 0; i < columns; ++i) {
      for (std::size_t j = 0; j < columns; ++j) sum += error[i] * p.damped[i][j] * error[j];
    }
    return sum;
  };
  for (std::size_t r = 0; r < p.rows; ++r) given += cost(r, nearest), reached += cost(r, codes);
  EXPECT_NEAR(costs.given, given, 1e-9 * given);
  EXPECT_NEAR(costs.descended, reached, 1e-6 * given);
  for (const std::int16_t code : codes) {
    EXPECT_GE(code, 0);
    EXPECT_LE(code, 15);
  }
}

TEST(Gptq, PairsStayWithinTheirLimitAndZerosStayZero) {
  FactorOptions how;
  how.pairs = true;
  Problem p = make_problem(16, 31, 127, how, 29);
  for (std::size_t i = 0; i < p.weights.size(); i += 5) p.weights[i] = 0;
  std::vector<std::int16_t> codes;
  for (std::size_t r = 0; r < p.rows; ++r) {
    p.scales[r] *= 127.0F / 60;  // so that a few pairs only are near the limit
    for (std::size_t c = 0; c < p.columns; ++c) {
      codes.push_back(
          static_cast<std::int16_t>(std::nearbyint(p.weights[r * p.columns + c] / p.scales[r])));
    }
  }
  RoundingGrid grid;
  grid.scales = p.scales;
  grid.codes = {-127, 127};
  grid.pair_limit = 90;
  for (std::size_t r = 0; r < p.rows; ++r) {  // nearest codes within the limit
    for (std::size_t c = 0; c + 1 < p.columns; c += 2) {
      std::int16_t& a = codes[r * p.columns + c];
      std::int16_t& b = codes[r * p.columns + c + 1];
      while ((a > 0) == (b > 0) && std::abs(a + b) > 90) {
        std::int16_t& larger = std::abs(a) > std::abs(b) ? a : b;
        larger = static_cast<std::int16_t>(larger > 0 ? larger - 1 : larger + 1);
      }
    }
  }
  const GptqCosts costs = round_rows(p.weights, p.factor, grid, {}, Executor(2), codes);
  EXPECT_LT(costs.descended, costs.given);
  std::size_t near_limit = 0;
  for (std::size_t r = 0; r < p.rows; ++r) {
    for (std::size_t c = 0; c < p.columns; ++c) {
      const int code = codes[r * p.columns + c];
      if (p.weights[r * p.columns + c] == 0) {
        EXPECT_EQ(code, 0);
      }
      if (c % 2 == 1 || c + 1 == p.columns) continue;
      const int other = codes[r * p.columns + c + 1];
      if ((code > 0) == (other > 0)) {
        EXPECT_LE(std::abs(code + other), 90);
        if (std::abs(code + other) > 80) ++near_limit;
      }
    }
  }
  EXPECT_GT(near_limit, 0U);
}

TEST(Gptq, DeadColumnsAreRoundedToNearest) {
  std::vector<float> rows = correlated_rows(100, 9, 31);
  for (std::size_t r = 0; r < 100; ++r) rows[r * 9 + 4] = 0;
  const Executor executor(1);
  GramMatrix gram(9);
  gram.add(rows, executor);
  const auto factor = factor_gram(gram.moments(), 9, {});
  ASSERT_TRUE(factor);
  EXPECT_EQ(factor->dead, 1U);
  std::vector<float> weights = normal_weights(9, 37);
  const std::vector<float> scales = {0.2F};
  RoundingGrid grid;
  grid.scales = scales;
  grid.codes = {-127, 127};
  std::vector<std::int16_t> codes(9, 0);
  (void)round_rows(weights, *factor, grid, {}, executor, codes);
  EXPECT_EQ(codes[4], std::nearbyint(weights[4] / 0.2F));
}

TEST(Gptq, WhatIsNotPositiveDefiniteIsDampedMoreOrRefused) {
  // Two equal columns and one that contradicts both: an eigenvalue of -1.
  const std::vector<double> bad = {1, 1, 1.5, 1, 1, 1.5, 1.5, 1.5, 1};
  const auto factor = factor_gram(bad, 3, {});
  ASSERT_TRUE(factor);
  EXPECT_GT(factor->retries, 0);
  EXPECT_GT(factor->damping, 0.1);
  const std::vector<double> equal(9, 1.0);  // rank one
  const auto plain = factor_gram(equal, 3, {});
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->retries, 0);
  EXPECT_FALSE(factor_gram(std::vector<double>(9, 0.0), 3, {}));
  std::vector<double> broken(9, 1.0);
  broken[4] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(factor_gram(broken, 3, {}));
}

TEST(Gptq, ThreadsChangeNothing) {
  const Problem p = make_problem(70, 64, 7, {}, 41);
  RoundingGrid grid;
  grid.scales = p.scales;
  grid.codes = {-7, 7};
  std::vector<std::int16_t> first = p.nearest;
  (void)round_rows(p.weights, p.factor, grid, {}, Executor(1), first);
  std::vector<std::int16_t> second = p.nearest;
  (void)round_rows(p.weights, p.factor, grid, {}, Executor(4), second);
  EXPECT_EQ(first, second);
}

// A convolution by the definition, to which patches times weights must be equal.
TEST(Patches, TimesWeightsAreTheConvolution) {
  const std::int64_t n = 2, channels = 6, groups = 2, height = 9, width = 7, outputs = 4;
  const std::int64_t depth = channels / groups;
  std::vector<float> input =
      normal_weights(static_cast<std::size_t>(n * channels * height * width), 2);
  std::vector<float> weight = normal_weights(static_cast<std::size_t>(outputs * depth * 3 * 2), 3);
  ConvGeometry conv;
  conv.groups = groups;
  conv.kernel = {3, 2};
  conv.strides = {2, 1};
  conv.dilations = {1, 2};
  conv.pads = {1, 0, 2, 1};
  const std::vector<std::int64_t> dims = {n, channels, height, width};
  const auto map = PatchMap::make(conv, dims);
  ASSERT_TRUE(map);
  const std::int64_t out_h = (height + 3 - 3) / 2 + 1;
  const std::int64_t out_w = (width + 1 - 3) / 1 + 1;
  ASSERT_EQ(map->positions(), n * out_h * out_w);
  ASSERT_EQ(map->columns(), 18U);
  std::vector<float> patch(18);
  for (std::int64_t p = 0; p < map->positions(); ++p) {
    const std::int64_t x = p % out_w, y = p / out_w % out_h, b = p / out_w / out_h;
    for (std::int64_t o = 0; o < outputs; ++o) {
      const std::int64_t group = o / (outputs / groups);
      double plain = 0;
      for (std::int64_t d = 0; d < depth; ++d) {
        for (std::int64_t i = 0; i < 3; ++i) {
          for (std::int64_t j = 0; j < 2; ++j) {
            const std::int64_t row = y * 2 - 1 + i, column = x + 2 * j;
            if (row < 0 || row >= height || column >= width) continue;
            plain += double{input[static_cast<std::size_t>(
                         ((b * channels + group * depth + d) * height + row) * width + column)]} *
                     double{weight[static_cast<std::size_t>(((o * depth + d) * 3 + i) * 2 + j)]};
          }
        }
      }
      map->read(input, p, group, patch);
      double product = 0;
      for (std::int64_t tap = 0; tap < 6; ++tap) {
        for (std::int64_t d = 0; d < depth; ++d) {
          product += double{patch[static_cast<std::size_t>(tap * depth + d)]} *
                     double{weight[static_cast<std::size_t>((o * depth + d) * 6 + tap)]};
        }
      }
      ASSERT_NEAR(product, plain, 1e-5);
    }
  }
}

TEST(Patches, AutomaticPadsKeepTheSize) {
  ConvGeometry conv;
  conv.kernel = {4};
  conv.strides = {2};
  conv.dilations = {1};
  conv.automatic = ConvGeometry::Auto::kSameUpper;
  const std::vector<std::int64_t> dims = {1, 1, 7};
  const std::vector<float> input = {1, 2, 3, 4, 5, 6, 7};
  std::vector<float> patch(4);
  const auto upper = PatchMap::make(conv, dims);  // three pads: one before, two behind
  ASSERT_TRUE(upper);
  EXPECT_EQ(upper->positions(), 4);
  upper->read(input, 0, 0, patch);
  EXPECT_EQ(patch, (std::vector<float>{0, 1, 2, 3}));
  conv.automatic = ConvGeometry::Auto::kSameLower;
  PatchMap::make(conv, dims)->read(input, 0, 0, patch);
  EXPECT_EQ(patch, (std::vector<float>{0, 0, 1, 2}));
  conv.automatic = ConvGeometry::Auto::kNone;
  conv.pads = {0, 0};
  EXPECT_FALSE(PatchMap::make(conv, std::vector<std::int64_t>{1, 1, 3}));
  EXPECT_FALSE(PatchMap::make(conv, std::vector<std::int64_t>{1, 1, 7, 7}));
}

TEST(Patches, PositionsAreSpreadWithoutRepetition) {
  for (const std::int64_t count : {1, 10, 49, 3136}) {
    for (const std::int64_t wanted : {1, 7, 64, 4000}) {
      auto list = spread_positions(count, wanted, 3);
      EXPECT_EQ(list.size(), static_cast<std::size_t>(std::min(count, wanted)));
      EXPECT_TRUE(std::is_sorted(list.begin(), list.end()));
      EXPECT_EQ(std::unique(list.begin(), list.end()), list.end());
      EXPECT_GE(list.front(), 0);
      EXPECT_LT(list.back(), count);
    }
  }
  EXPECT_NE(spread_positions(3136, 64, 0), spread_positions(3136, 64, 1));
}

}  // namespace
}  // namespace mcompress
