#include "passes/common/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "support/try.h"

namespace mcompress {
namespace {

WeightView along_axis(std::span<const std::int64_t> dims, std::size_t axis) {
  WeightView layout;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i < axis) layout.outer *= dims[i];
    if (i > axis) layout.inner *= dims[i];
  }
  layout.channels = dims[axis];
  layout.axis = static_cast<std::int64_t>(axis);
  layout.scale_dims.assign(dims.size(), 1);
  layout.scale_dims[axis] = dims[axis];
  return layout;
}

bool is_recurrent(const Node& node) { return node.is("LSTM") || node.is("GRU") || node.is("RNN"); }

constexpr double kExactDb = 200;

double decibels(double signal, double noise) {
  if (noise <= 0 || signal <= 0) return kExactDb;
  return std::min(kExactDb, 10 * std::log10(signal / noise));
}

// Index within the channel vector of element (outer o, inner i).
struct ChannelOrder {
  explicit ChannelOrder(const WeightView& layout)
      : inner(static_cast<std::size_t>(layout.inner)),
        taps(static_cast<std::size_t>(layout.taps)),
        depth(inner / std::max<std::size_t>(taps, 1)) {}
  std::size_t operator()(std::size_t outer, std::size_t i) const {
    return outer * inner + (taps > 1 ? i % taps * depth + i / taps : i);
  }
  std::size_t inner, taps, depth;
};

}  // namespace

std::optional<WeightView> weight_view(const Node& node, std::size_t slot,
                                      std::span<const std::int64_t> dims) {
  if (!node.domain().empty() || dims.empty()) return std::nullopt;
  const std::size_t rank = dims.size();
  if (node.op_type() == "Conv" && slot == 1 && rank >= 3) {
    WeightView layout = along_axis(dims, 0);
    layout.taps =
        std::accumulate(dims.begin() + 2, dims.end(), std::int64_t{1}, std::multiplies<>());
    return layout;
  }
  if (node.op_type() == "ConvTranspose" && slot == 1 && rank >= 3) return along_axis(dims, 1);
  if (node.op_type() == "Gemm" && slot <= 1 && rank == 2) {
    // The channels of B are the columns of the result, those of A its rows.
    const bool transposed = node.int_attribute(slot == 1 ? "transB" : "transA", 0) != 0;
    return along_axis(dims, (slot == 1) != transposed ? 1 : 0);
  }
  if (node.op_type() == "MatMul" && slot <= 1 && rank >= 2) {
    return along_axis(dims, slot == 1 ? rank - 1 : rank - 2);
  }
  if (is_recurrent(node) && (slot == 1 || slot == 2) && rank == 3) {
    // [directions, gates * hidden, input]: a scale for each row of each direction.
    WeightView layout;
    layout.channels = dims[0] * dims[1];
    layout.inner = dims[2];
    layout.axis = -1;
    layout.scale_dims = {dims[0], dims[1], 1};
    return layout;
  }
  if (node.op_type() == "Gather" && slot == 0 && rank >= 2 && node.int_attribute("axis", 0) == 0) {
    return along_axis(dims, 0);
  }
  return std::nullopt;
}

Result<QuantizedWeight> quantize_weight(const Tensor& weight, const WeightView& layout,
                                        const WeightRounding& how, bool affine,
                                        std::span<const double> input_means, std::int64_t groups,
                                        std::span<const float> least_scales,
                                        TensorFactory& tensors) {
  MCOMPRESS_ASSIGN(const std::vector<float> values, read_floats(weight));
  const auto channels = static_cast<std::size_t>(layout.channels);
  const auto outer = static_cast<std::size_t>(layout.outer);
  const auto inner = static_cast<std::size_t>(layout.inner);
  const auto length = static_cast<std::size_t>(layout.length());
  const ChannelOrder order(layout);

  WeightRounding rounding = how;
  if (layout.taps > 1) {
    rounding.taps = layout.taps;
    rounding.tap_stride = layout.inner / layout.taps;
  }
  QuantizedWeight result;
  result.scales.resize(channels);
  if (affine) result.zero_points.resize(channels);
  if (!input_means.empty()) result.mean_shift.assign(channels, 0);
  std::vector<std::byte> bytes(values.size());

  // Columns are gathered sixteen at a time: one cache line of floats.
  constexpr std::size_t kBlock = 16;
  std::vector<float> block(kBlock * length);
  std::vector<std::int8_t> codes(length);
  std::vector<std::uint8_t> affine_codes(length);
  double signal = 0;
  double noise = 0;
  for (std::size_t first = 0; first < channels; first += kBlock) {
    const std::size_t count = std::min(kBlock, channels - first);
    for (std::size_t o = 0; o < outer; ++o) {
      if (inner == 1) {
        const float* row = values.data() + o * channels + first;
        for (std::size_t c = 0; c < count; ++c) block[c * length + o] = row[c];
        continue;
      }
      for (std::size_t c = 0; c < count; ++c) {
        const float* row = values.data() + (o * channels + first + c) * inner;
        for (std::size_t i = 0; i < inner; ++i) block[c * length + order(o, i)] = row[i];
      }
    }
    for (std::size_t c = 0; c < count; ++c) {
      const std::size_t channel = first + c;
      const std::span<const float> vector(block.data() + c * length, length);
      float scale = 1;
      int zero = 0;
      if (affine) {
        const AffineChannel rounded = round_channel_affine(vector, affine_codes);
        scale = rounded.scale;
        zero = rounded.zero_point;
        result.zero_points[channel] = rounded.zero_point;
      } else {
        rounding.least_scale = least_scales.empty() ? 0 : least_scales[channel];
        scale = round_channel(vector, rounding, codes);
      }
      result.scales[channel] = scale;
      const auto group_base =
          groups > 1 ? channel / (channels / static_cast<std::size_t>(groups)) * order.depth : 0;
      double shift = 0;
      for (std::size_t k = 0; k < length; ++k) {
        const int code = affine ? int{affine_codes[k]} - zero : int{codes[k]};
        const double real = static_cast<double>(code) * scale;
        const double error = real - vector[k];
        signal += double{vector[k]} * vector[k];
        noise += error * error;
        if (!input_means.empty()) {
          const std::size_t input = order.taps > 1 || groups > 1 ? group_base + k % order.depth : k;
          if (input < input_means.size()) shift += error * input_means[input];
        }
      }
      if (!input_means.empty()) result.mean_shift[channel] = shift;
      for (std::size_t o = 0; o < outer; ++o) {
        std::byte* row = bytes.data() + (o * channels + channel) * inner;
        for (std::size_t i = 0; i < inner; ++i) {
          const std::size_t k = order(o, i);
          row[i] =
              affine ? static_cast<std::byte>(affine_codes[k]) : static_cast<std::byte>(codes[k]);
        }
      }
    }
  }
  result.sqnr_db = decibels(signal, noise);
  const DataType type = affine ? DataType::kUint8 : DataType::kInt8;
  std::vector<std::int64_t> dims(weight.dims().begin(), weight.dims().end());
  MCOMPRESS_ASSIGN(result.codes,
                   tensors.make(type, std::move(dims),
                                [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                                  std::memcpy(out.data(), bytes.data() + offset, out.size());
                                  return ok_status();
                                }));
  return result;
}

}  // namespace mcompress
