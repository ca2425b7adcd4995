#include "numeric/low_rank.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <utility>

namespace mcompress {
namespace {

using Index = Eigen::Index;
using Matrix = Eigen::MatrixXd;
using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Index as_index(std::size_t n) { return static_cast<Index>(n); }

}  // namespace

struct LowRank::Parts {
  Matrix left, right;  // [inputs, most], [most, outputs]: leading ones first
  std::vector<double> losses;
};

LowRank::LowRank(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
LowRank::LowRank(LowRank&&) noexcept = default;
LowRank& LowRank::operator=(LowRank&&) noexcept = default;
LowRank::~LowRank() = default;

std::optional<LowRank> LowRank::of(std::span<const float> weight, std::size_t inputs,
                                   std::size_t outputs, std::span<const double> moments,
                                   double damping) {
  const Matrix w = Eigen::Map<const FloatRows>(weight.data(), as_index(inputs), as_index(outputs))
                       .cast<double>();
  Matrix h;
  if (!moments.empty()) {
    h = Eigen::Map<const Matrix>(moments.data(), as_index(inputs), as_index(inputs));
    const double mean = h.diagonal().mean();
    if (!std::isfinite(mean) || mean <= 0) return std::nullopt;
    h.diagonal().array() += damping * mean;
  }
  auto parts = std::make_unique<Parts>();
  const bool wide = inputs <= outputs;
  Matrix turned;  // C^T W, where the Gram matrix of its rows is the smaller one
  Eigen::LLT<Matrix> factor;
  if (wide) {
    turned = w;
    if (h.size() > 0) {
      factor.compute(h);
      if (factor.info() != Eigen::Success) return std::nullopt;
      turned = factor.matrixU() * w;
    }
  }
  const Matrix gram = wide           ? Matrix(turned * turned.transpose())
                      : h.size() > 0 ? Matrix(w.transpose() * h * w)
                                     : Matrix(w.transpose() * w);
  if (!gram.allFinite()) return std::nullopt;
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(gram);
  if (solver.info() != Eigen::Success) return std::nullopt;
  const Index most = gram.rows();
  const Matrix leading = solver.eigenvectors().rowwise().reverse();
  const Eigen::VectorXd energies = solver.eigenvalues().reverse().cwiseMax(0);
  const double total = energies.sum();
  if (!(total > 0)) return std::nullopt;
  // From the small ones up: nothing is lost in the sum of the large ones.
  parts->losses.assign(static_cast<std::size_t>(most) + 1, 0);
  double lost = 0;
  for (Index r = most; r-- > 0;) {
    lost += energies[r];
    parts->losses[static_cast<std::size_t>(r)] = lost / total;
  }
  if (wide) {
    parts->left = leading;
    if (h.size() > 0) factor.matrixU().solveInPlace(parts->left);
    parts->right = leading.transpose() * turned;
  } else {
    parts->left = w * leading;
    parts->right = leading.transpose();
  }
  for (Index r = 0; r < most; ++r) {
    const double left = parts->left.col(r).norm(), right = parts->right.row(r).norm();
    if (!(left > 0) || !(right > 0)) continue;
    const double even = std::sqrt(right / left);
    parts->left.col(r) *= even;
    parts->right.row(r) /= even;
  }
  if (!parts->left.allFinite() || !parts->right.allFinite()) return std::nullopt;
  return LowRank(std::move(parts));
}

std::size_t LowRank::most() const { return parts_->losses.size() - 1; }

std::span<const double> LowRank::losses() const { return parts_->losses; }

LowRank::Factors LowRank::factors(std::size_t rank) const {
  const auto copy = [](const Matrix& matrix) {
    std::vector<float> out(static_cast<std::size_t>(matrix.size()));
    Eigen::Map<FloatRows>(out.data(), matrix.rows(), matrix.cols()) = matrix.cast<float>();
    return out;
  };
  return {copy(parts_->left.leftCols(as_index(rank))), copy(parts_->right.topRows(as_index(rank)))};
}

}  // namespace mcompress
