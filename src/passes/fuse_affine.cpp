// Mul, Div, Add and Sub by a constant per channel (or one for all) around a linear operator become
// part of its weight and bias:
//
//   y = Mul(Conv(x, W, b), s)       =>   y = Conv(x, s W, s b)
//   y = Conv(Add(Mul(x, s), t), W)  =>   y = Conv(x, W s, sum(W t))        where nothing is padded
//                                        y = Conv(Add(x, t / s), W s)      where it is
//   y = Mul(Div(x, s), t)           =>   y = Mul(x, t / s)                 everywhere else
//
// in double, rounded once. An Add behind a MatMul is its bias already and stays.
#include <algorithm>
#include <cmath>

#include "ir/walk.h"
#include "passes/common/linear.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

bool is_step(const Node& node) {
  return node.is("Mul") || node.is("Div") || node.is("Add") || node.is("Sub");
}

// Steps one after the other, each the only reader of the one before: together a x + c.
struct Run {
  std::vector<Node*> nodes;  // in the order of computation
  Value* input = nullptr;
  std::vector<double> a, c;
};

// The run that ends with the value, which `reader` alone reads.
Run run_before(Value& end, const Node& reader, const ChannelAxis& axis) {
  Run run;
  run.input = &end;
  const Node* next = &reader;
  while (only_user(*run.input) == next && run.input->producer() != nullptr) {
    Node* node = run.input->producer();
    const AffineStep step = affine_step(*node, axis);
    if (step.input == nullptr) break;
    if (run.nodes.empty()) {
      run.a = step.a;
      run.c = step.c;
    } else {
      // The steps found so far come after this one: a (a' x + c') + c.
      for (std::size_t i = 0; i < run.a.size(); ++i) {
        run.c[i] += run.a[i] * step.c[i];
        run.a[i] *= step.a[i];
      }
    }
    run.nodes.push_back(node);
    run.input = step.input;
    next = node;
  }
  std::ranges::reverse(run.nodes);
  return run;
}

Decision folded(const Node& node, std::string what) {
  Decision decision;
  decision.subject = node.label();
  decision.op_type = node.op_type();
  decision.what = std::move(what);
  return decision;
}

class FuseAffine final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseAffine(Options) {}

  Status run(Model& model, PassContext& context) override {
    constexpr std::int64_t kNumpyBroadcast = 7;
    if (model.opset("") < kNumpyBroadcast) {
      context.diagnostics().note(
          "old-broadcasting",
          "scales and shifts stay: they broadcast in another way before opset 7");
      return ok_status();
    }
    std::vector<Node*> steps, others;
    for_each_graph(model.graph(), [&](Graph& graph) {
      for (Node* node : graph.nodes()) (is_step(*node) ? steps : others).push_back(node);
    });
    for (Node* node : steps) MCOMPRESS_TRY(fuse_behind(*node, context));
    for (Node* node : others) {
      if (!context.edit().erased(*node)) MCOMPRESS_TRY(fuse_before(*node, context));
    }
    for (Node* node : steps) {
      if (!context.edit().erased(*node)) MCOMPRESS_TRY(merge_with_previous(*node, context));
    }
    context.report().count("eligible", eligible_);
    context.report().count("fused", fused_);
    context.report().count("merged", merged_);
    return ok_status();
  }

 private:
  Status fuse_behind(Node& node, PassContext& context) {
    const auto skip = [&](std::string why) {
      ++eligible_;
      context.explain().skipped(node, std::move(why));
      return ok_status();
    };
    const std::size_t slot = is_constant(node.input(1)) ? 1 : 0;
    Value* input = node.input(1 - slot);
    if (!is_constant(node.input(slot)) || input == nullptr || is_constant(input)) {
      return ok_status();
    }
    const LinearSearch search = find_linear(*input);
    if (!search.kind_fits) return ok_status();
    const bool shift = node.is("Add") || node.is("Sub");
    if (shift && made_by(input, "MatMul") != nullptr) return ok_status();
    if (!search.op) return skip(search.why);
    const LinearOp& op = *search.op;
    if (only_user(*input) != &node) return skip(why_not_only_user(*input));
    const AffineStep step = affine_step(node, op.out);
    if (step.input == nullptr) return skip(step.why_not);

    Decision decision = folded(node, "folded into " + op.label());
    MCOMPRESS_ASSIGN(std::string why, absorb_behind(context, op, node, step.a, step.c));
    if (!why.empty()) return skip(std::move(why));
    ++eligible_;
    ++fused_;
    context.explain().chose(std::move(decision));
    return ok_status();
  }

  Status fuse_before(Node& node, PassContext& context) {
    LinearSearch search = linear_operator(node);
    if (!search.op || !search.op->in_layout) return ok_status();
    LinearOp& op = *search.op;
    if (op.is("MatMul")) {
      // The bias of a MatMul is in the Add behind it.
      Node* add = only_user(*op.output);
      if (add != nullptr && add->is("Add") && add->output(0) != nullptr) {
        const LinearSearch with_bias = find_linear(*add->output(0));
        if (with_bias.op) op = *with_bias.op;
      }
    }
    const Run run = run_before(*node.input(0), node, op.in);
    if (run.nodes.empty()) return ok_status();
    // What would only turn one Add into another stays.
    const bool shifts = std::ranges::any_of(run.c, [](double c) { return c != 0.0; });
    if (shifts && run.nodes.size() == 1 && !takes_shift(op)) return ok_status();
    eligible_ += static_cast<std::int64_t>(run.nodes.size());
    std::vector<Decision> decisions;
    for (const Node* gone : run.nodes) {
      decisions.push_back(folded(*gone, "folded into " + op.label() + " behind it"));
    }
    MCOMPRESS_ASSIGN(const std::string why, absorb_before(context, op, *run.input, run.a, run.c));
    if (!why.empty()) {
      for (const Node* kept : run.nodes) context.explain().skipped(*kept, why);
      return ok_status();
    }
    fused_ += static_cast<std::int64_t>(run.nodes.size());
    for (Decision& decision : decisions) context.explain().chose(std::move(decision));
    return ok_status();
  }

  // Two factors, or two shifts, by one number each are one. Mixed pairs stay as they are: taking
  // them apart could cancel digits.
  Status merge_with_previous(Node& node, PassContext& context) {
    const AffineStep second = scalar_step(node);
    if (second.input == nullptr || second.input->producer() == nullptr) return ok_status();
    Node& previous = *second.input->producer();
    const AffineStep first = scalar_step(previous);
    if (first.input == nullptr || only_user(*second.input) != &node) return ok_status();
    const bool factors = first.c[0] == 0.0 && second.c[0] == 0.0;
    const bool shifts = first.a[0] == 1.0 && second.a[0] == 1.0;
    if (!factors && !shifts) return ok_status();
    const double number = factors ? first.a[0] * second.a[0] : first.c[0] + second.c[0];
    const std::size_t slot = is_constant(node.input(1)) ? 1 : 0;
    auto constant = number_tensor(number, element_type(*node.input(slot)));
    if (!constant.ok() || !std::isfinite(static_cast<float>(number))) return ok_status();

    chose(context, node, "merged with '" + previous.label() + "' before it");
    const std::string base = std::string(node.output(0)->name()) + (factors ? "_factor" : "_shift");
    Value& operand = add_constant(context, node.graph(), base, std::move(*constant));
    Value& between = *second.input;
    context.edit().set_op_type(node, "", factors ? "Mul" : "Add");
    context.edit().set_input(node, 0, first.input);
    context.edit().set_input(node, 1, &operand);
    ++merged_;
    return erase_unused(context, between);
  }

  // A step by one floating-point number for the whole tensor.
  static AffineStep scalar_step(const Node& node) {
    if (!is_step(node) || node.input(0) == nullptr || node.input(1) == nullptr) return {};
    const std::size_t slot = is_constant(node.input(1)) ? 1 : 0;
    const DTypeInfo* info = find_dtype(element_type(*node.input(slot)));
    if (info == nullptr || !info->floating) return {};
    return affine_step(node, ChannelAxis{1, rank_of(*node.input(1 - slot)).value_or(0), 0});
  }

  std::int64_t eligible_ = 0, fused_ = 0, merged_ = 0;
};

}  // namespace

PassInfo fuse_affine_info() {
  return pass_info<FuseAffine>(
      "fuse-affine", "fold constant Mul, Div, Add and Sub into the linear operators around them",
      Reach::kNestedGraphs, true, {"lift-constants", "fold-constants"});
}

}  // namespace mcompress
