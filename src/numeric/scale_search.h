// Scales that minimise the squared rounding error, optionally weighted by the importance of each
// element, over a grid of 32 clipping ratios: scale_k = r_k * absmax / max_code,
// r_k = 1 - k (1 - lowest_ratio) / 31. With q the codes of candidate k,
//   error = sum h (w - s q)^2 = W - 2 s A + s^2 B,  A = sum h w q, B = sum h q^2, W = sum h w^2,
// so A and B per candidate are all that is kept. Refitting replaces s by A / B, which is the best
// scale for these codes (the imatrix search of llama.cpp and OPT-RTN of AutoRound do the same).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "numeric/kernels.h"
#include "numeric/quantize.h"

namespace mcompress {

struct ScaleSearchOptions {
  QuantType type;
  CodeSpan span = CodeSpan::kNarrow;
  double lowest_ratio = 0.5;  // in (0, 1]
  bool refit = false;
};

// absmax / max_code per channel; 1 where a channel is all zero.
std::vector<float> absmax_scales(std::span<const float> absmax, QuantType type);

// Symmetric scales per channel, streamed. The absmax of each channel comes from a first pass
// (ChannelRanges). Sums run in element order within a channel: the result does not depend on chunk
// sizes. 896 bytes per channel. NaN and infinities are skipped.
class ChannelScaleSearch {
 public:
  ChannelScaleSearch(const ChannelLayout& layout, std::span<const float> absmax,
                     const ScaleSearchOptions& options);
  // `importance`, when not empty, has one entry >= 0 per value.
  void add(std::int64_t first, std::span<const float> values, std::span<const float> importance);
  // Of equal candidates the larger scale wins.
  std::vector<float> scales() const;

 private:
  kernel::CandidateGrids grids_for(float absmax) const;

  ChannelLayout layout_;
  ScaleSearchOptions options_;
  std::vector<kernel::CandidateGrids> grids_;
  std::vector<kernel::CandidateMoments> moments_;
};

// One block (or row) at once.
enum class BlockShape : std::uint8_t { kSymmetric, kAsymmetric };
struct BlockFitOptions {
  ScaleSearchOptions search;
  BlockShape shape = BlockShape::kSymmetric;
  bool use_search = true;  // else the full range
};
// Asymmetric candidates shrink both ends of the block's range by r_k and use the full code span.
// The error with the returned parameters is never above that of the full range, up to the rounding
// of the scale to float. An all-zero block gives scale 1.
QuantParams fit_block(std::span<const float> values, std::span<const float> importance,
                      const BlockFitOptions& options);

}  // namespace mcompress
