// Fields of serialised ONNX messages as they stand in the bytes. Knows no protobuf.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "mcompress/status.h"

namespace mcompress::wire {

// Messages on the way to a tensor.
enum class Kind : std::uint8_t {
  kModel,
  kGraph,
  kNode,
  kAttribute,
  kTensor,
  kSparse,
  kFunction,
  kTraining,
  kRawData,
  kOther,
};

// Which message (or the raw data itself) a length-delimited field of a message holds.
Kind child_kind(Kind parent, std::uint32_t field);

struct Field {
  std::uint64_t start = 0;  // of the tag
  std::uint64_t body = 0;   // of the contents, for length-delimited fields
  std::uint64_t end = 0;
  std::uint64_t value = 0;  // of a variable-length number
  std::uint32_t number = 0;
  bool delimited = false;
  bool numeric = false;  // `value` is there
};

// Reads the field at `at` of a message that ends at `end`; groups, nested or not, count as one
// field. Fails with kInput on what is no field or does not fit.
Result<Field> read_field(std::string_view message, std::uint64_t at, std::uint64_t end);
// Reads a number and moves `at` past it. Fails as above.
Result<std::uint64_t> read_varint(std::string_view message, std::uint64_t& at, std::uint64_t end);

void append_varint(std::string& out, std::uint64_t value);
std::uint64_t varint_size(std::uint64_t value);
// Tag of a length-delimited field.
inline std::uint64_t delimited_tag(std::uint32_t number) {
  return (static_cast<std::uint64_t>(number) << 3) | 2;
}

}  // namespace mcompress::wire
