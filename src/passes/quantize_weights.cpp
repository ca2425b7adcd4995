// quantize-weights: int8 weights, float arithmetic.
//
//   W (float32) ── Conv        becomes   Wq (int8) ── Cast ── Mul(scale) ── Conv
//
// A runtime that folds constants computes Cast and Mul once, when it loads the model, and then
// runs the very kernels it ran before; a weight-only DequantizeLinear would run on every call and
// keep Conv from its blocked layout (ONNX Runtime 1.30). Targets that do not fold get
// DequantizeLinear. Works in nested graphs, where most weights of control-flow models live.
//
//   T ── Gather(rows)         becomes   Tq ── Gather(rows) ── Cast ── Mul(scale ── Gather(rows))
//
// for large embedding tables, where the target says so: the table stays in int8 at run time, and
// only the rows that are looked up are computed back.
#include <algorithm>
#include <map>
#include <optional>

#include "ir/facts.h"
#include "passes/common/blocks/byte_weights.h"
#include "passes/common/constants.h"
#include "passes/common/integer/mixed_precision.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "passes/common/selection.h"
#include "passes/common/target_rules.h"
#include "passes/common/weights.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Tables from this many elements on are looked up in int8: below, three more nodes per lookup cost
// more than the 3/4 of its memory that a folded table takes.
constexpr std::int64_t kLookupElements = std::int64_t{1} << 18;

class QuantizeWeights final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::int64_t min_elements = 256;
    std::string scheme = "auto";
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("min-elements", &Options::min_elements,
                   "smaller tensors stay float32: they save less than the nodes around them cost")
            .range(1, 1e12)
            .unit("elements")
            .field("scheme", &Options::scheme,
                   "symmetric int8, or affine uint8 with an exact zero; auto takes the one with "
                   "the better SQNR per tensor")
            .choices({"auto", "symmetric", "affine"});
    return kSchema;
  }
  explicit QuantizeWeights(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    const Selection selection(options_.include, options_.exclude);
    const PrecisionServices* services = precision_services(context);
    whole_.emplace(std::vector<std::string>{}, services != nullptr && services->whole != nullptr
                                                   ? *services->whole
                                                   : std::vector<std::string>{});
    for (Value* value : constants_of(model.graph())) {
      MCOMPRESS_TRY(consider(*value, selection, context));
    }
    return ok_status();
  }

 private:
  struct Candidate {
    WeightView layout;
    const Node* user = nullptr;
  };

  Status consider(Value& value, const Selection& selection, PassContext& context) {
    const Tensor tensor = value.is_initializer() ? *value.initializer() : *constant_of(&value);
    // Biases, scales and other vectors are no weights; nothing needs to be said of them.
    if (tensor.dtype() != DataType::kFloat || tensor.dims().size() < 2) return ok_status();
    if (tensor.elements() < options_.min_elements) {
      if (tensor.elements() > 16) {
        explain_kept(context, value, tensor, nullptr,
                     "has " + std::to_string(tensor.elements()) + " elements, below " +
                         std::to_string(options_.min_elements));
      }
      return ok_status();
    }
    if (value.is_initializer() && value.constant() == nullptr) {
      explain_kept(context, value, tensor, nullptr, "a caller of the model may override it");
      return ok_status();
    }
    if (value.uses().empty() || belongs_to_integers(value) || restores_constants(value)) {
      return ok_status();
    }
    if (std::string why = why_no_broadcast(value.graph().model()); !why.empty()) {
      explain_kept(context, value, tensor, nullptr, std::move(why));
      return ok_status();
    }
    Candidate candidate;
    for (const Use& use : value.uses()) {
      if (use.node == nullptr) {
        explain_kept(context, value, tensor, nullptr, "is an output of the graph");
        return ok_status();
      }
      const auto layout = weight_view(*use.node, use.slot, tensor.dims());
      if (!layout) {
        explain_kept(context, value, tensor, use.node,
                     "is not a weight of " + std::string(use.node->op_type()) + " '" +
                         use.node->label() + "'");
        return ok_status();
      }
      if (std::string why = selection.why_not(*use.node, &value); !why.empty()) {
        explain_kept(context, value, tensor, use.node, std::move(why));
        return ok_status();
      }
      if (!whole_->why_not(*use.node, &value).empty()) {
        explain_kept(
            context, value, tensor, use.node,
            "its layer was restored to float32 for accuracy, and integer weights would lose that");
        return ok_status();
      }
      // Users that see other channels still read the same numbers: the first one decides.
      if (candidate.user == nullptr) candidate = {*layout, use.node};
    }
    const auto channels = static_cast<std::uint64_t>(candidate.layout.channels);
    const auto elements = static_cast<std::uint64_t>(tensor.elements());
    if (byte_weight_bytes(elements, channels) >= tensor.byte_size()) {
      explain_kept(context, value, tensor, candidate.user,
                   "would not get smaller: " + std::to_string(channels) + " channels of " +
                       std::to_string(candidate.layout.length()) + " weights");
      return ok_status();
    }
    if (std::string why = why_not_stored(
            context.target(), options_.scheme == "affine" ? DataType::kUint8 : DataType::kInt8);
        !why.empty()) {
      explain_kept(context, value, tensor, candidate.user, std::move(why));
      return ok_status();
    }
    const bool table = is_table(value);
    if (table && context.target().weight_only.embeddings == WeightOnlyRule::Form::kNone) {
      explain_kept(context, value, tensor, candidate.user,
                   "is an embedding table, which is not taken in integers (" +
                       rule_name(context.target(), "weight-only/embeddings") + ")");
      return ok_status();
    }
    MCOMPRESS_ASSIGN(const bool finite, is_finite(tensor));
    if (!finite) {
      explain_kept(context, value, tensor, candidate.user,
                   "holds NaN or infinity, which integers have not");
      return ok_status();
    }
    if (value.producer() != nullptr) context.edit().replace_by_constant(*value.producer(), tensor);
    if (table && options_.scheme != "affine" && tensor.elements() >= kLookupElements &&
        context.target().weight_only.embeddings == WeightOnlyRule::Form::kLookup) {
      return look_up(value, candidate, context);
    }
    return apply(value, candidate, context);
  }

  // Scales, biases and peepholes of an LSTM that has integer weights already.
  static bool belongs_to_integers(const Value& value) {
    constexpr std::uint32_t kBehindWeights = 3;
    return std::all_of(value.uses().begin(), value.uses().end(), [](const Use& use) {
      return use.node != nullptr && use.node->op_type() == "DynamicQuantizeLSTM" &&
             use.slot >= kBehindWeights;
    });
  }

  // A table in which weights of few bits are looked up once, when the model is loaded: a part of
  // how they are stored.
  static bool restores_constants(const Value& value) {
    return std::all_of(value.uses().begin(), value.uses().end(), [](const Use& use) {
      return use.node != nullptr && use.node->is("Gather") && use.slot == 0 &&
             is_computed_at_load(use.node->input(1), 4);
    });
  }
  static bool is_computed_at_load(const Value* value, int depth) {
    if (is_constant(value)) return true;
    const Node* maker = value != nullptr ? value->producer() : nullptr;
    if (maker == nullptr || depth == 0 || !maker->domain().empty()) return false;
    return std::all_of(maker->inputs().begin(), maker->inputs().end(), [&](const Value* input) {
      return input == nullptr || is_computed_at_load(input, depth - 1);
    });
  }

  // Read by nothing but Gather along its rows.
  static bool is_table(const Value& value) {
    return std::all_of(value.uses().begin(), value.uses().end(), [](const Use& use) {
      return use.node != nullptr && use.node->is("Gather") && use.slot == 0 &&
             use.node->int_attribute("axis", 0) == 0;
    });
  }

  // Rows of codes and of scales are gathered by the same indices.
  Status look_up(Value& value, const Candidate& candidate, PassContext& context) {
    const Tensor tensor = *value.constant();
    MCOMPRESS_ASSIGN(const QuantizedWeight rounded,
                     quantize_weight(tensor, candidate.layout, {}, false, {}, 1, {},
                                     context.tensors(), context.executor()));
    const std::string base(value.name());
    Graph& graph = value.graph();
    Editor& edit = context.edit();
    modernise_initializers(graph.model(), context);
    Value& codes = edit.add_initializer(graph, base + "_quantized", rounded.codes);
    Value& scale = edit.add_initializer(
        graph, base + "_scale", make_float_tensor(rounded.scales, candidate.layout.scale_dims));
    const std::vector<Use> uses(value.uses().begin(), value.uses().end());
    for (const Use& use : uses) {
      Node& gather = *use.node;
      Value* rows = edit.insert_before(gather, {.op_type = "Gather",
                                                .inputs = {&codes, gather.input(1)},
                                                .base_name = base + "_rows"})
                        .output(0);
      Node& cast = edit.insert_before(
          gather, {.op_type = "Cast", .inputs = {rows}, .base_name = base + "_cast"});
      edit.set_attribute(cast, attribute("to", std::int64_t{1}));
      Value* scales = edit.insert_before(gather, {.op_type = "Gather",
                                                  .inputs = {&scale, gather.input(1)},
                                                  .base_name = base + "_row_scales"})
                          .output(0);
      Value* real = edit.insert_before(gather, {.op_type = "Mul",
                                                .inputs = {cast.output(0), scales},
                                                .base_name = base + "_dequantized"})
                        .output(0);
      MCOMPRESS_TRY(edit.replace_all(*gather.output(0), *real));
      MCOMPRESS_TRY(edit.erase(gather));
    }
    Decision decision;
    decision.subject = base;
    decision.op_type = "Gather";
    decision.what = "int8 rows, a scale per row";
    decision.why = "stays int8 at run time: the rows that are looked up are computed back";
    decision.bytes_before = tensor.byte_size();
    decision.bytes_after = rounded.codes.byte_size() + 4 * rounded.scales.size();
    decision.sqnr_db = rounded.sqnr_db;
    context.explain().chose(std::move(decision));
    return edit.erase_initializer(value);
  }

  Status apply(Value& value, const Candidate& candidate, PassContext& context) {
    const Tensor tensor = *value.constant();
    const WeightView& layout = candidate.layout;
    WeightRounding rounding;
    QuantizedWeight chosen;
    bool affine = options_.scheme == "affine";
    MCOMPRESS_ASSIGN(chosen, quantize_weight(tensor, layout, rounding, affine, {}, 1, {},
                                             context.tensors(), context.executor()));
    // Spatial kernels keep the symmetric form: there the sums of the rounding errors are held
    // near zero, which matters more than their size.
    const auto zero_points = 4 * static_cast<std::uint64_t>(layout.channels);
    if (options_.scheme == "auto" && layout.taps == 1 &&
        chosen.codes.byte_size() + 2 * zero_points + kByteWeightNodes < tensor.byte_size() &&
        context.target().weight_only.takes(DataType::kUint8)) {
      MCOMPRESS_ASSIGN(QuantizedWeight other,
                       quantize_weight(tensor, layout, rounding, true, {}, 1, {}, context.tensors(),
                                       context.executor()));
      if (other.sqnr_db > chosen.sqnr_db + 1) {
        chosen = std::move(other);
        affine = true;
      }
    }

    const std::string base(value.name());
    const std::uint64_t before = tensor.byte_size();
    MCOMPRESS_TRY(emit_byte_weights(value, layout, chosen, context));

    Decision decision;
    decision.subject = base;
    decision.op_type = candidate.user->op_type();
    decision.what = affine ? "uint8 weights, affine per channel" : "int8 weights, per channel";
    decision.why = "restored to float32 when the model is loaded";
    decision.bytes_before = before;
    decision.bytes_after = chosen.codes.byte_size() + chosen.scales.size() * (affine ? 8 : 4);
    decision.sqnr_db = chosen.sqnr_db;
    context.explain().chose(std::move(decision));
    return ok_status();
  }

  Options options_;
  std::optional<Selection> whole_;  // excludes what was restored to float32 weights and all
};

}  // namespace

PassInfo quantize_weights_info() {
  PassInfo info = pass_info<QuantizeWeights>(
      "quantize-weights", "store float weights as int8, computed back when the model is loaded",
      Reach::kNestedGraphs, true, {"lift-constants"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
