#include "numeric/resample.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

namespace mcompress {
namespace {

constexpr int kWeightBits = 22;  // 32 - 8 bits of a pixel - 2 for negative lobes and their sum

double sinc(double x) {
  if (x == 0.0) return 1.0;
  const double angle = x * std::numbers::pi;
  return std::sin(angle) / angle;
}

double support_of(ResampleFilter filter) {
  return filter == ResampleFilter::kBilinear ? 1.0 : filter == ResampleFilter::kBicubic ? 2.0 : 3.0;
}

double kernel_at(ResampleFilter filter, double x) {
  x = std::abs(x);
  switch (filter) {
    case ResampleFilter::kBilinear:
      return x < 1.0 ? 1.0 - x : 0.0;
    case ResampleFilter::kBicubic: {
      constexpr double a = -0.5;
      if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
      if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
      return 0.0;
    }
    case ResampleFilter::kLanczos:
      return x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
  }
  return 0.0;
}

// The source pixels of one target pixel.
struct FilterTap {
  std::int64_t first = 0;
  std::vector<std::int32_t> weights;
};

std::vector<FilterTap> taps_of(std::int64_t from, std::int64_t to, ResampleFilter filter) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double widened = std::max(scale, 1.0);
  const double support = support_of(filter) * widened;
  std::vector<FilterTap> taps(static_cast<std::size_t>(to));
  std::vector<double> weights;
  for (std::size_t i = 0; i < taps.size(); ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(centre - support + 0.5), 0);
    const std::int64_t last = std::min(static_cast<std::int64_t>(centre + support + 0.5), from);
    weights.clear();
    double sum = 0;
    for (std::int64_t x = first; x < last; ++x) {
      weights.push_back(
          kernel_at(filter, (static_cast<double>(x) - centre + 0.5) * (1.0 / widened)));
      sum += weights.back();
    }
    taps[i].first = first;
    taps[i].weights.reserve(weights.size());
    for (double weight : weights) {
      if (sum != 0.0) weight *= 1.0 / sum;
      const double fixed = weight * (1 << kWeightBits);
      taps[i].weights.push_back(static_cast<std::int32_t>(fixed + (fixed < 0 ? -0.5 : 0.5)));
    }
  }
  return taps;
}

std::uint8_t rounded(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

void filter_row(const std::uint8_t* in, std::uint8_t* out, std::span<const FilterTap> taps,
                std::size_t channels) {
  for (const FilterTap& tap : taps) {
    const std::uint8_t* const first = in + static_cast<std::size_t>(tap.first) * channels;
    for (std::size_t c = 0; c < channels; ++c) {
      std::int32_t sum = 1 << (kWeightBits - 1);
      const std::uint8_t* pixel = first + c;
      for (const std::int32_t weight : tap.weights) {
        sum += *pixel * weight;
        pixel += channels;
      }
      *out++ = rounded(sum);
    }
  }
}

}  // namespace

std::vector<std::uint8_t> resample(const std::vector<std::uint8_t>& pixels, const PixelGrid& from,
                                   std::int64_t width, std::int64_t height, ResampleFilter filter) {
  const auto channels = static_cast<std::size_t>(from.channels);
  const std::size_t in_row = static_cast<std::size_t>(from.width) * channels;
  const std::size_t out_row = static_cast<std::size_t>(width) * channels;
  const auto rows = static_cast<std::size_t>(from.height);
  std::vector<std::uint8_t> wide;  // rows of the new width
  const std::uint8_t* middle = pixels.data();
  if (width != from.width) {
    const std::vector<FilterTap> taps = taps_of(from.width, width, filter);
    wide.resize(rows * out_row);
    for (std::size_t y = 0; y < rows; ++y) {
      filter_row(pixels.data() + y * in_row, wide.data() + y * out_row, taps, channels);
    }
    middle = wide.data();
  }
  if (height == from.height) return wide.empty() ? pixels : wide;
  std::vector<std::uint8_t> result(static_cast<std::size_t>(height) * out_row);
  std::vector<std::int32_t> sums(out_row);
  const std::vector<FilterTap> taps = taps_of(from.height, height, filter);
  for (std::size_t y = 0; y < taps.size(); ++y) {
    std::ranges::fill(sums, 1 << (kWeightBits - 1));
    const std::uint8_t* row = middle + static_cast<std::size_t>(taps[y].first) * out_row;
    for (const std::int32_t weight : taps[y].weights) {
      for (std::size_t x = 0; x < out_row; ++x) sums[x] += row[x] * weight;
      row += out_row;
    }
    std::ranges::transform(sums, result.begin() + static_cast<std::ptrdiff_t>(y * out_row),
                           rounded);
  }
  return result;
}

}  // namespace mcompress
