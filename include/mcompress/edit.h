// Editor: the one door through which a model changes. It keeps uses, names, order, pristine marks
// and the revision right.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// What the operator schemas know; implemented beside them.
class OperatorCatalog {
 public:
  virtual ~OperatorCatalog() = default;
  // The version of the schema in force for an operator at an opset; 0: unknown operator.
  virtual std::int64_t since_version(std::string_view domain, std::string_view op_type,
                                     std::int64_t opset) const = 0;
  // The newest opset of the default domain.
  virtual std::int64_t newest_opset() const = 0;
  // What the schema of an operator in force at opset `to` does not take of a node that was written
  // for opset `from`: numbers of inputs and outputs, attributes, element types as far as known.
  // `at_default`: attributes it does not have, which say what they would by default.
  struct Misfit {
    std::string why;  // empty: none
    std::vector<std::string> at_default;
  };
  virtual Misfit misfit(const Node& node, std::int64_t from, std::int64_t to) const = 0;
  // The operator of a node, as of opset `opset`, written out in simpler ones: the one function of
  // a model. Null: the schema does not tell.
  virtual std::unique_ptr<Model> expansion(const Node& node, std::int64_t opset) const = 0;
};
// The catalog of the linked ONNX schemas.
const OperatorCatalog& onnx_catalog();

struct NewAttribute {
  std::string name;
  AttributeValue value;
};

struct NewNode {
  std::string op_type = {};
  std::vector<Value*> inputs = {};
  std::size_t outputs = 1;
  std::string base_name = {};  // node name and, with a number, output names; made unique
  std::string domain = {};
  std::vector<NewAttribute> attributes = {};
  std::vector<std::string> output_names = {};  // base names of the outputs; default: base_name
};
NewAttribute attribute(std::string_view name, std::int64_t value);
NewAttribute attribute(std::string_view name, float value);
NewAttribute attribute(std::string_view name, std::string_view value);
NewAttribute attribute(std::string_view name, std::vector<std::int64_t> value);

class Editor {
 public:
  explicit Editor(Model& model, const OperatorCatalog* catalog = nullptr);
  ~Editor();
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  Model& model() { return *model_; }

  // --- values
  Value& add_initializer(Graph& graph, std::string_view base_name, Tensor tensor);
  // New data for an initializer (dtype and shape may change). Not for overridable ones.
  void set_constant(Value& value, Tensor tensor);
  // Refuses (kInternal) while the initializer is used or is a graph input or output.
  Status erase_initializer(Value& value);
  // Makes an initializer that is also a graph input a true constant, dropping the input.
  void freeze_input(Value& value);
  // Records an inferred type. `persist`: also written to the file (always so for graph inputs
  // and outputs).
  void set_type(Value& value, TypeInfo type, bool persist);
  // A name not yet used in the scope tree: `base`, else `base_1`, `base_2`...
  std::string unique_name(std::string_view base);

  // --- nodes
  Node& insert_before(Node& anchor, NewNode node);
  Node& insert_after(Node& anchor, NewNode node);
  Node& append(Graph& graph, NewNode node);
  // Refuses (kInternal) while an output is used. Initializers that lose their last use stay.
  Status erase(Node& node);
  // Takes any node whose one output is replaced by data: the output value becomes an initializer
  // of the same graph, keeping its name and uses.
  void replace_by_constant(Node& node, Tensor tensor);
  bool erased(const Node& node) const { return node.erased_; }
  void set_attribute(Node& node, NewAttribute attribute);
  void remove_attribute(Node& node, std::string_view name);
  // Exchanges the values of two attributes that the node has, graphs included.
  void swap_attributes(Node& node, std::string_view left, std::string_view right);
  void set_input(Node& node, std::size_t slot, Value* value);  // grows the list when needed
  void remove_trailing_input(Node& node);
  void set_op_type(Node& node, std::string_view domain, std::string_view op_type);
  // Adds an output to the end of the list (a new value).
  Value& add_output(Node& node, std::string_view base_name);
  // Takes an output out of the list; the ones behind it move up. Refuses (kInternal) while it is
  // used. The bodies of the node are not looked at.
  Status erase_output(Node& node, std::size_t slot);

  // --- bodies
  // Makes a value of the body (or one that it captures) its last output.
  void add_output(Graph& body, Value& value);
  // Takes an output of a body out of its list; the ones behind it move up.
  void erase_output(Graph& body, std::size_t slot);
  // Moves the nodes and initializers of a body in front of the node that holds it, under names
  // that are new where they were not unique. Returns what the outputs of the body were: it has
  // none left, and its inputs should have no readers.
  std::vector<Value*> unwrap(Graph& body);

  // --- functions
  // Puts the body of a function, of this model or another, in the place of a call of it: names
  // are made unique, attributes that refer to the call's are filled. Returns the nodes that now
  // stand there. Fails (kUnsupported) with nothing changed when something that the call leaves out
  // can not be left out in its place. The graph's operator sets must be those of the function.
  Result<std::vector<Node*>> inline_call(Node& call, const Function& function);
  // Erases functions by position; nothing may call them any more.
  void erase_functions(const std::vector<std::size_t>& positions);
  void set_function_opset(std::size_t position, std::string_view domain, std::int64_t version);

  // --- rewiring
  void redirect(const Use& use, Value& to);
  // Empty when every use of `from` may read `to` instead; else the reason, for a report.
  std::string why_not_replace(const Value& from, const Value& to) const;
  // Moves all uses. When `from` is an output of the top graph its name is an interface: then `to`
  // takes the name over (and `from` a derived one); fails (kUnsupported) when `to` is an
  // interface itself.
  Status replace_all(Value& from, Value& to);

  // --- model
  // Raises an imported opset. Fails (kUnsupported) when an operator in use would change meaning,
  // that is, resolve to another since-version; the message names the operator.
  Status require_opset(std::string_view domain, std::int64_t at_least);
  // Sets the version without that check: for passes that migrate operators themselves.
  void set_opset(std::string_view domain, std::int64_t version);
  void require_ir_version(std::int64_t at_least);
  // Older ones too: for passes that know that nothing in the model is newer.
  void set_ir_version(std::int64_t version);
  void set_metadata(std::string_view key, std::string_view value);

 private:
  void touch(Graph& graph);
  void touch(Node& node);
  void add_use(Value* value, Use use);
  void drop_use(Value* value, const Use& use);
  Node& make_node(Graph& graph, NewNode&& node);
  Value& make_value(Graph& graph, std::string name);
  void link_after(Graph& graph, Node* previous, Node& node);
  void unlink(Node& node);
  // Marks everything in a graph as erased and drops the uses it makes.
  void discard(Graph& graph);
  void discard(Node& node);
  struct Names;
  struct Inlining;
  Model* model_;
  const OperatorCatalog* catalog_;
  std::unique_ptr<Names> names_;
};

}  // namespace mcompress
