// The intermediate representation, reading side. A Model owns a graph and its nested graphs; a
// Value knows every use, whichever graph the use is in. All changes go through Editor (edit.h).
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "mcompress/dtype.h"
#include "mcompress/packed_list.h"
#include "mcompress/tensor.h"

namespace mcompress {

class Graph;
class Node;
class Value;
class Model;
class Builder;
class Editor;

// What a loader kept of the file: a message of the container format, with fields this build can
// not name. Opaque here; only the loader and the saver look inside.
using Origin = std::shared_ptr<const void>;

// A dimension is a number, a symbol, or (empty symbol) unknown.
struct Dim {
  std::optional<std::int64_t> size;
  std::string symbol;
  bool operator==(const Dim&) const = default;
};

// The type of a tensor value. Sequences, maps and optionals have no TypeInfo.
struct TypeInfo {
  DataType element = DataType::kUndefined;
  std::optional<std::vector<Dim>> shape;  // absent: rank unknown
  bool operator==(const TypeInfo&) const = default;
};

// Who reads a value.
struct Use {
  Graph* graph = nullptr;  // may be nested below the graph that defines the value
  Node* node = nullptr;    // null: the use is graph output number `slot`
  std::uint32_t slot = 0;
  bool operator==(const Use&) const = default;
};

struct AttributeRef {  // inside a function body: filled at the call
  std::string of_function;
  bool operator==(const AttributeRef&) const = default;
};
struct OpaqueAttribute {};  // sparse tensor, type, unknown kind: only its origin knows

using AttributeValue =
    std::variant<std::int64_t, float, std::string, Tensor, std::vector<std::int64_t>,
                 std::vector<float>, std::vector<std::string>, std::vector<Tensor>,
                 std::unique_ptr<Graph>, std::vector<std::unique_ptr<Graph>>, AttributeRef,
                 OpaqueAttribute>;

struct Attribute {
  std::string name;
  AttributeValue value;
  Origin origin;  // null once edited
};

// Which operator, or model-local function, a node calls.
struct OperatorName {
  std::string domain, type, overload;
  bool operator==(const OperatorName&) const = default;
};

namespace detail {
class IrKey {  // only the IR makes values and nodes
  IrKey() = default;
  friend class mcompress::Model;
  friend class mcompress::Builder;
  friend class mcompress::Editor;
};
}  // namespace detail

class alignas(64) Value {
 public:
  Value(detail::IrKey, std::uint32_t id) : id_(id) {}
  Value(const Value&) = delete;
  Value& operator=(const Value&) = delete;

  std::uint32_t id() const { return id_; }  // dense over the model, creation order, never reused
  std::string_view name() const { return name_; }
  const TypeInfo* type() const { return type_; }  // null: unknown
  Graph& graph() const { return *graph_; }
  Node* producer() const { return producer_; }  // null: graph input or initializer
  std::span<const Use> uses() const { return uses_; }
  bool is_graph_input() const { return is_input_; }
  bool is_graph_output() const;  // of any graph
  bool is_initializer() const { return held_ != nullptr; }
  // The initializer's data; null when this is none or when a caller of the model may override it
  // (an initializer that is also an input of the top graph, IR version 4 and later).
  const Tensor* constant() const;
  // The initializer's data, overridable or not.
  const Tensor* initializer() const { return held_ != nullptr ? &held_->tensor : nullptr; }

 private:
  friend class Builder;
  friend class Editor;
  friend class Model;
  friend class IrInternals;
  struct Initializer {
    Tensor tensor;
    Origin origin;  // as loaded; null once its data changed
  };
  struct Destroy {
    void operator()(Initializer* held) const { std::destroy_at(held); }
  };
  // What is asked for again and again comes first, together in one cache line; the lists of all
  // values and nodes lie side by side in the model's store.
  std::uint32_t id_ = 0;
  bool is_input_ = false;
  bool erased_ = false;
  bool type_edited_ = false;  // the saved type must come from `type_`, not from the origin
  Graph* graph_ = nullptr;
  Node* producer_ = nullptr;
  PackedList<Use> uses_;
  const TypeInfo* type_ = nullptr;              // of the model's store
  std::unique_ptr<Initializer, Destroy> held_;  // in the model's store
  std::string name_;
  Origin type_origin_;  // ValueInfo as loaded
};

class alignas(64) Node {
 public:
  Node(detail::IrKey, std::uint32_t id) : id_(id) {}
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  std::uint32_t id() const { return id_; }
  std::string_view name() const { return name_; }
  // The default domain is always "" here, however the file spells it.
  std::string_view domain() const { return operator_->domain; }
  std::string_view op_type() const { return operator_->type; }
  std::string_view overload() const { return operator_->overload; }
  // One object for all nodes of a model that call the same.
  const OperatorName& called() const { return *operator_; }
  // Type in the default ONNX domain.
  bool is(std::string_view op_type) const {
    return operator_->type == op_type && operator_->domain.empty();
  }
  std::span<Value* const> inputs() const { return inputs_; }    // null: optional input left out
  std::span<Value* const> outputs() const { return outputs_; }  // null: output left out
  Value* input(std::size_t slot) const { return slot < inputs_.size() ? inputs_[slot] : nullptr; }
  Value* output(std::size_t slot) const {
    return slot < outputs_.size() ? outputs_[slot] : nullptr;
  }
  std::span<const Attribute> attributes() const { return attributes_; }
  const AttributeValue* attribute(std::string_view name) const;
  // Typed reads; the fallback when the attribute is missing or of another kind.
  std::int64_t int_attribute(std::string_view name, std::int64_t fallback) const;
  float float_attribute(std::string_view name, float fallback) const;
  std::string_view string_attribute(std::string_view name, std::string_view fallback) const;
  std::optional<std::vector<std::int64_t>> ints_attribute(std::string_view name) const;
  // Graphs held by attributes, in attribute order.
  std::vector<Graph*> bodies() const {
    return held_graphs_ ? bodies_held() : std::vector<Graph*>();
  }
  Graph& graph() const { return *graph_; }
  // No edit to it or to a graph inside it: saved from its origin, unknown fields and all.
  bool pristine() const { return origin_ != nullptr && !edited_; }
  const Origin& origin() const { return origin_; }
  // The name, else "Conv node that makes 'x'".
  std::string label() const;

 private:
  friend class Builder;
  friend class Editor;
  friend class Model;
  friend class Graph;
  friend class IrInternals;
  std::vector<Graph*> bodies_held() const;
  static const OperatorName kNoOperator;
  // What every walk over a graph reads comes first, together in one cache line, and what is read of
  // the nodes that a walk looks for in the next one.
  Node* next_ = nullptr;
  Node* previous_ = nullptr;
  Graph* graph_ = nullptr;
  std::uint32_t id_ = 0;
  bool edited_ = false;
  bool erased_ = false;
  bool held_graphs_ = false;                     // an attribute is, or once was, a graph
  const OperatorName* operator_ = &kNoOperator;  // in the model's store
  PackedList<Value*> inputs_, outputs_;
  Origin origin_;
  std::vector<Attribute> attributes_;
  std::string_view name_;  // in the model's store
};

class Graph {
 public:
  Graph(detail::IrKey, Model& model) : model_(&model) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  std::string_view name() const { return name_; }
  std::span<Value* const> inputs() const { return inputs_; }
  std::span<Value* const> outputs() const { return outputs_; }
  std::span<Value* const> initializers() const { return initializers_; }
  // Nodes in a topological order that edits keep.
  Node* first() const { return first_; }
  Node* last() const { return last_; }
  Node* next(const Node& node) const { return node.next_; }
  Node* previous(const Node& node) const { return node.previous_; }
  std::size_t node_count() const { return node_count_; }
  // A snapshot of the node list: safe to iterate while nodes are inserted or erased
  // (skip nodes for which Editor::erased is true).
  std::vector<Node*> nodes() const;
  Node* owner() const { return owner_; }  // the If/Loop/Scan node; null at the top
  Model& model() const { return *model_; }
  // No edit in it or below it.
  bool pristine() const { return origin_ != nullptr && !edited_; }
  const Origin& origin() const { return origin_; }
  // The value of that name defined in this very graph (not in outer ones); linear time.
  Value* find(std::string_view name) const;
  // Whether `this` is `other` or nested somewhere below it.
  bool is_within(const Graph& other) const;

 private:
  friend class Builder;
  friend class Editor;
  friend class Model;
  friend class IrInternals;
  Model* model_;
  std::string name_;
  std::vector<Value*> inputs_, outputs_, initializers_;
  Node* first_ = nullptr;
  Node* last_ = nullptr;
  std::size_t node_count_ = 0;
  Node* owner_ = nullptr;
  bool edited_ = false;
  Origin origin_;
};

// A model-local function. Its body has few types and may refer to attributes of the call.
struct Function {
  std::string domain, name, overload;
  std::unique_ptr<Graph> body;
  Origin origin;
  std::map<std::string, std::int64_t, std::less<>> opsets;  // its own imports; "" as in Model
  std::vector<Attribute> defaults;  // of attributes that a call may leave out
  bool opsets_edited = false;
};

class Model {
 public:
  Model();
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  Graph& graph() { return *graph_; }
  const Graph& graph() const { return *graph_; }
  std::span<const Function> functions() const { return functions_; }
  // The function a node calls; null: the node is an operator. Linear in the number of functions.
  // Functions named like an operator of the default domain count as that operator.
  const Function* called_function(const Node& node) const;
  // Version of an imported operator set; 0: not imported. "" and "ai.onnx" are the same.
  std::int64_t opset(std::string_view domain) const;
  const std::map<std::string, std::int64_t, std::less<>>& opsets() const { return opsets_; }
  std::int64_t ir_version() const { return ir_version_; }
  // Who wrote the file it was loaded from: "pytorch 2.1.0"; empty when that is not said.
  std::string_view producer() const { return producer_; }
  std::span<const std::pair<std::string, std::string>> metadata() const { return metadata_; }
  std::uint64_t revision() const { return revision_; }  // bumped by every edit
  // Another number after every edit, every type that was set and every swap: what was found out
  // about the model at one number holds for as long as it is the same.
  std::uint64_t state() const { return state_; }
  // Grows with every type, rank, size and symbol that Editor::set_type makes known, and falls with
  // what it takes back.
  std::uint64_t known_of_types() const { return known_of_types_; }
  // Of this object alone in the process: copies have others.
  std::uint64_t identity() const { return identity_; }
  std::size_t value_limit() const { return store_->values.size(); }  // ids are below this
  std::size_t node_limit() const { return store_->nodes.size(); }
  // Graph copied, tensors and origins shared: cheap enough to try something and drop it.
  std::unique_ptr<Model> clone() const;
  // Takes the content of a clone made earlier, which then holds what this one held: undoes what
  // happened in between. References to nodes and values follow the content.
  void swap(Model& other);
  // The file it was loaded from; empty when made in memory.
  const std::filesystem::path& source() const { return source_; }
  // The loaded file kept (some of) its tensors in other files.
  bool had_external_data() const { return had_external_data_; }
  const Origin& origin() const { return origin_; }
  bool metadata_edited() const { return metadata_edited_; }
  bool opsets_edited() const { return opsets_edited_; }

 private:
  friend class Builder;
  friend class Editor;
  friend class IrInternals;
  // By id, at addresses that stay. Each kind lies side by side in memory in the order it was made,
  // which is the order in which graphs are walked.
  // So do the lists of what reads a value and of what a node reads and makes. Types and names of
  // operators, of which there are few, are there once.
  struct Store {
    struct Hash {
      std::size_t operator()(const TypeInfo& type) const;
      std::size_t operator()(const OperatorName& name) const;
    };
    std::unordered_set<TypeInfo, Hash> types;
    std::unordered_set<OperatorName, Hash> operators;
    std::pmr::monotonic_buffer_resource value_memory, node_memory, link_memory, tensor_memory,
        name_memory;
    std::pmr::deque<Value> values{&value_memory};
    std::pmr::deque<Node> nodes{&node_memory};
  };
  const TypeInfo* stored(TypeInfo type) { return &*store_->types.insert(std::move(type)).first; }
  std::string_view kept(std::string_view name);  // until the model ends
  void hold(Value& value, Value::Initializer held);
  const OperatorName* stored(OperatorName name) {
    return &*store_->operators.insert(std::move(name)).first;
  }
  void note_edit() {
    ++revision_;
    ++state_;
  }
  std::unique_ptr<Store> store_;
  std::unique_ptr<Graph> graph_;
  std::vector<Function> functions_;
  std::map<std::string, std::int64_t, std::less<>> opsets_;
  std::int64_t ir_version_ = 0;
  std::string producer_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::uint64_t revision_ = 0;
  std::uint64_t state_ = 0;
  std::uint64_t known_of_types_ = 0;
  const std::uint64_t identity_;
  std::filesystem::path source_;
  bool had_external_data_ = false;
  bool metadata_edited_ = false;
  bool opsets_edited_ = false;
  Origin origin_;
};

// Content hash over structure, names, attributes and tensor bytes: independent of addresses, ids
// and of where the model was loaded from.
std::uint64_t fingerprint(const Model& model);

// Stable text form of a model: goldens, diffs, `inspect --dump`.
struct DumpOptions {
  std::int64_t max_elements = 8;  // tensors up to this many elements are printed in full
  bool types = true;
};
std::string dump(const Model& model, const DumpOptions& options = {});

// Structural invariants: uses match inputs, order is topological, names are unique in scope,
// outputs exist, opsets cover all domains used. The first violation, with its location.
Status verify(const Model& model);

}  // namespace mcompress
