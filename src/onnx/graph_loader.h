// Builds the graphs of a model from parsed messages.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ir/builder.h"
#include "mcompress/io.h"
#include "mcompress/status.h"
#include "onnx/proto.h"

namespace mcompress {

std::optional<TypeInfo> type_from_proto(const onnx::TypeProto& proto);

// Fails with kInput on undefined, doubled and shadowing names, on cycles, and on tensors whose
// data does not fit their type. Nodes that are out of order are put in order, in the messages as
// well, with a warning.
class GraphLoader {
 public:
  GraphLoader(Builder& builder, std::shared_ptr<ParsedModel> parsed, Diagnostics& diagnostics)
      : builder_(builder), parsed_(std::move(parsed)), diagnostics_(diagnostics) {}

  Status load_top(onnx::GraphProto& proto);
  Status load_function(onnx::FunctionProto& proto);

 private:
  using Nodes = google::protobuf::RepeatedPtrField<onnx::NodeProto>;
  // A graph under construction. Names point into the messages.
  struct Scope {
    Graph* graph = nullptr;
    const Scope* parent = nullptr;
    std::string step;  // the last part of the path to it
    std::unordered_map<std::string_view, Value*> names;
    std::size_t built = 0;  // nodes before this one are complete
    // Set by readers of a value whose node comes later.
    mutable bool out_of_order = false;
  };

  Origin alias(const void* message) const { return {parsed_, message}; }
  std::string path(const Scope& scope) const;
  std::string path(const Scope& scope, std::size_t node, const onnx::NodeProto& proto) const;

  Status fill(Scope& scope, onnx::GraphProto& proto, Origin origin);
  // The graph, `level` or around it, in which the name can be seen; null: none.
  const Scope* definer(const Scope* level, const std::string& name) const;
  // Whether a node makes the value that is not complete at this level, which is that of the value.
  bool comes_later(const Scope& level, const Value& value) const {
    return value.id() < makers_.size() && makers_[value.id()] > level.built;
  }
  Result<Value*> define(Scope& scope, const std::string& name, std::string_view what);
  Status define_inputs(Scope& scope, onnx::GraphProto& proto);
  Status define_initializers(Scope& scope, onnx::GraphProto& proto);
  Status define_node_outputs(Scope& scope, const Nodes& protos);
  void add_types(Scope& scope, const onnx::GraphProto& proto);
  Status build_nodes(Scope& scope, Nodes& protos);
  Result<Node*> build_node(Scope& scope, std::size_t position, onnx::NodeProto& proto);
  // `node`: null for what a function says of an attribute its calls leave out.
  Result<Attribute> read_attribute(Scope& scope, Node* node, onnx::AttributeProto& proto);
  Result<std::unique_ptr<Graph>> nested(Scope& scope, Node& node, onnx::GraphProto& proto,
                                        std::string step);
  Status link(Scope& scope, std::vector<Node*>& nodes, Nodes& protos);
  Status add_outputs(Scope& scope, const std::vector<std::string_view>& names);
  // The value a name means inside a scope; null when there is none.
  Value* resolve(const Scope& scope, std::string_view name) const;

  Builder& builder_;
  // By value id: the position of the node that makes it, counted from 1 in its graph; 0: none.
  std::vector<std::size_t> makers_;
  // Adds an import that the file lacks where it can only mean one thing.
  bool import_left_out(const Node& node, const std::string& place);

  // Of the graph being loaded: the domains imported, the message that says so and, within a
  // function, the function's versions.
  std::set<std::string, std::less<>> imported_;
  google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>* import_messages_ = nullptr;
  std::map<std::string, std::int64_t, std::less<>>* function_opsets_ = nullptr;
  std::shared_ptr<ParsedModel> parsed_;
  Diagnostics& diagnostics_;
};

}  // namespace mcompress
