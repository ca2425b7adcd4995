// Which parts of a model can be run side by side, in one session.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// A part: its nodes, and the values that are handed in from outside.
struct PartNeeds {
  std::span<const Node* const> nodes;
  std::span<const Value* const> feeds;
};

// The places of `parts`, each in one group, in a time linear in their nodes and feeds. No node of a
// group makes what is handed to another part of it; nodes may be shared. The same groups for the
// same list; parts that stand side by side in it come together, as far as that goes.
std::vector<std::vector<std::size_t>> groups_of_parts(std::span<const PartNeeds> parts);

}  // namespace mcompress
