#include "support/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "numeric/kernels.cpp"
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "numeric/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mcompress::kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using DD = hn::ScalableTag<double>;
using DH = hn::Rebind<float, DD>;  // as many floats as a vector holds doubles
inline constexpr float kLargestFinite = 3.402823466e+38f;

HWY_ATTR BlockRange BlockRangeImpl(const float* x, std::size_t n) {
  const DF df;
  const DI di;
  const std::size_t lanes = hn::Lanes(df);
  const auto limit = hn::Set(df, kLargestFinite);
  const auto none = hn::Zero(df);
  auto lowest = hn::Set(df, x[0]);
  auto highest = lowest;
  auto zeros = hn::Zero(di);
  auto finite = hn::Zero(di);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(df, x + i);
    lowest = hn::Min(lowest, v);
    highest = hn::Max(highest, v);
    // A true lane is -1.
    zeros = hn::Sub(zeros, hn::BitCast(di, hn::VecFromMask(df, hn::Eq(v, none))));
    finite = hn::Sub(finite, hn::BitCast(di, hn::VecFromMask(df, hn::Le(hn::Abs(v), limit))));
  }
  BlockRange range;
  range.min = hn::GetLane(hn::MinOfLanes(df, lowest));
  range.max = hn::GetLane(hn::MaxOfLanes(df, highest));
  range.zeros = static_cast<std::uint32_t>(hn::GetLane(hn::SumOfLanes(di, zeros)));
  std::uint32_t finite_count = static_cast<std::uint32_t>(hn::GetLane(hn::SumOfLanes(di, finite)));
  for (; i < n; ++i) {
    const float v = x[i];
    range.min = v < range.min ? v : range.min;
    range.max = v > range.max ? v : range.max;
    range.zeros += v == 0.0f ? 1 : 0;
    finite_count += v >= -kLargestFinite && v <= kLargestFinite ? 1 : 0;
  }
  range.non_finite = static_cast<std::uint32_t>(n) - finite_count;
  return range;
}

// Adding to a number in [2^(52 + grid), 2^(53 + grid)) rounds to a multiple of 2^grid, and the
// difference that the addition made is the digit. Setting the last bit of the term first (a float
// has 29 spare ones) makes ties impossible, so that the digit does not depend on the sum so far.
template <class V>
HWY_INLINE HWY_ATTR void add_digits(V term, V last_bit, V& s2, V& s1, V& s0) {
  const V sum2 = hn::Add(s2, hn::Or(term, last_bit));
  const V rest1 = hn::Sub(term, hn::Sub(sum2, s2));
  s2 = sum2;
  const V sum1 = hn::Add(s1, hn::Or(rest1, last_bit));
  const V rest0 = hn::Sub(rest1, hn::Sub(sum1, s1));
  s1 = sum1;
  s0 = hn::Add(s0, hn::Or(rest0, last_bit));
}

HWY_ATTR void DigitSumsImpl(const float* x, std::size_t n, const std::array<double, 3>& magic_x,
                            const std::array<double, 3>& magic_q, std::array<double, 6>& out) {
  const DD dd;
  const DH dh;
  const std::size_t lanes = hn::Lanes(dd);
  const auto last_bit = hn::BitCast(dd, hn::Set(hn::RebindToUnsigned<DD>(), 1));
  auto x2 = hn::Set(dd, magic_x[0]), x1 = hn::Set(dd, magic_x[1]), x0 = hn::Set(dd, magic_x[2]);
  auto q2 = hn::Set(dd, magic_q[0]), q1 = hn::Set(dd, magic_q[1]), q0 = hn::Set(dd, magic_q[2]);
  const auto add_vector = [&](auto half) HWY_ATTR {
    const auto v = hn::PromoteTo(dd, half);
    add_digits(v, last_bit, x2, x1, x0);
    add_digits(hn::Mul(v, v), last_bit, q2, q1, q0);
  };
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) add_vector(hn::LoadU(dh, x + i));
  if (i < n) {
    alignas(64) float tail[16] = {};
    std::memcpy(tail, x + i, (n - i) * sizeof(float));
    add_vector(hn::Load(dh, tail));
  }
  const auto digit = [&](auto sum, double magic) HWY_ATTR {
    return hn::GetLane(hn::SumOfLanes(dd, hn::Sub(sum, hn::Set(dd, magic))));
  };
  out = {digit(x2, magic_x[0]), digit(x1, magic_x[1]), digit(x0, magic_x[2]),
         digit(q2, magic_q[0]), digit(q1, magic_q[1]), digit(q0, magic_q[2])};
}

constexpr std::size_t kGroup = 16;  // bins that are counted together; lanes divide it

HWY_INLINE HWY_ATTR void count_group(const std::int32_t* bins, std::uint16_t* counts) {
  for (std::size_t i = 0; i < kGroup; i += kCountCopies) {
    std::uint64_t low, high;  // two bins per load: loads and stores are what limits the speed
    std::memcpy(&low, bins + i, sizeof(low));
    std::memcpy(&high, bins + i + 2, sizeof(high));
    constexpr auto kCopies = static_cast<std::int64_t>(kCountCopies);
    ++counts[static_cast<std::int64_t>(static_cast<std::int32_t>(low)) * kCopies];
    ++counts[(static_cast<std::int64_t>(low) >> 32) * kCopies + 1];
    ++counts[static_cast<std::int64_t>(static_cast<std::int32_t>(high)) * kCopies + 2];
    ++counts[(static_cast<std::int64_t>(high) >> 32) * kCopies + 3];
  }
}

// While the bins of one step are computed, those of the step before are counted: the one needs the
// vector units, the other loads and stores.
HWY_ATTR CountedRun CountRunImpl(const float* x, std::size_t n, const CountGrid& grid,
                                 std::uint16_t* counts) {
  const DF df;
  const DI di;
  const std::size_t lanes = hn::Lanes(df);
  const auto factor = hn::Set(df, grid.inverse_width);
  const auto zero = hn::Zero(df);
  const auto lowest = hn::Set(df, grid.lowest), highest = hn::Set(df, grid.highest);
  const auto spare = hn::Set(di, grid.spare);
  // A step leaves at most kCountStep bins, is filled up to whole groups, and stores whole vectors.
  alignas(64) std::int32_t buffers[2][kCountStep + 2 * kGroup];
  std::size_t waiting = 0, used = 0, step = 0;
  auto low = hn::Set(df, x[0]), high = low;
  std::size_t i = 0;
  for (; i + kCountStep <= n; i += kCountStep, ++step) {
    std::int32_t* const bins = buffers[step % 2];
    const std::int32_t* const before = buffers[(step + 1) % 2];
    std::size_t m = 0;
    auto not_finite = zero;  // NaN stays, and infinity times 0 is one
    auto step_low = low, step_high = high;
    for (std::size_t j = 0; j < kCountStep; j += kGroup) {
      for (std::size_t k = 0; k < kGroup; k += lanes) {
        const auto v = hn::LoadU(df, x + i + j + k);
        step_low = hn::Min(step_low, v);
        step_high = hn::Max(step_high, v);
        not_finite = hn::MulAdd(v, zero, not_finite);
        const auto sign = hn::ShiftRight<31>(hn::BitCast(di, v));
        const auto bin = hn::Add(hn::ConvertTo(di, hn::Mul(v, factor)), sign);
        // What an activation cuts off is zero, often most values: these are left out.
        const auto counted = hn::Ne(v, zero);
        hn::StoreU(hn::Compress(bin, hn::RebindMask(di, counted)), di, bins + m);
        m += hn::CountTrue(df, counted);
      }
      if (j < waiting) count_group(before + j, counts);
    }
    waiting = 0;
    const auto inside = hn::And(hn::Ge(step_low, lowest), hn::Le(step_high, highest));
    if (!hn::AllTrue(df, hn::And(inside, hn::Eq(not_finite, zero)))) break;
    low = step_low;
    high = step_high;
    for (std::size_t k = 0; k < kGroup; k += lanes) hn::StoreU(spare, di, bins + m + k);
    used += m;
    waiting = m;
  }
  for (std::size_t j = 0; j < waiting; j += kGroup) {
    count_group(buffers[(step + 1) % 2] + j, counts);
  }
  CountedRun run;
  run.min = hn::GetLane(hn::MinOfLanes(df, low));
  run.max = hn::GetLane(hn::MaxOfLanes(df, high));
  for (; n - i < kCountStep && i < n; ++i) {
    const float v = x[i];
    if (!(v >= grid.lowest && v <= grid.highest)) break;
    run.min = v < run.min ? v : run.min;
    run.max = v > run.max ? v : run.max;
    if (v == 0.0f) continue;
    ++used;
    const std::int32_t bin = static_cast<std::int32_t>(v * grid.inverse_width) - (v < 0.0f ? 1 : 0);
    ++counts[std::int64_t{bin} * static_cast<std::int64_t>(kCountCopies)];
  }
  run.done = i;
  run.zeros = i - used;
  return run;
}

template <class T>
HWY_INLINE HWY_ATTR void quantize_some(const float* x, std::size_t n, const float* scales,
                                       const QuantizeArgs& args, T* y) {
  const DF df;
  const DI di;
  const hn::Rebind<T, DF> dt;
  const std::size_t lanes = hn::Lanes(df);
  const auto lo = hn::Set(df, args.lo), hi = hn::Set(df, args.hi);
  const auto zero_point = hn::Set(di, args.zero_point);
  const auto one_scale = hn::Set(df, args.scale);
  const auto quantize_vector = [&](auto v, auto scale) HWY_ATTR {
    const auto ratio = hn::Div(v, scale);
    const auto number = hn::IfThenElseZero(hn::Eq(ratio, ratio), ratio);  // NaN becomes 0
    const auto code = hn::NearestInt(hn::Min(hn::Max(number, lo), hi));
    return hn::DemoteTo(dt, hn::Add(code, zero_point));
  };
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto scale = scales == nullptr ? one_scale : hn::LoadU(df, scales + i);
    hn::StoreU(quantize_vector(hn::LoadU(df, x + i), scale), dt, y + i);
  }
  if (i < n) {
    alignas(64) float values[16] = {};
    alignas(64) float divisors[16];
    alignas(64) T codes[16];
    std::memcpy(values, x + i, (n - i) * sizeof(float));
    std::fill(divisors, divisors + 16, args.scale);
    if (scales != nullptr) std::memcpy(divisors, scales + i, (n - i) * sizeof(float));
    hn::Store(quantize_vector(hn::Load(df, values), hn::Load(df, divisors)), dt, codes);
    std::memcpy(y + i, codes, (n - i) * sizeof(T));
  }
}

HWY_ATTR void QuantizeI8(const float* x, std::size_t n, const QuantizeArgs& a, std::int8_t* y) {
  quantize_some(x, n, nullptr, a, y);
}
HWY_ATTR void QuantizeU8(const float* x, std::size_t n, const QuantizeArgs& a, std::uint8_t* y) {
  quantize_some(x, n, nullptr, a, y);
}
HWY_ATTR void QuantizeI16(const float* x, std::size_t n, const QuantizeArgs& a, std::int16_t* y) {
  quantize_some(x, n, nullptr, a, y);
}
HWY_ATTR void QuantizeU16(const float* x, std::size_t n, const QuantizeArgs& a, std::uint16_t* y) {
  quantize_some(x, n, nullptr, a, y);
}
HWY_ATTR void QuantizeScalesI8(const float* x, const float* scales, std::size_t n, float lo,
                               float hi, std::int8_t* y) {
  quantize_some(x, n, scales, QuantizeArgs{1.0f, lo, hi, 0}, y);
}

HWY_ATTR void ErrorSumsImpl(const float* x, const float* y, std::size_t n, ErrorLanes& lanes) {
  const DD dd;
  const DH dh;
  // Lane groups outside, elements inside: the accumulators of one group stay in registers on every
  // instruction set, and the order within a lane is the element order.
  for (std::size_t g = 0; g < kLanes; g += hn::Lanes(dd)) {
    auto xx = hn::Load(dd, &lanes.xx[g]), yy = hn::Load(dd, &lanes.yy[g]),
         xy = hn::Load(dd, &lanes.xy[g]), sq = hn::Load(dd, &lanes.dd[g]),
         sum = hn::Load(dd, &lanes.d[g]), top = hn::Load(dd, &lanes.max_abs[g]);
    for (std::size_t i = g; i < n; i += kLanes) {
      const auto a = hn::PromoteTo(dd, hn::LoadU(dh, x + i));
      const auto b = hn::PromoteTo(dd, hn::LoadU(dh, y + i));
      const auto d = hn::Sub(b, a);
      xx = hn::Add(xx, hn::Mul(a, a));
      yy = hn::Add(yy, hn::Mul(b, b));
      xy = hn::Add(xy, hn::Mul(a, b));
      sq = hn::Add(sq, hn::Mul(d, d));
      sum = hn::Add(sum, d);
      top = hn::Max(top, hn::Abs(d));
    }
    hn::Store(xx, dd, &lanes.xx[g]);
    hn::Store(yy, dd, &lanes.yy[g]);
    hn::Store(xy, dd, &lanes.xy[g]);
    hn::Store(sq, dd, &lanes.dd[g]);
    hn::Store(sum, dd, &lanes.d[g]);
    hn::Store(top, dd, &lanes.max_abs[g]);
  }
}

HWY_ATTR bool AllFiniteImpl(const float* x, std::size_t n) {
  const DF df;
  const std::size_t lanes = hn::Lanes(df);
  const auto limit = hn::Set(df, kLargestFinite);
  std::size_t i = 0;
  auto largest = hn::Zero(df);
  auto ordered = hn::Eq(largest, largest);
  for (; i + lanes <= n; i += lanes) {
    ordered = hn::And(ordered, hn::Le(hn::Abs(hn::LoadU(df, x + i)), limit));
  }
  bool finite = hn::AllTrue(df, ordered);
  for (; i < n; ++i) finite = finite && x[i] >= -kLargestFinite && x[i] <= kLargestFinite;
  return finite;
}

HWY_ATTR void CandidateMomentsImpl(const float* x, const float* importance, std::size_t n,
                                   const CandidateGrids& grids, CandidateMoments& moments) {
  const DD dd;
  const DH dh;
  for (std::size_t k = 0; k < kCandidates; k += hn::Lanes(dd)) {
    const auto scale = hn::Load(dh, &grids.scale[k]);
    const auto lo = hn::Load(dh, &grids.lo[k]), hi = hn::Load(dh, &grids.hi[k]);
    auto wq = hn::Load(dd, &moments.wq[k]), qq = hn::Load(dd, &moments.qq[k]);
    for (std::size_t i = 0; i < n; ++i) {
      const float w = x[i];
      if (!(w >= -kLargestFinite && w <= kLargestFinite)) continue;
      const double h = importance == nullptr ? 1.0 : static_cast<double>(importance[i]);
      const auto ratio = hn::Div(hn::Set(dh, w), scale);
      const auto q = hn::PromoteTo(dd, hn::Round(hn::Min(hn::Max(ratio, lo), hi)));
      wq = hn::Add(wq, hn::Mul(hn::Set(dd, h * static_cast<double>(w)), q));
      qq = hn::Add(qq, hn::Mul(hn::Set(dd, h), hn::Mul(q, q)));
    }
    hn::Store(wq, dd, &moments.wq[k]);
    hn::Store(qq, dd, &moments.qq[k]);
  }
}

HWY_ATTR double GridErrorImpl(const double* middles, const double* counts, std::size_t n,
                              double scale, double lo, double hi) {
  const DD dd;
  constexpr std::size_t kSumLanes = 8;
  alignas(64) std::array<double, kSumLanes> lanes{};
  const auto inverse = hn::Set(dd, 1.0 / scale);
  const auto step = hn::Set(dd, scale);
  const auto lowest = hn::Set(dd, lo), highest = hn::Set(dd, hi);
  // 1.5 * 2^52 rounds to an integer, half to even.
  const auto magic = hn::Set(dd, 6755399441055744.0);
  const std::size_t width = std::min<std::size_t>(hn::Lanes(dd), kSumLanes);
  for (std::size_t g = 0; g < kSumLanes; g += width) {
    auto total = hn::Zero(dd);
    for (std::size_t i = g; i < n; i += kSumLanes) {
      const auto middle = hn::LoadU(dd, middles + i);
      const auto inside = hn::Min(hn::Max(hn::Mul(middle, inverse), lowest), highest);
      const auto code = hn::Sub(hn::Add(inside, magic), magic);
      const auto error = hn::Sub(middle, hn::Mul(code, step));
      total = hn::Add(total, hn::Mul(hn::LoadU(dd, counts + i), hn::Mul(error, error)));
    }
    hn::Store(total, dd, &lanes[g]);
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

HWY_ATTR void RoundCodesImpl(const float* x, std::size_t n, float inverse, float* scaled,
                             std::int8_t* codes) {
  const DF df;
  const hn::Rebind<std::int8_t, DF> dt;
  constexpr float kLimit = 127.0f;
  const std::size_t lanes = hn::Lanes(df);
  const auto factor = hn::Set(df, inverse);
  const auto lo = hn::Set(df, -kLimit), hi = hn::Set(df, kLimit);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto value = hn::Mul(hn::LoadU(df, x + i), factor);
    hn::StoreU(value, df, scaled + i);
    hn::StoreU(hn::DemoteTo(dt, hn::NearestInt(hn::Min(hn::Max(value, lo), hi))), dt, codes + i);
  }
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23 rounds to an integer, half to even
  for (; i < n; ++i) {
    scaled[i] = x[i] * inverse;
    const float inside = std::min(std::max(scaled[i], -kLimit), kLimit);
    codes[i] = static_cast<std::int8_t>((inside + kMagic) - kMagic);
  }
}

// The largest sum of the same-sign magnitudes of v[2j] and v[2j+1], count is even.
class PairPeak {
 public:
  HWY_ATTR void see(const float* v, std::size_t count) {
#if HWY_TARGET == HWY_SCALAR
    for (std::size_t i = 0; i < count; i += 2) {
      const float above = std::max(v[i], 0.0f) + std::max(v[i + 1], 0.0f);
      const float below = std::min(v[i], 0.0f) + std::min(v[i + 1], 0.0f);
      peak_ = std::max({peak_, above, -below});
    }
#else
    const DF df;
    const auto none = hn::Zero(df);
    auto peak = none;
    const auto see_vector = [&](auto vector) HWY_ATTR {
      const auto above = hn::Max(vector, none), below = hn::Max(hn::Neg(vector), none);
      peak = hn::Max(peak, hn::Max(hn::Add(above, hn::Reverse2(df, above)),
                                   hn::Add(below, hn::Reverse2(df, below))));
    };
    std::size_t i = 0;
    for (; i + hn::Lanes(df) <= count; i += hn::Lanes(df)) see_vector(hn::LoadU(df, v + i));
    if (i < count) {
      alignas(64) float tail[16] = {};
      std::memcpy(tail, v + i, (count - i) * sizeof(float));
      see_vector(hn::Load(df, tail));
    }
    peak_ = std::max(peak_, hn::GetLane(hn::MaxOfLanes(df, peak)));
#endif
  }
  float value() const { return peak_; }

 private:
  float peak_ = 0.0f;
};

HWY_ATTR float PairPeakImpl(const float* x, std::size_t n) {
  PairPeak peak;
  peak.see(x, n / 2 * 2);
  return peak.value();
}

HWY_ATTR CodeErrors CodeErrorsImpl(const float* scaled, const std::int8_t* codes, std::size_t n) {
  const DF df;
  const DI di;
  const DD dd;
  const DH dh;
  const hn::Rebind<std::int8_t, DF> dt;
  constexpr std::size_t kSumLanes = 8, kStep = 512;
  const std::size_t lanes = hn::Lanes(df);
  const std::size_t width = std::min<std::size_t>(hn::Lanes(dd), kSumLanes);
  alignas(64) std::array<double, kSumLanes> squares{}, sums{};
  alignas(64) float values[kStep];  // the codes, then the errors
  PairPeak peak;
  for (std::size_t first = 0; first < n; first += kStep) {
    const std::size_t count = std::min(kStep, n - first);
    const std::size_t padded = (count + kSumLanes - 1) / kSumLanes * kSumLanes;
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      hn::Store(hn::ConvertTo(df, hn::PromoteTo(di, hn::LoadU(dt, codes + first + i))), df,
                values + i);
    }
    for (; i < count; ++i) values[i] = static_cast<float>(codes[first + i]);
    std::fill(values + count, values + padded, 0.0f);
    peak.see(values, padded);
    for (i = 0; i + lanes <= count; i += lanes) {
      hn::Store(hn::Sub(hn::LoadU(df, scaled + first + i), hn::Load(df, values + i)), df,
                values + i);
    }
    for (; i < count; ++i) values[i] = scaled[first + i] - values[i];
    for (std::size_t g = 0; g < kSumLanes; g += width) {
      auto square = hn::Load(dd, &squares[g]), sum = hn::Load(dd, &sums[g]);
      for (i = g; i < padded; i += kSumLanes) {
        const auto error = hn::PromoteTo(dd, hn::LoadU(dh, values + i));
        square = hn::Add(square, hn::Mul(error, error));
        sum = hn::Add(sum, error);
      }
      hn::Store(square, dd, &squares[g]);
      hn::Store(sum, dd, &sums[g]);
    }
  }
  CodeErrors result;
  for (std::size_t lane = 0; lane < kSumLanes; ++lane) {
    result.squares += squares[lane];
    result.sum += sums[lane];
  }
  result.worst_pair = static_cast<std::int32_t>(peak.value());
  return result;
}

}  // namespace mcompress::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mcompress::kernel {

HWY_EXPORT(BlockRangeImpl);
HWY_EXPORT(DigitSumsImpl);
HWY_EXPORT(CountRunImpl);
HWY_EXPORT(QuantizeI8);
HWY_EXPORT(QuantizeU8);
HWY_EXPORT(QuantizeI16);
HWY_EXPORT(QuantizeU16);
HWY_EXPORT(QuantizeScalesI8);
HWY_EXPORT(ErrorSumsImpl);
HWY_EXPORT(AllFiniteImpl);
HWY_EXPORT(CandidateMomentsImpl);
HWY_EXPORT(GridErrorImpl);
HWY_EXPORT(RoundCodesImpl);
HWY_EXPORT(PairPeakImpl);
HWY_EXPORT(CodeErrorsImpl);

BlockRange block_range(const float* x, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(BlockRangeImpl)(x, n);
}
void digit_sums(const float* x, std::size_t n, const std::array<double, 3>& magic_x,
                const std::array<double, 3>& magic_q, std::array<double, 6>& out) {
  HWY_DYNAMIC_DISPATCH(DigitSumsImpl)(x, n, magic_x, magic_q, out);
}
CountedRun count_run(const float* x, std::size_t n, const CountGrid& grid, std::uint16_t* counts) {
  return n == 0 ? CountedRun{} : HWY_DYNAMIC_DISPATCH(CountRunImpl)(x, n, grid, counts);
}
void quantize(const float* x, std::size_t n, const QuantizeArgs& args, std::int8_t* y) {
  HWY_DYNAMIC_DISPATCH(QuantizeI8)(x, n, args, y);
}
void quantize(const float* x, std::size_t n, const QuantizeArgs& args, std::uint8_t* y) {
  HWY_DYNAMIC_DISPATCH(QuantizeU8)(x, n, args, y);
}
void quantize(const float* x, std::size_t n, const QuantizeArgs& args, std::int16_t* y) {
  HWY_DYNAMIC_DISPATCH(QuantizeI16)(x, n, args, y);
}
void quantize(const float* x, std::size_t n, const QuantizeArgs& args, std::uint16_t* y) {
  HWY_DYNAMIC_DISPATCH(QuantizeU16)(x, n, args, y);
}
void quantize_scales(const float* x, const float* scales, std::size_t n, float lo, float hi,
                     std::int8_t* y) {
  HWY_DYNAMIC_DISPATCH(QuantizeScalesI8)(x, scales, n, lo, hi, y);
}
void error_sums(const float* x, const float* y, std::size_t n, ErrorLanes& lanes) {
  HWY_DYNAMIC_DISPATCH(ErrorSumsImpl)(x, y, n, lanes);
}
bool all_finite(const float* x, std::size_t n) { return HWY_DYNAMIC_DISPATCH(AllFiniteImpl)(x, n); }
void candidate_moments(const float* x, const float* importance, std::size_t n,
                       const CandidateGrids& grids, CandidateMoments& moments) {
  HWY_DYNAMIC_DISPATCH(CandidateMomentsImpl)(x, importance, n, grids, moments);
}

double grid_error(const double* middles, const double* counts, std::size_t n, double scale,
                  double lo, double hi) {
  return HWY_DYNAMIC_DISPATCH(GridErrorImpl)(middles, counts, n, scale, lo, hi);
}

void round_codes(const float* x, std::size_t n, float inverse, float* scaled, std::int8_t* codes) {
  HWY_DYNAMIC_DISPATCH(RoundCodesImpl)(x, n, inverse, scaled, codes);
}
CodeErrors code_errors(const float* scaled, const std::int8_t* codes, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(CodeErrorsImpl)(scaled, codes, n);
}
float pair_peak(const float* x, std::size_t n) { return HWY_DYNAMIC_DISPATCH(PairPeakImpl)(x, n); }

std::vector<std::int64_t> available_targets() { return hwy::SupportedAndGeneratedTargets(); }
const char* target_name(std::int64_t target) { return hwy::TargetName(target); }
void force_targets(std::int64_t mask) {
  hwy::SetSupportedTargetsForTest(mask);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace mcompress::kernel
#endif  // HWY_ONCE
