// quantize-dynamic: int8 weights, activations quantized on the fly, for matrix products and LSTMs.
//
//   x ── MatMul(W) ── y     becomes
//   x ── DynamicQuantizeLinear ── MatMulInteger(Wq) ── Cast ── Mul(scale(x) * scale(W)) ── y
//
// ONNX Runtime fuses the chain to DynamicQuantizeMatMul (and, where several products share x, to
// one DynamicQuantizeLinear with MatMulIntegerToFloat). LSTMs become DynamicQuantizeLSTM where the
// target has it (common/dynamic_lstm.h), in nested graphs too. Needs no data. What the target has
// no such form for keeps float activations, with the target's reason; quantize-weights stores its
// weights in int8.
#include <algorithm>
#include <map>
#include <optional>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/integer/dynamic_lstm.h"
#include "passes/common/integer/layer_restoring.h"
#include "passes/common/rewrite.h"
#include "passes/common/selection.h"
#include "passes/common/target_rules.h"
#include "passes/common/weights.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

// What a product of `rows` x [length, columns] costs on an x86-64 CPU, one thread, in nanoseconds:
// fitted to ONNX Runtime with VNNI (64 to 2048 rows and columns, 1 to 128 rows), with half the
// speed for integers, which is what AVX2 has. Used to compare, not to predict.
constexpr double kFloatMacs = 45, kFloatWeight = 0.06;  // per ns; ns to read one weight
constexpr double kIntegerMacs = 90, kIntegerWeight = 0.02;
constexpr double kDynamicOverhead = 2500, kDynamicElement = 0.35;

double float_cost(double rows, double length, double columns) {
  return std::max(rows * length * columns / kFloatMacs, length * columns * kFloatWeight);
}

double dynamic_cost(double rows, double length, double columns) {
  return kDynamicOverhead + kDynamicElement * rows * length +
         std::max(rows * length * columns / kIntegerMacs, length * columns * kIntegerWeight);
}

// Rows of the left operand; 1 where they are open: what pays for one row pays for more.
double rows_of(const Value& value) {
  if (value.type() == nullptr || !value.type()->shape) return 1;
  double rows = 1;
  const auto& shape = *value.type()->shape;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) {
    rows *= static_cast<double>(shape[i].size.value_or(1));
  }
  return std::max(rows, 1.0);
}

class QuantizeDynamic final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::int64_t min_elements = 0;
    double min_sqnr = 0;
    double max_drop = 100;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("min-elements", &Options::min_elements,
                   "products with smaller weights stay float32; 0: those for which quantizing the "
                   "activations costs more than the integer kernel saves, by the target's cost "
                   "model")
            .range(0, 1e12)
            .unit("elements")
            .field("min-sqnr", &Options::min_sqnr,
                   "the worst layers go back to float32 until the model's outputs reach this "
                   "signal to noise ratio; exit status 5 where they never do; 0: not asked for")
            .range(0, 200)
            .unit("dB")
            .field("max-drop", &Options::max_drop,
                   "layers go back to float32 until the metric of --eval, or agreement, drops by "
                   "no more (a perplexity: rises by no more percent; exit status 5: never); 100: "
                   "off")
            .range(0, 100)
            .unit("points");
    return kSchema;
  }
  explicit QuantizeDynamic(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    const Selection selection(options_.include, options_.exclude);
    MCOMPRESS_TRY(restore(model, context));
    for (Node* node : model.graph().nodes()) {
      if (context.edit().erased(*node)) continue;
      if (!node->is("MatMul") && !node->is("Gemm")) continue;
      Value* weight = node->input(1);
      if (weight == nullptr || weight->initializer() == nullptr) {
        explain_no_weight(*node, context);
        continue;
      }
      MCOMPRESS_ASSIGN(std::string why, why_not(*node, *weight, selection, context.target()));
      if (!why.empty()) {
        skip(*node, *weight, std::move(why), context);
        continue;
      }
      MCOMPRESS_TRY(apply(*node, *weight, context));
    }
    MCOMPRESS_TRY(quantize_recurrent(model, selection, context));
    explain_nested(model.graph(), context);
    return ok_status();
  }

 private:
  Status restore(const Model& model, PassContext& context) {
    const PrecisionGoal goal{options_.min_sqnr, options_.max_drop};
    if (goal.min_sqnr <= 0 && goal.max_drop >= 100) return ok_status();
    Options plain = options_;
    plain.min_sqnr = 0;
    plain.max_drop = 100;
    const RecipeStep step{"quantize-dynamic", schema().print(plain)};
    MCOMPRESS_ASSIGN(std::vector<std::string> patterns,
                     layers_to_restore(model, step, goal, context));
    restored_.emplace(std::vector<std::string>{}, std::move(patterns));
    return ok_status();
  }
  std::string why_restored(const Node& node, const Value* weight) const {
    if (!restored_ || restored_->why_not(node, weight).empty()) return {};
    return "was restored to float32 for accuracy";
  }

  // Attention multiplies two activations, neither of which is there to be quantized before.
  static void explain_no_weight(const Node& node, PassContext& context) {
    const Value* left = node.input(0);
    context.explain().skipped(node, left != nullptr && left->initializer() != nullptr
                                        ? "has its weight on the left"
                                        : "multiplies two activations");
  }

  static void skip(const Node& node, const Value& weight, std::string why, PassContext& context) {
    Decision decision;
    decision.subject = weight.name();
    decision.op_type = node.op_type();
    decision.why = std::move(why);
    decision.bytes_before = decision.bytes_after = weight.initializer()->byte_size();
    context.explain().skipped(std::move(decision));
  }

  // Why the target has no such form for the node; empty: it has one.
  static std::string why_not_there(const Node& node, const Target& target) {
    const DynamicRule* rule = target.find_dynamic(node.op_type());
    if (rule == nullptr) {
      return "is not run with activations quantized on the fly by " + target.name +
             " (no dynamic rule)";
    }
    if (rule->form == "none") {
      return rule->why + " (" + rule_name(target, "dynamic " + rule->op_type) + ")";
    }
    const std::int64_t opset = node.graph().model().opset("");
    if (opset < rule->since) {
      return "needs opset " + std::to_string(rule->since) + ", the model has " +
             std::to_string(opset);
    }
    return {};
  }
  static std::string why_excepted_there(const Node& node, const Target& target) {
    return why_excepted(target, target.find_dynamic(node.op_type())->cases, node);
  }

  // LSTM, GRU and RNN, wherever they are: each is a node of its own.
  Status quantize_recurrent(Model& model, const Selection& selection, PassContext& context) {
    std::vector<Node*> recurrent;
    for_each_node(model.graph(), [&](Node& node) {
      if (node.is("LSTM") || node.is("GRU") || node.is("RNN")) recurrent.push_back(&node);
    });
    for (Node* node : recurrent) {
      const Value* weight = node->input(1);
      if (weight == nullptr || weight->initializer() == nullptr) continue;
      std::string why = why_not_there(*node, context.target());
      if (why.empty()) why = why_not_dynamic_lstm(*node);
      if (why.empty()) why = why_restored(*node, node->input(1));
      if (why.empty()) why = why_excepted_there(*node, context.target());
      for (const std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
        if (why.empty()) why = selection.why_not(*node, node->input(slot));
        if (!why.empty()) break;
        MCOMPRESS_ASSIGN(const bool finite, is_finite(*node->input(slot)->constant()));
        if (!finite) why = "holds NaN or infinity, which integers have not";
      }
      if (why.empty()) {
        const DynamicRule& rule = *context.target().find_dynamic(node->op_type());
        MCOMPRESS_TRY(make_dynamic_lstm(*node, rule.per_channel, context));
        continue;
      }
      for (const std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
        const Value* given = node->input(slot);
        if (given != nullptr && given->initializer() != nullptr) skip(*node, *given, why, context);
      }
    }
    return ok_status();
  }

  // Products in bodies are left alone: most run once per element or not at all.
  void explain_nested(Graph& top, PassContext& context) const {
    constexpr std::int64_t kWorthAWord = 8192;
    for_each_node(top, [&](Node& node) {
      if (&node.graph() == &top || (!node.is("MatMul") && !node.is("Gemm"))) return;
      const Value* weight = node.input(1);
      if (weight == nullptr || weight->initializer() == nullptr) return;
      const std::int64_t least = options_.min_elements > 0 ? options_.min_elements : kWorthAWord;
      if (weight->initializer()->elements() < least) return;
      skip(node, *weight, "is multiplied inside a nested graph, where activations stay float32",
           context);
    });
  }

  struct Dynamic {
    Value* codes;
    Value* scale;
    Value* zero_point;
  };

  Result<std::string> why_not(const Node& node, const Value& weight, const Selection& selection,
                              const Target& target) const {
    std::string why = why_not_product(node, weight, target);
    if (why.empty()) why = why_not_there(node, target);
    if (why.empty()) why = why_excepted_there(node, target);
    if (why.empty()) why = selection.why_not(node, &weight);
    if (why.empty()) why = why_restored(node, &weight);
    if (why.empty()) {
      MCOMPRESS_ASSIGN(const bool finite, is_finite(*weight.constant()));
      if (!finite) why = "holds NaN or infinity, which integers have not";
    }
    return why;
  }

  std::string why_not_product(const Node& node, const Value& weight, const Target& target) const {
    if (weight.constant() == nullptr) return "a caller may override its weight";
    const Tensor& tensor = *weight.constant();
    if (tensor.dtype() != DataType::kFloat) return "its weight is not float32";
    if (tensor.dims().size() != 2) return "has a batched weight";
    if (node.input(0) == nullptr || node.input(0)->initializer() != nullptr) {
      return "multiplies two constants";
    }
    if (std::string why = why_not_large_enough(node, tensor, target); !why.empty()) return why;
    if (node.is("Gemm") &&
        (node.int_attribute("transA", 0) != 0 || node.float_attribute("alpha", 1) != 1 ||
         (node.input(2) != nullptr && node.float_attribute("beta", 1) != 1))) {
      return "uses transA, alpha or beta";
    }
    return {};
  }

  std::string why_not_large_enough(const Node& node, const Tensor& weight,
                                   const Target& target) const {
    const std::string size = "has " + std::to_string(weight.elements()) + " weights, ";
    if (options_.min_elements > 0) {
      if (weight.elements() >= options_.min_elements) return {};
      return size + "below " + std::to_string(options_.min_elements);
    }
    if (weight.elements() < target.min_weight_elements) {
      return size + "below " + std::to_string(target.min_weight_elements) + " (" +
             rule_name(target, "min-weight-elements") + ")";
    }
    if (!target.cost_model) return {};
    const bool transposed = node.is("Gemm") && node.int_attribute("transB", 0) != 0;
    const auto columns = static_cast<double>(weight.dims()[transposed ? 0 : 1]);
    const double length = static_cast<double>(weight.elements()) / std::max(columns, 1.0);
    const double rows = rows_of(*node.input(0));
    if (dynamic_cost(rows, length, columns) < float_cost(rows, length, columns)) return {};
    return size + "too few to pay for quantizing its activations on every run, at " +
           std::to_string(static_cast<std::int64_t>(rows)) + (rows == 1 ? " row" : " rows");
  }

  Status apply(Node& node, Value& weight, PassContext& context) {
    Editor& edit = context.edit();
    const Tensor tensor = *weight.constant();
    const WeightView view = *weight_view(node, 1, tensor.dims());
    WeightRounding rounding;
    rounding.saturation_free = context.target().saturation_free_weights;
    MCOMPRESS_ASSIGN(QuantizedWeight quantized,
                     quantize_weight(tensor, view, rounding, false, {}, 1, {}, context.tensors(),
                                     context.executor()));
    Tensor codes_tensor = quantized.codes;
    if (node.int_attribute("transB", 0) != 0 && node.is("Gemm")) {
      MCOMPRESS_ASSIGN(codes_tensor, transposed_codes(quantized.codes, context.tensors()));
    }
    Graph& graph = node.graph();
    const std::string base(weight.name());
    modernise_initializers(graph.model(), context);
    Value& codes = edit.add_initializer(graph, base + "_quantized", std::move(codes_tensor));
    Value& scale = edit.add_initializer(graph, base + "_scale",
                                        make_float_tensor(quantized.scales, {view.channels}));
    Value& zero = edit.add_initializer(
        graph, base + "_zero_point",
        make_bytes_tensor(DataType::kInt8, {view.channels},
                          std::vector<std::byte>(static_cast<std::size_t>(view.channels))));

    const Dynamic input = dynamic_input(*node.input(0), node, edit);
    Node& product =
        edit.insert_before(node, {.op_type = "MatMulInteger",
                                  .inputs = {input.codes, &codes, input.zero_point, &zero},
                                  .base_name = std::string(node.name()) + "_integer"});
    Node& cast = edit.insert_before(
        node, {.op_type = "Cast", .inputs = {product.output(0)}, .base_name = base + "_cast"});
    edit.set_attribute(cast, attribute("to", std::int64_t{1}));
    Node& scales = edit.insert_before(
        node,
        {.op_type = "Mul", .inputs = {input.scale, &scale}, .base_name = base + "_output_scale"});
    Value* result = edit.insert_before(node, {.op_type = "Mul",
                                              .inputs = {cast.output(0), scales.output(0)},
                                              .base_name = base + "_output"})
                        .output(0);
    if (Value* bias = node.is("Gemm") ? node.input(2) : nullptr) {
      result =
          edit.insert_before(
                  node, {.op_type = "Add", .inputs = {result, bias}, .base_name = base + "_biased"})
              .output(0);
    }
    MCOMPRESS_TRY(edit.replace_all(*node.output(0), *result));

    Decision decision;
    decision.subject = base;
    decision.op_type = node.op_type();
    decision.what = "int8 weights, per channel; activations quantized on every run";
    decision.bytes_before = tensor.byte_size();
    decision.bytes_after =
        quantized.codes.byte_size() + 5 * static_cast<std::uint64_t>(view.channels);
    decision.sqnr_db = quantized.sqnr_db;
    context.explain().chose(std::move(decision));
    MCOMPRESS_TRY(edit.erase(node));
    if (weight.uses().empty()) MCOMPRESS_TRY(edit.erase_initializer(weight));
    return ok_status();
  }

  // One DynamicQuantizeLinear for all products that read the value.
  Dynamic dynamic_input(Value& value, Node& before, Editor& edit) {
    const auto found = dynamic_.find(value.id());
    if (found != dynamic_.end()) return found->second;
    const std::string base(value.name());
    Node& node = edit.insert_before(
        before, {.op_type = "DynamicQuantizeLinear",
                 .inputs = {&value},
                 .outputs = 3,
                 .base_name = base + "_quantize",
                 .output_names = {base + "_quantized", base + "_scale", base + "_zero_point"}});
    const Dynamic made{node.output(0), node.output(1), node.output(2)};
    dynamic_.emplace(value.id(), made);
    return made;
  }

  Options options_;
  std::optional<Selection> restored_;  // excludes layers for accuracy
  std::map<std::uint32_t, Dynamic> dynamic_;
};

}  // namespace

PassInfo quantize_dynamic_info() {
  PassInfo info = pass_info<QuantizeDynamic>(
      "quantize-dynamic",
      "run matrix products and LSTMs in integers, activations quantized on every run",
      Reach::kNestedGraphs, true, {"lift-constants", "raise-opset", "fuse-batchnorm"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
