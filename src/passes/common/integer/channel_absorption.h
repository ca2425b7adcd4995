// Bias absorption: what all values of a channel have in common moves into the next bias.
//
//   before:  y = W2 relu(W1 x + b1) + b2
//   after:   y = W2 relu(W1 x + b1 - c) + (b2 + W2 c)
//
// relu(v) - c = relu(v - c) wherever v >= c, so c is taken where the values of a channel stay above
// it: three standard deviations below their mean, and not above the lowest value seen (Nagel et
// al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
// section 4.1.3, which has the mean and deviation of a batch normalisation in their place). The
// tensor's range, which reaches from 0 to its largest value, becomes smaller.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/integer/channel_choice.h"
#include "passes/common/integer/channel_scales.h"

namespace mcompress {

// What can be taken off each channel; empty, with the reason, where that makes the tensor's range
// less than 1 % smaller.
struct AbsorbedShifts {
  std::vector<double> shifts;    // by channel, at least 0
  double before = 0, after = 0;  // largest values
  std::string why_not;
};
// `stats` of the values as they were before they were divided by `scales`.
AbsorbedShifts absorbed_shifts(const ChannelStats& stats, std::span<const double> scales);

// Why nothing can be absorbed from the group; empty: one linear operator makes it, nothing but Relu
// stands between, and every reader can hold a shift in its bias.
std::string why_not_absorbable(const ScaleGroup& group);

// Takes the shifts off what makes the group and gives them to what reads it. Returns the reason why
// it can not be done (nothing is changed then); empty: done.
Result<std::string> absorb_shifts(PassContext& context, const ScaleGroup& group,
                                  std::span<const double> shifts);

}  // namespace mcompress
