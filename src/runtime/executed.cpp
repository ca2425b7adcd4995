#include "mcompress/executed.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include "ir/walk.h"
#include "mcompress/io.h"
#include "runtime/executed_model.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Kernels on integers whose names do not begin with QLinear.
constexpr std::array<std::string_view, 10> kIntegerKernels = {
    "QGemm",          "MatMulInteger",        "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
    "MatMulNBits",    "DynamicQuantizeLSTM",  "QAttention",           "QMoE",
    "QOrderedMatMul", "GatherBlockQuantized",
};

bool is_integer_kernel(std::string_view op_type) {
  return op_type.starts_with("QLinear") || std::find(kIntegerKernels.begin(), kIntegerKernels.end(),
                                                     op_type) != kIntegerKernels.end();
}

bool is_quantize(const Node& node) { return node.op_type() == "QuantizeLinear"; }
bool is_dequantize(const Node& node) { return node.op_type() == "DequantizeLinear"; }

const Node* dequantized_by(const Value* value) {
  if (value == nullptr || value->producer() == nullptr) return nullptr;
  return is_dequantize(*value->producer()) ? value->producer() : nullptr;
}

// A DequantizeLinear of something computed: an activation that was integers before.
bool is_activation(const Node* dequantize) {
  return dequantize != nullptr && dequantize->input(0) != nullptr &&
         dequantize->input(0)->initializer() == nullptr;
}

bool is_quantized(const Value* value) {
  return value != nullptr &&
         std::any_of(value->uses().begin(), value->uses().end(),
                     [](const Use& use) { return use.node != nullptr && is_quantize(*use.node); });
}

bool same_scale(const Node& dequantize, const Value& output) {
  for (const Use& use : output.uses()) {
    if (use.node == nullptr || !is_quantize(*use.node)) continue;
    const Tensor* in = dequantize.input(1)->constant();
    const Tensor* out = use.node->input(1)->constant();
    if (in == nullptr || out == nullptr) return false;
    const auto before = read_floats(*in), after = read_floats(*out);
    return before.ok() && after.ok() && *before == *after;
  }
  return false;
}

// Stands between Q/DQ in the form in which the target runs it in integers.
bool is_planned(const Node& node, const Target& target) {
  using Kind = OperatorRule::Kind;
  if (node.is("MatMulInteger") || node.op_type() == "DynamicQuantizeLSTM") return true;
  const OperatorRule* rule = node.domain().empty() ? target.find(node.op_type()) : nullptr;
  const Node* first = dequantized_by(node.input(0));
  if (rule == nullptr || !rule->quantizes()) return false;
  if (rule->kind == Kind::kWeighted) {
    return is_activation(first) && dequantized_by(node.input(1)) != nullptr;
  }
  if (!is_quantized(node.output(0))) return false;
  if (rule->kind == Kind::kBinary) {
    return std::all_of(node.inputs().begin(), node.inputs().end(),
                       [](const Value* input) { return is_activation(dequantized_by(input)); });
  }
  if (!is_activation(first)) return false;
  return rule->kind != Kind::kSameScale || same_scale(*first, *node.output(0));
}

std::string kernel_name(const Node& node) {
  return node.domain().empty() ? std::string(node.op_type())
                               : std::string(node.domain()) + ":" + std::string(node.op_type());
}

// The names that the runtime may give to what it makes of a node: its own, or with a suffix of its
// layout optimiser.
std::string_view plain_name(std::string_view name) {
  const std::size_t token = name.find("_token_");
  return token == std::string_view::npos ? name : name.substr(0, token);
}

class ExecutedGraph {
 public:
  explicit ExecutedGraph(const Model& model) {
    // Reading only: the walk has no form for constant graphs.
    for_each_node(const_cast<Model&>(model).graph(), [this](Node& node) {
      if (!node.name().empty()) by_name_[std::string(plain_name(node.name()))].push_back(&node);
      for (const Value* output : node.outputs()) {
        if (output != nullptr) by_output_.emplace(output->name(), &node);
      }
      if (is_quantize(node)) ++quantizes;
      if (is_dequantize(node)) ++dequantizes;
      if (is_integer_kernel(node.op_type())) ++kernels[kernel_name(node)];
    });
  }

  // Null: it is gone.
  const Node* find(const Node& planned) const {
    if (!planned.name().empty()) {
      const auto named = by_name_.find(planned.name());
      // Layout optimisers put moves of the same name around a node; one of the node's own type, or
      // an integer kernel, is the node.
      if (named != by_name_.end()) {
        for (const Node* node : named->second) {
          if (is_integer_kernel(node->op_type()) || node->op_type() == planned.op_type()) {
            return node;
          }
        }
        for (const Node* node : named->second) {
          if (!is_quantize(*node) && !is_dequantize(*node)) return node;
        }
      }
    }
    for (const Value* output : planned.outputs()) {
      if (output == nullptr) continue;
      const auto made = by_output_.find(output->name());
      if (made != by_output_.end()) return made->second;
    }
    return nullptr;
  }

  std::map<std::string, std::int64_t> kernels;
  std::int64_t quantizes = 0, dequantizes = 0;

 private:
  std::map<std::string, std::vector<const Node*>, std::less<>> by_name_;
  std::map<std::string, const Node*, std::less<>> by_output_;
};

std::int64_t dequantized_inputs(const Node& node) {
  return std::count_if(node.inputs().begin(), node.inputs().end(),
                       [](const Value* input) { return dequantized_by(input) != nullptr; });
}

}  // namespace

Result<ExecutedModel> executed_model(Runtime& runtime, const Model& model, SessionOptions options) {
  ExecutedModel executed;
  MCOMPRESS_ASSIGN(executed.folder, ScratchFolder::make());
  options.optimised_model_path = executed.folder->path() / "executed.onnx";
  options.prepack = false;  // happens after the graph is written: time for nothing
  options.profile = false;
  Result<std::unique_ptr<Session>> session = runtime.open(model, options);
  if (!session.ok()) return std::move(session).error();
  Diagnostics ignored;
  MCOMPRESS_ASSIGN(executed.model, load_model(options.optimised_model_path, {}, ignored));
  return executed;
}

IntegerKernels compare_with_executed(const Model& written, const Model& executed,
                                     const Target& target) {
  const ExecutedGraph graph(executed);
  IntegerKernels result;
  result.quantizes = graph.quantizes;
  result.dequantizes = graph.dequantizes;
  result.kernels.assign(graph.kernels.begin(), graph.kernels.end());
  for_each_node(const_cast<Model&>(written).graph(), [&](Node& node) {
    if (!is_planned(node, target)) return;
    ++result.planned;
    const Node* runs = graph.find(node);
    if (runs == nullptr || is_integer_kernel(runs->op_type())) {
      ++result.integer;
      return;
    }
    const std::int64_t dequantized = dequantized_inputs(*runs);
    if (dequantized == 0) {  // moves codes, as MaxPool or Reshape do
      ++result.integer;
      return;
    }
    result.stayed_float.push_back({node.label(), std::string(node.op_type()), kernel_name(*runs),
                                   "its Q/DQ pairs were not fused: " + std::to_string(dequantized) +
                                       " of its " + std::to_string(runs->inputs().size()) +
                                       " inputs are dequantized on every run"});
  });
  return result;
}

Result<IntegerKernels> count_integer_kernels(Runtime& runtime, const Model& written,
                                             const Target& target) {
  bool any = false;
  for_each_node(const_cast<Model&>(written).graph(),
                [&](const Node& node) { any = any || is_planned(node, target); });
  if (!any) return IntegerKernels{};
  auto executed = executed_model(runtime, written, {});
  if (!executed.ok()) {
    // Failing disks are no matter of what the runtime wrote.
    if (executed.error().diagnostic.id != "not-an-onnx-model") return std::move(executed).error();
    return Error(Code::kUnsupported, "no-executed-graph",
                 "the runtime's own graph can not be read: " + executed.error().diagnostic.message);
  }
  return compare_with_executed(written, *executed->model, target);
}

}  // namespace mcompress
