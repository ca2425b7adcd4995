// Weights that are stored in few bits and restored by nodes, where that saves next to nothing.
#pragma once

#include <cstdint>

#include "mcompress/pass.h"

namespace mcompress {

// Computes Casts of stored weights and what follows them element by element,
//
//   w = Mul(Cast(codes), scale)   =>   w in float32,
//
// if all of them together make the model's constants larger by less than a two-hundredth; else
// none. A runtime that folds constants does the same whenever it loads the model: a quantized model
// with a single small layer in float32 would carry two nodes for it. Nothing happens without a
// runtime to compute with. Returns how many nodes went.
Result<std::int64_t> restore_few_weights(Model& model, PassContext& context);

}  // namespace mcompress
