// Linear operators with constant weights, seen per output channel: y_o = sum(W_o x) + b_o. An
// affine step a y + c behind one becomes part of its weight and bias.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ir/facts.h"
#include "mcompress/pass.h"

namespace mcompress {

struct LinearOp {
  Node* node = nullptr;     // Conv, ConvTranspose, Gemm or MatMul
  Node* add = nullptr;      // the Add that gives a MatMul its bias; else null
  Value* output = nullptr;  // of `add`, else of `node`
  WeightLayout layout;
  std::int64_t channels = 0;              // of the output
  std::optional<std::size_t> rank;        // of the output
  std::size_t channel_axis_from_end = 0;  // 0: the last axis of the output
  bool is_matmul() const { return node->is("MatMul"); }
  std::string label() const;  // "Conv 'c1'"
};

// The linear operator that makes `value`. `why` tells why there is none; `kind_fits` whether the
// producer is of such a type at all.
struct LinearSearch {
  std::optional<LinearOp> op;
  std::string why;
  bool kind_fits = false;
};
LinearSearch find_linear(Value& value);

// One number per output channel, from a constant that an element-wise operator combines with the
// output: one element, or [C] along the channel axis and 1 elsewhere. Empty when the constant
// varies along another axis or would change the shape.
std::optional<std::vector<double>> per_channel(const LinearOp& op, const Value* constant);

// Replaces the operator by one that makes a y + c (both one entry per channel), and lets all
// readers of the first output of `absorbed`, the only reader of op.output, read that. `absorbed`
// is erased. Shared weights are cloned. Returns the reason why it can not be done (nothing is
// changed then); empty: done.
Result<std::string> absorb_affine(PassContext& context, const LinearOp& op, Node& absorbed,
                                  std::span<const double> a, std::span<const double> c);

}  // namespace mcompress
