// A model as messages, its large tensors standing aside.
#pragma once

#include <google/protobuf/arena.h>

#include <memory>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/status.h"
#include "onnx/proto.h"

namespace mcompress {

// The message lies in an arena: its hundred small parts per node are made, and dropped, at once.
struct ModelSkeleton {
  std::unique_ptr<google::protobuf::Arena> arena = std::make_unique<google::protobuf::Arena>();
  onnx::ModelProto& proto = *google::protobuf::Arena::CreateMessage<onnx::ModelProto>(arena.get());
  Payloads payloads;
};

// Untouched parts are copies of what they were loaded from, fields without a name here included;
// in touched ones only what changed is written anew.
Result<ModelSkeleton> build_skeleton(const Model& model);

// Of the top graph only the nodes `wanted` (by node id), with the initializers and types that they,
// and the graphs inside them, read, and the functions that they call: what inference over these
// nodes needs. No valid model.
Result<ModelSkeleton> build_skeleton_of(const Model& model, const std::vector<bool>& wanted);

void type_to_proto(const TypeInfo& type, onnx::TypeProto& proto);

}  // namespace mcompress
