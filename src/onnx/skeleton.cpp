#include "onnx/skeleton.h"

#include <google/protobuf/util/field_mask_util.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "ir/builder.h"
#include "ir/domains.h"
#include "ir/walk.h"
#include "support/try.h"

namespace mcompress {
namespace {

std::string_view name_of(const Value* value) {
  return value == nullptr ? std::string_view() : value->name();
}

// Rewrites a list of names only when it differs.
template <class Values>
void set_names(const Values& values, google::protobuf::RepeatedPtrField<std::string>& names) {
  const bool same = std::equal(
      values.begin(), values.end(), names.begin(), names.end(),
      [](const Value* value, const std::string& name) { return name_of(value) == name; });
  if (same) return;
  names.Clear();
  for (const Value* value : values) *names.Add() = name_of(value);
}

template <class List, class Values>
void append_numbers(List& list, const Values& values) {
  for (const auto& value : values) list.Add(value);
}

bool has_edited_graph(const AttributeValue& value) {
  if (const auto* one = std::get_if<std::unique_ptr<Graph>>(&value)) return !(*one)->pristine();
  if (const auto* many = std::get_if<std::vector<std::unique_ptr<Graph>>>(&value)) {
    return std::any_of(many->begin(), many->end(),
                       [](const auto& graph) { return !graph->pristine(); });
  }
  return false;
}

// All of a message but the fields of these numbers, which are large and will be written anew.
void copy_but(std::initializer_list<int> left_out, const google::protobuf::Message& from,
              google::protobuf::Message& to) {
  using google::protobuf::util::FieldMaskUtil;
  google::protobuf::FieldMask mask;
  const google::protobuf::Descriptor& fields = *from.GetDescriptor();
  for (int i = 0; i < fields.field_count(); ++i) {
    if (std::ranges::find(left_out, fields.field(i)->number()) != left_out.end()) continue;
    mask.add_paths(fields.field(i)->name());
  }
  to.Clear();
  FieldMaskUtil::MergeMessageTo(from, mask, FieldMaskUtil::MergeOptions(), &to);
  to.GetReflection()->MutableUnknownFields(&to)->MergeFrom(
      from.GetReflection()->GetUnknownFields(from));
}

class Exporter {
 public:
  // `wanted`: of the top graph only these nodes, by id, and the functions they call; null: all.
  Exporter(const Model& model, const std::vector<bool>* wanted)
      : model_(model), parsed_(parsed_model(model)), wanted_(wanted) {
    if (parsed_ != nullptr) result_.payloads = parsed_->payloads;
  }

  Result<ModelSkeleton> run() {
    onnx::ModelProto& proto = result_.proto;
    if (parsed_ != nullptr && whole(model_.graph()) && model_.graph().pristine()) {
      proto = parsed_->proto;
    } else if (parsed_ != nullptr && wanted_ == nullptr) {
      copy_but({onnx::ModelProto::kGraphFieldNumber}, parsed_->proto, proto);
    } else if (parsed_ != nullptr) {
      copy_but({onnx::ModelProto::kGraphFieldNumber, onnx::ModelProto::kFunctionsFieldNumber},
               parsed_->proto, proto);
    }
    if (proto.ir_version() != model_.ir_version()) proto.set_ir_version(model_.ir_version());
    if (parsed_ == nullptr || model_.opsets_edited()) write_opsets(model_.opsets(), proto);
    if (parsed_ == nullptr || model_.metadata_edited()) write_metadata(proto);
    if (!proto.has_graph()) MCOMPRESS_TRY(graph(model_.graph(), *proto.mutable_graph()));
    MCOMPRESS_TRY(write_functions(proto));
    return std::move(result_);
  }

 private:
  // ---- model

  template <class Opsets, class Message>
  static void write_opsets(const Opsets& opsets, Message& proto) {
    for (const auto& [domain, version] : opsets) {
      bool found = false;
      for (auto& entry : *proto.mutable_opset_import()) {
        if (plain_domain(entry.domain()) != domain) continue;
        found = true;
        if (entry.version() != version) entry.set_version(version);
      }
      if (found) continue;
      auto* entry = proto.add_opset_import();
      entry->set_domain(domain);
      entry->set_version(version);
    }
  }

  void write_metadata(onnx::ModelProto& proto) {
    // Entries are matched by key, so what an entry holds beyond key and value stays.
    std::vector<onnx::StringStringEntryProto> before(proto.metadata_props().begin(),
                                                     proto.metadata_props().end());
    proto.clear_metadata_props();
    for (const auto& [key, value] : model_.metadata()) {
      auto* entry = proto.add_metadata_props();
      const std::string& wanted = key;
      const auto old = std::find_if(before.begin(), before.end(),
                                    [&](const auto& other) { return other.key() == wanted; });
      if (old != before.end()) {
        *entry = *old;
        before.erase(old);
      }
      entry->set_key(key);
      entry->set_value(value);
    }
  }

  // Of each function, by place, whether wanted nodes call it, or a function that they call; empty
  // where they call none. Bodies of functions are inferred one by one: with all the others beside
  // each, a thousand of them would take the square.
  std::vector<bool> called_functions() const {
    const auto functions = model_.functions();
    std::map<std::tuple<std::string_view, std::string_view, std::string_view>, std::size_t> places;
    std::vector<bool> called;
    std::vector<std::size_t> next;
    const auto list_functions = [&] {
      called.resize(functions.size());
      for (std::size_t i = 0; i < functions.size(); ++i) {
        const Function& entry = functions[i];
        places.emplace(std::tuple(plain_domain(entry.domain), std::string_view(entry.name),
                                  std::string_view(entry.overload)),
                       i);
      }
    };
    // Nodes without a domain are operators nearly always: only a function in theirs counts.
    const bool in_default = std::ranges::any_of(
        functions, [](const Function& entry) { return plain_domain(entry.domain).empty(); });
    const auto visit = [&](const Node& node) {
      if (node.domain().empty() && !in_default) return;
      if (places.empty()) list_functions();
      const auto place = places.find({node.domain(), node.op_type(), node.overload()});
      if (place == places.end() || called[place->second]) return;
      called[place->second] = true;
      next.push_back(place->second);
    };
    const Graph& top = model_.graph();
    for (const Node* entry = top.first(); entry != nullptr && !functions.empty();
         entry = top.next(*entry)) {
      if (!is_wanted(*entry)) continue;
      visit(*entry);
      for (Graph* body : entry->bodies()) for_each_node(*body, visit);
    }
    while (!next.empty()) {
      Graph& body = *functions[next.back()].body;
      next.pop_back();
      for_each_node(body, visit);
    }
    return called;
  }

  Status write_functions(onnx::ModelProto& proto) {
    const auto functions = model_.functions();
    const std::vector<bool> called = wanted_ != nullptr ? called_functions() : std::vector<bool>();
    if (wanted_ != nullptr && called.empty()) return ok_status();
    const bool untouched =
        parsed_ != nullptr && wanted_ == nullptr &&
        static_cast<int>(functions.size()) == parsed_->proto.functions_size() &&
        std::all_of(functions.begin(), functions.end(), [](const Function& function) {
          return function.origin != nullptr && function.body->pristine() && !function.opsets_edited;
        });
    if (untouched) return ok_status();
    proto.clear_functions();
    for (const Function& entry : functions) {
      if (!called.empty() && !called[static_cast<std::size_t>(&entry - functions.data())]) continue;
      onnx::FunctionProto& out = *proto.add_functions();
      if (entry.origin != nullptr) out = *message_of<onnx::FunctionProto>(entry.origin);
      if (entry.origin == nullptr || entry.opsets_edited) write_opsets(entry.opsets, out);
      if (entry.origin != nullptr && entry.body->pristine()) continue;
      if (out.name() != entry.name) out.set_name(entry.name);
      if (out.domain() != entry.domain) out.set_domain(entry.domain);
      if (out.overload() != entry.overload) out.set_overload(entry.overload);
      set_names(entry.body->inputs(), *out.mutable_input());
      set_names(entry.body->outputs(), *out.mutable_output());
      MCOMPRESS_TRY(nodes(*entry.body, *out.mutable_node()));
      write_value_info(*entry.body, message_of<onnx::FunctionProto>(entry.origin), out);
    }
    return ok_status();
  }

  // ---- graphs

  bool whole(const Graph& graph) const { return wanted_ == nullptr || &graph != &model_.graph(); }

  Status graph(const Graph& graph, onnx::GraphProto& out) {
    const auto* origin = message_of<onnx::GraphProto>(graph.origin());
    if (graph.pristine() && whole(graph)) {
      out = *origin;
      return ok_status();
    }
    out.Clear();
    if (origin != nullptr) {
      using Proto = onnx::GraphProto;
      copy_but({Proto::kNodeFieldNumber, Proto::kInitializerFieldNumber,
                Proto::kSparseInitializerFieldNumber, Proto::kInputFieldNumber,
                Proto::kOutputFieldNumber, Proto::kValueInfoFieldNumber},
               *origin, out);
    }
    if (origin == nullptr || out.name() != graph.name()) {
      out.set_name(graph.name().empty() ? std::string("graph") : std::string(graph.name()));
    }
    MCOMPRESS_TRY(nodes(graph, *out.mutable_node()));
    MCOMPRESS_TRY(initializers(graph, out));
    interface(graph, origin, out);
    if (whole(graph)) {
      write_value_info(graph, origin, out);
    } else {
      types_around(graph, out);
    }
    return ok_status();
  }

  bool is_wanted(const Node& node) const { return whole(node.graph()) || (*wanted_)[node.id()]; }

  // By a wanted node, or in a graph inside of one.
  bool is_read(const Value& value) const {
    return std::ranges::any_of(value.uses(), [&](const Use& use) {
      return whole(*use.graph) || (use.node != nullptr && is_wanted(*use.node));
    });
  }

  // Of what wanted nodes make and read.
  void types_around(const Graph& graph, onnx::GraphProto& out) {
    for (const Node* entry = graph.first(); entry != nullptr; entry = graph.next(*entry)) {
      for (const Value* value : entry->outputs()) {
        if (value == nullptr || value->is_graph_output()) continue;
        if (!is_wanted(*entry) && !is_read(*value)) continue;
        const auto* declared = message_of<onnx::ValueInfoProto>(IrInternals::type_origin(*value));
        if (value->type() != nullptr) {
          value_info(*value, nullptr, *out.add_value_info());
        } else if (declared != nullptr) {
          value_info(*value, declared, *out.add_value_info());
        }
      }
    }
  }

  Status nodes(const Graph& graph, google::protobuf::RepeatedPtrField<onnx::NodeProto>& out) {
    out.Clear();
    if (whole(graph)) out.Reserve(static_cast<int>(graph.node_count()));
    for (const Node* entry = graph.first(); entry != nullptr; entry = graph.next(*entry)) {
      if (is_wanted(*entry)) MCOMPRESS_TRY(node(*entry, *out.Add()));
    }
    return ok_status();
  }

  Status initializers(const Graph& graph, onnx::GraphProto& out) {
    out.clear_initializer();
    out.clear_sparse_initializer();
    for (const Value* value : graph.initializers()) {
      if (!whole(graph) && !is_read(*value)) continue;
      const Tensor& tensor = *value->initializer();
      const void* origin = IrInternals::tensor_origin(*value).get();
      if (origin == nullptr && tensor.is_opaque()) origin = tensor.opaque().get();
      const std::string name(value->name());
      if (origin != nullptr && parsed_ != nullptr && parsed_->sparse.contains(origin)) {
        onnx::SparseTensorProto& proto = *out.add_sparse_initializer();
        proto = *static_cast<const onnx::SparseTensorProto*>(origin);
        if (proto.values().name() != name) proto.mutable_values()->set_name(name);
        continue;
      }
      onnx::TensorProto& proto = *out.add_initializer();
      if (origin != nullptr) {
        proto = *static_cast<const onnx::TensorProto*>(origin);
        if (proto.name() != name) proto.set_name(name);
        continue;
      }
      proto.set_name(name);
      MCOMPRESS_TRY(tensor_to_proto(tensor, result_.payloads, proto));
    }
    return ok_status();
  }

  void value_info(const Value& value, const onnx::ValueInfoProto* base, onnx::ValueInfoProto& out) {
    if (base != nullptr) out = *base;
    if (base == nullptr || out.name() != value.name()) out.set_name(std::string(value.name()));
    const bool stale = base == nullptr || IrInternals::type_edited(value);
    if (stale && value.type() != nullptr) type_to_proto(*value.type(), *out.mutable_type());
  }

  void interface(const Graph& graph, const onnx::GraphProto* origin, onnx::GraphProto& out) {
    out.clear_input();
    for (const Value* value : graph.inputs()) {
      value_info(*value, message_of<onnx::ValueInfoProto>(IrInternals::type_origin(*value)),
                 *out.add_input());
    }
    // An output may be any value, so what the file said about it is found by name first.
    std::unordered_map<std::string_view, const onnx::ValueInfoProto*> named;
    if (origin != nullptr) {
      for (const auto& info : origin->output()) named.emplace(info.name(), &info);
    }
    out.clear_output();
    for (const Value* value : graph.outputs()) {
      const auto found = named.find(value->name());
      value_info(*value,
                 found != named.end()
                     ? found->second
                     : message_of<onnx::ValueInfoProto>(IrInternals::type_origin(*value)),
                 *out.add_output());
    }
  }

  // Entries of values that are gone go as well; types that were edited follow at the end.
  template <class Message>
  void write_value_info(const Graph& graph, const Message* origin, Message& out) {
    out.clear_value_info();
    std::vector<const Value*> own(graph.initializers().begin(), graph.initializers().end());
    own.insert(own.end(), graph.inputs().begin(), graph.inputs().end());
    for (const Node* entry = graph.first(); entry != nullptr; entry = graph.next(*entry)) {
      for (const Value* value : entry->outputs()) {
        if (value != nullptr) own.push_back(value);
      }
    }
    std::unordered_map<const void*, const Value*> by_origin;
    std::unordered_map<std::string_view, const Value*> by_name;
    bool looked_up = origin != nullptr && origin->value_info_size() > 0;
    if constexpr (std::is_same_v<Message, onnx::GraphProto>) {
      looked_up = looked_up || out.quantization_annotation_size() > 0;
    }
    if (looked_up) {
      by_name.reserve(own.size());
      for (const Value* value : own) {
        const void* info = IrInternals::type_origin(*value).get();
        if (info != nullptr) by_origin.emplace(info, value);
        by_name.emplace(value->name(), value);
      }
    }
    std::unordered_set<const Value*> written(graph.outputs().begin(), graph.outputs().end());
    written.insert(graph.inputs().begin(), graph.inputs().end());
    if (origin != nullptr) {
      for (const auto& info : origin->value_info()) {
        if (const auto same = by_origin.find(&info); same != by_origin.end()) {
          value_info(*same->second, &info, *out.add_value_info());
          written.insert(same->second);
        } else if (const auto named = by_name.find(info.name()); named != by_name.end()) {
          if (!IrInternals::type_edited(*named->second)) *out.add_value_info() = info;
        }
      }
    }
    for (const Value* value : own) {
      if (value->is_initializer() || value->type() == nullptr ||
          !IrInternals::type_edited(*value) || written.contains(value)) {
        continue;
      }
      value_info(*value, nullptr, *out.add_value_info());
    }
    if constexpr (std::is_same_v<Message, onnx::GraphProto>) {
      auto& annotations = *out.mutable_quantization_annotation();
      annotations.erase(std::remove_if(annotations.begin(), annotations.end(),
                                       [&](const onnx::TensorAnnotation& annotation) {
                                         return !by_name.contains(annotation.tensor_name());
                                       }),
                        annotations.end());
    }
  }

  // ---- nodes

  Status node(const Node& node, onnx::NodeProto& out) {
    const auto* origin = message_of<onnx::NodeProto>(node.origin());
    if (origin != nullptr) out = *origin;
    if (node.pristine()) return ok_status();
    if (out.name() != node.name()) out.set_name(std::string(node.name()));
    if (origin == nullptr || out.op_type() != node.op_type()) {
      out.set_op_type(std::string(node.op_type()));
    }
    if (plain_domain(out.domain()) != node.domain()) out.set_domain(std::string(node.domain()));
    if (out.overload() != node.overload()) out.set_overload(std::string(node.overload()));
    set_names(node.inputs(), *out.mutable_input());
    set_names(node.outputs(), *out.mutable_output());
    out.clear_attribute();
    for (const Attribute& entry : node.attributes()) {
      if (Status status = attribute(entry, *out.add_attribute()); !status.ok()) {
        return std::move(status).error().at("node " + node.label());
      }
    }
    return ok_status();
  }

  Status attribute(const Attribute& entry, onnx::AttributeProto& out) {
    if (entry.origin != nullptr) {
      out = *message_of<onnx::AttributeProto>(entry.origin);
      if (!has_edited_graph(entry.value)) return ok_status();
    }
    out.set_name(entry.name);
    return std::visit([&](const auto& value) { return set(value, out); }, entry.value);
  }

  Status set(std::int64_t value, onnx::AttributeProto& out) {
    out.set_type(onnx::AttributeProto::INT);
    out.set_i(value);
    return ok_status();
  }
  Status set(float value, onnx::AttributeProto& out) {
    out.set_type(onnx::AttributeProto::FLOAT);
    out.set_f(value);
    return ok_status();
  }
  Status set(const std::string& value, onnx::AttributeProto& out) {
    out.set_type(onnx::AttributeProto::STRING);
    out.set_s(value);
    return ok_status();
  }
  Status set(const Tensor& value, onnx::AttributeProto& out) {
    out.set_type(onnx::AttributeProto::TENSOR);
    return tensor_to_proto(value, result_.payloads, *out.mutable_t());
  }
  Status set(const std::vector<std::int64_t>& value, onnx::AttributeProto& out) {
    out.set_type(onnx::AttributeProto::INTS);
    append_numbers(*out.mutable_ints(), value);
    return ok_status();
  }
  Status set(const std::vector<float>& value, onnx::AttributeProto& out) {
    out.set_type(onnx::AttributeProto::FLOATS);
    append_numbers(*out.mutable_floats(), value);
    return ok_status();
  }
  Status set(const std::vector<std::string>& value, onnx::AttributeProto& out) {
    out.set_type(onnx::AttributeProto::STRINGS);
    for (const std::string& text : value) out.add_strings(text);
    return ok_status();
  }
  Status set(const std::vector<Tensor>& value, onnx::AttributeProto& out) {
    out.set_type(onnx::AttributeProto::TENSORS);
    for (const Tensor& tensor : value) {
      MCOMPRESS_TRY(tensor_to_proto(tensor, result_.payloads, *out.add_tensors()));
    }
    return ok_status();
  }
  Status set(const std::unique_ptr<Graph>& value, onnx::AttributeProto& out) {
    out.set_type(onnx::AttributeProto::GRAPH);
    return graph(*value, *out.mutable_g());
  }
  Status set(const std::vector<std::unique_ptr<Graph>>& value, onnx::AttributeProto& out) {
    out.set_type(onnx::AttributeProto::GRAPHS);
    out.clear_graphs();
    for (const auto& body : value) MCOMPRESS_TRY(graph(*body, *out.add_graphs()));
    return ok_status();
  }
  Status set(const AttributeRef& value, onnx::AttributeProto& out) {
    out.set_ref_attr_name(value.of_function);
    return ok_status();
  }
  Status set(const OpaqueAttribute&, onnx::AttributeProto& out) {
    return Error(Code::kInternal, "attribute-without-origin",
                 "attribute '" + out.name() + "' is opaque and has no origin to be copied from");
  }

  const Model& model_;
  const ParsedModel* parsed_;
  const std::vector<bool>* wanted_;
  ModelSkeleton result_;
};

}  // namespace

void type_to_proto(const TypeInfo& type, onnx::TypeProto& proto) {
  auto& tensor = *proto.mutable_tensor_type();
  tensor.set_elem_type(static_cast<std::int32_t>(type.element));
  tensor.clear_shape();
  if (!type.shape) return;
  auto& shape = *tensor.mutable_shape();
  for (const Dim& dim : *type.shape) {
    auto& entry = *shape.add_dim();
    if (dim.size) {
      entry.set_dim_value(*dim.size);
    } else if (!dim.symbol.empty()) {
      entry.set_dim_param(dim.symbol);
    }
  }
}

Result<ModelSkeleton> build_skeleton(const Model& model) { return Exporter(model, nullptr).run(); }

Result<ModelSkeleton> build_skeleton_of(const Model& model, const std::vector<bool>& wanted) {
  return Exporter(model, &wanted).run();
}

}  // namespace mcompress
