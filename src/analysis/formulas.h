// What one run of one node computes. docs/inspect.md states the same formulas in words.
#pragma once

#include <cstdint>
#include <optional>

#include "analysis/shapes.h"

namespace mcompress {

struct Work {
  std::uint64_t macs = 0;
  std::uint64_t other = 0;  // operations that belong to no multiply-accumulate
};

// Empty: no formula for this operator, or a rank that the formula needs is unknown. Nodes with
// bodies do nothing themselves.
std::optional<Work> work_of(const Node& node, ShapeReader& shapes);

}  // namespace mcompress
