// The units that mixed precision chooses between: nodes that can only change together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/common/integer/static_plan.h"

namespace mcompress {

// A node that computes in integers, with the nodes behind it that share its scale: they move or
// select elements and follow it back to float32.
struct PrecisionUnit {
  Node* node = nullptr;
  Value* output = nullptr;       // what the node makes, after an absorbed activation
  std::vector<Node*> followers;  // in graph order
  Value* weight = nullptr;       // null: it has none
};

// In graph order.
std::vector<PrecisionUnit> precision_units(const StaticPlan& plan);

// The part of the plan that puts the unit of node `id` alone in integers.
StaticPlan plan_of_unit(const StaticPlan& plan, std::uint32_t id);

// What the unit of node `id` makes once the plan is written: dequantized where it is quantized.
// Null: the plan does not hold the node.
const Value* written_output(const StaticPlan& plan, std::uint32_t id);

// A pattern that matches this name only: special characters stand in brackets.
std::string literal_pattern(std::string_view name);

// A pattern that `include` and `exclude` understand and that only this node of its graph matches:
// its name, a name of what it makes, or that of its weight, as a literal pattern. Empty: there is
// none.
std::string only_pattern_of(const Node& node, const Value* weight);

}  // namespace mcompress
