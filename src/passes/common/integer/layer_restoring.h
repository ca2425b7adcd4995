// Which layers a pass that quantizes weight by weight leaves in float32 so that the result is good
// enough: the search of `mcompress sensitivity`, as an option of the pass.
#pragma once

#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "mcompress/precision.h"

namespace mcompress {

// Patterns of the layers that `step`, run on `model`, has to leave alone for `goal`; where nothing
// holds, those of the best choice that was found. What was measured goes to "mixed_precision" of
// the report. First the weights of these layers may be stored in integers by what follows; where
// that is not good enough, they are named in PrecisionServices::whole too.
// `step` must not ask for a goal itself. Fails with kUsage when there are no samples, or when
// max_drop is asked for and nothing measures it, else as measure_layers() does.
Result<std::vector<std::string>> layers_to_restore(const Model& model, const RecipeStep& step,
                                                   const PrecisionGoal& goal, PassContext& context);

}  // namespace mcompress
