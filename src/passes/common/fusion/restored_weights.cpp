#include "passes/common/fusion/restored_weights.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/fusion/evaluate.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kShare = 200;  // of the model's constants: one part

// Element by element, in the first operand's shape.
bool restores_further(const Node& node) {
  static constexpr auto kKinds = std::to_array<std::string_view>({"Add", "Cast", "Mul", "Sub"});
  return std::ranges::any_of(kKinds, [&](std::string_view kind) { return node.is(kind); });
}

std::uint64_t bytes_of_constants(Model& model) {
  std::uint64_t bytes = 0;
  for_each_graph(model.graph(), [&](const Graph& graph) {
    for (const Value* value : graph.initializers()) bytes += value->initializer()->byte_size();
  });
  return bytes;
}

class WeightRestorer {
 public:
  WeightRestorer(Model& model, PassContext& context) : model_(model), context_(context) {}

  Result<std::int64_t> run() {
    for_each_node(model_.graph(), [&](Node& node) { look_at(node); });
    if (nodes_.empty() || growth_ > bytes_of_constants(model_) / kShare) return 0;
    auto runtime = context_.runtime();
    if (!runtime.ok()) return 0;
    std::vector<Value*> wanted;
    for (Node* node : nodes_) {
      const bool read = std::ranges::any_of(node->output(0)->uses(), [&](const Use& use) {
        return use.node == nullptr || !inside_.contains(use.node);
      });
      if (read) wanted.push_back(node->output(0));
    }
    if (wanted.empty()) return 0;
    auto made = evaluate(**runtime, model_, nodes_, wanted);
    if (!made.ok()) return 0;  // beyond the runtime: then it does not fold it either
    modernise_initializers(model_, context_);
    std::unordered_map<const Value*, Tensor> results;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      results.emplace(wanted[i], std::move((*made)[i]));
    }
    for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
      MCOMPRESS_TRY(store(**node, results));
    }
    return static_cast<std::int64_t>(nodes_.size());
  }

 private:
  void look_at(Node& node) {
    if (!restores_further(node) || node.outputs().size() != 1 || node.output(0) == nullptr ||
        !why_not_evaluable(node).empty()) {
      return;
    }
    const Value* behind = nullptr;
    for (const Value* value : node.inputs()) {
      if (value == nullptr) return;
      if (value->producer() != nullptr && inside_.contains(value->producer())) {
        behind = value;
      } else if (!is_constant(value)) {
        return;
      }
    }
    if (behind != nullptr) {
      // Broadcast, it would be larger than what it is made of.
      const auto before = static_shape(*behind), after = static_shape(*node.output(0));
      if (!before || before != after) return;
    } else if (!widens(node)) {
      return;
    }
    inside_.insert(&node);
    nodes_.push_back(&node);
  }

  // A Cast of a constant to a type of more bits. What that takes is added up.
  bool widens(const Node& node) {
    const auto data = node.is("Cast") ? constant_of(node.input(0)) : std::nullopt;
    if (!data || data->is_opaque()) return false;
    const DTypeInfo* from = find_dtype(data->dtype());
    const DTypeInfo* to = find_dtype(static_cast<DataType>(node.int_attribute("to", 0)));
    if (from == nullptr || to == nullptr || from->bits == 0 || from->bits >= to->bits) return false;
    const auto elements = static_cast<std::uint64_t>(data->elements());
    std::uint64_t more = 0;
    const unsigned bits = to->bits - from->bits;
    if (__builtin_mul_overflow(elements, bits, &more)) return false;
    growth_ += more / 8;
    return true;
  }

  Status store(Node& node, std::unordered_map<const Value*, Tensor>& results) {
    const std::vector<Value*> inputs(node.inputs().begin(), node.inputs().end());
    const auto result = results.find(node.output(0));
    if (result == results.end()) {
      MCOMPRESS_TRY(context_.edit().erase(node));  // its readers went before it
    } else {
      chose(context_, node, "restored: the weights stored in few bits are next to nothing");
      context_.edit().replace_by_constant(node, std::move(result->second));
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const bool seen = std::ranges::count(std::span(inputs).first(i), inputs[i]) > 0;
      if (!seen && is_constant(inputs[i])) MCOMPRESS_TRY(erase_unused(context_, *inputs[i]));
    }
    return ok_status();
  }

  Model& model_;
  PassContext& context_;
  std::vector<Node*> nodes_;  // in topological order
  std::unordered_set<const Node*> inside_;
  std::uint64_t growth_ = 0;
};

}  // namespace

Result<std::int64_t> restore_few_weights(Model& model, PassContext& context) {
  return WeightRestorer(model, context).run();
}

}  // namespace mcompress
