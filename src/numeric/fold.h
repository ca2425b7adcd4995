// Arithmetic of folding an affine per-channel operator into a neighbouring linear one, in double.
// ONNX BatchNormalization (inference): y = gamma (x - mean) / sqrt(var + epsilon) + beta = a x + c.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "numeric/layout.h"

namespace mcompress {

// Why a fold was refused: "channel 3: variance + epsilon is -0.5, not above 0". Empty: no failure.
using FoldFailure = std::optional<std::string>;

struct BatchNormParameters {
  std::span<const float> gamma, beta, mean, variance;  // one entry per channel
  double epsilon = 1e-5;
};

// a = gamma / sqrt(var + epsilon), c = beta - mean a. Refuses spans of different length, inputs
// that are not finite, var + epsilon <= 0, and results whose magnitude passes FLT_MAX.
FoldFailure batch_norm_affine(const BatchNormParameters& parameters, std::span<double> a,
                              std::span<double> c);

// w <- float(double(w) * a[channel]) for a chunk that starts at flat index `first`. Refuses when a
// finite weight becomes infinite, and when a weight is not finite; the chunk is then partly
// written.
FoldFailure scale_channels(std::int64_t first, std::span<float> weights,
                           const ChannelLayout& layout, std::span<const double> a);

// For an affine before the linear operator: sums[o] += sum over a chunk of w * c[input channel],
// where the weight is [outputs, inputs, inner] and the chunk starts at flat index `first`. Sums run
// in element order, so the result does not depend on chunk sizes. The operator's bias grows by it,
// exact only where no padding is involved.
void add_shift_products(std::int64_t first, std::span<const float> weights,
                        const ChannelLayout& inputs, std::span<const double> c,
                        std::span<double> sums);

// out = float(a bias + c); an empty bias counts as zeros. Refuses results that are not finite.
FoldFailure fold_bias(std::span<const float> bias, std::span<const double> a,
                      std::span<const double> c, std::span<float> out);

}  // namespace mcompress
