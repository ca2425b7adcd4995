#include "passes/common/integer/layer_restoring.h"

#include <memory>
#include <utility>

#include "passes/common/integer/mixed_precision.h"
#include "passes/common/integer/pass_effects.h"
#include "support/executor.h"
#include "support/try.h"

namespace mcompress {
namespace {

void report_choice(const LayerEffects& effects, const PrecisionGoal& goal,
                   const PrecisionServices& services, bool whole, ReportScope& report) {
  ReportScope& scope = report.child("mixed_precision");
  scope.flag("asked", true);
  scope.flag("holds", effects.holds);
  if (goal.min_sqnr > 0) scope.number("min_sqnr_db", goal.min_sqnr);
  if (goal.max_drop < 100) {
    scope.text("metric", services.drop_metric);
    scope.number("max_drop", goal.max_drop);
  }
  scope.number("first_sqnr_db", effects.quantized_sqnr_db);
  if (effects.quantized_drop) scope.number("first_drop", *effects.quantized_drop);
  scope.number("sqnr_db", effects.kept_sqnr_db);
  if (effects.kept_drop) scope.number("drop", *effects.kept_drop);
  scope.count("layers", static_cast<std::int64_t>(effects.layers.size()));
  scope.count("samples", effects.samples);
  scope.count("cuts", effects.cuts);
  scope.number("ranking_passes", effects.passes);
  scope.count("choices_run", effects.trials);
  for (const std::size_t place : effects.keep) {
    const LayerEffect& effect = effects.layers[place];
    ReportScope& item = scope.item("restored", effect.name);
    item.text("op_type", effect.op_type);
    item.count("place", static_cast<std::int64_t>(place) + 1);
    item.number("sqnr_db", effect.sqnr_db);
  }
  scope.count("restored_layers", static_cast<std::int64_t>(effects.keep.size()));
  if (whole) scope.flag("whole_weights", true);
}

}  // namespace

Result<std::vector<std::string>> layers_to_restore(const Model& model, const RecipeStep& step,
                                                   const PrecisionGoal& goal,
                                                   PassContext& context) {
  const PrecisionServices* given = precision_services(context);
  const char* asked = goal.min_sqnr > 0 ? "min-sqnr" : "max-drop";
  if (given == nullptr || (goal.max_drop < 100 && !given->drop)) {
    return Error(Code::kUsage, "no-calibration-data",
                 std::string(asked) + " needs samples to judge the outputs by", {{}, asked, {}},
                 "give --calib DATA, and --eval DATA with labels for --max-drop");
  }
  MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
  Services services;
  services.runtime = std::shared_ptr<Runtime>(std::shared_ptr<void>(), runtime);
  services.calibration_data = context.calibration_data();
  services.target = &context.target();
  services.progress = &context.progress();
  services.memory_budget = context.memory_budget();
  services.threads = context.executor().threads();

  EffectRequest request;
  PrecisionServices trying = *given;
  trying.measure = &request;
  trying.journal.clear();
  if (given->whole != nullptr && given->finish) {
    trying.finish = [given](Model& trial, const std::vector<std::string>&) {
      return given->finish(trial, {});
    };
  }
  MCOMPRESS_ASSIGN(LayerEffects effects,
                   measure_layers(model, step, context.target().name, trying, goal, services));
  bool whole = false;
  if (!effects.holds && given->whole != nullptr) {
    whole = true;
    trying.finish = given->finish;
    MCOMPRESS_ASSIGN(effects, search_ranked_layers(model, step, context.target().name, trying, goal,
                                                   services, std::move(effects)));
  }
  report_choice(effects, goal, *given, whole, context.report());
  std::vector<std::string> patterns;
  for (const std::size_t place : effects.keep) patterns.push_back(effects.layers[place].pattern);
  if (whole) given->whole->insert(given->whole->end(), patterns.begin(), patterns.end());
  return patterns;
}

}  // namespace mcompress
