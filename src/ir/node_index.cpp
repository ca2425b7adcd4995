#include "ir/node_index.h"

#include <algorithm>

#include "ir/walk.h"

namespace mcompress {

NodeIndex::NodeIndex(Model& model) {
  nodes_.reserve(model.graph().node_count());
  // Names of operators are there once in a model: one look at the name for each of them.
  std::unordered_map<const OperatorName*, std::vector<std::uint32_t>*> lists;
  for_each_graph(model.graph(), [&](Graph& graph) {
    for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      const auto [known, first] = lists.try_emplace(&node->called(), nullptr);
      if (first && node->domain().empty()) known->second = &places_[node->op_type()];
      if (known->second != nullptr) {
        known->second->push_back(static_cast<std::uint32_t>(nodes_.size()));
      }
      nodes_.push_back(node);
    }
  });
}

std::vector<Node*> NodeIndex::of(std::span<const std::string_view> op_types) const {
  std::vector<std::uint32_t> places;
  std::size_t lists = 0;
  for (const std::string_view op_type : op_types) {
    const auto found = places_.find(op_type);
    if (found == places_.end()) continue;
    places.insert(places.end(), found->second.begin(), found->second.end());
    ++lists;
  }
  if (lists > 1) std::ranges::sort(places);
  std::vector<Node*> nodes;
  nodes.reserve(places.size());
  for (const std::uint32_t place : places) nodes.push_back(nodes_[place]);
  return nodes;
}

}  // namespace mcompress
