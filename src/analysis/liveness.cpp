// Peak memory of activations in the order of the file.
//
// A value is alive from the node that makes it to the last node that reads it, both included. A
// reader inside a body counts as the node that holds the body. While a body runs, what is alive
// around its node is there too:
//
//   If:          everything alive but its results, and the branch that needs most
//   Loop, Scan:  everything alive, results included (they grow), and the body
#include <algorithm>
#include <array>
#include <unordered_map>

#include "analysis/shapes.h"
#include "ir/facts.h"

namespace mcompress {
namespace {

__extension__ using Wide = unsigned __int128;  // sums of sizes that have saturated each

std::uint64_t narrow(Wide bytes) {
  return bytes > kCountLimit ? kCountLimit : static_cast<std::uint64_t>(bytes);
}

// The output shares the memory of the first input.
bool is_view(const Node& node) {
  static constexpr auto kViews = std::to_array<std::string_view>(
      {"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"});
  return node.domain().empty() && std::ranges::find(kViews, node.op_type()) != kViews.end();
}

// Memory that one or more values of a graph share.
struct Block {
  const Value* value = nullptr;  // the largest
  std::uint64_t bytes = 0;
  std::size_t from = 0, to = 0;  // positions of nodes
};

struct Peak {
  Wide bytes = 0;
  const Node* node = nullptr;
  const Graph* graph = nullptr;
  std::vector<LiveValue> alive;
};

class Planner {
 public:
  explicit Planner(const PinnedShapes& shapes) : reader_(shapes) {}

  MemoryPlan run(const Graph& graph) {
    Peak peak = plan(graph);
    MemoryPlan result;
    result.peak_bytes = narrow(peak.bytes);
    result.node = peak.node;
    if (peak.graph != nullptr) result.graph = graph_path(*peak.graph);
    result.alive = std::move(peak.alive);
    std::stable_sort(result.alive.begin(), result.alive.end(),
                     [](const LiveValue& a, const LiveValue& b) { return a.bytes > b.bytes; });
    result.total_bytes = narrow(total_);
    result.values = values_;
    result.saturated = result.total_bytes == kCountLimit || result.peak_bytes == kCountLimit;
    const auto note = [&](std::uint64_t count, std::string_view what) {
      if (count == 0) return;
      result.notes.push_back(std::to_string(count) + (count == 1 ? " value " : " values ") +
                             std::string(what));
    };
    note(assumed_, "with dimensions that only the data tell, taken as 1");
    note(unknown_, "of unknown type or rank, taken as no memory");
    return result;
  }

 private:
  Peak plan(const Graph& graph) {
    std::vector<const Node*> nodes;
    std::unordered_map<const Node*, std::size_t> places;
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      places.emplace(node, nodes.size());
      nodes.push_back(node);
    }
    std::vector<Block> blocks;
    std::unordered_map<const Value*, std::size_t> block_of;
    const auto add = [&](const Value* value, std::size_t at) {
      if (value == nullptr) return;
      const std::uint64_t bytes = size_of(*value);
      block_of.emplace(value, blocks.size());
      blocks.push_back(
          {value, bytes, at, std::max(at, last_use(*value, graph, places, nodes.size()))});
      total_ += bytes;
    };
    for (const Value* value : graph.inputs()) {
      if (!value->is_initializer()) add(value, 0);
    }
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const Node& node = *nodes[i];
      if (is_constant(node.output(0))) continue;
      const auto source = is_view(node) ? block_of.find(node.input(0)) : block_of.end();
      std::size_t slot = 0;
      if (source != block_of.end() && node.output(0) != nullptr) {
        const std::uint64_t bytes = size_of(*node.output(0));
        Block& block = blocks[source->second];
        if (bytes > block.bytes) block.bytes = bytes, block.value = node.output(0);
        block.to = std::max(block.to, last_use(*node.output(0), graph, places, nodes.size()));
        block_of.emplace(node.output(0), source->second);
        slot = 1;
      }
      for (; slot < node.outputs().size(); ++slot) add(node.output(slot), i);
    }
    return find_peak(graph, nodes, blocks);
  }

  Peak find_peak(const Graph& graph, const std::vector<const Node*>& nodes,
                 const std::vector<Block>& blocks) {
    Peak best;
    best.graph = &graph;
    std::vector<std::vector<std::size_t>> born(nodes.size()), dying(nodes.size() + 1);
    Wide alive = 0;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      if (nodes.empty()) alive += blocks[b].bytes;
      if (!nodes.empty()) born[std::min(blocks[b].from, nodes.size() - 1)].push_back(b);
      dying[std::min(blocks[b].to, nodes.size())].push_back(b);
    }
    best.bytes = alive;
    std::size_t place = 0;
    bool results_apart = false;
    std::vector<LiveValue> inside;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      Wide before = alive;
      for (const std::size_t b : born[i]) {
        alive += blocks[b].bytes;
        if (is_input(blocks[b])) before += blocks[b].bytes;
      }
      if (best.node == nullptr || alive > best.bytes) {
        best.bytes = alive, best.node = nodes[i], best.graph = &graph;
        place = i, results_apart = false;
        inside.clear();
      }
      for (const Graph* body : nodes[i]->bodies()) {
        Peak peak = plan(*body);
        const bool apart = nodes[i]->is("If");
        const Wide all = peak.bytes + (apart ? before : alive);
        if (all <= best.bytes) continue;
        best.bytes = all, best.graph = peak.graph;
        best.node = peak.node != nullptr ? peak.node : nodes[i];
        place = i, results_apart = apart;
        inside = std::move(peak.alive);
      }
      for (const std::size_t b : dying[i]) alive -= blocks[b].bytes;
    }
    best.alive = std::move(inside);
    const std::string path = graph_path(graph);
    for (const Block& block : blocks) {
      if (block.bytes == 0 || block.from > place || block.to < place) continue;
      if (results_apart && block.from == place && !is_input(block)) continue;
      best.alive.push_back({block.value, path, block.bytes});
    }
    return best;
  }

  static bool is_input(const Block& block) { return block.value->producer() == nullptr; }

  // The place of the last reader; `end` for an output of the graph.
  static std::size_t last_use(const Value& value, const Graph& graph,
                              const std::unordered_map<const Node*, std::size_t>& places,
                              std::size_t end) {
    std::size_t last = 0;
    for (const Use& use : value.uses()) {
      const Node* reader = use.node;
      const Graph* at = use.graph;
      while (at != &graph && at != nullptr) {
        reader = at->owner();
        at = reader != nullptr ? &reader->graph() : nullptr;
      }
      if (reader == nullptr) return end;
      const auto place = places.find(reader);
      if (place != places.end()) last = std::max(last, place->second);
    }
    return last;
  }

  std::uint64_t size_of(const Value& value) {
    ++values_;
    static_cast<void>(reader_.take_assumed());
    const auto bytes = reader_.bytes(&value);
    if (reader_.take_assumed()) ++assumed_;
    if (!bytes) ++unknown_;
    return bytes.value_or(0);
  }

  ShapeReader reader_;
  Wide total_ = 0;
  std::uint64_t values_ = 0, assumed_ = 0, unknown_ = 0;
};

}  // namespace

MemoryPlan plan_memory(const Model& model, const PinnedShapes& shapes) {
  return Planner(shapes).run(model.graph());
}

}  // namespace mcompress
