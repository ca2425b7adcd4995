#include "numeric/thresholds.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "numeric/fixed_math.h"
#include "numeric/kernels.h"
#include "numeric/noise_kernels.h"

namespace mcompress {
namespace {

// The histogram as plain columns; for a symmetric range the negative side is folded onto the
// positive one, so that first is 0 or more.
struct Columns {
  std::int64_t first = 0;  // bin number of counts[0]; at most 0
  std::vector<std::uint64_t> counts;
  double width = 1.0;
  Range limits;  // contains 0
  std::uint64_t total = 0;

  double low_edge(std::int64_t bin) const { return static_cast<double>(bin) * width; }
};

enum class Zeros : std::uint8_t { kKeep, kDrop };

Columns columns_of(const Histogram& histogram, RangeShape shape, Zeros zeros) {
  Columns result;
  if (histogram.empty()) return result;
  const RangeStats stats = histogram.stats();
  result.width = histogram.bin_width();
  result.limits = minmax_range(histogram, shape);
  const std::span<const std::uint64_t> counts = histogram.counts();
  const std::int64_t first = histogram.first_bin();
  const auto zero_bin = static_cast<std::size_t>(-first);
  if (shape == RangeShape::kAsymmetric) {
    result.first = first;
    result.counts.assign(counts.begin(), counts.end());
    if (zeros == Zeros::kDrop) result.counts[zero_bin] -= stats.zero_count;
  } else {
    const std::size_t positive = counts.size() - zero_bin;
    result.counts.assign(std::max(zero_bin, positive), 0);
    for (std::size_t i = 0; i < positive; ++i) result.counts[i] += counts[zero_bin + i];
    for (std::size_t i = 0; i < zero_bin; ++i) result.counts[i] += counts[zero_bin - 1 - i];
    if (zeros == Zeros::kDrop) result.counts[0] -= stats.zero_count;
  }
  for (const std::uint64_t count : result.counts) result.total += count;
  return result;
}

// The value below which `mass` of the values lie, walking up from the lowest bin.
double quantile_from_below(const Columns& columns, double mass) {
  double seen = 0.0;
  for (std::size_t i = 0; i < columns.counts.size(); ++i) {
    const double count = static_cast<double>(columns.counts[i]);
    if (count > 0.0 && seen + count > mass) {
      return columns.low_edge(columns.first + static_cast<std::int64_t>(i)) +
             columns.width * ((mass - seen) / count);
    }
    seen += count;
  }
  return static_cast<double>(columns.limits.hi);
}

double quantile_from_above(const Columns& columns, double mass) {
  double seen = 0.0;
  for (std::size_t i = columns.counts.size(); i-- > 0;) {
    const double count = static_cast<double>(columns.counts[i]);
    if (count > 0.0 && seen + count > mass) {
      return columns.low_edge(columns.first + static_cast<std::int64_t>(i) + 1) -
             columns.width * ((mass - seen) / count);
    }
    seen += count;
  }
  return static_cast<double>(columns.limits.lo);
}

Range clamp_to(const Range& limits, double lo, double hi) {
  return {static_cast<float>(std::clamp(lo, static_cast<double>(limits.lo), 0.0)),
          static_cast<float>(std::clamp(hi, 0.0, static_cast<double>(limits.hi)))};
}

// The error falls slowly with the step size and rises fast once values are clipped.
constexpr double kHopeless = 4;

// The squared error that rounding to a grid makes, from the bins that hold anything.
class GridError {
 public:
  GridError(const Columns& columns, QuantType type, RangeShape shape) : type_(type), shape_(shape) {
    for (std::size_t i = 0; i < columns.counts.size(); ++i) {
      if (columns.counts[i] == 0) continue;
      middles_.push_back((static_cast<double>(columns.first + static_cast<std::int64_t>(i)) + 0.5) *
                         columns.width);
      counts_.push_back(static_cast<double>(columns.counts[i]));
    }
    constexpr std::size_t kMultiple = 8;
    const std::size_t padded = (counts_.size() + kMultiple - 1) / kMultiple * kMultiple;
    middles_.resize(padded);
    counts_.resize(padded);
  }

  double operator()(const Range& range) const {
    // A symmetric range is evaluated on |x|: the grid is the same on both sides.
    const bool symmetric = shape_ == RangeShape::kSymmetric;
    const QuantParams params = symmetric ? symmetric_params(range, type_, CodeSpan::kNarrow)
                                         : asymmetric_params(range, type_);
    const CodeRange codes = code_range(type_, symmetric ? CodeSpan::kNarrow : CodeSpan::kFull);
    return kernel::grid_error(middles_.data(), counts_.data(), counts_.size(),
                              static_cast<double>(params.scale), codes.lo - params.zero_point,
                              codes.hi - params.zero_point);
  }

 private:
  QuantType type_;
  RangeShape shape_;
  std::vector<double> middles_, counts_;
};

// TensorRT's divergence for the bins [begin, end) split into `levels` levels.
class Divergence {
 public:
  explicit Divergence(const Columns& columns) : columns_(columns) {
    cumulative_.assign(columns.counts.size() + 1, 0);
    filled_.assign(columns.counts.size() + 1, 0);
    own_.assign(columns.counts.size(), 0.0);
    const double total = static_cast<double>(columns.total);
    for (std::size_t i = 0; i < columns.counts.size(); ++i) {
      cumulative_[i + 1] = cumulative_[i] + columns.counts[i];
      filled_[i + 1] = filled_[i] + (columns.counts[i] > 0 ? 1 : 0);
      own_[i] = self_information(columns.counts[i], total);
    }
  }

  // Sum of p log2(p / q) over the bins where p > 0; infinite when there is no mass inside.
  double operator()(std::size_t begin, std::size_t end, std::size_t levels) {
    const std::vector<std::uint64_t>& counts = columns_.counts;
    const std::uint64_t below = cumulative_[begin];
    const std::uint64_t above = cumulative_.back() - cumulative_[end];
    const std::uint64_t inside = cumulative_[end] - cumulative_[begin];
    if (inside == 0) return std::numeric_limits<double>::infinity();
    const double total = static_cast<double>(cumulative_.back());
    std::uint64_t support = filled_[end] - filled_[begin];
    const std::size_t width = end - begin;
    // The end bins take the mass that was clipped.
    support += counts[begin] == 0 && below > 0 ? 1 : 0;
    support += counts[end - 1] == 0 && above > 0 ? 1 : 0;
    constexpr double kMix = 1.0 / 4096.0;
    const double uniform = kMix / static_cast<double>(support);
    const auto border = [&](std::size_t level) { return begin + level * width / levels; };
    // What stands for a bin of each level, and the logarithms of these.
    expected_.resize(levels);
    logarithms_.resize(levels);
    for (std::size_t level = 0; level < levels; ++level) {
      const std::size_t from = border(level), to = border(level + 1);
      const std::uint64_t non_empty = filled_[to] - filled_[from];
      const double share =
          non_empty == 0 ? 0.0
                         : (1.0 - kMix) * static_cast<double>(cumulative_[to] - cumulative_[from]) /
                               (static_cast<double>(inside) * static_cast<double>(non_empty));
      expected_[level] = share + uniform;
    }
    kernel::log2_each(expected_.data(), levels, logarithms_.data());
    double sum = 0.0;
    for (std::size_t level = 0; level < levels; ++level) {
      const std::size_t from = border(level), to = border(level + 1);
      std::uint64_t mass = cumulative_[to] - cumulative_[from];
      double information = 0.0;
      for (std::size_t i = from; i < to; ++i) information += own_[i];
      for (const auto& [bin, extra] : {std::pair{begin, below}, std::pair{end - 1, above}}) {
        if (bin < from || bin >= to || extra == 0) continue;
        if (counts[bin] > 0) {
          information += self_information(counts[bin] + extra, total) - own_[bin];
          mass += extra;
        } else {
          information += self_information(extra, total);
          sum -= static_cast<double>(extra) / total * fixed_log2(uniform);
        }
      }
      sum += information;
      if (mass > 0) sum -= static_cast<double>(mass) / total * logarithms_[level];
    }
    return sum;
  }

 private:
  static double self_information(std::uint64_t count, double total) {
    if (count == 0) return 0.0;
    const double p = static_cast<double>(count) / total;
    return p * fixed_log2(p);
  }

  const Columns& columns_;
  std::vector<std::uint64_t> cumulative_, filled_;  // values, and bins with any, below each bin
  std::vector<double> own_;                         // p log2 p of each bin
  std::vector<double> expected_, logarithms_;       // by level
};

// The candidate ends between `nearest` and `farthest` bins away, 128 of them at most, the farthest
// (no clipping) first so that ties keep the larger range.
std::vector<std::size_t> candidate_steps(std::size_t nearest, std::size_t farthest) {
  constexpr std::size_t kCandidates = 128;
  std::vector<std::size_t> steps;
  if (farthest < nearest) return {farthest};
  const std::size_t span = farthest - nearest;
  const std::size_t number = std::min(span, kCandidates - 1);
  for (std::size_t i = 0; i <= number; ++i) {
    steps.push_back(number == 0 ? farthest : farthest - span * i / number);
  }
  return steps;
}

}  // namespace

Range minmax_range(const Histogram& histogram, RangeShape shape) {
  const RangeStats stats = histogram.stats();
  const Range range{std::min(stats.min, 0.0f), std::max(stats.max, 0.0f)};
  if (shape == RangeShape::kAsymmetric) return range;
  const float largest = std::max(-range.lo, range.hi);
  return {-largest, largest};
}

Range percentile_range(const Histogram& histogram, double tail, RangeShape shape) {
  const Columns columns = columns_of(histogram, shape, Zeros::kKeep);
  if (columns.total == 0) return {};
  const double cut = std::clamp(tail, 0.0, 1.0) * static_cast<double>(columns.total);
  if (cut <= 0.0) return columns.limits;
  if (shape == RangeShape::kSymmetric) {
    const Range top = clamp_to(columns.limits, 0.0, quantile_from_above(columns, cut));
    return {-top.hi, top.hi};
  }
  return clamp_to(columns.limits, quantile_from_below(columns, cut / 2),
                  quantile_from_above(columns, cut / 2));
}

Range mse_range(const Histogram& histogram, QuantType type, RangeShape shape) {
  const Columns columns = columns_of(histogram, shape, Zeros::kDrop);
  const Range full = columns.limits;
  if (columns.total == 0 || type.bits > 8) return full;
  constexpr int kSteps = 100;
  const auto end_at = [](float end, int step) {
    return step == kSteps ? end : static_cast<float>(static_cast<double>(end) * step / kSteps);
  };
  int lo_step = kSteps, hi_step = kSteps;
  const auto range_at = [&](int lo, int hi) {
    return Range{end_at(full.lo, lo), end_at(full.hi, hi)};
  };
  const GridError error_of(columns, type, shape);
  double best = error_of(full);
  const auto improve = [&](bool move_lo, bool move_hi) {
    const int lo_before = lo_step, hi_before = hi_step;
    int found = 0;
    const auto attempt = [&](int step) {
      const int lo = move_lo ? step : lo_before, hi = move_hi ? step : hi_before;
      const double error = error_of(range_at(lo, hi));
      if (error < best) {
        best = error;
        lo_step = lo;
        hi_step = hi;
        found = step;
      }
      // Clipping deeper only adds to an error that clipping has made several times the best one.
      return error <= kHopeless * best;
    };
    // The error is smooth in the end of the range but for ripples below a coarse step.
    constexpr int kCoarse = 5;
    const int start = move_hi ? hi_before : lo_before;
    for (int step = kSteps; step >= kCoarse; step -= kCoarse) {
      if (!attempt(step)) break;
    }
    const int around = found != 0 ? found : start;
    for (int step = std::min(around + kCoarse - 1, kSteps);
         step >= std::max(around - kCoarse + 1, 1); --step) {
      if (step != around) attempt(step);
    }
    return found != 0;
  };
  if (shape == RangeShape::kSymmetric) {
    improve(true, true);
    return range_at(lo_step, hi_step);
  }
  for (int round = 0; round < 3; ++round) {
    const bool hi_changed = full.hi > 0.0f && improve(false, true);
    const bool lo_changed = full.lo < 0.0f && improve(true, false);
    if (!hi_changed && !lo_changed) break;
  }
  return range_at(lo_step, hi_step);
}

Range entropy_range(const Histogram& histogram, QuantType type, RangeShape shape) {
  const Columns columns = columns_of(histogram, shape, Zeros::kDrop);
  const Range full = columns.limits;
  if (columns.total == 0 || type.bits > 8) return full;
  const bool symmetric = shape == RangeShape::kSymmetric;
  const std::size_t levels = std::size_t{1} << (symmetric ? type.bits - 1 : type.bits);
  const std::size_t size = columns.counts.size();
  if (size <= levels) return full;
  Divergence divergence(columns);
  const auto zero = static_cast<std::size_t>(-columns.first);
  std::size_t begin = 0, end = size;
  double best = divergence(begin, end, levels);
  // Moves one end; the other stays, and at least `levels` bins remain.
  const auto move_end = [&] {
    const std::size_t fixed = begin;
    for (const std::size_t candidate : candidate_steps(std::max(fixed + levels, zero + 1), size)) {
      const double value = divergence(fixed, candidate, levels);
      if (value < best) {
        best = value;
        end = candidate;
      }
    }
  };
  const auto move_begin = [&] {
    if (zero == 0 || end < levels) return;
    const std::size_t fixed = end;
    const std::size_t last = std::min(fixed - levels, zero);
    for (const std::size_t candidate : candidate_steps(0, last)) {
      // Largest range first.
      const double value = divergence(last - candidate, fixed, levels);
      if (value < best) {
        best = value;
        begin = last - candidate;
      }
    }
  };
  move_end();
  move_begin();
  // Again where the other end has moved since: the same candidates would be no better.
  if (!symmetric && begin > 0) {
    const std::size_t end_before = end;
    move_end();
    if (end != end_before) move_begin();
  }
  const double lo = begin == 0 ? static_cast<double>(full.lo)
                               : columns.low_edge(columns.first + static_cast<std::int64_t>(begin));
  const double hi = end == size ? static_cast<double>(full.hi)
                                : columns.low_edge(columns.first + static_cast<std::int64_t>(end));
  if (symmetric) {
    const Range top = clamp_to(full, 0.0, hi);
    return {-top.hi, top.hi};
  }
  return clamp_to(full, lo, hi);
}

}  // namespace mcompress
