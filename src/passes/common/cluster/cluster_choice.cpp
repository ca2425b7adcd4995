#include "passes/common/cluster/cluster_choice.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "ir/walk.h"
#include "passes/common/cluster/cluster_fitter.h"
#include "passes/common/guard.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kSteps = 4096;
constexpr std::array<std::size_t, 8> kCounts = {2, 4, 8, 16, 32, 64, 128, 256};
constexpr std::size_t kProbe = 16;         // clusters when effects are measured
constexpr std::uint64_t kNodeBytes = 160;  // of a node in a file, names included
constexpr std::uint64_t kUnitBytes = 600;  // of the names and nodes around one weight
constexpr std::size_t kMostRuns = 400;     // weights whose effects are measured
constexpr std::int64_t kGuardSamples = 8;

// The cheapest sums by step of the budget, and what they take.
struct Table {
  std::vector<double> error;                     // by steps used
  std::vector<std::vector<std::uint8_t>> taken;  // [weight][steps]
  std::vector<std::vector<std::size_t>> steps;   // [weight][option]

  std::vector<std::size_t> options_at(std::size_t step) const {
    std::vector<std::size_t> options(taken.size());
    for (std::size_t w = taken.size(); w-- > 0;) {
      options[w] = taken[w][step];
      step -= steps[w][options[w]];
    }
    return options;
  }
};

Table solve(std::span<const std::vector<ClusterOption>> weights, std::uint64_t budget) {
  Table table;
  double size = std::max<double>(1, static_cast<double>(budget)) / kSteps;
  std::uint64_t least = 0;
  double least_steps = 0;
  for (const std::vector<ClusterOption>& options : weights) {
    least += options.front().bytes;
    least_steps += std::ceil(static_cast<double>(options.front().bytes) / size);
  }
  // Of thousands of weights a step each may be more than there are: what they take at least is set
  // aside then.
  const bool apart = least_steps > kSteps && least <= budget;
  if (apart) size = std::max<double>(1, static_cast<double>(budget - least)) / kSteps;
  constexpr double kNone = std::numeric_limits<double>::infinity();
  // error[s]: with s steps in all, used or not.
  table.error.assign(kSteps + 1, 0);
  for (const std::vector<ClusterOption>& options : weights) {
    std::vector<std::size_t> steps;
    steps.reserve(options.size());
    const std::uint64_t aside = apart ? options.front().bytes : 0;
    for (const ClusterOption& option : options) {
      steps.push_back(
          static_cast<std::size_t>(std::ceil(static_cast<double>(option.bytes - aside) / size)));
    }
    std::vector<double> next(kSteps + 1, kNone);
    std::vector<std::uint8_t> taken(kSteps + 1);
    for (std::size_t o = 0; o < options.size(); ++o) {
      for (std::size_t s = steps[o]; s <= kSteps; ++s) {
        const double error = table.error[s - steps[o]] + options[o].error;
        if (error < next[s]) next[s] = error, taken[s] = static_cast<std::uint8_t>(o);
      }
    }
    table.error = std::move(next);
    table.taken.push_back(std::move(taken));
    table.steps.push_back(std::move(steps));
  }
  return table;
}

// Everything in the file but the weights.
std::uint64_t other_bytes(Model& model, const std::vector<ClusterUnit>& units) {
  std::uint64_t bytes = kUnitBytes * units.size(), planned = 0;
  for_each_graph(model.graph(), [&](Graph& graph) {
    bytes += kNodeBytes * graph.node_count();
    for (const Value* value : graph.initializers()) bytes += value->initializer()->byte_size();
  });
  for (const ClusterUnit& unit : units) {
    if (unit.value().is_initializer()) planned += unit.tensor().byte_size();
  }
  return bytes - std::min(bytes, planned);
}

}  // namespace

std::vector<std::size_t> choose_within(std::span<const std::vector<ClusterOption>> weights,
                                       std::uint64_t budget) {
  const Table table = solve(weights, budget);
  if (!std::isfinite(table.error[kSteps])) return {};
  return table.options_at(kSteps);
}

std::vector<std::size_t> choose_for_error(std::span<const std::vector<ClusterOption>> weights,
                                          double most) {
  std::uint64_t largest = 0;
  for (const auto& options : weights) largest += options.back().bytes;
  const Table table = solve(weights, largest + largest / 64 + kSteps);
  std::size_t step = kSteps;
  while (step > 0 && table.error[step - 1] <= most) --step;
  return table.options_at(step);
}

Result<ClusterChoice> choose_clusters(Model& model, std::vector<ClusterUnit>& units,
                                      const std::vector<std::vector<float>>& energies,
                                      const ClusterBudget& budget, bool keep_zero,
                                      PassContext& context) {
  ClusterChoice choice;
  if (units.empty()) return choice;
  std::optional<Guard> guard;
  if (context.calibration_data() != nullptr && units.size() <= kMostRuns) {
    MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
    guard.emplace(*runtime, *context.calibration_data(), kGuardSamples);
    MCOMPRESS_TRY(guard->open_reference(context.reference(), model, &context.executor()));
    choice.measured = true;
  }
  double elements = 0;
  std::vector<std::vector<ClusterOption>> options(units.size());
  for (std::size_t i = 0; i < units.size(); ++i) {
    context.progress().update("weigh errors", i, units.size(), "tensors");
    if (context.progress().cancelled()) {
      return Error(Code::kCancelled, "cancelled", "interrupted while errors were weighed");
    }
    const ClusterUnit& unit = units[i];
    MCOMPRESS_ASSIGN(const ClusterInput input, cluster_input(unit, energies[i], keep_zero));
    const std::vector<double> errors =
        cluster_errors(input, kCounts, context.executor(), unit.groups);
    double gain = 1 / static_cast<double>(units.size());
    Value* const value = unit.value().graph().owner() == nullptr ? &unit.value() : nullptr;
    if (guard && value != nullptr) {
      const ClusterCodes codes = fit_clusters(input, kProbe, 0, context.executor(), unit.groups);
      const std::unique_ptr<Model> trial = model.clone();
      MCOMPRESS_ASSIGN(Tensor tensor, restored_weight(unit, codes, context.tensors()));
      MCOMPRESS_TRY(put_restored(*trial, unit, std::move(tensor)));
      MCOMPRESS_ASSIGN(const double db, guard->sqnr_db(*trial));
      const double probe = errors[3];  // of kProbe
      if (probe > 0) gain = std::pow(10.0, -db / 10) / probe;
    }
    elements += static_cast<double>(unit.tensor().elements());
    for (std::size_t o = 0; o < kCounts.size(); ++o) {
      if (kCounts[o] < unit.fewest || kCounts[o] > budget.most) continue;
      options[i].push_back({clustered_bytes(unit.tensor().elements(), kCounts[o], unit.groups),
                            gain * errors[o], kCounts[o]});
    }
    if (options[i].empty()) {
      const double error =
          cluster_errors(input, {&budget.most, 1}, context.executor(), unit.groups)[0];
      options[i].push_back({clustered_bytes(unit.tensor().elements(), budget.most, unit.groups),
                            gain * error, budget.most});
    }
  }
  const std::uint64_t other = other_bytes(model, units);
  std::uint64_t limit = ~std::uint64_t{0};
  if (budget.average_bits > 0) {
    limit = static_cast<std::uint64_t>(budget.average_bits * elements / 8);
  }
  if (budget.max_bytes > 0) {
    limit = std::min(limit, budget.max_bytes - std::min(budget.max_bytes, other));
  }
  std::uint64_t least = 0, largest = 0;
  for (const auto& of_one : options) {
    least += of_one.front().bytes, largest += of_one.back().bytes;
  }
  std::vector<std::size_t> chosen;
  if (budget.min_sqnr_db > 0) {
    chosen = choose_for_error(options, std::pow(10.0, -budget.min_sqnr_db / 10));
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < units.size(); ++i) bytes += options[i][chosen[i]].bytes;
    if (bytes > limit) chosen.clear();
  } else {
    chosen = choose_within(options, std::min(limit, largest + largest / 64 + kSteps));
  }
  if (chosen.empty()) {
    return Error(Code::kGateMissed, "clusters-too-large",
                 "the weights may take " + human_bytes(limit) + ", and take " + human_bytes(least) +
                     " with as few clusters as there may be",
                 {{}, {}, {}}, "ask for more, or leave --min-sqnr out");
  }
  double error = 0;
  for (std::size_t i = 0; i < units.size(); ++i) {
    const ClusterOption& option = options[i][chosen[i]];
    choice.bytes += option.bytes, error += option.error;
    units[i].clusters = option.clusters;
  }
  choice.average_bits = static_cast<double>(choice.bytes) * 8 / elements;
  choice.predicted_db = error > 0 ? -10 * std::log10(error) : 200;
  return choice;
}

}  // namespace mcompress
