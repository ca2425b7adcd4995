#include "numeric/quantize.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <limits>
#include <type_traits>

#include "numeric/error.h"
#include "numeric/kernels.h"

namespace mcompress {
namespace {

// Half of the float range: (code - zero_point) * scale stays finite although rounding the zero
// point can push the ends of the grid out by half a step.
constexpr float kLargestEnd = FLT_MAX / 2;

float usable_end(float end) {
  return std::isnan(end) ? 0.0f : std::clamp(end, -kLargestEnd, kLargestEnd);
}

double round_half_even(double x) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52; |x| is below 2^51
  return (x + kMagic) - kMagic;
}

kernel::QuantizeArgs kernel_args(QuantParams params, CodeRange codes) {
  return {params.scale, static_cast<float>(codes.lo - params.zero_point),
          static_cast<float>(codes.hi - params.zero_point), params.zero_point};
}

}  // namespace

CodeRange code_range(QuantType type, CodeSpan span) {
  return {type.min() + (span == CodeSpan::kNarrow ? 1 : 0), type.max()};
}

QuantParams asymmetric_params(Range range, QuantType type) {
  const double lo = std::min(0.0f, usable_end(range.lo));
  const double hi = std::max(0.0f, usable_end(range.hi));
  if (lo == 0.0 && hi == 0.0) return {};
  const double steps = type.max() - type.min();
  const float scale = std::max(FLT_MIN, static_cast<float>((hi - lo) / steps));
  const double zero = round_half_even(type.min() - lo / static_cast<double>(scale));
  return {scale, static_cast<std::int32_t>(std::clamp(zero, static_cast<double>(type.min()),
                                                      static_cast<double>(type.max())))};
}

QuantParams symmetric_params(Range range, QuantType type, CodeSpan) {
  const std::int32_t zero_point = type.is_signed ? 0 : std::int32_t{1} << (type.bits - 1);
  const double largest = std::max(std::fabs(usable_end(range.lo)), std::fabs(usable_end(range.hi)));
  if (largest == 0.0) return {1.0f, zero_point};
  const double steps = type.max() - zero_point;
  return {std::max(FLT_MIN, static_cast<float>(largest / steps)), zero_point};
}

template <class T>
void quantize_span(std::span<const float> in, QuantParams params, CodeRange codes,
                   std::span<T> out) {
  assert(out.size() >= in.size());
  kernel::quantize(in.data(), in.size(), kernel_args(params, codes), out.data());
}
template void quantize_span(std::span<const float>, QuantParams, CodeRange, std::span<std::int8_t>);
template void quantize_span(std::span<const float>, QuantParams, CodeRange,
                            std::span<std::uint8_t>);
template void quantize_span(std::span<const float>, QuantParams, CodeRange,
                            std::span<std::int16_t>);
template void quantize_span(std::span<const float>, QuantParams, CodeRange,
                            std::span<std::uint16_t>);

template <class T>
void dequantize_span(std::span<const T> in, QuantParams params, std::span<float> out) {
  assert(out.size() >= in.size());
  for (std::size_t i = 0; i < in.size(); ++i) {
    out[i] = static_cast<float>(in[i] - params.zero_point) * params.scale;
  }
}
template void dequantize_span(std::span<const std::int8_t>, QuantParams, std::span<float>);
template void dequantize_span(std::span<const std::uint8_t>, QuantParams, std::span<float>);
template void dequantize_span(std::span<const std::int16_t>, QuantParams, std::span<float>);
template void dequantize_span(std::span<const std::uint16_t>, QuantParams, std::span<float>);

ChannelRanges::ChannelRanges(const ChannelLayout& layout)
    : layout_(layout), ranges_(static_cast<std::size_t>(layout.channels)) {}

void ChannelRanges::add(std::int64_t first, std::span<const float> values) {
  for_each_channel_run(layout_, first, values.size(),
                       [&](std::int64_t channel, std::size_t offset, std::size_t length) {
                         Range& range = ranges_[static_cast<std::size_t>(channel)];
                         while (length > 0) {
                           const std::size_t n = std::min(length, kernel::kBlock);
                           const std::span<const float> run = values.subspan(offset, n);
                           offset += n;
                           length -= n;
                           if (n >= 32) {
                             const kernel::BlockRange block = kernel::block_range(run.data(), n);
                             if (block.non_finite == 0) {
                               range.lo = std::min(range.lo, block.min);
                               range.hi = std::max(range.hi, block.max);
                               continue;
                             }
                           }
                           for (const float v : run) {
                             if (!(std::fabs(v) <= FLT_MAX)) {
                               ++non_finite_;
                               continue;
                             }
                             range.lo = std::min(range.lo, v);
                             range.hi = std::max(range.hi, v);
                           }
                         }
                       });
}

std::vector<float> ChannelRanges::absmax() const {
  std::vector<float> result;
  result.reserve(ranges_.size());
  for (const Range& range : ranges_) result.push_back(std::max(-range.lo, range.hi) + 0.0f);
  return result;
}

void quantize_channels(std::int64_t first, std::span<const float> values,
                       const ChannelLayout& layout, std::span<const float> scales, CodeRange codes,
                       std::span<std::int8_t> out) {
  assert(out.size() >= values.size());
  assert(scales.size() == static_cast<std::size_t>(layout.channels));
  const float lo = static_cast<float>(codes.lo), hi = static_cast<float>(codes.hi);
  if (layout.inner == 1) {
    // Rows of channels: the scales run along with the values.
    std::size_t done = 0;
    auto channel =
        values.empty() ? std::size_t{0} : static_cast<std::size_t>(layout.channel_of(first));
    while (done < values.size()) {
      const std::size_t n = std::min(values.size() - done, scales.size() - channel);
      kernel::quantize_scales(values.data() + done, scales.data() + channel, n, lo, hi,
                              out.data() + done);
      done += n;
      channel = 0;
    }
    return;
  }
  for_each_channel_run(
      layout, first, values.size(),
      [&](std::int64_t channel, std::size_t offset, std::size_t length) {
        const float scale = scales[static_cast<std::size_t>(channel)];
        kernel::quantize(values.data() + offset, length, {scale, lo, hi, 0}, out.data() + offset);
      });
}

namespace {

template <class T>
void pack_any(std::span<const T> codes, int bits, std::span<std::byte> out) {
  assert(bits == 2 || bits == 4);
  const auto per_byte = static_cast<std::size_t>(8 / bits);
  const unsigned mask = (1u << bits) - 1;
  assert(out.size() >= (codes.size() + per_byte - 1) / per_byte);
  for (std::size_t i = 0, byte = 0; i < codes.size(); i += per_byte, ++byte) {
    unsigned value = 0;
    const std::size_t end = std::min(per_byte, codes.size() - i);
    for (std::size_t j = 0; j < end; ++j) {
      value |= (static_cast<unsigned>(codes[i + j]) & mask) << (static_cast<unsigned>(bits) * j);
    }
    out[byte] = static_cast<std::byte>(value);
  }
}

template <class T>
void unpack_any(std::span<const std::byte> packed, int bits, std::span<T> out) {
  assert(bits == 2 || bits == 4);
  const auto per_byte = static_cast<std::size_t>(8 / bits);
  assert(packed.size() >= (out.size() + per_byte - 1) / per_byte);
  const int mask = (1 << bits) - 1, sign = std::is_signed_v<T> ? 1 << (bits - 1) : 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int byte = std::to_integer<int>(packed[i / per_byte]);
    const int code = (byte >> (bits * static_cast<int>(i % per_byte))) & mask;
    out[i] = static_cast<T>((code ^ sign) - sign);
  }
}

}  // namespace

void pack_codes(std::span<const std::int8_t> codes, int bits, std::span<std::byte> out) {
  pack_any(codes, bits, out);
}
void pack_codes(std::span<const std::uint8_t> codes, int bits, std::span<std::byte> out) {
  pack_any(codes, bits, out);
}
void unpack_codes(std::span<const std::byte> packed, int bits, std::span<std::int8_t> out) {
  unpack_any(packed, bits, out);
}
void unpack_codes(std::span<const std::byte> packed, int bits, std::span<std::uint8_t> out) {
  unpack_any(packed, bits, out);
}

std::size_t raise_scales_for_bias(std::span<const float> bias, float input_scale,
                                  std::span<float> weight_scales) {
  assert(weight_scales.size() == 1 || weight_scales.size() == bias.size());
  constexpr double kLimit = 2147483647.0;
  std::size_t changed = 0;
  for (std::size_t c = 0; c < weight_scales.size(); ++c) {
    double largest = 0.0;
    const std::span<const float> part = weight_scales.size() == 1 ? bias : bias.subspan(c, 1);
    for (const float b : part) {
      if (std::isfinite(b)) largest = std::max(largest, std::fabs(static_cast<double>(b)));
    }
    const auto fits = [&](float scale) {
      const float product = input_scale * scale;
      return product >= FLT_MIN && largest <= kLimit * static_cast<double>(product);
    };
    if (fits(weight_scales[c])) continue;
    // Positive floats order like their bits: search for the smallest one that fits.
    const double wanted =
        std::max(largest / kLimit, static_cast<double>(FLT_MIN)) / static_cast<double>(input_scale);
    float scale = static_cast<float>(std::min(wanted, static_cast<double>(FLT_MAX)));
    while (fits(scale) && scale > weight_scales[c]) scale = std::nextafter(scale, 0.0f);
    while (!fits(scale) && scale < FLT_MAX) scale = std::nextafter(scale, FLT_MAX);
    weight_scales[c] = scale;
    ++changed;
  }
  return changed;
}

void quantize_bias(std::span<const float> bias, float input_scale,
                   std::span<const float> weight_scales, std::span<std::int32_t> out) {
  assert(weight_scales.size() == 1 || weight_scales.size() == bias.size());
  assert(out.size() >= bias.size());
  for (std::size_t i = 0; i < bias.size(); ++i) {
    const float scale = input_scale * weight_scales[weight_scales.size() == 1 ? 0 : i];
    const double ratio = static_cast<double>(bias[i]) / static_cast<double>(scale);
    const double limited = std::isnan(ratio) ? 0.0 : std::clamp(ratio, -2147483648.0, 2147483647.0);
    out[i] = static_cast<std::int32_t>(round_half_even(limited));
  }
}

double QuantizationNoise::sqnr_db() const {
  if (signal <= 0.0) return 0.0;
  if (noise <= 0.0) return std::numeric_limits<double>::infinity();
  return 10.0 * std::log10(signal / noise);
}

QuantizationNoise quantization_noise(std::span<const float> values, QuantParams params,
                                     CodeRange codes) {
  constexpr std::size_t kChunk = 1024;
  std::array<float, kChunk> restored;
  std::array<std::int16_t, kChunk> numbers;
  // Codes relative to the zero point always fit 17 bits; 16-bit unsigned ones need the shift.
  const std::int32_t shift = codes.hi > 32767 ? 32768 : 0;
  const QuantParams moved{params.scale, params.zero_point - shift};
  ErrorAccumulator error;
  while (!values.empty()) {
    const std::size_t n = std::min(values.size(), kChunk);
    const std::span<const float> part = values.first(n);
    quantize_span(part, moved, {codes.lo - shift, codes.hi - shift}, std::span(numbers).first(n));
    dequantize_span(std::span<const std::int16_t>(numbers).first(n), moved, std::span(restored));
    error.add(part, std::span<const float>(restored).first(n));
    values = values.subspan(n);
  }
  const ErrorStats stats = error.stats();
  return {stats.signal, stats.noise};
}

}  // namespace mcompress
