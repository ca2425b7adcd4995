// Which arguments of a node its operator's schema lets be of an element type.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/dtype.h"
#include "mcompress/ir.h"

namespace mcompress {

// Arguments of one variable have one type ("T"); those of their own type have the variable "".
struct ArgumentTypes {
  struct Argument {
    std::string variable;
    bool takes = false;  // the type asked about; false for one that is left out
  };
  std::vector<Argument> inputs, outputs;  // as many as the node has
};

// As the linked ONNX defines the operator at opset `opset` of its domain. Empty: it does not know
// the operator, or not so many arguments.
std::optional<ArgumentTypes> argument_types(const Node& node, std::int64_t opset, DataType type);

}  // namespace mcompress
