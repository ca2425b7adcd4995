#include "passes/common/integer/precision_units.h"

#include <algorithm>
#include <map>
#include <set>

namespace mcompress {
namespace {

using Kind = OperatorRule::Kind;

}  // namespace

std::vector<PrecisionUnit> precision_units(const StaticPlan& plan) {
  std::vector<PrecisionUnit> units;
  std::map<std::uint32_t, std::size_t> made;  // value id -> unit
  for (const IntegerNode& node : plan.nodes) {
    if (node.kind == Kind::kSameScale) {
      const auto owner = made.find(plan.root(node.output->id()));
      if (owner != made.end()) {
        units[owner->second].followers.push_back(node.node);
        continue;
      }
    }
    made.emplace(node.output->id(), units.size());
    PrecisionUnit unit;
    unit.node = node.node;
    unit.output = node.output;
    unit.weight = node.weight;
    units.push_back(std::move(unit));
  }
  return units;
}

StaticPlan plan_of_unit(const StaticPlan& plan, std::uint32_t id) {
  StaticPlan part;
  part.eligible = plan.eligible;
  std::set<std::uint32_t> kept;
  for (const PrecisionUnit& unit : precision_units(plan)) {
    if (unit.node->id() != id) continue;
    kept.insert(id);
    for (const Node* node : unit.followers) kept.insert(node->id());
  }
  std::set<const Value*> seen;
  const auto add = [&](Value* value) {
    if (seen.insert(value).second) part.tensors.push_back(value);
  };
  for (const IntegerNode& node : plan.nodes) {
    if (kept.count(node.node->id()) == 0) continue;
    for (const std::size_t slot : node.inputs) add(node.node->input(slot));
    if (!node.float_output) add(node.output);
    part.nodes.push_back(node);
  }
  part.same_scale = plan.same_scale;
  return part;
}

const Value* written_output(const StaticPlan& plan, std::uint32_t id) {
  for (const IntegerNode& node : plan.nodes) {
    if (node.node->id() != id) continue;
    const Value* made = node.node->output(0);
    for (const char* step : {"QuantizeLinear", "DequantizeLinear"}) {
      const auto uses = made->uses();
      const auto next = std::find_if(uses.begin(), uses.end(), [&](const Use& use) {
        return use.node != nullptr && use.node->is(step) && use.slot == 0;
      });
      if (next == uses.end()) break;
      made = next->node->output(0);
    }
    return made;
  }
  return nullptr;
}

std::string literal_pattern(std::string_view name) {
  std::string pattern;
  for (const char c : name) {
    if (c == '*' || c == '?' || c == '[') {
      pattern += '[';  // "a[0]" would match "a0"
      pattern += c;
      pattern += ']';
    } else {
      pattern += c;
    }
  }
  return pattern;
}

std::string OnlyPatterns::of(const Node& node, const Value* weight) {
  const Names& known = names_of(node.graph());
  const auto count = [](const auto& counts, std::string_view name) {
    const auto found = counts.find(name);
    return found != counts.end() ? found->second : 0;
  };
  const auto is_only = [&](std::string_view name) {
    if (name.empty() || known.op_types.contains(name)) return false;
    const auto is_name = [&](const Value* value) {
      return value != nullptr && value->name() == name;
    };
    const bool own = node.name() == name || std::ranges::any_of(node.outputs(), is_name);
    if (count(known.bearers, name) > (own ? 1U : 0U)) return false;
    if (weight == nullptr || weight->name() != name) return true;
    const bool reads = std::ranges::any_of(node.inputs(), is_name);
    return count(known.readers, name) <= (reads ? 1U : 0U);
  };
  if (is_only(node.name())) return literal_pattern(node.name());
  for (const Value* value : node.outputs()) {
    if (value != nullptr && is_only(value->name())) return literal_pattern(value->name());
  }
  if (weight != nullptr && is_only(weight->name())) return literal_pattern(weight->name());
  return {};
}

const OnlyPatterns::Names& OnlyPatterns::names_of(const Graph& graph) {
  const auto [place, fresh] = graphs_.try_emplace(&graph);
  Names& names = place->second;
  if (!fresh) return names;
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    names.op_types.insert(node->op_type());
    std::set<std::string_view> borne = {node->name()}, read;
    for (const Value* value : node->outputs()) {
      if (value != nullptr) borne.insert(value->name());
    }
    for (const Value* value : node->inputs()) {
      if (value != nullptr) read.insert(value->name());
    }
    for (const std::string_view name : borne) ++names.bearers[name];
    for (const std::string_view name : read) ++names.readers[name];
  }
  return names;
}

}  // namespace mcompress
