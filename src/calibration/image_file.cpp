// The only file that sees stb_image. The decoder is compiled in here, with the formats that are
// wanted, without files and with an allocator that has a limit.
#include "calibration/image_file.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "support/text.h"

namespace mcompress {
namespace {

// What one decoding may hold at the same time. A PNG of a few bytes can inflate to gigabytes
// whatever size its header names.
struct PixelBudget {
  std::size_t left = 0;
  bool passed = false;
};
thread_local PixelBudget* budget = nullptr;

constexpr std::size_t kPrefix = alignof(std::max_align_t);  // holds the size of a block

void* counted_alloc(std::size_t bytes) {
  if (budget == nullptr || bytes > budget->left) {
    if (budget != nullptr) budget->passed = true;
    return nullptr;
  }
  auto* const block = static_cast<std::byte*>(std::malloc(bytes + kPrefix));
  if (block == nullptr) return nullptr;
  budget->left -= bytes;
  std::memcpy(block, &bytes, sizeof bytes);
  return block + kPrefix;
}

void counted_free(void* pointer) {
  if (pointer == nullptr) return;
  auto* const block = static_cast<std::byte*>(pointer) - kPrefix;
  std::size_t bytes = 0;
  std::memcpy(&bytes, block, sizeof bytes);
  if (budget != nullptr) budget->left += bytes;
  std::free(block);
}

void* counted_realloc(void* pointer, std::size_t old_bytes, std::size_t bytes) {
  void* const grown = counted_alloc(bytes);
  if (grown == nullptr) return nullptr;
  if (pointer != nullptr) std::memcpy(grown, pointer, std::min(old_bytes, bytes));
  counted_free(pointer);
  return grown;
}

}  // namespace
}  // namespace mcompress

#define STBI_MALLOC(size) mcompress::counted_alloc(size)
#define STBI_REALLOC_SIZED(pointer, old_size, size) \
  mcompress::counted_realloc(pointer, old_size, size)
#define STBI_FREE(pointer) mcompress::counted_free(pointer)
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#include <stb_image.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

namespace mcompress {
namespace {

// Deflate shrinks to 1/1032 at best and a pixel takes a bit or more; the other formats do less.
constexpr std::int64_t kMostPixelsPerByte = std::int64_t{8} * 1100;

bool begins(std::span<const std::byte> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

Error bad_image(std::string_view id, std::string message, std::string hint = {}) {
  return {Code::kInput, id, std::move(message), {}, std::move(hint)};
}

Error unknown_format(std::span<const std::byte> file) {
  std::string what = "is no JPEG, PNG or BMP image";
  if (begins(file, "GIF8")) what = "is a GIF";
  if (begins(file, std::string_view("II*\0", 4)) || begins(file, std::string_view("MM\0*", 4))) {
    what = "is a TIFF";
  }
  if (begins(file, "RIFF") && file.size() >= 12 && begins(file.subspan(8), "WEBP")) {
    what = "is a WebP";
  }
  return bad_image("image-format", std::move(what), "JPEG, PNG and BMP are read: convert it");
}

// The decoder takes what is missing for zeros and gives a picture that is gray from there on.
bool is_cut_jpeg(std::span<const std::byte> file) {
  constexpr std::array kScan = {std::byte{0xFF}, std::byte{0xDA}};
  constexpr std::array kEnd = {std::byte{0xFF}, std::byte{0xD9}};
  const auto scan = std::find_end(file.begin(), file.end(), kScan.begin(), kScan.end());
  return std::search(scan, file.end(), kEnd.begin(), kEnd.end()) == file.end();
}

// The decoder trusts the 16 counts of a Huffman table to add up to no more than its 256 codes.
// Segments are passed by their length; in the coded picture 0xFF is followed by 0 or is a marker.
bool has_overfull_table(std::span<const std::byte> file) {
  constexpr unsigned kTables = 0xC4, kEnd = 0xD9, kFirstRestart = 0xD0;
  constexpr std::size_t kCounts = 16, kMostCodes = 256;
  const auto byte = [&](std::size_t at) {
    return at < file.size() ? std::to_integer<unsigned>(file[at]) : 0U;
  };
  for (std::size_t at = 2; at + 1 < file.size();) {
    const unsigned marker = byte(at + 1);
    const bool restart = marker >= kFirstRestart && marker < kFirstRestart + 8;
    if (byte(at) != 0xFF || marker == 0 || marker == 0xFF || restart) {
      ++at;
      continue;
    }
    if (marker == kEnd) return false;
    const std::size_t length = byte(at + 2) << 8 | byte(at + 3);
    const std::size_t end = at + 2 + std::max<std::size_t>(length, 2);
    for (std::size_t table = at + 4; marker == kTables && table < end;) {
      std::size_t codes = 0;
      for (std::size_t i = 1; i <= kCounts; ++i) codes += byte(table + i);
      if (codes > kMostCodes) return true;
      table += 1 + kCounts + codes;
    }
    at = end;
  }
  return false;
}

// Rows of a BMP are padded to four bytes and not compressed. The decoder fills in what is missing.
bool is_cut_bmp(std::span<const std::byte> file, std::int64_t width, std::int64_t height) {
  constexpr std::size_t kStart = 10, kHeader = 14, kOldDepth = 24, kDepth = 28, kLength = 30;
  if (file.size() < kLength) return true;
  const auto number = [&](std::size_t at, std::size_t bytes) {
    std::int64_t value = 0;
    for (std::size_t i = bytes; i > 0; --i) {
      value = value << 8 | std::to_integer<std::int64_t>(file[at + i - 1]);
    }
    return value;
  };
  const std::int64_t depth = number(number(kHeader, 4) == 12 ? kOldDepth : kDepth, 2);
  const std::int64_t row = (width * depth + 31) / 32 * 4;
  return number(kStart, 4) + row * height > static_cast<std::int64_t>(file.size());
}

struct FreePixels {
  void operator()(stbi_uc* pixels) const { counted_free(pixels); }
};

class BudgetScope {
 public:
  explicit BudgetScope(PixelBudget& limit) { budget = &limit; }
  ~BudgetScope() { budget = nullptr; }
  BudgetScope(const BudgetScope&) = delete;
  BudgetScope& operator=(const BudgetScope&) = delete;
};

}  // namespace

std::string_view image_format(std::span<const std::byte> first) {
  if (begins(first, "\xFF\xD8\xFF")) return "JPEG";
  if (begins(first, "\x89PNG\r\n\x1A\n")) return "PNG";
  if (begins(first, "BM")) return "BMP";
  return {};
}

bool is_image_name(std::string_view name) {
  const std::string text = lower(name);
  return std::ranges::any_of(
      std::array<std::string_view, 6>{".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib"},
      [&](std::string_view end) { return text.ends_with(end); });
}

Result<PixelImage> decode_image(std::span<const std::byte> file, int channels) {
  const std::string_view format = image_format(file);
  if (format.empty()) return unknown_format(file);
  if (file.size() > kMaxImageFileBytes) {
    return bad_image("image-size", "the file has " + human_bytes(file.size()) + ", the limit is " +
                                       human_bytes(kMaxImageFileBytes));
  }
  const auto* const bytes = reinterpret_cast<const stbi_uc*>(file.data());
  const int size = static_cast<int>(file.size());
  PixelBudget limit;
  limit.left = (1 << 20) + 4 * file.size();
  const BudgetScope scope(limit);
  const auto damaged = [&] {
    const char* const reason = stbi_failure_reason();
    std::string text = "this " + std::string(format) + " file is damaged";
    if (reason != nullptr) text += ": " + std::string(reason);
    return bad_image("image-damaged", std::move(text));
  };
  if (format == "JPEG" && has_overfull_table(file)) {
    return bad_image("image-damaged", "a Huffman table of this JPEG file has more than 256 codes");
  }
  int width = 0, height = 0, stored = 0;
  if (stbi_info_from_memory(bytes, size, &width, &height, &stored) == 0 || width < 1 ||
      height < 1) {
    return damaged();
  }
  const std::int64_t pixels = std::int64_t{width} * height;
  const std::string facts = std::to_string(width) + " x " + std::to_string(height) + " pixels";
  if (pixels > kMaxImagePixels) {
    return bad_image("image-size", "the image has " + facts + ", the limit is " +
                                       std::to_string(kMaxImagePixels >> 20) + " Mi pixels");
  }
  if (pixels / kMostPixelsPerByte > size) {
    return bad_image("image-damaged", std::to_string(size) + " bytes can not hold the " + facts +
                                          " that the header names");
  }
  if ((format == "JPEG" && is_cut_jpeg(file)) ||
      (format == "BMP" && is_cut_bmp(file, width, height))) {
    return bad_image("image-damaged", "the file ends in the middle of the picture");
  }
  // A decoder holds the stream, four channels of samples, coefficients twice as wide, and the
  // result; streams that inflate grow by doubling.
  constexpr std::size_t kBytesPerPixel = 48, kPadding = 64;
  limit.left += kBytesPerPixel * (static_cast<std::size_t>(width) + kPadding) *
                (static_cast<std::size_t>(height) + kPadding);
  // Gray from colours is not left to the decoder, which uses other weights.
  const int wanted = channels == 1 && stored <= 2 ? 1 : 3;
  const std::unique_ptr<stbi_uc, FreePixels> decoded(
      stbi_load_from_memory(bytes, size, &width, &height, &stored, wanted));
  if (decoded == nullptr) {
    if (!limit.passed) return damaged();
    return bad_image("image-damaged",
                     "the stream holds more than the " + facts + " that the header names");
  }
  PixelImage image;
  image.width = width;
  image.height = height;
  image.channels = channels;
  const auto count = static_cast<std::size_t>(pixels);
  const stbi_uc* const from = decoded.get();
  if (wanted == channels) {
    image.pixels.assign(from, from + count * static_cast<std::size_t>(channels));
    return image;
  }
  image.pixels.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned sum =
        from[3 * i] * 19595U + from[3 * i + 1] * 38470U + from[3 * i + 2] * 7471U + 0x8000U;
    image.pixels[i] = static_cast<std::uint8_t>(sum >> 16);
  }
  return image;
}

}  // namespace mcompress
