// Nodes that compute the same thing become one (common subexpressions):
//
//   s1 = Shape(x), s2 = Shape(x)   =>   s1 = Shape(x), readers of s2 read s1
//
// Same operator, inputs (in any order where that makes no difference) and attributes, and
// deterministic. A node of a nested graph gives way to an equal one of the graphs around it that
// comes before. In topological order, so that equal chains collapse from their beginning.
#include <algorithm>
#include <array>
#include <bit>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/fusion/same_graph.h"
#include "passes/common/opsets.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

class EliminateDuplicates final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit EliminateDuplicates(Options) {}

  Status run(Model& model, PassContext& context) override {
    // Before that, the second operand may be aligned by an attribute.
    commutes_ = model.opset("") >= kNumpyBroadcast;
    heads_.assign(std::bit_ceil(model.node_limit() + 1), 0);
    MCOMPRESS_TRY(merge_in(model.graph(), context));
    context.report().count("merged", merged_);
    return ok_status();
  }

 private:
  // `seen_` holds what can be seen from here: of this graph and of those around it.
  Status merge_in(Graph& graph, PassContext& context) {
    const std::size_t outside = seen_.size();
    for (Node* node : graph.nodes()) {
      for (Graph* body : node->bodies()) MCOMPRESS_TRY(merge_in(*body, context));
      const auto key = key_of(*node);
      if (!key) continue;
      bool merged = false;
      std::uint32_t& head = heads_[*key & (heads_.size() - 1)];
      for (std::uint32_t at = head; at != 0 && !merged; at = seen_[at - 1].before) {
        if (seen_[at - 1].key != *key) continue;
        Node& other = *seen_[at - 1].node;
        MCOMPRESS_ASSIGN(const bool same, same_work(*node, other));
        if (!same) continue;
        MCOMPRESS_ASSIGN(merged, merge(*node, other, context));
      }
      if (merged) continue;
      seen_.push_back({*key, node, head});
      head = static_cast<std::uint32_t>(seen_.size());
    }
    while (seen_.size() > outside) {
      heads_[seen_.back().key & (heads_.size() - 1)] = seen_.back().before;
      seen_.pop_back();
    }
    return ok_status();
  }

  // Inputs in an order of their own where the operator does not care about it.
  std::vector<const Value*> operands(const Node& node) const {
    static constexpr std::array<std::string_view, 10> kCommutative = {
        "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Mul", "Or", "Sum", "Xor"};
    std::vector<const Value*> list(node.inputs().begin(), node.inputs().end());
    while (!list.empty() && list.back() == nullptr) list.pop_back();
    if (commutes_ && list.size() == 2 && list[0] != nullptr && list[1] != nullptr &&
        std::ranges::find(kCommutative, node.op_type()) != kCommutative.end()) {
      std::ranges::sort(list, {}, [](const Value* value) { return value->id(); });
    }
    return list;
  }

  // Leaving a result out changes none of the others.
  static bool has_optional_outputs(const Node& node) {
    static constexpr std::array<std::string_view, 6> kOptional = {
        "Dropout", "GRU", "LSTM", "LayerNormalization", "MaxPool", "RNN"};
    return std::ranges::find(kOptional, node.op_type()) != kOptional.end();
  }

  std::optional<std::uint64_t> key_of(const Node& node) const {
    if (!is_deterministic(node) || node.outputs().empty()) return std::nullopt;
    Hasher hasher;
    hasher.text(node.op_type());
    if (!has_optional_outputs(node)) hasher.integer(node.outputs().size());
    for (const Value* value : operands(node)) {
      hasher.integer(value != nullptr ? std::uint64_t{value->id()} + 1 : 0);
    }
    // The order in which attributes are written does not matter.
    std::uint64_t attributes = 0;
    for (const Attribute& entry : node.attributes()) {
      Hasher one;
      one.text(entry.name);
      if (!hash_attribute(entry.value, one)) return std::nullopt;
      attributes += one.digest();
    }
    return hasher.integer(attributes).digest();
  }

  // Whether all that `node` makes, `other` makes as well.
  Result<bool> same_work(const Node& node, const Node& other) const {
    if (node.op_type() != other.op_type() ||
        node.attributes().size() != other.attributes().size() ||
        operands(node) != operands(other)) {
      return false;
    }
    if (!has_optional_outputs(node) && node.outputs().size() != other.outputs().size()) {
      return false;
    }
    for (std::size_t i = 0; i < node.outputs().size(); ++i) {
      if (node.output(i) != nullptr && !node.output(i)->uses().empty() &&
          other.output(i) == nullptr) {
        return false;
      }
    }
    for (const Attribute& entry : node.attributes()) {
      const AttributeValue* same_name = other.attribute(entry.name);
      if (same_name == nullptr) return false;
      MCOMPRESS_ASSIGN(const bool same, same_attribute(entry.value, *same_name));
      if (!same) return false;
    }
    return true;
  }

  Result<bool> merge(Node& node, Node& other, PassContext& context) {
    for (std::size_t i = 0; i < node.outputs().size(); ++i) {
      if (node.output(i) == nullptr || node.output(i)->uses().empty()) continue;
      std::string why = context.edit().why_not_replace(*node.output(i), *other.output(i));
      if (why.empty() && node.output(i)->is_graph_output() && other.output(i)->is_graph_output()) {
        why = "both are graph outputs";
      }
      if (why.empty()) continue;
      context.explain().skipped(node,
                                "it does the work of '" + other.label() + "' again, but " + why);
      return false;
    }
    chose(context, node, "does the work of '" + other.label() + "' again");
    for (std::size_t i = 0; i < node.outputs().size(); ++i) {
      if (node.output(i) == nullptr || node.output(i)->uses().empty()) continue;
      MCOMPRESS_TRY(context.edit().replace_all(*node.output(i), *other.output(i)));
    }
    MCOMPRESS_TRY(context.edit().erase(node));
    ++merged_;
    return true;
  }

  // Of one bucket, the last one first: numbers count from one, 0 ends the list.
  struct Seen {
    std::uint64_t key = 0;
    Node* node = nullptr;
    std::uint32_t before = 0;
  };
  std::vector<Seen> seen_;
  std::vector<std::uint32_t> heads_;  // a power of two of buckets
  bool commutes_ = false;
  std::int64_t merged_ = 0;
};

}  // namespace

PassInfo eliminate_duplicates_info() {
  return pass_info<EliminateDuplicates>("eliminate-duplicates",
                                        "merge nodes that compute the same values",
                                        Reach::kNestedGraphs, true, {"dedup-initializers"});
}

}  // namespace mcompress
