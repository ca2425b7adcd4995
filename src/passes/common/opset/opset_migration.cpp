#include "passes/common/opset/opset_migration.h"

#include <algorithm>
#include <array>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Operators whose newer versions only accept more (or other) types, or have new attributes and
// inputs whose defaults are the old meaning: what a node has of those tells whether it can move.
// Checked up to kNewestMigratedOpset.
constexpr auto kCompatible = std::to_array<std::string_view>({"Abs",
                                                              "Acos",
                                                              "Acosh",
                                                              "Add",
                                                              "And",
                                                              "ArgMax",
                                                              "ArgMin",
                                                              "Asin",
                                                              "Asinh",
                                                              "Atan",
                                                              "Atanh",
                                                              "Bernoulli",
                                                              "BitShift",
                                                              "Cast",
                                                              "CastLike",
                                                              "Ceil",
                                                              "Celu",
                                                              "Compress",
                                                              "Concat",
                                                              "Constant",
                                                              "ConstantOfShape",
                                                              "Conv",
                                                              "ConvTranspose",
                                                              "Cos",
                                                              "Cosh",
                                                              "CumSum",
                                                              "DeformConv",
                                                              "DepthToSpace",
                                                              "DequantizeLinear",
                                                              "Det",
                                                              "Div",
                                                              "Einsum",
                                                              "Elu",
                                                              "Equal",
                                                              "Erf",
                                                              "Exp",
                                                              "Expand",
                                                              "EyeLike",
                                                              "Flatten",
                                                              "Floor",
                                                              "GRU",
                                                              "Gather",
                                                              "GatherElements",
                                                              "GatherND",
                                                              "Gemm",
                                                              "GlobalAveragePool",
                                                              "GlobalLpPool",
                                                              "GlobalMaxPool",
                                                              "Greater",
                                                              "GreaterOrEqual",
                                                              "HardSigmoid",
                                                              "HardSwish",
                                                              "Identity",
                                                              "If",
                                                              "InstanceNormalization",
                                                              "IsInf",
                                                              "IsNaN",
                                                              "LRN",
                                                              "LSTM",
                                                              "LeakyRelu",
                                                              "Less",
                                                              "LessOrEqual",
                                                              "Log",
                                                              "Loop",
                                                              "LpNormalization",
                                                              "LpPool",
                                                              "MatMul",
                                                              "Max",
                                                              "MaxPool",
                                                              "MaxRoiPool",
                                                              "MaxUnpool",
                                                              "Mean",
                                                              "MeanVarianceNormalization",
                                                              "Min",
                                                              "Mish",
                                                              "Mod",
                                                              "Mul",
                                                              "Multinomial",
                                                              "Neg",
                                                              "NegativeLogLikelihoodLoss",
                                                              "NonMaxSuppression",
                                                              "NonZero",
                                                              "Not",
                                                              "OneHot",
                                                              "Optional",
                                                              "OptionalGetElement",
                                                              "OptionalHasElement",
                                                              "Or",
                                                              "PRelu",
                                                              "Pow",
                                                              "QLinearMatMul",
                                                              "QuantizeLinear",
                                                              "RNN",
                                                              "RandomNormal",
                                                              "RandomNormalLike",
                                                              "RandomUniform",
                                                              "RandomUniformLike",
                                                              "Reciprocal",
                                                              "Relu",
                                                              "Reshape",
                                                              "ReverseSequence",
                                                              "Round",
                                                              "ScatterElements",
                                                              "ScatterND",
                                                              "Selu",
                                                              "Shape",
                                                              "Sigmoid",
                                                              "Sign",
                                                              "Sin",
                                                              "Sinh",
                                                              "Size",
                                                              "SoftmaxCrossEntropyLoss",
                                                              "Softplus",
                                                              "Softsign",
                                                              "SpaceToDepth",
                                                              "SplitToSequence",
                                                              "Sqrt",
                                                              "Sub",
                                                              "Sum",
                                                              "Tan",
                                                              "Tanh",
                                                              "ThresholdedRelu",
                                                              "Tile",
                                                              "Transpose",
                                                              "Unique",
                                                              "Where",
                                                              "Xor"});

bool is_compatible(const Node& node) {
  return std::ranges::binary_search(kCompatible, node.op_type());
}

// The older set has the operator under another name.
bool has_older_name(const Node& node) {
  return node.is("CastLike") || node.is("Resize") || node.is("ScatterElements");
}

std::string version_text(const OperatorCatalog& catalog, const Node& node, std::int64_t opset) {
  const std::int64_t version = catalog.since_version("", node.op_type(), opset);
  return version == 0 ? "nothing" : "version " + std::to_string(version);
}

}  // namespace

std::int64_t ir_version_of_opset(std::int64_t opset) {
  constexpr auto kFirst = std::to_array<std::pair<std::int64_t, std::int64_t>>({{28, 14},
                                                                                {25, 13},
                                                                                {24, 12},
                                                                                {23, 11},
                                                                                {21, 10},
                                                                                {19, 9},
                                                                                {15, 8},
                                                                                {12, 7},
                                                                                {11, 6},
                                                                                {10, 5},
                                                                                {9, 4}});
  for (const auto& [first, version] : kFirst) {
    if (opset >= first) return version;
  }
  return 3;
}

OpsetMigration::OpsetMigration(PassContext& context, std::int64_t from, std::int64_t to)
    : context_(context), from_(from), to_(to) {}

const std::vector<OpsetMigration::Rule>& OpsetMigration::raising() {
  static const std::vector<Rule> rules = {
      {"Attention", &OpsetMigration::attention},
      {"AveragePool", &OpsetMigration::raise_average_pool},
      {"BatchNormalization", &OpsetMigration::raise_batch_normalization},
      {"Clip", &OpsetMigration::raise_clip},
      {"DFT", &OpsetMigration::raise_dft},
      {"Dropout", &OpsetMigration::raise_dropout},
      {"GridSample", &OpsetMigration::raise_grid_sample},
      {"GroupNormalization", &OpsetMigration::raise_group_normalization},
      {"Hardmax", &OpsetMigration::raise_softmax},
      {"LogSoftmax", &OpsetMigration::raise_softmax},
      {"Pad", &OpsetMigration::raise_pad},
      {"Range", &OpsetMigration::raise_range},
      {"ReduceL1", &OpsetMigration::raise_reduce},
      {"ReduceL2", &OpsetMigration::raise_reduce},
      {"ReduceLogSum", &OpsetMigration::raise_reduce},
      {"ReduceLogSumExp", &OpsetMigration::raise_reduce},
      {"ReduceMax", &OpsetMigration::raise_reduce},
      {"ReduceMean", &OpsetMigration::raise_reduce},
      {"ReduceMin", &OpsetMigration::raise_reduce},
      {"ReduceProd", &OpsetMigration::raise_reduce},
      {"ReduceSum", &OpsetMigration::raise_reduce_sum},
      {"ReduceSumSquare", &OpsetMigration::raise_reduce},
      {"Resize", &OpsetMigration::raise_resize},
      {"RoiAlign", &OpsetMigration::raise_roi_align},
      {"Scan", &OpsetMigration::raise_scan},
      {"Scatter", &OpsetMigration::raise_scatter},
      {"Slice", &OpsetMigration::raise_slice},
      {"Softmax", &OpsetMigration::raise_softmax},
      {"Split", &OpsetMigration::raise_split},
      {"Squeeze", &OpsetMigration::raise_squeeze},
      {"TopK", &OpsetMigration::raise_top_k},
      {"Unsqueeze", &OpsetMigration::raise_squeeze},
      {"Upsample", &OpsetMigration::raise_upsample},
  };
  return rules;
}

std::string OpsetMigration::plan(Node& node) {
  if (!node.domain().empty()) return {};
  const OperatorCatalog& catalog = onnx_catalog();
  const std::int64_t before = catalog.since_version("", node.op_type(), from_);
  const std::int64_t after = catalog.since_version("", node.op_type(), to_);
  if (before == after) return {};
  if (before == 0) return "it is no operator of opset " + std::to_string(from_);
  for (const Attribute& entry : node.attributes()) {
    if (!std::holds_alternative<AttributeRef>(entry.value)) continue;
    return "its attribute '" + entry.name + "' depends on the call of the function";
  }
  const std::size_t planned = edits_.size(), expanded = expansions_.size();
  std::string why;
  if (to_ < from_) {
    // Before these could be left out they could not be left blank either.
    if (!node.inputs().empty() && node.inputs().back() == nullptr) {
      later(node, [this, &node] { trim_inputs(node); });
    }
    why = after == 0 && !has_older_name(node) ? expand(node) : plan_rules(node, lowering());
  } else if (from_ < kOldestModernOpset) {
    why = plan_legacy(node);
  } else {
    why = plan_rules(node, raising());
  }
  if (!why.empty()) return why;
  if (expansions_.size() != expanded) return {};
  if (edits_.size() == planned) return take_compatible(node);
  checked_.push_back(&node);
  return {};
}

std::string OpsetMigration::plan_rules(Node& node, const std::vector<Rule>& rules) {
  for (const Rule& rule : rules) {
    if (rule.op_type == node.op_type()) return (this->*rule.handler)(node);
  }
  if (is_compatible(node)) return {};
  return "nothing is known about its change from " + version_text(onnx_catalog(), node, from_) +
         " to " + version_text(onnx_catalog(), node, to_);
}

std::string OpsetMigration::take_compatible(Node& node) {
  OperatorCatalog::Misfit misfit = onnx_catalog().misfit(node, from_, to_);
  if (!misfit.why.empty()) return misfit.why;
  if (misfit.at_default.empty()) return {};
  later(node, [this, &node, names = std::move(misfit.at_default)] {
    for (const std::string& name : names) context_.edit().remove_attribute(node, name);
  });
  return {};
}

std::string OpsetMigration::form_of(const Node& node) const {
  return "version " + std::to_string(onnx_catalog().since_version("", node.op_type(), from_)) +
         " to " +
         (onnx_catalog().since_version("", node.op_type(), to_) == 0
              ? "opset " + std::to_string(to_) + ", which does not have it"
              : version_text(onnx_catalog(), node, to_));
}

Result<std::size_t> OpsetMigration::apply() {
  for (auto& [node, edit] : edits_) edit();
  for (Node* node : checked_) {
    if (context_.edit().erased(*node)) continue;
    const OperatorCatalog::Misfit misfit = onnx_catalog().misfit(*node, from_, to_);
    if (!misfit.why.empty()) return cannot_move(*node, misfit.why);
    for (const std::string& name : misfit.at_default) context_.edit().remove_attribute(*node, name);
  }
  for (auto& [node, expansion] : expansions_) MCOMPRESS_TRY(write_out(*node, *expansion));
  for (Value* value : unread_) MCOMPRESS_TRY(erase_unused(context_, *value));
  return edits_.size() + expansions_.size();
}

Error OpsetMigration::cannot_move(const Node& node, const std::string& why) const {
  return Error(Code::kUnsupported, "operator-not-convertible",
               std::string(node.op_type()) + " can not move from " + form_of(node) + ": " + why,
               {{}, {}, node.label()});
}

std::string OpsetMigration::expand(Node& node) {
  if (node.is("Attention")) {
    if (std::string why = attention(node); !why.empty()) return why;
  }
  auto expansion = onnx_catalog().expansion(node, from_);
  if (expansion == nullptr) {
    return "opset " + std::to_string(to_) +
           " has no such operator, and it is not defined by others";
  }
  expansions_.emplace_back(&node, std::move(expansion));
  return {};
}

Status OpsetMigration::write_out(Node& node, const Model& expansion) {
  const Function& function = expansion.functions().front();
  const auto written = function.opsets.find("");
  const std::string label = node.label();
  const Error refusal = cannot_move(node, "");
  MCOMPRESS_ASSIGN(const std::vector<Node*> nodes, context_.edit().inline_call(node, function));
  if (written == function.opsets.end() || written->second == to_) return ok_status();
  OpsetMigration inner(context_, written->second, to_);
  for (Node* added : nodes) {
    std::string why;
    const auto plan = [&](Node& one) {
      if (why.empty()) why = inner.plan(one);
      if (!why.empty()) why = std::string(one.op_type()) + " in its definition: " + why;
    };
    for (Graph* body : added->bodies()) for_each_node(*body, plan);
    plan(*added);
    if (!why.empty()) {
      Error error = refusal;
      error.diagnostic.message += why;
      return error;
    }
  }
  auto applied = inner.apply();
  if (!applied.ok()) {
    Error error = refusal;
    error.diagnostic.message += applied.error().diagnostic.message;
    return error;
  }
  return ok_status();
}

void OpsetMigration::later(Node& node, std::function<void()> edit) {
  edits_.emplace_back(&node, std::move(edit));
}

Value& OpsetMigration::constant(Node& node, std::string_view name, Tensor tensor) {
  const Value* output = node.output(0);
  const std::string base =
      (output != nullptr ? std::string(output->name()) : node.label()) + "_" + std::string(name);
  Graph& graph = node.graph();
  if (graph.owner() != nullptr || &graph == &graph.model().graph()) {
    return add_constant(context_, graph, base, std::move(tensor));
  }
  // The body of a function has no initializers.
  NewNode made{"Constant", {}, 1, base, "", {}, {base}};
  made.attributes.push_back({"value", std::move(tensor)});
  return *context_.edit().insert_before(node, std::move(made)).output(0);
}

void OpsetMigration::add_input(Node& node, std::size_t slot, std::string_view name, Tensor tensor) {
  Value& value = constant(node, name, std::move(tensor));
  context_.edit().set_input(node, slot, &value);
}

void OpsetMigration::drop_input(Node& node, std::size_t slot) {
  if (Value* value = node.input(slot)) {
    context_.edit().set_input(node, slot, nullptr);
    unread_.push_back(value);
  }
  trim_inputs(node);
}

void OpsetMigration::trim_inputs(Node& node) {
  while (!node.inputs().empty() && node.inputs().back() == nullptr) {
    context_.edit().remove_trailing_input(node);
  }
}

void OpsetMigration::ints_to_input(Node& node, std::string_view attribute, std::size_t slot) {
  const auto list = node.ints_attribute(attribute);
  if (!list) return;
  context_.edit().remove_attribute(node, attribute);
  add_input(node, slot, attribute,
            make_int64_tensor(*list, {static_cast<std::int64_t>(list->size())}));
}

// What stands for a score that is masked out may be handed out, too.
std::string OpsetMigration::attention(Node& node) {
  if (!crosses(24) && !drops(24) && !drops(23)) return {};
  if (node.output(3) == nullptr || node.int_attribute("is_causal", 0) == 0) return {};
  return "it hands out masked scores, which need not be the same there";
}

std::string OpsetMigration::half_range(const Node& node) const {
  if (node.input(0) == nullptr) return {};
  const DataType type = element_type(*node.input(0));
  if (type != DataType::kFloat16 && type != DataType::kBfloat16) return {};
  return "Range 27 sums half floats more exactly";
}

}  // namespace mcompress
