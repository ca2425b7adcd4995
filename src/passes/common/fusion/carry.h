// An affine step a x + c, one number for all or one per position of an axis, carried through
// operators that only move numbers, average them or pick some, to a linear operator that can take
// it over:
//
//   y = BatchNormalization(Reshape(Gemm(x, W)))  =>  y = Reshape(Gemm(x, W'))
//   y = Gemm(Flatten(BatchNormalization(x)), W)  =>  y = Gemm(Flatten(x), W')
//   y = Mul(MatMul(Transpose(q), k), s)          =>  y = MatMul(Transpose(q'), k)
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "passes/common/fusion/linear.h"

namespace mcompress {

struct Carried {
  std::optional<std::size_t> axis;  // none: one entry each, for all elements
  std::vector<double> a, c;         // one entry per position
};

struct Carriage {
  std::optional<LinearOp> op;
  Carried step;             // there: one entry per channel of the operator
  std::string why;          // when there is none
  bool on_the_way = false;  // then: after one operator at least
};
// From the output of a linear operator to `value`, of which `reader` is the only reader.
Carriage carry_back(Value& value, const Node& reader, Carried step);
// From `value` to the input of a linear operator; all values on the way have one reader.
Carriage carry_forward(Value& value, Carried step);

// The axis along which a constant varies when it meets a value of this rank: one number for all, or
// a list along one axis. Empty: anything else.
struct VariesAlong {
  std::optional<std::size_t> axis;
  std::int64_t size = 1;
};
std::optional<VariesAlong> varies_along(const Value& constant, std::optional<std::size_t> rank);

}  // namespace mcompress
