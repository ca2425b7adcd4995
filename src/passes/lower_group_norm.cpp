// A GroupNormalization becomes operators that a target has kernels for, where it would take the
// operator apart into slower ones:
//
//   Reshape [N, G, -1] -> InstanceNormalization -> Reshape -> Mul scale -> Add bias
//
// Up to opset 20 scale and bias are per group: those of the InstanceNormalization. From 21 on they
// are per channel.
#include <algorithm>
#include <array>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kForm = "group-normalization";  // as targets name it
constexpr std::int64_t kScalePerChannel = 21;

bool avoids(const Target& target) {
  return std::ranges::any_of(target.avoided, [&](const AvoidedForm& one) {
    return one.form == kForm && target.concerns(one.versions);
  });
}

class LowerGroupNorm final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit LowerGroupNorm(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Node*> found = find_nodes(context, model, {"GroupNormalization"});
    std::erase_if(found, [](const Node* node) { return node->output(0) == nullptr; });
    std::int64_t lowered = 0;
    for (Node* node : found) {
      std::string why = why_not(*node, context.target());
      if (why.empty()) {
        MCOMPRESS_TRY(lower(*node, context));
        ++lowered;
      } else {
        context.explain().skipped(*node, std::move(why));
      }
    }
    context.report().count("eligible", static_cast<std::int64_t>(found.size()));
    context.report().count("lowered", lowered);
    return ok_status();
  }

 private:
  static bool per_channel(const Node& node) {
    return node.graph().model().opset("") >= kScalePerChannel;
  }

  static std::string why_not(const Node& node, const Target& target) {
    if (!avoids(target)) return target.name + " is not known to take it apart";
    const Value* x = node.input(0);
    if (x == nullptr || node.input(1) == nullptr || node.input(2) == nullptr) {
      return "an input is missing";
    }
    // Of shorter floats the operator computes its sums in float32.
    if (element_type(*x) != DataType::kFloat) {
      return "is for float32, this is " + dtype_name(element_type(*x));
    }
    const std::int64_t groups = node.int_attribute("num_groups", 0);
    if (groups <= 0) return "num_groups is not a positive number";
    const auto rank = rank_of(*x);
    if (!rank || *rank < 3) return "its input is not known to have three dimensions or more";
    if (!per_channel(node)) return {};
    for (const std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
      if (!is_constant(node.input(slot))) return "its scale and bias are computed";
    }
    return {};
  }

  // [0, C, H, W] where 0 keeps the batch; else read from the input.
  static Value& shape_like(Node& node, Value& x, PassContext& context) {
    std::vector<std::int64_t> dims = {0};
    const auto rank = static_cast<std::int64_t>(*rank_of(x));
    for (std::int64_t axis = 1; axis < rank; ++axis) {
      const auto size = dim_of(x, axis);
      if (!size || *size <= 0) {
        return *context.edit()
                    .insert_before(node, {.op_type = "Shape",
                                          .inputs = {&x},
                                          .base_name = std::string(x.name()) + "_shape"})
                    .output(0);
      }
      dims.push_back(*size);
    }
    return add_constant(context, node.graph(), std::string(x.name()) + "_dims",
                        make_int64_tensor(dims, {rank}));
  }

  // The factor or the shift of each channel, and what it is where it changes nothing.
  static Result<Value*> apply(Node& node, Value& value, std::size_t slot, std::string_view op_type,
                              double neutral, PassContext& context) {
    MCOMPRESS_ASSIGN(const std::vector<double> numbers, reals(*node.input(slot)));
    if (std::ranges::all_of(numbers, [&](double x) { return x == neutral; })) return &value;
    const std::vector<float> floats(numbers.begin(), numbers.end());
    std::vector<std::int64_t> dims(*rank_of(*node.input(0)) - 1, 1);
    dims.front() = static_cast<std::int64_t>(floats.size());
    Value& operand = add_constant(context, node.graph(), node.input(slot)->name(),
                                  make_float_tensor(floats, std::move(dims)));
    const std::string base = std::string(node.output(0)->name()) + (slot == 1 ? "_scaled" : "_out");
    return context.edit()
        .insert_before(
            node,
            {.op_type = std::string(op_type), .inputs = {&value, &operand}, .base_name = base})
        .output(0);
  }

  static Result<std::vector<double>> reals(const Value& value) {
    auto numbers = constant_reals(&value);
    if (numbers) return std::move(*numbers);
    return Error(Code::kInternal, "group-norm",
                 "'" + std::string(value.name()) + "' can not be read");
  }

  static Status lower(Node& node, PassContext& context) {
    Editor& editor = context.edit();
    Graph& graph = node.graph();
    Value& x = *node.input(0);
    Value& y = *node.output(0);
    const std::string base(y.name());
    const std::int64_t groups = node.int_attribute("num_groups", 0);
    Value* scale = node.input(1);
    Value* bias = node.input(2);
    const bool channels = per_channel(node);
    if (channels) {
      const std::vector<float> ones(static_cast<std::size_t>(groups), 1.0F);
      const std::vector<float> zeros(static_cast<std::size_t>(groups), 0.0F);
      scale = &add_constant(context, graph, "group_scale", make_float_tensor(ones, {groups}));
      bias = &add_constant(context, graph, "group_bias", make_float_tensor(zeros, {groups}));
    }
    Value& grouped_dims =
        add_constant(context, graph, base + "_groups",
                     make_int64_tensor(std::array<std::int64_t, 3>{0, groups, -1}, {3}));
    chose(context, node, "InstanceNormalization of " + std::to_string(groups) + " groups");
    Value& dims = shape_like(node, x, context);
    Node& grouped = editor.insert_before(
        node,
        {.op_type = "Reshape", .inputs = {&x, &grouped_dims}, .base_name = base + "_grouped"});
    Node& normal = editor.insert_before(node, {.op_type = "InstanceNormalization",
                                               .inputs = {grouped.output(0), scale, bias},
                                               .base_name = base + "_normal"});
    editor.set_attribute(normal, attribute("epsilon", node.float_attribute("epsilon", 1e-5F)));
    Node& whole = editor.insert_before(
        node,
        {.op_type = "Reshape", .inputs = {normal.output(0), &dims}, .base_name = base + "_whole"});
    Value* result = whole.output(0);
    if (channels) {
      MCOMPRESS_ASSIGN(result, apply(node, *result, 1, "Mul", 1, context));
      MCOMPRESS_ASSIGN(result, apply(node, *result, 2, "Add", 0, context));
    }
    if (y.type() != nullptr) editor.set_type(*result, *y.type(), false);
    MCOMPRESS_TRY(editor.replace_all(y, *result));
    return editor.erase(node);
  }
};

}  // namespace

PassInfo lower_group_norm_info() {
  return pass_info<LowerGroupNorm>(
      "lower-group-norm", "write a GroupNormalization in operators that the target runs faster",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
