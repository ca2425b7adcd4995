// A model as an execution engine takes it: a message without the large tensors, and those.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress {

// The location that stands for "handed over in memory".
inline constexpr const char* kMemoryLocation = "mcompress-memory";

// Initializers of the top graph from 4 KiB on that outputs are computed from become external data
// at kMemoryLocation (offset 0) and are listed in `large`, which may be null: then everything is
// inline. Values of the top graph
// named in `extra_outputs` become outputs after the model's own. Fails with kInternal when there
// is no such value, with kUnsupported when the rest does not fit one message.
Result<std::string> runtime_model_bytes(const Model& model,
                                        std::span<const std::string> extra_outputs,
                                        std::vector<std::pair<std::string, Tensor>>* large);

}  // namespace mcompress
