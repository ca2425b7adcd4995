// Biases corrected by what the quantized model was seen to do.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/integer/effort.h"
#include "passes/common/integer/static_plan.h"

namespace mcompress {

// Per weighted node (by id) and output channel: what is to be taken off the bias.
using BiasShifts = std::map<std::uint32_t, std::vector<double>>;

// b -= E[y^] - E[y], channel by channel, where y is the output of a weighted node in the float
// model and y^ that in the quantized one, whose earlier layers are corrected already (Nagel et al.,
// "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, empirical form).
// Nodes are taken in graph order in up to eight groups, each measured on a model that holds the
// corrections of the groups before it. `emit` makes the quantized model; its nodes keep their ids.
// Fails as calibrate() does.
using EmitQuantized = std::function<Result<std::unique_ptr<Model>>(const BiasShifts&)>;
Result<BiasShifts> measure_bias_shifts(const Model& model, const StaticPlan& plan,
                                       const EmitQuantized& emit, PassContext& context,
                                       StepCost& cost);

}  // namespace mcompress
