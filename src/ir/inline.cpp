// Editor::inline_call: the body of a function in the place of a call.
//
//   y = f<k = 2>(x)   with   f (a, b) => (c) { t = Op<n = @k>(a, b)  c = Neg(t) }
//
//   =>  t = Op<n = 2>(x, )   y = Neg(t)
#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "ir/builder.h"
#include "ir/domains.h"
#include "mcompress/edit.h"
#include "support/try.h"

namespace mcompress {

struct Editor::Inlining {
  Inlining(Editor& editor, Node& call, const Function& function)
      : editor_(editor),
        builder_(*editor.model_),
        call_(call),
        function_(function),
        body_(*function.body),
        same_model_(&function.body->model() == editor.model_) {}

  Status check() const {
    if (call_.inputs_.size() > body_.inputs_.size()) {
      return refused("the call has " + std::to_string(call_.inputs_.size()) +
                     " inputs, function '" + function_.name + "' takes " +
                     std::to_string(body_.inputs_.size()));
    }
    if (call_.outputs_.size() > body_.outputs_.size()) {
      return refused("the call has " + std::to_string(call_.outputs_.size()) +
                     " outputs, function '" + function_.name + "' has " +
                     std::to_string(body_.outputs_.size()));
    }
    for (std::size_t i = 0; i < call_.outputs_.size(); ++i) {
      if (call_.outputs_[i] != nullptr) MCOMPRESS_TRY(check_handed_out(*body_.outputs_[i]));
    }
    return check(body_);
  }

  std::vector<Node*> run() {
    for (std::size_t i = 0; i < body_.inputs_.size(); ++i) {
      values_.emplace(body_.inputs_[i], call_.input(i));
    }
    // What the call makes is made by the nodes of the body from now on. A value that the
    // function only passes on, or hands out twice, is copied.
    std::vector<std::pair<Value*, const Value*>> copies;
    for (std::size_t i = 0; i < call_.outputs_.size(); ++i) {
      Value* made = std::exchange(call_.outputs_[i], nullptr);
      if (made == nullptr) continue;
      made->producer_ = nullptr;
      const Value* inner = body_.outputs_[i];
      const bool own = inner->producer_ != nullptr && &inner->graph() == &body_;
      if (!own || !values_.emplace(inner, made).second) copies.emplace_back(made, inner);
    }
    std::vector<Node*> nodes;
    for (const Node* node = body_.first_; node != nullptr; node = node->next_) {
      nodes.push_back(&copy_node(*node, *call_.graph_, true));
      editor_.link_after(*call_.graph_, call_.previous_, *nodes.back());
    }
    for (const auto& [made, inner] : copies) {
      Node& node =
          builder_.add_node(*call_.graph_, editor_.unique_name(std::string(made->name()) + "_copy"),
                            "", "Identity", {}, nullptr);
      node.edited_ = true;
      builder_.add_node_input(node, values_.at(inner));
      builder_.add_node_output(node, made);
      editor_.link_after(*call_.graph_, call_.previous_, node);
      nodes.push_back(&node);
    }
    return nodes;
  }

 private:
  Error refused(std::string message) const {
    return Error(Code::kUnsupported, "call-not-inlined", std::move(message),
                 {{}, {}, call_.label()});
  }

  bool left_out(const Value& value) const {
    const auto found = std::find(body_.inputs_.begin(), body_.inputs_.end(), &value);
    if (found == body_.inputs_.end()) return false;
    return call_.input(static_cast<std::size_t>(found - body_.inputs_.begin())) == nullptr;
  }

  Status check_handed_out(const Value& value) const {
    if (!left_out(value)) return ok_status();
    return refused("function '" + function_.name + "' hands out its input '" +
                   std::string(value.name()) + "', which the call leaves out");
  }

  // Nothing may be found out half-way.
  Status check(const Graph& graph) const {
    for (const Node* node = graph.first_; node != nullptr; node = node->next_) {
      for (const Attribute& entry : node->attributes_) {
        if (const auto* reference = std::get_if<AttributeRef>(&entry.value)) {
          const Attribute* given = argument(reference->of_function);
          if (given == nullptr || !std::holds_alternative<OpaqueAttribute>(given->value)) continue;
          if (given->name == entry.name && same_model_) continue;
          return refused("attribute '" + given->name + "' is of a kind that can not be renamed");
        }
        if (std::holds_alternative<OpaqueAttribute>(entry.value) && !same_model_) {
          return refused("attribute '" + entry.name + "' of the function can not be copied");
        }
      }
      for (const Graph* inner : node->bodies()) {
        for (const Value* value : inner->outputs_) MCOMPRESS_TRY(check_handed_out(*value));
        MCOMPRESS_TRY(check(*inner));
      }
    }
    return ok_status();
  }

  // The attribute of the call, or its default; null: neither.
  const Attribute* argument(std::string_view name) const {
    const auto named = [&](const Attribute& entry) { return entry.name == name; };
    const auto given = std::find_if(call_.attributes_.begin(), call_.attributes_.end(), named);
    if (given != call_.attributes_.end()) return &*given;
    const auto preset = std::find_if(function_.defaults.begin(), function_.defaults.end(), named);
    return preset != function_.defaults.end() ? &*preset : nullptr;
  }

  std::string name_for(std::string_view inner) {
    if (call_.name_.empty()) return editor_.unique_name(inner);
    return editor_.unique_name(std::string(call_.name_) + "/" + std::string(inner));
  }

  Origin kept(const Origin& origin) const { return same_model_ ? origin : nullptr; }

  Value& copy_value(const Value& from, Graph& to, bool of_body) {
    Value& value = builder_.add_value(to, name_for(from.name_));
    if (from.type_ != nullptr) {
      value.type_ = same_model_ ? from.type_ : builder_.model().stored(*from.type_);
    }
    value.type_origin_ = kept(from.type_origin_);
    // The graph's own message does not list what was said about it. Of another model nothing was
    // said: it only knows.
    value.type_edited_ = same_model_ && (from.type_edited_ || (of_body && from.type_ != nullptr));
    values_.emplace(&from, &value);
    return value;
  }

  // Null: an input that the call leaves out. What is not of the function is of an outer graph.
  Value* value_for(Value* from) const {
    if (from == nullptr) return nullptr;
    const auto found = values_.find(from);
    return found != values_.end() ? found->second : from;
  }

  // `fill`: references to attributes are those of this function. A graph that is itself an
  // attribute of the call may refer to attributes of the function around the call.
  Node& copy_node(const Node& from, Graph& to, bool of_body, bool fill = true) {
    Node& node =
        builder_.add_node(to, from.name_.empty() ? std::string() : name_for(from.name_),
                          from.domain(), from.op_type(), from.overload(), kept(from.origin_));
    node.edited_ = true;
    std::size_t count = from.inputs_.size();
    while (count > 0 && value_for(from.inputs_[count - 1]) == nullptr &&
           from.inputs_[count - 1] != nullptr) {
      --count;
    }
    for (std::size_t i = 0; i < count; ++i)
      builder_.add_node_input(node, value_for(from.inputs_[i]));
    for (const Value* output : from.outputs_) {
      if (output == nullptr) {
        builder_.add_node_output(node, nullptr);
        continue;
      }
      const auto bound = values_.find(output);
      builder_.add_node_output(
          node, bound != values_.end() ? bound->second : &copy_value(*output, to, of_body));
    }
    for (const Attribute& entry : from.attributes_) {
      const auto* reference = std::get_if<AttributeRef>(&entry.value);
      if (reference == nullptr || !fill) {
        add_attribute(node, entry.name, entry, kept(entry.origin), fill);
        continue;
      }
      const Attribute* given = argument(reference->of_function);
      if (given == nullptr) continue;  // nor has the node then
      const bool opaque = std::holds_alternative<OpaqueAttribute>(given->value);
      add_attribute(node, entry.name, *given, opaque ? given->origin : nullptr, false);
    }
    return node;
  }

  void add_attribute(Node& node, const std::string& name, const Attribute& from, Origin origin,
                     bool fill) {
    Attribute attribute{name, OpaqueAttribute{}, std::move(origin)};
    std::visit(
        [&](const auto& held) {
          using T = std::decay_t<decltype(held)>;
          if constexpr (std::is_same_v<T, std::unique_ptr<Graph>>) {
            attribute.value = copy_graph(*held, node, fill);
          } else if constexpr (std::is_same_v<T, std::vector<std::unique_ptr<Graph>>>) {
            std::vector<std::unique_ptr<Graph>> graphs;
            graphs.reserve(held.size());
            for (const auto& graph : held) graphs.push_back(copy_graph(*graph, node, fill));
            attribute.value = std::move(graphs);
          } else {
            attribute.value = held;
          }
        },
        from.value);
    builder_.add_attribute(node, std::move(attribute));
  }

  std::unique_ptr<Graph> copy_graph(const Graph& from, Node& owner, bool fill) {
    auto graph = builder_.new_graph(&owner);
    builder_.set_graph(*graph, from.name_, kept(from.origin_));
    graph->edited_ = true;
    for (const Value* input : from.inputs_) {
      builder_.add_input(*graph, copy_value(*input, *graph, false));
    }
    for (const Value* value : from.initializers_) {
      const auto known = values_.find(value);
      Value& copy = known != values_.end() ? *known->second : copy_value(*value, *graph, false);
      builder_.set_initializer(*graph, copy, value->held_->tensor, kept(value->held_->origin));
    }
    for (const Node* node = from.first_; node != nullptr; node = node->next_) {
      builder_.append(*graph, copy_node(*node, *graph, false, fill));
    }
    for (Value* output : from.outputs_) builder_.add_output(*graph, *value_for(output));
    return graph;
  }

  Editor& editor_;
  Builder builder_;
  Node& call_;
  const Function& function_;
  const Graph& body_;
  const bool same_model_;
  std::unordered_map<const Value*, Value*> values_;
};

Result<std::vector<Node*>> Editor::inline_call(Node& call, const Function& function) {
  Inlining inlining(*this, call, function);
  MCOMPRESS_TRY(inlining.check());
  std::vector<Node*> nodes = inlining.run();
  MCOMPRESS_TRY(erase(call));
  return nodes;
}

void Editor::erase_functions(const std::vector<std::size_t>& positions) {
  const std::unordered_set<std::size_t> gone(positions.begin(), positions.end());
  std::vector<Function> kept;
  for (std::size_t i = 0; i < model_->functions_.size(); ++i) {
    Function& function = model_->functions_[i];
    if (gone.contains(i)) {
      discard(*function.body);
    } else {
      kept.push_back(std::move(function));
    }
  }
  model_->functions_ = std::move(kept);
  if (!gone.empty()) model_->note_edit();
}

void Editor::set_function_opset(std::size_t position, std::string_view domain,
                                std::int64_t version) {
  Function& function = model_->functions_[position];
  function.opsets[std::string(plain_domain(domain))] = version;
  function.opsets_edited = true;
  model_->note_edit();
}

}  // namespace mcompress
