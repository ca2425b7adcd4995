// What a convolution multiplies at one output position, as a vector: a row of the im2col matrix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace mcompress {

// Of a Conv of any number of spatial axes, as ONNX defines it.
struct ConvGeometry {
  std::int64_t groups = 1;
  std::vector<std::int64_t> kernel, strides, dilations;  // one per spatial axis, above 0
  std::vector<std::int64_t> pads;                        // begins, then ends
  // SAME_UPPER and SAME_LOWER: outputs are ceil(input / stride), and `pads` follows from that.
  enum class Auto { kNone, kSameUpper, kSameLower } automatic = Auto::kNone;
};

// The patches of one input [N, C, spatial...]. A patch holds kernel position after kernel position
// with the input channels of the group running fastest; what lies in the padding is 0.
class PatchMap {
 public:
  // Empty when the dims do not fit the geometry, or the output has no element.
  static std::optional<PatchMap> make(const ConvGeometry& geometry,
                                      std::span<const std::int64_t> dims);
  std::int64_t positions() const { return positions_; }  // N times the spatial output
  std::size_t columns() const { return taps_ * depth_; }
  // Patch of a group at a position in [0, positions()); `out` has columns() elements.
  void read(std::span<const float> input, std::int64_t position, std::int64_t group,
            std::span<float> out) const;

 private:
  std::size_t taps_ = 1, depth_ = 1;
  std::int64_t channels_ = 0, positions_ = 0, image_ = 1;  // elements of one channel
  std::vector<std::int64_t> in_, out_, kernel_, strides_, dilations_, begins_;
};

// `wanted` of `count` positions, or all; spread evenly but never on a raster of the image: steps of
// count divided by the golden ratio, starting at a place that `turn` shifts.
std::vector<std::int64_t> spread_positions(std::int64_t count, std::int64_t wanted,
                                           std::int64_t turn);

}  // namespace mcompress
