// Weights that are sparse and lie on a grid of few codes: what stays is rounded so that the codes
// make up for what went and for one another's rounding.
//
// Rows are [rows, columns] in the order of their Gram matrix H; grids lie in the order of the
// weight: column c is column place[c] of BlockRows (empty: the same), which says what block it is
// in. Zero is always a code: the zero point of its block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "numeric/block_quantize.h"
#include "numeric/sparse_rows.h"

namespace mcompress {

// For each block the grid that fits the rows best, squared errors weighted by `importance` (one
// number >= 0 per column, or empty), and codes to nearest. Zeros get the code of zero. Scales that
// float16 or bfloat16 do not hold become float32. Weights are finite, columns > 0.
BlockRows fit_codes(std::span<const float> weights, std::size_t columns,
                    std::span<const std::uint32_t> place, std::span<const double> importance,
                    const BlockFormat& format, const Executor& executor);

// sparse_sweep() with the grids of `rows`, whose codes it chooses: all that one weight loses by
// rounding or by going is made up for by those that follow. options.grid and .place are set here.
double sweep_codes(std::span<float> weights, const GramFactor& factor, SparseSweepOptions options,
                   std::span<const std::uint32_t> place, const Executor& executor,
                   std::span<std::uint8_t> mask, BlockRows& rows);

// Lowers the cost v H v^T - 2 v b^T of each row v that the codes stand for (least squares on the
// outputs T x when b = T H): single codes of what `mask` keeps move to where the cost is least,
// then scales do, and again, `rounds` times or until nothing moves. No step raises the cost. `gram`
// has a positive diagonal. The mask holds on: what is outside has the code of zero.
void descend_codes(std::span<const std::uint8_t> mask, std::span<const double> gram,
                   std::span<const double> wanted, std::span<const std::uint32_t> place, int rounds,
                   const Executor& executor, BlockRows& rows);

// (code - zero point) * scale, in the order of the Gram matrix.
void restore_codes(const BlockRows& rows, std::span<const std::uint32_t> place,
                   std::span<float> weights);

}  // namespace mcompress
