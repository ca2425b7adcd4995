// Bayesian optimisation: the noise at the output is taken for a sum over layers of a number per
// form, believed to be about what was measured of the layer alone, and learnt from each
// evaluation. What is evaluated next is the choice with the largest expected improvement among
// many that keep the limit of size.
#include <algorithm>
#include <cmath>
#include <random>

#include "numeric/surrogate.h"
#include "search/ledger.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kPool = 64;         // choices among which the next is looked for
constexpr std::size_t kMostTerms = 2000;  // of the model; its covariance is a square of them

double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1.0p-53; }

class SurrogateSearch {
 public:
  SurrogateSearch(SearchSpace& space, SearchLedger& ledger)
      : space_(space),
        ledger_(ledger),
        forms_(space.options().forms.size()),
        terms_(space.layers().size() * forms_),
        random_(space.options().seed) {}

  Status run() {
    if (terms_ > kMostTerms) {
      return Error(Code::kUnsupported, "too-many-choices",
                   std::to_string(space_.layers().size()) + " layers of " + std::to_string(forms_) +
                       " forms are too many for --strategy bayes",
                   {}, "name fewer --forms, or take --strategy knapsack");
    }
    const SearchLosses losses = noise_losses(space_);
    const auto& noise = losses.layers;
    std::vector<double> mean, variance;
    double largest = 0;
    for (const auto& row : noise) {
      for (const double value : row) largest = std::max(largest, value);
    }
    const double floor = std::max(largest * 1e-6, 1e-12);
    for (const auto& row : noise) {
      for (const double value : row) {
        mean.push_back(value);
        variance.push_back(value * value + floor * floor);  // it may be twice as much, or nothing
      }
    }
    LinearSurrogate surrogate(std::move(mean), std::move(variance), floor * floor * 10);
    MCOMPRESS_TRY(start(losses));
    std::size_t learnt = 0;
    while (ledger_.can_afford()) {
      for (; learnt < ledger_.points().size(); ++learnt) {
        const SearchPoint& point = ledger_.points()[learnt];
        surrogate.observe(features(point.choice), measured(point));
      }
      const std::vector<std::size_t> next = propose(surrogate, budget());
      if (next.empty()) break;
      MCOMPRESS_TRY(ledger_.evaluate(next, "bayes"));
    }
    return ok_status();
  }

 private:
  static double measured(const SearchPoint& point) {
    const double noise = std::pow(10.0, -point.quality.sqnr_db / 10);
    return std::isfinite(noise) ? std::min(noise, 10.0) : 10.0;
  }

  std::vector<double> features(std::span<const std::size_t> choice) const {
    std::vector<double> row(terms_, 0);
    for (std::size_t layer = 0; layer < choice.size(); ++layer) {
      if (choice[layer] != 0) row[layer * forms_ + choice[layer]] = 1;
    }
    return row;
  }

  std::uint64_t budget() const {
    if (space_.options().limits.max_bytes > 0) return space_.options().limits.max_bytes;
    if (!ledger_.minimises_bytes()) return space_.base_bytes() * 2;  // time is what is short
    if (ledger_.best() == nullptr) return space_.base_bytes() / 4;
    const auto bytes = static_cast<double>(ledger_.best()->bytes);
    return static_cast<std::uint64_t>(bytes * (ledger_.best()->holds ? 0.97 : 1.1));
  }

  Status start(const SearchLosses& noise) {
    MCOMPRESS_ASSIGN(FittedChoice fitted, ledger_.fit(noise, budget()));
    if (fitted.built.model != nullptr) {
      MCOMPRESS_TRY(ledger_.evaluate(fitted.choice, "knapsack", std::move(fitted.built)));
    }
    const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, ledger_.limit() / 6));
    return try_uniform_forms(space_, ledger_, most);
  }

  // Draws choices, by what the surrogate may believe (Thompson, 1933) and by changes of the best,
  // and takes the one that promises most. Empty: no new one was found.
  std::vector<std::size_t> propose(const LinearSurrogate& surrogate, std::uint64_t bytes) {
    const std::vector<double> weights = surrogate.weights();
    double best = 1e300;
    for (const SearchPoint& point : ledger_.points()) {
      if (point.bytes <= bytes || ledger_.minimises_bytes()) {
        best = std::min(best, measured(point));
      }
    }
    std::vector<std::size_t> chosen;
    double promised = -1;
    for (std::size_t i = 0; i < kPool; ++i) {
      SearchLosses losses;  // what borders save is part of what is believed of layers
      for (std::size_t layer = 0; layer < space_.layers().size(); ++layer) {
        // All forms of a layer are off in the same direction.
        const double off = i == 0 ? 1 : std::exp(1.5 * (uniform(random_) - 0.5));
        auto& row = losses.layers.emplace_back();
        for (std::size_t form = 0; form < forms_; ++form) {
          row.push_back(form == 0 ? 0 : std::max(weights[layer * forms_ + form], 0.0) * off);
        }
      }
      std::vector<std::size_t> choice = choice_for(losses, bytes);
      if (choice.empty() || ledger_.knows(choice)) continue;
      const auto belief = surrogate.predict(features(choice));
      const double promise = expected_improvement(belief.mean, belief.deviation, best);
      if (promise > promised) promised = promise, chosen = std::move(choice);
    }
    return chosen;
  }

  // By the counted bytes, less what counting was off for the best so far.
  std::vector<std::size_t> choice_for(const SearchLosses& losses, std::uint64_t bytes) const {
    double off = 0;
    if (const SearchPoint* point = ledger_.best()) {
      off = static_cast<double>(point->bytes) - ledger_.predicted_bytes(point->choice);
    }
    return counted_choice(space_, losses, static_cast<double>(bytes) - off, ledger_.time_budget());
  }

  SearchSpace& space_;
  SearchLedger& ledger_;
  std::size_t forms_, terms_;
  std::mt19937_64 random_;
};

}  // namespace

Status search_by_surrogate(SearchSpace& space, SearchLedger& ledger) {
  return SurrogateSearch(space, ledger).run();
}

Status search_all(SearchSpace& space, SearchLedger& ledger) {
  const auto& layers = space.layers();
  double combinations = 1;
  for (const SearchLayer& layer : layers) {
    combinations *= static_cast<double>(
        std::count_if(layer.effects.begin(), layer.effects.end(),
                      [](const SearchEffect& effect) { return effect.applies; }));
  }
  if (combinations > static_cast<double>(ledger.limit())) {
    const std::string count = combinations < 1e15
                                  ? std::to_string(static_cast<std::uint64_t>(combinations))
                                  : std::string("more than 10^15");
    return Error(Code::kUsage, "too-many-combinations",
                 count + " combinations of forms, and --evaluations allows " +
                     std::to_string(ledger.limit()),
                 {{}, "--strategy", {}},
                 "name fewer --forms, allow more --evaluations, or take --strategy knapsack");
  }
  std::vector<std::size_t> choice = space.plain();
  for (bool more = true; more;) {
    MCOMPRESS_TRY(ledger.evaluate(choice, "brute"));
    more = false;
    for (std::size_t layer = 0; layer < layers.size() && !more; ++layer) {
      const auto& effects = layers[layer].effects;
      std::size_t next = choice[layer] + 1;
      while (next < effects.size() && !effects[next].applies) ++next;
      more = next < effects.size();
      choice[layer] = more ? next : 0;
    }
  }
  return ok_status();
}

}  // namespace mcompress
