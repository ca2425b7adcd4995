#include "passes/common/integer/range_choice.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kExactDb = 200;
constexpr int kLevels = 256;
constexpr double kDefaultBudget = 256 << 20;  // bytes
// Of weights: as many models are opened at once.
constexpr std::uint64_t kFewBytes = 32 << 20;
// By how much one method for all tensors has to be better: outputs on some samples tell less than
// every layer does.
constexpr double kClearlyBetterDb = 1;
constexpr double kNearTie = 1.0232929922807541;  // 0.1 dB as a ratio

struct NamedMethod {
  std::string_view name;
  RangeMethod method;
};
constexpr std::array<NamedMethod, 5> kMethods = {{{"minmax", RangeMethod::kMinMax},
                                                  {"moving-average", RangeMethod::kMovingAverage},
                                                  {"percentile", RangeMethod::kPercentile},
                                                  {"entropy", RangeMethod::kEntropy},
                                                  {"mse", RangeMethod::kMse}}};

// Activations of one sample, in elements.
double sample_elements(const CalibrationTable& table, const StaticPlan& plan) {
  double elements = 0;
  for (const Value* tensor : plan.tensors) {
    const ValueStats* stats = table.find(tensor->name());
    if (stats != nullptr) elements += static_cast<double>(stats->count);
  }
  return std::max(1.0, elements / static_cast<double>(std::max<std::int64_t>(table.samples, 1)));
}

// Large activations tell enough in a few samples, small ones take more.
std::int64_t samples_for(double elements) {
  constexpr std::int64_t kLeast = 8, kMost = 32;
  constexpr double kEnoughElements = 4 << 20;
  const double wanted = kEnoughElements / elements;
  return static_cast<std::int64_t>(
      std::clamp(wanted, static_cast<double>(kLeast), static_cast<double>(kMost)));
}

std::uint64_t initializer_bytes(Model& model) {
  std::uint64_t bytes = 0;
  for (const Value* value : model.graph().initializers()) {
    if (value->initializer() != nullptr) bytes += value->initializer()->byte_size();
  }
  return bytes;
}

// The first is the widest.
std::size_t best_of(const std::vector<RangeCandidate>& candidates) {
  double least = -1;
  for (const RangeCandidate& candidate : candidates) {
    if (candidate.noise >= 0 && (least < 0 || candidate.noise < least)) least = candidate.noise;
  }
  for (std::size_t i = 0; i < candidates.size() && least >= 0; ++i) {
    if (candidates[i].noise >= 0 && candidates[i].noise <= least * kNearTie) return i;
  }
  return candidates.size();
}

}  // namespace

std::vector<std::int64_t> held_out_samples(const CalibrationTable& table, const DataSource& data,
                                           std::int64_t wanted) {
  const std::int64_t at_once = std::max<std::int64_t>(data.fixed_batch(), 1);
  const std::int64_t last = data.count() - at_once;
  std::vector<std::int64_t> unseen;
  std::size_t range = 0;
  for (std::int64_t i = 0; i <= last && at_once == 1; ++i) {
    while (range < table.observed.size() &&
           i >= table.observed[range].first + table.observed[range].second) {
      ++range;
    }
    const bool seen = range < table.observed.size() && i >= table.observed[range].first;
    if (!seen) unseen.push_back(i);
  }
  const auto unseen_count = static_cast<std::int64_t>(unseen.size());
  constexpr std::int64_t kFewest = 8;  // tell more than many that were seen
  const bool enough = !table.observed.empty() && unseen_count >= std::min(wanted, kFewest);
  const std::int64_t total = enough ? unseen_count : last + 1;
  const std::int64_t count = std::min(wanted, total);
  std::vector<std::int64_t> samples;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t at = (2 * i + 1) * total / (2 * count);
    samples.push_back(enough ? unseen[static_cast<std::size_t>(at)] : at);
  }
  return samples;
}

std::optional<RangeMethod> range_method_of(std::string_view name) {
  for (const NamedMethod& known : kMethods) {
    if (known.name == name) return known.method;
  }
  return std::nullopt;
}

QuantParams RangeChoice::params_of(const ValueRange& range) const {
  const Range ends{static_cast<float>(range.minimum), static_cast<float>(range.maximum)};
  if (options_.symmetric) return symmetric_params(ends, type_, CodeSpan::kFull);
  QuantParams params = asymmetric_params(ends, type_);
  // Of a Relu whose output was always 0: what it would cut off must not come through.
  if (ends.lo == 0 && ends.hi == 0) params.zero_point = type_.min();
  return params;
}

std::vector<RangeCandidate> RangeChoice::candidates(const ValueStats& stats) const {
  std::vector<RangeCandidate> all;
  const auto add = [&](std::string name, RangeMethod method, double percentile) {
    RangeCandidate candidate;
    candidate.method = std::move(name);
    candidate.range = choose_range(stats, method, percentile, kLevels, options_.symmetric);
    candidate.params = params_of(candidate.range);
    all.push_back(std::move(candidate));
  };
  for (const NamedMethod& known : kMethods) {
    if (known.method != RangeMethod::kPercentile) {
      add(std::string(known.name), known.method, 0);
      continue;
    }
    for (const double percentile : options_.percentiles) {
      add("percentile " + option_text(Datum::real(percentile)), known.method, percentile);
    }
  }
  const auto width = [](const RangeCandidate& candidate) {
    return candidate.range.maximum - candidate.range.minimum;
  };
  std::ranges::stable_sort(
      all, [&](const RangeCandidate& a, const RangeCandidate& b) { return width(a) > width(b); });
  // Steps that differ by less make no difference that can be measured.
  constexpr float kAlike = 1.01F;
  std::vector<RangeCandidate> kept;
  for (RangeCandidate& candidate : all) {
    const bool known = std::ranges::any_of(kept, [&](const RangeCandidate& other) {
      return std::abs(other.params.zero_point - candidate.params.zero_point) <= 1 &&
             other.params.scale <= candidate.params.scale * kAlike;
    });
    if (!known) kept.push_back(std::move(candidate));
  }
  return kept;
}

Status RangeChoice::judge(const Model& model, const StaticPlan& plan, PassContext& context) {
  judged_.clear();
  const DataSource* const data = context.calibration_data();
  if (data == nullptr || plan.nodes.empty()) return ok_status();
  const double elements = sample_elements(table_, plan);
  const std::vector<std::int64_t> samples = held_out_samples(table_, *data, samples_for(elements));
  if (samples.empty()) return ok_status();

  StepCost cost(context.report(), "ranges");
  std::map<std::uint32_t, const Value*> roots;
  for (const Value* tensor : plan.tensors) {
    if (plan.root(tensor->id()) == tensor->id()) roots.emplace(tensor->id(), tensor);
  }
  std::vector<std::pair<const Value*, const ValueStats*>> known;
  for (const Value* tensor : plan.tensors) {
    const auto root = roots.find(tensor->id());
    const ValueStats* stats = table_.find(tensor->name());
    if (root != roots.end() && stats != nullptr && stats->count > 0)
      known.emplace_back(tensor, stats);
  }
  std::vector<std::vector<RangeCandidate>> found(known.size());
  context.executor().parallel_for(known.size(), 1, [&](std::size_t i, std::size_t) {
    found[i] = candidates(*known[i].second);
  });
  std::vector<JudgedTensor> tensors;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (found[i].size() > 1) tensors.push_back({known[i].first, std::move(found[i])});
  }
  const double budget =
      context.memory_budget() > 0 ? static_cast<double>(context.memory_budget()) : kDefaultBudget;
  const double at_once = std::clamp(budget / (elements * sizeof(float)), 1.0, 1024.0);
  MCOMPRESS_ASSIGN(const std::int64_t runs,
                   judge_ranges(model, plan, tensors, type_, samples,
                                static_cast<std::int64_t>(at_once), context));
  cost.add_runs(runs);
  std::map<std::string, std::int64_t> taken;
  for (const JudgedTensor& tensor : tensors) {
    const std::size_t best = best_of(tensor.candidates);
    if (best == tensor.candidates.size()) continue;
    judged_.insert_or_assign(std::string(tensor.root->name()), tensor.candidates[best].params);
    ++taken[tensor.candidates[best].method];
    ReportScope& item = context.report().item("ranges", tensor.root->name());
    item.text("method", tensor.candidates[best].method);
    item.number("minimum", tensor.candidates[best].range.minimum);
    item.number("maximum", tensor.candidates[best].range.maximum);
    if (tensor.candidates[best].noise > 0) {
      item.number("reader_sqnr_db", -10 * std::log10(tensor.candidates[best].noise));
    }
  }
  std::string text;
  for (const auto& [method, count] : taken) {
    text += (text.empty() ? "" : ", ") + method + " " + std::to_string(count);
  }
  if (!text.empty()) {
    context.diagnostics().note(
        "ranges-judged",
        "ranges by their effect on " + std::to_string(samples.size()) + " samples: " + text);
  }
  return ok_status();
}

Status RangeChoice::emit_trial(const Emit& emit, Trial& trial) {
  forced_ = trial.method;
  MCOMPRESS_ASSIGN(trial.model, emit());
  return ok_status();
}

Status RangeChoice::open_trial(const Guard& guard, Trial& trial) {
  if (trial.model == nullptr) return ok_status();
  MCOMPRESS_ASSIGN(trial.session, guard.open(*trial.model));
  trial.model.reset();
  return ok_status();
}

Status RangeChoice::measure_trial(Guard& guard, Trial& trial) {
  trial.reached = kExactDb;
  if (trial.session != nullptr) {
    MCOMPRESS_ASSIGN(trial.reached, guard.sqnr_db(*trial.session));
  }
  return ok_status();
}

Result<std::unique_ptr<Session>> RangeChoice::keep_best(const Emit& emit, Guard& guard,
                                                        PassContext& context) {
  if (judged_.empty()) return std::unique_ptr<Session>();
  ReportScope& report = context.report();
  StepCost cost(report, "ranges-whole-model");
  std::array<Trial, 3> trials;
  trials[1].method = RangeMethod::kMinMax;
  trials[2].method = RangeMethod::kMse;
  bool side_by_side = context.memory_budget() == 0;
  for (Trial& trial : trials) {
    MCOMPRESS_TRY(emit_trial(emit, trial));
    if (&trial == trials.data() && trial.model != nullptr) {
      side_by_side = side_by_side && initializer_bytes(*trial.model) <= kFewBytes;
    }
    if (side_by_side) continue;
    MCOMPRESS_TRY(open_trial(guard, trial));
    MCOMPRESS_TRY(measure_trial(guard, trial));
    trial.session.reset();
  }
  if (side_by_side) {
    MCOMPRESS_TRY(context.executor().try_parallel_for(
        trials.size(), 1,
        [&](std::size_t i, std::size_t) { return open_trial(guard, trials[i]); }));
    for (Trial& trial : trials) MCOMPRESS_TRY(measure_trial(guard, trial));
  }
  const double judged = trials.front().reached;
  Trial* best = &trials.front();
  for (Trial& trial : trials) {
    if (trial.reached > std::max(best->reached, judged + kClearlyBetterDb)) best = &trial;
  }
  forced_ = best->method;
  cost.add_runs(static_cast<std::int64_t>(trials.size()));
  cost.before_db(judged);
  cost.after_db(best->reached);
  std::string_view name = "judged";
  for (const NamedMethod& method : kMethods) {
    if (forced_ == method.method) name = method.name;
  }
  report.text("ranges_kept", name);
  return std::move(best->session);
}

QuantParams RangeChoice::params_of(const Value& root, bool whole) {
  if (!forced_ && !whole) {
    const auto judged = judged_.find(root.name());
    if (judged != judged_.end()) return judged->second;
  }
  const RangeMethod method = whole ? RangeMethod::kMinMax : forced_.value_or(options_.method);
  const auto [known, fresh] =
      plain_.try_emplace(std::pair(std::string(root.name()), method), QuantParams{});
  if (!fresh) return known->second;
  const ValueStats* stats = table_.find(root.name());
  const ValueRange range = stats == nullptr ? ValueRange{}
                                            : choose_range(*stats, method, options_.percentile,
                                                           kLevels, options_.symmetric);
  return known->second = params_of(range);
}

std::map<std::uint32_t, ActivationScale> RangeChoice::scales(const StaticPlan& plan,
                                                             const std::set<std::uint32_t>& whole) {
  std::map<std::uint32_t, const Value*> by_id;
  for (const Value* value : plan.tensors) by_id[value->id()] = value;
  std::map<std::uint32_t, ActivationScale> scales;
  for (const Value* value : plan.tensors) {
    const std::uint32_t root = plan.root(value->id());
    const QuantParams params = params_of(*by_id.at(root), whole.count(root) > 0);
    scales[value->id()] = {params.scale, params.zero_point};
  }
  return scales;
}

}  // namespace mcompress
