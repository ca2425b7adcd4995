// Models as protobuf messages, for tests of what is written.
#pragma once

#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <string_view>

namespace mcompress::testing {

inline onnx::ModelProto proto_of(std::string_view bytes) {
  onnx::ModelProto proto;
  EXPECT_TRUE(proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  return proto;
}

}  // namespace mcompress::testing
