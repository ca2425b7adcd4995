#include "passes/common/fusion/symbolic_elements.h"

#include <algorithm>
#include <array>

#include "ir/facts.h"

namespace mcompress {
namespace {

// Shapes have few entries; longer lists are data.
constexpr std::size_t kMostElements = 64;

bool is_index_type(const Value& value) {
  const DataType type = element_type(value);
  return type == DataType::kInt64 || type == DataType::kInt32 || type == DataType::kBool;
}

}  // namespace

std::optional<Terms> SymbolicElements::of_constant(const Value& value) {
  if (!is_index_type(value)) return std::nullopt;
  const auto tensor = constant_of(&value);
  if (!tensor || tensor->dims().size() > 1) return std::nullopt;
  const auto numbers = constant_ints(&value, kMostElements);
  if (!numbers) return std::nullopt;
  Terms terms;
  for (std::int64_t number : *numbers) terms.push_back({number});
  return terms;
}

const Terms* SymbolicElements::input(const Node& node, std::size_t slot) const {
  return node.input(slot) != nullptr ? shapes_.elements(*node.input(slot)) : nullptr;
}

std::optional<Terms> SymbolicElements::of(const Node& node) {
  const Value& output = *node.output(0);
  if (!is_index_type(output)) return std::nullopt;
  const auto rank = rank_of(output);
  if (!rank || *rank > 1) return std::nullopt;
  if (node.is("Constant")) return of_constant(output);
  if (node.is("Shape")) {
    const Terms* dims = node.input(0) != nullptr ? shapes_.dims(*node.input(0)) : nullptr;
    if (dims == nullptr || dims->size() > kMostElements) return std::nullopt;
    const auto count = static_cast<std::int64_t>(dims->size());
    const auto clamp = [&](std::int64_t index) {
      return std::clamp<std::int64_t>(index < 0 ? index + count : index, 0, count);
    };
    const std::int64_t start = clamp(node.int_attribute("start", 0));
    const std::int64_t end = std::max(start, clamp(node.int_attribute("end", count)));
    return Terms(dims->begin() + start, dims->begin() + end);
  }
  if (node.is("Size")) {
    const Terms* dims = node.input(0) != nullptr ? shapes_.dims(*node.input(0)) : nullptr;
    if (dims == nullptr) return std::nullopt;
    std::vector<std::int64_t> sizes;
    for (const Term& dim : *dims) {
      if (!dim.known()) return std::nullopt;
      sizes.push_back(dim.number);
    }
    const auto count = element_count(sizes);
    return count ? std::optional<Terms>(Terms{{*count}}) : std::nullopt;
  }
  if (node.is("Gather")) return gather(node);
  if (node.is("Slice")) return slice(node);
  if (node.is("Where")) return choice(node);
  if (node.is("Concat")) {
    Terms all;
    for (std::size_t i = 0; i < node.inputs().size(); ++i) {
      const Terms* part = input(node, i);
      if (part == nullptr || all.size() + part->size() > kMostElements) return std::nullopt;
      all.insert(all.end(), part->begin(), part->end());
    }
    return all;
  }
  static constexpr std::array<std::string_view, 5> kSameElements = {"Cast", "Identity", "Reshape",
                                                                    "Squeeze", "Unsqueeze"};
  if (std::ranges::find(kSameElements, node.op_type()) != kSameElements.end()) {
    const Terms* same = input(node, 0);
    if (same == nullptr) return std::nullopt;
    // Numbers that do not fit change; a dimension always fits where the model works at all.
    const bool narrows = element_type(output) != DataType::kInt64;
    const bool fits = std::ranges::all_of(*same, [&](const Term& term) {
      return !narrows || (term.known() ? term.number >= INT32_MIN && term.number <= INT32_MAX
                                       : shapes_.is_size(term));
    });
    if (!fits || element_type(output) == DataType::kBool) return std::nullopt;
    return *same;
  }
  return arithmetic(node);
}

Term SymbolicElements::combine(const Node& node, Term left, Term right) {
  const Term unknown = shapes_.fresh(false);
  const bool both = left.known() && right.known();
  std::int64_t result = 0;
  if (node.is("Add")) {
    if (left.is(0)) return right;
    if (right.is(0)) return left;
    return both && !__builtin_add_overflow(left.number, right.number, &result) ? Term{result}
                                                                               : unknown;
  }
  if (node.is("Sub")) {
    if (right.is(0)) return left;
    if (left == right) return Term{0};
    return both && !__builtin_sub_overflow(left.number, right.number, &result) ? Term{result}
                                                                               : unknown;
  }
  if (node.is("Mul")) {
    if (left.is(1) || right.is(0)) return right;
    if (right.is(1) || left.is(0)) return left;
    return both && !__builtin_mul_overflow(left.number, right.number, &result) ? Term{result}
                                                                               : unknown;
  }
  if (node.is("Div")) {
    if (right.is(1)) return left;
    return both && left.number >= 0 && right.number > 0 ? Term{left.number / right.number}
                                                        : unknown;
  }
  if (node.is("Equal")) {
    if (both) return Term{left.number == right.number ? 1 : 0};
    if (left == right) return Term{1};
    const auto differ = [&](Term number, Term size) {
      return number.known() && number.number < 0 && shapes_.is_size(size);
    };
    return differ(left, right) || differ(right, left) ? Term{0} : unknown;
  }
  return unknown;
}

std::optional<Terms> SymbolicElements::arithmetic(const Node& node) {
  static constexpr std::array<std::string_view, 5> kOperators = {"Add", "Div", "Equal", "Mul",
                                                                 "Sub"};
  if (std::ranges::find(kOperators, node.op_type()) == kOperators.end()) return std::nullopt;
  const Terms* left = input(node, 0);
  const Terms* right = input(node, 1);
  if (left == nullptr || right == nullptr) return std::nullopt;
  // int32 may overflow where int64 does not.
  if (element_type(*node.output(0)) == DataType::kInt32) return std::nullopt;
  const std::size_t count = left->size() == 1 ? right->size() : left->size();
  if (right->size() != count && right->size() != 1) return std::nullopt;
  Terms result;
  for (std::size_t i = 0; i < count; ++i) {
    result.push_back(
        combine(node, (*left)[left->size() == 1 ? 0 : i], (*right)[right->size() == 1 ? 0 : i]));
  }
  return result;
}

std::optional<Terms> SymbolicElements::choice(const Node& node) {
  const Terms* sides[3] = {input(node, 0), input(node, 1), input(node, 2)};
  std::size_t count = 1;
  for (const Terms* side : sides) {
    if (side == nullptr) return std::nullopt;
    if (side->size() != 1) count = side->size();
  }
  Terms result;
  for (std::size_t i = 0; i < count; ++i) {
    Term term[3];
    for (std::size_t k = 0; k < 3; ++k) {
      if (sides[k]->size() != 1 && sides[k]->size() != count) return std::nullopt;
      term[k] = (*sides[k])[sides[k]->size() == 1 ? 0 : i];
    }
    if (term[0].known()) {
      result.push_back(term[0].number != 0 ? term[1] : term[2]);
    } else {
      result.push_back(term[1] == term[2] ? term[1] : shapes_.fresh(false));
    }
  }
  return result;
}

std::optional<Terms> SymbolicElements::gather(const Node& node) const {
  const Terms* data = input(node, 0);
  const auto indices = constant_ints(node.input(1), kMostElements);
  if (data == nullptr || !indices || rank_of(*node.input(0)) != 1u) return std::nullopt;
  const auto count = static_cast<std::int64_t>(data->size());
  Terms result;
  for (std::int64_t index : *indices) {
    if (index < 0) index += count;
    if (index < 0 || index >= count) return std::nullopt;
    result.push_back((*data)[static_cast<std::size_t>(index)]);
  }
  return result;
}

std::optional<Terms> SymbolicElements::slice(const Node& node) const {
  const Terms* data = input(node, 0);
  const IntsParameter starts = ints_parameter(node, "starts", 1);
  const IntsParameter ends = ints_parameter(node, "ends", 2);
  const IntsParameter steps = ints_parameter(node, "steps", 4);
  if (data == nullptr || !starts.values || !ends.values || !steps.known ||
      starts.values->size() != 1 || ends.values->size() != 1) {
    return std::nullopt;
  }
  if (steps.values && (steps.values->size() != 1 || steps.values->front() != 1)) {
    return std::nullopt;
  }
  const auto count = static_cast<std::int64_t>(data->size());
  const auto clamp = [&](std::int64_t index) {
    return std::clamp<std::int64_t>(index < 0 ? index + count : index, 0, count);
  };
  const std::int64_t start = clamp(starts.values->front());
  const std::int64_t end = std::max(start, clamp(ends.values->front()));
  return Terms(data->begin() + start, data->begin() + end);
}

}  // namespace mcompress
