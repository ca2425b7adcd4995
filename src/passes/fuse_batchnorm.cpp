// Inference BatchNormalization is one affine step per channel, which a linear operator in front of
// it can take over:
//
//   y = BatchNormalization(Conv(x, W, b), gamma, beta, mean, var)   =>   y = Conv(x, W', b')
//
//   a = gamma / sqrt(var + epsilon)    W'_o = a_o W_o    b'_o = a_o b_o + beta_o - mean_o a_o
//
// in double, rounded once. An operator behind it takes it over where nothing is padded:
//
//   y = Conv(BatchNormalization(x), W, b)   =>   y = Conv(x, W', b')
//   W'_oi = W_oi a_i    b'_o = b_o + sum over i of W_oi c_i
//
// Operators in between that only move or average numbers do not stand in the way.
// The same for ConvTranspose (output channels on axis 1, group by group),
// Gemm (rows or columns of B, alpha and beta folded) and MatMul with or without Add.
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/batch_norm.h"
#include "passes/common/fusion/carry.h"
#include "passes/common/fusion/linear.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

class FuseBatchnorm final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseBatchnorm(Options) {}

  Status run(Model& model, PassContext& context) override {
    const std::vector<Node*> found = find_nodes(context, model, {"BatchNormalization"});
    std::int64_t fused = 0;
    for (Node* node : found) {
      MCOMPRESS_ASSIGN(std::string why, fuse(*node, context));
      if (why.empty()) {
        ++fused;
      } else {
        context.explain().skipped(*node, std::move(why));
      }
    }
    context.report().count("eligible", static_cast<std::int64_t>(found.size()));
    context.report().count("fused", fused);
    return ok_status();
  }

 private:
  // The reason why the node stays; empty: fused.
  static Result<std::string> fuse(Node& node, PassContext& context) {
    const BatchNormStep affine = batch_norm_step(node);
    if (!affine.why_not.empty()) return affine.why_not;
    MCOMPRESS_ASSIGN(std::string why, fuse_behind(node, affine, context));
    if (why.empty()) return why;
    MCOMPRESS_ASSIGN(const std::string why_ahead, fuse_ahead(node, affine, context));
    if (why_ahead.empty()) return std::string();
    // What is behind it matters where it could have been folded.
    const Node* reader = only_user(*node.output(0));
    if (reader == nullptr || !leads_to_linear(*reader)) return why;
    return why + "; " + why_ahead;
  }

  static bool leads_to_linear(const Node& reader) {
    return reader.is("Conv") || reader.is("ConvTranspose") || reader.is("Gemm") ||
           reader.is("MatMul") || reader.is("MaxPool") || reader.is("AveragePool");
  }

  // Into the linear operator that makes its input.
  static Result<std::string> fuse_behind(Node& node, const BatchNormStep& affine,
                                         PassContext& context) {
    Value& input = *node.input(0);
    LinearSearch search = find_linear(input);
    if (!search.op) {
      Carriage found = carry_back(input, node, Carried{1, affine.a, affine.c});
      if (!found.op) return found.on_the_way ? std::move(found.why) : std::move(search.why);
      return carried(node, *found.op, context,
                     [&] { return scale_output(context, *found.op, found.step.a, found.step.c); });
    }
    const LinearOp& op = *search.op;
    if (only_user(input) != &node) return why_not_only_user(input);
    if (op.is("MatMul") && op.out.rank != 2) {
      return std::string(op.out.rank ? "the rank of its input is not 2, so channels are not columns"
                                     : "the rank of its input is unknown");
    }
    if (static_cast<std::int64_t>(affine.a.size()) != op.out.channels) {
      return "its parameters have " + std::to_string(affine.a.size()) + " entries for " +
             std::to_string(op.out.channels) + " channels";
    }
    Decision decision = folded(node, op);
    MCOMPRESS_ASSIGN(std::string why, absorb_behind(context, op, node, affine.a, affine.c));
    if (why.empty()) context.explain().chose(std::move(decision));
    return why;
  }

  // Into the linear operator that reads its output.
  static Result<std::string> fuse_ahead(Node& node, const BatchNormStep& affine,
                                        PassContext& context) {
    Carriage found = carry_forward(*node.output(0), Carried{1, affine.a, affine.c});
    if (!found.op) return std::move(found.why);
    return carried(node, *found.op, context, [&] {
      return absorb_before(context, *found.op, *found.op->node->input(0), found.step.a,
                           found.step.c);
    });
  }

  // `fold` changes the operator, then the node goes.
  template <class Fold>
  static Result<std::string> carried(Node& node, const LinearOp& op, PassContext& context,
                                     Fold&& fold) {
    Value& input = *node.input(0);
    if (std::string why = why_not_bypass(context, node, input); !why.empty()) return why;
    Decision decision = folded(node, op);
    MCOMPRESS_ASSIGN(std::string why, fold());
    if (!why.empty()) return why;
    MCOMPRESS_ASSIGN(why, bypass(context, node, input));
    context.explain().chose(std::move(decision));
    return why;
  }

  static Decision folded(const Node& node, const LinearOp& op) {
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = "folded into " + op.label();
    return decision;
  }
};

}  // namespace

PassInfo fuse_batchnorm_info() {
  return pass_info<FuseBatchnorm>(
      "fuse-batchnorm", "fold BatchNormalization into Conv, ConvTranspose, Gemm and MatMul",
      Reach::kNestedGraphs, true, {"lift-constants", "fold-constants"});
}

}  // namespace mcompress
