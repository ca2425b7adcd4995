#include "passes/common/evaluate.h"

#include <algorithm>
#include <unordered_map>

#include "ir/builder.h"
#include "ir/facts.h"
#include "support/try.h"

namespace mcompress {
namespace {

// A copy without graphs; empty for kinds that only their origin knows.
std::optional<AttributeValue> copy_value(const AttributeValue& value) {
  return std::visit(
      [](const auto& held) -> std::optional<AttributeValue> {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_copy_constructible_v<T> && !std::is_same_v<T, OpaqueAttribute> &&
                      !std::is_same_v<T, AttributeRef> &&
                      !std::is_same_v<T, std::vector<std::unique_ptr<Graph>>>) {
          return AttributeValue(held);
        } else {
          return std::nullopt;
        }
      },
      value);
}

}  // namespace

std::string why_not_evaluable(const Node& node) {
  for (const Attribute& entry : node.attributes()) {
    if (!copy_value(entry.value)) return "its attribute '" + entry.name + "' can not be copied";
  }
  return {};
}

Result<std::vector<Tensor>> evaluate(Runtime& runtime, const Model& model,
                                     std::span<Node* const> nodes, std::span<Value* const> wanted) {
  Model part;
  Builder builder(part);
  for (const auto& [domain, version] : model.opsets()) builder.import_opset(domain, version);
  // Constants need not be inputs from IR version 4 on.
  builder.set_ir_version(std::max<std::int64_t>(4, model.ir_version()));
  Graph& graph = part.graph();
  builder.set_graph(graph, "constants", nullptr);

  // Graphs side by side may use the same names, so values get new ones.
  std::unordered_map<const Value*, Value*> copies;
  const auto name_of = [](const Value& value) { return "v" + std::to_string(value.id()); };
  const auto copy_of = [&](Value& value) -> Value& {
    Value*& copy = copies[&value];
    if (copy == nullptr) {
      copy = &builder.add_value(graph, name_of(value));
      // No types: the runtime finds them, and what a file said may be wrong.
      if (auto data = constant_of(&value)) {
        builder.set_initializer(graph, *copy, std::move(*data), nullptr);
      }
    }
    return *copy;
  };
  for (Node* node : nodes) {
    Node& twin =
        builder.add_node(graph, node->label(), node->domain(), std::string(node->op_type()),
                         std::string(node->overload()), nullptr);
    for (Value* value : node->inputs()) {
      builder.add_node_input(twin, value != nullptr ? &copy_of(*value) : nullptr);
    }
    for (Value* value : node->outputs()) {
      builder.add_node_output(twin, value != nullptr ? &copy_of(*value) : nullptr);
    }
    for (const Attribute& entry : node->attributes()) {
      auto value = copy_value(entry.value);
      if (!value) return Error(Code::kInternal, "fold-attribute", why_not_evaluable(*node));
      builder.add_attribute(twin, {entry.name, std::move(*value), nullptr});
    }
    builder.append(graph, twin);
  }
  std::vector<std::string> names;
  for (Value* value : wanted) {
    builder.add_output(graph, copy_of(*value));
    names.push_back(name_of(*value));
  }
  SessionOptions options;
  options.optimisation = Optimisation::kNone;
  options.prepack = false;
  options.memory_arena = false;
  MCOMPRESS_ASSIGN(const auto session, runtime.open(part, options));
  return session->run({}, names);
}

}  // namespace mcompress
