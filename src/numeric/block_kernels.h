// The inner loops of block_quantize.h, compiled for every instruction set Highway knows here. A
// tile holds one block of 16 rows, element by element: x[i * 16 + row]. Rows are lanes and lanes
// never meet, so the result is the same on every instruction set.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace mcompress::kernel {

inline constexpr std::size_t kTileRows = 16;

// Grids that are tried for a block. Asymmetric: scale = ratio * (hi - lo) / top with the zero point
// below or above -lo / scale; symmetric: scale = ratio * absmax / (middle - 1), zero point at the
// middle, (top + 1) / 2. Codes are 0 to top.
struct BlockTrials {
  static constexpr std::size_t kMost = 32;
  std::size_t count = 1;
  std::array<float, kMost> ratio{1.0F};
  std::array<bool, kMost> zero_above{};
  bool asymmetric = true;
  float top = 15;
  int refits = 2;  // rounds of rounding at the fitted scale and fitting again
};

struct BlockGrid {
  alignas(64) std::array<float, kTileRows> scale{}, zero{};
};

// For each row the grid with the least sum h (x - s q)^2, its scale fitted to its codes q:
//   s = A / B,  A = sum h x q,  B = sum h q^2,  error = sum h x^2 - A^2 / B.
// All of x finite, all of h (n numbers, or null: 1) finite and 0 or more. A row of zeros gets scale
// 1. Scales are finite, normal and above 0.
void search_block(const float* x, const float* h, std::size_t n, const BlockTrials& trials,
                  BlockGrid& grid);

// codes[i * 16 + row] = clamp(round_half_even(x / scale) + zero, 0, top), and the sums over the
// block of x^2 and of the squared errors, in float.
struct BlockErrors {
  alignas(64) std::array<float, kTileRows> signal{}, noise{};
};
void round_block(const float* x, std::size_t n, const BlockGrid& grid, float top,
                 std::uint8_t* codes, BlockErrors& errors);

// Half-quadratic quantization (Badri and Shaji, 2023) with the norm exponent 1/2: few large errors
// are left rather than many middling ones. From a grid of the range, 20 times, in steps of the
// grid:
//   e = shrink(x / s - (q - z)),  u = x / s - e,  z = round(mean(q - u)),
//   s = s * sum u (q - z) / sum (q - z)^2,  shrink(d) = sign(d) max(|d| - 1 / (beta sqrt|d|), 0).
// Where the paper keeps zero points that are no whole numbers and the scale of the range, integer
// kernels want whole ones, and the scale takes up the rest.
void half_quadratic_block(const float* x, std::size_t n, const BlockTrials& trials,
                          BlockGrid& grid);

}  // namespace mcompress::kernel
