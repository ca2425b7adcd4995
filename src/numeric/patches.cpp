#include "numeric/patches.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mcompress {

std::optional<PatchMap> PatchMap::make(const ConvGeometry& geometry,
                                       std::span<const std::int64_t> dims) {
  const std::size_t axes = geometry.kernel.size();
  if (axes == 0 || dims.size() != axes + 2 || geometry.strides.size() != axes ||
      geometry.dilations.size() != axes || geometry.groups < 1 || dims[1] % geometry.groups != 0) {
    return std::nullopt;
  }
  using Auto = ConvGeometry::Auto;
  if (geometry.automatic == Auto::kNone && geometry.pads.size() != 2 * axes) return std::nullopt;
  PatchMap map;
  map.channels_ = dims[1];
  map.depth_ = static_cast<std::size_t>(dims[1] / geometry.groups);
  map.positions_ = dims[0];
  map.kernel_ = geometry.kernel;
  map.strides_ = geometry.strides;
  map.dilations_ = geometry.dilations;
  for (std::size_t i = 0; i < axes; ++i) {
    const std::int64_t in = dims[i + 2];
    const std::int64_t kernel = geometry.kernel[i];
    const std::int64_t stride = geometry.strides[i];
    if (kernel < 1 || stride < 1 || geometry.dilations[i] < 1 || in < 1) return std::nullopt;
    const std::int64_t reach = (kernel - 1) * geometry.dilations[i] + 1;
    std::int64_t begin = 0;
    std::int64_t out = 0;
    if (geometry.automatic == Auto::kNone) {
      begin = geometry.pads[i];
      out = (in + begin + geometry.pads[axes + i] - reach) / stride + 1;
      if (in + begin + geometry.pads[axes + i] < reach) out = 0;
    } else {
      out = (in + stride - 1) / stride;
      const std::int64_t all = std::max<std::int64_t>((out - 1) * stride + reach - in, 0);
      begin = geometry.automatic == Auto::kSameUpper ? all / 2 : all - all / 2;
    }
    if (out < 1) return std::nullopt;
    map.in_.push_back(in);
    map.out_.push_back(out);
    map.begins_.push_back(begin);
    map.positions_ *= out;
    map.image_ *= in;
    map.taps_ *= static_cast<std::size_t>(kernel);
  }
  if (map.positions_ < 1 || map.depth_ == 0) return std::nullopt;
  return map;
}

void PatchMap::read(std::span<const float> input, std::int64_t position, std::int64_t group,
                    std::span<float> out) const {
  const std::size_t axes = in_.size();
  std::vector<std::int64_t> corner(axes);  // of the patch, in the input
  for (std::size_t i = axes; i-- > 0;) {
    corner[i] = position % out_[i] * strides_[i] - begins_[i];
    position /= out_[i];
  }
  const std::int64_t first_channel = group * static_cast<std::int64_t>(depth_);
  const std::int64_t base = (position * channels_ + first_channel) * image_;
  float* to = out.data();
  for (std::size_t tap = 0; tap < taps_; ++tap, to += depth_) {
    std::int64_t rest = static_cast<std::int64_t>(tap);
    std::int64_t offset = 0;
    std::int64_t pitch = 1;
    bool inside = true;
    for (std::size_t i = axes; i-- > 0;) {
      const std::int64_t at = corner[i] + rest % kernel_[i] * dilations_[i];
      rest /= kernel_[i];
      inside = inside && at >= 0 && at < in_[i];
      offset += at * pitch;
      pitch *= in_[i];
    }
    if (!inside) {
      std::fill_n(to, depth_, 0.0F);
      continue;
    }
    const float* from = input.data() + base + offset;
    for (std::size_t d = 0; d < depth_; ++d) to[d] = from[static_cast<std::int64_t>(d) * image_];
  }
}

std::vector<std::int64_t> spread_positions(std::int64_t count, std::int64_t wanted,
                                           std::int64_t turn) {
  std::vector<std::int64_t> list;
  if (count <= 0 || wanted <= 0) return list;
  const bool all = wanted >= count;
  list.resize(static_cast<std::size_t>(all ? count : wanted));
  if (all) {
    std::iota(list.begin(), list.end(), std::int64_t{0});
    return list;
  }
  // A step without a common factor visits every position once before it repeats one.
  constexpr double kGolden = 0.6180339887498949;
  std::int64_t step = std::max<std::int64_t>(std::llround(static_cast<double>(count) * kGolden), 1);
  while (std::gcd(step, count) != 1) ++step;
  std::int64_t at = static_cast<std::int64_t>(std::fmod(static_cast<double>(turn) * kGolden, 1.0) *
                                              static_cast<double>(count));
  for (std::int64_t& position : list) {
    position = at;
    at = (at + step) % count;
  }
  std::ranges::sort(list);
  return list;
}

}  // namespace mcompress
