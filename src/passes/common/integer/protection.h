// What rounding to 8 bits would spoil, found by the values that were seen and by where a node
// stands; never by names. Nodes that are found stay float32:
//
// - a Concat of parts of very different scale (boxes in pixels beside scores): the common scale
//   leaves the small part a handful of levels. Not where an integer layer reads the result, which
//   rounds it in any case;
// - sums, parts and averages behind the last layer with weights, in front of what chooses (TopK,
//   NonMaxSuppression, ArgMax...): rounding changes the choice;
// - what makes or moves values in which a constant masks entries (-1e9, -65504, -infinity): the
//   range that holds the mask leaves one level for all the rest.
//
// Values that become the answer itself (logits) are quantized over all that was seen of them: the
// largest one decides, so nothing may be clipped.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/ir.h"
#include "passes/common/integer/static_plan.h"

namespace mcompress {

// Node id -> why it stays float32, as a clause behind the node: "joins parts of...". `table` holds
// the plan's tensors.
std::map<std::uint32_t, std::string> protected_nodes(const Graph& graph, const StaticPlan& plan,
                                                     const CalibrationTable& table);

// Tensors of the plan from which the model's outputs follow by moves, averages and a final Softmax,
// Sigmoid or choice alone, in the order of the plan.
std::vector<const Value*> answer_values(const Graph& graph, const StaticPlan& plan);

// A constant far below everything else that was seen: where `minimum` (or an infinity) stands for
// "not this one".
bool holds_mask(const ValueStats& stats);

}  // namespace mcompress
