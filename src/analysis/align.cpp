// Three ways to know a node again, from sure to likely:
//
//   1. Hashes. Forward: operator, attributes, constants by content, and the forward hashes of what
//      it reads. Backward: operator, attributes, constants, and the backward hashes of its
//      readers. A change anywhere leaves the forward hashes before it and the backward hashes
//      behind it as they were.
//   2. Neighbours. From each pair along its edges: what both read in the same place, and what
//      reads both in the same way, is a pair when the operators agree; a few nodes that stand in
//      between on one side only are skipped.
//   3. What is left: nodes of one operator with the same partners around them, or in the same
//      stretch between partners; then nodes of different operators with the same partners around
//      them.
//
// Where several nodes look alike they are paired in order. All steps are linear but for sorting.
#include "analysis/align.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <span>
#include <string>

#include "ir/facts.h"
#include "support/hash.h"

namespace mcompress {
namespace {

class Mix {
 public:
  Mix& add(std::uint64_t value) {
    state_ = (state_ ^ value) * 0x9E3779B97F4A7C15ULL;
    state_ ^= state_ >> 32;
    return *this;
  }
  Mix& add(std::string_view text) { return add(text.empty() ? 0 : digest_bytes(text)); }
  std::uint64_t get() const { return state_; }

 private:
  std::uint64_t state_ = 0x243F6A8885A308D3ULL;
};

std::uint64_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

struct ValueHasher {
  Mix& mix;
  void operator()(std::int64_t value) const { mix.add(static_cast<std::uint64_t>(value)); }
  void operator()(float value) const { mix.add(bits_of(value)); }
  void operator()(const std::string& value) const { mix.add(value); }
  void operator()(const Tensor& value) const { mix.add(content_digest(value)); }
  void operator()(const AttributeRef& value) const { mix.add(value.of_function); }
  void operator()(const OpaqueAttribute&) const { mix.add(1); }
  void operator()(const std::unique_ptr<Graph>&) const {}
  void operator()(const std::vector<std::unique_ptr<Graph>>&) const {}
  template <class T>
  void operator()(const std::vector<T>& list) const {
    mix.add(list.size());
    for (const T& value : list) (*this)(value);
  }
};

constexpr std::int64_t kHeavy = 16;  // elements of a constant that tell a node from others

std::uint64_t operator_digest(const Node& node) {
  return Mix().add(node.domain()).add(node.op_type()).add(node.overload()).get();
}

// Hashes of one model.
class Hashes {
 public:
  void input(const Value* value, std::uint64_t number) {
    if (value != nullptr) values_.emplace(value, Mix().add(number).get());
  }
  void output(const Value* value, std::uint64_t number) {
    if (value != nullptr) outputs_.emplace(value, Mix().add(number).get());
  }

  void run(const Graph& graph) {
    forward(graph);
    backward(graph, 0, true);
  }

  std::uint64_t run_body(const Graph& graph) {
    std::uint64_t place = 0;
    for (const Value* input : graph.inputs()) values_.emplace(input, Mix().add(++place).get());
    forward(graph);
    Mix mix;
    for (const Value* output : graph.outputs()) mix.add(value(output));
    return mix.get();
  }

  std::uint64_t forward_of(const Node* node) const { return forward_.at(node); }
  std::uint64_t backward_of(const Node* node) const { return backward_.at(node); }
  // Of nodes with a weight worth the name; 0 for others.
  std::uint64_t local_of(const Node* node) const {
    const auto found = local_.find(node);
    return found == local_.end() ? 0 : found->second;
  }

 private:
  std::uint64_t value(const Value* value) {
    if (value == nullptr) return 0;
    const auto found = values_.find(value);
    if (found != values_.end()) return found->second;
    std::uint64_t hash = 2;  // a free name of a body that is hashed by itself
    if (const auto data = data_of(value)) hash = content_digest(*data);
    values_.emplace(value, hash);
    return hash;
  }

  void forward(const Graph& graph) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (is_data_node(*node)) continue;
      const std::uint64_t local =
          Mix().add(operator_digest(*node)).add(attribute_digest(*node)).get();
      own_.emplace(node, local);
      Mix mix;
      mix.add(local).add(node->outputs().size());
      for (const Value* input : node->inputs()) mix.add(value(input));
      const std::uint64_t outside = mix.get();
      for (const Graph* body : node->bodies()) {
        std::uint64_t place = 0;
        for (const Value* input : body->inputs()) {
          values_.emplace(input, Mix().add(outside).add(++place).get());
        }
        forward(*body);
        for (const Value* output : body->outputs()) mix.add(value(output));
      }
      forward_.emplace(node, mix.get());
      std::uint64_t slot = 0;
      for (const Value* output : node->outputs()) {
        ++slot;
        if (output != nullptr) values_.emplace(output, Mix().add(mix.get()).add(slot).get());
      }
    }
  }

  void backward(const Graph& graph, std::uint64_t owner, bool top) {
    for (const Node* node = graph.last(); node != nullptr; node = graph.previous(*node)) {
      if (is_data_node(*node)) continue;
      Mix constants;
      bool heavy = false;
      for (std::size_t i = 0; i < node->inputs().size(); ++i) {
        const auto data = data_of(node->input(i));
        if (!data) continue;
        heavy = heavy || data->elements() >= kHeavy;
        constants.add(i).add(value(node->input(i)));
      }
      const std::uint64_t local = Mix().add(own_.at(node)).add(constants.get()).get();
      if (heavy) local_.emplace(node, local);
      Mix mix;
      mix.add(local).add(node->inputs().size());
      for (const Value* output : node->outputs()) {
        std::uint64_t readers = 0;  // a sum: their order means nothing
        if (output != nullptr) {
          for (const Use& use : output->uses()) readers += reader(use, *output, graph, owner, top);
        }
        mix.add(readers);
      }
      backward_.emplace(node, mix.get());
      for (const Graph* body : node->bodies()) backward(*body, mix.get(), false);
    }
  }

  std::uint64_t reader(const Use& use, const Value& value, const Graph& graph, std::uint64_t owner,
                       bool top) const {
    if (use.node != nullptr) {
      const auto found = backward_.find(use.node);
      return Mix().add(found == backward_.end() ? 0 : found->second).add(use.slot).get();
    }
    if (top && use.graph == &graph) {
      const auto port = outputs_.find(&value);
      if (port != outputs_.end()) return port->second;
    }
    return Mix().add(owner).add(use.slot + std::uint64_t{3}).get();
  }

  std::unordered_map<const Value*, std::uint64_t> values_, outputs_;
  std::unordered_map<const Node*, std::uint64_t> own_, forward_, backward_, local_;
};

class Aligner {
 public:
  Aligner(const Model& before, const Model& after) : before_(before), after_(after) {}

  Alignment run() {
    collect(before_.graph(), result_.before);
    collect(after_.graph(), result_.after);
    const ValuePairs inputs = pair_ports(free_inputs(before_.graph()), free_inputs(after_.graph()));
    const ValuePairs outputs =
        pair_ports(all_outputs(before_.graph()), all_outputs(after_.graph()));
    std::uint64_t number = 0;
    for (const auto& [a, b] : inputs) left_.input(a, ++number), right_.input(b, number);
    for (const auto& [a, b] : outputs) left_.output(a, ++number), right_.output(b, number);
    left_.run(before_.graph());
    right_.run(after_.graph());
    by_hashes(Ties::kEqualCounts);
    for (const auto& [a, b] : inputs) link_readers(a, b);
    for (const auto& [a, b] : outputs) link_makers(a, b);
    follow();
    by_hashes(Ties::kAny);
    follow();
    for (const bool shapes : {true, false}) {
      for (int round = 0; round < 3; ++round) {
        by_partners(true);
        follow();
        by_anchor(true, shapes);
        follow();
        by_anchor(false, shapes);
        follow();
      }
    }
    by_partners(false);
    follow();
    return std::move(result_);
  }

 private:
  enum class Ties : std::uint8_t { kEqualCounts, kAny };
  using KeyFn = std::function<std::uint64_t(const Hashes&, const Node*)>;

  static void collect(const Graph& graph, std::vector<const Node*>& list) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (is_data_node(*node)) continue;
      list.push_back(node);
      for (const Graph* body : node->bodies()) collect(*body, list);
    }
  }

  bool open_before(const Node* node) const { return !result_.to_after.contains(node); }
  bool open_after(const Node* node) const { return !result_.to_before.contains(node); }

  void match(const Node* a, const Node* b) {
    result_.to_after.emplace(a, b);
    result_.to_before.emplace(b, a);
    queue_.emplace_back(a, b);
  }

  // Nodes of equal keys; 0 is no key.
  void by_key(Ties ties, const std::function<std::uint64_t(const Node*)>& left,
              const std::function<std::uint64_t(const Node*)>& right) {
    struct Group {
      std::vector<const Node*> before, after;
    };
    std::map<std::uint64_t, Group> groups;
    for (const Node* node : result_.before) {
      if (!open_before(node)) continue;
      if (const std::uint64_t key = left(node)) groups[key].before.push_back(node);
    }
    for (const Node* node : result_.after) {
      if (!open_after(node)) continue;
      const auto found = groups.find(right(node));
      if (found != groups.end()) found->second.after.push_back(node);
    }
    for (const auto& [key, group] : groups) {
      if (ties == Ties::kEqualCounts && group.before.size() != group.after.size()) continue;
      const std::size_t count = std::min(group.before.size(), group.after.size());
      for (std::size_t i = 0; i < count; ++i) match(group.before[i], group.after[i]);
    }
  }

  void by_hashes(Ties ties) {
    const auto round = [&](const KeyFn& key) {
      by_key(
          ties, [&](const Node* node) { return key(left_, node); },
          [&](const Node* node) { return key(right_, node); });
    };
    round([](const Hashes& hashes, const Node* node) {
      return Mix().add(hashes.forward_of(node)).add(hashes.backward_of(node)).get();
    });
    round([](const Hashes& hashes, const Node* node) { return hashes.forward_of(node); });
    round([](const Hashes& hashes, const Node* node) { return hashes.backward_of(node); });
    round([](const Hashes& hashes, const Node* node) { return hashes.local_of(node); });
  }

  // Partners around a node, each side under the second model's numbers.
  void by_partners(bool same_operator) {
    const auto name = [&](const Node* node, bool is_before) -> std::uint64_t {
      if (is_before) {
        const auto found = result_.to_after.find(node);
        return found == result_.to_after.end() ? 0 : std::uint64_t{found->second->id()} + 1;
      }
      return result_.to_before.contains(node) ? std::uint64_t{node->id()} + 1 : 0;
    };
    const auto key = [&](const Node* node, bool is_before) -> std::uint64_t {
      std::uint64_t makers = 0, readers = 0;
      for (const Value* input : node->inputs()) {
        const Node* maker = input != nullptr ? input->producer() : nullptr;
        const std::uint64_t number = maker != nullptr ? name(maker, is_before) : 0;
        if (number != 0) makers += Mix().add(number).get();
      }
      for (const Value* output : node->outputs()) {
        if (output == nullptr) continue;
        for (const Use& use : output->uses()) {
          const std::uint64_t number = use.node != nullptr ? name(use.node, is_before) : 1ULL << 40;
          if (number != 0) readers += Mix().add(number).get();
        }
      }
      if (makers == 0 && readers == 0) return 0;
      if (!same_operator && (makers == 0 || readers == 0)) return 0;
      return Mix().add(same_operator ? operator_digest(*node) : 0).add(makers).add(readers).get();
    };
    by_key(
        same_operator ? Ties::kAny : Ties::kEqualCounts,
        [&](const Node* node) { return key(node, true); },
        [&](const Node* node) { return key(node, false); });
  }

  // Nodes of one operator (and constants of the same shapes) in the same stretch of graph: behind
  // the same pair, or before it, along first inputs.
  void by_anchor(bool upwards, bool shapes) {
    const Anchors left = anchors(result_.before, upwards, true);
    const Anchors right = anchors(result_.after, upwards, false);
    const auto key = [&](const Anchors& anchors, const Node* node) -> std::uint64_t {
      const auto found = anchors.find(node);
      if (found == anchors.end() || found->second == 0) return 0;
      Mix mix;
      mix.add(operator_digest(*node)).add(found->second);
      for (std::size_t i = 0; shapes && i < node->inputs().size(); ++i) {
        const auto data = data_of(node->input(i));
        if (!data || data->elements() < kHeavy) continue;
        mix.add(i);
        for (const std::int64_t size : data->dims()) mix.add(static_cast<std::uint64_t>(size));
      }
      return mix.get();
    };
    by_key(
        Ties::kEqualCounts, [&](const Node* node) { return key(left, node); },
        [&](const Node* node) { return key(right, node); });
  }

  using Anchors = std::unordered_map<const Node*, std::uint64_t>;
  Anchors anchors(const std::vector<const Node*>& nodes, bool upwards, bool is_before) const {
    Anchors result;
    const auto at = [&](const Node* node) -> std::uint64_t {
      if (node == nullptr) return 0;
      const auto& partners = is_before ? result_.to_after : result_.to_before;
      const auto partner = partners.find(node);
      if (partner != partners.end()) {
        return std::uint64_t{(is_before ? partner->second : node)->id()} + 1;
      }
      const auto known = result.find(node);
      return known == result.end() ? 0 : known->second;
    };
    const auto visit = [&](const Node* node) {
      if (upwards) {
        result.emplace(node, at(maker(node->input(0))));
        return;
      }
      const Value* output = node->output(0);
      std::uint64_t anchor = 0;
      if (output != nullptr) {
        for (const Use& use : output->uses()) {
          if (anchor == 0) anchor = at(use.node);
        }
      }
      result.emplace(node, anchor);
    };
    if (upwards) {
      std::for_each(nodes.begin(), nodes.end(), visit);
    } else {
      std::for_each(nodes.rbegin(), nodes.rend(), visit);
    }
    return result;
  }

  static bool same_operator(const Node& a, const Node& b) {
    return a.op_type() == b.op_type() && a.domain() == b.domain() && a.overload() == b.overload();
  }

  // Null for data and for what nobody makes.
  static const Node* maker(const Value* value) {
    if (value == nullptr || value->producer() == nullptr) return nullptr;
    return is_data_node(*value->producer()) ? nullptr : value->producer();
  }

  static constexpr std::size_t kFarthest = 6;      // nodes that may be skipped on a side
  static constexpr std::size_t kMostReaders = 64;  // looked at around one value

  // Open nodes from `from` upwards, along first inputs.
  template <class IsOpen>
  static std::vector<const Node*> above(const Node* from, IsOpen&& is_open) {
    std::vector<const Node*> chain;
    while (from != nullptr && chain.size() < kFarthest && is_open(from)) {
      chain.push_back(from);
      from = maker(from->input(0));
    }
    return chain;
  }

  // The nearest two of one operator among what makes both values.
  void link_makers(const Value* va, const Value* vb) {
    const auto left = above(maker(va), [&](const Node* node) { return open_before(node); });
    const auto right = above(maker(vb), [&](const Node* node) { return open_after(node); });
    for (std::size_t sum = 0; sum + 1 < left.size() + right.size(); ++sum) {
      for (std::size_t i = 0; i <= sum && i < left.size(); ++i) {
        const std::size_t k = sum - i;
        if (k < right.size() && same_operator(*left[i], *right[k])) return match(left[i], right[k]);
      }
    }
  }

  struct Reader {
    const Node* node;
    std::uint64_t key;  // operator and slot
    std::size_t distance;
  };

  // Open readers of a value, and those behind them.
  template <class IsOpen>
  static std::vector<Reader> below(const Value& value, IsOpen&& is_open) {
    std::vector<Reader> list;
    const auto add = [&](const Value& from, std::size_t distance) {
      for (const Use& use : from.uses()) {
        if (use.node == nullptr || !is_open(use.node)) continue;
        if (distance > 0 && list.size() >= kMostReaders) return;
        list.push_back(
            {use.node, Mix().add(operator_digest(*use.node)).add(use.slot).get(), distance});
      }
    };
    add(value, 0);
    for (std::size_t i = 0; i < list.size() && list.size() < kMostReaders; ++i) {
      const Reader reader = list[i];
      const Value* output = reader.node->output(0);
      if (reader.distance + 1 < kFarthest && output != nullptr) add(*output, reader.distance + 1);
    }
    return list;
  }

  // The nearest readers that agree in operator and slot, as many on each side.
  void link_readers(const Value* va, const Value* vb) {
    if (va == nullptr || vb == nullptr) return;
    const auto left = below(*va, [&](const Node* node) { return open_before(node); });
    if (left.empty()) return;
    const auto right = below(*vb, [&](const Node* node) { return open_after(node); });
    struct Group {
      std::size_t left_distance = 0, right_distance = 0;
      std::vector<const Node*> before, after;
    };
    std::map<std::uint64_t, Group> groups;
    for (const Reader& reader : left) {
      Group& group = groups[reader.key];
      if (group.before.empty()) group.left_distance = reader.distance;
      if (group.left_distance == reader.distance) group.before.push_back(reader.node);
    }
    for (const Reader& reader : right) {
      Group& group = groups[reader.key];
      if (group.after.empty()) group.right_distance = reader.distance;
      if (group.right_distance == reader.distance) group.after.push_back(reader.node);
    }
    std::size_t nearest = 2 * kFarthest;
    for (const auto& [key, group] : groups) {
      if (group.before.empty() || group.before.size() != group.after.size()) continue;
      nearest = std::min(nearest, group.left_distance + group.right_distance);
    }
    for (const auto& [key, group] : groups) {
      if (group.before.size() != group.after.size() || group.before.empty()) continue;
      if (group.left_distance + group.right_distance != nearest) continue;
      for (std::size_t i = 0; i < group.before.size(); ++i) {
        if (open_before(group.before[i]) && open_after(group.after[i])) {
          match(group.before[i], group.after[i]);
        }
      }
    }
  }

  void follow() {
    while (!queue_.empty()) {
      const auto [a, b] = queue_.front();
      queue_.pop_front();
      const std::size_t inputs = std::min(a->inputs().size(), b->inputs().size());
      for (std::size_t i = 0; i < inputs; ++i) link_makers(a->input(i), b->input(i));
      // Operands that changed places.
      if (inputs == 2) {
        const Node* first = maker(a->input(0));
        const Node* second = maker(b->input(1));
        if (first != nullptr && second != nullptr && same_operator(*first, *second)) {
          link_makers(a->input(0), b->input(1));
          link_makers(a->input(1), b->input(0));
        }
      }
      const std::size_t outputs = std::min(a->outputs().size(), b->outputs().size());
      for (std::size_t i = 0; i < outputs; ++i) link_readers(a->output(i), b->output(i));
      const std::vector<Graph*> left = a->bodies(), right = b->bodies();
      if (left.size() != right.size()) continue;
      for (std::size_t i = 0; i < left.size(); ++i) {
        link_ports(left[i]->inputs(), right[i]->inputs(), false);
        link_ports(left[i]->outputs(), right[i]->outputs(), true);
      }
    }
  }

  void link_ports(std::span<Value* const> left, std::span<Value* const> right, bool outputs) {
    for (std::size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      outputs ? link_makers(left[i], right[i]) : link_readers(left[i], right[i]);
    }
  }

  const Model& before_;
  const Model& after_;
  Hashes left_, right_;
  Alignment result_;
  std::deque<std::pair<const Node*, const Node*>> queue_;
};

}  // namespace

std::uint64_t content_digest(const Tensor& tensor) {
  Mix mix;
  mix.add(static_cast<std::uint64_t>(tensor.dtype())).add(tensor.dims().size());
  for (const std::int64_t size : tensor.dims()) mix.add(static_cast<std::uint64_t>(size));
  return mix.add(tensor.is_opaque() ? tensor.byte_size() : tensor.storage()->digest()).get();
}

std::uint64_t attribute_digest(const Node& node) {
  std::uint64_t sum = 0;  // the order of attributes means nothing
  for (const Attribute& attribute : node.attributes()) {
    Mix mix;
    mix.add(attribute.name).add(attribute.value.index());
    std::visit(ValueHasher{mix}, attribute.value);
    sum += mix.get();
  }
  return sum;
}

std::uint64_t body_digest(const Graph& graph) { return Hashes().run_body(graph); }

std::optional<Tensor> data_of(const Value* value) {
  if (value == nullptr) return std::nullopt;
  if (value->is_initializer()) return *value->initializer();
  return constant_of(value);
}

bool is_data_node(const Node& node) {
  return node.is("Constant") && constant_node_data(node).has_value();
}

std::vector<const Value*> free_inputs(const Graph& graph) {
  std::vector<const Value*> list;
  for (const Value* value : graph.inputs()) {
    if (!value->is_initializer()) list.push_back(value);
  }
  return list;
}

std::vector<const Value*> all_outputs(const Graph& graph) {
  return {graph.outputs().begin(), graph.outputs().end()};
}

ValuePairs pair_ports(const std::vector<const Value*>& before,
                      const std::vector<const Value*>& after) {
  std::unordered_map<std::string_view, const Value*> by_name;
  for (const Value* value : after) by_name.emplace(value->name(), value);
  ValuePairs pairs;
  std::unordered_map<const Value*, bool> taken;
  for (const Value* value : before) {
    const auto same = by_name.find(value->name());
    const bool found = same != by_name.end() && taken.emplace(same->second, true).second;
    pairs.emplace_back(value, found ? same->second : nullptr);
  }
  auto next = after.begin();
  const auto skip = [&] {
    while (next != after.end() && taken.contains(*next)) ++next;
  };
  skip();
  for (auto& [left, right] : pairs) {
    if (right != nullptr || next == after.end()) continue;
    right = *next++;
    skip();
  }
  for (; next != after.end(); skip()) pairs.emplace_back(nullptr, *next++);
  return pairs;
}

Alignment align(const Model& before, const Model& after) { return Aligner(before, after).run(); }

}  // namespace mcompress
