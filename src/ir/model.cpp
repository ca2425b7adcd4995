#include <algorithm>
#include <atomic>
#include <unordered_map>

#include "ir/builder.h"
#include "ir/domains.h"
#include "ir/walk.h"
#include "mcompress/ir.h"

namespace mcompress {

// Two cache lines each: see their members.
static_assert(sizeof(Value) == 128 && sizeof(Node) == 128);

// ------------------------------------------------------------------------------------- Value

bool Value::is_graph_output() const {
  return std::any_of(uses_.begin(), uses_.end(),
                     [](const Use& use) { return use.node == nullptr; });
}

const Tensor* Value::constant() const {
  if (!held_) return nullptr;
  // Before IR version 4 every initializer had to be listed as an input; none could be overridden.
  const bool overridable =
      is_input_ && graph_->owner() == nullptr && graph_->model().ir_version() >= 4;
  return overridable ? nullptr : &held_->tensor;
}

// -------------------------------------------------------------------------------------- Node

const OperatorName Node::kNoOperator;

const AttributeValue* Node::attribute(std::string_view name) const {
  for (const Attribute& entry : attributes_) {
    if (entry.name == name) return &entry.value;
  }
  return nullptr;
}

std::int64_t Node::int_attribute(std::string_view name, std::int64_t fallback) const {
  const AttributeValue* value = attribute(name);
  const auto* number = value != nullptr ? std::get_if<std::int64_t>(value) : nullptr;
  return number != nullptr ? *number : fallback;
}

float Node::float_attribute(std::string_view name, float fallback) const {
  const AttributeValue* value = attribute(name);
  const auto* number = value != nullptr ? std::get_if<float>(value) : nullptr;
  return number != nullptr ? *number : fallback;
}

std::string_view Node::string_attribute(std::string_view name, std::string_view fallback) const {
  const AttributeValue* value = attribute(name);
  const auto* text = value != nullptr ? std::get_if<std::string>(value) : nullptr;
  return text != nullptr ? std::string_view(*text) : fallback;
}

std::optional<std::vector<std::int64_t>> Node::ints_attribute(std::string_view name) const {
  const AttributeValue* value = attribute(name);
  if (value == nullptr) return std::nullopt;
  const auto* list = std::get_if<std::vector<std::int64_t>>(value);
  if (list == nullptr) return std::nullopt;
  return *list;
}

bool holds_graphs(const AttributeValue& value) {
  return std::holds_alternative<std::unique_ptr<Graph>>(value) ||
         std::holds_alternative<std::vector<std::unique_ptr<Graph>>>(value);
}

std::vector<Graph*> Node::bodies_held() const {
  std::vector<Graph*> bodies;
  for (const Attribute& entry : attributes_) {
    if (const auto* one = std::get_if<std::unique_ptr<Graph>>(&entry.value)) {
      bodies.push_back(one->get());
    } else if (const auto* many = std::get_if<std::vector<std::unique_ptr<Graph>>>(&entry.value)) {
      for (const auto& body : *many) bodies.push_back(body.get());
    }
  }
  return bodies;
}

std::string Node::label() const {
  if (!name_.empty()) return std::string(name_);
  std::string text = operator_->type + " node";
  for (const Value* value : outputs_) {
    if (value != nullptr) return text + " that makes '" + std::string(value->name()) + "'";
  }
  return text;
}

// ------------------------------------------------------------------------------------- Graph

std::vector<Node*> Graph::nodes() const {
  std::vector<Node*> list;
  list.reserve(node_count_);
  for (Node* node = first_; node != nullptr; node = node->next_) list.push_back(node);
  return list;
}

Value* Graph::find(std::string_view name) const {
  const auto named = [&](Value* value) { return value != nullptr && value->name() == name; };
  for (Value* value : inputs_) {
    if (named(value)) return value;
  }
  for (Value* value : initializers_) {
    if (named(value)) return value;
  }
  for (Node* node = first_; node != nullptr; node = node->next_) {
    for (Value* value : node->outputs_) {
      if (named(value)) return value;
    }
  }
  return nullptr;
}

bool Graph::is_within(const Graph& other) const {
  for (const Graph* graph = this; graph != nullptr;
       graph = graph->owner_ != nullptr ? &graph->owner_->graph() : nullptr) {
    if (graph == &other) return true;
  }
  return false;
}

// ------------------------------------------------------------------------------------- Model

std::size_t Model::Store::Hash::operator()(const OperatorName& name) const {
  const std::hash<std::string_view> hash;
  return hash(name.type) + 31 * hash(name.domain) + 961 * hash(name.overload);
}

std::size_t Model::Store::Hash::operator()(const TypeInfo& type) const {
  std::uint64_t hash = static_cast<std::uint64_t>(type.element);
  const auto mix = [&](std::uint64_t number) {
    hash = (hash ^ number) * 0x9e3779b97f4a7c15U;
    hash ^= hash >> 32;
  };
  if (!type.shape) return hash;
  mix(type.shape->size() + 1);
  for (const Dim& dim : *type.shape) {
    mix(dim.size ? static_cast<std::uint64_t>(*dim.size)
                 : std::hash<std::string_view>()(dim.symbol) | 1);
  }
  return hash;
}

namespace {
std::uint64_t next_identity() {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}
}  // namespace

Model::Model()
    : store_(std::make_unique<Store>()),
      graph_(std::make_unique<Graph>(detail::IrKey(), *this)),
      identity_(next_identity()) {}
Model::~Model() = default;

std::string_view Model::kept(std::string_view name) {
  if (name.empty()) return {};
  char* const bytes = static_cast<char*>(store_->name_memory.allocate(name.size(), 1));
  std::ranges::copy(name, bytes);
  return {bytes, name.size()};
}

void Model::hold(Value& value, Value::Initializer held) {
  if (value.held_ != nullptr) {
    *value.held_ = std::move(held);
    return;
  }
  void* const room = store_->tensor_memory.allocate(sizeof held, alignof(Value::Initializer));
  value.held_.reset(new (room) Value::Initializer(std::move(held)));
}

std::int64_t Model::opset(std::string_view domain) const {
  const auto found = opsets_.find(plain_domain(domain));
  return found == opsets_.end() ? 0 : found->second;
}

void Model::swap(Model& other) {
  store_.swap(other.store_);
  graph_.swap(other.graph_);
  functions_.swap(other.functions_);
  opsets_.swap(other.opsets_);
  std::swap(ir_version_, other.ir_version_);
  metadata_.swap(other.metadata_);
  std::swap(revision_, other.revision_);
  state_ = other.state_ = std::max(state_, other.state_) + 1;
  std::swap(known_of_types_, other.known_of_types_);
  source_.swap(other.source_);
  std::swap(had_external_data_, other.had_external_data_);
  std::swap(metadata_edited_, other.metadata_edited_);
  std::swap(opsets_edited_, other.opsets_edited_);
  origin_.swap(other.origin_);
  for (Model* model : {this, &other}) {
    const auto adopt = [model](Graph& graph) { graph.model_ = model; };
    for_each_graph(*model->graph_, adopt);
    for (const Function& function : model->functions_) for_each_graph(*function.body, adopt);
    // Bodies of nodes that were erased are reached through the nodes alone.
    for (Node& node : model->store_->nodes) {
      if (!node.erased_) continue;
      for (Graph* body : node.bodies()) for_each_graph(*body, adopt);
    }
  }
}

const Function* Model::called_function(const Node& node) const {
  if (node.domain().empty()) return nullptr;
  for (const Function& function : functions_) {
    if (function.name == node.op_type() && function.domain == node.domain() &&
        function.overload == node.overload()) {
      return &function;
    }
  }
  return nullptr;
}

std::unique_ptr<Model> Model::clone() const {
  auto copy = std::make_unique<Model>();
  Model& model = *copy;
  model.opsets_ = opsets_;
  model.ir_version_ = ir_version_;
  model.producer_ = producer_;
  model.metadata_ = metadata_;
  model.revision_ = revision_;
  model.state_ = state_;
  model.known_of_types_ = known_of_types_;
  model.source_ = source_;
  model.had_external_data_ = had_external_data_;
  model.metadata_edited_ = metadata_edited_;
  model.opsets_edited_ = opsets_edited_;
  model.origin_ = origin_;

  // Ids are dense, so the copy of value i is value i.
  for (const Value& value : store_->values)
    model.store_->values.emplace_back(detail::IrKey(), value.id_);
  for (const Node& node : store_->nodes)
    model.store_->nodes.emplace_back(detail::IrKey(), node.id_);
  const auto value_of = [&](const Value* value) -> Value* {
    return value == nullptr ? nullptr : &model.store_->values[value->id_];
  };
  const auto node_of = [&](const Node* node) -> Node* {
    return node == nullptr ? nullptr : &model.store_->nodes[node->id_];
  };
  std::pmr::memory_resource& links = model.store_->link_memory;
  const auto copy_list = [&](const std::vector<Value*>& from, std::vector<Value*>& to) {
    to.reserve(from.size());
    for (const Value* value : from) to.push_back(value_of(value));
  };
  const auto copy_links = [&](const PackedList<Value*>& from, PackedList<Value*>& to) {
    to.reserve(from.size(), links);
    for (const Value* value : from) to.push_back(value_of(value), links);
  };
  std::unordered_map<const OperatorName*, const OperatorName*> operators;
  for (const OperatorName& name : store_->operators) operators.emplace(&name, model.stored(name));

  std::unordered_map<const Graph*, Graph*> graph_of;
  const auto copy_graph = [&](const auto& self, const Graph& from, Graph& to) -> void {
    graph_of.emplace(&from, &to);
    to.name_ = from.name_;
    copy_list(from.inputs_, to.inputs_);
    copy_list(from.outputs_, to.outputs_);
    copy_list(from.initializers_, to.initializers_);
    to.first_ = node_of(from.first_);
    to.last_ = node_of(from.last_);
    to.node_count_ = from.node_count_;
    to.owner_ = node_of(from.owner_);
    to.edited_ = from.edited_;
    to.origin_ = from.origin_;
    for (const Node* node = from.first_; node != nullptr; node = node->next_) {
      Node& target = *node_of(node);
      target.name_ = model.kept(node->name_);
      target.operator_ = operators.at(node->operator_);
      copy_links(node->inputs_, target.inputs_);
      copy_links(node->outputs_, target.outputs_);
      target.graph_ = &to;
      target.previous_ = node_of(node->previous_);
      target.next_ = node_of(node->next_);
      target.edited_ = node->edited_;
      target.held_graphs_ = node->held_graphs_;
      target.origin_ = node->origin_;
      for (const Attribute& entry : node->attributes_) {
        Attribute duplicate{entry.name, OpaqueAttribute{}, entry.origin};
        std::visit(
            [&](const auto& held) {
              using T = std::decay_t<decltype(held)>;
              if constexpr (std::is_same_v<T, std::unique_ptr<Graph>>) {
                auto body = std::make_unique<Graph>(detail::IrKey(), model);
                self(self, *held, *body);
                duplicate.value = std::move(body);
              } else if constexpr (std::is_same_v<T, std::vector<std::unique_ptr<Graph>>>) {
                std::vector<std::unique_ptr<Graph>> bodies;
                for (const auto& graph : held) {
                  bodies.push_back(std::make_unique<Graph>(detail::IrKey(), model));
                  self(self, *graph, *bodies.back());
                }
                duplicate.value = std::move(bodies);
              } else {
                duplicate.value = held;
              }
            },
            entry.value);
        target.attributes_.push_back(std::move(duplicate));
      }
    }
  };
  copy_graph(copy_graph, *graph_, *model.graph_);
  for (const Function& function : functions_) {
    Function duplicate{function.domain,
                       function.name,
                       function.overload,
                       std::make_unique<Graph>(detail::IrKey(), model),
                       function.origin,
                       function.opsets,
                       {},
                       function.opsets_edited};
    for (const Attribute& entry : function.defaults) {
      Attribute preset{entry.name, OpaqueAttribute{}, entry.origin};
      std::visit(
          [&](const auto& held) {  // graphs are no defaults
            if constexpr (std::is_copy_constructible_v<std::decay_t<decltype(held)>> &&
                          !std::is_same_v<std::decay_t<decltype(held)>,
                                          std::vector<std::unique_ptr<Graph>>>) {
              preset.value = held;
            }
          },
          entry.value);
      duplicate.defaults.push_back(std::move(preset));
    }
    copy_graph(copy_graph, *function.body, *duplicate.body);
    model.functions_.push_back(std::move(duplicate));
  }
  for (const Node& node : store_->nodes) model.store_->nodes[node.id_].erased_ = node.erased_;
  std::unordered_map<const TypeInfo*, const TypeInfo*> types;
  for (const TypeInfo& type : store_->types) types.emplace(&type, model.stored(type));
  for (const Value& value : store_->values) {
    Value& target = model.store_->values[value.id_];
    target.erased_ = value.erased_;
    target.name_ = value.name_;
    if (value.type_ != nullptr) target.type_ = types.at(value.type_);
    if (value.held_ != nullptr) model.hold(target, *value.held_);
    target.is_input_ = value.is_input_;
    target.type_edited_ = value.type_edited_;
    target.type_origin_ = value.type_origin_;
    if (value.erased_) continue;
    const auto home = graph_of.find(value.graph_);
    if (home == graph_of.end()) continue;  // inside a node that was erased
    target.graph_ = home->second;
    target.producer_ = node_of(value.producer_);
    target.uses_.reserve(value.uses_.size(), links);
    for (const Use& use : value.uses_) {
      const auto reader = graph_of.find(use.graph);
      if (reader != graph_of.end()) {
        target.uses_.push_back({reader->second, node_of(use.node), use.slot}, links);
      }
    }
  }
  return copy;
}

// ----------------------------------------------------------------------------------- Builder

void Builder::import_opset(std::string_view domain, std::int64_t version) {
  model_.opsets_[std::string(plain_domain(domain))] = version;
}

void Builder::add_metadata(std::string key, std::string value) {
  model_.metadata_.emplace_back(std::move(key), std::move(value));
}

void Builder::set_graph(Graph& graph, std::string name, Origin origin) {
  graph.name_ = std::move(name);
  graph.origin_ = std::move(origin);
}

std::unique_ptr<Graph> Builder::new_graph(Node* owner) {
  auto graph = std::make_unique<Graph>(detail::IrKey(), model_);
  graph->owner_ = owner;
  return graph;
}

Value& Builder::add_value(Graph& graph, std::string name) {
  const auto id = static_cast<std::uint32_t>(model_.store_->values.size());
  Value& value = model_.store_->values.emplace_back(detail::IrKey(), id);
  value.name_ = std::move(name);
  value.graph_ = &graph;
  return value;
}

void Builder::set_type(Value& value, std::optional<TypeInfo> type, Origin origin) {
  value.type_ = type ? model_.stored(std::move(*type)) : nullptr;
  value.type_origin_ = std::move(origin);
}

void Builder::add_input(Graph& graph, Value& value) {
  value.is_input_ = true;
  graph.inputs_.push_back(&value);
}

void Builder::add_output(Graph& graph, Value& value) {
  value.uses_.push_back({&graph, nullptr, static_cast<std::uint32_t>(graph.outputs_.size())},
                        model_.store_->link_memory);
  graph.outputs_.push_back(&value);
}

void Builder::set_initializer(Graph& graph, Value& value, Tensor tensor, Origin origin) {
  model_.hold(value, {std::move(tensor), std::move(origin)});
  graph.initializers_.push_back(&value);
}

Node& Builder::add_node(Graph& graph, std::string name, std::string_view domain,
                        std::string_view op_type, std::string_view overload, Origin origin) {
  const auto id = static_cast<std::uint32_t>(model_.store_->nodes.size());
  Node& node = model_.store_->nodes.emplace_back(detail::IrKey(), id);
  node.name_ = model_.kept(name);
  node.operator_ = model_.stored(
      {std::string(plain_domain(domain)), std::string(op_type), std::string(overload)});
  node.graph_ = &graph;
  node.origin_ = std::move(origin);
  return node;
}

void Builder::add_node_input(Node& node, Value* value) {
  if (value != nullptr) {
    value->uses_.push_back({node.graph_, &node, static_cast<std::uint32_t>(node.inputs_.size())},
                           model_.store_->link_memory);
  }
  node.inputs_.push_back(value, model_.store_->link_memory);
}

void Builder::add_node_output(Node& node, Value* value) {
  if (value != nullptr) value->producer_ = &node;
  node.outputs_.push_back(value, model_.store_->link_memory);
}

void Builder::add_attribute(Node& node, Attribute attribute) {
  node.held_graphs_ = node.held_graphs_ || holds_graphs(attribute.value);
  node.attributes_.push_back(std::move(attribute));
}

void Builder::append(Graph& graph, Node& node) {
  node.previous_ = graph.last_;
  (graph.last_ != nullptr ? graph.last_->next_ : graph.first_) = &node;
  graph.last_ = &node;
  ++graph.node_count_;
}

}  // namespace mcompress
