#include "numeric/histogram.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "numeric/kernels.h"

namespace mcompress {
namespace {

std::int32_t bin_at(float value, std::int32_t exponent) {
  const float scaled = value * std::ldexp(1.0f, -exponent);
  return static_cast<std::int32_t>(scaled) - (value < 0.0f ? 1 : 0);
}

// min <= 0 <= max. The number of bins falls as the exponent grows, so the first fit is the
// smallest.
std::int32_t exponent_for(float min, float max, std::int32_t from) {
  std::int32_t exponent = from;
  const float largest = std::max(-min, max);
  if (largest > 0.0f) {
    // Below this even one side alone has more than kBins bins (and would overflow an int).
    exponent = std::max(exponent, std::ilogb(largest) - 11);
  }
  while (bin_at(max, exponent) - bin_at(min, exponent) + 1 > Histogram::kBins) ++exponent;
  return exponent;
}

// Counts of some values. Only the bins from `first` to `last` are in use, and one behind the last
// possible bin, which the kernel needs.
struct LocalCounts {
  static constexpr std::size_t kCopies = kernel::kCountCopies;
  static constexpr std::size_t kSize = std::size_t{2} * Histogram::kBins;
  std::array<std::uint16_t, kCopies*(kSize + 1)> counts;
  std::size_t first = 0, last = 0;

  void clear(std::size_t from, std::size_t to) {
    first = from;
    last = to;
    std::fill_n(counts.data() + from * kCopies, (to - from + 1) * kCopies, std::uint16_t{0});
  }
  void add_to(std::vector<std::uint64_t>& totals) const {
    static_assert(kCopies == 4);
    constexpr std::uint64_t kEven = 0x0000FFFF0000FFFF;
    for (std::size_t i = first; i <= last; ++i) {
      std::uint64_t four;
      std::memcpy(&four, counts.data() + i * kCopies, sizeof(four));
      const std::uint64_t two = (four & kEven) + ((four >> 16) & kEven);
      totals[i] += (two & 0xFFFFFFFF) + (two >> 32);
    }
  }
};

}  // namespace

std::int32_t Histogram::bin_of(float value) const { return bin_at(value, exponent_); }

double Histogram::bin_width() const { return std::ldexp(1.0, exponent_); }

std::int32_t Histogram::first_bin() const { return counts_.empty() ? 0 : bin_of(min_); }

std::span<const std::uint64_t> Histogram::counts() const {
  if (counts_.empty()) return {};
  const std::int32_t first = bin_of(min_), last = bin_of(max_);
  return std::span(counts_).subspan(static_cast<std::size_t>(kZeroBin + first),
                                    static_cast<std::size_t>(last - first + 1));
}

void Histogram::grow() {
  if (counts_.empty()) counts_.resize(2 * kBins);
  const std::int32_t wanted = exponent_for(min_, max_, exponent_);
  const std::int32_t shift = std::min(wanted - exponent_, 12);  // 4096 bins: 12 leaves two
  if (shift == 0) return;
  // Every bin moves towards 0, so the bins nearest to 0 are rewritten first.
  for (std::int32_t bin = 0; bin < kBins; ++bin) {
    for (const std::int32_t side : {bin, -1 - bin}) {
      const std::uint64_t count =
          std::exchange(counts_[static_cast<std::size_t>(kZeroBin + side)], 0);
      counts_[static_cast<std::size_t>(kZeroBin + (side >> shift))] += count;
    }
  }
  exponent_ = wanted;
}

void Histogram::grow_to_stats() {
  const StatsAccumulator::State seen = stats_.state();
  min_ = std::min(seen.min, 0.0f);
  max_ = std::max(seen.max, 0.0f);
  grow();
}

bool Histogram::must_grow() const {
  const StatsAccumulator::State seen = stats_.state();
  return counts_.empty() || seen.min < min_ || seen.max > max_;
}

void Histogram::add(std::span<const float> values) {
  if (values.size() < kSmall) {
    add_few(values);
    return;
  }
  std::array<float, kernel::kBlock> clean;
  LocalCounts local;
  std::size_t pending = 0;
  bool ready = false;  // the local counts cover the bins of min_ to max_
  const auto count = [&](std::span<const float> some) {
    if (!ready) {
      local.clear(static_cast<std::size_t>(kZeroBin + bin_of(min_)),
                  static_cast<std::size_t>(kZeroBin + bin_of(max_)));
      ready = true;
    }
    const kernel::CountedRun run = kernel::count_run(
        some.data(), some.size(), {min_, max_, std::ldexp(1.0f, -exponent_), kBins},
        local.counts.data() + kZeroBin * LocalCounts::kCopies);
    counts_[kZeroBin] += run.zeros;
    pending += run.done;
    return run;
  };
  // Local counts belong to the exponent and the range they were made with.
  const auto flush = [&] {
    if (pending > 0) local.add_to(counts_);
    ready = false;
    pending = 0;
  };
  while (!values.empty()) {
    if (!counts_.empty()) {
      const std::size_t n = std::min(values.size(), kernel::kMostCounted);
      const kernel::CountedRun run = count(values.first(n));
      if (run.done > 0) stats_.add_seen({run.min, run.max}, run.done, run.zeros);
      values = values.subspan(run.done);
      flush();
      if (run.done == n) continue;
    }
    // The next values are the first ones at all, leave the known range or are not all finite.
    const std::size_t n = std::min(values.size(), kernel::kBlock);
    const StatsAccumulator::Block block =
        stats_.add_block(values.first(n), clean, StatsAccumulator::Sums::kNone);
    values = values.subspan(n);
    if (block.replaced == n) continue;
    if (must_grow()) grow_to_stats();
    count(block.values);
    counts_[kZeroBin] -= block.replaced;  // which are zeros here
    flush();
  }
}

void Histogram::add_few(std::span<const float> values) {
  std::array<float, kSmall> clean;
  const StatsAccumulator::Block block =
      stats_.add_block(values, clean, StatsAccumulator::Sums::kNone);
  if (block.replaced == values.size()) return;
  if (must_grow()) grow_to_stats();
  const float factor = std::ldexp(1.0f, -exponent_);
  for (const float value : block.values) {
    const std::int32_t bin = static_cast<std::int32_t>(value * factor) - (value < 0.0f ? 1 : 0);
    ++counts_[static_cast<std::size_t>(kZeroBin + bin)];
  }
  counts_[kZeroBin] -= block.replaced;
}

RangeStats Histogram::stats() const {
  RangeStats stats = stats_.stats();
  stats.sum = stats.sum_sq = 0.0;
  const std::span<const std::uint64_t> used = counts();
  const std::int32_t first = first_bin();
  const double width = bin_width();
  for (std::size_t i = 0; i < used.size(); ++i) {
    const std::int32_t bin = first + static_cast<std::int32_t>(i);
    const std::uint64_t zeros = bin == 0 ? stats.zero_count : 0;
    const double count = static_cast<double>(used[i] - zeros);
    const double middle = (bin + 0.5) * width;
    stats.sum += count * middle;
    stats.sum_sq += count * (middle * middle);
  }
  return stats;
}

void Histogram::merge(const Histogram& other) {
  stats_.merge(other.stats_);
  if (other.counts_.empty()) return;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
  grow();  // the exponent that the union asks for is at least that of either side
  const std::int32_t shift = std::min(exponent_ - other.exponent_, 12);
  for (std::int32_t bin = -kBins; bin < kBins; ++bin) {
    counts_[static_cast<std::size_t>(kZeroBin + (bin >> shift))] +=
        other.counts_[static_cast<std::size_t>(kZeroBin + bin)];
  }
}

HistogramState Histogram::state() const {
  const std::span<const std::uint64_t> used = counts();
  return {exponent_, first_bin(), {used.begin(), used.end()}, stats_.state()};
}

std::optional<Histogram> Histogram::from_state(const HistogramState& state) {
  std::optional<StatsAccumulator> stats = StatsAccumulator::from_state(state.stats);
  if (!stats) return std::nullopt;
  Histogram result;
  result.stats_ = *stats;
  if (state.stats.count == 0) {
    if (!state.counts.empty() || state.exponent != kLowestExponent || state.first_bin != 0) {
      return std::nullopt;
    }
    return result;
  }
  result.min_ = std::min(state.stats.min, 0.0f);
  result.max_ = std::max(state.stats.max, 0.0f);
  result.exponent_ = exponent_for(result.min_, result.max_, kLowestExponent);
  result.counts_.resize(2 * kBins);
  const std::int32_t first = result.bin_of(result.min_), last = result.bin_of(result.max_);
  if (state.exponent != result.exponent_ || state.first_bin != first ||
      state.counts.size() != static_cast<std::size_t>(last - first + 1)) {
    return std::nullopt;
  }
  std::uint64_t total = 0;
  for (const std::uint64_t count : state.counts) {
    if (count > state.stats.count - total) return std::nullopt;
    total += count;
  }
  if (total != state.stats.count) return std::nullopt;
  if (state.stats.zero_count > state.counts[static_cast<std::size_t>(-first)]) return std::nullopt;
  std::copy(state.counts.begin(), state.counts.end(), result.counts_.begin() + kZeroBin + first);
  return result;
}

}  // namespace mcompress
