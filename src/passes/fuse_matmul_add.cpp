// A matrix product with a bias is one operator:
//
//   y = Add(MatMul(a, b), c)   =>   y = Gemm(a, b, c)
//
// when a and b are known to have two dimensions and c is a vector of one entry per column (or one).
#include <algorithm>
#include <array>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

class FuseMatmulAdd final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseMatmulAdd(Options) {}

  Status run(Model& model, PassContext& context) override {
    const std::vector<Node*> found = find_nodes(context, model, {"Add"});
    std::int64_t eligible = 0, fused = 0;
    for (Node* node : found) {
      const auto slot = matmul_slot(*node);
      if (!slot) continue;
      ++eligible;
      MCOMPRESS_ASSIGN(std::string why, fuse(*node, *slot, context));
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
  // The operand that a MatMul makes, where the other one is a constant.
  static std::optional<std::size_t> matmul_slot(const Node& node) {
    for (std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
      if (made_by(node.input(slot), "MatMul") != nullptr && is_constant(node.input(1 - slot))) {
        return slot;
      }
    }
    return std::nullopt;
  }

  static Result<std::string> fuse(Node& add, std::size_t slot, PassContext& context) {
    Value& product = *add.input(slot);
    Value& bias = *add.input(1 - slot);
    Node& matmul = *product.producer();
    if (add.graph().model().opset("") < kNumpyBroadcast) {
      return std::string("Add broadcasts in another way before opset 7");
    }
    if (only_user(product) != &add) return why_not_only_user(product);
    static constexpr std::array<DataType, 4> kTypes = {DataType::kFloat, DataType::kDouble,
                                                       DataType::kFloat16, DataType::kBfloat16};
    if (std::ranges::find(kTypes, element_type(bias)) == kTypes.end()) {
      return "Gemm is for floating point, this is " + dtype_name(element_type(bias));
    }
    for (const Value* operand : {matmul.input(0), matmul.input(1)}) {
      const auto rank = rank_of(*operand);
      if (rank == 2u) continue;
      const std::string name = "'" + std::string(operand->name()) + "'";
      if (!rank) return "the rank of " + name + " is unknown";
      return name + " has " + std::to_string(*rank) + " dimensions, Gemm takes 2";
    }
    const auto columns = dim_of(*matmul.input(1), 1);
    const auto shape = static_shape(bias);
    const bool vector =
        shape && shape->size() == 1 && ((*shape)[0] == 1 || (columns && (*shape)[0] == *columns));
    // What a row of numbers is too; a Gemm's is written as a vector.
    const bool row =
        shape && shape->size() == 2 && (*shape)[0] == 1 && columns && (*shape)[1] == *columns;
    if (!vector && !row) {
      return "'" + std::string(bias.name()) + "' is not one number per column";
    }

    Decision decision;
    decision.subject = add.label();
    decision.op_type = add.op_type();
    decision.what = "joined with MatMul '" + matmul.label() + "' into a Gemm";
    Editor& editor = context.edit();
    if (std::string why = editor.why_not_replace(*add.output(0), product); !why.empty()) {
      return why;
    }
    // The MatMul itself becomes the Gemm: its place in the order is right, for the bias is
    // constant.
    Value* visible_bias = &bias;
    if (row) {
      const Tensor numbers = *constant_of(&bias);
      visible_bias = &add_constant(context, matmul.graph(), bias.name(),
                                   Tensor(numbers.dtype(), {*columns}, numbers.storage()));
    } else if (bias.producer() != nullptr) {
      visible_bias = &add_constant(context, matmul.graph(), bias.name(), *constant_of(&bias));
    }
    editor.set_op_type(matmul, "", "Gemm");
    editor.set_input(matmul, 2, visible_bias);
    MCOMPRESS_ASSIGN(std::string why, bypass(context, add, product));
    if (why.empty()) context.explain().chose(std::move(decision));
    return why;
  }
};

}  // namespace

PassInfo fuse_matmul_add_info() {
  return pass_info<FuseMatmulAdd>("fuse-matmul-add", "join MatMul and a bias Add into a Gemm",
                                  Reach::kNestedGraphs, true,
                                  {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
