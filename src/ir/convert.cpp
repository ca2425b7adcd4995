#include "ir/convert.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

namespace mcompress {
namespace {

constexpr std::uint32_t kSignBit = 0x80000000u;
constexpr std::uint32_t kInfinity = 0x7f800000u;

// All ones when a < b, else 0, for numbers below 2^31. Shifts instead of comparisons: the compiler
// makes branches of those, and then can not vectorise the loops around them.
std::uint32_t mask_if_less(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(a - b) >> 31);
}

bool is_nan(float value) { return (std::bit_cast<std::uint32_t>(value) & ~kSignBit) > kInfinity; }

// How the largest exponent of a format is used.
enum class Specials : std::uint8_t {
  kIeee,          // infinities and NaNs
  kOneNan,        // all ones is NaN, the rest of the exponent are numbers
  kNegativeZero,  // the code of -0 is NaN
  kNone,          // every code is a number
};

// A float format narrower than float32 in exponent or mantissa, or both.
template <int kExponentBits, int kMantissaBits, int kBias, Specials kSpecials>
struct Format {
  static constexpr std::uint32_t kShift = 23 - kMantissaBits;
  static constexpr std::uint32_t kMagnitude = (1u << (kExponentBits + kMantissaBits)) - 1;
  static constexpr std::uint32_t kSign = kMagnitude + 1;
  static constexpr std::uint32_t kExponentOnes = ((1u << kExponentBits) - 1) << kMantissaBits;
  static constexpr std::uint32_t kLargest = kSpecials == Specials::kIeee     ? kExponentOnes - 1
                                            : kSpecials == Specials::kOneNan ? kMagnitude - 1
                                                                             : kMagnitude;
  static constexpr std::uint32_t kNan = kSpecials == Specials::kIeee
                                            ? kExponentOnes | (1u << (kMantissaBits - 1))
                                        : kSpecials == Specials::kOneNan       ? kMagnitude
                                        : kSpecials == Specials::kNegativeZero ? kSign
                                                                               : kLargest;
  // Smallest normal number, 2^(1 - bias), as float bits.
  static constexpr std::uint32_t kSmallestNormal = static_cast<std::uint32_t>(127 + 1 - kBias)
                                                   << 23;

  static float decode(std::uint32_t code) {
    const std::uint32_t magnitude = code & kMagnitude;
    std::uint32_t sign = (code & kSign) != 0 ? kSignBit : 0;
    std::uint32_t bits;
    if constexpr (kBias == 127) {
      // Same exponent as float32: a denormal here is one there.
      bits = magnitude << kShift;
    } else {
      // Read as a float32 whose exponent is too small by 127 - bias; the product is exact, for
      // denormals too.
      const float small = std::bit_cast<float>(magnitude << kShift);
      bits = std::bit_cast<std::uint32_t>(
          small * std::bit_cast<float>(static_cast<std::uint32_t>(127 + 127 - kBias) << 23));
    }
    if constexpr (kSpecials == Specials::kIeee) {
      // The mantissa is in place already; all ones in the exponent make it special.
      bits |= kInfinity & mask_if_less(kExponentOnes - 1, magnitude);
    } else if constexpr (kSpecials == Specials::kOneNan) {
      bits = magnitude == kMagnitude ? 0x7fc00000u : bits;
    } else if constexpr (kSpecials == Specials::kNegativeZero) {
      bits = code == kSign ? 0x7fc00000u : bits;
      sign = code == kSign ? 0 : sign;
    }
    return std::bit_cast<float>(bits | sign);
  }

  // Everything but NaN. Apart from it, no branches: a loop over this is vectorised.
  static std::uint32_t encode_number(float value, Overflow overflow) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = bits & kSignBit;
    const std::uint32_t magnitude = bits ^ sign;
    // Normal results: move the exponent, then add half a unit less one, plus one when the last bit
    // kept is odd; carries run into the exponent as they should.
    constexpr std::uint32_t kHalfLessOne = (1u << (kShift - 1)) - 1;
    constexpr std::uint32_t kRebias = static_cast<std::uint32_t>(127 - kBias) << 23;
    const std::uint32_t odd = (magnitude >> kShift) & 1;
    std::uint32_t code = (magnitude - kRebias + kHalfLessOne + odd) >> kShift;
    if constexpr (kBias != 127) {
      // Denormal results are multiples of 2^(1 - bias - mantissa): adding the float whose unit that
      // is lets the addition round, and leaves the code in the low bits.
      constexpr std::uint32_t kAlign =
          static_cast<std::uint32_t>(127 + 1 - kBias - kMantissaBits + 23) << 23;
      const float sum = std::bit_cast<float>(magnitude) + std::bit_cast<float>(kAlign);
      const std::uint32_t denormal = std::bit_cast<std::uint32_t>(sum) - kAlign;
      const std::uint32_t small = mask_if_less(magnitude, kSmallestNormal);
      code = (denormal & small) | (code & ~small);
    }
    const std::uint32_t beyond = mask_if_less(kLargest, code);  // infinities too
    const std::uint32_t instead = overflow == Overflow::kSaturate || kSpecials == Specials::kNone
                                      ? kLargest
                                  : kSpecials == Specials::kIeee ? kExponentOnes
                                                                 : kNan;
    code = (instead & beyond) | (code & ~beyond);
    std::uint32_t out_sign = sign >> (31 - kExponentBits - kMantissaBits);
    if constexpr (kSpecials == Specials::kNegativeZero) {
      // No -0: that code is NaN, which keeps no sign either.
      out_sign &= mask_if_less(0, code) & mask_if_less(code, kNan);
    }
    return code | out_sign;
  }

  static std::uint32_t encode(float value, Overflow overflow) {
    if (!is_nan(value)) return encode_number(value, overflow);
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (bits & kSignBit) >> (31 - kExponentBits - kMantissaBits);
    if constexpr (kSpecials == Specials::kIeee) {
      // Keep the top of the payload; the quiet bit keeps it from becoming an infinity.
      return kNan | ((bits >> kShift) & (kExponentOnes ^ kMagnitude)) | sign;
    } else {
      return kNan | (kSpecials == Specials::kOneNan ? sign : 0);
    }
  }
};

using Float16 = Format<5, 10, 15, Specials::kIeee>;
using Bfloat16 = Format<8, 7, 127, Specials::kIeee>;
using E4M3FN = Format<4, 3, 7, Specials::kOneNan>;
using E4M3FNUZ = Format<4, 3, 8, Specials::kNegativeZero>;
using E5M2 = Format<5, 2, 15, Specials::kIeee>;
using E5M2FNUZ = Format<5, 2, 16, Specials::kNegativeZero>;
using E2M1 = Format<2, 1, 1, Specials::kNone>;

float e8m0_to_float(std::uint8_t code) {
  if (code == 255) return std::numeric_limits<float>::quiet_NaN();
  // 2^-127 is a denormal float32.
  return std::bit_cast<float>(code == 0 ? 0x00400000u : std::uint32_t{code} << 23);
}

std::uint8_t float_to_e8m0(float value, const EncodeOptions& options) {
  const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(value) & ~kSignBit;
  if (magnitude > kInfinity) return 255;
  const std::uint8_t beyond = options.overflow == Overflow::kSaturate ? 254 : 255;
  if (magnitude == kInfinity) return beyond;
  if (magnitude <= 0x00400000u) return 0;
  std::uint32_t exponent = magnitude >> 23;
  const std::uint32_t mantissa = magnitude & 0x7fffffu;
  bool up = false;
  if (exponent == 0) {
    // Between 2^-127 (exclusive) and 2^-126: the code below is 0.
    up = options.power_rounding == PowerRounding::kUp ||
         (options.power_rounding == PowerRounding::kNearest && magnitude >= 0x00600000u);
  } else {
    up = (options.power_rounding == PowerRounding::kUp && mantissa != 0) ||
         (options.power_rounding == PowerRounding::kNearest && mantissa >= 0x400000u);
  }
  exponent += up ? 1 : 0;
  return exponent > 254 ? beyond : static_cast<std::uint8_t>(exponent);
}

// Codes of 4 and 8 bits decode through a table.
template <class F>
std::array<float, 256> table_of(F decode) {
  std::array<float, 256> table{};
  for (std::uint32_t code = 0; code < 256; ++code) table[code] = decode(code);
  return table;
}

const std::array<float, 256>* table_for(DataType type) {
  static const std::array<float, 256> e4m3fn = table_of(E4M3FN::decode);
  static const std::array<float, 256> e4m3fnuz = table_of(E4M3FNUZ::decode);
  static const std::array<float, 256> e5m2 = table_of(E5M2::decode);
  static const std::array<float, 256> e5m2fnuz = table_of(E5M2FNUZ::decode);
  static const std::array<float, 256> e2m1 =
      table_of([](std::uint32_t code) { return E2M1::decode(code & 15); });
  static const std::array<float, 256> e8m0 =
      table_of([](std::uint32_t code) { return e8m0_to_float(static_cast<std::uint8_t>(code)); });
  switch (type) {
    case DataType::kFloat8E4M3FN:
      return &e4m3fn;
    case DataType::kFloat8E4M3FNUZ:
      return &e4m3fnuz;
    case DataType::kFloat8E5M2:
      return &e5m2;
    case DataType::kFloat8E5M2FNUZ:
      return &e5m2fnuz;
    case DataType::kFloat4E2M1:
      return &e2m1;
    case DataType::kFloat8E8M0:
      return &e8m0;
    default:
      return nullptr;
  }
}

// Reads sizeof(T) bytes per element at any alignment; vectorised like aligned loads.
template <class T, class F>
void decode_each(std::span<const std::byte> packed, std::span<float> out, F decode) {
  const std::byte* from = packed.data();
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, from + i * sizeof(T), sizeof(T));
    out[i] = decode(value);
  }
}

template <class T>
void decode_numbers(std::span<const std::byte> packed, std::span<float> out) {
  decode_each<T>(packed, out, [](T value) { return static_cast<float>(value); });
}

template <class F>
void decode_packed(std::span<const std::byte> packed, unsigned bits, std::span<float> out,
                   F decode) {
  const unsigned per_byte = 8 / bits, mask = (1u << bits) - 1;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const unsigned byte = std::to_integer<unsigned>(packed[i / per_byte]);
    out[i] = decode((byte >> (bits * (i % per_byte))) & mask);
  }
}

template <class T, class F>
void encode_each(std::span<const float> values, std::span<std::byte> packed, F encode) {
  std::byte* to = packed.data();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const T code = static_cast<T>(encode(values[i]));
    std::memcpy(to + i * sizeof(T), &code, sizeof(T));
  }
}

// In tiles: those without NaN, nearly all, take the vectorised loop.
template <class Format, class T>
void encode_format(std::span<const float> values, std::span<std::byte> packed, Overflow overflow) {
  constexpr std::size_t kTile = 1024;
  for (std::size_t at = 0; at < values.size(); at += kTile) {
    const std::span<const float> tile = values.subspan(at, std::min(kTile, values.size() - at));
    const std::span<std::byte> to = packed.subspan(at * sizeof(T));
    std::uint32_t nan = 0;
    for (const float v : tile) nan |= is_nan(v) ? 1 : 0;
    if (nan != 0) {
      encode_each<T>(tile, to, [overflow](float v) { return Format::encode(v, overflow); });
    } else {
      encode_each<T>(tile, to, [overflow](float v) { return Format::encode_number(v, overflow); });
    }
  }
}

bool fits(DataType type, std::size_t elements, std::size_t bytes) {
  const auto needed = packed_bytes(type, static_cast<std::int64_t>(elements));
  return needed.has_value() && *needed <= bytes;
}

}  // namespace

float float16_to_float(std::uint16_t bits) { return Float16::decode(bits); }
std::uint16_t float_to_float16(float value, Overflow overflow) {
  return static_cast<std::uint16_t>(Float16::encode(value, overflow));
}
float bfloat16_to_float(std::uint16_t bits) { return Bfloat16::decode(bits); }
std::uint16_t float_to_bfloat16(float value, Overflow overflow) {
  return static_cast<std::uint16_t>(Bfloat16::encode(value, overflow));
}

float small_float_to_float(DataType type, std::uint8_t bits) {
  const std::array<float, 256>* table = table_for(type);
  return table == nullptr ? std::numeric_limits<float>::quiet_NaN() : (*table)[bits];
}

std::uint8_t float_to_small_float(DataType type, float value, const EncodeOptions& options) {
  switch (type) {
    case DataType::kFloat8E4M3FN:
      return static_cast<std::uint8_t>(E4M3FN::encode(value, options.overflow));
    case DataType::kFloat8E4M3FNUZ:
      return static_cast<std::uint8_t>(E4M3FNUZ::encode(value, options.overflow));
    case DataType::kFloat8E5M2:
      return static_cast<std::uint8_t>(E5M2::encode(value, options.overflow));
    case DataType::kFloat8E5M2FNUZ:
      return static_cast<std::uint8_t>(E5M2FNUZ::encode(value, options.overflow));
    case DataType::kFloat4E2M1:
      return static_cast<std::uint8_t>(E2M1::encode(value, options.overflow));
    case DataType::kFloat8E8M0:
      return float_to_e8m0(value, options);
    default:
      return 0;
  }
}

bool can_decode(DataType type) {
  switch (type) {
    case DataType::kUint8:
    case DataType::kInt8:
    case DataType::kUint16:
    case DataType::kInt16:
    case DataType::kInt32:
    case DataType::kInt64:
    case DataType::kBool:
    case DataType::kUint32:
    case DataType::kUint64:
    case DataType::kUint4:
    case DataType::kInt4:
    case DataType::kUint2:
    case DataType::kInt2:
      return true;
    default:
      return can_encode(type);
  }
}

bool can_encode(DataType type) {
  switch (type) {
    case DataType::kFloat:
    case DataType::kDouble:
    case DataType::kFloat16:
    case DataType::kBfloat16:
      return true;
    default:
      return table_for(type) != nullptr;
  }
}

bool decode_to_float(DataType type, std::span<const std::byte> packed, std::span<float> out) {
  if (!can_decode(type) || !fits(type, out.size(), packed.size())) return false;
  if (out.empty()) return true;
  const auto number = [](unsigned code) { return static_cast<float>(code); };
  // Two's complement of `bits` bits: flip the sign bit, then subtract its weight.
  const auto signed_number = [](unsigned sign) {
    return [sign](unsigned code) {
      return static_cast<float>(static_cast<int>(code ^ sign) - static_cast<int>(sign));
    };
  };
  switch (type) {
    case DataType::kFloat:
      std::memcpy(out.data(), packed.data(), out.size_bytes());
      break;
    case DataType::kDouble:
      decode_numbers<double>(packed, out);
      break;
    case DataType::kFloat16:
      decode_each<std::uint16_t>(packed, out, [](std::uint16_t v) { return Float16::decode(v); });
      break;
    case DataType::kBfloat16:
      decode_each<std::uint16_t>(packed, out, [](std::uint16_t v) { return Bfloat16::decode(v); });
      break;
    case DataType::kUint8:
      decode_numbers<std::uint8_t>(packed, out);
      break;
    case DataType::kInt8:
      decode_numbers<std::int8_t>(packed, out);
      break;
    case DataType::kUint16:
      decode_numbers<std::uint16_t>(packed, out);
      break;
    case DataType::kInt16:
      decode_numbers<std::int16_t>(packed, out);
      break;
    case DataType::kUint32:
      decode_numbers<std::uint32_t>(packed, out);
      break;
    case DataType::kInt32:
      decode_numbers<std::int32_t>(packed, out);
      break;
    case DataType::kUint64:
      decode_numbers<std::uint64_t>(packed, out);
      break;
    case DataType::kInt64:
      decode_numbers<std::int64_t>(packed, out);
      break;
    case DataType::kBool:
      decode_each<std::uint8_t>(packed, out, [](std::uint8_t v) { return v != 0 ? 1.0f : 0.0f; });
      break;
    case DataType::kUint4:
      decode_packed(packed, 4, out, number);
      break;
    case DataType::kInt4:
      decode_packed(packed, 4, out, signed_number(8));
      break;
    case DataType::kUint2:
      decode_packed(packed, 2, out, number);
      break;
    case DataType::kInt2:
      decode_packed(packed, 2, out, signed_number(2));
      break;
    default: {
      const std::array<float, 256>& table = *table_for(type);
      const auto look_up = [&table](unsigned code) { return table[code]; };
      if (type == DataType::kFloat4E2M1) {
        decode_packed(packed, 4, out, look_up);
      } else {
        decode_each<std::uint8_t>(packed, out, look_up);
      }
    }
  }
  return true;
}

bool encode_from_float(DataType type, std::span<const float> values, std::span<std::byte> packed,
                       const EncodeOptions& options) {
  if (!can_encode(type) || !fits(type, values.size(), packed.size())) return false;
  if (values.empty()) return true;
  const Overflow overflow = options.overflow;
  switch (type) {
    case DataType::kFloat:
      std::memcpy(packed.data(), values.data(), values.size_bytes());
      break;
    case DataType::kDouble:
      encode_each<double>(values, packed, [](float v) { return static_cast<double>(v); });
      break;
    case DataType::kFloat16:
      encode_format<Float16, std::uint16_t>(values, packed, overflow);
      break;
    case DataType::kBfloat16:
      encode_format<Bfloat16, std::uint16_t>(values, packed, overflow);
      break;
    case DataType::kFloat4E2M1:
      for (std::size_t i = 0; i < values.size(); i += 2) {
        const std::uint32_t low = E2M1::encode(values[i], overflow);
        const std::uint32_t high =
            i + 1 < values.size() ? E2M1::encode(values[i + 1], overflow) : 0;
        packed[i / 2] = static_cast<std::byte>(low | (high << 4));
      }
      break;
    case DataType::kFloat8E4M3FN:
      encode_format<E4M3FN, std::uint8_t>(values, packed, overflow);
      break;
    case DataType::kFloat8E4M3FNUZ:
      encode_format<E4M3FNUZ, std::uint8_t>(values, packed, overflow);
      break;
    case DataType::kFloat8E5M2:
      encode_format<E5M2, std::uint8_t>(values, packed, overflow);
      break;
    case DataType::kFloat8E5M2FNUZ:
      encode_format<E5M2FNUZ, std::uint8_t>(values, packed, overflow);
      break;
    default:
      encode_each<std::uint8_t>(values, packed,
                                [&options](float v) { return float_to_e8m0(v, options); });
  }
  return true;
}

}  // namespace mcompress
