// Domains of operators that are not ONNX's own.
#pragma once

#include <string_view>

namespace mcompress {

// Operators that ONNX Runtime adds.
inline constexpr std::string_view kContribDomain = "com.microsoft";

}  // namespace mcompress
