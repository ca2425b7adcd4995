// The units that mixed precision chooses between: nodes that can only change together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
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

// Patterns that `include` and `exclude` understand and that match one node of its graph. The names
// of a graph are gathered once, when it is first asked about: it must not change from then on.
class OnlyPatterns {
 public:
  // Of the node's name, a name of what it makes, or that of its weight, the first that no other
  // node bears, or reads as its weight, and that is no operator's: as a literal pattern. Empty:
  // there is none.
  std::string of(const Node& node, const Value* weight);

 private:
  struct Names {
    std::unordered_set<std::string_view> op_types;
    // How many nodes have the name or make a value of it, and how many read such a value.
    std::unordered_map<std::string_view, std::size_t> bearers, readers;
  };
  const Names& names_of(const Graph& graph);

  std::unordered_map<const Graph*, Names> graphs_;
};

}  // namespace mcompress
