// Domains of operators.
#pragma once

#include <string_view>

namespace mcompress {

// ONNX's own is "", also where a file spells it out.
constexpr std::string_view plain_domain(std::string_view domain) {
  return domain == "ai.onnx" ? std::string_view() : domain;
}

// Operators that ONNX Runtime adds.
inline constexpr std::string_view kContribDomain = "com.microsoft";

}  // namespace mcompress
