#include "numeric/pareto.h"

#include <gtest/gtest.h>

#include <limits>

namespace mcompress {
namespace {

TEST(Pareto, KeepsWhatNothingBeats) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::vector<double>> points = {{3, 1}, {1, 3},   {2, 2},    {2, 3},
                                                   {2, 2}, {4, nan}, {0.5, nan}};
  EXPECT_EQ(pareto_front(points), (std::vector<std::size_t>{6, 1, 2, 0}));
  EXPECT_TRUE(pareto_front({}).empty());
}

TEST(Pareto, ThreeNumbers) {
  const std::vector<std::vector<double>> points = {{1, 1, 3}, {1, 2, 2}, {1, 2, 3}, {2, 1, 1}};
  EXPECT_EQ(pareto_front(points), (std::vector<std::size_t>{0, 1, 3}));
}

}  // namespace
}  // namespace mcompress
