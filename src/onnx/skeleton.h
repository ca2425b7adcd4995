// A model as messages, its large tensors standing aside.
#pragma once

#include "mcompress/ir.h"
#include "mcompress/status.h"
#include "onnx/proto.h"

namespace mcompress {

struct ModelSkeleton {
  onnx::ModelProto proto;
  Payloads payloads;
};

// Untouched parts are copies of what they were loaded from, fields without a name here included;
// in touched ones only what changed is written anew.
Result<ModelSkeleton> build_skeleton(const Model& model);

void type_to_proto(const TypeInfo& type, onnx::TypeProto& proto);

}  // namespace mcompress
