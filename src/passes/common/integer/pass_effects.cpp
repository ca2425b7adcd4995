// The layers of passes that quantize weight by weight, measured by running the pass with all but
// one of them left out.
#include "passes/common/integer/pass_effects.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "mcompress/precision.h"
#include "passes/common/guard.h"
#include "passes/common/integer/choice_search.h"
#include "passes/common/integer/precision_units.h"
#include "passes/common/integer/unit_effects.h"
#include "support/executor.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::int64_t kGuardSamples = 16;  // what the summary of a run compares
constexpr std::int64_t kMostTrials = 40;

class PassLayers {
 public:
  PassLayers(const Model& model, const RecipeStep& step, std::string target,
             const PrecisionServices& precision, const PrecisionGoal& goal,
             const Services& services)
      : model_(model),
        step_(step),
        target_(std::move(target)),
        precision_(precision),
        goal_(goal),
        services_(services),
        executor_(services.threads) {}

  // `ranked`: what an earlier run found, whose ranking holds; empty: it is measured.
  Result<LayerEffects> run(std::optional<LayerEffects> ranked = std::nullopt) {
    DataSource* data = precision_.data != nullptr ? precision_.data : services_.calibration_data;
    if (data == nullptr || services_.runtime == nullptr || precision_.measure == nullptr) {
      return Error(Code::kUsage, "no-samples", "measuring layers needs samples and a runtime");
    }
    const bool known = ranked.has_value();
    if (known) {
      effects_ = *std::move(ranked);
      effects_.keep.clear();
    } else {
      MCOMPRESS_TRY(find_layers());
    }
    if (effects_.layers.empty()) return std::move(effects_);
    guard_.emplace(*services_.runtime, *data, kGuardSamples, Guard::Samples::kFirst);
    MCOMPRESS_TRY(guard_->open_reference(nullptr, model_, &executor_));
    MCOMPRESS_ASSIGN(const Figures all, judge({}));
    effects_.quantized_sqnr_db = effects_.kept_sqnr_db = all.sqnr;
    effects_.quantized_drop = effects_.kept_drop = all.drop;
    effects_.holds = all.holds;
    if (!known) MCOMPRESS_TRY(rank(*data));
    if (!all.holds) MCOMPRESS_TRY(search(all));
    return std::move(effects_);
  }

 private:
  struct Figures {
    double sqnr = 0;
    std::optional<double> drop;
    bool holds = true;
  };

  // A copy on which the pass ran, with these patterns in place of or besides its own.
  Result<std::unique_ptr<Model>> quantized(std::string_view key, std::vector<std::string> patterns,
                                           Explain& explain) const {
    Recipe recipe;
    recipe.target = target_;
    recipe.steps = {step_};
    Datum list = Datum::list();
    const Datum* given = step_.options.find(key);
    if (key == "exclude" && given != nullptr && given->as_list() != nullptr) list = *given;
    for (const std::string& pattern : patterns) list.push(Datum::string(pattern));
    recipe.steps[0].options.set(key, std::move(list));
    std::unique_ptr<Model> copy = model_.clone();
    MCOMPRESS_TRY(run_unheard(*copy, recipe, services_, explain));
    return copy;
  }

  // What the pass quantizes when it is let.
  Status find_layers() {
    Explain explain;
    MCOMPRESS_TRY(quantized("exclude", {}, explain));
    std::set<std::string> seen;
    for (const Decision& decision : explain.all()) {
      if (!decision.applied || !seen.insert(decision.subject).second) continue;
      LayerEffect effect;
      effect.name = decision.subject;
      effect.pattern = literal_pattern(decision.subject);
      effect.op_type = decision.op_type;
      effect.weight_bytes = decision.bytes_before;
      effects_.layers.push_back(std::move(effect));
    }
    return ok_status();
  }

  // The first node that reads the weight; null where it is read in a body.
  const Node* first_reader(const std::string& weight) const {
    const Value* value = model_.graph().find(weight);
    if (value == nullptr) return nullptr;
    std::set<const Node*> readers;
    for (const Use& use : value->uses()) {
      if (use.node == nullptr || &use.node->graph() != &model_.graph()) return nullptr;
      readers.insert(use.node);
    }
    const Graph& graph = model_.graph();
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (readers.count(node) != 0) return node;
    }
    return nullptr;
  }

  // `restored` by place in the ranking.
  Result<Figures> judge(const std::vector<bool>& restored) {
    std::vector<std::string> patterns;
    for (std::size_t i = 0; i < restored.size(); ++i) {
      if (restored[i]) patterns.push_back(effects_.layers[i].pattern);
    }
    Explain explain;
    MCOMPRESS_ASSIGN(const std::unique_ptr<Model> copy, quantized("exclude", patterns, explain));
    if (precision_.finish) MCOMPRESS_TRY(precision_.finish(*copy, patterns));
    ++effects_.trials;
    MCOMPRESS_ASSIGN(const auto session, services_.runtime->open(*copy, SessionOptions{}));
    Figures figures;
    MCOMPRESS_ASSIGN(figures.sqnr, guard_->sqnr_db(*session));
    figures.holds = figures.sqnr >= goal_.min_sqnr;
    if (goal_.max_drop < 100 && precision_.drop) {
      MCOMPRESS_ASSIGN(figures.drop, precision_.drop(*session));
      figures.holds = figures.holds && *figures.drop <= goal_.max_drop + 5e-4;
    }
    return figures;
  }

  Status rank(DataSource& data) {
    UnitSource source;
    source.model = &model_;
    source.count = effects_.layers.size();
    source.first = [&](std::size_t i) { return first_reader(effects_.layers[i].name); };
    source.own = [](std::size_t) { return static_cast<const Value*>(nullptr); };
    source.emit = [&](std::size_t i) -> Result<UnitTrial> {
      UnitTrial trial;
      Explain explain;
      MCOMPRESS_ASSIGN(trial.model, quantized("include", {effects_.layers[i].pattern}, explain));
      return trial;
    };
    EffectOptions options;
    options.samples = precision_.measure->samples;
    options.memory_budget = services_.memory_budget;
    Progress& progress = services_.progress != nullptr ? *services_.progress : silent_progress();
    MCOMPRESS_ASSIGN(const EffectRun run, measure_effects(*services_.runtime, source, data, options,
                                                          executor_, progress));
    effects_.metric = precision_.measure->metric;
    effects_.samples = run.samples;
    effects_.cuts = run.cuts;
    effects_.passes = run.passes;
    for (std::size_t i = 0; i < effects_.layers.size(); ++i) {
      effects_.layers[i].sqnr_db = decibel(run.units[i].noise);
      effects_.layers[i].kl = run.units[i].kl;
      effects_.layers[i].agreement = run.units[i].agreement;
    }
    std::stable_sort(
        effects_.layers.begin(), effects_.layers.end(),
        [&](const LayerEffect& a, const LayerEffect& b) { return badness(a) > badness(b); });
    return ok_status();
  }

  std::pair<double, double> badness(const LayerEffect& effect) const {
    if (effects_.metric == EffectMetric::kKl) return {effect.kl, -effect.sqnr_db};
    if (effects_.metric == EffectMetric::kAgreement) {
      return {1 - effect.agreement, -effect.sqnr_db};
    }
    return {-effect.sqnr_db, effect.kl};
  }

  double score(const Figures& figures) const {
    return goal_.max_drop < 100 ? -1e3 * figures.drop.value_or(100) + figures.sqnr : figures.sqnr;
  }

  Status search(const Figures& all) {
    std::map<std::vector<bool>, Figures> known;
    const auto tried = [&](const std::vector<bool>& restored) -> Result<ChoiceVerdict> {
      MCOMPRESS_ASSIGN(const Figures figures, judge(restored));
      known[restored] = figures;
      return ChoiceVerdict{figures.holds, score(figures)};
    };
    MCOMPRESS_ASSIGN(
        const FoundChoice found,
        search_choice(effects_.layers.size(), {false, score(all)}, 1, kMostTrials, tried));
    for (std::size_t i = 0; i < found.restored.size(); ++i) {
      if (found.restored[i]) effects_.keep.push_back(i);
    }
    const auto best = known.find(found.restored);
    if (best == known.end()) return ok_status();
    effects_.holds = best->second.holds;
    effects_.kept_sqnr_db = best->second.sqnr;
    effects_.kept_drop = best->second.drop;
    return ok_status();
  }

  const Model& model_;
  const RecipeStep& step_;
  std::string target_;
  const PrecisionServices& precision_;
  const PrecisionGoal& goal_;
  const Services& services_;
  Executor executor_;
  std::optional<Guard> guard_;
  LayerEffects effects_;
};

}  // namespace

Result<LayerEffects> measure_layers(const Model& prepared, const RecipeStep& step,
                                    const std::string& target, const PrecisionServices& precision,
                                    const PrecisionGoal& goal, const Services& services) {
  return PassLayers(prepared, step, target, precision, goal, services).run();
}

Result<LayerEffects> search_ranked_layers(const Model& prepared, const RecipeStep& step,
                                          const std::string& target,
                                          const PrecisionServices& precision,
                                          const PrecisionGoal& goal, const Services& services,
                                          LayerEffects ranked) {
  return PassLayers(prepared, step, target, precision, goal, services).run(std::move(ranked));
}

}  // namespace mcompress
