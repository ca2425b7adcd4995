#include "runtime/model_facts.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "ir/walk.h"

namespace mcompress {

KnownTypes known_types(const Model& model) {
  KnownTypes known;
  for (const Value* value : model.graph().inputs()) known.emplace(value->name(), value->type());
  for (const Value* value : model.graph().outputs()) known.emplace(value->name(), value->type());
  return known;
}

std::vector<std::pair<std::string, std::int64_t>> count_operators(Model& model) {
  std::map<std::string, std::int64_t> counts;
  for_each_node(model.graph(), [&](const Node& node) {
    std::string key(node.domain());
    if (!key.empty()) key += ':';
    ++counts[key + std::string(node.op_type())];
  });
  return {counts.begin(), counts.end()};
}

bool may_be_tensor(const Value& value) {
  if (value.type() != nullptr || value.constant() != nullptr) return true;
  const Node* node = value.producer();
  if (node == nullptr) return false;  // an input of the graph: tensors have a type there
  if (!node->domain().empty()) return true;
  static constexpr std::array<std::string_view, 7> kOthers = {
      "Optional",       "SequenceConstruct", "SequenceEmpty",  "SequenceErase",
      "SequenceInsert", "SequenceMap",       "SplitToSequence"};
  if (std::ranges::find(kOthers, node->op_type()) != kOthers.end()) return false;
  if (node->is("Identity")) return node->input(0) == nullptr || may_be_tensor(*node->input(0));
  const auto slot = static_cast<std::size_t>(std::ranges::find(node->outputs(), &value) -
                                             node->outputs().begin());
  if (node->is("Loop")) {
    // What it carries is of the type that it starts with, behind the count and the condition.
    const Value* start = node->input(slot + 2);
    return start == nullptr || may_be_tensor(*start);
  }
  if (!node->is("If")) return true;
  const auto bodies = node->bodies();
  return bodies.empty() || slot >= bodies.front()->outputs().size() ||
         may_be_tensor(*bodies.front()->outputs()[slot]);
}

std::uint64_t total_bytes(const LargeTensors& large) {
  std::uint64_t total = 0;
  for (const auto& [name, tensor] : large) total += tensor.byte_size();
  return total;
}

}  // namespace mcompress
