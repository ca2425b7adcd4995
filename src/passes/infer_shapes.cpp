// Types and shapes of all values as ONNX infers them. What inference complains about is a warning:
// later passes do less with less knowledge, and say so. Where a shape is computed from sizes that
// are not known, or depends on the data, more is followed here than ONNX does:
//
//   x: [N, 8, 6, 6]   y = Reshape(x, Concat(Shape(x)[0:1], 8, 36))         is [N, 8, 36]
//   y = Reshape(x, s)   with s a vector of 4 unknown numbers   has 4 dimensions, as has Softmax(y)
#include <algorithm>
#include <array>

#include "ir/builder.h"
#include "ir/facts.h"
#include "ir/walk.h"
#include "mcompress/io.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Rank = std::optional<std::size_t>;

template <std::size_t N>
bool is_one_of(const Node& node, const std::array<std::string_view, N>& op_types) {
  return std::ranges::find(op_types, node.op_type()) != op_types.end();
}

// The first output has as many dimensions as the first input.
constexpr auto kLikeInput = std::to_array<std::string_view>({"Abs",
                                                             "AveragePool",
                                                             "BatchNormalization",
                                                             "Cast",
                                                             "Ceil",
                                                             "Celu",
                                                             "Clip",
                                                             "CumSum",
                                                             "Dropout",
                                                             "Elu",
                                                             "Erf",
                                                             "Exp",
                                                             "Floor",
                                                             "Gelu",
                                                             "GlobalAveragePool",
                                                             "GlobalMaxPool",
                                                             "HardSigmoid",
                                                             "HardSwish",
                                                             "Hardmax",
                                                             "Identity",
                                                             "LRN",
                                                             "LeakyRelu",
                                                             "Log",
                                                             "LogSoftmax",
                                                             "LayerNormalization",
                                                             "MaxPool",
                                                             "Mish",
                                                             "Neg",
                                                             "Not",
                                                             "InstanceNormalization",
                                                             "Pad",
                                                             "Reciprocal",
                                                             "Relu",
                                                             "Resize",
                                                             "Round",
                                                             "Selu",
                                                             "Sigmoid",
                                                             "Sign",
                                                             "Slice",
                                                             "Softmax",
                                                             "Softplus",
                                                             "Softsign",
                                                             "Split",
                                                             "Sqrt",
                                                             "Tanh",
                                                             "Tile",
                                                             "Transpose",
                                                             "Upsample"});
// As many as the input that has the most.
constexpr auto kBroadcast = std::to_array<std::string_view>(
    {"Add",   "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
     "Mean",  "Min", "Mod", "Mul",   "Or",      "PRelu",          "Pow",  "Sub",         "Sum",
     "Where", "Xor"});
constexpr auto kReduce = std::to_array<std::string_view>(
    {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
     "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"});

Rank rank_of_input(const Node& node, std::size_t slot) {
  return node.input(slot) != nullptr ? rank_of(*node.input(slot)) : std::nullopt;
}

Rank largest_input(const Node& node) {
  std::size_t largest = 0;
  for (std::size_t i = 0; i < node.inputs().size(); ++i) {
    const Rank rank = rank_of_input(node, i);
    if (!rank) return std::nullopt;
    largest = std::max(largest, *rank);
  }
  return largest;
}

// Dimensions of the outputs of a node, where they do not depend on data.
Rank follow(const Node& node) {
  const Rank first = rank_of_input(node, 0);
  if (is_one_of(node, kLikeInput)) return first;
  if (is_one_of(node, kBroadcast)) return largest_input(node);
  if (node.is("MatMul")) {
    const Rank second = rank_of_input(node, 1);
    if (!first || !second || *first < 2 || *second < 2) return std::nullopt;
    return std::max(*first, *second);
  }
  if (node.is("Conv") || node.is("ConvTranspose")) return first ? first : rank_of_input(node, 1);
  if (node.is("Gemm") || node.is("Flatten")) return 2;
  if (node.is("Concat")) {
    for (std::size_t i = 0; i < node.inputs().size(); ++i) {
      if (const Rank rank = rank_of_input(node, i)) return rank;
    }
    return std::nullopt;
  }
  if (node.is("Reshape") || node.is("ConstantOfShape")) {
    const Value* shape = node.input(node.is("Reshape") ? 1 : 0);
    const auto length = shape != nullptr ? dim_of(*shape, 0) : std::nullopt;
    return length && *length >= 0 ? Rank(static_cast<std::size_t>(*length)) : std::nullopt;
  }
  if (node.is("Expand")) {
    const auto length = node.input(1) != nullptr ? dim_of(*node.input(1), 0) : std::nullopt;
    if (!first || !length || *length < 0) return std::nullopt;
    return std::max(*first, static_cast<std::size_t>(*length));
  }
  if (node.is("Gather")) {
    const Rank indices = rank_of_input(node, 1);
    return first && indices && *first > 0 ? Rank(*first + *indices - 1) : std::nullopt;
  }
  const bool removes = is_one_of(node, kReduce) || node.is("Squeeze");
  if (!first || (!removes && !node.is("Unsqueeze"))) return std::nullopt;
  if (!node.is("Squeeze") && removes && node.int_attribute("keepdims", 1) != 0) return first;
  const IntsParameter axes = ints_parameter(node, "axes", 1);
  if (!axes.values || axes.values->empty()) return std::nullopt;
  if (!removes) return *first + axes.values->size();
  return *first >= axes.values->size() ? Rank(*first - axes.values->size()) : std::nullopt;
}

class InferShapes final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit InferShapes(Options) {}

  Status run(Model& model, PassContext& context) override {
    MCOMPRESS_TRY(infer_shapes(model, context.edit(), context.diagnostics()));
    if (!has_open_values(model)) return ok_status();
    std::vector<Node*> open;
    for_each_node(model.graph(), [&](Node& node) {
      if (std::ranges::any_of(node.outputs(), is_open)) open.push_back(&node);
    });
    const auto shapes = context.facts().of<SymbolicShapes>(model);
    for (Node* node : open) {
      for (Value* value : node->outputs()) {
        if (is_open(value)) name_sizes(*value, *shapes, context);
      }
      if (node->domain().empty()) complete(*node, context);
    }
    return ok_status();
  }

 private:
  // The type has a size that is neither known nor named. The interface keeps what it declares.
  static bool is_open(const Value* value) {
    if (value == nullptr || value->type() == nullptr) return false;
    const auto& shape = value->type()->shape;
    const bool open = !shape || std::ranges::any_of(*shape, [](const Dim& dim) {
      return !dim.size && dim.symbol.empty();
    });
    return open && !value->is_graph_output();
  }

  // Values lie in memory in the order of their ids: quicker than a walk from node to node.
  static bool has_open_values(const Model& model) {
    return std::ranges::any_of(IrInternals::values(model), [](const Value& value) {
      return !IrInternals::erased(value) && value.producer() != nullptr && is_open(&value);
    });
  }

  static void name_sizes(Value& value, const SymbolicShapes& shapes, PassContext& context) {
    const Terms* dims = shapes.dims(value);
    if (dims == nullptr) return;
    TypeInfo type = *value.type();
    if (!type.shape) type.shape.emplace(dims->size());
    if (type.shape->size() != dims->size()) return;
    for (std::size_t i = 0; i < dims->size(); ++i) {
      Dim& dim = (*type.shape)[i];
      if (dim.size || !dim.symbol.empty()) continue;
      const Term term = (*dims)[i];
      if (!term.known()) {
        dim.symbol = shapes.name_of(term);
      } else if (term.number >= 0) {
        dim.size = term.number;
      }
    }
    context.edit().set_type(value, std::move(type), false);
  }

  static void complete(Node& node, PassContext& context) {
    Rank rank;
    const std::size_t outputs = node.is("Split") ? node.outputs().size() : 1;
    for (std::size_t i = 0; i < outputs; ++i) {
      Value* value = node.output(i);
      // The interface keeps what it declares.
      if (value == nullptr || value->type() == nullptr || value->type()->shape ||
          value->is_graph_output()) {
        continue;
      }
      if (!rank) rank = follow(node);
      if (!rank) return;
      TypeInfo type = *value->type();
      type.shape.emplace(*rank);
      context.edit().set_type(*value, std::move(type), false);
    }
  }
};

}  // namespace

PassInfo infer_shapes_info() {
  return pass_info<InferShapes>("infer-shapes", "find the types and shapes of all values",
                                Reach::kNestedGraphs, true, {"lift-constants"});
}

}  // namespace mcompress
