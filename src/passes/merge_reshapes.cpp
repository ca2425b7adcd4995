// Views of a tensor in a row become one, and what undoes a view goes:
//
//   Reshape | Flatten | Squeeze | Unsqueeze of a view of x   =>   one view of x, or x itself
//   Squeeze(ReduceMean(x, axes, keepdims=1), axes)           =>   ReduceMean(x, axes, keepdims=0)
//   Unsqueeze(ReduceMean(x, axes, keepdims=0), axes)         =>   ReduceMean(x, axes, keepdims=1)
//
// A view keeps all elements in their order, so what comes out at the end is decided by its
// dimensions alone: those are followed as numbers and symbols.
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <unordered_set>

#include "ir/builder.h"
#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/list_operands.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::array<std::string_view, 4> kViews = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"};

bool is_view(const Node& node) {
  return node.domain().empty() && node.input(0) != nullptr && node.output(0) != nullptr &&
         std::ranges::find(kViews, node.op_type()) != kViews.end();
}

bool is_reduction(const Node& node) {
  static constexpr std::array<std::string_view, 10> kReductions = {
      "ReduceL1",   "ReduceL2",  "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
      "ReduceMean", "ReduceMin", "ReduceProd",   "ReduceSum",       "ReduceSumSquare"};
  return node.domain().empty() && node.input(0) != nullptr && node.output(0) != nullptr &&
         std::ranges::find(kReductions, node.op_type()) != kReductions.end();
}

// The dimensions a reduction of `input` would have the other way round.
std::optional<Terms> other_way(const Node& reduction, const Terms& input) {
  const IntsParameter axes = ints_parameter(reduction, "axes", 1);
  if (!axes.known) return std::nullopt;
  const bool all = !axes.values || axes.values->empty();
  if (all && reduction.int_attribute("noop_with_empty_axes", 0) != 0) return std::nullopt;
  const auto rank = static_cast<std::int64_t>(input.size());
  Terms result;
  for (std::int64_t i = 0; i < rank; ++i) {
    const bool reduced = all || std::ranges::any_of(*axes.values, [&](std::int64_t axis) {
                           return axis == i || axis + rank == i;
                         });
    const bool will_keep = reduction.int_attribute("keepdims", 1) == 0;
    if (!reduced) {
      result.push_back(input[static_cast<std::size_t>(i)]);
    } else if (will_keep) {
      result.push_back({1});
    }
  }
  return result;
}

class MergeReshapes final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit MergeReshapes(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Node*> nodes = find_nodes(context, model, kViews);
    std::erase_if(nodes, [](const Node* node) { return !is_view(*node); });
    if (!nodes.empty()) shapes_ = context.facts().of<SymbolicShapes>(model);
    // What restores a shape goes before what was restored can be merged away.
    for (Node* node : nodes) {
      if (!context.edit().erased(*node)) MCOMPRESS_TRY(restore(*node, context));
    }
    for (Node* node : nodes) {
      if (context.edit().erased(*node) || !is_view(*node)) continue;
      Node* inner = node->input(0)->producer();
      if (inner == nullptr) continue;
      if (is_view(*inner)) MCOMPRESS_TRY(merge(*node, *inner, context));
      if (is_reduction(*inner)) MCOMPRESS_TRY(absorb(*node, *inner, context));
    }
    context.report().count("removed", removed_);
    context.report().count("merged", merged_);
    context.report().count("reductions", reductions_);
    return ok_status();
  }

 private:
  // Of values whose dimensions this pass did not change.
  const Terms* dims(const Value& value) const {
    return changed_.contains(&value) ? nullptr : shapes_->dims(value);
  }

  // The view has the dimensions of what it reads, or of what that is a view of.
  Status restore(Node& node, PassContext& context) {
    const Terms* to = dims(*node.output(0));
    if (to == nullptr) return ok_status();
    constexpr int kFarthest = 16;
    Value* source = node.input(0);
    for (int i = 0; i < kFarthest && source != nullptr; ++i) {
      const Terms* from = dims(*source);
      if (from != nullptr && *from == *to) return undo(node, *source, context);
      const Node* inner = source->producer();
      if (inner == nullptr || !is_view(*inner)) break;
      source = inner->input(0);
    }
    return ok_status();
  }

  Status merge(Node& node, Node& inner, PassContext& context) {
    Value& source = *inner.input(0);
    Value& between = *node.input(0);
    const Terms* from = dims(source);
    const Terms* to = dims(*node.output(0));
    if (from == nullptr || to == nullptr) return ok_status();
    if (only_user(between) != &node) {
      context.explain().skipped(node, why_not_only_user(between));
      return ok_status();
    }
    const bool adds = to->size() > from->size();
    const Ints ones = adds ? added_ones(*to, *from) : added_ones(*from, *to);
    const auto entries = reshape_entries(*from, *to);
    if (ones.empty() && !entries) {
      context.explain().skipped(
          node, "no constant shape makes it of '" + std::string(source.name()) + "' in one step");
      return ok_status();
    }
    chose(context, node, "reads past " + inner.label());
    Editor& editor = context.edit();
    std::vector<Value*> unread{&between};
    if (node.input(1) != nullptr) unread.push_back(node.input(1));
    const std::string base(node.output(0)->name());
    const auto list = [&](std::string_view suffix, const Ints& numbers) {
      return &add_list(context, node.graph(), base + std::string(suffix), numbers);
    };
    for (std::string_view name : {"axis", "axes", "allowzero"}) {
      editor.remove_attribute(node, name);
    }
    editor.set_input(node, 0, &source);
    constexpr std::int64_t kAxesAreInput = 13;
    if (ones.empty()) {
      editor.set_op_type(node, "", "Reshape");
      editor.set_input(node, 1, list("_shape", *entries));
    } else {
      editor.set_op_type(node, "", adds ? "Unsqueeze" : "Squeeze");
      if (node.graph().model().opset("") >= kAxesAreInput) {
        editor.set_input(node, 1, list("_axes", ones));
      } else {
        while (node.inputs().size() > 1) editor.remove_trailing_input(node);
        editor.set_attribute(node, attribute("axes", ones));
      }
    }
    for (Value* value : unread) MCOMPRESS_TRY(erase_unused(context, *value));
    ++merged_;
    return ok_status();
  }

  Status undo(Node& node, Value& source, PassContext& context) {
    Value& between = *node.input(0);
    Value* parameter = node.input(1);
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = "removed, it restores '" + std::string(source.name()) + "'";
    MCOMPRESS_ASSIGN(std::string why, bypass(context, node, source));
    if (!why.empty()) {
      context.explain().skipped(node, std::move(why));
      return ok_status();
    }
    context.explain().chose(std::move(decision));
    ++removed_;
    if (parameter != nullptr) MCOMPRESS_TRY(erase_unused(context, *parameter));
    return erase_unused(context, between);
  }

  Status absorb(Node& node, Node& reduction, PassContext& context) {
    Value& reduced = *reduction.output(0);
    const Terms* from = dims(*reduction.input(0));
    const Terms* to = dims(*node.output(0));
    if (from == nullptr || to == nullptr) return ok_status();
    const auto wanted = other_way(reduction, *from);
    if (!wanted || *wanted != *to) return ok_status();
    if (only_user(reduced) != &node) {
      context.explain().skipped(node, why_not_only_user(reduced));
      return ok_status();
    }
    Editor& editor = context.edit();
    if (std::string why = editor.why_not_replace(*node.output(0), reduced); !why.empty()) {
      context.explain().skipped(node, std::move(why));
      return ok_status();
    }
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = "removed, " + reduction.label() + " makes that shape itself";
    const std::int64_t keep = reduction.int_attribute("keepdims", 1) != 0 ? 0 : 1;
    editor.set_attribute(reduction, attribute("keepdims", keep));
    if (node.output(0)->type() != nullptr) {
      editor.set_type(reduced, *node.output(0)->type(),
                      IrInternals::type_origin(reduced) != nullptr);
    }
    changed_.insert(&reduced);
    Value* parameter = node.input(1);
    MCOMPRESS_ASSIGN(std::string why, bypass(context, node, reduced));
    if (!why.empty()) return Error(Code::kInternal, "view-not-replaced", std::move(why));
    context.explain().chose(std::move(decision));
    ++reductions_;
    return parameter != nullptr ? erase_unused(context, *parameter) : ok_status();
  }

  std::shared_ptr<const SymbolicShapes> shapes_;
  std::unordered_set<const Value*> changed_;
  std::int64_t removed_ = 0, merged_ = 0, reductions_ = 0;
};

}  // namespace

PassInfo merge_reshapes_info() {
  return pass_info<MergeReshapes>(
      "merge-reshapes", "make one view of several, and none of those that undo each other",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
