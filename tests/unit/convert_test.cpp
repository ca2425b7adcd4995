// Every code of every narrow format against a reference made of ldexp and exhaustive search over
// neighbours, not of the bit tricks of the codec.
#include "ir/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <vector>

namespace mcompress {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct FormatSpec {
  DataType type;
  int exponent_bits, mantissa_bits, bias;
  bool ieee;           // infinities and NaNs at the top exponent
  bool all_ones_nan;   // e4m3fn
  bool negative_zero;  // false: the code of -0 is the only NaN
  int codes() const { return 1 << (1 + exponent_bits + mantissa_bits); }
};

const FormatSpec kFloat16{DataType::kFloat16, 5, 10, 15, true, false, true};
const FormatSpec kBfloat16{DataType::kBfloat16, 8, 7, 127, true, false, true};
const FormatSpec kE4M3FN{DataType::kFloat8E4M3FN, 4, 3, 7, false, true, true};
const FormatSpec kE4M3FNUZ{DataType::kFloat8E4M3FNUZ, 4, 3, 8, false, false, false};
const FormatSpec kE5M2{DataType::kFloat8E5M2, 5, 2, 15, true, false, true};
const FormatSpec kE5M2FNUZ{DataType::kFloat8E5M2FNUZ, 5, 2, 16, false, false, false};
const FormatSpec kE2M1{DataType::kFloat4E2M1, 2, 1, 1, false, false, true};

// Empty: NaN.
std::optional<double> reference_decode(const FormatSpec& f, int code) {
  const int mantissa = code & ((1 << f.mantissa_bits) - 1);
  const int exponent = (code >> f.mantissa_bits) & ((1 << f.exponent_bits) - 1);
  const bool negative = (code >> (f.mantissa_bits + f.exponent_bits)) != 0;
  const int top = (1 << f.exponent_bits) - 1;
  if (!f.negative_zero && negative && mantissa == 0 && exponent == 0) return std::nullopt;
  if (f.all_ones_nan && exponent == top && mantissa == (1 << f.mantissa_bits) - 1) {
    return std::nullopt;
  }
  double value;
  if (f.ieee && exponent == top) {
    if (mantissa != 0) return std::nullopt;
    value = HUGE_VAL;
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, 1 - f.bias - f.mantissa_bits);
  } else {
    value = std::ldexp((1 << f.mantissa_bits) + mantissa, exponent - f.bias - f.mantissa_bits);
  }
  return negative ? -value : value;
}

std::uint32_t encode_one(const FormatSpec& f, float value, Overflow overflow) {
  const EncodeOptions options{overflow, PowerRounding::kUp};
  switch (f.type) {
    case DataType::kFloat16:
      return float_to_float16(value, overflow);
    case DataType::kBfloat16:
      return float_to_bfloat16(value, overflow);
    default:
      return float_to_small_float(f.type, value, options);
  }
}

float decode_one(const FormatSpec& f, std::uint32_t code) {
  switch (f.type) {
    case DataType::kFloat16:
      return float16_to_float(static_cast<std::uint16_t>(code));
    case DataType::kBfloat16:
      return bfloat16_to_float(static_cast<std::uint16_t>(code));
    default:
      return small_float_to_float(f.type, static_cast<std::uint8_t>(code));
  }
}

class NarrowFormat : public ::testing::TestWithParam<FormatSpec> {};
INSTANTIATE_TEST_SUITE_P(All, NarrowFormat,
                         ::testing::Values(kFloat16, kBfloat16, kE4M3FN, kE4M3FNUZ, kE5M2,
                                           kE5M2FNUZ, kE2M1));

TEST_P(NarrowFormat, DecodesEveryCode) {
  const FormatSpec f = GetParam();
  for (int code = 0; code < f.codes(); ++code) {
    const auto expected = reference_decode(f, code);
    const float actual = decode_one(f, static_cast<std::uint32_t>(code));
    if (!expected) {
      ASSERT_TRUE(std::isnan(actual)) << code;
      continue;
    }
    ASSERT_EQ(static_cast<double>(actual), *expected) << code;
    ASSERT_EQ(std::signbit(actual), std::signbit(*expected)) << code;
  }
}

TEST_P(NarrowFormat, EveryCodeSurvivesARoundTrip) {
  const FormatSpec f = GetParam();
  for (int code = 0; code < f.codes(); ++code) {
    const auto value = reference_decode(f, code);
    if (!value) continue;
    for (const Overflow overflow : {Overflow::kOverflow, Overflow::kSaturate}) {
      if (std::isinf(*value) && overflow == Overflow::kSaturate) continue;
      ASSERT_EQ(encode_one(f, static_cast<float>(*value), overflow),
                static_cast<std::uint32_t>(code));
    }
  }
}

// All boundaries: between neighbours the midpoint goes to the even code, one float to either side
// of it to the nearer code.
TEST_P(NarrowFormat, RoundsHalfToEvenAtEveryMidpoint) {
  const FormatSpec f = GetParam();
  const int sign = f.codes() / 2;
  for (int code = 0; code + 1 < sign; ++code) {
    const auto low = reference_decode(f, code), high = reference_decode(f, code + 1);
    if (!low || !high || std::isinf(*high)) break;
    const double middle = (*low + *high) / 2;
    const float at = static_cast<float>(middle);
    ASSERT_EQ(static_cast<double>(at), middle);
    for (const float side : {1.0f, -1.0f}) {
      const int offset = side < 0 ? sign : 0;
      const auto expect = [&](float value, int wanted) {
        wanted += offset;
        if (wanted == sign && !f.negative_zero) wanted = 0;
        ASSERT_EQ(encode_one(f, value * side, Overflow::kOverflow),
                  static_cast<std::uint32_t>(wanted))
            << value * side;
      };
      expect(at, code % 2 == 0 ? code : code + 1);
      expect(std::nextafter(at, 0.0f), code);
      expect(std::nextafter(at, kInf), code + 1);
    }
  }
}

TEST_P(NarrowFormat, OverflowFollowsTheCastTables) {
  const FormatSpec f = GetParam();
  const int sign = f.codes() / 2;
  int largest = sign - 1;
  while (!reference_decode(f, largest) || std::isinf(*reference_decode(f, largest))) --largest;
  const double top = *reference_decode(f, largest);
  const double below = *reference_decode(f, largest - 1);
  const float limit = static_cast<float>(top + (top - below) / 2);  // tie: rounds up or not
  const auto check = [&](float value, bool beyond) {
    const std::uint32_t saturated = encode_one(f, value, Overflow::kSaturate);
    ASSERT_EQ(saturated, static_cast<std::uint32_t>(largest)) << value;
    const float open = decode_one(f, encode_one(f, value, Overflow::kOverflow));
    if (!beyond || f.type == DataType::kFloat4E2M1) {
      ASSERT_EQ(static_cast<double>(open), top) << value;
    } else if (f.ieee) {
      ASSERT_EQ(open, kInf) << value;
    } else {
      ASSERT_TRUE(std::isnan(open)) << value;
    }
    const float negative = decode_one(f, encode_one(f, -value, Overflow::kSaturate));
    ASSERT_EQ(static_cast<double>(negative), -top);
  };
  check(static_cast<float>(top), false);
  check(std::nextafter(limit, 0.0f), false);
  if (!std::isinf(limit)) {
    check(limit, largest % 2 == 1);  // an even largest code keeps the tie
    check(std::nextafter(limit, kInf), true);
  }
  check(kInf, true);
  if (f.type != DataType::kBfloat16) check(std::numeric_limits<float>::max(), true);
}

TEST_P(NarrowFormat, NanStaysNan) {
  const FormatSpec f = GetParam();
  for (const std::uint32_t bits : {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0x7fffffffu}) {
    for (const Overflow overflow : {Overflow::kOverflow, Overflow::kSaturate}) {
      const std::uint32_t code = encode_one(f, std::bit_cast<float>(bits), overflow);
      ASSERT_LT(code, static_cast<std::uint32_t>(f.codes()));
      if (f.type == DataType::kFloat4E2M1) {
        ASSERT_EQ(code, 7u);
      } else {
        ASSERT_TRUE(std::isnan(decode_one(f, code)));
      }
    }
  }
}

// Random floats of all magnitudes: nothing is nearer than the code chosen.
TEST_P(NarrowFormat, ChoosesTheNearestCode) {
  const FormatSpec f = GetParam();
  std::mt19937 random(7);
  std::vector<std::pair<double, int>> table;
  for (int code = 0; code < f.codes() / 2; ++code) {
    const auto value = reference_decode(f, code);
    if (value && !std::isinf(*value)) table.emplace_back(*value, code);
  }
  for (int i = 0; i < 20000; ++i) {
    const float value = std::ldexp(static_cast<float>(random() % (1u << 24)),
                                   static_cast<int>(random() % 300) - 180);
    if (!(static_cast<double>(value) <= table.back().first)) continue;
    const auto above =
        std::lower_bound(table.begin(), table.end(), std::pair{static_cast<double>(value), -1});
    double best = std::fabs(above->first - static_cast<double>(value));
    if (above != table.begin()) {
      best = std::min(best, std::fabs(std::prev(above)->first - static_cast<double>(value)));
    }
    const float chosen = decode_one(f, encode_one(f, value, Overflow::kSaturate));
    ASSERT_EQ(std::fabs(static_cast<double>(chosen) - static_cast<double>(value)), best) << value;
  }
}

TEST(Convert, KnownValues) {
  EXPECT_EQ(float_to_float16(1.0f, Overflow::kOverflow), 0x3c00);
  EXPECT_EQ(float_to_float16(65504.0f, Overflow::kOverflow), 0x7bff);
  EXPECT_EQ(float_to_float16(65520.0f, Overflow::kOverflow), 0x7c00);
  EXPECT_EQ(float_to_float16(65520.0f, Overflow::kSaturate), 0x7bff);
  EXPECT_EQ(float_to_float16(5.9604645e-8f, Overflow::kOverflow), 0x0001);
  EXPECT_EQ(float_to_float16(-0.0f, Overflow::kOverflow), 0x8000);
  EXPECT_EQ(float_to_bfloat16(3.140625f, Overflow::kOverflow), 0x4049);
  EXPECT_EQ(float_to_small_float(DataType::kFloat8E4M3FN, 448.0f, {}), 0x7e);
  EXPECT_EQ(float_to_small_float(DataType::kFloat8E4M3FN, 464.0f, {}), 0x7e);
  EXPECT_EQ(float_to_small_float(DataType::kFloat8E4M3FN, 465.0f, {}), 0x7f);
  EXPECT_EQ(float_to_small_float(DataType::kFloat8E4M3FNUZ, 240.0f, {}), 0x7f);
  EXPECT_EQ(float_to_small_float(DataType::kFloat8E4M3FNUZ, -0.0f, {}), 0x00);
  EXPECT_EQ(float_to_small_float(DataType::kFloat8E5M2, 57344.0f, {}), 0x7b);
  EXPECT_EQ(float_to_small_float(DataType::kFloat8E5M2FNUZ, 57344.0f, {}), 0x7f);
  const float e2m1[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  for (std::uint8_t code = 0; code < 8; ++code) {
    EXPECT_EQ(small_float_to_float(DataType::kFloat4E2M1, code), e2m1[code]);
    EXPECT_EQ(small_float_to_float(DataType::kFloat4E2M1, code | 8), -e2m1[code]);
  }
}

TEST(Convert, PowersOfTwoOnly) {
  const auto code = [](float value, PowerRounding rounding, Overflow overflow) {
    return int{float_to_small_float(DataType::kFloat8E8M0, value, {overflow, rounding})};
  };
  for (int c = 0; c < 255; ++c) {
    const double value = std::ldexp(1.0, c - 127);
    EXPECT_EQ(static_cast<double>(
                  small_float_to_float(DataType::kFloat8E8M0, static_cast<std::uint8_t>(c))),
              value);
    for (const auto rounding :
         {PowerRounding::kUp, PowerRounding::kDown, PowerRounding::kNearest}) {
      EXPECT_EQ(code(static_cast<float>(value), rounding, Overflow::kOverflow), c);
      EXPECT_EQ(code(static_cast<float>(-value), rounding, Overflow::kOverflow), c);
    }
    if (c == 254) continue;
    const float above = static_cast<float>(value * 1.25), tie = static_cast<float>(value * 1.5);
    EXPECT_EQ(code(above, PowerRounding::kUp, Overflow::kOverflow), c + 1);
    EXPECT_EQ(code(above, PowerRounding::kDown, Overflow::kOverflow), c);
    EXPECT_EQ(code(above, PowerRounding::kNearest, Overflow::kOverflow), c);
    EXPECT_EQ(code(tie, PowerRounding::kNearest, Overflow::kOverflow), c + 1);
  }
  EXPECT_TRUE(std::isnan(small_float_to_float(DataType::kFloat8E8M0, 255)));
  EXPECT_EQ(code(0.0f, PowerRounding::kUp, Overflow::kSaturate), 0);
  EXPECT_EQ(code(kNan, PowerRounding::kUp, Overflow::kSaturate), 255);
  EXPECT_EQ(code(kInf, PowerRounding::kUp, Overflow::kSaturate), 254);
  EXPECT_EQ(code(kInf, PowerRounding::kUp, Overflow::kOverflow), 255);
  EXPECT_EQ(code(std::numeric_limits<float>::max(), PowerRounding::kUp, Overflow::kSaturate), 254);
  EXPECT_EQ(code(std::numeric_limits<float>::max(), PowerRounding::kDown, Overflow::kOverflow),
            254);
}

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> result;
  for (const int v : values) result.push_back(static_cast<std::byte>(v));
  return result;
}

std::vector<float> decoded(DataType type, const std::vector<std::byte>& bytes, std::size_t n) {
  std::vector<float> out(n, -99.0f);
  EXPECT_TRUE(decode_to_float(type, bytes, out));
  return out;
}

TEST(Convert, PackedIntegersBeginAtTheLowBits) {
  using V = std::vector<float>;
  EXPECT_EQ(decoded(DataType::kInt4, bytes_of({0x8f, 0x07}), 3), (V{-1, -8, 7}));
  EXPECT_EQ(decoded(DataType::kUint4, bytes_of({0x8f, 0x07}), 3), (V{15, 8, 7}));
  EXPECT_EQ(decoded(DataType::kInt2, bytes_of({0b10110100, 0b01}), 5), (V{0, 1, -1, -2, 1}));
  EXPECT_EQ(decoded(DataType::kUint2, bytes_of({0b10110100, 0b01}), 5), (V{0, 1, 3, 2, 1}));
  EXPECT_EQ(decoded(DataType::kFloat4E2M1, bytes_of({0xf1, 0x02}), 3), (V{0.5f, -6, 1}));
}

TEST(Convert, WideTypesRoundToFloat) {
  using V = std::vector<float>;
  EXPECT_EQ(decoded(DataType::kInt8, bytes_of({0x80, 0x7f}), 2), (V{-128, 127}));
  EXPECT_EQ(decoded(DataType::kBool, bytes_of({0, 1, 2}), 3), (V{0, 1, 1}));
  EXPECT_EQ(decoded(DataType::kInt16, bytes_of({0xff, 0xff, 0, 0x80}), 2), (V{-1, -32768}));
  EXPECT_EQ(decoded(DataType::kUint16, bytes_of({0xff, 0xff}), 1), (V{65535}));
  EXPECT_EQ(decoded(DataType::kInt32, bytes_of({1, 0, 0, 1}), 1), (V{16777216}));  // tie to even
  EXPECT_EQ(decoded(DataType::kUint32, bytes_of({0xff, 0xff, 0xff, 0xff}), 1), (V{4294967296.f}));
  EXPECT_EQ(decoded(DataType::kInt64, bytes_of({0, 0, 0, 0, 0, 0, 0, 0x80}), 1),
            (V{-9223372036854775808.f}));
  const double values[] = {1e300, -0.1, 1e-60};
  std::vector<std::byte> bytes(sizeof values);
  std::memcpy(bytes.data(), values, sizeof values);
  EXPECT_EQ(decoded(DataType::kDouble, bytes, 3), (V{kInf, -0.1f, 0}));
}

TEST(Convert, ReadsAnyAlignmentAndRefusesShortSpans) {
  std::vector<std::byte> bytes(1 + 2 * 100);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37);
  std::vector<float> out(100);
  ASSERT_TRUE(decode_to_float(DataType::kFloat16, std::span(bytes).subspan(1), out));
  for (std::size_t i = 0; i < 100; ++i) {
    std::uint16_t code;
    std::memcpy(&code, &bytes[1 + 2 * i], 2);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(out[i]),
              std::bit_cast<std::uint32_t>(float16_to_float(code)));
  }
  out[0] = 42;
  EXPECT_FALSE(decode_to_float(DataType::kFloat16, std::span(bytes).first(199), out));
  EXPECT_FALSE(decode_to_float(DataType::kString, bytes, out));
  EXPECT_FALSE(decode_to_float(static_cast<DataType>(99), bytes, out));
  EXPECT_FALSE(decode_to_float(DataType::kComplex64, bytes, out));
  EXPECT_EQ(out[0], 42.0f);
  EXPECT_TRUE(decode_to_float(DataType::kInt4, {}, {}));
  EXPECT_FALSE(encode_from_float(DataType::kInt8, out, bytes, {}));
  EXPECT_FALSE(encode_from_float(DataType::kFloat, out, bytes, {}));
}

TEST(Convert, BulkEqualsOneByOne) {
  std::mt19937 random(11);
  std::vector<float> values(1003);
  for (float& v : values) v = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
  values[1] = kInf;
  values[2] = -kInf;
  values[3] = kNan;
  for (const FormatSpec& f : {kFloat16, kBfloat16, kE4M3FN, kE4M3FNUZ, kE5M2, kE5M2FNUZ, kE2M1}) {
    for (const Overflow overflow : {Overflow::kSaturate, Overflow::kOverflow}) {
      std::vector<std::byte> packed(*packed_bytes(f.type, 1003));
      ASSERT_TRUE(encode_from_float(f.type, values, packed, {overflow, PowerRounding::kUp}));
      std::vector<float> back(values.size());
      ASSERT_TRUE(decode_to_float(f.type, packed, back));
      for (std::size_t i = 0; i < values.size(); ++i) {
        const float expected = decode_one(f, encode_one(f, values[i], overflow));
        ASSERT_TRUE(back[i] == expected || (std::isnan(back[i]) && std::isnan(expected))) << i;
      }
    }
  }
  std::vector<std::byte> raw(values.size() * 4);
  ASSERT_TRUE(encode_from_float(DataType::kFloat, values, raw, {}));
  EXPECT_EQ(std::memcmp(raw.data(), values.data(), raw.size()), 0);
}

}  // namespace
}  // namespace mcompress
