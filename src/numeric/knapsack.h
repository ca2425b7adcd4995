// Multiple-choice knapsack: one choice per item, least loss within a budget of costs, and one of
// time beside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace mcompress {

struct KnapsackChoice {
  double cost = 0;          // finite; bytes
  double loss = 0;          // finite, any sign
  std::uint8_t colour = 0;  // 0 or 1: neighbours of different colour pay for the border
  double time = 0;          // finite; only counted where the problem has a budget of time
};

// A border between items that do not stand side by side.
struct KnapsackPair {
  std::size_t left = 0, right = 0;
  double loss = 0;
};

struct KnapsackProblem {
  std::vector<std::vector<KnapsackChoice>> items;  // at least one choice each
  // Loss of the border between items i and i + 1 when their choices differ in colour; empty: none.
  std::vector<double> borders = {};
  double budget = 0;
  // The same for time, at least 0 each.
  std::vector<double> border_times = {};
  double time_budget = std::numeric_limits<double>::infinity();
  std::vector<KnapsackPair> pairs = {};
};

// The choice of each item with the least sum of losses and borders whose costs stay within the
// budget, and whose times within theirs; of equal ones the first by place. Empty: not even the
// cheapest or fastest choices fit, or an item has none.
//
// One budget: dynamic programming over `buckets` steps of the budget above the cheapest choices
// (Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004, ch. 11), costs rounded up: what comes out
// always fits, and is the optimum for the rounded costs. O(items * choices * buckets) steps.
// Two: solve_knapsack_by_labels. What rounding left over is then spent on the swaps of single
// choices that gain most, which are also all that `pairs` can cause.
std::optional<std::vector<std::size_t>> solve_knapsack(const KnapsackProblem& problem,
                                                       std::size_t buckets = 4096);

// With a budget of time: dynamic programming over partial choices (labels) with their true costs
// and times. Up to `most_labels` per colour all are kept, and the answer is exact; beyond it those
// of the least loss and of the least use of the budgets in each cell of a square grid over what the
// two budgets have left. What comes out always fits; where much is thinned and little room, it may
// be missed that anything does. `pairs` are left out.
// O(items * choices * most_labels) steps.
std::optional<std::vector<std::size_t>> solve_knapsack_by_labels(const KnapsackProblem& problem,
                                                                 std::size_t most_labels = 4096);

// Sum of the chosen costs.
double knapsack_cost(const KnapsackProblem& problem, std::span<const std::size_t> chosen);
// Sum of the chosen losses, of the borders and of the pairs.
double knapsack_loss(const KnapsackProblem& problem, std::span<const std::size_t> chosen);
// Sum of the chosen times and of the borders' times.
double knapsack_time(const KnapsackProblem& problem, std::span<const std::size_t> chosen);

struct KnapsackPoint {
  std::vector<std::size_t> chosen;
  double cost = 0, loss = 0;
};
// The corners of the lower convex hull of (cost, loss) over all choices, from the cheapest to the
// one of least loss: the answers of a sweep over Lagrange multipliers, found by sorting the steps
// of the items' own hulls. Borders, pairs and times are left out. Empty when an item has no choice.
std::vector<KnapsackPoint> knapsack_hull(const KnapsackProblem& problem);

}  // namespace mcompress
