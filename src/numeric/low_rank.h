// A matrix as the product of two thin ones.
//
// W [inputs, outputs] multiplies rows x. Of all L [inputs, r] and R [r, outputs], those with the
// least mean of |x W - x L R|^2 over the rows seen are found through H, the mean of x^T x: with
// H = C C^T and the singular value decomposition C^T W = U S V^T,
//   L = C^-T U_r,   R = U_r^T C^T W = S_r V_r^T,
// and what is lost is the sum of the squares of the other singular values. Without rows H is the
// unit matrix (Eckart and Young, 1936; with H: "SVD-LLM", Wang et al., 2024).
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace mcompress {

class LowRank {
 public:
  // `weight`: row by row, finite. `moments`: H, symmetric [inputs, inputs], or empty; its diagonal
  // grows by `damping` times its mean. Empty when H is not finite or not positive definite even
  // so, or W is all 0. Takes (min(inputs, outputs))^2 doubles and a few matrices like W.
  static std::optional<LowRank> of(std::span<const float> weight, std::size_t inputs,
                                   std::size_t outputs, std::span<const double> moments,
                                   double damping);
  LowRank(LowRank&&) noexcept;
  LowRank& operator=(LowRank&&) noexcept;
  ~LowRank();

  // The largest there is: min(inputs, outputs).
  std::size_t most() const;
  // What rank r loses, as a share of the mean of |x W|^2: losses()[r], from 1 at r = 0 down.
  std::span<const double> losses() const;
  struct Factors {
    std::vector<float> left;   // [inputs, r], row by row
    std::vector<float> right;  // [r, outputs]
  };
  // Column i of `left` and row i of `right` have the same norm. 0 < rank <= most().
  Factors factors(std::size_t rank) const;

 private:
  struct Parts;
  explicit LowRank(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace mcompress
