// PSI, KS and shares outside against numbers worked out by hand.
#include "mcompress/drift.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "calibration/observers.h"

namespace mcompress {
namespace {

ValueStats stats_of(const std::vector<float>& values) {
  Histogram histogram;
  histogram.add(values);
  return to_value_stats(histogram);
}

// `count` values each of 1, 2, ... 10.
std::vector<float> staircase(const std::vector<int>& counts) {
  std::vector<float> values;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    values.insert(values.end(), static_cast<std::size_t>(counts[i]), static_cast<float>(i + 1));
  }
  return values;
}

TEST(Drift, EqualDataDoNotDrift) {
  const ValueStats stats = stats_of(staircase({10, 10, 10, 10, 10, 10, 10, 10, 10, 10}));
  const ValueDrift drift = compare_stats("x", stats, stats, 0);
  EXPECT_EQ(drift.psi, 0);
  EXPECT_EQ(drift.ks, 0);
  EXPECT_EQ(drift.outside, 0);
  EXPECT_EQ(drift.verdict, DriftVerdict::kStable);
}

TEST(Drift, PsiAndKsFollowTheirFormulas) {
  // Every step is a tenth of what was calibrated.
  const ValueStats before = stats_of(staircase({10, 10, 10, 10, 10, 10, 10, 10, 10, 10}));
  const ValueStats after = stats_of(staircase({20, 0, 10, 10, 10, 10, 10, 10, 15, 5}));
  const ValueDrift drift = compare_stats("x", before, after, 0);
  const double psi = 0.1 * std::log(2.0) + (0.0001 - 0.1) * std::log(0.0001 / 0.1) +
                     0.05 * std::log(1.5) + (0.05 - 0.1) * std::log(0.5);
  EXPECT_NEAR(drift.psi, psi, 1e-9);
  EXPECT_NEAR(drift.ks, 0.1, 1e-12);
  EXPECT_EQ(drift.verdict, DriftVerdict::kRecalibrate);
  // Sampling noise is allowed for.
  EXPECT_EQ(compare_stats("x", before, after, 0.6).verdict, DriftVerdict::kWatch);
  EXPECT_EQ(compare_stats("x", before, after, 0.8).verdict, DriftVerdict::kStable);
  // Another number of elements changes no shape.
  const ValueStats twice = stats_of(staircase({40, 0, 20, 20, 20, 20, 20, 20, 30, 10}));
  EXPECT_NEAR(compare_stats("x", before, twice, 0).psi, psi, 1e-9);
}

TEST(Drift, ZerosAreAGroupOfTheirOwn) {
  std::vector<float> before = staircase({10, 10, 10, 10, 10, 10, 10, 10, 10, 10});
  std::vector<float> after = before;
  before.insert(before.end(), 100, 0.0F);  // half of all
  after.insert(after.end(), 300, 0.0F);    // three quarters
  const ValueDrift drift = compare_stats("x", stats_of(before), stats_of(after), 0);
  EXPECT_NEAR(drift.psi, 0.25 * std::log(1.5) + 10 * (0.025 - 0.05) * std::log(0.5), 1e-9);
  EXPECT_NEAR(drift.ks, 0.25, 1e-12);
}

TEST(Drift, ElementsOutsideAreCounted) {
  const ValueStats before = stats_of({-1, -0.5, 0.5, 1});
  const ValueStats after = stats_of({-4, -1, 0.5, 1, 1, 1, 1, 8});
  const ValueDrift drift = compare_stats("x", before, after, 0);
  EXPECT_NEAR(drift.outside, 0.25, 1e-12);
  EXPECT_EQ(drift.calibrated.minimum, -1);
  EXPECT_EQ(drift.seen.maximum, 8);
  EXPECT_EQ(drift.verdict, DriftVerdict::kRecalibrate);
}

TEST(Drift, BinsOfDifferentWidthsAreMadeEqual) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> small(20000), large(20000);
  for (float& value : small) value = normal(random);
  for (float& value : large) value = normal(random);
  large[0] = 1000;  // makes bins many times as wide
  const ValueStats before = stats_of(small), after = stats_of(large);
  ASSERT_GT(after.exponent, before.exponent + 5);
  const ValueDrift drift = compare_stats("x", before, after, 0);
  EXPECT_LT(drift.psi, 0.01);
  EXPECT_LT(drift.ks, 0.02);
  EXPECT_NEAR(drift.outside, 1.0 / 20000, 1e-9);
  // Shifted by one deviation: the PSI of two normal distributions is the symmetric Kullback-Leibler
  // divergence, 1, less what ten groups lose of it; KS is 2 Phi(1/2) - 1 = 0.383.
  for (float& value : small) value += 1;
  const ValueDrift shifted = compare_stats("x", before, stats_of(small), 0);
  EXPECT_GT(shifted.psi, 0.85);
  EXPECT_LT(shifted.psi, 1.0);
  EXPECT_NEAR(shifted.ks, 0.383, 0.01);
}

TEST(Drift, TablesAreRankedAndCompared) {
  CalibrationTable before, after;
  before.samples = 100;
  after.samples = 50;
  before.set("a", stats_of(staircase({10, 10})));
  after.set("a", stats_of(staircase({10, 10})));
  before.set("b", stats_of(staircase({10, 10})));
  after.set("b", stats_of(staircase({1, 19})));
  auto drift = find_drift(before, after);
  ASSERT_TRUE(drift.ok());
  ASSERT_EQ(drift->values.size(), 2U);
  EXPECT_EQ(drift->values[0].value, "b");
  EXPECT_NEAR(drift->noise, 0.3, 1e-12);
  EXPECT_EQ(drift->verdict, DriftVerdict::kRecalibrate);
  before.set("c", stats_of({1}));
  drift = find_drift(before, after);
  ASSERT_FALSE(drift.ok());
  EXPECT_EQ(drift.error().diagnostic.where.subject, "c");
  after.model_digest = 1;
  EXPECT_FALSE(find_drift(before, after).ok());
}

}  // namespace
}  // namespace mcompress
