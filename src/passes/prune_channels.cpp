// prune-channels: channels, heads and hidden units taken out of a model, with everything that
// carries them; what reads them is fitted to make up for them.
//
//   x ── Conv [64, 3, 3, 3] ── Relu ── Conv [64, 64, 3, 3] ── Add ── y
//   x ── Conv [48, 3, 3, 3] ── Relu ── Conv [64, 48, 3, 3] ── Add ── y
//
// In steps: judge the units of every coupling group, cut the cheapest, fit, look again.
#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "mcompress/precision.h"
#include "passes/common/channels/channel_cut.h"
#include "passes/common/channels/channel_effects.h"
#include "passes/common/channels/channel_regression.h"
#include "passes/common/channels/channel_scores.h"
#include "passes/common/channels/channel_selection.h"
#include "passes/common/channels/channel_times.h"
#include "passes/common/selection.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

class PruneChannels final : public Pass {
 public:
  struct Options {
    std::vector<std::string> include, exclude;
    std::string kind = "all";
    double sparsity = 0, flops = 0, latency = 0, max_drop = 100;
    std::string scope = "auto";
    std::string score = "auto";
    std::string weigh = "auto";
    std::int64_t granularity = 0;
    double max_cut = 0.75;
    std::int64_t steps = 0;
    bool repair = true;
    std::int64_t samples = 256;
    std::int64_t levels = 12;
    double damping = 1e-3;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        selection_schema<Options>()
            .field("kind", &Options::kind,
                   "what is cut: channels of convolutions and other layers, heads of attention, "
                   "hidden units between matrix products (ffn), or all of these")
            .choices({"all", "channels", "heads", "ffn"})
            .field("sparsity", &Options::sparsity,
                   "share of the units that may go that goes; 0: what the other goals need, and "
                   "0.25 when there is none")
            .range(0, 0.99)
            .field("flops", &Options::flops,
                   "multiplications of convolutions and matrix products that stay, as a share; 0: "
                   "not asked for")
            .range(0, 1)
            .field("latency", &Options::latency,
                   "time of a run that stays, as a share, measured beside the original; channels "
                   "count by the time of their kernels, so the cut depends on it; 0: not asked for")
            .range(0, 1)
            .field("max-drop", &Options::max_drop,
                   "points of the metric on the evaluation data that may be lost: the first step "
                   "that loses more is undone; 100: not asked for")
            .range(0, 100)
            .unit("points")
            .field(
                "scope", &Options::scope,
                "global: all groups compete; kind: channels, heads and hidden units each give one "
                "share; uniform: every group does; auto: kind if only sparsity is asked")
            .choices({"auto", "global", "kind", "uniform"})
            .field("score", &Options::score,
                   "data: what readers lose on the calibration data after the other inputs made up "
                   "for it; magnitude: by the weights; auto: data where there are some")
            .choices({"auto", "data", "magnitude"})
            .field("weigh", &Options::weigh,
                   "groups compare by what trial cuts do to the outputs, or by what readers lose "
                   "(layers); auto: outputs where data gives scores and groups compete")
            .choices({"auto", "outputs", "layers"})
            .field("width-multiple", &Options::granularity,
                   "widths that are left are multiples; 0: 16 from 64 channels on, 8 from 16 on, 4")
            .range(0, 4096)
            .field("max-cut", &Options::max_cut, "share of the units of a group that may go")
            .range(0, 0.99)
            .field(
                "steps", &Options::steps,
                "judge and cut so many times, a part each; 0: 3, and 8 where latency or max-drop "
                "says where to stop. As many again where latency is still missed")
            .range(0, 64)
            .field("refit", &Options::repair,
                   "fit layers behind a cut to what they made before, by least squares on the "
                   "calibration data")
            .field("samples", &Options::samples,
                   "of the calibration data to look at, spread evenly")
            .range(1, 1e9)
            .field("levels", &Options::levels,
                   "parts of the network, each fitted on what the parts before it make")
            .range(1, 4096)
            .level(OptionSpec::Level::kAdvanced)
            .field("damping", &Options::damping,
                   "of the fit, towards the weights as they are: a share of an input's mean "
                   "energy; up "
                   "to 1000 times as much where held-out samples want it")
            .range(1e-9, 1)
            .level(OptionSpec::Level::kAdvanced);
    return kSchema;
  }
  explicit PruneChannels(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    const auto* judged = dynamic_cast<const JudgedData*>(context.calibration_data());
    const bool by_data = options_.score == "data" ||
                         (options_.score == "auto" && context.calibration_data() != nullptr);
    if (options_.weigh == "outputs" && context.calibration_data() == nullptr) {
      return Error(Code::kUsage, "no-calibration-data", "trials need calibration data",
                   {{}, "weigh", {}}, "give --calib DATA, or weigh by layers");
    }
    if (options_.score == "data" && context.calibration_data() == nullptr) {
      return Error(Code::kUsage, "no-calibration-data", "scores by data need calibration data",
                   {{}, "score", {}}, "give --calib DATA, or take magnitude");
    }
    if (options_.latency > 0 && context.calibration_data() == nullptr) {
      return Error(Code::kUsage, "no-calibration-data", "latency needs inputs to run on",
                   {{}, "latency", {}}, "give --calib DATA");
    }
    const bool repairs = options_.repair && context.calibration_data() != nullptr;
    const bool has_drop = options_.max_drop < 100;
    if (has_drop && (judged == nullptr || !judged->services().drop)) {
      return Error(Code::kUsage, "no-evaluation-data", "max-drop needs labelled evaluation data",
                   {{}, "max-drop", {}}, "give --eval DATA");
    }
    unshare(model, context);
    const auto dense = model.clone();
    original_.clear();
    before_ = 0;
    kept_.clear();
    decisions_.clear();
    effects_.clear();
    macs_now_ = time_now_ = promised_ = yield_ = 1;
    std::int64_t cut_units = 0;
    const std::int64_t steps = step_count();
    for (std::int64_t step = 0; step < steps || (missed_latency() && step < 2 * steps); ++step) {
      context.progress().update("cut channels", static_cast<std::uint64_t>(step),
                                static_cast<std::uint64_t>(steps), "steps");
      const auto saved = has_drop ? model.clone() : nullptr;
      const KeptByName saved_kept = kept_;
      MCOMPRESS_ASSIGN(const Step done, one_step(model, context, by_data, cut_units, step + 1));
      if (!done.wanted) continue;
      if (done.units == 0) break;
      cut_units += done.units;
      macs_now_ *= done.macs;
      ReportScope& curve = context.report().item("curve", std::to_string(step + 1));
      curve.number("units",
                   before_ > 0 ? static_cast<double>(cut_units) / static_cast<double>(before_) : 0);
      curve.number("flops", macs_now_);
      if (repairs) {
        ChannelRepairOptions how;
        how.samples = options_.samples;
        how.levels = options_.levels;
        how.damping = options_.damping;
        MCOMPRESS_ASSIGN(const ChannelRepair repair,
                         repair_channels(*dense, model, kept_, how, context));
        curve.count("fitted", repair.layers);
        curve.number("error_before", repair.error_before);
        curve.number("error_after", repair.error_after);
      }
      if (has_drop) {
        MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
        MCOMPRESS_ASSIGN(const auto session, runtime->open(model, SessionOptions{}));
        MCOMPRESS_ASSIGN(const double drop, judged->services().drop(*session));
        curve.number("drop", drop);
        if (drop > options_.max_drop) {
          curve.flag("undone", true);
          model.swap(*saved);
          kept_ = saved_kept;
          context.diagnostics().note("prune-stopped", "step " + std::to_string(step + 1) + " of " +
                                                          std::to_string(steps) + " loses " +
                                                          fixed(drop, 2) + " points and is undone");
          break;
        }
      }
      if (options_.latency > 0) {
        MCOMPRESS_ASSIGN(const double share, run_time_left(*dense, model, context));
        curve.number("latency", share);
        // Kernels do not get faster as their widths get smaller: the next step asks for more.
        promised_ *= done.time;
        if (promised_ < 1) yield_ = std::clamp((1 - share) / (1 - promised_), kLeastYield, 1.0);
        time_now_ = share;
        const bool all = options_.sparsity == 0 || step + 1 >= steps;
        if (all && !missed_latency() && macs_now_ <= (options_.flops > 0 ? options_.flops : 1)) {
          break;
        }
      }
    }
    if (missed_latency()) {
      context.diagnostics().warn("latency-missed",
                                 "a run takes " + fixed(time_now_, 2) +
                                     " of the time it took, not " + fixed(options_.latency, 2),
                                 {{}, "latency", {}}, "a higher --max-cut may reach it");
    }
    return explain(model, *dense, context);
  }

 private:
  static constexpr double kLeastYield = 0.4;
  struct Step {
    bool wanted = true;  // something was still to be cut for this part of the goals
    std::int64_t units = 0;
    double macs = 1, time = 1;  // that stay, as shares; by the profile: time is not measured here
  };

  struct GroupDecision {
    ChannelGroup facts;
    std::string why;
    double score = 0;  // mean over the units, in the first step
  };

  // Equal biases may be stored once, which says nothing about channels that belong together.
  static void unshare(Model& model, PassContext& context) {
    constexpr std::int64_t kSmall = 1 << 16;
    Graph& graph = model.graph();
    const std::vector<Value*> constants(graph.initializers().begin(), graph.initializers().end());
    for (Value* value : constants) {
      const Tensor* tensor = value->constant();
      if (tensor == nullptr || value->uses().size() < 2 || tensor->dtype() != DataType::kFloat ||
          tensor->elements() < 2 || tensor->elements() > kSmall) {
        continue;
      }
      const std::vector<Use> uses(value->uses().begin() + 1, value->uses().end());
      for (const Use& use : uses) {
        if (use.node == nullptr || use.graph != &graph) continue;
        context.edit().redirect(use, context.edit().add_initializer(graph, value->name(), *tensor));
      }
    }
  }

  std::int64_t step_count() const {
    if (options_.steps > 0) return options_.steps;
    return options_.latency > 0 || options_.max_drop < 100 ? 8 : 3;
  }

  bool missed_latency() const { return options_.latency > 0 && time_now_ > options_.latency; }

  std::string why_not(const ChannelTrace& trace, const ChannelTrace::Group& group) const {
    const std::string_view kind = name_of(group.facts.kind);
    if (options_.kind != "all" && options_.kind != kind) {
      return "its units are " + std::string(kind) + ", and only " + options_.kind + " are cut";
    }
    if (group.facts.free_units == 0) return group.facts.frozen;
    const Selection selection(options_.include, options_.exclude);
    for (const std::size_t place : group.slices) {
      const ChannelSlices& slices = trace.slices()[place];
      if (slices.role != ChannelMember::Role::kMakes) continue;
      std::string why = selection.why_not(*slices.node, slices.tensor);
      if (!why.empty()) return why;
    }
    return {};
  }

  Result<Step> one_step(Model& model, PassContext& context, bool by_data, std::int64_t cut_units,
                        std::int64_t number) {
    const ChannelTrace trace(model);
    const auto& groups = trace.groups();
    std::vector<std::string> why;
    ChannelGoal goal;
    std::int64_t free_now = 0;
    for (const ChannelTrace::Group& group : groups) {
      why.push_back(why_not(trace, group));
      const auto [known, added] = original_.try_emplace(group.facts.name, group.facts.units);
      const double left = static_cast<double>(known->second) /
                          static_cast<double>(std::max<std::int64_t>(group.facts.units, 1));
      goal.most.push_back(std::max(0.0, 1 - (1 - options_.max_cut) * left));
      if (why.back().empty()) free_now += group.facts.free_units;
    }
    if (number == 1) {
      before_ = free_now;
      decisions_ = {};
      for (std::size_t g = 0; g < groups.size(); ++g) {
        decisions_.push_back({groups[g].facts, why[g], 0});
      }
    }
    const double part =
        std::min(1.0, static_cast<double>(number) / static_cast<double>(step_count()));
    const bool other = options_.flops > 0 || options_.latency > 0 || options_.max_drop < 100;
    double sparsity = options_.sparsity;
    if (sparsity == 0 && !other) sparsity = 0.25;
    if (sparsity == 0 && options_.flops == 0 && options_.latency == 0) sparsity = options_.max_cut;
    // What is reached already asks for nothing.
    const auto wanted = [&](double share, double now) {
      const double next = (1 - (1 - share) * part) / now;
      return share > 0 && next < 1 ? next : 0;
    };
    goal.macs = wanted(options_.flops, macs_now_);
    goal.time = wanted(options_.latency, time_now_);
    if (goal.time > 0) goal.time = std::max(0.05, 1 - (1 - goal.time) / yield_);
    if (sparsity > 0 && free_now > 0) {
      goal.share = std::max(
          0.0, (sparsity * part * static_cast<double>(before_) - static_cast<double>(cut_units)) /
                   static_cast<double>(free_now));
    }
    if (goal.share == 0 && goal.macs == 0 && goal.time == 0) return Step{.wanted = false};
    if (goal.time > 0) {
      MCOMPRESS_ASSIGN(goal.times, product_times(model, context));
    }
    goal.scope = scope();
    goal.granularity = options_.granularity;
    ChannelScoreOptions how;
    how.by_data = by_data;
    how.samples = options_.samples;
    MCOMPRESS_ASSIGN(const std::vector<double> lost, channel_scores(trace, how, context));
    std::vector<double> scores = lost;
    if (options_.weigh == "outputs" ||
        (options_.weigh == "auto" && by_data && goal.scope != ChannelScope::kUniform)) {
      MCOMPRESS_TRY(weigh(trace, why, scores, context));
    }
    const ChannelChoice choice = choose_channels(trace, scores, why, product_macs(model), goal);
    if (number == 1) {
      for (std::size_t g = 0; g < groups.size(); ++g) {
        decisions_[g].why = choice.why[g];
        for (const std::uint32_t unit : groups[g].units) decisions_[g].score += scores[unit];
        decisions_[g].score /=
            static_cast<double>(std::max<std::size_t>(groups[g].units.size(), 1));
      }
    }
    for (const ChannelTrace::Group& group : groups) {
      const auto effect = effects_.find(group.facts.name);
      if (effect == effects_.end()) continue;
      for (const std::uint32_t unit : group.units) {
        if (choice.cut[unit]) effect->second.spent += lost[unit];
      }
    }
    MCOMPRESS_ASSIGN(const std::int64_t units,
                     cut_channels(trace, choice.cut, context.edit(), context.tensors(), kept_));
    return Step{true, units, choice.macs, choice.time};
  }

  // What was known of a group, for the report: one entry each.
  void describe(const GroupDecision& decision, std::int64_t left, PassContext& context) const {
    ReportScope& facts = context.report().item("group", decision.facts.name);
    facts.text("kind", name_of(decision.facts.kind));
    facts.count("units", decision.facts.units);
    facts.count("units_left", left);
    facts.number("density", decision.facts.units > 0 ? static_cast<double>(left) /
                                                           static_cast<double>(decision.facts.units)
                                                     : 1);
    if (decision.facts.free_units > 0) facts.number("score", decision.score);
    const auto effect = effects_.find(decision.facts.name);
    if (effect != effects_.end()) {
      facts.number("trial_noise", effect->second.noise);
      facts.number("trial_exponent", effect->second.exponent);
    }
    if (!decision.why.empty()) facts.text("why", decision.why);
    for (const ChannelMember& member : decision.facts.members) {
      if (!member.tensor.empty()) facts.append("tensors", Datum::string(member.tensor));
    }
  }

  ChannelScope scope() const {
    if (options_.scope == "global") return ChannelScope::kGlobal;
    if (options_.scope == "uniform") return ChannelScope::kUniform;
    if (options_.scope == "kind") return ChannelScope::kKind;
    const bool other = options_.flops > 0 || options_.latency > 0 || options_.max_drop < 100;
    return other ? ChannelScope::kGlobal : ChannelScope::kKind;
  }

  // Scores in units of what the outputs lose. Groups are tried once: in the first step.
  Status weigh(const ChannelTrace& trace, const std::vector<std::string>& why,
               std::vector<double>& scores, PassContext& context) {
    if (effects_.empty()) {
      ChannelTrialOptions how;
      how.repair = options_.repair;
      how.fit_samples = std::min(how.fit_samples, options_.samples);
      MCOMPRESS_ASSIGN(const std::vector<ChannelEffect> effects,
                       channel_effects(trace, scores, why, how, context));
      for (std::size_t g = 0; g < effects.size(); ++g) {
        if (effects[g].tried) effects_[trace.groups()[g].facts.name] = effects[g];
      }
    }
    for (const ChannelTrace::Group& group : trace.groups()) {
      const auto effect = effects_.find(group.facts.name);
      if (effect == effects_.end()) continue;
      apply_effect(trace, group, effect->second, scores);
    }
    return ok_status();
  }

  // Of the initializers of the top graph, by name.
  static std::unordered_map<std::string_view, std::uint64_t> initializer_bytes(const Model& model) {
    std::unordered_map<std::string_view, std::uint64_t> bytes;
    for (const Value* value : model.graph().initializers()) {
      bytes.emplace(value->name(), value->initializer()->byte_size());
    }
    return bytes;
  }

  Status explain(const Model& model, const Model& dense, PassContext& context) {
    const auto bytes_before = initializer_bytes(dense), bytes_after = initializer_bytes(model);
    const auto bytes_of = [](const auto& bytes, const std::string& name) {
      const auto found = bytes.find(name);
      return found != bytes.end() ? found->second : 0;
    };
    std::map<std::string, std::int64_t> widths;
    const auto after = channel_groups(model);
    for (const ChannelGroup& group : after) widths[group.name] = group.units;
    std::int64_t cut_groups = 0, units = 0;
    for (const GroupDecision& decision : decisions_) {
      Decision line;
      line.subject = decision.facts.name;
      if (!decision.facts.members.empty()) line.op_type = decision.facts.members.front().op_type;
      const auto now = widths.find(decision.facts.name);
      const std::int64_t left = now != widths.end() ? now->second : decision.facts.units;
      const std::string kind(name_of(decision.facts.kind));
      describe(decision, left, context);
      if (left == decision.facts.units) {
        line.why =
            !decision.why.empty() ? decision.why : "every unit costs more than those that go";
        context.explain().skipped(std::move(line));
        continue;
      }
      ++cut_groups;
      units += decision.facts.units - left;
      line.applied = true;
      line.what = std::to_string(decision.facts.units) + " to " + std::to_string(left) + " " +
                  (decision.facts.kind == ChannelKind::kFfn ? "hidden units" : kind);
      line.why = "cheapest by " +
                 std::string(options_.score == "magnitude" || context.calibration_data() == nullptr
                                 ? "weights"
                             : effects_.empty() ? "what readers lose"
                                                : "what the outputs lose");
      for (const ChannelMember& member : decision.facts.members) {
        line.bytes_before += bytes_of(bytes_before, member.tensor);
        line.bytes_after += bytes_of(bytes_after, member.tensor);
      }
      context.explain().chose(std::move(line));
    }
    context.report().count("groups", static_cast<std::int64_t>(decisions_.size()));
    context.report().count("cut_groups", cut_groups);
    context.report().count("cut_units", units);
    return ok_status();
  }

  Options options_;
  std::map<std::string, std::int64_t> original_;  // units of each group before the first step
  std::int64_t before_ = 0;                       // free units of all groups that may be cut
  double macs_now_ = 1, time_now_ = 1;            // of the original's, that are left
  // By the profile before each step; and what was measured to be saved, as a share of that.
  double promised_ = 1, yield_ = 1;
  KeptByName kept_;
  std::map<std::string, ChannelEffect> effects_;  // by name of the group
  std::vector<GroupDecision> decisions_;
};

}  // namespace

PassInfo prune_channels_info() {
  PassInfo info = pass_info<PruneChannels>(
      "prune-channels", "take channels, heads and hidden units out, and fit what read them",
      Reach::kTopGraph, false, {"lift-constants", "infer-shapes", "fuse-batchnorm"});
  info.keeps_results = false;
  return info;
}

}  // namespace mcompress
