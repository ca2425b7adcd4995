// From a plan that was changed to a recipe that does it.
//
//   recipe:  P(options)          plan: a, b as planned; c kept; d with other options
//   becomes  P(options, exclude c d), P(other options, include d)
#include <algorithm>
#include <map>

#include "mcompress/plan.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Passes that look at the whole graph at once: a second step of theirs would meet what the first
// one made.
bool stands_once(std::string_view pass) {
  return pass == "quantize-static" || pass == "prune-channels";
}

// Options by which tensors compete, and their values when they do not.
struct Goal {
  std::string_view name;
  Datum off;
};

const std::vector<Goal>& goals() {
  static const std::vector<Goal> kGoals = {
      {"avg-bits", Datum::real(0)},   {"max-bytes", Datum::integer(0)},
      {"min-sqnr", Datum::real(0)},   {"max-drop", Datum::real(100)},
      {"guard-sqnr", Datum::real(0)}, {"scope", Datum::string("layer")},
      {"steps", Datum::integer(1)}};
  return kGoals;
}

// Where a pass stands that the recipe does not have.
int rank_of_pass(std::string_view pass) {
  constexpr std::string_view kOrder[] = {"prune-channels",  "factorize-weights", "compress-tables",
                                         "prune-weights",   "quantize-static",   "quantize-dynamic",
                                         "quantize-blocks", "cluster-weights",   "quantize-weights",
                                         "cast-float16",    "pack-weights"};
  return static_cast<int>(std::find(std::begin(kOrder), std::end(kOrder), pass) -
                          std::begin(kOrder));
}

bool has_options(const Datum* list) {
  return list != nullptr && list->as_list() != nullptr && !list->as_list()->empty();
}

class PlanCompiler {
 public:
  PlanCompiler(const Plan& plan, const PassRegistry& registry, const PatternOf& pattern_of)
      : plan_(plan), registry_(registry), pattern_of_(pattern_of) {}

  Result<Recipe> run() {
    Recipe recipe = plan_.recipe;
    if (std::all_of(plan_.decisions.begin(), plan_.decisions.end(),
                    [](const PlannedDecision& one) { return one.planned; })) {
      return recipe;
    }
    collect();
    recipe.steps.clear();
    const std::vector<RecipeStep>& steps = plan_.recipe.steps;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      if (!decides_on_tensors(steps[i].pass)) {
        recipe.steps.push_back(steps[i]);
        continue;
      }
      const bool last = last_step(steps[i].pass) == i;
      MCOMPRESS_TRY(add(steps[i], last, recipe.steps));
    }
    MCOMPRESS_TRY(add_new_passes(recipe.steps));
    return recipe;
  }

 private:
  using Decisions = std::vector<const PlannedDecision*>;

  void collect() {
    for (const PlannedDecision& decision : plan_.decisions) {
      Decisions& about = by_subject_[decision.subject()];
      if (about.empty()) subjects_.push_back(&decision);
      about.push_back(&decision);
    }
    for (const RecipeStep& step : plan_.recipe.steps) {
      if (!decides_on_tensors(step.pass)) continue;
      ++standing_[step.pass];
    }
    for (const RecipeStep& step : plan_.recipe.steps) {
      if (is_pinned(step)) pins_ = true;
    }
  }

  std::size_t last_step(std::string_view pass) const {
    std::size_t last = 0;
    for (std::size_t i = 0; i < plan_.recipe.steps.size(); ++i) {
      if (plan_.recipe.steps[i].pass == pass) last = i;
    }
    return last;
  }

  Datum effective(const RecipeStep& step) const {
    return registry_.find(step.pass)->print(step.options);
  }

  // What an earlier pass made of a tensor that was changed is another tensor now.
  bool stale(const PlannedDecision& decision) const {
    if (decision.made_of.empty() || !decision.planned) return false;
    const auto base = by_subject_.find(decision.made_of);
    return base != by_subject_.end() && !base->second.front()->planned;
  }

  const PlannedDecision* line(const PlannedDecision& subject, std::string_view pass) const {
    for (const PlannedDecision* decision : by_subject_.at(subject.subject())) {
      if (decision->pass == pass) return decision;
    }
    return nullptr;
  }

  // Its tensors compete, so that a change of one moves the others.
  bool is_pinned(const RecipeStep& step) const {
    if (!decides_on_tensors(step.pass) || standing_.at(step.pass) != 1) return false;
    if (step.pass == "prune-channels") return false;  // what it decides is no option of one tensor
    const Datum printed = effective(step);
    return std::any_of(goals().begin(), goals().end(), [&](const Goal& goal) {
      const Datum* value = printed.find(goal.name);
      if (value == nullptr) return false;
      if (goal.name == "scope") {
        return !(*value == Datum::string("layer")) && !(*value == Datum::string("row"));
      }
      return !(*value == goal.off);
    });
  }

  Result<std::string> pattern(const PlannedDecision& decision) const {
    std::string text = pattern_of_ ? pattern_of_(decision) : pattern_of_name(decision.subject());
    if (!text.empty()) return text;
    return Error(Code::kUnsupported, "plan-no-pattern",
                 "no name in the model means this and nothing else", decision.where,
                 "give the node a name of its own in the model");
  }

  Status exclude(const PlannedDecision& decision, RecipeStep& step) const {
    MCOMPRESS_ASSIGN(const std::string text, pattern(decision));
    Datum printed = effective(step);
    Datum list = *printed.find("exclude");
    list.push(Datum::string(text));
    step.options.set("exclude", std::move(list));
    return ok_status();
  }

  bool fits(const RecipeStep& step, const PlannedDecision& decision) const {
    const Datum printed = effective(step);
    if (!stands_once(step.pass) &&
        (has_options(printed.find("include")) || has_options(printed.find("exclude")))) {
      return false;
    }
    for (const auto& [key, value] : *decision.options.as_map()) {
      const Datum* given = printed.find(key);
      // `clusters` says the same in place of `bits`.
      const bool hidden = key == "bits" && step.pass == "cluster-weights" &&
                          !(*printed.find("clusters") == Datum::integer(0));
      if (given == nullptr || hidden || !(*given == value)) return false;
    }
    return true;
  }

  // The options of the step with those of the decision laid over them.
  Datum merged(const RecipeStep& step, const PlannedDecision& decision) const {
    Datum options = without_goals(step);
    auto& map = std::get<Datum::Map>(options.value());
    const auto drop = [&map](std::string_view name) {
      std::erase_if(map, [&](const auto& entry) { return entry.first == name; });
    };
    for (const std::string_view name : {"include", "exclude", "save-mask", "curve"}) drop(name);
    const Datum::Map& own = *decision.options.as_map();
    for (const auto& [key, value] : own) {
      // These would take the place of what is asked for.
      if (key == "bits") drop("clusters");
      if (key == "clusters") drop("bits");
      if (key == "weights") drop("embeddings");
    }
    for (const auto& [key, value] : own) options.set(key, value);
    return options;
  }

  Datum without_goals(const RecipeStep& step) const {
    Datum options = step.options.as_map() != nullptr ? step.options : Datum::map();
    const Datum printed = effective(step);
    for (const Goal& goal : goals()) {
      const Datum* value = printed.find(goal.name);
      if (value == nullptr || *value == goal.off) continue;
      if (goal.name == "scope" && *value == Datum::string("row")) continue;
      options.set(goal.name, goal.off);
    }
    return options;
  }

  // A step with what it may touch, and steps for what differs from it.
  Status add(const RecipeStep& base, bool last, std::vector<RecipeStep>& steps) const {
    const bool pinned = is_pinned(base);
    RecipeStep step = base;
    if (pinned && stands_once(base.pass)) step.options = without_goals(base);
    Decisions apart;
    bool stays = !pinned || stands_once(base.pass);
    for (const PlannedDecision* subject : subjects_) {
      if (stale(*subject)) continue;
      const PlannedDecision* asked = line(*subject, base.pass);
      if (asked == nullptr) {
        const bool matters = !subject->planned || (pins_ && is_matrix(*subject));
        if (stays && matters && (subject->made_of.empty() || !subject->planned)) {
          MCOMPRESS_TRY(exclude(*subject, step));
        }
        continue;
      }
      if (stays && (asked->planned || fits(base, *asked))) continue;
      if (stands_once(base.pass)) {
        return Error(Code::kUnsupported, "plan-one-step",
                     base.pass +
                         " works on the whole graph at once: a tensor can be left to it or "
                         "kept from it, but has no options of its own",
                     asked->where, "change the options in the passes of the plan's recipe");
      }
      if (stays) MCOMPRESS_TRY(exclude(*subject, step));
      apart.push_back(asked);
    }
    if (stays) steps.push_back(std::move(step));
    return last ? add_apart(base, apart, steps) : ok_status();
  }

  static bool is_matrix(const PlannedDecision& decision) {
    return !decision.shape || decision.shape->size() >= 2;
  }

  // A step for all decisions with the same options.
  Status add_apart(const RecipeStep& base, const Decisions& apart,
                   std::vector<RecipeStep>& steps) const {
    std::vector<RecipeStep> own;
    for (const PlannedDecision* decision : apart) {
      // No zeros are asked for.
      const Datum* sparsity = decision->options.find("sparsity");
      if (sparsity != nullptr && *sparsity == Datum::real(0)) continue;
      Datum options = merged(base, *decision);
      MCOMPRESS_ASSIGN(const std::string text, pattern(*decision));
      const auto place = std::find_if(own.begin(), own.end(), [&](RecipeStep& step) {
        Datum compared = step.options;
        std::erase_if(std::get<Datum::Map>(compared.value()),
                      [](const auto& entry) { return entry.first == "include"; });
        return compared == options;
      });
      if (place != own.end()) {
        Datum list = *place->options.find("include");
        list.push(Datum::string(text));
        place->options.set("include", std::move(list));
        continue;
      }
      Datum list = Datum::list();
      list.push(Datum::string(text));
      options.set("include", std::move(list));
      Diagnostics ignored;
      auto made = registry_.find(base.pass)->create(options, ignored);
      if (!made.ok()) {
        Error error = std::move(made).error();
        error.diagnostic.where = decision->where;
        return error;
      }
      own.push_back({base.pass, std::move(options), {}});
    }
    for (RecipeStep& step : own) steps.push_back(std::move(step));
    return ok_status();
  }

  Status add_new_passes(std::vector<RecipeStep>& steps) const {
    std::map<int, Decisions> added;
    for (const PlannedDecision& decision : plan_.decisions) {
      if (decision.keep() || standing_.count(decision.pass) != 0 || stale(decision)) continue;
      added[rank_of_pass(decision.pass)].push_back(&decision);
    }
    for (const auto& [rank, decisions] : added) {
      std::vector<RecipeStep> own;
      MCOMPRESS_TRY(add_apart({decisions.front()->pass, Datum::map(), {}}, decisions, own));
      auto place = std::find_if(steps.begin(), steps.end(), [&, r = rank](const RecipeStep& step) {
        return decides_on_tensors(step.pass) && rank_of_pass(step.pass) > r;
      });
      if (place == steps.end()) {
        const auto behind = std::find_if(steps.rbegin(), steps.rend(), [](const RecipeStep& step) {
          return decides_on_tensors(step.pass);
        });
        place = behind != steps.rend() ? behind.base() : steps.end();
      }
      steps.insert(place, own.begin(), own.end());
    }
    return ok_status();
  }

  const Plan& plan_;
  const PassRegistry& registry_;
  const PatternOf& pattern_of_;
  std::map<std::string, Decisions> by_subject_;
  Decisions subjects_;  // the first decision about each
  std::map<std::string, int> standing_;
  bool pins_ = false;  // some step is spelled out
};

}  // namespace

std::string pattern_of_name(std::string_view name) {
  std::string pattern;
  for (const char c : name) {
    const bool special = c == '*' || c == '?' || c == '[';
    if (special) pattern += '[';
    pattern += c;
    if (special) pattern += ']';
  }
  return pattern;
}

Result<Recipe> recipe_of(const Plan& plan, const PassRegistry& registry,
                         const PatternOf& pattern_of) {
  return PlanCompiler(plan, registry, pattern_of).run();
}

}  // namespace mcompress
