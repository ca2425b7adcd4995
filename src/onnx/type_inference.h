// ONNX's shape inference over a whole model, in time linear in its nodes.
#pragma once

#include <onnx/onnx_pb.h>

#include <string>

namespace mcompress {

// Writes the types that ONNX infers into the model's value_info, nested graphs included. Returns
// what inference complained about first, having inferred the rest; empty: nothing. The caller
// holds the schemas (SchemaLease).
std::string infer_types(onnx::ModelProto& model);

}  // namespace mcompress
