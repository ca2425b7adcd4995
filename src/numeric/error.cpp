#include "numeric/error.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>

namespace mcompress {

double ErrorStats::sqnr_db() const {
  if (noise <= 0.0) return std::numeric_limits<double>::infinity();
  if (signal <= 0.0) return -std::numeric_limits<double>::infinity();
  return 10.0 * std::log10(signal / noise);
}

double ErrorStats::cosine() const {
  if (signal <= 0.0 && approx_energy <= 0.0) return 1.0;
  if (signal <= 0.0 || approx_energy <= 0.0) return 0.0;
  // Sums of squares of floats lie between 2^-298 and 2^320: their product does not overflow.
  return std::clamp(product / std::sqrt(signal * approx_energy), -1.0, 1.0);
}

double ErrorStats::mean_error() const {
  return count == 0 ? 0.0 : error_sum / static_cast<double>(count);
}

double ErrorStats::mean_squared_error() const {
  return count == 0 ? 0.0 : noise / static_cast<double>(count);
}

void ErrorAccumulator::add_scalar(const float* x, const float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t lane = (position_ + i) % kernel::kLanes;
    const double a = x[i], b = y[i];
    const double d = b - a;
    lanes_.xx[lane] += a * a;
    lanes_.yy[lane] += b * b;
    lanes_.xy[lane] += a * b;
    lanes_.dd[lane] += d * d;
    lanes_.d[lane] += d;
    lanes_.max_abs[lane] = std::max(lanes_.max_abs[lane], std::fabs(d));
  }
  position_ += n;
}

void ErrorAccumulator::add(std::span<const float> reference, std::span<const float> approximation) {
  assert(reference.size() == approximation.size());
  constexpr std::size_t kChunk = 2048;
  std::array<float, kChunk> clean_x, clean_y;
  std::size_t done = 0;
  while (done < reference.size()) {
    const std::size_t n = std::min(reference.size() - done, kChunk);
    const float* x = reference.data() + done;
    const float* y = approximation.data() + done;
    done += n;
    if (!kernel::all_finite(x, n) || !kernel::all_finite(y, n)) {
      // Skipped pairs become 0, 0: no contribution, and the lanes of the others stay.
      for (std::size_t i = 0; i < n; ++i) {
        const bool usable = std::isfinite(x[i]) && std::isfinite(y[i]);
        clean_x[i] = usable ? x[i] : 0.0f;
        clean_y[i] = usable ? y[i] : 0.0f;
        if (usable) continue;
        const bool match = (std::isnan(x[i]) && std::isnan(y[i])) || x[i] == y[i];
        ++(match ? matching_ : differing_);
      }
      x = clean_x.data();
      y = clean_y.data();
    }
    const std::size_t offset = static_cast<std::size_t>(position_ % kernel::kLanes);
    const std::size_t head = offset == 0 ? 0 : std::min(n, kernel::kLanes - offset);
    add_scalar(x, y, head);
    const std::size_t whole = (n - head) / kernel::kLanes * kernel::kLanes;
    kernel::error_sums(x + head, y + head, whole, lanes_);
    position_ += whole;
    add_scalar(x + head + whole, y + head + whole, n - head - whole);
  }
}

void ErrorAccumulator::merge(const ErrorAccumulator& other) {
  for (std::size_t i = 0; i < kernel::kLanes; ++i) {
    lanes_.xx[i] += other.lanes_.xx[i];
    lanes_.yy[i] += other.lanes_.yy[i];
    lanes_.xy[i] += other.lanes_.xy[i];
    lanes_.dd[i] += other.lanes_.dd[i];
    lanes_.d[i] += other.lanes_.d[i];
    lanes_.max_abs[i] = std::max(lanes_.max_abs[i], other.lanes_.max_abs[i]);
  }
  position_ += other.position_;
  matching_ += other.matching_;
  differing_ += other.differing_;
}

ErrorStats ErrorAccumulator::stats() const {
  ErrorStats result;
  result.matching_non_finite = matching_;
  result.differing_non_finite = differing_;
  result.count = position_ - matching_ - differing_;
  for (std::size_t i = 0; i < kernel::kLanes; ++i) {
    result.signal += lanes_.xx[i];
    result.approx_energy += lanes_.yy[i];
    result.product += lanes_.xy[i];
    result.noise += lanes_.dd[i];
    result.error_sum += lanes_.d[i];
    result.max_abs_error = std::max(result.max_abs_error, lanes_.max_abs[i]);
  }
  return result;
}

}  // namespace mcompress
