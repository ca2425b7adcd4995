#include "numeric/error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace mcompress {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

ErrorStats compare(const std::vector<float>& x, const std::vector<float>& y) {
  ErrorAccumulator accumulator;
  accumulator.add(x, y);
  return accumulator.stats();
}

bool same_bits(const ErrorStats& a, const ErrorStats& b) {
  return a.count == b.count && a.signal == b.signal && a.approx_energy == b.approx_energy &&
         a.product == b.product && a.noise == b.noise && a.error_sum == b.error_sum &&
         a.max_abs_error == b.max_abs_error && a.matching_non_finite == b.matching_non_finite &&
         a.differing_non_finite == b.differing_non_finite;
}

TEST(ErrorStats, HandComputed) {
  const ErrorStats e = compare({3, 4, 0}, {3, 3, 2});
  EXPECT_EQ(e.count, 3u);
  EXPECT_EQ(e.signal, 25.0);
  EXPECT_EQ(e.approx_energy, 22.0);
  EXPECT_EQ(e.product, 21.0);
  EXPECT_EQ(e.noise, 5.0);
  EXPECT_EQ(e.error_sum, 1.0);
  EXPECT_EQ(e.max_abs_error, 2.0);
  EXPECT_NEAR(e.sqnr_db(), 6.989700043360188, 1e-12);  // 10 log10 5
  EXPECT_NEAR(e.cosine(), 21.0 / (5.0 * std::sqrt(22.0)), 1e-15);
  EXPECT_EQ(e.mean_error(), 1.0 / 3.0);
  EXPECT_EQ(e.mean_squared_error(), 5.0 / 3.0);
}

TEST(ErrorStats, EdgeCases) {
  EXPECT_EQ(compare({}, {}).sqnr_db(), kInf);
  EXPECT_EQ(compare({}, {}).cosine(), 1.0);
  EXPECT_EQ(compare({}, {}).mean_error(), 0.0);
  EXPECT_EQ(compare({1, 2}, {1, 2}).sqnr_db(), kInf);
  EXPECT_EQ(compare({0, 0}, {0, 1}).sqnr_db(), -kInf);
  EXPECT_EQ(compare({0, 0}, {0, 1}).cosine(), 0.0);
  EXPECT_EQ(compare({1, 2}, {-1, -2}).cosine(), -1.0);
  // Squares beyond the range of float.
  EXPECT_NEAR(compare({3e38f}, {-3e38f}).sqnr_db(), 10 * std::log10(0.25), 1e-12);
  EXPECT_GT(compare({1e-44f}, {2e-44f}).noise, 0.0);
}

TEST(ErrorStats, CountsPairsThatAreNotFinite) {
  const ErrorStats e =
      compare({kNan, kInf, kInf, -kInf, 1, kNan, 2}, {kNan, kInf, -kInf, 0, kInf, 1, 3});
  EXPECT_EQ(e.count, 1u);
  EXPECT_EQ(e.matching_non_finite, 2u);
  EXPECT_EQ(e.differing_non_finite, 4u);
  EXPECT_EQ(e.signal, 4.0);
  EXPECT_EQ(e.noise, 1.0);
}

class ErrorAccumulatorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (int i = 0; i < 10007; ++i) {
      x_.push_back(normal(random));
      y_.push_back(x_.back() + 0.01f * normal(random));
    }
    x_[5000] = kNan;
    y_[7000] = kInf;
  }
  void TearDown() override { kernel::force_targets(0); }
  std::vector<float> x_, y_;
};

TEST_F(ErrorAccumulatorTest, AgreesWithLongDoubleSums) {
  const ErrorStats e = compare(x_, y_);
  long double noise = 0, signal = 0, product = 0;
  for (std::size_t i = 0; i < x_.size(); ++i) {
    if (!std::isfinite(x_[i]) || !std::isfinite(y_[i])) continue;
    const long double d = static_cast<long double>(y_[i]) - x_[i];
    noise += d * d;
    signal += static_cast<long double>(x_[i]) * x_[i];
    product += static_cast<long double>(x_[i]) * y_[i];
  }
  EXPECT_NEAR(e.noise, static_cast<double>(noise), 1e-13 * e.noise);
  EXPECT_NEAR(e.signal, static_cast<double>(signal), 1e-13 * e.signal);
  EXPECT_NEAR(e.product, static_cast<double>(product), 1e-13 * e.product);
  EXPECT_NEAR(e.sqnr_db(), 40.0, 0.3);
}

TEST_F(ErrorAccumulatorTest, ChunksDoNotMatter) {
  const ErrorStats whole = compare(x_, y_);
  std::mt19937 random(5);
  for (const std::size_t largest :
       {std::size_t{1}, std::size_t{7}, std::size_t{40}, std::size_t{5000}}) {
    ErrorAccumulator accumulator;
    for (std::size_t at = 0; at < x_.size();) {
      const std::size_t n = std::min(x_.size() - at, 1 + random() % largest);
      accumulator.add(std::span(x_).subspan(at, n), std::span(y_).subspan(at, n));
      at += n;
    }
    EXPECT_TRUE(same_bits(accumulator.stats(), whole)) << largest;
  }
}

TEST_F(ErrorAccumulatorTest, InstructionSetsDoNotMatter) {
  const ErrorStats best = compare(x_, y_);
  // The order of lanes written out.
  double lanes[16] = {};
  for (std::size_t i = 0; i < x_.size(); ++i) {
    if (!std::isfinite(x_[i]) || !std::isfinite(y_[i])) continue;
    const double d = static_cast<double>(y_[i]) - static_cast<double>(x_[i]);
    lanes[i % 16] += d * d;
  }
  double noise = 0;
  for (const double lane : lanes) noise += lane;
  EXPECT_EQ(best.noise, noise);
  for (const std::int64_t target : kernel::available_targets()) {
    kernel::force_targets(target);
    EXPECT_TRUE(same_bits(compare(x_, y_), best)) << kernel::target_name(target);
  }
}

TEST_F(ErrorAccumulatorTest, MergeAddsUp) {
  ErrorAccumulator a, b;
  a.add(std::span(x_).first(4001), std::span(y_).first(4001));
  b.add(std::span(x_).subspan(4001), std::span(y_).subspan(4001));
  a.merge(b);
  const ErrorStats whole = compare(x_, y_), merged = a.stats();
  EXPECT_EQ(merged.count, whole.count);
  EXPECT_EQ(merged.max_abs_error, whole.max_abs_error);
  EXPECT_EQ(merged.differing_non_finite, 2u);
  EXPECT_NEAR(merged.noise, whole.noise, 1e-13 * whole.noise);
  a.add({}, {});
  EXPECT_TRUE(same_bits(a.stats(), merged));
}

}  // namespace
}  // namespace mcompress
