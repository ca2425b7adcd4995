// Opsets of the default domain at which many operators change at once.
#pragma once

#include <cstdint>
#include <string>

#include "mcompress/ir.h"

namespace mcompress {

// Element-wise operators and Gemm broadcast as NumPy does, without an attribute for it.
inline constexpr std::int64_t kNumpyBroadcast = 7;

// Why such operators can not be written into the model; empty: they can.
inline std::string why_no_broadcast(const Model& model) {
  const std::int64_t opset = model.opset("");
  if (opset >= kNumpyBroadcast) return {};
  return "needs opset " + std::to_string(kNumpyBroadcast) + ", the model has " +
         std::to_string(opset);
}

}  // namespace mcompress
