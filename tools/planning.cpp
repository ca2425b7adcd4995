#include "planning.h"

#include <algorithm>
#include <cmath>

#include "mcompress/host.h"
#include "target_choice.h"
#include "try.h"

namespace mcompress::tools {
namespace {

std::vector<std::uint64_t> data_digests(const Services& services) {
  if (services.table != nullptr) return services.table->data_digests;
  if (services.calibration_data == nullptr) return {};
  const std::uint64_t digest = services.calibration_data->digest();
  return digest != 0 ? std::vector{digest} : std::vector<std::uint64_t>{};
}

std::string shape_text(const std::optional<std::vector<std::int64_t>>& shape) {
  if (!shape) return "unknown";
  std::string text;
  for (const std::int64_t dim : *shape) text += (text.empty() ? "" : ", ") + std::to_string(dim);
  return "[" + text + "]";
}

// What carries a plan out keeps between the steps of the run.
struct Applied {
  Plan plan;
  std::string file;
  PlanModel model = PlanModel::kSame;
  std::string target;
  int jobs = 0;
  Console* console = nullptr;
  std::optional<PlanSubjects> subjects;

  Status check_model(const Model& given) const {
    MCOMPRESS_TRY(check_subjects(plan, *subjects));
    for (const PlannedDecision& line : plan.decisions) {
      const PlanSubject* subject = subjects->find(line.subject());
      if (subject == nullptr || !line.shape || subject->shape == line.shape) continue;
      return Error(
          Code::kInput, "plan-other-shape",
          "has the shape " + shape_text(subject->shape) + ", in the plan " + shape_text(line.shape),
          line.where, "the plan was made for another model");
    }
    const std::uint64_t digest = fingerprint(given);
    if (digest == plan.model_digest || model == PlanModel::kOther) return ok_status();
    return Error(Code::kInput, "plan-other-model",
                 "the plan was made for another model: digest " + digest_text(plan.model_digest) +
                     (plan.model.empty() ? "" : " of '" + plan.model + "'") + ", this one has " +
                     digest_text(digest),
                 {file, {}, {}}, "every tensor is there alike: --other-model applies it");
  }

  Result<Recipe> recipe_for(const Model& given) {
    MCOMPRESS_ASSIGN(const TargetChoice choice, TargetChoice::of(target));
    MCOMPRESS_ASSIGN(const auto runtime, find_runtime("onnxruntime"));
    Diagnostics unheard;
    Services services;
    services.runtime = runtime;
    services.target = &choice.target();
    services.diagnostics = &unheard;
    services.threads = jobs;
    MCOMPRESS_ASSIGN(subjects, PlanSubjects::find(given, plan.recipe, services));
    Status same = check_model(given);
    if (!same.ok()) return std::move(same).error().in_file(file);
    return recipe_of(plan, builtin_passes(),
                     [this](const PlannedDecision& line) { return subjects->pattern_of(line); });
  }

  Status check(const RunFacts& facts) const {
    Status held = check_decisions(plan, facts.explain, facts.recipe, builtin_passes(), *subjects);
    if (!held.ok()) return std::move(held).error().in_file(file);
    const std::vector<std::uint64_t> digests = data_digests(facts.services);
    if (plan.data_digests.empty() || digests.empty() || digests == plan.data_digests) {
      return ok_status();
    }
    Diagnostics found;
    found.warn("plan-other-data",
               "the calibration data are not those of the plan: what it predicts may be otherwise",
               {file, {}, {}});
    console->show(found);
    return ok_status();
  }
};

}  // namespace

Result<Plan> read_plan(const std::string& path, Console& console) {
  auto datum = read_datum_file(path);
  Diagnostics diagnostics;
  auto plan = datum.ok() ? parse_plan(*datum, builtin_passes(), diagnostics)
                         : Result<Plan>(std::move(datum).error());
  console.show(diagnostics);
  if (plan.ok()) return plan;
  Error error = std::move(plan).error().in_file(path);
  if (error.diagnostic.id != "file-unreadable") error.code = Code::kUsage;
  return error;
}

void note_decisions(Job& job, Plan& plan) {
  job.finished = [&plan, name = file_name(job.input)](const RunFacts& facts) -> Status {
    plan.model = name;
    plan.model_digest = fingerprint(facts.original);
    plan.data_digests = data_digests(facts.services);
    plan.recipe = facts.recipe;
    plan.recipe.data = Datum();
    plan.bytes_before = facts.bytes_before;
    plan.bytes_after = facts.bytes_after;
    if (facts.comparison != nullptr) {
      for (const OutputError& output : facts.comparison->outputs) {
        if (output.values == 0) continue;
        const double rounded = std::round(output.sqnr_db * 100) / 100;
        plan.output_sqnr_db = std::min(rounded, plan.output_sqnr_db.value_or(rounded));
      }
    }
    MCOMPRESS_ASSIGN(const PlanSubjects subjects,
                     PlanSubjects::find(facts.original, facts.recipe, facts.services));
    plan.decisions = planned_decisions(facts.explain, facts.recipe, builtin_passes(), subjects);
    return ok_status();
  };
}

void carry_out(Job& job, Plan plan, const std::string& file, PlanModel model, Console& console) {
  auto applied = std::make_shared<Applied>();
  applied->plan = std::move(plan);
  applied->file = file;
  applied->model = model;
  applied->target = job.options.target;
  applied->jobs = static_cast<int>(job.options.jobs);
  applied->console = &console;
  job.names_are_checked = true;
  job.choose_recipe = [applied](const Model& given, ReportScope&) {
    return applied->recipe_for(given);
  };
  job.decided = [applied](const RunFacts& facts) { return applied->check(facts); };
}

}  // namespace mcompress::tools
