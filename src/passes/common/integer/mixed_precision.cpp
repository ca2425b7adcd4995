#include "passes/common/integer/mixed_precision.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>

#include "passes/common/guard.h"
#include "passes/common/integer/choice_search.h"
#include "passes/common/integer/precision_units.h"
#include "passes/common/integer/unit_effects.h"
#include "passes/common/memory_share.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kExactDb = 200;
// Trials of single layers that a choice may cost; the others are ranked by an estimate.
constexpr std::size_t kMostMeasured = 128;
// What the summary of a run compares: whoever asks for a figure finds it there.
constexpr std::int64_t kAskedSamples = 16;

// Nodes by their noise to signal ratio, largest first, as pairs of minus the ratio and the node:
// that of the weight, and those of rounding what it reads and what it makes (scale^2 / 12 over the
// mean square).
std::vector<std::pair<double, std::uint32_t>> noise_of_nodes(
    const StaticPlan& plan, const CalibrationTable& table,
    const std::map<std::uint32_t, ActivationScale>& scales,
    const std::map<std::string, double>& weight_sqnr) {
  const auto noise_of = [&](const Value& value) {
    const auto scale = scales.find(value.id());
    const ValueStats* stats = table.find(value.name());
    if (scale == scales.end() || stats == nullptr || stats->mean_square <= 0) return 0.0;
    const double step = scale->second.scale;
    return step * step / 12 / stats->mean_square;
  };
  std::vector<std::pair<double, std::uint32_t>> ranked;
  for (const IntegerNode& node : plan.nodes) {
    double noise = noise_of(*node.output);
    for (const std::size_t slot : node.inputs) noise += noise_of(*node.node->input(slot));
    if (node.kind == OperatorRule::Kind::kWeighted) {
      const auto weight = weight_sqnr.find(std::string(node.weight->name()));
      if (weight != weight_sqnr.end()) noise += std::pow(10, -weight->second / 10);
    }
    ranked.emplace_back(-noise, node.node->id());
  }
  std::sort(ranked.begin(), ranked.end());
  return ranked;
}

// A perplexity rises, by percent; other metrics drop, by points.
std::string drop_text(const std::string& metric, double drop) {
  if (metric == "perplexity") return metric + " rises by " + fixed(drop, 2) + " %";
  return metric + " drops by " + fixed(drop, 2) + " points";
}

// How good a whole choice is.
struct ChoiceFigures {
  double sqnr = kExactDb;
  std::optional<double> drop;
  bool holds = true;
};

class PrecisionChoice {
 public:
  PrecisionChoice(const Model& model, PassContext& context, const StaticPlan& plan,
                  const std::map<std::uint32_t, ActivationScale>& scales, const TrialEmitter& emit,
                  const MixedPrecisionOptions& options, const PlanOptions& base)
      : model_(model),
        context_(context),
        plan_(plan),
        scales_(scales),
        emit_(emit),
        options_(options),
        base_(base),
        services_(precision_services(context)),
        units_(precision_units(plan)) {
    base_.explain = false;
  }

  Status open() {
    if (options_.max_drop < 100 && (services_ == nullptr || !services_->drop)) {
      return Error(Code::kUsage, "drop-without-data",
                   "a largest drop is asked for, and nothing measures it", {{}, "max-drop", {}},
                   "give --calib DATA, and --eval DATA with labels");
    }
    data_ = context_.calibration_data();
    if (services_ != nullptr && services_->data != nullptr) data_ = services_->data;
    if (data_ == nullptr) {
      return Error(Code::kUsage, "sqnr-without-data", "a least SQNR is asked for without samples",
                   {{}, "min-sqnr", {}}, "give --calib DATA");
    }
    MCOMPRESS_ASSIGN(runtime_, context_.runtime());
    // What was asked for is measured on the samples that the summary shows.
    guard_.emplace(*runtime_, *data_, options_.asked() ? kAskedSamples : options_.guard_samples,
                   options_.asked() ? Guard::Samples::kFirst : Guard::Samples::kSpread);
    guard_->limit_memory(context_.memory_budget() / 2);  // the ranking needs memory beside it
    MCOMPRESS_TRY(guard_->open_reference(context_.reference(), model_, &context_.executor()));
    tell_memory(context_, "comparing choices of layers", guard_->memory_plan(),
                guard_->least_memory());
    return ok_status();
  }

  Status restore(PlanOptions& chosen) {
    MCOMPRESS_ASSIGN(first_, judge({}));
    context_.report().number("sqnr_db", first_.sqnr);
    if (first_.holds && !options_.asked()) return ok_status();
    FoundChoice found;
    found.restored.assign(units_.size(), false);
    ChoiceFigures last = first_;
    if (!first_.holds) {
      MCOMPRESS_TRY(rank(options_.guard_samples, kMostMeasured, EffectMetric::kSqnr));
      MCOMPRESS_ASSIGN(found, search());
      const auto seen = figures_.find(found.restored);
      if (seen != figures_.end()) last = seen->second;
    }
    for (std::size_t place = 0; place < found.restored.size(); ++place) {
      if (!found.restored[place]) continue;
      const std::uint32_t id = units_[ranking_[place]].node->id();
      chosen.keep_float.insert(id);
      chosen.keep_reason.try_emplace(id, reason(place));
      if (whole_) services_->whole->push_back(pattern_of(ranking_[place]));
    }
    report(found, last);
    return ok_status();
  }

  Status measure(const EffectRequest& wanted, LayerEffects& effects) {
    MCOMPRESS_ASSIGN(first_, judge({}));
    MCOMPRESS_TRY(rank(wanted.samples, units_.size(), wanted.metric));
    effects.metric = wanted.metric;
    effects.samples = run_.samples;
    effects.cuts = run_.cuts;
    effects.passes = run_.passes;
    effects.quantized_sqnr_db = first_.sqnr;
    effects.quantized_drop = first_.drop;
    for (const std::size_t unit : ranking_) effects.layers.push_back(effect_of(unit));
    FoundChoice found;
    ChoiceFigures last = first_;
    effects.keep.clear();
    if (!first_.holds) {
      MCOMPRESS_ASSIGN(found, search());
      const auto seen = figures_.find(found.restored);
      if (seen != figures_.end()) last = seen->second;
      for (std::size_t place = 0; place < found.restored.size(); ++place) {
        if (found.restored[place]) effects.keep.push_back(place);
      }
    }
    effects.trials = trials_;
    effects.holds = last.holds;
    effects.kept_sqnr_db = last.sqnr;
    effects.kept_drop = last.drop;
    return ok_status();
  }

 private:
  // `restored` by place in the ranking; empty: none.
  Result<ChoiceFigures> judge(const std::vector<bool>& restored) {
    PlanOptions trial = base_;
    std::vector<std::string> patterns;
    for (std::size_t place = 0; place < restored.size(); ++place) {
      if (!restored[place]) continue;
      trial.keep_float.insert(units_[ranking_[place]].node->id());
      std::string pattern = pattern_of(ranking_[place]);
      if (!pattern.empty() && leaves_weights()) patterns.push_back(std::move(pattern));
    }
    MCOMPRESS_ASSIGN(StaticTrial attempt, emit_(trial, std::nullopt));
    for (const auto& [weight, decibel] : attempt.weight_sqnr) weight_sqnr_[weight] = decibel;
    ++trials_;
    context_.progress().update("mixed precision", static_cast<std::uint64_t>(trials_),
                               static_cast<std::uint64_t>(options_.max_trials), "choices");
    if (context_.progress().cancelled()) {
      return Error(Code::kCancelled, "cancelled", "stopped on request");
    }
    ChoiceFigures figures;
    if (options_.asked()) {
      if (services_ != nullptr && services_->finish) {
        MCOMPRESS_TRY(services_->finish(*attempt.model, patterns));
        attempt.session.reset();
      }
    } else if (attempt.integer_nodes == 0) {
      return figures;
    }
    std::unique_ptr<Session> session = std::move(attempt.session);
    if (session == nullptr) {
      MCOMPRESS_ASSIGN(session, guard_->open(*attempt.model));
    }
    MCOMPRESS_ASSIGN(figures.sqnr, guard_->sqnr_db(*session));
    const double least = options_.asked() ? options_.min_sqnr : options_.guard_sqnr;
    figures.holds = figures.sqnr >= least;
    if (options_.max_drop < 100) {
      MCOMPRESS_ASSIGN(figures.drop, services_->drop(*session));
      // A figure of hundredths is what a reader sees.
      figures.holds = figures.holds && *figures.drop <= options_.max_drop + 5e-4;
    }
    return figures;
  }

  // First with the weights of restored layers as small as what follows makes them. Where the worst
  // of the noise is theirs, that never is enough, and they stay whole.
  Result<FoundChoice> search() {
    MCOMPRESS_ASSIGN(FoundChoice found, search_once());
    if (found.verdict.holds || !options_.asked() || leaves_weights()) return found;
    const std::map<std::vector<bool>, ChoiceFigures> before = std::exchange(figures_, {});
    whole_ = true;
    MCOMPRESS_ASSIGN(FoundChoice other, search_once());
    if (other.verdict.holds || other.verdict.score > found.verdict.score) return other;
    whole_ = false;
    figures_ = before;
    return found;
  }

  // Whether what follows the pass leaves the weights of restored layers alone.
  bool leaves_weights() const {
    return whole_ || services_ == nullptr || services_->whole == nullptr;
  }

  std::string pattern_of(std::size_t unit) {
    return patterns_.of(*units_[unit].node, units_[unit].weight);
  }

  Result<FoundChoice> search_once() {
    ChoiceVerdict nothing;
    nothing.score = score(first_);
    // With the weights of every layer left whole nothing would be quantized at all.
    const std::size_t most = ranking_.size() - (whole_ && !ranking_.empty() ? 1 : 0);
    return search_choice(most, nothing, first_guess(), options_.max_trials,
                         [&](const std::vector<bool>& restored) -> Result<ChoiceVerdict> {
                           MCOMPRESS_ASSIGN(const ChoiceFigures figures, judge(restored));
                           figures_[restored] = figures;
                           ChoiceVerdict verdict;
                           verdict.holds = figures.holds;
                           verdict.score = score(figures);
                           return verdict;
                         });
  }

  // What is asked for decides; the other figure breaks ties.
  double score(const ChoiceFigures& figures) const {
    if (options_.max_drop >= 100) return figures.sqnr;
    return -figures.drop.value_or(100) * 1e3 + figures.sqnr;
  }

  // Noise of independent layers adds up: so many of the worst have to go that what is left of the
  // sum is small enough.
  std::size_t first_guess() const {
    const double least = options_.asked() ? options_.min_sqnr : options_.guard_sqnr;
    if (least <= 0 || first_.sqnr >= least || effect_.empty()) return 1;
    double sum = 0;
    for (const UnitEffect& effect : effect_) sum += effect.noise;
    double rest = sum;
    std::size_t number = 0;
    while (number < ranking_.size() && first_.sqnr + decibel(sum > 0 ? rest / sum : 1) < least) {
      rest -= effect_[ranking_[number++]].noise;
      rest = std::max(rest, 0.0);
    }
    return number;
  }

  // Ranks all units, those of the largest estimated noise by measuring.
  Status rank(std::int64_t samples, std::size_t most, EffectMetric metric) {
    const auto estimates = noise_of_nodes(plan_, *base_.table, scales_, weight_sqnr_);
    std::unordered_map<std::uint32_t, std::size_t> unit_of;
    for (std::size_t i = 0; i < units_.size(); ++i) unit_of.emplace(units_[i].node->id(), i);
    std::vector<std::size_t> order;
    for (const auto& [noise, id] : estimates) {
      const auto unit = unit_of.find(id);
      if (unit != unit_of.end()) order.push_back(unit->second);
    }
    std::vector<std::size_t> measured(
        order.begin(), order.begin() + static_cast<std::ptrdiff_t>(std::min(most, order.size())));
    UnitSource source;
    source.model = &model_;
    source.count = measured.size();
    source.first = [&](std::size_t i) { return units_[measured[i]].node; };
    source.own = [&](std::size_t i) { return units_[measured[i]].output; };
    source.emit = [&](std::size_t i) -> Result<UnitTrial> {
      MCOMPRESS_ASSIGN(StaticTrial trial, emit_(base_, units_[measured[i]].node->id()));
      UnitTrial made;
      made.own = trial.own;
      made.model = std::move(trial.model);
      return made;
    };
    EffectOptions wanted;
    wanted.samples = samples;
    wanted.memory_budget = rest_of(context_.memory_budget(), guard_->held_memory());
    MCOMPRESS_ASSIGN(run_, measure_effects(*runtime_, source, *data_, wanted, context_.executor(),
                                           context_.progress()));
    tell_memory(context_, "the ranking of layers",
                std::to_string(run_.samples) + " samples, " + std::to_string(run_.at_once) +
                    " layers at once; a run takes " + memory_text(run_.run_bytes) +
                    ", what is kept of the samples " + memory_text(run_.kept_bytes),
                run_.least_bytes + guard_->held_memory());
    effect_.assign(units_.size(), UnitEffect{});
    measured_.assign(units_.size(), false);
    for (std::size_t i = 0; i < measured.size(); ++i) {
      effect_[measured[i]] = run_.units[i];
      measured_[measured[i]] = true;
    }
    const auto badness = [&](std::size_t unit) {
      const UnitEffect& effect = effect_[unit];
      if (metric == EffectMetric::kKl) return std::pair(effect.kl, effect.noise);
      if (metric == EffectMetric::kAgreement) return std::pair(1 - effect.agreement, effect.noise);
      return std::pair(effect.noise, effect.kl);
    };
    std::stable_sort(measured.begin(), measured.end(),
                     [&](std::size_t a, std::size_t b) { return badness(a) > badness(b); });
    ranking_ = std::move(measured);
    ranking_.insert(ranking_.end(), order.begin() + static_cast<std::ptrdiff_t>(ranking_.size()),
                    order.end());
    return ok_status();
  }

  LayerEffect effect_of(std::size_t unit) {
    const UnitEffect& measured = effect_[unit];
    LayerEffect effect;
    effect.pattern = pattern_of(unit);
    effect.name = units_[unit].node->label();
    effect.op_type = units_[unit].node->op_type();
    for (const Node* follower : units_[unit].followers) effect.members.push_back(follower->label());
    effect.sqnr_db = decibel(measured.noise);
    effect.kl = measured.kl;
    effect.agreement = measured.agreement;
    if (measured.own_known) effect.own_sqnr_db = decibel(measured.own_noise);
    if (units_[unit].weight != nullptr) {
      effect.weight_bytes = units_[unit].weight->constant()->byte_size();
    }
    effect.measured = measured_[unit];
    return effect;
  }

  std::string reason(std::size_t place) const {
    const std::size_t unit = ranking_[place];
    std::string text = "restored for accuracy: ";
    if (measured_[unit]) {
      text += "alone in integers it leaves the outputs " + fixed(decibel(effect_[unit].noise), 1) +
              " dB, place " + std::to_string(place + 1) + " of " + std::to_string(ranking_.size()) +
              " from the worst";
    } else {
      text += "its own noise is among the largest";
    }
    return text + "; " + shortfall();
  }

  // "with all layers in integers they have 14.1 dB, below 20.0 dB".
  std::string shortfall() const {
    const double least = options_.asked() ? options_.min_sqnr : options_.guard_sqnr;
    std::string text;
    if (first_.sqnr < least) {
      text = "with all layers in integers they have " + fixed(first_.sqnr, 1) + " dB, below " +
             fixed(least, 1) + " dB";
    }
    if (first_.drop && *first_.drop > options_.max_drop) {
      text += (text.empty() ? "with all layers in integers " : ", and ") +
              drop_text(services_->drop_metric, *first_.drop) + ", more than " +
              fixed(options_.max_drop, 2);
    }
    return text;
  }

  void report(const FoundChoice& found, const ChoiceFigures& last) {
    if (!first_.holds) context_.report().number("guarded_sqnr_db", last.sqnr);
    ReportScope& scope = context_.report().child("mixed_precision");
    scope.flag("asked", options_.asked());
    scope.flag("holds", last.holds);
    if (options_.asked() && options_.min_sqnr > 0) scope.number("min_sqnr_db", options_.min_sqnr);
    if (options_.max_drop < 100) {
      scope.text("metric", services_->drop_metric);
      scope.number("max_drop", options_.max_drop);
    }
    scope.number("first_sqnr_db", first_.sqnr);
    if (first_.drop) scope.number("first_drop", *first_.drop);
    scope.number("sqnr_db", last.sqnr);
    if (last.drop) scope.number("drop", *last.drop);
    scope.count("layers", static_cast<std::int64_t>(units_.size()));
    scope.count("samples", run_.samples);
    scope.count("cuts", run_.cuts);
    scope.number("ranking_passes", run_.passes);
    scope.count("choices_run", trials_);
    std::int64_t number = 0;
    for (std::size_t place = 0; place < found.restored.size(); ++place) {
      if (!found.restored[place]) continue;
      ++number;
      const LayerEffect effect = effect_of(ranking_[place]);
      ReportScope& item = scope.item("restored", effect.name);
      item.text("op_type", effect.op_type);
      item.count("place", static_cast<std::int64_t>(place) + 1);
      if (effect.measured) item.number("sqnr_db", effect.sqnr_db);
    }
    scope.count("restored_layers", number);
    if (whole_) scope.flag("whole_weights", true);
  }

  const Model& model_;
  PassContext& context_;
  const StaticPlan& plan_;
  const std::map<std::uint32_t, ActivationScale>& scales_;
  const TrialEmitter& emit_;
  const MixedPrecisionOptions& options_;
  PlanOptions base_;
  const PrecisionServices* services_;
  std::vector<PrecisionUnit> units_;
  OnlyPatterns patterns_;
  Runtime* runtime_ = nullptr;
  DataSource* data_ = nullptr;
  std::optional<Guard> guard_;
  std::map<std::string, double> weight_sqnr_;
  std::vector<std::size_t> ranking_;  // units, worst first
  std::vector<UnitEffect> effect_;    // by unit
  std::vector<bool> measured_;
  EffectRun run_;
  ChoiceFigures first_;
  bool whole_ = false;  // restored layers keep their weights in float32, too
  std::map<std::vector<bool>, ChoiceFigures> figures_;
  std::int64_t trials_ = 0;
};

}  // namespace

const PrecisionServices* precision_services(PassContext& context) {
  const auto* judged = dynamic_cast<const JudgedData*>(context.calibration_data());
  return judged != nullptr ? &judged->services() : nullptr;
}

Status restore_precision(const Model& model, PassContext& context, const StaticPlan& plan,
                         const std::map<std::uint32_t, ActivationScale>& scales,
                         const TrialEmitter& emit, const MixedPrecisionOptions& options,
                         PlanOptions& chosen) {
  PrecisionChoice choice(model, context, plan, scales, emit, options, chosen);
  MCOMPRESS_TRY(choice.open());
  return choice.restore(chosen);
}

Status measure_precision(const Model& model, PassContext& context, const StaticPlan& plan,
                         const std::map<std::uint32_t, ActivationScale>& scales,
                         const TrialEmitter& emit, const MixedPrecisionOptions& options,
                         const PlanOptions& chosen) {
  PrecisionChoice choice(model, context, plan, scales, emit, options, chosen);
  MCOMPRESS_TRY(choice.open());
  return choice.measure(*precision_services(context)->measure,
                        *precision_services(context)->effects);
}

}  // namespace mcompress
