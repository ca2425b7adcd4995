// How far one constant is from another, both as floats.
#pragma once

#include <optional>

#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress {

// A tensor as its readers see it.
struct SeenTensor {
  Tensor tensor;
  const Node* through = nullptr;  // a DequantizeLinear between the tensor and its reader
};

// What a reader of `value` sees when that is a constant, or a constant behind a DequantizeLinear.
std::optional<SeenTensor> seen_tensor(const Value* value);

// 10 log10(sum a^2 / sum (a - b)^2) in dB; +inf for equal values. Empty when the shapes differ in
// more than dimensions of 1, or one of them has no numeric meaning.
Result<std::optional<double>> tensor_sqnr(const SeenTensor& before, const SeenTensor& after);

}  // namespace mcompress
