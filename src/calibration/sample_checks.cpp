#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "ir/convert.h"
#include "mcompress/sampling.h"
#include "support/hash.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::int64_t kLookedAt = 32;
constexpr std::int64_t kLeastSide = 8;
constexpr std::int64_t kLeastPixels = 1024;  // over all samples, before noise is told from images
// Neighbours in photographs, drawings and spectrograms correlate by 0.5 and more, those of random
// numbers by 0 +- 1 / sqrt(pixels).
constexpr double kNoise = 0.1;

// Axes of an input that can be images.
struct PixelAxes {
  std::size_t channel = 1, row = 2, column = 3;
};

std::optional<PixelAxes> pixel_axes(std::span<const std::int64_t> dims) {
  if (dims.size() != 4) return std::nullopt;
  const auto channels = [](std::int64_t size) { return size == 1 || size == 3; };
  PixelAxes axes;
  if (!channels(dims[1])) {
    if (!channels(dims[3])) return std::nullopt;
    axes = {3, 1, 2};
  }
  if (dims[axes.row] < kLeastSide || dims[axes.column] < kLeastSide) return std::nullopt;
  return axes;
}

// Sums over pairs of neighbours, and over all values.
struct InputFacts {
  std::set<std::uint64_t> digests;
  std::int64_t samples = 0, constant_samples = 0;
  std::int64_t elements = 0, not_finite = 0;
  double least = 0, most = 0;
  // Of images: moments of the values, less the mean of the channel they are in.
  std::int64_t pixels = 0, pairs = 0;
  double second = 0, fourth = 0, products = 0, pair_squares = 0;
  std::int64_t byte_like = 0, unit_like = 0;  // samples of 0 .. 255 and of 0 .. 1
};

void add_plane(InputFacts& facts, std::span<const float> values, std::span<const std::int64_t> dims,
               const PixelAxes& axes, std::int64_t image, std::int64_t channel) {
  std::array<std::int64_t, 4> strides{};
  strides[3] = 1;
  for (std::size_t i = 3; i > 0; --i) strides[i - 1] = strides[i] * dims[i];
  const std::int64_t start = image * strides[0] + channel * strides[axes.channel];
  const auto at = [&](std::int64_t y, std::int64_t x) {
    return static_cast<double>(
        values[static_cast<std::size_t>(start + y * strides[axes.row] + x * strides[axes.column])]);
  };
  const std::int64_t rows = dims[axes.row], columns = dims[axes.column];
  double mean = 0;
  for (std::int64_t y = 0; y < rows; ++y) {
    for (std::int64_t x = 0; x < columns; ++x) mean += at(y, x);
  }
  mean /= static_cast<double>(rows * columns);
  for (std::int64_t y = 0; y < rows; ++y) {
    for (std::int64_t x = 0; x < columns; ++x) {
      const double value = at(y, x) - mean;
      facts.second += value * value;
      facts.fourth += value * value * value * value;
      for (const auto& [down, right] : {std::pair(0, 1), std::pair(1, 0)}) {
        if (y + down >= rows || x + right >= columns) continue;
        const double other = at(y + down, x + right) - mean;
        facts.products += value * other;
        facts.pair_squares += 0.5 * (value * value + other * other);
        ++facts.pairs;
      }
    }
  }
  facts.pixels += rows * columns;
}

Status look_at(const Tensor& tensor, InputFacts& facts) {
  MCOMPRESS_ASSIGN(const Pinned pin, tensor.storage()->pin(0, tensor.byte_size()));
  facts.digests.insert(digest_bytes(pin.bytes()));
  ++facts.samples;
  const DTypeInfo* type = find_dtype(tensor.dtype());
  if (type == nullptr || !can_decode(tensor.dtype()) || tensor.elements() == 0) return ok_status();
  MCOMPRESS_ASSIGN(const std::vector<float> values, read_floats(tensor));
  float least = values[0], most = values[0];
  bool finite = true;
  for (const float value : values) {
    if (!std::isfinite(value)) {
      finite = false;
      ++facts.not_finite;
      continue;
    }
    least = std::min(least, value);
    most = std::max(most, value);
  }
  const auto low = static_cast<double>(least), high = static_cast<double>(most);
  facts.least = facts.elements == 0 ? low : std::min(facts.least, low);
  facts.most = facts.elements == 0 ? high : std::max(facts.most, high);
  facts.elements += static_cast<std::int64_t>(values.size());
  if (values.size() > 1 && least == most) ++facts.constant_samples;
  const std::optional<PixelAxes> axes = pixel_axes(tensor.dims());
  if (!axes || !finite) return ok_status();
  if (low >= 0 && high > 16 && high <= 255) ++facts.byte_like;
  if (low >= 0 && high <= 1) ++facts.unit_like;
  for (std::int64_t image = 0; image < tensor.dims()[0]; ++image) {
    for (std::int64_t channel = 0; channel < tensor.dims()[axes->channel]; ++channel) {
      add_plane(facts, values, tensor.dims(), *axes, image, channel);
    }
  }
  return ok_status();
}

std::string looked_at(const InputFacts& facts) {
  return "the " + std::to_string(facts.samples) + " samples that were looked at";
}

void warn_of_noise(const InputFacts& facts, const Location& where, Diagnostics& diagnostics) {
  if (facts.pixels < kLeastPixels || facts.pair_squares <= 0) return;
  const double correlation = facts.products / facts.pair_squares;
  if (std::abs(correlation) >= kNoise) return;
  const auto count = static_cast<double>(facts.pixels);
  const double variance = facts.second / count;
  const double excess = facts.fourth / count / (variance * variance) - 3.0;
  // A uniform distribution has -1.2, a normal one 0.
  std::string kind = "random numbers";
  if (std::abs(excess + 1.2) < 0.1) kind = "uniform random numbers";
  if (std::abs(excess) < 0.2) kind = "normal random numbers";
  diagnostics.warn("data-noise",
                   "these look like " + kind + ", not images: neighbouring pixels correlate by " +
                       fixed(correlation, 3),
                   where,
                   "ranges of real data are other ones: calibrate with samples of what "
                   "the model will see");
}

void warn_of_input(const InputFacts& facts, const Location& where, Diagnostics& diagnostics) {
  if (facts.not_finite > 0) {
    diagnostics.warn("data-not-finite",
                     std::to_string(facts.not_finite) + " elements of " + looked_at(facts) +
                         " are NaN or infinite",
                     where);
  }
  if (facts.samples > 0 && facts.constant_samples == facts.samples) {
    diagnostics.warn("data-constant", "all elements are equal in each of " + looked_at(facts),
                     where, "zeros and ones say nothing about the ranges of real data");
    return;
  }
  warn_of_noise(facts, where, diagnostics);
  if (facts.byte_like > 0 && facts.unit_like > 0) {
    diagnostics.warn("data-scale",
                     std::to_string(facts.byte_like) + " samples have pixels of 0 to 255, " +
                         std::to_string(facts.unit_like) + " of 0 to 1",
                     where, "preprocessing should give all samples one scale");
  }
}

}  // namespace

Status check_samples(DataSource& data, std::span<const PortInfo> inputs, Diagnostics& diagnostics) {
  const std::int64_t step = std::max<std::int64_t>(data.fixed_batch(), 1);
  std::vector<InputFacts> facts(inputs.size());
  std::set<std::uint64_t> whole;
  std::int64_t seen = 0;
  for (std::int64_t i = 0; i + step <= std::min(data.count(), kLookedAt * step); i += step) {
    MCOMPRESS_ASSIGN(const std::vector<NamedTensor> feeds, data.batch(i, step));
    Hasher hasher;
    for (std::size_t k = 0; k < feeds.size(); ++k) {
      const auto port = std::ranges::find(inputs, feeds[k].name, &PortInfo::name);
      if (port == inputs.end() || feeds[k].tensor.is_opaque()) continue;
      MCOMPRESS_TRY(
          look_at(feeds[k].tensor, facts[static_cast<std::size_t>(port - inputs.begin())]));
      MCOMPRESS_ASSIGN(const Pinned pin,
                       feeds[k].tensor.storage()->pin(0, feeds[k].tensor.byte_size()));
      hasher.integer(digest_bytes(pin.bytes()));
    }
    whole.insert(hasher.digest());
    ++seen;
  }
  const auto different = static_cast<std::int64_t>(whole.size());
  if (seen > 1 && different == 1) {
    diagnostics.warn("data-duplicates",
                     "the first " + std::to_string(seen) + " samples are all the same",
                     {data.description(), {}, {}}, "calibrate with different samples");
  } else if (different * 10 < seen * 9) {
    diagnostics.warn("data-duplicates",
                     std::to_string(seen - different) + " of the first " + std::to_string(seen) +
                         " samples are there already",
                     {data.description(), {}, {}}, "samples that come twice count twice");
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    // A scalar or a switch that never changes is no finding.
    const bool floating = find_dtype(inputs[i].type.element) != nullptr &&
                          find_dtype(inputs[i].type.element)->floating;
    const bool images = facts[i].pixels > 0;
    if (!floating && !images) continue;
    warn_of_input(facts[i], {data.description(), {}, inputs[i].name}, diagnostics);
  }
  return ok_status();
}

}  // namespace mcompress
