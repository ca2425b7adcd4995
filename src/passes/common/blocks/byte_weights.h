// Writing weights of 8 bits with a scale per channel into the graph.
#pragma once

#include <cstdint>
#include <span>

#include "mcompress/pass.h"
#include "numeric/block_quantize.h"
#include "passes/common/weights.h"

namespace mcompress {

// Bytes of the nodes and names around codes.
inline constexpr std::uint64_t kByteWeightNodes = 360;
// What a weight takes when it is written so, with nothing but scales besides.
inline std::uint64_t byte_weight_bytes(std::uint64_t elements, std::uint64_t channels) {
  return elements + 4 * channels + kByteWeightNodes;
}

// What readers of the initializer read becomes
//   codes ── Cast (── Sub zero points) ── Mul scales
// where the target folds constants at load, or a DequantizeLinear with an axis; the initializer
// goes. Scales and zero points (affine alone) are one per channel of `layout`. Fails as the editor
// does.
Status emit_byte_weights(Value& value, const WeightView& layout, const QuantizedWeight& rounded,
                         PassContext& context);

// Rows of 8 bits with one scale each as a tensor of these dimensions: int8, uint8 with zero points.
Result<QuantizedWeight> byte_weight_of(const BlockRows& rows, const WeightView& layout,
                                       std::span<const std::int64_t> dims, TensorFactory& tensors);

}  // namespace mcompress
