// Statistics of activations: from tensors to the table.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mcompress/calibration.h"
#include "numeric/histogram.h"

namespace mcompress {

ValueStats to_value_stats(const Histogram& histogram);
// Empty when the statistics contradict each other. Sums are not restored: `stats()` of the result
// has neither mean nor energy.
std::optional<Histogram> to_histogram(const ValueStats& stats);

// Sums along all axes but one, added up in the order of runs, so that threads change no bit.
class ChannelSums {
 public:
  enum class Axis : std::uint8_t { kSecond, kLast };
  explicit ChannelSums(Axis axis) : axis_(axis) {}
  // `all_finite`: no value is NaN or infinite.
  void see(std::int64_t run, std::span<const std::int64_t> dims, std::span<const float> values,
           bool all_finite);
  // Says that a run gave nothing for this value.
  void skip(std::int64_t run);
  // Empty when there was nothing, or the size of the axis changed.
  std::vector<double> means() const;

 private:
  struct Part {
    std::vector<double> sums;
    std::int64_t per_channel = 0;
  };
  void fold(std::int64_t run, Part part);

  Axis axis_;
  std::int64_t next_run_ = 0;
  std::map<std::int64_t, Part> early_;  // from runs that overtook others
  Part total_;
  bool broken_ = false;
};

// The mean over samples of their extremes. The order in which they come changes no bit.
class MeanExtremes {
 public:
  void add(const std::optional<Range>& sample);  // empty: nothing finite
  void fill(ValueStats& stats) const;

 private:
  StatsAccumulator minima_, maxima_;
};

// Sees the tensors of one value. May be called from several threads.
class ValueObserver {
 public:
  explicit ValueObserver(std::optional<ChannelSums::Axis> channels) {
    if (channels) channels_.emplace(*channels);
  }
  // Any floating type; false, and nothing seen, for others. `samples`: how many the run holds.
  bool see(std::int64_t run, const TensorView& view, std::int64_t samples = 1);
  // Says that a run will not show this value.
  void skip(std::int64_t run);
  ValueStats stats() const;

 private:
  // Elements of one run, `samples` of them along the first axis.
  void add(std::span<const std::int64_t> dims, std::span<const float> values, std::int64_t samples);

  std::mutex guard_;
  Histogram histogram_;
  MeanExtremes extremes_;
  std::optional<ChannelSums> channels_;
};

}  // namespace mcompress
