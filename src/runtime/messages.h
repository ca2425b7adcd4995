// Turns the runtime's error texts into our errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "mcompress/status.h"

namespace mcompress {

struct RuntimeFailure {
  enum class Stage : std::uint8_t { kSetUp, kOpen, kRun };
  Stage stage = Stage::kSetUp;
  bool not_implemented = false;  // the runtime said so by its error code
  bool no_such_file = false;
  std::string_view text;
  std::string_view file;  // the model's; may be empty
};

// The node or operator that the text speaks about becomes where.subject. kUnsupported when the
// runtime lacks a kernel, an operator or a version; kInternal when it could not be set up or ran
// out of memory; else kInput.
Error runtime_error(const RuntimeFailure& failure);

// The name of the node that a runtime message blames, "Conv" (the operator) when the node has no
// name, or empty.
std::string blamed_node(std::string_view text);

// The message without source file positions, C++ signatures and line breaks.
std::string readable_message(std::string_view text);

}  // namespace mcompress
