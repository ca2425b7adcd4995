// What a loaded model keeps of its file, for the sources of this folder only.
#pragma once

#include <google/protobuf/arena.h>
#include <onnx/onnx_pb.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/status.h"
#include "mcompress/tensor.h"
#include "support/files.h"

namespace mcompress {

// Bytes of tensors that stand as placeholders in a skeleton message (wire.h).
struct Payloads {
  std::vector<StoragePtr> storages;
  std::vector<bool> external;  // stood in another file than the model

  std::uint64_t add(StoragePtr storage, bool was_external) {
    storages.push_back(std::move(storage));
    external.push_back(was_external);
    return storages.size() - 1;
  }
};

// A file that holds tensors of a model, as the model names it.
struct DataFile {
  std::string location;
  MappedFilePtr file;
};

class ArchivedModel;

// The skeleton of a model file. Every Origin of a model points into one of these and keeps it
// alive: Model::origin() to the whole, the others to the ModelProto, GraphProto (FunctionProto
// for a function's body), NodeProto, AttributeProto, ValueInfoProto or TensorProto
// (SparseTensorProto where `sparse` says so) they were made from. All external tensors have been
// turned into payloads. The messages lie in an arena, those of one node side by side.
struct ParsedModel {
  google::protobuf::Arena arena;
  onnx::ModelProto& proto = *google::protobuf::Arena::CreateMessage<onnx::ModelProto>(&arena);
  Payloads payloads;
  std::unordered_set<const void*> sparse;
  MappedFilePtr file;                            // null: loaded from memory
  std::shared_ptr<const ArchivedModel> archive;  // the file is one; null: it is the model itself
  std::vector<DataFile> data_files;
};

inline const ParsedModel* parsed_model(const Model& model) {
  return static_cast<const ParsedModel*>(model.origin().get());
}
template <class Message>
const Message* message_of(const Origin& origin) {
  return static_cast<const Message*>(origin.get());
}

// ---------------------------------------------------------------------------------- tensors

// The tensor a message describes; its storage aliases the message (kept alive by `keep`), a
// payload, or converted bytes. Fails with kInput when dimensions, type and data disagree.
Result<Tensor> tensor_from_proto(const onnx::TensorProto& proto,
                                 const std::shared_ptr<const void>& keep, const Payloads& payloads);

// Tensors of at least this many bytes become payloads when messages are made anew.
inline constexpr std::uint64_t kPayloadThreshold = 1024;

// Writes type, dimensions and data of a tensor; name and other fields stay as they are.
Status tensor_to_proto(const Tensor& tensor, Payloads& payloads, onnx::TensorProto& proto);
// Data only: as a placeholder from the threshold on.
Status set_raw_data(const StoragePtr& storage, Payloads& payloads, onnx::TensorProto& proto);

void clear_data(onnx::TensorProto& proto);
bool is_external(const onnx::TensorProto& proto);

// Where a tensor stands in a model.
enum class TensorPlace : std::uint8_t { kInitializer, kAttribute, kSparsePart };

// Calls visit(TensorProto&, TensorPlace) for every tensor: initializers of a graph, then its
// nodes, nested graphs where they occur; functions and training graphs last.
template <class Visit>
class TensorWalk {
 public:
  explicit TensorWalk(Visit& visit) : visit_(visit) {}

  Status model(onnx::ModelProto& model) {
    if (model.has_graph()) {
      if (Status status = graph(*model.mutable_graph()); !status.ok()) return status;
    }
    for (auto& function : *model.mutable_functions()) {
      for (auto& node : *function.mutable_node()) {
        if (Status status = this->node(node); !status.ok()) return status;
      }
      for (auto& entry : *function.mutable_attribute_proto()) {
        if (Status status = attribute(entry); !status.ok()) return status;
      }
    }
    for (auto& training : *model.mutable_training_info()) {
      if (training.has_initialization()) {
        if (Status status = graph(*training.mutable_initialization()); !status.ok()) return status;
      }
      if (training.has_algorithm()) {
        if (Status status = graph(*training.mutable_algorithm()); !status.ok()) return status;
      }
    }
    return ok_status();
  }

 private:
  Status graph(onnx::GraphProto& graph) {
    for (auto& tensor : *graph.mutable_initializer()) {
      if (Status status = visit_(tensor, TensorPlace::kInitializer); !status.ok()) return status;
    }
    for (auto& tensor : *graph.mutable_sparse_initializer()) {
      if (Status status = sparse(tensor); !status.ok()) return status;
    }
    for (auto& node : *graph.mutable_node()) {
      if (Status status = this->node(node); !status.ok()) return status;
    }
    return ok_status();
  }
  Status node(onnx::NodeProto& node) {
    for (auto& entry : *node.mutable_attribute()) {
      if (Status status = attribute(entry); !status.ok()) return status;
    }
    return ok_status();
  }
  Status attribute(onnx::AttributeProto& entry) {
    if (entry.has_t()) {
      if (Status status = visit_(*entry.mutable_t(), TensorPlace::kAttribute); !status.ok()) {
        return status;
      }
    }
    for (auto& tensor : *entry.mutable_tensors()) {
      if (Status status = visit_(tensor, TensorPlace::kAttribute); !status.ok()) return status;
    }
    if (entry.has_sparse_tensor()) {
      if (Status status = sparse(*entry.mutable_sparse_tensor()); !status.ok()) return status;
    }
    for (auto& tensor : *entry.mutable_sparse_tensors()) {
      if (Status status = sparse(tensor); !status.ok()) return status;
    }
    if (entry.has_g()) {
      if (Status status = graph(*entry.mutable_g()); !status.ok()) return status;
    }
    for (auto& body : *entry.mutable_graphs()) {
      if (Status status = graph(body); !status.ok()) return status;
    }
    return ok_status();
  }
  Status sparse(onnx::SparseTensorProto& tensor) {
    for (auto* part : {tensor.has_values() ? tensor.mutable_values() : nullptr,
                       tensor.has_indices() ? tensor.mutable_indices() : nullptr}) {
      if (part == nullptr) continue;
      if (Status status = visit_(*part, TensorPlace::kSparsePart); !status.ok()) return status;
    }
    return ok_status();
  }

  Visit& visit_;
};

template <class Visit>
Status for_each_tensor(onnx::ModelProto& model, Visit&& visit) {
  return TensorWalk<std::remove_reference_t<Visit>>(visit).model(model);
}

// ------------------------------------------------------------------------ (de)serialisation

// Deterministic bytes. Fails with kUnsupported beyond 2 GiB - 1.
template <class Message>
Result<std::string> serialise(const Message& message);
// False when the bytes are not such a message. `graph_depth` bounds how deep it may nest.
template <class Message>
bool parse(std::string_view bytes, int graph_depth, Message& message);

}  // namespace mcompress
