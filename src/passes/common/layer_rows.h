// What a weighted node multiplies, as rows: the columns are those of its channel vectors.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/runtime.h"
#include "numeric/patches.h"
#include "passes/common/weights.h"

namespace mcompress {

// Conv: patches at output positions. Gemm, MatMul with a constant matrix: vectors of the last axis.
class LayerRows {
 public:
  // Empty for other nodes. `view` is that of the weight, input 1 of the node.
  static std::optional<LayerRows> of(const Node& node, const WeightView& view);
  // The same for a weight of these dimensions that something computes, DequantizeLinear say.
  static std::optional<LayerRows> of(const Node& node, const WeightView& view,
                                     std::span<const std::int64_t> dims);
  // Vectors of the last axis, of so many numbers.
  static LayerRows of_vectors(std::size_t columns);
  // Rows of what a node with these rows makes, `channels` numbers each: read() at the same
  // positions.
  static LayerRows made_by(const LayerRows& layer, std::size_t channels);

  std::int64_t groups() const { return conv_ ? conv_->groups : 1; }
  std::size_t columns() const { return columns_; }
  // Two nodes with equal rows see the same of the same value.
  bool same(const LayerRows& other) const;
  // Equal for those that are the same.
  std::uint64_t digest() const;
  // Up to `wanted` rows of each group of an input, spread over it, appended to rows[group]. `turn`
  // is the number of the sample. Nothing when the input does not fit the node, is not finite or not
  // in float32, float16 or bfloat16.
  void read(const TensorView& input, std::int64_t wanted, std::int64_t turn,
            std::vector<std::vector<float>>& rows) const;

 private:
  std::optional<ConvGeometry> conv_;
  std::size_t columns_ = 0;
};

}  // namespace mcompress
