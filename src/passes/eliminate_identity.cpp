// Removes nodes that hand their input on unchanged, and shortens pairs that undo or repeat each
// other:
//
//   Identity, Dropout (inference), Cast to the same type, Transpose / Reshape / Flatten / Pad /
//   Slice / Gather / Expand / Tile / Resize that change nothing, Concat / Sum / Max / Min / Mean /
//   Split of one, Mul 1, Div 1, Add 0, Sub 0, Pow 1, MatMul with [[1]], Clip without bounds
//   Unsqueeze(Squeeze(x)), Squeeze(Unsqueeze(x))  =>  x
//   Transpose(Transpose(x, p), q)                 =>  Transpose(x, p[q])
//   Reshape(any view of x, shape)                 =>  Reshape(x, shape)
//
// Names of the model's inputs and outputs never change; where both ends have such a name an
// Identity stays.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

// What a node turned out to be.
struct Finding {
  Value* same_as = nullptr;  // the output equals this value
  std::string why_not;       // it looked like an identity, but
};
Finding same_as(Value* value) { return {value, {}}; }
Finding unlike() { return {}; }

bool all_equal(const Ints& list, std::int64_t number) {
  return std::ranges::all_of(list, [&](std::int64_t entry) { return entry == number; });
}

bool same_static_shape(const Value& left, const Value& right) {
  const auto a = static_shape(left);
  const auto b = static_shape(right);
  return a && b && *a == *b;
}

// Broadcasting a constant of these dimensions against `value` can not change the value's shape.
bool keeps_shape(const Value& value, std::span<const std::int64_t> constant) {
  if (constant.empty()) return true;
  const auto rank = rank_of(value);
  if (!rank || constant.size() > *rank) return false;
  for (std::size_t i = 0; i < constant.size(); ++i) {
    if (constant[i] == 1) continue;
    const auto axis = static_cast<std::int64_t>(*rank - constant.size() + i);
    if (dim_of(value, axis) != constant[i]) return false;
  }
  return true;
}

// False for floats of which the first is another number: most need not be read to the end.
bool begins_with(const Tensor& tensor, double number) {
  if (tensor.dtype() != DataType::kFloat || tensor.is_opaque()) return true;
  float first = 0;
  const auto pinned = tensor.storage()->pin(0, sizeof first);
  if (!pinned.ok()) return true;
  std::memcpy(&first, pinned->bytes().data(), sizeof first);
  return static_cast<double>(first) == number;
}

// Binary operators with a constant that changes nothing.
Finding neutral_operand(const Node& node, double neutral, bool commutes) {
  for (std::size_t slot : {std::size_t{1}, std::size_t{0}}) {
    if (slot == 0 && !commutes) break;
    Value* other = node.input(1 - slot);
    const auto tensor = constant_of(node.input(slot));
    if (other == nullptr || !tensor || tensor->elements() == 0) continue;
    if (!begins_with(*tensor, neutral)) continue;
    const auto numbers = constant_reals(node.input(slot));
    if (!numbers || !std::ranges::all_of(*numbers, [&](double x) { return x == neutral; })) {
      continue;
    }
    if (!keeps_shape(*other, tensor->dims())) {
      return {nullptr, "its constant changes nothing but perhaps the shape"};
    }
    return same_as(other);
  }
  return unlike();
}

Finding dropout(const Node& node) {
  if (!is_deterministic(node)) return {nullptr, "it may be in training mode"};
  if (node.output(1) != nullptr && !node.output(1)->uses().empty()) {
    return {nullptr, "its mask is used"};
  }
  return same_as(node.input(0));
}

Finding cast(const Node& node) {
  const auto to = static_cast<DataType>(node.int_attribute("to", 0));
  if (to == DataType::kUndefined || element_type(*node.input(0)) != to) return unlike();
  return same_as(node.input(0));
}

Finding reshape(const Node& node) {
  Value& input = *node.input(0);
  const auto shape = constant_ints(node.input(1));
  if (!shape) {
    return same_static_shape(input, *node.output(0)) ? same_as(&input) : unlike();
  }
  const auto rank = rank_of(input);
  if (!rank || *rank != shape->size()) return unlike();
  // One entry may be open: the number of elements decides it. Empty tensors leave it undecided.
  bool open = false;
  for (std::size_t i = 0; i < *rank; ++i) {
    const auto dim = dim_of(input, static_cast<std::int64_t>(i));
    const std::int64_t entry = (*shape)[i];
    if (dim == 0) return unlike();
    if (entry == 0 && node.int_attribute("allowzero", 0) == 0) continue;
    if (dim && *dim == entry) continue;
    if (entry != -1 || open) return unlike();
    open = true;
  }
  return same_as(&input);
}

Finding flatten(const Node& node) {
  Value& input = *node.input(0);
  const std::int64_t axis = node.int_attribute("axis", 1);
  if (rank_of(input) == 2 && (axis == 1 || axis == -1)) return same_as(&input);
  return same_static_shape(input, *node.output(0)) ? same_as(&input) : unlike();
}

Finding slice(const Node& node) {
  Value& input = *node.input(0);
  const IntsParameter starts = ints_parameter(node, "starts", 1);
  const IntsParameter ends = ints_parameter(node, "ends", 2);
  const IntsParameter axes = ints_parameter(node, "axes", 3);
  const IntsParameter steps = ints_parameter(node, "steps", 4);
  if (!starts.values || !ends.values || !axes.known || !steps.known) return unlike();
  if (steps.values && !all_equal(*steps.values, 1)) return unlike();
  for (std::size_t i = 0; i < starts.values->size(); ++i) {
    if (i >= ends.values->size() || (axes.values && i >= axes.values->size())) return unlike();
    const std::int64_t axis = axes.values ? (*axes.values)[i] : static_cast<std::int64_t>(i);
    const std::int64_t end = (*ends.values)[i];
    const auto size = dim_of(input, axis);
    const bool from_start = (*starts.values)[i] == 0 || (size && (*starts.values)[i] <= -*size);
    const bool to_end = end >= std::numeric_limits<std::int32_t>::max() || (size && end >= *size);
    if (!from_start || !to_end) return unlike();
  }
  return same_as(&input);
}

// All indices along an axis, in order.
Finding gather(const Node& node) {
  const auto indices = constant_of(node.input(1));
  if (!indices || indices->dims().size() != 1) return unlike();
  const auto size = dim_of(*node.input(0), node.int_attribute("axis", 0));
  const auto numbers = constant_ints(node.input(1));
  if (!size || !numbers || *size != static_cast<std::int64_t>(numbers->size())) return unlike();
  for (std::int64_t i = 0; i < *size; ++i) {
    const std::int64_t index = (*numbers)[static_cast<std::size_t>(i)];
    if (index != i && index != i - *size) return unlike();
  }
  return same_as(node.input(0));
}

// A product with the matrix [[1]].
Finding product(const Node& node) {
  for (std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
    Value* other = node.input(1 - slot);
    const auto one = constant_of(node.input(slot));
    if (!one || other == nullptr || one->elements() != 1 || one->dims().size() < 2) continue;
    if (constant_scalar(node.input(slot)) != 1.0) continue;
    const auto rank = rank_of(*other);
    if (rank && *rank >= one->dims().size()) return same_as(other);
  }
  return unlike();
}

// To as many places as there are.
Finding resize(const Node& node) {
  constexpr std::size_t kScales = 2, kSizes = 3;
  const std::string_view places =
      node.string_attribute("coordinate_transformation_mode", "half_pixel");
  const bool cuts_or_shifts = places == "tf_crop_and_resize" || places == "tf_half_pixel_for_nn";
  if (cuts_or_shifts || node.attribute("axes") != nullptr) return unlike();
  if (const auto scales = constant_reals(node.input(kScales)); scales && !scales->empty()) {
    const bool ones = std::ranges::all_of(*scales, [](double scale) { return scale == 1.0; });
    return ones ? same_as(node.input(0)) : unlike();
  }
  const auto sizes = constant_ints(node.input(kSizes));
  return sizes && static_shape(*node.input(0)) == *sizes ? same_as(node.input(0)) : unlike();
}

Finding expand(const Node& node) {
  Value& input = *node.input(0);
  const auto shape = constant_ints(node.input(1));
  if (shape && keeps_shape(input, *shape)) return same_as(&input);
  return same_static_shape(input, *node.output(0)) ? same_as(&input) : unlike();
}

// Axes of a Squeeze or Unsqueeze, counted from 0 where the larger rank is known; sorted.
std::optional<Ints> view_axes(const Node& node) {
  const IntsParameter axes = ints_parameter(node, "axes", 1);
  if (!axes.values) return std::nullopt;
  const Value* larger = node.is("Squeeze") ? node.input(0) : node.output(0);
  const auto rank = larger != nullptr ? rank_of(*larger) : std::nullopt;
  Ints list = *axes.values;
  for (std::int64_t& axis : list) {
    if (axis < 0 && rank) axis += static_cast<std::int64_t>(*rank);
  }
  std::ranges::sort(list);
  return list;
}

Finding squeeze(const Node& node) {
  const std::string_view inverse = node.is("Squeeze") ? "Unsqueeze" : "Squeeze";
  const Node* inner = made_by(node.input(0), inverse);
  if (inner == nullptr || inner->input(0) == nullptr) return unlike();
  const auto outer_axes = view_axes(node);
  const auto inner_axes = view_axes(*inner);
  if (!outer_axes || !inner_axes || *outer_axes != *inner_axes) return unlike();
  // Axes counted from both ends can only be compared when both count the same way.
  const bool mixed = !outer_axes->empty() && outer_axes->front() < 0 && outer_axes->back() >= 0;
  return mixed ? unlike() : same_as(inner->input(0));
}

std::optional<Ints> permutation(const Node& node) {
  if (auto perm = node.ints_attribute("perm")) return perm;
  const auto rank = rank_of(*node.input(0));
  if (!rank) return std::nullopt;
  Ints reversed;
  for (std::size_t i = *rank; i > 0; --i) reversed.push_back(static_cast<std::int64_t>(i) - 1);
  return reversed;
}

bool is_sorted_permutation(const Ints& perm) {
  for (std::size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

bool is_view(const Node& node) {
  return node.is("Reshape") || node.is("Flatten") || node.is("Squeeze") || node.is("Unsqueeze");
}

// What inspect() knows.
constexpr auto kMayDoNothing = std::to_array<std::string_view>(
    {"Add",     "Cast",   "Clip",     "Concat",  "Div",       "Dropout",  "Expand",
     "Flatten", "Gather", "Identity", "MatMul",  "Max",       "Mean",     "Min",
     "Mul",     "Pad",    "Pow",      "Reshape", "Resize",    "Slice",    "Split",
     "Squeeze", "Sub",    "Sum",      "Tile",    "Transpose", "Unsqueeze"});

Finding inspect(const Node& node) {
  if (!node.domain().empty() || node.input(0) == nullptr || node.output(0) == nullptr) {
    return unlike();
  }
  Value* input = node.input(0);
  const std::string_view op = node.op_type();
  if (op == "Identity") return same_as(input);
  if (op == "Dropout") return dropout(node);
  if (op == "Cast") return cast(node);
  if (op == "Reshape") return reshape(node);
  if (op == "Flatten") return flatten(node);
  if (op == "Slice") return slice(node);
  if (op == "Expand") return expand(node);
  if (op == "Gather") return gather(node);
  if (op == "MatMul") return product(node);
  if (op == "Resize") return resize(node);
  if (op == "Squeeze" || op == "Unsqueeze") return squeeze(node);
  if (op == "Mul") return neutral_operand(node, 1.0, true);
  if (op == "Add") return neutral_operand(node, 0.0, true);
  if (op == "Div" || op == "Pow") return neutral_operand(node, 1.0, false);
  if (op == "Sub") return neutral_operand(node, 0.0, false);
  if (op == "Transpose") {
    const auto perm = permutation(node);
    return perm && is_sorted_permutation(*perm) ? same_as(input) : unlike();
  }
  if (op == "Pad") {
    const IntsParameter pads = ints_parameter(node, "pads", 1);
    return pads.values && all_equal(*pads.values, 0) ? same_as(input) : unlike();
  }
  if (op == "Tile") {
    const auto repeats = constant_ints(node.input(1));
    return repeats && all_equal(*repeats, 1) ? same_as(input) : unlike();
  }
  if (op == "Concat" || op == "Sum" || op == "Max" || op == "Min" || op == "Mean") {
    return node.inputs().size() == 1 ? same_as(input) : unlike();
  }
  if (op == "Split") return node.outputs().size() == 1 ? same_as(input) : unlike();
  if (op == "Clip") {
    const bool bounded = node.input(1) != nullptr || node.input(2) != nullptr ||
                         node.attribute("min") != nullptr || node.attribute("max") != nullptr;
    return bounded ? unlike() : same_as(input);
  }
  return unlike();
}

class EliminateIdentity final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit EliminateIdentity(Options) {}

  Status run(Model& model, PassContext& context) override {
    for (Node* node : find_nodes(context, model, kMayDoNothing)) {
      if (context.edit().erased(*node)) continue;
      MCOMPRESS_TRY(remove(*node, context));
      if (context.edit().erased(*node)) continue;
      MCOMPRESS_ASSIGN(const bool shorter, shorten(*node, context));
      if (shorter) MCOMPRESS_TRY(remove(*node, context));
    }
    context.report().count("removed", removed_);
    context.report().count("shortened", shortened_);
    return ok_status();
  }

 private:
  // Reads past a view or transposition that this node makes pointless.
  Result<bool> shorten(Node& node, PassContext& context) {
    Editor& editor = context.edit();
    Value* input = node.input(0);
    if (input == nullptr || !node.domain().empty()) return false;
    Node* inner = input->producer();
    if (inner == nullptr || !inner->domain().empty() || inner->input(0) == nullptr) {
      return false;
    }
    if (node.is("Transpose") && inner->is("Transpose")) {
      const auto outer_perm = permutation(node);
      const auto inner_perm = permutation(*inner);
      if (!outer_perm || !inner_perm || outer_perm->size() != inner_perm->size()) {
        return false;
      }
      Ints merged;
      for (std::int64_t axis : *outer_perm) {
        if (axis < 0 || axis >= static_cast<std::int64_t>(inner_perm->size())) return false;
        merged.push_back((*inner_perm)[static_cast<std::size_t>(axis)]);
      }
      editor.set_attribute(node, attribute("perm", std::move(merged)));
    } else if (node.is("Reshape") && is_view(*inner)) {
      // An entry 0 copies a dimension of the very tensor that is read.
      const auto shape = constant_ints(node.input(1));
      if (!shape || std::ranges::find(*shape, 0) != shape->end()) return false;
      // A view of this one may restore what the inner one makes.
      const Node* reader = only_user(*node.output(0));
      if (reader != nullptr && is_view(*reader)) return false;
    } else {
      return false;
    }
    chose(context, node, "reads past " + inner->label());
    editor.set_input(node, 0, inner->input(0));
    ++shortened_;
    MCOMPRESS_TRY(erase_unused(context, *input));
    return true;
  }

  Status remove(Node& node, PassContext& context) {
    Finding finding = inspect(node);
    if (finding.same_as == nullptr) {
      if (!finding.why_not.empty()) context.explain().skipped(node, std::move(finding.why_not));
      return ok_status();
    }
    Value* input = node.input(0);
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.what = "removed, it only hands on '" + std::string(finding.same_as->name()) + "'";
    MCOMPRESS_ASSIGN(std::string why, bypass(context, node, *finding.same_as));
    if (!why.empty()) {
      context.explain().skipped(node, std::move(why));
      return ok_status();
    }
    context.explain().chose(std::move(decision));
    ++removed_;
    return input != finding.same_as ? erase_unused(context, *input) : ok_status();
  }

  std::int64_t removed_ = 0, shortened_ = 0;
};

}  // namespace

PassInfo eliminate_identity_info() {
  return pass_info<EliminateIdentity>(
      "eliminate-identity", "remove nodes that change nothing, shorten pairs", Reach::kNestedGraphs,
      true, {"lift-constants", "infer-shapes"});
}

}  // namespace mcompress
