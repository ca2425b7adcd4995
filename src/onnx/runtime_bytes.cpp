#include "onnx/runtime_bytes.h"

#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "onnx/proto.h"
#include "onnx/skeleton.h"
#include "onnx/wire.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kLarge = 4096;

void hand_over(const Model& model, onnx::GraphProto& graph,
               std::vector<std::pair<std::string, Tensor>>& large) {
  std::unordered_map<std::string_view, const Tensor*> tensors;
  for (const Value* value : model.graph().initializers()) {
    tensors.emplace(value->name(), value->initializer());
  }
  for (onnx::TensorProto& proto : *graph.mutable_initializer()) {
    const Tensor& tensor = *tensors.at(proto.name());
    if (tensor.is_opaque() || tensor.byte_size() < kLarge) continue;
    clear_data(proto);
    proto.set_data_location(onnx::TensorProto::EXTERNAL);
    const auto add = [&](const char* key, std::string value) {
      auto* entry = proto.add_external_data();
      entry->set_key(key);
      entry->set_value(std::move(value));
    };
    add("location", kMemoryLocation);
    add("offset", "0");
    add("length", std::to_string(tensor.byte_size()));
    large.emplace_back(proto.name(), tensor);
  }
}

Status add_outputs(const Model& model, std::span<const std::string> names,
                   onnx::GraphProto& graph) {
  if (names.empty()) return ok_status();
  std::unordered_map<std::string_view, const Value*> values;
  const Graph& top = model.graph();
  for (const Value* value : top.inputs()) values.emplace(value->name(), value);
  for (const Value* value : top.initializers()) values.emplace(value->name(), value);
  for (const Node* node = top.first(); node != nullptr; node = top.next(*node)) {
    for (const Value* value : node->outputs()) {
      if (value != nullptr) values.emplace(value->name(), value);
    }
  }
  std::unordered_set<std::string_view> present;
  for (const Value* value : top.outputs()) present.insert(value->name());
  for (const std::string& name : names) {
    const auto found = values.find(name);
    if (found == values.end()) {
      return Error(Code::kInternal, "no-such-value", "the graph has no value of that name",
                   {{}, "graph", name});
    }
    if (!present.insert(found->second->name()).second) continue;
    onnx::ValueInfoProto& info = *graph.add_output();
    info.set_name(name);
    if (const TypeInfo* type = found->second->type()) type_to_proto(*type, *info.mutable_type());
  }
  return ok_status();
}

}  // namespace

Result<std::string> runtime_model_bytes(const Model& model,
                                        std::span<const std::string> extra_outputs,
                                        std::vector<std::pair<std::string, Tensor>>* large) {
  MCOMPRESS_ASSIGN(ModelSkeleton skeleton, build_skeleton(model));
  onnx::GraphProto& graph = *skeleton.proto.mutable_graph();
  if (large != nullptr) hand_over(model, graph, *large);
  MCOMPRESS_TRY(add_outputs(model, extra_outputs, graph));
  MCOMPRESS_ASSIGN(const std::string bytes, serialise(skeleton.proto));
  MCOMPRESS_ASSIGN(const wire::Rope rope,
                   wire::inflate(bytes, wire::Root::kModel, skeleton.payloads.storages));
  return wire::flatten(rope);
}

}  // namespace mcompress
