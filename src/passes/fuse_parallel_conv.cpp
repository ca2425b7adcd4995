// Linear operators side by side on one input are one:
//
//   y = Add(Conv(x, U), Conv(x, V))        =>   y = Conv(x, U + V)     V padded to the kernel of U
//   y = Add(Conv(x, U), x)                 =>   y = Conv(x, U + Dirac)
//   y = Add(Conv(x, U), BatchNormalization(x))   the same with the factors of the channels
//   y = Add(MatMul(x, U), MatMul(MatMul(x, A), B))   =>   y = MatMul(x, U + A B)
//   y = Concat(Conv(x, U), Conv(x, V))     =>   y = Conv(x, Concat(U, V))
//
// also for Gemm and MatMul. A kernel fits into another one when both meet the same input elements:
// its first tap lies (p_U - p_V) / dilation taps behind that of the larger one, on each axis.
#include <algorithm>

#include "passes/common/find_nodes.h"
#include "passes/common/fusion/batch_norm.h"
#include "passes/common/fusion/coefficients.h"
#include "passes/common/fusion/convolution.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

// Where the kernel of `inner` begins inside that of `outer`; empty: it does not fit.
std::optional<Ints> place_of(const ConvShape& inner, const ConvShape& outer) {
  if (inner.groups != outer.groups || inner.outputs != outer.outputs ||
      inner.inputs != outer.inputs || inner.strides != outer.strides) {
    return std::nullopt;
  }
  const std::size_t rank = outer.kernel.size();
  Ints place(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t step = outer.dilations[i];
    // The distance of taps means nothing to a kernel of one tap.
    if (inner.kernel[i] > 1 && inner.dilations[i] != step) return std::nullopt;
    const std::int64_t shift = outer.pads[i] - inner.pads[i];
    if (shift < 0 || shift % step != 0) return std::nullopt;
    place[i] = shift / step;
    const std::int64_t spare = outer.kernel[i] - inner.kernel[i];
    if (place[i] > spare) return std::nullopt;
    // The same number of positions, whatever the size of the input.
    if (outer.pads[rank + i] - inner.pads[rank + i] != step * spare - shift) return std::nullopt;
  }
  return place;
}

void add_inside(const ConvShape& inner, const std::vector<double>& w, const Ints& place,
                const ConvShape& outer, std::vector<double>& sum) {
  const std::size_t rank = outer.kernel.size();
  const std::int64_t inner_taps = inner.taps(), outer_taps = outer.taps();
  Ints offset(static_cast<std::size_t>(inner_taps));  // of each tap in the outer kernel
  for (std::int64_t t = 0; t < inner_taps; ++t) {
    std::int64_t rest = t, stride = 1, at = 0;
    for (std::size_t i = rank; i-- > 0;) {
      at += (place[i] + rest % inner.kernel[i]) * stride;
      rest /= inner.kernel[i];
      stride *= outer.kernel[i];
    }
    offset[static_cast<std::size_t>(t)] = at;
  }
  for (std::int64_t row = 0; row < outer.outputs * outer.inputs; ++row) {
    for (std::int64_t t = 0; t < inner_taps; ++t) {
      sum[static_cast<std::size_t>(row * outer_taps + offset[static_cast<std::size_t>(t)])] +=
          w[static_cast<std::size_t>(row * inner_taps + t)];
    }
  }
}

// One addend: a linear operator on `input`, two of them, or the input itself per channel.
struct Branch {
  Value* input = nullptr;
  std::optional<LinearOp> op;
  std::optional<LinearOp> before;  // of a pair: the one that reads `input`
  std::vector<double> a, c;        // without `op`: a x + c; empty: x
  std::string why_not;
};

class FuseParallelConv final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FuseParallelConv(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Node*> found = find_nodes(context, model, {"Add", "Concat", "Sum"});
    std::erase_if(found, [](const Node* node) { return !node->is("Concat") && !is_sum(*node); });
    if (model.opset("") < kNumpyBroadcast) found.clear();
    std::int64_t fused = 0;
    for (Node* node : found) {
      MCOMPRESS_ASSIGN(std::string why,
                       node->is("Concat") ? join(*node, context) : fuse(*node, context));
      if (why.empty()) {
        ++fused;
      } else if (why != kNothing) {
        ++eligible_;
        context.explain().skipped(*node, std::move(why));
      }
    }
    context.report().count("eligible", eligible_ + fused);
    context.report().count("fused", fused);
    return ok_status();
  }

 private:
  static constexpr std::string_view kNothing = "-";  // nothing side by side
  static constexpr std::string_view kShared =
      "other nodes read its weights, which would stay beside the new ones";

  static bool is_sum(const Node& node) {
    return (node.is("Add") || node.is("Sum")) && node.inputs().size() == 2 &&
           node.input(0) != nullptr && node.input(1) != nullptr && node.input(0) != node.input(1);
  }

  static Branch branch_of(Value& value, const Node& reader) {
    Branch branch;
    Node* producer = value.producer();
    if (producer == nullptr) return branch;
    if (producer->is("BatchNormalization")) {
      BatchNormStep step = batch_norm_step(*producer);
      branch.input = producer->input(0);
      branch.a = std::move(step.a);
      branch.c = std::move(step.c);
      branch.why_not = std::move(step.why_not);
    } else {
      LinearSearch search = find_linear(value);
      if (!search.op || search.op->is("ConvTranspose")) return branch;
      branch.input = search.op->node->input(0);
      branch.op = search.op;
    }
    if (branch.why_not.empty() && only_user(value) != &reader) {
      branch.why_not = why_not_only_user(value);
    }
    return branch;
  }

  // The branch may be a pair of operators of which the first one reads `input`.
  static void look_further(Branch& branch, const Value& input) {
    if (!branch.op || branch.op->is("Conv") || branch.input == &input) return;
    LinearSearch search = find_linear(*branch.input);
    if (!search.op || search.op->is("Conv") || search.op->node->input(0) != &input) return;
    if (only_user(*branch.input) != branch.op->node) return;
    branch.before = search.op;
    branch.input = branch.before->node->input(0);
  }

  // --- sums

  static Result<std::string> fuse(Node& sum, PassContext& context) {
    Value &left = *sum.input(0), &right = *sum.input(1);
    Branch first = branch_of(left, sum), second = branch_of(right, sum);
    // The one that stays is an operator, and that of the larger kernel.
    if (!first.op) std::swap(first, second);
    if (!first.op) return std::string(kNothing);
    if (second.input != first.input) {
      if (second.op && (second.input == &left || second.input == &right)) std::swap(first, second);
      if (first.input == &left || first.input == &right) {
        second = Branch{};
        second.input = first.input;
      } else if (second.op) {
        look_further(second, *first.input);
        if (second.input != first.input) {
          look_further(first, *second.input);
          std::swap(first, second);
        }
      }
    }
    if (second.input != first.input) return std::string(kNothing);
    if (!first.why_not.empty()) return std::move(first.why_not);
    if (!second.why_not.empty()) return std::move(second.why_not);
    if (second.op && second.op->is("Conv") != first.op->is("Conv")) return std::string(kNothing);
    if (!second.op && !first.op->is("Conv")) return std::string(kNothing);
    return first.op->is("Conv") ? add_convolutions(sum, first, second, context)
                                : add_products(sum, first, second, context);
  }

  static Result<std::string> add_convolutions(Node& sum, Branch& first, Branch& second,
                                              PassContext& context) {
    ConvShape outer = conv_shape(*first.op);
    if (!outer.why_not.empty()) return outer.why_not;
    ConvShape inner;
    Coefficients addend;
    std::optional<std::vector<double>> addend_bias;
    if (second.op) {
      inner = conv_shape(*second.op);
      if (!inner.why_not.empty()) return inner.why_not;
      if (inner.taps() > outer.taps()) {
        std::swap(first, second);
        std::swap(inner, outer);
      }
      MCOMPRESS_ASSIGN(addend, read_coefficients(*constant_of(second.op->node->input(1))));
      addend_bias = linear_bias(*second.op);
    } else {
      const std::int64_t channels = outer.inputs * outer.groups;
      const std::size_t rank = outer.kernel.size();
      inner = outer;
      inner.kernel.assign(rank, 1);
      inner.pads.assign(2 * rank, 0);
      inner.strides.assign(rank, 1);
      if (outer.outputs != channels)
        return first.op->label() + " has other channels than its input";
      if (!second.a.empty() && static_cast<std::int64_t>(second.a.size()) != channels) {
        return std::string("the normalisation has another number of channels");
      }
      addend.values.assign(static_cast<std::size_t>(channels * outer.inputs), 0.0);
      for (std::int64_t o = 0; o < channels; ++o) {
        addend.values[static_cast<std::size_t>(o * outer.inputs + o % outer.inputs)] =
            second.a.empty() ? 1.0 : second.a[static_cast<std::size_t>(o)];
      }
      addend_bias = second.a.empty() ? bias_values(nullptr, channels) : second.c;
    }
    if (outer.kernel.size() != inner.kernel.size()) return std::string("the ranks differ");
    const auto place = place_of(inner, outer);
    if (!place) {
      return "the kernel of one branch does not fit into that of " + first.op->label();
    }
    auto bias = linear_bias(*first.op);
    if (!bias || !addend_bias) return std::string("a bias is not one number per channel");
    MCOMPRESS_ASSIGN(Coefficients weight,
                     read_coefficients(*constant_of(first.op->node->input(1))));
    add_inside(inner, addend.values, *place, outer, weight.values);
    for (std::size_t i = 0; i < bias->size(); ++i) (*bias)[i] += (*addend_bias)[i];
    return replace(sum, first, second, weight, std::move(*bias), context);
  }

  static Result<std::string> add_products(Node& sum, Branch& first, Branch& second,
                                          PassContext& context) {
    const LinearOp& op = *first.op;
    const LinearOp& reader = second.before ? *second.before : *second.op;
    if (op.node->int_attribute("transA", 0) != reader.node->int_attribute("transA", 0) ||
        (second.before && second.op->node->int_attribute("transA", 0) != 0)) {
      return std::string("one branch transposes its input");
    }
    if (second.op->out.channels != op.out.channels || reader.in.channels != op.in.channels ||
        (second.before && second.before->out.channels != second.op->in.channels)) {
      return std::string("the branches differ in their number of channels");
    }
    if (op.is("MatMul") != second.op->is("MatMul")) return std::string(kNothing);
    auto bias = linear_bias(op);
    auto added = linear_bias(*second.op);
    if (!bias || !added) return std::string("a bias is not one number per channel");
    MCOMPRESS_ASSIGN(Coefficients weight, linear_matrix(op));
    MCOMPRESS_ASSIGN(Coefficients addend, linear_matrix(*second.op));
    if (second.before) {
      const auto inner = linear_bias(*second.before);
      if (!inner) return std::string("a bias is not one number per channel");
      MCOMPRESS_ASSIGN(const Coefficients before, linear_matrix(*second.before));
      const std::int64_t middle = second.op->in.channels;
      if (op.in.channels * op.out.channels >
          kMostMultiplications / std::max<std::int64_t>(1, middle)) {
        return std::string("the product takes too long to compute");
      }
      add_product(before.values.data(), addend.values.data(), weight.values.data(), op.in.channels,
                  middle, op.out.channels);
      add_product(inner->data(), addend.values.data(), added->data(), 1, middle, op.out.channels);
    } else {
      for (std::size_t i = 0; i < addend.values.size(); ++i) weight.values[i] += addend.values[i];
    }
    for (std::size_t i = 0; i < bias->size(); ++i) (*bias)[i] += (*added)[i];
    return replace(sum, first, second, weight, std::move(*bias), context);
  }

  static Result<std::string> replace(Node& sum, const Branch& first, const Branch& second,
                                     const Coefficients& weight, std::vector<double> bias,
                                     PassContext& context) {
    const LinearOp& op = *first.op;
    const bool shifts = std::ranges::any_of(bias, [](double b) { return b != 0.0; });
    Node* biased = op.is("MatMul") ? op.add : op.node;
    if (shifts && biased == nullptr) return op.label() + " has no bias";
    if (std::string why = why_not_bypass(context, sum, *op.output); !why.empty()) return why;
    const DataType type = element_type(*op.node->input(1));
    if (second.op && element_type(*second.op->node->input(1)) != type) {
      return std::string("the branches have different types");
    }
    if (second.before && element_type(*second.before->node->input(1)) != type) {
      return std::string("the branches have different types");
    }
    std::int64_t freed = elements_freed(*op.node->input(1));
    if (second.op) freed += elements_freed(*second.op->node->input(1));
    if (static_cast<std::int64_t>(weight.values.size()) > freed) return std::string(kShared);
    MCOMPRESS_ASSIGN(std::string why, give(op, weight, shifts ? &bias : nullptr, context));
    if (!why.empty()) return why;
    chose(context, sum, "joined into " + op.label());
    Value& other = *sum.input(sum.input(0) == op.output ? 1 : 0);
    MCOMPRESS_ASSIGN(why, bypass(context, sum, *op.output));
    MCOMPRESS_TRY(erase_unused(context, other));
    return why;
  }

  // New numbers for an operator: a weight in the form of linear_matrix, or as it is for Conv.
  static Result<std::string> give(const LinearOp& op, const Coefficients& weight,
                                  const std::vector<double>* bias, PassContext& context) {
    const DataType type = element_type(*op.node->input(1));
    MCOMPRESS_ASSIGN(Rounded new_weight, round_coefficients(context, weight, type));
    if (!new_weight.tensor) return std::move(new_weight.why_not);
    Node& node = *op.node;
    Node* biased = op.is("MatMul") ? op.add : op.node;
    const std::string base(op.output->name());
    const auto channels = op.is("Conv") ? weight.dims[0] : weight.dims[1];
    const std::vector<double> zeros(static_cast<std::size_t>(channels), 0.0);
    MCOMPRESS_ASSIGN(
        Rounded new_bias,
        round_coefficients(context, {{channels}, bias != nullptr ? *bias : zeros}, type));
    if (!new_bias.tensor) return std::move(new_bias.why_not);
    give_constant(context, node, 1, base + "_weight", std::move(*new_weight.tensor));
    const std::size_t slot = op.add == nullptr ? 2 : is_constant(op.add->input(1)) ? 1 : 0;
    if (biased != nullptr && (bias != nullptr || biased->input(slot) != nullptr)) {
      give_constant(context, *biased, slot, base + "_bias", std::move(*new_bias.tensor));
    }
    for (std::string_view name : {"alpha", "beta", "transB"}) {
      if (op.is("Gemm")) context.edit().remove_attribute(node, name);
    }
    return std::string();
  }

  // --- concatenations

  static bool same_operator(const LinearOp& left, const LinearOp& right) {
    if (left.node->op_type() != right.node->op_type()) return false;
    if ((left.add == nullptr) != (right.add == nullptr)) return false;
    if (element_type(*left.node->input(1)) != element_type(*right.node->input(1))) return false;
    if (left.in.channels != right.in.channels) return false;
    if (!left.is("Conv")) {
      return left.node->int_attribute("transA", 0) == right.node->int_attribute("transA", 0);
    }
    const ConvShape a = conv_shape(left), b = conv_shape(right);
    return a.why_not.empty() && b.why_not.empty() && a.groups == 1 && b.groups == 1 &&
           a.kernel == b.kernel && a.strides == b.strides && a.dilations == b.dilations &&
           a.pads == b.pads;
  }

  // The axis of the outputs of `op` is the one that `concat` joins.
  static bool along_channels(const Node& concat, const LinearOp& op) {
    std::int64_t axis = concat.int_attribute("axis", 1);
    if (!op.out.rank) return axis == -1 && op.out.from_end == 0;
    if (axis < 0) axis += static_cast<std::int64_t>(*op.out.rank);
    return axis + static_cast<std::int64_t>(op.out.from_end) + 1 ==
           static_cast<std::int64_t>(*op.out.rank);
  }

  static Result<std::string> join(Node& concat, PassContext& context) {
    std::vector<Branch> branches;
    for (Value* value : concat.inputs()) {
      branches.push_back(value != nullptr ? branch_of(*value, concat) : Branch{});
    }
    std::string result(kNothing);
    std::vector<Value*> inputs(concat.inputs().begin(), concat.inputs().end());
    std::vector<Value*> left, gone;
    for (std::size_t begin = 0, end; begin < branches.size(); begin = end) {
      const Branch& first = branches[begin];
      left.push_back(inputs[begin]);
      end = begin + 1;
      if (!first.op || !along_channels(concat, *first.op)) continue;
      while (end < branches.size() && branches[end].op && branches[end].input == first.input &&
             same_operator(*first.op, *branches[end].op)) {
        ++end;
      }
      if (end == begin + 1) continue;
      MCOMPRESS_ASSIGN(std::string why, widen({branches.data() + begin, end - begin}, context));
      if (!why.empty()) {
        if (result == kNothing) result = std::move(why);
        left.insert(left.end(), inputs.begin() + static_cast<std::ptrdiff_t>(begin) + 1,
                    inputs.begin() + static_cast<std::ptrdiff_t>(end));
        continue;
      }
      result.clear();
      gone.insert(gone.end(), inputs.begin() + static_cast<std::ptrdiff_t>(begin) + 1,
                  inputs.begin() + static_cast<std::ptrdiff_t>(end));
    }
    if (gone.empty()) return result;
    chose(context, concat, std::to_string(gone.size() + 1) + " operators in front of it joined");
    Editor& editor = context.edit();
    while (concat.inputs().size() > left.size()) editor.remove_trailing_input(concat);
    for (std::size_t i = 0; i < left.size(); ++i) editor.set_input(concat, i, left[i]);
    for (Value* value : gone) MCOMPRESS_TRY(erase_unused(context, *value));
    // A Concat of one that can not go hands its input on.
    if (left.size() == 1 && why_not_bypass(context, concat, *left[0]).empty()) {
      MCOMPRESS_TRY(bypass(context, concat, *left[0]));
    }
    return std::string();
  }

  // The first operator computes what all of them do.
  static Result<std::string> widen(std::span<Branch> branches, PassContext& context) {
    Coefficients weight;
    std::vector<double> bias;
    bool biased = false;
    const LinearOp& first = *branches[0].op;
    std::int64_t columns = 0;
    for (const Branch& branch : branches) {
      if (!branch.why_not.empty()) return branch.why_not;
      columns += branch.op->out.channels;
      const Node& node = *branch.op->node;
      biased = biased || branch.op->add != nullptr || node.input(2) != nullptr;
      if (elements_freed(*node.input(1)) == 0) return std::string(kShared);
      const auto part = linear_bias(*branch.op);
      if (!part) return std::string("a bias is not one number per channel");
      bias.insert(bias.end(), part->begin(), part->end());
    }
    std::int64_t column = 0;
    for (const Branch& branch : branches) {
      const LinearOp& op = *branch.op;
      if (op.is("Conv")) {
        MCOMPRESS_ASSIGN(const Coefficients part,
                         read_coefficients(*constant_of(op.node->input(1))));
        if (weight.dims.empty()) weight.dims = part.dims;
        weight.dims[0] = columns;
        weight.values.insert(weight.values.end(), part.values.begin(), part.values.end());
        continue;
      }
      MCOMPRESS_ASSIGN(const Coefficients part, linear_matrix(op));
      const std::int64_t width = op.out.channels;
      weight.dims = {op.in.channels, columns};
      weight.values.resize(static_cast<std::size_t>(op.in.channels * columns));
      for (std::int64_t row = 0; row < op.in.channels; ++row) {
        std::copy_n(part.values.begin() + row * width, width,
                    weight.values.begin() + row * columns + column);
      }
      column += width;
    }
    MCOMPRESS_ASSIGN(std::string why, give(first, weight, biased ? &bias : nullptr, context));
    if (why.empty()) forget_channels(first, columns, context);
    return why;
  }

  // What was known of the shape of the outputs has one dimension that is now another.
  static void forget_channels(const LinearOp& op, std::int64_t channels, PassContext& context) {
    for (Value* value : {op.node->output(0), op.output}) {
      if (value->type() == nullptr || !value->type()->shape) continue;
      TypeInfo type = *value->type();
      const std::size_t rank = type.shape->size();
      if (op.out.from_end < rank) {
        (*type.shape)[rank - 1 - op.out.from_end] = Dim{channels, {}};
      }
      context.edit().set_type(*value, std::move(type), false);
    }
  }

  std::int64_t eligible_ = 0;
};

}  // namespace

PassInfo fuse_parallel_conv_info() {
  return pass_info<FuseParallelConv>(
      "fuse-parallel-conv", "join linear operators on one input that are added or concatenated",
      Reach::kNestedGraphs, true, {"lift-constants", "fold-constants", "fuse-batchnorm"});
}

}  // namespace mcompress
