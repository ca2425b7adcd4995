// Nodes of one graph that compute the same thing become one (common subexpressions):
//
//   s1 = Shape(x), s2 = Shape(x)   =>   s1 = Shape(x), readers of s2 read s1
//
// Same operator, inputs and attributes, and deterministic. In topological order, so that equal
// chains collapse from their beginning.
#include <cstring>
#include <unordered_map>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/hash.h"
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

// False when the value can not be compared.
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

class EliminateDuplicates final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit EliminateDuplicates(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Graph*> graphs;
    for_each_graph(model.graph(), [&](Graph& graph) { graphs.push_back(&graph); });
    for (Graph* graph : graphs) MCOMPRESS_TRY(merge_in(*graph, context));
    context.report().count("merged", merged_);
    return ok_status();
  }

 private:
  Status merge_in(Graph& graph, PassContext& context) {
    std::unordered_map<std::uint64_t, std::vector<Node*>> seen;
    for (Node* node : graph.nodes()) {
      const auto key = key_of(*node);
      if (!key) continue;
      std::vector<Node*>& earlier = seen[*key];
      bool merged = false;
      for (Node* other : earlier) {
        MCOMPRESS_ASSIGN(const bool same, same_work(*node, *other));
        if (!same) continue;
        MCOMPRESS_ASSIGN(merged, merge(*node, *other, context));
        break;
      }
      if (!merged) earlier.push_back(node);
    }
    return ok_status();
  }

  static std::optional<std::uint64_t> key_of(const Node& node) {
    if (!is_deterministic(node) || node.outputs().empty()) return std::nullopt;
    Hasher hasher;
    hasher.text(node.op_type()).integer(node.outputs().size());
    for (const Value* value : node.inputs()) {
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

  static Result<bool> same_work(const Node& left, const Node& right) {
    if (left.op_type() != right.op_type() ||
        left.attributes().size() != right.attributes().size() ||
        !std::ranges::equal(left.inputs(), right.inputs()) ||
        left.outputs().size() != right.outputs().size()) {
      return false;
    }
    for (std::size_t i = 0; i < left.outputs().size(); ++i) {
      if ((left.output(i) == nullptr) != (right.output(i) == nullptr)) return false;
    }
    for (const Attribute& entry : left.attributes()) {
      const AttributeValue* other = right.attribute(entry.name);
      if (other == nullptr) return false;
      MCOMPRESS_ASSIGN(const bool same, same_attribute(entry.value, *other));
      if (!same) return false;
    }
    return true;
  }

  Result<bool> merge(Node& node, Node& other, PassContext& context) {
    for (std::size_t i = 0; i < node.outputs().size(); ++i) {
      if (node.output(i) == nullptr) continue;
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
      if (node.output(i) == nullptr) continue;
      MCOMPRESS_TRY(context.edit().replace_all(*node.output(i), *other.output(i)));
    }
    MCOMPRESS_TRY(context.edit().erase(node));
    ++merged_;
    return true;
  }

  std::int64_t merged_ = 0;
};

}  // namespace

PassInfo eliminate_duplicates_info() {
  return pass_info<EliminateDuplicates>("eliminate-duplicates",
                                        "merge nodes that compute the same values",
                                        Reach::kNestedGraphs, true, {"dedup-initializers"});
}

}  // namespace mcompress
