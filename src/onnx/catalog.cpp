// What the schemas of the linked ONNX know of single operators.
#include <onnx/defs/function.h>
#include <onnx/defs/schema.h>
#include <onnx/shape_inference/implementation.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <map>
#include <string>

#include "ir/domains.h"
#include "mcompress/io.h"
#include "onnx/schema_registry.h"
#include "onnx/schemas.h"
#include "onnx/skeleton.h"
#include "onnx/wire.h"

namespace mcompress {
namespace {

using onnx::OpSchema;

const OpSchema* schema_of(std::string_view domain, std::string_view op_type, std::int64_t opset) {
  if (opset <= 0) return nullptr;
  constexpr std::int64_t kMost = std::numeric_limits<int>::max();
  return onnx::OpSchemaRegistry::Schema(std::string(op_type),
                                        static_cast<int>(std::min(opset, kMost)),
                                        std::string(plain_domain(domain)));
}

// The formal parameter that takes the argument at a position; null: none does.
const OpSchema::FormalParameter* parameter_at(const std::vector<OpSchema::FormalParameter>& all,
                                              std::size_t position) {
  if (position < all.size()) return &all[position];
  if (all.empty() || all.back().GetOption() != OpSchema::Variadic) return nullptr;
  return &all.back();
}

// "tensor(float)"; empty: not known.
std::string type_name(const Value& value) {
  if (value.type() == nullptr) return {};
  onnx::TypeProto proto;
  TypeInfo type;
  type.element = value.type()->element;
  type_to_proto(type, proto);
  try {
    const auto name = onnx::Utils::DataTypeUtils::ToType(proto);
    return name == nullptr ? std::string() : *name;
  } catch (const std::exception&) {
    return {};  // a type that this ONNX does not know
  }
}

bool takes(const OpSchema::FormalParameter& parameter, const std::string& type) {
  const auto& types = parameter.GetTypes();
  return std::any_of(types.begin(), types.end(),
                     [&](const auto& allowed) { return *allowed == type; });
}

bool equal(const AttributeValue& value, const onnx::AttributeProto& preset) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) {
    return preset.has_i() && preset.i() == *number;
  }
  if (const auto* number = std::get_if<float>(&value)) {
    return preset.has_f() && preset.f() == *number;
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    return preset.has_s() && preset.s() == *text;
  }
  return false;
}

// Without them windows have no gaps.
bool is_neutral(const Attribute& entry) {
  const auto* list = std::get_if<std::vector<std::int64_t>>(&entry.value);
  return entry.name == "dilations" && list != nullptr &&
         std::all_of(list->begin(), list->end(), [](std::int64_t item) { return item == 1; });
}

// What one list of arguments, inputs or outputs, has that `to` does not take. `bound`: the types
// that the schema's type variables stand for.
std::string misfit_of(std::span<Value* const> values, const char* what,
                      const std::vector<OpSchema::FormalParameter>& before,
                      const std::vector<OpSchema::FormalParameter>& after, int least,
                      std::map<std::string, std::string>& bound) {
  std::size_t count = values.size();
  while (count > 0 && values[count - 1] == nullptr) --count;
  if (count < static_cast<std::size_t>(least)) {
    return "it needs " + std::to_string(least) + " " + what + "s there and has " +
           std::to_string(count);
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const OpSchema::FormalParameter* parameter = parameter_at(after, i);
    if (values[i] == nullptr) {
      if (parameter != nullptr && parameter->GetOption() == OpSchema::Single && i < count) {
        return std::string(what) + " '" + parameter->GetName() + "' may not be left out there";
      }
      continue;
    }
    const OpSchema::FormalParameter* was = parameter_at(before, i);
    if (parameter == nullptr) {
      return "there is no " + std::string(what) + " '" +
             (was != nullptr ? was->GetName() : std::to_string(i)) + "' there";
    }
    const std::string type = type_name(*values[i]);
    if (type.empty()) continue;
    // What was wrong before is not the fault of the change.
    const bool fine_before = was == nullptr || takes(*was, type);
    if (fine_before && !takes(*parameter, type)) {
      return std::string(what) + " '" + parameter->GetName() + "' can not be " + type + " there";
    }
    const bool alike =
        parameter->GetOption() != OpSchema::Variadic || parameter->GetIsHomogeneous();
    if (!alike || parameter->GetTypeStr().find('(') != std::string::npos) continue;
    const auto [place, first] = bound.emplace(parameter->GetTypeStr(), type);
    if (!first && place->second != type) {
      return std::string(what) + " '" + parameter->GetName() + "' has to be " + place->second +
             " like the others there, not " + type;
    }
  }
  return {};
}

bool to_proto(const Attribute& entry, onnx::AttributeProto& proto) {
  proto.set_name(entry.name);
  if (const auto* number = std::get_if<std::int64_t>(&entry.value)) {
    proto.set_type(onnx::AttributeProto::INT);
    proto.set_i(*number);
  } else if (const auto* real = std::get_if<float>(&entry.value)) {
    proto.set_type(onnx::AttributeProto::FLOAT);
    proto.set_f(*real);
  } else if (const auto* text = std::get_if<std::string>(&entry.value)) {
    proto.set_type(onnx::AttributeProto::STRING);
    proto.set_s(*text);
  } else if (const auto* list = std::get_if<std::vector<std::int64_t>>(&entry.value)) {
    proto.set_type(onnx::AttributeProto::INTS);
    for (const std::int64_t item : *list) proto.add_ints(item);
  } else if (const auto* reals = std::get_if<std::vector<float>>(&entry.value)) {
    proto.set_type(onnx::AttributeProto::FLOATS);
    for (const float item : *reals) proto.add_floats(item);
  } else {
    return false;
  }
  return true;
}

class OnnxCatalog final : public OperatorCatalog {
 public:
  std::int64_t since_version(std::string_view domain, std::string_view op_type,
                             std::int64_t opset) const override {
    const SchemaLease schemas(op_type);
    const OpSchema* schema = schema_of(domain, op_type, opset);
    return schema == nullptr ? 0 : schema->since_version();
  }

  std::int64_t newest_opset() const override { return mcompress::newest_opset(); }

  Misfit misfit(const Node& node, std::int64_t from, std::int64_t to) const override {
    const SchemaLease schemas(node.op_type());
    const OpSchema* before = schema_of(node.domain(), node.op_type(), from);
    const OpSchema* after = schema_of(node.domain(), node.op_type(), to);
    if (before == nullptr || before == after) return {};
    if (after == nullptr || after->Deprecated()) return {"there is no such operator there", {}};
    Misfit misfit;
    for (const Attribute& entry : node.attributes()) {
      if (after->attributes().contains(entry.name)) continue;
      const auto known = before->attributes().find(entry.name);
      if (known == before->attributes().end()) continue;
      if (!equal(entry.value, known->second.default_value) && !is_neutral(entry)) {
        misfit.why = "there is no attribute '" + entry.name + "' there";
        return misfit;
      }
      misfit.at_default.push_back(entry.name);
    }
    for (const auto& [name, attribute] : after->attributes()) {
      if (attribute.required && node.attribute(name) == nullptr) {
        misfit.why = "it needs attribute '" + name + "' there";
        return misfit;
      }
    }
    std::map<std::string, std::string> bound;
    misfit.why = misfit_of(node.inputs(), "input", before->inputs(), after->inputs(),
                           after->min_input(), bound);
    if (misfit.why.empty()) {
      misfit.why = misfit_of(node.outputs(), "output", before->outputs(), after->outputs(),
                             after->min_output(), bound);
    }
    return misfit;
  }

  std::unique_ptr<Model> expansion(const Node& node, std::int64_t opset) const override {
    try {
      onnx::ModelProto proto;
      {
        const SchemaLease schemas(node.op_type());
        const OpSchema* schema = schema_of(node.domain(), node.op_type(), opset);
        if (schema == nullptr || !write_body(node, *schema, *proto.add_functions())) return nullptr;
      }
      note_types(node, *proto.mutable_functions(0));
      proto.set_ir_version(onnx::Version::IR_VERSION);
      proto.mutable_graph()->set_name("expansion");
      *proto.mutable_opset_import() = proto.functions(0).opset_import();
      Diagnostics ignored;
      auto model = load_model_bytes(proto.SerializeAsString(), {}, ignored);
      return model.ok() ? std::move(*model) : nullptr;
    } catch (const std::exception&) {
      return nullptr;  // a body that this ONNX can not build
    }
  }

 private:
  // The oldest body there is: the less to migrate.
  static bool write_body(const Node& node, const OpSchema& schema, onnx::FunctionProto& function) {
    if (schema.HasFunction()) {
      const auto versions = schema.function_opset_versions();
      const int oldest = *std::min_element(versions.begin(), versions.end());
      const onnx::FunctionProto* body = schema.GetFunction(oldest);
      if (body == nullptr) return false;
      function = *body;
    } else if (schema.HasContextDependentFunction()) {
      onnx::NodeProto proto;
      std::vector<onnx::TypeProto> types;
      proto.set_op_type(std::string(node.op_type()));
      for (const Value* value : node.inputs()) {
        proto.add_input(value == nullptr ? std::string() : std::string(value->name()));
        types.emplace_back();
        if (value == nullptr) continue;
        if (value->type() == nullptr) return false;
        type_to_proto(*value->type(), types.back());
      }
      for (const Value* value : node.outputs()) {
        proto.add_output(value == nullptr ? std::string() : std::string(value->name()));
      }
      for (const Attribute& entry : node.attributes()) {
        if (!to_proto(entry, *proto.add_attribute())) return false;
      }
      const auto versions = schema.context_dependent_function_opset_versions();
      const int oldest = *std::min_element(versions.begin(), versions.end());
      const onnx::FunctionBodyBuildContextImpl context(proto, types);
      if (!schema.BuildContextDependentFunction(context, function, oldest)) return false;
      // Only what the node asks for is computed.
      while (function.output_size() > static_cast<int>(node.outputs().size())) {
        function.mutable_output()->RemoveLast();
      }
    } else {
      return false;
    }
    if (function.name().empty()) function.set_name(schema.Name());
    if (function.opset_import_size() == 0) {
      auto* import = function.add_opset_import();
      import->set_domain("");
      import->set_version(schema.since_version());
    }
    for (const auto& [name, attribute] : schema.attributes()) {
      if (attribute.required || !attribute.default_value.has_type()) continue;
      auto& preset = *function.add_attribute_proto();
      preset = attribute.default_value;
      preset.set_name(name);
    }
    return function.node_size() > 0;
  }

  // The types of the values inside, as far as ONNX can infer them: what is migrated later often
  // depends on them.
  static void note_types(const Node& node, onnx::FunctionProto& function) {
    onnx::ModelProto probe;
    probe.set_ir_version(onnx::Version::IR_VERSION);
    *probe.mutable_opset_import() = function.opset_import();
    onnx::GraphProto& graph = *probe.mutable_graph();
    for (int i = 0; i < function.input_size(); ++i) {
      const Value* value = node.input(static_cast<std::size_t>(i));
      if (value == nullptr || value->type() == nullptr) continue;
      auto& input = *graph.add_input();
      input.set_name(function.input(i));
      type_to_proto(*value->type(), *input.mutable_type());
    }
    for (const onnx::NodeProto& inner : function.node()) {
      onnx::NodeProto& copy = *graph.add_node();
      copy = inner;
      copy.clear_attribute();
      for (const onnx::AttributeProto& attribute : inner.attribute()) {
        if (attribute.ref_attr_name().empty()) {
          *copy.add_attribute() = attribute;
        } else {
          fill(node, function, attribute, copy);
        }
      }
    }
    const SchemaLease schemas(probe);
    try {
      onnx::shape_inference::DataValueMap known;
      onnx::shape_inference::InferShapes(probe, onnx::OpSchemaRegistry::Instance(),
                                         onnx::ShapeInferenceOptions(false, 0, true), &known);
    } catch (const std::exception&) {
      return;  // then they stay unknown
    }
    *function.mutable_value_info() = graph.value_info();
    // Symbols that inference invents would look the same in every definition.
    for (onnx::ValueInfoProto& info : *function.mutable_value_info()) {
      if (!info.type().has_tensor_type() || !info.type().tensor_type().has_shape()) continue;
      for (auto& dim :
           *info.mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim()) {
        if (dim.dim_param().starts_with("unk__")) dim.clear_dim_param();
      }
    }
  }

  // What a reference to an attribute stands for; nothing when there is none.
  static void fill(const Node& node, const onnx::FunctionProto& function,
                   const onnx::AttributeProto& reference, onnx::NodeProto& copy) {
    const std::string& wanted = reference.ref_attr_name();
    onnx::AttributeProto value;
    for (const onnx::AttributeProto& preset : function.attribute_proto()) {
      if (preset.name() == wanted) value = preset;
    }
    for (const Attribute& entry : node.attributes()) {
      if (entry.name != wanted) continue;
      value.Clear();
      if (!to_proto(entry, value)) return;
    }
    if (value.type() == onnx::AttributeProto::UNDEFINED) return;
    value.set_name(reference.name());
    *copy.add_attribute() = value;
  }
};

}  // namespace

const OperatorCatalog& onnx_catalog() {
  static const OnnxCatalog catalog;
  return catalog;
}

}  // namespace mcompress
