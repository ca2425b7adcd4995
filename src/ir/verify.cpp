#include <algorithm>
#include <bit>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ir/builder.h"
#include "ir/name_set.h"
#include "mcompress/ir.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Values by name, in one block of memory: eight bytes for each, at most half of them in use.
class NameTable {
 public:
  // Room for one name of each value of the model.
  explicit NameTable(std::size_t values)
      : entries_(std::bit_ceil(2 * values + 2)), mask_(entries_.size() - 1) {}

  // Enters the value under its name, in place of a value of that name that no longer counts; false:
  // the name is `taken`.
  template <class ValueOf, class Taken>
  bool enter(const Value& value, ValueOf&& value_of, Taken&& taken) {
    const std::uint64_t hash = std::hash<std::string_view>()(value.name());
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    for (std::size_t at = hash & mask_;; at = (at + 1) & mask_) {
      Entry& entry = entries_[at];
      if (entry.id != 0) {
        if (entry.tag != tag) continue;
        const Value& other = value_of(entry.id - 1);
        if (other.name() != value.name()) continue;
        if (taken(other)) return false;
      }
      entry = {tag, value.id() + 1};
      return true;
    }
  }

 private:
  struct Entry {
    std::uint32_t tag = 0;
    std::uint32_t id = 0;  // of the value, plus one; 0: free
  };
  std::vector<Entry> entries_;
  std::size_t mask_;
};

// Whether no two values have one name, whatever can be seen where: mostly so, and found without
// looking at any of them twice. False may only mean that two names look alike.
bool all_names_differ(const Model& model) {
  NameSet names(model.value_limit());
  return std::ranges::all_of(IrInternals::values(model), [&](const Value& value) {
    return IrInternals::erased(value) || names.insert(value.name());
  });
}

// How often a value is used, and a sum over where: equal for two lists of uses only when these
// are the same in some order, but for one chance in 2^64.
struct UseSum {
  std::uint32_t count = 0;
  std::uint64_t sum = 0;

  void add(const Graph* graph, const Node* node, std::uint32_t slot) {
    const auto mixed = [](std::uint64_t bits) {  // the finalizer of splitmix64
      bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9U;
      bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebU;
      return bits ^ (bits >> 31);
    };
    const auto place = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at); };
    ++count;
    sum += mixed(place(graph) * 0x9e3779b97f4a7c15U + place(node) * 0xd6e8feb86659fd93U +
                 (slot + 1) * 0xa0761d6478bd642fU);
  }
  bool operator==(const UseSum&) const = default;
};

class Verifier {
 public:
  explicit Verifier(const Model& model)
      : model_(model), visible_(model.value_limit()), uses_found_(model.value_limit()) {
    if (!all_names_differ(model)) names_.emplace(model.value_limit());
  }

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
      uses_found_[value->id()].add(&graph, nullptr, slot);
    }
    for (const Value* value : own) visible_[value->id()] = false;
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
    const auto value_of = [&](std::uint32_t id) -> const Value& {
      return IrInternals::values(model_)[id];
    };
    const auto seen = [&](const Value& other) { return visible_[other.id()]; };
    if (value.name().empty() || (names_ && !names_->enter(value, value_of, seen))) {
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
      uses_found_[value->id()].add(&graph, &node, slot);
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
    for (const Value& value : IrInternals::values(model_)) {
      if (IrInternals::erased(value)) continue;
      UseSum listed;
      for (const Use& use : value.uses()) listed.add(use.graph, use.node, use.slot);
      const UseSum& found = uses_found_[value.id()];
      if (listed == found) continue;
      if (listed.count == found.count) {
        return broken("verify-use", "a use is listed that does not exist", "graph", value.name());
      }
      return broken("verify-use",
                    std::to_string(listed.count) + " uses are listed, but " +
                        std::to_string(found.count) + " exist",
                    "graph", value.name());
    }
    return ok_status();
  }

  const Model& model_;
  std::vector<bool> visible_;       // by value id, while walking
  std::vector<UseSum> uses_found_;  // by value id
  std::optional<NameTable> names_;  // none where all names differ
};

}  // namespace

Status verify(const Model& model) { return Verifier(model).run(); }

}  // namespace mcompress
