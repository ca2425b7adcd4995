// Which layers of a static plan go back to float32 so that the result is good enough.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/static_emit.h"
#include "passes/common/static_plan.h"

namespace mcompress {

// A static plan written into a copy of the model.
struct StaticTrial {
  std::unique_ptr<Model> model;               // null: nothing was left to run in integers
  std::map<std::string, double> weight_sqnr;  // dB, by name of the weight
};
// Plans with these options and writes the plan into a copy. Fails as emit_static() does.
using TrialEmitter = std::function<Result<StaticTrial>(const PlanOptions&)>;

struct MixedPrecisionOptions {
  double min_sqnr = 20;  // dB, of the worst float output
  std::int64_t samples = 4;
};

// Weighted nodes by their ids, largest noise to signal ratio first: that of the weight, and those
// of rounding what it reads and what it makes (scale^2 / 12 over the mean square). `scales` as in
// EmitOptions.
std::vector<std::uint32_t> rank_by_noise(const StaticPlan& plan, const CalibrationTable& table,
                                         const std::map<std::uint32_t, ActivationScale>& scales,
                                         const std::map<std::string, double>& weight_sqnr);

// Runs the plan against the original on samples of the calibration data, of which there must be
// some. While the outputs are too far off, the layers with the largest relative noise go back to
// float32: 1, 2, 4... of them, best state kept. Leaves the choice, with a reason for each node, in
// `chosen`, whose table must be set. Fails as the runtime does.
Status restore_precision(const Model& model, PassContext& context, const StaticPlan& plan,
                         const std::map<std::uint32_t, ActivationScale>& scales,
                         const TrialEmitter& emit, const MixedPrecisionOptions& options,
                         PlanOptions& chosen);

}  // namespace mcompress
