// Layers of two models side by side, each by itself and with all in front of it.
#pragma once

#include <memory>

#include "console.h"
#include "mcompress/evaluate.h"
#include "mcompress/runtime.h"
#include "models.h"

namespace mcompress::tools {

// compare_layers of values that have one name in both models or the same place in the graph.
//
// Names survive fusion with another meaning: the output of a Conv may by now be that of the
// BatchNormalization behind it. So the model is compared with the reference as it stands and as
// `quantize` fuses it, and the form whose values are nearer is taken.
Result<LayerComparison> layer_errors(const std::shared_ptr<Runtime>& runtime,
                                     const LoadedModel& reference, const Model& candidate,
                                     DataSource& data, const LayerOptions& options,
                                     Console& console);

}  // namespace mcompress::tools
