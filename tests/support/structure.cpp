#include "support/structure.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "support/hash.h"

namespace mcompress::testing {
namespace {

// Every value gets the hash of what computes it, from the inputs on; a graph is the hashes of its
// outputs in order and those of all its nodes, sorted.
class Canonical {
 public:
  Structure run(const Model& model) {
    Hasher hasher;
    for (const auto& [domain, version] : model.opsets()) {
      hasher.text(domain).integer(static_cast<std::uint64_t>(version));
    }
    hasher.integer(graph(model.graph()));
    result_.fingerprint = hasher.digest();
    return std::move(result_);
  }

 private:
  std::uint64_t graph(const Graph& graph) {
    for (std::size_t i = 0; i < graph.inputs().size(); ++i) {
      const Value& value = *graph.inputs()[i];
      Hasher hasher;
      hasher.text("input").integer(i);
      if (value.type() != nullptr) {
        hasher.integer(static_cast<std::uint64_t>(value.type()->element));
      }
      hashes_[&value] = hasher.digest();
    }
    for (const Value* value : graph.initializers()) {
      if (value->is_graph_input()) continue;
      Hasher hasher;
      hasher.text("initializer").integer(tensor(*value->initializer()));
      hashes_[value] = hasher.digest();
    }
    std::vector<std::uint64_t> nodes;
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      nodes.push_back(this->node(*node));
    }
    std::ranges::sort(nodes);
    Hasher hasher;
    hasher.integer(graph.inputs().size()).integer(graph.initializers().size());
    for (const Value* value : graph.outputs()) hasher.integer(of(value));
    for (const std::uint64_t hash : nodes) hasher.integer(hash);
    return hasher.digest();
  }

  std::uint64_t node(const Node& node) {
    ++result_.operators[std::string(node.op_type())];
    Hasher hasher;
    hasher.text(node.domain()).text(node.op_type()).text(node.overload());
    hasher.integer(node.inputs().size());
    for (const Value* value : node.inputs()) hasher.integer(of(value));
    std::vector<const Attribute*> sorted;
    for (const Attribute& attribute : node.attributes()) sorted.push_back(&attribute);
    std::ranges::sort(sorted, {}, &Attribute::name);
    for (const Attribute* attribute : sorted) {
      hasher.text(attribute->name).integer(attribute->value.index());
      std::visit([&](const auto& held) { add(hasher, held); }, attribute->value);
    }
    const std::uint64_t own = hasher.digest();
    for (std::size_t i = 0; i < node.outputs().size(); ++i) {
      if (node.outputs()[i] == nullptr) continue;
      Hasher output;
      output.integer(own).integer(i);
      hashes_[node.outputs()[i]] = output.digest();
    }
    return own;
  }

  std::uint64_t of(const Value* value) const {
    const auto found = hashes_.find(value);
    return found == hashes_.end() ? 0 : found->second;
  }

  static std::uint64_t tensor(const Tensor& tensor) {
    Hasher hasher;
    hasher.integer(static_cast<std::uint64_t>(tensor.dtype()));
    for (const std::int64_t size : tensor.dims()) hasher.integer(static_cast<std::uint64_t>(size));
    hasher.integer(tensor.is_opaque() ? tensor.byte_size() : tensor.storage()->digest());
    return hasher.digest();
  }

  void add(Hasher& hasher, std::int64_t value) {
    hasher.integer(static_cast<std::uint64_t>(value));
  }
  void add(Hasher& hasher, float value) { hasher.bytes(std::as_bytes(std::span(&value, 1))); }
  void add(Hasher& hasher, const std::string& value) { hasher.text(value); }
  void add(Hasher& hasher, const Tensor& value) { hasher.integer(tensor(value)); }
  void add(Hasher& hasher, const AttributeRef& value) { hasher.text(value.of_function); }
  void add(Hasher&, const OpaqueAttribute&) {}
  void add(Hasher& hasher, const std::unique_ptr<Graph>& value) { hasher.integer(graph(*value)); }
  template <class T>
  void add(Hasher& hasher, const std::vector<T>& list) {
    hasher.integer(list.size());
    for (const T& value : list) add(hasher, value);
  }

  std::unordered_map<const Value*, std::uint64_t> hashes_;
  Structure result_;
};

}  // namespace

Structure structure_of(const Model& model) { return Canonical().run(model); }

std::string difference_in_operators(const Structure& expected, const Structure& found) {
  std::map<std::string, std::pair<int, int>> both;
  for (const auto& [name, count] : expected.operators) both[name].first = count;
  for (const auto& [name, count] : found.operators) both[name].second = count;
  std::string text;
  for (const auto& [name, counts] : both) {
    if (counts.first == counts.second) continue;
    text += (text.empty() ? "" : ", ") + name + " " + std::to_string(counts.second) +
            " instead of " + std::to_string(counts.first);
  }
  return text;
}

}  // namespace mcompress::testing
