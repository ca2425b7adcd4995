#include "support/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "numeric/row_kernels.cpp"
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>

#include <array>

#include "numeric/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mcompress::kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DD = hn::ScalableTag<double>;
using DH = hn::Rebind<float, DD>;  // as many floats as a vector holds doubles

// Eight elements of a lane are added in float, these sums in double. `readable` elements of x may
// be read.
HWY_INLINE HWY_ATTR double sum_of(const float* x, std::size_t n, std::size_t readable) {
  const DD dd;
  const DH dh;
  const std::size_t width = hn::Lanes(dd);
  constexpr std::size_t kTogether = 8 * kLanes;
  alignas(64) std::array<double, kLanes> lanes;
  const std::size_t whole = n / kLanes * kLanes, eights = n / kTogether * kTogether;
  const auto eight = [&](const float* from) HWY_ATTR {
    const auto at = [&](std::size_t k) HWY_ATTR { return hn::LoadU(dh, from + k * kLanes); };
    const auto left = hn::Add(hn::Add(at(0), at(1)), hn::Add(at(2), at(3)));
    const auto right = hn::Add(hn::Add(at(4), at(5)), hn::Add(at(6), at(7)));
    return hn::PromoteTo(dd, hn::Add(left, right));
  };
  const std::size_t rest = n - whole;
  const bool masked = readable >= whole + kLanes;  // else element by element
  const auto tail = [&](std::size_t from) HWY_ATTR {
    const auto mask = hn::FirstN(dh, rest > from ? rest - from : 0);
    return hn::PromoteTo(dd, hn::IfThenElseZero(mask, hn::LoadU(dh, x + whole + from)));
  };
  // Two vectors at a time, since each addition waits for the one before it.
  for (std::size_t g = 0; g < kLanes; g += 2 * width) {
    auto total = hn::Zero(dd), other = total;
    std::size_t i = g;
    for (; i < eights; i += kTogether) {
      total = hn::Add(total, eight(x + i));
      other = hn::Add(other, eight(x + i + width));
    }
    for (; i < whole; i += kLanes) {
      total = hn::Add(total, hn::PromoteTo(dd, hn::LoadU(dh, x + i)));
      other = hn::Add(other, hn::PromoteTo(dd, hn::LoadU(dh, x + i + width)));
    }
    if (rest > 0 && masked) {
      total = hn::Add(total, tail(g));
      other = hn::Add(other, tail(g + width));
    }
    if (2 * width == kLanes && (rest == 0 || masked)) {
      return hn::GetLane(hn::SumOfLanes(dd, hn::Add(total, other)));  // by halves
    }
    hn::StoreU(total, dd, &lanes[g]);
    hn::StoreU(other, dd, &lanes[g + width]);
  }
  for (std::size_t i = masked ? n : whole; i < n; ++i)
    lanes[i - whole] += static_cast<double>(x[i]);
  for (std::size_t half = kLanes / 2; half >= width; half /= 2) {
    for (std::size_t lane = 0; lane < half; lane += width) {
      hn::Store(hn::Add(hn::Load(dd, &lanes[lane]), hn::Load(dd, &lanes[lane + half])), dd,
                &lanes[lane]);
    }
  }
  return hn::GetLane(hn::SumOfLanes(dd, hn::Load(dd, lanes.data())));
}

HWY_ATTR void RowSumsImpl(const float* x, std::size_t rows, std::size_t columns, double* sums) {
  for (std::size_t r = 0; r < rows; ++r, x += columns) {
    sums[r] += sum_of(x, columns, (rows - r) * columns);
  }
}

HWY_ATTR void AddRowsImpl(const float* x, std::size_t rows, std::size_t columns, double* sums) {
  const DD dd;
  const DH dh;
  const std::size_t lanes = hn::Lanes(dd);
  for (std::size_t r = 0; r < rows; ++r, x += columns) {
    std::size_t c = 0;
    for (; c + lanes <= columns; c += lanes) {
      hn::StoreU(hn::Add(hn::LoadU(dd, sums + c), hn::PromoteTo(dd, hn::LoadU(dh, x + c))), dd,
                 sums + c);
    }
    for (; c < columns; ++c) sums[c] += static_cast<double>(x[c]);
  }
}

}  // namespace mcompress::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mcompress::kernel {

HWY_EXPORT(RowSumsImpl);
HWY_EXPORT(AddRowsImpl);

void row_sums(const float* x, std::size_t rows, std::size_t columns, double* sums) {
  HWY_DYNAMIC_DISPATCH(RowSumsImpl)(x, rows, columns, sums);
}
void add_rows(const float* x, std::size_t rows, std::size_t columns, double* sums) {
  HWY_DYNAMIC_DISPATCH(AddRowsImpl)(x, rows, columns, sums);
}

}  // namespace mcompress::kernel
#endif  // HWY_ONCE
