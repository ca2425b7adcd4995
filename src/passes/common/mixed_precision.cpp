#include "passes/common/mixed_precision.h"

#include <algorithm>
#include <cmath>

#include "passes/common/guard.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kExactDb = 200;

}  // namespace

std::vector<std::uint32_t> rank_by_noise(const StaticPlan& plan, const CalibrationTable& table,
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
    if (node.kind != OperatorRule::Kind::kWeighted) continue;
    double noise = noise_of(*node.node->input(0)) + noise_of(*node.output);
    const auto weight = weight_sqnr.find(std::string(node.weight->name()));
    if (weight != weight_sqnr.end()) noise += std::pow(10, -weight->second / 10);
    ranked.emplace_back(-noise, node.node->id());
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::uint32_t> ids;
  ids.reserve(ranked.size());
  for (const auto& [noise, id] : ranked) ids.push_back(id);
  return ids;
}

Status restore_precision(const Model& model, PassContext& context, const StaticPlan& plan,
                         const std::map<std::uint32_t, ActivationScale>& scales,
                         const TrialEmitter& emit, const MixedPrecisionOptions& options,
                         PlanOptions& chosen) {
  MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
  Guard guard(*runtime, *context.calibration_data(), options.samples);
  MCOMPRESS_TRY(guard.open_reference(context.reference(), model));

  PlanOptions trial = chosen;
  trial.explain = false;
  std::map<std::string, double> weight_sqnr;
  const auto measure = [&]() -> Result<double> {
    MCOMPRESS_ASSIGN(const StaticTrial attempt, emit(trial));
    for (const auto& [weight, decibel] : attempt.weight_sqnr) weight_sqnr[weight] = decibel;
    if (attempt.model == nullptr) return kExactDb;
    return guard.sqnr_db(*attempt.model);
  };

  MCOMPRESS_ASSIGN(const double first, measure());
  context.report().number("sqnr_db", first);
  if (first >= options.min_sqnr) return ok_status();

  const std::vector<std::uint32_t> worst = rank_by_noise(plan, *chosen.table, scales, weight_sqnr);
  const auto never = chosen.keep_float;
  double best = first;
  for (std::size_t count = 1; best < options.min_sqnr; count *= 2) {
    const std::size_t taken = std::min(count, worst.size());
    trial.keep_float = never;
    trial.keep_float.insert(worst.begin(), worst.begin() + static_cast<std::ptrdiff_t>(taken));
    MCOMPRESS_ASSIGN(const double reached, measure());
    if (reached > best) {
      best = reached;
      chosen.keep_float = trial.keep_float;
    }
    if (taken == worst.size()) break;
  }
  context.report().number("guarded_sqnr_db", best);
  const std::string why = "in integers the outputs had " + fixed(first, 1) +
                          " dB on the calibration data, below " + fixed(options.min_sqnr, 1) +
                          " dB, and this layer's own noise is among the largest";
  for (const std::uint32_t id : chosen.keep_float) chosen.keep_reason.try_emplace(id, why);
  return ok_status();
}

}  // namespace mcompress
