// Questions about a graph that passes ask again and again. None of them edits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// --- who reads a value

// Read in a graph nested below the one that defines it, or handed out as that graph's output.
bool is_captured(const Value& value);
// The only reader of the value, in the same graph; null when `why_not_only_user` has a reason.
Node* only_user(const Value& value);
// "'x' is a graph output", "'x' is read by 3 nodes", "'x' is read inside a nested graph", "'x' is
// not read"; empty when the value has one reader.
std::string why_not_only_user(const Value& value);

// --- types

// All dimensions, when every one of them is known: of the data for a constant.
std::optional<std::vector<std::int64_t>> static_shape(const Value& value);
std::optional<std::size_t> rank_of(const Value& value);
// The size of one dimension; negative axes count from the end.
std::optional<std::int64_t> dim_of(const Value& value, std::int64_t axis);
// kUndefined: unknown, or no tensor.
DataType element_type(const Value& value);

// --- constants

// The data of an initializer that no caller can override, or of a Constant node.
std::optional<Tensor> constant_of(const Value* value);
// The data a Constant node makes; `why_not` tells why there is none (sparse, strings, unknown).
std::optional<Tensor> constant_node_data(const Node& node, std::string* why_not = nullptr);
bool is_constant(const Value* value);
// The elements of a constant of at most `limit` elements.
inline constexpr std::int64_t kSmallConstant = 1 << 16;
std::optional<std::vector<std::int64_t>> constant_ints(const Value* value,
                                                       std::int64_t limit = kSmallConstant);
std::optional<std::vector<double>> constant_reals(const Value* value,
                                                  std::int64_t limit = kSmallConstant);
// The one element of a constant of any rank.
std::optional<double> constant_scalar(const Value* value);

// --- operators

// The node that makes the value when it is of this type (default domain); else null.
Node* made_by(const Value* value, std::string_view op_type);
// A list of numbers that is an attribute in old forms of an operator and input `slot` in newer
// ones. `known` is false when it is an input that is no constant.
struct IntsParameter {
  bool known = true;
  std::optional<std::vector<std::int64_t>> values;  // empty: left out
};
IntsParameter ints_parameter(const Node& node, std::string_view attribute, std::size_t slot);

// Where the weight of a linear operator is and how output channels lie in it: element
// (g * rows + r, c, i) of [groups * rows, channels, inner] belongs to output channel
// g * channels + c. Only ConvTranspose has groups != 1 here.
struct WeightLayout {
  std::size_t slot = 1;  // input of the node
  std::size_t axis = 0;  // of the output channels
  std::int64_t groups = 1;
  std::int64_t channels = 0;  // along `axis`; times `groups` in all
};
// Conv, ConvTranspose, Gemm and MatMul with a weight (second input) of known shape and fitting
// rank; MatMul: rank 2 at least. Empty for anything else.
std::optional<WeightLayout> weight_layout(const Node& node);

// Same result for same inputs, no effect besides its outputs: known operators of the default
// domain without bodies.
bool is_deterministic(const Node& node);

}  // namespace mcompress
