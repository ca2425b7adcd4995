// Work of all nodes, bodies as often as they run.
#include <algorithm>
#include <map>
#include <set>
#include <unordered_set>

#include "analysis/align.h"
#include "analysis/formulas.h"
#include "analysis/shapes.h"
#include "ir/facts.h"

namespace mcompress {
namespace {

using Certainty = NodeCost::Certainty;

std::string operator_name(const Node& node) {
  return node.domain().empty() ? std::string(node.op_type())
                               : std::string(node.domain()) + ":" + std::string(node.op_type());
}

std::string counted_list(const std::map<std::string, std::uint64_t>& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    text += (text.empty() ? "" : ", ") + name + " " + std::to_string(count);
  }
  return text;
}

class Counter {
 public:
  Counter(const Model& model, const PinnedShapes& shapes) : model_(model), shapes_(shapes) {}

  ModelCost run() {
    for (const Function& function : model_.functions()) {
      functions_.insert(function.domain + ":" + function.name);
    }
    graph(model_.graph(), 1);
    for (const NodeCost& node : cost_.nodes) {
      cost_.macs = plus(cost_.macs, node.macs);
      cost_.flops = plus(cost_.flops, node.flops);
      cost_.parameters = plus(cost_.parameters, node.parameters);
      cost_.weight_bytes = plus(cost_.weight_bytes, node.weight_bytes);
    }
    cost_.saturated = cost_.macs == kCountLimit || cost_.flops == kCountLimit ||
                      cost_.parameters == kCountLimit || cost_.weight_bytes == kCountLimit;
    notes();
    return std::move(cost_);
  }

 private:
  struct Sum {
    std::uint64_t macs = 0, flops = 0;
  };

  // What one run of the graph costs, times `repeats` in the entries.
  Sum graph(const Graph& graph, std::uint64_t repeats) {
    Sum sum;
    const std::string path = graph_path(graph);
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      const std::size_t place = cost_.nodes.size();
      cost_.nodes.emplace_back();
      NodeCost entry = own(*node, repeats);
      entry.graph = path;
      sum.macs = plus(sum.macs, entry.macs);
      sum.flops = plus(sum.flops, entry.flops);
      cost_.nodes[place] = std::move(entry);
      const std::vector<Graph*> bodies = node->bodies();
      if (bodies.empty()) continue;
      const Sum inside =
          node->is("If") ? branches(bodies, repeats) : rounds(*node, bodies, repeats);
      sum.macs = plus(sum.macs, inside.macs);
      sum.flops = plus(sum.flops, inside.flops);
    }
    return sum;
  }

  NodeCost own(const Node& node, std::uint64_t repeats) {
    NodeCost entry;
    entry.node = &node;
    entry.repeats = repeats;
    static_cast<void>(reader_.take_assumed());
    const bool call =
        functions_.contains(std::string(node.domain()) + ":" + std::string(node.op_type()));
    if (const auto work = call ? std::nullopt : work_of(node, reader_)) {
      entry.macs = times(work->macs, repeats);
      entry.flops = times(plus(times(work->macs, 2), work->other), repeats);
    } else {
      entry.certainty = Certainty::kUnknown;
      ++unknown_[operator_name(node) + (call ? " (a function)" : "")];
    }
    if (reader_.take_assumed() && entry.certainty == Certainty::kExact) {
      entry.certainty = Certainty::kAssumed;
      ++assumed_;
    }
    for (const Value* input : node.inputs()) {
      if (input == nullptr || seen_.contains(input)) continue;
      const auto data = data_of(input);
      if (!data) continue;
      seen_.insert(input);
      hold(*data, entry);
    }
    return entry;
  }

  static void hold(const Tensor& tensor, NodeCost& entry) {
    entry.parameters = plus(entry.parameters, static_cast<std::uint64_t>(tensor.elements()));
    entry.weight_bytes = plus(entry.weight_bytes, tensor.byte_size());
  }

  // One branch runs: the one that costs most counts, the others not.
  Sum branches(const std::vector<Graph*>& bodies, std::uint64_t repeats) {
    ++choices_;
    Sum most;
    std::size_t best_begin = 0, best_end = 0;
    const std::size_t begin = cost_.nodes.size();
    for (const Graph* body : bodies) {
      const std::size_t from = cost_.nodes.size();
      const Sum sum = graph(*body, repeats);
      if (best_end == 0 || std::pair(sum.macs, sum.flops) > std::pair(most.macs, most.flops)) {
        most = sum;
        best_begin = from, best_end = cost_.nodes.size();
      }
    }
    for (std::size_t i = begin; i < cost_.nodes.size(); ++i) {
      if (i >= best_begin && i < best_end) continue;
      cost_.nodes[i].repeats = cost_.nodes[i].macs = cost_.nodes[i].flops = 0;
    }
    return most;
  }

  Sum rounds(const Node& node, const std::vector<Graph*>& bodies, std::uint64_t repeats) {
    const std::uint64_t count = times(repeats, round_count(node));
    Sum sum;
    for (const Graph* body : bodies) {
      const Sum inside = graph(*body, count);
      sum.macs = plus(sum.macs, inside.macs);
      sum.flops = plus(sum.flops, inside.flops);
    }
    return sum;
  }

  std::uint64_t round_count(const Node& node) {
    if (node.is("Loop")) {
      // A constant trip count is what runs, unless the condition ends it earlier.
      const auto trips = constant_ints(node.input(0), 1);
      if (trips && trips->size() == 1) {
        return static_cast<std::uint64_t>(std::max<std::int64_t>(trips->front(), 0));
      }
    } else if (node.is("Scan")) {
      const std::int64_t scanned = node.int_attribute("num_scan_inputs", 0);
      const auto axes = node.ints_attribute("scan_input_axes");
      const std::size_t slot =
          node.inputs().size() - static_cast<std::size_t>(std::clamp<std::int64_t>(
                                     scanned, 0, static_cast<std::int64_t>(node.inputs().size())));
      const Value* sequence = node.input(slot);
      const auto sizes = reader_.sizes(sequence);
      std::int64_t axis = axes && !axes->empty() ? axes->front() : 0;
      if (sizes && axis < 0) axis += static_cast<std::int64_t>(sizes->size());
      const bool assumed = reader_.take_assumed();
      if (sizes && axis >= 0 && axis < static_cast<std::int64_t>(sizes->size()) && !assumed) {
        return (*sizes)[static_cast<std::size_t>(axis)];
      }
    }
    ++open_loops_[node.label()];
    return 1;
  }

  void notes() {
    std::vector<std::string>& notes = cost_.notes;
    if (!shapes_.assumed.empty()) {
      std::string text = "taken as 1, as no size was given: ";
      for (std::size_t i = 0; i < shapes_.assumed.size(); ++i) {
        text += (i == 0 ? "" : ", ") + shapes_.assumed[i];
      }
      notes.push_back(text);
    }
    if (assumed_ > 0) {
      notes.push_back("dimensions that only the data tell were taken as 1 in " +
                      std::to_string(assumed_) + (assumed_ == 1 ? " node" : " nodes"));
    }
    if (!unknown_.empty()) notes.push_back("not counted: " + counted_list(unknown_));
    if (choices_ > 0) notes.push_back("of an If the branch that costs most is counted");
    if (!open_loops_.empty()) {
      notes.push_back("one round is counted where only the data tell how many: " +
                      counted_list(open_loops_));
    }
  }

  const Model& model_;
  const PinnedShapes& shapes_;
  ShapeReader reader_{shapes_};
  ModelCost cost_;
  std::set<std::string> functions_;
  std::unordered_set<const Value*> seen_;
  std::map<std::string, std::uint64_t> unknown_, open_loops_;
  std::uint64_t assumed_ = 0, choices_ = 0;
};

}  // namespace

ModelCost cost_of(const Model& model, const PinnedShapes& shapes) {
  return Counter(model, shapes).run();
}

}  // namespace mcompress
