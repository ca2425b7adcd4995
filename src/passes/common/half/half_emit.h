// Writes a plan for 16-bit floats into the model.
#pragma once

#include <cstdint>

#include "passes/common/half/half_plan.h"

namespace mcompress {

struct HalfEmission {
  std::int64_t casts = 0;    // added; at most one per value and direction
  std::int64_t weights = 0;  // constants converted
  std::int64_t retyped = 0;  // Cast and ConstantOfShape that now make the 16-bit type themselves
  std::int64_t clamped = 0;  // masks
};

// `keep_io`: inputs and outputs of the model stay float32; else float32 ones become 16-bit too.
// Constants that only converted nodes read are converted; large ones that others read as well are
// kept once, in 16 bits. Fails as making tensors does.
Result<HalfEmission> emit_half(Model& model, DataType type, const HalfPlan& plan, bool keep_io,
                               PassContext& context);

}  // namespace mcompress
