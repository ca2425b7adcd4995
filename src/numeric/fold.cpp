#include "numeric/fold.h"

#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <cstdio>

namespace mcompress {
namespace {

constexpr double kLargest = FLT_MAX;

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

FoldFailure failure(std::size_t channel, std::string_view what, double value,
                    std::string_view wrong) {
  std::string text = "channel " + std::to_string(channel) + ": ";
  text.append(what).append(" is ").append(number(value)).append(", ").append(wrong);
  return text;
}

constexpr std::string_view kNotFinite = "not a finite number";
constexpr std::string_view kTooLarge = "too large for float32";

// Each element is of another channel than the one before: whole rows at once.
FoldFailure scale_columns(std::int64_t first, std::span<float> weights, std::span<const double> a) {
  if (weights.empty()) return std::nullopt;
  std::size_t channel = static_cast<std::size_t>(first) % a.size();
  while (!weights.empty()) {
    const std::size_t length = std::min(weights.size(), a.size() - channel);
    float* const row = weights.data();
    const double* const factors = a.data() + channel;
    int wrong = 0;
    for (std::size_t i = 0; i < length; ++i) {
      row[i] = static_cast<float>(static_cast<double>(row[i]) * factors[i]);
      wrong |= static_cast<int>(!(std::fabs(row[i]) <= FLT_MAX));
    }
    for (std::size_t i = 0; wrong != 0 && i < length; ++i) {
      if (std::isfinite(row[i])) continue;
      return failure(channel + i, "scaled weight", row[i], "not finite or too large for float32");
    }
    weights = weights.subspan(length);
    channel = 0;
  }
  return std::nullopt;
}

}  // namespace

FoldFailure batch_norm_affine(const BatchNormParameters& parameters, std::span<double> a,
                              std::span<double> c) {
  const std::size_t channels = parameters.gamma.size();
  for (const std::size_t size : {parameters.beta.size(), parameters.mean.size(),
                                 parameters.variance.size(), a.size(), c.size()}) {
    if (size != channels) {
      return "scale has " + std::to_string(channels) + " channels, another parameter has " +
             std::to_string(size);
    }
  }
  if (!std::isfinite(parameters.epsilon)) return std::string("epsilon is not a finite number");
  for (std::size_t i = 0; i < channels; ++i) {
    const double gamma = parameters.gamma[i], beta = parameters.beta[i];
    const double mean = parameters.mean[i], variance = parameters.variance[i];
    if (!std::isfinite(gamma)) return failure(i, "scale", gamma, kNotFinite);
    if (!std::isfinite(beta)) return failure(i, "shift", beta, kNotFinite);
    if (!std::isfinite(mean)) return failure(i, "mean", mean, kNotFinite);
    if (!std::isfinite(variance)) return failure(i, "variance", variance, kNotFinite);
    const double square = variance + parameters.epsilon;
    if (!(square > 0.0)) return failure(i, "variance + epsilon", square, "not above 0");
    a[i] = gamma / std::sqrt(square);
    c[i] = beta - mean * a[i];
    if (!(std::fabs(a[i]) <= kLargest)) return failure(i, "folded scale", a[i], kTooLarge);
    if (!(std::fabs(c[i]) <= kLargest)) return failure(i, "folded shift", c[i], kTooLarge);
  }
  return std::nullopt;
}

FoldFailure scale_channels(std::int64_t first, std::span<float> weights,
                           const ChannelLayout& layout, std::span<const double> a) {
  assert(a.size() == static_cast<std::size_t>(layout.channels));
  if (layout.inner == 1) return scale_columns(first, weights, a);
  FoldFailure result;
  for_each_channel_run(layout, first, weights.size(),
                       [&](std::int64_t channel, std::size_t offset, std::size_t length) {
                         if (result) return;
                         const auto index = static_cast<std::size_t>(channel);
                         const double factor = a[index];
                         bool finite = true;
                         const std::span<float> run = weights.subspan(offset, length);
                         for (float& w : run) {
                           const double product = static_cast<double>(w) * factor;
                           w = static_cast<float>(product);
                           finite = finite && std::fabs(w) <= FLT_MAX;
                         }
                         if (finite) return;
                         for (const float w : run) {
                           if (!std::isfinite(w)) {
                             result = failure(index, "scaled weight", w,
                                              "not finite or too large for float32");
                             return;
                           }
                         }
                       });
  return result;
}

void add_shift_products(std::int64_t first, std::span<const float> weights,
                        const ChannelLayout& inputs, std::span<const double> c,
                        std::span<double> sums) {
  assert(c.size() == static_cast<std::size_t>(inputs.channels));
  assert(sums.size() == static_cast<std::size_t>(inputs.outer));
  const std::int64_t row = inputs.channels * inputs.inner;
  for_each_channel_run(inputs, first, weights.size(),
                       [&](std::int64_t channel, std::size_t offset, std::size_t length) {
                         const std::int64_t flat = first + static_cast<std::int64_t>(offset);
                         double& sum = sums[static_cast<std::size_t>(flat / row)];
                         const double shift = c[static_cast<std::size_t>(channel)];
                         for (const float w : weights.subspan(offset, length)) {
                           sum += static_cast<double>(w) * shift;
                         }
                       });
}

FoldFailure fold_bias(std::span<const float> bias, std::span<const double> a,
                      std::span<const double> c, std::span<float> out) {
  if ((!bias.empty() && bias.size() != c.size()) || a.size() != c.size() ||
      out.size() != c.size()) {
    return "bias has " + std::to_string(bias.size()) + " entries for " + std::to_string(c.size()) +
           " channels";
  }
  for (std::size_t i = 0; i < c.size(); ++i) {
    const double before = bias.empty() ? 0.0 : static_cast<double>(bias[i]);
    const double after = before * a[i] + c[i];
    out[i] = static_cast<float>(after);
    if (!std::isfinite(out[i])) {
      return failure(i, "folded bias", after, "not finite or too large for float32");
    }
  }
  return std::nullopt;
}

}  // namespace mcompress
