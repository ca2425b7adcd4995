// Pixels of JPEG, PNG and BMP files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/status.h"

namespace mcompress {

// 8 bits per channel, rows from top to bottom, channels interleaved.
struct PixelImage {
  std::int64_t width = 0, height = 0;
  int channels = 0;  // 1: gray, 3: red, green, blue
  std::vector<std::uint8_t> pixels;
};

inline constexpr std::uint64_t kMaxImageFileBytes = 256 << 20;
inline constexpr std::int64_t kMaxImagePixels = 128 << 20;

// "JPEG", "PNG", "BMP", by the first bytes (12 are enough); empty: none of them.
std::string_view image_format(std::span<const std::byte> first);
// Does the name end like that of such a file? Case does not matter.
bool is_image_name(std::string_view name);

// Decodes to 1 or 3 channels. Alpha is dropped, 16 bits become 8, and gray is
// (19595 R + 38470 G + 7471 B) / 65536, the luma of ITU-R BT.601. EXIF orientation is not applied.
// Nothing is allocated for pixels before the header was checked: at most kMaxImagePixels, and no
// more than so many bytes can hold. What the decoder may allocate follows from the size in the
// header, so that a stream which expands beyond it fails. Fails with kInput.
Result<PixelImage> decode_image(std::span<const std::byte> file, int channels);

}  // namespace mcompress
