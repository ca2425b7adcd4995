// Opening a model in a runtime without its weights.
#pragma once

#include <memory>

#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress {

// Passes may leave large weights to be computed when they are written. For a session that is
// opened, not run: a copy of the model in which those read as zeros and take no memory. Null: the
// model has none, open it as it is.
Result<std::unique_ptr<Model>> clone_to_open(const Model& model);

}  // namespace mcompress
