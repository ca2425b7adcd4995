// The graph that a runtime makes of a model before it executes it.
#pragma once

#include <memory>

#include "mcompress/ir.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"
#include "runtime/scratch.h"

namespace mcompress {

struct ExecutedModel {
  std::unique_ptr<ScratchFolder> folder;  // holds what the model reads its data from
  std::unique_ptr<Model> model;
};
// Opens `model` for this and loads what the runtime wrote. Fails as both do.
Result<ExecutedModel> executed_model(Runtime& runtime, const Model& model, SessionOptions options);

}  // namespace mcompress
