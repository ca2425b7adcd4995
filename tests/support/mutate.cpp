#include "support/mutate.h"

#include <onnx/onnx_pb.h>
#include <onnx/shape_inference/implementation.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <set>

namespace mcompress::testing {
namespace {

using onnx::AttributeProto;
using onnx::GraphProto;
using onnx::ModelProto;
using onnx::NodeProto;
using onnx::TensorProto;
using Ints = std::vector<std::int64_t>;

// What is known about a value; the shape only where every dimension is a number.
struct Kind {
  int element = TensorProto::UNDEFINED;
  std::optional<Ints> shape;
};

struct Place {  // input `slot` of node number `node`
  int node = 0, slot = 0;
};

class Mutator {
 public:
  Mutator(ModelProto& model, std::uint64_t seed) : model_(model), random_(seed) {
    for (const auto& import : model.opset_import()) {
      if (import.domain().empty() || import.domain() == "ai.onnx") opset_ = import.version();
    }
    find_kinds();
  }

  std::vector<std::string> run(int count) {
    using Mutation = bool (Mutator::*)();
    static constexpr std::pair<const char*, Mutation> kAll[] = {
        {"identity", &Mutator::identity},
        {"identity at an output", &Mutator::identity_at_output},
        {"split and concat", &Mutator::split_and_concat},
        {"pair of transposes", &Mutator::transposes},
        {"pair of reshapes", &Mutator::reshapes},
        {"unsqueeze and squeeze", &Mutator::unsqueeze_and_squeeze},
        {"pair of casts", &Mutator::casts},
        {"dropout", &Mutator::dropout},
        {"neutral arithmetic", &Mutator::neutral_arithmetic},
        {"whole slice", &Mutator::whole_slice},
        {"concat of one", &Mutator::concat_of_one},
        {"reshape to its own shape", &Mutator::own_shape},
        {"copied constant", &Mutator::copied_constant},
        {"constant as a node", &Mutator::constant_as_node},
        {"copied node", &Mutator::copied_node},
        {"dead branch", &Mutator::dead_branch},
        {"dead constant", &Mutator::dead_constant},
    };
    std::vector<std::string> done;
    for (int tries = 0; static_cast<int>(done.size()) < count && tries < 40 * count; ++tries) {
      const auto& [name, mutation] = kAll[below(std::size(kAll))];
      where_.clear();
      if ((this->*mutation)()) done.push_back(std::string(name) + " at '" + where_ + "'");
    }
    if (below(2) == 0) {
      permute();
      done.emplace_back("another order");
    }
    if (below(2) == 0) {
      rename();
      done.emplace_back("other names");
    }
    return done;
  }

 private:
  GraphProto& graph() { return *model_.mutable_graph(); }
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }
  std::string fresh(const char* stem) {
    return std::string("mutant_") + stem + "_" + std::to_string(++names_);
  }

  void find_kinds() {
    ModelProto inferred = model_;
    try {
      onnx::shape_inference::InferShapes(inferred);
    } catch (const std::exception&) {
      // Then less is known.
    }
    const auto note = [&](const onnx::ValueInfoProto& info) {
      if (!info.type().has_tensor_type()) return;
      const auto& type = info.type().tensor_type();
      Kind kind;
      kind.element = type.elem_type();
      if (type.has_shape()) {
        Ints shape;
        for (const auto& dim : type.shape().dim()) {
          if (dim.has_dim_value()) shape.push_back(dim.dim_value());
        }
        if (static_cast<int>(shape.size()) == type.shape().dim_size()) kind.shape = shape;
      }
      kinds_[info.name()] = kind;
    };
    for (const auto& info : inferred.graph().input()) note(info);
    for (const auto& info : inferred.graph().value_info()) note(info);
    for (const auto& info : inferred.graph().output()) note(info);
    for (const TensorProto& tensor : model_.graph().initializer()) {
      kinds_[tensor.name()] = {tensor.data_type(),
                               Ints(tensor.dims().begin(), tensor.dims().end())};
    }
  }

  const Kind& kind_of(const std::string& name) { return kinds_[name]; }

  // A random edge whose value passes.
  std::optional<Place> edge(const std::function<bool(const std::string&, const Kind&)>& wanted) {
    std::vector<Place> places;
    for (int n = 0; n < graph().node_size(); ++n) {
      for (int slot = 0; slot < graph().node(n).input_size(); ++slot) {
        const std::string& name = graph().node(n).input(slot);
        if (!name.empty() && kinds_.contains(name) && wanted(name, kinds_[name])) {
          places.push_back({n, slot});
        }
      }
    }
    if (places.empty()) return std::nullopt;
    const Place place = places[below(places.size())];
    where_ = graph().node(place.node).input(place.slot);
    return place;
  }

  static bool is_float(const std::string&, const Kind& kind) {
    return kind.element == TensorProto::FLOAT;
  }

  std::string constant(const Ints& values) {
    TensorProto& tensor = *graph().add_initializer();
    tensor.set_name(fresh("numbers"));
    tensor.set_data_type(TensorProto::INT64);
    tensor.add_dims(static_cast<std::int64_t>(values.size()));
    for (const std::int64_t value : values) tensor.add_int64_data(value);
    declare_old(tensor);
    kinds_[tensor.name()] = {TensorProto::INT64, Ints{static_cast<std::int64_t>(values.size())}};
    return tensor.name();
  }
  std::string scalar(float value) {
    TensorProto& tensor = *graph().add_initializer();
    tensor.set_name(fresh("number"));
    tensor.set_data_type(TensorProto::FLOAT);
    tensor.add_float_data(value);
    declare_old(tensor);
    kinds_[tensor.name()] = {TensorProto::FLOAT, Ints{}};
    return tensor.name();
  }
  // Before IR version 4 every initializer is an input too.
  void declare_old(const TensorProto& tensor) {
    if (model_.ir_version() >= 4) return;
    auto& input = *graph().add_input();
    input.set_name(tensor.name());
    auto& type = *input.mutable_type()->mutable_tensor_type();
    type.set_elem_type(tensor.data_type());
    type.mutable_shape();
    for (const std::int64_t size : tensor.dims()) {
      type.mutable_shape()->add_dim()->set_dim_value(size);
    }
  }

  static NodeProto node(const char* type, std::vector<std::string> inputs,
                        std::vector<std::string> outputs) {
    NodeProto node;
    node.set_op_type(type);
    for (std::string& input : inputs) node.add_input(std::move(input));
    for (std::string& output : outputs) node.add_output(std::move(output));
    return node;
  }
  static void set(NodeProto& node, const char* name, const Ints& values) {
    AttributeProto& attribute = *node.add_attribute();
    attribute.set_name(name);
    attribute.set_type(AttributeProto::INTS);
    for (const std::int64_t value : values) attribute.add_ints(value);
  }
  static void set(NodeProto& node, const char* name, std::int64_t value) {
    AttributeProto& attribute = *node.add_attribute();
    attribute.set_name(name);
    attribute.set_type(AttributeProto::INT);
    attribute.set_i(value);
  }

  // Puts nodes before node number `at`.
  void insert(int at, std::vector<NodeProto> nodes) {
    auto& list = *graph().mutable_node();
    for (NodeProto& entry : nodes) {
      *list.Add() = std::move(entry);
      for (int i = list.size() - 1; i > at; --i) list.SwapElements(i, i - 1);
      ++at;
    }
  }
  // The edge reads what the nodes make last instead.
  bool splice(Place place, std::vector<NodeProto> nodes) {
    const std::string from = graph().node(place.node).input(place.slot);
    const std::string to = nodes.back().output(0);
    graph().mutable_node(place.node)->set_input(place.slot, to);
    kinds_[to] = kinds_[from];
    insert(place.node, std::move(nodes));
    return true;
  }
  std::string input_of(Place place) { return graph().node(place.node).input(place.slot); }

  bool identity() {
    const auto place = edge([](const auto&, const Kind&) { return true; });
    return place && splice(*place, {node("Identity", {input_of(*place)}, {fresh("same")})});
  }

  bool identity_at_output() {
    if (graph().output_size() == 0) return false;
    const std::string name =
        graph()
            .output(static_cast<int>(below(static_cast<std::size_t>(graph().output_size()))))
            .name();
    for (int n = 0; n < graph().node_size(); ++n) {
      for (auto& output : *graph().mutable_node(n)->mutable_output()) {
        if (output != name || kinds_[name].element == TensorProto::UNDEFINED) continue;
        where_ = name;
        output = fresh("inner");
        kinds_[output] = kinds_[name];
        insert(n + 1, {node("Identity", {output}, {name})});
        return true;
      }
    }
    return false;
  }

  bool split_and_concat() {
    const auto place = edge([](const auto&, const Kind& kind) {
      return kind.shape && std::ranges::any_of(*kind.shape, [](auto size) { return size > 1; });
    });
    if (!place || opset_ < 2) return false;
    const Ints shape = *kind_of(input_of(*place)).shape;
    std::size_t axis = below(shape.size());
    while (shape[axis] < 2) axis = (axis + 1) % shape.size();
    const auto first =
        static_cast<std::int64_t>(1 + below(static_cast<std::size_t>(shape[axis] - 1)));
    const Ints sizes = {first, shape[axis] - first};
    const std::string a = fresh("part"), b = fresh("part");
    NodeProto split = node("Split", {input_of(*place)}, {a, b});
    set(split, "axis", static_cast<std::int64_t>(axis));
    if (opset_ >= 13) {
      split.add_input(constant(sizes));
    } else {
      set(split, "split", sizes);
    }
    NodeProto concat = node("Concat", {a, b}, {fresh("whole")});
    set(concat, "axis", static_cast<std::int64_t>(axis));
    return splice(*place, {split, concat});
  }

  bool transposes() {
    const auto place =
        edge([](const auto&, const Kind& kind) { return kind.shape && kind.shape->size() > 1; });
    if (!place) return false;
    Ints there(kind_of(input_of(*place)).shape->size());
    std::iota(there.begin(), there.end(), 0);
    std::ranges::shuffle(there, random_);
    Ints back(there.size());
    for (std::size_t i = 0; i < there.size(); ++i) {
      back[static_cast<std::size_t>(there[i])] = static_cast<std::int64_t>(i);
    }
    NodeProto first = node("Transpose", {input_of(*place)}, {fresh("turned")});
    set(first, "perm", there);
    NodeProto second = node("Transpose", {first.output(0)}, {fresh("back")});
    set(second, "perm", back);
    return splice(*place, {first, second});
  }

  static bool has_elements(const Kind& kind) {
    return kind.shape && std::ranges::none_of(*kind.shape, [](auto size) { return size == 0; });
  }

  bool reshapes() {
    const auto place = edge([](const auto&, const Kind& kind) { return has_elements(kind); });
    if (!place || opset_ < 5) return false;
    const std::string flat = constant({-1}), shape = constant(*kind_of(input_of(*place)).shape);
    NodeProto first = node("Reshape", {input_of(*place), flat}, {fresh("flat")});
    return splice(*place, {first, node("Reshape", {first.output(0), shape}, {fresh("back")})});
  }

  bool unsqueeze_and_squeeze() {
    const auto place = edge([](const auto&, const Kind& kind) { return kind.shape.has_value(); });
    if (!place) return false;
    const Ints axes = {
        static_cast<std::int64_t>(below(kind_of(input_of(*place)).shape->size() + 1))};
    NodeProto first = node("Unsqueeze", {input_of(*place)}, {fresh("longer")});
    NodeProto second = node("Squeeze", {first.output(0)}, {fresh("back")});
    for (NodeProto* entry : {&first, &second}) {
      if (opset_ >= 13) {
        entry->add_input(constant(axes));
      } else {
        set(*entry, "axes", axes);
      }
    }
    return splice(*place, {first, second});
  }

  bool casts() {
    const auto place = edge([](const auto&, const Kind& kind) {
      return kind.element == TensorProto::FLOAT || kind.element == TensorProto::INT32;
    });
    if (!place || opset_ < 6) return false;
    const int narrow = kind_of(input_of(*place)).element;
    NodeProto first = node("Cast", {input_of(*place)}, {fresh("wide")});
    set(first, "to", narrow == TensorProto::FLOAT ? TensorProto::DOUBLE : TensorProto::INT64);
    NodeProto second = node("Cast", {first.output(0)}, {fresh("narrow")});
    set(second, "to", narrow);
    return splice(*place, {first, second});
  }

  bool dropout() {
    const auto place = edge(is_float);
    if (!place || opset_ < 7) return false;
    NodeProto drop = node("Dropout", {input_of(*place)}, {fresh("kept")});
    if (opset_ >= 12 && below(2) == 0) drop.add_input(scalar(0.25F));
    if (opset_ >= 10 && below(2) == 0) drop.add_output(fresh("mask"));
    return splice(*place, {drop});
  }

  bool neutral_arithmetic() {
    const auto place = edge(is_float);
    if (!place || opset_ < 7) return false;
    static constexpr std::pair<const char*, float> kAll[] = {
        {"Mul", 1.0F}, {"Div", 1.0F}, {"Sub", 0.0F}, {"Add", 0.0F}};
    const auto& [type, neutral] = kAll[below(4)];
    return splice(*place, {node(type, {input_of(*place), scalar(neutral)}, {fresh("same")})});
  }

  bool whole_slice() {
    const auto place =
        edge([](const auto&, const Kind& kind) { return kind.shape && !kind.shape->empty(); });
    if (!place || opset_ < 10) return false;
    const Ints end = {std::numeric_limits<std::int64_t>::max()};
    return splice(*place, {node("Slice", {input_of(*place), constant({0}), constant(end)},
                                {fresh("slice")})});
  }

  bool concat_of_one() {
    const auto place =
        edge([](const auto&, const Kind& kind) { return kind.shape && !kind.shape->empty(); });
    if (!place || opset_ < 4) return false;
    NodeProto concat = node("Concat", {input_of(*place)}, {fresh("one")});
    set(concat, "axis", 0);
    return splice(*place, {concat});
  }

  bool own_shape() {
    const auto place = edge([](const auto&, const Kind& kind) { return has_elements(kind); });
    if (!place || opset_ < 5) return false;
    NodeProto shape = node("Shape", {input_of(*place)}, {fresh("shape")});
    return splice(*place, {shape, node("Reshape", {input_of(*place), shape.output(0)},
                                       {fresh("as_it_was")})});
  }

  const TensorProto* initializer(const std::string& name) {
    for (const auto& input : graph().input()) {
      if (input.name() == name && model_.ir_version() >= 4) return nullptr;
    }
    for (const TensorProto& tensor : graph().initializer()) {
      if (tensor.name() == name) return &tensor;
    }
    return nullptr;
  }

  bool copied_constant() {
    const auto place =
        edge([&](const auto& name, const Kind&) { return initializer(name) != nullptr; });
    if (!place) return false;
    TensorProto copy = *initializer(input_of(*place));
    copy.set_name(fresh("copy"));
    kinds_[copy.name()] = kinds_[input_of(*place)];
    graph().mutable_node(place->node)->set_input(place->slot, copy.name());
    declare_old(copy);
    *graph().add_initializer() = std::move(copy);
    return true;
  }

  bool constant_as_node() {
    const auto place =
        edge([&](const auto& name, const Kind&) { return initializer(name) != nullptr; });
    if (!place) return false;
    NodeProto made = node("Constant", {}, {fresh("constant")});
    AttributeProto& attribute = *made.add_attribute();
    attribute.set_name("value");
    attribute.set_type(AttributeProto::TENSOR);
    *attribute.mutable_t() = *initializer(input_of(*place));
    attribute.mutable_t()->clear_name();
    return splice(*place, {made});
  }

  static bool copies_well(const NodeProto& node) {
    if (!node.domain().empty() || node.op_type().starts_with("Random") ||
        node.op_type() == "Bernoulli" || node.op_type() == "Multinomial" ||
        node.op_type() == "Dropout") {
      return false;
    }
    return std::ranges::none_of(node.attribute(), [](const AttributeProto& attribute) {
      return attribute.has_g() || attribute.graphs_size() > 0;
    });
  }

  bool copied_node() {
    std::map<std::string, int> makers;
    for (int n = 0; n < graph().node_size(); ++n) {
      if (!copies_well(graph().node(n))) continue;
      for (const std::string& output : graph().node(n).output()) {
        if (!output.empty()) makers[output] = n;
      }
    }
    const auto place = edge([&](const auto& name, const Kind&) { return makers.contains(name); });
    if (!place) return false;
    const std::string from = input_of(*place);
    const int original = makers[from];
    NodeProto copy = graph().node(original);
    copy.clear_name();
    std::string to;
    for (std::string& output : *copy.mutable_output()) {
      if (output.empty()) continue;
      const std::string old = output;
      output = fresh("again");
      kinds_[output] = kinds_[old];
      if (old == from) to = output;
    }
    graph().mutable_node(place->node)->set_input(place->slot, to);
    insert(original + 1, {copy});
    return true;
  }

  bool dead_branch() {
    const auto place = edge(is_float);
    if (!place || opset_ < 6) return false;
    const std::string from = input_of(*place);
    NodeProto first = node("Relu", {from}, {fresh("dead")});
    insert(place->node, {first, node("Neg", {first.output(0)}, {fresh("dead")})});
    return true;
  }

  bool dead_constant() {
    where_ = constant({static_cast<std::int64_t>(below(1000))});
    return true;
  }

  // ---- the whole graph

  static void each_name_read(const GraphProto& graph,
                             const std::function<void(const std::string&)>& visit) {
    for (const NodeProto& node : graph.node()) each_name_read(node, visit);
    for (const auto& output : graph.output()) visit(output.name());
  }
  static void each_name_read(const NodeProto& node,
                             const std::function<void(const std::string&)>& visit) {
    for (const std::string& input : node.input()) visit(input);
    for (const AttributeProto& attribute : node.attribute()) {
      if (attribute.has_g()) each_name_read(attribute.g(), visit);
      for (const GraphProto& body : attribute.graphs()) each_name_read(body, visit);
    }
  }

  void permute() {
    const int count = graph().node_size();
    std::map<std::string, int> makers;
    for (int n = 0; n < count; ++n) {
      for (const std::string& output : graph().node(n).output()) {
        if (!output.empty()) makers[output] = n;
      }
    }
    std::vector<std::set<int>> readers(static_cast<std::size_t>(count));
    std::vector<int> waits(static_cast<std::size_t>(count));
    for (int n = 0; n < count; ++n) {
      std::set<int> needed;
      each_name_read(graph().node(n), [&](const std::string& name) {
        const auto maker = makers.find(name);
        if (maker != makers.end() && maker->second != n) needed.insert(maker->second);
      });
      waits[static_cast<std::size_t>(n)] = static_cast<int>(needed.size());
      for (const int maker : needed) readers[static_cast<std::size_t>(maker)].insert(n);
    }
    std::vector<int> ready;
    for (int n = 0; n < count; ++n) {
      if (waits[static_cast<std::size_t>(n)] == 0) ready.push_back(n);
    }
    google::protobuf::RepeatedPtrField<NodeProto> order;
    while (!ready.empty()) {
      const std::size_t chosen = below(ready.size());
      const int n = ready[chosen];
      ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(chosen));
      *order.Add() = graph().node(n);
      for (const int reader : readers[static_cast<std::size_t>(n)]) {
        if (--waits[static_cast<std::size_t>(reader)] == 0) ready.push_back(reader);
      }
    }
    if (order.size() == count) graph().mutable_node()->Swap(&order);
  }

  using Names = std::map<std::string, std::string>;

  static void rename_below(GraphProto& graph, Names names, bool top) {
    if (!top) {  // what is defined inside hides what is outside
      for (const auto& input : graph.input()) names.erase(input.name());
      for (const TensorProto& tensor : graph.initializer()) names.erase(tensor.name());
      for (const NodeProto& node : graph.node()) {
        for (const std::string& output : node.output()) names.erase(output);
      }
    }
    const auto change = [&names](std::string* name) {
      const auto found = names.find(*name);
      if (found != names.end()) *name = found->second;
    };
    for (NodeProto& node : *graph.mutable_node()) {
      for (std::string& input : *node.mutable_input()) change(&input);
      for (std::string& output : *node.mutable_output()) change(&output);
      for (AttributeProto& attribute : *node.mutable_attribute()) {
        if (attribute.has_g()) rename_below(*attribute.mutable_g(), names, false);
        for (GraphProto& body : *attribute.mutable_graphs()) rename_below(body, names, false);
      }
    }
    for (TensorProto& tensor : *graph.mutable_initializer()) change(tensor.mutable_name());
    for (auto& info : *graph.mutable_value_info()) change(info.mutable_name());
    if (top) return;
    for (auto& output : *graph.mutable_output()) change(output.mutable_name());
  }

  void rename() {
    std::set<std::string> fixed;
    for (const auto& input : graph().input()) fixed.insert(input.name());
    for (const auto& output : graph().output()) fixed.insert(output.name());
    Names names;
    const auto give = [&](const std::string& name) {
      if (!name.empty() && !fixed.contains(name)) {
        names[name] =
            "v" + std::to_string(random_() % 1'000'000) + "_" + std::to_string(names.size());
      }
    };
    for (const NodeProto& node : graph().node()) {
      for (const std::string& output : node.output()) give(output);
    }
    for (const TensorProto& tensor : graph().initializer()) give(tensor.name());
    rename_below(graph(), names, true);
    for (NodeProto& node : *graph().mutable_node()) {
      node.set_name("n" + std::to_string(random_() % 1'000'000'000));
    }
  }

  ModelProto& model_;
  std::mt19937_64 random_;
  std::int64_t opset_ = 0;
  std::map<std::string, Kind> kinds_;
  std::string where_;
  int names_ = 0;
};

}  // namespace

Mutant mutate(const std::string& model, std::uint64_t seed, int count) {
  ModelProto proto;
  Mutant mutant;
  if (!proto.ParseFromString(model)) return mutant;
  mutant.mutations = Mutator(proto, seed).run(count);
  mutant.bytes = proto.SerializeAsString();
  return mutant;
}

}  // namespace mcompress::testing
