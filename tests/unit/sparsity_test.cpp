// Masks by counting, least squares and the sweep against plain elimination on each row.
#include "numeric/sparsity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "numeric/sparse_rows.h"

namespace mcompress {
namespace {

using Matrix = std::vector<std::vector<double>>;

std::vector<float> drawn(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// Neighbouring columns go together.
std::vector<float> dependent_rows(std::size_t rows, std::size_t columns, unsigned seed) {
  std::vector<float> values = drawn(rows * columns, seed);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i % columns != 0) values[i] = 0.8F * values[i - 1] + 0.6F * values[i];
  }
  return values;
}

std::vector<double> gram_of(const std::vector<float>& rows, std::size_t columns) {
  const std::size_t count = rows.size() / columns;
  std::vector<double> gram(columns * columns);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t i = 0; i < columns; ++i) {
      for (std::size_t j = 0; j < columns; ++j) {
        gram[i * columns + j] += double{rows[r * columns + i]} * double{rows[r * columns + j]} /
                                 static_cast<double>(count);
      }
    }
  }
  return gram;
}

// Gauss with pivots.
std::vector<double> eliminate(Matrix a, std::vector<double> b) {
  const std::size_t n = b.size();
  for (std::size_t p = 0; p < n; ++p) {
    std::size_t best = p;
    for (std::size_t r = p; r < n; ++r) {
      if (std::fabs(a[r][p]) > std::fabs(a[best][p])) best = r;
    }
    std::swap(a[p], a[best]);
    std::swap(b[p], b[best]);
    for (std::size_t r = p + 1; r < n; ++r) {
      const double part = a[r][p] / a[p][p];
      for (std::size_t c = p; c < n; ++c) a[r][c] -= part * a[p][c];
      b[r] -= part * b[p];
    }
  }
  for (std::size_t p = n; p-- > 0;) {
    for (std::size_t c = p + 1; c < n; ++c) b[p] -= a[p][c] * b[c];
    b[p] /= a[p][p];
  }
  return b;
}

double cost_of(const float* v, const float* w, const std::vector<double>& gram, std::size_t n) {
  double cost = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      cost += (double{v[i]} - double{w[i]}) * gram[i * n + j] * (double{v[j]} - double{w[j]});
    }
  }
  return cost;
}

// The best numbers for the kept weights of a row: G_SS v = (G w)_S.
std::vector<double> best_kept(const float* w, const std::uint8_t* mask,
                              const std::vector<double>& gram, std::size_t n) {
  std::vector<std::size_t> kept;
  for (std::size_t i = 0; i < n; ++i) {
    if (mask[i] != 0) kept.push_back(i);
  }
  Matrix a(kept.size(), std::vector<double>(kept.size()));
  std::vector<double> b(kept.size());
  for (std::size_t i = 0; i < kept.size(); ++i) {
    for (std::size_t j = 0; j < kept.size(); ++j) a[i][j] = gram[kept[i] * n + kept[j]];
    for (std::size_t j = 0; j < n; ++j) b[i] += gram[kept[i] * n + j] * double{w[j]};
  }
  const std::vector<double> solved = eliminate(a, b);
  std::vector<double> all(n);
  for (std::size_t i = 0; i < kept.size(); ++i) all[kept[i]] = solved[i];
  return all;
}

TEST(Sparsity, PatternsAreReadAndWrongOnesAreNot) {
  const auto two_four = parse_pattern("2:4");
  ASSERT_TRUE(two_four);
  EXPECT_EQ(two_four->kept, 2U);
  EXPECT_EQ(two_four->group, 4U);
  const auto block = parse_pattern("block:4x8");
  ASSERT_TRUE(block);
  EXPECT_EQ(block->block_rows, 4U);
  EXPECT_EQ(block->block_columns, 8U);
  EXPECT_TRUE(parse_pattern("unstructured"));
  for (const char* wrong : {"", "4:4", "5:4", "0:4", "2:65", "2:4x", "block:0x4", "block:4", "2",
                            "a:b", "block:2:4", "-1:4"}) {
    EXPECT_FALSE(parse_pattern(wrong)) << wrong;
  }
}

TEST(Sparsity, MasksTakeTheLowestAway) {
  const std::vector<float> scores = {1, 8, 2, 7, 3, 6, 4, 5, 9, 9, 9, 9, 0, 9, 9, 9};
  using Mask = std::vector<std::uint8_t>;
  EXPECT_EQ(choose_mask(scores, 8, {}, SparsityScope::kRow, 0.25),
            (Mask{0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1}));
  EXPECT_EQ(choose_mask(scores, 8, {}, SparsityScope::kLayer, 0.25),
            (Mask{0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1}));
  EXPECT_EQ(choose_mask(scores, 8, *parse_pattern("1:4"), SparsityScope::kLayer, 0),
            (Mask{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}));
  // A run of 6: the groups are 4 and 2 columns wide, and of 2 one stays.
  SparsityPattern runs = *parse_pattern("2:4");
  runs.run = 6;
  EXPECT_EQ(choose_mask(std::vector<float>{1, 2, 3, 4, 6, 5}, 6, runs, SparsityScope::kRow, 0),
            (Mask{0, 0, 1, 1, 1, 0}));
  EXPECT_EQ(choose_mask(scores, 8, *parse_pattern("block:2x4"), SparsityScope::kLayer, 0.5),
            (Mask{1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0}));
  EXPECT_DOUBLE_EQ(mask_sparsity(Mask{0, 1, 1, 0}), 0.5);
}

TEST(Sparsity, WandaWeighsByInputsAndDeadOnesGoFirst) {
  const std::vector<float> weights = {3, -2, 1};
  const auto scores = weight_scores(weights, 3, std::vector<double>{0, 1, 25});
  EXPECT_LT(scores[0], scores[1]);
  EXPECT_FLOAT_EQ(scores[1], 2);
  EXPECT_FLOAT_EQ(scores[2], 5);
  EXPECT_GT(scores[0], 0);
}

TEST(Sparsity, SpreadFindsTheCheapestChoice) {
  const std::vector<std::vector<double>> errors = {
      {0, 1, 2, 9, 40}, {0, 0.1, 0.3, 0.8, 2}, {0, 3, 7, 20, 90}};
  const std::vector<std::int64_t> sizes = {1024, 1024, 2048};
  const auto chosen = spread_sparsity(errors, sizes, 0.25, 0.375);
  double best = 1e9;
  for (std::size_t a = 0; a < 5; ++a) {
    for (std::size_t b = 0; b < 5; ++b) {
      for (std::size_t c = 0; c < 5; ++c) {
        if (0.25 * static_cast<double>(a) + 0.25 * static_cast<double>(b) +
                0.5 * static_cast<double>(c) <
            1.5) {
          continue;
        }
        best = std::min(best, errors[0][a] + errors[1][b] + errors[2][c]);
      }
    }
  }
  EXPECT_DOUBLE_EQ(errors[0][chosen[0]] + errors[1][chosen[1]] + errors[2][chosen[2]], best);
}

TEST(SparseRows, RefitIsLeastSquaresOnWhatIsKept) {
  constexpr std::size_t kColumns = 20, kRows = 70;  // more rows than one task takes
  const Executor executor(2);
  const auto gram = gram_of(dependent_rows(400, kColumns, 1), kColumns);
  const std::vector<float> weights = drawn(kRows * kColumns, 2);
  const auto mask =
      choose_mask(drawn(kRows * kColumns, 3), kColumns, {}, SparsityScope::kLayer, 0.6);
  std::vector<float> fitted = weights;
  refit_kept(fitted, mask, gram, times_square(weights, gram, kColumns, executor), kColumns, 200,
             executor);
  for (std::size_t r = 0; r < kRows; ++r) {
    const auto best = best_kept(&weights[r * kColumns], &mask[r * kColumns], gram, kColumns);
    for (std::size_t c = 0; c < kColumns; ++c) {
      EXPECT_NEAR(fitted[r * kColumns + c], best[c], 2e-3) << r << ' ' << c;
    }
  }
}

// With a given mask one sweep in the order of the columns makes up for each weight with those that
// follow: worse than least squares, better than nothing, and its own account is right.
TEST(SparseRows, SweepMakesUpForWhatGoes) {
  constexpr std::size_t kColumns = 24, kRows = 8;
  const Executor executor(1);
  const auto gram = gram_of(dependent_rows(500, kColumns, 4), kColumns);
  const auto factor = factor_gram(gram, kColumns, {});
  ASSERT_TRUE(factor);
  const std::vector<float> weights = drawn(kRows * kColumns, 5);
  std::vector<float> swept = weights;
  std::vector<std::uint8_t> mask(weights.size());
  SparseSweepOptions options;
  options.block = 5;  // several updates of the rest
  const double cost = sparse_sweep(swept, *factor, options, executor, mask);
  double own = 0, plain = 0, best = 0;
  for (std::size_t r = 0; r < kRows; ++r) {
    const float* const w = &weights[r * kColumns];
    const std::uint8_t* const kept = &mask[r * kColumns];
    EXPECT_EQ(std::count(kept, kept + kColumns, 0), static_cast<std::ptrdiff_t>(kColumns / 2));
    std::vector<float> cut(w, w + kColumns), solved(kColumns);
    const auto least = best_kept(w, kept, factor->damped, kColumns);
    for (std::size_t c = 0; c < kColumns; ++c) {
      if (kept[c] == 0) {
        cut[c] = 0;
        EXPECT_EQ(swept[r * kColumns + c], 0.0F);
      }
      solved[c] = static_cast<float>(least[c]);
    }
    own += cost_of(&swept[r * kColumns], w, factor->damped, kColumns);
    plain += cost_of(cut.data(), w, factor->damped, kColumns);
    best += cost_of(solved.data(), w, factor->damped, kColumns);
  }
  EXPECT_NEAR(own, cost, 1e-3 * cost);
  EXPECT_LT(own, 0.7 * plain);
  EXPECT_GE(own, best * 0.999);
}

TEST(SparseRows, SweepKeepsGroupsAndGrid) {
  constexpr std::size_t kColumns = 32, kRows = 6;
  const Executor executor(1);
  FactorOptions in_order;
  in_order.largest_first = false;
  const auto factor =
      factor_gram(gram_of(dependent_rows(300, kColumns, 6), kColumns), kColumns, in_order);
  ASSERT_TRUE(factor);
  std::vector<float> swept = drawn(kRows * kColumns, 7);
  const std::vector<float> scales(kRows, 0.05F);
  RoundingGrid grid;
  grid.scales = scales;
  grid.codes = {-127, 127};
  std::vector<std::uint8_t> mask(swept.size());
  std::vector<std::int16_t> codes(swept.size());
  SparseSweepOptions options;
  options.pattern = *parse_pattern("2:4");
  options.grid = &grid;
  sparse_sweep(swept, *factor, options, executor, mask, codes);
  for (std::size_t at = 0; at < mask.size(); at += 4) {
    EXPECT_EQ(std::count(&mask[at], &mask[at] + 4, 1), 2);
  }
  for (std::size_t i = 0; i < swept.size(); ++i) {
    EXPECT_FLOAT_EQ(swept[i], mask[i] == 0 ? 0.0F : static_cast<float>(codes[i]) * 0.05F);
  }
}

TEST(SparseRows, TheSameWithAnyThreads) {
  constexpr std::size_t kColumns = 40, kRows = 150;
  const auto factor =
      factor_gram(gram_of(dependent_rows(300, kColumns, 8), kColumns), kColumns, {});
  ASSERT_TRUE(factor);
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 4}) {
    const Executor executor(threads);
    std::vector<float> swept = drawn(kRows * kColumns, 9);
    std::vector<std::uint8_t> mask(swept.size());
    SparseSweepOptions options;
    options.scope = SparsityScope::kLayer;
    options.block = 16;
    sparse_sweep(swept, *factor, options, executor, mask);
    EXPECT_NEAR(mask_sparsity(mask), 0.5, 1e-9);
    refit_kept(swept, mask, factor->damped,
               times_square(drawn(kRows * kColumns, 9), factor->damped, kColumns, executor),
               kColumns, 10, executor);
    results.push_back(std::move(swept));
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(SparseRows, CrossGramIsTheMeanOfProducts) {
  constexpr std::size_t kColumns = 3;
  const Executor executor(1);
  CrossGram cross(kColumns);
  cross.add(std::vector<float>{1, 2, 3, 4, 5, 6}, std::vector<float>{1, 0, 2, 0, 1, 1}, executor);
  // ((1 2 3)^T (1 0 2) + (4 5 6)^T (0 1 1)) / 2
  EXPECT_EQ(cross.moments(), (std::vector<double>{0.5, 2, 3, 1, 2.5, 4.5, 1.5, 3, 6}));
  EXPECT_EQ(cross.y_means(), (std::vector<double>{2.5, 3.5, 4.5}));
}

}  // namespace
}  // namespace mcompress
