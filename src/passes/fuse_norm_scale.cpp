// The scale and shift of a normalisation take over what happens next to it, and operators behind
// one take over an affine step that all of them read:
//
//   y = Add(Mul(LayerNormalization(x, g, b), s), t)   =>   y = LayerNormalization(x, s g, s b + t)
//   y = BatchNormalization(Mul(x, s), g, b, m, v)     =>   y = BatchNormalization(x, s g, b', m, v)
//   p = MatMul(u, P)  q = MatMul(u, Q)  u = Mul(x, s) =>   p = MatMul(x, s P)  q = MatMul(x, s Q)
//
// The scale that belongs to a LayerNormalization stays in it: its input for that can not be left
// out, so moving it into weights behind would save nothing.
#include <algorithm>
#include <array>
#include <cmath>

#include "passes/common/find_nodes.h"
#include "passes/common/fusion/batch_norm.h"
#include "passes/common/fusion/coefficients.h"
#include "passes/common/fusion/known_forms.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kNothing = "-";  // no step here

// A normalisation with constant scale (slot 1) and shift (slot 2).
struct Norm {
  ChannelAxis axis;
  bool shifts = true;
  std::string why_not;
};
std::optional<Norm> norm_of(const Node& node) {
  static constexpr std::array<std::string_view, 5> kKinds = {
      "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization",
      "RMSNormalization"};
  if (std::ranges::none_of(kKinds, [&](std::string_view kind) { return node.is(kind); }) ||
      node.input(0) == nullptr || node.output(0) == nullptr) {
    return std::nullopt;
  }
  Norm norm;
  norm.shifts = !node.is("RMSNormalization");
  const auto scale = constant_of(node.input(1));
  const auto rank = rank_of(*node.input(0));
  if (!scale || scale->dims().size() != 1) {
    norm.why_not = "its scale is no constant list";
    return norm;
  }
  if (!rank || *rank < 2) {
    norm.why_not = "the rank of its input is unknown";
    return norm;
  }
  norm.axis = {scale->elements(), rank, 0};
  if (node.is("LayerNormalization") || node.is("RMSNormalization")) {
    const std::int64_t axis = node.int_attribute("axis", -1);
    if (axis != -1 && axis != static_cast<std::int64_t>(*rank) - 1) {
      norm.why_not = "it normalises more than one axis";
    }
  } else {
    norm.axis.from_end = *rank - 2;
    constexpr std::int64_t kScalePerChannel = 21;
    if (node.is("GroupNormalization") && node.graph().model().opset("") < kScalePerChannel) {
      norm.why_not = "its scale is per group before opset 21";
    } else if (node.is("BatchNormalization")) {
      norm.why_not = batch_norm_step(node).why_not;
    }
  }
  const Value* shift = node.input(2);
  if (norm.why_not.empty() && shift != nullptr &&
      (!is_constant(shift) || static_shape(*shift) != static_shape(*node.input(1)))) {
    norm.why_not = "its shift is no constant like its scale";
  }
  return norm;
}

class FuseNormScale final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseNormScale(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Node*> found =
        find_nodes(context, model, {"Add", "BatchNormalization", "Div", "Mul", "Sub"});
    std::erase_if(found, [](const Node* node) { return node->output(0) == nullptr; });
    if (model.opset("") < kNumpyBroadcast) found.clear();
    std::int64_t eligible = 0, fused = 0;
    const auto settle = [&](const Node& node, std::string why) {
      ++eligible;
      if (why.empty()) {
        ++fused;
      } else {
        context.explain().skipped(node, std::move(why));
      }
    };
    // Backwards: the last step of several has to go first.
    std::vector<Node*> others;
    for (auto node = found.rbegin(); node != found.rend(); ++node) {
      std::string why(kNothing);
      if (is_step(**node)) {
        MCOMPRESS_ASSIGN(why, into_batch_norm(**node, context));
      }
      if (why == kNothing) {
        others.push_back(*node);
      } else {
        settle(**node, std::move(why));
      }
    }
    for (auto node = others.rbegin(); node != others.rend(); ++node) {
      if (context.edit().erased(**node)) continue;
      std::string why(kNothing);
      if (is_step(**node)) {
        MCOMPRESS_ASSIGN(why, into_norm(**node, context));
      }
      if (why == kNothing) {
        MCOMPRESS_ASSIGN(why, into_readers(**node, context));
      }
      if (why != kNothing) settle(**node, std::move(why));
    }
    context.report().count("eligible", eligible);
    context.report().count("fused", fused);
    return ok_status();
  }

 private:
  static bool is_step(const Node& node) {
    return node.is("Mul") || node.is("Div") || node.is("Add") || node.is("Sub");
  }

  // The operand that is computed, when the other one is constant.
  static Value* data_of(const Node& step) {
    for (std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
      Value* value = step.input(slot);
      if (value != nullptr && !is_constant(value) && is_constant(step.input(1 - slot))) {
        return value;
      }
    }
    return nullptr;
  }

  static Decision folded(const Node& node, const Node& into) {
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = "folded into " + std::string(into.op_type()) + " '" + into.label() + "'";
    return decision;
  }

  // --- behind a normalisation

  static Result<std::string> into_norm(Node& node, PassContext& context) {
    Value* data = data_of(node);
    if (data == nullptr || data->producer() == nullptr) return std::string(kNothing);
    Node& norm_node = *data->producer();
    const auto norm = norm_of(norm_node);
    if (!norm || data != norm_node.output(0)) return std::string(kNothing);
    if (!norm->why_not.empty()) {
      return std::string(norm_node.op_type()) + " '" + norm_node.label() + "': " + norm->why_not;
    }
    if (only_user(*data) != &node) return why_not_only_user(*data);
    const AffineStep step = affine_step(node, norm->axis);
    if (step.input == nullptr) return step.why_not;
    const bool shifts = std::ranges::any_of(step.c, [](double c) { return c != 0.0; });
    if (shifts && !norm->shifts) return std::string("RMSNormalization has no shift");
    if (std::string why = why_not_bypass(context, node, *data); !why.empty()) return why;
    Decision decision = folded(node, norm_node);
    MCOMPRESS_ASSIGN(std::string why, rescale(norm_node, *norm, step.a, step.a, step.c, context));
    if (!why.empty()) return why;
    MCOMPRESS_ASSIGN(why, bypass(context, node, *data));
    context.explain().chose(std::move(decision));
    return why;
  }

  // scale <- a scale, shift <- b shift + c.
  static Result<std::string> rescale(Node& node, const Norm& norm, const std::vector<double>& a,
                                     const std::vector<double>& b, const std::vector<double>& c,
                                     PassContext& context) {
    const DataType type = element_type(*node.input(1));
    const DTypeInfo* info = find_dtype(type);
    if (info == nullptr || !info->floating || type == DataType::kDouble) {
      return "scales of type " + dtype_name(type) + " are not folded";
    }
    const Value* old_shift = norm.shifts ? node.input(2) : nullptr;
    auto scale = bias_values(node.input(1), norm.axis.channels);
    auto shift = bias_values(old_shift, norm.axis.channels);
    if (!scale || !shift) return std::string("its scale or shift is not one number per channel");
    for (std::size_t i = 0; i < scale->size(); ++i) {
      (*scale)[i] *= a[i];
      (*shift)[i] = (*shift)[i] * b[i] + c[i];
    }
    const bool shifts =
        old_shift != nullptr || std::ranges::any_of(*shift, [](double c) { return c != 0.0; });
    const std::vector<std::int64_t> dims{norm.axis.channels};
    MCOMPRESS_ASSIGN(Rounded new_scale,
                     round_coefficients(context, {dims, std::move(*scale)}, type));
    if (!new_scale.tensor) return std::move(new_scale.why_not);
    MCOMPRESS_ASSIGN(Rounded new_shift,
                     round_coefficients(context, {dims, std::move(*shift)}, type));
    if (!new_shift.tensor) return std::move(new_shift.why_not);
    const std::string base(node.output(0)->name());
    give_constant(context, node, 1, base + "_scale", std::move(*new_scale.tensor));
    if (shifts) give_constant(context, node, 2, base + "_shift", std::move(*new_shift.tensor));
    return std::string();
  }

  // --- in front of a BatchNormalization

  // With A = scale / sqrt(variance + epsilon): A (a x + c - m) + b = A a (x - m) + b + A (c + (a -
  // 1) m)
  static Result<std::string> into_batch_norm(Node& node, PassContext& context) {
    Node* reader = only_user(*node.output(0));
    if (reader == nullptr || !reader->is("BatchNormalization") || data_of(node) == nullptr ||
        reader->input(0) != node.output(0)) {
      return std::string(kNothing);
    }
    const auto norm = norm_of(*reader);
    if (!norm) return std::string(kNothing);
    if (!norm->why_not.empty()) {
      return "BatchNormalization '" + reader->label() + "': " + norm->why_not;
    }
    const AffineStep step = affine_step(node, norm->axis);
    if (step.input == nullptr) return step.why_not;
    if (ends_known_form(*step.input)) return std::string(kEndsKnownForm);
    const auto mean = constant_reals(reader->input(3), norm->axis.channels);
    const BatchNormStep now = batch_norm_step(*reader);
    if (!mean || mean->size() != now.a.size() || step.a.size() != now.a.size()) {
      return std::string("its parameters differ in their number of channels");
    }
    if (std::string why = why_not_bypass(context, node, *step.input); !why.empty()) return why;
    std::vector<double> shift(now.a.size());
    for (std::size_t i = 0; i < shift.size(); ++i) {
      shift[i] = now.a[i] * (step.c[i] + (step.a[i] - 1.0) * (*mean)[i]);
    }
    const std::vector<double> ones(shift.size(), 1.0);
    Decision decision = folded(node, *reader);
    MCOMPRESS_ASSIGN(std::string why, rescale(*reader, *norm, step.a, ones, shift, context));
    if (!why.empty()) return why;
    MCOMPRESS_ASSIGN(why, bypass(context, node, *step.input));
    context.explain().chose(std::move(decision));
    return why;
  }

  // --- in front of several linear operators

  static Result<std::string> into_readers(Node& node, PassContext& context) {
    Value& result = *node.output(0);
    if (result.uses().size() < 2) return std::string(kNothing);
    std::vector<LinearOp> readers;
    for (const Use& use : result.uses()) {
      if (use.node == nullptr || use.slot != 0) return std::string(kNothing);
      LinearSearch search = linear_operator(*use.node);
      if (!search.op || !search.op->in_layout) return std::string(kNothing);
      find_bias(*search.op);
      readers.push_back(*search.op);
    }
    const ChannelAxis& axis = readers.front().in;
    AffineStep step;
    if (node.is("BatchNormalization")) {
      BatchNormStep norm = batch_norm_step(node);
      if (!norm.why_not.empty()) return std::move(norm.why_not);
      if (!axis.rank || axis.from_end + 2 != *axis.rank ||
          static_cast<std::int64_t>(norm.a.size()) != axis.channels) {
        return std::string("its channels are not those of the operators that read it");
      }
      step.input = node.input(0);
      step.a = std::move(norm.a);
      step.c = std::move(norm.c);
    } else {
      if (data_of(node) == nullptr) return std::string(kNothing);
      step = affine_step(node, axis);
      if (step.input == nullptr) return step.why_not;
    }
    if (ends_known_form(*step.input)) return std::string(kEndsKnownForm);
    const bool shifts = std::ranges::any_of(step.c, [](double c) { return c != 0.0; });
    for (const LinearOp& op : readers) {
      if (op.in.channels != axis.channels || op.in.from_end != axis.from_end) {
        return std::string("the operators that read it differ in their channels");
      }
      if (shifts && !takes_shift(op)) {
        return op.label() + (op.is("MatMul") ? " has no bias for a shift"
                                             : " pads with zeros, which a shift would miss");
      }
      const Value& weight = *op.node->input(1);
      if (weight.uses().size() != 1) {
        return "'" + std::string(weight.name()) + "' has other readers and would be copied";
      }
      if (op.node->graph().owner() != node.graph().owner()) {
        return "'" + std::string(result.name()) + "' is read inside a nested graph";
      }
    }
    Decision decision = folded(node, *readers.front().node);
    decision.what += " and " + std::to_string(readers.size() - 1) + " more";
    for (const LinearOp& op : readers) {
      MCOMPRESS_ASSIGN(std::string why, absorb_before(context, op, *step.input, step.a, step.c));
      // What was folded before is right by itself.
      if (!why.empty()) return why;
    }
    context.explain().chose(std::move(decision));
    return std::string();
  }
};

}  // namespace

PassInfo fuse_norm_scale_info() {
  return pass_info<FuseNormScale>(
      "fuse-norm-scale", "fold affine steps into normalisations and into several operators at once",
      Reach::kNestedGraphs, true,
      {"lift-constants", "infer-shapes", "fold-constants", "fuse-batchnorm"});
}

}  // namespace mcompress
