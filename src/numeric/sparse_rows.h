// Taking weights away so that what is left makes up for them: SparseGPT's sweep and least squares
// on what is kept.
//
// The outputs wanted are y = T x for inputs x with the Gram matrix H = E[x x^T]. Rows v that are
// zero outside a mask cost (v - t) H (v - t)^T. SparseGPT (Frantar and Alistarh, 2023) goes through
// the columns once: with H^-1 = U^T U, taking w_j away costs w_j^2 / U_jj^2 and is made up for by
//   w_k -= (w_j / U_jj) U_jk for k > j.
// One factor serves all rows. A column may get its weights from a grid in the same sweep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "numeric/gptq.h"
#include "numeric/sparsity.h"
#include "support/executor.h"

namespace mcompress {

// C = sum of y x^T over pairs of rows of `columns` floats, as GramMatrix does it.
class CrossGram {
 public:
  explicit CrossGram(std::size_t columns);
  // Rows of y and of x, as many and finite.
  void add(std::span<const float> y, std::span<const float> x, const Executor& executor);
  std::int64_t rows() const { return rows_; }
  // C / rows(), row by row; element (i, j) is the mean of y_i x_j.
  std::vector<double> moments() const;
  std::vector<double> y_means() const;

 private:
  std::size_t columns_;
  std::int64_t rows_ = 0;
  std::vector<double> sums_;  // by columns
  std::vector<double> y_totals_;
};

struct SparseSweepOptions {
  SparsityPattern pattern;
  SparsityScope scope = SparsityScope::kRow;
  double sparsity = 0.5;
  std::size_t block = 128;  // columns between two choices of the mask
  // Given: a mask [rows, columns] that is kept to; nothing is chosen.
  std::span<const std::uint8_t> mask;
  // Given: what stays lies on this grid, code by code. place: for each column its place among those
  // of the grid, which says what group it is in; empty: the same.
  const RoundingGrid* grid = nullptr;
  std::span<const std::uint32_t> place;
};

// Sweeps over `weights` [rows, factor.columns], which leave with zeros outside of `mask`. Which
// weights go is chosen block by block, among the numbers that the blocks before it left, by
// w^2 / U_jj^2; how many of a block, by the same before the sweep. N:M needs a factor in the order
// of the columns. Blocks of weights: the mask comes from the scores before the sweep. `codes`, with
// a grid, gets the code of each weight. Returns what it cost, (v - w) H (v - w)^T over all rows
// with the damped H of the factor.
double sparse_sweep(std::span<float> weights, const GramFactor& factor,
                    const SparseSweepOptions& options, const Executor& executor,
                    std::span<std::uint8_t> mask, std::span<std::int16_t> codes = {});

// Solves v H = b on the kept weights of each row by conjugate gradients that start from `weights`:
// least squares when b = T H. `gram` is positive definite. At most `rounds` steps a row; stops at a
// residual of 1e-5.
void refit_kept(std::span<float> weights, std::span<const std::uint8_t> mask,
                std::span<const double> gram, std::span<const double> wanted, std::size_t columns,
                int rounds, const Executor& executor);

// weights [rows, columns] times a square matrix, row by row.
std::vector<double> times_square(std::span<const float> weights, std::span<const double> square,
                                 std::size_t columns, const Executor& executor);
// T = b H^-1.
std::vector<float> solve_rows(std::span<const double> wanted, const GramFactor& factor,
                              const Executor& executor);

// Sum over the rows of inputs of |W y - V x - shift|^2 and of |W y - mean(W y)|^2; `shift` is one
// number per row of the weights, or empty.
struct SparseOutputError {
  double error = 0, signal = 0;
};
struct SparseRowPairs {
  std::span<const float> y, x;  // inputs of the original and of the other, rows of `columns`
  std::size_t columns = 0;
};
SparseOutputError output_error_of(std::span<const float> weights, std::span<const float> other,
                                  std::span<const double> shift, const SparseRowPairs& inputs,
                                  const Executor& executor);

}  // namespace mcompress
