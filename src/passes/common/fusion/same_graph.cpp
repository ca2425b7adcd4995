#include "passes/common/fusion/same_graph.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "support/try.h"

namespace mcompress {
namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

std::uint64_t float_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

class Comparison {
 public:
  Result<bool> graphs(const Graph& left, const Graph& right) {
    if (left.inputs().size() != right.inputs().size() ||
        left.outputs().size() != right.outputs().size() ||
        left.node_count() != right.node_count()) {
      return false;
    }
    for (std::size_t i = 0; i < left.inputs().size(); ++i)
      match(left.inputs()[i], right.inputs()[i]);
    const Node* other = right.first();
    for (const Node* node = left.first(); node != nullptr; node = left.next(*node)) {
      MCOMPRESS_ASSIGN(const bool same, nodes(*node, *other));
      if (!same) return false;
      other = right.next(*other);
    }
    return values(left.outputs(), right.outputs());
  }

 private:
  void match(const Value* left, const Value* right) { matched_.emplace(left, right); }

  Result<bool> values(std::span<Value* const> left, std::span<Value* const> right) {
    if (left.size() != right.size()) return false;
    for (std::size_t i = 0; i < left.size(); ++i) {
      if (left[i] == right[i]) continue;
      if (left[i] == nullptr || right[i] == nullptr) return false;
      const auto known = matched_.find(left[i]);
      if (known != matched_.end()) {
        if (known->second != right[i]) return false;
        continue;
      }
      const Tensor* data = left[i]->constant();
      const Tensor* other = right[i]->constant();
      if (data == nullptr || other == nullptr || data->is_opaque() || other->is_opaque()) {
        return false;
      }
      MCOMPRESS_ASSIGN(const bool same, same_content(*data, *other));
      if (!same) return false;
      match(left[i], right[i]);
    }
    return true;
  }

  Result<bool> nodes(const Node& left, const Node& right) {
    if (left.op_type() != right.op_type() || left.domain() != right.domain() ||
        left.overload() != right.overload() ||
        left.attributes().size() != right.attributes().size() ||
        left.outputs().size() != right.outputs().size()) {
      return false;
    }
    MCOMPRESS_ASSIGN(const bool same_inputs, values(left.inputs(), right.inputs()));
    if (!same_inputs) return false;
    for (const Attribute& entry : left.attributes()) {
      const AttributeValue* other = right.attribute(entry.name);
      if (other == nullptr || other->index() != entry.value.index()) return false;
      const auto* body = std::get_if<std::unique_ptr<Graph>>(&entry.value);
      MCOMPRESS_ASSIGN(const bool same,
                       body != nullptr ? graphs(**body, *std::get<std::unique_ptr<Graph>>(*other))
                                       : same_attribute(entry.value, *other));
      if (!same) return false;
    }
    for (std::size_t i = 0; i < left.outputs().size(); ++i) {
      if ((left.output(i) == nullptr) != (right.output(i) == nullptr)) return false;
      if (left.output(i) != nullptr) match(left.output(i), right.output(i));
    }
    return true;
  }

  std::unordered_map<const Value*, const Value*> matched_;
};

}  // namespace

bool hash_attribute(const AttributeValue& value, Hasher& hasher) {
  return std::visit(
      Overloaded{[&](std::int64_t number) {
                   return hasher.integer(static_cast<std::uint64_t>(number)), true;
                 },
                 [&](float number) { return hasher.integer(float_bits(number)), true; },
                 [&](const std::string& text) { return hasher.text(text), true; },
                 [&](const Tensor& tensor) {
                   if (tensor.is_opaque()) return false;
                   for (std::int64_t size : tensor.dims())
                     hasher.integer(static_cast<std::uint64_t>(size));
                   return hasher.integer(tensor.storage()->digest()), true;
                 },
                 [&](const std::vector<std::int64_t>& list) {
                   for (std::int64_t number : list)
                     hasher.integer(static_cast<std::uint64_t>(number));
                   return true;
                 },
                 [&](const std::vector<float>& list) {
                   for (float number : list) hasher.integer(float_bits(number));
                   return true;
                 },
                 [&](const std::vector<std::string>& list) {
                   for (const std::string& text : list) hasher.text(text);
                   return true;
                 },
                 [](const auto&) { return false; }},
      value);
}

Result<bool> same_attribute(const AttributeValue& left, const AttributeValue& right) {
  if (left.index() != right.index()) return false;
  if (const auto* tensor = std::get_if<Tensor>(&left)) {
    return same_content(*tensor, std::get<Tensor>(right));
  }
  if (const auto* number = std::get_if<float>(&left)) {
    return float_bits(*number) == float_bits(std::get<float>(right));
  }
  if (const auto* list = std::get_if<std::vector<float>>(&left)) {
    return std::ranges::equal(*list, std::get<std::vector<float>>(right), {}, float_bits,
                              float_bits);
  }
  if (const auto* number = std::get_if<std::int64_t>(&left)) {
    return *number == std::get<std::int64_t>(right);
  }
  if (const auto* text = std::get_if<std::string>(&left)) {
    return *text == std::get<std::string>(right);
  }
  if (const auto* list = std::get_if<std::vector<std::int64_t>>(&left)) {
    return *list == std::get<std::vector<std::int64_t>>(right);
  }
  if (const auto* list = std::get_if<std::vector<std::string>>(&left)) {
    return *list == std::get<std::vector<std::string>>(right);
  }
  return false;
}

Result<bool> same_graph(const Graph& left, const Graph& right) {
  return Comparison().graphs(left, right);
}

}  // namespace mcompress
