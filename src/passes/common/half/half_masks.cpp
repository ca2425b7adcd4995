#include "passes/common/half/half_masks.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/half/half_rules.h"

namespace mcompress {
namespace {

constexpr double kLargestHalf = 65504;
constexpr std::int64_t kMostElements = std::int64_t{1} << 22;  // of a mask
constexpr std::size_t kLongestWay = 64;                        // nodes

// Follows a mask; false where it may matter as a number.
class MaskWay {
 public:
  bool follow(const Value& value) {
    if (value.uses().empty()) return false;
    return std::ranges::all_of(value.uses(), [&](const Use& use) { return pass(use); });
  }
  bool into_softmax() const { return softmax_; }
  bool added() const { return added_; }
  std::vector<const Node*> readers;

 private:
  bool pass(const Use& use) {
    if (use.node == nullptr || readers.size() > kLongestWay) return false;
    const Node& node = *use.node;
    if (std::ranges::find(readers, &node) != readers.end()) return true;
    readers.push_back(&node);
    if (node.is("Softmax") || node.is("LogSoftmax")) return softmax_ = true;
    if (node.is("Shape")) return true;
    if (node.is("Add")) {
      added_ = true;
    } else if (node.is("Where")) {
      if (use.slot == 0) return false;
    } else if (!node.is("Mul") && !node.is("Trilu") && !(only_moves(node) && use.slot == 0) &&
               !node.is("Concat") &&
               !(node.is("Cast") && element_type(*node.output(0)) == DataType::kFloat)) {
      return false;
    }
    return node.output(0) != nullptr && follow(*node.output(0));
  }

  bool softmax_ = false, added_ = false;
};

// The numbers of a constant or of what ConstantOfShape makes; empty: none.
std::optional<std::vector<double>> numbers_of(const Value& value) {
  const Node* maker = value.producer();
  if (maker != nullptr && maker->is("ConstantOfShape")) {
    const AttributeValue* held = maker->attribute("value");
    const Tensor* tensor = held != nullptr ? std::get_if<Tensor>(held) : nullptr;
    if (tensor == nullptr || tensor->dtype() != DataType::kFloat) return std::nullopt;
    auto numbers = read_floats(*tensor);
    if (!numbers.ok()) return std::nullopt;
    return std::vector<double>(numbers->begin(), numbers->end());
  }
  const auto tensor = constant_of(&value);
  if (!tensor || tensor->dtype() != DataType::kFloat) return std::nullopt;
  return constant_reals(&value, kMostElements);
}

}  // namespace

std::vector<HalfMask> find_half_masks(const Model& model) {
  std::vector<HalfMask> masks;
  const auto consider = [&masks](Value* value) {
    if (value == nullptr || value->uses().empty()) return;
    const auto numbers = numbers_of(*value);
    if (!numbers || numbers->empty()) return;
    double lowest = 0;
    for (const double number : *numbers) {
      if (std::isinf(number)) continue;
      if (number > kLargestHalf) return;
      lowest = std::min(lowest, number);
    }
    if (lowest >= -kLargestHalf) return;
    MaskWay way;
    if (!way.follow(*value) || !way.into_softmax()) return;
    masks.push_back(
        {value, lowest, way.added() ? -kLargestHalf / 4 : -kLargestHalf, std::move(way.readers)});
  };
  for_each_graph(const_cast<Model&>(model).graph(), [&](Graph& graph) {
    for (Value* value : graph.initializers()) consider(value);
    for (const Node* node : graph.nodes()) {
      if (node->is("Constant") || node->is("ConstantOfShape")) consider(node->output(0));
    }
  });
  return masks;
}

}  // namespace mcompress
