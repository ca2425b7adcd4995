#include "numeric/surrogate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace mcompress {
namespace {

// One weight: the posterior of a Gaussian mean in closed form.
TEST(Surrogate, OneWeightIsTheGaussianPosterior) {
  LinearSurrogate surrogate({1.0}, {4.0}, 0.5);
  const std::vector<double> x = {1};
  const std::vector<double> seen = {2.0, 3.0, 2.5};
  for (const double y : seen) surrogate.observe(x, y);
  const double precision = 1 / 4.0 + 3 / 0.5;
  const double mean = (1.0 / 4.0 + (2.0 + 3.0 + 2.5) / 0.5) / precision;
  EXPECT_NEAR(surrogate.predict(x).mean, mean, 1e-12);
  EXPECT_NEAR(surrogate.predict(x).deviation, std::sqrt(1 / precision), 1e-12);
  const std::vector<double> twice = {2};
  EXPECT_NEAR(surrogate.predict(twice).mean, 2 * mean, 1e-12);
}

// Two weights: the normal equations (X'X / noise + P) w = X'y / noise + P m, solved by hand.
TEST(Surrogate, TwoWeightsSolveTheNormalEquations) {
  const std::vector<double> prior = {0.5, -1}, variance = {2, 0.25};
  const double noise = 0.1;
  LinearSurrogate surrogate(prior, variance, noise);
  const std::vector<std::vector<double>> rows = {{1, 0}, {1, 1}, {0, 1}, {1, 1}};
  const std::vector<double> y = {1, 3, 1.5, 2.5};
  double a = 1 / variance[0], b = 0, d = 1 / variance[1];
  double u = prior[0] / variance[0], v = prior[1] / variance[1];
  for (std::size_t i = 0; i < rows.size(); ++i) {
    surrogate.observe(rows[i], y[i]);
    a += rows[i][0] * rows[i][0] / noise;
    b += rows[i][0] * rows[i][1] / noise;
    d += rows[i][1] * rows[i][1] / noise;
    u += rows[i][0] * y[i] / noise;
    v += rows[i][1] * y[i] / noise;
  }
  const double determinant = a * d - b * b;
  const std::vector<double> weights = surrogate.weights();
  EXPECT_NEAR(weights[0], (d * u - b * v) / determinant, 1e-10);
  EXPECT_NEAR(weights[1], (a * v - b * u) / determinant, 1e-10);
  // The variance of w0 + w1 is the sum of the inverse's numbers.
  const std::vector<double> both = {1, 1};
  EXPECT_NEAR(surrogate.predict(both).deviation, std::sqrt((a + d - 2 * b) / determinant), 1e-10);
}

// E[max(best - y, 0)] by summing over a fine grid.
TEST(Surrogate, ExpectedImprovementIsTheIntegral) {
  for (const double mean : {-1.0, 0.3, 2.0}) {
    for (const double deviation : {0.2, 1.0}) {
      const double best = 0.5, step = 1e-4;
      double sum = 0;
      for (double z = -8; z < 8; z += step) {
        const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * 3.14159265358979);
        sum += std::max(best - (mean + deviation * z), 0.0) * density * step;
      }
      EXPECT_NEAR(expected_improvement(mean, deviation, best), sum, 1e-5);
    }
  }
  EXPECT_EQ(expected_improvement(1, 0, 3), 2);
  EXPECT_EQ(expected_improvement(3, 0, 1), 0);
}

}  // namespace
}  // namespace mcompress
