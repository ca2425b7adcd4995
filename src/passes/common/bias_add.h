// Where a MatMul has its bias: in an Add behind it that alone reads it.
//
//   MatMul(x, w) ─ Add(·, b)      b: one number per output, along its last axis
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "mcompress/ir.h"

namespace mcompress {

// A constant of float32 with one number per output, along its last axis.
bool is_bias(const Value* value, std::int64_t outputs);

struct BiasAdd {
  Node* add = nullptr;
  std::size_t slot = 0;  // input of `add` that is the bias
};
// Empty where the product has other readers, or what is added is no is_bias().
std::optional<BiasAdd> find_bias_add(const Node& product, std::int64_t outputs);

}  // namespace mcompress
