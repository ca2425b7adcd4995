#include "numeric/histogram.h"

#include <gtest/gtest.h>

#include <bit>
#include <cfloat>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "numeric/fixed_math.h"
#include "numeric/kernels.h"
#include "numeric/thresholds.h"

namespace mcompress {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kTiny = 1.4e-45f;  // smallest denormal

StatsAccumulator accumulate(std::span<const float> values) {
  StatsAccumulator result;
  result.add(values);
  return result;
}

Histogram histogram_of(std::span<const float> values) {
  Histogram result;
  result.add(values);
  return result;
}

// Data whose magnitude differs by many orders from chunk to chunk, with all special values.
std::vector<float> wild_data(std::uint32_t seed, std::size_t n) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  float scale = 1e-30f;
  for (std::size_t i = 0; i < n; ++i) {
    if (i % 1000 == 0) scale = std::ldexp(1.0f, static_cast<int>(random() % 60) - 40);
    values[i] = scale * normal(random);
    const std::uint32_t dice = static_cast<std::uint32_t>(random() % 5000);
    if (dice < 20) values[i] = dice % 2 == 0 ? 0.0f : -0.0f;
    if (dice == 20) values[i] = kNan;
    if (dice == 21) values[i] = kInf;
    if (dice == 22) values[i] = -kInf;
    if (dice == 23) values[i] = kTiny;
    if (dice == 24) values[i] = -3 * kTiny;
    // Halves of units of the digits of exact sums: ties.
    if (dice >= 100 && dice < 300) {
      values[i] =
          std::ldexp(static_cast<float>(random() % 64) - 31.5f,
                     26 * (static_cast<int>(random() % 3) - 1) + static_cast<int>(dice % 2));
    }
  }
  return values;
}

// ---- RangeStats

TEST(RangeStats, HandComputed) {
  const std::vector<float> v = {1, -2, 0, -0.0f, kNan, 4, kInf, -kInf, -kNan};
  const RangeStats s = accumulate(v).stats();
  EXPECT_EQ(s.min, -2);
  EXPECT_EQ(s.max, 4);
  EXPECT_EQ(s.sum, 3);
  EXPECT_EQ(s.sum_sq, 21);
  EXPECT_EQ(s.count, 5u);
  EXPECT_EQ(s.zero_count, 2u);
  EXPECT_EQ(s.nan_count, 2u);
  EXPECT_EQ(s.inf_count, 2u);
  EXPECT_EQ(s.mean(), 0.6);
  EXPECT_NEAR(s.variance(), 4.2 - 0.36, 1e-15);
}

TEST(RangeStats, Edges) {
  EXPECT_EQ(accumulate({}).stats(), RangeStats{});
  EXPECT_EQ(RangeStats{}.mean(), 0.0);
  EXPECT_EQ(RangeStats{}.variance(), 0.0);
  const std::vector<float> none = {kNan, kInf};
  EXPECT_EQ(accumulate(none).stats().count, 0u);
  EXPECT_EQ(accumulate(none).stats().max, 0.0f);
  // The range does not take in the zeros that stand for skipped values.
  const std::vector<float> positive = {3, kNan, 5};
  EXPECT_EQ(accumulate(positive).stats().min, 3);
  const std::vector<float> negative_zero = {-0.0f};
  EXPECT_FALSE(std::signbit(accumulate(negative_zero).stats().min));
  const std::vector<float> huge(3, FLT_MAX);
  EXPECT_EQ(accumulate(huge).stats().sum, 3.0 * static_cast<double>(FLT_MAX));
  EXPECT_EQ(accumulate(huge).stats().variance(), 0.0);
  const std::vector<float> tiny(5, kTiny);
  EXPECT_EQ(accumulate(tiny).stats().sum, 5.0 * static_cast<double>(kTiny));
  EXPECT_GT(accumulate(tiny).stats().sum_sq, 0.0);
  // Cancellation that float sums would not survive.
  const std::vector<float> cancel = {1e15f, 1.0f, -1e15f};
  EXPECT_EQ(accumulate(cancel).stats().sum, 1.0);
}

TEST(RangeStats, SumsAgreeWithLongDouble) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.3f, 2.0f);
  std::vector<float> v(100003);
  long double sum = 0, squares = 0;
  for (float& x : v) {
    x = normal(random);
    sum += x;
    squares += static_cast<long double>(x) * x;
  }
  const RangeStats s = accumulate(v).stats();
  EXPECT_NEAR(s.sum, static_cast<double>(sum), 1e-11 * std::fabs(s.sum));
  EXPECT_NEAR(s.sum_sq, static_cast<double>(squares), 1e-11 * s.sum_sq);
}

TEST(RangeStats, ExactSumsOfIntegers) {
  // Sums of integers below 2^24 are exact in int64: the digits must give them to the last bit.
  std::mt19937 random(2);
  std::vector<float> v(50000);
  std::int64_t sum = 0, squares = 0;
  for (float& x : v) {
    const auto i = static_cast<std::int64_t>(random() % 4000001) - 2000000;
    x = static_cast<float>(i);
    sum += i;
    squares += i * i;
  }
  const RangeStats s = accumulate(v).stats();
  EXPECT_EQ(s.sum, static_cast<double>(sum));
  EXPECT_EQ(s.sum_sq, static_cast<double>(squares));
}

TEST(ExactSum, PositionCoversItsDigit) {
  for (int e = -298; e <= 256; ++e) {
    for (const double m : {std::ldexp(1.0, e), std::ldexp(1.0 + 0x1p-40, e)}) {
      const std::int32_t p = ExactSum::position_of(m);
      EXPECT_LT(m, std::ldexp(1.0, 26 * p + 25));
      EXPECT_GE(m, std::ldexp(1.0, 26 * (p - 1) + 25));
    }
  }
}

// ---- both, whatever the chunking, the merging and the instruction set

TEST(Histogram, IsAFunctionOfTheMultiset) {
  for (std::uint32_t seed = 1; seed <= 8; ++seed) {
    const std::vector<float> data = wild_data(seed, 30011);
    const HistogramState whole = histogram_of(data).state();
    std::mt19937 random(seed);
    // Chunks of random size.
    for (const std::size_t largest : {std::size_t{3}, std::size_t{100}, std::size_t{9000}}) {
      Histogram chunked;
      for (std::size_t at = 0; at < data.size();) {
        const std::size_t n = std::min(data.size() - at, 1 + random() % largest);
        chunked.add(std::span(data).subspan(at, n));
        at += n;
      }
      ASSERT_EQ(chunked.state(), whole) << seed << " " << largest;
    }
    // Shuffled, and split over seven workers merged in random order.
    std::vector<float> shuffled = data;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    std::vector<Histogram> parts(7);
    for (std::size_t i = 0; i < shuffled.size(); i += 500) {
      parts[random() % 7].add(
          std::span(shuffled).subspan(i, std::min<std::size_t>(500, shuffled.size() - i)));
    }
    std::shuffle(parts.begin(), parts.end(), random);
    Histogram merged;
    for (const Histogram& part : parts) merged.merge(part);
    ASSERT_EQ(merged.state(), whole) << seed;
    RangeStats exact = accumulate(data).stats();
    const RangeStats binned = merged.stats();
    // Each value is taken for the middle of its bin.
    const double off = static_cast<double>(exact.count) * merged.bin_width() / 2;
    ASSERT_NEAR(binned.sum, exact.sum, off) << seed;
    ASSERT_NEAR(binned.sum_sq, exact.sum_sq, off * 2 * std::max(-exact.min, exact.max)) << seed;
    exact.sum = binned.sum;
    exact.sum_sq = binned.sum_sq;
    ASSERT_EQ(binned, exact) << seed;
  }
}

TEST(Histogram, InstructionSetsDoNotMatter) {
  const std::vector<float> data = wild_data(99, 20011);
  const HistogramState best = histogram_of(data).state();
  for (const std::int64_t target : kernel::available_targets()) {
    kernel::force_targets(target);
    EXPECT_EQ(histogram_of(data).state(), best) << kernel::target_name(target);
  }
  kernel::force_targets(0);
}

TEST(Histogram, BinsAgreeWithDirectCounting) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0.5f, 3.0f);
  std::vector<float> data(20000);
  for (float& x : data) x = normal(random);
  const Histogram h = histogram_of(data);
  const double width = h.bin_width();
  std::vector<std::uint64_t> expected(h.counts().size());
  for (const float x : data) {
    const double bin = x >= 0 ? std::floor(static_cast<double>(x) / width)
                              : -1 - std::floor(-static_cast<double>(x) / width);
    ++expected.at(static_cast<std::size_t>(bin - h.first_bin()));
  }
  EXPECT_TRUE(std::ranges::equal(h.counts(), expected));
  EXPECT_LE(h.counts().size(), 2048u);
  EXPECT_GT(h.counts().size(), 1024u);
}

TEST(Histogram, Edges) {
  const Histogram empty;
  EXPECT_TRUE(empty.empty());
  EXPECT_TRUE(empty.counts().empty());
  EXPECT_TRUE(histogram_of(std::vector<float>{kNan, kInf}).empty());
  EXPECT_EQ(histogram_of(std::vector<float>{kNan, kInf}).stats().inf_count, 1u);
  const auto total = [](const Histogram& h) {
    std::uint64_t sum = 0;
    for (const std::uint64_t c : h.counts()) sum += c;
    return sum;
  };
  const Histogram zeros = histogram_of(std::vector<float>{0, -0.0f, 0});
  EXPECT_EQ(zeros.counts().size(), 1u);
  EXPECT_EQ(zeros.counts()[0], 3u);
  for (const std::vector<float>& data :
       {std::vector<float>{FLT_MAX, -FLT_MAX, kTiny, -kTiny, 0}, std::vector<float>{kTiny},
        std::vector<float>{-kTiny}, std::vector<float>{-5}, std::vector<float>{7, 7, 7},
        std::vector<float>{2048, 2047, -1}, std::vector<float>{FLT_MIN, -1e-30f}}) {
    const Histogram h = histogram_of(data);
    EXPECT_EQ(total(h), data.size());
    EXPECT_LE(h.counts().size(), 2048u);
  }
  const Histogram extremes = histogram_of(std::vector<float>{FLT_MAX, -FLT_MAX});
  EXPECT_EQ(extremes.exponent(), Histogram::kHighestExponent);
  EXPECT_EQ(extremes.counts().front(), 1u);
  EXPECT_EQ(extremes.counts().back(), 1u);
  // One side only: all 2048 bins are on it.
  const Histogram one_sided = histogram_of(std::vector<float>{2047.5f});
  EXPECT_EQ(one_sided.exponent(), 0);
  EXPECT_EQ(one_sided.counts().size(), 2048u);
  EXPECT_EQ(histogram_of(std::vector<float>{2048.0f}).exponent(), 1);
}

TEST(Histogram, StateRoundTripAndRefusals) {
  const Histogram h = histogram_of(wild_data(5, 5000));
  const HistogramState good = h.state();
  ASSERT_TRUE(Histogram::from_state(good));
  EXPECT_EQ(Histogram::from_state(good)->state(), good);
  EXPECT_EQ(Histogram::from_state(Histogram().state())->state(), Histogram().state());
  const auto refused = [&](auto change) {
    HistogramState bad = good;
    change(bad);
    return !Histogram::from_state(bad);
  };
  EXPECT_TRUE(refused([](auto& s) { s.exponent += 1; }));
  EXPECT_TRUE(refused([](auto& s) { s.first_bin -= 1; }));
  EXPECT_TRUE(refused([](auto& s) { s.counts.pop_back(); }));
  EXPECT_TRUE(refused([](auto& s) { s.counts[0] += 1; }));
  EXPECT_TRUE(refused([](auto& s) { s.counts[0] = ~std::uint64_t{0}; }));
  EXPECT_TRUE(refused([](auto& s) { s.stats.count = 0; }));
  EXPECT_TRUE(refused([](auto& s) { s.stats.max = kNan; }));
  EXPECT_TRUE(refused([](auto& s) { s.stats.min = kInf; }));
  EXPECT_TRUE(refused([](auto& s) { s.stats.zero_count = s.stats.count + 1; }));
  EXPECT_TRUE(refused([](auto& s) { s.stats.sum.position = 1 << 20; }));
  // More zeros than the bin that holds them.
  EXPECT_TRUE(refused([](auto& s) { s.stats.zero_count = s.stats.count; }));
  // Adding goes on where the state left off.
  Histogram restored = *Histogram::from_state(good);
  Histogram grown = h;
  const std::vector<float> more = wild_data(6, 3000);
  restored.add(more);
  grown.add(more);
  EXPECT_EQ(restored.state(), grown.state());
}

// ---- thresholds

TEST(FixedLog2, AgreesWithLibm) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 100000; ++i) {
    const double x = std::ldexp(1.0 + static_cast<double>(random() >> 12) * 0x1p-52,
                                static_cast<int>(random() % 200) - 100);
    ASSERT_NEAR(fixed_log2(x), std::log2(x), 2e-14 + 1e-15 * std::fabs(std::log2(x)));
  }
  EXPECT_EQ(fixed_log2(1.0), 0.0);
  EXPECT_EQ(fixed_log2(0.125), -3.0);
}

std::vector<float> sorted_normals(std::uint32_t seed, std::size_t n) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& x : v) x = normal(random);
  std::sort(v.begin(), v.end());
  return v;
}

TEST(Thresholds, MinMaxContainsZero) {
  const Histogram positive = histogram_of(std::vector<float>{2, 3});
  EXPECT_EQ(minmax_range(positive, RangeShape::kAsymmetric), (Range{0, 3}));
  EXPECT_EQ(minmax_range(positive, RangeShape::kSymmetric), (Range{-3, 3}));
  const Histogram both = histogram_of(std::vector<float>{-4, 3});
  EXPECT_EQ(minmax_range(both, RangeShape::kSymmetric), (Range{-4, 4}));
}

TEST(Thresholds, PercentileAgreesWithSorting) {
  const std::vector<float> v = sorted_normals(8, 100000);
  const Histogram h = histogram_of(v);
  const double width = h.bin_width();
  for (const double tail : {0.5, 0.02, 1e-3, 1e-4}) {
    const auto cut = static_cast<std::size_t>(tail / 2 * 100000);
    const Range range = percentile_range(h, tail, RangeShape::kAsymmetric);
    EXPECT_NEAR(range.lo, v[cut], width) << tail;
    EXPECT_NEAR(range.hi, v[v.size() - 1 - cut], width) << tail;
    std::vector<float> magnitudes;
    magnitudes.reserve(v.size());
    for (const float x : v) magnitudes.push_back(std::fabs(x));
    std::sort(magnitudes.begin(), magnitudes.end());
    const Range symmetric = percentile_range(h, tail, RangeShape::kSymmetric);
    EXPECT_NEAR(symmetric.hi, magnitudes[magnitudes.size() - 1 - 2 * cut], width);
    EXPECT_EQ(symmetric.lo, -symmetric.hi);
  }
  EXPECT_EQ(percentile_range(h, 0.0, RangeShape::kAsymmetric), (Range{v.front(), v.back()}));
  EXPECT_EQ(percentile_range(h, -1.0, RangeShape::kAsymmetric), (Range{v.front(), v.back()}));
  const Range nothing_left = percentile_range(h, 1.0, RangeShape::kAsymmetric);
  EXPECT_LE(nothing_left.lo, 0.0f);
  EXPECT_GE(nothing_left.hi, 0.0f);
}

// The error that quantizing the data itself makes.
double data_error(const std::vector<float>& v, Range range, RangeShape shape) {
  const QuantType type{8, shape == RangeShape::kSymmetric};
  const bool symmetric = shape == RangeShape::kSymmetric;
  const CodeSpan span = symmetric ? CodeSpan::kNarrow : CodeSpan::kFull;
  const QuantParams params =
      symmetric ? symmetric_params(range, type, span) : asymmetric_params(range, type);
  return quantization_noise(v, params, code_range(type, span)).noise;
}

TEST(Thresholds, MseBeatsEveryGridOnTheData) {
  std::vector<float> v = sorted_normals(9, 50000);
  for (std::size_t i = 0; i < 5; ++i) v.push_back(30.0f + static_cast<float>(i));  // outliers
  const Histogram h = histogram_of(v);
  const QuantType type{4, true};
  const auto noise = [&](Range r) {
    return quantization_noise(v, symmetric_params(r, type, CodeSpan::kNarrow),
                              code_range(type, CodeSpan::kNarrow))
        .noise;
  };
  const Range chosen = mse_range(h, type, RangeShape::kSymmetric);
  double best = noise(minmax_range(h, RangeShape::kSymmetric));
  for (int i = 1; i <= 100; ++i) {
    best = std::min(best, noise({-0.34f * static_cast<float>(i), 0.34f * static_cast<float>(i)}));
  }
  EXPECT_LT(noise(chosen), 1.02 * best);
  const Range full = minmax_range(h, RangeShape::kAsymmetric);
  const Range asymmetric = mse_range(h, {8, false}, RangeShape::kAsymmetric);
  EXPECT_LE(data_error(v, asymmetric, RangeShape::kAsymmetric),
            1.01 * data_error(v, full, RangeShape::kAsymmetric));
  EXPECT_GE(asymmetric.lo, full.lo);
  EXPECT_LE(asymmetric.hi, full.hi);
}

TEST(Thresholds, EntropyClipsOutliersAndKeepsUniformData) {
  std::vector<float> v = sorted_normals(10, 100000);
  v.push_back(60.0f);
  const Histogram h = histogram_of(v);
  for (const RangeShape shape : {RangeShape::kSymmetric, RangeShape::kAsymmetric}) {
    const Range range = entropy_range(h, {8, true}, shape);
    EXPECT_LT(range.hi, 15.0f);
    EXPECT_GT(range.hi, 2.5f);
    EXPECT_LT(range.lo, -2.5f);
  }
  std::mt19937 random(12);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> flat(200000);
  for (float& x : flat) x = uniform(random);
  const Range range = entropy_range(histogram_of(flat), {8, true}, RangeShape::kSymmetric);
  EXPECT_GT(range.hi, 0.97f);
}

TEST(Thresholds, ExactZerosDoNotPull) {
  // ReLU output: nine zeros for each value. Range and choice equal those of the values alone.
  std::vector<float> values = sorted_normals(13, 20000);
  for (float& x : values) x = std::fabs(x);
  std::vector<float> with_zeros = values;
  with_zeros.resize(200000, 0.0f);
  const Histogram a = histogram_of(values), b = histogram_of(with_zeros);
  for (const RangeShape shape : {RangeShape::kSymmetric, RangeShape::kAsymmetric}) {
    EXPECT_EQ(entropy_range(a, {8, false}, shape), entropy_range(b, {8, false}, shape));
    EXPECT_EQ(mse_range(a, {8, false}, shape), mse_range(b, {8, false}, shape));
  }
  EXPECT_EQ(entropy_range(a, {8, false}, RangeShape::kAsymmetric).lo, 0.0f);
}

// Data from integer arithmetic only, results to the last bit: any machine, compiler and
// optimisation level must agree.
TEST(Thresholds, SameDigitsEverywhere) {
  std::uint32_t state = 12345;
  const auto next = [&] {
    state = state * 1664525u + 1013904223u;
    return static_cast<std::int32_t>(state >> 16);
  };
  std::vector<float> v(30000);
  for (float& x : v) {
    const std::int32_t sum = next() + next() + next() - 98304;  // bell-shaped around 0
    x = static_cast<float>(sum) / 16384.0f + (next() < 300 ? 9.5f : 0.1f);
  }
  const Histogram h = histogram_of(v);
  const auto bits = [](Range r) {
    return std::pair{std::bit_cast<std::uint32_t>(r.lo), std::bit_cast<std::uint32_t>(r.hi)};
  };
  using Bits = std::pair<std::uint32_t, std::uint32_t>;
  EXPECT_EQ(std::bit_cast<std::uint64_t>(h.stats().sum), 0x40ad5f6800000000u);
  EXPECT_EQ(std::bit_cast<std::uint64_t>(h.stats().sum_sq), 0x410026301c000000u);
  EXPECT_EQ(bits(percentile_range(h, 1e-3, RangeShape::kAsymmetric)),
            (Bits{0xc0ae0000, 0x413b4000}));
  EXPECT_EQ(bits(mse_range(h, {4, false}, RangeShape::kAsymmetric)),
            (Bits{0xc08c477e, 0x410b5f1b}));
  EXPECT_EQ(bits(entropy_range(h, {8, true}, RangeShape::kSymmetric)),
            (Bits{0xc1520000, 0x41520000}));
  EXPECT_EQ(bits(entropy_range(h, {8, false}, RangeShape::kAsymmetric)),
            (Bits{0xc0b62e4d, 0x41532b40}));
}

TEST(Thresholds, DegenerateHistograms) {
  const std::vector<std::vector<float>> cases = {{},
                                                 {0, 0},
                                                 {5},
                                                 {-5},
                                                 {kNan},
                                                 {FLT_MAX, -FLT_MAX, 1},
                                                 {kTiny, -kTiny},
                                                 {1e-38f, 2e-38f},
                                                 {1, -1},
                                                 {3, 3, 3}};
  for (const std::vector<float>& data : cases) {
    const Histogram h = histogram_of(data);
    for (const RangeShape shape : {RangeShape::kSymmetric, RangeShape::kAsymmetric}) {
      const Range full = minmax_range(h, shape);
      for (const std::uint8_t bits : std::vector<std::uint8_t>{2, 4, 8, 16}) {
        for (const Range range :
             {mse_range(h, {bits, true}, shape), entropy_range(h, {bits, true}, shape),
              percentile_range(h, 1e-3, shape)}) {
          EXPECT_LE(full.lo, range.lo);
          EXPECT_GE(full.hi, range.hi);
          EXPECT_LE(range.lo, 0.0f);
          EXPECT_GE(range.hi, 0.0f);
        }
      }
    }
  }
}

}  // namespace
}  // namespace mcompress
