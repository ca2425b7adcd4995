// Mul, Div, Add and Sub by a constant per channel (or one for all) behind a linear operator become
// part of its weight and bias:
//
//   y = Mul(Conv(x, W, b), s)   =>   y = Conv(x, s W, s b)
//   y = Add(Conv(x, W), t)      =>   y = Conv(x, W, t)
//
// in double, rounded once. An Add behind a MatMul is its bias already and stays.
#include "ir/walk.h"
#include "passes/common/linear.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

class FuseAffine final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseAffine(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Node*> found;
    for_each_graph(model.graph(), [&](Graph& graph) {
      for (Node* node : graph.nodes()) {
        if (node->is("Mul") || node->is("Div") || node->is("Add") || node->is("Sub")) {
          found.push_back(node);
        }
      }
    });
    std::int64_t eligible = 0, fused = 0;
    for (Node* node : found) {
      MCOMPRESS_ASSIGN(const Outcome outcome, fuse(*node, context));
      if (outcome == Outcome::kUnrelated) continue;
      ++eligible;
      if (outcome == Outcome::kFused) ++fused;
    }
    context.report().count("eligible", eligible);
    context.report().count("fused", fused);
    return ok_status();
  }

 private:
  enum class Outcome : std::uint8_t { kUnrelated, kSkipped, kFused };

  static Result<Outcome> fuse(Node& node, PassContext& context) {
    const auto skip = [&](std::string why) {
      context.explain().skipped(node, std::move(why));
      return Outcome::kSkipped;
    };
    if (node.input(0) == nullptr || node.input(1) == nullptr) return Outcome::kUnrelated;
    const std::size_t slot = is_constant(node.input(1)) ? 1 : 0;
    const Value* constant = node.input(slot);
    Value& input = *node.input(1 - slot);
    if (!is_constant(constant) || is_constant(&input)) return Outcome::kUnrelated;
    const LinearSearch search = find_linear(input);
    if (!search.kind_fits) return Outcome::kUnrelated;
    const bool shift = node.is("Add") || node.is("Sub");
    if (shift && made_by(&input, "MatMul") != nullptr) return Outcome::kUnrelated;
    if (!search.op) return skip(search.why);
    const LinearOp& op = *search.op;
    if (only_user(input) != &node) return skip(why_not_only_user(input));
    const auto values = per_channel(op, constant);
    if (!values) {
      return skip("the constant '" + std::string(constant->name()) +
                  "' is not one number per channel of " + op.label());
    }

    std::vector<double> a(values->size(), 1.0), c(values->size(), 0.0);
    for (std::size_t i = 0; i < values->size(); ++i) {
      const double number = (*values)[i];
      if (node.is("Mul")) {
        a[i] = number;
      } else if (node.is("Add")) {
        c[i] = number;
      } else if (node.is("Sub")) {
        c[i] = slot == 1 ? -number : number;
        a[i] = slot == 1 ? 1.0 : -1.0;
      } else {
        if (slot == 0) return skip("it divides the constant by the result of " + op.label());
        if (number == 0.0) return skip("it divides by 0");
        a[i] = 1.0 / number;
      }
    }
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = "folded into " + op.label();
    MCOMPRESS_ASSIGN(std::string why, absorb_affine(context, op, node, a, c));
    if (!why.empty()) return skip(std::move(why));
    context.explain().chose(std::move(decision));
    return Outcome::kFused;
  }
};

}  // namespace

PassInfo fuse_affine_info() {
  return pass_info<FuseAffine>(
      "fuse-affine", "fold constant Mul, Div, Add and Sub into the linear operator before them",
      Reach::kNestedGraphs, true, {"lift-constants", "fold-constants"});
}

}  // namespace mcompress
