// ONNX copies all types known so far for every nested graph that it enters: a graph of n nodes
// with an If in every few takes n^2. Here such a graph is inferred stage by stage. A stage is a
// model of some of its nodes, in order, that knows of the rest what these nodes and the graphs in
// them read:
//
//   stage k:  inputs and initializers read  ->  a run of nodes, as long as
//             nested graphs * values of the stage <= kMostCopies
//
// The copies of a stage are bounded, and a stage holds some hundred nodes where Ifs are rare and
// some ten Ifs where they are dense, so the sum grows with the nodes. What values of shapes are
// known is handed from stage to stage; that two unknown sizes are the same is not.
#include "onnx/type_inference.h"

#include <onnx/defs/schema.h>
#include <onnx/shape_inference/implementation.h>

#include <exception>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "onnx/contrib_schemas.h"

namespace mcompress {
namespace {

constexpr std::size_t kMostCopies = 4096;  // of types, in one stage
// Models that copy less are inferred in one go, which finds the most.
constexpr std::size_t kWorthStages = std::size_t{1} << 16;
constexpr std::string_view kInvented = "unk__";

using Known = onnx::shape_inference::DataValueMap;

std::string infer(onnx::ModelProto& model, Known& known) {
  const auto run = [&](bool propagate_data, Known& values) -> std::string {
    try {
      onnx::shape_inference::InferShapes(model, &schemas_with_contrib(),
                                         onnx::ShapeInferenceOptions(false, 0, propagate_data),
                                         &values);
      return {};
    } catch (const std::exception& error) {
      return error.what();
    }
  };
  // Following the values of shapes finds more, but is also what fails most often.
  std::string complaint = run(true, known);
  Known none;
  if (!complaint.empty()) complaint = run(false, none);
  return complaint;
}

std::size_t graphs_in(const onnx::NodeProto& node);

// With those inside of it.
std::size_t graphs_from(const onnx::GraphProto& graph) {
  std::size_t count = 1;
  for (const onnx::NodeProto& node : graph.node()) count += graphs_in(node);
  return count;
}

std::size_t graphs_in(const onnx::NodeProto& node) {
  std::size_t count = 0;
  for (const onnx::AttributeProto& attribute : node.attribute()) {
    if (attribute.has_g()) count += graphs_from(attribute.g());
    for (const onnx::GraphProto& graph : attribute.graphs()) count += graphs_from(graph);
  }
  return count;
}

void forget_invented(onnx::TensorShapeProto& shape) {
  for (auto& dim : *shape.mutable_dim()) {
    if (dim.dim_param().starts_with(kInvented)) dim.clear_dim_param();
  }
}

// Messages go from one part to the next by exchange: names keep their place in memory, so that
// they are told apart, and looked up, without copies.
class Stages {
 public:
  explicit Stages(onnx::ModelProto& model)
      : model_(model), whole_(new_graph(model)), done_(new_graph(model)) {
    whole_.Swap(model_.mutable_graph());
    types_.reserve(static_cast<std::size_t>(whole_.input_size() + whole_.value_info_size() +
                                            2 * whole_.node_size()));
    initializers_.reserve(static_cast<std::size_t>(whole_.initializer_size()));
    for (const auto* list : {&whole_.input(), &whole_.output(), &whole_.value_info()}) {
      for (const onnx::ValueInfoProto& info : *list) types_.emplace(info.name(), &info);
    }
    for (const onnx::TensorProto& tensor : whole_.initializer()) {
      initializers_.emplace(tensor.name(), &tensor);
    }
    for (const onnx::SparseTensorProto& tensor : whole_.sparse_initializer()) {
      sparse_.emplace(tensor.values().name(), &tensor);
    }
  }

  std::string run() {
    std::string complaint;
    for (int next = 0; next < whole_.node_size();) {
      begin();
      for (std::size_t graphs = 0; next < whole_.node_size(); ++next) {
        onnx::NodeProto& node = *whole_.mutable_node(next);
        const std::size_t values = made_.size() + read_.size();
        graphs += graphs_in(node);
        if (values > 0 && graphs * values > kMostCopies) break;
        read(node);
        stage().add_node()->Swap(&node);
      }
      declare_outputs();
      std::string said = infer(model_, known_);
      if (complaint.empty()) complaint = std::move(said);
      collect();
      for (onnx::NodeProto& node : *stage().mutable_node()) done_.add_node()->Swap(&node);
    }
    finish();
    return complaint;
  }

 private:
  // Where the model lies: across arenas an exchange would be a copy.
  static onnx::GraphProto& new_graph(onnx::ModelProto& model) {
    return *google::protobuf::Arena::CreateMessage<onnx::GraphProto>(model.GetArena());
  }
  onnx::GraphProto& stage() { return *model_.mutable_graph(); }

  void begin() {
    stage().Clear();
    stage().set_name(whole_.name());
    made_.clear();
    read_.clear();
  }

  // What the node and the graphs in it read of the stages before, or of the graph's own inputs.
  void read(const onnx::NodeProto& node) {
    for (const std::string& name : node.input()) read(name);
    read_in_graphs(node);
    for (const std::string& name : node.output()) {
      if (!name.empty()) made_.insert(name);
    }
  }

  void read_in_graphs(const onnx::NodeProto& node) {
    const auto inside = [&](const onnx::GraphProto& graph) {
      // Names that are the inner graph's own may be asked for in vain, or for nothing.
      for (const onnx::NodeProto& inner : graph.node()) {
        for (const std::string& name : inner.input()) read(name);
        read_in_graphs(inner);
      }
      for (const onnx::ValueInfoProto& output : graph.output()) read(output.name());
    };
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      if (attribute.has_g()) inside(attribute.g());
      for (const onnx::GraphProto& graph : attribute.graphs()) inside(graph);
    }
  }

  void read(const std::string& name) {
    if (name.empty() || made_.contains(name) || !read_.insert(name).second) return;
    if (const auto tensor = initializers_.find(name); tensor != initializers_.end()) {
      *stage().add_initializer() = *tensor->second;
    } else if (const auto sparse = sparse_.find(name); sparse != sparse_.end()) {
      *stage().add_sparse_initializer() = *sparse->second;
    }
    if (const auto type = types_.find(name); type != types_.end()) {
      *stage().add_input() = *type->second;
    }
  }

  // What the file tells of them is part of what inference goes by.
  void declare_outputs() {
    for (const onnx::NodeProto& node : stage().node()) {
      for (const std::string& name : node.output()) {
        const auto type = types_.find(name);
        if (type != types_.end()) *stage().add_value_info() = *type->second;
      }
    }
  }

  void collect() {
    for (onnx::ValueInfoProto& info : *stage().mutable_value_info()) {
      const auto made = made_.find(info.name());
      if (made == made_.end()) continue;
      if (info.type().has_tensor_type() && info.type().tensor_type().has_shape()) {
        forget_invented(*info.mutable_type()->mutable_tensor_type()->mutable_shape());
      }
      onnx::ValueInfoProto& kept = *done_.add_value_info();
      kept.Swap(&info);
      types_.insert_or_assign(*made, &kept);
    }
    for (const std::string_view name : made_) {
      const auto type = types_.find(name);
      if (type != types_.end() && !may_be_shape(*type->second)) continue;
      if (const auto shape = known_.find(std::string(name)); shape != known_.end()) {
        forget_invented(shape->second);
      }
    }
  }

  // Values of shapes are known of vectors of integers alone.
  static bool may_be_shape(const onnx::ValueInfoProto& info) {
    if (!info.type().has_tensor_type()) return true;
    const auto& type = info.type().tensor_type();
    return (type.elem_type() == onnx::TensorProto::INT64 ||
            type.elem_type() == onnx::TensorProto::INT32 ||
            type.elem_type() == onnx::TensorProto::UNDEFINED) &&
           (!type.has_shape() || type.shape().dim_size() <= 1);
  }

  void finish() {
    std::unordered_set<std::string_view> interface;
    for (const auto& info : whole_.input()) interface.insert(info.name());
    for (auto& info : *whole_.mutable_output()) {
      interface.insert(info.name());
      if (!info.has_type()) {
        const auto type = types_.find(info.name());
        if (type != types_.end() && type->second->has_type())
          *info.mutable_type() = type->second->type();
      }
    }
    whole_.mutable_node()->Swap(done_.mutable_node());
    // What was declared of values that are made elsewhere goes.
    std::vector<onnx::ValueInfoProto*> found;
    for (auto& info : *done_.mutable_value_info()) {
      if (!interface.contains(info.name())) found.push_back(&info);
    }
    whole_.clear_value_info();
    for (onnx::ValueInfoProto* info : found) whole_.add_value_info()->Swap(info);
    whole_.Swap(model_.mutable_graph());
  }

  onnx::ModelProto& model_;
  onnx::GraphProto& whole_;
  onnx::GraphProto& done_;
  Known known_;
  std::unordered_map<std::string_view, const onnx::ValueInfoProto*> types_;  // the newest
  std::unordered_map<std::string_view, const onnx::TensorProto*> initializers_;
  std::unordered_map<std::string_view, const onnx::SparseTensorProto*> sparse_;
  std::unordered_set<std::string_view> made_, read_;  // in this stage
};

}  // namespace

std::string infer_types(onnx::ModelProto& model) {
  const auto nodes = static_cast<std::size_t>(model.graph().node_size());
  const std::size_t nested = graphs_from(model.graph()) - 1;
  if (nested > 0 && nodes > kWorthStages / nested) return Stages(model).run();
  Known known;
  return infer(model, known);
}

}  // namespace mcompress
