// How channels pass through operators that compute: products, convolutions, element-wise ones and
// normalisations. Those that move data are in channel_moves.cpp.
#include <algorithm>
#include <array>

#include "ir/facts.h"
#include "passes/common/channels/channel_tracer.h"

namespace mcompress {
namespace {

using Role = ChannelMember::Role;
using Cells = std::vector<std::uint32_t>;

AxisCells share(Cells cells) { return std::make_shared<const Cells>(std::move(cells)); }

template <std::size_t N>
bool is_one_of(const Node& node, const std::array<std::string_view, N>& sorted) {
  return std::ranges::binary_search(sorted, node.op_type());
}

constexpr auto kUnary = std::to_array<std::string_view>(
    {"Abs",       "Acos",     "Acosh", "Asin",     "Asinh",
     "Atan",      "Atanh",    "Cast",  "Ceil",     "Celu",
     "Clip",      "Cos",      "Cosh",  "Dropout",  "Elu",
     "Erf",       "Exp",      "Floor", "Gelu",     "HardSigmoid",
     "HardSwish", "Identity", "IsInf", "IsNaN",    "LeakyRelu",
     "Log",       "Mish",     "Neg",   "Not",      "Reciprocal",
     "Relu",      "Round",    "Selu",  "Shrink",   "Sigmoid",
     "Sign",      "Sin",      "Sinh",  "Softplus", "Softsign",
     "Sqrt",      "Swish",    "Tan",   "Tanh",     "ThresholdedRelu"});
constexpr auto kElementwise = std::to_array<std::string_view>(
    {"Add",   "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
     "Mean",  "Min", "Mod", "Mul",   "Or",      "PRelu",          "Pow",  "Sub",         "Sum",
     "Where", "Xor"});
constexpr auto kPools = std::to_array<std::string_view>(
    {"AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"});

}  // namespace

bool ChannelTracer::follow(Node& node) {
  if (const std::optional<bool> done = special(node)) return *done;
  if (node.domain() == "com.microsoft" &&
      (node.op_type() == "Gelu" || node.op_type() == "QuickGelu" || node.op_type() == "FastGelu") &&
      node.inputs().size() == 1) {
    return pass_through(node);
  }
  if (!node.domain().empty() || !node.bodies().empty()) return false;
  if (node.is("Conv")) return convolution(node);
  if (node.is("ConvTranspose")) return transposed(node);
  if (node.is("Gemm")) return gemm(node);
  if (node.is("MatMul")) return matmul(node);
  if (is_one_of(node, kElementwise)) return elementwise(node);
  if (node.is("BatchNormalization") || node.is("InstanceNormalization")) return batch_norm(node);
  if (is_one_of(node, kUnary)) return pass_through(node);
  if (is_one_of(node, kPools)) return pool(node);
  if (node.is("Concat")) return concat(node);
  if (node.is("Split")) return split(node);
  if (node.is("Slice")) return slice(node);
  if (node.is("Gather")) return gather(node);
  if (node.is("Pad")) return pad(node);
  if (node.is("Resize") || node.is("Upsample")) return resize(node);
  if (node.is("Reshape")) return reshape(node);
  if (node.is("Flatten")) return flatten(node);
  if (node.is("Expand")) return expand(node);
  if (node.is("Transpose")) return transpose(node);
  if (node.is("Squeeze")) return squeeze(node);
  if (node.is("Unsqueeze")) return unsqueeze(node);
  if (node.is("Shape")) return shape(node);
  if (node.op_type().starts_with("Reduce")) return reduce(node);
  return normalise(node);
}

bool ChannelTracer::bias(Node& node, const Value* value, const AxisCells& cells) {
  if (value == nullptr || cells == nullptr) return true;
  if (!is_weight(value)) {
    freeze(cells, node.label() + " has a bias that is computed");
    return true;
  }
  const auto dims = value->initializer()->dims();
  if (dims.empty() || dims.back() == 1) return true;
  demand(node, *value, dims.size() - 1, cells, Role::kParameter);
  return true;
}

// Of a grouped convolution the same places of all groups go together, so that groups stay equal.
bool ChannelTracer::convolution(Node& node) {
  const Value* input = node.input(0);
  const Value* weight = node.input(1);
  if (!is_weight(weight)) return false;
  const auto dims = weight->initializer()->dims();
  const std::int64_t groups = node.int_attribute("group", 1);
  if (dims.size() < 3 || groups < 1 || dims[0] % groups != 0) return false;
  const AxisCells in = axis_of(input, 1);
  const auto size = [&](const AxisCells& cells) {
    return static_cast<std::int64_t>(cells->size());
  };
  if (in != nullptr && size(in) != dims[1] * groups) return false;
  for (const AxisCells& cells : axes_of(input)) {
    if (cells != in) freeze(cells, node.label() + " slides over them");
  }
  Axes out(dims.size());
  if (groups > 1 && dims[1] == 1) {  // depth-wise: its channels are those of its input
    if (in == nullptr) return true;
    const std::int64_t each = dims[0] / groups;
    Cells cells;
    for (std::int64_t o = 0; o < dims[0]; ++o) {
      cells.push_back((*in)[static_cast<std::size_t>(o / each)]);
    }
    out[1] = each == 1 ? in : share(std::move(cells));
    demand(node, *weight, 0, out[1], Role::kParameter);
    bias(node, node.input(2), out[1]);
    ChannelEdit edit{&node, ChannelEdit::What::kGroup, 0, 0, {}, {in}, {}};
    trace_.edits_.push_back(std::move(edit));
    set(node.output(0), std::move(out));
    return true;
  }
  if (in != nullptr) {
    const auto each = static_cast<std::size_t>(dims[1]);
    Cells first(in->begin(), in->begin() + static_cast<std::ptrdiff_t>(each));
    for (std::size_t i = each; i < in->size(); ++i) {
      const std::uint32_t a = first[i % each], b = (*in)[i];
      if (a != kFixedCell && b != kFixedCell) {
        unite(a, b);
      } else {
        const std::string why =
            node.label() + " has a channel in another group that can not be cut";
        freeze(a, why), freeze(b, why);
      }
    }
    demand(node, *weight, 1, groups == 1 ? in : share(std::move(first)), Role::kReads);
  } else {
    demand(node, *weight, 1, nullptr, Role::kReads);
  }
  AxisCells made = make(node, *weight, 0);
  if (made != nullptr && groups > 1) {
    const auto each = static_cast<std::size_t>(dims[0] / groups);
    for (std::size_t i = each; i < made->size(); ++i) unite((*made)[i % each], (*made)[i]);
  }
  if (made != nullptr && groups > 1 && dims[0] == groups) {
    freeze(made, node.label() + " makes one channel in each of its groups");
  }
  bias(node, node.input(2), made);
  out[1] = made;
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::transposed(Node& node) {
  const Value* weight = node.input(1);
  if (!is_weight(weight)) return false;
  const auto dims = weight->initializer()->dims();
  if (dims.size() < 3 || node.int_attribute("group", 1) != 1) return false;
  const AxisCells in = axis_of(node.input(0), 1);
  if (in != nullptr && static_cast<std::int64_t>(in->size()) != dims[0]) return false;
  demand(node, *weight, 0, in, Role::kReads);
  Axes out(dims.size());
  out[1] = make(node, *weight, 1);
  bias(node, node.input(2), out[1]);
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::gemm(Node& node) {
  const Value* weight = node.input(1);
  if (!is_weight(weight) || is_weight(node.input(0))) return false;
  const bool trans_a = node.int_attribute("transA", 0) != 0;
  const bool trans_b = node.int_attribute("transB", 0) != 0;
  if (weight->initializer()->dims().size() != 2) return false;
  const AxisCells in = axis_of(node.input(0), trans_a ? 0 : 1);
  if (in != nullptr &&
      static_cast<std::int64_t>(in->size()) != weight->initializer()->dims()[trans_b ? 1 : 0]) {
    return false;
  }
  demand(node, *weight, trans_b ? 1 : 0, in, Role::kReads);
  Axes out(2);
  out[0] = axis_of(node.input(0), trans_a ? 1 : 0);
  freeze(out[0], node.label() + " has them as rows");
  out[0] = nullptr;
  out[1] = make(node, *weight, trans_b ? 0 : 1);
  bias(node, node.input(2), out[1]);
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::matmul(Node& node) {
  const Value* left = node.input(0);
  const Value* right = node.input(1);
  const auto left_dims = dims_of(left), right_dims = dims_of(right);
  if (!left_dims || !right_dims || left_dims->size() < 2 || right_dims->size() < 2) return false;
  const std::size_t a = left_dims->size(), b = right_dims->size(), rank = std::max(a, b);
  Axes out(rank);
  if (is_weight(right) && !is_weight(left)) {
    if (b != 2) return false;
    const AxisCells in = axis_of(left, a - 1);
    if (in != nullptr && static_cast<std::int64_t>(in->size()) != (*right_dims)[0]) return false;
    demand(node, *right, 0, in, Role::kReads);
    for (std::size_t i = 0; i + 1 < a; ++i) out[i] = axis_of(left, i);
    out[rank - 1] = make(node, *right, 1);
    set(node.output(0), std::move(out));
    return true;
  }
  if (is_weight(left) && !is_weight(right)) {
    if (a != 2) return false;
    const AxisCells in = axis_of(right, b - 2);
    if (in != nullptr && static_cast<std::int64_t>(in->size()) != (*left_dims)[1]) return false;
    demand(node, *left, 1, in, Role::kReads);
    for (std::size_t i = 0; i < b; ++i) out[i] = axis_of(right, i);
    out[rank - 2] = make(node, *left, 0);
    set(node.output(0), std::move(out));
    return true;
  }
  if (is_weight(left)) return false;
  const AxisCells k1 = axis_of(left, a - 1), k2 = axis_of(right, b - 2);
  if (k1 != nullptr || k2 != nullptr) {
    unite(k1, k2, node);
    const bool known = k1 != nullptr;
    trace_.slices_.push_back(
        {&node, known ? left : right, known ? a - 1 : b - 2, known ? k1 : k2, Role::kReads});
  }
  for (std::size_t i = 0; i + 2 < rank; ++i) {  // batch axes, aligned at the end
    const bool in_a = i + a >= rank, in_b = i + b >= rank;
    const AxisCells x = in_a ? axis_of(left, i + a - rank) : nullptr;
    const AxisCells y = in_b ? axis_of(right, i + b - rank) : nullptr;
    if (x == nullptr && y == nullptr) continue;
    const bool one_a = !in_a || (*left_dims)[i + a - rank] == 1;
    const bool one_b = !in_b || (*right_dims)[i + b - rank] == 1;
    out[i] = x != nullptr && one_b ? x : y != nullptr && one_a ? y : unite(x, y, node);
  }
  out[rank - 2] = axis_of(left, a - 2);
  out[rank - 1] = axis_of(right, b - 1);
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::elementwise(Node& node) {
  const auto inputs = node.inputs();
  std::size_t rank = 0;
  std::vector<Dims> dims;
  bool tracked = false;
  for (const Value* input : inputs) {
    if (input == nullptr) return false;
    auto known = dims_of(input);
    if (!known) return false;
    rank = std::max(rank, known->size());
    dims.push_back(std::move(*known));
    tracked = tracked || (input->initializer() == nullptr && !axes_of(input).empty());
  }
  if (!tracked) {
    freeze_inputs(node, node.label() + " reads a constant whose channels it does not know");
    return true;
  }
  Axes out(rank);
  for (std::size_t axis = 0; axis < rank; ++axis) {
    AxisCells cells;
    bool fixed = false;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (axis + dims[i].size() < rank || is_weight(inputs[i])) continue;
      const std::size_t own = axis + dims[i].size() - rank;
      const AxisCells mine = axis_of(inputs[i], own);
      if (mine != nullptr) {
        cells = cells == nullptr ? mine : unite(cells, mine, node);
      } else if (dims[i][own] != 1) {
        fixed = true;
      }
    }
    if (cells == nullptr) continue;
    if (fixed) freeze(cells, node.label() + " combines them with channels that can not be cut");
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (axis + dims[i].size() < rank || !is_weight(inputs[i])) continue;
      const std::size_t own = axis + dims[i].size() - rank;
      if (dims[i][own] == 1) continue;
      demand(node, *inputs[i], own, cells, Role::kParameter);
    }
    out[axis] = cells;
  }
  set(node.output(0), std::move(out));
  return true;
}

// Scale, shift, mean and variance are one number per channel each.
bool ChannelTracer::batch_norm(Node& node) {
  const AxisCells cells = only_axis(node.input(0), 1, node.label() + " takes means over them");
  Axes out(2);
  if (const auto dims = dims_of(node.input(0))) out.resize(std::max<std::size_t>(2, dims->size()));
  out[1] = cells;
  for (std::size_t i = 1; i < node.inputs().size(); ++i) {
    if (cells == nullptr) break;
    if (!is_weight(node.input(i))) {
      freeze(cells, node.label() + " has parameters that are computed");
    } else {
      demand(node, *node.input(i), 0, cells, Role::kParameter);
    }
  }
  if (node.outputs().size() > 1) freeze(cells, node.label() + " has outputs for training");
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::pass_through(Node& node) {
  const Axes axes = axes_of(node.input(0));
  for (std::size_t i = 1; i < node.inputs().size(); ++i) {  // Clip, Dropout: scalars
    for (const AxisCells& cells : axes_of(node.input(i))) {
      freeze(cells, node.label() + " reads them as a parameter");
    }
  }
  if (node.input(0) != nullptr && node.input(0)->initializer() != nullptr) return axes.empty();
  for (const Value* output : node.outputs()) set(output, axes);
  return true;
}

bool ChannelTracer::pool(Node& node) {
  Axes axes = axes_of(node.input(0));
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (i < 2) continue;
    freeze(axes[i], node.label() + " slides over them");
    axes[i] = nullptr;
  }
  if (node.outputs().size() > 1 && node.output(1) != nullptr) {
    for (const AxisCells& cells : axes)
      freeze(cells, node.label() + " counts places over all channels");
  }
  set(node.output(0), std::move(axes));
  return true;
}

bool ChannelTracer::freeze_axes(Node& node, const std::function<bool(std::size_t)>& freezes,
                                const std::string& why) {
  Axes axes = axes_of(node.input(0));
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (freezes(i)) freeze(axes[i], why);
  }
  for (std::size_t i = 1; i < node.inputs().size(); ++i) {
    for (const AxisCells& cells : axes_of(node.input(i))) freeze(cells, why);
  }
  for (const Value* output : node.outputs()) set(output, axes);
  return true;
}

// Operators that look at all indices of some axes at once: those axes stay whole.
bool ChannelTracer::normalise(Node& node) {
  const auto dims = dims_of(node.input(0));
  const auto place = [&](std::int64_t axis) {
    return axis < 0 && dims ? axis + static_cast<std::int64_t>(dims->size()) : axis;
  };
  const std::string why = node.label() + " takes means or sums over them";
  const std::int64_t opset = trace_.model().opset("");
  if (!dims) return false;
  if (node.is("Softmax") || node.is("LogSoftmax") || node.is("Hardmax")) {
    const std::int64_t axis = place(node.int_attribute("axis", opset < 13 ? 1 : -1));
    return freeze_axes(
        node,
        [=](std::size_t i) {
          const auto at = static_cast<std::int64_t>(i);
          return opset < 13 ? at >= axis : at == axis;
        },
        why);
  }
  if (node.is("LayerNormalization") || node.is("RMSNormalization")) {
    const std::int64_t axis = place(node.int_attribute("axis", -1));
    Axes axes = axes_of(node.input(0));
    for (std::size_t i = 0; i < axes.size(); ++i) {
      if (static_cast<std::int64_t>(i) < axis) continue;
      freeze(axes[i], why);
      axes[i] = nullptr;
    }
    set(node.output(0), std::move(axes));
    return node.outputs().size() == 1;
  }
  if (node.is("LpNormalization") || node.is("CumSum")) {
    const std::int64_t axis = place(node.int_attribute("axis", -1));
    const bool all = node.is("CumSum");
    return freeze_axes(
        node, [=](std::size_t i) { return all || static_cast<std::int64_t>(i) == axis; }, why);
  }
  return false;
}

}  // namespace mcompress
