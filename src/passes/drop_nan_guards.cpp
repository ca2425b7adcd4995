// Guards against rows that are masked as a whole, where no row can be:
//
//   p = Softmax(x)   Where(IsNaN(p), 0, p)   =>   p
//
// Exporters write the guard behind the Softmax of every attention layer. A row becomes NaN where
// all of it is minus infinity. So the guard goes where x is a product without a mask, where the
// mask holds finite numbers only (the lowest one of the type is one), or where it is a constant
// that leaves a number in each row. Infinities and NaN in the inputs of the model or in its weights
// are not counted on.
#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/finite.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

// The Softmax that the guard is for; null: it is none.
Node* guarded(const Node& where) {
  constexpr std::size_t kCondition = 0, kOtherwise = 1, kNumbers = 2;
  if (!where.is("Where") || where.output(0) == nullptr) return nullptr;
  const Node* test = made_by(where.input(kCondition), "IsNaN");
  if (test == nullptr || test->input(0) != where.input(kNumbers)) return nullptr;
  Node* softmax = made_by(where.input(kNumbers), "Softmax");
  // What stands in for NaN must not make the result any larger.
  return softmax != nullptr && constant_scalar(where.input(kOtherwise)) ? softmax : nullptr;
}

class DropNanGuards final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit DropNanGuards(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Node*> guards = find_nodes(context, model, {"Where"});
    std::erase_if(guards, [](const Node* node) { return guarded(*node) == nullptr; });
    for (Node* where : guards) MCOMPRESS_TRY(drop(*where, *guarded(*where), context));
    context.report().count("removed", removed_);
    return ok_status();
  }

 private:
  Status drop(Node& where, Node& softmax, PassContext& context) {
    Value& numbers = *softmax.output(0);
    if (std::string why = why_needed(where, softmax); !why.empty()) {
      context.explain().skipped(where, std::move(why));
      return ok_status();
    }
    if (std::string why = why_not_bypass(context, where, numbers); !why.empty()) {
      context.explain().skipped(where, std::move(why));
      return ok_status();
    }
    chose(context, where, "removed, " + softmax.label() + " makes a number of each row");
    Value& test = *where.input(0);
    MCOMPRESS_ASSIGN(std::string why, bypass(context, where, numbers));
    if (!why.empty()) return Error(Code::kInternal, "guard-not-removed", std::move(why));
    ++removed_;
    return erase_unused(context, test);
  }

  static std::string why_needed(const Node& where, const Node& softmax) {
    constexpr std::int64_t kOneAxis = 13;  // before, all axes from the given one on are one row
    const Value& numbers = *softmax.output(0);
    const auto rank = rank_of(numbers);
    const auto added = rank_of(*where.input(1));
    if (!rank || !added || *added > *rank) {
      return "it may add dimensions to '" + std::string(numbers.name()) + "'";
    }
    const bool together = where.graph().model().opset("") < kOneAxis;
    std::int64_t axis = softmax.int_attribute("axis", together ? 1 : -1);
    if (axis < 0) axis += static_cast<std::int64_t>(*rank);
    const std::int64_t from_end = static_cast<std::int64_t>(*rank) - axis;
    const bool sure = together && from_end != 1 ? is_finite(softmax.input(0))
                                                : has_finite_rows(softmax.input(0), from_end);
    if (sure) return {};
    return "a row of '" + std::string(softmax.input(0)->name()) +
           "' may be masked as a whole, or be infinite";
  }

  std::int64_t removed_ = 0;
};

}  // namespace

PassInfo drop_nan_guards_info() {
  return pass_info<DropNanGuards>(
      "drop-nan-guards", "drop tests for masked rows behind a Softmax that sees none",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
