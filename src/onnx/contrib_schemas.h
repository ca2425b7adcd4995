// Shapes of operators that ONNX Runtime adds to ONNX and that ONNX itself has never heard of.
#pragma once

#include <onnx/defs/schema.h>

namespace mcompress {

// What ONNX knows, and inference rules for the common operators of com.microsoft and for those of
// ai.onnx.ml that have none in ONNX.
const onnx::ISchemaRegistry& schemas_with_contrib();

}  // namespace mcompress
