// Mul, Div, Add and Sub by a constant per channel (or one for all) around a linear operator become
// part of its weight and bias:
//
//   y = Mul(Conv(x, W, b), s)       =>   y = Conv(x, s W, s b)
//   y = Conv(Add(Mul(x, s), t), W)  =>   y = Conv(x, W s, sum(W t))        where nothing is padded
//                                        y = Conv(Add(x, t / s), W s)      where it is
//   y = Mul(MatMul(q, k), s)        =>   y = MatMul(q', k)      when a linear operator makes q
//   y = Gemm<alpha, beta>(x, W, b)  =>   y = Gemm(x, alpha W, beta b)
//   y = Mul(Div(x, s), t)           =>   y = Mul(x, t / s)      everywhere else
//
// Weights that are rounded afterwards share a scale over their inputs. Where s differs much from
// input to input, W s has some rows far smaller than others, whose inputs are as much larger: they
// lose their digits. `scale-loss` leaves such s where it is.
//
// in double, rounded once. An Add behind a MatMul is its bias already and stays.
#include <algorithm>
#include <cmath>

#include "passes/common/find_nodes.h"
#include "passes/common/fusion/carry.h"
#include "passes/common/fusion/coefficients.h"
#include "passes/common/fusion/known_forms.h"
#include "passes/common/fusion/linear.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

bool is_step(const Node& node) {
  return node.is("Mul") || node.is("Div") || node.is("Add") || node.is("Sub");
}

// What rounding the weights of a linear operator costs more once the scales of its inputs are in
// them, in dB: errors are as large as the largest scale asks for, and reach the output times inputs
// that are one over their scale, as those of normalisations are. Rows of a scale of 0 are exact.
double loss_by_scales(std::span<const double> scales) {
  double largest = 0, inverse = 0;
  for (const double scale : scales) {
    largest = std::max(largest, std::abs(scale));
    if (scale != 0) inverse += 1 / (scale * scale);
  }
  if (inverse == 0) return 0;
  return 10 * std::log10(largest * largest * inverse / static_cast<double>(scales.size()));
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
  struct Options {
    bool through_moves = true;
    double scale_loss = 0;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> schema =
        Schema<Options>()
            .field("through-moves", &Options::through_moves,
                   "also carry steps through reshapes, transposes, splits and products of computed "
                   "matrices")
            .field("scale-loss", &Options::scale_loss,
                   "scales in front of a linear operator stay where rounding the weights with them "
                   "would cost more than that; 0: all are folded")
            .range(0, 200)
            .unit("dB")
            .level(OptionSpec::Level::kAdvanced);
    return schema;
  }
  explicit FuseAffine(Options options) : options_(options) {}

  Status run(Model& model, PassContext& context) override {
    if (model.opset("") < kNumpyBroadcast) {
      context.diagnostics().note(
          "old-broadcasting",
          "scales and shifts stay: they broadcast in another way before opset 7");
      return ok_status();
    }
    const std::vector<Node*> steps = find_nodes(context, model, {"Add", "Div", "Mul", "Sub"});
    const std::vector<Node*> linears = find_nodes(context, model, kLinearOperators);
    for (Node* node : steps) MCOMPRESS_TRY(fuse_behind(*node, context));
    for (Node* node : linears) {
      if (context.edit().erased(*node)) continue;
      MCOMPRESS_TRY(fuse_before(*node, context));
      MCOMPRESS_TRY(fold_factors(*node, context));
    }
    for (Node* node : steps) {
      if (!context.edit().erased(*node)) MCOMPRESS_TRY(merge_with_previous(*node, context));
    }
    context.report().count("eligible", eligible_);
    context.report().count("fused", fused_);
    context.report().count("merged", merged_);
    context.report().count("factors", factors_);
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
    const bool computed = !search.op && made_by(input, "MatMul") != nullptr;
    if (options_.through_moves && (!search.kind_fits || computed)) {
      MCOMPRESS_ASSIGN(const bool gone, fuse_at_a_distance(node, *input, context));
      if (gone) return ok_status();
    }
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

  // Through operators that only move or average numbers, or a product of two computed matrices.
  Result<bool> fuse_at_a_distance(Node& node, Value& input, PassContext& context) {
    const std::size_t slot = is_constant(node.input(1)) ? 1 : 0;
    const auto along = varies_along(*node.input(slot), rank_of(input));
    if (!along) return false;
    // As if the tensor had the axis of the constant for its channels.
    const std::size_t rank = rank_of(input).value_or(0);
    const AffineStep step = affine_step(
        node, ChannelAxis{along->size, rank, along->axis ? rank - 1 - *along->axis : 0});
    if (step.input == nullptr || ends_known_form(input)) return false;
    if (!why_not_bypass(context, node, input).empty()) return false;
    const Carried carried{along->axis, step.a, step.c};
    Carriage found = carry_back(input, node, carried);
    std::string why(1, '-');
    std::string into;
    if (found.op) {
      into = found.op->label();
      MCOMPRESS_ASSIGN(why, scale_output(context, *found.op, found.step.a, found.step.c));
    }
    // Right behind it is what run_before looks for.
    Node* reader = only_user(*node.output(0));
    if (!why.empty() && reader != nullptr && !linear_operator(*reader).kind_fits) {
      found = carry_forward(*node.output(0), carried);
      if (found.op && spoils_weights(found.step.a)) {
        ++eligible_;
        context.explain().skipped(node, why_scales_stay(*found.op, found.step.a));
      } else if (found.op) {
        into = found.op->label();
        MCOMPRESS_ASSIGN(why, absorb_before(context, *found.op, *found.op->node->input(0),
                                            found.step.a, found.step.c));
      }
    }
    if (!why.empty()) return false;
    Decision decision = folded(node, "folded into " + into);
    MCOMPRESS_ASSIGN(why, bypass(context, node, input));
    ++eligible_;
    ++fused_;
    context.explain().chose(std::move(decision));
    return true;
  }

  bool spoils_weights(std::span<const double> scales) const {
    return options_.scale_loss > 0 && loss_by_scales(scales) > options_.scale_loss;
  }
  static std::string why_scales_stay(const LinearOp& op, std::span<const double> scales) {
    return "in the weight of " + op.label() + " its scales, which lie far apart, would cost " +
           std::to_string(std::lround(loss_by_scales(scales))) + " dB when that is rounded";
  }

  Status fuse_before(Node& node, PassContext& context) {
    LinearSearch search = linear_operator(node);
    if (!search.op || !search.op->in_layout) return ok_status();
    LinearOp& op = *search.op;
    find_bias(op);
    const AffineRun run = run_before(*node.input(0), node, op.in);
    if (run.nodes.empty()) return ok_status();
    if (ends_known_form(*run.input)) {
      for (const Node* kept : run.nodes) {
        ++eligible_;
        context.explain().skipped(*kept, std::string(kEndsKnownForm));
      }
      return ok_status();
    }
    if (spoils_weights(run.a)) {
      for (const Node* kept : run.nodes) {
        ++eligible_;
        context.explain().skipped(*kept, why_scales_stay(op, run.a));
      }
      return ok_status();
    }
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

  // Integer kernels take a Gemm without alpha and beta only.
  Status fold_factors(Node& node, PassContext& context) {
    if (!node.is("Gemm") || (node.float_attribute("alpha", 1.0f) == 1.0f &&
                             node.float_attribute("beta", 1.0f) == 1.0f)) {
      return ok_status();
    }
    const LinearSearch search = linear_operator(node);
    if (!search.op) return ok_status();
    for (const Value* operand : {node.input(1), node.input(2)}) {
      if (operand == nullptr || operand->uses().size() == 1) continue;
      context.explain().skipped(node, "alpha and beta stay, for others read '" +
                                          std::string(operand->name()) + "' as it is");
      return ok_status();
    }
    const auto channels = static_cast<std::size_t>(search.op->out.channels);
    const std::vector<double> ones(channels, 1.0), zeros(channels, 0.0);
    MCOMPRESS_ASSIGN(std::string why, scale_output(context, *search.op, ones, zeros));
    if (!why.empty()) {
      context.explain().skipped(node, std::move(why));
      return ok_status();
    }
    ++factors_;
    chose(context, node, "alpha and beta are in its weight and bias");
    return ok_status();
  }

  // What a step with a constant is applied to; null: it is none.
  static const Value* computed_operand(const Node& node) {
    if (!is_step(node) || node.input(0) == nullptr || node.input(1) == nullptr) return nullptr;
    const std::size_t slot = is_constant(node.input(1)) ? 1 : 0;
    if (!is_constant(node.input(slot)) || is_constant(node.input(1 - slot))) return nullptr;
    return node.input(1 - slot);
  }

  // x m, x + c or c - x for a constant of any shape.
  struct Step {
    Value* input = nullptr;
    bool factor = false;
    double sign = 1.0;
    Coefficients constant;
  };
  static Step step_of(const Node& node) {
    Step step;
    if (!is_step(node) || node.input(0) == nullptr || node.input(1) == nullptr) return step;
    const std::size_t slot = is_constant(node.input(1)) ? 1 : 0;
    const Value& constant = *node.input(slot);
    const DTypeInfo* info = find_dtype(element_type(constant));
    auto values = constant_reals(&constant);
    if (info == nullptr || !info->floating || !values || is_constant(node.input(1 - slot))) {
      return step;
    }
    step.constant = {static_shape(constant).value_or(std::vector<std::int64_t>()),
                     std::move(*values)};
    step.factor = node.is("Mul") || node.is("Div");
    if (node.is("Div")) {
      if (slot == 0) return step;
      for (double& value : step.constant.values) value = 1.0 / value;
    } else if (node.is("Sub") && slot == 1) {
      for (double& value : step.constant.values) value = -value;
    } else if (node.is("Sub")) {
      step.sign = -1.0;
    }
    step.input = node.input(1 - slot);
    return step;
  }

  static double product(double a, double b) { return a * b; }
  static double sum(double a, double b) { return a + b; }
  static double difference(double a, double b) { return a - b; }

  // Two factors, or two shifts, are one. A factor goes through a shift to one in front of that:
  // (x m + b) k = x (m k) + b k rounds no worse. A shift through a factor could cancel digits.
  Status merge_with_previous(Node& node, PassContext& context) {
    // Where there are no two steps in a row no number needs to be read.
    const Value* between = computed_operand(node);
    const Node* before_it = between != nullptr ? between->producer() : nullptr;
    if (before_it == nullptr || only_user(*between) != &node ||
        computed_operand(*before_it) == nullptr) {
      return ok_status();
    }
    const Step last = step_of(node);
    if (last.input == nullptr || last.input->producer() == nullptr) return ok_status();
    Node& previous = *last.input->producer();
    const Step first = step_of(previous);
    if (first.input == nullptr || only_user(*last.input) != &node) return ok_status();
    if (is_gelu_body(*first.input)) return ok_status();
    if (last.factor == first.factor) return merge(node, last, previous, first, context);
    if (!last.factor || first.sign < 0.0 || first.input->producer() == nullptr) return ok_status();
    Node& before = *first.input->producer();
    const Step factor = step_of(before);
    if (factor.input == nullptr || !factor.factor || only_user(*first.input) != &previous ||
        is_gelu_body(*factor.input) || !why_not_bypass(context, node, *last.input).empty()) {
      return ok_status();
    }
    const auto factors = combine(factor.constant, last.constant, product);
    const auto shifts = combine(first.constant, last.constant, product);
    if (!factors || !shifts) return ok_status();
    MCOMPRESS_ASSIGN(const Rounded new_factor, rounded(*factors, before, context));
    MCOMPRESS_ASSIGN(const Rounded new_shift, rounded(*shifts, previous, context));
    if (!new_factor.tensor || !new_shift.tensor) return ok_status();
    chose(context, node, "merged with '" + before.label() + "' and '" + previous.label() + "'");
    rewrite(before, "Mul", *factor.input, *new_factor.tensor, false, context);
    rewrite(previous, "Add", *first.input, *new_shift.tensor, false, context);
    MCOMPRESS_ASSIGN(const std::string why, bypass(context, node, *last.input));
    ++merged_;
    return ok_status();
  }

  Status merge(Node& node, const Step& last, const Node& previous, const Step& first,
               PassContext& context) {
    const auto constant =
        last.factor ? combine(first.constant, last.constant, product)
                    : combine(last.constant, first.constant, last.sign < 0.0 ? difference : sum);
    if (!constant) return ok_status();
    MCOMPRESS_ASSIGN(const Rounded number, rounded(*constant, node, context));
    if (!number.tensor) return ok_status();
    chose(context, node, "merged with '" + previous.label() + "' before it");
    Value& between = *last.input;
    const bool turned = first.sign * last.sign < 0.0;
    rewrite(node,
            last.factor ? "Mul"
            : turned    ? "Sub"
                        : "Add",
            *first.input, *number.tensor, turned, context);
    ++merged_;
    return erase_unused(context, between);
  }

  static Result<Rounded> rounded(const Coefficients& numbers, const Node& like,
                                 PassContext& context) {
    const std::size_t slot = is_constant(like.input(1)) ? 1 : 0;
    return round_coefficients(context, numbers, element_type(*like.input(slot)));
  }

  static void rewrite(Node& node, std::string_view op_type, Value& input, const Tensor& constant,
                      bool constant_first, PassContext& context) {
    const std::string base =
        std::string(node.output(0)->name()) + "_" + (op_type == "Mul" ? "factor" : "shift");
    Value& operand = add_constant(context, node.graph(), base, constant);
    context.edit().set_op_type(node, "", op_type);
    context.edit().set_input(node, constant_first ? 1 : 0, &input);
    context.edit().set_input(node, constant_first ? 0 : 1, &operand);
  }

  Options options_;
  std::int64_t eligible_ = 0, fused_ = 0, merged_ = 0, factors_ = 0;
};

}  // namespace

PassInfo fuse_affine_info() {
  return pass_info<FuseAffine>(
      "fuse-affine", "fold constant Mul, Div, Add and Sub into the linear operators around them",
      Reach::kNestedGraphs, true,
      {"lift-constants", "fold-constants", "fuse-layer-norm", "fuse-rms-norm", "fuse-gelu",
       "fuse-hard-swish", "fuse-swish", "fuse-mish"});
}

}  // namespace mcompress
