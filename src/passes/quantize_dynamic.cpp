// quantize-dynamic: int8 weights, activations quantized on the fly, for matrix products.
//
//   x ── MatMul(W) ── y     becomes
//   x ── DynamicQuantizeLinear ── MatMulInteger(Wq) ── Cast ── Mul(scale(x) * scale(W)) ── y
//
// ONNX Runtime fuses the chain to DynamicQuantizeMatMul (and, where several products share x, to
// one DynamicQuantizeLinear with MatMulIntegerToFloat). Needs no data. Convolutions keep float
// activations: ConvInteger is several times slower than the float kernel; quantize-weights stores
// their weights in int8.
#include <map>

#include "ir/walk.h"
#include "passes/common/rewrite.h"
#include "passes/common/selection.h"
#include "passes/common/weights.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

class QuantizeDynamic final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::int64_t min_elements = 8192;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        Schema<Options>()
            .field("include", &Options::include,
                   "only nodes whose name, type or tensor matches one of these globs")
            .field("exclude", &Options::exclude,
                   "not the nodes whose name, type or tensor matches one of these globs")
            .field("min-elements", &Options::min_elements,
                   "products with smaller weights stay float32: quantizing their activations costs "
                   "more than the integer kernel saves")
            .range(1, 1e12)
            .unit("elements");
    return kSchema;
  }
  explicit QuantizeDynamic(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    constexpr std::int64_t kOpset = 11;  // DynamicQuantizeLinear
    const Selection selection(options_.include, options_.exclude);
    for (Node* node : model.graph().nodes()) {
      if (context.edit().erased(*node)) continue;
      if (!node->is("MatMul") && !node->is("Gemm")) continue;
      Value* weight = node->input(1);
      if (weight == nullptr || weight->initializer() == nullptr) continue;
      std::string why = why_not(*node, *weight);
      if (why.empty() && model.opset("") < kOpset) {
        why = "needs opset 11, the model has " + std::to_string(model.opset(""));
      }
      if (why.empty()) why = selection.why_not(*node, weight);
      if (why.empty()) {
        MCOMPRESS_ASSIGN(const bool finite, is_finite(*weight->constant()));
        if (!finite) why = "holds NaN or infinity, which integers have not";
      }
      if (!why.empty()) {
        Decision decision;
        decision.subject = weight->name();
        decision.op_type = node->op_type();
        decision.why = std::move(why);
        decision.bytes_before = decision.bytes_after = weight->initializer()->byte_size();
        context.explain().skipped(std::move(decision));
        continue;
      }
      MCOMPRESS_TRY(apply(*node, *weight, context));
    }
    explain_nested(model.graph(), context);
    return ok_status();
  }

 private:
  // Bodies are left alone: most run once per element or not at all.
  void explain_nested(Graph& top, PassContext& context) const {
    for_each_node(top, [&](Node& node) {
      if (&node.graph() == &top || (!node.is("MatMul") && !node.is("Gemm"))) return;
      const Value* weight = node.input(1);
      if (weight == nullptr || weight->initializer() == nullptr) return;
      if (weight->initializer()->elements() < options_.min_elements) return;
      Decision decision;
      decision.subject = weight->name();
      decision.op_type = node.op_type();
      decision.why = "is multiplied inside a nested graph, where activations stay float32";
      decision.bytes_before = decision.bytes_after = weight->initializer()->byte_size();
      context.explain().skipped(std::move(decision));
    });
  }

  struct Dynamic {
    Value* codes;
    Value* scale;
    Value* zero_point;
  };

  std::string why_not(const Node& node, const Value& weight) const {
    if (weight.constant() == nullptr) return "a caller may override its weight";
    const Tensor& tensor = *weight.constant();
    if (tensor.dtype() != DataType::kFloat) return "its weight is not float32";
    if (tensor.dims().size() != 2) return "has a batched weight";
    if (node.input(0) == nullptr || node.input(0)->initializer() != nullptr) {
      return "multiplies two constants";
    }
    if (tensor.elements() < options_.min_elements) {
      return "has " + std::to_string(tensor.elements()) +
             " weights, too few to pay for quantizing "
             "its activations on every run";
    }
    if (node.is("Gemm") &&
        (node.int_attribute("transA", 0) != 0 || node.float_attribute("alpha", 1) != 1 ||
         (node.input(2) != nullptr && node.float_attribute("beta", 1) != 1))) {
      return "uses transA, alpha or beta";
    }
    return {};
  }

  Result<Tensor> transposed(const Tensor& codes, TensorFactory& tensors) const {
    MCOMPRESS_ASSIGN(const Pinned pinned, codes.storage()->pin(0, codes.byte_size()));
    const std::int64_t rows = codes.dims()[0];
    const std::int64_t columns = codes.dims()[1];
    const std::span<const std::byte> bytes = pinned.bytes();
    return tensors.make(codes.dtype(), {columns, rows},
                        [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                          for (std::size_t i = 0; i < out.size(); ++i) {
                            const auto at = static_cast<std::int64_t>(offset + i);
                            out[i] =
                                bytes[static_cast<std::size_t>(at % rows * columns + at / rows)];
                          }
                          return ok_status();
                        });
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
      MCOMPRESS_ASSIGN(codes_tensor, transposed(quantized.codes, context.tensors()));
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
  std::map<std::uint32_t, Dynamic> dynamic_;
};

}  // namespace

PassInfo quantize_dynamic_info() {
  PassInfo info = pass_info<QuantizeDynamic>(
      "quantize-dynamic", "run matrix products in integers, activations quantized on every run",
      Reach::kTopGraph, true, {"lift-constants", "raise-opset", "fuse-batchnorm"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
