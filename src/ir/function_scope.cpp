#include "ir/function_scope.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "ir/walk.h"

namespace mcompress {
namespace {

constexpr std::string_view kHidden = "reference:";

bool refers(const Node& node) {
  return std::ranges::any_of(node.attributes(), [](const Attribute& entry) {
    return std::holds_alternative<AttributeRef>(entry.value);
  });
}

}  // namespace

Builder::FunctionScope::FunctionScope(Editor& editor, std::size_t position)
    : editor_(editor), model_(editor.model()), position_(position) {
  auto& functions = model_.functions_;
  const auto place = functions.begin() + static_cast<std::ptrdiff_t>(position);
  function_ = std::move(*place);
  functions.erase(place);
  std::swap(model_.graph_, function_.body);
  std::swap(model_.opsets_, function_.opsets);
  opsets_ = model_.opsets_;
  opsets_edited_ = std::exchange(model_.opsets_edited_, true);
  // It was loaded from the message of a function, not of a graph.
  origin_ = std::exchange(model_.graph_->origin_, nullptr);
  ++model_.state_;
  hide_references();
}

void Builder::FunctionScope::hide_references() {
  for (Value* value : model_.graph_->inputs_) types_.emplace(value, value->type_);
  for_each_node(*model_.graph_, [&](Node& node) {
    for (Value* value : node.outputs_) {
      if (value != nullptr) types_.emplace(value, value->type_);
    }
    if (!refers(node)) return;
    OperatorName hidden = *node.operator_;
    hidden.domain.insert(0, kHidden);
    model_.opsets_.emplace(hidden.domain, 1);
    node.operator_ = model_.stored(std::move(hidden));
  });
}

Builder::FunctionScope::~FunctionScope() {
  write_constants();
  restore_types();
  std::erase_if(model_.opsets_, [](const auto& entry) { return entry.first.starts_with(kHidden); });
  model_.graph_->origin_ = std::move(origin_);
  if (model_.opsets_ != opsets_) function_.opsets_edited = true;
  std::swap(model_.opsets_, function_.opsets);
  std::swap(model_.graph_, function_.body);
  model_.opsets_edited_ = opsets_edited_;
  model_.functions_.insert(model_.functions_.begin() + static_cast<std::ptrdiff_t>(position_),
                           std::move(function_));
  ++model_.state_;
}

// In front, in the order of the initializers.
void Builder::FunctionScope::write_constants() {
  Graph& body = *model_.graph_;
  const std::vector<Value*> constants = std::exchange(body.initializers_, {});
  if (constants.empty()) return;
  Builder builder(model_);
  Node* const behind = body.first_;
  Node* previous = nullptr;
  for (Value* value : constants) {
    Node& node = builder.add_node(body, editor_.unique_name(value->name_ + "_constant"), "",
                                  "Constant", {}, nullptr);
    node.edited_ = true;
    builder.add_attribute(node, {"value", std::move(value->held_->tensor), nullptr});
    value->held_.reset();
    builder.add_node_output(node, value);
    node.previous_ = previous;
    (previous != nullptr ? previous->next_ : body.first_) = &node;
    previous = &node;
    ++body.node_count_;
  }
  previous->next_ = behind;
  (behind != nullptr ? behind->previous_ : body.last_) = previous;
  body.edited_ = true;
  model_.note_edit();
}

void Builder::FunctionScope::restore_types() {
  const auto restore = [&](Value* value) {
    if (value == nullptr) return;
    const auto known = types_.find(value);
    value->type_ = known != types_.end() ? known->second : nullptr;
  };
  std::ranges::for_each(model_.graph_->inputs_, restore);
  for_each_node(*model_.graph_, [&](Node& node) {
    std::ranges::for_each(node.outputs_, restore);
    if (!node.domain().starts_with(kHidden)) return;
    OperatorName shown = *node.operator_;
    shown.domain.erase(0, kHidden.size());
    node.operator_ = model_.stored(std::move(shown));
  });
}

}  // namespace mcompress
