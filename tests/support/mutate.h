// Spells an ONNX model in other ways that compute the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mcompress::testing {

struct Mutant {
  std::string bytes;
  std::vector<std::string> mutations;  // what was done, in order: "cast pair at 'x'"
};

// Changes the model in `count` places: nodes that hand a tensor on, pairs that undo each other,
// copies of constants and nodes, branches nobody reads; new names for all values inside; another
// topological order. Depends on the seed alone.
Mutant mutate(const std::string& model, std::uint64_t seed, int count);

}  // namespace mcompress::testing
