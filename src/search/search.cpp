#include "mcompress/search.h"

#include <algorithm>

#include "numeric/pareto.h"
#include "search/ledger.h"
#include "search/measure.h"
#include "search/times.h"
#include "support/try.h"

namespace mcompress {
namespace {

Status search(SearchSpace& space, const SearchOptions& options, SearchOutcome& outcome) {
  // What layers do alone may take a good third of what there is.
  constexpr double kShareOfMeasuring = 0.4;
  const bool brute = options.strategy == SearchStrategy::kBrute;
  const double share = brute ? 0 : kShareOfMeasuring;
  MCOMPRESS_ASSIGN(
      const MeasureCost cost,
      measure_layers_and_forms(space, share * static_cast<double>(options.evaluations)));
  outcome.trials = cost.trials;
  outcome.trial_samples = cost.samples;
  outcome.evaluations += cost.evaluations;
  if (options.limits.max_latency > 0 && !brute) MCOMPRESS_TRY(measure_times(space));
  SearchLedger ledger(space, outcome);
  switch (options.strategy) {
    case SearchStrategy::kBrute:
      return search_all(space, ledger);
    case SearchStrategy::kBayes:
      return search_by_surrogate(space, ledger);
    case SearchStrategy::kKnapsack:
      break;
  }
  return search_by_knapsack(space, ledger);
}

// Bytes against what is preferred of quality, and time where it was measured.
std::vector<std::size_t> front_of(const SearchOptions& options, const SearchOutcome& outcome) {
  std::vector<std::vector<double>> numbers;
  for (const SearchPoint& point : outcome.points) {
    const bool by_metric = options.prefer == SearchPrefer::kMetric;
    auto& row = numbers.emplace_back();
    row.push_back(static_cast<double>(point.bytes));
    row.push_back(by_metric ? std::max(point.quality.drop, 0.0) : -point.quality.sqnr_db);
    if (options.limits.max_latency > 0) row.push_back(point.latency.value_or(1e9));
  }
  return pareto_front(numbers);
}

}  // namespace

Result<SearchOutcome> search_forms_of_layers(const Model& original, const SearchOptions& options,
                                             const SearchServices& services) {
  MCOMPRESS_ASSIGN(const auto space, SearchSpace::open(original, options, services));
  SearchOutcome outcome;
  outcome.base_bytes = space->base_bytes();
  Status status = search(*space, options, outcome);
  if (!status.ok()) {
    if (status.error().code != Code::kCancelled) return std::move(status).error();
    outcome.interrupted = true;
  }
  outcome.layers = std::move(space->layers());
  outcome.borders = std::move(space->borders());
  outcome.form_bytes = space->form_bytes();
  outcome.left_out = std::move(space->left_out());
  outcome.front = front_of(options, outcome);
  return outcome;
}

}  // namespace mcompress
