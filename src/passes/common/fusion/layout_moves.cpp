#include "passes/common/fusion/layout_moves.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>

#include "ir/facts.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

// One operand decides everything, element by element; other inputs are numbers.
constexpr auto kUnary = std::to_array<std::string_view>(
    {"Abs",         "Cast",      "Ceil",     "Celu",           "Clip",
     "Elu",         "Erf",       "Exp",      "Floor",          "Gelu",
     "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",      "Log",
     "Mish",        "Neg",       "Not",      "Reciprocal",     "Relu",
     "Round",       "Selu",      "Sigmoid",  "Sign",           "Softplus",
     "Softsign",    "Sqrt",      "Tanh",     "ThresholdedRelu"});
constexpr auto kBroadcast = std::to_array<std::string_view>(
    {"Add",   "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
     "Mean",  "Min", "Mod", "Mul",   "Or",      "PRelu",          "Pow",  "Sub",         "Sum",
     "Where", "Xor"});
constexpr auto kReduce = std::to_array<std::string_view>(
    {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
     "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"});
// Moving a constant takes a copy of it.
constexpr std::uint64_t kMostBytes = std::uint64_t{64} << 20;

template <std::size_t N>
bool is_one_of(const Node& node, const std::array<std::string_view, N>& op_types) {
  return std::ranges::find(op_types, node.op_type()) != op_types.end();
}

std::int64_t normal(std::int64_t axis, std::size_t rank) {
  return axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis;
}

std::optional<Ints> axes_of(const Node& node, std::size_t slot, std::size_t rank) {
  const IntsParameter parameter = ints_parameter(node, "axes", slot);
  if (!parameter.values) return std::nullopt;
  Ints axes = *parameter.values;
  for (std::int64_t& axis : axes) {
    axis = normal(axis, rank);
    if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) return std::nullopt;
  }
  return axes;
}

bool contains(const Ints& list, std::int64_t number) {
  return std::ranges::find(list, number) != list.end();
}

// What is left of a permutation without these dimensions.
Permutation without(const Permutation& perm, const Ints& axes) {
  Ints moved;
  for (std::int64_t axis : axes) moved.push_back(perm[static_cast<std::size_t>(axis)]);
  Permutation result;
  for (std::size_t i = 0; i < perm.size(); ++i) {
    if (contains(axes, static_cast<std::int64_t>(i))) continue;
    result.push_back(
        perm[i] - std::ranges::count_if(moved, [&](std::int64_t gone) { return gone < perm[i]; }));
  }
  return result;
}

// With new dimensions at these places, which are the same in both orders.
Permutation with(const Permutation& perm, const Ints& axes) {
  const std::size_t rank = perm.size() + axes.size();
  Ints others;
  for (std::size_t i = 0; i < rank; ++i) {
    if (!contains(axes, static_cast<std::int64_t>(i))) {
      others.push_back(static_cast<std::int64_t>(i));
    }
  }
  Permutation result(rank);
  for (std::int64_t axis : axes) result[static_cast<std::size_t>(axis)] = axis;
  for (std::size_t i = 0; i < perm.size(); ++i) {
    result[static_cast<std::size_t>(others[i])] = others[static_cast<std::size_t>(perm[i])];
  }
  return result;
}

// Of a QuantizeLinear or DequantizeLinear: its axis says nothing.
bool one_scale(const Node& node) {
  const Value* scale = node.input(1);
  return scale != nullptr && (rank_of(*scale) == std::size_t{0} || dim_of(*scale, 0) == 1);
}

bool is_movable_constant(const Value& value, std::size_t rank) {
  const auto tensor = constant_of(&value);
  if (!tensor || tensor->is_opaque() || tensor->dims().size() > rank) return false;
  const DTypeInfo* info = find_dtype(tensor->dtype());
  return tensor->elements() == 1 || (info != nullptr && info->bits % 8 == 0 && info->bits != 0 &&
                                     tensor->byte_size() <= kMostBytes);
}

// t' with t = Transpose(t', perm), t having dimensions of 1 put in front where it has too few.
Result<Tensor> moved_tensor(const Tensor& tensor, const Permutation& perm) {
  const std::size_t rank = perm.size();
  Ints dims(rank - tensor.dims().size(), 1);
  dims.insert(dims.end(), tensor.dims().begin(), tensor.dims().end());
  Ints strides(rank, 1), out_dims(rank), out_strides(rank);
  for (std::size_t i = rank; i > 1; --i) strides[i - 2] = strides[i - 1] * dims[i - 1];
  for (std::size_t i = 0; i < rank; ++i) {
    out_dims[static_cast<std::size_t>(perm[i])] = dims[i];
    out_strides[static_cast<std::size_t>(perm[i])] = strides[i];
  }
  MCOMPRESS_ASSIGN(const Pinned pinned, tensor.storage()->pin(0, tensor.byte_size()));
  const auto elements = static_cast<std::size_t>(tensor.elements());
  const std::size_t width = elements == 0 ? 0 : pinned.bytes().size() / elements;
  std::vector<std::byte> bytes(pinned.bytes().size());
  Ints index(rank, 0);
  std::int64_t from = 0;
  for (std::size_t at = 0; at < elements; ++at) {
    std::memcpy(bytes.data() + at * width,
                pinned.bytes().data() + static_cast<std::size_t>(from) * width, width);
    for (std::size_t axis = rank; axis > 0; --axis) {
      from += out_strides[axis - 1];
      if (++index[axis - 1] < out_dims[axis - 1]) break;
      from -= out_strides[axis - 1] * out_dims[axis - 1];
      index[axis - 1] = 0;
    }
  }
  return make_bytes_tensor(tensor.dtype(), std::move(out_dims), std::move(bytes));
}

Status set_ints(Node& node, std::string_view name, std::size_t slot, const Ints& numbers,
                PassContext& context) {
  if (node.input(slot) == nullptr) {
    context.edit().set_attribute(node, attribute(name, numbers));
    return ok_status();
  }
  Value& before = *node.input(slot);
  const Ints dims{static_cast<std::int64_t>(numbers.size())};
  Tensor tensor = make_int64_tensor(numbers, dims);
  if (element_type(before) == DataType::kInt32) {  // as the other lists of the node
    std::vector<std::byte> bytes;
    for (const std::int64_t number : numbers) {
      const auto entry = std::bit_cast<std::array<std::byte, 4>>(static_cast<std::int32_t>(number));
      bytes.insert(bytes.end(), entry.begin(), entry.end());
    }
    tensor = make_bytes_tensor(DataType::kInt32, dims, std::move(bytes));
  }
  Value& list = add_constant(context, node.graph(), before.name(), std::move(tensor));
  context.edit().set_input(node, slot, &list);
  return erase_unused(context, before);
}

// One scale for all elements, or one for each position along an axis that can be written.
bool codes_in_any_order(const Node& node, std::size_t rank) {
  if (node.int_attribute("block_size", 0) != 0) return false;
  for (std::size_t slot = 1; slot < node.inputs().size(); ++slot) {
    const Value* value = node.input(slot);
    if (value == nullptr) continue;
    const auto dims = rank_of(*value);
    if (!dims || *dims > 1) return false;
  }
  if (one_scale(node)) return true;
  const std::int64_t axis = normal(node.int_attribute("axis", 1), rank);
  return axis >= 0 && axis < static_cast<std::int64_t>(rank);
}

std::optional<LayoutMove> of_all_inputs(const Node& node, const PermutationOf& permutation) {
  LayoutMove move;
  const Permutation* perm = nullptr;
  for (std::size_t i = 0; i < node.inputs().size(); ++i) {
    const Value* value = node.input(i);
    if (value == nullptr) return std::nullopt;
    if (is_constant(value)) {
      move.constants.push_back(i);
      continue;
    }
    const Permutation* own = permutation(*value);
    if (own == nullptr || (perm != nullptr && *own != *perm)) return std::nullopt;
    perm = own;
    move.slots.push_back(i);
  }
  if (perm == nullptr) return std::nullopt;
  for (std::size_t slot : move.constants) {
    if (!is_movable_constant(*node.input(slot), perm->size())) return std::nullopt;
  }
  move.outputs.push_back(*perm);
  return move;
}

}  // namespace

bool is_identity(const Permutation& perm) {
  for (std::size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

Permutation compose(const Permutation& inner, const Permutation& outer) {
  Permutation result;
  for (std::int64_t axis : outer) result.push_back(inner[static_cast<std::size_t>(axis)]);
  return result;
}

std::optional<Permutation> permutation_of(const Node& transpose) {
  if (!transpose.is("Transpose") || transpose.input(0) == nullptr) return std::nullopt;
  const auto rank = rank_of(*transpose.input(0));
  if (!rank) return std::nullopt;
  Permutation reversed(*rank);
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  Permutation perm = transpose.ints_attribute("perm").value_or(reversed);
  Permutation sorted = perm;
  std::ranges::sort(sorted);
  return sorted.size() == *rank && is_identity(sorted) ? std::optional(perm) : std::nullopt;
}

std::optional<LayoutMove> layout_move(const Node& node, const PermutationOf& permutation) {
  constexpr std::int64_t kSoftmaxAlongOneAxis = 13;
  const std::int64_t opset = node.graph().model().opset("");
  if (!node.domain().empty() || node.input(0) == nullptr || opset < kNumpyBroadcast) {
    return std::nullopt;
  }
  for (const Value* value : node.outputs()) {
    if (value == nullptr) return std::nullopt;
  }
  if (is_one_of(node, kBroadcast)) {
    if (node.is("PRelu") && is_constant(node.input(0))) return std::nullopt;
    return of_all_inputs(node, permutation);
  }
  if (node.is("Concat")) {
    auto move = of_all_inputs(node, permutation);
    if (!move) return std::nullopt;
    for (std::size_t slot : move->constants) {
      if (rank_of(*node.input(slot)) != move->outputs[0].size()) return std::nullopt;
    }
    return move;
  }
  const Permutation* perm = permutation(*node.input(0));
  if (perm == nullptr) return std::nullopt;
  LayoutMove move{{0}, {}, {*perm}};
  const std::size_t rank = perm->size();
  const std::int64_t axis = normal(node.int_attribute("axis", -1), rank);
  const bool axis_fits = axis >= 0 && axis < static_cast<std::int64_t>(rank);
  if (is_one_of(node, kUnary)) return move;
  if (node.is("QuantizeLinear") || node.is("DequantizeLinear")) {
    return codes_in_any_order(node, rank) ? std::optional(move) : std::nullopt;
  }
  if (node.is("Split")) {
    const std::int64_t along = normal(node.int_attribute("axis", 0), rank);
    if (along < 0 || along >= static_cast<std::int64_t>(rank)) return std::nullopt;
    move.outputs.assign(node.outputs().size(), *perm);
    return move;
  }
  if (node.is("Softmax") || node.is("LogSoftmax") || node.is("Hardmax")) {
    return opset >= kSoftmaxAlongOneAxis && axis_fits ? std::optional(move) : std::nullopt;
  }
  if (node.is("BatchNormalization")) {
    const bool same_channels = rank > 1 && (*perm)[1] == 1 && node.outputs().size() == 1;
    return same_channels ? std::optional(move) : std::nullopt;
  }
  if (node.is("Pad")) {
    const IntsParameter pads = ints_parameter(node, "pads", 1);
    const bool fits = pads.values && pads.values->size() == 2 * rank && node.input(3) == nullptr;
    return fits ? std::optional(move) : std::nullopt;
  }
  if (node.is("Slice")) {
    const IntsParameter starts = ints_parameter(node, "starts", 1);
    // Without axes the first ones are meant; those would have to be written.
    return starts.values && axes_of(node, 3, rank) ? std::optional(move) : std::nullopt;
  }
  if (is_one_of(node, kReduce) || node.is("Squeeze")) {
    const auto axes = axes_of(node, 1, rank);
    if (!axes || axes->empty()) return std::nullopt;
    if (node.is("Squeeze") || node.int_attribute("keepdims", 1) == 0) {
      move.outputs[0] = without(*perm, *axes);
    }
    return move;
  }
  if (node.is("Unsqueeze")) {
    const IntsParameter count = ints_parameter(node, "axes", 1);
    if (!count.values) return std::nullopt;
    const auto axes = axes_of(node, 1, rank + count.values->size());
    if (!axes) return std::nullopt;
    move.outputs[0] = with(*perm, *axes);
    return move;
  }
  return std::nullopt;
}

Status apply_layout_move(Node& node, const LayoutMove& move, const Permutation& input,
                         PassContext& context) {
  const std::size_t rank = input.size();
  const auto along = [&](std::int64_t axis) {
    return input[static_cast<std::size_t>(normal(axis, rank))];
  };
  for (std::size_t slot : move.constants) {
    Value& before = *node.input(slot);
    const auto tensor = constant_of(&before);
    if (tensor->elements() == 1 && !node.is("Concat")) continue;
    MCOMPRESS_ASSIGN(Tensor moved, moved_tensor(*tensor, input));
    context.edit().set_input(node, slot,
                             &add_constant(context, node.graph(), before.name(), std::move(moved)));
    MCOMPRESS_TRY(erase_unused(context, before));
  }
  if (node.is("Concat") || node.is("Split") || node.is("Softmax") || node.is("LogSoftmax") ||
      node.is("Hardmax")) {
    const std::int64_t fallback = node.is("Concat") || node.is("Split") ? 0 : -1;
    context.edit().set_attribute(node,
                                 attribute("axis", along(node.int_attribute("axis", fallback))));
  }
  if ((node.is("QuantizeLinear") || node.is("DequantizeLinear")) && !one_scale(node)) {
    context.edit().set_attribute(node, attribute("axis", along(node.int_attribute("axis", 1))));
  }
  if (node.is("Pad")) {
    const Ints pads = *ints_parameter(node, "pads", 1).values;
    Ints moved(pads.size());
    for (std::size_t i = 0; i < rank; ++i) {
      const auto to = static_cast<std::size_t>(input[i]);
      moved[to] = pads[i];
      moved[to + rank] = pads[i + rank];
    }
    return set_ints(node, "pads", 1, moved, context);
  }
  const bool takes_away = is_one_of(node, kReduce) || node.is("Squeeze");
  if (node.is("Slice") || takes_away) {
    const std::size_t slot = takes_away ? 1 : 3;
    Ints axes = *axes_of(node, slot, rank);
    for (std::int64_t& axis : axes) axis = along(axis);
    return set_ints(node, "axes", slot, axes, context);
  }
  return ok_status();
}

}  // namespace mcompress
