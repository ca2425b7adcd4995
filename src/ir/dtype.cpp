#include "mcompress/dtype.h"

#include <array>
#include <limits>

namespace mcompress {
namespace {

constexpr std::array<DTypeInfo, 27> kTypes = {{
    {"undefined", 0, false, false},    {"float32", 32, true, true},
    {"uint8", 8, false, false},        {"int8", 8, false, true},
    {"uint16", 16, false, false},      {"int16", 16, false, true},
    {"int32", 32, false, true},        {"int64", 64, false, true},
    {"string", 0, false, false},       {"bool", 8, false, false},
    {"float16", 16, true, true},       {"float64", 64, true, true},
    {"uint32", 32, false, false},      {"uint64", 64, false, false},
    {"complex64", 64, true, true},     {"complex128", 128, true, true},
    {"bfloat16", 16, true, true},      {"float8e4m3fn", 8, true, true},
    {"float8e4m3fnuz", 8, true, true}, {"float8e5m2", 8, true, true},
    {"float8e5m2fnuz", 8, true, true}, {"uint4", 4, false, false},
    {"int4", 4, false, true},          {"float4e2m1", 4, true, true},
    {"float8e8m0", 8, true, false},    {"uint2", 2, false, false},
    {"int2", 2, false, true},
}};

}  // namespace

const DTypeInfo* find_dtype(DataType type) {
  const auto number = static_cast<std::int32_t>(type);
  if (number <= 0 || number >= static_cast<std::int32_t>(kTypes.size())) return nullptr;
  return &kTypes[static_cast<std::size_t>(number)];
}

std::string dtype_name(DataType type) {
  const DTypeInfo* info = find_dtype(type);
  return info != nullptr ? std::string(info->name)
                         : "type#" + std::to_string(static_cast<std::int32_t>(type));
}

std::optional<std::uint64_t> packed_bytes(DataType type, std::int64_t elements) {
  const DTypeInfo* info = find_dtype(type);
  if (info == nullptr || info->bits == 0 || elements < 0) return std::nullopt;
  const auto count = static_cast<std::uint64_t>(elements);
  if (count > std::numeric_limits<std::uint64_t>::max() / info->bits - 8) return std::nullopt;
  return (count * info->bits + 7) / 8;
}

}  // namespace mcompress
