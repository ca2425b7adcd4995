// Sparse weights on grids, against all codes tried and against pruning first and rounding then.
#include "numeric/sparse_codes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "numeric/sparsity.h"

namespace mcompress {
namespace {

std::vector<float> drawn_numbers(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// Of 400 rows in which neighbouring columns go together.
std::vector<double> dependent_gram(std::size_t columns, unsigned seed) {
  constexpr std::size_t kRows = 400;
  std::vector<float> rows = drawn_numbers(kRows * columns, seed);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i % columns != 0) rows[i] = 0.8F * rows[i - 1] + 0.6F * rows[i];
  }
  std::vector<double> gram(columns * columns);
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t i = 0; i < columns; ++i) {
      for (std::size_t j = 0; j < columns; ++j) {
        gram[i * columns + j] +=
            double{rows[r * columns + i]} * double{rows[r * columns + j]} / double{kRows};
      }
    }
  }
  return gram;
}

double cost_between(std::span<const float> v, std::span<const float> w,
                    const std::vector<double>& gram, std::size_t n) {
  double cost = 0;
  for (std::size_t r = 0; r < v.size(); r += n) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        cost += (double{v[r + i]} - double{w[r + i]}) * gram[i * n + j] *
                (double{v[r + j]} - double{w[r + j]});
      }
    }
  }
  return cost;
}

BlockFormat four_bits(bool asymmetric, std::size_t block) {
  BlockFormat format;
  format.asymmetric = asymmetric;
  format.block = block;
  format.scales = DataType::kFloat;
  return format;
}

struct Made {
  std::vector<float> weights;
  std::vector<std::uint8_t> mask;
  BlockRows rows;
};

// All in one: the first sweep finds what stays and how large it gets, for the grids; the second
// chooses again while it rounds.
Made prune_and_round(const std::vector<float>& w, const GramFactor& factor,
                     const SparsityPattern& pattern, const BlockFormat& format,
                     const Executor& executor) {
  const std::size_t columns = factor.columns;
  Made made;
  made.weights = w;
  made.mask.resize(w.size());
  SparseSweepOptions options;
  options.pattern = pattern;
  sparse_sweep(made.weights, factor, options, executor, made.mask);
  made.rows = fit_codes(made.weights, columns, {}, {}, format, executor);
  std::vector<float> target = w;
  sweep_codes(target, factor, options, {}, executor, made.mask, made.rows);
  descend_codes(made.mask, factor.damped, times_square(w, factor.damped, columns, executor), {}, 4,
                executor, made.rows);
  restore_codes(made.rows, {}, made.weights);
  return made;
}

TEST(SparseCodes, NearestCodesKeepZerosAndPlaces) {
  constexpr std::size_t kColumns = 36, kRows = 18;
  const Executor executor(2);
  std::vector<float> weights = drawn_numbers(kRows * kColumns, 1);
  for (std::size_t i = 0; i < weights.size(); i += 3) weights[i] = 0;
  std::vector<std::uint32_t> place(kColumns);
  for (std::size_t c = 0; c < kColumns; ++c) {
    place[c] = static_cast<std::uint32_t>((c * 5) % kColumns);  // 5 and 36 have no common factor
  }
  for (const bool asymmetric : {false, true}) {
    const BlockRows rows =
        fit_codes(weights, kColumns, place, {}, four_bits(asymmetric, 16), executor);
    std::vector<float> restored(weights.size());
    restore_codes(rows, place, restored);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const std::size_t row = i / kColumns, column = place[i % kColumns];
      const std::size_t block = row * 3 + column / 16;
      const int zero = asymmetric ? rows.zero_points[block] : 8;
      const int code = rows.codes[row * kColumns + column];
      EXPECT_EQ(restored[i], static_cast<float>(code - zero) * rows.scales[block]);
      if (weights[i] == 0) {
        EXPECT_EQ(code, zero);
      } else if (code > 0 && code < 15) {
        EXPECT_LE(std::fabs(restored[i] - weights[i]), 0.5001F * rows.scales[block]);
      }
    }
  }
}

// 2 of 6 weights of a row stay, on a grid of 16 codes: all masks and codes are tried. The mask is
// that of SparseGPT, no search: it costs more than the best of all, the codes are the best for it.
TEST(SparseCodes, NearTheBestOfAllMasksAndCodes) {
  constexpr std::size_t kColumns = 6, kRows = 8;
  const Executor executor(1);
  const std::vector<double> gram = dependent_gram(kColumns, 2);
  const auto factor = factor_gram(gram, kColumns, {});
  ASSERT_TRUE(factor);
  const std::vector<float> w = drawn_numbers(kRows * kColumns, 3);
  SparseSweepOptions options;
  options.sparsity = 4.0 / 6;
  std::vector<float> swept = w;
  std::vector<std::uint8_t> mask(w.size());
  BlockRows rows = make_block_rows(kRows, kColumns, four_bits(false, 0));
  std::ranges::fill(rows.scales, 0.5F);
  const double account = sweep_codes(swept, *factor, options, {}, executor, mask, rows);
  std::vector<float> restored(w.size());
  restore_codes(rows, {}, restored);
  for (std::size_t i = 0; i < w.size(); ++i) EXPECT_FLOAT_EQ(restored[i], swept[i]);
  const double cost = cost_between(restored, w, factor->damped, kColumns);
  EXPECT_NEAR(cost, account, 1e-4 * cost);

  double best = 0;
  for (std::size_t r = 0; r < kRows; ++r) {
    double of_row = 1e9;
    for (std::size_t a = 0; a < kColumns; ++a) {
      for (std::size_t b = a + 1; b < kColumns; ++b) {
        for (int i = -8; i <= 7; ++i) {
          for (int j = -8; j <= 7; ++j) {
            std::vector<float> v(kColumns);
            v[a] = 0.5F * static_cast<float>(i);
            v[b] = 0.5F * static_cast<float>(j);
            of_row = std::min(of_row, cost_between(v, std::span(w).subspan(r * kColumns, kColumns),
                                                   factor->damped, kColumns));
          }
        }
      }
    }
    best += of_row;
    EXPECT_EQ(std::count(&mask[r * kColumns], &mask[r * kColumns] + kColumns, 1), 2);
  }
  EXPECT_GE(cost, best * 0.9999);
  EXPECT_LE(cost, best * 3);

  // With the mask given: as good as the best of all codes on the same scales, as these move, too;
  // and no single code of what stays can be changed for the better any more.
  double best_codes = 0;
  for (std::size_t r = 0; r < kRows; ++r) {
    double of_row = 1e9;
    std::vector<std::size_t> kept;
    for (std::size_t c = 0; c < kColumns; ++c) {
      if (mask[r * kColumns + c] != 0) kept.push_back(c);
    }
    for (int i = -8; i <= 7; ++i) {
      for (int j = -8; j <= 7; ++j) {
        std::vector<float> v(kColumns);
        v[kept[0]] = 0.5F * static_cast<float>(i);
        v[kept[1]] = 0.5F * static_cast<float>(j);
        of_row = std::min(of_row, cost_between(v, std::span(w).subspan(r * kColumns, kColumns),
                                               factor->damped, kColumns));
      }
    }
    best_codes += of_row;
  }
  const auto wanted = times_square(w, factor->damped, kColumns, executor);
  descend_codes(mask, factor->damped, wanted, {}, 50, executor, rows);
  restore_codes(rows, {}, restored);
  const double descended = cost_between(restored, w, factor->damped, kColumns);
  EXPECT_LE(descended, cost * 1.0001);
  EXPECT_LE(descended, best_codes * 1.01);
  for (std::size_t i = 0; i < w.size(); ++i) {
    if (mask[i] == 0) {
      EXPECT_EQ(restored[i], 0);
      continue;
    }
    for (const float step : {-rows.scales[i / kColumns], rows.scales[i / kColumns]}) {
      const int code = rows.codes[i] + (step > 0 ? 1 : -1);
      if (code < 0 || code > 15) continue;
      std::vector<float> moved = restored;
      moved[i] += step;
      EXPECT_GE(cost_between(moved, w, factor->damped, kColumns), descended * 0.9999);
    }
  }
}

// Codes of 1, 2 and 3 at a scale that is a tenth too small: the best scale is where they were.
TEST(SparseCodes, ScalesFollowTheOutputs) {
  constexpr std::size_t kColumns = 4;
  const Executor executor(1);
  std::vector<double> gram(kColumns * kColumns);
  for (std::size_t c = 0; c < kColumns; ++c) gram[c * kColumns + c] = 1 + static_cast<double>(c);
  const std::vector<float> w = {1, 2, 0, 3};
  BlockRows rows = make_block_rows(1, kColumns, four_bits(false, 0));
  rows.scales = {0.9F};
  rows.codes = {9, 10, 8, 11};
  descend_codes(std::vector<std::uint8_t>{1, 1, 0, 1}, gram,
                times_square(w, gram, kColumns, executor), {}, 3, executor, rows);
  EXPECT_FLOAT_EQ(rows.scales[0], 1);
  EXPECT_EQ(rows.codes, (std::vector<std::uint8_t>{9, 10, 8, 11}));
}

TEST(SparseCodes, OneSweepBeatsPruningFirstAndRoundingThen) {
  constexpr std::size_t kColumns = 64, kRows = 24;
  const Executor executor(2);
  FactorOptions in_order;
  in_order.largest_first = false;
  const auto factor = factor_gram(dependent_gram(kColumns, 4), kColumns, in_order);
  ASSERT_TRUE(factor);
  const std::vector<float> w = drawn_numbers(kRows * kColumns, 5);
  for (const char* text : {"unstructured", "2:4"}) {
    const SparsityPattern pattern = *parse_pattern(text);
    const BlockFormat format = four_bits(true, 32);
    const Made one = prune_and_round(w, *factor, pattern, format, executor);
    std::vector<float> pruned = w;
    std::vector<std::uint8_t> mask(w.size());
    SparseSweepOptions options;
    options.pattern = pattern;
    sparse_sweep(pruned, *factor, options, executor, mask);
    // To nearest, and by GPTQ on the pruned weights.
    BlockRows nearest = fit_codes(pruned, kColumns, {}, {}, format, executor);
    std::vector<float> plain(w.size()), by_gptq(w.size());
    restore_codes(nearest, {}, plain);
    std::vector<std::int16_t> codes(nearest.codes.begin(), nearest.codes.end());
    std::vector<std::int32_t> zeros(nearest.zero_points.begin(), nearest.zero_points.end());
    RoundingGrid grid;
    grid.group = 32;
    grid.scales = nearest.scales;
    grid.zero_points = zeros;
    grid.codes = {0, 15};
    round_rows(pruned, *factor, grid, {}, executor, codes);
    std::ranges::transform(codes, nearest.codes.begin(),
                           [](std::int16_t code) { return static_cast<std::uint8_t>(code); });
    restore_codes(nearest, {}, by_gptq);
    const double joint = cost_between(one.weights, w, factor->damped, kColumns);
    EXPECT_LT(joint, 0.97 * cost_between(by_gptq, w, factor->damped, kColumns)) << text;
    EXPECT_LT(joint, 0.9 * cost_between(plain, w, factor->damped, kColumns)) << text;
    EXPECT_GE(std::ranges::count(one.weights, 0.0F), static_cast<std::ptrdiff_t>(w.size() / 2));
  }
}

TEST(SparseCodes, TheSameWithAnyThreadsInCodes) {
  constexpr std::size_t kColumns = 48, kRows = 70;
  const auto factor = factor_gram(dependent_gram(kColumns, 6), kColumns, {});
  ASSERT_TRUE(factor);
  const std::vector<float> w = drawn_numbers(kRows * kColumns, 7);
  std::vector<Made> made;
  for (const int threads : {1, 4}) {
    made.push_back(prune_and_round(w, *factor, {}, four_bits(true, 16), Executor(threads)));
  }
  EXPECT_EQ(made[0].rows.codes, made[1].rows.codes);
  EXPECT_EQ(made[0].rows.scales, made[1].rows.scales);
}

// J of sparsity.h, for one row.
double row_loss(const std::vector<float>& w, const std::vector<std::uint8_t>& mask,
                const std::vector<double>& gram, const std::vector<double>& pull) {
  double loss = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    if (mask[i] != 0) continue;
    loss += 2 * pull[i] * double{w[i]};
    for (std::size_t j = 0; j < w.size(); ++j) {
      if (mask[j] == 0) loss += double{w[i]} * gram[i * w.size() + j] * double{w[j]};
    }
  }
  return loss;
}

TEST(ExchangeKept, NearTheBestMaskOfAll) {
  constexpr std::size_t kColumns = 12;
  const Executor executor(1);
  double from_best = 0, of_any = 0;
  for (unsigned seed = 1; seed <= 6; ++seed) {
    const std::vector<float> w = drawn_numbers(kColumns, seed);
    // Inputs with means, as behind a ReLU.
    std::vector<double> gram = dependent_gram(kColumns, seed + 10), energies(kColumns);
    for (std::size_t i = 0; i < kColumns; ++i) {
      for (std::size_t j = 0; j < kColumns; ++j) {
        gram[i * kColumns + j] +=
            (1 + 0.1 * static_cast<double>(i)) * (1 + 0.1 * static_cast<double>(j));
      }
      energies[i] = gram[i * kColumns + i];
    }
    const std::vector<float> drawn = drawn_numbers(kColumns, seed + 20);
    const std::vector<double> pull(drawn.begin(), drawn.end());
    auto mask =
        choose_mask(weight_scores(w, kColumns, energies), kColumns, {}, SparsityScope::kRow, 0.5);
    const double before = row_loss(w, mask, gram, pull);
    exchange_kept(w, kColumns, {gram, pull}, {}, executor, mask);
    const double after = row_loss(w, mask, gram, pull);
    EXPECT_EQ(std::ranges::count(mask, std::uint8_t{0}), 6);
    double best = 1e9, mean = 0;
    int masks = 0;
    for (unsigned bits = 0; bits < (1U << kColumns); ++bits) {
      std::vector<std::uint8_t> tried(kColumns);
      for (std::size_t c = 0; c < kColumns; ++c) tried[c] = bits >> c & 1U;
      if (std::ranges::count(tried, std::uint8_t{0}) != 6) continue;
      const double loss = row_loss(w, tried, gram, pull);
      best = std::min(best, loss);
      mean += loss;
      ++masks;
    }
    EXPECT_LE(after, before) << seed;
    EXPECT_GE(after, best - 1e-9) << seed;
    from_best += after - best;
    of_any += mean / masks - best;
  }
  EXPECT_LE(from_best, 0.03 * of_any);
}

TEST(ExchangeKept, OfIndependentInputsNothingIsBetterThanWanda) {
  constexpr std::size_t kColumns = 20, kRows = 4;
  const std::vector<float> w = drawn_numbers(kColumns * kRows, 8);
  const std::vector<double> gram = dependent_gram(kColumns, 9);
  std::vector<double> energies(kColumns);
  for (std::size_t c = 0; c < kColumns; ++c) energies[c] = gram[c * kColumns + c];
  const auto first =
      choose_mask(weight_scores(w, kColumns, energies), kColumns, {}, SparsityScope::kRow, 0.4);
  auto mask = first;
  exchange_kept(w, kColumns, {gram, {}, 1}, {}, Executor(1), mask);
  EXPECT_EQ(mask, first);
  exchange_kept(w, kColumns, {gram, {}, 0}, {}, Executor(1), mask);
  EXPECT_NE(mask, first);
}

TEST(ExchangeKept, KeepsGroupsAndLeavesBlocks) {
  constexpr std::size_t kColumns = 16, kRows = 5;
  const Executor executor(2);
  const std::vector<float> w = drawn_numbers(kColumns * kRows, 9);
  const std::vector<double> gram = dependent_gram(kColumns, 10);
  const SparsityPattern groups = *parse_pattern("2:4");
  const std::vector<float> scores = weight_scores(w, kColumns, {});
  const auto first = choose_mask(scores, kColumns, groups, SparsityScope::kRow, 0);
  auto mask = first;
  exchange_kept(w, kColumns, {gram, {}, 0}, groups, executor, mask);
  EXPECT_NE(mask, first);
  for (std::size_t at = 0; at < mask.size(); at += 4) {
    EXPECT_EQ(std::count(&mask[at], &mask[at] + 4, 1), 2);
  }
  const SparsityPattern blocks = *parse_pattern("block:1x4");
  const auto whole = choose_mask(scores, kColumns, blocks, SparsityScope::kLayer, 0.5);
  auto same = whole;
  exchange_kept(w, kColumns, {gram, {}, 0}, blocks, executor, same);
  EXPECT_EQ(same, whole);
}

TEST(RelativeScores, AreSharesOfOutputAndInput) {
  const std::vector<float> weights = {3, -1, 1, 1};
  const auto scores = relative_scores(weights, 2, std::vector<double>{16, 1});
  EXPECT_FLOAT_EQ(scores[0], (0.75F + 0.75F) * 2);
  EXPECT_FLOAT_EQ(scores[1], 0.25F + 0.5F);
  EXPECT_FLOAT_EQ(scores[2], (0.5F + 0.25F) * 2);
  EXPECT_FLOAT_EQ(scores[3], 0.5F + 0.5F);
}

}  // namespace
}  // namespace mcompress
