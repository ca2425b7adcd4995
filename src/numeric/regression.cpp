#include "numeric/regression.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>

namespace mcompress {
namespace {

using Index = Eigen::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Index as_index(std::size_t n) { return static_cast<Index>(n); }

Eigen::Map<const FloatRows> view(std::span<const float> values, std::size_t columns) {
  return {values.data(), as_index(columns == 0 ? 0 : values.size() / columns), as_index(columns)};
}

}  // namespace

std::optional<std::vector<double>> block_losses(
    std::span<const double> covariance, std::span<const float> weights, std::size_t columns,
    const std::vector<std::vector<std::uint32_t>>& blocks, double damping) {
  Rows h = Eigen::Map<const Rows>(covariance.data(), as_index(columns), as_index(columns));
  const Rows w = view(weights, columns).cast<double>();
  const double energy = ((w * h).array() * w.array()).sum();
  const double mean = h.trace() / static_cast<double>(columns);
  if (!(energy > 0) || !std::isfinite(energy) || !(mean > 0)) return std::nullopt;
  h.diagonal().array() += damping * mean;
  const Eigen::LLT<Rows> factor(h);
  if (factor.info() != Eigen::Success) return std::nullopt;
  const Rows inverse = factor.solve(Rows::Identity(as_index(columns), as_index(columns)));
  std::vector<double> losses;
  losses.reserve(blocks.size());
  for (const std::vector<std::uint32_t>& block : blocks) {
    const Index size = as_index(block.size());
    Rows part(size, size), rows(size, w.rows());
    for (Index i = 0; i < size; ++i) {
      const auto a = as_index(block[static_cast<std::size_t>(i)]);
      rows.row(i) = w.col(a).transpose();
      for (Index j = 0; j < size; ++j) {
        part(i, j) = inverse(a, as_index(block[static_cast<std::size_t>(j)]));
      }
    }
    const Eigen::LLT<Rows> small(part);
    if (small.info() != Eigen::Success) return std::nullopt;
    losses.push_back((small.solve(rows).array() * rows.array()).sum() / energy);
  }
  return losses;
}

CrossMoments::CrossMoments(std::size_t outputs, std::size_t columns)
    : outputs_(outputs),
      columns_(columns),
      cross_(outputs * columns),
      gram_(columns * columns),
      target_sums_(outputs),
      row_sums_(columns) {}

void CrossMoments::add(std::span<const float> targets, std::span<const float> rows) {
  constexpr std::size_t kRows = 512;  // summed in float, these sums in double
  Eigen::Map<Rows> cross(cross_.data(), as_index(outputs_), as_index(columns_));
  Eigen::Map<Rows> gram(gram_.data(), as_index(columns_), as_index(columns_));
  Eigen::Map<Eigen::VectorXd> target_sums(target_sums_.data(), as_index(outputs_));
  Eigen::Map<Eigen::VectorXd> row_sums(row_sums_.data(), as_index(columns_));
  const std::size_t total = rows.size() / columns_;
  for (std::size_t first = 0; first < total; first += kRows) {
    const std::size_t n = std::min(kRows, total - first);
    const auto y = view(targets.subspan(first * outputs_, n * outputs_), outputs_);
    const auto x = view(rows.subspan(first * columns_, n * columns_), columns_);
    const FloatRows yx = y.transpose() * x, xx = x.transpose() * x;
    cross += yx.cast<double>();
    gram += xx.cast<double>();
    target_sums += y.cast<double>().colwise().sum().transpose();
    row_sums += x.cast<double>().colwise().sum().transpose();
    energy_ += y.cast<double>().squaredNorm();
  }
  count_ += static_cast<std::int64_t>(total);
}

void CrossMoments::add(const CrossMoments& other) {
  const auto sum = [](std::vector<double>& to, const std::vector<double>& from) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  };
  sum(cross_, other.cross_), sum(gram_, other.gram_);
  sum(target_sums_, other.target_sums_), sum(row_sums_, other.row_sums_);
  count_ += other.count_;
  energy_ += other.energy_;
}

double CrossMoments::error(std::span<const float> weights, std::span<const float> bias) const {
  if (!(energy_ > 0)) return 0;
  const Rows w = view(weights, columns_).cast<double>();
  const Eigen::Map<const Rows> cross(cross_.data(), as_index(outputs_), as_index(columns_));
  const Eigen::Map<const Rows> gram(gram_.data(), as_index(columns_), as_index(columns_));
  double sum =
      energy_ - 2 * (w.array() * cross.array()).sum() + ((w * gram).array() * w.array()).sum();
  if (!bias.empty()) {
    const Eigen::VectorXd b =
        Eigen::Map<const Eigen::VectorXf>(bias.data(), as_index(outputs_)).cast<double>();
    const Eigen::Map<const Eigen::VectorXd> y(target_sums_.data(), as_index(outputs_));
    const Eigen::Map<const Eigen::VectorXd> x(row_sums_.data(), as_index(columns_));
    sum += static_cast<double>(count_) * b.squaredNorm() + 2 * b.dot(w * x) - 2 * b.dot(y);
  }
  return sum / energy_;
}

std::optional<CrossMoments::Fit> CrossMoments::fit(std::span<const float> prior,
                                                   std::span<const float> prior_bias,
                                                   bool with_bias, double damping) const {
  if (count_ == 0) return std::nullopt;
  const auto n = static_cast<double>(count_);
  Rows cross = Eigen::Map<const Rows>(cross_.data(), as_index(outputs_), as_index(columns_)) / n;
  Rows gram = Eigen::Map<const Rows>(gram_.data(), as_index(columns_), as_index(columns_)) / n;
  const Eigen::VectorXd y =
      Eigen::Map<const Eigen::VectorXd>(target_sums_.data(), as_index(outputs_)) / n;
  const Eigen::VectorXd x =
      Eigen::Map<const Eigen::VectorXd>(row_sums_.data(), as_index(columns_)) / n;
  const Rows before = view(prior, columns_).cast<double>();
  // |y - W x - b|^2 in the mean, out of the moments.
  const double energy = energy_ / n;
  const auto error = [&](const Rows& w, const Eigen::VectorXd& b) {
    const double square = ((w * gram).array() * w.array()).sum();
    const double against = (w.array() * cross.array()).sum();
    const double shift = b.squaredNorm() + 2 * b.dot(w * x) - 2 * b.dot(y);
    return energy - 2 * against + square + shift;
  };
  Eigen::VectorXd old_bias = Eigen::VectorXd::Zero(as_index(outputs_));
  for (std::size_t i = 0; i < prior_bias.size(); ++i) {
    old_bias(as_index(i)) = static_cast<double>(prior_bias[i]);
  }
  const double error_before = error(before, old_bias);
  Rows h = gram, c = cross;
  if (with_bias) {
    h -= x * x.transpose();
    c -= y * x.transpose();
  }
  const double mean = h.trace() / static_cast<double>(columns_);
  if (!(mean > 0) || !std::isfinite(mean)) return std::nullopt;
  Rows damped = h;
  damped.diagonal().array() += damping * mean;
  const Eigen::LLT<Rows> factor(damped);
  if (factor.info() != Eigen::Success) return std::nullopt;
  // (W - prior)(H + damping) = C - prior H.
  const Rows right = c - before * h;
  const Rows step = factor.solve(right.transpose());
  const Rows after = before + step.transpose();
  Eigen::VectorXd bias = Eigen::VectorXd::Zero(as_index(outputs_));
  if (with_bias) bias = y - after * x;
  if (!after.allFinite() || !bias.allFinite()) return std::nullopt;
  Fit fit;
  fit.weights.resize(outputs_ * columns_);
  Eigen::Map<FloatRows>(fit.weights.data(), as_index(outputs_), as_index(columns_)) =
      after.cast<float>();
  fit.bias.resize(outputs_);
  for (std::size_t i = 0; i < outputs_; ++i) fit.bias[i] = static_cast<float>(bias(as_index(i)));
  fit.error_before = energy > 0 ? error_before / energy : 0;
  fit.error_after = energy > 0 ? error(after, bias) / energy : 0;
  return fit;
}

std::vector<float> product_rows(std::span<const float> rows, std::span<const float> weights,
                                std::span<const float> bias, std::size_t columns,
                                std::size_t outputs) {
  const auto x = view(rows, columns);
  const auto w = view(weights, columns);
  std::vector<float> out(static_cast<std::size_t>(x.rows()) * outputs);
  Eigen::Map<FloatRows> y(out.data(), x.rows(), as_index(outputs));
  y.noalias() = x * w.transpose();
  if (!bias.empty()) {
    y.rowwise() += Eigen::Map<const Eigen::RowVectorXf>(bias.data(), as_index(outputs));
  }
  return out;
}

}  // namespace mcompress
