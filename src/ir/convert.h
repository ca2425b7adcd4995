// Element codecs: the bytes of an ONNX tensor <-> float32. Bytes are little endian at any
// alignment; types below 8 bits are packed with element 0 in the lowest bits.
//
// Formats (sign, exponent, mantissa bits; bias), all with denormals:
//   float16        1 5 10 15   infinities, NaN         bfloat16       1 8 7 127  infinities, NaN
//   float8e4m3fn   1 4 3  7    NaN = S.1111.111        float8e4m3fnuz 1 4 3  8   NaN = 0x80, no -0
//   float8e5m2     1 5 2  15   infinities, NaN         float8e5m2fnuz 1 5 2  16  NaN = 0x80, no -0
//   float4e2m1     1 2 1  1    no infinity, no NaN     float8e8m0     0 8 0  127 2^(e-127), NaN =
//   255
// Narrowing rounds half to even and then follows the tables of ONNX Cast.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "mcompress/dtype.h"

namespace mcompress {

// What becomes of a finite value beyond the largest of the format, and of an infinity. kSaturate:
// the largest finite value of that sign. kOverflow: infinity where the format has one, else NaN.
// float4e2m1 always saturates. NaN stays NaN; in float4e2m1 it becomes 6.
enum class Overflow : std::uint8_t { kSaturate, kOverflow };

// float8e8m0 keeps the magnitude only: the power of two above, below, or nearest (ties upwards).
// 0 and anything below 2^-127 become 2^-127.
enum class PowerRounding : std::uint8_t { kUp, kDown, kNearest };

struct EncodeOptions {
  Overflow overflow = Overflow::kOverflow;
  PowerRounding power_rounding = PowerRounding::kUp;
};

// One element. Signaling NaNs are returned as they are, quieted by no one.
float float16_to_float(std::uint16_t bits);
std::uint16_t float_to_float16(float value, Overflow overflow);
float bfloat16_to_float(std::uint16_t bits);
std::uint16_t float_to_bfloat16(float value, Overflow overflow);
// `type` is one of the five 8-bit float types, or float4e2m1 with the code in the low 4 bits.
float small_float_to_float(DataType type, std::uint8_t bits);
std::uint8_t float_to_small_float(DataType type, float value, const EncodeOptions& options);

// True for every type that decode_to_float reads: all float types, all integer types, bool.
bool can_decode(DataType type);
// Decodes out.size() elements from the beginning of `packed`. 32- and 64-bit integers and doubles
// round to the nearest float. False, and nothing written, when the type can not be decoded or
// `packed` is too short.
bool decode_to_float(DataType type, std::span<const std::byte> packed, std::span<float> out);

// True for the types that encode_from_float writes: all float types.
bool can_encode(DataType type);
// False, and nothing written, when the type can not be encoded or `packed` is too short.
// Unused bits of the last byte become 0.
bool encode_from_float(DataType type, std::span<const float> values, std::span<std::byte> packed,
                       const EncodeOptions& options);

}  // namespace mcompress
