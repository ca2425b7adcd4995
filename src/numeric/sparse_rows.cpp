#include "numeric/sparse_rows.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>

namespace mcompress {
namespace {

using Index = Eigen::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::size_t kGramRows = 512;    // summed in float
constexpr std::size_t kGramColumns = 64;  // of one task
constexpr std::size_t kRowsOfTask = 16;   // of a weight
constexpr std::size_t kRefitRows = 64;

Index as_index(std::size_t n) { return static_cast<Index>(n); }

Eigen::Map<const Rows> square_of(std::span<const double> numbers, std::size_t columns) {
  return {numbers.data(), as_index(columns), as_index(columns)};
}

// The weights in the order of the factor, while the sweep goes over them.
class SparseSweep {
 public:
  SparseSweep(std::span<float> weights, const GramFactor& factor, const SparseSweepOptions& options,
              const Executor& executor, std::span<std::uint8_t> mask, std::span<std::int16_t> codes)
      : weights_(weights),
        factor_(factor),
        options_(options),
        executor_(executor),
        mask_(mask),
        codes_(codes),
        columns_(factor.columns),
        rows_(columns_ == 0 ? 0 : weights.size() / columns_) {}

  double run() {
    if (rows_ == 0) return 0;
    costs_.assign(rows_, 0);
    diagonal_.resize(columns_);
    for (std::size_t p = 0; p < columns_; ++p) {
      const double u = factor_.upper[p * columns_ + p];
      diagonal_[p] = u * u;
    }
    work_.resize(as_index(rows_), as_index(columns_));
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t p = 0; p < columns_; ++p) {
        work_(as_index(r), as_index(p)) = double{weights_[r * columns_ + factor_.order[p]]};
      }
    }
    kept_.assign(rows_ * columns_, 1);
    decide_before();
    const std::size_t block = block_size();
    errors_.resize(as_index(rows_), as_index(std::min(block, columns_)));
    for (std::size_t begin = 0; begin < columns_; begin += block) {
      const std::size_t end = std::min(begin + block, columns_);
      if (!fixed_) choose(begin, end);
      executor_.parallel_for(rows_, kRowsOfTask, [&](std::size_t first, std::size_t last) {
        for (std::size_t r = first; r < last; ++r) sweep_row(r, begin, end);
        if (end == columns_) return;
        work_
            .block(as_index(first), as_index(end), as_index(last - first), as_index(columns_ - end))
            .noalias() -=
            errors_.block(as_index(first), 0, as_index(last - first), as_index(end - begin)) *
            square_of(factor_.upper, columns_)
                .block(as_index(begin), as_index(end), as_index(end - begin),
                       as_index(columns_ - end));
      });
    }
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t p = 0; p < columns_; ++p) {
        const std::size_t to = r * columns_ + factor_.order[p];
        mask_[to] = kept_[r * columns_ + p];
        weights_[to] = static_cast<float>(work_(as_index(r), as_index(p)));
      }
    }
    return std::accumulate(costs_.begin(), costs_.end(), 0.0);
  }

 private:
  std::size_t block_size() const {
    const std::size_t block = std::max<std::size_t>(options_.block, 1);
    if (!options_.pattern.of_group()) return block;
    const std::size_t group = options_.pattern.group;
    return std::max(block / group, std::size_t{1}) * group;
  }

  float score(std::size_t r, std::size_t p) const {
    const double w = work_(as_index(r), as_index(p));
    return static_cast<float>(w * w / diagonal_[p]);
  }

  // Masks that do not wait for the sweep, and how many weights go in each block.
  void decide_before() {
    if (!options_.mask.empty()) {
      fixed_ = true;
      for (std::size_t i = 0; i < kept_.size(); ++i) {
        kept_[i] = options_.mask[i / columns_ * columns_ + factor_.order[i % columns_]];
      }
      return;
    }
    const SparsityPattern& pattern = options_.pattern;
    const std::size_t run = pattern.run == 0 ? columns_ : pattern.run;
    // Groups that a run cuts short lie anywhere: they are chosen before.
    const bool aligned = pattern.of_group() && run % pattern.group == 0;
    if (aligned) return;
    // By columns as they lie in the weight, where groups and blocks are what they are.
    std::vector<float> scores(kept_.size());
    for (std::size_t i = 0; i < scores.size(); ++i) {
      scores[i / columns_ * columns_ + factor_.order[i % columns_]] =
          score(i / columns_, i % columns_);
    }
    if (pattern.kind == SparsityPattern::Kind::kBlock) {
      for (float& s : scores) s = std::sqrt(s);
    }
    const std::vector<std::uint8_t> mask =
        choose_mask(scores, columns_, pattern, options_.scope, options_.sparsity);
    fixed_ = pattern.kind != SparsityPattern::Kind::kUnstructured;
    const std::size_t block = block_size();
    const std::size_t blocks = (columns_ + block - 1) / block;
    const bool by_row = options_.scope == SparsityScope::kRow;
    gone_.assign(blocks * (by_row ? rows_ : 1), 0);
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      const std::size_t r = i / columns_, p = i % columns_;
      const bool stays = mask[r * columns_ + factor_.order[p]] != 0;
      if (fixed_) kept_[i] = stays ? 1 : 0;
      if (!stays) ++gone_[(by_row ? r * blocks : 0) + p / block];
    }
  }

  void choose(std::size_t begin, std::size_t end) {
    const std::size_t width = end - begin;
    std::vector<float> scores(rows_ * width);
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t p = begin; p < end; ++p) scores[r * width + p - begin] = score(r, p);
    }
    std::vector<std::uint8_t> mask;
    if (options_.pattern.of_group()) {
      SparsityPattern here = options_.pattern;
      here.run = 0;
      mask = choose_mask(scores, width, here, options_.scope, 0);
    } else {
      const std::size_t block = block_size(), blocks = (columns_ + block - 1) / block;
      if (options_.scope == SparsityScope::kLayer) {
        mask = choose_mask(
            scores, width, {}, SparsityScope::kLayer,
            static_cast<double>(gone_[begin / block]) / static_cast<double>(scores.size()));
      } else {
        mask.resize(scores.size());
        for (std::size_t r = 0; r < rows_; ++r) {
          const auto row = choose_mask(
              std::span(scores).subspan(r * width, width), width, {}, SparsityScope::kRow,
              static_cast<double>(gone_[r * blocks + begin / block]) / static_cast<double>(width));
          std::ranges::copy(row, mask.begin() + static_cast<std::ptrdiff_t>(r * width));
        }
      }
    }
    for (std::size_t i = 0; i < mask.size(); ++i) {
      kept_[i / width * columns_ + begin + i % width] = mask[i];
    }
  }

  void sweep_row(std::size_t r, std::size_t begin, std::size_t end) {
    double* const row = work_.data() + r * columns_;
    for (std::size_t p = begin; p < end; ++p) {
      const double* const u = factor_.upper.data() + p * columns_;
      const double value = kept_[r * columns_ + p] == 0 ? 0 : on_grid(r, factor_.order[p], row[p]);
      const double error = (row[p] - value) / u[p];
      row[p] = value;
      errors_(as_index(r), as_index(p - begin)) = error;
      costs_[r] += error * error;
      if (error == 0) continue;
      for (std::size_t k = p + 1; k < end; ++k) row[k] -= error * u[k];
    }
  }

  double on_grid(std::size_t r, std::size_t column, double value) {
    const RoundingGrid* grid = options_.grid;
    if (grid == nullptr) return value;
    const std::size_t group = grid->group == 0 ? columns_ : grid->group;
    const std::size_t along = options_.place.empty() ? column : options_.place[column];
    const std::size_t place = r * ((columns_ + group - 1) / group) + along / group;
    const double scale = double{grid->scales[place]};
    const std::int32_t zero = grid->zero_points.empty() ? 0 : grid->zero_points[place];
    const double low = grid->codes.lo, high = grid->codes.hi;
    const double code = std::clamp(std::nearbyint(value / scale) + zero, low, high);
    if (!codes_.empty()) codes_[r * columns_ + column] = static_cast<std::int16_t>(code);
    return (code - zero) * scale;
  }

  std::span<float> weights_;
  const GramFactor& factor_;
  const SparseSweepOptions& options_;
  const Executor& executor_;
  std::span<std::uint8_t> mask_;
  std::span<std::int16_t> codes_;
  std::size_t columns_, rows_;
  std::vector<double> costs_;       // by row
  std::vector<double> diagonal_;    // U_jj^2
  std::vector<std::uint8_t> kept_;  // in the order of the factor
  std::vector<std::size_t> gone_;   // by block, or by row and block
  bool fixed_ = false;
  Rows work_, errors_;
};

}  // namespace

CrossGram::CrossGram(std::size_t columns)
    : columns_(columns), sums_(columns * columns), y_totals_(columns) {}

void CrossGram::add(std::span<const float> y, std::span<const float> x, const Executor& executor) {
  const std::size_t count = columns_ == 0 ? 0 : x.size() / columns_;
  const std::size_t tasks = (columns_ + kGramColumns - 1) / kGramColumns;
  executor.parallel_for(tasks, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t task = begin; task < end; ++task) {
      const std::size_t first = task * kGramColumns;
      const std::size_t width = std::min(kGramColumns, columns_ - first);
      for (std::size_t done = 0; done < count; done += kGramRows) {
        const std::size_t taken = std::min(kGramRows, count - done);
        const Eigen::Map<const FloatRows> left(y.data() + done * columns_, as_index(taken),
                                               as_index(columns_));
        const Eigen::Map<const FloatRows> right(x.data() + done * columns_, as_index(taken),
                                                as_index(columns_));
        const Eigen::MatrixXf product =
            left.transpose() * right.middleCols(as_index(first), as_index(width));
        for (std::size_t c = 0; c < width; ++c) {
          double* const column = sums_.data() + (first + c) * columns_;
          for (std::size_t r = 0; r < columns_; ++r) {
            column[r] += double{product(as_index(r), as_index(c))};
          }
        }
        for (std::size_t r = 0; r < taken; ++r) {
          const float* const row = y.data() + (done + r) * columns_ + first;
          for (std::size_t c = 0; c < width; ++c) y_totals_[first + c] += double{row[c]};
        }
      }
    }
  });
  rows_ += static_cast<std::int64_t>(count);
}

std::vector<double> CrossGram::moments() const {
  std::vector<double> all(sums_.size());
  const double share = rows_ > 0 ? 1 / static_cast<double>(rows_) : 0;
  for (std::size_t c = 0; c < columns_; ++c) {
    for (std::size_t r = 0; r < columns_; ++r)
      all[r * columns_ + c] = sums_[c * columns_ + r] * share;
  }
  return all;
}

std::vector<double> CrossGram::y_means() const {
  std::vector<double> means = y_totals_;
  for (double& mean : means) mean = rows_ > 0 ? mean / static_cast<double>(rows_) : 0;
  return means;
}

double sparse_sweep(std::span<float> weights, const GramFactor& factor,
                    const SparseSweepOptions& options, const Executor& executor,
                    std::span<std::uint8_t> mask, std::span<std::int16_t> codes) {
  return SparseSweep(weights, factor, options, executor, mask, codes).run();
}

void refit_kept(std::span<float> weights, std::span<const std::uint8_t> mask,
                std::span<const double> gram, std::span<const double> wanted, std::size_t columns,
                int rounds, const Executor& executor) {
  constexpr double kEnough = 1e-10;  // of the squared residual
  const std::size_t rows = columns == 0 ? 0 : weights.size() / columns;
  const Eigen::Map<const Rows> h = square_of(gram, columns);
  executor.parallel_for(rows, kRefitRows, [&](std::size_t begin, std::size_t end) {
    const Index count = as_index(end - begin);
    Rows v(count, as_index(columns)), kept(count, as_index(columns));
    for (std::size_t i = 0; i < (end - begin) * columns; ++i) {
      kept.data()[i] = mask[begin * columns + i] != 0 ? 1 : 0;
      v.data()[i] = double{weights[begin * columns + i]} * kept.data()[i];
    }
    const Eigen::Map<const Rows> b(wanted.data() + begin * columns, count, as_index(columns));
    const Eigen::RowVectorXd scale = h.diagonal().transpose().cwiseInverse();
    Rows residual = (b - v * h).cwiseProduct(kept);
    Rows turned = residual.array().rowwise() * scale.array();
    Rows direction = turned;
    Eigen::VectorXd energy = residual.cwiseProduct(turned).rowwise().sum();
    const Eigen::VectorXd first =
        (b.cwiseProduct(kept).array().square().rowwise() * scale.array()).rowwise().sum();
    for (int round = 0; round < rounds; ++round) {
      if ((energy.array() <= kEnough * first.array()).all()) break;
      const Rows product = (direction * h).cwiseProduct(kept);
      for (Index r = 0; r < count; ++r) {
        const double bend = direction.row(r).dot(product.row(r));
        // A row that is done stands still.
        const double step = bend > 0 && energy(r) > kEnough * first(r) ? energy(r) / bend : 0;
        if (step == 0) {
          direction.row(r).setZero();
          continue;
        }
        v.row(r) += step * direction.row(r);
        residual.row(r) -= step * product.row(r);
        turned.row(r) = residual.row(r).cwiseProduct(scale);
        const double next = residual.row(r).dot(turned.row(r));
        direction.row(r) = turned.row(r) + next / energy(r) * direction.row(r);
        energy(r) = next;
      }
    }
    for (std::size_t i = 0; i < (end - begin) * columns; ++i) {
      weights[begin * columns + i] = static_cast<float>(v.data()[i]);
    }
  });
}

std::vector<double> times_square(std::span<const float> weights, std::span<const double> square,
                                 std::size_t columns, const Executor& executor) {
  std::vector<double> out(weights.size());
  const std::size_t rows = columns == 0 ? 0 : weights.size() / columns;
  const Eigen::Map<const Rows> h = square_of(square, columns);
  executor.parallel_for(rows, kRowsOfTask, [&](std::size_t begin, std::size_t end) {
    const Eigen::Map<const FloatRows> w(weights.data() + begin * columns, as_index(end - begin),
                                        as_index(columns));
    Eigen::Map<Rows>(out.data() + begin * columns, as_index(end - begin), as_index(columns)) =
        w.cast<double>() * h;
  });
  return out;
}

std::vector<float> solve_rows(std::span<const double> wanted, const GramFactor& factor,
                              const Executor& executor) {
  const std::size_t columns = factor.columns;
  std::vector<float> out(wanted.size());
  const std::size_t rows = columns == 0 ? 0 : wanted.size() / columns;
  const auto upper = square_of(factor.upper, columns).triangularView<Eigen::Upper>();
  executor.parallel_for(rows, kRowsOfTask, [&](std::size_t begin, std::size_t end) {
    Rows b(as_index(end - begin), as_index(columns));
    for (std::size_t r = begin; r < end; ++r) {
      for (std::size_t p = 0; p < columns; ++p) {
        b(as_index(r - begin), as_index(p)) = wanted[r * columns + factor.order[p]];
      }
    }
    // b U^T U
    const Rows half = b * upper.transpose();
    const Rows solved = half * upper;
    for (std::size_t r = begin; r < end; ++r) {
      for (std::size_t p = 0; p < columns; ++p) {
        out[r * columns + factor.order[p]] =
            static_cast<float>(solved(as_index(r - begin), as_index(p)));
      }
    }
  });
  return out;
}

SparseOutputError output_error_of(std::span<const float> weights, std::span<const float> other,
                                  std::span<const double> shift, const SparseRowPairs& inputs,
                                  const Executor& executor) {
  const std::size_t columns = inputs.columns;
  SparseOutputError total;
  if (columns == 0 || inputs.x.empty()) return total;
  const std::size_t rows = weights.size() / columns, samples = inputs.x.size() / columns;
  const Eigen::Map<const FloatRows> y(inputs.y.data(), as_index(samples), as_index(columns));
  const Eigen::Map<const FloatRows> x(inputs.x.data(), as_index(samples), as_index(columns));
  std::vector<SparseOutputError> parts((rows + kRowsOfTask - 1) / kRowsOfTask);
  executor.parallel_for(rows, kRowsOfTask, [&](std::size_t begin, std::size_t end) {
    const Index count = as_index(end - begin);
    const Eigen::Map<const FloatRows> w(weights.data() + begin * columns, count, as_index(columns));
    const Eigen::Map<const FloatRows> v(other.data() + begin * columns, count, as_index(columns));
    const FloatRows wanted = y * w.transpose();
    const FloatRows made = x * v.transpose();
    SparseOutputError& part = parts[begin / kRowsOfTask];
    for (Index r = 0; r < count; ++r) {
      const double move = shift.empty() ? 0 : shift[begin + static_cast<std::size_t>(r)];
      double mean = 0;
      for (Index s = 0; s < wanted.rows(); ++s) mean += double{wanted(s, r)};
      mean /= static_cast<double>(wanted.rows());
      for (Index s = 0; s < wanted.rows(); ++s) {
        const double error = double{wanted(s, r)} - double{made(s, r)} - move;
        const double signal = double{wanted(s, r)} - mean;
        part.error += error * error;
        part.signal += signal * signal;
      }
    }
  });
  for (const SparseOutputError& part : parts) {
    total.error += part.error;
    total.signal += part.signal;
  }
  return total;
}

}  // namespace mcompress
