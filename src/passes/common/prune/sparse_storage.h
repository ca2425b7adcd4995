// Weights with many zeros stored in fewer bytes, in operators that a runtime computes once, when it
// loads the model.
//
//   bitmask:  bits ── Cast ── Div ── Mod ── Reshape ─┬─ CumSum ─┬─ Mul ── Gather(values) ── Reshape
//                                                    └──────────┘
//   gaps:     gaps ── Cast ── CumSum ── ScatterElements(zeros, values) ── Reshape
//
// The values are the float32 numbers that are not 0, so that what is restored is the weight, bit by
// bit. Gaps are bytes: the steps from one such number to the next; further ones are split by zeros
// that are written where zeros are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "mcompress/pass.h"

namespace mcompress {

enum class SparseForm : std::uint8_t { kDense, kBitmask, kGaps };
const char* sparse_form_name(SparseForm form);

struct SparseBytes {
  std::uint64_t dense = 0, bitmask = 0, gaps = 0;  // nodes and names around the data included
  std::int64_t zeros = 0;
  std::uint64_t of(SparseForm form) const;
  SparseForm smallest() const;
};
// Counts the zeros of a float32 tensor. Fails as reading does.
Result<SparseBytes> sparse_bytes(const Tensor& weights);

// Why the model or the target takes no such form; empty: it does.
std::string why_not_sparse(const Model& model, const Target& target);

// Stores an initializer in the form. Negative zeros become zeros. Fails as reading does.
Status store_sparse(Value& value, SparseForm form, PassContext& context);

// Operators of the two forms that the runtime would execute on every run: those of `model` beyond
// those of `before`. Fails as the runtime does.
Result<std::int64_t> unfolded_operators(Runtime& runtime, const Model& before, const Model& model);

}  // namespace mcompress
