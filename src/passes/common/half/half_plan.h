// Which nodes of a model compute in 16-bit floats.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "passes/common/half/half_rules.h"

namespace mcompress {

struct HalfPlan {
  std::vector<Node*> nodes;  // that are converted, outer graphs first, in graph order
  std::map<std::uint32_t, HalfForm> forms;                // of those nodes, by id
  std::vector<std::pair<const Node*, std::string>> kept;  // in float32, and why
  std::vector<HalfMask> masks;                            // those that a converted node reads
  bool converts(const Node& node) const { return forms.contains(node.id()); }
};

// Nodes that have no heavy one beside them, with nothing but 16-bit values between, stay as they
// are: the casts around them would cost more than they save. Fails as reading weights does.
Result<HalfPlan> plan_half(Model& model, DataType type, HalfRules& rules);

}  // namespace mcompress
