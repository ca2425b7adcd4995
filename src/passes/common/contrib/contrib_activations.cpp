#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/contrib/contrib.h"
#include "passes/common/fusion/expression.h"
#include "passes/common/fusion/merge.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

// y = name(x; parameters)
struct Applied {
  std::string_view name;
  std::vector<float> parameters;
  Node* last = nullptr;      // makes y
  std::vector<Node*> nodes;  // all of it
  std::string why_not;       // why the parameters are none
};

constexpr auto kPlain =
    std::to_array<std::string_view>({"Relu", "Sigmoid", "Tanh", "Softplus", "Softsign"});

// A bound of a Clip; `fallback` where it is left out, empty where it is no constant.
std::optional<float> bound_of(const Node& node, std::string_view name, std::size_t slot,
                              float fallback) {
  if (const Value* value = node.input(slot)) {
    const auto number = constant_scalar(value);
    if (!number || std::isnan(*number)) return std::nullopt;
    return static_cast<float>(*number);
  }
  return node.float_attribute(name, fallback);
}

std::optional<Applied> activation_of(Node& node) {
  Applied applied;
  applied.last = &node;
  applied.nodes = {&node};
  for (const std::string_view name : kPlain) {
    if (node.is(name)) applied.name = name;
  }
  if (node.is("LeakyRelu")) {
    applied.name = "LeakyRelu";
    applied.parameters = {node.float_attribute("alpha", 0.01f)};
  } else if (node.is("Elu")) {
    applied.name = "Elu";
    applied.parameters = {node.float_attribute("alpha", 1.0f)};
  } else if (node.is("HardSigmoid")) {
    applied.name = "HardSigmoid";
    applied.parameters = {node.float_attribute("alpha", 0.2f), node.float_attribute("beta", 0.5f)};
  } else if (node.is("HardSwish")) {
    applied.name = "HardSwish";
  } else if (node.is("Clip")) {
    applied.name = "Clip";
    constexpr float kMost = std::numeric_limits<float>::max();
    const auto low = bound_of(node, "min", 1, -kMost), high = bound_of(node, "max", 2, kMost);
    if (low && high) {
      applied.parameters = {*low, *high};
    } else {
      applied.why_not = "its bounds are computed";
    }
  }
  if (applied.name.empty()) return std::nullopt;
  return applied;
}

// x HardSigmoid<1/6, 1/2>(x), which models have that are too old for HardSwish.
std::optional<Applied> hard_swish_of(Value& x) {
  if (x.uses().size() != 2) return std::nullopt;
  for (const Use& use : x.uses()) {
    Node* gate = use.node;
    if (gate == nullptr || !gate->is("HardSigmoid") || gate->output(0) == nullptr) continue;
    if (!nearly(static_cast<double>(gate->float_attribute("alpha", 0.2f)), 1.0 / 6) ||
        gate->float_attribute("beta", 0.5f) != 0.5f) {
      return std::nullopt;
    }
    Node* product = only_user(*gate->output(0));
    if (product == nullptr || !product->is("Mul") || product->output(0) == nullptr) continue;
    const bool own = product->input(0) == &x || product->input(1) == &x;
    if (own && &product->graph() == &x.graph()) {
      return Applied{"HardSwish", {}, product, {product, gate}, {}};
    }
  }
  return std::nullopt;
}

std::optional<Applied> applied_to(Value& result) {
  if (result.uses().size() == 1) {
    Node* reader = only_user(result);
    return reader != nullptr ? activation_of(*reader) : std::nullopt;
  }
  return hard_swish_of(result);
}

Status write(ContribWriter& writer, Node& node, std::string_view op_type, const Applied& applied,
             std::string& why) {
  PassContext& context = writer.context();
  Editor& editor = context.edit();
  Value& result = *node.output(0);
  why = why_not_bypass(context, *applied.last, result);
  if (!why.empty()) return ok_status();
  writer.import();
  chose(context, *applied.last, "applied by " + std::string(op_type) + " '" + node.label() + "'");
  editor.set_op_type(node, kContribDomain, op_type);
  editor.set_attribute(node, attribute("activation", applied.name));
  if (op_type == "FusedConv") {
    if (!applied.parameters.empty()) {
      editor.set_attribute(node, {"activation_params", applied.parameters});
    }
  } else {
    static constexpr std::array<std::string_view, 2> kNames = {"activation_alpha",
                                                               "activation_beta"};
    for (std::size_t i = 0; i < applied.parameters.size(); ++i) {
      editor.set_attribute(node, attribute(kNames[i], applied.parameters[i]));
    }
  }
  std::vector<Value*> read;
  for (Node* gone : applied.nodes) {
    for (Value* input : gone->inputs()) {
      if (input != nullptr && input != &result && is_constant(input)) read.push_back(input);
    }
  }
  why = forward(context, *applied.last->output(0), result);
  if (!why.empty()) return Error(Code::kInternal, "fuse-contrib", why, {{}, {}, node.label()});
  for (Node* gone : applied.nodes) MCOMPRESS_TRY(editor.erase(*gone));
  for (Value* value : read) MCOMPRESS_TRY(erase_unused(context, *value));
  return ok_status();
}

// A FusedConv that applies nothing yet.
bool only_adds(const Node& node) {
  return node.domain() == kContribDomain && node.op_type() == "FusedConv" &&
         node.attribute("activation") == nullptr;
}

}  // namespace

Status write_contrib_activations(ContribWriter& writer) {
  std::vector<Node*> found;
  for_each_node(writer.model().graph(), [&](Node& node) {
    if (node.is("Conv") || node.is("Gemm") || only_adds(node)) found.push_back(&node);
  });
  for (Node* node : found) {
    const std::string op_type = node->is("Gemm") ? "FusedGemm" : "FusedConv";
    const NativeOperator* native = writer.offered(op_type);
    if (native == nullptr || node->output(0) == nullptr) continue;
    const auto applied = applied_to(*node->output(0));
    if (!applied) continue;
    std::string why = applied->why_not;
    if (!native->applies(applied->name))
      why = op_type + " does not apply " + std::string(applied->name);
    if (why.empty()) why = why_not_float(*node->output(0));
    for (Value* operand : node->inputs().first(std::min<std::size_t>(2, node->inputs().size()))) {
      if (why.empty()) why = why_not_real(operand);
    }
    if (why.empty() && node->is("Gemm") && writer.model().opset("") < kNumpyBroadcast) {
      why = "Gemm broadcasts in another way before opset 7";
    }
    Node& last = *applied->last;
    if (why.empty()) MCOMPRESS_TRY(write(writer, *node, op_type, *applied, why));
    writer.saw(last, op_type, std::move(why));
  }
  return ok_status();
}

}  // namespace mcompress
