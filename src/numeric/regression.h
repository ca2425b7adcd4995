// Least squares from moments: what a product computed of all its inputs, computed of some.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace mcompress {

// What removing columns costs a product y = W x, others making up for it. With the covariance H of
// x and P the part of (H + damping * mean(diagonal) * I)^-1 that belongs to the columns B,
//   loss(B) = trace(W_B P^-1 W_B^T)
// (optimal brain surgeon; Hassibi and Stork, 1993, for blocks), as a share of trace(W H W^T).
// `covariance` [columns, columns], `weights` [rows, columns]. One number per block; empty when the
// matrix is not positive definite or the product has no energy.
std::optional<std::vector<double>> block_losses(
    std::span<const double> covariance, std::span<const float> weights, std::size_t columns,
    const std::vector<std::vector<std::uint32_t>>& blocks, double damping);

// Sums of y x^T and x x^T over rows that belong together.
class CrossMoments {
 public:
  CrossMoments(std::size_t outputs, std::size_t columns);
  // `targets` [n, outputs], `rows` [n, columns], finite.
  void add(std::span<const float> targets, std::span<const float> rows);
  void add(const CrossMoments& other);  // of the same sizes
  std::int64_t rows() const { return count_; }
  // |y - W x - b|^2 of the rows, as a share of |y|^2; 0 without energy. `bias` may be empty.
  double error(std::span<const float> weights, std::span<const float> bias) const;

  struct Fit {
    std::vector<float> weights;  // [outputs, columns]
    std::vector<float> bias;     // [outputs]; 0 without `with_bias`
    double error_before = 0;     // of the prior, as a share of the energy of the targets
    double error_after = 0;
  };
  // W, b that minimise |y - W x - b|^2 + damping * mean(diagonal of x x^T) * |W - prior|^2.
  // Without `with_bias` b is 0. Empty without rows or when nothing can be solved.
  std::optional<Fit> fit(std::span<const float> prior, std::span<const float> prior_bias,
                         bool with_bias, double damping) const;

 private:
  std::size_t outputs_, columns_;
  std::int64_t count_ = 0;
  std::vector<double> cross_, gram_, target_sums_, row_sums_;
  double energy_ = 0;
};

// y = W x + b for each row: [n, outputs]. `bias` may be empty.
std::vector<float> product_rows(std::span<const float> rows, std::span<const float> weights,
                                std::span<const float> bias, std::size_t columns,
                                std::size_t outputs);

}  // namespace mcompress
