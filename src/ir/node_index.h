// Where the nodes of an operator are.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// The nodes of a model's graph and of everything nested below it, by operator: found in one walk,
// so that those who look for a few of them need none. It holds until the model changes.
class NodeIndex {
 public:
  explicit NodeIndex(Model& model);
  // The nodes of the default domain of one of these types, no type twice; outer graphs first, as
  // for_each_graph() goes, and each graph in its order. Linear in what is found, times its
  // logarithm where there are several types.
  std::vector<Node*> of(std::span<const std::string_view> op_types) const;
  // All nodes, whatever their domain, in that order.
  std::span<Node* const> all() const { return nodes_; }

 private:
  std::vector<Node*> nodes_;
  std::unordered_map<std::string_view, std::vector<std::uint32_t>> places_;  // in `nodes_`
};

}  // namespace mcompress
