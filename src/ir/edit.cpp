#include "mcompress/edit.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "ir/builder.h"
#include "ir/domains.h"
#include "ir/name_set.h"
#include "ir/sweep.h"
#include "support/try.h"

namespace mcompress {

NewAttribute attribute(std::string_view name, std::int64_t value) {
  return {std::string(name), value};
}
NewAttribute attribute(std::string_view name, float value) { return {std::string(name), value}; }
NewAttribute attribute(std::string_view name, std::string_view value) {
  return {std::string(name), std::string(value)};
}
NewAttribute attribute(std::string_view name, std::vector<std::int64_t> value) {
  return {std::string(name), std::move(value)};
}

// Every value and node name of the model. One table for all scopes: a name unique everywhere is
// unique in its scope, and new names do not depend on which scope asked first.
struct Editor::Names {
  NameSet values, nodes;                     // new names of both kinds are among the values
  std::unordered_set<std::string> repeated;  // by values or nodes of several scopes
  std::unordered_map<std::string, std::uint64_t> next_suffix;

  explicit Names(const Model& model) : values(model.value_limit()), nodes(model.node_limit()) {
    for (const Value& value : IrInternals::values(model)) {
      if (IrInternals::erased(value) || values.insert(value.name())) continue;
      repeated.insert(std::string(value.name()));
    }
    for (const Node& node : IrInternals::nodes(model)) {
      if (IrInternals::erased(node) || node.name().empty() || nodes.insert(node.name())) continue;
      repeated.insert(std::string(node.name()));
    }
  }

  std::string unique(std::string_view base) {
    std::string name(base.empty() ? "value" : base);
    if (take(name)) return name;
    // Suffixes only grow, so the smallest free one is never below the last one given.
    for (std::uint64_t& suffix = next_suffix[name];;) {
      std::string candidate = name + "_" + std::to_string(++suffix);
      if (take(candidate)) return candidate;
    }
  }
  bool take(std::string_view name) { return !nodes.contains(name) && values.insert(name); }
};

Editor::Editor(Model& model, const OperatorCatalog* catalog) : model_(&model), catalog_(catalog) {}
Editor::~Editor() = default;

std::string Editor::unique_name(std::string_view base) {
  if (!names_) {
    names_ = std::make_unique<Names>(*model_);
  }
  return names_->unique(base);
}

// ------------------------------------------------------------------------------ bookkeeping

void Editor::touch(Graph& graph) {
  model_->note_edit();
  // A graph is marked only together with everything above it, so the walk can stop early.
  for (Graph* level = &graph; !level->edited_;) {
    level->edited_ = true;
    if (level->owner_ == nullptr) break;
    level->owner_->edited_ = true;
    level = level->owner_->graph_;
  }
}

void Editor::touch(Node& node) {
  node.edited_ = true;
  touch(*node.graph_);
}

void Editor::add_use(Value* value, Use use) {
  if (value != nullptr) value->uses_.push_back(use, model_->store_->link_memory);
}

void Editor::drop_use(Value* value, const Use& use) {
  if (value == nullptr) return;
  const auto found = std::find(value->uses_.begin(), value->uses_.end(), use);
  if (found != value->uses_.end()) value->uses_.erase(found);
}

Value& Editor::make_value(Graph& graph, std::string name) {
  return Builder(*model_).add_value(graph, std::move(name));
}

void Editor::link_after(Graph& graph, Node* previous, Node& node) {
  node.previous_ = previous;
  node.next_ = previous != nullptr ? previous->next_ : graph.first_;
  (previous != nullptr ? previous->next_ : graph.first_) = &node;
  (node.next_ != nullptr ? node.next_->previous_ : graph.last_) = &node;
  ++graph.node_count_;
}

void Editor::unlink(Node& node) {
  Graph& graph = *node.graph_;
  (node.previous_ != nullptr ? node.previous_->next_ : graph.first_) = node.next_;
  (node.next_ != nullptr ? node.next_->previous_ : graph.last_) = node.previous_;
  node.previous_ = node.next_ = nullptr;
  node.erased_ = true;
  --graph.node_count_;
}

// ----------------------------------------------------------------------------------- values

Value& Editor::add_initializer(Graph& graph, std::string_view base_name, Tensor tensor) {
  Value& value = make_value(graph, unique_name(base_name));
  Builder(*model_).set_initializer(graph, value, std::move(tensor), nullptr);
  touch(graph);
  return value;
}

void Editor::set_constant(Value& value, Tensor tensor) {
  TypeInfo type;
  type.element = tensor.dtype();
  type.shape.emplace();
  for (std::int64_t size : tensor.dims()) type.shape->push_back({size, {}});
  if (value.type_ != nullptr && *value.type_ != type) {
    value.type_ = model_->stored(std::move(type));
    value.type_edited_ = true;
  }
  model_->hold(value, {std::move(tensor), nullptr});
  touch(*value.graph_);
}

namespace {

Status may_erase(const Value& value) {
  if (value.uses().empty() && !value.is_graph_input() && value.is_initializer()) return ok_status();
  return Error(
      Code::kInternal, "erase-used-initializer",
      "an initializer with " + std::to_string(value.uses().size()) + " uses can not be erased",
      {{}, {}, std::string(value.name())});
}

}  // namespace

Status Editor::erase_initializer(Value& value) {
  MCOMPRESS_TRY(may_erase(value));
  // Lists are in the order of creation but for what moved between graphs: no search of all of them.
  auto& list = value.graph_->initializers_;
  auto place = std::ranges::lower_bound(list, value.id(), {}, &Value::id);
  if (place == list.end() || *place != &value) place = std::find(list.begin(), list.end(), &value);
  list.erase(place);
  value.erased_ = true;
  value.held_.reset();
  touch(*value.graph_);
  return ok_status();
}

void IrInternals::drop_initializers(Graph& graph, std::span<Value* const> gone) {
  for (Value* value : gone) value->erased_ = true;
  std::erase_if(graph.initializers_, [](const Value* value) { return value->erased_; });
  for (Value* value : gone) value->held_.reset();
}

Status erase_initializers(Editor& editor, std::span<Value* const> values) {
  for (const Value* value : values) MCOMPRESS_TRY(may_erase(*value));
  std::vector<Graph*> graphs;
  std::unordered_map<Graph*, std::vector<Value*>> by_graph;
  for (Value* value : values) {
    auto& list = by_graph[&value->graph()];
    if (list.empty()) graphs.push_back(&value->graph());
    list.push_back(value);
  }
  for (Graph* graph : graphs) {
    std::vector<Value*>& gone = by_graph[graph];
    // The editor notes the change of the graph with the last one.
    Value* last = gone.back();
    gone.pop_back();
    IrInternals::drop_initializers(*graph, gone);
    MCOMPRESS_TRY(editor.erase_initializer(*last));
  }
  return ok_status();
}

void Editor::freeze_input(Value& value) {
  auto& inputs = value.graph_->inputs_;
  inputs.erase(std::remove(inputs.begin(), inputs.end(), &value), inputs.end());
  value.is_input_ = false;
  touch(*value.graph_);
}

namespace {

std::uint64_t known_of(const TypeInfo* type) {
  if (type == nullptr) return 0;
  std::uint64_t known = 1 + (type->shape ? 1 : 0);
  if (!type->shape) return known;
  for (const Dim& dim : *type->shape) known += dim.size ? 2 : std::uint64_t{!dim.symbol.empty()};
  return known;
}

}  // namespace

void Editor::set_type(Value& value, TypeInfo type, bool persist) {
  const TypeInfo* before = std::exchange(value.type_, model_->stored(std::move(type)));
  const bool changed = value.type_ != before;
  if (changed) {
    ++model_->state_;
    model_->known_of_types_ += known_of(value.type_) - known_of(before);
  }
  if (persist && changed) {
    value.type_edited_ = true;
    touch(*value.graph_);
  }
}

// ------------------------------------------------------------------------------------ nodes

Node& Editor::make_node(Graph& graph, NewNode&& spec) {
  const std::string base = spec.base_name.empty() ? spec.op_type : spec.base_name;
  Builder builder(*model_);
  Node& node =
      builder.add_node(graph, unique_name(base), spec.domain, std::move(spec.op_type), {}, nullptr);
  node.edited_ = true;
  for (Value* value : spec.inputs) builder.add_node_input(node, value);
  for (std::size_t i = 0; i < spec.outputs; ++i) {
    const std::string output_base =
        i < spec.output_names.size() ? spec.output_names[i] : base + "_output";
    builder.add_node_output(node, &make_value(graph, unique_name(output_base)));
  }
  for (NewAttribute& entry : spec.attributes) {
    builder.add_attribute(node, {std::move(entry.name), std::move(entry.value), nullptr});
  }
  touch(graph);
  return node;
}

Node& Editor::insert_before(Node& anchor, NewNode spec) {
  Node& node = make_node(*anchor.graph_, std::move(spec));
  link_after(*anchor.graph_, anchor.previous_, node);
  return node;
}

Node& Editor::insert_after(Node& anchor, NewNode spec) {
  Node& node = make_node(*anchor.graph_, std::move(spec));
  link_after(*anchor.graph_, &anchor, node);
  return node;
}

Node& Editor::append(Graph& graph, NewNode spec) {
  Node& node = make_node(graph, std::move(spec));
  link_after(graph, graph.last_, node);
  return node;
}

void Editor::discard(Graph& graph) {
  for (std::uint32_t slot = 0; slot < graph.outputs_.size(); ++slot) {
    drop_use(graph.outputs_[slot], {&graph, nullptr, slot});
  }
  for (Node* node = graph.last_; node != nullptr;) {
    Node* previous = node->previous_;
    discard(*node);
    node->erased_ = true;
    node = previous;
  }
  for (Value* value : graph.inputs_) value->erased_ = true;
  for (Value* value : graph.initializers_) value->erased_ = true;
}

// Everything nested inside goes as well, and with it the uses of captured values.
void Editor::discard(Node& node) {
  for (std::uint32_t slot = 0; slot < node.inputs_.size(); ++slot) {
    drop_use(node.inputs_[slot], {node.graph_, &node, slot});
  }
  for (Value* value : node.outputs_) {
    if (value != nullptr) value->erased_ = true;
  }
  for (Graph* body : node.bodies()) discard(*body);
  node.attributes_.clear();
}

Status Editor::erase(Node& node) {
  for (const Value* value : node.outputs_) {
    if (value != nullptr && !value->uses_.empty()) {
      return Error(Code::kInternal, "erase-used-node",
                   "output '" + value->name_ + "' still has " +
                       std::to_string(value->uses_.size()) + " uses",
                   {{}, {}, node.label()});
    }
  }
  Graph& graph = *node.graph_;
  discard(node);
  unlink(node);
  touch(graph);
  return ok_status();
}

void Editor::replace_by_constant(Node& node, Tensor tensor) {
  Value& value = *node.outputs_.front();
  Graph& graph = *node.graph_;
  node.outputs_.clear();  // the value lives on
  value.producer_ = nullptr;
  (void)erase(node);  // has no outputs any more: can not fail
  Builder(*model_).set_initializer(graph, value, std::move(tensor), nullptr);
  touch(graph);
}

void Editor::set_attribute(Node& node, NewAttribute entry) {
  touch(node);
  node.held_graphs_ = node.held_graphs_ || holds_graphs(entry.value);
  for (Attribute& existing : node.attributes_) {
    if (existing.name == entry.name) {
      existing.value = std::move(entry.value);
      existing.origin = nullptr;
      return;
    }
  }
  node.attributes_.push_back({std::move(entry.name), std::move(entry.value), nullptr});
}

void Editor::remove_attribute(Node& node, std::string_view name) {
  const auto removed =
      std::erase_if(node.attributes_, [&](const Attribute& entry) { return entry.name == name; });
  if (removed != 0) touch(node);
}

void Editor::swap_attributes(Node& node, std::string_view left, std::string_view right) {
  Attribute* found[2] = {nullptr, nullptr};
  for (Attribute& entry : node.attributes_) {
    if (entry.name == left) found[0] = &entry;
    if (entry.name == right) found[1] = &entry;
  }
  if (found[0] == nullptr || found[1] == nullptr) return;
  std::swap(found[0]->value, found[1]->value);
  found[0]->origin = found[1]->origin = nullptr;
  touch(node);
}

void Editor::set_input(Node& node, std::size_t slot, Value* value) {
  if (slot >= node.inputs_.size()) {
    node.inputs_.resize(slot + 1, nullptr, model_->store_->link_memory);
  }
  if (node.inputs_[slot] == value) return;
  const Use use{node.graph_, &node, static_cast<std::uint32_t>(slot)};
  drop_use(node.inputs_[slot], use);
  node.inputs_[slot] = value;
  add_use(value, use);
  touch(node);
}

void Editor::remove_trailing_input(Node& node) {
  if (node.inputs_.empty()) return;
  set_input(node, node.inputs_.size() - 1, nullptr);
  node.inputs_.pop_back();
  touch(node);
}

void Editor::set_op_type(Node& node, std::string_view domain, std::string_view op_type) {
  node.operator_ = model_->stored(
      {std::string(plain_domain(domain)), std::string(op_type), node.operator_->overload});
  touch(node);
}

Value& Editor::add_output(Node& node, std::string_view base_name) {
  Value& value = make_value(*node.graph_, unique_name(base_name));
  Builder(*model_).add_node_output(node, &value);
  touch(node);
  return value;
}

Status Editor::erase_output(Node& node, std::size_t slot) {
  Value* value = node.outputs_[slot];
  if (value != nullptr && !value->uses_.empty()) {
    return Error(
        Code::kInternal, "erase-used-output",
        "output '" + value->name_ + "' still has " + std::to_string(value->uses_.size()) + " uses",
        {{}, {}, node.label()});
  }
  if (value != nullptr) value->erased_ = true;
  node.outputs_.erase(node.outputs_.begin() + slot);
  touch(node);
  return ok_status();
}

// ----------------------------------------------------------------------------------- bodies

void Editor::add_output(Graph& body, Value& value) {
  Builder(*model_).add_output(body, value);
  touch(body);
}

void Editor::erase_output(Graph& body, std::size_t slot) {
  drop_use(body.outputs_[slot], {&body, nullptr, static_cast<std::uint32_t>(slot)});
  for (std::size_t i = slot + 1; i < body.outputs_.size(); ++i) {
    const Use before{&body, nullptr, static_cast<std::uint32_t>(i)};
    auto& uses = body.outputs_[i]->uses_;
    std::find(uses.begin(), uses.end(), before)->slot = static_cast<std::uint32_t>(i - 1);
  }
  body.outputs_.erase(body.outputs_.begin() + static_cast<std::ptrdiff_t>(slot));
  touch(body);
}

std::vector<Value*> Editor::unwrap(Graph& body) {
  Node& owner = *body.owner_;
  Graph& outer = *owner.graph_;
  std::vector<Value*> outputs = body.outputs_;
  for (std::uint32_t slot = 0; slot < outputs.size(); ++slot) {
    drop_use(outputs[slot], {&body, nullptr, slot});
  }
  body.outputs_.clear();
  (void)unique_name("unwrapped");  // fills the table of names
  const auto adopt = [&](Value& value) {
    value.graph_ = &outer;
    if (!names_->repeated.contains(value.name_)) return;
    value.name_ = unique_name(value.name_);
    if (value.held_ != nullptr) value.held_->origin = nullptr;
    for (const Use& use : value.uses_) {
      if (use.node != nullptr) touch(*use.node);
    }
    if (value.producer_ != nullptr) touch(*value.producer_);
  };
  for (Value* value : body.initializers_) {
    adopt(*value);
    outer.initializers_.push_back(value);
  }
  body.initializers_.clear();
  while (Node* node = body.first_) {
    body.first_ = node->next_;
    for (std::uint32_t slot = 0; slot < node->inputs_.size(); ++slot) {
      if (node->inputs_[slot] == nullptr) continue;
      auto& uses = node->inputs_[slot]->uses_;
      std::find(uses.begin(), uses.end(), Use{&body, node, slot})->graph = &outer;
    }
    node->graph_ = &outer;
    for (Value* value : node->outputs_) {
      if (value != nullptr) adopt(*value);
    }
    if (!node->name_.empty() && names_->repeated.contains(std::string(node->name_))) {
      node->name_ = model_->kept(unique_name(node->name_));
      touch(*node);
    }
    link_after(outer, owner.previous_, *node);
  }
  body.last_ = nullptr;
  body.node_count_ = 0;
  touch(body);
  return outputs;
}

// --------------------------------------------------------------------------------- rewiring

void Editor::redirect(const Use& use, Value& to) {
  if (use.node != nullptr) {
    set_input(*use.node, use.slot, &to);
    return;
  }
  Value*& output = use.graph->outputs_[use.slot];
  drop_use(output, use);
  output = &to;
  add_use(&to, use);
  touch(*use.graph);
}

std::string Editor::why_not_replace(const Value& from, const Value& to) const {
  const Graph& top = *model_->graph_;
  for (const Use& use : from.uses_) {
    if (!use.graph->is_within(*to.graph_)) {
      return "'" + to.name_ + "' is not visible where '" + from.name_ + "' is used";
    }
    if (use.node != nullptr) continue;
    if (use.graph == &top) {
      if (to.is_input_ || to.is_graph_output()) {
        return "'" + from.name_ + "' and '" + to.name_ + "' are both part of the model's interface";
      }
      if (to.graph_ != &top) return "'" + to.name_ + "' is defined in another graph";
    } else if (use.graph->owner() == nullptr) {
      return "'" + from.name_ + "' is an output of a model-local function";
    } else if (to.graph_ != use.graph || to.producer_ == nullptr) {
      // A body has to compute its outputs itself: ONNX Runtime refuses captured ones.
      return "'" + from.name_ + "' is the output of a nested graph that does not compute '" +
             to.name_ + "'";
    }
  }
  return {};
}

Status Editor::replace_all(Value& from, Value& to) {
  if (&from == &to) return ok_status();
  if (std::string reason = why_not_replace(from, to); !reason.empty()) {
    return Error(Code::kUnsupported, "value-not-replaceable", std::move(reason),
                 {{}, {}, from.name_});
  }
  const bool interface_name = std::any_of(
      from.uses_.begin(), from.uses_.end(),
      [&](const Use& use) { return use.node == nullptr && use.graph == model_->graph_.get(); });
  const std::vector<Use> uses(from.uses_.begin(), from.uses_.end());
  from.uses_.clear();
  for (const Use& use : uses) {
    if (use.node != nullptr) {
      use.node->inputs_[use.slot] = &to;
      touch(*use.node);
    } else {
      use.graph->outputs_[use.slot] = &to;
      touch(*use.graph);
    }
    to.uses_.push_back(use, model_->store_->link_memory);
  }
  if (interface_name) {
    const std::string spare = unique_name(from.name_ + "_replaced");
    to.name_ = std::exchange(from.name_, spare);
    // Readers and makers of a renamed value are written anew.
    for (Value* renamed : {&from, &to}) {
      if (renamed->held_ != nullptr) renamed->held_->origin = nullptr;
      if (renamed->producer_ != nullptr) touch(*renamed->producer_);
      for (const Use& use : renamed->uses_) {
        if (use.node != nullptr) touch(*use.node);
      }
    }
    // The interface keeps its declared type as well as its name.
    to.type_origin_ = std::move(from.type_origin_);
    from.type_origin_ = nullptr;
    if (from.type_ != nullptr) to.type_ = from.type_;
  }
  return ok_status();
}

// ------------------------------------------------------------------------------------ model

Status Editor::require_opset(std::string_view domain, std::int64_t at_least) {
  const std::int64_t current = model_->opset(domain);
  if (current >= at_least) return ok_status();
  if (current != 0) {
    for (const Node& node : model_->store_->nodes) {
      if (node.erased_ || node.domain() != domain || catalog_ == nullptr) continue;
      const std::int64_t before = catalog_->since_version(domain, node.op_type(), current);
      const std::int64_t after = catalog_->since_version(domain, node.op_type(), at_least);
      if (before != after) {
        return Error(Code::kUnsupported, "opset-changes-operator",
                     "raising opset " + std::to_string(current) + " to " +
                         std::to_string(at_least) + " would move " + node.operator_->type +
                         " from version " + std::to_string(before) + " to " + std::to_string(after),
                     {{}, {}, node.label()});
      }
    }
  }
  set_opset(domain, at_least);
  return ok_status();
}

void Editor::set_opset(std::string_view domain, std::int64_t version) {
  Builder(*model_).import_opset(domain, version);
  model_->opsets_edited_ = true;
  model_->note_edit();
}

void Editor::require_ir_version(std::int64_t at_least) {
  if (model_->ir_version_ >= at_least) return;
  model_->ir_version_ = at_least;
  model_->opsets_edited_ = true;
  model_->note_edit();
}

void Editor::set_ir_version(std::int64_t version) {
  if (model_->ir_version_ == version) return;
  model_->ir_version_ = version;
  model_->opsets_edited_ = true;
  model_->note_edit();
}

void Editor::set_metadata(std::string_view key, std::string_view value) {
  model_->metadata_edited_ = true;
  model_->note_edit();
  for (auto& [name, text] : model_->metadata_) {
    if (name == key) {
      text = value;
      return;
    }
  }
  model_->metadata_.emplace_back(key, value);
}

}  // namespace mcompress
