// quantize-static: integer kernels from calibrated ranges, in the QDQ form.
//
// 1. everything the target can run in integers is planned, and its activations are observed;
// 2. the sizes seen decide, by the target's cost model, what is faster in integers;
// 3. ranges become scales, weights are rounded, biases corrected (common/static_emit.h);
// 4. the result is run against the original on a few samples: when the error is out of bounds,
//    the layers that harm most go back to float32.
#include <algorithm>
#include <array>
#include <cmath>

#include "mcompress/pipeline.h"
#include "numeric/quantize.h"
#include "passes/common/guard.h"
#include "passes/common/selection.h"
#include "passes/common/static_emit.h"
#include "passes/common/static_plan.h"
#include "passes/passes.h"
#include "support/text.h"
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
    double min_sqnr = 10;
    std::int64_t guard_samples = 8;
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
            .field("min-sqnr", &Options::min_sqnr,
                   "layers go back to float32 until the model's outputs reach this signal to noise "
                   "ratio on the calibration data; 0 switches the check off")
            .range(0, 100)
            .unit("dB")
            .field("guard-samples", &Options::guard_samples,
                   "samples that check runs")
            .range(1, 4096)
            .level(OptionSpec::Level::kAdvanced)
            .field("samples", &Options::samples, "use the first N calibration samples; 0: all")
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
    const Selection selection(options_.include, options_.exclude);
    PlanOptions widest;
    widest.explain = false;
    const StaticPlan all = plan_static(model.graph(), context.target(), selection, widest,
                                       context.explain());
    if (all.nodes.empty()) {
      PlanOptions explain_all;
      (void)plan_static(model.graph(), context.target(), selection, explain_all,
                        context.explain());
      return ok_status();
    }
    MCOMPRESS_ASSIGN(const CalibrationTable table,
                     context.calibration(model, static_calibration_request(all, options_.samples)));

    PlanOptions plan_options;
    plan_options.table = &table;
    StaticPlan plan =
        plan_static(model.graph(), context.target(), selection, plan_options, context.explain());
    if (options_.min_sqnr > 0 && context.calibration_data() != nullptr && !plan.nodes.empty()) {
      MCOMPRESS_ASSIGN(plan, guarded(model, context, selection, table, std::move(plan)));
    }
    EmitOptions emit = emit_options(plan, table, context);
    context.report().count("integer_nodes", static_cast<std::int64_t>(plan.nodes.size()));
    context.report().count("eligible_nodes", static_cast<std::int64_t>(plan.eligible));
    return emit_static(plan, context.target(), emit, context.edit(), context.tensors(),
                       context.explain());
  }

 private:
  EmitOptions emit_options(const StaticPlan& plan, const CalibrationTable& table,
                           PassContext& context) const {
    EmitOptions emit;
    emit.table = &table;
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
          range = choose_range(*stats, method, options_.percentile, 256, false);
        }
        const QuantParams params = asymmetric_params(
            {static_cast<float>(range.minimum), static_cast<float>(range.maximum)}, type);
        of_root[root] = {params.scale, params.zero_point};
      }
      emit.scales[value->id()] = of_root[root];
    }
    return emit;
  }

  // Applies the plan to a copy and compares; drops the most harmful groups of layers until the
  // outputs are close enough.
  Result<StaticPlan> guarded(Model& model, PassContext& context, const Selection& selection,
                             const CalibrationTable& table, StaticPlan plan) {
    MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
    Guard guard(*runtime, *context.calibration_data(), options_.guard_samples);
    Status opened = guard.open_reference(model);
    if (!opened.ok()) return std::move(opened).error();

    PlanOptions trial_options;
    trial_options.table = &table;
    trial_options.explain = false;
    const auto replan = [&](Model& target) {
      Explain unheard;
      return plan_static(target.graph(), context.target(), selection, trial_options, unheard);
    };
    const auto measure = [&]() -> Result<double> {
      const std::unique_ptr<Model> copy = model.clone();
      const StaticPlan trial = replan(*copy);
      if (trial.nodes.empty()) return 200.0;
      Editor edit(*copy, &onnx_catalog());
      Explain unheard;
      MCOMPRESS_TRY(emit_static(trial, context.target(), emit_options(trial, table, context), edit,
                                context.tensors(), unheard));
      return guard.sqnr_db(*copy);
    };

    MCOMPRESS_ASSIGN(double best, measure());
    const double first = best;
    context.report().number("sqnr_db", best);
    constexpr std::size_t kGroups = 12;
    constexpr int kRounds = 6;
    for (int round = 0; best < options_.min_sqnr && round < kRounds; ++round) {
      const StaticPlan now = replan(model);
      std::vector<std::uint32_t> weighted;
      for (const IntegerNode& node : now.nodes) {
        if (node.kind == OperatorRule::Kind::kWeighted) weighted.push_back(node.node->id());
      }
      if (weighted.empty()) break;
      const std::size_t size = (weighted.size() + kGroups - 1) / kGroups;
      std::size_t chosen = weighted.size();
      double reached = best;
      for (std::size_t begin = 0; begin < weighted.size(); begin += size) {
        const std::size_t end = std::min(weighted.size(), begin + size);
        const auto saved = trial_options.keep_float;
        trial_options.keep_float.insert(weighted.begin() + static_cast<std::ptrdiff_t>(begin),
                                        weighted.begin() + static_cast<std::ptrdiff_t>(end));
        MCOMPRESS_ASSIGN(const double sqnr, measure());
        trial_options.keep_float = saved;
        if (sqnr > reached) {
          reached = sqnr;
          chosen = begin;
        }
      }
      if (chosen == weighted.size()) break;
      const std::size_t end = std::min(weighted.size(), chosen + size);
      trial_options.keep_float.insert(weighted.begin() + static_cast<std::ptrdiff_t>(chosen),
                                      weighted.begin() + static_cast<std::ptrdiff_t>(end));
      best = reached;
    }
    if (best < options_.min_sqnr) {
      // Nothing short of float32 activations reaches the bound.
      for (const IntegerNode& node : plan.nodes) trial_options.keep_float.insert(node.node->id());
    }
    if (trial_options.keep_float.empty()) return plan;

    const std::string why = "in integers the outputs had " + fixed(first, 1) +
                            " dB on the calibration data, below " + fixed(options_.min_sqnr, 1) +
                            " dB; this layer's share was among the largest";
    for (const std::uint32_t id : trial_options.keep_float) trial_options.keep_reason[id] = why;
    trial_options.explain = true;
    return plan_static(model.graph(), context.target(), selection, trial_options,
                       context.explain());
  }

  Options options_;
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
  const StaticPlan plan =
      plan_static(prepared.graph(), target, Selection({}, {}), widest, unheard);
  if (plan.nodes.empty()) {
    return Error(Code::kUnsupported, "nothing-to-calibrate",
                 "target '" + target.name + "' runs no node of this model in integers");
  }
  return calibrate(runtime, prepared, data, static_calibration_request(plan, samples), options,
                   diagnostics, progress);
}

PassInfo quantize_static_info() {
  return pass_info<QuantizeStatic>(
      "quantize-static", "run convolutions and matrix products in integers, from calibrated ranges",
      Reach::kTopGraph, true, {"lift-constants", "raise-opset", "fuse-batchnorm"});
}

}  // namespace mcompress
