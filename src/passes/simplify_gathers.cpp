// Gather and GatherND by constants that cheaper operators replace:
//
//   Gather(x, [[0, 1], [2, 3]]), all there is, in order   =>   Reshape(x)
//   GatherND(x, [[0, 0], [0, 1], [1, 0], [1, 1]])         =>   Reshape(x)
//   Unsqueeze(Gather(x, 0)), Unsqueeze(Gather(x, 1)), ..  =>   the outputs of Split(x), or of
//                                                              Split(Transpose(x))
//
// Exporters pick a mask by positions like the first two; a recurrence that is unrolled picks one
// step after the other like the last. A Split takes the place of indices that come once each and
// take all of the axis together, where each result gets an axis of one element back: all nodes but
// one or two go.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>

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

std::optional<std::size_t> counted_axis(std::int64_t axis, std::size_t rank) {
  if (axis < 0) axis += static_cast<std::int64_t>(rank);
  if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) return std::nullopt;
  return static_cast<std::size_t>(axis);
}

// 0, 1, 2, .. up to size, counted from either end.
bool counts_up(const Ints& indices, std::int64_t size) {
  if (static_cast<std::int64_t>(indices.size()) != size) return false;
  for (std::int64_t i = 0; i < size; ++i) {
    const std::int64_t index = indices[static_cast<std::size_t>(i)];
    if (index != i && index != i - size) return false;
  }
  return true;
}

// All places of the first axes of `dims` in order, one row of `depth` numbers each.
bool counts_places(const Ints& indices, const Terms& dims, std::size_t depth) {
  std::int64_t places = 1;
  for (std::size_t i = 0; i < depth; ++i) {
    if (!dims[i].known() || __builtin_mul_overflow(places, dims[i].number, &places)) return false;
  }
  const auto numbers = static_cast<std::int64_t>(indices.size());
  if (places <= 0 || numbers % static_cast<std::int64_t>(depth) != 0 ||
      numbers / static_cast<std::int64_t>(depth) != places) {
    return false;
  }
  for (std::int64_t place = 0; place < places; ++place) {
    std::int64_t rest = place;
    for (std::size_t i = depth; i > 0; --i) {
      const std::int64_t size = dims[i - 1].number;
      const std::int64_t index = indices[static_cast<std::size_t>(place) * depth + i - 1];
      if (index != rest % size && index != rest % size - size) return false;
      rest /= size;
    }
  }
  return true;
}

// An Unsqueeze of one axis behind a Gather of one index.
struct Step {
  Node* gather = nullptr;
  Node* view = nullptr;
  std::int64_t index = 0;
  std::size_t position = 0;  // among all of the model, in order
};

class SimplifyGathers final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit SimplifyGathers(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Node*> nodes = find_nodes(context, model, {"Gather", "GatherND"});
    std::erase_if(nodes, [](const Node* node) {
      return node->input(0) == nullptr || node->output(0) == nullptr ||
             !is_constant(node->input(1)) || is_constant(node->input(0));
    });
    if (!nodes.empty()) {
      shapes_ = context.facts().of<SymbolicShapes>(model);
      for (Node* node : nodes) MCOMPRESS_TRY(to_reshape(*node, context));
      std::erase_if(nodes, [](const Node* node) { return !node->is("Gather"); });
      MCOMPRESS_TRY(to_splits(nodes, context));
    }
    context.report().count("reshapes", reshapes_);
    context.report().count("splits", splits_);
    context.report().count("removed", removed_);
    return ok_status();
  }

 private:
  // ---------------------------------------------------------------------------------- Reshape

  Status to_reshape(Node& node, PassContext& context) {
    const Terms* from = shapes_->dims(*node.input(0));
    const Terms* to = shapes_->dims(*node.output(0));
    const auto tensor = constant_of(node.input(1));
    const auto indices = constant_ints(node.input(1));
    if (from == nullptr || to == nullptr || !tensor || !indices) return ok_status();
    const bool all = node.is("Gather") ? takes_axis(node, *from, tensor->dims().size(), *indices)
                                       : takes_places(node, *from, *tensor, *indices);
    if (!all) return ok_status();
    const auto entries = reshape_entries(*from, *to);
    if (!entries) {
      context.explain().skipped(node, "it takes all in order, but no constant shape says which");
      return ok_status();
    }
    chose(context, node, "is a Reshape, it takes all in order");
    Value& before = *node.input(1);
    Editor& editor = context.edit();
    for (std::string_view name : {"axis", "batch_dims"}) editor.remove_attribute(node, name);
    editor.set_op_type(node, "", "Reshape");
    const std::string name = std::string(node.output(0)->name()) + "_shape";
    editor.set_input(node, 1, &add_list(context, node.graph(), name, *entries));
    ++reshapes_;
    return erase_unused(context, before);
  }

  static bool takes_axis(const Node& node, const Terms& from, std::size_t rank,
                         const Ints& indices) {
    const auto axis = counted_axis(node.int_attribute("axis", 0), from.size());
    // One index drops its axis, and a list of them is no change at all: other passes know both.
    return axis && rank > 1 && from[*axis].known() && counts_up(indices, from[*axis].number);
  }

  static bool takes_places(const Node& node, const Terms& from, const Tensor& tensor,
                           const Ints& indices) {
    if (node.int_attribute("batch_dims", 0) != 0 || tensor.dims().empty()) return false;
    const std::int64_t depth = tensor.dims().back();
    return depth > 0 && depth <= static_cast<std::int64_t>(from.size()) &&
           counts_places(indices, from, static_cast<std::size_t>(depth));
  }

  // ------------------------------------------------------------------------------------ Split

  Status to_splits(const std::vector<Node*>& gathers, PassContext& context) {
    // By what is read, its axis and the axis that is put in.
    std::map<std::tuple<std::uint32_t, std::size_t, std::size_t>, std::vector<Step>> groups;
    for (std::size_t position = 0; position < gathers.size(); ++position) {
      Node* gather = gathers[position];
      const Terms* dims = shapes_->dims(*gather->input(0));
      const auto tensor = constant_of(gather->input(1));
      if (dims == nullptr || !tensor || !tensor->dims().empty()) continue;
      const auto axis = counted_axis(gather->int_attribute("axis", 0), dims->size());
      Node* view = only_user(*gather->output(0));
      if (!axis || view == nullptr || !view->is("Unsqueeze") || view->input(0) == nullptr) continue;
      const IntsParameter axes = ints_parameter(*view, "axes", 1);
      if (!axes.values || axes.values->size() != 1 || !(*dims)[*axis].known()) continue;
      const auto back = counted_axis(axes.values->front(), dims->size());
      auto index = static_cast<std::int64_t>(*constant_scalar(gather->input(1)));
      if (index < 0) index += (*dims)[*axis].number;
      if (!back) continue;
      groups[{gather->input(0)->id(), *axis, *back}].push_back({gather, view, index, position});
    }
    for (auto& [key, steps] : groups) {
      MCOMPRESS_TRY(to_split(std::get<1>(key), std::get<2>(key), steps, context));
    }
    return ok_status();
  }

  Status to_split(std::size_t axis, std::size_t back, std::vector<Step>& steps,
                  PassContext& context) {
    Value& source = *steps.front().gather->input(0);
    const Terms& dims = *shapes_->dims(source);
    Node* at = std::ranges::min_element(steps, {}, &Step::position)->gather;
    std::ranges::stable_sort(steps, {}, &Step::index);
    Ints indices;
    for (const Step& step : steps) {
      if (&step.gather->graph() != &at->graph()) return ok_status();
      indices.push_back(step.index);
    }
    if (steps.size() < 2) return ok_status();
    if (!counts_up(indices, dims[axis].number)) {
      context.explain().skipped(
          *at, "others do not take all that it leaves of '" + std::string(source.name()) + "'");
      return ok_status();
    }
    for (const Step& step : steps) {
      chose(context, *step.gather,
            "becomes an output of a Split of '" + std::string(source.name()) + "'");
    }
    Editor& editor = context.edit();
    Value* whole = &source;
    if (axis != back) {
      Ints perm;
      for (std::size_t i = 0; i < dims.size(); ++i) {
        if (i != axis) perm.push_back(static_cast<std::int64_t>(i));
      }
      perm.insert(perm.begin() + static_cast<std::ptrdiff_t>(back),
                  static_cast<std::int64_t>(axis));
      NewNode turned{"Transpose", {&source}, 1, std::string(source.name()) + "_turned"};
      turned.attributes.push_back(attribute("perm", std::move(perm)));
      whole = editor.insert_before(*at, std::move(turned)).output(0);
    }
    std::vector<std::string> names;
    names.reserve(steps.size());
    for (const Step& step : steps) names.emplace_back(step.view->output(0)->name());
    Node& split = editor.insert_before(
        *at, split_of(context, at->graph(), *whole, static_cast<std::int64_t>(back),
                      Ints(steps.size(), 1), std::move(names)));
    for (std::size_t i = 0; i < steps.size(); ++i) {
      Node& view = *steps[i].view;
      Value& result = *view.output(0);
      Value& picked = *view.input(0);
      Value* axes = view.input(1);
      if (result.type() != nullptr) editor.set_type(*split.output(i), *result.type(), false);
      MCOMPRESS_TRY(editor.replace_all(result, *split.output(i)));
      MCOMPRESS_TRY(editor.erase(view));
      MCOMPRESS_TRY(erase_unused(context, picked));
      if (axes != nullptr) MCOMPRESS_TRY(erase_unused(context, *axes));
    }
    ++splits_;
    removed_ += static_cast<std::int64_t>(2 * steps.size()) - (axis != back ? 2 : 1);
    return ok_status();
  }

  std::shared_ptr<const SymbolicShapes> shapes_;
  std::int64_t reshapes_ = 0, splits_ = 0, removed_ = 0;
};

}  // namespace

PassInfo simplify_gathers_info() {
  return pass_info<SimplifyGathers>(
      "simplify-gathers", "make views and splits of what constants pick in order",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
