// ONNX element types by their number in onnx.proto. A number this build does not know is legal:
// such a tensor is copied and counted, never computed with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mcompress {

enum class DataType : std::int32_t {
  kUndefined = 0,
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kUint32 = 12,
  kUint64 = 13,
  kComplex64 = 14,
  kComplex128 = 15,
  kBfloat16 = 16,
  kFloat8E4M3FN = 17,
  kFloat8E4M3FNUZ = 18,
  kFloat8E5M2 = 19,
  kFloat8E5M2FNUZ = 20,
  kUint4 = 21,
  kInt4 = 22,
  kFloat4E2M1 = 23,
  kFloat8E8M0 = 24,
  kUint2 = 25,
  kInt2 = 26,
};

struct DTypeInfo {
  std::string_view name;  // "float32", "int4"
  std::uint8_t bits;      // width of one element; 0 for strings
  bool floating;
  bool is_signed;
};

// Null: unknown number, or the undefined type.
const DTypeInfo* find_dtype(DataType type);

// "float32", or "type#99" for an unknown number.
std::string dtype_name(DataType type);

// Bytes of `elements` packed elements (sub-byte types fill bytes from the low end). Empty for
// unknown types and strings, for negative counts and on overflow.
std::optional<std::uint64_t> packed_bytes(DataType type, std::int64_t elements);

}  // namespace mcompress
