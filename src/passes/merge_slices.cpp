// Pieces of tensors, cut and joined again:
//
//   Slice(Slice(x))                              =>   one Slice of x
//   Slice(x, 0:a), Slice(x, a:b), Slice(x, b:)   =>   a Split of x
//   Slice(Concat(a, b, c)) inside of b           =>   Slice(b), or b
//   Concat of all outputs of a Split, in order   =>   what was split
//   Concat(a, Concat(b, c))                      =>   Concat(a, b, c)
//
// along one axis, in steps of 1, with bounds and sizes that are known.
#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_set>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/list_operands.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

struct Cut {
  std::int64_t axis = 0, start = 0, end = 0;
};

// What a Slice takes along each axis it names, in steps of 1, as numbers from 0 up.
std::optional<std::vector<Cut>> cuts_of(const Node& slice) {
  if (!slice.is("Slice") || slice.input(0) == nullptr || slice.output(0) == nullptr) {
    return std::nullopt;
  }
  const auto rank = rank_of(*slice.input(0));
  const IntsParameter starts = ints_parameter(slice, "starts", 1);
  const IntsParameter ends = ints_parameter(slice, "ends", 2);
  const IntsParameter axes = ints_parameter(slice, "axes", 3);
  const IntsParameter steps = ints_parameter(slice, "steps", 4);
  if (!rank || !starts.values || !ends.values || !axes.known || !steps.known ||
      starts.values->size() != ends.values->size() ||
      (axes.values && axes.values->size() != starts.values->size()) ||
      (steps.values && std::ranges::any_of(*steps.values, [](auto step) { return step != 1; }))) {
    return std::nullopt;
  }
  std::vector<Cut> cuts;
  for (std::size_t i = 0; i < starts.values->size(); ++i) {
    Cut cut;
    cut.axis = axes.values ? (*axes.values)[i] : static_cast<std::int64_t>(i);
    if (cut.axis < 0) cut.axis += static_cast<std::int64_t>(*rank);
    if (cut.axis < 0 || cut.axis >= static_cast<std::int64_t>(*rank)) return std::nullopt;
    const auto size = dim_of(*slice.input(0), cut.axis);
    if (!size || *size < 0) return std::nullopt;
    const auto clamp = [&](std::int64_t index) {
      return std::clamp<std::int64_t>(index < 0 ? index + *size : index, 0, *size);
    };
    cut.start = clamp((*starts.values)[i]);
    cut.end = std::max(cut.start, clamp((*ends.values)[i]));
    const bool again =
        std::ranges::any_of(cuts, [&](const Cut& other) { return other.axis == cut.axis; });
    if (again) return std::nullopt;
    cuts.push_back(cut);
  }
  return cuts;
}

std::optional<std::int64_t> axis_of(const Node& node) {
  const auto rank = node.input(0) != nullptr ? rank_of(*node.input(0)) : std::nullopt;
  if (!rank) return std::nullopt;
  std::int64_t axis = node.int_attribute("axis", 0);
  if (axis < 0) axis += static_cast<std::int64_t>(*rank);
  return axis >= 0 && axis < static_cast<std::int64_t>(*rank) ? std::optional(axis) : std::nullopt;
}

class MergeSlices final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit MergeSlices(Options) {}

  Status run(Model& model, PassContext& context) override {
    opset_ = model.opset("");
    for (Node* node : find_nodes(context, model, {"Concat", "Slice"})) {
      if (context.edit().erased(*node)) continue;
      if (node->is("Slice")) {
        MCOMPRESS_TRY(slice_of_slice(*node, context));
        MCOMPRESS_TRY(slice_of_concat(*node, context));
      }
      if (node->is("Concat")) {
        MCOMPRESS_TRY(concat_of_concat(*node, context));
        MCOMPRESS_TRY(concat_of_split(*node, context));
      }
    }
    MCOMPRESS_TRY(slices_to_splits(model, context));
    context.report().count("merged", merged_);
    context.report().count("removed", removed_);
    context.report().count("splits", splits_);
    return ok_status();
  }

 private:
  // Before opset 10 bounds are attributes, in a form of their own.
  static constexpr std::int64_t kBoundsAreInputs = 10;

  Status set_cuts(Node& slice, Value& source, const std::vector<Cut>& cuts, PassContext& context) {
    std::vector<Value*> before(slice.inputs().begin(), slice.inputs().end());
    Ints lists[3];
    for (const Cut& cut : cuts) {
      lists[0].push_back(cut.start);
      lists[1].push_back(cut.end);
      lists[2].push_back(cut.axis);
    }
    Editor& editor = context.edit();
    editor.set_input(slice, 0, &source);
    const std::string base(slice.output(0)->name());
    static constexpr std::string_view kNames[] = {"starts", "ends", "axes"};
    for (std::size_t i = 0; i < 3; ++i) {
      if (opset_ >= kBoundsAreInputs) {
        editor.set_input(
            slice, i + 1,
            &add_list(context, slice.graph(), base + "_" + std::string(kNames[i]), lists[i]));
      } else {
        editor.set_attribute(slice, attribute(kNames[i], lists[i]));
      }
    }
    while (slice.inputs().size() > 4) editor.remove_trailing_input(slice);
    for (Value* value : before) {
      if (value != nullptr && value != &source) MCOMPRESS_TRY(erase_unused(context, *value));
    }
    return ok_status();
  }

  Status slice_of_slice(Node& node, PassContext& context) {
    Node* inner = made_by(node.input(0), "Slice");
    if (inner == nullptr) return ok_status();
    const auto outer_cuts = cuts_of(node);
    auto cuts = cuts_of(*inner);
    if (!outer_cuts || !cuts) {
      context.explain().skipped(node, "the bounds or sizes of one of the two are not known");
      return ok_status();
    }
    if (only_user(*node.input(0)) != &node) {
      context.explain().skipped(node, why_not_only_user(*node.input(0)));
      return ok_status();
    }
    for (const Cut& cut : *outer_cuts) {
      const auto same = std::ranges::find(*cuts, cut.axis, &Cut::axis);
      if (same == cuts->end()) {
        cuts->push_back(cut);
      } else {
        *same = {cut.axis, same->start + cut.start, same->start + cut.end};
      }
    }
    chose(context, node, "cuts as " + inner->label() + " does, at once");
    ++merged_;
    return set_cuts(node, *inner->input(0), *cuts, context);
  }

  Status slice_of_concat(Node& node, PassContext& context) {
    Node* concat = made_by(node.input(0), "Concat");
    if (concat == nullptr) return ok_status();
    auto cuts = cuts_of(node);
    const auto axis = axis_of(*concat);
    if (!cuts || !axis) return ok_status();
    const auto cut = std::ranges::find(*cuts, *axis, &Cut::axis);
    if (cut == cuts->end()) return ok_status();
    std::int64_t start = 0;
    for (Value* part : concat->inputs()) {
      const auto size = part != nullptr ? dim_of(*part, *axis) : std::nullopt;
      if (!size || *size < 0) return ok_status();
      const std::int64_t end = start + *size;
      if (cut->start >= start && cut->end <= end && cut->end > cut->start) {
        chose(context, node, "reads '" + std::string(part->name()) + "' past " + concat->label());
        *cut = {*axis, cut->start - start, cut->end - start};
        ++merged_;
        return set_cuts(node, *part, *cuts, context);
      }
      start = end;
    }
    context.explain().skipped(node, "it takes of several inputs of " + concat->label());
    return ok_status();
  }

  Status concat_of_concat(Node& node, PassContext& context) {
    const auto axis = axis_of(node);
    if (!axis) return ok_status();
    std::vector<Value*> parts;
    std::vector<Value*> joined;
    for (Value* value : node.inputs()) {
      Node* inner = made_by(value, "Concat");
      const bool fits = inner != nullptr && axis_of(*inner) == axis && only_user(*value) == &node;
      if (!fits) {
        parts.push_back(value);
        continue;
      }
      parts.insert(parts.end(), inner->inputs().begin(), inner->inputs().end());
      joined.push_back(value);
    }
    if (joined.empty()) return ok_status();
    chose(context, node, "joins what " + joined.front()->producer()->label() + " joins as well");
    for (std::size_t i = 0; i < parts.size(); ++i) context.edit().set_input(node, i, parts[i]);
    for (Value* value : joined) MCOMPRESS_TRY(erase_unused(context, *value));
    merged_ += static_cast<std::int64_t>(joined.size());
    return ok_status();
  }

  Status concat_of_split(Node& node, PassContext& context) {
    Node* split = made_by(node.input(0), "Split");
    if (split == nullptr || axis_of(node) != axis_of(*split) || !axis_of(node)) return ok_status();
    if (!std::ranges::equal(node.inputs(), split->outputs())) return ok_status();
    Value& first = *node.input(0);
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = "removed, it restores '" + std::string(split->input(0)->name()) + "'";
    MCOMPRESS_ASSIGN(std::string why, bypass(context, node, *split->input(0)));
    if (!why.empty()) {
      context.explain().skipped(node, std::move(why));
      return ok_status();
    }
    context.explain().chose(std::move(decision));
    ++removed_;
    return erase_unused(context, first);
  }

  // ------------------------------------------------------------------------------------ Split

  struct Piece {
    Node* slice = nullptr;
    Cut cut;
  };

  Status slices_to_splits(Model& model, PassContext& context) {
    using Source = std::tuple<const Graph*, std::uint32_t, std::int64_t>;  // of the reader; axis
    std::map<Source, std::vector<Piece>> by_source;
    std::vector<Source> order;
    for (Node* node : find_nodes(context, model, {"Slice"})) {
      const auto cuts = cuts_of(*node);
      if (!cuts || cuts->size() != 1 || is_constant(node->input(0))) continue;
      const Source key(&node->graph(), node->input(0)->id(), cuts->front().axis);
      auto& pieces = by_source[key];
      if (pieces.empty()) order.push_back(key);
      pieces.push_back({node, cuts->front()});
    }
    for (const auto& key : order) MCOMPRESS_TRY(to_split(by_source[key], context));
    return ok_status();
  }

  Status to_split(std::vector<Piece>& pieces, PassContext& context) {
    if (pieces.size() < 2) return ok_status();
    Node& first = *pieces.front().slice;
    Value& source = *first.input(0);
    const std::int64_t axis = pieces.front().cut.axis;
    std::ranges::stable_sort(pieces, {}, [](const Piece& piece) { return piece.cut.start; });
    std::int64_t end = 0;
    Ints sizes;
    for (const Piece& piece : pieces) {
      if (piece.cut.start != end || piece.cut.end == end) {
        context.explain().skipped(first, "the slices of '" + std::string(source.name()) +
                                             "' leave gaps or overlap, so no Split makes them");
        return ok_status();
      }
      sizes.push_back(piece.cut.end - piece.cut.start);
      end = piece.cut.end;
    }
    if (dim_of(source, axis) != end) {
      context.explain().skipped(
          first, "the slices do not take all of '" + std::string(source.name()) + "'");
      return ok_status();
    }
    std::vector<std::string> names;
    names.reserve(pieces.size());
    for (const Piece& piece : pieces) names.emplace_back(piece.slice->output(0)->name());
    Editor& editor = context.edit();
    Node& split = editor.insert_before(
        first, split_of(context, first.graph(), source, axis, sizes, std::move(names)));
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      Node& slice = *pieces[i].slice;
      const std::vector<Value*> parameters(slice.inputs().begin(), slice.inputs().end());
      chose(context, slice, "becomes an output of a Split of '" + std::string(source.name()) + "'");
      if (slice.output(0)->type() != nullptr) {
        editor.set_type(*split.output(i), *slice.output(0)->type(), false);
      }
      // Outputs of a node of this graph may take any place that those of the slices had.
      MCOMPRESS_TRY(editor.replace_all(*slice.output(0), *split.output(i)));
      MCOMPRESS_TRY(editor.erase(slice));
      for (Value* value : parameters) {
        if (value != nullptr && value != &source) MCOMPRESS_TRY(erase_unused(context, *value));
      }
    }
    ++splits_;
    return ok_status();
  }

  std::int64_t opset_ = 0;
  std::int64_t merged_ = 0, removed_ = 0, splits_ = 0;
};

}  // namespace

PassInfo merge_slices_info() {
  return pass_info<MergeSlices>(
      "merge-slices", "cut and join tensors at once: Slice, Split and Concat in a row",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
