// Channels that can be scaled without changing what a model computes: what makes them takes 1 / s,
// what reads them takes s.
//
//   before:  Conv(W1, b1) ── Relu ── Conv(W2)
//   after:   Conv(W1 / s, b1 / s) ── Relu ── Conv(s W2)
//
// Operators in between keep a positive factor per channel: f(x / s) = f(x) / s.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/fusion/linear.h"

namespace mcompress {

struct ScaledConstant {
  Node* node = nullptr;  // Add or Sub; of gains a Mul
  std::size_t slot = 0;
  ChannelAxis axis;
};

// All values that have to be scaled alike.
struct ScaleGroup {
  std::int64_t channels = 0;
  std::vector<std::pair<Value*, std::size_t>> values;  // with the channel axis, from the end
  std::vector<LinearOp> makers;  // Conv, ConvTranspose, Gemm, MatMul: 1 / s into the rows
  // LayerNormalization, RMSNormalization: 1 / s into scale and shift.
  std::vector<Node*> norms;
  // Mul by one number per channel, behind what can not be scaled itself (a normalisation that is
  // written out): 1 / s into its constant.
  std::vector<ScaledConstant> gains;
  std::vector<ScaledConstant> shifts;
  // Clip(0, top) keeps a factor only where it cuts nothing off, or where the factor is 1.
  std::vector<Node*> clips;
  double top = std::numeric_limits<double>::infinity();
  std::vector<LinearOp> readers;  // s into the columns
};

struct ScaleGroups {
  std::vector<ScaleGroup> found;  // in the order of the graph
  // Nodes that make channels which can not be scaled, and why.
  std::vector<std::pair<Node*, std::string>> left;
};
// Of the top graph. Known to keep factors: Relu, LeakyRelu, PRelu, Abs, Identity, pooling, Clip
// from 0, products with constants, sums of values that are scaled alike, sums with constants, and
// Flatten, Squeeze and Reshape behind spatial axes of size 1. Linear time.
ScaleGroups find_scale_groups(Graph& graph);

// Divides the values of the group by `scales`, one per channel, above 0. Returns the reason why it
// can not be done (nothing is changed then); empty: done.
Result<std::string> apply_scales(PassContext& context, const ScaleGroup& group,
                                 std::span<const double> scales);

// Where what makes a value can not take 1 / s: a Mul by 1 / s between the value and its readers,
// which take s. The readers read it in slot 0, in the same graph. As above otherwise.
Result<std::string> insert_scales(PassContext& context, Value& value,
                                  std::span<const LinearOp> readers,
                                  std::span<const double> scales);

}  // namespace mcompress
