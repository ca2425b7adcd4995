// Encoded images for tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace mcompress::testing {

// value(y, x, channel), of 0 to 255.
using PixelFn = std::function<int(int, int, int)>;
// (37 y + 91 x + 53 c + 11 x y) mod 256: no symmetry, all values.
int test_pixel(int y, int x, int c);
std::vector<std::uint8_t> pixels_of(int width, int height, int channels, const PixelFn& value);

// `channels` 1, 3 or 4 (2 too for PNG). JPEG at quality 95.
std::string png_bytes(int width, int height, int channels, const PixelFn& value);
std::string bmp_bytes(int width, int height, int channels, const PixelFn& value);
std::string jpeg_bytes(int width, int height, int channels, const PixelFn& value);

// A PNG of any header and any stream: IHDR, one IDAT, IEND.
std::string png_of_chunks(std::uint32_t width, std::uint32_t height, int depth, int colour,
                          std::string_view compressed);

void write_bytes(const std::filesystem::path& path, std::string_view bytes);

}  // namespace mcompress::testing
