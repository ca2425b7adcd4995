// How an operator works on tensors whose dimensions stand in another order.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

// v = Transpose(v', perm): dimension i of v is dimension perm[i] of v'.
using Permutation = std::vector<std::int64_t>;

bool is_identity(const Permutation& perm);
// Of Transpose(Transpose(x, inner), outer).
Permutation compose(const Permutation& inner, const Permutation& outer);
// Of a Transpose whose rank is known; empty: not.
std::optional<Permutation> permutation_of(const Node& transpose);

// What stays to be done so that a node makes v' of each output v, reading v' of its inputs.
struct LayoutMove {
  std::vector<std::size_t> slots;      // inputs that are read in the other order; not constants
  std::vector<std::size_t> constants;  // inputs whose data are put in the other order
  std::vector<Permutation> outputs;    // of each output
};

// The permutation of a value that is to be read in another order; null: it is not.
using PermutationOf = std::function<const Permutation*(const Value&)>;

// Empty: the operator, or one of its inputs, does not allow it.
std::optional<LayoutMove> layout_move(const Node& node, const PermutationOf& permutation_of);

// Changes attributes and constants. The inputs in `move.slots` are left to the caller.
Status apply_layout_move(Node& node, const LayoutMove& move, const Permutation& input,
                         PassContext& context);

}  // namespace mcompress
