#include "onnx/runtime_bytes.h"

#include <algorithm>
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

// Initializers from which no output is computed: the runtime drops them before it looks for those
// that are handed over, and refuses a model that hands over what is gone (ONNX Runtime 1.32).
class Unread {
 public:
  Unread(const Graph& top, std::span<const std::string> extra_outputs)
      : top_(top), extra_(extra_outputs.begin(), extra_outputs.end()) {
    for (const Node* node = top.last(); node != nullptr; node = top.previous(*node)) {
      const auto unread = [this](const Value* value) { return value == nullptr || holds(*value); };
      if (std::ranges::all_of(node->outputs(), unread)) dead_.insert(node);
    }
  }

  bool holds(const Value& value) const {
    if (extra_.contains(value.name())) return false;
    return std::ranges::all_of(value.uses(), [this](const Use& use) {
      return use.node != nullptr && &use.node->graph() == &top_ && dead_.contains(use.node);
    });
  }

 private:
  const Graph& top_;
  std::unordered_set<std::string_view> extra_;
  std::unordered_set<const Node*> dead_;
};

void hand_over(const Model& model, std::span<const std::string> extra_outputs,
               onnx::GraphProto& graph, std::vector<std::pair<std::string, Tensor>>& large) {
  const Unread unread(model.graph(), extra_outputs);
  std::unordered_map<std::string_view, const Value*> values;
  for (const Value* value : model.graph().initializers()) values.emplace(value->name(), value);
  for (onnx::TensorProto& proto : *graph.mutable_initializer()) {
    const Value& value = *values.at(proto.name());
    const Tensor& tensor = *value.initializer();
    if (tensor.is_opaque() || tensor.byte_size() < kLarge || unread.holds(value)) continue;
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
  if (large != nullptr) hand_over(model, extra_outputs, graph, *large);
  MCOMPRESS_TRY(add_outputs(model, extra_outputs, graph));
  MCOMPRESS_ASSIGN(const std::string bytes, serialise(skeleton.proto));
  MCOMPRESS_ASSIGN(const wire::Rope rope,
                   wire::inflate(bytes, wire::Root::kModel, skeleton.payloads.storages));
  return wire::flatten(rope);
}

}  // namespace mcompress
