#include "support/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "numeric/noise_kernels.cpp"
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "numeric/fixed_math.h"
#include "numeric/noise_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mcompress::kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Products and sums stay apart, as in the scalar form: a fused multiply-add rounds once.
HWY_ATTR void Log2EachImpl(const double* x, std::size_t n, double* y) {
  const hn::ScalableTag<double> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const std::size_t lanes = hn::Lanes(d);
  const auto one = hn::Set(d, 1.0);
  const auto mantissa = hn::Set(du, 0xfffffffffffffULL), bias = hn::Set(du, 0x3ffULL << 52);
  // An integer below 2^52 among the digits of 2^52 is added to it.
  const auto place = hn::Set(du, 0x433ULL << 52);
  const auto base = hn::Set(d, 4503599627370496.0 + 1023.0);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto bits = hn::BitCast(du, hn::LoadU(d, x + i));
    const auto power = hn::Or(hn::ShiftRight<52>(bits), place);
    auto exponent = hn::Sub(hn::BitCast(d, power), base);
    auto m = hn::BitCast(d, hn::Or(hn::And(bits, mantissa), bias));
    const auto high = hn::Gt(m, hn::Set(d, 1.4142135623730951));
    m = hn::IfThenElse(high, hn::Mul(m, hn::Set(d, 0.5)), m);
    exponent = hn::IfThenElse(high, hn::Add(exponent, one), exponent);
    const auto t = hn::Div(hn::Sub(m, one), hn::Add(m, one));
    const auto u = hn::Mul(t, t);
    auto series = hn::Zero(d);
    for (int k = 21; k >= 1; k -= 2) series = hn::Add(hn::Mul(series, u), hn::Set(d, 1.0 / k));
    const auto factor = hn::Set(d, 2.8853900817779268);
    hn::StoreU(hn::Add(exponent, hn::Mul(factor, hn::Mul(t, series))), d, y + i);
  }
  for (; i < n; ++i) y[i] = fixed_log2(x[i]);
}

HWY_ATTR void RoundedRowErrorsImpl(const float* x, std::size_t tiles, std::size_t channels,
                                   const RowRounding& rounding, float* errors) {
  const hn::CappedTag<float, kRowTile> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto step = hn::Set(d, rounding.step), per_step = hn::Set(d, 1 / rounding.step);
  const auto lowest = hn::Set(d, rounding.lowest), highest = hn::Set(d, rounding.highest);
  const auto magic = hn::Set(d, 12582912.0F);  // 1.5 * 2^23 rounds to an integer, half to even
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    for (std::size_t lane = 0; lane < kRowTile; lane += lanes) {
      const float* values = x + tile * channels * kRowTile + lane;
      auto sum = hn::Zero(d);
      for (std::size_t c = 0; c < channels; ++c) {
        const auto value =
            hn::Mul(hn::LoadU(d, values + c * kRowTile), hn::Set(d, rounding.factors[c]));
        const auto inside = hn::Min(hn::Max(hn::Mul(value, per_step), lowest), highest);
        const auto code = hn::Sub(hn::Add(inside, magic), magic);
        const auto error = hn::Sub(hn::Mul(code, step), value);
        sum = hn::Add(sum, hn::Mul(hn::Mul(error, error), hn::Set(d, rounding.weights[c])));
      }
      hn::StoreU(sum, d, errors + tile * kRowTile + lane);
    }
  }
}

HWY_ATTR double LargestProductImpl(const float* a, const double* b, std::size_t n) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const std::size_t lanes = hn::Lanes(d);
  auto largest = hn::Zero(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto factor = hn::PromoteTo(d, hn::LoadU(df, a + i));
    largest = hn::Max(largest, hn::Mul(factor, hn::LoadU(d, b + i)));
  }
  double result = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (; i < n; ++i) result = std::max(result, static_cast<double>(a[i]) * b[i]);
  return result;
}

}  // namespace mcompress::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mcompress::kernel {

HWY_EXPORT(Log2EachImpl);
HWY_EXPORT(RoundedRowErrorsImpl);
HWY_EXPORT(LargestProductImpl);

void log2_each(const double* x, std::size_t n, double* y) {
  HWY_DYNAMIC_DISPATCH(Log2EachImpl)(x, n, y);
}
void rounded_row_errors(const float* x, std::size_t tiles, std::size_t channels,
                        const RowRounding& rounding, float* errors) {
  HWY_DYNAMIC_DISPATCH(RoundedRowErrorsImpl)(x, tiles, channels, rounding, errors);
}
double largest_product(const float* a, const double* b, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(LargestProductImpl)(a, b, n);
}

}  // namespace mcompress::kernel
#endif  // HWY_ONCE
