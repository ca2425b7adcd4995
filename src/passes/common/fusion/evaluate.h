// Nodes fed by constants only, computed by the runtime.
#pragma once

#include <span>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

// Computes `wanted` (outputs of `nodes`) by one session over a model of just these nodes, which
// are in topological order, may come from several graphs of one model, hold no graphs themselves
// and read nothing but each other and constants. Results in the order of `wanted`.
Result<std::vector<Tensor>> evaluate(Runtime& runtime, const Model& model,
                                     std::span<Node* const> nodes, std::span<Value* const> wanted);

// Why `evaluate` could not take an attribute of the node; empty: it can.
std::string why_not_evaluable(const Node& node);

}  // namespace mcompress
