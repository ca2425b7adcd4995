// Where the elements of a tensor stand in the one that reshaping, transposing and cutting made it
// of. The axes of the tensor are atoms; an index along an axis of its origin is a sum of them:
//
//   y: [b, n, s, h]   Transpose<0,2,1,3>(Reshape(x, [0, 0, N, H]))
//   x: [b, s, H n + h]
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "mcompress/ir.h"
#include "passes/common/fusion/symbolic_shapes.h"

namespace mcompress {

// stride * (index along axis `atom` of the tensor), which has `size` elements.
struct AxisPart {
  std::size_t atom = 0;
  std::int64_t stride = 1;
  Term size;
};
// offset + the sum of the parts. Atoms of one element are left out.
struct AxisIndex {
  std::vector<AxisPart> parts;
  std::int64_t offset = 0;
  bool whole = true;  // it takes every value along the axis
  // It is the index along that axis of `size` elements, and nothing else.
  bool is(std::size_t atom, Term size) const;
};
using AxisLayout = std::vector<AxisIndex>;  // one index per axis

// Of a tensor with these dimensions in itself; axis i is atom atoms[i].
AxisLayout own_layout(const Terms& dims, const std::vector<std::size_t>& atoms);

// The same elements in row order under other dimensions (of as many elements). Empty: an axis of
// `to` is no sum of atoms, or unknown dimensions hide that.
std::optional<AxisLayout> reshaped_layout(const AxisLayout& layout, const Terms& from,
                                          const Terms& to);

// Where the elements stand in the first input of a node, given where they stand in its output
// number `output`. Known: Transpose, Reshape, Flatten, Squeeze, Unsqueeze, Identity, Split, and
// Slice and Gather by constants. Empty: another operator, or one that does more than that.
std::optional<AxisLayout> layout_before(const Node& node, std::size_t output,
                                        const AxisLayout& layout, const SymbolicShapes& shapes);
// Where they stand in the output of a Transpose, Reshape, Flatten, Squeeze, Unsqueeze or Identity,
// given where they stand in its input of dimensions `dims`, which become those of the output.
// Empty as above.
std::optional<AxisLayout> layout_behind(const Node& node, const AxisLayout& layout, Terms& dims,
                                        const SymbolicShapes& shapes);

}  // namespace mcompress
