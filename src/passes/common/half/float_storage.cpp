#include "passes/common/half/float_storage.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <span>

#include "ir/convert.h"
#include "ir/deferred.h"
#include "numeric/error.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Elements a task looks at together.
constexpr std::size_t kPart = std::size_t{1} << 18;
// Scales tried, as multiples of the one that brings the largest number to the limit: the steps of
// a float format double from octave to octave, so a full octave covers every alignment.
constexpr std::array<float, 4> kAlignments = {1.0F, 1.18920712F, 1.41421356F, 1.68179283F};

double decibel_of(const ErrorStats& stats) {
  if (stats.noise == 0) return 200;
  return std::clamp(stats.sqnr_db(), -200.0, 200.0);
}

// Elements [first, first + count) of a float32 tensor at any alignment.
class FloatPart {
 public:
  static Result<FloatPart> of(const Tensor& tensor, std::size_t first, std::size_t count) {
    FloatPart part;
    MCOMPRESS_ASSIGN(part.pinned_,
                     tensor.storage()->pin(first * sizeof(float), count * sizeof(float)));
    const std::byte* data = part.pinned_.bytes().data();
    if (reinterpret_cast<std::uintptr_t>(data) % alignof(float) == 0) {
      part.values_ = {reinterpret_cast<const float*>(data), count};
    } else {
      part.copy_ = std::make_unique<std::vector<float>>(count);
      std::memcpy(part.copy_->data(), data, count * sizeof(float));
      part.values_ = *part.copy_;
    }
    return part;
  }
  std::span<const float> values() const { return values_; }

 private:
  Pinned pinned_;
  std::unique_ptr<std::vector<float>> copy_;
  std::span<const float> values_;
};

// Rounds to codes and back.
void round_trip(std::span<const float> values, DataType type, Overflow overflow,
                std::vector<std::byte>& codes, std::vector<float>& back) {
  back.resize(values.size());
  codes.resize(values.size() * 2);
  EncodeOptions options;
  options.overflow = overflow;
  encode_from_float(type, values, codes, options);
  decode_to_float(type, codes, back);
}

struct ScanPart {
  Status status = ok_status();
  FloatScan scan;
  ErrorAccumulator error;
};

ScanPart scan_part(const Tensor& tensor, DataType type, std::size_t begin, std::size_t end) {
  ScanPart result;
  auto part = FloatPart::of(tensor, begin, end - begin);
  if (!part.ok()) {
    result.status = std::move(part).error();
    return result;
  }
  std::vector<std::byte> codes;
  std::vector<float> back;
  const std::span<const float> values = part->values();
  round_trip(values, type, Overflow::kOverflow, codes, back);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float x = values[i];
    if (std::isnan(x)) {
      ++result.scan.nan_count;
    } else if (std::isinf(x)) {
      ++result.scan.infinity_count;
    } else {
      result.scan.largest = std::max(result.scan.largest, std::fabs(double{x}));
      if (!std::isfinite(back[i])) ++result.scan.beyond;
      if (back[i] == 0 && x != 0) ++result.scan.vanishing;
    }
  }
  result.error.add(values, back);
  tensor.storage()->release(begin * sizeof(float), (end - begin) * sizeof(float));
  return result;
}

// Where channels lie: element i belongs to channel (i / inner) % channels. Without channels the
// tensor is cut into parts, whose figures are joined at the end.
struct Grid {
  std::size_t outer = 1, channels = 1, inner = 1;
  std::size_t elements = 0;

  // The elements of channels [first, last) in row `row`.
  std::pair<std::size_t, std::size_t> segment(std::size_t row, std::size_t first,
                                              std::size_t last) const {
    const std::size_t begin = (row * channels + first) * inner;
    return {begin, std::min(elements, (row * channels + last) * inner)};
  }
};

struct ChannelFigures {
  float largest = 0;
  std::array<double, kAlignments.size()> noise{};
  double signal = 0;
};

// visit(channel, values) for rows of channels side by side, of which `channel` is the first.
template <class Visit>
Status each_segment(const Tensor& tensor, const Grid& grid, const Executor& executor,
                    Visit&& visit) {
  constexpr std::size_t kRow = 4096;  // elements of a row that are worth a look-up
  const std::size_t block = std::max<std::size_t>(1, kRow / grid.inner);
  const auto look = [&](std::size_t first, std::size_t last) -> Status {
    for (std::size_t row = 0; row < grid.outer; ++row) {
      const auto [begin, end] = grid.segment(row, first, last);
      if (begin >= end) break;
      MCOMPRESS_ASSIGN(const FloatPart part, FloatPart::of(tensor, begin, end - begin));
      visit(first, part.values());
    }
    return ok_status();
  };
  return executor.try_parallel_for(grid.channels, block, look);
}

// visit(channel, begin, end) for the elements of each channel in such a row of `count`.
template <class Visit>
void each_channel(std::size_t first, std::size_t count, std::size_t inner, Visit&& visit) {
  for (std::size_t begin = 0, c = first; begin < count; begin += inner, ++c) {
    visit(c, begin, std::min(count, begin + inner));
  }
}

class Scaling {
 public:
  Scaling(const Tensor& tensor, DataType type, FloatScales scales, const WeightView* layout)
      : tensor_(tensor), type_(type), scales_(scales) {
    grid_.elements = static_cast<std::size_t>(tensor.elements());
    if (scales == FloatScales::kChannel) {
      grid_.outer = static_cast<std::size_t>(layout->outer);
      grid_.channels = static_cast<std::size_t>(layout->channels);
      grid_.inner = static_cast<std::size_t>(layout->inner);
    } else {
      grid_.inner = kPart;
      grid_.channels = (grid_.elements + kPart - 1) / kPart;
    }
  }

  Status find(const Executor& executor) {
    std::vector<ChannelFigures> figures(grid_.channels);
    const auto measure = [&](std::size_t first, std::span<const float> values) {
      each_channel(first, values.size(), grid_.inner,
                   [&](std::size_t c, std::size_t begin, std::size_t end) {
                     ChannelFigures& own = figures[c];
                     for (std::size_t i = begin; i < end; ++i) {
                       const float size = std::fabs(values[i]);
                       if (!std::isfinite(size)) continue;
                       own.largest = std::max(own.largest, size);
                       own.signal += double{size} * double{size};
                     }
                   });
    };
    MCOMPRESS_TRY(each_segment(tensor_, grid_, executor, measure));
    const bool joined = scales_ != FloatScales::kChannel;
    if (joined) {
      ChannelFigures all;
      for (const ChannelFigures& part : figures) all.largest = std::max(all.largest, part.largest);
      for (ChannelFigures& part : figures) part.largest = all.largest;
    }
    const std::size_t tried = scales_ == FloatScales::kPower ? 1 : kAlignments.size();
    const auto compare = [&](std::size_t first, std::span<const float> values) {
      std::vector<float> scaled(values.size()), back;
      std::vector<std::byte> codes;
      for (std::size_t k = 0; k < tried; ++k) {
        each_channel(first, values.size(), grid_.inner,
                     [&](std::size_t c, std::size_t begin, std::size_t end) {
                       const float inverse = 1 / scale_for(figures[c].largest, k);
                       for (std::size_t i = begin; i < end; ++i) scaled[i] = values[i] * inverse;
                     });
        round_trip(scaled, type_, Overflow::kSaturate, codes, back);
        each_channel(first, values.size(), grid_.inner,
                     [&](std::size_t c, std::size_t begin, std::size_t end) {
                       const float scale = scale_for(figures[c].largest, k);
                       double& noise = figures[c].noise[k];
                       for (std::size_t i = begin; i < end; ++i) {
                         const double error = double{back[i] * scale} - double{values[i]};
                         if (std::isfinite(error)) noise += error * error;
                       }
                     });
      }
    };
    MCOMPRESS_TRY(each_segment(tensor_, grid_, executor, compare));
    if (joined) {
      ChannelFigures all = figures.front();
      for (std::size_t i = 1; i < figures.size(); ++i) {
        all.signal += figures[i].signal;
        for (std::size_t k = 0; k < tried; ++k) all.noise[k] += figures[i].noise[k];
      }
      figures.assign(1, all);
    }
    for (const ChannelFigures& own : figures) {
      const auto* end = own.noise.begin() + static_cast<std::ptrdiff_t>(tried);
      const auto* best = std::min_element(own.noise.begin(), end);
      scale_.push_back(scale_for(own.largest, static_cast<std::size_t>(best - own.noise.begin())));
      signal_ += own.signal;
      noise_ += *best;
    }
    return ok_status();
  }

  double sqnr_db() const {
    if (noise_ == 0) return 200;
    return signal_ == 0 ? -200 : std::min(200.0, 10 * std::log10(signal_ / noise_));
  }
  const std::vector<float>& scales() const { return scale_; }
  // Of an element.
  float scale_at(std::size_t element) const {
    return scale_.size() == 1 ? scale_.front() : scale_[(element / grid_.inner) % grid_.channels];
  }
  std::size_t run() const { return scale_.size() == 1 ? grid_.elements : grid_.inner; }

 private:
  float scale_for(float largest, std::size_t alignment) const {
    if (!(largest > 0)) return 1;
    const double limit = largest_number(type_);
    if (scales_ == FloatScales::kPower) {
      return std::ldexp(1.0F, std::ilogb(largest) - std::ilogb(limit) + 1);
    }
    const double scale = double{largest} / limit * double{kAlignments[alignment]};
    return std::max(static_cast<float>(scale), std::numeric_limits<float>::min());
  }

  const Tensor& tensor_;
  DataType type_;
  FloatScales scales_;
  Grid grid_;
  std::vector<float> scale_;
  double signal_ = 0, noise_ = 0;
};

}  // namespace

double largest_number(DataType type) {
  switch (type) {
    case DataType::kFloat16:
      return 65504;
    case DataType::kFloat8E4M3FN:
      return 448;
    case DataType::kFloat8E5M2:
      return 57344;
    default:  // bfloat16: (2 - 2^-7) 2^127
      return std::ldexp(255.0 / 128.0, 127);
  }
}

bool has_infinity(DataType type) { return type != DataType::kFloat8E4M3FN; }

Result<FloatScan> scan_floats(const Tensor& tensor, DataType type, const Executor& executor) {
  ScanPart total = executor.ordered_reduce(
      static_cast<std::size_t>(tensor.elements()), kPart, ScanPart{},
      [&](std::size_t begin, std::size_t end) { return scan_part(tensor, type, begin, end); },
      [](ScanPart all, ScanPart part) {
        if (all.status.ok()) all.status = std::move(part.status);
        all.scan.largest = std::max(all.scan.largest, part.scan.largest);
        all.scan.nan_count += part.scan.nan_count;
        all.scan.infinity_count += part.scan.infinity_count;
        all.scan.beyond += part.scan.beyond;
        all.scan.vanishing += part.scan.vanishing;
        all.error.merge(part.error);
        return all;
      });
  if (!total.status.ok()) return std::move(total.status).error();
  total.scan.sqnr_db = decibel_of(total.error.stats());
  return total.scan;
}

Result<StoredFloat> store_floats(const Tensor& tensor, DataType type, FloatScales scales,
                                 const WeightView* layout, TensorFactory& tensors,
                                 const Executor& executor) {
  StoredFloat result;
  const std::size_t width = find_dtype(type)->bits / 8;
  std::vector<std::int64_t> dims(tensor.dims().begin(), tensor.dims().end());
  std::shared_ptr<const Scaling> scaling;
  if (scales != FloatScales::kNone) {
    auto found = std::make_shared<Scaling>(tensor, type, scales, layout);
    MCOMPRESS_TRY(found->find(executor));
    result.sqnr_db = found->sqnr_db();
    const bool channels = scales == FloatScales::kChannel;
    result.scale = make_float_tensor(found->scales(),
                                     channels ? layout->scale_dims : std::vector<std::int64_t>{});
    scaling = std::move(found);
  }
  // Owns what it reads: it may be called as long as the tensor lives. `Scaling` keeps a reference
  // to the caller's tensor, which only find() reads.
  const auto fill = [tensor, type, width, scaling](std::uint64_t offset,
                                                   std::span<std::byte> out) -> Status {
    const std::size_t count = out.size() / width;
    const auto first = static_cast<std::size_t>(offset) / width;
    EncodeOptions options;
    options.overflow = scaling != nullptr ? Overflow::kSaturate : Overflow::kOverflow;
    std::vector<float> scaled;
    for (std::size_t at = 0; at < count; at += kPart) {
      const std::size_t length = std::min(kPart, count - at);
      MCOMPRESS_ASSIGN(const FloatPart part, FloatPart::of(tensor, first + at, length));
      std::span<const float> values = part.values();
      if (scaling != nullptr) {
        scaled.resize(length);
        for (std::size_t i = 0; i < length;) {
          const std::size_t element = first + at + i;
          const std::size_t run = std::min(length - i, scaling->run() - element % scaling->run());
          const float inverse = 1 / scaling->scale_at(element);
          for (std::size_t k = 0; k < run; ++k) scaled[i + k] = values[i + k] * inverse;
          i += run;
        }
        values = scaled;
      }
      encode_from_float(type, values, out.subspan(at * width), options);
      tensor.storage()->release((first + at) * sizeof(float), length * sizeof(float));
    }
    return ok_status();
  };
  MCOMPRESS_ASSIGN(result.codes, defer_tensor(tensors, executor, type, std::move(dims), fill));
  return result;
}

}  // namespace mcompress
