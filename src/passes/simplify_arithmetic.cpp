// Operators that a cheaper one replaces without a change of the result:
//
//   Pow(x, 2)        =>   Mul(x, x)          but in a normalisation that runtimes know as a whole
//   Pow(x, 0.5)      =>   Sqrt(x)            where x is known not to be negative
//   Div(x, 2^k)      =>   Mul(x, 2^-k)       the reciprocal is exact
//   Not(Not(x))      =>   x
//   Where(true, a, b), Where(false, a, b)   =>   a or b, where that has the shape of the result
//   Where(Not(c), a, b)                     =>   Where(c, b, a)
//   Cast<bool>(Where(c, 0, -65504))         =>   Not(c)       a mask that becomes a condition again
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/known_forms.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

bool is_floating(const Value& value) {
  static constexpr std::array<DataType, 4> kTypes = {DataType::kFloat, DataType::kDouble,
                                                     DataType::kFloat16, DataType::kBfloat16};
  return std::ranges::find(kTypes, element_type(value)) != kTypes.end();
}

// No element is below zero, nor is one a negative zero that a square root would keep. NaN may be.
bool is_never_negative(const Value* value, int depth = 8) {
  if (value == nullptr || depth == 0 || value->producer() == nullptr) return false;
  const Node& node = *value->producer();
  if (!node.domain().empty()) return false;
  static constexpr std::array<std::string_view, 6> kPositive = {
      "Abs", "Exp", "ReduceL2", "Sigmoid", "Softmax", "ReduceSumSquare"};
  static constexpr std::array<std::string_view, 5> kKeep = {"Identity", "ReduceMax", "ReduceMean",
                                                            "ReduceSum", "Reshape"};
  const std::string_view op = node.op_type();
  if (std::ranges::find(kPositive, op) != kPositive.end()) return true;
  if (op == "Mul" && node.input(0) == node.input(1)) return true;
  if (op == "Pow" && constant_scalar(node.input(1)) == 2.0) return true;
  if (std::ranges::find(kKeep, op) != kKeep.end()) {
    return is_never_negative(node.input(0), depth - 1);
  }
  if (op == "Add") {
    for (std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
      const auto number = constant_scalar(node.input(slot));
      if (number && *number > 0.0 && is_never_negative(node.input(1 - slot), depth - 1)) {
        return true;
      }
    }
  }
  return false;
}

class SimplifyArithmetic final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit SimplifyArithmetic(Options) {}

  Status run(Model& model, PassContext& context) override {
    if (model.opset("") >= kNumpyBroadcast) {
      const std::vector<Node*> nodes =
          find_nodes(context, model, {"Cast", "Div", "Not", "Pow", "Where"});
      if (!nodes.empty()) shapes_ = context.facts().of<SymbolicShapes>(model);
      for (Node* node : nodes) {
        if (context.edit().erased(*node) || node->input(0) == nullptr) continue;
        if (node->is("Pow")) MCOMPRESS_TRY(power(*node, context));
        if (node->is("Div")) MCOMPRESS_TRY(quotient(*node, context));
        if (node->is("Not")) MCOMPRESS_TRY(negation(*node, context));
        if (node->is("Cast")) MCOMPRESS_TRY(condition(*node, context));
        if (node->is("Where")) MCOMPRESS_TRY(choice(*node, context));
      }
    }
    context.report().count("replaced", replaced_);
    context.report().count("removed", removed_);
    return ok_status();
  }

 private:
  Status power(Node& node, PassContext& context) {
    Value& base = *node.input(0);
    const auto exponent = constant_scalar(node.input(1));
    if (!exponent || (*exponent != 2.0 && *exponent != 0.5) || !is_floating(base))
      return ok_status();
    const auto rank = rank_of(base);
    const auto added = rank_of(*node.input(1));
    if (*added > rank.value_or(0)) {
      context.explain().skipped(
          node, "its exponent may add dimensions to '" + std::string(base.name()) + "'");
      return ok_status();
    }
    Value& before = *node.input(1);
    Editor& editor = context.edit();
    if (*exponent == 2.0 && squares_in_known_form(node)) {
      context.explain().skipped(node, std::string(kInKnownForm));
      return ok_status();
    }
    if (*exponent == 2.0) {
      chose(context, node, "is a Mul of '" + std::string(base.name()) + "' with itself");
      editor.set_op_type(node, "", "Mul");
      editor.set_input(node, 1, &base);
    } else if (is_never_negative(&base)) {
      chose(context, node, "is a Sqrt");
      editor.set_op_type(node, "", "Sqrt");
      editor.remove_trailing_input(node);
    } else {
      context.explain().skipped(
          node, "'" + std::string(base.name()) + "' may be negative, a Sqrt would differ");
      return ok_status();
    }
    ++replaced_;
    return erase_unused(context, before);
  }

  Status quotient(Node& node, PassContext& context) {
    if (!is_constant(node.input(1)) || !is_floating(*node.input(0))) return ok_status();
    const auto numbers = constant_reals(node.input(1));
    if (!numbers || numbers->empty()) return ok_status();
    const DataType type = element_type(*node.input(1));
    // Powers of two whose reciprocal is a normal number as well, in float16 too.
    const int most = type == DataType::kFloat16 ? 14 : 126;
    const bool exact = std::ranges::all_of(*numbers, [&](double number) {
      int exponent = 0;
      return std::abs(std::frexp(number, &exponent)) == 0.5 && std::abs(exponent - 1) <= most;
    });
    if (!exact) {
      context.explain().skipped(
          node, "the reciprocal of '" + std::string(node.input(1)->name()) + "' is not exact");
      return ok_status();
    }
    // One number is enough for a tensor of equal ones as well.
    const auto tensor = constant_of(node.input(1));
    const double first = numbers->front();
    if (std::ranges::any_of(*numbers, [&](double number) { return number != first; })) {
      context.explain().skipped(node, "its divisors differ");
      return ok_status();
    }
    auto reciprocal =
        number_tensor(1.0 / first, type, {tensor->dims().begin(), tensor->dims().end()});
    if (!reciprocal.ok()) return ok_status();
    chose(context, node, "is a Mul, the reciprocal is exact");
    Value& before = *node.input(1);
    Value& factor = add_constant(context, node.graph(), before.name(), std::move(*reciprocal));
    context.edit().set_op_type(node, "", "Mul");
    context.edit().set_input(node, 1, &factor);
    ++replaced_;
    return erase_unused(context, before);
  }

  Status negation(Node& node, PassContext& context) {
    Node* inner = made_by(node.input(0), "Not");
    if (inner == nullptr || inner->input(0) == nullptr) return ok_status();
    return replace_by(node, *inner->input(0), "removed, it undoes " + inner->label(), context);
  }

  // True and false of numbers that a condition chose.
  Status condition(Node& node, PassContext& context) {
    Node* where = made_by(node.input(0), "Where");
    const auto to = static_cast<DataType>(node.int_attribute("to", 0));
    if (where == nullptr || where->input(0) == nullptr || to != DataType::kBool) return ok_status();
    const auto yes = constant_scalar(where->input(1));
    const auto no = constant_scalar(where->input(2));
    const auto rank = rank_of(*where->input(0));
    if (!yes || !no || (*yes != 0.0) == (*no != 0.0)) return ok_status();
    for (const std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
      if (!rank || *rank_of(*where->input(slot)) > *rank) return ok_status();
    }
    Value& chosen = *node.input(0);
    if (*yes != 0.0) {
      return replace_by(node, *where->input(0), "removed, it is what " + where->label() + " asks",
                        context);
    }
    chose(context, node, "is the opposite of what " + where->label() + " asks");
    context.edit().set_input(node, 0, where->input(0));
    context.edit().set_op_type(node, "", "Not");
    context.edit().remove_attribute(node, "to");
    context.edit().remove_attribute(node, "saturate");
    ++replaced_;
    return erase_unused(context, chosen);
  }

  Status choice(Node& node, PassContext& context) {
    if (Node* negation = made_by(node.input(0), "Not");
        negation != nullptr && negation->input(0) != nullptr && node.input(1) != nullptr &&
        node.input(2) != nullptr) {
      chose(context, node, "takes the other side, " + negation->label() + " is left out");
      Value& before = *node.input(0);
      Value* yes = node.input(1);
      context.edit().set_input(node, 0, negation->input(0));
      context.edit().set_input(node, 1, node.input(2));
      context.edit().set_input(node, 2, yes);
      ++replaced_;
      return erase_unused(context, before);
    }
    const auto picks = constant_reals(node.input(0));
    if (!picks || picks->empty()) return ok_status();
    const bool first = picks->front() != 0.0;
    if (std::ranges::any_of(*picks, [&](double pick) { return (pick != 0.0) != first; })) {
      return ok_status();
    }
    Value* picked = node.input(first ? 1 : 2);
    const Terms* from = picked != nullptr ? shapes_->dims(*picked) : nullptr;
    const Terms* to = shapes_->dims(*node.output(0));
    if (from == nullptr || to == nullptr || *from != *to) {
      context.explain().skipped(node, "it always takes one side, but may change its shape");
      return ok_status();
    }
    return replace_by(node, *picked, "removed, it always takes the same side", context);
  }

  Status replace_by(Node& node, Value& value, std::string what, PassContext& context) {
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = std::move(what);
    const std::vector<Value*> inputs(node.inputs().begin(), node.inputs().end());
    MCOMPRESS_ASSIGN(std::string why, bypass(context, node, value));
    if (!why.empty()) {
      context.explain().skipped(node, std::move(why));
      return ok_status();
    }
    context.explain().chose(std::move(decision));
    ++removed_;
    for (Value* input : inputs) {
      if (input != nullptr && input != &value) MCOMPRESS_TRY(erase_unused(context, *input));
    }
    return ok_status();
  }

  std::shared_ptr<const SymbolicShapes> shapes_;
  std::int64_t replaced_ = 0, removed_ = 0;
};

}  // namespace

PassInfo simplify_arithmetic_info() {
  return pass_info<SimplifyArithmetic>(
      "simplify-arithmetic", "replace powers, divisions and choices by cheaper operators",
      Reach::kNestedGraphs, true,
      {"lift-constants", "infer-shapes", "fold-constants", "fuse-layer-norm", "fuse-rms-norm",
       "fuse-gelu", "fuse-hard-swish", "fuse-swish", "fuse-mish"});
}

}  // namespace mcompress
