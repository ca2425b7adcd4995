#include "passes/common/fusion/finite.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "ir/facts.h"

namespace mcompress {
namespace {

constexpr int kMostNodes = 256;                  // looked at for one answer
constexpr std::int64_t kMostElements = 1 << 22;  // of a constant

template <std::size_t N>
bool is_one_of(const Node& node, const std::array<std::string_view, N>& ops) {
  return std::ranges::find(ops, node.op_type()) != ops.end();
}

constexpr auto kMoves = std::to_array<std::string_view>(
    {"Dropout", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Reshape", "Slice", "Split",
     "Squeeze", "Tile", "Transpose", "Unsqueeze"});
// Sums of products of what the model computed. What they read is no mask any more.
constexpr auto kProducts =
    std::to_array<std::string_view>({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"});
constexpr auto kNormal = std::to_array<std::string_view>(
    {"BatchNormalization", "Erf", "GroupNormalization", "InstanceNormalization",
     "LayerNormalization", "RMSNormalization", "Sigmoid", "Softmax", "Tanh"});

constexpr double kUnknown = HUGE_VAL;
// What a network computes is taken to stay below this. It is lost in the rounding of the lowest
// number of float32, which masks are made of, but not two of those added.
constexpr double kComputed = 1e30;
constexpr double kInfinite = 0x1.ffffffp127;  // where float32 rounds to infinity

bool is_integer(DataType type) {
  static constexpr auto kTypes = std::to_array<DataType>(
      {DataType::kInt8, DataType::kInt16, DataType::kInt32, DataType::kInt64, DataType::kUint8,
       DataType::kUint16, DataType::kUint32, DataType::kUint64});
  return std::ranges::find(kTypes, type) != kTypes.end();
}

double bound(const Value* value, int& nodes);

double largest(std::span<Value* const> values, int& nodes) {
  double result = 0.0;
  for (const Value* value : values) result = std::max(result, bound(value, nodes));
  return result;
}

double product(const Node& node, int& nodes) {
  const double left = bound(node.input(0), nodes), right = bound(node.input(1), nodes);
  if (left == 0.0 || right == 0.0) return std::max(left, right) == kUnknown ? kUnknown : 0.0;
  const bool computed = !is_constant(node.input(0)) && !is_constant(node.input(1));
  return computed && std::max(left, right) <= kComputed ? kComputed : left * right;
}

double of_constant(const Value* value) {
  const auto numbers = constant_reals(value, kMostElements);
  if (!numbers) return kUnknown;
  double result = 0.0;
  for (const double number : *numbers) {
    if (!std::isfinite(number)) return kUnknown;
    result = std::max(result, std::abs(number));
  }
  return result;
}

// No element lies further from 0.
double bound(const Value* value, int& nodes) {
  if (value == nullptr || --nodes < 0) return kUnknown;
  const DataType type = element_type(*value);
  if (type == DataType::kBool) return 1.0;
  if (is_integer(type)) return 1e19;
  if (is_constant(value)) return of_constant(value);
  const Node* node = value->producer();
  if (node == nullptr || !node->domain().empty()) return kUnknown;
  if (is_one_of(*node, kProducts) || is_one_of(*node, kNormal)) return kComputed;
  if (is_one_of(*node, kMoves) || node->is("Abs") || node->is("Neg")) {
    return bound(node->input(0), nodes);
  }
  if (node->is("Concat") || node->is("Max") || node->is("Min")) {
    return largest(node->inputs(), nodes);
  }
  if (node->is("Cast")) {
    const DataType from = node->input(0) != nullptr ? element_type(*node->input(0)) : type;
    // Narrower types make infinity of large numbers.
    const bool exact = from == type || from == DataType::kBool || is_integer(from);
    return exact ? bound(node->input(0), nodes) : kUnknown;
  }
  if (node->is("Where")) return largest(node->inputs().subspan(1), nodes);
  if (node->is("Mul")) return product(*node, nodes);
  if (node->is("Div")) {
    const auto divisor = constant_scalar(node->input(1));
    return divisor && *divisor != 0.0 ? bound(node->input(0), nodes) / std::abs(*divisor)
                                      : kUnknown;
  }
  if (node->is("Add") || node->is("Sub")) {
    return bound(node->input(0), nodes) + bound(node->input(1), nodes);
  }
  return kUnknown;
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
  if (value == nullptr || element_type(*value) != DataType::kFloat) return false;
  int nodes = kMostNodes;
  return bound(value, nodes) < kInfinite;
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
