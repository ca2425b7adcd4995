// Rounding weights to 2, 4 or 8 bits, block by block along the axis that is summed over.
//
// A row is what one output channel multiplies: K weights, of which `block` neighbours share a scale
// and a zero point: weight ~ (code - zero point) * scale, codes 0 to 2^bits - 1. Symmetric formats
// have the zero point 2^(bits - 1) everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mcompress/dtype.h"

namespace mcompress {

struct BlockFormat {
  int bits = 4;            // 2, 4 or 8
  std::size_t block = 32;  // weights that share a scale; 0: those of a whole row
  bool asymmetric = true;
  DataType scales = DataType::kFloat16;  // what scales are rounded to: float32, float16, bfloat16

  std::size_t blocks_of(std::size_t columns) const {
    return block == 0 ? 1 : (columns + block - 1) / block;
  }
  std::size_t width(std::size_t columns) const { return block == 0 ? columns : block; }
  int top() const { return (1 << bits) - 1; }
  int middle() const { return 1 << (bits - 1); }
  // Stored bits per weight, scales and zero points included.
  double bits_per_weight(std::size_t columns) const;
  bool operator==(const BlockFormat&) const = default;
};

enum class BlockRounding : std::uint8_t {
  kRange,          // scales from the range of the block alone
  kSearch,         // of several grids the one with the least (weighted) squared error
  kHalfQuadratic,  // HQQ: from kRange by half-quadratic splitting, see half_quadratic_block()
};

// Rows of a weight in few bits.
struct BlockRows {
  std::size_t rows = 0, columns = 0;
  BlockFormat format;
  std::vector<std::uint8_t> codes;        // [rows, columns]
  std::vector<float> scales;              // [rows, blocks], exact in format.scales
  std::vector<std::uint8_t> zero_points;  // [rows, blocks]; empty: symmetric
  double signal = 0, noise = 0;           // sums of w^2 and of (w - w^)^2
  double sqnr_db() const;                 // 200 without noise
};

// Rounds up to 16 rows: tile[k * 16 + r] is weight k of row r; what stands in rows from `count` on
// has to be finite and is not looked at otherwise. `importance`: one number >= 0 for each column
// (mean of x^2 over the inputs that meet it), or empty. Writes rows first ... first + count - 1 of
// `out`, whose vectors have their sizes already; adds to nothing but these rows. Returns their
// signal and noise.
struct BlockEnergy {
  double signal = 0, noise = 0;
};
BlockEnergy round_tile(std::span<const float> tile, std::span<const float> importance,
                       BlockRounding how, std::size_t first, std::size_t count, BlockRows& out);

// Vectors of the right sizes, codes 0.
BlockRows make_block_rows(std::size_t rows, std::size_t columns, const BlockFormat& format);

// One row back to float32, as the operators compute it: (code - zero point) * scale.
void restore_row(const BlockRows& rows, std::size_t row, std::span<float> out);

// A scale as its storage type keeps it, never 0: the smallest normal number at least. False: it
// does not fit (float16 ends at 65504).
bool fit_scale(float scale, DataType type, float& fitted);
// Whether a fitted scale lies at an end of its type, and stands for one beyond it perhaps.
bool at_limit(float fitted, DataType type);

// ---- as operators want their codes

// Codes of one row, `bits` each, least significant first, every block filled up with its zero point
// to `block` codes: what com.microsoft:MatMulNBits reads. out holds blocks * width * bits / 8
// bytes, for a width of a whole number of bytes, or the first ones of these.
void pack_row_by_blocks(const BlockRows& rows, std::size_t row, std::span<std::byte> out);
// Zero points of one row: ceil(blocks * bits / 8) bytes, filled up with 0.
void pack_zero_points(const BlockRows& rows, std::size_t row, std::span<std::byte> out);

}  // namespace mcompress
