// The weights of operators: which inputs they are, how their channels lie in memory, and rounding
// whole tensors channel by channel.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/pass.h"
#include "mcompress/status.h"
#include "numeric/weight_quantize.h"
#include "support/executor.h"

namespace mcompress {

// A weight seen as [outer, channels, inner] with one scale per channel. The channel vector runs
// over outer, then inner; for Conv the inner part [Cin/group, taps] is taken taps first, which is
// the order in which integer kernels multiply it.
struct WeightView {
  std::int64_t outer = 1, channels = 1, inner = 1;
  std::int64_t taps = 1;                 // positions of the spatial kernel, for Conv
  std::int64_t axis = 0;                 // per-channel axis for DequantizeLinear
  std::vector<std::int64_t> scale_dims;  // broadcasts against the weight
  std::int64_t length() const { return outer * inner; }  // weights per channel
};

// The layout of the weight in `slot`; empty when the operator has no weight there. Known: Conv,
// ConvTranspose, Gemm, MatMul (both sides), LSTM/GRU/RNN (W and R), Gather (embedding rows) and
// ConvInteger-like operators of the default domain.
std::optional<WeightView> weight_view(const Node& node, std::size_t slot,
                                      std::span<const std::int64_t> dims);

struct QuantizedWeight {
  Tensor codes;                           // int8, or uint8 when affine; dims of the weight
  std::vector<float> scales;              // one per channel, or one
  std::vector<std::uint8_t> zero_points;  // affine only, as many; of int8 codes their bits
  double sqnr_db = 0;                     // of the weight; 200 when exact
  // Per output channel: sum of (quantized - real) weight times the mean of what it multiplies.
  std::vector<double> mean_shift;
  std::string how = {};  // for the decision, where it was not rounded to nearest
};

// A weight as channel vectors, one after the other: [channels, length]. Fails as reading does.
Result<std::vector<float>> channel_vectors(const Tensor& weight, const WeightView& layout);
// Codes of the same order, for a tensor like `codes`, and back. `codes` is int8.
Result<std::vector<std::int16_t>> channel_codes(const Tensor& codes, const WeightView& layout);
Result<Tensor> codes_tensor(std::span<const std::int16_t> vectors, const WeightView& layout,
                            std::span<const std::int64_t> dims, TensorFactory& tensors);

// The form of the codes.
enum class WeightForm : std::uint8_t {
  kSymmetric,   // int8, zero point 0
  kAffine,      // uint8, 0 to 255
  kAffineInt8,  // int8, -128 to 127; with 7 bits (max_code 63) -64 to 63
};

// Whether no element of a float tensor is NaN or infinite. Rounding would make such ones finite.
Result<bool> is_finite(const Tensor& weight);

// Rounds a float tensor. `input_means`: mean of the activation per index of the weight's input
// axis (for Conv: per input channel over all groups), or empty. `least_scales`: one per channel
// that its scale may not go below, or empty. `one_scale`: for the whole tensor. Fails as reading
// the tensor does.
Result<QuantizedWeight> quantize_weight(const Tensor& weight, const WeightView& layout,
                                        const WeightRounding& how, WeightForm form, bool one_scale,
                                        std::span<const double> input_means, std::int64_t groups,
                                        std::span<const float> least_scales, TensorFactory& tensors,
                                        const Executor& executor);
// One scale per channel; affine: uint8.
inline Result<QuantizedWeight> quantize_weight(const Tensor& weight, const WeightView& layout,
                                               const WeightRounding& how, bool affine,
                                               std::span<const double> input_means,
                                               std::int64_t groups,
                                               std::span<const float> least_scales,
                                               TensorFactory& tensors, const Executor& executor) {
  return quantize_weight(weight, layout, how, affine ? WeightForm::kAffine : WeightForm::kSymmetric,
                         false, input_means, groups, least_scales, tensors, executor);
}

}  // namespace mcompress
