#include "passes/common/constant_indices.h"

#include <algorithm>

#include "ir/facts.h"
#include "support/try.h"

namespace mcompress {
namespace {

std::int64_t whole(std::size_t count) { return static_cast<std::int64_t>(count); }

class IndexReader {
 public:
  // Empty: computed otherwise, or not constant.
  static std::optional<std::vector<std::int32_t>> of(const Value* value, int depth = 0) {
    constexpr int kDeepest = 24;
    if (value == nullptr || depth > kDeepest) return std::nullopt;
    if (const auto tensor = constant_of(value)) return numbers(*tensor);
    const Node* const node = value->producer();
    if (node == nullptr) return std::nullopt;
    if (node->is("Cast") || node->is("Reshape")) return of(node->input(0), depth + 1);
    if (node->is("Add")) {
      auto left = of(node->input(0), depth + 1);
      const auto right = of(node->input(1), depth + 1);
      if (!left || !right || left->size() != right->size()) return std::nullopt;
      for (std::size_t i = 0; i < left->size(); ++i) (*left)[i] += (*right)[i];
      return left;
    }
    if (node->is("Slice")) return first_ones(*node, depth);
    if (node->is("Gather") && node->int_attribute("axis", 0) == 0) return rows(*node, depth);
    return std::nullopt;
  }

 private:
  static std::optional<std::vector<std::int32_t>> numbers(const Tensor& tensor) {
    if (tensor.is_opaque()) return std::nullopt;
    auto ints = code_numbers(tensor);
    if (!ints.ok()) return std::nullopt;
    return std::move(ints).value();
  }

  // Of one dimension, from 0.
  static std::optional<std::vector<std::int32_t>> first_ones(const Node& node, int depth) {
    const auto from = ints_parameter(node, "starts", 1), to = ints_parameter(node, "ends", 2);
    if (!from.values || !to.values || *from.values != std::vector<std::int64_t>{0} ||
        to.values->size() != 1 || node.input(4) != nullptr) {
      return std::nullopt;
    }
    auto all = of(node.input(0), depth + 1);
    if (!all || to.values->front() < 0) return std::nullopt;
    all->resize(std::min(all->size(), static_cast<std::size_t>(to.values->front())));
    return all;
  }

  static std::optional<std::vector<std::int32_t>> rows(const Node& node, int depth) {
    const auto tensor = constant_of(node.input(0));
    const auto places = of(node.input(1), depth + 1);
    if (!tensor || !places || tensor->dims().size() != 2) return std::nullopt;
    const auto table = numbers(*tensor);
    if (!table) return std::nullopt;
    const auto width = static_cast<std::size_t>(tensor->dims()[1]);
    std::vector<std::int32_t> out;
    out.reserve(places->size() * width);
    for (const std::int32_t place : *places) {
      if (place < 0 || place >= tensor->dims()[0]) return std::nullopt;
      const auto from = table->begin() + static_cast<std::ptrdiff_t>(place) * whole(width);
      out.insert(out.end(), from, from + whole(width));
    }
    return out;
  }
};

// Of what IndexReader knows; empty: unknown.
std::optional<std::vector<std::int64_t>> dims_of(const Value* value) {
  if (const auto tensor = constant_of(value)) {
    return std::vector<std::int64_t>(tensor->dims().begin(), tensor->dims().end());
  }
  const Node& node = *value->producer();
  if (node.is("Cast")) return dims_of(node.input(0));
  if (node.is("Reshape")) {
    auto shape = constant_ints(node.input(1));
    if (shape && std::ranges::all_of(*shape, [](std::int64_t d) { return d > 0; })) return shape;
  }
  if (node.is("Slice")) {
    const auto to = ints_parameter(node, "ends", 2);
    const auto from = dims_of(node.input(0));
    if (to.values && from && from->size() == 1) {
      return std::vector{std::min(from->front(), to.values->front())};
    }
  }
  if (node.is("Add")) {
    auto left = dims_of(node.input(0));
    if (left && left == dims_of(node.input(1))) return left;
  }
  return std::nullopt;
}

}  // namespace

Result<std::vector<std::int32_t>> code_numbers(const Tensor& tensor) {
  std::vector<std::int32_t> numbers;
  numbers.reserve(static_cast<std::size_t>(tensor.elements()));
  if (tensor.dtype() == DataType::kInt4 || tensor.dtype() == DataType::kUint4) {
    MCOMPRESS_ASSIGN(const std::vector<float> floats, read_floats(tensor));
    for (const float x : floats) numbers.push_back(static_cast<std::int32_t>(x));
    return numbers;
  }
  MCOMPRESS_ASSIGN(const std::vector<std::int64_t> ints, read_ints(tensor));
  for (const std::int64_t x : ints) numbers.push_back(static_cast<std::int32_t>(x));
  return numbers;
}

std::optional<ConstantIndices> constant_indices(const Value* value) {
  const Node* const node = value != nullptr ? value->producer() : nullptr;
  if (node != nullptr && node->is("Add")) {
    const auto added = constant_of(node->input(1));
    if (added && added->dims().size() == 2 && added->dims()[1] == 1) {
      auto offsets = code_numbers(*added);
      auto indices = constant_indices(node->input(0));
      if (!offsets.ok() || !indices || !indices->offsets.empty() || indices->dims.size() != 3 ||
          indices->dims[1] != added->dims()[0]) {
        return std::nullopt;
      }
      indices->offsets = std::move(offsets).value();
      return indices;
    }
  }
  auto numbers = IndexReader::of(value);
  if (!numbers) return std::nullopt;
  auto dims = dims_of(value);
  if (!dims) return std::nullopt;
  return ConstantIndices{std::move(*numbers), std::move(*dims), {}};
}

std::uint64_t constant_bytes(const Value* value) {
  if (value == nullptr) return 0;
  if (const auto tensor = constant_of(value)) {
    return value->uses().size() == 1 ? tensor->byte_size() : 0;
  }
  std::uint64_t bytes = 0;
  if (value->producer() != nullptr) {
    for (const Value* input : value->producer()->inputs()) bytes += constant_bytes(input);
  }
  return bytes;
}

void add_constants(const Value* value, std::set<const Value*>& constants) {
  if (value == nullptr) return;
  if (value->producer() == nullptr) {
    constants.insert(value);
    return;
  }
  for (const Value* input : value->producer()->inputs()) add_constants(input, constants);
}

}  // namespace mcompress
