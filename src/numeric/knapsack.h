// Multiple-choice knapsack: one choice per item, least loss within a budget of costs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace mcompress {

struct KnapsackChoice {
  double cost = 0;          // finite; bytes
  double loss = 0;          // finite, any sign
  std::uint8_t colour = 0;  // 0 or 1: neighbours of different colour pay for the border
};

struct KnapsackProblem {
  std::vector<std::vector<KnapsackChoice>> items;  // at least one choice each
  // Loss of the border between items i and i + 1 when their choices differ in colour; empty: none.
  std::vector<double> borders;
  double budget = 0;
};

// The choice of each item with the least sum of losses and borders whose costs stay within the
// budget; of equal ones the first by place. Empty: not even the cheapest choices fit, or an item
// has none.
//
// Dynamic programming over `buckets` steps of the budget above the cheapest choices (Kellerer,
// Pferschy, Pisinger, Knapsack Problems, 2004, ch. 11), costs rounded up: what comes out always
// fits, and is the optimum for the rounded costs; what rounding left over is then spent on the
// swaps of single choices that gain most. O(items * choices * buckets) steps.
std::optional<std::vector<std::size_t>> solve_knapsack(const KnapsackProblem& problem,
                                                       std::size_t buckets = 4096);

// Sum of the chosen costs.
double knapsack_cost(const KnapsackProblem& problem, std::span<const std::size_t> chosen);
// Sum of the chosen losses and of the borders.
double knapsack_loss(const KnapsackProblem& problem, std::span<const std::size_t> chosen);

struct KnapsackPoint {
  std::vector<std::size_t> chosen;
  double cost = 0, loss = 0;
};
// The corners of the lower convex hull of (cost, loss) over all choices, from the cheapest to the
// one of least loss: the answers of a sweep over Lagrange multipliers, found by sorting the steps
// of the items' own hulls. Borders are left out. Empty when an item has no choice.
std::vector<KnapsackPoint> knapsack_hull(const KnapsackProblem& problem);

}  // namespace mcompress
