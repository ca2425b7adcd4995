// quantize-static: integer kernels from calibrated ranges, in the QDQ form.
//
// 1. everything the target can run in integers is planned, and its activations are observed;
// 2. the sizes seen decide, by the target's cost model, what is faster in integers;
// 3. ranges become scales, weights are rounded, biases corrected (common/static_emit.h);
// 4. the result is run against the original on a few samples: when the error is out of bounds,
//    the layers that harm most go back to float32.
#include <algorithm>
#include <array>

#include "ir/walk.h"
#include "mcompress/pipeline.h"
#include "numeric/quantize.h"
#include "passes/common/gptq_rounding.h"
#include "passes/common/mixed_precision.h"
#include "passes/common/rewrite.h"
#include "passes/common/selection.h"
#include "passes/common/static_emit.h"
#include "passes/common/static_plan.h"
#include "passes/common/weights.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

struct Method {
  std::string_view name;
  RangeMethod method;
};
constexpr std::array<Method, 4> kMethods = {{{"minmax", RangeMethod::kMinMax},
                                             {"percentile", RangeMethod::kPercentile},
                                             {"entropy", RangeMethod::kEntropy},
                                             {"mse", RangeMethod::kMse}}};

class QuantizeStatic final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::string effort = "default";
    std::string method = "mse";
    double percentile = 99.99;
    bool bias_correction = true;
    double min_sqnr = 20;
    std::int64_t guard_samples = 4;
    std::int64_t samples = 0;
    std::string gptq = "auto";
    std::int64_t gptq_samples = 64, gptq_levels = 4;
    double gptq_damping = 0.01;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        Schema<Options>()
            .field("include", &Options::include,
                   "only nodes whose name, type or tensor matches one of these globs")
            .field("exclude", &Options::exclude,
                   "not the nodes whose name, type or tensor matches one of these globs")
            .field("effort", &Options::effort,
                   "fast, default or best: how much work goes into accuracy")
            .choices({"fast", "default", "best"})
            .field("method", &Options::method, "how the ranges of activations are chosen")
            .choices({"minmax", "percentile", "entropy", "mse"})
            .field("percentile", &Options::percentile,
                   "share of the values inside the range, for the percentile method")
            .range(50, 100)
            .unit("%")
            .field("bias-correction", &Options::bias_correction,
                   "take the mean effect of the weight errors off the biases")
            .field("min-sqnr", &Options::min_sqnr,
                   "layers go back to float32 until the model's outputs reach this signal to noise "
                   "ratio on the calibration data; 0 switches the check off")
            .range(0, 100)
            .unit("dB")
            .field("guard-samples", &Options::guard_samples, "samples that check runs")
            .range(1, 4096)
            .level(OptionSpec::Level::kAdvanced)
            .field("samples", &Options::samples,
                   "use the first N calibration samples; 0: as many as the ranges need, spread "
                   "evenly over the data")
            .range(0, 1e9)
            .field("gptq", &Options::gptq,
                   "round weights by what they do to the outputs of their layers; auto: with "
                   "--effort best")
            .choices({"auto", "on", "off"})
            .field("gptq-samples", &Options::gptq_samples,
                   "calibration samples from which GPTQ learns the inputs of layers")
            .range(1, 1e6)
            .level(OptionSpec::Level::kAdvanced)
            .field("gptq-damping", &Options::gptq_damping,
                   "share of the mean energy of a layer's inputs that GPTQ adds to each of them")
            .range(1e-6, 10)
            .level(OptionSpec::Level::kAdvanced)
            .field("gptq-levels", &Options::gptq_levels,
                   "parts of the network that GPTQ rounds one after the other, each seeing what "
                   "the parts before it make in integers")
            .range(1, 1e4)
            .level(OptionSpec::Level::kAdvanced);
    return kSchema;
  }
  explicit QuantizeStatic(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    constexpr std::int64_t kPerAxisOpset = 13;
    if (model.opset("") < kPerAxisOpset) {
      return Error(Code::kUnsupported, "opset-too-old",
                   "per-channel quantization needs opset " + std::to_string(kPerAxisOpset) +
                       ", the model has " + std::to_string(model.opset("")),
                   {}, "an operator kept raise-opset from raising it; see its note");
    }
    explain_nested(model.graph(), context);
    const Selection selection(options_.include, options_.exclude);
    PlanOptions widest;
    MCOMPRESS_TRY(keep_non_finite(model.graph(), context.target(), widest));
    widest.explain = false;
    const StaticPlan all =
        plan_static(model.graph(), context.target(), selection, widest, context.explain());
    if (all.nodes.empty()) {
      PlanOptions explain_all = widest;
      explain_all.explain = true;
      (void)plan_static(model.graph(), context.target(), selection, explain_all, context.explain());
      return ok_status();
    }
    MCOMPRESS_ASSIGN(const CalibrationTable table,
                     context.calibration(model, static_calibration_request(all, options_.samples)));

    // After the table was compared with the model, and before copies of the model are tried.
    modernise_initializers(model, context);
    PlanOptions plan_options = widest;
    plan_options.table = &table;
    if (wants_gptq() && context.calibration_data() != nullptr) {
      MCOMPRESS_TRY(round_weights(model, context, selection, plan_options));
    }
    if (options_.min_sqnr > 0 && context.calibration_data() != nullptr) {
      MCOMPRESS_TRY(guard(model, context, selection, plan_options));
    }
    plan_options.explain = true;
    const StaticPlan plan =
        plan_static(model.graph(), context.target(), selection, plan_options, context.explain());
    EmitOptions emit = emit_options(plan, table, context);
    context.report().count("integer_nodes", static_cast<std::int64_t>(plan.nodes.size()));
    context.report().count("eligible_nodes", static_cast<std::int64_t>(plan.eligible));
    return emit_static(plan, context.target(), emit, context.edit(), context.tensors(),
                       context.executor(), context.explain());
  }

 private:
  // Rounding would make NaN and infinities finite.
  static Status keep_non_finite(const Graph& graph, const Target& target, PlanOptions& options) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      const OperatorRule* rule = node->domain().empty() ? target.find(node->op_type()) : nullptr;
      if (rule == nullptr || rule->kind != OperatorRule::Kind::kWeighted) continue;
      const Value* weight = node->input(1);
      const Tensor* tensor = weight != nullptr ? weight->constant() : nullptr;
      if (tensor == nullptr || tensor->dtype() != DataType::kFloat) continue;
      MCOMPRESS_ASSIGN(const bool finite, is_finite(*tensor));
      if (finite) continue;
      options.keep_float.insert(node->id());
      options.keep_reason[node->id()] =
          "has a weight with NaN or infinity, which integers have not";
    }
    return ok_status();
  }

  static void explain_nested(Graph& top, PassContext& context) {
    for_each_node(top, [&](Node& node) {
      const OperatorRule* rule =
          node.domain().empty() ? context.target().find(node.op_type()) : nullptr;
      if (&node.graph() == &top || rule == nullptr || rule->kind != OperatorRule::Kind::kWeighted) {
        return;
      }
      const Value* weight = node.input(1);
      if (weight == nullptr || weight->initializer() == nullptr) return;
      Decision decision;
      decision.subject = node.label();
      decision.op_type = node.op_type();
      decision.why = "is in a nested graph, whose activations can not be observed";
      decision.bytes_before = decision.bytes_after = weight->initializer()->byte_size();
      context.explain().skipped(std::move(decision));
    });
  }

  bool wants_gptq() const {
    return options_.gptq == "on" || (options_.gptq == "auto" && options_.effort == "best");
  }

  // Fills rounded_.
  Status round_weights(const Model& model, PassContext& context, const Selection& selection,
                       const PlanOptions& planned) {
    PlanOptions silent = planned;
    silent.explain = false;
    const CalibrationTable& table = *planned.table;
    StaticRecipe recipe;
    recipe.plan = [&, silent](Graph& graph) {
      Explain unheard;
      return plan_static(graph, context.target(), selection, silent, unheard);
    };
    recipe.emit = [&](const StaticPlan& plan) { return emit_options(plan, table, context); };
    GptqRoundingOptions options;
    options.samples = options_.gptq_samples;
    options.levels = options_.gptq_levels;
    options.damping = options_.gptq_damping;
    options.bias_correction = options_.bias_correction;
    return round_by_gptq_if_better(model, recipe, options, options_.guard_samples, context,
                                   rounded_);
  }

  EmitOptions emit_options(const StaticPlan& plan, const CalibrationTable& table,
                           PassContext& context) {
    EmitOptions emit;
    emit.table = &table;
    emit.rounded = &rounded_;
    emit.bias_correction = options_.bias_correction;
    RangeMethod method = RangeMethod::kMse;
    for (const Method& known : kMethods) {
      if (known.name == options_.method) method = known.method;
    }
    const QuantType type{8, context.target().signed_activations};
    std::map<std::uint32_t, const Value*> by_id;
    for (const Value* value : plan.tensors) by_id[value->id()] = value;
    std::map<std::uint32_t, ActivationScale> of_root;
    for (const Value* value : plan.tensors) {
      const std::uint32_t root = plan.root(value->id());
      const auto known = of_root.find(root);
      if (known == of_root.end()) {
        const ValueStats* stats = table.find(by_id.at(root)->name());
        ValueRange range;
        if (stats != nullptr) {
          const auto [chosen, fresh] = ranges_.try_emplace(stats);
          if (fresh) {
            chosen->second = choose_range(*stats, method, options_.percentile, 256, false);
          }
          range = chosen->second;
        }
        const QuantParams params = asymmetric_params(
            {static_cast<float>(range.minimum), static_cast<float>(range.maximum)}, type);
        of_root[root] = {params.scale, params.zero_point};
      }
      emit.scales[value->id()] = of_root[root];
    }
    return emit;
  }

  // Lets layers go back to float32 where the plan written into a copy is too far from the original.
  Status guard(Model& model, PassContext& context, const Selection& selection,
               PlanOptions& chosen) {
    const CalibrationTable& table = *chosen.table;
    const auto plan_for = [&](Model& copy, PlanOptions options, Explain& decisions) {
      options.explain = false;
      return plan_static(copy.graph(), context.target(), selection, options, decisions);
    };
    Explain unheard;
    const StaticPlan plan = plan_for(model, chosen, unheard);
    if (plan.nodes.empty()) return ok_status();
    const auto emit = [&](const PlanOptions& options) -> Result<StaticTrial> {
      StaticTrial trial;
      std::unique_ptr<Model> copy = model.clone();
      Explain decisions;
      const StaticPlan attempt = plan_for(*copy, options, decisions);
      if (attempt.nodes.empty()) return trial;
      Editor edit(*copy, &onnx_catalog());
      MCOMPRESS_TRY(emit_static(attempt, context.target(), emit_options(attempt, table, context),
                                edit, context.tensors(), context.executor(), decisions));
      for (const Decision& decision : decisions.all()) {
        if (decision.sqnr_db) trial.weight_sqnr[decision.subject] = *decision.sqnr_db;
      }
      trial.model = std::move(copy);
      return trial;
    };
    MixedPrecisionOptions wanted;
    wanted.min_sqnr = options_.min_sqnr;
    wanted.samples = options_.guard_samples;
    return restore_precision(model, context, plan, emit_options(plan, table, context).scales, emit,
                             wanted, chosen);
  }

  Options options_;
  std::map<const ValueStats*, ValueRange> ranges_;  // of the one table of a run
  RoundedWeights rounded_;
};

}  // namespace

Result<CalibrationTable> calibrate_activations(Model& prepared, const Target& target,
                                               Runtime& runtime, DataSource& data,
                                               const CalibratorOptions& options,
                                               std::int64_t samples, Diagnostics& diagnostics,
                                               Progress& progress) {
  PlanOptions widest;
  widest.explain = false;
  Explain unheard;
  const StaticPlan plan = plan_static(prepared.graph(), target, Selection({}, {}), widest, unheard);
  if (plan.nodes.empty()) {
    return Error(Code::kUnsupported, "nothing-to-calibrate",
                 "target '" + target.name + "' runs no node of this model in integers");
  }
  return calibrate(runtime, prepared, data, static_calibration_request(plan, samples), options,
                   diagnostics, progress);
}

PassInfo quantize_static_info() {
  PassInfo info = pass_info<QuantizeStatic>(
      "quantize-static", "run convolutions and matrix products in integers, from calibrated ranges",
      Reach::kTopGraph, true, {"lift-constants", "raise-opset", "fuse-batchnorm"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
