#include "mcompress/notes.h"

#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include "mcompress/io.h"
#include "support/models.h"
#include "support/protos.h"

namespace mcompress {
namespace {

using testing::fixture;
using testing::model_from_bytes;
using testing::proto_of;

// Notes go, whatever else is there stays: parts that nobody edited, too.
TEST(Notes, CanBeLeftOut) {
  onnx::ModelProto noted = proto_of(fixture("surroundings"));
  onnx::GraphProto& graph = *noted.mutable_graph();
  graph.add_metadata_props()->set_key("of the graph");
  graph.mutable_input(0)->set_doc_string("of an input");
  graph.mutable_node(0)->set_doc_string("of a node");
  onnx::AttributeProto& attribute = *graph.mutable_node(0)->add_attribute();
  attribute.set_name("extra");
  attribute.set_type(onnx::AttributeProto::GRAPH);
  attribute.mutable_g()->set_name("inner");
  attribute.mutable_g()->add_node()->set_op_type("Inner");
  attribute.mutable_g()->mutable_node(0)->add_output("inside");
  graph.mutable_node(0)->set_domain("org.example.unknown");
  noted.add_opset_import()->set_domain("org.example.unknown");
  noted.mutable_opset_import(noted.opset_import_size() - 1)->set_version(1);
  const auto bare = model_from_bytes(noted.SerializeAsString());
  const std::uint64_t around = note_bytes(*bare).value();
  attribute.mutable_g()->mutable_node(0)->add_metadata_props()->set_value(std::string(300, 's'));
  const auto model = model_from_bytes(noted.SerializeAsString());
  // A value of 300 bytes behind its tag and a length of two bytes.
  EXPECT_EQ(note_bytes(*model).value(), around + 303);

  const onnx::ModelProto after = proto_of(save_model_bytes(*model, true).value());
  onnx::ModelProto expected = noted;
  onnx::GraphProto& left = *expected.mutable_graph();
  left.clear_doc_string();
  left.clear_metadata_props();
  left.mutable_input(0)->clear_doc_string();
  for (onnx::NodeProto& node : *left.mutable_node()) {
    node.clear_doc_string();
    node.clear_metadata_props();
  }
  for (onnx::AttributeProto& one : *left.mutable_node(0)->mutable_attribute()) {
    if (one.has_g()) one.mutable_g()->mutable_node(0)->clear_metadata_props();
  }
  EXPECT_EQ(after.SerializeAsString(), expected.SerializeAsString());
  EXPECT_EQ(after.doc_string(), "documentation");
  EXPECT_EQ(after.metadata_props_size(), noted.metadata_props_size());
  const auto stripped = model_from_bytes(after.SerializeAsString());
  EXPECT_EQ(note_bytes(*stripped).value(), 0U);
}

}  // namespace
}  // namespace mcompress
