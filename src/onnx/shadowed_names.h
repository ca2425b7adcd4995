// Names of nested graphs that an enclosing graph has as well.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>

#include "onnx/proto.h"

namespace mcompress {

using ValueNames = std::unordered_map<std::string, std::string>;  // from, to

// New names for the inputs and initializers of `body` whose own ones are `taken` by graphs around
// it. The ONNX checker and ONNX Runtime let these shadow; what nodes make may not. The new names
// are neither taken nor found anywhere in the body. Empty: there is nothing to rename.
ValueNames names_instead(const onnx::GraphProto& body,
                         const std::function<bool(const std::string&)>& taken);

// Renames values where the body defines and reads them, in graphs nested below it too unless those
// define the name again.
void rename_values(onnx::GraphProto& body, const ValueNames& names);

}  // namespace mcompress
