#include "calibration/observers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "ir/convert.h"
#include "numeric/kernels.h"

namespace mcompress {
namespace {

constexpr std::size_t kDecodeChunk = 8192;

std::span<const float> as_floats(const TensorView& view) {
  return {reinterpret_cast<const float*>(view.bytes.data()), view.bytes.size() / sizeof(float)};
}

}  // namespace

ValueStats to_value_stats(const Histogram& histogram) {
  const RangeStats seen = histogram.stats();
  ValueStats stats;
  stats.minimum = static_cast<double>(seen.min);
  stats.maximum = static_cast<double>(seen.max);
  stats.mean = seen.mean();
  stats.mean_square = seen.count == 0 ? 0.0 : seen.sum_sq / static_cast<double>(seen.count);
  stats.count = static_cast<std::int64_t>(seen.count);
  stats.nan_count = static_cast<std::int64_t>(seen.nan_count);
  stats.infinity_count = static_cast<std::int64_t>(seen.inf_count);
  stats.zero_count = static_cast<std::int64_t>(seen.zero_count);
  const std::span<const std::uint64_t> counts = histogram.counts();
  stats.bins.assign(counts.begin(), counts.end());
  stats.first_bin = histogram.first_bin();
  stats.exponent = histogram.exponent();
  stats.average_minimum = stats.minimum;
  stats.average_maximum = stats.maximum;
  return stats;
}

std::optional<Histogram> to_histogram(const ValueStats& stats) {
  HistogramState state;
  const auto is_float = [](double x) {
    return std::isfinite(x) && static_cast<double>(static_cast<float>(x)) == x;
  };
  if (!is_float(stats.minimum) || !is_float(stats.maximum)) return std::nullopt;
  for (const std::int64_t count :
       {stats.count, stats.nan_count, stats.infinity_count, stats.zero_count}) {
    if (count < 0) return std::nullopt;
  }
  if (!std::in_range<std::int32_t>(stats.first_bin)) return std::nullopt;
  state.exponent = stats.exponent;
  state.first_bin = static_cast<std::int32_t>(stats.first_bin);
  state.counts = stats.bins;
  state.stats.min = static_cast<float>(stats.minimum);
  state.stats.max = static_cast<float>(stats.maximum);
  state.stats.count = static_cast<std::uint64_t>(stats.count);
  state.stats.nan_count = static_cast<std::uint64_t>(stats.nan_count);
  state.stats.inf_count = static_cast<std::uint64_t>(stats.infinity_count);
  state.stats.zero_count = static_cast<std::uint64_t>(stats.zero_count);
  return Histogram::from_state(state);
}

void ChannelSums::see(std::int64_t run, std::span<const std::int64_t> dims,
                      std::span<const float> values, bool all_finite) {
  const std::size_t axis = axis_ == Axis::kSecond ? 1 : dims.size() - 1;
  if (dims.size() < 2 || values.empty()) {
    if (dims.size() < 2) broken_ = true;
    return skip(run);
  }
  const auto channels = static_cast<std::size_t>(dims[axis]);
  std::size_t inner = 1;
  for (std::size_t i = axis + 1; i < dims.size(); ++i) inner *= static_cast<std::size_t>(dims[i]);
  const std::size_t outer = values.size() / (channels * inner);
  Part part;
  part.sums.resize(channels);
  part.per_channel = static_cast<std::int64_t>(outer * inner);
  std::vector<float> cleaned;
  if (!all_finite) {  // what is not finite counts as 0; the histogram has counted it
    cleaned.assign(values.begin(), values.end());
    for (float& value : cleaned) {
      if (!std::isfinite(value)) value = 0;
    }
    values = cleaned;
  }
  if (inner == 1) {
    kernel::add_rows(values.data(), outer, channels, part.sums.data());
    return fold(run, std::move(part));
  }
  for (std::size_t o = 0; o < outer; ++o) {
    kernel::row_sums(values.data() + o * channels * inner, channels, inner, part.sums.data());
  }
  fold(run, std::move(part));
}

void ChannelSums::skip(std::int64_t run) { fold(run, {}); }

void ChannelSums::fold(std::int64_t run, Part part) {
  early_.emplace(run, std::move(part));
  for (auto it = early_.begin(); it != early_.end() && it->first == next_run_;
       it = early_.erase(it), ++next_run_) {
    const Part& next = it->second;
    if (next.sums.empty()) continue;
    if (total_.sums.empty()) total_.sums.resize(next.sums.size());
    if (total_.sums.size() != next.sums.size()) {
      broken_ = true;
      continue;
    }
    for (std::size_t c = 0; c < next.sums.size(); ++c) total_.sums[c] += next.sums[c];
    total_.per_channel += next.per_channel;
  }
}

std::vector<double> ChannelSums::means() const {
  if (broken_ || total_.per_channel == 0) return {};
  std::vector<double> means = total_.sums;
  for (double& mean : means) mean /= static_cast<double>(total_.per_channel);
  return means;
}

void MeanExtremes::add(const std::optional<Range>& sample) {
  if (!sample) return;
  minima_.add(std::span(&sample->lo, 1));
  maxima_.add(std::span(&sample->hi, 1));
}

void MeanExtremes::fill(ValueStats& stats) const {
  if (minima_.stats().count == 0) {
    stats.average_minimum = stats.minimum;
    stats.average_maximum = stats.maximum;
    return;
  }
  stats.average_minimum = std::clamp(minima_.stats().mean(), stats.minimum, stats.maximum);
  stats.average_maximum = std::clamp(maxima_.stats().mean(), stats.minimum, stats.maximum);
}

bool ValueObserver::see(std::int64_t run, const TensorView& view, std::int64_t samples) {
  const DTypeInfo* type = find_dtype(view.dtype);
  if (type == nullptr || !type->floating || !can_decode(view.dtype)) return false;
  std::vector<float> decoded;
  std::span<const float> values;
  if (view.dtype == DataType::kFloat) {
    values = as_floats(view);
  } else if (channels_) {
    const std::optional<std::int64_t> count = element_count(view.dims);
    decoded.resize(static_cast<std::size_t>(count.value_or(0)));
    if (!decode_to_float(view.dtype, view.bytes, decoded)) return false;
    values = decoded;
  } else {
    // Chunks: a decoded copy of a large activation would double its memory.
    const std::size_t width = std::max<std::size_t>(type->bits / 8, 1);
    decoded.resize(std::min(kDecodeChunk, view.bytes.size() / width));
    const std::lock_guard lock(guard_);
    for (std::span<const std::byte> rest = view.bytes; rest.size() >= width;) {
      const std::size_t n = std::min(decoded.size(), rest.size() / width);
      if (!decode_to_float(view.dtype, rest, std::span(decoded).first(n))) return false;
      // Of a tensor that is decoded in pieces, the piece counts as a sample.
      add({}, std::span(decoded).first(n), 1);
      rest = rest.subspan(n * width);
    }
    return true;
  }
  const std::lock_guard lock(guard_);
  const std::uint64_t before = histogram_.not_finite();
  add(view.dims, values, samples);
  if (channels_) channels_->see(run, view.dims, values, histogram_.not_finite() == before);
  return true;
}

void ValueObserver::add(std::span<const std::int64_t> dims, std::span<const float> values,
                        std::int64_t samples) {
  // Each call of the histogram has a price: samples below this share one.
  constexpr std::size_t kWorthACall = 16384;
  const bool divides = samples > 1 && !dims.empty() && dims[0] > 0 && dims[0] % samples == 0;
  const std::size_t size = values.size() / static_cast<std::size_t>(divides ? samples : 1);
  if (size == values.size() || size >= kWorthACall) {
    for (; size > 0 && !values.empty(); values = values.subspan(size)) {
      histogram_.add(values.first(size));
      extremes_.add(histogram_.take_recent());
    }
    return;
  }
  histogram_.add(values);
  histogram_.take_recent();
  std::array<float, kernel::kBlock> clean;
  for (; size > 0 && !values.empty(); values = values.subspan(size)) {
    StatsAccumulator one;
    for (std::size_t i = 0; i < size; i += kernel::kBlock) {
      one.add_block(values.subspan(i, std::min(kernel::kBlock, size - i)), clean,
                    StatsAccumulator::Sums::kNone);
    }
    extremes_.add(one.take_recent());
  }
}

void ValueObserver::skip(std::int64_t run) {
  const std::lock_guard lock(guard_);
  if (channels_) channels_->skip(run);
}

ValueStats ValueObserver::stats() const {
  ValueStats stats = to_value_stats(histogram_);
  extremes_.fill(stats);
  if (channels_) stats.channel_means = channels_->means();
  return stats;
}

}  // namespace mcompress
