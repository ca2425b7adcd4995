// What comes before some values, as a model of its own.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "mcompress/ir.h"

namespace mcompress {

// A copy of the model in which nodes that no value of `names` (of the top graph) depends on are
// gone, and whose outputs are those of the model that remain, or else the last of the values.
// Names stay what they were, tensors are shared. Names that there are not are not looked at.
std::unique_ptr<Model> prefix_of(const Model& model, std::span<const std::string> names);

}  // namespace mcompress
