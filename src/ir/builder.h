// Fills a new model. For loaders, cloning and tests; everything else edits through Editor.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// Is this attribute a graph, or a list of them?
bool holds_graphs(const AttributeValue& value);

class Builder {
 public:
  class FunctionScope;  // ir/function_scope.h
  explicit Builder(Model& model) : model_(model) {}

  Model& model() { return model_; }
  void set_source(std::filesystem::path path) { model_.source_ = std::move(path); }
  void set_origin(Origin origin) { model_.origin_ = std::move(origin); }
  void set_ir_version(std::int64_t version) { model_.ir_version_ = version; }
  void set_producer(std::string producer) { model_.producer_ = std::move(producer); }
  void set_had_external_data(bool value) { model_.had_external_data_ = value; }
  // "ai.onnx" is stored as "".
  void import_opset(std::string_view domain, std::int64_t version);
  void add_metadata(std::string key, std::string value);

  // The top graph exists already: only its name and origin are to be set.
  void set_graph(Graph& graph, std::string name, Origin origin);
  // A graph that an attribute of `owner` (null: a function) will hold.
  std::unique_ptr<Graph> new_graph(Node* owner);
  void add_function(Function function) { model_.functions_.push_back(std::move(function)); }

  // Values belong to the graph that defines them.
  Value& add_value(Graph& graph, std::string name);
  void set_type(Value& value, std::optional<TypeInfo> type, Origin origin);
  void add_input(Graph& graph, Value& value);
  void add_output(Graph& graph, Value& value);  // records the use
  void set_initializer(Graph& graph, Value& value, Tensor tensor, Origin origin);

  // A node outside any list; `append` links it in.
  Node& add_node(Graph& graph, std::string name, std::string_view domain, std::string_view op_type,
                 std::string_view overload, Origin origin);
  void add_node_input(Node& node, Value* value);   // null: left out; records the use
  void add_node_output(Node& node, Value* value);  // null: left out; records the producer
  void add_attribute(Node& node, Attribute attribute);
  void append(Graph& graph, Node& node);

 private:
  Model& model_;
};

// What the saver and checks need beyond the public reading side.
class IrInternals {
 public:
  static const Origin& type_origin(const Value& value) { return value.type_origin_; }
  static bool type_edited(const Value& value) { return value.type_edited_; }
  static const Origin& tensor_origin(const Value& value) {
    static const Origin none;
    return value.held_ != nullptr ? value.held_->origin : none;
  }
  static const std::pmr::deque<Value>& values(const Model& model) { return model.store_->values; }
  static const std::pmr::deque<Node>& nodes(const Model& model) { return model.store_->nodes; }
  static bool erased(const Value& value) { return value.erased_; }
  static bool erased(const Node& node) { return node.erased_; }
  // Takes initializers that nobody reads out of the list of their graph. Only ir/sweep.h calls
  // this.
  static void drop_initializers(Graph& graph, std::span<Value* const> gone);
};

}  // namespace mcompress
