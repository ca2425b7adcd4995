#include "numeric/weight_quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "numeric/kernels.h"

namespace mcompress {
namespace {

constexpr int kMaxCode = 127;
// Fractions of absmax/127 that the search tries; 1 first, so that ties keep the full range. A
// depthwise channel is so short that a slightly wider grid can fit it better, too.
constexpr std::array<float, 5> kFractions = {1.0F, 0.96F, 0.92F, 0.88F, 0.82F};
constexpr std::array<float, 12> kDepthwiseFractions = {1.0F,  0.98F, 0.96F, 0.94F, 0.92F, 0.90F,
                                                       1.02F, 1.04F, 1.06F, 1.08F, 1.10F, 1.12F};
// The weight of the squared sum of a group's errors against the sum of their squares: nine taps
// seeing pixels with correlation near 1/2.
constexpr double kSumWeight = 4.5;

float finite(float value, float largest) {
  if (std::isnan(value)) return 0;
  return std::clamp(value, -largest, largest);
}

// Smallest and largest finite weight, with 0 among them.
struct Extent {
  float low = 0, high = 0;
  bool all_finite = true;
  float magnitude() const { return std::max(-low, high); }
};

Extent extent_of(std::span<const float> weights) {
  Extent extent;
  while (!weights.empty()) {
    const std::span<const float> block = weights.first(std::min(weights.size(), kernel::kBlock));
    weights = weights.subspan(block.size());
    const kernel::BlockRange range = kernel::block_range(block.data(), block.size());
    if (range.non_finite == 0) {
      extent.low = std::min(extent.low, range.min);
      extent.high = std::max(extent.high, range.max);
      continue;
    }
    extent.all_finite = false;
    for (const float weight : block) {
      if (!std::isfinite(weight)) continue;
      extent.low = std::min(extent.low, weight);
      extent.high = std::max(extent.high, weight);
    }
  }
  return extent;
}

// NaN becomes 0, infinities the largest finite magnitude.
std::vector<float> finite_copy(std::span<const float> weights, float largest) {
  std::vector<float> copy(weights.begin(), weights.end());
  for (float& weight : copy) weight = finite(weight, largest);
  return copy;
}

// Half to even for |x| < 2^22, in arithmetic that vectorises on every CPU.
float round_even(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

// One channel being rounded at trial scales. All weights are finite.
class Trial {
 public:
  Trial(std::span<const float> weights, const WeightRounding& how)
      : weights_(weights),
        taps_(static_cast<std::size_t>(std::max<std::int64_t>(how.taps, 1))),
        stride_(static_cast<std::size_t>(how.tap_stride)),
        max_code_(how.max_code),
        scaled_(weights.size()),
        codes_(weights.size()) {}

  std::span<const std::int8_t> codes() const { return codes_; }
  bool has_kernels() const { return taps_ > 1; }
  bool depthwise() const { return has_kernels() && taps_ == weights_.size(); }
  int worst_pair() const { return errors_.worst_pair; }
  // Sum of squared errors, plus kSumWeight times the squared sums of a depthwise kernel.
  double error(float scale) const {
    return (errors_.squares + (depthwise() ? kSumWeight * errors_.sum * errors_.sum : 0)) * scale *
           scale;
  }

  void round(float scale, bool cancel_sums) {
    kernel::round_codes(weights_.data(), weights_.size(), 1.0F / scale, scaled_.data(),
                        codes_.data());
    if (max_code_ < kMaxCode) {
      for (std::int8_t& code : codes_) {
        code = static_cast<std::int8_t>(std::clamp(int{code}, -max_code_, max_code_));
      }
    }
    if (cancel_sums && has_kernels()) {
      const std::size_t kernels = taps_ * stride_;
      for (std::size_t base = 0; base + kernels <= codes_.size(); base += kernels) {
        cancel_sums_from(base);
      }
    }
    errors_ = kernel::code_errors(scaled_.data(), codes_.data(), codes_.size());
  }

 private:
  // The `stride_` kernels that start at `base`, side by side.
  void cancel_sums_from(std::size_t base) {
    sums_.assign(stride_, 0);
    for (std::size_t t = 0; t < taps_; ++t) {
      const float* scaled = scaled_.data() + base + t * stride_;
      const std::int8_t* codes = codes_.data() + base + t * stride_;
      // Exact in float: both are multiples of the last bit of `scaled`.
      for (std::size_t k = 0; k < stride_; ++k) sums_[k] += scaled[k] - codes[k];
    }
    for (std::size_t k = 0; k < stride_; ++k) cancel_sum(base + k, double{sums_[k]});
  }

  // Moves the codes whose rounding error is largest until the errors of one kernel, whose sum is
  // `error`, sum to at most half a step.
  void cancel_sum(std::size_t first, double error) {
    if (!(std::fabs(error) > 0.5)) return;
    const int step = error > 0 ? 1 : -1;
    constexpr float kFixed = -std::numeric_limits<float>::infinity();
    // What each code lies behind in the direction of the step.
    behind_.resize(taps_);
    for (std::size_t t = 0; t < taps_; ++t) {
      const std::size_t i = first + t * stride_;
      const float rest = scaled_[i] - codes_[i];
      // Exact zeros stay: sparse kernels keep them.
      const bool fixed = scaled_[i] == 0 || std::abs(codes_[i] + step) > max_code_;
      behind_[t] = fixed ? kFixed : (step > 0 ? rest : -rest);
    }
    for (std::size_t move = 0; move < taps_ && std::fabs(error) > 0.5; ++move) {
      const auto best = std::max_element(behind_.begin(), behind_.end());
      if (*best == kFixed) return;
      std::int8_t& code =
          codes_[first + static_cast<std::size_t>(best - behind_.begin()) * stride_];
      code = static_cast<std::int8_t>(code + step);
      *best = std::abs(code + step) > max_code_ ? kFixed : *best - 1;
      error -= step;
    }
  }

  std::span<const float> weights_;
  std::size_t taps_, stride_;
  int max_code_;
  std::vector<float> scaled_;
  std::vector<std::int8_t> codes_;
  std::vector<float> sums_, behind_;
  kernel::CodeErrors errors_;
};

// Rounds at `scale` or as little above it as the pair limit asks for; returns the scale used.
float round_within_pairs(Trial& trial, float scale) {
  const float start = scale;
  for (const bool cancel : {true, false}) {
    if (cancel && !trial.has_kernels()) continue;
    scale = start;
    for (int attempt = 0; attempt < 24; ++attempt) {
      trial.round(scale, cancel);
      const int worst = trial.worst_pair();
      if (worst <= kPairLimit) return scale;
      scale *= 1.002F * static_cast<float>(worst) / static_cast<float>(kPairLimit);
    }
  }
  return scale;
}

// No pair of real weights may pass 127.5 steps, half a step short of the limit on the codes.
float least_pair_scale(std::span<const float> finite_weights) {
  const float pair = kernel::pair_peak(finite_weights.data(), finite_weights.size());
  return pair / (static_cast<float>(kPairLimit) - 0.5F);
}

}  // namespace

float least_shared_scale(std::span<const float> weights, const WeightRounding& how) {
  const Extent extent = extent_of(weights);
  float least = std::max(extent.magnitude() / static_cast<float>(how.max_code), how.least_scale);
  if (!how.saturation_free) return least;
  if (extent.all_finite) return std::max(least, least_pair_scale(weights));
  return std::max(least, least_pair_scale(finite_copy(weights, extent.magnitude())));
}

float round_channel(std::span<const float> weights, const WeightRounding& how,
                    std::span<std::int8_t> codes) {
  const Extent extent = extent_of(weights);
  const float full = extent.magnitude() / static_cast<float>(how.max_code);
  if (!(full >= std::numeric_limits<float>::min())) {  // zero or denormal
    std::fill(codes.begin(), codes.end(), std::int8_t{0});
    return how.fixed_scale > 0 ? how.fixed_scale : std::max(how.least_scale, 1.0F);
  }
  std::vector<float> cleaned;
  if (!extent.all_finite) {
    cleaned = finite_copy(weights, extent.magnitude());
    weights = cleaned;
  }

  Trial trial(weights, how);
  if (how.fixed_scale > 0) {
    trial.round(how.fixed_scale, true);
    if (how.saturation_free && trial.worst_pair() > kPairLimit) {
      trial.round(how.fixed_scale, false);
    }
    std::copy(trial.codes().begin(), trial.codes().end(), codes.begin());
    return how.fixed_scale;
  }
  float floor_scale = how.least_scale;
  if (how.saturation_free) {
    floor_scale = std::max(floor_scale, least_pair_scale(weights));
  }

  const std::span<const float> fractions = trial.depthwise()
                                               ? std::span<const float>(kDepthwiseFractions)
                                               : std::span<const float>(kFractions);
  float best_scale = 0;
  double best_error = std::numeric_limits<double>::infinity();
  for (const float fraction : fractions) {
    float scale = full * fraction;
    if (best_scale != 0 && scale < floor_scale) continue;  // would only repeat the first one
    scale = std::max(scale, floor_scale);
    if (how.saturation_free) {
      scale = round_within_pairs(trial, scale);
    } else {
      trial.round(scale, true);
    }
    const double error = trial.error(scale);
    if (error < best_error) {
      best_error = error;
      best_scale = scale;
      std::copy(trial.codes().begin(), trial.codes().end(), codes.begin());
    }
    if (!how.search_scale) break;
  }
  return best_scale;
}

WeightExtent weight_extent(std::span<const float> weights) {
  const Extent extent = extent_of(weights);
  return {extent.low, extent.high};
}

AffineChannel affine_channel(WeightExtent extent, int top_code) {
  AffineChannel channel;
  const auto scale = static_cast<float>((double{extent.high} - double{extent.low}) / top_code);
  if (!(scale >= std::numeric_limits<float>::min())) return channel;
  channel.scale = scale;
  channel.zero_point = static_cast<std::uint8_t>(
      std::clamp(static_cast<int>(round_even(-extent.low / scale)), 0, top_code));
  return channel;
}

void round_affine(std::span<const float> weights, const AffineChannel& channel, int top_code,
                  std::span<std::uint8_t> codes) {
  const Extent extent = extent_of(weights);
  std::vector<float> cleaned;
  if (!extent.all_finite) {
    cleaned = finite_copy(weights, extent.magnitude());
    weights = cleaned;
  }
  const int zero = channel.zero_point;
  kernel::quantize(
      weights.data(), weights.size(),
      {channel.scale, static_cast<float>(-zero), static_cast<float>(top_code - zero), zero},
      codes.data());
}

AffineChannel round_channel_affine(std::span<const float> weights, std::span<std::uint8_t> codes,
                                   int top_code) {
  const Extent extent = extent_of(weights);
  WeightExtent range{extent.low, extent.high};
  if (!extent.all_finite) {  // infinities become the largest magnitude of either sign
    for (const float weight : finite_copy(weights, extent.magnitude())) {
      range.low = std::min(range.low, weight);
      range.high = std::max(range.high, weight);
    }
  }
  const AffineChannel channel = affine_channel(range, top_code);
  round_affine(weights, channel, top_code, codes);
  return channel;
}

}  // namespace mcompress
