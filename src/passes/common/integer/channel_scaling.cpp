#include "passes/common/integer/channel_scaling.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <set>

#include "numeric/quantize.h"
#include "passes/common/guard.h"
#include "passes/common/integer/channel_absorption.h"
#include "passes/common/integer/channel_choice.h"
#include "passes/common/integer/static_emit.h"
#include "passes/common/integer/static_plan.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kLeastGain = 0.2;  // dB, of the outputs: less is chance
constexpr double kClipRoom = 1.25;  // between the largest value seen and where a Clip cuts

// Every other sample of some data, one at a time.
class EveryOther final : public DataSource {
 public:
  EveryOther(DataSource& all, std::int64_t first) : all_(all), first_(first) {}
  std::int64_t count() const override { return (all_.count() - first_ + 1) / 2; }
  std::uint64_t digest() const override { return all_.digest(); }
  std::string description() const override { return all_.description(); }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    return all_.batch(first_ + 2 * first, count);
  }
  bool can_batch() const override { return false; }
  const Labels& labels() const override { return all_.labels(); }

 private:
  DataSource& all_;
  std::int64_t first_;
};

// Signal to noise ratio of the outputs when the model as it stands is quantized in the plain way
// with ranges from `data`.
Result<double> plain_static_sqnr(const Model& model, PassContext& context,
                                 const Selection& selection, DataSource& data, Guard& guard) {
  MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
  const std::unique_ptr<Model> copy = model.clone();
  Editor edit(*copy, &onnx_catalog());
  Explain unheard;
  PlanOptions options;
  options.explain = false;
  const StaticPlan widest =
      plan_static(copy->graph(), context.target(), selection, options, unheard);
  Diagnostics quiet;
  CalibratorOptions calibrator;
  calibrator.memory_budget = context.memory_budget();
  calibrator.threads = context.executor().threads();
  MCOMPRESS_ASSIGN(const CalibrationTable table,
                   calibrate(*runtime, *copy, data, static_calibration_request(widest, 0),
                             calibrator, quiet, context.progress()));
  options.table = &table;
  const StaticPlan plan = plan_static(copy->graph(), context.target(), selection, options, unheard);
  EmitOptions emit;
  emit.table = &table;
  const QuantType type{8, context.target().signed_activations};
  std::map<std::uint32_t, const Value*> by_id;
  for (const Value* value : plan.tensors) by_id[value->id()] = value;
  for (const Value* value : plan.tensors) {
    const ValueStats* stats = table.find(by_id.at(plan.root(value->id()))->name());
    ValueRange range;
    if (stats != nullptr) range = choose_range(*stats, RangeMethod::kMse, 99.99, 256, false);
    const QuantParams params = asymmetric_params(
        {static_cast<float>(range.minimum), static_cast<float>(range.maximum)}, type);
    emit.scales[value->id()] = {params.scale, params.zero_point};
  }
  MCOMPRESS_TRY(emit_static(plan, context.target(), emit, edit, context.tensors(),
                            context.executor(), unheard));
  return guard.sqnr_db(*copy);
}

// What says how good the quantized model is, of one model as it changes.
class Verdicts {
 public:
  // Ranges from one half of the data, the verdict from the other: factors bring every channel to
  // the end of the range, and what new data does there is what has to be known.
  Verdicts(PassContext& context, const Selection& selection, std::int64_t samples)
      : context_(context),
        selection_(selection),
        even_(*context.calibration_data(), 0),
        odd_(*context.calibration_data(), 1),
        judges_(samples) {}

  // Of the model as it stands. What was found of it before is known still.
  Result<double> before(const Model& model) {
    MCOMPRESS_TRY(open(model));
    if (!standing_) {
      MCOMPRESS_ASSIGN(standing_, measure(model));
    }
    return *standing_;
  }
  // Of the model changed; open() was called by before().
  Result<double> after(const Model& model) { return measure(model); }
  // The model stays as it was when after() gave this.
  void keep(double sqnr) { standing_ = sqnr; }
  // Runs of the model so far.
  std::int64_t runs() const { return runs_; }

 private:
  Status open(const Model& model) {
    if (guard_) return ok_status();
    MCOMPRESS_ASSIGN(Runtime * runtime, context_.runtime());
    DataSource& all = *context_.calibration_data();
    constexpr std::int64_t kFewest = 8;
    const bool halves = all.count() >= kFewest && all.fixed_batch() <= 1;
    ranges_ = halves ? static_cast<DataSource*>(&even_) : &all;
    guard_.emplace(*runtime, halves ? static_cast<DataSource&>(odd_) : all, judges_);
    guard_->limit_memory(context_.memory_budget());
    runs_ += judged();
    return guard_->open_reference(context_.reference(), model, &context_.executor());
  }

  Result<double> measure(const Model& model) {
    runs_ += 2 * judged();  // calibration and trial
    return plain_static_sqnr(model, context_, selection_, *ranges_, *guard_);
  }

  std::int64_t judged() const { return std::min(judges_, context_.calibration_data()->count()); }

  PassContext& context_;
  const Selection& selection_;
  EveryOther even_, odd_;
  std::int64_t judges_;
  DataSource* ranges_ = nullptr;
  std::optional<Guard> guard_;
  std::optional<double> standing_;
  std::int64_t runs_ = 0;
};

class ScalingRun {
 public:
  ScalingRun(Model& model, PassContext& context, const Selection& selection,
             const ChannelScalingOptions& options, Verdicts& verdicts)
      : model_(model),
        context_(context),
        selection_(selection),
        options_(options),
        verdicts_(verdicts) {}

  Status run() {
    const auto start = std::chrono::steady_clock::now();
    find_sites();
    context_.report().count(options_.insert ? "products" : "groups",
                            static_cast<std::int64_t>(groups_.size() + inserts_.size()));
    context_.report().count(options_.insert ? "inserted" : "scaled", 0);
    if (groups_.empty() && inserts_.empty()) return ok_status();
    const std::string name = options_.insert       ? "smooth-insert"
                             : options_.normalized ? "smooth"
                                                   : "equalize";
    ReportScope& step = context_.report().item("steps", name);
    const std::int64_t runs_before = verdicts_.runs();
    const std::unique_ptr<Model> untouched = model_.clone();
    const std::size_t decisions = context_.explain().all().size();
    MCOMPRESS_ASSIGN(stats_, observe_channels(model_, context_, watched(), options_.samples));
    for (const ScaleGroup& group : groups_) {
      applied_.assign(static_cast<std::size_t>(group.channels), 1.0);
      MCOMPRESS_TRY(scale(group));
      if (options_.absorb) MCOMPRESS_TRY(absorb(group));
    }
    if (options_.absorb) context_.report().count("absorbed", absorbed_);
    for (const Insertion& insertion : inserts_) MCOMPRESS_TRY(insert(insertion));
    context_.report().count(options_.insert ? "inserted" : "scaled", scaled_);
    if (options_.judge && scaled_ + absorbed_ > 0) {
      MCOMPRESS_ASSIGN(const double before, verdicts_.before(*untouched));
      MCOMPRESS_ASSIGN(const double after, verdicts_.after(model_));
      const bool kept = after > before + kLeastGain;
      context_.diagnostics().note(
          name, name + " scaled the channels of " + std::to_string(scaled_) +
                    " groups of values: the outputs of the quantized model went from " +
                    fixed(before, 1) + " to " + fixed(after, 1) +
                    " dB on held-out calibration data" + (kept ? "" : "; undone"));
      step.number("sqnr_db_before", before);
      step.number("sqnr_db_after", after);
      step.flag("kept", kept);
      if (kept) {
        verdicts_.keep(after);
      } else {
        model_.swap(*untouched);
        context_.report().count(options_.insert ? "inserted" : "scaled", 0);
        if (options_.absorb) context_.report().count("absorbed", 0);
        context_.explain().truncate(decisions);
        Decision decision;
        decision.subject = "channels of " + std::to_string(scaled_) + " groups of values";
        decision.why = "scaling them takes the quantized outputs from " + fixed(before, 1) +
                       " to " + fixed(after, 1) + " dB on held-out calibration data";
        context_.explain().skipped(std::move(decision));
      }
    }
    const std::int64_t samples = context_.calibration_data()->count();
    step.count("runs", std::min(options_.samples, samples) + verdicts_.runs() - runs_before);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    step.seconds("took", taken.count());
    return ok_status();
  }

 private:
  struct Insertion {
    Value* value = nullptr;
    std::vector<LinearOp> readers;
  };

  void find_sites() {
    PlanOptions widest;
    widest.explain = false;
    Explain unheard;
    const StaticPlan plan =
        plan_static(model_.graph(), context_.target(), selection_, widest, unheard);
    quantized_.insert(plan.tensors.begin(), plan.tensors.end());
    ScaleGroups groups = find_scale_groups(model_.graph());
    std::set<const Value*> foldable;
    for (ScaleGroup& group : groups.found) {
      const bool any = std::ranges::any_of(
          group.values, [&](const auto& entry) { return quantized_.count(entry.first) != 0; });
      const bool known = std::ranges::none_of(
          group.readers, [](const LinearOp& op) { return op.is("ConvTranspose"); });
      if (!any || !known) continue;
      for (const auto& [value, axis] : group.values) foldable.insert(value);
      const bool plain = group.norms.empty() && group.gains.empty();
      if (!options_.insert && plain != options_.normalized) {
        groups_.push_back(std::move(group));
      }
    }
    if (!options_.insert) return;
    std::map<const Value*, std::size_t> place;
    for (const IntegerNode& node : plan.nodes) {
      if (node.kind != OperatorRule::Kind::kWeighted || node.node->is("Conv")) continue;
      Value* input = node.node->input(0);
      if (foldable.count(input) != 0) continue;
      const LinearSearch search = linear_operator(*node.node);
      if (!search.op || !search.op->in_layout) continue;
      const auto [found, fresh] = place.emplace(input, inserts_.size());
      if (fresh) inserts_.push_back({input, {}});
      inserts_[found->second].readers.push_back(*search.op);
    }
  }

  std::vector<std::pair<std::string, std::size_t>> watched() const {
    std::vector<std::pair<std::string, std::size_t>> list;
    for (const ScaleGroup& group : groups_) {
      std::set<const Value*> cut;
      for (const Node* clip : group.clips) cut.insert(clip->input(0));
      for (const auto& [value, axis] : group.values) {
        if (quantized_.count(value) != 0 || cut.count(value) != 0) {
          list.emplace_back(value->name(), axis);
        }
      }
    }
    for (const Insertion& insertion : inserts_) {
      list.emplace_back(insertion.value->name(), insertion.readers.front().in.from_end);
    }
    return list;
  }

  const ChannelStats* stats_of(const Value& value) const {
    const auto found = stats_.find(value.name());
    return found != stats_.end() ? &found->second : nullptr;
  }

  static std::string label(const ScaleGroup& group) {
    return std::string(group.values.front().first->name());
  }

  void skip(std::string subject, std::string why) {
    Decision decision;
    decision.subject = std::move(subject);
    decision.why = std::move(why);
    context_.explain().skipped(std::move(decision));
  }

  Result<bool> fill(const std::vector<LinearOp>& readers, ChoiceInput& input) {
    input.weight_steps = context_.target().saturation_free_weights ? 96 : 127;
    for (const LinearOp& op : readers) {
      MCOMPRESS_ASSIGN(ColumnReader reader, column_reader(op));
      input.readers.push_back(std::move(reader));
    }
    return std::ranges::all_of(input.quantized, [&](const ChannelStats* stats) {
      return static_cast<std::int64_t>(stats->minimum.size()) == input.channels;
    });
  }

  Status scale(const ScaleGroup& group) {
    ChoiceInput input;
    input.channels = group.channels;
    for (const auto& [value, axis] : group.values) {
      if (quantized_.count(value) == 0) continue;
      const ChannelStats* stats = stats_of(*value);
      if (stats == nullptr) {
        skip(label(group), "the channels of '" + std::string(value->name()) +
                               "' vary or are not finite on the calibration data");
        return ok_status();
      }
      input.quantized.push_back(stats);
    }
    MCOMPRESS_ASSIGN(const bool fits, fill(group.readers, input));
    if (!fits) {
      skip(label(group), "the model makes another number of channels than its types tell");
      return ok_status();
    }
    if (!group.clips.empty() && !respect_clips(group, input)) {
      skip(label(group), "a Clip follows whose input could not be looked at");
      return ok_status();
    }
    if (group.norms.empty() && group.gains.empty()) {
      input.maker_peaks.assign(static_cast<std::size_t>(group.channels), 0.0);
      for (const LinearOp& op : group.makers) {
        MCOMPRESS_ASSIGN(const std::vector<double> peaks, output_peaks(op));
        for (std::size_t c = 0; c < peaks.size(); ++c) {
          input.maker_peaks[c] = std::max(input.maker_peaks[c], peaks[c]);
        }
      }
    }
    const ScaleChoice choice = choose_scales(input, context_.executor());
    if (choice.scales.empty() || choice.gain_db < options_.least_gain_db) {
      skip(label(group), "no factors would lower the noise of what reads it by " +
                             fixed(options_.least_gain_db, 2) + " dB");
      return ok_status();
    }
    MCOMPRESS_ASSIGN(std::string why, apply_scales(context_, group, choice.scales));
    if (!why.empty()) {
      skip(label(group), std::move(why));
      return ok_status();
    }
    ++scaled_;
    applied_ = choice.scales;
    const std::size_t values = group.values.size();
    chose(label(group),
          "scaled " + std::to_string(group.channels) + " channels of " + std::to_string(values) +
              " value" + (values == 1 ? "" : "s"),
          choice);
    return ok_status();
  }

  // Of the group as it now is, divided by applied_.
  Status absorb(const ScaleGroup& group) {
    const auto last = std::ranges::find_if(
        group.values, [&](const auto& one) { return quantized_.count(one.first) != 0; });
    const ChannelStats* stats = last == group.values.end() ? nullptr : stats_of(*last->first);
    if (stats == nullptr || stats->maximum.size() != applied_.size()) return ok_status();
    std::string why = why_not_absorbable(group);
    AbsorbedShifts found;
    if (why.empty()) {
      found = absorbed_shifts(*stats, applied_);
      why = found.why_not;
    }
    if (why.empty()) {
      MCOMPRESS_ASSIGN(why, absorb_shifts(context_, group, found.shifts));
    }
    if (!why.empty()) {
      skip(label(group), "no bias is absorbed: " + why);
      return ok_status();
    }
    ++absorbed_;
    Decision decision;
    decision.subject = label(group);
    decision.what =
        "absorbed the bias of " +
        std::to_string(std::ranges::count_if(found.shifts, [](double x) { return x > 0; })) +
        " of " + std::to_string(group.channels) + " channels";
    decision.why = "its values then reach up to " + fixed(found.after, 3) + " instead of " +
                   fixed(found.before, 3);
    context_.explain().chose(std::move(decision));
    return ok_status();
  }

  void chose(std::string subject, std::string what, const ScaleChoice& choice) {
    const auto [least, most] = std::ranges::minmax(choice.scales);
    Decision decision;
    decision.subject = std::move(subject);
    decision.what = std::move(what);
    decision.why = "by " + choice.rule + ", from " + fixed(least, 3) + " to " + fixed(most, 3) +
                   ": " + fixed(choice.gain_db, 1) + " dB less noise for what reads it";
    context_.explain().chose(std::move(decision));
  }

  bool respect_clips(const ScaleGroup& group, ChoiceInput& input) const {
    const auto channels = static_cast<std::size_t>(group.channels);
    input.limits.assign(channels, 0.0);
    input.fixed.assign(channels, false);
    if (std::isinf(group.top)) {  // Clip(0, inf) is a Relu
      input.limits.clear();
      return true;
    }
    for (const Node* clip : group.clips) {
      const ChannelStats* stats = stats_of(*clip->input(0));
      if (stats == nullptr || stats->maximum.size() != channels) return false;
      for (std::size_t c = 0; c < channels; ++c) {
        const double needed = kClipRoom * stats->maximum[c] / group.top;
        input.limits[c] = std::max(input.limits[c], needed);
        if (needed >= 1) input.fixed[c] = true;
      }
    }
    return true;
  }

  Status insert(const Insertion& insertion) {
    const std::string name(insertion.value->name());
    const ChannelStats* stats = stats_of(*insertion.value);
    if (stats == nullptr) {
      skip(name, "its channels vary or are not finite on the calibration data");
      return ok_status();
    }
    ChoiceInput input;
    input.channels = insertion.readers.front().in.channels;
    input.quantized = {stats};
    MCOMPRESS_ASSIGN(const bool fits, fill(insertion.readers, input));
    if (!fits) {
      skip(name, "the model makes another number of channels than its types tell");
      return ok_status();
    }
    const ScaleChoice choice = choose_scales(input, context_.executor());
    if (choice.scales.empty() || choice.gain_db < options_.least_insert_db) {
      skip(name, "no factors would lower the noise of what reads it by " +
                     fixed(options_.least_insert_db, 2) + " dB, which a Mul would have to");
      return ok_status();
    }
    MCOMPRESS_ASSIGN(std::string why,
                     insert_scales(context_, *insertion.value, insertion.readers, choice.scales));
    if (!why.empty()) {
      skip(name, std::move(why));
      return ok_status();
    }
    ++scaled_;
    const std::size_t readers = insertion.readers.size();
    chose(name,
          "scaled by a Mul in front of " + std::to_string(readers) + " linear operator" +
              (readers == 1 ? "" : "s"),
          choice);
    return ok_status();
  }

  Model& model_;
  PassContext& context_;
  const Selection& selection_;
  const ChannelScalingOptions& options_;
  Verdicts& verdicts_;
  std::set<const Value*> quantized_;
  std::vector<ScaleGroup> groups_;
  std::vector<Insertion> inserts_;
  ChannelStatsMap stats_;
  std::int64_t scaled_ = 0;  // groups, or inserted products
  std::int64_t absorbed_ = 0;
  std::vector<double> applied_;  // factors of the present group
};

}  // namespace

Status scale_channels(Model& model, PassContext& context, const Selection& selection,
                      std::span<const ChannelScalingOptions> runs) {
  if (runs.empty()) return ok_status();
  Verdicts verdicts(context, selection, runs.front().judges);
  for (const ChannelScalingOptions& options : runs) {
    MCOMPRESS_TRY(ScalingRun(model, context, selection, options, verdicts).run());
  }
  return ok_status();
}

Result<bool> may_change_calibrated_model(const Model& model, PassContext& context) {
  std::string why;
  if (context.calibration_data() == nullptr) {
    why = "needs calibration data; a table does not show single channels";
  } else {
    // A table that was given comes back as it is; without one, nothing is asked for.
    MCOMPRESS_ASSIGN(const CalibrationTable table, context.calibration(model, {}));
    if (table.all().empty()) return true;
    why = "the calibration table that was given describes the model as it is";
  }
  Decision decision;
  decision.subject = "channels";
  decision.why = std::move(why);
  context.explain().skipped(std::move(decision));
  return false;
}

}  // namespace mcompress
