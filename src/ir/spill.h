// Spill files, for those that make storage.
#pragma once

#include <cstdint>

#include "mcompress/tensor.h"

namespace mcompress {

// How much of a tensor is made, read or written at once.
inline constexpr std::uint64_t kTensorStep = std::uint64_t{4} << 20;

// Whether a factory of make_tensor_factory would put a tensor of this size into a spill file now.
bool would_spill(const TensorFactory& tensors, std::uint64_t bytes);

// Storage in an unlinked file of the temporary folder, filled in steps from front to back. Fails
// with Code::kOutput where there is no room, and with what `fill` returns.
Result<StoragePtr> make_spill(std::uint64_t bytes, const TensorFactory::FillFn& fill);

}  // namespace mcompress
