// Operators that have nothing to do along axes of one element:
//
//   ReduceMax | ReduceMean | ReduceMin | ReduceProd | ReduceSum of such axes   =>   x, or a Squeeze
//   GlobalAveragePool | GlobalMaxPool of one place                             =>   x
//   Gather(x, 0) along such an axis                                            =>   Squeeze(x)
//   Softmax along such an axis                                                 =>   ones
//
// Networks that are exported for small inputs see a single place in their last stages, loops that
// are unrolled hand single columns on. A Softmax of one finite number is 1, of an infinite one NaN:
// it goes where what it reads is known to be finite, and stays where a mask may have put infinity.
#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "ir/builder.h"
#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/finite.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/list_operands.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::int64_t kMostOnes = 1024;  // elements of a constant that takes a Softmax's place

template <std::size_t N>
bool is_one_of(const Node& node, const std::array<std::string_view, N>& ops) {
  return node.domain().empty() && node.input(0) != nullptr && node.output(0) != nullptr &&
         std::ranges::find(ops, node.op_type()) != ops.end();
}

constexpr auto kReductions = std::to_array<std::string_view>(
    {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"});
constexpr auto kPools = std::to_array<std::string_view>({"GlobalAveragePool", "GlobalMaxPool"});

// Counted from 0; empty: one lies outside of the tensor.
std::optional<Ints> counted_from_start(Ints axes, std::size_t rank) {
  for (std::int64_t& axis : axes) {
    if (axis < 0) axis += static_cast<std::int64_t>(rank);
    if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) return std::nullopt;
  }
  std::ranges::sort(axes);
  return axes;
}

// The axes that a reduction takes together. Empty: nobody knows.
std::optional<Ints> reduced_axes(const Node& node, std::size_t rank) {
  const IntsParameter axes = ints_parameter(node, "axes", 1);
  if (!axes.known) return std::nullopt;
  Ints all;
  if (axes.values && !axes.values->empty()) return counted_from_start(*axes.values, rank);
  if (node.int_attribute("noop_with_empty_axes", 0) != 0) return all;
  for (std::size_t i = 0; i < rank; ++i) all.push_back(static_cast<std::int64_t>(i));
  return all;
}

class SimplifyUnitAxes final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit SimplifyUnitAxes(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<std::string_view> op_types = {"Gather", "Softmax"};
    op_types.insert(op_types.end(), kReductions.begin(), kReductions.end());
    op_types.insert(op_types.end(), kPools.begin(), kPools.end());
    const std::vector<Node*> nodes = find_nodes(context, model, op_types);
    std::shared_ptr<const SymbolicShapes> shapes;
    if (!nodes.empty()) shapes = context.facts().of<SymbolicShapes>(model);
    for (Node* node : nodes) {
      const Value* input = context.edit().erased(*node) ? nullptr : node->input(0);
      const Terms* dims = input != nullptr ? shapes->dims(*input) : nullptr;
      if (dims == nullptr || node->output(0) == nullptr) continue;
      if (is_one_of(*node, kReductions)) MCOMPRESS_TRY(reduction(*node, *dims, context));
      if (is_one_of(*node, kPools)) MCOMPRESS_TRY(pool(*node, *dims, context));
      if (node->is("Gather")) MCOMPRESS_TRY(gather(*node, *dims, context));
      if (node->is("Softmax")) MCOMPRESS_TRY(softmax(*node, *dims, context));
    }
    context.report().count("removed", removed_);
    context.report().count("squeezed", squeezed_);
    context.report().count("constants", constants_);
    return ok_status();
  }

 private:
  static bool single(const Terms& dims, std::int64_t axis) {
    return dims[static_cast<std::size_t>(axis)].is(1);
  }

  Status reduction(Node& node, const Terms& dims, PassContext& context) {
    const auto axes = reduced_axes(node, dims.size());
    if (!axes || !std::ranges::all_of(*axes, [&](auto axis) { return single(dims, axis); })) {
      return ok_status();
    }
    if (axes->empty() || node.int_attribute("keepdims", 1) != 0) return remove(node, context);
    return to_squeeze(node, *axes, context);
  }

  Status pool(Node& node, const Terms& dims, PassContext& context) {
    const bool one_place = dims.size() > 2 && std::ranges::all_of(dims.begin() + 2, dims.end(),
                                                                  [](Term t) { return t.is(1); });
    return one_place ? remove(node, context) : ok_status();
  }

  Status gather(Node& node, const Terms& dims, PassContext& context) {
    const auto axes = counted_from_start({node.int_attribute("axis", 0)}, dims.size());
    const auto index = constant_of(node.input(1));
    if (!axes || !index || !index->dims().empty() || !single(dims, axes->front())) {
      return ok_status();
    }
    const auto number = constant_scalar(node.input(1));
    if (number != 0.0 && number != -1.0) return ok_status();  // the runtime says that it is wrong
    return to_squeeze(node, *axes, context);
  }

  Status softmax(Node& node, const Terms& dims, PassContext& context) {
    const bool together = node.graph().model().opset("") < kSoftmaxOfOneAxis;
    const auto axes =
        counted_from_start({node.int_attribute("axis", together ? 1 : -1)}, dims.size());
    if (!axes) return ok_status();
    const auto first = static_cast<std::size_t>(axes->front());
    const std::size_t last = together ? dims.size() : first + 1;
    for (std::size_t i = first; i < last; ++i) {
      if (!dims[i].is(1)) return ok_status();
    }
    std::int64_t elements = 1;
    Ints shape;
    for (const Term dim : dims) {
      if (!dim.known() || __builtin_mul_overflow(elements, dim.number, &elements) ||
          elements > kMostOnes) {
        context.explain().skipped(node, "it is 1, but how often is not known or too large");
        return ok_status();
      }
      shape.push_back(dim.number);
    }
    if (!is_finite(node.input(0))) {
      context.explain().skipped(
          node, "what it reads may be infinite, of which it makes no number and not 1");
      return ok_status();
    }
    MCOMPRESS_ASSIGN(Tensor ones, number_tensor(1.0, element_type(*node.input(0)), shape));
    modernise_initializers(node.graph().model(), context);
    chose(context, node, "is 1, for it sees one number at a time");
    Value& input = *node.input(0);
    context.edit().replace_by_constant(node, std::move(ones));
    ++constants_;
    return erase_unused(context, input);
  }

  Status remove(Node& node, PassContext& context) {
    Value* parameter = node.input(1);
    Value& input = *node.input(0);
    if (std::string why = why_not_bypass(context, node, input); !why.empty()) {
      context.explain().skipped(node, std::move(why));
      return ok_status();
    }
    chose(context, node, "removed, it sees one element at a time");
    MCOMPRESS_ASSIGN(std::string why, bypass(context, node, input));
    if (!why.empty()) return Error(Code::kInternal, "reduction-not-removed", std::move(why));
    ++removed_;
    return parameter != nullptr ? erase_unused(context, *parameter) : ok_status();
  }

  Status to_squeeze(Node& node, const Ints& axes, PassContext& context) {
    chose(context, node, "is a Squeeze, for it sees one element at a time");
    Editor& editor = context.edit();
    Value* parameter = node.input(1);
    for (std::string_view name : {"axis", "axes", "keepdims", "noop_with_empty_axes"}) {
      editor.remove_attribute(node, name);
    }
    editor.set_op_type(node, "", "Squeeze");
    if (node.graph().model().opset("") >= kSqueezeAxesAreInput) {
      const std::string name = std::string(node.output(0)->name()) + "_axes";
      editor.set_input(node, 1, &add_list(context, node.graph(), name, axes));
    } else {
      while (node.inputs().size() > 1) editor.remove_trailing_input(node);
      editor.set_attribute(node, attribute("axes", axes));
    }
    ++squeezed_;
    return parameter != nullptr ? erase_unused(context, *parameter) : ok_status();
  }

  static constexpr std::int64_t kSoftmaxOfOneAxis = 13;
  static constexpr std::int64_t kSqueezeAxesAreInput = 13;
  std::int64_t removed_ = 0, squeezed_ = 0, constants_ = 0;
};

}  // namespace

PassInfo simplify_unit_axes_info() {
  return pass_info<SimplifyUnitAxes>(
      "simplify-unit-axes", "drop what operators do along axes of one element",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
