#include "onnx/schemas.h"

#include <onnx/checker.h>
#include <onnx/defs/schema.h>

#include <algorithm>
#include <exception>
#include <iostream>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ir/builder.h"
#include "ir/domains.h"
#include "mcompress/io.h"
#include "onnx/graph_loader.h"
#include "onnx/schema_registry.h"
#include "onnx/skeleton.h"
#include "onnx/type_inference.h"
#include "onnx/wire.h"
#include "support/try.h"

namespace mcompress {
namespace {

// The checker prints warnings to the standard output, which belongs to the user.
class SilentOutput {
 public:
  SilentOutput() : before_(std::cout.rdbuf(nullptr)) {}
  ~SilentOutput() {
    std::cout.rdbuf(before_);
    std::cout.clear();  // writing to nothing counts as a failure
  }
  SilentOutput(const SilentOutput&) = delete;
  SilentOutput& operator=(const SilentOutput&) = delete;

 private:
  std::streambuf* before_;
};

Result<std::string> payload_bytes(const Payloads& payloads, std::uint64_t payload) {
  const Storage& storage = *payloads.storages.at(payload);
  MCOMPRESS_ASSIGN(const Pinned pinned, storage.pin(0, storage.size()));
  std::string bytes(reinterpret_cast<const char*>(pinned.bytes().data()), pinned.bytes().size());
  storage.release(0, storage.size());
  return bytes;
}

// The checker compares the size of raw_data with the type: a stand-in of one element always has
// enough in a placeholder. Loading has compared the true sizes.
Status make_checkable(ModelSkeleton& skeleton) {
  return for_each_tensor(
      skeleton.proto, [&](onnx::TensorProto& tensor, TensorPlace place) -> Status {
        const auto payload = wire::placeholder_payload(tensor.raw_data());
        if (!payload) return ok_status();
        if (place == TensorPlace::kSparsePart) {  // its indices are looked at
          MCOMPRESS_ASSIGN(std::string bytes, payload_bytes(skeleton.payloads, *payload));
          tensor.set_raw_data(std::move(bytes));
          return ok_status();
        }
        tensor.clear_dims();
        tensor.add_dims(1);
        return ok_status();
      });
}

// ONNX Runtime keeps an operator of its own in ONNX's domain, where the checker looks for it in
// vain: it is to be taken for one of a domain that has no schemas here. True: one was there.
bool set_apart_runtime_operators(onnx::GraphProto& graph) {
  bool any = false;
  for (onnx::NodeProto& node : *graph.mutable_node()) {
    if (node.domain().empty() && node.op_type() == "SimplifiedLayerNormalization") {
      node.set_domain(std::string(kContribDomain));
      any = true;
    }
    for (onnx::AttributeProto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) any |= set_apart_runtime_operators(*attribute.mutable_g());
      for (onnx::GraphProto& body : *attribute.mutable_graphs()) {
        any |= set_apart_runtime_operators(body);
      }
    }
  }
  return any;
}

void set_apart_runtime_operators(onnx::ModelProto& model) {
  if (!set_apart_runtime_operators(*model.mutable_graph())) return;
  for (const auto& entry : model.opset_import()) {
    if (entry.domain() == kContribDomain) return;
  }
  auto& entry = *model.add_opset_import();
  entry.set_domain(std::string(kContribDomain));
  entry.set_version(1);
}

// Shapes are small integers: those are put back for inference to see, weights are not.
Status make_inferable(ModelSkeleton& skeleton) {
  constexpr std::uint64_t kMostBytes = 64 << 10;
  return for_each_tensor(skeleton.proto, [&](onnx::TensorProto& tensor, TensorPlace) -> Status {
    const auto payload = wire::placeholder_payload(tensor.raw_data());
    if (!payload) return ok_status();
    const bool integers = tensor.data_type() == onnx::TensorProto::INT64 ||
                          tensor.data_type() == onnx::TensorProto::INT32;
    tensor.clear_raw_data();
    if (!integers || skeleton.payloads.storages.at(*payload)->size() > kMostBytes) {
      return ok_status();
    }
    MCOMPRESS_ASSIGN(std::string bytes, payload_bytes(skeleton.payloads, *payload));
    tensor.set_raw_data(std::move(bytes));
    return ok_status();
  });
}

// Inference invents symbols where a size is unknown; nobody else would know them.
void forget_invented_symbols(TypeInfo& type) {
  if (!type.shape) return;
  for (Dim& dim : *type.shape) {
    if (dim.symbol.starts_with("unk__")) dim.symbol.clear();
  }
}

// Whether `found` says something that `known` leaves open.
bool adds_to(const TypeInfo& found, const TypeInfo* known) {
  if (known == nullptr) return true;
  if (found.element != known->element || !found.shape) return false;
  if (!known->shape) return true;
  if (found.shape->size() != known->shape->size()) return false;
  bool adds = false;
  for (std::size_t i = 0; i < found.shape->size(); ++i) {
    const Dim& before = (*known->shape)[i];
    const Dim& now = (*found.shape)[i];
    if (before.size && before.size != now.size) return false;
    adds = adds || (now.size && !before.size) ||
           (!now.symbol.empty() && before.symbol.empty() && !before.size);
  }
  return adds;
}

// Nodes of the top graph that inference can still tell something about, by node id. The others
// make what is known to the last dimension. Vectors of integers are followed in any case: shapes
// are computed with them, and it is their elements that inference hands on.
std::vector<bool> open_nodes(const Model& model) {
  std::set<std::string_view> symbols;
  for (const Value* input : model.graph().inputs()) {
    if (input->type() == nullptr || !input->type()->shape) continue;
    for (const Dim& dim : *input->type()->shape) symbols.insert(dim.symbol);
  }
  const auto settled = [&](const TypeInfo* type) {
    if (type == nullptr || !type->shape) return false;
    const bool integers = type->element == DataType::kInt64 || type->element == DataType::kInt32;
    if (integers && type->shape->size() <= 1) return false;
    return std::ranges::all_of(*type->shape, [&](const Dim& dim) {
      return dim.size || (!dim.symbol.empty() && symbols.contains(dim.symbol));
    });
  };
  // Types are there once in a model, and values and nodes lie in memory in the order of their ids.
  std::unordered_map<const TypeInfo*, bool> known;
  const auto is_settled = [&](const TypeInfo* type) {
    const auto [found, first] = known.try_emplace(type, false);
    if (first) found->second = settled(type);
    return found->second;
  };
  std::vector<bool> open(model.node_limit());
  for (const Value& value : IrInternals::values(model)) {
    if (IrInternals::erased(value) || value.producer() == nullptr) continue;
    if (&value.graph() != &model.graph() || is_settled(value.type())) continue;
    open[value.producer()->id()] = true;
  }
  for (const Node& node : IrInternals::nodes(model)) {
    if (IrInternals::erased(node) || &node.graph() != &model.graph()) continue;
    if (!node.bodies().empty()) open[node.id()] = true;
  }
  return open;
}

class TypeReader {
 public:
  TypeReader(Editor& editor, const std::vector<bool>& wanted) : editor_(editor), wanted_(wanted) {}

  // `proto` was made from `graph`: from all of its nodes, of the top graph from the wanted ones.
  void read(const Graph& graph, const onnx::GraphProto& proto) {
    const bool top = graph.owner() == nullptr;
    std::unordered_map<std::string_view, const onnx::TypeProto*> types;
    for (const auto& info : proto.value_info()) types.emplace(info.name(), &info.type());
    // A declared interface is left as it is; an output without a type may gain one.
    for (const auto& info : proto.output()) types.emplace(info.name(), &info.type());
    int position = 0;
    for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (top && !wanted_[node->id()]) continue;
      for (Value* value : node->outputs()) {
        if (value == nullptr) continue;
        if (value->is_graph_output() && value->type() != nullptr) continue;
        const auto found = types.find(value->name());
        if (found == types.end()) continue;
        auto type = type_from_proto(*found->second);
        if (!type) continue;
        forget_invented_symbols(*type);
        if (adds_to(*type, value->type())) editor_.set_type(*value, std::move(*type), false);
      }
      if (position < proto.node_size()) bodies(*node, proto.node(position));
      ++position;
    }
  }

 private:
  void bodies(const Node& node, const onnx::NodeProto& proto) {
    std::vector<const onnx::GraphProto*> protos;
    for (const auto& attribute : proto.attribute()) {
      if (attribute.has_g()) protos.push_back(&attribute.g());
      for (const auto& body : attribute.graphs()) protos.push_back(&body);
    }
    const std::vector<Graph*> graphs = node.bodies();
    if (graphs.size() != protos.size()) return;
    for (std::size_t i = 0; i < graphs.size(); ++i) read(*graphs[i], *protos[i]);
  }

  Editor& editor_;
  const std::vector<bool>& wanted_;
};

}  // namespace

std::int64_t newest_opset() {
  return onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map().at("").second;
}

Status check_model(const Model& model) {
  MCOMPRESS_ASSIGN(ModelSkeleton skeleton, build_skeleton(model));
  MCOMPRESS_TRY(make_checkable(skeleton));
  set_apart_runtime_operators(skeleton.proto);
  const SilentOutput silent;
  const SchemaLease schemas(skeleton.proto);
  try {
    onnx::checker::check_model(skeleton.proto);
  } catch (const std::exception& error) {
    return Error(Code::kInput, "onnx-checker",
                 std::string("the ONNX checker says: ") + error.what(),
                 {model.source().string(), {}, {}});
  }
  return ok_status();
}

Status infer_shapes(Model& model, Editor& editor, Diagnostics& diagnostics) {
  const std::vector<bool> wanted = open_nodes(model);
  if (std::ranges::find(wanted, true) == wanted.end()) return ok_status();
  MCOMPRESS_ASSIGN(ModelSkeleton skeleton, build_skeleton_of(model, wanted));
  MCOMPRESS_TRY(make_inferable(skeleton));
  const SchemaLease schemas(skeleton.proto);
  const std::string complaint = infer_types(skeleton.proto);
  if (!complaint.empty()) {
    diagnostics.warn("shape-inference", "shapes were inferred in part only: " + complaint,
                     {model.source().string(), {}, {}});
  }
  TypeReader(editor, wanted).read(model.graph(), skeleton.proto.graph());
  return ok_status();
}

}  // namespace mcompress
