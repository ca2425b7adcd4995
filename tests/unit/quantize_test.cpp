#include "numeric/quantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cfenv>
#include <cfloat>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "numeric/kernels.h"
#include "numeric/scale_search.h"

namespace mcompress {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr QuantType kInt8{8, true}, kUint8{8, false};

// QuantizeLinear as the operator's text says it, one value at a time.
int reference_quantize(float x, float scale, int zero_point, int lowest, int highest) {
  if (std::isnan(x / scale)) return zero_point;
  const float rounded = std::nearbyintf(x / scale);  // the default mode is half to even
  if (rounded > 1e9f) return highest;
  if (rounded < -1e9f) return lowest;
  return std::clamp(static_cast<int>(rounded) + zero_point, lowest, highest);
}

template <class T>
std::vector<T> quantized(std::span<const float> x, QuantParams params, CodeRange codes) {
  std::vector<T> out(x.size());
  quantize_span<T>(x, params, codes, out);
  return out;
}

std::vector<float> normals(std::uint32_t seed, std::size_t n, float scale = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> v(n);
  for (float& x : v) x = normal(random);
  return v;
}

TEST(QuantType, Limits) {
  EXPECT_EQ(kInt8.min(), -128);
  EXPECT_EQ(kInt8.max(), 127);
  EXPECT_EQ((QuantType{4, false}).max(), 15);
  EXPECT_EQ((QuantType{2, true}).min(), -2);
  EXPECT_EQ((QuantType{7, true}).max(), 63);
  EXPECT_EQ((QuantType{16, false}).max(), 65535);
  EXPECT_EQ(code_range(kInt8, CodeSpan::kNarrow).lo, -127);
  EXPECT_EQ(code_range(kInt8, CodeSpan::kFull).lo, -128);
  EXPECT_EQ(code_range({7, true}, CodeSpan::kNarrow).lo, -63);
}

TEST(AsymmetricParams, HandComputed) {
  EXPECT_EQ(asymmetric_params({-1, 1.55f}, kUint8), (QuantParams{0.01f, 100}));
  EXPECT_EQ(asymmetric_params({0, 255}, kUint8), (QuantParams{1, 0}));
  EXPECT_EQ(asymmetric_params({0, 255}, kInt8), (QuantParams{1, -128}));
  EXPECT_EQ(asymmetric_params({-255, 0}, kUint8), (QuantParams{1, 255}));
  // 0 is taken in.
  EXPECT_EQ(asymmetric_params({5, 255}, kUint8), (QuantParams{1, 0}));
  EXPECT_EQ(asymmetric_params({-255, -5}, kUint8), (QuantParams{1, 255}));
  // Zero point 127.5 is a tie: even.
  EXPECT_EQ(asymmetric_params({-127.5f, 127.5f}, kUint8), (QuantParams{1, 128}));
  EXPECT_EQ(asymmetric_params({-2, 13}, {4, false}), (QuantParams{1, 2}));
  EXPECT_EQ(asymmetric_params({-1, 2}, {2, true}), (QuantParams{1, -1}));
}

TEST(AsymmetricParams, DegenerateRanges) {
  EXPECT_EQ(asymmetric_params({0, 0}, kUint8), QuantParams{});
  EXPECT_EQ(asymmetric_params({0, 0}, kInt8), QuantParams{});
  EXPECT_EQ(asymmetric_params({kNan, kNan}, kInt8), QuantParams{});
  EXPECT_EQ(asymmetric_params({kNan, 255}, kUint8), (QuantParams{1, 0}));
  for (const Range range :
       {Range{-kInf, kInf}, Range{0, kInf}, Range{-FLT_MAX, FLT_MAX}, Range{-1e-45f, 0},
        Range{0, 1e-45f}, Range{-1e-39f, 1e-40f}, Range{FLT_MAX, FLT_MAX}, Range{1, -1},
        Range{-1e-38f, FLT_MAX}, Range{-0.0f, 1e-30f}}) {
    for (const std::uint8_t bits : std::vector<std::uint8_t>{2, 4, 7, 8, 16}) {
      for (const bool is_signed : {false, true}) {
        const QuantType type{bits, is_signed};
        const QuantParams p = asymmetric_params(range, type);
        EXPECT_TRUE(std::isnormal(p.scale));
        EXPECT_GT(p.scale, 0.0f);
        EXPECT_GE(p.zero_point, type.min());
        EXPECT_LE(p.zero_point, type.max());
        // Both ends of the grid are finite floats.
        EXPECT_TRUE(std::isfinite(static_cast<float>(type.max() - p.zero_point) * p.scale));
        EXPECT_TRUE(std::isfinite(static_cast<float>(type.min() - p.zero_point) * p.scale));
        const QuantParams s = symmetric_params(range, type, CodeSpan::kFull);
        EXPECT_TRUE(std::isnormal(s.scale));
        EXPECT_TRUE(std::isfinite(static_cast<float>(type.min() - s.zero_point) * s.scale));
      }
    }
  }
}

TEST(SymmetricParams, HandComputed) {
  EXPECT_EQ(symmetric_params({-127, 3}, kInt8, CodeSpan::kNarrow), (QuantParams{1, 0}));
  EXPECT_EQ(symmetric_params({-3, 254}, kInt8, CodeSpan::kFull), (QuantParams{2, 0}));
  EXPECT_EQ(symmetric_params({-127, 127}, kUint8, CodeSpan::kNarrow), (QuantParams{1, 128}));
  EXPECT_EQ(symmetric_params({-7, 7}, {4, true}, CodeSpan::kNarrow), (QuantParams{1, 0}));
  EXPECT_EQ(symmetric_params({-63, 0}, {7, true}, CodeSpan::kNarrow), (QuantParams{1, 0}));
  EXPECT_EQ(symmetric_params({0, 0}, kInt8, CodeSpan::kNarrow), (QuantParams{1, 0}));
}

TEST(QuantizeSpan, HandComputed) {
  const std::vector<float> x = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 126.6f,
                                200,  -200, kNan, kInf,  -kInf};
  EXPECT_EQ(quantized<std::int8_t>(x, {1, 0}, {-128, 127}),
            (std::vector<std::int8_t>{0, 2, 2, 0, -2, 127, 127, -128, 0, 127, -128}));
  EXPECT_EQ(quantized<std::int8_t>(x, {1, 0}, {-127, 127}),
            (std::vector<std::int8_t>{0, 2, 2, 0, -2, 127, 127, -127, 0, 127, -127}));
  // Rounding happens before the odd zero point is added: 0.5 -> 0 -> 3.
  EXPECT_EQ(quantized<std::uint8_t>(x, {1, 3}, {0, 255}),
            (std::vector<std::uint8_t>{3, 5, 5, 3, 1, 130, 203, 0, 3, 255, 0}));
  EXPECT_EQ(quantized<std::uint16_t>(x, {0.001f, 32768}, {0, 65535})[6], 65535);
  EXPECT_EQ(quantized<std::int16_t>(x, {0.01f, 0}, {-32768, 32767})[6], 20000);
}

class QuantizeSpanTest : public ::testing::Test {
 protected:
  void TearDown() override { kernel::force_targets(0); }
};

TEST_F(QuantizeSpanTest, EqualsTheOperatorOnEveryInstructionSet) {
  ASSERT_EQ(std::fegetround(), FE_TONEAREST);
  std::mt19937 random(21);
  for (int round = 0; round < 60; ++round) {
    const auto n = static_cast<std::size_t>(random() % 200);
    // Scales of all sizes, values around the grid and at ties, and any bit pattern.
    const float scale = std::ldexp(1.0f + static_cast<float>(random() % 1000) / 1000.0f,
                                   static_cast<int>(random() % 240) - 126);
    const int zero_point = static_cast<int>(random() % 256) - 128;
    std::vector<float> x(n);
    for (float& v : x) {
      switch (random() % 4) {
        case 0:
          v = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
          break;
        case 1:
          v = scale * (static_cast<float>(random() % 600) - 300.5f);
          break;
        default:
          v = scale * (static_cast<float>(random() % 100000) / 150.0f - 333.0f);
      }
    }
    for (const std::int64_t target : kernel::available_targets()) {
      kernel::force_targets(target);
      const auto i8 = quantized<std::int8_t>(x, {scale, zero_point}, {-128, 127});
      const auto u8 = quantized<std::uint8_t>(x, {scale, zero_point + 128}, {0, 255});
      const auto i16 = quantized<std::int16_t>(x, {scale, zero_point}, {-32768, 32767});
      const auto u16 = quantized<std::uint16_t>(x, {scale, zero_point + 128}, {0, 65535});
      for (std::size_t i = 0; i < n; ++i) {
        ASSERT_EQ(i8[i], reference_quantize(x[i], scale, zero_point, -128, 127)) << x[i];
        ASSERT_EQ(u8[i], reference_quantize(x[i], scale, zero_point + 128, 0, 255)) << x[i];
        ASSERT_EQ(i16[i], reference_quantize(x[i], scale, zero_point, -32768, 32767));
        ASSERT_EQ(u16[i], reference_quantize(x[i], scale, zero_point + 128, 0, 65535));
      }
    }
  }
}

TEST(QuantizeSpan, ZeroIsExactAndErrorsStayWithinHalfAStep) {
  std::mt19937 random(22);
  for (int round = 0; round < 100; ++round) {
    std::vector<float> x = normals(static_cast<std::uint32_t>(round), 500);
    const float shift = static_cast<float>(random() % 100) / 25.0f - 2.0f;
    Range range;
    for (float& v : x) {
      v += shift;
      range.lo = std::min(range.lo, v);
      range.hi = std::max(range.hi, v);
    }
    x.push_back(0.0f);
    const QuantParams p = asymmetric_params(range, kUint8);
    const auto codes = quantized<std::uint8_t>(x, p, {0, 255});
    std::vector<float> back(x.size());
    dequantize_span<std::uint8_t>(codes, p, back);
    EXPECT_EQ(back.back(), 0.0f);
    for (std::size_t i = 0; i < x.size(); ++i) {
      // Half a step inside, one step at the ends, which the rounded zero point may move.
      EXPECT_LE(std::fabs(back[i] - x[i]), p.scale * 1.001f);
    }
    // Quantizing the result again changes nothing.
    EXPECT_EQ(quantized<std::uint8_t>(back, p, {0, 255}), codes);
  }
}

// ---- per channel

struct Weights {
  ChannelLayout layout;
  std::vector<float> values;
};

Weights random_weights(std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto size = [&](unsigned largest) {
    return static_cast<std::int64_t>(1 + random() % largest);
  };
  Weights w{{size(3), size(9), seed % 3 == 0 ? 1 : size(90)}, {}};
  w.values = normals(seed, static_cast<std::size_t>(w.layout.elements()));
  return w;
}

// Calls use(first, chunk) for chunks of random size.
template <class Use>
void in_chunks(const Weights& w, std::uint32_t seed, Use use) {
  std::mt19937 random(seed);
  for (std::size_t at = 0; at < w.values.size();) {
    const std::size_t n = std::min<std::size_t>(w.values.size() - at, 1 + random() % 70);
    use(static_cast<std::int64_t>(at), std::span(w.values).subspan(at, n));
    at += n;
  }
}

TEST(Channels, RangesAndCodesEqualAScalarLoop) {
  for (std::uint32_t seed = 1; seed < 40; ++seed) {
    Weights w = random_weights(seed);
    if (w.values.size() > 3) w.values[2] = kNan;
    const auto channels = static_cast<std::size_t>(w.layout.channels);
    std::vector<float> lo(channels), hi(channels);
    for (std::size_t i = 0; i < w.values.size(); ++i) {
      if (!std::isfinite(w.values[i])) continue;
      const auto c = static_cast<std::size_t>(w.layout.channel_of(static_cast<std::int64_t>(i)));
      lo[c] = std::min(lo[c], w.values[i]);
      hi[c] = std::max(hi[c], w.values[i]);
    }
    ChannelRanges ranges(w.layout);
    in_chunks(w, seed, [&](auto first, auto chunk) { ranges.add(first, chunk); });
    EXPECT_EQ(ranges.non_finite(), w.values.size() > 3 ? 1u : 0u);
    const std::vector<float> absmax = ranges.absmax();
    for (std::size_t c = 0; c < channels; ++c) {
      EXPECT_EQ(ranges.ranges()[c], (Range{lo[c], hi[c]}));
      EXPECT_EQ(absmax[c], std::max(-lo[c], hi[c]));
    }
    const std::vector<float> scales = absmax_scales(absmax, kInt8);
    std::vector<std::int8_t> codes(w.values.size());
    in_chunks(w, seed + 1, [&](auto first, auto chunk) {
      quantize_channels(first, chunk, w.layout, scales, {-127, 127},
                        std::span(codes).subspan(static_cast<std::size_t>(first), chunk.size()));
    });
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const auto c = static_cast<std::size_t>(w.layout.channel_of(static_cast<std::int64_t>(i)));
      ASSERT_EQ(codes[i], reference_quantize(w.values[i], scales[c], 0, -127, 127));
    }
  }
}

TEST(Channels, AllZeroChannelGetsScaleOne) {
  const std::vector<float> absmax = {0, 1e-45f, 254};
  const std::vector<float> scales = absmax_scales(absmax, kInt8);
  EXPECT_EQ(scales, (std::vector<float>{1, FLT_MIN, 2}));
  const ChannelLayout layout{1, 2, 3};
  const std::vector<float> w = {0, 0, 0, 1, -2, 0.5f};
  ChannelScaleSearch search(layout, std::vector<float>{0, 2},
                            {kInt8, CodeSpan::kNarrow, 0.5, true});
  search.add(0, w, {});
  EXPECT_EQ(search.scales()[0], 1.0f);
  EXPECT_TRUE(std::isnormal(search.scales()[1]));
  EXPECT_TRUE(ChannelRanges(ChannelLayout{1, 0, 1}).absmax().empty());
}

double channel_error(const Weights& w, std::size_t channel, float scale, CodeRange codes,
                     std::span<const float> importance) {
  double error = 0;
  for (std::size_t i = 0; i < w.values.size(); ++i) {
    if (w.layout.channel_of(static_cast<std::int64_t>(i)) != static_cast<std::int64_t>(channel)) {
      continue;
    }
    const float v = w.values[i];
    const double q = reference_quantize(v, scale, 0, codes.lo, codes.hi);
    const double e = static_cast<double>(v) - static_cast<double>(scale) * q;
    error += (importance.empty() ? 1.0 : static_cast<double>(importance[i])) * e * e;
  }
  return error;
}

TEST(ScaleSearch, FindsTheBestOfTheGrid) {
  for (std::uint32_t seed = 50; seed < 70; ++seed) {
    const Weights w = random_weights(seed);
    ChannelRanges ranges(w.layout);
    ranges.add(0, w.values);
    const std::vector<float> absmax = ranges.absmax();
    std::vector<float> importance;
    if (seed % 2 == 0) {
      importance = normals(seed + 1000, w.values.size());
      for (float& h : importance) h *= h;
    }
    const ScaleSearchOptions options{{4, true}, CodeSpan::kFull, 0.5, false};
    ChannelScaleSearch whole(w.layout, absmax, options), chunked(w.layout, absmax, options);
    whole.add(0, w.values, importance);
    in_chunks(w, seed, [&](auto first, auto chunk) {
      chunked.add(first, chunk,
                  importance.empty() ? std::span<const float>()
                                     : std::span<const float>(importance)
                                           .subspan(static_cast<std::size_t>(first), chunk.size()));
    });
    const std::vector<float> scales = whole.scales();
    ASSERT_EQ(scales, chunked.scales());
    for (std::size_t c = 0; c < scales.size(); ++c) {
      double best = HUGE_VAL;
      for (int k = 0; k < 32; ++k) {
        const double end = static_cast<double>(absmax[c]) * (1.0 - k * 0.5 / 31.0);
        best =
            std::min(best, channel_error(w, c, static_cast<float>(end / 7.0), {-8, 7}, importance));
      }
      EXPECT_LE(channel_error(w, c, scales[c], {-8, 7}, importance), best * (1 + 1e-5) + 1e-12);
    }
  }
}

TEST(ScaleSearch, RefittingNeverHurts) {
  for (std::uint32_t seed = 80; seed < 100; ++seed) {
    const Weights w = random_weights(seed);
    ChannelRanges ranges(w.layout);
    ranges.add(0, w.values);
    std::vector<std::vector<float>> scales;
    for (const bool refit : {false, true}) {
      ChannelScaleSearch search(w.layout, ranges.absmax(),
                                {{3, true}, CodeSpan::kNarrow, 0.5, refit});
      search.add(0, w.values, {});
      scales.push_back(search.scales());
    }
    for (std::size_t c = 0; c < scales[0].size(); ++c) {
      EXPECT_LE(channel_error(w, c, scales[1][c], {-3, 3}, {}),
                channel_error(w, c, scales[0][c], {-3, 3}, {}) * (1 + 1e-5) + 1e-12);
    }
  }
}

TEST(ScaleSearch, InstructionSetsDoNotMatter) {
  const Weights w = random_weights(101);
  ChannelRanges ranges(w.layout);
  ranges.add(0, w.values);
  const auto run = [&] {
    ChannelScaleSearch search(w.layout, ranges.absmax(), {{4, true}, CodeSpan::kFull, 0.4, true});
    search.add(0, w.values, {});
    return search.scales();
  };
  const std::vector<float> best = run();
  for (const std::int64_t target : kernel::available_targets()) {
    kernel::force_targets(target);
    EXPECT_EQ(run(), best) << kernel::target_name(target);
  }
  kernel::force_targets(0);
}

// Gaussian rows at 4 bits: known signal-to-noise ratios (absmax about 16 dB, MSE scale about
// 19.3 dB per channel of some thousand weights; 22 dB for asymmetric blocks of 32).
TEST(ScaleSearch, ReachesKnownSqnrOnGaussians) {
  const std::vector<float> x = normals(7, 4096 * 16);
  QuantizationNoise plain, searched;
  for (std::size_t row = 0; row < 16; ++row) {
    const std::span<const float> part = std::span(x).subspan(row * 4096, 4096);
    for (const bool use_search : {false, true}) {
      const BlockFitOptions options{
          {{4, true}, CodeSpan::kFull, 0.4, true}, BlockShape::kSymmetric, use_search};
      const auto noise = quantization_noise(part, fit_block(part, {}, options), {-8, 7});
      QuantizationNoise& total = use_search ? searched : plain;
      total.signal += noise.signal;
      total.noise += noise.noise;
    }
  }
  EXPECT_NEAR(plain.sqnr_db(), 16.2, 0.6);
  EXPECT_NEAR(searched.sqnr_db(), 19.4, 0.4);
  QuantizationNoise blocks;
  for (std::size_t at = 0; at < x.size(); at += 32) {
    const std::span<const float> part = std::span(x).subspan(at, 32);
    const BlockFitOptions options{
        {{4, false}, CodeSpan::kFull, 0.5, true}, BlockShape::kAsymmetric, true};
    const auto noise = quantization_noise(part, fit_block(part, {}, options), {0, 15});
    blocks.signal += noise.signal;
    blocks.noise += noise.noise;
  }
  EXPECT_NEAR(blocks.sqnr_db(), 22.1, 0.4);
}

TEST(FitBlock, NeverWorseThanTheFullRange) {
  std::mt19937 random(31);
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    const std::vector<float> x =
        normals(seed, 1 + random() % 64, std::ldexp(1.0f, static_cast<int>(random() % 200) - 100));
    for (const BlockShape shape : {BlockShape::kSymmetric, BlockShape::kAsymmetric}) {
      BlockFitOptions options{
          {{4, shape == BlockShape::kSymmetric}, CodeSpan::kFull, 0.5, true}, shape, true};
      const CodeRange codes = code_range(options.search.type, CodeSpan::kFull);
      const auto with = quantization_noise(x, fit_block(x, {}, options), codes);
      options.use_search = false;
      const auto without = quantization_noise(x, fit_block(x, {}, options), codes);
      EXPECT_LE(with.noise, without.noise * (1 + 1e-5) + 1e-12 * without.signal);
    }
  }
}

TEST(FitBlock, Degenerate) {
  const BlockFitOptions options{
      {{4, true}, CodeSpan::kFull, 0.5, true}, BlockShape::kSymmetric, true};
  const BlockFitOptions asymmetric{
      {{4, false}, CodeSpan::kFull, 0.5, true}, BlockShape::kAsymmetric, true};
  EXPECT_EQ(fit_block({}, {}, options), QuantParams{});
  EXPECT_EQ(fit_block(std::vector<float>(32), {}, options), QuantParams{});
  EXPECT_EQ(fit_block(std::vector<float>(32), {}, asymmetric), QuantParams{});
  EXPECT_EQ(fit_block(std::vector<float>{kNan, kInf}, {}, options), QuantParams{});
  const std::vector<std::vector<float>> cases = {
      {1e-45f, -1e-44f}, {FLT_MAX, -FLT_MAX, 1}, {5}, {-5}, {1, kNan, 2}, {1e-20f, 1e20f}};
  for (const auto& x : cases) {
    for (const auto& o : {options, asymmetric}) {
      const QuantParams p = fit_block(x, {}, o);
      EXPECT_TRUE(std::isnormal(p.scale));
      EXPECT_GT(p.scale, 0.0f);
    }
  }
  // No element counts: the full range.
  const std::vector<float> x = {1, -7}, none = {0, 0};
  EXPECT_EQ(fit_block(x, none, options), (QuantParams{1, 0}));
}

TEST(FitBlock, ImportanceMovesTheError) {
  std::vector<float> x = normals(40, 64), importance(64, 1.0f);
  importance[10] = 1e6f;
  const BlockFitOptions options{
      {{3, true}, CodeSpan::kNarrow, 0.3, true}, BlockShape::kSymmetric, true};
  const auto error_at_10 = [&](QuantParams p) {
    std::vector<std::int8_t> code(1);
    quantize_span<std::int8_t>(std::span(x).subspan(10, 1), p, {-3, 3}, code);
    return std::fabs(x[10] - static_cast<float>(code[0]) * p.scale);
  };
  EXPECT_LT(error_at_10(fit_block(x, importance, options)),
            error_at_10(fit_block(x, {}, options)) + 1e-6f);
  EXPECT_LT(error_at_10(fit_block(x, importance, options)), 1e-3f);
}

// ---- packing, bias, noise

TEST(PackCodes, HandComputedAndRoundTrip) {
  const std::vector<std::int8_t> codes = {-1, -8, 7};
  std::vector<std::byte> packed(2);
  pack_codes(codes, 4, packed);
  EXPECT_EQ(packed, (std::vector<std::byte>{std::byte{0x8f}, std::byte{0x07}}));
  const std::vector<std::uint8_t> two = {0, 1, 3, 2, 1};
  pack_codes(two, 2, packed);
  EXPECT_EQ(packed, (std::vector<std::byte>{std::byte{0b10110100}, std::byte{0b01}}));
  std::mt19937 random(41);
  for (const int bits : {2, 4}) {
    for (std::size_t n = 0; n < 40; ++n) {
      const int half = 1 << (bits - 1);
      std::vector<std::int8_t> s(n), s_back(n);
      std::vector<std::uint8_t> u(n), u_back(n);
      for (std::size_t i = 0; i < n; ++i) {
        u[i] = static_cast<std::uint8_t>(random() % static_cast<unsigned>(2 * half));
        s[i] = static_cast<std::int8_t>(u[i] - half);
      }
      std::vector<std::byte> bytes((n * static_cast<std::size_t>(bits) + 7) / 8);
      pack_codes(s, bits, bytes);
      unpack_codes(bytes, bits, s_back);
      EXPECT_EQ(s, s_back);
      pack_codes(u, bits, bytes);
      unpack_codes(bytes, bits, u_back);
      EXPECT_EQ(u, u_back);
    }
  }
}

TEST(Bias, HandComputed) {
  const std::vector<float> bias = {1, -0.5f, 0.375f, kNan, kInf, -kInf};
  const std::vector<float> scales = {0.5f};
  std::vector<std::int32_t> out(6);
  quantize_bias(bias, 0.5f, scales, out);
  EXPECT_EQ(out, (std::vector<std::int32_t>{4, -2, 2, 0, INT32_MAX, INT32_MIN}));
  const std::vector<float> each = {0.5f, 0.25f, 0.125f, 1, 1, 1};
  quantize_bias(bias, 0.5f, each, out);
  EXPECT_EQ(out[1], -4);
  EXPECT_EQ(out[2], 6);
}

TEST(Bias, ScalesAreRaisedJustEnough) {
  std::mt19937 random(42);
  for (int round = 0; round < 500; ++round) {
    const auto power = [&](int low, int high) {
      return std::ldexp(1.0f + static_cast<float>(random() % 1000) / 1001.0f,
                        low + static_cast<int>(random() % static_cast<unsigned>(high - low)));
    };
    const std::vector<float> bias = {power(-10, 40), -power(-10, 40)};
    const float input_scale = power(-30, 3);
    std::vector<float> scales = {power(-60, 0), power(-60, 0)};
    const std::vector<float> before = scales;
    const std::size_t changed = raise_scales_for_bias(bias, input_scale, scales);
    std::size_t expected = 0;
    std::vector<std::int32_t> out(2);
    quantize_bias(bias, input_scale, scales, out);
    for (std::size_t c = 0; c < 2; ++c) {
      const auto ratio = [&](float s) {
        return std::fabs(static_cast<double>(bias[c])) / static_cast<double>(input_scale * s);
      };
      EXPECT_LE(ratio(scales[c]), 2147483647.0);
      EXPECT_NEAR(static_cast<double>(out[c]) * static_cast<double>(input_scale * scales[c]),
                  bias[c], 0.5001 * static_cast<double>(input_scale * scales[c]));
      if (ratio(before[c]) <= 2147483647.0) {
        EXPECT_EQ(scales[c], before[c]);
      } else {
        ++expected;
        EXPECT_GT(ratio(std::nextafter(scales[c], 0.0f)), 2147483647.0);
      }
    }
    EXPECT_EQ(changed, expected);
  }
}

TEST(Bias, ScaleGuardEdges) {
  std::vector<float> scales = {1e-30f};
  const std::vector<float> bias = {1, 2, kInf, kNan};
  EXPECT_EQ(raise_scales_for_bias(bias, 1e-20f, scales), 1u);  // the product was denormal
  EXPECT_GE(1e-20f * scales[0], FLT_MIN);
  EXPECT_LE(2.0, 2147483647.0 * static_cast<double>(1e-20f * scales[0]));
  scales = {1e-30f};
  const std::vector<float> zero = {0};
  EXPECT_EQ(raise_scales_for_bias(zero, 1.0f, scales), 0u);
  EXPECT_EQ(raise_scales_for_bias({}, 1.0f, {}), 0u);
}

TEST(QuantizationNoise, HandComputed) {
  const std::vector<float> x = {1.25f, -2, 3.5f, kNan};
  const QuantizationNoise n = quantization_noise(x, {1, 0}, {-128, 127});
  EXPECT_EQ(n.signal, 1.5625 + 4 + 12.25);
  EXPECT_EQ(n.noise, 0.0625 + 0.25);
  EXPECT_NEAR(n.sqnr_db(), 10 * std::log10(57.0), 1e-12);
  EXPECT_EQ(quantization_noise({}, {1, 0}, {-128, 127}).sqnr_db(), 0.0);
  EXPECT_EQ(quantization_noise(std::vector<float>{2}, {1, 0}, {-128, 127}).sqnr_db(), kInf);
  // 16-bit codes, both kinds.
  const std::vector<float> y = {-3, 5, 60000};
  EXPECT_EQ(quantization_noise(y, {1, 3}, {0, 65535}).noise, 0.0);
  EXPECT_EQ(quantization_noise(y, {2, 0}, {-32768, 32767}).noise, 2.0);
}

}  // namespace
}  // namespace mcompress
