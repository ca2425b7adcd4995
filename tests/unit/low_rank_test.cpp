// Low-rank products: against singular values known by construction, against the optimum of
// independent formulas, and under inputs that are not alike.
#include "numeric/low_rank.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace mcompress {
namespace {

std::vector<float> random_matrix(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(engine);
  return values;
}

std::vector<double> product(const std::vector<float>& a, const std::vector<float>& b,
                            std::size_t rows, std::size_t inner, std::size_t columns) {
  std::vector<double> out(rows * columns);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t k = 0; k < inner; ++k) {
      for (std::size_t j = 0; j < columns; ++j) {
        out[i * columns + j] += double{a[i * inner + k]} * double{b[k * columns + j]};
      }
    }
  }
  return out;
}

// mean over rows x of |x A|^2
double energy(const std::vector<float>& rows, const std::vector<double>& a, std::size_t inputs,
              std::size_t outputs) {
  double sum = 0;
  const std::size_t count = rows.size() / inputs;
  for (std::size_t n = 0; n < count; ++n) {
    for (std::size_t j = 0; j < outputs; ++j) {
      double y = 0;
      for (std::size_t i = 0; i < inputs; ++i)
        y += double{rows[n * inputs + i]} * a[i * outputs + j];
      sum += y * y;
    }
  }
  return sum / static_cast<double>(count);
}

std::vector<double> moments(const std::vector<float>& rows, std::size_t inputs) {
  std::vector<double> h(inputs * inputs);
  const std::size_t count = rows.size() / inputs;
  for (std::size_t n = 0; n < count; ++n) {
    for (std::size_t i = 0; i < inputs; ++i) {
      for (std::size_t j = 0; j < inputs; ++j) {
        h[i * inputs + j] += double{rows[n * inputs + i]} * double{rows[n * inputs + j]} /
                             static_cast<double>(count);
      }
    }
  }
  return h;
}

// diag(4, 3, 2, 1) turned by nothing: what is lost is known.
TEST(LowRank, LosesTheSmallSingularValues) {
  std::vector<float> weight(4 * 6);
  for (std::size_t i = 0; i < 4; ++i) weight[i * 6 + i] = static_cast<float>(4 - i);
  const auto found = LowRank::of(weight, 4, 6, {}, 0);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->most(), 4U);
  const std::vector<double> expected = {30.0 / 30, 14.0 / 30, 5.0 / 30, 1.0 / 30, 0};
  for (std::size_t r = 0; r <= 4; ++r) EXPECT_NEAR(found->losses()[r], expected[r], 1e-12) << r;
  const auto factors = found->factors(2);
  const auto restored = product(factors.left, factors.right, 4, 2, 6);
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 6; ++j) {
      EXPECT_NEAR(restored[i * 6 + j], i == j && i < 2 ? 4.0 - static_cast<double>(i) : 0, 1e-6);
    }
  }
}

TEST(LowRank, OfFullRankRestoresTheWeight) {
  for (const auto& [inputs, outputs] : {std::pair<std::size_t, std::size_t>{5, 9}, {9, 5}}) {
    const auto weight = random_matrix(inputs * outputs, 3);
    const auto rows = random_matrix(200 * inputs, 4);
    const auto found = LowRank::of(weight, inputs, outputs, moments(rows, inputs), 0.01);
    ASSERT_TRUE(found);
    const auto factors = found->factors(found->most());
    const auto restored = product(factors.left, factors.right, inputs, found->most(), outputs);
    for (std::size_t i = 0; i < weight.size(); ++i) EXPECT_NEAR(restored[i], weight[i], 1e-5);
    EXPECT_NEAR(found->losses().back(), 0, 1e-12);
  }
}

// The loss that is announced is the one that the rows measure, and no other factors of that rank
// that are tried do better.
TEST(LowRank, IsTheBestOnTheRowsThatWereSeen) {
  constexpr std::size_t kRank = 3;
  for (const auto& sides : {std::pair<std::size_t, std::size_t>{8, 12}, {12, 8}}) {
    const std::size_t inputs = sides.first, outputs = sides.second;
    const auto weight = random_matrix(inputs * outputs, 7);
    auto rows = random_matrix(400 * inputs, 8);
    for (std::size_t n = 0; n < 400; ++n) {
      for (std::size_t i = 0; i < inputs; ++i) {
        rows[n * inputs + i] *= i < 3 ? 4.0F : 0.3F;  // some inputs are loud
        if (i == 4) rows[n * inputs + i] = rows[n * inputs];
      }
    }
    const auto h = moments(rows, inputs);
    const auto found = LowRank::of(weight, inputs, outputs, h, 1e-9);
    const auto blind = LowRank::of(weight, inputs, outputs, {}, 0);
    ASSERT_TRUE(found && blind);
    const std::vector<double> whole(weight.begin(), weight.end());
    const auto loss_of = [&](const LowRank::Factors& factors) {
      auto restored = product(factors.left, factors.right, inputs, kRank, outputs);
      for (std::size_t i = 0; i < whole.size(); ++i) restored[i] -= whole[i];
      return energy(rows, restored, inputs, outputs) / energy(rows, whole, inputs, outputs);
    };
    const auto best = found->factors(kRank);
    EXPECT_NEAR(loss_of(best), found->losses()[kRank], 1e-5);
    EXPECT_LT(loss_of(best), 0.9 * loss_of(blind->factors(kRank)));
    std::mt19937 engine(5);
    std::normal_distribution<float> step(0, 0.02F);
    for (int trial = 0; trial < 50; ++trial) {
      auto other = best;
      for (float& value : other.left) value += step(engine);
      for (float& value : other.right) value += step(engine);
      EXPECT_GT(loss_of(other), loss_of(best));
    }
  }
}

TEST(LowRank, RefusesWhatTellsNothing) {
  const auto weight = random_matrix(12, 1);
  const std::vector<double> zero(9), nan(9, std::numeric_limits<double>::quiet_NaN());
  EXPECT_FALSE(LowRank::of(weight, 3, 4, zero, 0.01));
  EXPECT_FALSE(LowRank::of(weight, 3, 4, nan, 0.01));
  EXPECT_FALSE(LowRank::of(std::vector<float>(12), 3, 4, {}, 0.01));
}

}  // namespace
}  // namespace mcompress
