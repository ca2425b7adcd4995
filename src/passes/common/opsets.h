// Opsets of the default domain at which many operators change at once.
#pragma once

#include <cstdint>

namespace mcompress {

// Element-wise operators and Gemm broadcast as NumPy does, without an attribute for it.
inline constexpr std::int64_t kNumpyBroadcast = 7;

}  // namespace mcompress
