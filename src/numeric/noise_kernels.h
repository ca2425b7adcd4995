// Hot loops that judge how tensors could be rounded, as in kernels.h: the same result on every
// instruction set.
#pragma once

#include <cstddef>

namespace mcompress::kernel {

// y = log2(x), digit by digit as fixed_log2() (fixed_math.h) finds it, of positive normal numbers.
void log2_each(const double* x, std::size_t n, double* y);

// Rows of channels, kRowTile of them side by side: value c of row r is
// x[(r / kRowTile * channels + c) * kRowTile + r % kRowTile].
inline constexpr std::size_t kRowTile = 16;

// How rows are scaled, rounded to codes of a grid and judged.
struct RowRounding {
  const float* factors = nullptr;                    // by channel, what x is multiplied by
  const float* weights = nullptr;                    // by channel, of a squared error
  float step = 1.0F, lowest = 0.0F, highest = 0.0F;  // codes from lowest to highest, below 2^22
};
// errors[r] = sum over c, in order, of weights[c] * (rounded(y) - y)^2 with y = x * factors[c], in
// float. `tiles` times kRowTile rows; all values finite.
void rounded_row_errors(const float* x, std::size_t tiles, std::size_t channels,
                        const RowRounding& rounding, float* errors);

// The largest a[i] * b[i], 0 where none is larger.
double largest_product(const float* a, const double* b, std::size_t n);

}  // namespace mcompress::kernel
