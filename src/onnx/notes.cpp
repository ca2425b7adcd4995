#include "onnx/notes.h"

namespace mcompress {
namespace {

class Notes {
 public:
  explicit Notes(bool strip) : strip_(strip) {}
  std::uint64_t bytes() const { return bytes_; }

  void of_graph(onnx::GraphProto& graph) {
    of(graph);
    for (auto& node : *graph.mutable_node()) of_node(node);
    for (auto& tensor : *graph.mutable_initializer()) of(tensor);
    for (auto& sparse : *graph.mutable_sparse_initializer()) {
      if (sparse.has_values()) of(*sparse.mutable_values());
      if (sparse.has_indices()) of(*sparse.mutable_indices());
    }
    for (auto* list : {graph.mutable_input(), graph.mutable_output(), graph.mutable_value_info()}) {
      for (auto& value : *list) of(value);
    }
  }

  void of_function(onnx::FunctionProto& function) {
    of(function);
    for (auto& node : *function.mutable_node()) of_node(node);
    for (auto& attribute : *function.mutable_attribute_proto()) of_attribute(attribute);
    for (auto& value : *function.mutable_value_info()) of(value);
  }

 private:
  void of_node(onnx::NodeProto& node) {
    of(node);
    for (auto& attribute : *node.mutable_attribute()) of_attribute(attribute);
  }

  void of_attribute(onnx::AttributeProto& attribute) {
    if (!attribute.doc_string().empty()) {
      bytes_ += attribute.doc_string().size();
      if (strip_) attribute.clear_doc_string();
    }
    if (attribute.has_t()) of(*attribute.mutable_t());
    for (auto& tensor : *attribute.mutable_tensors()) of(tensor);
    if (attribute.has_g()) of_graph(*attribute.mutable_g());
    for (auto& graph : *attribute.mutable_graphs()) of_graph(graph);
  }

  template <class Message>
  void of(Message& message) {
    bytes_ += message.doc_string().size();
    for (const auto& note : message.metadata_props()) bytes_ += note.ByteSizeLong();
    if (!strip_) return;
    if (message.has_doc_string()) message.clear_doc_string();
    message.clear_metadata_props();
  }

  const bool strip_;
  std::uint64_t bytes_ = 0;
};

}  // namespace

std::uint64_t notes_of(onnx::ModelProto& proto, bool strip) {
  Notes notes(strip);
  if (proto.has_graph()) notes.of_graph(*proto.mutable_graph());
  for (auto& function : *proto.mutable_functions()) notes.of_function(function);
  return notes.bytes();
}

}  // namespace mcompress
