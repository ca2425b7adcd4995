#include "passes/common/integer/channel_absorption.h"

#include <algorithm>
#include <cmath>

#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kFewestRows = 32;
constexpr double kDeviations = 3;
constexpr double kLeastShare = 0.01;  // of the range, for a change to be worth it

}  // namespace

AbsorbedShifts absorbed_shifts(const ChannelStats& stats, std::span<const double> scales) {
  AbsorbedShifts found;
  const std::size_t channels = scales.size();
  const std::size_t rows = channels == 0 ? 0 : stats.rows.size() / channels;
  if (rows < kFewestRows) {
    found.why_not = "too few values of its channels were seen to tell what they have in common";
    return found;
  }
  std::vector<double> sum(channels, 0), square(channels, 0);
  std::vector<double> lowest(stats.rows.begin(),
                             stats.rows.begin() + static_cast<std::ptrdiff_t>(channels));
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < channels; ++c) {
      const double x = stats.rows[r * channels + c];
      sum[c] += x;
      square[c] += x * x;
      lowest[c] = std::min(lowest[c], x);
    }
  }
  found.shifts.assign(channels, 0);
  for (std::size_t c = 0; c < channels; ++c) {
    const double mean = sum[c] / static_cast<double>(rows);
    const double variance = std::max(square[c] / static_cast<double>(rows) - mean * mean, 0.0);
    const double kept = std::min(mean - kDeviations * std::sqrt(variance), lowest[c]);
    found.shifts[c] = std::max(kept, 0.0) / scales[c];
    found.before = std::max(found.before, stats.maximum[c] / scales[c]);
    found.after = std::max(found.after, stats.maximum[c] / scales[c] - found.shifts[c]);
  }
  if (found.after > (1 - kLeastShare) * found.before) {
    found.shifts.clear();
    found.why_not = "the channels with the largest values reach down to 0: no bias to absorb";
  }
  return found;
}

std::string why_not_absorbable(const ScaleGroup& group) {
  if (group.makers.size() != 1 || !group.norms.empty() || !group.gains.empty() ||
      !group.shifts.empty()) {
    return "more than one operator makes its channels";
  }
  if (!std::isinf(group.top)) return "a Clip follows, which would cut at another place";
  const auto in_group = [&](const Value* value) {
    return std::ranges::any_of(group.values, [&](const auto& one) { return one.first == value; });
  };
  for (const auto& [value, axis] : group.values) {
    for (const Use& use : value->uses()) {
      if (use.node == nullptr) return "it is an output of the model";
      const bool relu = use.node->is("Relu") && in_group(use.node->output(0));
      const auto reader = std::ranges::find_if(
          group.readers, [&](const LinearOp& op) { return op.node == use.node; });
      const bool own_add = use.node == group.makers.front().add;
      if (relu || own_add) continue;
      if (reader == group.readers.end()) {
        return use.node->label() + " reads it, which keeps factors but no shifts";
      }
      if (!takes_shift(*reader)) {
        return reader->label() + " pads with zeros or has no bias to hold a shift";
      }
    }
  }
  return {};
}

Result<std::string> absorb_shifts(PassContext& context, const ScaleGroup& group,
                                  std::span<const double> shifts) {
  const std::vector<double> ones(shifts.size(), 1.0);
  std::vector<double> down(shifts.begin(), shifts.end());
  for (double& x : down) x = -x;
  // Its weights may be others than when the group was found.
  const auto fresh = [](const LinearOp& op) { return linear_operator(*op.node).op; };
  const auto maker = fresh(group.makers.front());
  if (!maker) return std::string("what makes it is no linear operator any more");
  MCOMPRESS_ASSIGN(std::string why, scale_output(context, *maker, ones, down));
  if (!why.empty()) return why;
  std::size_t given = 0;
  for (; given < group.readers.size() && why.empty(); ++given) {
    const auto reader = fresh(group.readers[given]);
    if (!reader) {
      why = "what reads it is no linear operator any more";
    } else {
      MCOMPRESS_ASSIGN(why, absorb_before(context, *reader, *reader->node->input(0), ones, shifts));
    }
  }
  if (why.empty()) return why;
  for (std::size_t i = 0; i + 1 < given; ++i) {  // back again; the last of them did nothing
    const auto reader = fresh(group.readers[i]);
    if (!reader) continue;
    MCOMPRESS_ASSIGN(const std::string ignored,
                     absorb_before(context, *reader, *reader->node->input(0), ones, down));
    static_cast<void>(ignored);
  }
  if (const auto again = fresh(group.makers.front())) {
    MCOMPRESS_ASSIGN(const std::string ignored, scale_output(context, *again, ones, shifts));
    static_cast<void>(ignored);
  }
  return why;
}

}  // namespace mcompress
