// Constant integers behind the nodes that unpack them.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

// Elements of an integer tensor of up to 32 bits, those of half a byte included. Fails as reading
// does.
Result<std::vector<std::int32_t>> code_numbers(const Tensor& tensor);

struct ConstantIndices {
  std::vector<std::int32_t> numbers;
  std::vector<std::int64_t> dims;
  // Added to number i, which they are not in: offsets[i / dims.back() % offsets.size()]; or empty.
  std::vector<std::int32_t> offsets;
};
// What Cast, Reshape, Add, Slice and row-wise Gather make of constants, as cluster-weights and
// others write them. Empty: computed otherwise, or not constant.
std::optional<ConstantIndices> constant_indices(const Value* value);

// Bytes of the constants that only this value comes from.
std::uint64_t constant_bytes(const Value* value);
// The constants that it comes from.
void add_constants(const Value* value, std::set<const Value*>& constants);

}  // namespace mcompress
