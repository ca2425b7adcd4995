#include "onnx/graph_loader.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "ir/domains.h"
#include "onnx/shadowed_names.h"
#include "support/try.h"

namespace mcompress {
namespace {

Error bad_graph(std::string_view id, std::string message, std::string path, std::string subject,
                std::string hint = {}) {
  return Error(Code::kInput, id, std::move(message), {{}, std::move(path), std::move(subject)},
               std::move(hint));
}

std::string nth(const char* what, std::size_t index) {
  return std::string(what) + " " + std::to_string(index);
}

// The node of `graph` that a use belongs to: the user itself or the one it is nested in.
const Node* user_in(const Graph& graph, const Use& use) {
  const Node* node = use.node != nullptr ? use.node : use.graph->owner();
  while (node != nullptr && &node->graph() != &graph) node = node->graph().owner();
  return node;
}

onnx::AttributeProto::AttributeType kind_of(const onnx::AttributeProto& proto) {
  if (proto.type() != onnx::AttributeProto::UNDEFINED) return proto.type();
  // IR version 1 had no type field.
  if (proto.has_f()) return onnx::AttributeProto::FLOAT;
  if (proto.has_i()) return onnx::AttributeProto::INT;
  if (proto.has_s()) return onnx::AttributeProto::STRING;
  if (proto.has_t()) return onnx::AttributeProto::TENSOR;
  if (proto.has_g()) return onnx::AttributeProto::GRAPH;
  if (proto.floats_size() > 0) return onnx::AttributeProto::FLOATS;
  if (proto.ints_size() > 0) return onnx::AttributeProto::INTS;
  if (proto.strings_size() > 0) return onnx::AttributeProto::STRINGS;
  if (proto.tensors_size() > 0) return onnx::AttributeProto::TENSORS;
  if (proto.graphs_size() > 0) return onnx::AttributeProto::GRAPHS;
  return onnx::AttributeProto::UNDEFINED;
}

// An order in which every node comes after those it needs and which keeps the given one where it
// can; shorter than `users` when there is a cycle.
std::vector<std::size_t> stable_order(const std::vector<std::vector<std::size_t>>& users,
                                      std::vector<std::size_t>& waits_for) {
  std::priority_queue<std::size_t, std::vector<std::size_t>, std::greater<>> ready;
  for (std::size_t i = 0; i < users.size(); ++i) {
    if (waits_for[i] == 0) ready.push(i);
  }
  std::vector<std::size_t> order;
  order.reserve(users.size());
  while (!ready.empty()) {
    const std::size_t node = ready.top();
    ready.pop();
    order.push_back(node);
    for (const std::size_t user : users[node]) {
      if (--waits_for[user] == 0) ready.push(user);
    }
  }
  return order;
}

// A node on a cycle, given what stable_order left waiting: walking back along what a node waits
// for has to come round.
std::size_t node_on_cycle(const std::vector<std::vector<std::size_t>>& users,
                          const std::vector<std::size_t>& waits_for) {
  std::vector<std::size_t> waits_on(users.size(), users.size());
  for (std::size_t i = 0; i < users.size(); ++i) {
    if (waits_for[i] == 0) continue;
    for (const std::size_t user : users[i]) {
      if (waits_on[user] == users.size()) waits_on[user] = i;
    }
  }
  std::size_t at = 0;
  while (waits_for[at] == 0) ++at;
  std::vector<bool> seen(users.size());
  while (!seen[at]) {
    seen[at] = true;
    at = waits_on[at];
  }
  return at;
}

}  // namespace

std::optional<TypeInfo> type_from_proto(const onnx::TypeProto& proto) {
  if (!proto.has_tensor_type() || proto.tensor_type().elem_type() == 0) return std::nullopt;
  TypeInfo type;
  type.element = static_cast<DataType>(proto.tensor_type().elem_type());
  if (proto.tensor_type().has_shape()) {
    auto& shape = type.shape.emplace();
    for (const auto& dim : proto.tensor_type().shape().dim()) {
      Dim& entry = shape.emplace_back();
      // Some exporters write -1 where they mean "unknown".
      if (dim.has_dim_value() && dim.dim_value() >= 0) entry.size = dim.dim_value();
      if (dim.has_dim_param()) entry.symbol = dim.dim_param();
    }
  }
  return type;
}

std::string GraphLoader::path(const Scope& scope) const {
  return scope.parent == nullptr ? scope.step : path(*scope.parent) + "/" + scope.step;
}

std::string GraphLoader::path(const Scope& scope, std::size_t node,
                              const onnx::NodeProto& proto) const {
  return path(scope) + "/" +
         (proto.name().empty() ? "node[" + std::to_string(node) + "]" : proto.name());
}

Value* GraphLoader::resolve(const Scope& scope, std::string_view name) const {
  for (const Scope* level = &scope; level != nullptr; level = level->parent) {
    const auto found = level->names.find(name);
    if (found == level->names.end()) continue;
    if (comes_later(*level, *found->second)) level->out_of_order = true;
    return found->second;
  }
  return nullptr;
}

// What an outer graph makes only after this one was read may have the same name: an If and the
// outputs of its branches often do.
const GraphLoader::Scope* GraphLoader::definer(const Scope* level, const std::string& name) const {
  for (; level != nullptr; level = level->parent) {
    const auto found = level->names.find(name);
    if (found == level->names.end()) continue;
    if (!comes_later(*level, *found->second)) return level;
  }
  return nullptr;
}

Result<Value*> GraphLoader::define(Scope& scope, const std::string& name, std::string_view what) {
  if (name.empty()) {
    return bad_graph("value-without-name", std::string(what) + " has no name", path(scope), {});
  }
  const auto [entry, first] = scope.names.try_emplace(name, nullptr);
  if (!first) {
    return bad_graph("name-defined-twice", std::string(what) + " is already defined in this graph",
                     path(scope), name, "names of values must be unique in a graph");
  }
  if (const Scope* outer = definer(scope.parent, name); outer != nullptr) {
    return bad_graph("name-shadows",
                     std::string(what) + " has the name of a value of the enclosing graph '" +
                         path(*outer) + "'",
                     path(scope), name, "names must be unique across nested graphs");
  }
  Value& value = builder_.add_value(*scope.graph, name);
  entry->second = &value;
  return &value;
}

Status GraphLoader::define_inputs(Scope& scope, onnx::GraphProto& proto) {
  for (const onnx::ValueInfoProto& info : proto.input()) {
    MCOMPRESS_ASSIGN(Value * value,
                     define(scope, info.name(), nth("input", scope.graph->inputs().size())));
    builder_.set_type(*value, type_from_proto(info.type()), alias(&info));
    builder_.add_input(*scope.graph, *value);
  }
  return ok_status();
}

Status GraphLoader::define_initializers(Scope& scope, onnx::GraphProto& proto) {
  const auto add = [&](const std::string& name, const Tensor& tensor, Origin origin) -> Status {
    const auto found = scope.names.find(name);
    Value* value = found != scope.names.end() ? found->second : nullptr;
    if (value != nullptr && value->is_initializer()) {
      return bad_graph("name-defined-twice",
                       nth("initializer", scope.graph->initializers().size()) +
                           " is already defined in this graph",
                       path(scope), name, "names of values must be unique in a graph");
    }
    if (value == nullptr) {
      MCOMPRESS_ASSIGN(value,
                       define(scope, name, nth("initializer", scope.graph->initializers().size())));
      TypeInfo type;
      type.element = tensor.dtype();
      type.shape.emplace();
      for (const std::int64_t size : tensor.dims()) type.shape->push_back({size, {}});
      builder_.set_type(*value, std::move(type), nullptr);
    }
    builder_.set_initializer(*scope.graph, *value, tensor, std::move(origin));
    return ok_status();
  };
  for (const onnx::TensorProto& tensor : proto.initializer()) {
    auto read = tensor_from_proto(tensor, parsed_, parsed_->payloads);
    if (!read.ok()) return std::move(read).error().at(path(scope));
    MCOMPRESS_TRY(add(tensor.name(), *read, alias(&tensor)));
  }
  for (const onnx::SparseTensorProto& sparse : proto.sparse_initializer()) {
    parsed_->sparse.insert(&sparse);
    const Tensor tensor = Tensor::opaque_tensor(static_cast<DataType>(sparse.values().data_type()),
                                                {sparse.dims().begin(), sparse.dims().end()},
                                                alias(&sparse), sparse.ByteSizeLong());
    MCOMPRESS_TRY(add(sparse.values().name(), tensor, alias(&sparse)));
  }
  return ok_status();
}

Status GraphLoader::define_node_outputs(Scope& scope, const Nodes& protos) {
  for (int i = 0; i < protos.size(); ++i) {
    std::size_t o = 0;
    for (const std::string& name : protos[i].output()) {
      if (name.empty()) {
        ++o;
        continue;
      }
      auto value = define(scope, name, nth("output", o++));
      if (!value.ok()) {
        Error error = std::move(value).error();
        error.diagnostic.where.path = path(scope, static_cast<std::size_t>(i), protos[i]);
        return error;
      }
      makers_.resize((*value)->id() + 1);
      makers_.back() = static_cast<std::size_t>(i) + 1;
    }
  }
  return ok_status();
}

void GraphLoader::add_types(Scope& scope, const onnx::GraphProto& proto) {
  const auto add = [&](const onnx::ValueInfoProto& info) {
    const auto found = scope.names.find(info.name());
    if (found == scope.names.end()) return;
    Value& value = *found->second;
    if (IrInternals::type_origin(value) != nullptr) return;
    auto type = type_from_proto(info.type());
    // What is said about an initializer adds nothing to what it is.
    if (value.is_initializer()) type = *value.type();
    builder_.set_type(value, std::move(type), alias(&info));
  };
  for (const onnx::ValueInfoProto& info : proto.output()) add(info);
  for (const onnx::ValueInfoProto& info : proto.value_info()) add(info);
}

Result<std::unique_ptr<Graph>> GraphLoader::nested(Scope& scope, Node& node,
                                                   onnx::GraphProto& proto, std::string step) {
  std::unique_ptr<Graph> graph = builder_.new_graph(&node);
  Scope inner;
  inner.graph = graph.get();
  inner.parent = &scope;
  inner.step = std::move(step);
  const ValueNames names = names_instead(
      proto, [&](const std::string& name) { return definer(&scope, name) != nullptr; });
  if (!names.empty()) {
    rename_values(proto, names);
    diagnostics_.warn(
        "shadowing-names-changed",
        "'" + names.begin()->first + "' is a value of an enclosing graph too; it is '" +
            names.begin()->second + "' now" + (names.size() > 1 ? ", and others likewise" : ""),
        {{}, path(inner), {}});
  }
  MCOMPRESS_TRY(fill(inner, proto, alias(&proto)));
  return graph;
}

Result<Attribute> GraphLoader::read_attribute(Scope& scope, Node* node,
                                              onnx::AttributeProto& proto) {
  Attribute entry{proto.name(), OpaqueAttribute{}, alias(&proto)};
  const auto add = [&](AttributeValue value) -> Result<Attribute> {
    entry.value = std::move(value);
    return std::move(entry);
  };
  const auto step = [&](int index) {
    if (node == nullptr) return proto.name();
    std::string text = node->name().empty() ? "node[" + std::to_string(scope.built) + "]"
                                            : std::string(node->name());
    text += "/" + proto.name();
    if (index >= 0) text += "[" + std::to_string(index) + "]";
    return text;
  };
  const auto missing = [&](std::string_view what) {
    return bad_graph(
        "attribute-empty",
        "attribute '" + proto.name() + "' says it is a " + std::string(what) + " but holds none",
        path(scope), node != nullptr ? node->label() : std::string());
  };
  if (!proto.ref_attr_name().empty()) return add(AttributeRef{proto.ref_attr_name()});
  switch (kind_of(proto)) {
    case onnx::AttributeProto::FLOAT:
      return add(proto.f());
    case onnx::AttributeProto::INT:
      return add(std::int64_t{proto.i()});
    case onnx::AttributeProto::STRING:
      return add(proto.s());
    case onnx::AttributeProto::FLOATS:
      return add(std::vector<float>(proto.floats().begin(), proto.floats().end()));
    case onnx::AttributeProto::INTS:
      return add(std::vector<std::int64_t>(proto.ints().begin(), proto.ints().end()));
    case onnx::AttributeProto::STRINGS:
      return add(std::vector<std::string>(proto.strings().begin(), proto.strings().end()));
    case onnx::AttributeProto::TENSOR: {
      if (!proto.has_t()) return missing("tensor");
      auto tensor = tensor_from_proto(proto.t(), parsed_, parsed_->payloads);
      if (!tensor.ok()) return std::move(tensor).error().at(path(scope) + "/" + step(-1));
      return add(std::move(tensor).value());
    }
    case onnx::AttributeProto::TENSORS: {
      std::vector<Tensor> tensors;
      for (int i = 0; i < proto.tensors_size(); ++i) {
        auto tensor = tensor_from_proto(proto.tensors(i), parsed_, parsed_->payloads);
        if (!tensor.ok()) return std::move(tensor).error().at(path(scope) + "/" + step(i));
        tensors.push_back(std::move(tensor).value());
      }
      return add(std::move(tensors));
    }
    case onnx::AttributeProto::GRAPH: {
      if (!proto.has_g()) return missing("graph");
      if (node == nullptr) return add(OpaqueAttribute{});
      MCOMPRESS_ASSIGN(auto graph, nested(scope, *node, *proto.mutable_g(), step(-1)));
      return add(std::move(graph));
    }
    case onnx::AttributeProto::GRAPHS: {
      if (node == nullptr) return add(OpaqueAttribute{});
      std::vector<std::unique_ptr<Graph>> graphs;
      for (int i = 0; i < proto.graphs_size(); ++i) {
        MCOMPRESS_ASSIGN(auto graph, nested(scope, *node, *proto.mutable_graphs(i), step(i)));
        graphs.push_back(std::move(graph));
      }
      return add(std::move(graphs));
    }
    default:
      return add(OpaqueAttribute{});
  }
}

// Tools write operators of the runtime and forget the import. The runtime takes such files: this
// domain has had one version only, so there is no doubt about what is meant.
bool GraphLoader::import_left_out(const Node& node, const std::string& place) {
  const auto names_it = [](const onnx::OperatorSetIdProto& entry) {
    return entry.domain() == kContribDomain;
  };
  if (node.domain() != kContribDomain || std::ranges::any_of(*import_messages_, names_it)) {
    return false;
  }
  onnx::OperatorSetIdProto& entry = *import_messages_->Add();
  entry.set_domain(std::string(kContribDomain));
  entry.set_version(1);
  imported_.emplace(kContribDomain);
  if (function_opsets_ != nullptr) {
    function_opsets_->emplace(kContribDomain, 1);
  } else {
    builder_.import_opset(kContribDomain, 1);
  }
  diagnostics_.warn("opset-added",
                    "operators of '" + std::string(kContribDomain) +
                        "' are used, whose operator set is not imported; version 1 is now",
                    {{}, place, node.label()});
  return true;
}

Result<Node*> GraphLoader::build_node(Scope& scope, std::size_t position, onnx::NodeProto& proto) {
  Node& node = builder_.add_node(*scope.graph, proto.name(), proto.domain(), proto.op_type(),
                                 proto.overload(), alias(&proto));
  if (!imported_.contains(node.domain()) && !import_left_out(node, path(scope))) {
    return bad_graph("opset-missing",
                     "no operator set is imported for domain '" + proto.domain() + "' of this " +
                         proto.op_type() + " node",
                     path(scope, position, proto), node.label(),
                     "the model's opset_import has to name a version for it");
  }
  for (const std::string& name : proto.input()) {
    if (name.empty()) {
      builder_.add_node_input(node, nullptr);
      continue;
    }
    Value* value = resolve(scope, name);
    if (value == nullptr) {
      return bad_graph("name-undefined",
                       "input " + std::to_string(node.inputs().size()) + " of this " +
                           proto.op_type() + " node is '" + name +
                           "', which nothing in scope defines",
                       path(scope, position, proto), name,
                       "is the model complete? a graph input, initializer or node output of that "
                       "name is needed");
    }
    builder_.add_node_input(node, value);
  }
  for (const std::string& name : proto.output()) {
    builder_.add_node_output(node, name.empty() ? nullptr : scope.names.at(name));
  }
  for (onnx::AttributeProto& entry : *proto.mutable_attribute()) {
    MCOMPRESS_ASSIGN(Attribute attribute, read_attribute(scope, &node, entry));
    builder_.add_attribute(node, std::move(attribute));
  }
  return &node;
}

Status GraphLoader::build_nodes(Scope& scope, Nodes& protos) {
  std::vector<Node*> nodes;
  nodes.reserve(static_cast<std::size_t>(protos.size()));
  for (onnx::NodeProto& proto : protos) {
    MCOMPRESS_ASSIGN(Node * node, build_node(scope, nodes.size(), proto));
    nodes.push_back(node);
    scope.built = nodes.size();
  }
  return link(scope, nodes, protos);
}

Status GraphLoader::link(Scope& scope, std::vector<Node*>& nodes, Nodes& protos) {
  if (scope.out_of_order) {
    std::unordered_map<const Node*, std::size_t> position;
    for (std::size_t i = 0; i < nodes.size(); ++i) position.emplace(nodes[i], i);
    std::vector<std::vector<std::size_t>> users(nodes.size());
    std::vector<std::size_t> waits_for(nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      for (const Value* value : nodes[i]->outputs()) {
        if (value == nullptr) continue;
        for (const Use& use : value->uses()) {
          const Node* user = user_in(*scope.graph, use);
          if (user == nullptr) continue;
          const std::size_t at = position.at(user);
          users[i].push_back(at);
          ++waits_for[at];
        }
      }
    }
    const std::vector<std::size_t> order = stable_order(users, waits_for);
    if (order.size() < nodes.size()) {
      const std::size_t at = node_on_cycle(users, waits_for);
      return bad_graph("graph-cycle", "the node needs its own result, directly or through others",
                       path(scope, at, protos[static_cast<int>(at)]), nodes[at]->label());
    }
    // The messages move as well: the saver copies an untouched graph whole.
    std::vector<std::size_t> target(order.size());
    std::vector<Node*> sorted;
    for (std::size_t i = 0; i < order.size(); ++i) {
      target[order[i]] = i;
      sorted.push_back(nodes[order[i]]);
    }
    for (std::size_t i = 0; i < target.size(); ++i) {
      while (target[i] != i) {
        const std::size_t to = target[i];
        protos.SwapElements(static_cast<int>(i), static_cast<int>(to));
        std::swap(target[i], target[to]);
      }
    }
    nodes = std::move(sorted);
    diagnostics_.warn("nodes-out-of-order",
                      "nodes were not in an order in which they can be executed; they are now",
                      {{}, path(scope), {}});
  }
  for (Node* node : nodes) builder_.append(*scope.graph, *node);
  return ok_status();
}

Status GraphLoader::add_outputs(Scope& scope, const std::vector<std::string_view>& names) {
  for (const std::string_view name : names) {
    Value* value = resolve(scope, name);
    if (value == nullptr) {
      return bad_graph("name-undefined", "nothing in the graph defines this output", path(scope),
                       std::string(name));
    }
    builder_.add_output(*scope.graph, *value);
  }
  return ok_status();
}

Status GraphLoader::fill(Scope& scope, onnx::GraphProto& proto, Origin origin) {
  const auto most = static_cast<std::size_t>(proto.input_size() + proto.initializer_size() +
                                             2 * proto.node_size());
  scope.names.reserve(most);
  builder_.set_graph(*scope.graph, proto.name(), std::move(origin));
  MCOMPRESS_TRY(define_inputs(scope, proto));
  MCOMPRESS_TRY(define_initializers(scope, proto));
  MCOMPRESS_TRY(define_node_outputs(scope, proto.node()));
  add_types(scope, proto);
  MCOMPRESS_TRY(build_nodes(scope, *proto.mutable_node()));
  return add_outputs(scope, {[&] {
                       std::vector<std::string_view> names;
                       for (const onnx::ValueInfoProto& info : proto.output())
                         names.push_back(info.name());
                       return names;
                     }()});
}

Status GraphLoader::load_top(onnx::GraphProto& proto) {
  imported_.clear();
  for (const auto& [domain, version] : builder_.model().opsets()) {
    if (version > 0) imported_.insert(domain);
  }
  import_messages_ = parsed_->proto.mutable_opset_import();
  function_opsets_ = nullptr;
  Scope scope;
  scope.graph = &builder_.model().graph();
  scope.step = "graph";
  return fill(scope, proto, alias(&proto));
}

Status GraphLoader::load_function(onnx::FunctionProto& proto) {
  Function function;
  function.domain = proto.domain();
  function.name = proto.name();
  function.overload = proto.overload();
  function.origin = alias(&proto);
  function.body = builder_.new_graph(nullptr);
  Scope scope;
  scope.graph = function.body.get();
  scope.step = "function/" + (proto.domain().empty() ? "" : proto.domain() + ":") + proto.name();
  builder_.set_graph(*scope.graph, proto.name(), alias(&proto));
  imported_.clear();
  for (const onnx::OperatorSetIdProto& entry : proto.opset_import()) {
    if (entry.version() <= 0) continue;
    const std::string domain(plain_domain(entry.domain()));
    imported_.insert(domain);
    function.opsets[domain] = entry.version();
  }
  import_messages_ = proto.mutable_opset_import();
  function_opsets_ = &function.opsets;
  for (onnx::AttributeProto& preset : *proto.mutable_attribute_proto()) {
    MCOMPRESS_ASSIGN(Attribute attribute, read_attribute(scope, nullptr, preset));
    function.defaults.push_back(std::move(attribute));
  }
  for (const std::string& name : proto.input()) {
    MCOMPRESS_ASSIGN(Value * value,
                     define(scope, name, nth("input", scope.graph->inputs().size())));
    builder_.add_input(*scope.graph, *value);
  }
  MCOMPRESS_TRY(define_node_outputs(scope, proto.node()));
  for (const onnx::ValueInfoProto& info : proto.value_info()) {
    const auto found = scope.names.find(info.name());
    if (found == scope.names.end()) continue;
    builder_.set_type(*found->second, type_from_proto(info.type()), alias(&info));
  }
  MCOMPRESS_TRY(build_nodes(scope, *proto.mutable_node()));
  MCOMPRESS_TRY(add_outputs(scope, {proto.output().begin(), proto.output().end()}));
  builder_.add_function(std::move(function));
  return ok_status();
}

}  // namespace mcompress
