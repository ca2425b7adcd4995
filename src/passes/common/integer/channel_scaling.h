// Scales channels of a model where that makes its static INT8 form more like the original.
#pragma once

#include <cstdint>
#include <span>

#include "mcompress/pass.h"
#include "passes/common/selection.h"

namespace mcompress {

struct ChannelScalingOptions {
  // Groups whose channels a LayerNormalization makes, or those that linear operators alone make.
  bool normalized = false;
  // A Mul in front of the linear operators whose input can not be scaled where it is made; else
  // factors are folded into what makes the channels.
  bool insert = false;
  double least_gain_db = 0.25;  // predicted; less is not worth a change
  double least_insert_db = 1;   // the same for a Mul, which costs time
  bool absorb = false;          // bias absorption, too (channel_absorption.h)
  // Undo everything unless the outputs of the quantized model come nearer to the original's.
  bool judge = true;
  std::int64_t samples = 128;  // of the calibration data that are looked at, at most
  // Held-out samples that judge, at most. A few with large errors make up most of a ratio: many are
  // needed to compare two. Of several runs over a model the first one's number.
  std::int64_t judges = 64;
};

// For each of `runs` in turn: finds the groups, looks at their values on the calibration data, of
// which there must be some, and applies factors. Reports "groups", "scaled" and, with `absorb`,
// "absorbed", or "products" and "inserted"; and one of the "steps", named like the pass or
// "smooth-insert", with its cost and, with `judge`, what it brought and whether it was "kept".
// Fails as the runtime and the data do.
Status scale_channels(Model& model, PassContext& context, const Selection& selection,
                      std::span<const ChannelScalingOptions> runs);

// Whether the run has data and no table: a table describes the model as it was. Explains when not.
Result<bool> may_change_calibrated_model(const Model& model, PassContext& context);

}  // namespace mcompress
