// Which values of a model stand for which of another, made from it.
#pragma once

#include <memory>
#include <vector>

#include "mcompress/evaluate.h"
#include "models.h"

namespace mcompress::tools {

// The form of the reference that a candidate is compared with: as it stands or fused.
struct ComparableForm {
  LoadedModel fused;
  const Model* reference = nullptr;  // the fused model, or the one that was given
  std::vector<ValuePair> pairs;
};

// Names survive fusion with another meaning: the output of a Conv may by now be that of the
// BatchNormalization behind it. So both forms of the reference are run on a few samples, and the
// one whose values are nearer is taken. Of `options` the budget and the threads count.
Result<ComparableForm> comparable_form(const std::shared_ptr<Runtime>& runtime,
                                       const LoadedModel& reference, const Model& candidate,
                                       DataSource& data, const LayerOptions& options,
                                       Console& console);

// compare_layers of values that have one name in both models or the same place in the graph, in
// the form that is comparable.
Result<LayerComparison> layer_errors(const std::shared_ptr<Runtime>& runtime,
                                     const LoadedModel& reference, const Model& candidate,
                                     DataSource& data, const LayerOptions& options,
                                     Console& console);

}  // namespace mcompress::tools
