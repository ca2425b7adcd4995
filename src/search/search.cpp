#include "mcompress/search.h"

#include <algorithm>
#include <cmath>
#include <optional>

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
    const bool by_metric = options.prefer != SearchPrefer::kSqnr;
    auto& row = numbers.emplace_back();
    row.push_back(static_cast<double>(point.bytes));
    row.push_back(by_metric ? preferred_drop(options.prefer, point.quality)
                            : -point.quality.sqnr_db);
    if (options.limits.max_latency > 0) row.push_back(point.latency.value_or(1e9));
  }
  return pareto_front(numbers);
}

Result<SearchOutcome> search_width(const Model& original, const SearchOptions& options,
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

}  // namespace

double preferred_drop(SearchPrefer prefer, const SearchQuality& quality) {
  if (std::isnan(quality.drop)) return 1e9;
  return prefer == SearchPrefer::kNoLoss ? std::max(quality.drop, 0.0) : quality.drop;
}

Result<SearchOutcome> search_forms_of_layers(const Model& original, const SearchOptions& options,
                                             const SearchServices& services) {
  if (options.widths.empty()) return search_width(original, options, services);
  std::optional<SearchOutcome> best;
  SearchOutcome sums;  // of all widths
  for (std::size_t i = 0; i < options.widths.size(); ++i) {
    const SearchWidth& width = options.widths[i];
    SearchOptions part = options;
    part.widths.clear();
    part.before.steps.insert(part.before.steps.end(), width.steps.begin(), width.steps.end());
    const auto left = static_cast<std::int64_t>(options.widths.size() - i);
    const double rest = static_cast<double>(options.evaluations) - sums.evaluations;
    part.evaluations = std::max<std::int64_t>(1, static_cast<std::int64_t>(rest) / left);
    part.front_points = std::min(options.front_points / left, part.evaluations - 1);
    Result<SearchOutcome> found = search_width(original, part, services);
    if (!found.ok() && found.error().code == Code::kCancelled && best) {
      sums.interrupted = true;  // while its cut was made
      break;
    }
    MCOMPRESS_ASSIGN(SearchOutcome outcome, std::move(found));
    SearchedWidth tried{width.share, outcome.evaluations, 0, {}, false};
    const SearchPoint* point = outcome.best ? &outcome.points[*outcome.best] : nullptr;
    if (point != nullptr) {
      tried.bytes = point->bytes;
      tried.quality = point->quality;
      tried.holds = point->holds;
    }
    sums.widths.push_back(tried);
    sums.evaluations += outcome.evaluations;
    sums.trials += outcome.trials;
    sums.remembered += outcome.remembered;
    sums.interrupted = outcome.interrupted;
    const bool first = !best || !best->best;
    if (first || (point != nullptr && better_point(options, *point, best->points[*best->best]))) {
      best = std::move(outcome);
      best->width = width;
    }
    if (sums.interrupted) break;
  }
  best->widths = std::move(sums.widths);
  best->evaluations = sums.evaluations;
  best->trials = sums.trials;
  best->remembered = sums.remembered;
  best->interrupted = sums.interrupted;
  return std::move(*best);
}

}  // namespace mcompress
