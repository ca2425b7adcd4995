// The default strategy: the exact choice for the measured noises, then other weights of the layers
// around the best one found, each time with an exact choice (as SPDY does; Frantar and Alistarh,
// 2022), all checked on the evaluation data.
#include <algorithm>
#include <cmath>
#include <random>

#include "search/ledger.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Losses of the layers, each times a weight; borders by the geometric mean of both sides.
SearchLosses weighted(SearchLosses losses, const std::vector<SearchBorder>& borders,
                      const std::vector<double>& log_weights) {
  for (std::size_t layer = 0; layer < losses.layers.size(); ++layer) {
    for (double& loss : losses.layers[layer]) loss *= std::exp(log_weights[layer]);
  }
  for (std::size_t i = 0; i < losses.borders.size(); ++i) {
    losses.borders[i] *=
        std::exp((log_weights[borders[i].left] + log_weights[borders[i].right]) / 2);
  }
  return losses;
}

// Uniform in [0, 1), the same on every machine.
double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1.0p-53; }
// Roughly Gaussian: the sum of twelve uniform numbers.
double normal(std::mt19937_64& random) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += uniform(random);
  return sum;
}

class KnapsackSearch {
 public:
  KnapsackSearch(SearchSpace& space, SearchLedger& ledger)
      : space_(space),
        ledger_(ledger),
        noise_(noise_losses(space)),
        random_(space.options().seed) {}

  Status run() {
    const SearchLimits& limits = space_.options().limits;
    if (!ledger_.minimises_bytes()) {
      MCOMPRESS_TRY(start_within(limits.max_bytes > 0 ? limits.max_bytes : kAnyBytes));
    } else {
      MCOMPRESS_TRY(start_smallest());
    }
    MCOMPRESS_TRY(improve());
    MCOMPRESS_TRY(try_neighbours(space_, ledger_, reserved()));
    return fill_front();
  }

 private:
  static constexpr std::uint64_t kAnyBytes = std::uint64_t{1} << 62;

  double reserved() const { return static_cast<double>(space_.options().front_points); }

  SearchLosses amplitudes() const {
    SearchLosses losses = noise_;
    for (auto& row : losses.layers) {
      for (double& loss : row) loss = std::sqrt(loss);
    }
    for (std::size_t i = 0; i < losses.borders.size(); ++i) {
      // What a sum of amplitudes falls by when the energy falls by so much.
      const SearchBorder& border = space_.borders()[i];
      double around = 0;
      for (const std::size_t layer : {border.left, border.right}) {
        for (std::size_t form = 0; form < losses.layers[layer].size(); ++form) {
          if (space_.options().forms[form].integers) around += losses.layers[layer][form];
        }
      }
      losses.borders[i] = around > 0 ? losses.borders[i] / around : 0;
    }
    return losses;
  }

  // Quality within a size: by noises that add up, by amplitudes that do, and the uniform forms.
  Status start_within(std::uint64_t bytes) {
    MCOMPRESS_TRY(try_fitted(noise_, bytes, "knapsack"));
    MCOMPRESS_TRY(try_fitted(amplitudes(), bytes, "knapsack of amplitudes"));
    const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, ledger_.limit() / 6));
    return try_uniform_forms(space_, ledger_, most);
  }

  Status try_fitted(const SearchLosses& losses, std::uint64_t bytes, const std::string& origin) {
    if (!ledger_.can_afford(reserved())) return ok_status();
    MCOMPRESS_ASSIGN(FittedChoice fitted, ledger_.fit(losses, bytes));
    if (fitted.choice.empty()) return first_is_cheapest(origin);
    if (ledger_.knows(fitted.choice)) return ok_status();
    MCOMPRESS_TRY(ledger_.evaluate(fitted.choice, origin, std::move(fitted.built)));
    return ok_status();
  }

  // Nothing fits: the least there is, so that it can be said how far it is off.
  Status first_is_cheapest(const std::string& origin) {
    if (ledger_.best() != nullptr) return ok_status();
    MCOMPRESS_TRY(ledger_.evaluate(smallest_choice(space_), origin + ", fewest bytes"));
    return ok_status();
  }

  // The fewest bytes that hold: bisection along the hull, where quality grows with size.
  Status start_smallest() {
    const auto hull = hull_choices(space_, noise_);
    std::size_t low = 0, high = hull.size();  // the first that holds is in [low, high]
    while (low < high && ledger_.can_afford(reserved())) {
      const std::size_t middle = (low + high) / 2;
      // The corner's bytes, forms that are hardly worth what they take once left out.
      std::vector<std::size_t> choice =
          counted_choice(space_, noise_, ledger_.predicted_bytes(hull[middle]));
      if (choice.empty()) choice = hull[middle];
      MCOMPRESS_ASSIGN(const SearchPoint* point, ledger_.evaluate(choice, "knapsack"));
      if (point == nullptr) point = ledger_.find(choice);
      if (point->holds) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return ok_status();
  }

  // Other weights of the layers, near those of the best point.
  Status improve() {
    std::vector<double> centre(noise_.layers.size(), 0);
    double spread = 1;
    int failures = 0, idle = 0;
    double shrink = 0.04;
    constexpr int kMostIdle = 200;
    while (ledger_.can_afford(reserved()) && idle < kMostIdle && ledger_.best() != nullptr) {
      std::vector<double> weights = centre;
      const auto moved = std::max<std::size_t>(1, weights.size() / 5);
      for (std::size_t i = 0; i < moved; ++i) {
        weights[random_() % weights.size()] += spread * normal(random_);
      }
      const std::uint64_t bytes = target(shrink);
      const auto& losses = idle % 2 == 0 ? noise_ : amplitudes_or_noise();
      MCOMPRESS_ASSIGN(FittedChoice fitted,
                       ledger_.fit(weighted(losses, space_.borders(), weights), bytes, 3));
      if (fitted.built.model == nullptr || ledger_.knows(fitted.choice)) {
        ++idle;
        spread = std::min(spread * 1.1, 3.0);
        continue;
      }
      const std::size_t before = best_place();
      MCOMPRESS_TRY(ledger_.evaluate(fitted.choice, "local search", std::move(fitted.built)));
      idle = 0;
      if (best_place() != before) {
        centre = std::move(weights);
        failures = 0;
      } else if (++failures % 4 == 0) {
        spread = std::max(spread * 0.7, 0.1);
        shrink = std::max(shrink * 0.6, 0.002);
      }
    }
    return ok_status();
  }

  const SearchLosses& amplitudes_or_noise() {
    if (amplitudes_.layers.empty()) amplitudes_ = amplitudes();
    return amplitudes_;
  }

  std::size_t best_place() const {
    return ledger_.best() != nullptr ? ledger_.best_place() : SIZE_MAX;
  }

  // Where bytes are what is looked for, a little below the best; above it while nothing holds.
  std::uint64_t target(double shrink) const {
    if (!ledger_.minimises_bytes()) {
      const std::uint64_t limit = space_.options().limits.max_bytes;
      return limit > 0 ? limit : kAnyBytes;
    }
    const auto bytes = static_cast<double>(ledger_.best()->bytes);
    const double factor = ledger_.best()->holds ? 1 - shrink : 1 + shrink;
    return static_cast<std::uint64_t>(bytes * factor);
  }

  // The rest of the front, spread over the sizes there are.
  Status fill_front() {
    const auto hull = hull_choices(space_, noise_);
    const auto points = static_cast<std::size_t>(space_.options().front_points);
    if (points == 0 || hull.empty()) return ok_status();
    const double least = ledger_.predicted_bytes(hull.front());
    const double most = ledger_.predicted_bytes(hull.back());
    for (std::size_t i = 0; i < points && ledger_.can_afford(); ++i) {
      // Equal ratios from one to the next.
      const double share = (static_cast<double>(i) + 0.5) / static_cast<double>(points);
      const double bytes = least * std::pow(most / least, share);
      MCOMPRESS_ASSIGN(FittedChoice fitted,
                       ledger_.fit(noise_, static_cast<std::uint64_t>(bytes), 2));
      if (fitted.built.model == nullptr || ledger_.knows(fitted.choice)) continue;
      MCOMPRESS_TRY(ledger_.evaluate(fitted.choice, "front", std::move(fitted.built)));
    }
    return ok_status();
  }

  SearchSpace& space_;
  SearchLedger& ledger_;
  SearchLosses noise_, amplitudes_;
  std::mt19937_64 random_;
};

}  // namespace

Status search_by_knapsack(SearchSpace& space, SearchLedger& ledger) {
  return KnapsackSearch(space, ledger).run();
}

}  // namespace mcompress
