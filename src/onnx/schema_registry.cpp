// Making all of ONNX's schemas (650 of them) takes longer than loading most models: 60 million
// instructions and 10 MB. Where the library was built without static registration, only those of
// the operators in use are made. A library with static registration makes all of them at the
// first look-up, whatever is done here.
#include "onnx/schema_registry.h"

#include <onnx/defs/operator_sets.h>
#include <onnx/defs/operator_sets_ml.h>
#include <onnx/defs/operator_sets_preview.h>
#include <onnx/defs/schema.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace mcompress {
namespace {

std::shared_mutex g_registry;

#if MCOMPRESS_SCHEMA_TABLE

using Maker = onnx::OpSchema (*)();

const std::multimap<std::string_view, Maker>& makers() {
  static const std::multimap<std::string_view, Maker> all = [] {
    std::multimap<std::string_view, Maker> table;
#define X(name, schema) table.emplace(#name, &onnx::GetOpSchema<onnx::schema>);
#include "onnx/schema_table.inc"
#undef X
    return table;
  }();
  return all;
}

// The operators whose schemas are in the registry. Guarded by g_registry.
std::set<std::string, std::less<>>& made() {
  static std::set<std::string, std::less<>> names;
  return names;
}

// g_registry is held alone.
void make(std::string_view op_type) {
  if (!made().emplace(op_type).second) return;
  const auto [begin, end] = makers().equal_range(op_type);
  for (auto it = begin; it != end; ++it) {
    onnx::OpSchema schema = it->second();
    // Inference walks the body of an operator that has no rule of its own.
    std::set<std::string> inner;
    bool every = false;
    if (!schema.has_type_and_shape_inference_function()) {
      if (const onnx::FunctionProto* body = schema.GetFunction()) {
        for (const auto& node : body->node()) inner.insert(node.op_type());
      }
      every = schema.HasContextDependentFunction();  // the body depends on the node
    }
    onnx::RegisterSchema(std::move(schema), 0, false);
    for (const std::string& name : inner) make(name);
    if (!every) continue;
    for (const auto& [name, maker] : makers()) make(name);
  }
}

bool registers_itself() { return !onnx::IsOnnxStaticRegistrationDisabled(); }

#endif

std::shared_lock<std::shared_mutex> lease(const std::set<std::string_view>& op_types) {
#if MCOMPRESS_SCHEMA_TABLE
  if (!registers_itself()) {
    std::set<std::string_view> missing;
    {
      const std::shared_lock lock(g_registry);
      for (const std::string_view name : op_types) {
        if (!made().contains(name)) missing.insert(name);
      }
    }
    if (!missing.empty()) {
      const std::unique_lock lock(g_registry);
      for (const std::string_view name : missing) make(name);
    }
  }
#else
  static_cast<void>(op_types);
#endif
  return std::shared_lock(g_registry);
}

template <class Nodes>
void collect(const Nodes& nodes, std::set<std::string_view>& op_types) {
  for (const onnx::NodeProto& node : nodes) {
    op_types.insert(node.op_type());
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      if (attribute.has_g()) collect(attribute.g().node(), op_types);
      for (const onnx::GraphProto& graph : attribute.graphs()) collect(graph.node(), op_types);
    }
  }
}

std::set<std::string_view> operators_of(const onnx::ModelProto& model) {
  std::set<std::string_view> op_types;
  collect(model.graph().node(), op_types);
  for (const onnx::FunctionProto& function : model.functions()) {
    collect(function.node(), op_types);
  }
  return op_types;
}

}  // namespace

SchemaLease::SchemaLease(std::string_view op_type) : lock_(lease({op_type})) {}

SchemaLease::SchemaLease(const onnx::ModelProto& model) : lock_(lease(operators_of(model))) {}

}  // namespace mcompress
