// One-pass histogram of float data whose range grows by doubling. Bin b >= 0 holds the values with
// b = trunc(|x| / 2^e), a negative x goes to bin -1 - trunc(|x| / 2^e), so 0 is a bin boundary and
// going from e to e + 1 is b >> 1 for every bin, without error. e is the smallest exponent for
// which the bins from that of min(x, 0) to that of max(x, 0) number at most 2048. Hence the
// histogram is a function of the multiset of values: chunk sizes, threads and the order of merges
// do not matter. NaN and infinities are counted and otherwise ignored. About 33 KiB.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "numeric/stats.h"

namespace mcompress {

// Everything a Histogram knows, for a file. counts[i] belongs to bin first_bin + i.
struct HistogramState {
  std::int32_t exponent = 0;  // log2 of the bin width
  std::int32_t first_bin = 0;
  std::vector<std::uint64_t> counts;  // empty when no finite value was seen
  StatsAccumulator::State stats;
  bool operator==(const HistogramState&) const = default;
};

class Histogram {
 public:
  static constexpr std::int32_t kBins = 2048;
  // Values below 2^-120 all fall into the two bins next to 0. 2^118 spans every finite float.
  static constexpr std::int32_t kLowestExponent = -120, kHighestExponent = 118;

  void add(std::span<const float> values);
  void merge(const Histogram& other);

  // Minimum, maximum and counts are exact; the sums take each value for the middle of its bin (and
  // a zero for zero), which is half a bin width away from it at most.
  RangeStats stats() const;
  // Elements that were left out: NaN and infinities.
  std::uint64_t not_finite() const { return stats_.not_finite(); }
  // The range of the finite values added since this was last asked for; empty when there were none.
  std::optional<Range> take_recent() { return stats_.take_recent(); }
  bool empty() const { return counts_.empty(); }
  // log2 of the bin width; kLowestExponent while empty.
  std::int32_t exponent() const { return exponent_; }
  double bin_width() const;
  // The used bins: from that of min(x, 0) to that of max(x, 0), both included, at most kBins.
  std::int32_t first_bin() const;
  std::span<const std::uint64_t> counts() const;

  HistogramState state() const;
  // Empty when the state is not one that `state` can give: wrong exponent, bins outside the range
  // of min and max, counts that do not add up, more zeros than bin 0 holds.
  static std::optional<Histogram> from_state(const HistogramState& state);

 private:
  void add_few(std::span<const float> values);
  bool must_grow() const;  // the statistics know of values outside min_ .. max_
  void grow_to_stats();
  void grow();  // to the exponent that min_ and max_ ask for
  std::int32_t bin_of(float value) const;

  static constexpr std::int32_t kZeroBin = kBins;  // index of bin 0 in counts_
  // Fewer values than this are counted one by one: setting up local counts would cost more.
  static constexpr std::size_t kSmall = 1024;
  StatsAccumulator stats_;
  float min_ = 0.0f, max_ = 0.0f;  // with 0 included
  std::int32_t exponent_ = kLowestExponent;
  std::vector<std::uint64_t> counts_;  // 2 * kBins, or empty
};

}  // namespace mcompress
