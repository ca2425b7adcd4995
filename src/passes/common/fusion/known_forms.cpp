#include "passes/common/fusion/known_forms.h"

#include <algorithm>

#include "ir/facts.h"

namespace mcompress {
namespace {

template <class Test>
bool any_operand(const Node& node, Test&& test) {
  return std::ranges::any_of(node.inputs(), test);
}

// sqrt(mean + epsilon)
bool is_deviation(const Value* value) {
  const Node* root = made_by(value, "Sqrt");
  if (root == nullptr) return false;
  const auto is_mean = [](const Value* operand) {
    return made_by(operand, "ReduceMean") != nullptr;
  };
  const Node* sum = made_by(root->input(0), "Add");
  return sum != nullptr ? any_operand(*sum, is_mean) : is_mean(root->input(0));
}

bool is_normalised(const Value& value) {
  const Node* last = value.producer();
  if (last == nullptr) return false;
  if (last->is("Div")) return is_deviation(last->input(1));
  return last->is("Mul") && any_operand(*last, [](const Value* operand) {
           if (const Node* inverse = made_by(operand, "Reciprocal")) {
             return is_deviation(inverse->input(0));
           }
           const Node* inverse = made_by(operand, "Div");
           return inverse != nullptr && is_constant(inverse->input(0)) &&
                  is_deviation(inverse->input(1));
         });
}

}  // namespace

bool is_gelu_body(const Value& value) {
  const Node* product = made_by(&value, "Mul");
  return product != nullptr && any_operand(*product, [](const Value* operand) {
           const Node* sum = made_by(operand, "Add");
           return sum != nullptr && any_operand(*sum, [](const Value* part) {
                    return made_by(part, "Erf") != nullptr || made_by(part, "Tanh") != nullptr;
                  });
         });
}

bool squares_in_known_form(const Node& node) {
  if (!node.is("Pow") || node.output(0) == nullptr) return false;
  const auto next = [](const Node& from, std::string_view op_type) -> const Node* {
    const auto uses = from.output(0)->uses();
    if (uses.size() != 1 || uses.front().node == nullptr) return nullptr;
    return uses.front().node->is(op_type) ? uses.front().node : nullptr;
  };
  const Node* mean = next(node, "ReduceMean");
  if (mean == nullptr) return false;
  const Node* sum = next(*mean, "Add");
  const Node* root = next(sum != nullptr ? *sum : *mean, "Sqrt");
  return root != nullptr && std::ranges::any_of(root->output(0)->uses(), [&](const Use& use) {
           return use.node != nullptr &&
                  (use.node->is("Reciprocal") || (use.node->is("Div") && use.slot == 1));
         });
}

bool ends_known_form(const Value& value) {
  if (is_normalised(value) || is_gelu_body(value)) return true;
  // The shift of a normalisation follows on its scale.
  const Node* scale = made_by(&value, "Mul");
  return scale != nullptr &&
         any_operand(*scale, [](const Value* operand) { return is_constant(operand); }) &&
         any_operand(*scale, [](const Value* operand) {
           return operand != nullptr && is_normalised(*operand);
         });
}

}  // namespace mcompress
