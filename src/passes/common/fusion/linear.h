// Linear operators with constant weights, seen per output channel: y_o = sum(W_o x) + b_o. An
// affine step a y + c behind one becomes part of its weight and bias.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/facts.h"
#include "mcompress/pass.h"

namespace mcompress {

// The axis of a tensor along which there is one number per channel.
struct ChannelAxis {
  std::int64_t channels = 0;
  std::optional<std::size_t> rank;  // of the tensor
  std::size_t from_end = 0;         // 0: the last axis
};

// One number per channel, from a constant that an element-wise operator combines with the tensor:
// one element, or [C] along the channel axis and 1 elsewhere. Empty when the constant varies along
// another axis or could change the shape.
std::optional<std::vector<double>> per_channel(const ChannelAxis& axis, const Value* constant);

struct LinearOp {
  Node* node = nullptr;     // Conv, ConvTranspose, Gemm or MatMul
  Node* add = nullptr;      // the Add that gives a MatMul its bias; else null
  Value* output = nullptr;  // of `add`, else of `node`
  WeightLayout layout;      // by output channels
  ChannelAxis out;
  std::optional<WeightLayout> in_layout;  // by input channels
  ChannelAxis in;
  bool is(std::string_view op_type) const { return node->is(op_type); }
  std::string label() const;  // "Conv 'c1'"
};

// The linear operator that a node is, or that makes a value. `why` tells why there is none;
// `kind_fits` whether the node is of such a type at all.
struct LinearSearch {
  std::optional<LinearOp> op;
  std::string why;
  bool kind_fits = false;
};
// The operators that linear_operator() may find one in.
inline constexpr std::array<std::string_view, 4> kLinearOperators = {"Conv", "ConvTranspose",
                                                                     "Gemm", "MatMul"};
LinearSearch linear_operator(Node& node);
LinearSearch find_linear(Value& value);
// The Add behind a MatMul as its bias, where it is one.
void find_bias(LinearOp& op);

// y = a x + c by one element-wise operator with a constant, one entry per channel. Without `input`
// the node is no such step, and `why_not` says what is wrong with one that looks like it.
struct AffineStep {
  Value* input = nullptr;
  std::vector<double> a, c;
  std::string why_not;
};
AffineStep affine_step(const Node& node, const ChannelAxis& axis);

// Steps one after the other, each the only reader of the one before: together a x + c.
struct AffineRun {
  std::vector<Node*> nodes;  // in the order of computation
  Value* input = nullptr;
  std::vector<double> a, c;
};

// The run that ends with the value, which `reader` alone reads.
AffineRun run_before(Value& end, const Node& reader, const ChannelAxis& axis);

// Replaces the operator by one that makes a y + c, and lets all readers of the first output of
// `absorbed`, the only reader of op.output, read that. `absorbed` is erased. Shared weights are
// cloned. Returns the reason why it can not be done (nothing is changed then); empty: done.
Result<std::string> absorb_behind(PassContext& context, const LinearOp& op, Node& absorbed,
                                  std::span<const double> a, std::span<const double> c);

// The same without a node that goes: the operator makes a y + c from now on. Nothing is added, so a
// MatMul without Add takes no shift.
Result<std::string> scale_output(PassContext& context, const LinearOp& op,
                                 std::span<const double> a, std::span<const double> c);

// Replaces the operator by one that reads `input` where it now reads a input + c. Where a shift
// can not become a bias (a convolution that pads, or nothing that holds a bias) an Add of c / a
// stays in front of it. As above otherwise; what nobody reads any more is erased.
Result<std::string> absorb_before(PassContext& context, const LinearOp& op, Value& input,
                                  std::span<const double> a, std::span<const double> c);
// Whether a shift in front of the operator can become part of its bias.
bool takes_shift(const LinearOp& op);

}  // namespace mcompress
