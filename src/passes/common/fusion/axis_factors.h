// The factors of its axes that a row of reshapes and transpositions moves as they are:
//
//   x: [8, 6]   Reshape [4, 2, 6]   Transpose<0,2,1>   Reshape [24, 2]
//   factors 4, 2 and 6 of x, of which 4 and 6 stand before 2 in the end
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "mcompress/ir.h"
#include "passes/common/fusion/symbolic_shapes.h"

namespace mcompress {

struct AxisFactors {
  Terms factors;                   // of the axes of what goes in, in their order
  std::vector<std::int64_t> perm;  // which of them stands where in the end
};

// Of nodes in the order in which they run, each of which reads the one before: Transpose, Reshape,
// Flatten, Squeeze and Unsqueeze. Factors that stay side by side count as one where both are known.
// Empty: axes are cut where no factor ends, or unknown dimensions hide that.
std::optional<AxisFactors> axis_factors(std::span<Node* const> row, const SymbolicShapes& shapes);

}  // namespace mcompress
