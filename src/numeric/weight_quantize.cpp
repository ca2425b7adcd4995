#include "numeric/weight_quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

namespace mcompress {
namespace {

constexpr int kMaxCode = 127;
constexpr int kPairLimit = 128;  // 128 * 255 = 32640 < 2^15
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

float largest_magnitude(std::span<const float> weights) {
  float largest = 0;
  for (const float weight : weights) {
    if (std::isfinite(weight)) largest = std::max(largest, std::fabs(weight));
  }
  return largest;
}

// Half to even for |x| < 2^22, in arithmetic that vectorises on every CPU.
float round_even(float x) {
  constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

// Moves the codes whose rounding error is largest until the errors of one kernel sum to at most
// half a step. `first`, `taps` and `stride` select the kernel.
void cancel_sum(std::span<const float> scaled, std::span<std::int8_t> codes, std::size_t first,
                std::size_t taps, std::size_t stride) {
  double error = 0;
  for (std::size_t t = 0; t < taps; ++t) {
    error += double{scaled[first + t * stride]} - codes[first + t * stride];
  }
  for (std::size_t guard = 0; guard < taps && std::fabs(error) > 0.5; ++guard) {
    const int step = error > 0 ? 1 : -1;
    std::size_t best = codes.size();
    double best_error = 0;
    for (std::size_t t = 0; t < taps; ++t) {
      const std::size_t i = first + t * stride;
      // Exact zeros stay: sparse kernels keep them.
      if (scaled[i] == 0 || std::abs(codes[i] + step) > kMaxCode) continue;
      const double here = (double{scaled[i]} - codes[i]) * step;
      if (best == codes.size() || here > best_error) {
        best = i;
        best_error = here;
      }
    }
    if (best == codes.size()) return;
    codes[best] = static_cast<std::int8_t>(codes[best] + step);
    error -= step;
  }
}

int worst_pair(std::span<const std::int8_t> codes) {
  int worst = 0;
  for (std::size_t i = 0; i + 1 < codes.size(); i += 2) {
    const int a = codes[i];
    const int b = codes[i + 1];
    worst = std::max(worst, std::max(a, 0) + std::max(b, 0));
    worst = std::max(worst, -(std::min(a, 0) + std::min(b, 0)));
  }
  return worst;
}

// One channel being rounded at trial scales.
class Trial {
 public:
  Trial(std::span<const float> weights, float largest, const WeightRounding& how)
      : how_(how),
        clean_(weights.begin(), weights.end()),
        scaled_(weights.size()),
        codes_(weights.size()) {
    for (float& weight : clean_) weight = finite(weight, largest);
  }

  std::span<const float> weights() const { return clean_; }
  std::span<const std::int8_t> codes() const { return codes_; }

  void round(float scale, bool cancel_sums) {
    const float inverse = 1.0F / scale;
    constexpr float kLimit = kMaxCode;
    for (std::size_t i = 0; i < clean_.size(); ++i) {
      const float value = clean_[i] * inverse;
      scaled_[i] = value;
      codes_[i] = static_cast<std::int8_t>(
          static_cast<int>(round_even(std::min(std::max(value, -kLimit), kLimit))));
    }
    if (!cancel_sums || how_.taps < 2) return;
    const auto taps = static_cast<std::size_t>(how_.taps);
    const auto stride = static_cast<std::size_t>(how_.tap_stride);
    for (std::size_t base = 0; base + taps * stride <= codes_.size(); base += taps * stride) {
      for (std::size_t k = 0; k < stride; ++k) {
        cancel_sum(scaled_, codes_, base + k, taps, stride);
      }
    }
  }

  // Sum of squared errors, plus kSumWeight times the squared sums of a depthwise kernel.
  double error(float scale) const {
    double squares = 0;
    double sum = 0;
    for (std::size_t i = 0; i < codes_.size(); ++i) {
      const double error = double{scaled_[i]} - codes_[i];
      squares += error * error;
      sum += error;
    }
    return (squares + (depthwise() ? kSumWeight * sum * sum : 0)) * scale * scale;
  }
  bool depthwise() const {
    return how_.taps > 1 && static_cast<std::size_t>(how_.taps) == clean_.size();
  }

 private:
  WeightRounding how_;
  std::vector<float> clean_, scaled_;
  std::vector<std::int8_t> codes_;
};

// Rounds at `scale` or as little above it as the pair limit asks for; returns the scale used.
float round_within_pairs(Trial& trial, float scale) {
  const float start = scale;
  for (const bool cancel : {true, false}) {
    scale = start;
    for (int attempt = 0; attempt < 24; ++attempt) {
      trial.round(scale, cancel);
      const int worst = worst_pair(trial.codes());
      if (worst <= kPairLimit) return scale;
      scale *= 1.002F * static_cast<float>(worst) / static_cast<float>(kPairLimit);
    }
  }
  return scale;
}

}  // namespace

float round_channel(std::span<const float> weights, const WeightRounding& how,
                    std::span<std::int8_t> codes) {
  const float largest = largest_magnitude(weights);
  std::fill(codes.begin(), codes.end(), std::int8_t{0});
  const float full = largest / kMaxCode;
  if (!(full >= std::numeric_limits<float>::min())) {  // zero or denormal
    return std::max(how.least_scale, 1.0F);
  }

  Trial trial(weights, largest, how);
  float floor_scale = how.least_scale;
  if (how.saturation_free) {
    // No pair of real weights may pass 127.5 steps, half a step short of the limit on the codes.
    float pair = 0;
    const std::span<const float> clean = trial.weights();
    for (std::size_t i = 0; i + 1 < clean.size(); i += 2) {
      pair = std::max(pair, std::max(clean[i], 0.0F) + std::max(clean[i + 1], 0.0F));
      pair = std::max(pair, -(std::min(clean[i], 0.0F) + std::min(clean[i + 1], 0.0F)));
    }
    floor_scale = std::max(floor_scale, pair / (static_cast<float>(kPairLimit) - 0.5F));
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

AffineChannel round_channel_affine(std::span<const float> weights, std::span<std::uint8_t> codes) {
  AffineChannel channel;
  const float largest = largest_magnitude(weights);
  float low = 0;
  float high = 0;
  for (const float weight : weights) {
    const float value = finite(weight, largest);
    low = std::min(low, value);
    high = std::max(high, value);
  }
  const float scale = static_cast<float>((double{high} - low) / 255);
  if (!(scale >= std::numeric_limits<float>::min())) {
    std::fill(codes.begin(), codes.end(), std::uint8_t{0});
    return channel;
  }
  channel.scale = scale;
  channel.zero_point =
      static_cast<std::uint8_t>(std::clamp(static_cast<int>(round_even(-low / scale)), 0, 255));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float scaled = finite(weights[i], largest) / scale;
    codes[i] = static_cast<std::uint8_t>(
        std::clamp(static_cast<int>(round_even(scaled)) + channel.zero_point, 0, 255));
  }
  return channel;
}

}  // namespace mcompress
