#include <algorithm>
#include <memory_resource>
#include <string>
#include <tuple>
#include <unordered_set>
#include <vector>

#include "ir/builder.h"
#include "mcompress/ir.h"
#include "support/try.h"

namespace mcompress {
namespace {

class Verifier {
 public:
  explicit Verifier(const Model& model)
      : model_(model), visible_(model.value_limit()), uses_found_(model.value_limit()) {}

  Status run() {
    MCOMPRESS_TRY(graph(model_.graph(), nullptr, "graph", true));
    for (const Function& function : model_.functions()) {
      MCOMPRESS_TRY(graph(*function.body, nullptr, "function/" + function.name, false));
    }
    return uses();
  }

 private:
  static Error broken(std::string_view id, std::string message, const std::string& path,
                      std::string_view subject) {
    return Error(Code::kInternal, id, std::move(message), {{}, path, std::string(subject)},
                 "this is an error in mcompress");
  }

  Status graph(const Graph& graph, const Node* owner, const std::string& path, bool check_opsets) {
    graphs_.insert(&graph);
    if (graph.owner() != owner) {
      return broken("verify-owner", "the graph does not know the node it belongs to", path,
                    graph.name());
    }
    std::vector<const Value*> own;
    const auto define = [&](const Value* value, const Node* producer) -> Status {
      MCOMPRESS_TRY(defined(graph, *value, producer, path));
      own.push_back(value);
      return ok_status();
    };
    for (const Value* value : graph.inputs()) {
      if (!value->is_graph_input()) {
        return broken("verify-input", "a graph input is not marked as one", path, value->name());
      }
      MCOMPRESS_TRY(define(value, nullptr));
    }
    for (const Value* value : graph.initializers()) {
      if (!value->is_initializer()) {
        return broken("verify-initializer", "an initializer has no data", path, value->name());
      }
      if (!holds_its_size(*value->initializer())) {
        return wrong_size(*value->initializer(), path, value->name());
      }
      if (!value->is_graph_input()) MCOMPRESS_TRY(define(value, nullptr));
    }
    std::size_t count = 0;
    const Node* before = nullptr;
    for (const Node* entry = graph.first(); entry != nullptr; entry = graph.next(*entry)) {
      if (++count > graph.node_count() || graph.previous(*entry) != before) break;
      MCOMPRESS_TRY(node(graph, *entry, path, check_opsets));
      for (const Value* value : entry->outputs()) {
        if (value != nullptr) MCOMPRESS_TRY(define(value, entry));
      }
      before = entry;
    }
    if (count != graph.node_count() || before != graph.last()) {
      return broken("verify-node-list", "the list of nodes is broken", path, graph.name());
    }
    for (std::uint32_t slot = 0; slot < graph.outputs().size(); ++slot) {
      const Value* value = graph.outputs()[slot];
      if (value == nullptr || !visible_[value->id()]) {
        return broken("verify-output",
                      "output " + std::to_string(slot) + " is not defined in the graph", path,
                      value == nullptr ? std::string_view() : value->name());
      }
      ++uses_found_[value->id()];
    }
    for (const Value* value : own) {
      visible_[value->id()] = false;
      names_.erase(value->name());
    }
    return ok_status();
  }

  Status defined(const Graph& graph, const Value& value, const Node* producer,
                 const std::string& path) {
    if (IrInternals::erased(value)) {
      return broken("verify-erased-value", "an erased value is still in use", path, value.name());
    }
    if (&value.graph() != &graph || value.producer() != producer) {
      return broken("verify-definition", "the value does not know where it is defined", path,
                    value.name());
    }
    // A name may come again only where the first one can no longer be seen.
    if (value.name().empty() || !names_.insert(value.name()).second) {
      return broken("verify-name", "two values that can be seen at once have the same name", path,
                    value.name());
    }
    visible_[value.id()] = true;
    return ok_status();
  }

  Status node(const Graph& graph, const Node& node, const std::string& path, bool check_opsets) {
    if (IrInternals::erased(node) || &node.graph() != &graph) {
      return broken("verify-node", "the node is erased or belongs to another graph", path,
                    node.label());
    }
    if (graph.pristine() && !node.pristine()) {
      return broken("verify-pristine", "the node was edited but its graph counts as untouched",
                    path, node.label());
    }
    if (check_opsets && model_.opset(node.domain()) == 0) {
      return broken("verify-opset",
                    "no operator set is imported for domain '" + std::string(node.domain()) + "'",
                    path, node.label());
    }
    for (std::uint32_t slot = 0; slot < node.inputs().size(); ++slot) {
      const Value* value = node.inputs()[slot];
      if (value == nullptr) continue;
      if (!visible_[value->id()]) {
        return broken("verify-order",
                      "input " + std::to_string(slot) + ", '" + std::string(value->name()) +
                          "', is not defined before this node",
                      path, node.label());
      }
      ++uses_found_[value->id()];
    }
    for (const Attribute& entry : node.attributes()) {
      const auto inner = [&] { return path + "/" + node.label() + "/" + entry.name; };
      if (const auto* held = std::get_if<Tensor>(&entry.value)) {
        if (!holds_its_size(*held)) return wrong_size(*held, inner(), node.label());
      } else if (const auto* many = std::get_if<std::vector<Tensor>>(&entry.value)) {
        for (const Tensor& one : *many) {
          if (!holds_its_size(one)) return wrong_size(one, inner(), node.label());
        }
      } else if (const auto* body = std::get_if<std::unique_ptr<Graph>>(&entry.value)) {
        MCOMPRESS_TRY(this->graph(**body, &node, inner(), check_opsets));
      } else if (const auto* bodies =
                     std::get_if<std::vector<std::unique_ptr<Graph>>>(&entry.value)) {
        for (const auto& one : *bodies) {
          MCOMPRESS_TRY(this->graph(*one, &node, inner(), check_opsets));
        }
      }
    }
    return ok_status();
  }

  static bool holds_its_size(const Tensor& tensor) {
    if (tensor.is_opaque()) return true;
    const auto expected = packed_bytes(tensor.dtype(), tensor.elements());
    return expected && *expected == tensor.storage()->size();
  }

  static Error wrong_size(const Tensor& tensor, const std::string& path, std::string_view subject) {
    return broken("verify-tensor",
                  std::to_string(tensor.elements()) + " elements of " + dtype_name(tensor.dtype()) +
                      " do not take " + std::to_string(tensor.storage()->size()) + " bytes",
                  path, subject);
  }

  // Every use a value lists must exist, once, and there must be no other.
  Status uses() {
    std::vector<std::tuple<const void*, bool, std::uint32_t>> listed;
    for (const Value& value : IrInternals::values(model_)) {
      if (IrInternals::erased(value)) continue;
      listed.clear();
      for (const Use& use : value.uses()) {
        const bool real = graphs_.contains(use.graph) &&
                          (use.node != nullptr ? !IrInternals::erased(*use.node) &&
                                                     &use.node->graph() == use.graph &&
                                                     use.node->input(use.slot) == &value
                                               : use.slot < use.graph->outputs().size() &&
                                                     use.graph->outputs()[use.slot] == &value);
        if (!real) {
          return broken("verify-use", "a use is listed that does not exist", "graph", value.name());
        }
        listed.emplace_back(use.node != nullptr ? static_cast<const void*>(use.node) : use.graph,
                            use.node != nullptr, use.slot);
      }
      std::sort(listed.begin(), listed.end());
      const bool doubled = std::adjacent_find(listed.begin(), listed.end()) != listed.end();
      if (doubled || listed.size() != uses_found_[value.id()]) {
        return broken("verify-use",
                      std::to_string(listed.size()) + " uses are listed, but " +
                          std::to_string(uses_found_[value.id()]) + " exist",
                      "graph", value.name());
      }
    }
    return ok_status();
  }

  const Model& model_;
  std::vector<bool> visible_;            // by value id, while walking
  std::vector<std::size_t> uses_found_;  // by value id
  // One entry per value of the model, made and dropped once a run: from one block of memory.
  std::pmr::monotonic_buffer_resource memory_;
  std::pmr::unordered_set<std::string_view> names_{&memory_};
  std::unordered_set<const Graph*> graphs_;
};

}  // namespace

Status verify(const Model& model) { return Verifier(model).run(); }

}  // namespace mcompress
