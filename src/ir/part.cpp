#include "ir/part.h"

#include <algorithm>
#include <optional>
#include <type_traits>
#include <unordered_map>

#include "ir/builder.h"
#include "ir/facts.h"

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

std::string why_no_part(const Node& node) {
  for (const Attribute& entry : node.attributes()) {
    if (!copy_value(entry.value)) return "its attribute '" + entry.name + "' can not be copied";
  }
  return {};
}

std::string part_name(const Value& value) { return "v" + std::to_string(value.id()); }

std::unique_ptr<Model> part_of(const Model& model, std::span<const Node* const> nodes,
                               std::span<const PartInput> inputs,
                               std::span<const Value* const> wanted) {
  auto part = std::make_unique<Model>();
  Builder builder(*part);
  for (const auto& [domain, version] : model.opsets()) builder.import_opset(domain, version);
  // Constants need not be inputs from IR version 4 on.
  builder.set_ir_version(std::max<std::int64_t>(4, model.ir_version()));
  Graph& graph = part->graph();
  builder.set_graph(graph, "part", nullptr);

  std::unordered_map<const Value*, Value*> copies;
  for (const PartInput& input : inputs) {
    Value& copy = builder.add_value(graph, part_name(*input.value));
    copies.emplace(input.value, &copy);
    TypeInfo type{input.element, std::vector<Dim>()};
    for (const std::int64_t size : input.dims) {
      type.shape->push_back({size < 0 ? std::nullopt : std::optional(size), {}});
    }
    if (input.any_shape) type.shape.reset();
    builder.set_type(copy, std::move(type), nullptr);
    builder.add_input(graph, copy);
  }
  const auto copy_of = [&](const Value& value) -> Value& {
    Value*& copy = copies[&value];
    if (copy == nullptr) {
      copy = &builder.add_value(graph, part_name(value));
      // No types: the runtime finds them, and what a file said may be wrong.
      if (auto data = constant_of(&value)) {
        builder.set_initializer(graph, *copy, std::move(*data), nullptr);
      }
    }
    return *copy;
  };
  for (const Node* node : nodes) {
    Node& twin =
        builder.add_node(graph, node->label(), node->domain(), std::string(node->op_type()),
                         std::string(node->overload()), nullptr);
    for (const Value* value : node->inputs()) {
      builder.add_node_input(twin, value != nullptr ? &copy_of(*value) : nullptr);
    }
    for (const Value* value : node->outputs()) {
      builder.add_node_output(twin, value != nullptr ? &copy_of(*value) : nullptr);
    }
    for (const Attribute& entry : node->attributes()) {
      if (auto value = copy_value(entry.value)) {
        builder.add_attribute(twin, {entry.name, std::move(*value), nullptr});
      }
    }
    builder.append(graph, twin);
  }
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    Value& copy = copy_of(*wanted[i]);
    if (copy.producer() != nullptr && !copy.is_graph_output()) {
      builder.add_output(graph, copy);
      continue;
    }
    Node& identity = builder.add_node(graph, {}, "", "Identity", {}, nullptr);
    Value& out = builder.add_value(graph, "out" + std::to_string(i));
    builder.add_node_input(identity, &copy);
    builder.add_node_output(identity, &out);
    builder.append(graph, identity);
    builder.add_output(graph, out);
  }
  return part;
}

}  // namespace mcompress
