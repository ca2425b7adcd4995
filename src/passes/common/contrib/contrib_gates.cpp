#include <optional>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/contrib/contrib.h"
#include "passes/common/fusion/gates.h"
#include "passes/common/fusion/merge.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

struct Form {
  std::string_view op_type;
  std::optional<float> alpha;
};

// The gate that a function node is in, with the operator for it.
std::optional<Gate> gate_of(Node& node, Form& form) {
  GateRules rules;
  if (node.is("Erf")) {
    rules = erf_gelu_rules();
    form.op_type = "Gelu";
  } else if (node.is("Tanh")) {
    rules = tanh_gelu_rules();
    form.op_type = "FastGelu";
  } else if (node.is("Sigmoid")) {
    rules = swish_rules();
    form.op_type = "QuickGelu";
  } else {
    return std::nullopt;
  }
  if (node.input(0) == nullptr || node.output(0) == nullptr) return std::nullopt;
  auto gate = find_gate(*node.input(0), *node.output(0), {&node}, rules);
  if (gate && node.is("Sigmoid")) form.alpha = static_cast<float>(gate->inner.of({1}));
  return gate;
}

Status write_gates(ContribWriter& writer) {
  std::vector<Node*> found;
  for_each_node(writer.model().graph(), [&](Node& node) {
    if (node.is("Erf") || node.is("Tanh") || node.is("Sigmoid")) found.push_back(&node);
  });
  for (Node* node : found) {
    Form form;
    const auto gate = gate_of(*node, form);
    if (!gate || writer.offered(form.op_type) == nullptr) continue;
    std::string why = gate->why_not;
    if (why.empty()) why = why_not_float(*gate->x);
    if (why.empty()) {
      writer.import();
      chose(writer.context(), *gate->root,
            std::string(form.op_type) + " instead of " + std::to_string(gate->nodes.size()) +
                " nodes");
      NewNode whole;
      whole.domain = kContribDomain;
      whole.op_type = form.op_type;
      whole.inputs = {gate->x};
      if (form.alpha) whole.attributes.push_back(attribute("alpha", *form.alpha));
      MCOMPRESS_TRY(become(writer.context(), *gate->root, std::move(whole)));
    }
    writer.saw(*gate->root, form.op_type, std::move(why));
  }
  return ok_status();
}

// The operator that adds a vector to its input first; empty: none.
std::string_view with_bias(const Node& node) {
  const bool contrib = node.domain() == kContribDomain;
  if (contrib && node.op_type() == "FastGelu" && node.input(1) == nullptr) return "FastGelu";
  if (contrib && node.op_type() == "Gelu") return "BiasGelu";
  if (!node.is("Gelu")) return {};
  return node.string_attribute("approximate", "none") == "tanh" ? "FastGelu" : "BiasGelu";
}

// The operand of the Add that is one number per element of the last axis of the other.
std::optional<std::size_t> vector_slot(const Node& add) {
  for (const std::size_t slot : {std::size_t{1}, std::size_t{0}}) {
    const Value* bias = add.input(slot);
    const Value* rest = add.input(1 - slot);
    if (!is_constant(bias) || rest == nullptr) continue;
    const auto shape = static_shape(*bias);
    if (shape && shape->size() == 1 && (*shape)[0] > 1 && dim_of(*rest, -1) == (*shape)[0]) {
      return slot;
    }
  }
  return std::nullopt;
}

Status write_biases(ContribWriter& writer) {
  std::vector<Node*> found;
  for_each_node(writer.model().graph(), [&](Node& node) {
    if (!with_bias(node).empty()) found.push_back(&node);
  });
  for (Node* node : found) {
    const std::string op_type(with_bias(*node));
    Node* add = made_by(node->input(0), "Add");
    if (add == nullptr || writer.offered(op_type) == nullptr) continue;
    const auto slot = vector_slot(*add);
    if (!slot) continue;
    Value& sum = *node->input(0);
    std::string why;
    if (only_user(sum) != node) why = why_not_only_user(sum);
    if (why.empty()) why = why_not_float(sum);
    if (why.empty()) {
      writer.import();
      chose(writer.context(), *node, op_type + " takes Add '" + add->label() + "' in");
      NewNode whole;
      whole.domain = kContribDomain;
      whole.op_type = op_type;
      whole.inputs = {add->input(1 - *slot), add->input(*slot)};
      MCOMPRESS_TRY(become(writer.context(), *node, std::move(whole)));
    }
    writer.saw(*node, op_type, std::move(why));
  }
  return ok_status();
}

}  // namespace

Status write_contrib_gates(ContribWriter& writer) {
  MCOMPRESS_TRY(write_gates(writer));
  return write_biases(writer);
}

}  // namespace mcompress
