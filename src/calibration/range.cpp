#include <algorithm>
#include <bit>
#include <cmath>

#include "calibration/observers.h"
#include "numeric/thresholds.h"

namespace mcompress {
namespace {

ValueRange range_of(double minimum, double maximum, bool symmetric) {
  ValueRange range{std::min(minimum, 0.0), std::max(maximum, 0.0)};
  if (symmetric) {
    range.maximum = std::max(-range.minimum, range.maximum);
    range.minimum = -range.maximum;
  }
  return range;
}

}  // namespace

ValueRange choose_range(const ValueStats& stats, RangeMethod method, double percentile, int levels,
                        bool symmetric) {
  const std::optional<Histogram> histogram = to_histogram(stats);
  if (!histogram || histogram->empty() || method == RangeMethod::kMinMax) {
    return range_of(stats.minimum, stats.maximum, symmetric);
  }
  if (method == RangeMethod::kMovingAverage) {
    return range_of(stats.average_minimum, stats.average_maximum, symmetric);
  }
  const RangeShape shape = symmetric ? RangeShape::kSymmetric : RangeShape::kAsymmetric;
  QuantType type;
  const int bits = static_cast<int>(std::bit_width(static_cast<unsigned>(std::max(levels, 2) - 1)));
  type.bits = static_cast<std::uint8_t>(std::clamp(bits, 2, 16));
  type.is_signed = symmetric;
  Range range;
  switch (method) {
    case RangeMethod::kMinMax:
    case RangeMethod::kMovingAverage:
      range = minmax_range(*histogram, shape);
      break;
    case RangeMethod::kPercentile:
      range = percentile_range(*histogram, std::clamp(1.0 - percentile / 100.0, 0.0, 0.5), shape);
      break;
    case RangeMethod::kEntropy:
      range = entropy_range(*histogram, type, shape);
      break;
    case RangeMethod::kMse:
      range = mse_range(*histogram, type, shape);
      break;
  }
  return {static_cast<double>(range.lo), static_cast<double>(range.hi)};
}

}  // namespace mcompress
