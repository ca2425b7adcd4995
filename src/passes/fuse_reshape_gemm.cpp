// A matrix product takes any number of dimensions in front of the rows:
//
//   y = Reshape(Gemm(Reshape(x, [-1, K]), W, b), [.., N])   =>   y = Add(MatMul(x, W), b)
//
// when x ends in K numbers and both Reshapes agree in all dimensions but that one. The same for
// MatMul with or without Add in the middle.
#include <algorithm>
#include <memory>

#include "passes/common/find_nodes.h"
#include "passes/common/fusion/coefficients.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

class FuseReshapeGemm final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseReshapeGemm(Options) {}

  Status run(Model& model, PassContext& context) override {
    const std::vector<Node*> found = find_nodes(context, model, {"Gemm", "MatMul"});
    std::shared_ptr<const SymbolicShapes> shapes;  // once there is a place to ask about
    std::int64_t eligible = 0, fused = 0;
    for (Node* node : found) {
      if (made_by(node->input(0), "Reshape") == nullptr) continue;
      LinearSearch search = linear_operator(*node);
      if (!search.op) continue;
      find_bias(*search.op);
      Node* behind = only_user(*search.op->output);
      if (behind == nullptr || !behind->is("Reshape")) continue;
      ++eligible;
      if (!shapes) shapes = context.facts().of<SymbolicShapes>(model);
      MCOMPRESS_ASSIGN(std::string why, fuse(*search.op, *behind, *shapes, context));
      if (why.empty()) {
        ++fused;
      } else {
        context.explain().skipped(*node, std::move(why));
      }
    }
    context.report().count("eligible", eligible);
    context.report().count("fused", fused);
    return ok_status();
  }

 private:
  // Same dimensions but the last: one of them may be open, for it follows from the others.
  static std::string why_not_same(const Value& source, const Value& result, const LinearOp& op,
                                  const SymbolicShapes& shapes) {
    const Terms* from = shapes.dims(source);
    const Terms* to = shapes.dims(result);
    const bool known = from != nullptr && to != nullptr && from->size() == to->size() &&
                       from->size() > 2 && from->back().is(op.in.channels) &&
                       to->back().is(op.out.channels);
    if (known && std::equal(from->begin(), from->end() - 1, to->begin())) return {};
    const auto before = rank_of(source), after = rank_of(result);
    if (!before || before != after || *before < 3) return "the Reshapes around it are no pair";
    if (dim_of(source, -1) != op.in.channels || dim_of(result, -1) != op.out.channels) {
      return "the Reshapes around it do not keep rows together";
    }
    int open = 0;
    for (std::size_t i = 0; i + 1 < *before; ++i) {
      const auto a = dim_of(source, static_cast<std::int64_t>(i));
      const auto b = dim_of(result, static_cast<std::int64_t>(i));
      if (a && b && *a == *b && *a > 0) continue;
      if ((a && b) || ++open > 1) return "the Reshapes around it may differ in their dimensions";
    }
    return {};
  }

  static Result<std::string> fuse(const LinearOp& op, Node& behind, const SymbolicShapes& shapes,
                                  PassContext& context) {
    Node& node = *op.node;
    Value& flat = *node.input(0);
    Value& source = *flat.producer()->input(0);
    Value& result = *behind.output(0);
    if (node.int_attribute("transA", 0) != 0) return std::string("it transposes its input");
    if (only_user(flat) != &node) return why_not_only_user(flat);
    if (rank_of(flat) != 2u) return std::string("the rank of its input is not known to be 2");
    if (std::string why = why_not_same(source, result, op, shapes); !why.empty()) return why;
    const Value& old_weight = *node.input(1);
    const bool new_numbers = node.is("Gemm") && (node.int_attribute("transB", 0) != 0 ||
                                                 node.float_attribute("alpha", 1.0f) != 1.0f);
    if (new_numbers && old_weight.uses().size() != 1) {
      return "'" + std::string(old_weight.name()) + "' has other readers and would be copied";
    }
    if (std::string why = why_not_bypass(context, behind, *op.output); !why.empty()) return why;

    const DataType type = element_type(old_weight);
    std::optional<Tensor> weight, bias;
    if (new_numbers) {
      MCOMPRESS_ASSIGN(const Coefficients matrix, linear_matrix(op));
      MCOMPRESS_ASSIGN(Rounded rounded, round_coefficients(context, matrix, type));
      if (!rounded.tensor) return std::move(rounded.why_not);
      weight = std::move(rounded.tensor);
    }
    if (node.is("Gemm") && node.input(2) != nullptr) {
      auto values = linear_bias(op);
      if (!values) return std::string("its bias is not one number per column");
      MCOMPRESS_ASSIGN(Rounded rounded,
                       round_coefficients(context, {{op.out.channels}, std::move(*values)}, type));
      if (!rounded.tensor) return std::move(rounded.why_not);
      bias = std::move(rounded.tensor);
    }

    chose(context, node, "reads more than two dimensions itself");
    Editor& editor = context.edit();
    const std::string base(result.name());
    // The types that the values had are those of two dimensions.
    const TypeInfo type_behind =
        result.type() != nullptr ? *result.type() : TypeInfo{type, std::nullopt};
    if (weight) give_constant(context, node, 1, base + "_weight", std::move(*weight));
    for (std::string_view name : {"alpha", "beta", "transA", "transB"}) {
      editor.remove_attribute(node, name);
    }
    Value* output = op.output;
    if (node.is("Gemm")) {
      editor.set_op_type(node, "", "MatMul");
      if (bias) {
        Value& shift = add_constant(context, node.graph(), base + "_bias", std::move(*bias));
        Node& add =
            editor.insert_before(behind, {"Add", {output, &shift}, 1, base + "_add", "", {}, {}});
        output = add.output(0);
      }
      if (node.inputs().size() > 2) editor.remove_trailing_input(node);
    }
    editor.set_input(node, 0, &source);
    for (Value* value : {node.output(0), output}) editor.set_type(*value, type_behind, false);
    MCOMPRESS_ASSIGN(std::string why, bypass(context, behind, *output));
    MCOMPRESS_TRY(erase_unused(context, flat));
    return why;
  }
};

}  // namespace

PassInfo fuse_reshape_gemm_info() {
  return pass_info<FuseReshapeGemm>(
      "fuse-reshape-gemm", "drop Reshapes to and from two dimensions around a matrix product",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
