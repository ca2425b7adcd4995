// Choices by what layers and forms count for, nothing built.
//
// A form may take bytes once, however many layers have it (a table to unpack codes, an operator
// set). Which forms to pay that for is looked for by adding and removing one form at a time.
#include <algorithm>
#include <cmath>
#include <limits>

#include "numeric/knapsack.h"
#include "search/ledger.h"

namespace mcompress {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// What these forms take once.
double bytes_once(const SearchSpace& space, const std::vector<bool>& forms) {
  double sum = 0;
  for (std::size_t form = 0; form < forms.size(); ++form) {
    if (forms[form]) sum += space.form_bytes()[form];
  }
  return sum;
}

// Adds or removes one form at a time, the best first, while what they come to falls by more than
// the share `least_gain` and is above `enough`. Returns what it is then.
template <class Cost>
double turn_forms(const std::vector<std::size_t>& forms, std::vector<bool>& allowed, Cost&& cost,
                  double least_gain, double enough) {
  double least = cost(allowed);
  for (bool more = true; more && least > enough;) {
    more = false;
    std::size_t turned = 0;
    for (const std::size_t form : forms) {
      allowed[form] = !allowed[form];
      const double found = cost(allowed);
      allowed[form] = !allowed[form];
      const double bound = std::isinf(least) ? least : least - least_gain * std::abs(least);
      if (found < bound) least = found, turned = form, more = true;
    }
    if (more) allowed[turned] = !allowed[turned];
  }
  return least;
}

// What applies, as items of a knapsack.
class Items {
 public:
  // A layer in integers alone pays for its borders, which are taken out of it where they are to be
  // counted by themselves.
  Items(const SearchSpace& space, const SearchLosses& losses, bool borders) : space_(space) {
    const std::size_t layers = space.layers().size();
    const std::size_t count = borders ? losses.borders.size() : 0;
    around_.assign(layers, 0);
    if (count > 0) problem_.borders.assign(layers - 1, 0);
    for (std::size_t i = 0; i < count; ++i) {
      const SearchBorder& border = space.borders()[i];
      around_[border.left] += losses.borders[i];
      around_[border.right] += losses.borders[i];
      if (border.right == border.left + 1) {
        problem_.borders[border.left] = losses.borders[i];
      } else {
        problem_.pairs.push_back({border.left, border.right, losses.borders[i]});
      }
    }
    if (borders && layers > 0) problem_.border_times.assign(layers - 1, 0);
    for (const SearchBorder& border : space.borders()) {
      if (borders && border.right == border.left + 1) {
        problem_.border_times[border.left] = border.microseconds;
      }
    }
    for (std::size_t layer = 0; layer < layers; ++layer) {
      auto& row = all_.emplace_back();
      const auto& effects = space.layers()[layer].effects;
      for (std::size_t form = 0; form < effects.size(); ++form) {
        const bool integers = space.options().forms[form].integers;
        const double loss = losses.layers[layer][form];
        row.push_back({static_cast<double>(effects[form].bytes),
                       integers ? std::max(0.0, loss - around_[layer]) : loss,
                       static_cast<std::uint8_t>(integers ? 1 : 0), effects[form].microseconds});
      }
    }
  }

  // Only the time counts from here on.
  void prefer_time() {
    problem_.borders = problem_.border_times;
    problem_.pairs.clear();
    for (auto& row : all_) {
      for (KnapsackChoice& choice : row) choice.loss = choice.time;
    }
  }
  // Only the bytes.
  void prefer_bytes() {
    problem_.borders.clear();
    problem_.pairs.clear();
    for (auto& row : all_) {
      for (KnapsackChoice& choice : row) choice.loss = choice.cost;
    }
  }

  KnapsackProblem of_all() { return of(std::vector<bool>(space_.form_bytes().size(), true)); }

  // The least loss with these forms only; empty: none fits.
  std::optional<std::vector<std::size_t>> solve(const std::vector<bool>& allowed, double bytes,
                                                double microseconds, bool roughly) {
    KnapsackProblem problem = of(allowed);
    problem.budget = bytes - bytes_once(space_, allowed);
    problem.time_budget = microseconds;
    constexpr std::size_t kRough = 256, kRoughLabels = 128;
    auto chosen = !roughly                   ? solve_knapsack(problem)
                  : std::isinf(microseconds) ? solve_knapsack(problem, kRough)
                                             : solve_knapsack_by_labels(problem, kRoughLabels);
    if (!chosen) return std::nullopt;
    loss_ = knapsack_loss(problem, *chosen);
    return choice_of(*chosen);
  }
  // Of what solve() found last.
  double loss() const { return loss_; }

  std::vector<std::size_t> choice_of(std::span<const std::size_t> chosen) const {
    std::vector<std::size_t> choice;
    for (std::size_t layer = 0; layer < chosen.size(); ++layer) {
      choice.push_back(forms_[layer][chosen[layer]]);
    }
    return choice;
  }

  // Solves with the forms that are worth what they take once.
  std::vector<std::size_t> best(double bytes, double microseconds) {
    const std::vector<double>& once = space_.form_bytes();
    std::vector<bool> allowed(once.size());
    std::vector<std::size_t> dear;
    for (std::size_t form = 0; form < once.size(); ++form) {
      allowed[form] = once[form] <= 0;
      if (!allowed[form]) dear.push_back(form);
    }
    if (!dear.empty()) {
      const auto loss = [&](const std::vector<bool>& forms) {
        return solve(forms, bytes, microseconds, true) ? loss_ : kInfinity;
      };
      const double least = turn_forms(dear, allowed, loss, 1e-9, -kInfinity);
      if (std::isinf(least)) take_cheapest(dear, allowed, bytes);
    }
    auto choice = solve(allowed, bytes, microseconds, false);
    return choice ? std::move(*choice) : std::vector<std::size_t>{};
  }

 private:
  KnapsackProblem of(const std::vector<bool>& allowed) {
    KnapsackProblem problem = problem_;
    forms_.clear();
    for (std::size_t layer = 0; layer < all_.size(); ++layer) {
      auto& row = problem.items.emplace_back();
      auto& names = forms_.emplace_back();
      const auto& effects = space_.layers()[layer].effects;
      for (std::size_t form = 0; form < effects.size(); ++form) {
        if (!effects[form].applies || !allowed[form]) continue;
        row.push_back(all_[layer][form]);
        names.push_back(form);
      }
    }
    return problem;
  }

  // No single form is enough: those that make the fewest bytes, whatever is lost.
  void take_cheapest(const std::vector<std::size_t>& dear, std::vector<bool>& allowed,
                     double bytes) {
    const auto total = [this](const std::vector<bool>& forms) {
      double sum = bytes_once(space_, forms);
      for (const auto& row : of(forms).items) {
        double least = kInfinity;
        for (const KnapsackChoice& choice : row) least = std::min(least, choice.cost);
        sum += least;
      }
      return sum;
    };
    turn_forms(dear, allowed, total, 0, bytes);
  }

  const SearchSpace& space_;
  KnapsackProblem problem_;  // without items
  std::vector<std::vector<KnapsackChoice>> all_;
  std::vector<double> around_;
  std::vector<std::vector<std::size_t>> forms_;  // of the items solved last
  double loss_ = 0;
};

}  // namespace

SearchLosses noise_losses(const SearchSpace& space) {
  SearchLosses losses;
  for (const SearchLayer& layer : space.layers()) {
    auto& row = losses.layers.emplace_back();
    for (const SearchEffect& effect : layer.effects) row.push_back(effect.noise);
  }
  for (const SearchBorder& border : space.borders()) losses.borders.push_back(border.noise);
  return losses;
}

std::vector<std::vector<std::size_t>> hull_choices(const SearchSpace& space,
                                                   const SearchLosses& losses) {
  Items items(space, losses, false);
  std::vector<std::vector<std::size_t>> choices;
  for (const KnapsackPoint& point : knapsack_hull(items.of_all())) {
    choices.push_back(items.choice_of(point.chosen));
  }
  return choices;
}

std::vector<std::size_t> counted_choice(const SearchSpace& space, const SearchLosses& losses,
                                        double bytes, double microseconds) {
  const double budget = bytes - static_cast<double>(space.base_bytes());
  Items items(space, losses, true);
  std::vector<std::size_t> choice = items.best(budget, microseconds);
  if (!choice.empty() || std::isinf(microseconds)) return choice;
  Items fastest(space, losses, true);
  fastest.prefer_time();
  return fastest.best(budget, kInfinity);
}

std::vector<std::size_t> smallest_choice(const SearchSpace& space) {
  Items items(space, noise_losses(space), false);
  items.prefer_bytes();
  // Less than there is to save: what is left of it is to be the least.
  std::vector<std::size_t> best = space.plain();
  double least = 0;
  std::vector<bool> allowed(space.form_bytes().size(), false);
  allowed[0] = true;
  for (bool more = true; more;) {
    more = false;
    std::size_t added = 0;
    for (std::size_t form = 1; form < allowed.size(); ++form) {
      if (allowed[form]) continue;
      allowed[form] = true;
      const double once = bytes_once(space, allowed);
      auto choice = items.solve(allowed, kInfinity, kInfinity, true);
      allowed[form] = false;
      if (!choice || items.loss() + once >= least) continue;
      least = items.loss() + once, best = std::move(*choice), added = form, more = true;
    }
    if (more) allowed[added] = true;
  }
  return best;
}

}  // namespace mcompress
