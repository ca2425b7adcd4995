#include "numeric/knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mcompress {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double border_of(const KnapsackProblem& problem, std::size_t left) {
  return left < problem.borders.size() ? problem.borders[left] : 0.0;
}

bool differ(const KnapsackProblem& problem, std::span<const std::size_t> chosen, std::size_t a,
            std::size_t b) {
  return problem.items[a][chosen[a]].colour != problem.items[b][chosen[b]].colour;
}

double cheapest(const std::vector<KnapsackChoice>& choices) {
  double least = kInfinity;
  for (const KnapsackChoice& choice : choices) least = std::min(least, choice.cost);
  return least;
}

// What the choice of one item takes part in: its loss, and its borders.
double loss_around(const KnapsackProblem& problem, std::span<const std::size_t> chosen,
                   std::size_t i) {
  double sum = problem.items[i][chosen[i]].loss;
  if (i > 0 && differ(problem, chosen, i - 1, i)) sum += border_of(problem, i - 1);
  if (i + 1 < chosen.size() && differ(problem, chosen, i, i + 1)) sum += border_of(problem, i);
  for (const KnapsackPair& pair : problem.pairs) {
    const bool touches = pair.left == i || pair.right == i;
    if (touches && differ(problem, chosen, pair.left, pair.right)) sum += pair.loss;
  }
  return sum;
}

// Spends what is left of the budget: the single change of a choice that lowers the loss most,
// again and again. Each change lowers the loss, so that it ends.
void spend_rest(const KnapsackProblem& problem, std::vector<std::size_t>& chosen) {
  double cost = knapsack_cost(problem, chosen);
  const bool timed = std::isfinite(problem.time_budget);
  for (;;) {
    double best_gain = 0;
    std::size_t best_item = problem.items.size(), best_choice = 0;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const std::size_t held = chosen[i];
      const double before = loss_around(problem, chosen, i);
      for (std::size_t c = 0; c < problem.items[i].size(); ++c) {
        const double changed = cost - problem.items[i][held].cost + problem.items[i][c].cost;
        if (c == held || changed > problem.budget) continue;
        chosen[i] = c;
        const double gain = before - loss_around(problem, chosen, i);
        if (gain <= best_gain || gain <= 1e-12 * std::abs(before)) continue;
        if (timed && knapsack_time(problem, chosen) > problem.time_budget) continue;
        best_gain = gain, best_item = i, best_choice = c;
      }
      chosen[i] = held;
    }
    if (best_item == problem.items.size()) return;
    chosen[best_item] = best_choice;
    cost = knapsack_cost(problem, chosen);
  }
}

}  // namespace

double knapsack_cost(const KnapsackProblem& problem, std::span<const std::size_t> chosen) {
  double sum = 0;
  for (std::size_t i = 0; i < chosen.size(); ++i) sum += problem.items[i][chosen[i]].cost;
  return sum;
}

double knapsack_loss(const KnapsackProblem& problem, std::span<const std::size_t> chosen) {
  double sum = 0;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    sum += problem.items[i][chosen[i]].loss;
    if (i > 0 && differ(problem, chosen, i - 1, i)) sum += border_of(problem, i - 1);
  }
  for (const KnapsackPair& pair : problem.pairs) {
    if (differ(problem, chosen, pair.left, pair.right)) sum += pair.loss;
  }
  return sum;
}

double knapsack_time(const KnapsackProblem& problem, std::span<const std::size_t> chosen) {
  double sum = 0;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    sum += problem.items[i][chosen[i]].time;
    if (i > 0 && i - 1 < problem.border_times.size() && differ(problem, chosen, i - 1, i)) {
      sum += problem.border_times[i - 1];
    }
  }
  return sum;
}

std::optional<std::vector<std::size_t>> solve_knapsack(const KnapsackProblem& problem,
                                                       std::size_t buckets) {
  if (std::isfinite(problem.time_budget)) {
    auto chosen = solve_knapsack_by_labels(problem);
    if (chosen) spend_rest(problem, *chosen);
    return chosen;
  }
  double least = 0, most = 0;
  for (const auto& choices : problem.items) {
    if (choices.empty()) return std::nullopt;
    least += cheapest(choices);
    double dearest = -kInfinity;
    for (const KnapsackChoice& choice : choices) dearest = std::max(dearest, choice.cost);
    most += dearest;
  }
  if (!(least <= problem.budget)) return std::nullopt;
  const std::size_t n = problem.items.size();
  if (n == 0) return std::vector<std::size_t>{};
  // What the cheapest choices leave, no more of it than all together could take.
  const double room = std::min(problem.budget, most) - least;
  const double step = room > 0 ? room / static_cast<double>(buckets) : 1;
  const std::size_t width = room > 0 ? buckets + 1 : 1;
  // best[colour][spent], and for each item which choice led there and from which colour.
  std::vector<double> best(2 * width, kInfinity), next(2 * width);
  std::vector<std::uint32_t> from(n * 2 * width, 0);
  for (std::size_t i = 0; i < n; ++i) {
    std::fill(next.begin(), next.end(), kInfinity);
    const double base = cheapest(problem.items[i]);
    for (std::size_t c = 0; c < problem.items[i].size(); ++c) {
      const KnapsackChoice& choice = problem.items[i][c];
      const double over = (choice.cost - base) / step;
      if (over > static_cast<double>(width)) continue;
      // A hair below a whole step is a whole step: no bucket for rounding.
      const auto steps = static_cast<std::size_t>(std::max(0.0, std::ceil(over - 1e-9)));
      const std::size_t mine = choice.colour != 0 ? width : 0;
      for (std::uint32_t old = 0; old < 2; ++old) {
        if (i == 0 && old != 0) break;
        const double border =
            i > 0 && (old != 0) != (choice.colour != 0) ? border_of(problem, i - 1) : 0;
        for (std::size_t spent = steps; spent < width; ++spent) {
          const double before = i == 0 ? 0 : best[old * width + spent - steps];
          const double loss = before + choice.loss + border;
          if (loss < next[mine + spent]) {
            next[mine + spent] = loss;
            from[i * 2 * width + mine + spent] = static_cast<std::uint32_t>(c * 2) + old;
          }
        }
      }
    }
    best.swap(next);
  }
  const auto end = std::min_element(best.begin(), best.end());
  if (!std::isfinite(*end)) return std::nullopt;
  auto place = static_cast<std::size_t>(end - best.begin());
  std::vector<std::size_t> chosen(n);
  for (std::size_t i = n; i-- > 0;) {
    const std::uint32_t step_back = from[i * 2 * width + place];
    chosen[i] = step_back / 2;
    const double over = (problem.items[i][chosen[i]].cost - cheapest(problem.items[i])) / step;
    const auto steps = static_cast<std::size_t>(std::max(0.0, std::ceil(over - 1e-9)));
    place = (step_back % 2) * width + place % width - steps;
  }
  spend_rest(problem, chosen);
  return chosen;
}

std::vector<KnapsackPoint> knapsack_hull(const KnapsackProblem& problem) {
  struct Step {
    double slope;  // loss saved per cost
    std::size_t item, choice;
  };
  std::vector<Step> steps;
  KnapsackPoint point;
  for (std::size_t i = 0; i < problem.items.size(); ++i) {
    const auto& choices = problem.items[i];
    if (choices.empty()) return {};
    std::vector<std::size_t> order(choices.size());
    for (std::size_t c = 0; c < order.size(); ++c) order[c] = c;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return choices[a].cost != choices[b].cost ? choices[a].cost < choices[b].cost
                                                : choices[a].loss < choices[b].loss;
    });
    std::vector<std::size_t> hull;
    for (const std::size_t c : order) {
      if (!hull.empty() && choices[c].loss >= choices[hull.back()].loss) continue;
      while (hull.size() > 1) {
        const KnapsackChoice &a = choices[hull[hull.size() - 2]], &b = choices[hull.back()];
        // b lies on or above the line from a to c
        if ((a.loss - b.loss) * (choices[c].cost - a.cost) >
            (a.loss - choices[c].loss) * (b.cost - a.cost)) {
          break;
        }
        hull.pop_back();
      }
      hull.push_back(c);
    }
    point.chosen.push_back(hull.front());
    for (std::size_t k = 1; k < hull.size(); ++k) {
      const KnapsackChoice &a = choices[hull[k - 1]], &b = choices[hull[k]];
      steps.push_back({(a.loss - b.loss) / (b.cost - a.cost), i, hull[k]});
    }
  }
  // Slopes of one item fall along its hull, so that its steps stay in their order.
  std::stable_sort(steps.begin(), steps.end(),
                   [](const Step& a, const Step& b) { return a.slope > b.slope; });
  KnapsackProblem plain;
  plain.items = problem.items;
  const auto measured = [&plain](KnapsackPoint at) {
    at.cost = knapsack_cost(plain, at.chosen);
    at.loss = knapsack_loss(plain, at.chosen);
    return at;
  };
  std::vector<KnapsackPoint> points = {measured(point)};
  for (const Step& step : steps) {
    point.chosen[step.item] = step.choice;
    points.push_back(measured(point));
  }
  return points;
}

}  // namespace mcompress
