// Which node of one model is which node of another: by what they compute and how they are
// connected, whatever they are called.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// Content of a constant: type, dimensions, bytes. Tensors that only the loader can read (strings)
// are told apart by their size.
std::uint64_t content_digest(const Tensor& tensor);
// Everything but bodies.
std::uint64_t attribute_digest(const Node& node);
// What a graph computes from its inputs, names left out.
std::uint64_t body_digest(const Graph& graph);
// The data of an initializer (overridable or not) or of a Constant node.
std::optional<Tensor> data_of(const Value* value);
// A Constant node whose data can be read: such nodes are tensors here.
bool is_data_node(const Node& node);

using ValuePairs = std::vector<std::pair<const Value*, const Value*>>;
// Inputs (or outputs) of two graphs: equal names first, then the rest in order; null for what has
// no partner.
ValuePairs pair_ports(const std::vector<const Value*>& before,
                      const std::vector<const Value*>& after);
std::vector<const Value*> free_inputs(const Graph& graph);
std::vector<const Value*> all_outputs(const Graph& graph);

struct Alignment {
  // Execution order, nested graphs behind the node that holds them; Constant nodes left out.
  std::vector<const Node*> before, after;
  std::unordered_map<const Node*, const Node*> to_after, to_before;
};
Alignment align(const Model& before, const Model& after);

}  // namespace mcompress
