// What a pass changed: nodes before, nodes after, and the values at the border.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// Nodes that hang together and whose graph differs between two states of a model.
struct Change {
  std::vector<const Node*> before, after;  // topological; the same node may be in both
  // Values that must be equal, in the state before and in the state after.
  std::vector<std::pair<const Value*, const Value*>> outputs;
  // Values that feed both parts: what the part after reads, the part before reads too. The second
  // may be null: gone by now.
  std::vector<std::pair<const Value*, const Value*>> inputs;
  std::string why_not;  // why the parts can not be run beside each other; empty: they can
};

struct Changes {
  std::vector<Change> each;
  Change all;  // those that can be run, as one
};

// Compares a model with a clone of an earlier state of it, in which nodes and values have the same
// ids. Neighbours that did not change are taken in where the parts would read different values, or
// an integer that some node computes (a shape, an index: made-up ones would not do); and `depth`
// levels of what the parts stand on, for changes that are only right for what comes from there, as
// the second Relu of two. n log n in the nodes that changed, linear in the model.
Changes changes_between(const Model& before, const Model& after, std::size_t depth = 0);

}  // namespace mcompress
