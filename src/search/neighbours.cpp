// Choices beside the best one, for what is left of the evaluations once other weights of the
// layers lead to nothing new: few layers have few choices that are the best by some weights, and
// the sum of noises is no more exact than what lies between these and the next.
#include <algorithm>
#include <set>

#include "search/ledger.h"
#include "support/try.h"

namespace mcompress {

std::vector<std::vector<std::size_t>> neighbours_of(std::span<const SearchLayer> layers,
                                                    std::span<const std::size_t> centre,
                                                    std::size_t most) {
  struct Change {
    std::size_t layer, form;
  };
  std::vector<Change> changes;
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    for (std::size_t form = 0; form < layers[layer].effects.size(); ++form) {
      if (form != centre[layer] && layers[layer].effects[form].applies) {
        changes.push_back({layer, form});
      }
    }
  }
  std::vector<std::vector<std::size_t>> choices;
  const auto add = [&](std::initializer_list<Change> made) {
    auto& choice = choices.emplace_back(centre.begin(), centre.end());
    for (const Change& change : made) choice[change.layer] = change.form;
  };
  for (const Change& change : changes) add({change});
  if (changes.size() * (changes.size() - 1) / 2 > most) return choices;
  for (std::size_t i = 0; i < changes.size(); ++i) {
    for (std::size_t j = i + 1; j < changes.size(); ++j) {
      if (changes[i].layer != changes[j].layer) add({changes[i], changes[j]});
    }
  }
  return choices;
}

namespace {

class Neighbourhood {
 public:
  Neighbourhood(SearchSpace& space, SearchLedger& ledger) : space_(space), ledger_(ledger) {}

  // Those of the best point that may hold, the least noise first.
  std::vector<std::vector<std::size_t>> candidates() const {
    constexpr std::size_t kMostPairs = 20000;
    const SearchPoint& best = *ledger_.best();
    // Layers have shapes in common: the sum is off by much the same for choices side by side.
    const double off = static_cast<double>(best.bytes) - ledger_.predicted_bytes(best.choice);
    const double slowest = space_.options().limits.max_latency;
    std::vector<std::pair<double, std::vector<std::size_t>>> found;
    for (auto& choice : neighbours_of(space_.layers(), best.choice, kMostPairs)) {
      if (ledger_.knows(choice) || refused_.contains(choice)) continue;
      if (!may_have(ledger_.predicted_bytes(choice) + off)) continue;
      if (slowest > 0 && ledger_.predicted_latency(choice).value_or(0) > slowest) continue;
      const double noise = ledger_.predicted_noise(choice);
      found.emplace_back(noise, std::move(choice));
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<std::vector<std::size_t>> choices;
    choices.reserve(found.size());
    for (auto& [noise, choice] : found) choices.push_back(std::move(choice));
    return choices;
  }

  // Whether a result of so many bytes can be better than the best.
  bool may_have(double bytes) const {
    const SearchPoint& best = *ledger_.best();
    if (ledger_.minimises_bytes()) return !best.holds || bytes < static_cast<double>(best.bytes);
    const std::uint64_t limit = space_.options().limits.max_bytes;
    return limit == 0 || bytes <= static_cast<double>(limit);
  }

  void refuse(std::vector<std::size_t> choice) { refused_.insert(std::move(choice)); }

 private:
  SearchSpace& space_;
  SearchLedger& ledger_;
  std::set<std::vector<std::size_t>> refused_;  // built, and too large
};

}  // namespace

Status try_neighbours(SearchSpace& space, SearchLedger& ledger, double reserved) {
  constexpr int kMostInVain = 24;
  Neighbourhood around(space, ledger);
  int in_vain = 0;
  for (bool more = true; more && ledger.best() != nullptr;) {
    more = false;
    const std::size_t before = ledger.best_place();
    for (std::vector<std::size_t>& choice : around.candidates()) {
      if (in_vain == kMostInVain || !ledger.can_afford(reserved)) return ok_status();
      MCOMPRESS_ASSIGN(SearchSpace::Built built, space.build(choice));
      if (!around.may_have(static_cast<double>(built.bytes))) {
        around.refuse(std::move(choice));
        ++in_vain;
        continue;
      }
      MCOMPRESS_TRY(ledger.evaluate(choice, "neighbour", std::move(built)));
      more = ledger.best_place() != before;  // which has other neighbours
      in_vain = more ? 0 : in_vain + 1;
      if (more) break;
    }
  }
  return ok_status();
}

}  // namespace mcompress
