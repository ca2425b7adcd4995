#include "numeric/scale_search.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cfloat>
#include <cmath>

namespace mcompress {
namespace {

double ratio_at(std::size_t k, double lowest) {
  return 1.0 -
         static_cast<double>(k) * (1.0 - lowest) / static_cast<double>(kernel::kCandidates - 1);
}

float at_ratio(float end, std::size_t k, double lowest) {
  return k == 0 ? end : static_cast<float>(static_cast<double>(end) * ratio_at(k, lowest));
}

struct Choice {
  std::size_t index = 0;
  float scale = 1.0f;
};

// Minimises s^2 B - 2 s A, the part of the error that depends on the candidate.
Choice best_candidate(const kernel::CandidateMoments& moments, const kernel::CandidateGrids& grids,
                      bool refit) {
  Choice best{0, grids.scale[0]};
  double lowest = 0.0;
  for (std::size_t k = 0; k < kernel::kCandidates; ++k) {
    const double a = moments.wq[k], b = moments.qq[k];
    float scale = grids.scale[k];
    if (refit && a > 0.0 && b > 0.0) {
      const double fitted = a / b;
      if (fitted >= static_cast<double>(FLT_MIN) && fitted <= static_cast<double>(FLT_MAX)) {
        scale = static_cast<float>(fitted);
      }
    }
    const double s = scale;
    const double error = s * (s * b - 2.0 * a);
    if (k == 0 || error < lowest) {
      lowest = error;
      best = {k, scale};
    }
  }
  return best;
}

}  // namespace

std::vector<float> absmax_scales(std::span<const float> absmax, QuantType type) {
  std::vector<float> scales;
  scales.reserve(absmax.size());
  for (const float largest : absmax) {
    scales.push_back(symmetric_params({-largest, largest}, type, CodeSpan::kNarrow).scale);
  }
  return scales;
}

ChannelScaleSearch::ChannelScaleSearch(const ChannelLayout& layout, std::span<const float> absmax,
                                       const ScaleSearchOptions& options)
    : layout_(layout), options_(options), moments_(static_cast<std::size_t>(layout.channels)) {
  assert(absmax.size() == moments_.size());
  grids_.reserve(absmax.size());
  for (const float largest : absmax) grids_.push_back(grids_for(largest));
}

kernel::CandidateGrids ChannelScaleSearch::grids_for(float absmax) const {
  const CodeRange codes = code_range(options_.type, options_.span);
  kernel::CandidateGrids grids;
  for (std::size_t k = 0; k < kernel::kCandidates; ++k) {
    const float end = at_ratio(absmax, k, options_.lowest_ratio);
    const QuantParams params = symmetric_params({-end, end}, options_.type, options_.span);
    grids.scale[k] = params.scale;
    grids.lo[k] = static_cast<float>(codes.lo - params.zero_point);
    grids.hi[k] = static_cast<float>(codes.hi - params.zero_point);
  }
  return grids;
}

void ChannelScaleSearch::add(std::int64_t first, std::span<const float> values,
                             std::span<const float> importance) {
  assert(importance.empty() || importance.size() == values.size());
  for_each_channel_run(layout_, first, values.size(),
                       [&](std::int64_t channel, std::size_t offset, std::size_t length) {
                         const auto c = static_cast<std::size_t>(channel);
                         kernel::candidate_moments(
                             values.data() + offset,
                             importance.empty() ? nullptr : importance.data() + offset, length,
                             grids_[c], moments_[c]);
                       });
}

std::vector<float> ChannelScaleSearch::scales() const {
  std::vector<float> result;
  result.reserve(moments_.size());
  for (std::size_t c = 0; c < moments_.size(); ++c) {
    result.push_back(best_candidate(moments_[c], grids_[c], options_.refit).scale);
  }
  return result;
}

QuantParams fit_block(std::span<const float> values, std::span<const float> importance,
                      const BlockFitOptions& options) {
  assert(importance.empty() || importance.size() == values.size());
  ChannelRanges ranges(
      ChannelLayout{1, 1, std::max<std::int64_t>(1, static_cast<std::int64_t>(values.size()))});
  ranges.add(0, values);
  const Range full = ranges.ranges()[0];
  const ScaleSearchOptions& search = options.search;
  const bool symmetric = options.shape == BlockShape::kSymmetric;
  const CodeRange codes = code_range(search.type, symmetric ? search.span : CodeSpan::kFull);
  const auto params_at = [&](std::size_t k) {
    const Range range{at_ratio(full.lo, k, search.lowest_ratio),
                      at_ratio(full.hi, k, search.lowest_ratio)};
    return symmetric ? symmetric_params(range, search.type, search.span)
                     : asymmetric_params(range, search.type);
  };
  if (!options.use_search || full == Range{}) return params_at(0);
  kernel::CandidateGrids grids;
  std::array<std::int32_t, kernel::kCandidates> zero_points{};
  for (std::size_t k = 0; k < kernel::kCandidates; ++k) {
    const QuantParams params = params_at(k);
    grids.scale[k] = params.scale;
    zero_points[k] = params.zero_point;
    grids.lo[k] = static_cast<float>(codes.lo - params.zero_point);
    grids.hi[k] = static_cast<float>(codes.hi - params.zero_point);
  }
  kernel::CandidateMoments moments;
  kernel::candidate_moments(values.data(), importance.empty() ? nullptr : importance.data(),
                            values.size(), grids, moments);
  const Choice best = best_candidate(moments, grids, search.refit);
  return {best.scale, zero_points[best.index]};
}

}  // namespace mcompress
