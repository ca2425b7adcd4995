#include "numeric/knapsack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace mcompress {
namespace {

struct Exhaustive {
  double loss = std::numeric_limits<double>::infinity();
  std::size_t fitting = 0;
};

// Every combination.
Exhaustive exhaustive(const KnapsackProblem& problem) {
  Exhaustive best;
  std::vector<std::size_t> chosen(problem.items.size(), 0);
  for (;;) {
    double cost = 0, loss = 0, time = 0;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      cost += problem.items[i][chosen[i]].cost;
      loss += problem.items[i][chosen[i]].loss;
      time += problem.items[i][chosen[i]].time;
      if (i > 0 &&
          problem.items[i][chosen[i]].colour != problem.items[i - 1][chosen[i - 1]].colour) {
        if (!problem.borders.empty()) loss += problem.borders[i - 1];
        if (!problem.border_times.empty()) time += problem.border_times[i - 1];
      }
    }
    for (const KnapsackPair& pair : problem.pairs) {
      const KnapsackChoice& left = problem.items[pair.left][chosen[pair.left]];
      if (left.colour != problem.items[pair.right][chosen[pair.right]].colour) loss += pair.loss;
    }
    if (cost <= problem.budget && time <= problem.time_budget) {
      ++best.fitting;
      best.loss = std::min(best.loss, loss);
    }
    std::size_t i = 0;
    while (i < chosen.size() && ++chosen[i] == problem.items[i].size()) chosen[i++] = 0;
    if (i == chosen.size()) return best;
  }
}

KnapsackProblem random_problem(std::mt19937& random, bool borders) {
  std::uniform_int_distribution<int> cost(-40, 40), loss(0, 1000), colour(0, 1);
  KnapsackProblem problem;
  for (int i = 0; i < 6; ++i) {
    auto& row = problem.items.emplace_back();
    for (int c = 0; c < 4; ++c) {
      row.push_back({static_cast<double>(cost(random)), static_cast<double>(loss(random)),
                     static_cast<std::uint8_t>(borders ? colour(random) : 0)});
    }
    if (borders && i > 0) problem.borders.push_back(loss(random));
  }
  problem.budget = std::uniform_int_distribution<int>(-150, 100)(random);
  return problem;
}

// Times of choices and of borders, and a budget that some choices keep.
KnapsackProblem random_timed_problem(std::mt19937& random, std::size_t items) {
  std::uniform_int_distribution<int> cost(0, 60), loss(0, 1000), colour(0, 1);
  KnapsackProblem problem;
  for (std::size_t i = 0; i < items; ++i) {
    auto& row = problem.items.emplace_back();
    for (int c = 0; c < 4; ++c) {
      row.push_back({static_cast<double>(cost(random)), static_cast<double>(loss(random)),
                     static_cast<std::uint8_t>(colour(random)), static_cast<double>(cost(random))});
    }
    if (i == 0) continue;
    const auto border = loss(random) / 4, time = cost(random) / 4;
    problem.borders.push_back(border);
    problem.border_times.push_back(time);
  }
  const int most = static_cast<int>(items) * 35;
  problem.budget = std::uniform_int_distribution<int>(most / 4, most)(random);
  problem.time_budget = std::uniform_int_distribution<int>(most / 4, most)(random);
  return problem;
}

// Whole costs and as many buckets as there is room: no rounding, so that the answer is exact.
TEST(Knapsack, FindsWhatExhaustiveSearchFinds) {
  std::mt19937 random(7);
  std::size_t fitting = 0, none = 0;
  for (int round = 0; round < 300; ++round) {
    const KnapsackProblem problem = random_problem(random, round % 2 == 1);
    const Exhaustive best = exhaustive(problem);
    double least = 0;
    for (const auto& row : problem.items) {
      double cheapest = row[0].cost;
      for (const KnapsackChoice& choice : row) cheapest = std::min(cheapest, choice.cost);
      least += cheapest;
    }
    const auto room = static_cast<std::size_t>(std::max(1.0, problem.budget - least));
    const auto chosen = solve_knapsack(problem, room);
    ASSERT_EQ(chosen.has_value(), best.fitting > 0) << round;
    if (!chosen) {
      ++none;
      continue;
    }
    ++fitting;
    EXPECT_LE(knapsack_cost(problem, *chosen), problem.budget) << round;
    EXPECT_DOUBLE_EQ(knapsack_loss(problem, *chosen), best.loss) << round;
  }
  EXPECT_GT(fitting, 100U);
  EXPECT_GT(none, 5U);
}

TEST(Knapsack, NeverExceedsTheBudgetWithFewBuckets) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    const KnapsackProblem problem = random_problem(random, true);
    const auto chosen = solve_knapsack(problem, 5);
    const Exhaustive best = exhaustive(problem);
    if (!chosen) continue;
    EXPECT_LE(knapsack_cost(problem, *chosen), problem.budget);
    EXPECT_GE(knapsack_loss(problem, *chosen), best.loss - 1e-9);
  }
}

TEST(Knapsack, BordersKeepNeighboursTogether) {
  // Alone, the middle item would take colour 1 and save 1; two borders cost 2.
  KnapsackProblem problem;
  problem.items = {{{0, 0, 0}}, {{0, 1, 0}, {0, 0, 1}}, {{0, 0, 0}}};
  problem.budget = 0;
  EXPECT_EQ(solve_knapsack(problem)->at(1), 1U);
  problem.borders = {1, 1};
  EXPECT_EQ(solve_knapsack(problem)->at(1), 0U);
}

// 4^6 combinations fit among the labels that are kept: exact.
TEST(Knapsack, TwoBudgetsAndBordersAreExactOnSmallProblems) {
  std::mt19937 random(17);
  std::size_t fitting = 0, none = 0, bound = 0;
  for (int round = 0; round < 200; ++round) {
    KnapsackProblem problem = random_timed_problem(random, 6);
    const Exhaustive best = exhaustive(problem);
    const auto chosen = solve_knapsack(problem);
    ASSERT_EQ(chosen.has_value(), best.fitting > 0) << round;
    if (!chosen) {
      ++none;
      continue;
    }
    ++fitting;
    EXPECT_LE(knapsack_cost(problem, *chosen), problem.budget) << round;
    EXPECT_LE(knapsack_time(problem, *chosen), problem.time_budget) << round;
    EXPECT_DOUBLE_EQ(knapsack_loss(problem, *chosen), best.loss) << round;
    // The second budget matters: without it another choice would be better.
    problem.time_budget = std::numeric_limits<double>::infinity();
    if (exhaustive(problem).loss < best.loss) ++bound;
  }
  EXPECT_GT(fitting, 100U);
  EXPECT_GT(none, 5U);
  EXPECT_GT(bound, 50U);
}

// 65536 combinations, 200 labels: what comes out fits, and is near the best.
TEST(Knapsack, ThinnedLabelsStayNearTheOptimum) {
  std::mt19937 random(19);
  double lost = 0;
  std::size_t found = 0, missed = 0;
  for (int round = 0; round < 80; ++round) {
    const KnapsackProblem problem = random_timed_problem(random, 8);
    const Exhaustive best = exhaustive(problem);
    const auto chosen = solve_knapsack_by_labels(problem, 200);
    if (!chosen) {
      if (best.fitting > 0) ++missed;
      continue;
    }
    ++found;
    EXPECT_LE(knapsack_cost(problem, *chosen), problem.budget) << round;
    EXPECT_LE(knapsack_time(problem, *chosen), problem.time_budget) << round;
    EXPECT_GE(knapsack_loss(problem, *chosen), best.loss - 1e-9) << round;
    lost += knapsack_loss(problem, *chosen) / best.loss - 1;
  }
  EXPECT_GT(found, 20U);
  EXPECT_LE(missed, 1U);
  EXPECT_LT(lost / static_cast<double>(found), 0.05);
}

// Pairs that are no neighbours are repaired for, one change at a time: never worse than leaving
// them out of account, and mostly the best there is.
TEST(Knapsack, RepairsForPairsThatAreNoNeighbours) {
  std::mt19937 random(23);
  std::size_t fitting = 0, best_found = 0;
  for (int round = 0; round < 200; ++round) {
    KnapsackProblem problem = random_timed_problem(random, 6);
    if (round % 2 == 0) problem.time_budget = std::numeric_limits<double>::infinity();
    const auto blind = solve_knapsack(problem);
    problem.pairs = {{0, 2, 300}, {1, 4, 200}};
    const auto chosen = solve_knapsack(problem);
    ASSERT_EQ(chosen.has_value(), blind.has_value());
    if (!chosen) continue;
    ++fitting;
    const double best = exhaustive(problem).loss;
    EXPECT_LE(knapsack_cost(problem, *chosen), problem.budget);
    EXPECT_LE(knapsack_time(problem, *chosen), problem.time_budget);
    EXPECT_LE(knapsack_loss(problem, *chosen), knapsack_loss(problem, *blind) + 1e-9);
    EXPECT_GE(knapsack_loss(problem, *chosen), best - 1e-9);
    if (knapsack_loss(problem, *chosen) <= best + 1e-9) ++best_found;
  }
  EXPECT_GT(fitting, 100U);
  EXPECT_GT(best_found * 2, fitting);
}

TEST(Knapsack, EdgeCases) {
  KnapsackProblem problem;
  EXPECT_TRUE(solve_knapsack(problem)->empty());
  problem.items = {{}};
  EXPECT_FALSE(solve_knapsack(problem));
  EXPECT_TRUE(knapsack_hull(problem).empty());
  problem.items = {{{5, 1, 0}, {3, 2, 0}}};
  problem.budget = 2.9;
  EXPECT_FALSE(solve_knapsack(problem));
  problem.budget = 3;
  EXPECT_EQ(solve_knapsack(problem)->at(0), 1U);
  problem.budget = 1e18;
  EXPECT_EQ(solve_knapsack(problem)->at(0), 0U);
}

// A corner of the hull minimises cost * lambda + loss for some lambda: checked against every
// combination for slopes between neighbouring corners.
TEST(Knapsack, HullPointsAreLagrangianOptima) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    KnapsackProblem problem = random_problem(random, false);
    const auto points = knapsack_hull(problem);
    ASSERT_FALSE(points.empty());
    for (std::size_t k = 1; k < points.size(); ++k) {
      EXPECT_GT(points[k].cost, points[k - 1].cost);
      EXPECT_LT(points[k].loss, points[k - 1].loss);
      const double lambda =
          (points[k - 1].loss - points[k].loss) / (points[k].cost - points[k - 1].cost);
      KnapsackProblem weighed = problem;
      for (auto& row : weighed.items) {
        for (KnapsackChoice& choice : row) {
          choice.loss += lambda * choice.cost;
          choice.cost = 0;
        }
      }
      weighed.budget = 0;
      EXPECT_NEAR(exhaustive(weighed).loss, points[k].loss + lambda * points[k].cost, 1e-6);
    }
    // The ends: fewest bytes, least loss.
    problem.budget = points.front().cost;
    EXPECT_GT(exhaustive(problem).fitting, 0U);
    problem.budget = std::nextafter(points.front().cost, -1e9) - 0.5;
    EXPECT_EQ(exhaustive(problem).fitting, 0U);
    problem.budget = 1e9;
    EXPECT_DOUBLE_EQ(exhaustive(problem).loss, points.back().loss);
  }
}

}  // namespace
}  // namespace mcompress
