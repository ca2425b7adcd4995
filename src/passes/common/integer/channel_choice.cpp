#include "passes/common/integer/channel_choice.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>

#include "numeric/noise_kernels.h"
#include "numeric/patches.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::int64_t kRows = 512;  // seen of a value, over all samples

// Collects the statistics of one value.
class ChannelWatch {
 public:
  explicit ChannelWatch(std::size_t from_end) : from_end_(from_end) {}

  // `rows` 0: ranges only; else rows only.
  void see(const TensorView& view, std::int64_t rows, std::int64_t turn) {
    if (view.dtype != DataType::kFloat || view.dims.size() <= from_end_) {
      broken_ = true;
      return;
    }
    const std::size_t axis = view.dims.size() - 1 - from_end_;
    const auto channels = static_cast<std::size_t>(view.dims[axis]);
    std::size_t inner = 1;
    for (std::size_t i = axis + 1; i < view.dims.size(); ++i) {
      inner *= static_cast<std::size_t>(view.dims[i]);
    }
    const std::span<const float> values(reinterpret_cast<const float*>(view.bytes.data()),
                                        view.bytes.size() / sizeof(float));
    if (values.empty()) return;
    if (stats_.minimum.empty()) {
      stats_.minimum.assign(channels, 0);
      stats_.maximum.assign(channels, 0);
      stats_.mean_square.assign(channels, 0);
    }
    if (stats_.minimum.size() != channels) {
      broken_ = true;
      return;
    }
    const std::size_t outer = values.size() / (channels * inner);
    if (rows == 0) {
      for (std::size_t o = 0; o < outer; ++o) {
        for (std::size_t c = 0; c < channels; ++c) {
          see_run(values.subspan((o * channels + c) * inner, inner), c);
        }
      }
      seen_ += static_cast<double>(outer * inner);
      return;
    }
    for (const std::int64_t at :
         spread_positions(static_cast<std::int64_t>(outer * inner), rows, turn)) {
      const auto position = static_cast<std::size_t>(at);
      const std::size_t first = position / inner * channels * inner + position % inner;
      for (std::size_t c = 0; c < channels; ++c) stats_.rows.push_back(values[first + c * inner]);
    }
  }

  bool sound() const { return !broken_ && seen_ > 0; }
  ChannelStats take() {
    for (double& square : stats_.mean_square) square /= seen_;
    return std::move(stats_);
  }

 private:
  void see_run(std::span<const float> run, std::size_t channel) {
    float low = 0;
    float high = 0;
    double square = 0;
    for (const float value : run) {
      low = std::min(low, value);
      high = std::max(high, value);
      square += double{value} * double{value};
    }
    if (!std::isfinite(square)) broken_ = true;
    stats_.minimum[channel] = std::min(stats_.minimum[channel], double{low});
    stats_.maximum[channel] = std::max(stats_.maximum[channel], double{high});
    stats_.mean_square[channel] += square;
  }

  std::size_t from_end_;
  ChannelStats stats_;
  double seen_ = 0;
  bool broken_ = false;
};

// Runs that go on at the same time see each value in the order of their samples.
class Turns {
 public:
  Turns(std::size_t values, std::size_t samples) : next_(values, 0), ended_(samples, false) {}

  // Returns when every earlier sample has passed the value or has ended.
  void await(std::size_t value, std::size_t sample) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      std::size_t& next = next_[value];
      while (next < sample && ended_[next]) ++next;
      return next >= sample;
    });
  }
  void pass(std::size_t value, std::size_t sample) {
    const std::lock_guard lock(mutex_);
    next_[value] = std::max(next_[value], sample + 1);
    changed_.notify_all();
  }
  void end(std::size_t sample) {
    const std::lock_guard lock(mutex_);
    ended_[sample] = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::size_t> next_;  // by value, the sample whose turn it is
  std::vector<bool> ended_;
};

// Shows the values of some samples to their watches, on some threads.
class ChannelRuns {
 public:
  ChannelRuns(Session& session, DataSource& data, std::vector<ChannelWatch>& watches,
              std::int64_t count)
      : session_(session),
        data_(data),
        watches_(watches),
        count_(count),
        turns_(watches.size(), static_cast<std::size_t>(count)) {}

  // The failure of the earliest sample counts.
  Status run(const Executor& executor, int threads) {
    executor.parallel_for(static_cast<std::size_t>(threads), 1, [this](std::size_t, std::size_t) {
      for (std::int64_t s = next_++; s < count_ && !failed_; s = next_++) {
        Status status = observe(s);
        if (status.ok()) continue;
        const std::lock_guard lock(mutex_);
        failed_ = true;
        if (s >= failed_sample_) continue;
        failed_sample_ = s;
        failure_ = std::move(status).error();
      }
    });
    if (failed_) return std::move(*failure_);
    return ok_status();
  }

 private:
  // Others wait for the end of it, however it ends.
  struct Ending {
    Turns& turns;
    std::size_t sample;
    ~Ending() { turns.end(sample); }
  };

  Status observe(std::int64_t s) {
    const auto sample = static_cast<std::size_t>(s);
    const Ending ending{turns_, sample};
    std::vector<NamedTensor> feeds;
    {
      const std::lock_guard lock(mutex_);
      MCOMPRESS_ASSIGN(feeds, data_.sample(s * data_.count() / count_));
    }
    return session_.observe(feeds, [&](std::size_t slot, const TensorView& view) {
      turns_.await(slot, sample);
      const bool both = count_ == 1;
      const std::int64_t holders = std::max<std::int64_t>(count_ / 2, 1);
      if (both || s % 2 == 0) watches_[slot].see(view, 0, s);
      if (both || s % 2 == 1) watches_[slot].see(view, (kRows + holders - 1) / holders, s);
      turns_.pass(slot, sample);
      return ok_status();
    });
  }

  Session& session_;
  DataSource& data_;
  std::vector<ChannelWatch>& watches_;
  std::int64_t count_;
  Turns turns_;
  std::atomic<std::int64_t> next_ = 0;  // taken in order: what waits, waits for what is running
  std::mutex mutex_;
  std::atomic<bool> failed_ = false;
  std::int64_t failed_sample_ = std::numeric_limits<std::int64_t>::max();
  std::optional<Error> failure_;
};

// f(output, input channel, |W|) over the elements of a weight.
template <class F>
Status each_weight(const LinearOp& op, const WeightLayout& layout, F&& f) {
  const auto tensor = constant_of(op.node->input(layout.slot));
  if (!tensor) return Error(Code::kInternal, "weight", "a weight is no constant");
  MCOMPRESS_ASSIGN(const std::vector<float> values, read_floats(*tensor));
  const auto dims = tensor->dims();
  std::size_t outer = 1;
  std::size_t inner = 1;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i < layout.axis) outer *= static_cast<std::size_t>(dims[i]);
    if (i > layout.axis) inner *= static_cast<std::size_t>(dims[i]);
  }
  const auto channels = static_cast<std::size_t>(layout.channels);
  const std::size_t rows = outer / static_cast<std::size_t>(layout.groups);
  std::size_t at = 0;
  for (std::size_t o = 0; o < outer; ++o) {
    const std::size_t group = o / rows;
    for (std::size_t c = 0; c < channels; ++c) {
      for (std::size_t i = 0; i < inner; ++i, ++at) f(o, i, group * channels + c, values[at]);
    }
  }
  return ok_status();
}

// Judges factors for one group of values.
class Judge {
 public:
  explicit Judge(const ChoiceInput& input)
      : input_(input), channels_(static_cast<std::size_t>(input.channels)) {
    energy_.assign(channels_, 0);
    for (const ColumnReader& reader : input.readers) {
      for (std::size_t c = 0; c < channels_; ++c) energy_[c] += reader.energy[c];
    }
    for (const ChannelStats* stats : input.quantized) tiles_.push_back(in_tiles(stats->rows));
  }

  double noise(std::span<const double> scales) const {
    double total = 0;
    for (std::size_t i = 0; i < tiles_.size(); ++i) {
      total += activation_noise(*input_.quantized[i], tiles_[i], scales);
    }
    const double values = static_cast<double>(input_.quantized.size());
    for (const ColumnReader& reader : input_.readers) {
      total += values * weight_noise(reader, scales);
    }
    return total;
  }

 private:
  static std::size_t tiles_of(std::size_t rows) {
    return (rows + kernel::kRowTile - 1) / kernel::kRowTile;
  }

  std::vector<float> in_tiles(const std::vector<float>& rows) const {
    const std::size_t count = rows.size() / channels_;
    std::vector<float> tiles(tiles_of(count) * kernel::kRowTile * channels_);
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t first = r / kernel::kRowTile * channels_ * kernel::kRowTile;
      for (std::size_t c = 0; c < channels_; ++c) {
        tiles[first + c * kernel::kRowTile + r % kernel::kRowTile] = rows[r * channels_ + c];
      }
    }
    return tiles;
  }

  double activation_noise(const ChannelStats& stats, const std::vector<float>& tiles,
                          std::span<const double> scales) const {
    double low = 0;
    double high = 0;
    for (std::size_t c = 0; c < channels_; ++c) {
      low = std::min(low, stats.minimum[c] / scales[c]);
      high = std::max(high, stats.maximum[c] / scales[c]);
    }
    const std::size_t rows = stats.rows.size() / channels_;
    if (!(high > low) || rows == 0) return 0;
    std::vector<float> factors(channels_);
    std::vector<float> weights(channels_);
    for (std::size_t c = 0; c < channels_; ++c) {
      factors[c] = static_cast<float>(1 / scales[c]);
      weights[c] = static_cast<float>(scales[c] * scales[c] * energy_[c]);
    }
    const std::size_t number = tiles_of(rows);
    std::vector<float> errors(number * kernel::kRowTile);
    double best = std::numeric_limits<double>::infinity();
    for (const double share : {1.0, 0.8, 0.6, 0.45, 0.33}) {
      kernel::RowRounding rounding;
      rounding.factors = factors.data();
      rounding.weights = weights.data();
      rounding.step = static_cast<float>((high - low) * share / 255);
      rounding.lowest = std::nearbyint(static_cast<float>(low * share) / rounding.step);
      rounding.highest = rounding.lowest + 255.0F;
      kernel::rounded_row_errors(tiles.data(), number, channels_, rounding, errors.data());
      double sum = 0;
      for (std::size_t r = 0; r < rows; ++r) sum += double{errors[r]};
      best = std::min(best, sum / static_cast<double>(rows));
    }
    return best;
  }

  double weight_noise(const ColumnReader& reader, std::span<const double> scales) const {
    const auto outputs = static_cast<std::size_t>(reader.outputs);
    const auto groups = static_cast<std::size_t>(reader.groups);
    const std::size_t inputs = channels_ / groups;
    if (inputs == 1) return 0;  // a scale of its own for each channel: nothing changes
    // Mean square of x / s, of the values that are read, by group.
    std::vector<double> energy(groups, 0);
    for (const ChannelStats* stats : input_.quantized) {
      for (std::size_t c = 0; c < channels_; ++c) {
        energy[c / inputs] += stats->mean_square[c] / (scales[c] * scales[c]) /
                              static_cast<double>(input_.quantized.size());
      }
    }
    double total = 0;
    for (std::size_t o = 0; o < outputs; ++o) {
      const std::size_t group = o / (outputs / groups);
      const double peak = kernel::largest_product(reader.peaks.data() + o * inputs,
                                                  scales.data() + group * inputs, inputs);
      const double step = peak / input_.weight_steps;
      total += step * step / 12 * static_cast<double>(reader.taps) * energy[group];
    }
    return total;
  }

  const ChoiceInput& input_;
  std::size_t channels_;
  std::vector<double> energy_;
  std::vector<std::vector<float>> tiles_;  // the rows of each quantized value, as the kernel wants
};

struct Exponents {
  double activations, weights;
};
constexpr std::array<Exponents, 11> kExponents = {{{0.25, 0},
                                                   {0.5, 0},
                                                   {0.75, 0},
                                                   {1, 0},
                                                   {0.25, 0.75},
                                                   {0.4, 0.6},
                                                   {0.5, 0.5},
                                                   {0.6, 0.4},
                                                   {0.7, 0.3},
                                                   {0.8, 0.2},
                                                   {0.9, 0.1}}};

// Numbers of one kind, none of them so small that a factor explodes.
void keep_within_reach(std::vector<double>& numbers) {
  constexpr double kReach = 1e-3;
  const double largest = *std::ranges::max_element(numbers);
  for (double& x : numbers) x = std::max(x, largest > 0 ? largest * kReach : 1.0);
}

}  // namespace

Result<ChannelStatsMap> observe_channels(
    const Model& model, PassContext& context,
    const std::vector<std::pair<std::string, std::size_t>>& values, std::int64_t samples) {
  ChannelStatsMap map;
  if (values.empty()) return map;
  MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
  DataSource& data = *context.calibration_data();
  SessionOptions options;
  options.count_memory = context.memory_budget() > 0;  // nothing stays in store between runs
  std::vector<ChannelWatch> watches;
  for (const auto& [name, from_end] : values) {
    options.observed.push_back(name);
    watches.emplace_back(from_end);
  }
  MCOMPRESS_ASSIGN(const auto session, runtime->open(model, options));
  constexpr int kMostRuns = 4;  // at once: each holds what the model needs
  const int threads =
      options.count_memory ? 1 : std::clamp(context.executor().threads(), 1, kMostRuns);
  MCOMPRESS_TRY(ChannelRuns(*session, data, watches, std::min(samples, data.count()))
                    .run(context.executor(), threads));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (watches[i].sound()) map.emplace(values[i].first, watches[i].take());
  }
  return map;
}

Result<ColumnReader> column_reader(const LinearOp& op) {
  const WeightLayout& layout = *op.in_layout;
  const std::optional<Tensor> weight = constant_of(op.node->input(layout.slot));
  const auto dims = weight->dims();
  ColumnReader reader;
  const bool conv = op.is("Conv");
  reader.groups = layout.groups;
  reader.outputs = op.out.channels;
  if (conv) {
    for (std::size_t i = 2; i < dims.size(); ++i) reader.taps *= dims[i];
  }
  const auto inputs = static_cast<std::size_t>(layout.channels);
  reader.peaks.assign(static_cast<std::size_t>(reader.outputs) * inputs, 0.0F);
  reader.energy.assign(inputs * static_cast<std::size_t>(layout.groups), 0.0);
  // Of [outputs, inputs, taps] or its transpose.
  const bool by_inner = !conv && layout.axis == 0;
  MCOMPRESS_TRY(each_weight(
      op, layout, [&](std::size_t outer, std::size_t inner, std::size_t channel, float value) {
        float& peak = reader.peaks[(by_inner ? inner : outer) * inputs + channel % inputs];
        peak = std::max(peak, std::fabs(value));
        reader.energy[channel] += double{value} * double{value};
      }));
  return reader;
}

Result<std::vector<double>> output_peaks(const LinearOp& op) {
  std::vector<double> peaks(static_cast<std::size_t>(op.out.channels), 0.0);
  MCOMPRESS_TRY(
      each_weight(op, op.layout, [&](std::size_t, std::size_t, std::size_t channel, float weight) {
        peaks[channel] = std::max(peaks[channel], std::fabs(double{weight}));
      }));
  return peaks;
}

ScaleChoice choose_scales(const ChoiceInput& input, const Executor& executor) {
  const auto channels = static_cast<std::size_t>(input.channels);
  std::vector<double> largest(channels, 0);
  std::vector<double> square(channels, 0);
  for (const ChannelStats* stats : input.quantized) {
    for (std::size_t c = 0; c < channels; ++c) {
      largest[c] = std::max({largest[c], -stats->minimum[c], stats->maximum[c]});
      square[c] = std::max(square[c], std::sqrt(stats->mean_square[c]));
    }
  }
  std::vector<double> column(channels, 0);
  for (const ColumnReader& reader : input.readers) {
    const std::size_t inputs = channels / static_cast<std::size_t>(reader.groups);
    const std::size_t in_group =
        static_cast<std::size_t>(reader.outputs) / static_cast<std::size_t>(reader.groups);
    for (std::size_t i = 0; i < reader.peaks.size(); ++i) {
      double& peak = column[i / inputs / in_group * inputs + i % inputs];
      peak = std::max(peak, double{reader.peaks[i]});
    }
  }
  ScaleChoice choice;
  if (channels == 0 || input.quantized.empty()) return choice;
  const std::vector<double> reached = largest;
  for (std::vector<double>* numbers : {&largest, &square, &column}) keep_within_reach(*numbers);

  const bool limited = !input.limits.empty();
  const double top = *std::ranges::max_element(largest);
  struct Candidate {
    std::vector<double> scales;
    std::string rule;
    double noise = 0;
  };
  std::vector<Candidate> candidates;
  candidates.push_back({std::vector<double>(channels, 1.0), {}});
  const auto consider = [&](std::vector<double> scales, std::string rule) {
    // Where some factors are fixed the others are taken relative to the largest value.
    double middle = 0;
    for (const double s : scales) middle += std::log(s);
    middle = limited ? 1 : std::exp(middle / static_cast<double>(channels));
    for (std::size_t c = 0; c < channels; ++c) {
      scales[c] /= middle;
      if (reached[c] <= 0) scales[c] = 1;  // never used
      if (limited) scales[c] = std::min(std::max(scales[c], input.limits[c]), 1.0);
      if (!input.fixed.empty() && input.fixed[c]) scales[c] = 1;
    }
    candidates.push_back({std::move(scales), std::move(rule)});
  };
  for (const bool peaks : {true, false}) {
    const std::vector<double>& activations = peaks ? largest : square;
    const double unit = limited && peaks ? top : *std::ranges::max_element(activations);
    const double heaviest = *std::ranges::max_element(column);
    for (const Exponents& e : kExponents) {
      if (limited && e.weights > 0) continue;
      std::vector<double> scales(channels);
      for (std::size_t c = 0; c < channels; ++c) {
        scales[c] = std::pow(activations[c] / unit, e.activations) /
                    std::pow(column[c] / heaviest, e.weights);
      }
      std::string rule = (peaks ? "largest^" : "rms^") + fixed(e.activations, 2);
      if (e.weights > 0) rule += " / weights^" + fixed(e.weights, 2);
      consider(std::move(scales), std::move(rule));
    }
  }
  if (!input.maker_peaks.empty() && !limited) {
    std::vector<double> made = input.maker_peaks;
    keep_within_reach(made);
    std::vector<double> scales(channels);
    for (std::size_t c = 0; c < channels; ++c) scales[c] = std::sqrt(made[c] / column[c]);
    consider(std::move(scales), "cross-layer weights");
  }
  const Judge judge(input);
  executor.parallel_for(candidates.size(), 1, [&](std::size_t i, std::size_t) {
    candidates[i].noise = judge.noise(candidates[i].scales);
  });
  const double before = candidates.front().noise;
  double best = before;
  for (Candidate& candidate : candidates) {
    if (!(candidate.noise < best)) continue;
    best = candidate.noise;
    choice.scales = std::move(candidate.scales);
    choice.rule = std::move(candidate.rule);
  }
  if (!choice.scales.empty() && best > 0) choice.gain_db = 10 * std::log10(before / best);
  return choice;
}

}  // namespace mcompress
