#include "passes/common/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
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
template <class T>
double mean_shift(std::span<const float> weights, std::span<const T> codes, int zero, double scale,
                  std::span<const double> means, std::size_t base, std::size_t period) {
  double shift = 0;
  for (std::size_t first = 0; first < weights.size(); first += period) {
    const std::size_t count =
        std::min({period, weights.size() - first, means.size() - std::min(means.size(), base)});
    for (std::size_t d = 0; d < count; ++d) {
      const std::size_t k = first + d;
      shift += (static_cast<double>(int{codes[k]} - zero) * scale - double{weights[k]}) *
               means[base + d];
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
  bool finite = true;
  MCOMPRESS_TRY(
      read_as_float(weight, std::size_t{1} << 20, [&](std::int64_t, std::span<const float> values) {
        finite = finite && kernel::all_finite(values.data(), values.size());
      }));
  return finite;
}

namespace {

// Columns are gathered sixteen at a time: one cache line of floats.
constexpr std::size_t kBlock = 16;

class WeightRounder {
 public:
  WeightRounder(const float* weight, const WeightView& layout, const WeightRounding& how,
                WeightForm form, std::span<const double> input_means, std::int64_t groups,
                std::span<const float> least_scales, const Executor& executor)
      : weight_(weight),
        order_(layout),
        channels_(static_cast<std::size_t>(layout.channels)),
        length_(order_.length()),
        how_(how),
        affine_(form != WeightForm::kSymmetric),
        top_code_(how.max_code < 127 ? 127 : 255),
        means_(input_means),
        groups_(static_cast<std::size_t>(groups)),
        least_scales_(least_scales),
        executor_(executor),
        offset_(form == WeightForm::kAffineInt8 ? (top_code_ + 1) / 2 : 0) {
    if (layout.taps > 1) {
      how_.taps = layout.taps;
      how_.tap_stride = layout.inner / layout.taps;
    }
    errors_.resize(channels_);
    scales_.resize(channels_);
    if (affine_) zero_points_.resize(channels_);
    if (!means_.empty()) shifts_.assign(channels_, 0);
    bytes_.resize(channels_ * length_);
  }

  void round_channels() {
    each_channel([&](std::size_t) { return how_.fixed_scale; }, nullptr);
  }

  // One scale, and zero point, for all channels.
  void round_whole() {
    if (affine_) {
      WeightExtent all;
      std::vector<WeightExtent> extents(channels_);
      each_vector([&](std::size_t c, std::span<const float> vector) {
        extents[c] = weight_extent(vector);
      });
      for (const WeightExtent& extent : extents) {
        all = {std::min(all.low, extent.low), std::max(all.high, extent.high)};
      }
      AffineChannel shared = affine_channel(all, top_code_);
      shared.scale = std::max(shared.scale, least_scale());
      each_channel([](std::size_t) { return 0.0F; }, &shared);
      return collapse();
    }
    std::vector<float> least(channels_);
    each_vector([&](std::size_t c, std::span<const float> vector) {
      least[c] = least_shared_scale(vector, how_);
    });
    const float full = std::max(*std::ranges::max_element(least), least_scale());
    if (!(full >= std::numeric_limits<float>::min())) {  // nothing but zeros
      each_channel([](std::size_t) { return 1.0F; }, nullptr);
      return collapse();
    }
    // With the pairs bounded, or nothing to search, the full range it is.
    constexpr std::array<float, 5> kFractions = {0.82F, 0.88F, 0.92F, 0.96F, 1.0F};
    float best = full;
    double lowest = -1;
    const bool searched = how_.search_scale && !how_.saturation_free;
    for (std::size_t i = searched ? 0 : kFractions.size() - 1; i < kFractions.size(); ++i) {
      const float scale = std::max(full * kFractions[i], least_scale());
      each_channel([&](std::size_t) { return scale; }, nullptr);
      const double noise = total().noise;
      if (lowest < 0 || noise <= lowest) {  // of equals the widest
        lowest = noise;
        best = scale;
      }
    }
    if (best != full) each_channel([&](std::size_t) { return best; }, nullptr);
    collapse();
  }

  ChannelError total() const {
    ChannelError total;
    for (const ChannelError& error : errors_) {
      total.signal += error.signal;
      total.noise += error.noise;
    }
    return total;
  }

  void take(QuantizedWeight& result) {
    result.scales = std::move(scales_);
    result.zero_points = std::move(zero_points_);
    result.mean_shift = std::move(shifts_);
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  float least_scale() const {
    return least_scales_.empty() ? 0 : *std::ranges::max_element(least_scales_);
  }

  void collapse() {
    scales_.resize(1);
    if (affine_) zero_points_.resize(1);
  }

  // visit(first, count, vectors): channels side by side, each `length_` long.
  template <class Visit>
  void each_block(Visit&& visit) const {
    // Enough work for a thread to be worth waking.
    constexpr std::size_t kChunk = std::size_t{1} << 16;
    const std::size_t blocks = (channels_ + kBlock - 1) / kBlock;
    executor_.parallel_for(blocks, kChunk / (kBlock * length_) + 1,
                           [&](std::size_t begin, std::size_t end) {
                             std::vector<float> block(order_.contiguous() ? 0 : kBlock * length_);
                             for (std::size_t i = begin; i < end; ++i) {
                               const std::size_t first = i * kBlock;
                               const std::size_t count = std::min(kBlock, channels_ - first);
                               if (order_.contiguous()) {
                                 visit(first, count, weight_ + order_.slice(first));
                               } else {
                                 order_.gather(weight_, first, count, block.data());
                                 visit(first, count, block.data());
                               }
                             }
                           });
  }
  template <class Visit>
  void each_vector(Visit&& visit) const {
    each_block([&](std::size_t first, std::size_t count, const float* vectors) {
      for (std::size_t c = 0; c < count; ++c) {
        visit(first + c, std::span<const float>(vectors + c * length_, length_));
      }
    });
  }

  // scale_of(channel): 0 lets the channel choose. `shared`: of affine codes, or null.
  template <class ScaleOf>
  void each_channel(ScaleOf&& scale_of, const AffineChannel* shared) {
    each_block([&](std::size_t first, std::size_t count, const float* vectors) {
      std::vector<std::int8_t> codes(affine_ ? 0 : kBlock * length_);
      std::vector<std::uint8_t> affine_codes(affine_ ? kBlock * length_ : 0);
      for (std::size_t c = 0; c < count; ++c) {
        const std::size_t channel = first + c;
        const std::span<const float> vector(vectors + c * length_, length_);
        if (affine_) {
          round_one(channel, vector, shared, std::span(affine_codes).subspan(c * length_, length_));
        } else {
          round_one(channel, vector, scale_of(channel),
                    std::span(codes).subspan(c * length_, length_));
        }
      }
      if (affine_) {
        for (std::uint8_t& code : affine_codes) {
          code = static_cast<std::uint8_t>(int{code} - offset_);
        }
        order_.scatter(affine_codes.data(), first, count, bytes_.data());
      } else {
        order_.scatter(codes.data(), first, count, bytes_.data());
      }
    });
  }

  void round_one(std::size_t channel, std::span<const float> vector, float fixed,
                 std::span<std::int8_t> codes) {
    WeightRounding rounding = how_;
    rounding.fixed_scale = fixed;
    rounding.least_scale = least_scales_.empty() ? 0 : least_scales_[channel];
    const float scale = round_channel(vector, rounding, codes);
    note<std::int8_t>(channel, vector, codes, 0, scale);
  }

  void round_one(std::size_t channel, std::span<const float> vector, const AffineChannel* shared,
                 std::span<std::uint8_t> codes) {
    AffineChannel fit;
    if (shared != nullptr) {
      fit = *shared;
      round_affine(vector, fit, top_code_, codes);
    } else {
      fit = round_channel_affine(vector, codes, top_code_);
      const float least = least_scales_.empty() ? 0 : least_scales_[channel];
      if (fit.scale < least) {
        fit.scale = least;
        round_affine(vector, fit, top_code_, codes);
      }
    }
    zero_points_[channel] = static_cast<std::uint8_t>(fit.zero_point - offset_);
    note<std::uint8_t>(channel, vector, codes, fit.zero_point, fit.scale);
  }

  template <class T>
  void note(std::size_t channel, std::span<const float> vector, std::span<const T> codes, int zero,
            float scale) {
    scales_[channel] = scale;
    errors_[channel] = channel_error(vector, codes.data(), zero, double{scale});
    if (means_.empty()) return;
    const bool of_inputs = order_.taps() > 1 || groups_ > 1;
    const std::size_t base = groups_ > 1 ? channel / (channels_ / groups_) * order_.depth() : 0;
    shifts_[channel] = mean_shift(vector, codes, zero, double{scale}, means_, base,
                                  of_inputs ? order_.depth() : length_);
  }

  const float* weight_;
  ChannelOrder order_;
  std::size_t channels_, length_;
  WeightRounding how_;
  bool affine_;
  int top_code_;
  std::span<const double> means_;
  std::size_t groups_;
  std::span<const float> least_scales_;
  const Executor& executor_;
  int offset_;
  std::vector<ChannelError> errors_;
  std::vector<float> scales_;
  std::vector<std::uint8_t> zero_points_;
  std::vector<double> shifts_;
  std::vector<std::byte> bytes_;
};

}  // namespace

Result<QuantizedWeight> quantize_weight(const Tensor& weight, const WeightView& layout,
                                        const WeightRounding& how, WeightForm form, bool one_scale,
                                        std::span<const double> input_means, std::int64_t groups,
                                        std::span<const float> least_scales, TensorFactory& tensors,
                                        const Executor& executor) {
  MCOMPRESS_ASSIGN(const Floats values, Floats::of(weight));
  WeightRounder rounder(values.data(), layout, how, form, input_means, groups, least_scales,
                        executor);
  if (one_scale) {
    rounder.round_whole();
  } else {
    rounder.round_channels();
  }
  const ChannelError total = rounder.total();
  weight.storage()->release(0, weight.byte_size());
  QuantizedWeight result;
  rounder.take(result);
  result.sqnr_db = decibels(total.signal, total.noise);
  const DataType type = form == WeightForm::kAffine ? DataType::kUint8 : DataType::kInt8;
  std::vector<std::int64_t> dims(weight.dims().begin(), weight.dims().end());
  const std::span<const std::byte> bytes = rounder.bytes();
  MCOMPRESS_ASSIGN(result.codes,
                   tensors.make(type, std::move(dims),
                                [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                                  std::memcpy(out.data(), bytes.data() + offset, out.size());
                                  return ok_status();
                                }));
  return result;
}

}  // namespace mcompress
