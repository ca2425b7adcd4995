// Rounding one output channel of a weight to int8.
//
// A channel is the vector of its K weights in the order in which an integer kernel multiplies
// them: for Conv kernel position by kernel position with the input channels of the group running
// fastest, for MatMul and Gemm along the reduced axis.
#pragma once

#include <cstdint>
#include <span>

namespace mcompress {

// What codes 2i and 2i + 1 of one sign may sum to without saturation: 128 * 255 < 2^15.
inline constexpr int kPairLimit = 128;

struct WeightRounding {
  // Largest magnitude of a code: 127, or 63 for kernels that add two products in 16 bits.
  int max_code = 127;
  // Keep every pair of neighbouring products inside 16 bits for uint8 activations: x86 CPUs
  // without VNNI add two uint8 x int8 products with saturation (VPMADDUBSW), so the same-sign
  // magnitudes of codes 2j and 2j+1 may sum to kPairLimit at most.
  bool saturation_free = false;
  // Try scales below absmax/127 and keep the one with the least squared error.
  bool search_scale = true;
  // The scale may not be smaller: a bias at scale(x) * scale(W) has to fit 32 bits.
  float least_scale = 0;
  // Above 0: this scale and no other, for weights that share one. With saturation_free it has to
  // be at least least_shared_scale() of every channel.
  float fixed_scale = 0;
  // > 1: the channel is made of spatial kernels of this many taps whose rounding errors should
  // cancel: neighbouring pixels are alike, so the sum of the errors reaches the output while the
  // individual ones average out. Depthwise kernels profit most.
  std::int64_t taps = 0;
  // Distance between the taps of one kernel in the channel: the input channels of the group.
  std::int64_t tap_stride = 1;
};

// Rounds `weights` with one symmetric scale: codes in [-max_code, max_code], weight ~ code * scale.
// Returns the scale, which is positive, finite and normal; an all-zero channel gets scale 1. NaN
// becomes 0, infinities the largest finite magnitude of the channel. `codes` is as long as
// `weights`.
float round_channel(std::span<const float> weights, const WeightRounding& how,
                    std::span<std::int8_t> codes);

// The smallest scale at which the channel fits `how`, given that no search and no cancelling of
// errors moves it: absmax / max_code, what saturation_free asks for, and least_scale. 0 for a
// channel of zeros.
float least_shared_scale(std::span<const float> weights, const WeightRounding& how);

// Asymmetric rounding of one channel to uint8, weight ~ (code - zero_point) * scale, zero exact.
struct AffineChannel {
  float scale = 1;
  std::uint8_t zero_point = 0;
};
// Codes are 0 to `top_code`, 255 or 127.
AffineChannel round_channel_affine(std::span<const float> weights, std::span<std::uint8_t> codes,
                                   int top_code = 255);
// The range of the finite weights with 0 in it, NaN and infinities left out.
struct WeightExtent {
  float low = 0, high = 0;
};
WeightExtent weight_extent(std::span<const float> weights);
AffineChannel affine_channel(WeightExtent extent, int top_code);
// With parameters from elsewhere: values outside saturate.
void round_affine(std::span<const float> weights, const AffineChannel& channel, int top_code,
                  std::span<std::uint8_t> codes);

}  // namespace mcompress
