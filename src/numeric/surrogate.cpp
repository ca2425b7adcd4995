#include "numeric/surrogate.h"

#include <Eigen/Dense>
#include <cmath>
#include <numbers>

namespace mcompress {

struct LinearSurrogate::State {
  Eigen::VectorXd mean;
  Eigen::MatrixXd covariance;
  double noise = 1;
};

LinearSurrogate::LinearSurrogate(std::vector<double> prior_mean, std::vector<double> prior_variance,
                                 double noise_variance)
    : state_(std::make_unique<State>()) {
  const auto n = static_cast<Eigen::Index>(prior_mean.size());
  state_->mean = Eigen::Map<const Eigen::VectorXd>(prior_mean.data(), n);
  state_->covariance =
      Eigen::Map<const Eigen::VectorXd>(prior_variance.data(), n).asDiagonal().toDenseMatrix();
  state_->noise = noise_variance;
}
LinearSurrogate::~LinearSurrogate() = default;
LinearSurrogate::LinearSurrogate(LinearSurrogate&&) noexcept = default;
LinearSurrogate& LinearSurrogate::operator=(LinearSurrogate&&) noexcept = default;

// One observation at a time, by the formula of Sherman and Morrison:
//   k = S x / (x' S x + noise),  mean += k (y - x' mean),  S -= k (S x)'.
void LinearSurrogate::observe(std::span<const double> x, double y) {
  const Eigen::Map<const Eigen::VectorXd> row(x.data(), static_cast<Eigen::Index>(x.size()));
  const Eigen::VectorXd spread = state_->covariance * row;
  const Eigen::VectorXd gain = spread / (row.dot(spread) + state_->noise);
  state_->mean += gain * (y - row.dot(state_->mean));
  state_->covariance -= gain * spread.transpose();
}

LinearSurrogate::Belief LinearSurrogate::predict(std::span<const double> x) const {
  const Eigen::Map<const Eigen::VectorXd> row(x.data(), static_cast<Eigen::Index>(x.size()));
  const double variance = row.dot(state_->covariance * row);
  return {row.dot(state_->mean), std::sqrt(std::max(variance, 0.0))};
}

std::vector<double> LinearSurrogate::weights() const {
  return {state_->mean.data(), state_->mean.data() + state_->mean.size()};
}

double expected_improvement(double mean, double deviation, double best) {
  const double gain = best - mean;
  if (!(deviation > 0)) return std::max(gain, 0.0);
  const double z = gain / deviation;
  const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi);
  const double below = 0.5 * std::erfc(-z / std::numbers::sqrt2);
  return gain * below + deviation * density;
}

}  // namespace mcompress
