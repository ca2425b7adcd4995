#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "calibration/observers.h"

namespace mcompress {
namespace {

ValueStats stats_of(std::span<const float> values) {
  Histogram histogram;
  histogram.add(values);
  return to_value_stats(histogram);
}

// Nearly all within +-1, one value far out.
ValueStats outlier() {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  std::vector<float> values(100'000);
  for (float& x : values) x = normal(random);
  values.push_back(40.0f);
  return stats_of(values);
}

constexpr RangeMethod kMethods[] = {RangeMethod::kMinMax, RangeMethod::kMovingAverage,
                                    RangeMethod::kPercentile, RangeMethod::kEntropy,
                                    RangeMethod::kMse};

TEST(ChooseRange, MinMaxIsExact) {
  const std::vector<float> values = {-0.3f, 0.7f, 5.1f};
  const ValueRange range = choose_range(stats_of(values), RangeMethod::kMinMax, 0, 256, false);
  EXPECT_EQ(range.minimum, static_cast<double>(-0.3f));
  EXPECT_EQ(range.maximum, static_cast<double>(5.1f));
  const ValueRange even = choose_range(stats_of(values), RangeMethod::kMinMax, 0, 256, true);
  EXPECT_EQ(even.minimum, static_cast<double>(-5.1f));
  EXPECT_EQ(even.maximum, static_cast<double>(5.1f));
}

TEST(ChooseRange, AlwaysIncludesZeroAndStaysInside) {
  for (const std::vector<float>& values :
       {std::vector<float>{3.0f, 4.0f}, std::vector<float>{-4.0f, -3.0f},
        std::vector<float>{0.0f, 0.0f}, std::vector<float>{1e-30f}}) {
    const ValueStats stats = stats_of(values);
    for (const RangeMethod method : kMethods) {
      for (const bool symmetric : {false, true}) {
        const ValueRange range = choose_range(stats, method, 99.9, 256, symmetric);
        EXPECT_LE(range.minimum, 0.0);
        EXPECT_GE(range.maximum, 0.0);
        const double largest = std::max(std::abs(stats.minimum), std::abs(stats.maximum));
        EXPECT_LE(std::max(-range.minimum, range.maximum), largest);
        if (symmetric) {
          EXPECT_EQ(range.minimum, -range.maximum);
        }
      }
    }
  }
}

TEST(ChooseRange, OutliersAreClippedByAllButMinMax) {
  const ValueStats stats = outlier();
  EXPECT_EQ(choose_range(stats, RangeMethod::kMinMax, 0, 256, false).maximum, 40.0);
  const double percentile = choose_range(stats, RangeMethod::kPercentile, 99.9, 256, false).maximum;
  EXPECT_GT(percentile, 0.8);
  EXPECT_LT(percentile, 2.0);
  EXPECT_LT(choose_range(stats, RangeMethod::kEntropy, 0, 256, false).maximum, 20.0);
  EXPECT_LT(choose_range(stats, RangeMethod::kMse, 0, 256, false).maximum, 39.0);
}

TEST(ChooseRange, MovingAverageIsTheMeanOverSamplesOfTheirExtremes) {
  // Two samples in a run of [2, 3], then one of [1, 3], then one that is not finite.
  const std::vector<float> pair = {-1.0f, 0.5f, 3.0f, -2.0f, 0.0f, 4.0f};
  const std::vector<float> single = {0.5f, 0.25f, 8.0f};
  const std::vector<float> broken = {NAN, INFINITY, NAN};
  ValueObserver observer({});
  const auto see = [&](std::int64_t run, const std::vector<float>& values, std::int64_t samples) {
    const std::vector<std::int64_t> dims = {samples, 3};
    EXPECT_TRUE(observer.see(
        run, {DataType::kFloat, dims, std::as_bytes(std::span<const float>(values))}, samples));
  };
  see(0, pair, 2);
  see(1, single, 1);
  see(2, broken, 1);
  const ValueStats stats = observer.stats();
  EXPECT_DOUBLE_EQ(stats.average_minimum, (-1.0 - 2.0 + 0.25) / 3);
  EXPECT_DOUBLE_EQ(stats.average_maximum, (3.0 + 4.0 + 8.0) / 3);
  const ValueRange range = choose_range(stats, RangeMethod::kMovingAverage, 0, 256, false);
  EXPECT_DOUBLE_EQ(range.minimum, -2.75 / 3);
  EXPECT_DOUBLE_EQ(range.maximum, 5.0);
  const ValueRange even = choose_range(stats, RangeMethod::kMovingAverage, 0, 256, true);
  EXPECT_DOUBLE_EQ(even.minimum, -5.0);
}

TEST(ChooseRange, ANarrowerPercentileGivesANarrowerRange) {
  const ValueStats stats = outlier();
  double last = 100.0;
  for (const double percentile : {100.0, 99.999, 99.9, 99.0, 90.0}) {
    const ValueRange range = choose_range(stats, RangeMethod::kPercentile, percentile, 256, false);
    EXPECT_LE(range.maximum, last) << percentile;
    last = range.maximum;
  }
}

TEST(ChooseRange, WithoutElementsTheRangeIsZero) {
  for (const RangeMethod method : kMethods) {
    const ValueRange range = choose_range(ValueStats{}, method, 99.9, 256, false);
    EXPECT_EQ(range.minimum, 0.0);
    EXPECT_EQ(range.maximum, 0.0);
  }
}

}  // namespace
}  // namespace mcompress
