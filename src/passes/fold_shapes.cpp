// Arithmetic on shapes whose result is certain goes, though some dimensions are not known:
//
//   x: [N, 1280, 1, 1]
//   y = Reshape(x, Concat(Shape(x)[0:1], -1))   =>   y = Reshape(x, [0, -1])
//   y = Gather(Shape(x), 1)                     =>   y = 1280
//   y = Expand(x, Concat(Shape(x)[0:1], 1280, 1, 1))   =>   x
//   y = Add(a, Expand(x, Shape(a)))             =>   y = Add(a, x), where Add broadcasts alike
//
// A Reshape copies a dimension by the entry 0 where its entry is the very same dimension, and
// finds one that is left by -1; the latter only where nothing else can be 0, for then -1 has no
// answer.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/list_operands.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

template <class T>
Tensor tensor_of(DataType type, const Terms& terms, Ints dims) {
  std::vector<std::byte> bytes(terms.size() * sizeof(T));
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const T number = static_cast<T>(terms[i].number);
    std::memcpy(bytes.data() + i * sizeof(T), &number, sizeof(T));
  }
  return make_bytes_tensor(type, std::move(dims), std::move(bytes));
}

std::optional<Tensor> known_tensor(const Value& value, const Terms* terms) {
  if (terms == nullptr || !std::ranges::all_of(*terms, &Term::known)) return std::nullopt;
  const auto rank = rank_of(value);
  if (!rank || *rank > 1 || (*rank == 0 && terms->size() != 1)) return std::nullopt;
  const Ints dims(*rank, static_cast<std::int64_t>(terms->size()));
  switch (element_type(value)) {
    case DataType::kInt64:
      return tensor_of<std::int64_t>(DataType::kInt64, *terms, dims);
    case DataType::kInt32:
      return tensor_of<std::int32_t>(DataType::kInt32, *terms, dims);
    case DataType::kBool:
      return tensor_of<std::uint8_t>(DataType::kBool, *terms, dims);
    default:
      return std::nullopt;
  }
}

constexpr auto kBroadcasts = std::to_array<std::string_view>(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
     "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"});

class FoldShapes final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FoldShapes(Options) {}

  Status run(Model& model, PassContext& context) override {
    shapes_ = context.facts().of<SymbolicShapes>(model);
    for (Node* node : find_nodes(context, model)) {
      const bool known = node->domain().empty() && node->output(0) != nullptr;
      if (!known || context.edit().erased(*node)) continue;
      MCOMPRESS_TRY(fold(*node, context));
    }
    context.report().count("constants", constants_);
    context.report().count("reshapes", reshapes_);
    context.report().count("expands", expands_);
    return ok_status();
  }

 private:
  Status fold(Node& node, PassContext& context) {
    const Value& output = *node.output(0);
    if (!output.uses().empty() && node.outputs().size() == 1 && !node.is("Constant")) {
      if (auto tensor = known_tensor(output, shapes_->elements(output))) {
        modernise_initializers(node.graph().model(), context);
        chose(context, node, "its elements follow from shapes");
        const std::vector<Value*> inputs(node.inputs().begin(), node.inputs().end());
        context.edit().replace_by_constant(node, std::move(*tensor));
        for (Value* value : inputs) {
          if (value != nullptr) MCOMPRESS_TRY(erase_unused(context, *value));
        }
        ++constants_;
        return ok_status();
      }
    }
    if (node.is("Reshape")) return reshape(node, context);
    if (node.is("Expand")) return expand(node, context);
    return ok_status();
  }

  // ------------------------------------------------------------------------------- Reshape

  Status reshape(Node& node, PassContext& context) {
    if (node.input(0) == nullptr || node.input(1) == nullptr || is_constant(node.input(1))) {
      return ok_status();
    }
    const Terms* target = shapes_->elements(*node.input(1));
    const std::string name = "'" + std::string(node.input(1)->name()) + "'";
    if (target == nullptr) {
      context.explain().skipped(node, "what " + name + " holds is only known when it runs");
      return ok_status();
    }
    if (const auto shape = constant_shape(node, *target)) {
      chose(context, node, "its shape is always the same but for what it copies or finds");
      MCOMPRESS_TRY(set_shape(node, *shape, context));
      ++reshapes_;
      return ok_status();
    }
    const auto open = std::ranges::count_if(*target, [](Term term) { return !term.known(); });
    context.explain().skipped(node, std::to_string(open) + " of the " +
                                        std::to_string(target->size()) + " entries of " + name +
                                        " are only known when it runs");
    return ok_status();
  }

  std::optional<Ints> constant_shape(const Node& node, const Terms& target) const {
    const Terms* input = shapes_->dims(*node.input(0));
    const bool copies = node.int_attribute("allowzero", 0) == 0;
    Ints shape;
    std::size_t found = 0;  // entries that become -1
    bool others_positive = true, has_open = false;
    for (std::size_t i = 0; i < target.size(); ++i) {
      const Term term = target[i];
      const bool here = copies && input != nullptr && i < input->size();
      if (term.known()) {
        shape.push_back(term.number);
        has_open |= term.number < 0;
        const bool positive = term.number > 0 || (term.number == 0 && here && (*input)[i].known() &&
                                                  (*input)[i].number > 0);
        others_positive &= positive;
      } else if (here && (*input)[i] == term) {
        shape.push_back(0);
        others_positive = false;
      } else {
        shape.push_back(-1);
        ++found;
      }
    }
    if (found > 1 || (found == 1 && (has_open || !others_positive))) return std::nullopt;
    return shape;
  }

  Status set_shape(Node& node, const Ints& shape, PassContext& context) {
    Value& before = *node.input(1);
    Value& constant = add_list(context, node.graph(), before.name(), shape);
    context.edit().set_input(node, 1, &constant);
    return erase_unused(context, before);
  }

  // -------------------------------------------------------------------------------- Expand

  Status expand(Node& node, PassContext& context) {
    if (node.input(0) == nullptr || node.input(1) == nullptr) return ok_status();
    const Terms* input = shapes_->dims(*node.input(0));
    const Terms* target = shapes_->elements(*node.input(1));
    const Terms* result = shapes_->dims(*node.output(0));
    if (input == nullptr || result == nullptr) return ok_status();
    std::string what = "removed, its input has that shape already";
    if (!keeps(*input, target)) {
      if (std::string why = why_readers_need(node, *input, *result); !why.empty()) {
        context.explain().skipped(node, std::move(why));
        return ok_status();
      }
      what = "removed, what reads it broadcasts alike";
    }
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = std::move(what);
    Value& shape = *node.input(1);
    // Not `forward`: a type of the output is none of the input.
    Value& output = *node.output(0);
    if (std::string why = context.edit().why_not_replace(output, *node.input(0)); !why.empty()) {
      context.explain().skipped(node, std::move(why));
      return ok_status();
    }
    MCOMPRESS_TRY(context.edit().replace_all(output, *node.input(0)));
    MCOMPRESS_TRY(context.edit().erase(node));
    context.explain().chose(std::move(decision));
    ++expands_;
    return erase_unused(context, shape);
  }

  static bool keeps(const Terms& input, const Terms* target) {
    if (target == nullptr || target->size() > input.size()) return false;
    const std::size_t shift = input.size() - target->size();
    for (std::size_t i = 0; i < target->size(); ++i) {
      if (!(*target)[i].is(1) && (*target)[i] != input[shift + i]) return false;
    }
    return true;
  }

  // Why readers would make something else of the input than of the result of an Expand.
  std::string why_readers_need(const Node& expand, const Terms& input, const Terms& result) const {
    const Value& output = *expand.output(0);
    if (expand.graph().model().opset("") < kNumpyBroadcast) return "operators broadcast otherwise";
    for (const Use& use : output.uses()) {
      if (use.node == nullptr) return "'" + std::string(output.name()) + "' is a graph output";
      if (!use.node->domain().empty() ||
          std::ranges::find(kBroadcasts, use.node->op_type()) == kBroadcasts.end()) {
        return use.node->label() + " reads it and does not broadcast";
      }
      if (!others_make(*use.node, output, input, result)) {
        return "nothing else that " + use.node->label() + " reads is known to have its shape";
      }
    }
    return {};
  }

  // Each dimension that the Expand makes stands in another operand as well.
  bool others_make(const Node& reader, const Value& output, const Terms& input,
                   const Terms& result) const {
    for (std::size_t from_end = 0; from_end < result.size(); ++from_end) {
      const Term made = result[result.size() - 1 - from_end];
      const bool there = from_end < input.size() && input[input.size() - 1 - from_end] == made;
      if (there) continue;
      const bool elsewhere = std::ranges::any_of(reader.inputs(), [&](const Value* value) {
        const Terms* dims = value != nullptr && value != &output ? shapes_->dims(*value) : nullptr;
        return dims != nullptr && from_end < dims->size() &&
               (*dims)[dims->size() - 1 - from_end] == made;
      });
      if (!elsewhere) return false;
    }
    return true;
  }

  std::shared_ptr<const SymbolicShapes> shapes_;
  std::int64_t constants_ = 0, reshapes_ = 0, expands_ = 0;
};

}  // namespace

PassInfo fold_shapes_info() {
  return pass_info<FoldShapes>(
      "fold-shapes", "compute shapes that are certain, drop what they make superfluous",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
