#include "passes/common/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>

#include "numeric/kernels.h"
#include "support/executor.h"
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

// A weight's numbers, where they lie when they are aligned floats.
class Floats {
 public:
  static Result<Floats> of(const Tensor& tensor) {
    Floats floats;
    if (tensor.dtype() == DataType::kFloat && !tensor.is_opaque()) {
      MCOMPRESS_ASSIGN(floats.pin_, tensor.storage()->pin(0, tensor.byte_size()));
      const std::span<const std::byte> bytes = floats.pin_.bytes();
      if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(float) == 0) {
        floats.data_ = reinterpret_cast<const float*>(bytes.data());
        return floats;
      }
    }
    MCOMPRESS_ASSIGN(floats.copy_, read_floats(tensor));
    floats.data_ = floats.copy_.data();
    return floats;
  }
  const float* data() const { return data_; }

 private:
  Pinned pin_;
  std::vector<float> copy_;
  const float* data_ = nullptr;
};

// Carries channels between the weight's order in memory and that of a channel vector (outer, then
// inner; of a Conv the taps before the input channels).
class ChannelOrder {
 public:
  explicit ChannelOrder(const WeightView& view)
      : outer_(static_cast<std::size_t>(view.outer)),
        channels_(static_cast<std::size_t>(view.channels)),
        inner_(static_cast<std::size_t>(view.inner)),
        taps_(static_cast<std::size_t>(std::max<std::int64_t>(view.taps, 1))),
        depth_(inner_ / taps_) {}

  std::size_t taps() const { return taps_; }
  std::size_t depth() const { return depth_; }
  std::size_t length() const { return outer_ * inner_; }
  // Whether a channel vector is a plain slice of the weight.
  bool contiguous() const { return outer_ == 1 && taps_ == 1; }
  std::size_t slice(std::size_t channel) const { return channel * inner_; }

  // Channels [first, first + count) to consecutive vectors.
  template <class From, class To>
  void gather(const From* weight, std::size_t first, std::size_t count, To* vectors) const {
    each_run(first, count, [&](std::size_t in_weight, std::size_t in_vectors, std::size_t step) {
      vectors[in_vectors] = weight[in_weight];
      for (std::size_t i = 1; i < step; ++i)
        vectors[in_vectors + i] = weight[in_weight + i * taps_];
    });
  }
  template <class T>
  void scatter(const T* vectors, std::size_t first, std::size_t count, std::byte* weight) const {
    each_run(first, count, [&](std::size_t in_weight, std::size_t in_vectors, std::size_t step) {
      for (std::size_t i = 0; i < step; ++i) {
        weight[in_weight + i * taps_] = static_cast<std::byte>(vectors[in_vectors + i]);
      }
    });
  }

 private:
  // move(index in the weight, index in the vectors, n): n elements, `taps` apart in the weight.
  template <class Move>
  void each_run(std::size_t first, std::size_t count, Move&& move) const {
    for (std::size_t o = 0; o < outer_; ++o) {
      for (std::size_t c = 0; c < count; ++c) {
        const std::size_t row = (o * channels_ + first + c) * inner_;
        const std::size_t vector = c * length() + o * inner_;
        for (std::size_t t = 0; t < taps_; ++t) move(row + t, vector + t * depth_, depth_);
      }
    }
  }

  std::size_t outer_, channels_, inner_, taps_, depth_;
};

// Energy of a channel and of the error that its codes make, over eight lanes in a fixed order.
struct ChannelError {
  double signal = 0, noise = 0;
};

template <class T>
ChannelError channel_error(std::span<const float> weights, const T* codes, int zero, double scale) {
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> signal{}, noise{};
  const auto see = [&](std::size_t lane, std::size_t k) {
    const double weight = double{weights[k]};
    const double error = static_cast<double>(int{codes[k]} - zero) * scale - weight;
    signal[lane] += weight * weight;
    noise[lane] += error * error;
  };
  std::size_t k = 0;
  for (; k + kLanes <= weights.size(); k += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) see(lane, k + lane);
  }
  for (std::size_t lane = 0; k < weights.size(); ++k, ++lane) see(lane, k);
  ChannelError total;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    total.signal += signal[lane];
    total.noise += noise[lane];
  }
  return total;
}

// What the rounding of a channel adds to its output on average: sum of error times input mean.
// `base` is the first input channel of the channel's group; each tap sees the same inputs.
double mean_shift(std::span<const float> weights, std::span<const std::int8_t> codes, double scale,
                  std::span<const double> means, std::size_t base, std::size_t period) {
  double shift = 0;
  for (std::size_t first = 0; first < weights.size(); first += period) {
    const std::size_t count =
        std::min({period, weights.size() - first, means.size() - std::min(means.size(), base)});
    for (std::size_t d = 0; d < count; ++d) {
      const std::size_t k = first + d;
      shift += (static_cast<double>(codes[k]) * scale - double{weights[k]}) * means[base + d];
    }
  }
  return shift;
}

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

Result<std::vector<float>> channel_vectors(const Tensor& weight, const WeightView& layout) {
  MCOMPRESS_ASSIGN(const Floats values, Floats::of(weight));
  const ChannelOrder order(layout);
  const auto channels = static_cast<std::size_t>(layout.channels);
  std::vector<float> vectors(channels * order.length());
  order.gather(values.data(), 0, channels, vectors.data());
  weight.storage()->release(0, weight.byte_size());
  return vectors;
}

Result<std::vector<std::int16_t>> channel_codes(const Tensor& codes, const WeightView& layout) {
  MCOMPRESS_ASSIGN(const Pinned pin, codes.storage()->pin(0, codes.byte_size()));
  const auto* const data = reinterpret_cast<const std::int8_t*>(pin.bytes().data());
  const ChannelOrder order(layout);
  const auto channels = static_cast<std::size_t>(layout.channels);
  std::vector<std::int16_t> vectors(channels * order.length());
  order.gather(data, 0, channels, vectors.data());
  return vectors;
}

Result<Tensor> codes_tensor(std::span<const std::int16_t> vectors, const WeightView& layout,
                            std::span<const std::int64_t> dims, TensorFactory& tensors) {
  const ChannelOrder order(layout);
  std::vector<std::byte> bytes(vectors.size());
  order.scatter(vectors.data(), 0, static_cast<std::size_t>(layout.channels), bytes.data());
  return tensors.make(DataType::kInt8, {dims.begin(), dims.end()},
                      [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                        std::memcpy(out.data(), bytes.data() + offset, out.size());
                        return ok_status();
                      });
}

Result<bool> is_finite(const Tensor& weight) {
  MCOMPRESS_ASSIGN(const Floats values, Floats::of(weight));
  const auto count = static_cast<std::size_t>(weight.elements());
  for (std::size_t i = 0; i < count; i += kernel::kBlock) {
    const kernel::BlockRange range =
        kernel::block_range(values.data() + i, std::min(kernel::kBlock, count - i));
    if (range.non_finite > 0) return false;
  }
  return true;
}

Result<QuantizedWeight> quantize_weight(const Tensor& weight, const WeightView& layout,
                                        const WeightRounding& how, bool affine,
                                        std::span<const double> input_means, std::int64_t groups,
                                        std::span<const float> least_scales, TensorFactory& tensors,
                                        const Executor& executor) {
  MCOMPRESS_ASSIGN(const Floats values, Floats::of(weight));
  const auto channels = static_cast<std::size_t>(layout.channels);
  const ChannelOrder order(layout);
  const std::size_t length = order.length();

  QuantizedWeight result;
  result.scales.resize(channels);
  if (affine) result.zero_points.resize(channels);
  if (!input_means.empty()) result.mean_shift.assign(channels, 0);
  std::vector<std::byte> bytes(channels * length);

  // Columns are gathered sixteen at a time: one cache line of floats.
  constexpr std::size_t kBlock = 16;
  std::vector<ChannelError> errors(channels);
  const auto round_block = [&](std::size_t first, std::size_t count) {
    std::vector<float> block(order.contiguous() ? 0 : kBlock * length);
    std::vector<std::int8_t> codes(affine ? 0 : kBlock * length);
    std::vector<std::uint8_t> affine_codes(affine ? kBlock * length : 0);
    WeightRounding rounding = how;
    if (layout.taps > 1) {
      rounding.taps = layout.taps;
      rounding.tap_stride = layout.inner / layout.taps;
    }
    const float* vectors = block.data();
    if (order.contiguous()) {
      vectors = values.data() + order.slice(first);
    } else {
      order.gather(values.data(), first, count, block.data());
    }
    for (std::size_t c = 0; c < count; ++c) {
      const std::size_t channel = first + c;
      const std::span<const float> vector(vectors + c * length, length);
      ChannelError& error = errors[channel];
      if (affine) {
        const std::span<std::uint8_t> rounded = std::span(affine_codes).subspan(c * length, length);
        const AffineChannel fit = round_channel_affine(vector, rounded);
        result.scales[channel] = fit.scale;
        result.zero_points[channel] = fit.zero_point;
        error = channel_error(vector, rounded.data(), fit.zero_point, double{fit.scale});
      } else {
        const std::span<std::int8_t> rounded = std::span(codes).subspan(c * length, length);
        rounding.least_scale = least_scales.empty() ? 0 : least_scales[channel];
        const float scale = round_channel(vector, rounding, rounded);
        result.scales[channel] = scale;
        error = channel_error(vector, rounded.data(), 0, double{scale});
        if (!input_means.empty()) {
          const bool of_inputs = order.taps() > 1 || groups > 1;
          const std::size_t base =
              groups > 1 ? channel / (channels / static_cast<std::size_t>(groups)) * order.depth()
                         : 0;
          result.mean_shift[channel] = mean_shift(vector, rounded, double{scale}, input_means, base,
                                                  of_inputs ? order.depth() : length);
        }
      }
    }
    if (affine) {
      order.scatter(affine_codes.data(), first, count, bytes.data());
    } else {
      order.scatter(codes.data(), first, count, bytes.data());
    }
  };
  // Enough work for a thread to be worth waking.
  constexpr std::size_t kChunk = std::size_t{1} << 16;
  const std::size_t blocks = (channels + kBlock - 1) / kBlock;
  executor.parallel_for(blocks, kChunk / (kBlock * length) + 1,
                        [&](std::size_t begin, std::size_t end) {
                          for (std::size_t i = begin; i < end; ++i) {
                            const std::size_t first = i * kBlock;
                            round_block(first, std::min(kBlock, channels - first));
                          }
                        });
  ChannelError total;
  for (const ChannelError& error : errors) {
    total.signal += error.signal;
    total.noise += error.noise;
  }
  weight.storage()->release(0, weight.byte_size());
  result.sqnr_db = decibels(total.signal, total.noise);
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
