// Inference BatchNormalization is one affine step per channel, which a linear operator in front of
// it can take over:
//
//   y = BatchNormalization(Conv(x, W, b), gamma, beta, mean, var)   =>   y = Conv(x, W', b')
//
//   a = gamma / sqrt(var + epsilon)    W'_o = a_o W_o    b'_o = a_o b_o + beta_o - mean_o a_o
//
// in double, rounded once. The same for ConvTranspose (output channels on axis 1, group by group),
// Gemm (rows or columns of B, alpha and beta folded) and MatMul with or without Add.
#include "ir/walk.h"
#include "numeric/fold.h"
#include "passes/common/linear.h"
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
    std::vector<Node*> found;
    for_each_graph(model.graph(), [&](Graph& graph) {
      for (Node* node : graph.nodes()) {
        if (node->is("BatchNormalization")) found.push_back(node);
      }
    });
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
    if (node.int_attribute("training_mode", 0) != 0) return std::string("it is in training mode");
    for (std::size_t i = 1; i < node.outputs().size(); ++i) {
      if (node.output(i) != nullptr) return std::string("it has training outputs");
    }
    if (node.int_attribute("spatial", 1) == 0) return std::string("it is per element");
    std::array<std::vector<float>, 4> parameters;  // scale, bias, mean, variance
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const auto data = constant_of(node.input(i + 1));
      if (!data) {
        const Value* value = node.input(i + 1);
        return "its parameter '" + std::string(value != nullptr ? value->name() : "") +
               "' is no constant";
      }
      auto values = read_floats(*data);
      if (!values.ok()) return values.error().diagnostic.message;
      parameters[i] = std::move(*values);
    }

    Value& input = *node.input(0);
    LinearSearch search = find_linear(input);
    if (!search.op) return std::move(search.why);
    const LinearOp& op = *search.op;
    if (only_user(input) != &node) return why_not_only_user(input);
    if (op.is("MatMul") && op.out.rank != 2) {
      return std::string(op.out.rank ? "the rank of its input is not 2, so channels are not columns"
                                     : "the rank of its input is unknown");
    }
    for (const auto& values : parameters) {
      if (static_cast<std::int64_t>(values.size()) != op.out.channels) {
        return "its parameters have " + std::to_string(values.size()) + " entries for " +
               std::to_string(op.out.channels) + " channels";
      }
    }
    std::vector<double> a(parameters[0].size()), c(a.size());
    const BatchNormParameters statistics{
        parameters[0], parameters[1], parameters[2], parameters[3],
        static_cast<double>(node.float_attribute("epsilon", 1e-5f))};
    if (FoldFailure failure = batch_norm_affine(statistics, a, c)) return std::move(*failure);
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = "folded into " + op.label();
    MCOMPRESS_ASSIGN(std::string why, absorb_behind(context, op, node, a, c));
    if (why.empty()) context.explain().chose(std::move(decision));
    return why;
  }
};

}  // namespace

PassInfo fuse_batchnorm_info() {
  return pass_info<FuseBatchnorm>(
      "fuse-batchnorm", "fold BatchNormalization into Conv, ConvTranspose, Gemm and MatMul",
      Reach::kNestedGraphs, true, {"lift-constants", "fold-constants"});
}

}  // namespace mcompress
