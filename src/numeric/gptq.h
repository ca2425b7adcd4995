// Rounding the rows of a weight so that what they make of their inputs stays the same.
//
// A row w multiplies inputs x whose elements are not independent. With the Gram matrix
// H = sum x x^T over the inputs seen, rounding w to v costs the output
//   cost(v) = (v - w) H (v - w)^T.
// GPTQ (Frantar et al., 2022) rounds column by column and lets the columns that are still to come
// make up for each error: with H^-1 = U^T U, U upper triangular,
//   e = (w_j - q_j) / U_jj,   w_k -= e U_jk for k > j.
// A descent on single codes then takes every step that lowers the cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "numeric/quantize.h"
#include "support/executor.h"

namespace mcompress {

// H = sum of x x^T over rows x of `columns` floats. Products are summed in float over at most 512
// rows, these sums in double; the same bits with any number of threads. Takes columns^2 doubles.
class GramMatrix {
 public:
  explicit GramMatrix(std::size_t columns);
  // `rows` holds whole rows, finite, one after the other.
  void add(std::span<const float> rows, const Executor& executor);
  std::size_t columns() const { return columns_; }
  std::int64_t rows() const { return rows_; }
  // H / rows(), symmetric, row by row; all 0 without rows.
  std::vector<double> moments() const;
  // The same about the mean of each column, which a bias can make up for.
  std::vector<double> centred() const;
  std::vector<double> means() const;

 private:
  std::size_t columns_;
  std::int64_t rows_ = 0;
  std::vector<double> sums_;    // lower triangle of H, by columns
  std::vector<double> totals_;  // of each column
};

// H^-1 = U^T U of the damped and reordered matrix; serves every weight that reads these inputs.
struct GramFactor {
  std::size_t columns = 0;
  std::vector<std::uint32_t> order;  // columns of H, in the order in which they are rounded
  std::vector<double> upper;         // U, row by row, in that order
  std::vector<double> damped;        // H + damping * mean(diagonal) * I, in the order of H
  double damping = 0;                // that was needed
  int retries = 0;                   // with ten times the damping each
  std::size_t dead = 0;              // columns in which nothing but 0 was seen
};
struct FactorOptions {
  double damping = 0.01;
  bool largest_first = true;  // columns with much energy are rounded first, while others can adapt
  bool pairs = false;  // columns 2i and 2i + 1 follow each other: for RoundingGrid::pair_limit
};
// `gram` is symmetric, columns x columns. Dead columns are taken for independent of all others: a
// weight that was never used is rounded to nearest. Empty when it is not finite, all zero, or not
// positive definite at 1000 times its mean diagonal.
std::optional<GramFactor> factor_gram(std::span<const double> gram, std::size_t columns,
                                      const FactorOptions& options);

// The codes a weight may take: value = (code - zero point) * scale.
struct RoundingGrid {
  std::size_t group = 0;                      // columns that share a scale; 0: all of a row
  std::span<const float> scales;              // [rows * groups of a row], above 0
  std::span<const std::int32_t> zero_points;  // the same, or empty: 0
  CodeRange codes;
  // > 0: codes of one sign in columns 2i and 2i + 1 sum to this much at most (WeightRounding), and
  // the factor was made with `pairs`.
  std::int32_t pair_limit = 0;
};

struct GptqOptions {
  std::size_t block = 128;  // even: columns between two updates of all that follow; for speed only
  int sweeps = 3;           // of the descent over the codes of a row, at most
};

// Sums over the rows, in the units of the damped H.
struct GptqCosts {
  double given = 0;    // of the codes that were given
  double rounded = 0;  // the better of those and GPTQ's, row by row
  double descended = 0;
};

// Rounds `weights` [rows, factor.columns], which are finite. `codes` comes with codes that the grid
// allows, as rounding to nearest makes them, and leaves with codes that never cost more, row by
// row. Weights of exactly 0 keep the code that came.
GptqCosts round_rows(std::span<const float> weights, const GramFactor& factor,
                     const RoundingGrid& grid, const GptqOptions& options, const Executor& executor,
                     std::span<std::int16_t> codes);

}  // namespace mcompress
