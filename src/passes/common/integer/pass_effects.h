// More of measure_layers() (mcompress/precision.h) than an application needs.
#pragma once

#include <string>

#include "mcompress/precision.h"

namespace mcompress {

// measure_layers() with the layers and the ranking that it gave for the same model, step and
// samples: how results are finished or what they must satisfy has changed. Its trials count on.
Result<LayerEffects> search_ranked_layers(const Model& prepared, const RecipeStep& step,
                                          const std::string& target,
                                          const PrecisionServices& precision,
                                          const PrecisionGoal& goal, const Services& services,
                                          LayerEffects ranked);

}  // namespace mcompress
