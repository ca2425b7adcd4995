#include "onnx/shadowed_names.h"

#include <unordered_set>

namespace mcompress {
namespace {

template <class Visit>
void for_each_body(onnx::NodeProto& node, Visit&& visit) {
  for (onnx::AttributeProto& attribute : *node.mutable_attribute()) {
    if (attribute.has_g()) visit(*attribute.mutable_g());
    for (onnx::GraphProto& body : *attribute.mutable_graphs()) visit(body);
  }
}

// What the graph itself defines before its nodes.
template <class Visit>
void for_each_given(const onnx::GraphProto& graph, Visit&& visit) {
  for (const onnx::ValueInfoProto& input : graph.input()) visit(input.name());
  for (const onnx::TensorProto& tensor : graph.initializer()) visit(tensor.name());
  for (const onnx::SparseTensorProto& sparse : graph.sparse_initializer()) {
    visit(sparse.values().name());
  }
}

void collect(const onnx::GraphProto& graph, std::unordered_set<std::string>& names) {
  for_each_given(graph, [&](const std::string& name) { names.insert(name); });
  for (const onnx::NodeProto& node : graph.node()) {
    names.insert(node.input().begin(), node.input().end());
    names.insert(node.output().begin(), node.output().end());
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      if (attribute.has_g()) collect(attribute.g(), names);
      for (const onnx::GraphProto& body : attribute.graphs()) collect(body, names);
    }
  }
}

}  // namespace

ValueNames names_instead(const onnx::GraphProto& body,
                         const std::function<bool(const std::string&)>& taken) {
  ValueNames names;
  for_each_given(body, [&](const std::string& name) {
    if (!name.empty() && taken(name)) names.emplace(name, std::string());
  });
  if (names.empty()) return names;
  std::unordered_set<std::string> used;
  collect(body, used);
  for (auto& [from, to] : names) {
    std::size_t number = 0;
    do {
      to = from + "_inner" + (number == 0 ? std::string() : std::to_string(number));
      ++number;
    } while (taken(to) || used.contains(to));
    used.insert(to);
  }
  return names;
}

void rename_values(onnx::GraphProto& body, const ValueNames& names) {
  const auto rename = [&](std::string& name) {
    const auto found = names.find(name);
    if (found != names.end()) name = found->second;
  };
  for (onnx::ValueInfoProto& input : *body.mutable_input()) rename(*input.mutable_name());
  for (onnx::ValueInfoProto& output : *body.mutable_output()) rename(*output.mutable_name());
  for (onnx::ValueInfoProto& info : *body.mutable_value_info()) rename(*info.mutable_name());
  for (onnx::TensorProto& tensor : *body.mutable_initializer()) rename(*tensor.mutable_name());
  for (onnx::SparseTensorProto& sparse : *body.mutable_sparse_initializer()) {
    rename(*sparse.mutable_values()->mutable_name());
  }
  for (onnx::NodeProto& node : *body.mutable_node()) {
    for (std::string& input : *node.mutable_input()) rename(input);
    for (std::string& output : *node.mutable_output()) rename(output);
    for_each_body(node, [&](onnx::GraphProto& inner) {
      ValueNames captured = names;
      for_each_given(inner, [&](const std::string& name) { captured.erase(name); });
      rename_values(inner, captured);
    });
  }
}

}  // namespace mcompress
