#include "mcompress/pipeline.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <future>
#include <optional>

#include "ir/walk.h"
#include "pass/function_run.h"
#include "pass/guard.h"
#include "pass/schedule.h"
#include "support/executor.h"
#include "support/files.h"
#include "support/try.h"

namespace mcompress {
namespace {

Status dump_to(const std::filesystem::path& folder, std::size_t number, std::string_view pass,
               const Model& model) {
  char prefix[32];
  std::snprintf(prefix, sizeof prefix, "%02zu-", number);
  const std::filesystem::path path = folder / (prefix + std::string(pass) + ".txt");
  AtomicOutput output(real_files(), AtomicOutput::Durability::kRelaxed);
  MCOMPRESS_TRY(output.add_folder(folder.string()));
  MCOMPRESS_ASSIGN(OutputFile* const file, output.add(path.string()));
  MCOMPRESS_TRY(file->write(dump(model)));
  return output.commit();
}

Error after_passes(Error error, std::string culprit) {
  error.code = Code::kInternal;
  error.diagnostic.message = std::move(culprit) + " broke the graph: " + error.diagnostic.message;
  error.diagnostic.hint = "this is a defect of mcompress; please report it with the model";
  return error;
}

std::uint64_t constant_bytes(Model& model) {
  std::uint64_t bytes = 0;
  for_each_graph(model.graph(), [&](Graph& graph) {
    for (const Value* value : graph.initializers()) {
      if (value->initializer() != nullptr) bytes += value->initializer()->byte_size();
    }
  });
  return bytes;
}

// Shows nothing, and can still be interrupted.
class Unseen final : public Progress {
 public:
  explicit Unseen(const Progress* seen) : seen_(seen) {}
  void update(std::string_view, std::uint64_t, std::uint64_t, std::string_view) override {}
  bool cancelled() const override { return seen_ != nullptr && seen_->cancelled(); }

 private:
  const Progress* seen_;
};

// One run of a recipe over one model.
class PipelineRun {
 public:
  PipelineRun(Model& model, const Recipe& recipe, const PassRegistry& registry,
              const Services& services, const PipelineOptions& options, Explain& explain,
              Report& report)
      : model_(model),
        recipe_(recipe),
        registry_(registry),
        services_(services),
        options_(options),
        explain_(explain),
        report_(report),
        tensors_(make_tensor_factory(options.tensor_heap_budget)),
        executor_(services.threads),
        editor_(model, &onnx_catalog()) {}

  Status run() {
    if (options_.verify != VerifyLevel::kOff) MCOMPRESS_TRY(verify(model_));
    const std::uint64_t first_revision = model_.revision();
    choose_guard();
    for (const StepGroup& group : schedule(recipe_, registry_)) {
      MCOMPRESS_TRY(group.repeat ? guarded(group) : once(group));
    }
    if (options_.verify == VerifyLevel::kEnds && model_.revision() != first_revision) {
      Status sound = verify(model_);
      if (!sound.ok()) {
        Error error = after_passes(std::move(sound).error(), "one of the passes");
        error.diagnostic.hint += "; where passes are dumped, it is named";
        return error;
      }
    }
    report_guard();
    return ok_status();
  }

 private:
  void choose_guard() {
    mode_ = services_.runtime != nullptr ? options_.guard : GuardMode::kOff;
    if (mode_ == GuardMode::kOff) return;
    constexpr std::uint64_t kSmallModel = std::uint64_t{256} << 20;
    small_ = constant_bytes(model_) <= kSmallModel;
    if (mode_ == GuardMode::kAuto) mode_ = small_ ? GuardMode::kModel : GuardMode::kSite;
    guard_.emplace(*services_.runtime, services_.calibration_data, recipe_.seed,
                   options_.guard_tolerance, executor_.threads());
  }

  const PassInfo& info_of(std::size_t step) const {
    return *registry_.find(recipe_.steps[step].pass);
  }

  Status once(const StepGroup& group) {
    for (const std::size_t step : group.steps) {
      const bool guarded = mode_ != GuardMode::kOff && info_of(step).keeps_results;
      if (!guarded) before_.reset();  // it would keep data that the step replaces
      MCOMPRESS_TRY(guarded ? guarded_step(step, mode_ == GuardMode::kModel).status
                            : run_step(step, 1).status);
    }
    return in_functions(group, false);
  }

  // A whole group is judged once. Only where that shows a difference, it is run again pass by pass
  // to find the culprit.
  Status guarded(const StepGroup& group) {
    if (mode_ != GuardMode::kModel) return converge(group, mode_ == GuardMode::kSite);
    auto start = model_.clone();
    // The passes only read tensors, which never change: the model as it was can run beside them,
    // from the first change on.
    std::future<void> reference;
    const std::size_t decisions = explain_.all().size();
    const Datum passes = passes_so_far();
    const std::size_t dumps = dumps_;
    Status status = converge(group, false, [&] {
      if (reference.valid() || !applied_since(decisions)) return;
      reference = std::async(std::launch::async, [&] { guard_->remember(*start); });
    });
    if (!reference.valid()) return status;
    const bool side_by_side = status.ok() && services_.memory_budget == 0;
    if (!side_by_side) reference.wait();
    MCOMPRESS_TRY(status);
    const Verdict verdict =
        guard_->compare(model_, side_by_side ? [&] { reference.wait(); } : std::function<void()>());
    if (guard_->unreadable()) return *guard_->unreadable();
    if (verdict.holds()) {
      add(verdict);
      return ok_status();
    }
    model_.swap(*start);
    explain_.truncate(decisions);
    report_.root().set("passes", passes);
    dumps_ = dumps;
    remembered_ = false;
    return converge(group, true);
  }

  Datum passes_so_far() const {
    const Datum facts = report_.root().facts();
    const Datum* passes = facts.find("passes");
    return passes != nullptr ? *passes : Datum::list();
  }

  // Types found by inference are no change that could go wrong.
  bool applied_since(std::size_t decisions) const {
    const std::vector<Decision>& all = explain_.all();
    return std::any_of(all.begin() + static_cast<std::ptrdiff_t>(decisions), all.end(),
                       [](const Decision& decision) { return decision.applied; });
  }

  // `ran`: called after every step.
  Status converge(const StepGroup& group, bool check_each,
                  const std::function<void()>& ran = nullptr) {
    const std::size_t decisions = explain_.all().size();
    Worklist worklist(group.cleans);
    for (std::size_t place = 0; worklist.next(place);) {
      const std::size_t step = group.steps[place];
      const int turn = worklist.turns(place) + 1;
      if (turn > 1) explain_.forget_skipped(info_of(step).name, decisions);
      const bool infers = info_of(step).name == "infer-shapes";
      const std::uint64_t known = model_.known_of_types();
      Outcome outcome =
          check_each ? guarded_step(step, mode_ == GuardMode::kModel, turn) : run_step(step, turn);
      MCOMPRESS_TRY(outcome.status);
      if (ran) ran();
      // Types are no edit, but others may now see what they could not: they look again.
      const bool learned = infers && model_.known_of_types() != known;
      worklist.ran(place, outcome.changed || learned, info_of(step).idempotent);
      if (outcome.banned) worklist.ban(place);
    }
    before_.reset();
    MCOMPRESS_TRY(in_functions(group, check_each));
    if (ran) ran();
    return ok_status();
  }

  // The same steps in the bodies of functions. Those are compared as part of the whole model only:
  // alone they can not be run.
  Status in_functions(const StepGroup& group, bool check) {
    FunctionRun bodies(model_, editor_, recipe_, registry_, services_, explain_, *tensors_,
                       executor_);
    if (!bodies.concerns(group)) return ok_status();
    check = check && (mode_ == GuardMode::kModel || small_);
    auto before = check ? model_.clone() : nullptr;
    const std::size_t decisions = explain_.all().size();
    const std::uint64_t revision = model_.revision();
    MCOMPRESS_TRY(bodies.run(group));
    if (model_.revision() == revision) return ok_status();
    if (options_.verify == VerifyLevel::kEachPass) {
      Status sound = verify(model_);
      if (!sound.ok()) return after_passes(std::move(sound).error(), "a pass over functions");
    }
    if (check) {
      guard_->remember(*before);
      remembered_ = false;
      const Verdict verdict = guard_->compare(model_);
      add(verdict);
      if (!verdict.holds()) {
        undo(*before, decisions, "over the bodies of functions", verdict);
        return ok_status();
      }
    }
    report_.root().item("passes", "function-bodies").set("changed", Datum::boolean(true));
    return ok_status();
  }

  struct Outcome {
    Status status = ok_status();
    bool changed = false;
    bool banned = false;
  };

  // Runs a step, compares, and undoes it where it changed what the model computes.
  Outcome guarded_step(std::size_t step, bool whole_model, int turn = 1) {
    // One copy serves all passes up to the next that changes something: most change nothing.
    if (before_ == nullptr || before_state_ != model_.state()) before_ = model_.clone();
    before_state_ = model_.state();
    const std::size_t decisions = explain_.all().size();
    Outcome outcome = run_step(step, turn);
    if (!outcome.status.ok() || !outcome.changed) return outcome;
    const std::unique_ptr<Model> before = std::move(before_);
    Verdict verdict;
    if (whole_model) {
      if (!remembered_ || !recipe_.converge) guard_->remember(*before);
      remembered_ = true;
      if (guard_->unreadable()) {
        outcome.status = *guard_->unreadable();
        return outcome;
      }
      verdict = guard_->compare(model_);
    } else {
      verdict = guard_->compare_sites(*before, model_);
      if (!verdict.holds() && small_) ask_whole_model(*before, verdict);
    }
    add(verdict);
    if (verdict.holds()) return outcome;
    undo(*before, decisions, std::string(info_of(step).name), verdict);
    outcome.changed = false;
    outcome.banned = true;
    return outcome;
  }

  void undo(Model& before, std::size_t decisions, const std::string& name, const Verdict& verdict) {
    model_.swap(before);
    explain_.truncate(decisions);
    Decision decision;
    decision.subject = name;
    decision.why = "undone: it changed what the model computes: " + verdict.broken;
    explain_.skipped(std::move(decision));
    services_.diagnostics->warn(
        "pass-undone",
        "pass " + name + " changed what the model computes and was undone: " + verdict.broken,
        {{}, {}, name}, "this is a defect of mcompress; please report it with the model");
    undone_.push_back(name);
  }

  // A pass may change a value and make up for it far behind, as a factor that moves through a
  // Reshape does: what looks broken where it was cut may be right as a whole.
  void ask_whole_model(const Model& before, Verdict& verdict) {
    guard_->remember(before);
    Verdict whole = guard_->compare(model_);
    if (whole.checked > 0) verdict.broken = std::move(whole.broken);
  }

  Outcome run_step(std::size_t place, int turn) {
    Outcome outcome;
    outcome.status = run_pass(place, turn, outcome.changed);
    return outcome;
  }

  Status run_pass(std::size_t place, int turn, bool& changed) {
    const RecipeStep& step = recipe_.steps[place];
    const PassInfo& info = info_of(place);
    if (services_.progress != nullptr) {
      services_.progress->update(step.pass, place, recipe_.steps.size(), "passes");
      if (services_.progress->cancelled()) {
        return Error(Code::kCancelled, "cancelled", "interrupted before pass " + step.pass);
      }
    }
    MCOMPRESS_ASSIGN(auto pass, info.create(step.options, *services_.diagnostics));
    explain_.set_pass(info.name);
    // A repetition is in the report when it did something.
    ReportScope repetition;
    ReportScope& scope = turn == 1 ? report_.root().item("passes", info.name) : repetition;
    PassContext context(editor_, services_, explain_, scope, *tensors_, executor_, recipe_.seed,
                        &facts_);
    const std::uint64_t revision = model_.revision();
    Status status = pass->run(model_, context);
    if (!status.ok()) {
      return std::move(status).error().at("pass " + std::string(info.name));
    }
    changed = model_.revision() != revision;
    scope.set("changed", Datum::boolean(changed));
    if (turn > 1 && changed) {
      ReportScope& item = report_.root().item("passes", info.name);
      const Datum facts = repetition.facts();
      for (const auto& [key, value] : *facts.as_map()) item.set(key, value);
      item.count("turn", turn);
    }
    if (changed && options_.verify == VerifyLevel::kEachPass) {
      Status sound = verify(model_);
      if (!sound.ok()) {
        return after_passes(std::move(sound).error(), "pass " + std::string(info.name));
      }
    }
    if (!options_.dump_folder.empty() && (turn == 1 || changed)) {
      MCOMPRESS_TRY(dump_to(options_.dump_folder, ++dumps_, info.name, model_));
    }
    return ok_status();
  }

  void add(const Verdict& verdict) {
    sites_ += verdict.sites;
    checked_ += verdict.checked;
    if (why_not_.empty()) why_not_ = verdict.why_not;
  }

  void report_guard() {
    if (mode_ == GuardMode::kOff) return;
    ReportScope& scope = report_.root().child("guard");
    scope.text("mode", mode_ == GuardMode::kModel ? "model" : "site");
    scope.count("sites", sites_);
    scope.count("checked", checked_);
    if (!why_not_.empty()) scope.text("why_not", why_not_);
    Datum names = Datum::list();
    for (const std::string& name : undone_) names.push(Datum::string(name));
    scope.set("undone", std::move(names));
    if (checked_ < sites_) {
      services_.diagnostics->note(
          "guard-not-checked", std::to_string(sites_ - checked_) + " of " + std::to_string(sites_) +
                                   " changes were not checked by running them: " + why_not_);
    }
  }

  Model& model_;
  const Recipe& recipe_;
  const PassRegistry& registry_;
  const Services& services_;
  const PipelineOptions& options_;
  Explain& explain_;
  Report& report_;
  std::unique_ptr<TensorFactory> tensors_;
  Executor executor_;
  Editor editor_;
  FactStore facts_;
  GuardMode mode_ = GuardMode::kOff;
  std::optional<NumericGuard> guard_;
  bool small_ = false;
  bool remembered_ = false;
  std::unique_ptr<Model> before_;  // the model in the state of that number; null: none
  std::uint64_t before_state_ = 0;
  std::size_t dumps_ = 0;
  std::int64_t sites_ = 0, checked_ = 0;
  std::string why_not_;
  std::vector<std::string> undone_;
};

}  // namespace

Status run_pipeline(Model& model, const Recipe& recipe, const PassRegistry& registry,
                    const Services& services, const PipelineOptions& options, Explain& explain,
                    Report& report) {
  Services effective = services;
  if (effective.target == nullptr) effective.target = find_target(recipe.target);
  if (effective.target == nullptr) return unknown_target(recipe.target, {{}, "target", {}});
  for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
    const std::string& name = recipe.steps[i].pass;
    if (registry.find(name) != nullptr) continue;
    return registry.unknown(name, {{}, "passes[" + std::to_string(i) + "]", {}});
  }
  return PipelineRun(model, recipe, registry, effective, options, explain, report).run();
}

Status run_unheard(Model& model, const Recipe& recipe, const Services& services, Explain& explain) {
  Services quiet = services;
  Diagnostics unheard;
  quiet.diagnostics = &unheard;
  Unseen unseen(services.progress);
  quiet.progress = &unseen;
  PipelineOptions options;
  options.verify = VerifyLevel::kOff;
  Report report;
  return run_pipeline(model, recipe, builtin_passes(), quiet, options, explain, report);
}

}  // namespace mcompress
