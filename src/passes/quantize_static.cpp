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
#include "mcompress/precision.h"
#include "numeric/quantize.h"
#include "passes/common/mixed_precision.h"
#include "passes/common/precision_units.h"
#include "passes/common/protection.h"
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
    std::string method = "mse";
    double percentile = 99.99;
    bool bias_correction = true;
    bool protect = true;
    double min_sqnr = 0;
    double max_drop = 100;
    double guard_sqnr = 20;
    std::int64_t guard_samples = 4;
    std::int64_t samples = 0;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        Schema<Options>()
            .field("include", &Options::include,
                   "only nodes whose name, type or tensor matches one of these globs")
            .field("exclude", &Options::exclude,
                   "not the nodes whose name, type or tensor matches one of these globs")
            .field("method", &Options::method, "how the ranges of activations are chosen")
            .choices({"minmax", "percentile", "entropy", "mse"})
            .field("percentile", &Options::percentile,
                   "share of the values inside the range, for the percentile method")
            .range(50, 100)
            .unit("%")
            .field("bias-correction", &Options::bias_correction,
                   "take the mean effect of the weight errors off the biases")
            .field("protect", &Options::protect,
                   "leave in float32 what 8 bits would spoil (mixed-scale Concats, masked scores, "
                   "what stands in front of TopK and the like), and clip no logits")
            .field(
                "min-sqnr", &Options::min_sqnr,
                "the worst layers go back to float32 until the model's outputs reach this signal "
                "to noise ratio; exit status 5 where they never do; 0: not asked for")
            .range(0, 200)
            .unit("dB")
            .field("max-drop", &Options::max_drop,
                   "the worst layers go back to float32 until the metric of --eval, or agreement "
                   "without labels, drops by no more (exit status 5: never); 100: not asked for")
            .range(0, 100)
            .unit("points")
            .field("guard-sqnr", &Options::guard_sqnr,
                   "where nothing is asked for, layers go back to float32 as far as it helps to "
                   "reach this ratio on the calibration data; 0 switches the check off")
            .range(0, 100)
            .unit("dB")
            .level(OptionSpec::Level::kAdvanced)
            .field("guard-samples", &Options::guard_samples,
                   "samples that this check runs, and that rank the layers")
            .range(1, 4096)
            .level(OptionSpec::Level::kAdvanced)
            .field("samples", &Options::samples,
                   "use the first N calibration samples; 0: as many as the ranges need, spread "
                   "evenly over the data")
            .range(0, 1e9);
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
    if (options_.protect) protect(model, context, selection, plan_options);
    if (needs_guard(context)) {
      MCOMPRESS_TRY(guard(model, context, selection, plan_options));
      if (only_measures(context)) return ok_status();
    }
    plan_options.explain = true;
    const StaticPlan plan =
        plan_static(model.graph(), context.target(), selection, plan_options, context.explain());
    explain_kept(model.graph(), plan_options, context);
    EmitOptions emit = emit_options(plan, table, context);
    context.report().count("integer_nodes", static_cast<std::int64_t>(plan.nodes.size()));
    context.report().count("eligible_nodes", static_cast<std::int64_t>(plan.eligible));
    return emit_static(plan, context.target(), emit, context.edit(), context.tensors(),
                       context.executor(), context.explain());
  }

 private:
  // Keeps in float32 what rounding would spoil whatever the layers around it.
  static void protect(Model& model, PassContext& context, const Selection& selection,
                      PlanOptions& options) {
    PlanOptions quiet = options;
    quiet.explain = false;
    Explain unheard;
    const StaticPlan plan = plan_static(model.graph(), context.target(), selection, quiet, unheard);
    for (const auto& [id, why] : protected_nodes(model.graph(), plan, *options.table)) {
      options.keep_float.insert(id);
      options.keep_reason.try_emplace(id, why);
    }
  }

  // The plan explains nodes with weights only.
  static void explain_kept(const Graph& graph, const PlanOptions& options, PassContext& context) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      const OperatorRule* rule =
          node->domain().empty() ? context.target().find(node->op_type()) : nullptr;
      const auto why = options.keep_reason.find(node->id());
      if (why == options.keep_reason.end() || rule == nullptr) continue;
      if (rule->kind != OperatorRule::Kind::kWeighted) {
        context.explain().skipped(*node, why->second);
      }
    }
  }

  static bool only_measures(PassContext& context) {
    const PrecisionServices* services = precision_services(context);
    return services != nullptr && services->measure != nullptr;
  }

  bool needs_guard(PassContext& context) const {
    if (only_measures(context)) return true;
    if (options_.min_sqnr > 0 || options_.max_drop < 100) return true;
    return options_.guard_sqnr > 0 && context.calibration_data() != nullptr;
  }

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
    if (options_.protect && !plan.nodes.empty()) {
      for (const Value* value : answer_values(plan.nodes.front().node->graph(), plan)) {
        const ValueStats* stats = table.find(value->name());
        if (stats == nullptr || stats->count == 0 || plan.root(value->id()) != value->id())
          continue;
        const ValueRange all = choose_range(*stats, RangeMethod::kMinMax, 100, 256, false);
        const QuantParams params = asymmetric_params(
            {static_cast<float>(all.minimum), static_cast<float>(all.maximum)}, type);
        for (const Value* other : plan.tensors) {
          if (plan.root(other->id()) == value->id()) {
            emit.scales[other->id()] = {params.scale, params.zero_point};
          }
        }
      }
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
    const auto emit = [&](const PlanOptions& options,
                          std::optional<std::uint32_t> alone) -> Result<StaticTrial> {
      StaticTrial trial;
      trial.model = model.clone();
      Explain decisions;
      StaticPlan attempt = plan_for(*trial.model, options, decisions);
      EmitOptions written = emit_options(attempt, table, context);
      if (alone) attempt = plan_of_unit(attempt, *alone);
      trial.integer_nodes = attempt.nodes.size();
      Editor edit(*trial.model, &onnx_catalog());
      MCOMPRESS_TRY(emit_static(attempt, context.target(), written, edit, context.tensors(),
                                context.executor(), decisions));
      if (alone) trial.own = written_output(attempt, *alone);
      for (const Decision& decision : decisions.all()) {
        if (decision.sqnr_db) trial.weight_sqnr[decision.subject] = *decision.sqnr_db;
      }
      return trial;
    };
    MixedPrecisionOptions wanted;
    wanted.guard_sqnr = options_.guard_sqnr;
    wanted.guard_samples = options_.guard_samples;
    wanted.min_sqnr = options_.min_sqnr;
    wanted.max_drop = options_.max_drop;
    const auto scales = emit_options(plan, table, context).scales;
    return only_measures(context)
               ? measure_precision(model, context, plan, scales, emit, wanted, chosen)
               : restore_precision(model, context, plan, scales, emit, wanted, chosen);
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
