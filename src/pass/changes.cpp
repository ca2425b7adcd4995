#include "pass/changes.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <unordered_map>

#include "ir/builder.h"
#include "ir/facts.h"
#include "ir/part.h"
#include "ir/walk.h"

namespace mcompress {
namespace {

constexpr std::size_t kMostNeighbours = 64;  // taken into one change

std::uint32_t id_or(const Value* value) { return value == nullptr ? UINT32_MAX : value->id(); }

bool same_values(std::span<Value* const> left, std::span<Value* const> right) {
  return std::ranges::equal(left, right, {}, id_or, id_or);
}

bool same_tensor(const Tensor& left, const Tensor& right) {
  return left.storage() == right.storage() && left.dtype() == right.dtype() &&
         std::ranges::equal(left.dims(), right.dims());
}

// Graphs count as equal: their nodes are compared one by one.
bool same_attributes(const Node& left, const Node& right) {
  return std::ranges::equal(
      left.attributes(), right.attributes(), [](const Attribute& a, const Attribute& b) {
        if (a.name != b.name || a.value.index() != b.value.index()) return false;
        return std::visit(
            [&](const auto& held) {
              using T = std::decay_t<decltype(held)>;
              const T& other = std::get<T>(b.value);
              if constexpr (std::is_same_v<T, Tensor>) {
                return same_tensor(held, other);
              } else if constexpr (std::is_same_v<T, std::vector<Tensor>>) {
                return std::ranges::equal(held, other, same_tensor);
              } else if constexpr (std::is_same_v<T, std::int64_t> || std::is_same_v<T, float> ||
                                   std::is_same_v<T, std::string> ||
                                   std::is_same_v<T, std::vector<std::int64_t>> ||
                                   std::is_same_v<T, std::vector<float>> ||
                                   std::is_same_v<T, std::vector<std::string>>) {
                return held == other;
              } else if constexpr (std::is_same_v<T, AttributeRef>) {
                return held.of_function == other.of_function;
              } else {
                return true;
              }
            },
            a.value);
      });
}

// One state of the model, by id.
class State {
 public:
  explicit State(const Model& model) : model_(model), place_(model.node_limit(), kNowhere) {
    std::uint32_t place = 0;
    const auto visit = [&](const auto& self, const Graph& graph) -> void {
      graphs_.push_back(&graph);
      for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
        for (const Graph* body : node->bodies()) self(self, *body);
        place_[node->id()] = place++;
        order_.push_back(node);
      }
    };
    visit(visit, model.graph());
  }

  const Node* node(std::uint32_t id) const {
    if (id >= place_.size() || place_[id] == kNowhere) return nullptr;
    return order_[place_[id]];
  }
  const Value* value(std::uint32_t id) const {
    const auto& values = IrInternals::values(model_);
    if (id >= values.size() || IrInternals::erased(values[id])) return nullptr;
    return &values[id];
  }
  std::uint32_t place(const Node& node) const { return place_[node.id()]; }
  const std::vector<const Node*>& nodes() const { return order_; }
  const std::vector<const Graph*>& graphs() const { return graphs_; }

 private:
  static constexpr std::uint32_t kNowhere = UINT32_MAX;
  const Model& model_;
  std::vector<std::uint32_t> place_;
  std::vector<const Node*> order_;
  std::vector<const Graph*> graphs_;
};

bool same_node(const Node& before, const Node& after) {
  if (before.op_type() != after.op_type() || before.domain() != after.domain() ||
      !same_values(before.inputs(), after.inputs()) ||
      !same_values(before.outputs(), after.outputs()) || !same_attributes(before, after)) {
    return false;
  }
  for (std::size_t slot = 0; slot < before.inputs().size(); ++slot) {
    const Value* left = before.input(slot);
    const Value* right = after.input(slot);
    if (left == nullptr || left->constant() == nullptr || right->constant() == nullptr) continue;
    if (!same_tensor(*left->constant(), *right->constant())) return false;
  }
  return true;
}

class Comparison {
 public:
  Comparison(const Model& before, const Model& after, std::size_t depth)
      : before_(before),
        after_(after),
        depth_(depth),
        leader_(std::max(before.value_limit(), after.value_limit()) +
                std::max(before.node_limit(), after.node_limit())),
        first_node_(std::max(before.value_limit(), after.value_limit())) {
    std::iota(leader_.begin(), leader_.end(), std::uint32_t{0});
  }

  Changes run() {
    for (const Node* node : before_.nodes()) {
      const Node* now = after_.node(node->id());
      if (now != nullptr && same_node(*node, *now)) continue;
      changed_.insert(node->id());
    }
    for (const Node* node : after_.nodes()) {
      if (before_.node(node->id()) == nullptr) changed_.insert(node->id());
    }
    pair_graph_outputs();
    for (const std::uint32_t id : changed_) {
      for (const State* state : {&before_, &after_}) {
        if (const Node* node = state->node(id)) link(*node);
      }
    }
    std::map<std::uint32_t, std::vector<std::uint32_t>> groups;
    for (const std::uint32_t id : changed_) groups[find(node_key(id))].push_back(id);
    Changes changes;
    for (auto& [leader, ids] : groups) {
      changes.each.push_back(make_change({ids.begin(), ids.end()}));
    }
    changes.all = joined(changes.each);
    return changes;
  }

 private:
  std::uint32_t node_key(std::uint32_t id) const {
    return static_cast<std::uint32_t>(first_node_) + id;
  }
  std::uint32_t find(std::uint32_t key) {
    while (leader_[key] != key) key = leader_[key] = leader_[leader_[key]];
    return key;
  }
  void join(std::uint32_t a, std::uint32_t b) {
    const std::uint32_t left = find(a), right = find(b);
    leader_[std::max(left, right)] = std::min(left, right);
  }

  void link(const Node& node) {
    for (const Value* value : node.outputs()) {
      if (value != nullptr) join(node_key(node.id()), value->id());
    }
    for (const Value* value : node.inputs()) {
      if (value == nullptr || value->producer() == nullptr) continue;
      if (changed_.contains(value->producer()->id())) join(node_key(node.id()), value->id());
    }
  }

  // The outputs of a graph keep their places, whatever values take them.
  void pair_graph_outputs() {
    std::unordered_map<std::uint64_t, const Graph*> bodies;
    const auto key = [](const Graph& graph) -> std::optional<std::uint64_t> {
      if (graph.owner() == nullptr) return 0;
      const auto list = graph.owner()->bodies();
      const auto found = std::ranges::find(list, &graph);
      return ((std::uint64_t{graph.owner()->id()} + 1) << 16) +
             static_cast<std::uint64_t>(found - list.begin());
    };
    for (const Graph* graph : before_.graphs()) bodies.emplace(*key(*graph), graph);
    for (const Graph* graph : after_.graphs()) {
      const auto found = bodies.find(*key(*graph));
      if (found == bodies.end()) continue;
      const auto then = found->second->outputs(), now = graph->outputs();
      for (std::size_t i = 0; i < std::min(then.size(), now.size()); ++i) {
        if (then[i] == nullptr || now[i] == nullptr) continue;
        if (then[i]->id() == now[i]->id()) continue;
        renamed_.emplace(then[i]->id(), std::pair(then[i], now[i]));
        // The two must be compared, so their makers belong together.
        for (const Value* value : {then[i], now[i]}) {
          if (value->producer() == nullptr) continue;
          changed_.insert(value->producer()->id());
          join(node_key(value->producer()->id()), then[i]->id());
        }
      }
    }
  }

  using Ids = std::set<std::uint32_t>;

  static std::vector<const Node*> nodes_of(const State& state, const Ids& ids) {
    std::vector<const Node*> nodes;
    for (const std::uint32_t id : ids) {
      if (const Node* node = state.node(id)) nodes.push_back(node);
    }
    std::ranges::sort(nodes, {}, [&](const Node* node) { return state.place(*node); });
    return nodes;
  }

  // What the nodes read and none of them makes.
  static Ids read_by(const std::vector<const Node*>& nodes) {
    Ids made, read;
    for (const Node* node : nodes) {
      for (const Value* value : node->outputs()) {
        if (value != nullptr) made.insert(value->id());
      }
    }
    for (const Node* node : nodes) {
      for (const Value* value : node->inputs()) {
        if (value != nullptr && !made.contains(value->id()) && !is_constant(value)) {
          read.insert(value->id());
        }
      }
    }
    return read;
  }

  // Of 8 bits: codes, which no operator takes for sizes or indices.
  static bool is_integer(const Value& value) {
    switch (element_type(value)) {
      case DataType::kInt16:
      case DataType::kInt32:
      case DataType::kInt64:
      case DataType::kUint16:
      case DataType::kUint32:
      case DataType::kUint64:
        return true;
      default:
        return false;
    }
  }

  // The node that has to come into both parts with what they read; null: none. `inputs` gets what
  // they read when there is none.
  const Node* missing(const Ids& before, const Ids& after, const Change& change) const {
    for (const std::uint32_t id : after) {
      const Value* then = before_.value(id);
      const Value* now = after_.value(id);
      const bool shared = then != nullptr && before.contains(id);
      const Node* maker = now->producer();
      if (maker != nullptr && (!shared || is_integer(*now))) return maker;
      if (!shared && then != nullptr && then->producer() != nullptr) return then->producer();
    }
    for (const std::uint32_t id : before) {
      const Value* then = before_.value(id);
      if (then->producer() != nullptr && is_integer(*then)) return then->producer();
    }
    // An output whose new maker stands outside.
    for (const auto& [then, now] : change.outputs) {
      if (then->producer() == nullptr || now->producer() == nullptr) continue;
      if (std::ranges::find(change.after, now->producer()) == change.after.end() &&
          !before.contains(now->id())) {
        return now->producer();
      }
    }
    return nullptr;
  }

  // One level more of what the parts stand on.
  bool take_makers(const Ids& before, const Ids& after, Ids& ids) const {
    bool grown = false;
    for (const auto& [state, read] : {std::pair(&before_, &before), std::pair(&after_, &after)}) {
      for (const std::uint32_t id : *read) {
        const Node* maker = state->value(id)->producer();
        if (maker != nullptr && ids.insert(maker->id()).second) grown = true;
      }
    }
    return grown;
  }

  void find_outputs(const Ids& ids, Change& change) const {
    std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
    const auto add = [&](const Value* then, const Value* now) {
      if (seen.emplace(then->id(), now->id()).second) change.outputs.emplace_back(then, now);
    };
    const auto outside = [&](const Value& value) {
      return std::ranges::any_of(value.uses(), [&](const Use& use) {
        return use.node == nullptr || !ids.contains(use.node->id());
      });
    };
    const auto look = [&](const Node& node) {
      for (const Value* value : node.outputs()) {
        if (value == nullptr) continue;
        if (const auto other = renamed_.find(value->id()); other != renamed_.end()) {
          add(other->second.first, other->second.second);
        }
        const Value* then = before_.value(value->id());
        const Value* now = after_.value(value->id());
        if (then != nullptr && now != nullptr && outside(*now)) add(then, now);
      }
    };
    for (const Node* node : change.before) look(*node);
    for (const Node* node : change.after) look(*node);
  }

  Change make_change(Ids ids) const {
    Change change;
    const std::size_t most = ids.size() + kMostNeighbours * (depth_ + 1);
    for (std::size_t level = 0;;) {
      change = {};
      change.before = nodes_of(before_, ids);
      change.after = nodes_of(after_, ids);
      find_outputs(ids, change);
      const Ids before = read_by(change.before), after = read_by(change.after);
      const Node* neighbour = missing(before, after, change);
      if (ids.size() < most) {
        if (neighbour != nullptr && ids.insert(neighbour->id()).second) continue;
        if (level < depth_ && take_makers(before, after, ids)) {
          ++level;
          continue;
        }
      }
      if (neighbour != nullptr) change.why_not = "it depends on too much around it";
      for (const std::uint32_t id : before) {
        change.inputs.emplace_back(before_.value(id), after_.value(id));
      }
      for (const auto& [then, now] : change.outputs) {
        if (now->producer() != nullptr || is_constant(now) || before.contains(now->id())) continue;
        change.why_not = "its output became '" + std::string(now->name()) + "'";
      }
      for (const std::uint32_t id : after) {
        if (before.contains(id)) continue;
        change.why_not = "'" + std::string(after_.value(id)->name()) + "' was not read before";
      }
      break;
    }
    for (const auto* list : {&change.before, &change.after}) {
      for (const Node* node : *list) {
        if (std::string why = why_no_part(*node); !why.empty() && change.why_not.empty()) {
          change.why_not = "'" + node->label() + "': " + why;
        }
        if (change.why_not.empty() && node->domain().empty() && !is_deterministic(*node)) {
          change.why_not = "'" + node->label() + "' may give another result each time";
        }
      }
    }
    return change;
  }

  Change joined(const std::vector<Change>& changes) const {
    Change all;
    Ids before, after;
    std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
    for (const Change& change : changes) {
      if (!change.why_not.empty()) continue;
      for (const Node* node : change.before) before.insert(node->id());
      for (const Node* node : change.after) after.insert(node->id());
      for (const auto& pair : change.outputs) {
        if (seen.emplace(pair.first->id(), pair.second->id()).second) all.outputs.push_back(pair);
      }
    }
    all.before = nodes_of(before_, before);
    all.after = nodes_of(after_, after);
    for (const std::uint32_t id : read_by(all.before)) {
      all.inputs.emplace_back(before_.value(id), after_.value(id));
    }
    return all;
  }

  State before_, after_;
  std::size_t depth_;
  std::set<std::uint32_t> changed_;  // ids of nodes
  std::unordered_map<std::uint32_t, std::pair<const Value*, const Value*>> renamed_;
  std::vector<std::uint32_t> leader_;  // union-find over values, then nodes
  std::size_t first_node_;
};

}  // namespace

Changes changes_between(const Model& before, const Model& after, std::size_t depth) {
  return Comparison(before, after, depth).run();
}

}  // namespace mcompress
