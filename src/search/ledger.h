// Evaluated points of a search: what was spent, what is best.
#pragma once

#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "search/space.h"

namespace mcompress {

struct FittedChoice {
  std::vector<std::size_t> choice;
  SearchSpace::Built built;  // null: the choice was evaluated before, or (it is empty) none fits
};

// What each form of each layer loses alone, in whatever way a strategy weighs it, and what
// neighbours that both compute in integers save each (SearchSpace::borders).
struct SearchLosses {
  std::vector<std::vector<double>> layers;
  std::vector<double> borders;  // empty: none
};

// Sizes and times count no further than limits ask for; without such a limit fewer bytes are better
// as soon as the others hold.
bool better_point(const SearchOptions& options, const SearchPoint& a, const SearchPoint& b);

class SearchLedger {
 public:
  SearchLedger(SearchSpace& space, SearchOutcome& outcome) : space_(space), outcome_(outcome) {}

  // Whether one more evaluation, and `reserved` ones, are left.
  bool can_afford(double reserved = 0) const {
    return outcome_.evaluations + 1 + reserved <= static_cast<double>(limit());
  }
  std::int64_t limit() const { return space_.options().evaluations; }

  // Builds the choice and judges it; null where it was evaluated before. `built` may be given.
  // kCancelled on an interruption.
  Result<const SearchPoint*> evaluate(const std::vector<std::size_t>& choice, std::string origin,
                                      SearchSpace::Built built = {});
  // Null: it was not evaluated.
  const SearchPoint* find(const std::vector<std::size_t>& choice) const {
    const auto found = seen_.find(choice);
    return found != seen_.end() ? &outcome_.points[found->second] : nullptr;
  }
  bool knows(const std::vector<std::size_t>& choice) const { return seen_.contains(choice); }

  // The choice of least loss whose file has up to `bytes` and whose predicted time is within the
  // limit; the fastest where none is. Builds up to `rounds` models to come close to the bytes.
  Result<FittedChoice> fit(const SearchLosses& losses, std::uint64_t bytes, int rounds = 6);

  std::span<const SearchPoint> points() const { return outcome_.points; }
  const SearchPoint* best() const {
    return outcome_.best ? &outcome_.points[*outcome_.best] : nullptr;
  }
  std::size_t best_place() const { return outcome_.best.value_or(0); }
  bool minimises_bytes() const {
    const SearchLimits& limits = space_.options().limits;
    return limits.max_bytes == 0 && limits.max_latency == 0;
  }

  // Of the noises of layers alone; bytes of the layers alone.
  double predicted_noise(std::span<const std::size_t> choice) const;
  double predicted_bytes(std::span<const std::size_t> choice) const;
  // By the layers' times, and by how far off that was for choices that were measured; as a share
  // of the original's time. Empty: no times are known.
  std::optional<double> predicted_latency(std::span<const std::size_t> choice) const;
  // Of layers and borders, in microseconds, that keeps the limit by that; infinity: no limit.
  double time_budget() const;

 private:
  Result<FittedChoice> fit_by(const SearchLosses& losses, std::uint64_t bytes, int rounds,
                              bool as_written);
  double layers_time(std::span<const std::size_t> choice) const;

  SearchSpace& space_;
  SearchOutcome& outcome_;
  std::map<std::vector<std::size_t>, std::size_t> seen_;
  double off_ = 0;              // bytes of the last model that fitted, less the sum of its layers
  std::vector<double> slower_;  // times of the last models, over the sums of their layers
};

// The ways to search; each adds points until nothing is left to try or to spend. kCancelled on an
// interruption.
Status search_by_knapsack(SearchSpace& space, SearchLedger& ledger);
Status search_by_surrogate(SearchSpace& space, SearchLedger& ledger);
Status search_all(SearchSpace& space, SearchLedger& ledger);

// What these have in common.
// Evaluates every form alone, on all layers that take it, as far as it may hold.
Status try_uniform_forms(SearchSpace& space, SearchLedger& ledger, std::size_t most);
// All choices that differ from `centre` in one layer, and, where that is no more than `most` pairs
// of changes, in two.
std::vector<std::vector<std::size_t>> neighbours_of(std::span<const SearchLayer> layers,
                                                    std::span<const std::size_t> centre,
                                                    std::size_t most);
// Evaluates neighbours of the best point, the least noise first, from each better one on, until
// nothing is left that may be better, to spend beside `reserved`, or many were tried in vain.
Status try_neighbours(SearchSpace& space, SearchLedger& ledger, double reserved);
// The choice of the fewest bytes, by those of the layers and forms, nothing built.
std::vector<std::size_t> smallest_choice(const SearchSpace& space);
// The choice of least loss that fits `bytes` by the bytes of the layers alone, and `microseconds`
// by their times, nothing built; where no choice does both, the fastest that fits the bytes; empty:
// none fits these.
std::vector<std::size_t> counted_choice(
    const SearchSpace& space, const SearchLosses& losses, double bytes,
    double microseconds = std::numeric_limits<double>::infinity());
// Corners of the lower hull of (bytes, loss), from the fewest bytes, nothing built; borders and
// what forms take once are left out.
std::vector<std::vector<std::size_t>> hull_choices(const SearchSpace& space,
                                                   const SearchLosses& losses);
// The noises: losses as they were measured.
SearchLosses noise_losses(const SearchSpace& space);

}  // namespace mcompress
