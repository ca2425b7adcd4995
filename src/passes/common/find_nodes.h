// Where passes begin: at the nodes of the operators they are about.
#pragma once

#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "ir/node_index.h"
#include "mcompress/pass.h"

namespace mcompress {

// The nodes of the default domain of one of these types, no type twice, in the model's graph and
// below it, outer graphs first. No walk of the graph unless it changed since somebody asked.
inline std::vector<Node*> find_nodes(PassContext& context, Model& model,
                                     std::span<const std::string_view> op_types) {
  return context.facts().of<NodeIndex>(model)->of(op_types);
}
inline std::vector<Node*> find_nodes(PassContext& context, Model& model,
                                     std::initializer_list<std::string_view> op_types) {
  return find_nodes(context, model, std::span(op_types.begin(), op_types.size()));
}

// All nodes, whatever their domain, in that order.
inline std::vector<Node*> find_nodes(PassContext& context, Model& model) {
  const auto index = context.facts().of<NodeIndex>(model);
  return {index->all().begin(), index->all().end()};
}

}  // namespace mcompress
