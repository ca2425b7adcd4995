#include "mcompress/argument_types.h"

#include <onnx/defs/schema.h>

#include <algorithm>
#include <limits>

#include "onnx/schema_registry.h"

namespace mcompress {
namespace {

using onnx::OpSchema;

// Empty: the schema has no parameter for one of the values.
std::optional<std::vector<ArgumentTypes::Argument>> arguments(
    std::span<Value* const> values, const std::vector<OpSchema::FormalParameter>& parameters,
    const std::string& type) {
  std::vector<ArgumentTypes::Argument> result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const OpSchema::FormalParameter* parameter = nullptr;
    bool own_type = false;
    if (i < parameters.size()) {
      parameter = &parameters[i];
    } else if (!parameters.empty() && parameters.back().GetOption() == OpSchema::Variadic) {
      parameter = &parameters.back();
    }
    if (parameter == nullptr) return std::nullopt;
    if (values[i] == nullptr) continue;
    own_type = parameter->GetOption() == OpSchema::Variadic && !parameter->GetIsHomogeneous();
    // A type in the place of a variable: "tensor(float)".
    const std::string& variable = parameter->GetTypeStr();
    if (!own_type && variable.find('(') == std::string::npos) result[i].variable = variable;
    result[i].takes = std::ranges::any_of(parameter->GetTypes(),
                                          [&](const auto& allowed) { return *allowed == type; });
  }
  return result;
}

}  // namespace

std::optional<ArgumentTypes> argument_types(const Node& node, std::int64_t opset, DataType type) {
  if (opset <= 0 || opset > std::numeric_limits<int>::max()) return std::nullopt;
  std::string name;
  if (type == DataType::kFloat) {
    name = "tensor(float)";
  } else if (type == DataType::kFloat16 || type == DataType::kBfloat16) {
    name = "tensor(" + dtype_name(type) + ")";
  } else {
    return std::nullopt;
  }
  const SchemaLease schemas(node.op_type());
  const OpSchema* schema = onnx::OpSchemaRegistry::Schema(
      std::string(node.op_type()), static_cast<int>(opset), std::string(node.domain()));
  if (schema == nullptr || schema->Deprecated()) return std::nullopt;
  auto inputs = arguments(node.inputs(), schema->inputs(), name);
  auto outputs = arguments(node.outputs(), schema->outputs(), name);
  if (!inputs || !outputs) return std::nullopt;
  return ArgumentTypes{std::move(*inputs), std::move(*outputs)};
}

}  // namespace mcompress
