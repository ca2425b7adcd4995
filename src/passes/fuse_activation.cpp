// Chains of Relu and Clip with constant bounds become one of them. With [l, h] for Clip and
// [0, inf) for Relu:
//
//   Clip(Clip(x, l1, h1), l2, h2)   =>   Clip(x, max(l1, l2), min(h1, h2))
//
// exact as long as the new interval is not empty. Clip(x, 0, none) is written as Relu.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();

struct Bounds {
  double low = -kNone, high = kNone;
  bool operator==(const Bounds&) const = default;
};

// The interval a node clamps to; empty when it is no clamp, or no constant one.
std::optional<Bounds> bounds_of(const Node& node) {
  Bounds bounds;
  if (node.is("Relu")) {
    bounds.low = 0.0;
    return bounds;
  }
  if (!node.is("Clip")) return std::nullopt;
  const auto read = [&](std::string_view attribute, std::size_t slot, double& bound) {
    if (const Value* value = node.input(slot)) {
      const auto number = constant_scalar(value);
      if (!number || std::isnan(*number)) return false;
      bound = *number;
    } else if (node.attribute(attribute) != nullptr) {
      bound = static_cast<double>(node.float_attribute(attribute, 0.0f));
    }
    return true;
  };
  if (!read("min", 1, bounds.low) || !read("max", 2, bounds.high)) return std::nullopt;
  // The largest finite number bounds nothing but infinity: the default of old Clips.
  constexpr double kLargest = std::numeric_limits<float>::max();
  if (bounds.high >= kLargest) bounds.high = kNone;
  if (bounds.low <= -kLargest) bounds.low = -kNone;
  return bounds;
}

class FuseActivation final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseActivation(Options) {}

  Status run(Model& model, PassContext& context) override {
    const std::vector<Node*> found = find_nodes(context, model, {"Relu", "Clip"});
    for (Node* node : found) {
      MCOMPRESS_TRY(merge(*node, context));
    }
    context.report().count("merged", merged_);
    context.report().count("rewritten", rewritten_);
    return ok_status();
  }

 private:
  Status merge(Node& node, PassContext& context) {
    Value* input = node.input(0);
    if (input == nullptr || node.output(0) == nullptr) return ok_status();
    const DataType type = element_type(*input) != DataType::kUndefined
                              ? element_type(*input)
                              : element_type(*node.output(0));
    const DTypeInfo* info = find_dtype(type);
    const auto own = bounds_of(node);
    if (!own || info == nullptr || !info->floating) return ok_status();

    Node* inner = input->producer();
    const auto before = inner != nullptr ? bounds_of(*inner) : std::nullopt;
    if (!before) return write(node, *own, nullptr, type, context);
    if (only_user(*input) != &node) {
      context.explain().skipped(node, why_not_only_user(*input));
      return ok_status();
    }
    const Bounds joint{std::max(own->low, before->low), std::min(own->high, before->high)};
    if (joint.low > joint.high) {
      context.explain().skipped(
          node, "its range and that of '" + inner->label() + "' have nothing in common");
      return ok_status();
    }
    return write(node, joint, inner, type, context);
  }

  // Makes `node` clamp to `bounds`, reading what `inner` (null: nothing is skipped) reads.
  Status write(Node& node, const Bounds& bounds, Node* inner, DataType type, PassContext& context) {
    Editor& editor = context.edit();
    const bool relu = bounds == Bounds{0.0, kNone};
    const auto own = bounds_of(node);
    const bool same_form = relu == node.is("Relu");
    if (inner == nullptr && same_form) return ok_status();
    const bool inputs_form = node.graph().model().opset("") >= 11;
    auto low = number_tensor(bounds.low, type);
    auto high = number_tensor(bounds.high, type);
    if (!low.ok() || !high.ok()) return ok_status();

    chose(context, node,
          inner != nullptr ? "merged with '" + inner->label() + "' before it" : "written as Relu");
    if (inner != nullptr) {
      Value& skipped = *node.input(0);
      editor.set_input(node, 0, inner->input(0));
      MCOMPRESS_TRY(erase_unused(context, skipped));
      ++merged_;
    } else {
      ++rewritten_;
    }
    const bool keeps_bounds = !relu && node.is("Clip") && own == bounds;
    if (keeps_bounds) return ok_status();
    while (node.inputs().size() > 1) editor.remove_trailing_input(node);
    editor.remove_attribute(node, "min");
    editor.remove_attribute(node, "max");
    if (relu) {
      if (!node.is("Relu")) editor.set_op_type(node, "", "Relu");
      return ok_status();
    }
    if (!node.is("Clip")) editor.set_op_type(node, "", "Clip");
    const std::string base(node.output(0)->name());
    const auto set_bound = [&](std::string_view name, std::size_t slot, double bound,
                               const Tensor& tensor) {
      if (bound == kNone || bound == -kNone) return;
      if (inputs_form) {
        Value& value = add_constant(context, node.graph(), base + "_" + std::string(name), tensor);
        editor.set_input(node, slot, &value);
      } else {
        editor.set_attribute(node, attribute(name, static_cast<float>(bound)));
      }
    };
    set_bound("min", 1, bounds.low, *low);
    set_bound("max", 2, bounds.high, *high);
    return ok_status();
  }

  std::int64_t merged_ = 0, rewritten_ = 0;
};

}  // namespace

PassInfo fuse_activation_info() {
  return pass_info<FuseActivation>("fuse-activation", "merge chains of Relu and Clip",
                                   Reach::kNestedGraphs, true,
                                   {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
