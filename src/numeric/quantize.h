// Affine integer quantization as ONNX QuantizeLinear / DequantizeLinear define it:
//   q = saturate(round_half_even(x / scale) + zero_point),  x^ = (q - zero_point) * scale,
// all in float32. Scales returned here are finite, normal and above 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "numeric/layout.h"
#include "numeric/stats.h"

namespace mcompress {

// 2 to 16 bits. Codes of fewer than 8 bits live in int8 / uint8 until they are packed.
struct QuantType {
  std::uint8_t bits = 8;
  bool is_signed = true;

  std::int32_t min() const { return is_signed ? -(std::int32_t{1} << (bits - 1)) : 0; }
  std::int32_t max() const { return (std::int32_t{1} << (is_signed ? bits - 1 : bits)) - 1; }
  bool operator==(const QuantType&) const = default;
};

// kNarrow leaves out the code without a counterpart: -127..127, or 1..255 around 128. Products of
// two narrow signed codes can not reach (-128)^2, which 16-bit accumulating kernels need.
enum class CodeSpan : std::uint8_t { kFull, kNarrow };

struct CodeRange {
  std::int32_t lo = -128, hi = 127;
};
CodeRange code_range(QuantType type, CodeSpan span);

struct QuantParams {
  float scale = 1.0f;
  std::int32_t zero_point = 0;
  bool operator==(const QuantParams&) const = default;
};

// The range is widened to contain 0, so that 0 is represented exactly. NaN ends count as 0,
// infinities as +-FLT_MAX / 2, to which larger ends are cut as well. {0, 0} gives scale 1 and zero
// point 0. A range that would need a denormal scale gets scale FLT_MIN.
//   scale = (hi - lo) / (max - min),  zero_point = round_half_even(min - lo / scale).
// A range that begins at 0 has the zero point min (a ReLU output can be fused).
QuantParams asymmetric_params(Range range, QuantType type);

// scale = max(|lo|, |hi|) / max for signed types (zero point 0), the same with zero point
// 2^(bits-1) for unsigned ones. The full span uses the same scale; its extra code serves values
// that clipping pushed past the end.
QuantParams symmetric_params(Range range, QuantType type, CodeSpan span);

// `out` is at least as long as `in`. NaN gives the zero point. T is int8_t, uint8_t, int16_t or
// uint16_t and holds the codes.
template <class T>
void quantize_span(std::span<const float> in, QuantParams params, CodeRange codes,
                   std::span<T> out);
template <class T>
void dequantize_span(std::span<const T> in, QuantParams params, std::span<float> out);

// ---- per channel, streamed: `first` is the flat index of the chunk's first element.

// Range of each channel, 0 included; NaN and infinities are counted, not used.
class ChannelRanges {
 public:
  explicit ChannelRanges(const ChannelLayout& layout);
  void add(std::int64_t first, std::span<const float> values);
  const std::vector<Range>& ranges() const { return ranges_; }
  std::vector<float> absmax() const;
  std::uint64_t non_finite() const { return non_finite_; }

 private:
  ChannelLayout layout_;
  std::vector<Range> ranges_;
  std::uint64_t non_finite_ = 0;
};

// Symmetric codes of a chunk, one scale per channel, zero point 0; `out` as long as `values`.
void quantize_channels(std::int64_t first, std::span<const float> values,
                       const ChannelLayout& layout, std::span<const float> scales, CodeRange codes,
                       std::span<std::int8_t> out);

// ---- packing of codes below 8 bits, as ONNX does it: element 0 in the lowest bits of byte 0, the
// last byte filled with 0. bits is 2 or 4; out holds (in.size() * bits + 7) / 8 bytes.
void pack_codes(std::span<const std::int8_t> codes, int bits, std::span<std::byte> out);
void pack_codes(std::span<const std::uint8_t> codes, int bits, std::span<std::byte> out);
void unpack_codes(std::span<const std::byte> packed, int bits, std::span<std::int8_t> out);
void unpack_codes(std::span<const std::byte> packed, int bits, std::span<std::uint8_t> out);

// ---- bias of an integer convolution or matrix product: q = round_half_even(b / s), s = s_x * s_w
// (a float32 product, as the runtimes compute it), saturated to int32; NaN gives 0.

// Enlarges weight scales for which |b / (s_x s_w)| would reach 2^31, or s_x * s_w would be
// denormal, to the smallest float that avoids it. `weight_scales` has one entry, or one per bias
// element. Returns how many it changed. Infinite biases are ignored; their codes saturate.
std::size_t raise_scales_for_bias(std::span<const float> bias, float input_scale,
                                  std::span<float> weight_scales);
void quantize_bias(std::span<const float> bias, float input_scale,
                   std::span<const float> weight_scales, std::span<std::int32_t> out);

// Energy of x and of x - dequantize(quantize(x)) over the finite values; ratio in dB.
struct QuantizationNoise {
  double signal = 0.0, noise = 0.0;
  double sqnr_db() const;  // +inf without noise, 0 without signal
};
QuantizationNoise quantization_noise(std::span<const float> values, QuantParams params,
                                     CodeRange codes);

}  // namespace mcompress
