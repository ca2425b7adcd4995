#include "numeric/gptq.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace mcompress {
namespace {

using Index = Eigen::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Columns = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::size_t kGramRows = 512;    // summed in float
constexpr std::size_t kGramColumns = 64;  // of one task
constexpr std::size_t kRowsOfTask = 16;   // of a weight

Index as_index(std::size_t n) { return static_cast<Index>(n); }

// The codes of a row, and what a code may become.
class RowGrid {
 public:
  RowGrid(const RoundingGrid& grid, std::size_t row, std::size_t columns)
      : grid_(grid),
        group_(grid.group == 0 ? columns : grid.group),
        first_(row * ((columns + group_ - 1) / group_)) {}

  double scale(std::size_t column) const { return double{grid_.scales[first_ + column / group_]}; }
  std::int32_t zero(std::size_t column) const {
    return grid_.zero_points.empty() ? 0 : grid_.zero_points[first_ + column / group_];
  }
  double value(std::size_t column, std::int32_t code) const {
    return static_cast<double>(code - zero(column)) * scale(column);
  }
  std::int32_t clamped(double code) const {
    const double low = grid_.codes.lo;
    const double high = grid_.codes.hi;
    return static_cast<std::int32_t>(std::clamp(std::nearbyint(code), low, high));
  }
  // The code nearest to `code` that fits beside that of the other half of its pair.
  std::int32_t beside(std::int32_t code, std::int32_t other) const {
    if (grid_.pair_limit <= 0) return code;
    if (code > 0 && other > 0) return std::min(code, std::max(grid_.pair_limit - other, 0));
    if (code < 0 && other < 0) return std::max(code, std::min(-grid_.pair_limit - other, 0));
    return code;
  }
  bool paired() const { return grid_.pair_limit > 0; }
  std::int32_t pair_limit() const { return grid_.pair_limit; }

 private:
  const RoundingGrid& grid_;
  std::size_t group_, first_;
};

// Codes of some rows by GPTQ.
class BlockRounding {
 public:
  BlockRounding(const GramFactor& factor, const RoundingGrid& grid, std::size_t first,
                std::span<const float> weights, std::span<const std::int16_t> given)
      : factor_(factor),
        weights_(weights),
        given_(given),
        columns_(factor.columns),
        upper_(factor.upper.data(), as_index(columns_), as_index(columns_)) {
    const std::size_t rows = weights.size() / columns_;
    for (std::size_t r = 0; r < rows; ++r) grids_.emplace_back(grid, first + r, columns_);
    place_.resize(columns_);
    for (std::size_t p = 0; p < columns_; ++p) place_[factor.order[p]] = p;
  }

  void run(std::size_t block, std::span<std::int16_t> codes) {
    const std::size_t rows = grids_.size();
    work_.resize(as_index(rows), as_index(columns_));
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t p = 0; p < columns_; ++p) {
        work_(as_index(r), as_index(p)) = double{weights_[r * columns_ + factor_.order[p]]};
      }
    }
    block = std::max<std::size_t>(block, 1);
    for (std::size_t begin = 0; begin < columns_; begin += block) {
      const std::size_t end = std::min(begin + block, columns_);
      errors_.resize(as_index(rows), as_index(end - begin));
      for (std::size_t r = 0; r < rows; ++r) round_in_block(r, begin, end, codes);
      if (end == columns_) break;
      work_.rightCols(as_index(columns_ - end)).noalias() -=
          errors_ * upper_.block(as_index(begin), as_index(end), as_index(end - begin),
                                 as_index(columns_ - end));
    }
  }

 private:
  void round_in_block(std::size_t r, std::size_t begin, std::size_t end,
                      std::span<std::int16_t> codes) {
    double* const row = work_.data() + r * columns_;
    for (std::size_t p = begin; p < end; ++p) {
      const std::size_t column = factor_.order[p];
      const double* const u = factor_.upper.data() + p * columns_;
      const std::int32_t code = choose(r, column, p, row, codes);
      codes[r * columns_ + column] = static_cast<std::int16_t>(code);
      const double error = (row[p] - grids_[r].value(column, code)) / u[p];
      errors_(as_index(r), as_index(p - begin)) = error;
      for (std::size_t k = p + 1; k < end; ++k) row[k] -= error * u[k];
    }
  }

  std::int32_t choose(std::size_t r, std::size_t column, std::size_t p, const double* row,
                      std::span<const std::int16_t> codes) const {
    const RowGrid& grid = grids_[r];
    if (weights_[r * columns_ + column] == 0.0F) return given_[r * columns_ + column];
    double steps = row[p] / grid.scale(column) + grid.zero(column);
    const std::size_t other = column ^ 1U;
    if (!grid.paired() || other >= columns_) return grid.clamped(steps);
    const std::size_t other_place = place_[other];
    if (other_place < p) return grid.beside(grid.clamped(steps), codes[r * columns_ + other]);
    // The other half comes next: each gives way by half of what is too much.
    const double coming = row[other_place] / grid.scale(other);
    if ((steps > 0) == (coming > 0)) {
      const double excess = std::fabs(steps) + std::fabs(coming) - grid.pair_limit();
      if (excess > 0) {
        const double less = std::max(std::fabs(steps) - excess / 2, 0.0);
        steps = steps > 0 ? less : -less;
      }
    }
    return grid.clamped(steps);
  }

  const GramFactor& factor_;
  std::span<const float> weights_;
  std::span<const std::int16_t> given_;
  std::size_t columns_;
  Eigen::Map<const Rows> upper_;
  std::vector<RowGrid> grids_;
  std::vector<std::size_t> place_;  // of a column in the order
  Rows work_, errors_;
};

// Changes single codes of a row as long as that lowers the cost. `slope` is H (v - w)^T and is kept
// up to date. Returns by how much the cost fell:
//   cost(v + d e_j) - cost(v) = 2 d slope_j + d^2 H_jj.
double descend(std::span<const float> weights, const double* gram, const RowGrid& grid, int sweeps,
               std::span<double> slope, std::span<std::int16_t> codes) {
  const std::size_t columns = weights.size();
  double fallen = 0;
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    bool changed = false;
    for (std::size_t j = 0; j < columns; ++j) {
      const double* const row = gram + j * columns;
      const double scale = grid.scale(j);
      if (weights[j] == 0.0F || !(row[j] > 0)) continue;
      const double steps = -slope[j] / (row[j] * scale);
      if (!(std::fabs(steps) > 0.5)) continue;
      const std::int32_t old = codes[j];
      std::int32_t code = grid.clamped(old + steps);
      const std::size_t other = j ^ 1U;
      if (other < columns) code = grid.beside(code, codes[other]);
      if (code == old) continue;
      const double move = (code - old) * scale;
      const double gain = -(2 * move * slope[j] + move * move * row[j]);
      if (!(gain > 0)) continue;
      for (std::size_t k = 0; k < columns; ++k) slope[k] += move * row[k];
      codes[j] = static_cast<std::int16_t>(code);
      fallen += gain;
      changed = true;
    }
    if (!changed) break;
  }
  return fallen;
}

}  // namespace

GramMatrix::GramMatrix(std::size_t columns)
    : columns_(columns), sums_(columns * columns), totals_(columns) {}

void GramMatrix::add(std::span<const float> rows, const Executor& executor) {
  const std::size_t count = columns_ == 0 ? 0 : rows.size() / columns_;
  const std::size_t tasks = (columns_ + kGramColumns - 1) / kGramColumns;
  executor.parallel_for(tasks, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t task = begin; task < end; ++task) {
      const std::size_t first = task * kGramColumns;
      const std::size_t width = std::min(kGramColumns, columns_ - first);
      const std::size_t height = columns_ - first;
      for (std::size_t done = 0; done < count; done += kGramRows) {
        const std::size_t taken = std::min(kGramRows, count - done);
        const Eigen::Map<const FloatRows> x(rows.data() + done * columns_, as_index(taken),
                                            as_index(columns_));
        const Eigen::MatrixXf product = x.rightCols(as_index(height)).transpose() *
                                        x.middleCols(as_index(first), as_index(width));
        for (std::size_t c = 0; c < width; ++c) {
          double* const column = sums_.data() + (first + c) * columns_;
          for (std::size_t r = c; r < height; ++r) {
            column[first + r] += double{product(as_index(r), as_index(c))};
          }
        }
        for (std::size_t r = 0; r < taken; ++r) {
          const float* const row = rows.data() + (done + r) * columns_ + first;
          for (std::size_t c = 0; c < width; ++c) totals_[first + c] += double{row[c]};
        }
      }
    }
  });
  rows_ += static_cast<std::int64_t>(count);
}

std::vector<double> GramMatrix::moments() const {
  std::vector<double> all(sums_.size());
  const double share = rows_ > 0 ? 1 / static_cast<double>(rows_) : 0;
  for (std::size_t c = 0; c < columns_; ++c) {
    for (std::size_t r = c; r < columns_; ++r) {
      all[c * columns_ + r] = all[r * columns_ + c] = sums_[c * columns_ + r] * share;
    }
  }
  return all;
}

std::vector<double> GramMatrix::means() const {
  std::vector<double> means = totals_;
  for (double& mean : means) mean = rows_ > 0 ? mean / static_cast<double>(rows_) : 0;
  return means;
}

std::vector<double> GramMatrix::centred() const {
  std::vector<double> all = moments();
  const std::vector<double> mean = means();
  for (std::size_t c = 0; c < columns_; ++c) {
    for (std::size_t r = 0; r < columns_; ++r) {
      double& entry = all[c * columns_ + r];
      entry -= mean[c] * mean[r];
    }
    double& own = all[c * columns_ + c];
    // What is left of a constant is the rounding of the sums.
    const double second = own + mean[c] * mean[c];
    if (!(own > 1e-7 * second)) {
      for (std::size_t r = 0; r < columns_; ++r) all[c * columns_ + r] = all[r * columns_ + c] = 0;
    }
  }
  return all;
}

std::optional<GramFactor> factor_gram(std::span<const double> gram, std::size_t columns,
                                      const FactorOptions& options) {
  GramFactor factor;
  factor.columns = columns;
  double trace = 0;
  for (std::size_t j = 0; j < columns; ++j) {
    const double own = gram[j * columns + j];
    if (!std::isfinite(own)) return std::nullopt;
    if (own <= 0) ++factor.dead;
    trace += std::max(own, 0.0);
  }
  const std::size_t alive = columns - factor.dead;
  if (alive == 0 || !(trace > 0)) return std::nullopt;
  const double mean = trace / static_cast<double>(alive);

  factor.order.resize(columns);
  std::iota(factor.order.begin(), factor.order.end(), 0U);
  if (options.largest_first) {
    // A pair counts as its larger half; a last column without a partner comes last.
    const auto energy = [&](std::uint32_t column) {
      if (!options.pairs) return gram[column * columns + column];
      const std::size_t other = column ^ 1U;
      if (other >= columns) return -1.0;
      return std::max(gram[column * columns + column], gram[other * columns + other]);
    };
    std::stable_sort(factor.order.begin(), factor.order.end(),
                     [&](std::uint32_t a, std::uint32_t b) {
                       const double left = energy(options.pairs ? a & ~1U : a);
                       const double right = energy(options.pairs ? b & ~1U : b);
                       return left > right;
                     });
  }
  Columns turned(as_index(columns), as_index(columns));  // reordered and reversed
  constexpr int kMostRetries = 5;
  factor.damping = options.damping;
  for (;; ++factor.retries, factor.damping *= 10) {
    const double added = factor.damping * mean;
    for (std::size_t c = 0; c < columns; ++c) {
      const std::uint32_t from = factor.order[columns - 1 - c];
      const double* const column = gram.data() + std::size_t{from} * columns;
      for (std::size_t r = c; r < columns; ++r) {
        turned(as_index(r), as_index(c)) = column[factor.order[columns - 1 - r]];
      }
      double& own = turned(as_index(c), as_index(c));
      own = own > 0 ? own + added : mean;
    }
    Eigen::LLT<Eigen::Ref<Columns>, Eigen::Lower> lower(turned);
    // A factor of something hardly definite is no use either.
    if (lower.info() == Eigen::Success && turned.diagonal().allFinite() &&
        turned.diagonal().minCoeff() > 0) {
      break;
    }
    if (factor.retries == kMostRetries) return std::nullopt;
  }
  // U = J L^-1 J, where J reverses.
  Columns inverse = Columns::Identity(as_index(columns), as_index(columns));
  turned.triangularView<Eigen::Lower>().solveInPlace(inverse);
  factor.upper.assign(columns * columns, 0.0);
  for (std::size_t r = 0; r < columns; ++r) {
    for (std::size_t c = r; c < columns; ++c) {
      factor.upper[r * columns + c] = inverse(as_index(columns - 1 - r), as_index(columns - 1 - c));
    }
  }
  factor.damped.assign(gram.begin(), gram.end());
  for (std::size_t j = 0; j < columns; ++j) {
    double& own = factor.damped[j * columns + j];
    own = own > 0 ? own + factor.damping * mean : mean;
  }
  return factor;
}

GptqCosts round_rows(std::span<const float> weights, const GramFactor& factor,
                     const RoundingGrid& grid, const GptqOptions& options, const Executor& executor,
                     std::span<std::int16_t> codes) {
  const std::size_t columns = factor.columns;
  const std::size_t rows = columns == 0 ? 0 : weights.size() / columns;
  std::vector<GptqCosts> costs(rows);
  const Eigen::Map<const Rows> gram(factor.damped.data(), as_index(columns), as_index(columns));

  executor.parallel_for(rows, kRowsOfTask, [&](std::size_t begin, std::size_t end) {
    const std::size_t count = end - begin;
    const std::span<const float> w = weights.subspan(begin * columns, count * columns);
    const std::span<std::int16_t> given = codes.subspan(begin * columns, count * columns);
    std::vector<std::int16_t> made(given.begin(), given.end());
    BlockRounding(factor, grid, begin, w, given).run(options.block, made);

    // v - w, and its product with H.
    Rows error(as_index(count), as_index(columns));
    const auto slopes = [&](std::span<const std::int16_t> of) {
      for (std::size_t r = 0; r < count; ++r) {
        const RowGrid row(grid, begin + r, columns);
        for (std::size_t c = 0; c < columns; ++c) {
          const std::size_t i = r * columns + c;
          error(as_index(r), as_index(c)) = row.value(c, of[i]) - double{w[i]};
        }
      }
      return Rows(error * gram);
    };
    Rows slope = slopes(given);
    for (std::size_t r = 0; r < count; ++r) {
      costs[begin + r].given = slope.row(as_index(r)).dot(error.row(as_index(r)));
    }
    const Rows slope_made = slopes(made);
    for (std::size_t r = 0; r < count; ++r) {
      GptqCosts& cost = costs[begin + r];
      cost.rounded = slope_made.row(as_index(r)).dot(error.row(as_index(r)));
      const std::span<std::int16_t> row = given.subspan(r * columns, columns);
      if (cost.rounded < cost.given) {
        std::copy_n(made.begin() + static_cast<std::ptrdiff_t>(r * columns), columns, row.begin());
        slope.row(as_index(r)) = slope_made.row(as_index(r));
      } else {
        cost.rounded = cost.given;
      }
      const double fallen = descend(w.subspan(r * columns, columns), factor.damped.data(),
                                    RowGrid(grid, begin + r, columns), options.sweeps,
                                    {slope.data() + r * columns, columns}, row);
      cost.descended = std::max(cost.rounded - fallen, 0.0);
    }
  });

  GptqCosts total;
  for (const GptqCosts& cost : costs) {
    total.given += cost.given;
    total.rounded += cost.rounded;
    total.descended += cost.descended;
  }
  return total;
}

}  // namespace mcompress
