#include "gate/gate_checks.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "judge.h"
#include "mcompress/host.h"

namespace mcompress::tools {
namespace {

using Verdict = GateCheck::Verdict;

// Figures of a baseline are rounded; nothing that is shown differs by less.
constexpr double kSlackDb = 0.005, kSlackShare = 1e-8, kSlackGrowth = 1e-9;
constexpr std::size_t kNamed = 3;

std::string bytes(std::uint64_t number) { return grouped(number); }

std::string points_text(double share) { return decimal_text(share * 100, 2); }

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kNamed; ++i) {
    text += (i == 0 ? "'" : ", '") + names[i] + "'";
  }
  if (names.size() > kNamed) text += " and " + std::to_string(names.size() - kNamed) + " more";
  return text;
}

std::int64_t count_of(const std::map<std::string, std::int64_t>& counts, std::string_view name) {
  const auto found = counts.find(std::string(name));
  return found != counts.end() ? found->second : 0;
}

class Checker {
 public:
  Checker(const Baseline& was, const Baseline& now, const GateLimits& limits)
      : was_(was), now_(now), limits_(limits) {}

  GateOutcome take() {
    sizes();
    quality();
    outputs();
    layers();
    integers();
    memory();
    latency();
    notes();
    return std::move(outcome_);
  }

 private:
  std::optional<double> limit(GateLimit which) const { return limits_.get(which); }

  GateCheck& add(std::string id, std::string name, std::string before, std::string after,
                 std::string allowed) {
    outcome_.checks.push_back({std::move(id),
                               std::move(name),
                               std::move(before),
                               std::move(after),
                               std::move(allowed),
                               Verdict::kPassed,
                               {}});
    return outcome_.checks.back();
  }

  static void miss(GateCheck& check, std::string why) {
    check.verdict = Verdict::kMissed;
    check.why = std::move(why);
  }

  // A figure that one side lacks: no check, unless it was asked for.
  void lack(std::string id, std::string name, GateLimit which, const std::string& why) {
    GateCheck& check = add(std::move(id), std::move(name), "-", "-", limits_.text(which));
    const bool wanted = limit(which) && (limits_.by_flag(which) || gate_limit(which).absolute);
    check.verdict = wanted ? Verdict::kMissed : Verdict::kSkipped;
    check.why = why;
  }

  static std::string flag(GateLimit which) { return "--" + std::string(gate_limit(which).flag); }

  void growth(std::string id, std::string name, std::uint64_t before, std::uint64_t after,
              GateLimit which) {
    const auto most = limit(which);
    GateCheck& check = add(std::move(id), std::move(name), bytes(before), bytes(after),
                           most ? "+" + limits_.text(which) : "off");
    if (!most) {
      check.verdict = Verdict::kSkipped;
      return;
    }
    const double old = static_cast<double>(before), now = static_cast<double>(after);
    if (now <= old * (1 + *most) * (1 + kSlackGrowth)) return;
    miss(check,
         (before > 0 ? decimal_text((now / old - 1) * 100, 2) + " % more" : "there were none") +
             ", and " + flag(which) + " allows " + limits_.text(which));
  }

  void sizes() {
    growth("file-bytes", "file bytes", was_.file_bytes, now_.file_bytes, GateLimit::kBytesGrowth);
    growth("weight-bytes", "weight bytes", was_.weight_bytes, now_.weight_bytes,
           GateLimit::kBytesGrowth);
    const auto most = limit(GateLimit::kMaxBytes);
    if (!most) return;
    GateCheck& check = add("max-bytes", "most bytes", bytes(was_.file_bytes),
                           bytes(now_.file_bytes), bytes(static_cast<std::uint64_t>(*most)));
    if (static_cast<double>(now_.file_bytes) > *most) {
      miss(check, "the file has " + bytes(now_.file_bytes) + " bytes, and --max-bytes allows " +
                      bytes(static_cast<std::uint64_t>(*most)));
    }
  }

  void quality() {
    if (!was_.quality || !now_.quality) {
      const std::string why = now_.quality ? "not in the baseline; --update records it"
                                           : "not known: the data have no labels";
      if (was_.quality || now_.quality || limits_.by_flag(GateLimit::kDrop)) {
        lack("quality", "quality", GateLimit::kDrop, why);
      }
      if (limits_.by_flag(GateLimit::kClassDrop)) {
        lack("classes", "classes", GateLimit::kClassDrop, why);
      }
      return;
    }
    const Evaluation &before = *was_.quality, &after = *now_.quality;
    const std::string metric(metric_name(after.metric));
    if (before.metric != after.metric || before.output != after.output) {
      GateCheck& check = add("quality", metric, std::string(metric_name(before.metric)), metric,
                             limits_.text(GateLimit::kDrop));
      miss(check, "the baseline has " + std::string(metric_name(before.metric)) + " of output '" +
                      before.output + "', this is " + metric + " of '" + after.output + "'");
      return;
    }
    const double drop = drop_between(before, after);
    drop_check("quality", metric, value_text(before), value_text(after), drop, GateLimit::kDrop,
               is_share(after.metric));
    if (after.metric != Metric::kAgreement) agreement(before, after);
    classes(before, after);
  }

  void drop_check(std::string id, std::string name, std::string before, std::string after,
                  double drop, GateLimit which, bool share) {
    const auto most = limit(which);
    const std::string unit = share ? " points" : " %";
    GateCheck& check = add(std::move(id), std::move(name), std::move(before), std::move(after),
                           most ? (share ? "-" : "+") + limits_.text(which) + unit : "off");
    if (!most) {
      check.verdict = Verdict::kSkipped;
    } else if (!(drop <= *most + 100 * kSlackShare)) {
      miss(check, (share ? "lost " : "rose by ") + decimal_text(drop, 2) + unit + ", and " +
                      flag(which) + " allows " + limits_.text(which));
    }
  }

  void agreement(const Evaluation& before, const Evaluation& after) {
    if (!before.agreement || !after.agreement) {
      if (limits_.by_flag(GateLimit::kAgreementDrop)) {
        lack("agreement", "agreement", GateLimit::kAgreementDrop, "there is no reference");
      }
      return;
    }
    drop_check("agreement", "agreement", percent_text(*before.agreement),
               percent_text(*after.agreement), (*before.agreement - *after.agreement) * 100,
               GateLimit::kAgreementDrop, true);
  }

  // The class that lost most decides. One decision more or less is no loss of a class.
  void classes(const Evaluation& before, const Evaluation& after) {
    const auto changes = disparity_of(before, after);
    if (!changes || changes->classes.empty()) {
      if (limits_.by_flag(GateLimit::kClassDrop)) {
        lack("classes", "classes", GateLimit::kClassDrop, "the labels are no class numbers");
      }
      return;
    }
    std::vector<const ClassChange*> lost;
    const auto most = limit(GateLimit::kClassDrop);
    for (const ClassChange& change : changes->classes) {
      const double fell = change.before - change.after;
      if (fell > 0) outcome_.classes.push_back(change);
      const double decisions = std::round(fell * static_cast<double>(change.count));
      if (most && decisions >= 2 && fell * 100 > *most + 100 * kSlackShare) lost.push_back(&change);
    }
    const ClassChange& worst = lost.empty() ? changes->classes.front() : *lost.front();
    GateCheck& check = add("classes", "class that lost most",
                           std::to_string(worst.label) + ": " + percent_text(worst.before),
                           std::to_string(worst.label) + ": " + percent_text(worst.after),
                           most ? "-" + limits_.text(GateLimit::kClassDrop) + " points" : "off");
    if (!most) check.verdict = Verdict::kSkipped;
    if (lost.empty()) return;
    std::string why;
    for (std::size_t i = 0; i < lost.size() && i < kNamed; ++i) {
      why += (i == 0 ? "class " : ", ") + std::to_string(lost[i]->label) + " lost " +
             points_text(lost[i]->before - lost[i]->after) + " points";
    }
    if (lost.size() > kNamed) why += " and " + std::to_string(lost.size() - kNamed) + " more did";
    miss(check, why + ", and --max-class-drop allows " + limits_.text(GateLimit::kClassDrop));
  }

  const BaselineOutput* recorded(const std::string& name) const {
    for (const BaselineOutput& output : was_.outputs) {
      if (output.name == name) return &output;
    }
    return nullptr;
  }

  // The output that is worst in what `figure` says of it.
  template <class F>
  std::pair<const BaselineOutput*, double> worst_output(F&& figure) const {
    std::pair<const BaselineOutput*, double> worst{nullptr, 0};
    for (const BaselineOutput& output : now_.outputs) {
      const BaselineOutput* before = recorded(output.name);
      if (before == nullptr) continue;
      const std::optional<double> loss = figure(*before, output);
      if (loss && (worst.first == nullptr || *loss > worst.second)) worst = {&output, *loss};
    }
    return worst;
  }

  void outputs() {
    std::vector<std::string> gone;
    for (const BaselineOutput& before : was_.outputs) {
      const bool found =
          std::any_of(now_.outputs.begin(), now_.outputs.end(),
                      [&](const BaselineOutput& output) { return output.name == before.name; });
      if (!found) gone.push_back(before.name);
    }
    likeness(gone);
    sqnr();
  }

  // Another way to come as near to the reference is no mistake: a better calibration moves outputs
  // too.
  static bool no_further_off(const BaselineOutput& before, const BaselineOutput& after) {
    return before.sqnr_db && after.sqnr_db && *after.sqnr_db >= *before.sqnr_db - kSlackDb &&
           before.sketch.values == after.sketch.values &&
           before.sketch.non_finite == after.sketch.non_finite;
  }

  void likeness(const std::vector<std::string>& gone) {
    const auto least = limit(GateLimit::kLikeness);
    const auto unlike = [&](const BaselineOutput& before, const BaselineOutput& after) {
      return least && likeness_db(before.sketch, after.sketch) < *least - kSlackDb;
    };
    const auto unlikeness = [](const BaselineOutput& before, const BaselineOutput& after) {
      return std::optional<double>(-likeness_db(before.sketch, after.sketch));
    };
    std::vector<std::string> moved;
    auto [output, loss] = worst_output([&](const auto& before, const auto& after) {
      if (!unlike(before, after) || !no_further_off(before, after)) {
        return unlikeness(before, after);
      }
      moved.push_back(after.name);
      return std::optional<double>();
    });
    if (!moved.empty()) {
      note("outputs " + listed(moved) +
           " differ from what was recorded, and are no further from the reference's");
    }
    const bool all_moved = output == nullptr && !moved.empty();
    if (all_moved) std::tie(output, loss) = worst_output(unlikeness);
    if (output == nullptr && gone.empty()) {
      return lack("likeness", "outputs as recorded", GateLimit::kLikeness,
                  "no output was recorded");
    }
    const double db = output != nullptr ? -loss : 0;
    GateCheck& check =
        add("likeness", "outputs as recorded", "equal", db >= kEqualDb ? "equal" : decibel_text(db),
            least ? ">= " + limits_.text(GateLimit::kLikeness) + " dB" : "off");
    if (!least) {
      check.verdict = Verdict::kSkipped;
    } else if (!gone.empty()) {
      miss(check, "the model has no output " + listed(gone));
    } else if (!all_moved && db < *least - kSlackDb) {
      const OutputSketch &before = recorded(output->name)->sketch, &after = output->sketch;
      std::string why = "'" + output->name + "' differs from what was recorded";
      if (before.values != after.values) {
        why += ": " + grouped(static_cast<std::uint64_t>(after.values)) + " values instead of " +
               grouped(static_cast<std::uint64_t>(before.values));
      } else if (before.non_finite != after.non_finite) {
        why += ": " + std::to_string(after.non_finite) + " values are not finite, there were " +
               std::to_string(before.non_finite);
      } else {
        why += " by more than --min-likeness allows";
      }
      miss(check, std::move(why));
    }
  }

  void sqnr() {
    const auto [output, loss] =
        worst_output([](const auto& before, const auto& after) -> std::optional<double> {
          if (!before.sqnr_db || !after.sqnr_db) return std::nullopt;
          return std::min(*before.sqnr_db, kEqualDb) - std::min(*after.sqnr_db, kEqualDb);
        });
    const std::string why = "there is no reference to compare with";
    if (output == nullptr) {
      if (limits_.by_flag(GateLimit::kSqnrDrop)) {
        lack("sqnr", "SQNR", GateLimit::kSqnrDrop, why);
      }
    } else {
      const auto most = limit(GateLimit::kSqnrDrop);
      GateCheck& check = add("sqnr", "SQNR", shown_db(*recorded(output->name)->sqnr_db),
                             shown_db(*output->sqnr_db),
                             most ? "-" + limits_.text(GateLimit::kSqnrDrop) + " dB" : "off");
      if (!most) {
        check.verdict = Verdict::kSkipped;
      } else if (!(loss <= *most + kSlackDb)) {
        miss(check, "'" + output->name + "' fell by " + decimal_text(loss, 2) +
                        " dB, and --max-sqnr-drop allows " + limits_.text(GateLimit::kSqnrDrop));
      }
    }
    const auto least = limit(GateLimit::kMinSqnr);
    if (!least) return;
    const BaselineOutput* lowest = nullptr;
    for (const BaselineOutput& candidate : now_.outputs) {
      if (candidate.sqnr_db && (lowest == nullptr || *candidate.sqnr_db < *lowest->sqnr_db)) {
        lowest = &candidate;
      }
    }
    if (lowest == nullptr) return lack("min-sqnr", "least SQNR", GateLimit::kMinSqnr, why);
    const BaselineOutput* before = recorded(lowest->name);
    GateCheck& check =
        add("min-sqnr", "least SQNR",
            before != nullptr && before->sqnr_db ? shown_db(*before->sqnr_db) : std::string("-"),
            shown_db(*lowest->sqnr_db), ">= " + limits_.text(GateLimit::kMinSqnr) + " dB");
    if (!(*lowest->sqnr_db >= *least - kSlackDb)) {
      miss(check, "'" + lowest->name + "' has " + decimal_text(*lowest->sqnr_db, 2) +
                      " dB, and --min-sqnr asks for " + limits_.text(GateLimit::kMinSqnr));
    }
  }

  static std::string shown_db(double db) { return db >= kEqualDb ? "equal" : decibel_text(db); }

  void layers() {
    struct Fall {
      const BaselineLayer *before, *after;
      double db;
    };
    std::vector<Fall> falls;
    std::map<std::string_view, const BaselineLayer*> known;
    for (const BaselineLayer& layer : was_.layers) known[layer.name] = &layer;
    for (const BaselineLayer& layer : now_.layers) {
      const auto found = known.find(layer.name);
      if (found != known.end()) {
        falls.push_back({found->second, &layer, found->second->own_db - layer.own_db});
      }
    }
    if (falls.empty()) {
      if (limits_.by_flag(GateLimit::kLayerDrop) || !was_.layers.empty()) {
        lack("layers", "layer by itself", GateLimit::kLayerDrop, "no layer is known on both sides");
      }
      return;
    }
    if (falls.size() < was_.layers.size()) {
      note(std::to_string(was_.layers.size() - falls.size()) + " of " +
           counted(was_.layers.size(), "recorded layer") + " are gone");
    }
    std::stable_sort(falls.begin(), falls.end(),
                     [](const Fall& a, const Fall& b) { return a.db > b.db; });
    const auto most = limit(GateLimit::kLayerDrop);
    GateCheck& check = add("layers", "layer by itself", decibel_text(falls.front().before->own_db),
                           decibel_text(falls.front().after->own_db),
                           most ? "-" + limits_.text(GateLimit::kLayerDrop) + " dB" : "off");
    if (!most) {
      check.verdict = Verdict::kSkipped;
      return;
    }
    std::vector<std::string> names;
    for (const Fall& fall : falls) {
      if (fall.db > *most + kSlackDb) names.push_back(fall.after->name);
    }
    if (names.empty()) return;
    miss(check, listed(names) + " fell, the first by " + decimal_text(falls.front().db, 2) +
                    " dB, and --max-layer-drop allows " + limits_.text(GateLimit::kLayerDrop));
  }

  void integers() {
    if (!was_.integers || !now_.integers) {
      if (limits_.by_flag(GateLimit::kIntegerLoss)) {
        lack("integers", "nodes in integers", GateLimit::kIntegerLoss,
             "the runtime's own graph is not known");
      }
      return;
    }
    const Baseline::Integers &before = *was_.integers, &after = *now_.integers;
    const auto share = [](const Baseline::Integers& integers) {
      return std::to_string(integers.integer) + " of " + std::to_string(integers.planned);
    };
    const auto most = limit(GateLimit::kIntegerLoss);
    GateCheck& check = add("integers", "nodes in integers", share(before), share(after),
                           !most       ? "off"
                           : *most > 0 ? "-" + limits_.text(GateLimit::kIntegerLoss)
                                       : "as many");
    if (!most) {
      check.verdict = Verdict::kSkipped;
      return;
    }
    const std::int64_t lost = before.integer - after.integer;
    if (static_cast<double>(lost) <= *most) return;
    std::vector<std::string> left;
    for (const std::string& node : after.in_float) {
      if (std::find(before.in_float.begin(), before.in_float.end(), node) ==
          before.in_float.end()) {
        left.push_back(node);
      }
    }
    std::string why = std::to_string(lost) + " fewer";
    if (!left.empty()) {
      why += ": the runtime now executes " + listed(left) + " in float32";
    } else if (const std::string fewer = fewer_of(before.kernels, after.kernels); !fewer.empty()) {
      why += ": " + fewer;
    }
    miss(check, why + "; --max-integer-loss allows " + limits_.text(GateLimit::kIntegerLoss));
  }

  // "QLinearConv 12 -> 11".
  static std::string fewer_of(const std::map<std::string, std::int64_t>& before,
                              const std::map<std::string, std::int64_t>& after) {
    std::string text;
    for (const auto& [name, count] : before) {
      const std::int64_t now = count_of(after, name);
      if (now >= count) continue;
      text += (text.empty() ? "" : ", ") + name + " " + std::to_string(count) + " -> " +
              std::to_string(now);
    }
    return text;
  }

  void memory() {
    growth("memory", "planned memory", was_.planned_bytes, now_.planned_bytes,
           GateLimit::kMemoryGrowth);
    if (was_.measured_bytes && now_.measured_bytes) {
      growth("measured-memory", "measured memory", *was_.measured_bytes, *now_.measured_bytes,
             GateLimit::kMemoryGrowth);
    }
  }

  void latency() {
    const auto grown = limit(GateLimit::kLatencyGrowth), most = limit(GateLimit::kLatencyRatio);
    if (!grown && !most) return;
    const std::string unknown = now_.latency_ratio ? "not in the baseline; --update records it"
                                                   : "there is no reference to run in turn with";
    const auto ratio = [](const std::optional<double>& value) {
      return value ? decimal_text(*value, 3) : std::string("-");
    };
    if (grown && (!was_.latency_ratio || !now_.latency_ratio)) {
      lack("latency", "latency ratio", GateLimit::kLatencyGrowth, unknown);
    } else if (grown) {
      GateCheck& check =
          add("latency", "latency ratio", ratio(was_.latency_ratio), ratio(now_.latency_ratio),
              "+" + limits_.text(GateLimit::kLatencyGrowth));
      if (*now_.latency_ratio > *was_.latency_ratio * (1 + *grown)) {
        miss(check, decimal_text((*now_.latency_ratio / *was_.latency_ratio - 1) * 100, 1) +
                        " % slower, and --max-latency-growth allows " +
                        limits_.text(GateLimit::kLatencyGrowth));
      }
    }
    if (!most) return;
    if (!now_.latency_ratio) {
      return lack("latency-ratio", "most latency ratio", GateLimit::kLatencyRatio, unknown);
    }
    GateCheck& check = add("latency-ratio", "most latency ratio", ratio(was_.latency_ratio),
                           ratio(now_.latency_ratio), limits_.text(GateLimit::kLatencyRatio));
    if (*now_.latency_ratio > *most) {
      miss(check, "the model takes " + ratio(now_.latency_ratio) +
                      " of the reference's time, and --max-latency-ratio allows " +
                      limits_.text(GateLimit::kLatencyRatio));
    }
  }

  void note(std::string text) { outcome_.notes.push_back(std::move(text)); }

  void changed(std::string_view what, const std::string& before, const std::string& after) {
    if (before == after) return;
    const auto shown = [](const std::string& text) { return text.empty() ? "none" : text; };
    note(std::string(what) + ": " + shown(before) + " -> " + shown(after));
  }

  void notes() {
    changed("compressed model", was_.model.digest, now_.model.digest);
    changed("reference", was_.reference.digest, now_.reference.digest);
    changed("data", was_.data.digest, now_.data.digest);
    changed("recipe", was_.recipe_digest, now_.recipe_digest);
    changed("calibration data", was_.calibration_digest, now_.calibration_digest);
    if (!was_.recipe.file.empty() && !now_.recipe.file.empty()) {
      changed("recipe file", was_.recipe.digest, now_.recipe.digest);
    }
    changed("runtime", was_.runtime, now_.runtime);
    changed("target", was_.target, now_.target);
    std::set<std::string_view> names;
    for (const auto* side : {&was_.operators, &now_.operators}) {
      for (const auto& entry : *side) names.insert(entry.first);
    }
    std::string operators;
    for (const std::string_view name : names) {
      const std::int64_t before = count_of(was_.operators, name);
      const std::int64_t after = count_of(now_.operators, name);
      if (before == after) continue;
      operators += (operators.empty() ? "" : ", ") + std::string(name) + " " +
                   std::to_string(before) + " -> " + std::to_string(after);
    }
    if (!operators.empty()) note("operators: " + operators);
    if (was_.integers && now_.integers) {
      changed("conversions on every run", std::to_string(was_.integers->conversions),
              std::to_string(now_.integers->conversions));
    }
  }

  const Baseline &was_, &now_;
  const GateLimits& limits_;
  GateOutcome outcome_;
};

}  // namespace

std::string_view verdict_text(GateCheck::Verdict verdict) {
  switch (verdict) {
    case Verdict::kPassed:
      return "ok";
    case Verdict::kMissed:
      return "MISSED";
    case Verdict::kSkipped:
      break;
  }
  return "-";
}

std::size_t GateOutcome::missed() const {
  return static_cast<std::size_t>(
      std::count_if(checks.begin(), checks.end(),
                    [](const GateCheck& check) { return check.verdict == Verdict::kMissed; }));
}

GateOutcome check_gate(const Baseline& was, const Baseline& now, const GateLimits& limits) {
  return Checker(was, now, limits).take();
}

}  // namespace mcompress::tools
