#include "support/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "numeric/block_kernels.cpp"
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>

#include <cfloat>

#include "numeric/block_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mcompress::kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Tile = hn::CappedTag<float, kTileRows>;
using Vector = hn::Vec<Tile>;

// Products and sums stay apart: a fused multiply-add rounds once, and not every machine has it.
struct Grid {
  Vector scale, low, high;  // codes less the zero point lie in [low, high]
};

struct Moments {
  Vector a, b;  // sum h x q, sum h q^2
};

HWY_ATTR HWY_INLINE Moments moments(const Tile tile, const float* x, const float* h, std::size_t n,
                                    const Grid& grid) {
  const Vector inverse = hn::Div(hn::Set(tile, 1.0F), grid.scale);
  Vector a = hn::Zero(tile), b = hn::Zero(tile);
  if (h == nullptr) {
    for (std::size_t i = 0; i < n; ++i) {
      const Vector w = hn::LoadU(tile, x + i * kTileRows);
      const Vector q = hn::Min(hn::Max(hn::Round(hn::Mul(w, inverse)), grid.low), grid.high);
      a = hn::Add(a, hn::Mul(w, q));
      b = hn::Add(b, hn::Mul(q, q));
    }
    return {a, b};
  }
  for (std::size_t i = 0; i < n; ++i) {
    const Vector w = hn::LoadU(tile, x + i * kTileRows);
    const Vector q = hn::Min(hn::Max(hn::Round(hn::Mul(w, inverse)), grid.low), grid.high);
    const Vector hq = hn::Mul(hn::Set(tile, h[i]), q);
    a = hn::Add(a, hn::Mul(w, hq));
    b = hn::Add(b, hn::Mul(hq, q));
  }
  return {a, b};
}

HWY_ATTR HWY_INLINE Vector usable(const Tile tile, const Vector scale) {
  return hn::Min(hn::Max(scale, hn::Set(tile, FLT_MIN)), hn::Set(tile, FLT_MAX / 512));
}

HWY_ATTR void SearchBlockImpl(const float* x, const float* h, std::size_t n,
                              const BlockTrials& trials, BlockGrid& grid) {
  const Tile tile;
  const Vector none = hn::Zero(tile), one = hn::Set(tile, 1.0F);
  const Vector top = hn::Set(tile, trials.top);
  const float middle = (trials.top + 1) / 2;
  for (std::size_t lane = 0; lane < kTileRows; lane += hn::Lanes(tile)) {
    const float* const rows = x + lane;
    Vector lo = none, hi = none;
    for (std::size_t i = 0; i < n; ++i) {
      const Vector w = hn::LoadU(tile, rows + i * kTileRows);
      lo = hn::Min(lo, w);
      hi = hn::Max(hi, w);
    }
    // In halves: the width of a range of large numbers may not be finite.
    const Vector width = trials.asymmetric ? hn::Sub(hn::Mul(hi, hn::Set(tile, 0.5F)),
                                                     hn::Mul(lo, hn::Set(tile, 0.5F)))
                                           : hn::Max(hi, hn::Neg(lo));
    const Vector per_step =
        hn::Set(tile, trials.asymmetric ? 2 / trials.top : 1 / (middle > 1.5F ? middle - 1 : 1.0F));
    const auto empty = hn::Eq(width, none);
    Vector best_scale = one;
    Vector best_zero = trials.asymmetric ? none : hn::Set(tile, middle);
    Vector best_gain = hn::Set(tile, -1.0F);
    for (std::size_t c = 0; c < trials.count; ++c) {
      const Vector ratio = hn::Set(tile, trials.ratio[c]);
      const Vector scale =
          hn::IfThenElse(empty, one, usable(tile, hn::Mul(hn::Mul(width, ratio), per_step)));
      Vector zero = hn::Set(tile, middle);
      if (trials.asymmetric) {
        const Vector exact = hn::Div(hn::Neg(hn::Mul(lo, ratio)), scale);
        zero = trials.zero_above[c] ? hn::Ceil(exact) : hn::Floor(exact);
        zero = hn::Min(hn::Max(zero, none), top);
      }
      const Grid trial{scale, hn::Neg(zero), hn::Sub(top, zero)};
      const Moments found = moments(tile, rows, h, n, trial);
      const auto fits = hn::And(hn::Gt(found.a, none), hn::Gt(found.b, none));
      const Vector fitted = hn::IfThenElse(
          fits, usable(tile, hn::Div(found.a, hn::IfThenElse(fits, found.b, one))), scale);
      const Vector gain = hn::IfThenElse(
          fits, hn::Mul(found.a, hn::Div(found.a, hn::IfThenElse(fits, found.b, one))), none);
      const auto better = hn::Gt(gain, best_gain);
      best_gain = hn::IfThenElse(better, gain, best_gain);
      best_scale = hn::IfThenElse(better, fitted, best_scale);
      best_zero = hn::IfThenElse(better, zero, best_zero);
    }
    for (int round = 0; round < trials.refits; ++round) {
      const Grid again{best_scale, hn::Neg(best_zero), hn::Sub(top, best_zero)};
      const Moments found = moments(tile, rows, h, n, again);
      const auto fits = hn::And(hn::Gt(found.a, none), hn::Gt(found.b, none));
      const Vector fitted = usable(tile, hn::Div(found.a, hn::IfThenElse(fits, found.b, one)));
      const Vector gain = hn::Mul(found.a, hn::Div(found.a, hn::IfThenElse(fits, found.b, one)));
      const auto better = hn::And(fits, hn::Gt(gain, best_gain));
      best_gain = hn::IfThenElse(better, gain, best_gain);
      best_scale = hn::IfThenElse(better, fitted, best_scale);
    }
    hn::Store(best_scale, tile, &grid.scale[lane]);
    hn::Store(best_zero, tile, &grid.zero[lane]);
  }
}

HWY_ATTR void RoundBlockImpl(const float* x, std::size_t n, const BlockGrid& grid, float top,
                             std::uint8_t* codes, BlockErrors& errors) {
  const Tile tile;
  const hn::Rebind<std::int32_t, Tile> whole;
  const hn::Rebind<std::uint8_t, Tile> bytes;
  for (std::size_t lane = 0; lane < kTileRows; lane += hn::Lanes(tile)) {
    const Vector scale = hn::Load(tile, &grid.scale[lane]);
    const Vector zero = hn::Load(tile, &grid.zero[lane]);
    const Vector low = hn::Neg(zero), high = hn::Sub(hn::Set(tile, top), zero);
    Vector signal = hn::Zero(tile), noise = hn::Zero(tile);
    for (std::size_t i = 0; i < n; ++i) {
      const Vector w = hn::LoadU(tile, x + i * kTileRows + lane);
      const Vector q = hn::Min(hn::Max(hn::Round(hn::Div(w, scale)), low), high);
      const Vector error = hn::Sub(w, hn::Mul(q, scale));
      signal = hn::Add(signal, hn::Mul(w, w));
      noise = hn::Add(noise, hn::Mul(error, error));
      hn::StoreU(hn::DemoteTo(bytes, hn::ConvertTo(whole, hn::Add(q, zero))), bytes,
                 codes + i * kTileRows + lane);
    }
    hn::Store(signal, tile, &errors.signal[lane]);
    hn::Store(noise, tile, &errors.noise[lane]);
  }
}

HWY_ATTR void HalfQuadraticBlockImpl(const float* x, std::size_t n, const BlockTrials& trials,
                                     BlockGrid& grid) {
  constexpr int kRounds = 20;
  constexpr float kGrowth = 1.01F;
  const Tile tile;
  const Vector none = hn::Zero(tile), one = hn::Set(tile, 1.0F), most = hn::Set(tile, trials.top);
  const Vector tiny = hn::Set(tile, 1e-8F);
  for (std::size_t lane = 0; lane < kTileRows; lane += hn::Lanes(tile)) {
    Vector scale = hn::Load(tile, &grid.scale[lane]);
    Vector zero = hn::Load(tile, &grid.zero[lane]);
    float beta = 10.0F;
    for (int round = 0; round < kRounds; ++round) {
      const Vector strength = hn::Set(tile, 1 / beta);
      const Vector inverse = hn::Div(one, scale);
      // u = x / s - e, in steps of the grid: what the codes should stand for.
      Vector offset = none, uq = none, qq = none;
      for (std::size_t i = 0; i < n; ++i) {
        const Vector w = hn::Mul(hn::LoadU(tile, x + i * kTileRows + lane), inverse);
        const Vector code = hn::Min(hn::Max(hn::Add(hn::Round(w), zero), none), most);
        const Vector q = hn::Sub(code, zero);
        const Vector d = hn::Sub(w, q);
        const Vector size = hn::Max(hn::Abs(d), tiny);
        const Vector kept = hn::Max(hn::Sub(size, hn::Div(strength, hn::Sqrt(size))), none);
        const Vector u = hn::Sub(w, hn::CopySign(kept, d));
        offset = hn::Add(offset, hn::Sub(code, u));
        uq = hn::Add(uq, hn::Mul(u, q));
        qq = hn::Add(qq, hn::Mul(q, q));
      }
      const auto fits = hn::And(hn::Gt(uq, none), hn::Gt(qq, none));
      const Vector factor = hn::IfThenElse(fits, hn::Div(uq, hn::IfThenElse(fits, qq, one)), one);
      scale = usable(tile, hn::Mul(scale, factor));
      if (trials.asymmetric) {
        zero = hn::Round(hn::Div(offset, hn::Set(tile, static_cast<float>(n))));
        zero = hn::Min(hn::Max(zero, none), most);
      }
      beta *= kGrowth;
    }
    hn::Store(scale, tile, &grid.scale[lane]);
    hn::Store(zero, tile, &grid.zero[lane]);
  }
}

}  // namespace mcompress::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mcompress::kernel {

HWY_EXPORT(SearchBlockImpl);
HWY_EXPORT(RoundBlockImpl);
HWY_EXPORT(HalfQuadraticBlockImpl);

void search_block(const float* x, const float* h, std::size_t n, const BlockTrials& trials,
                  BlockGrid& grid) {
  HWY_DYNAMIC_DISPATCH(SearchBlockImpl)(x, h, n, trials, grid);
}
void round_block(const float* x, std::size_t n, const BlockGrid& grid, float top,
                 std::uint8_t* codes, BlockErrors& errors) {
  HWY_DYNAMIC_DISPATCH(RoundBlockImpl)(x, n, grid, top, codes, errors);
}
void half_quadratic_block(const float* x, std::size_t n, const BlockTrials& trials,
                          BlockGrid& grid) {
  HWY_DYNAMIC_DISPATCH(HalfQuadraticBlockImpl)(x, n, trials, grid);
}

}  // namespace mcompress::kernel
#endif  // HWY_ONCE
