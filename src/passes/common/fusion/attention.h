// Scaled dot-product attention, however it is written out:
//
//   q, k, v: tensors of heads            [B, N, S, H], [B, N, T, H], [B, N, T, V]
//   y = Softmax(scale q k^T + mask) v    [B, N, S, V], then turned to [B, S, N V]
//
// Where the heads come from is followed through any transposing, reshaping and cutting to tensors
// [B, S, columns]; scalar factors on the way are part of the scale.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/ir.h"
#include "passes/common/fusion/symbolic_shapes.h"

namespace mcompress {

// Element (b, n, s, h) of a tensor of heads is value[b, s, offset + n head_stride + h
// element_stride], times `scale`.
struct HeadsView {
  Value* value = nullptr;
  std::int64_t head_stride = 0, element_stride = 1, offset = 0;
  double scale = 1;
  std::vector<Node*> nodes;  // between the value and the tensor of heads
};
struct HeadsOperand {
  std::int64_t heads = 0, size = 0;  // of each head
  std::vector<HeadsView> views;      // nearest first
};

// Added to the scores: `value`, or the filler where the condition `value` chooses it, else 0.
struct AttentionMask {
  Value* value = nullptr;
  std::optional<float> filler;
  bool filler_where_true = false;
};

struct AttentionSite {
  Node* softmax = nullptr;
  Node* root = nullptr;            // makes the result [B, S, N V]
  bool root_splits_heads = false;  // it makes [B, S, N, V], for Reshapes to which that is the same
  HeadsOperand q, k, v;
  double scale = 1;  // of the scores, besides those of the views
  std::vector<AttentionMask> masks;
  // Products, softmax and what is between them and up to the root, which is among them.
  std::vector<Node*> nodes;
  std::string why_not;
};

// The attention that the Softmax is part of. Empty: it is not between two products of computed
// tensors. A site with a reason is one that can not be taken together.
std::optional<AttentionSite> find_attention(Node& softmax, const SymbolicShapes& shapes);

}  // namespace mcompress
