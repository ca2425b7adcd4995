#include "support/images.h"

#include <array>
#include <fstream>

#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>

namespace mcompress::testing {
namespace {

void append(void* context, void* data, int size) {
  static_cast<std::string*>(context)->append(static_cast<const char*>(data),
                                             static_cast<std::size_t>(size));
}

std::string big_endian(std::uint32_t value) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(value >> shift & 0xFF);
  return text;
}

std::uint32_t crc_of(std::string_view bytes) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<std::uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320U : 0U);
  }
  return ~crc;
}

std::string chunk(std::string_view type, std::string_view data) {
  const std::string body = std::string(type) + std::string(data);
  return big_endian(static_cast<std::uint32_t>(data.size())) + body + big_endian(crc_of(body));
}

}  // namespace

int test_pixel(int y, int x, int c) { return (37 * y + 91 * x + 53 * c + 11 * x * y) % 256; }

std::vector<std::uint8_t> pixels_of(int width, int height, int channels, const PixelFn& value) {
  std::vector<std::uint8_t> pixels;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) {
        pixels.push_back(static_cast<std::uint8_t>(value(y, x, c)));
      }
    }
  }
  return pixels;
}

std::string png_bytes(int width, int height, int channels, const PixelFn& value) {
  std::string bytes;
  stbi_write_png_to_func(append, &bytes, width, height, channels,
                         pixels_of(width, height, channels, value).data(), 0);
  return bytes;
}

std::string bmp_bytes(int width, int height, int channels, const PixelFn& value) {
  std::string bytes;
  stbi_write_bmp_to_func(append, &bytes, width, height, channels,
                         pixels_of(width, height, channels, value).data());
  return bytes;
}

std::string jpeg_bytes(int width, int height, int channels, const PixelFn& value) {
  std::string bytes;
  stbi_write_jpg_to_func(append, &bytes, width, height, channels,
                         pixels_of(width, height, channels, value).data(), 95);
  return bytes;
}

std::string png_of_chunks(std::uint32_t width, std::uint32_t height, int depth, int colour,
                          std::string_view compressed) {
  std::string header = big_endian(width) + big_endian(height);
  for (const int byte : {depth, colour, 0, 0, 0}) header += static_cast<char>(byte);
  return "\x89PNG\r\n\x1A\n" + chunk("IHDR", header) + chunk("IDAT", compressed) +
         chunk("IEND", "");
}

void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace mcompress::testing
