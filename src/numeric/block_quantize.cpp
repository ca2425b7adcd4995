#include "numeric/block_quantize.h"

#include <Eigen/Core>
#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>

#include "numeric/block_kernels.h"

namespace mcompress {
namespace {

using kernel::kTileRows;

// Below the smallest normal number of float16 steps get coarse.
constexpr float kLeastHalf = 6.103515625e-05F, kLargestHalf = 65504;

// Grids for kSearch. Few bits gain from clipping much of the range, eight from next to nothing.
kernel::BlockTrials trials_for(const BlockFormat& format, BlockRounding how) {
  kernel::BlockTrials trials;
  trials.asymmetric = format.asymmetric;
  trials.top = static_cast<float>(format.top());
  if (how != BlockRounding::kSearch) {
    trials.refits = 0;
    return trials;
  }
  const float lowest = format.bits == 2 ? 0.4F : format.bits == 4 ? 0.62F : 0.97F;
  // The code that has no counterpart makes room for a slightly finer symmetric grid, and a coarser
  // one may hit the weights better.
  const float highest = format.bits == 8 ? 1.0F : 1.05F;
  const std::size_t ratios = format.bits == 8 ? 3 : 14;
  trials.count = 0;
  for (std::size_t i = 0; i < ratios; ++i) {
    const float ratio =
        highest - (highest - lowest) * static_cast<float>(i) / static_cast<float>(ratios - 1);
    for (const bool above : {false, true}) {
      if (above && !format.asymmetric) break;
      trials.ratio[trials.count] = ratio;
      trials.zero_above[trials.count++] = above;
    }
  }
  return trials;
}

// What a grid of the whole range needs: the fitted scale is not that of the range.
void full_range(const float* x, std::size_t n, const kernel::BlockTrials& trials,
                kernel::BlockGrid& grid) {
  const float middle = (trials.top + 1) / 2;
  for (std::size_t r = 0; r < kTileRows; ++r) {
    float lo = 0, hi = 0;
    for (std::size_t i = 0; i < n; ++i) {
      lo = std::min(lo, x[i * kTileRows + r]);
      hi = std::max(hi, x[i * kTileRows + r]);
    }
    const float width = trials.asymmetric ? hi / 2 - lo / 2 : std::max(hi, -lo);
    float scale = width * (trials.asymmetric ? 2 / trials.top : 1 / std::max(middle - 1, 1.0F));
    if (width == 0) scale = 1;
    scale = std::clamp(scale, FLT_MIN, FLT_MAX / 512);
    grid.scale[r] = scale;
    grid.zero[r] =
        trials.asymmetric ? std::clamp(std::nearbyint(-lo / scale), 0.0F, trials.top) : middle;
  }
}

}  // namespace

double BlockFormat::bits_per_weight(std::size_t columns) const {
  if (columns == 0) return bits;
  const double blocks = static_cast<double>(blocks_of(columns)) / static_cast<double>(columns);
  const double scale = scales == DataType::kFloat ? 32 : 16;
  return bits + blocks * (scale + (asymmetric ? bits : 0));
}

double BlockRows::sqnr_db() const {
  constexpr double kExact = 200;
  if (noise <= 0 || signal <= 0) return kExact;
  return std::min(kExact, 10 * std::log10(signal / noise));
}

bool fit_scale(float scale, DataType type, float& fitted) {
  fitted = scale;
  if (type == DataType::kFloat16) {
    fitted = static_cast<float>(Eigen::half(std::clamp(scale, kLeastHalf, kLargestHalf)));
    return scale >= kLeastHalf && scale <= kLargestHalf;
  }
  if (type == DataType::kBfloat16) fitted = static_cast<float>(Eigen::bfloat16(scale));
  return std::isfinite(fitted);
}

bool at_limit(float fitted, DataType type) {
  return type == DataType::kFloat16 && (fitted <= kLeastHalf || fitted >= kLargestHalf);
}

BlockRows make_block_rows(std::size_t rows, std::size_t columns, const BlockFormat& format) {
  BlockRows made;
  made.rows = rows;
  made.columns = columns;
  made.format = format;
  const std::size_t blocks = format.blocks_of(columns);
  made.codes.resize(rows * columns);
  made.scales.resize(rows * blocks);
  if (format.asymmetric) made.zero_points.resize(rows * blocks);
  return made;
}

BlockEnergy round_tile(std::span<const float> tile, std::span<const float> importance,
                       BlockRounding how, std::size_t first, std::size_t count, BlockRows& out) {
  assert(tile.size() == out.columns * kTileRows && count <= kTileRows);
  assert(importance.empty() || importance.size() == out.columns);
  const BlockFormat& format = out.format;
  const std::size_t width = format.width(out.columns), blocks = format.blocks_of(out.columns);
  const kernel::BlockTrials trials = trials_for(format, how);
  std::vector<std::uint8_t> codes(std::min(width, out.columns) * kTileRows);
  BlockEnergy energy;
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t start = b * width, n = std::min(width, out.columns - start);
    const float* const x = tile.data() + start * kTileRows;
    kernel::BlockGrid grid;
    if (how == BlockRounding::kSearch) {
      kernel::search_block(x, importance.empty() ? nullptr : importance.data() + start, n, trials,
                           grid);
    } else {
      full_range(x, n, trials, grid);
      if (how == BlockRounding::kHalfQuadratic) {
        kernel::half_quadratic_block(x, n, trials, grid);
      }
    }
    for (float& scale : grid.scale) fit_scale(scale, format.scales, scale);
    kernel::BlockErrors errors;
    kernel::round_block(x, n, grid, trials.top, codes.data(), errors);
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t row = first + r;
      std::uint8_t* const to = out.codes.data() + row * out.columns + start;
      for (std::size_t i = 0; i < n; ++i) to[i] = codes[i * kTileRows + r];
      out.scales[row * blocks + b] = grid.scale[r];
      if (format.asymmetric) {
        out.zero_points[row * blocks + b] = static_cast<std::uint8_t>(grid.zero[r]);
      }
      energy.signal += static_cast<double>(errors.signal[r]);
      energy.noise += static_cast<double>(errors.noise[r]);
    }
  }
  return energy;
}

void restore_row(const BlockRows& rows, std::size_t row, std::span<float> out) {
  assert(out.size() == rows.columns);
  const std::size_t blocks = rows.format.blocks_of(rows.columns);
  const std::size_t width = rows.format.width(rows.columns);
  for (std::size_t k = 0; k < rows.columns; ++k) {
    const std::size_t block = row * blocks + k / width;
    const int zero = rows.zero_points.empty() ? rows.format.middle() : int{rows.zero_points[block]};
    out[k] =
        static_cast<float>(int{rows.codes[row * rows.columns + k]} - zero) * rows.scales[block];
  }
}

void pack_row_by_blocks(const BlockRows& rows, std::size_t row, std::span<std::byte> out) {
  const auto bits = static_cast<std::size_t>(rows.format.bits);
  const std::size_t per_byte = 8 / bits, width = rows.format.width(rows.columns);
  const std::size_t blocks = rows.format.blocks_of(rows.columns);
  assert(out.size() <= blocks * width * bits / 8);
  const std::uint8_t* const codes = rows.codes.data() + row * rows.columns;
  for (std::size_t i = 0; i < out.size(); ++i) {
    unsigned packed = 0;
    for (std::size_t part = 0; part < per_byte; ++part) {
      const std::size_t k = i * per_byte + part;
      unsigned code = 0;
      if (k < rows.columns) {
        code = codes[k];
      } else {
        code = rows.zero_points.empty() ? static_cast<unsigned>(rows.format.middle())
                                        : rows.zero_points[row * blocks + k / width];
      }
      packed |= code << (part * bits);
    }
    out[i] = static_cast<std::byte>(packed);
  }
}

void pack_zero_points(const BlockRows& rows, std::size_t row, std::span<std::byte> out) {
  const auto bits = static_cast<std::size_t>(rows.format.bits);
  const std::size_t per_byte = 8 / bits, blocks = rows.format.blocks_of(rows.columns);
  assert(out.size() == (blocks + per_byte - 1) / per_byte);
  for (std::size_t i = 0; i < out.size(); ++i) {
    unsigned packed = 0;
    for (std::size_t part = 0; part < per_byte && i * per_byte + part < blocks; ++part) {
      const unsigned zero = rows.zero_points.empty()
                                ? static_cast<unsigned>(rows.format.middle())
                                : rows.zero_points[row * blocks + i * per_byte + part];
      packed |= zero << (part * bits);
    }
    out[i] = static_cast<std::byte>(packed);
  }
}

}  // namespace mcompress
