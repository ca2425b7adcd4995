// Resizing of 8-bit images with antialiasing.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace mcompress {

// Support in source pixels when enlarging: 1, 2 and 3. When shrinking by s the filter is s times as
// wide, so that every source pixel counts.
enum class ResampleFilter : std::uint8_t { kBilinear, kBicubic, kLanczos };

struct PixelGrid {
  std::int64_t width = 0, height = 0;
  std::int64_t channels = 0;  // interleaved
};

// Two passes, rows first, each rounded to 8 bits; weights are normalised in double and rounded to
// 22 bits. These are the
// numbers of `Image.resize` of Pillow 11, to the bit (later ones may begin with columns). Bicubic
// is Keys' kernel with a = -1/2, Lanczos has three lobes. `pixels` holds width * height * channels
// values, all sizes are at least 1.
std::vector<std::uint8_t> resample(const std::vector<std::uint8_t>& pixels, const PixelGrid& from,
                                   std::int64_t width, std::int64_t height, ResampleFilter filter);

}  // namespace mcompress
