// Opening a model in a runtime without its weights.
#pragma once

#include <memory>

#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress {

// For a session that is opened, not run: a copy of the model in which weights of 4 MiB and more
// read as zeros and take no memory. Passes may have left them to be computed when they are written,
// and a runtime copies those that do not lie on a multiple of their elements' size in the file.
// Null: the model has none, open it as it is.
Result<std::unique_ptr<Model>> clone_to_open(const Model& model);

}  // namespace mcompress
