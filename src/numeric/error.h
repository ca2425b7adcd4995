// Streaming comparison of a reference x with an approximation y.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "numeric/kernels.h"

namespace mcompress {

// Over the pairs in which both values are finite.
struct ErrorStats {
  std::uint64_t count = 0;
  // Pairs with a NaN or an infinity that agree (both NaN, or the same infinity), and that do not.
  std::uint64_t matching_non_finite = 0, differing_non_finite = 0;
  double signal = 0.0;         // sum of x^2
  double approx_energy = 0.0;  // sum of y^2
  double product = 0.0;        // sum of x y
  double noise = 0.0;          // sum of (y - x)^2
  double error_sum = 0.0;      // sum of y - x
  double max_abs_error = 0.0;

  // 10 log10(signal / noise) in dB: +inf without noise, -inf with noise but no signal.
  double sqnr_db() const;
  // In [-1, 1]; 1 when both are all zero, 0 when one of them is.
  double cosine() const;
  double mean_error() const;
  double mean_squared_error() const;
};

// Element i of the whole stream belongs to lane i % 16; lanes are added in order at the end. The
// result does not depend on chunk sizes or on the instruction set. `merge` is deterministic too,
// but rounds differently from one pass over both parts: merge in a fixed order.
class ErrorAccumulator {
 public:
  // Both spans have the same length.
  void add(std::span<const float> reference, std::span<const float> approximation);
  void merge(const ErrorAccumulator& other);
  ErrorStats stats() const;

 private:
  void add_scalar(const float* x, const float* y, std::size_t n);

  kernel::ErrorLanes lanes_;
  std::uint64_t position_ = 0;  // elements seen, skipped ones included
  std::uint64_t matching_ = 0, differing_ = 0;
};

}  // namespace mcompress
