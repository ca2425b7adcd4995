// Which layers of a static plan go back to float32 so that the result is good enough.
//
// The layers are ranked by what each alone does to the outputs (common/unit_effects.h). Then whole
// choices are run: the worst 1, 2, 4... of the ranking back in float32, bisection between the last
// choice that fails and the first that holds, and at last layers that turn out not to matter once
// the others are back are given up again, one part of the list after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "mcompress/precision.h"
#include "passes/common/integer/static_emit.h"
#include "passes/common/integer/static_plan.h"

namespace mcompress {

// A static plan written into a copy of the model.
struct StaticTrial {
  std::unique_ptr<Model> model;
  std::unique_ptr<Session> session;  // of the model, as Guard::open() makes it; may be null
  std::size_t integer_nodes = 0;
  const Value* own = nullptr;                 // what the node that is alone makes, as written
  std::map<std::string, double> weight_sqnr;  // dB, by name of the weight
};
// Plans with these options and writes the plan into a copy; with `alone` only the unit of that
// node. Fails as emit_static() does.
using TrialEmitter =
    std::function<Result<StaticTrial>(const PlanOptions&, std::optional<std::uint32_t> alone)>;

// What the run judges results by; null: nothing but the pass's own check.
const PrecisionServices* precision_services(PassContext& context);

struct MixedPrecisionOptions {
  // Done where it can be; nobody asked for it.
  double guard_sqnr = 20;  // dB, of the worst float output; 0: off
  std::int64_t guard_samples = 4;
  // Asked for. Whoever runs the pass finds in the report whether it holds.
  double min_sqnr = 0;    // dB; 0: not asked for
  double max_drop = 100;  // points of what PrecisionServices::drop measures; 100: not asked for
  std::int64_t max_trials = 40;  // whole choices that are run
  bool asked() const { return min_sqnr > 0 || max_drop < 100; }
};

// Leaves the nodes that stay float32, with a reason for each, in `chosen`, whose table must be set,
// and what was found under "mixed_precision" in the report. Needs samples: calibration data or
// PrecisionServices::data. Fails as the runtime does, and with kUsage when max_drop is asked for
// and nothing measures it.
Status restore_precision(const Model& model, PassContext& context, const StaticPlan& plan,
                         const std::map<std::uint32_t, ActivationScale>& scales,
                         const TrialEmitter& emit, const MixedPrecisionOptions& options,
                         PlanOptions& chosen);

// Measures every layer as PrecisionServices::measure asks, and what would have to stay float32.
Status measure_precision(const Model& model, PassContext& context, const StaticPlan& plan,
                         const std::map<std::uint32_t, ActivationScale>& scales,
                         const TrialEmitter& emit, const MixedPrecisionOptions& options,
                         const PlanOptions& chosen);

}  // namespace mcompress
