// The operator schemas of the linked ONNX library, made when they are needed.
#pragma once

#include <onnx/onnx_pb.h>

#include <mutex>
#include <shared_mutex>
#include <string_view>

namespace mcompress {

// Holds the schemas of some operators ready for as long as it lives: ONNX looks them up in one
// registry of the process, which nobody may add to meanwhile.
class SchemaLease {
 public:
  // Of one operator, in every domain that has it.
  explicit SchemaLease(std::string_view op_type);
  // Of every operator in the model's graphs, nested graphs and functions.
  explicit SchemaLease(const onnx::ModelProto& model);

 private:
  std::shared_lock<std::shared_mutex> lock_;
};

}  // namespace mcompress
