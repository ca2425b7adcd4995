// The header of the NPY array format, versions 1 to 3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mcompress/dtype.h"
#include "mcompress/status.h"

namespace mcompress {

struct NpyHeader {
  enum class Kind : std::uint8_t { kNumber, kUnicode, kBytes };
  Kind kind = Kind::kNumber;
  DataType dtype = DataType::kUndefined;  // of numbers
  std::uint64_t item_bytes = 0;
  bool swapped = false;  // elements are big-endian
  std::vector<std::int64_t> shape;
  std::uint64_t data_offset = 0;  // of the first element from the beginning of the file
  std::uint64_t data_bytes = 0;   // product of shape and item_bytes
  // Elements of one entry along axis 0; 1 for a scalar.
  std::int64_t row_elements() const;
};

// Bytes from the beginning of a file that are enough to know the length of the header.
inline constexpr std::size_t kNpyPrefix = 12;
// Headers that numpy writes have 118 bytes or little more.
inline constexpr std::uint64_t kNpyHeaderLimit = 64 << 10;

// Bytes up to the first element, from the first kNpyPrefix bytes (fewer: what there is). Fails with
// kInput when they are no NPY file, or one with a header beyond kNpyHeaderLimit.
Result<std::uint64_t> npy_header_bytes(std::span<const std::byte> prefix);

// `bytes` is the whole header. Refused with kInput: what is malformed, more than `max_bytes` of
// elements, object arrays (nothing is ever unpickled), structured arrays, complex numbers and
// dates, column-major order of more than one axis.
Result<NpyHeader> parse_npy_header(std::span<const std::byte> bytes, std::uint64_t max_bytes);

}  // namespace mcompress
