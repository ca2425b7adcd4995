#include "passes/common/fusion/finite.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "ir/facts.h"

namespace mcompress {
namespace {

constexpr int kMostNodes = 256;                  // looked at for one answer
constexpr std::int64_t kMostElements = 1 << 22;  // of a constant

template <std::size_t N>
bool is_one_of(const Node& node, const std::array<std::string_view, N>& ops) {
  return std::ranges::find(ops, node.op_type()) != ops.end();
}

// Of finite operands they make finite results.
constexpr auto kArithmetic =
    std::to_array<std::string_view>({"Abs", "Add", "Max", "Min", "Mul", "Neg", "Sub"});
constexpr auto kMoves = std::to_array<std::string_view>(
    {"Concat", "Dropout", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Reshape", "Slice",
     "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"});
// Sums of products of what the model computed. What they read is no mask any more.
constexpr auto kProducts =
    std::to_array<std::string_view>({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"});
constexpr auto kBounded = std::to_array<std::string_view>(
    {"BatchNormalization", "Erf", "GroupNormalization", "InstanceNormalization",
     "LayerNormalization", "RMSNormalization", "Sigmoid", "Softmax", "Tanh"});

bool is_integer(const Value& value) {
  static constexpr auto kTypes = std::to_array<DataType>(
      {DataType::kBool, DataType::kInt8, DataType::kInt16, DataType::kInt32, DataType::kInt64,
       DataType::kUint8, DataType::kUint16, DataType::kUint32, DataType::kUint64});
  return std::ranges::find(kTypes, element_type(value)) != kTypes.end();
}

bool finite(const Value* value, int& nodes) {
  if (value == nullptr || --nodes < 0) return false;
  if (is_integer(*value)) return true;
  if (is_constant(value)) {
    const auto numbers = constant_reals(value, kMostElements);
    return numbers && std::ranges::all_of(*numbers, [](double x) { return std::isfinite(x); });
  }
  const Node* node = value->producer();
  if (node == nullptr || !node->domain().empty()) return false;
  if (is_one_of(*node, kProducts) || is_one_of(*node, kBounded)) return true;
  if (node->is("Cast") || is_one_of(*node, kMoves)) {
    const std::size_t operands = node->is("Concat") ? node->inputs().size() : 1;
    return std::ranges::all_of(node->inputs().first(operands),
                               [&](const Value* operand) { return finite(operand, nodes); });
  }
  if (node->is("Where")) {
    return finite(node->input(1), nodes) && finite(node->input(2), nodes);
  }
  if (node->is("Div")) {
    const auto divisor = constant_scalar(node->input(1));
    return divisor && std::isfinite(*divisor) && *divisor != 0.0 && finite(node->input(0), nodes);
  }
  return is_one_of(*node, kArithmetic) &&
         std::ranges::all_of(node->inputs(),
                             [&](const Value* operand) { return finite(operand, nodes); });
}

// A constant that masks a part of each row at most.
bool masks_in_part(const Value* value, std::int64_t axis_from_end) {
  const auto tensor = constant_of(value);
  const auto numbers = tensor ? constant_reals(value, kMostElements) : std::nullopt;
  const auto rank = tensor ? static_cast<std::int64_t>(tensor->dims().size()) : 0;
  if (!numbers || axis_from_end > rank) return false;
  std::size_t inner = 1;
  for (std::int64_t i = rank - axis_from_end + 1; i < rank; ++i) {
    inner *= static_cast<std::size_t>(tensor->dims()[static_cast<std::size_t>(i)]);
  }
  const auto length =
      static_cast<std::size_t>(tensor->dims()[static_cast<std::size_t>(rank - axis_from_end)]);
  std::vector<bool> open(length == 0 ? 0 : numbers->size() / length, false);
  for (std::size_t i = 0; i < numbers->size(); ++i) {
    const double number = (*numbers)[i];
    if (std::isnan(number) || number == HUGE_VAL) return false;
    if (std::isfinite(number)) open[i / (inner * length) * inner + i % inner] = true;
  }
  return std::ranges::all_of(open, [](bool one) { return one; });
}

}  // namespace

bool is_finite(const Value* value) {
  int nodes = kMostNodes;
  return finite(value, nodes);
}

bool has_finite_rows(const Value* value, std::int64_t axis_from_end) {
  if (is_finite(value)) return true;
  const Node* add = made_by(value, "Add");
  if (add == nullptr) return false;
  for (const std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
    // A mask of one element in each row would mask all of what it is added to.
    const auto length = dim_of(*value, -axis_from_end);
    if (masks_in_part(add->input(slot), axis_from_end) && length &&
        dim_of(*add->input(slot), -axis_from_end) == length && is_finite(add->input(1 - slot))) {
      return true;
    }
  }
  return false;
}

}  // namespace mcompress
