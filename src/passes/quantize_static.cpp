// quantize-static: integer kernels from calibrated ranges, in the QDQ form.
//
// 1. everything the target can run in integers is planned, and its activations are observed;
// 2. the sizes seen decide, by the target's cost model, what is faster in integers;
// 3. ranges become scales (common/range_choice.h), weights are rounded, biases corrected
//    (common/static_emit.h);
// 4. the result is run against the original on a few samples: when the error is out of bounds,
//    the layers that harm most go back to float32.
#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "ir/walk.h"
#include "mcompress/pipeline.h"
#include "mcompress/precision.h"
#include "numeric/quantize.h"
#include "passes/common/guard.h"
#include "passes/common/integer/bias_correction.h"
#include "passes/common/integer/effort.h"
#include "passes/common/integer/gptq_rounding.h"
#include "passes/common/integer/mixed_precision.h"
#include "passes/common/integer/precision_units.h"
#include "passes/common/integer/protection.h"
#include "passes/common/integer/range_choice.h"
#include "passes/common/integer/static_emit.h"
#include "passes/common/integer/static_plan.h"
#include "passes/common/memory_share.h"
#include "passes/common/rewrite.h"
#include "passes/common/selection.h"
#include "passes/common/weights.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kExactDb = 200;

class QuantizeStatic final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::string effort = "default";
    std::string method = "auto";
    double percentile = 99.99;
    std::vector<std::string> percentiles = {"99.9", "99.99", "99.999"};
    std::string granularity = "auto";
    std::string symmetry = "symmetric";
    std::int64_t weight_bits = 8;
    bool bias_correction = true;
    bool protect = true;
    double min_sqnr = 0;
    double max_drop = 100;
    double guard_sqnr = 20;
    std::int64_t guard_samples = 4;
    std::int64_t samples = 0;
    std::string gptq = "auto";
    std::int64_t gptq_samples = 64, gptq_levels = 4;
    double gptq_damping = 0.01;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("effort", &Options::effort, kEffortHelp)
            .choices({"fast", "default", "best"})
            .field("method", &Options::method,
                   "how the ranges of activations are chosen; auto: for each tensor what changes "
                   "the layers that read it least, mse with effort fast or without data")
            .choices({"auto", "minmax", "moving-average", "percentile", "entropy", "mse"})
            .field("percentile", &Options::percentile,
                   "share of the values inside the range, for the percentile method")
            .range(50, 100)
            .unit("%")
            .field("percentiles", &Options::percentiles,
                   "the percentiles among which method auto chooses")
            .level(OptionSpec::Level::kAdvanced)
            .field("granularity", &Options::granularity,
                   "one scale of weights per output channel or per tensor; auto: as the target "
                   "can do best")
            .choices({"auto", "per-channel", "per-tensor"})
            .field("symmetry", &Options::symmetry,
                   "weights around zero, or with zero points of their own")
            .choices({"symmetric", "asymmetric"})
            .level(OptionSpec::Level::kAdvanced)
            .field("weight-bits", &Options::weight_bits,
                   "7 for kernels that add two products in 16 bits; weights for targets that have "
                   "such kernels are kept safe with 8, too")
            .range(7, 8)
            .unit("bits")
            .level(OptionSpec::Level::kAdvanced)
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
                   "layers go back to float32 until the metric of --eval, or agreement, drops by "
                   "no more "
                   "(a perplexity: rises by no more percent; exit status 5: never); 100: off")
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
            .level(OptionSpec::Level::kAdvanced)
            .rule(check_percentiles);
    return kSchema;
  }
  explicit QuantizeStatic(Options options)
      : options_(std::move(options)), effort_(effort_of(options_.effort)) {}

  Status run(Model& model, PassContext& context) override {
    constexpr std::int64_t kPerAxisOpset = 13;
    if (model.opset("") < kPerAxisOpset) {
      return Error(Code::kUnsupported, "opset-too-old",
                   "per-channel quantization needs opset " + std::to_string(kPerAxisOpset) +
                       ", the model has " + std::to_string(model.opset("")),
                   {}, "an operator kept raise-opset from raising it; see its note");
    }
    if (options_.symmetry == "asymmetric" && context.target().symmetric_activations) {
      return Error(Code::kUnsupported, "asymmetric-weights",
                   "target '" + context.target().name + "' has no zero points",
                   {{}, "symmetry", {}}, "leave 'symmetry' at symmetric");
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
    MCOMPRESS_TRY(choose_ranges(model, context, selection, plan_options));
    if (wants_gptq(context.target()) && context.calibration_data() != nullptr) {
      MCOMPRESS_TRY(round_weights(model, context, selection, plan_options));
      opened_.session.reset();
    }
    if (needs_guard(context)) {
      MCOMPRESS_TRY(guard(model, context, selection, plan_options));
      opened_.session.reset();
      if (only_measures(context)) return ok_status();
    }
    MCOMPRESS_TRY(correct_biases(model, context, selection, plan_options));
    plan_options.explain = true;
    const StaticPlan plan =
        plan_static(model.graph(), context.target(), selection, plan_options, context.explain());
    explain_kept(model.graph(), plan_options, context);
    EmitOptions emit = emit_options(plan, table, context.target());
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

  // GPTQ rounds to its own grid: symmetric, per channel, eight bits.
  bool wants_gptq(const Target& target) const {
    if (options_.gptq == "off" || (options_.gptq == "auto" && effort_ != Effort::kBest)) {
      return false;
    }
    const bool per_channel = options_.granularity == "per-channel" ||
                             (options_.granularity == "auto" && target.per_channel);
    return per_channel && options_.symmetry == "symmetric" && options_.weight_bits == 8;
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
    recipe.emit = [&](const StaticPlan& plan) {
      return emit_options(plan, table, context.target());
    };
    GptqRoundingOptions options;
    options.samples = options_.gptq_samples;
    options.levels = options_.gptq_levels;
    options.damping = options_.gptq_damping;
    options.bias_correction = options_.bias_correction;
    return round_by_gptq_if_better(model, recipe, options, options_.guard_samples, context,
                                   rounded_);
  }

  static Status check_percentiles(const Options& options) {
    constexpr double kLowest = 50;
    for (const std::string& text : options.percentiles) {
      const auto number = parse_real(text);
      if (number && *number >= kLowest && *number <= 100) continue;
      return Error(Code::kUsage, "bad-percentile",
                   "percentiles: '" + text + "' is no number from 50 to 100");
    }
    return ok_status();
  }

  Status choose_ranges(const Model& model, PassContext& context, const Selection& selection,
                       const PlanOptions& plan_options) {
    RangeChoiceOptions choice;
    choice.judge = options_.method == "auto" && effort_ != Effort::kFast;
    choice.method = range_method_of(options_.method).value_or(RangeMethod::kMse);
    choice.percentile = options_.percentile;
    choice.symmetric = context.target().symmetric_activations;
    choice.percentiles.clear();
    for (const std::string& text : options_.percentiles) {
      choice.percentiles.push_back(parse_real(text).value_or(100));
    }
    const QuantType type{8, context.target().signed_activations};
    ranges_.emplace(type, *plan_options.table, choice);
    if (!choice.judge || context.calibration_data() == nullptr) return ok_status();
    PlanOptions quiet = plan_options;
    quiet.explain = false;
    Explain unheard;
    // A plan holds nodes that may be edited, so a copy is planned; ids and names are the same.
    const std::unique_ptr<Model> copy = model.clone();
    const StaticPlan plan = plan_static(copy->graph(), context.target(), selection, quiet, unheard);
    if (plan.nodes.empty()) return ok_status();
    MCOMPRESS_TRY(ranges_->judge(*copy, plan, context));
    MCOMPRESS_ASSIGN(Guard guard, reference_guard(*copy, *quiet.table, context));
    const auto emit = [&]() -> Result<std::unique_ptr<Model>> {
      MCOMPRESS_ASSIGN(StaticTrial attempt, trial(*copy, context, selection, quiet));
      if (attempt.integer_nodes == 0) attempt.model.reset();
      return std::move(attempt.model);
    };
    MCOMPRESS_ASSIGN(opened_.session, ranges_->keep_best(emit, guard, context));
    opened_.keep_float = quiet.keep_float;
    opened_.scales = emit_options(plan, *quiet.table, context.target()).scales;
    forget_other_scales(plan);
    return ok_status();
  }

  // Weights that were rounded for inputs of other scales take memory only.
  void forget_other_scales(const StaticPlan& plan) {
    const auto scales = ranges_->scales(plan);
    std::set<std::pair<std::uint32_t, float>> used;
    for (const IntegerNode& node : plan.nodes) {
      if (node.kind != OperatorRule::Kind::kWeighted) continue;
      used.emplace(node.node->id(), scales.at(node.node->input(0)->id()).scale);
    }
    std::erase_if(rounded_, [&](const auto& entry) { return used.count(entry.first) == 0; });
  }

  // Kept where the outputs come nearer to the original's.
  Status correct_biases(const Model& model, PassContext& context, const Selection& selection,
                        PlanOptions options) {
    if (effort_ != Effort::kBest || !options_.bias_correction ||
        context.calibration_data() == nullptr) {
      return ok_status();
    }
    options.explain = false;
    Explain unheard;
    const std::unique_ptr<Model> copy = model.clone();
    const StaticPlan plan =
        plan_static(copy->graph(), context.target(), selection, options, unheard);
    if (plan.nodes.empty()) return ok_status();
    StepCost cost(context.report(), "bias-correction");
    MCOMPRESS_ASSIGN(Guard guard, reference_guard(*copy, *options.table, context));
    MCOMPRESS_ASSIGN(const double before, sqnr_of(*copy, context, selection, options, guard));
    const auto emit = [&](const BiasShifts& shifts) -> Result<std::unique_ptr<Model>> {
      bias_shifts_ = shifts;
      MCOMPRESS_ASSIGN(StaticTrial attempt, trial(*copy, context, selection, options));
      return std::move(attempt.model);
    };
    MCOMPRESS_ASSIGN(bias_shifts_, measure_bias_shifts(*copy, plan, emit, context, cost));
    MCOMPRESS_ASSIGN(const double after, sqnr_of(*copy, context, selection, options, guard));
    cost.before_db(before);
    cost.after_db(std::max(before, after));
    if (after < before) bias_shifts_.clear();
    return ok_status();
  }

  // For comparisons that decide something.
  Result<Guard> reference_guard(const Model& model, const CalibrationTable& table,
                                PassContext& context) const {
    constexpr std::int64_t kLeastSamples = 16;
    MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
    DataSource& data = *context.calibration_data();
    Guard guard(*runtime, data,
                held_out_samples(table, data, std::max(options_.guard_samples, kLeastSamples)));
    guard.limit_memory(context.memory_budget());
    MCOMPRESS_TRY(guard.open_reference(context.reference(), model, &context.executor()));
    tell_memory(context, "comparing outputs", guard.memory_plan(), guard.least_memory());
    return guard;
  }

  // `alone`: only the unit of that node runs in integers, with the scales of the whole plan.
  Result<StaticTrial> trial(const Model& model, PassContext& context, const Selection& selection,
                            PlanOptions options,
                            std::optional<std::uint32_t> alone = std::nullopt) {
    options.explain = false;
    StaticTrial trial;
    trial.model = model.clone();
    Explain decisions;
    StaticPlan plan =
        plan_static(trial.model->graph(), context.target(), selection, options, decisions);
    const EmitOptions written = emit_options(plan, *options.table, context.target());
    if (alone) plan = plan_of_unit(plan, *alone);
    trial.integer_nodes = plan.nodes.size();
    Editor edit(*trial.model, &onnx_catalog());
    MCOMPRESS_TRY(emit_static(plan, context.target(), written, edit, context.tensors(),
                              context.executor(), decisions));
    if (alone) trial.own = written_output(plan, *alone);
    if (!alone && opened_.session != nullptr && options.keep_float == opened_.keep_float &&
        written.scales == opened_.scales) {
      trial.session = std::move(opened_.session);
    }
    for (const Decision& decision : decisions.all()) {
      if (decision.sqnr_db) trial.weight_sqnr[decision.subject] = *decision.sqnr_db;
    }
    return trial;
  }

  Result<double> sqnr_of(const Model& model, PassContext& context, const Selection& selection,
                         const PlanOptions& options, Guard& guard) {
    MCOMPRESS_ASSIGN(const StaticTrial attempt, trial(model, context, selection, options));
    return attempt.integer_nodes == 0 ? Result<double>(kExactDb) : guard.sqnr_db(*attempt.model);
  }

  EmitOptions emit_options(const StaticPlan& plan, const CalibrationTable& table,
                           const Target& target) {
    EmitOptions emit;
    emit.table = &table;
    emit.rounded = &rounded_;
    emit.bias_correction = options_.bias_correction;
    emit.bias_shifts = &bias_shifts_;
    emit.one_weight_scale = options_.granularity == "per-tensor" ||
                            (options_.granularity == "auto" && !target.per_channel);
    emit.weight_bits = static_cast<int>(options_.weight_bits);
    if (options_.symmetry == "asymmetric") emit.weight_form = WeightForm::kAffineInt8;
    std::set<std::uint32_t> whole;
    if (options_.protect && !plan.nodes.empty()) {
      for (const Value* value : answer_values(plan.nodes.front().node->graph(), plan)) {
        whole.insert(value->id());
      }
    }
    emit.scales = ranges_->scales(plan, whole);
    return emit;
  }

  // Lets layers go back to float32 where the plan written into a copy is too far from the original.
  Status guard(Model& model, PassContext& context, const Selection& selection,
               PlanOptions& chosen) {
    PlanOptions options = chosen;
    options.explain = false;
    Explain unheard;
    const StaticPlan plan =
        plan_static(model.graph(), context.target(), selection, options, unheard);
    if (plan.nodes.empty()) return ok_status();
    MixedPrecisionOptions wanted;
    wanted.guard_sqnr = options_.guard_sqnr;
    wanted.guard_samples = options_.guard_samples;
    wanted.min_sqnr = options_.min_sqnr;
    wanted.max_drop = options_.max_drop;
    const auto emit = [&](const PlanOptions& attempt, std::optional<std::uint32_t> alone) {
      return trial(model, context, selection, attempt, alone);
    };
    const auto scales = emit_options(plan, *chosen.table, context.target()).scales;
    return only_measures(context)
               ? measure_precision(model, context, plan, scales, emit, wanted, chosen)
               : restore_precision(model, context, plan, scales, emit, wanted, chosen);
  }

  // A session of what some options give, opened before: once.
  struct Opened {
    std::unique_ptr<Session> session;
    std::set<std::uint32_t> keep_float;
    std::map<std::uint32_t, ActivationScale> scales;
  };

  Options options_;
  Effort effort_;
  std::optional<RangeChoice> ranges_;
  Opened opened_;
  BiasShifts bias_shifts_;
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
