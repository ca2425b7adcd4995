#include "calibration/observers.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "ir/convert.h"
#include "numeric/kernels.h"

namespace mcompress {
namespace {

constexpr std::size_t kDecodeChunk = 8192;

// Values of a run up to which all of them are counted, and from which on one of so many: the tails
// of a range need some hundred thousand values, which some dozens of runs have then.
constexpr std::size_t kWorthCounting = 8192, kCountOneOf = 16;

Range wider(const std::optional<Range>& range, const Range& other) {
  if (!range) return other;
  return {std::min(range->lo, other.lo), std::max(range->hi, other.hi)};
}

// Elements of one of `samples` that lie one behind the other; all, when they can not be told apart.
std::size_t sample_size(std::span<const std::int64_t> dims, std::size_t values,
                        std::int64_t samples) {
  const bool divides = samples > 1 && !dims.empty() && dims[0] > 0 && dims[0] % samples == 0;
  return values / static_cast<std::size_t>(divides ? samples : 1);
}

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

std::optional<ChannelSums::Part> ChannelSums::part(std::span<const std::int64_t> dims,
                                                   std::size_t values) {
  const std::size_t axis = axis_ == Axis::kSecond ? 1 : dims.size() - 1;
  if (dims.size() < 2) broken_ = true;
  if (dims.size() < 2 || values == 0) return std::nullopt;
  Part part;
  part.sums.resize(static_cast<std::size_t>(dims[axis]));
  for (std::size_t i = axis + 1; i < dims.size(); ++i) {
    part.inner *= static_cast<std::size_t>(dims[i]);
  }
  part.per_channel = static_cast<std::int64_t>(values / part.sums.size());
  return part;
}

void ChannelSums::Part::add(std::span<const float> values) {
  const std::size_t channels = sums.size();
  if (inner == 1)
    return kernel::add_rows(values.data(), values.size() / channels, channels, sums.data());
  for (; !values.empty(); next = next == channels ? 0 : next) {
    const std::size_t rows = std::min(channels - next, values.size() / inner);
    kernel::row_sums(values.data(), rows, inner, sums.data() + next);
    values = values.subspan(rows * inner);
    next += rows;
  }
}

void ChannelSums::see(std::int64_t run, std::span<const std::int64_t> dims,
                      std::span<const float> values) {
  std::optional<Part> sums = part(dims, values.size());
  if (!sums) return skip(run);
  std::vector<float> cleaned(values.begin(), values.end());
  for (float& value : cleaned) {
    if (!std::isfinite(value)) value = 0;
  }
  sums->add(cleaned);
  fold(run, *std::move(sums));
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
  if (!add_finite(run, view.dims, values, samples)) {
    add(view.dims, values, samples);
    if (channels_) channels_->see(run, view.dims, values);
  }
  return true;
}

// Memory is read once: what follows the extremes of a stretch finds it in the cache.
bool ValueObserver::add_finite(std::int64_t run, std::span<const std::int64_t> dims,
                               std::span<const float> values, std::int64_t samples) {
  if (values.empty()) return false;
  std::optional<ChannelSums::Part> sums;
  if (channels_) sums = channels_->part(dims, values.size());
  const std::size_t row = sums ? sums->row() : 1;
  const std::size_t stretch = std::max<std::size_t>(kernel::kBlock / row, 1) * row;
  const std::size_t size = sample_size(dims, values.size(), samples);
  std::optional<Range> whole;
  std::vector<Range> extremes;
  for (std::size_t from = 0; from < values.size(); from += size) {
    std::optional<Range> sample;
    for (std::size_t i = from; i < from + size; i += stretch) {
      const std::size_t n = std::min(stretch, from + size - i);
      const kernel::SpanRange seen = kernel::span_range(values.data() + i, n);
      if (!seen.finite) return false;
      sample = wider(sample, {seen.min, seen.max});
      if (sums) sums->add(values.subspan(i, n));
    }
    extremes.push_back(*sample);
    whole = wider(whole, *sample);
  }
  for (const Range& sample : extremes) extremes_.add(sample);
  histogram_.add_sample(values, *whole, std::min(values.size() / kWorthCounting, kCountOneOf),
                        static_cast<std::uint64_t>(run));
  histogram_.take_recent();
  if (!channels_) return true;
  channels_->fold(run, sums ? *std::move(sums) : ChannelSums::Part{});
  return true;
}

void ValueObserver::add(std::span<const std::int64_t> dims, std::span<const float> values,
                        std::int64_t samples) {
  const std::size_t size = sample_size(dims, values.size(), samples);
  for (; size > 0 && !values.empty(); values = values.subspan(size)) {
    histogram_.add(values.first(size));
    extremes_.add(histogram_.take_recent());
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
