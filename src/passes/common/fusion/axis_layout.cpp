#include "passes/common/fusion/axis_layout.h"

#include <algorithm>

#include "ir/facts.h"

namespace mcompress {
namespace {

using Size = std::optional<std::int64_t>;

Size number_of(const Term& term) { return term.known() ? Size(term.number) : std::nullopt; }
Size times(Size left, Size right) {
  std::int64_t product = 0;
  if (!left || !right || __builtin_mul_overflow(*left, *right, &product)) return std::nullopt;
  return product;
}

// Elements between neighbours along each of the axes [first, last) when they are one block. Empty:
// a dimension that is not the first of them is unknown.
std::optional<std::vector<std::int64_t>> block_strides(const Terms& dims, std::size_t first,
                                                       std::size_t last) {
  std::vector<std::int64_t> strides(last - first, 1);
  Size stride = 1;
  for (std::size_t i = last; i-- > first;) {
    if (!stride || *stride <= 0) return std::nullopt;
    strides[i - first] = *stride;
    if (i > first) stride = times(stride, number_of(dims[i]));
  }
  return strides;
}

// The left ends of the smallest blocks of axes that end at `i` and `j` and have as many elements.
// Where a dimension is unknown, all that is left is one block, except for what is the same on the
// left.
struct Blocks {
  std::size_t from = 0, to = 0;
};
std::optional<Blocks> blocks_at(const Terms& from, std::size_t i, const Terms& to, std::size_t j) {
  Blocks left{i - 1, j - 1};
  Size before = number_of(from[left.from]), after = number_of(to[left.to]);
  while (before && after && *before != *after) {
    if (*before < *after) {
      if (left.from == 0) return std::nullopt;
      before = times(before, number_of(from[--left.from]));
    } else {
      if (left.to == 0) return std::nullopt;
      after = times(after, number_of(to[--left.to]));
    }
  }
  if (before && after) return left;
  std::size_t same = 0;
  while (same + 1 < std::min(i, j) && from[same] == to[same]) ++same;
  return Blocks{same, same};
}

// Digits of a number in the mixed radix of the axes of a block: no digit may carry.
bool spread(const AxisIndex& flat, const std::vector<std::int64_t>& strides, const Terms& to,
            std::size_t first, AxisLayout& result) {
  const std::size_t count = strides.size();
  std::int64_t rest = flat.offset;
  for (std::size_t k = 0; k < count; ++k) {
    result[first + k].offset = rest / strides[k];
    rest %= strides[k];
  }
  for (const AxisPart& part : flat.parts) {
    std::size_t k = 0;
    while (k + 1 < count && strides[k] > part.stride) ++k;
    if (part.stride % strides[k] != 0) return false;
    result[first + k].parts.push_back({part.atom, part.stride / strides[k], part.size});
  }
  for (std::size_t k = 1; k < count; ++k) {
    Size most = result[first + k].offset;
    for (const AxisPart& part : result[first + k].parts) {
      const Size span = part.size.known() ? times(part.stride, part.size.number - 1) : std::nullopt;
      if (!span || !most || __builtin_add_overflow(*most, *span, &*most)) return false;
    }
    if (*most >= to[first + k].number) return false;
  }
  return true;
}

// The index takes every value along an axis of a known size.
bool covers(const AxisIndex& index, const Term& size) {
  Size product = 1;
  for (const AxisPart& part : index.parts) product = times(product, number_of(part.size));
  return index.offset == 0 && size.known() && product == size.number;
}

bool keeps_order(const Node& node) {
  return node.is("Reshape") || node.is("Flatten") || node.is("Squeeze") || node.is("Unsqueeze") ||
         node.is("Identity");
}

std::optional<std::vector<std::size_t>> axes_of_transpose(const Node& node, std::size_t rank) {
  std::vector<std::size_t> result;
  const auto perm = node.ints_attribute("perm");
  if (perm && perm->size() != rank) return std::nullopt;
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t axis = perm ? (*perm)[i] : static_cast<std::int64_t>(rank - 1 - i);
    if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) return std::nullopt;
    result.push_back(static_cast<std::size_t>(axis));
  }
  return result;
}

std::optional<std::size_t> axis_in(std::int64_t axis, std::size_t rank) {
  if (axis < 0) axis += static_cast<std::int64_t>(rank);
  if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) return std::nullopt;
  return static_cast<std::size_t>(axis);
}

// A position counted from the end where it is negative.
std::optional<std::int64_t> position_in(std::int64_t position, const Term& size) {
  if (position >= 0) return position;
  if (!size.known() || position + size.number < 0) return std::nullopt;
  return position + size.number;
}

std::optional<AxisLayout> before_split(const Node& node, std::size_t output, AxisLayout layout,
                                       const SymbolicShapes& shapes) {
  const auto axis = axis_in(node.int_attribute("axis", 0), layout.size());
  if (!axis) return std::nullopt;
  layout[*axis].whole = false;
  for (std::size_t i = 0; i < output; ++i) {
    const Terms* part = node.output(i) != nullptr ? shapes.dims(*node.output(i)) : nullptr;
    if (part == nullptr || part->size() != layout.size() || !(*part)[*axis].known()) {
      return std::nullopt;
    }
    layout[*axis].offset += (*part)[*axis].number;
  }
  return layout;
}

std::optional<AxisLayout> before_slice(const Node& node, const Terms& from, AxisLayout layout) {
  const IntsParameter starts = ints_parameter(node, "starts", 1);
  const IntsParameter axes = ints_parameter(node, "axes", 3);
  const IntsParameter steps = ints_parameter(node, "steps", 4);
  if (!starts.values || !axes.known || !steps.known) return std::nullopt;
  for (std::size_t i = 0; i < starts.values->size(); ++i) {
    if (axes.values && axes.values->size() != starts.values->size()) return std::nullopt;
    if (steps.values && (i >= steps.values->size() || (*steps.values)[i] != 1)) return std::nullopt;
    const auto axis =
        axis_in(axes.values ? (*axes.values)[i] : static_cast<std::int64_t>(i), layout.size());
    const auto start = axis ? position_in((*starts.values)[i], from[*axis]) : std::nullopt;
    if (!start) return std::nullopt;
    layout[*axis].offset += *start;
    layout[*axis].whole = false;
  }
  return layout;
}

std::optional<AxisLayout> before_gather(const Node& node, const Terms& from, AxisLayout layout) {
  const auto index = constant_scalar(node.input(1));
  const auto rank = node.input(1) != nullptr ? rank_of(*node.input(1)) : std::nullopt;
  const auto axis = axis_in(node.int_attribute("axis", 0), from.size());
  if (!index || !axis || !rank || *rank > 1 || layout.size() != from.size() - 1 + *rank) {
    return std::nullopt;
  }
  const auto start = position_in(static_cast<std::int64_t>(*index), from[*axis]);
  if (!start) return std::nullopt;
  const auto place = layout.begin() + static_cast<std::ptrdiff_t>(*axis);
  if (*rank == 0) {
    layout.insert(place, AxisIndex{{}, *start, false});
  } else {
    place->offset += *start;
    place->whole = false;
  }
  return layout;
}

}  // namespace

bool AxisIndex::is(std::size_t atom, Term size) const {
  if (offset != 0) return false;
  if (size.is(1)) return parts.empty();
  return parts.size() == 1 && parts[0].atom == atom && parts[0].stride == 1 &&
         parts[0].size == size;
}

AxisLayout own_layout(const Terms& dims, const std::vector<std::size_t>& atoms) {
  AxisLayout result(dims.size());
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (!dims[i].is(1)) result[i].parts.push_back({atoms[i], 1, dims[i]});
  }
  return result;
}

std::optional<AxisLayout> reshaped_layout(const AxisLayout& layout, const Terms& from,
                                          const Terms& to) {
  if (layout.size() != from.size()) return std::nullopt;
  AxisLayout result(to.size());
  std::size_t i = from.size(), j = to.size();
  while (i > 0 || j > 0) {
    if (i > 0 && j > 0 && from[i - 1] == to[j - 1]) {
      result[--j] = layout[--i];
      continue;
    }
    if (i > 0 && from[i - 1].is(1)) {
      --i;
      continue;
    }
    if (j > 0 && to[j - 1].is(1)) {
      --j;
      continue;
    }
    if (i == 0 || j == 0) return std::nullopt;
    const auto left = blocks_at(from, i, to, j);
    if (!left) return std::nullopt;
    const auto old_strides = block_strides(from, left->from, i);
    const auto new_strides = block_strides(to, left->to, j);
    if (!old_strides || !new_strides) return std::nullopt;
    AxisIndex flat;
    for (std::size_t k = left->from; k < i; ++k) {
      const std::int64_t stride = (*old_strides)[k - left->from];
      flat.offset += layout[k].offset * stride;
      for (const AxisPart& part : layout[k].parts) {
        const Size product = times(part.stride, stride);
        if (!product) return std::nullopt;
        flat.parts.push_back({part.atom, *product, part.size});
      }
    }
    if (!spread(flat, *new_strides, to, left->to, result)) return std::nullopt;
    // Where all else is covered on both sides, what is left on the left is covered as well.
    bool full = true;
    for (std::size_t k = left->from; k < i; ++k) full = full && layout[k].whole;
    for (std::size_t k = left->to + 1; k < j; ++k) {
      result[k].whole = covers(result[k], to[k]);
      full = full && result[k].whole;
    }
    AxisIndex& leading = result[left->to];
    leading.whole = full;
    if (full && leading.parts.size() == 1 && leading.parts[0].stride == 1) {
      leading.parts[0].size = to[left->to];
      if (to[left->to].is(1)) leading.parts.clear();
    }
    i = left->from;
    j = left->to;
  }
  return result;
}

std::optional<AxisLayout> layout_before(const Node& node, std::size_t output,
                                        const AxisLayout& layout, const SymbolicShapes& shapes) {
  if (node.input(0) == nullptr || node.output(output) == nullptr) return std::nullopt;
  const Terms* from = shapes.dims(*node.input(0));
  const Terms* to = shapes.dims(*node.output(output));
  if (from == nullptr || to == nullptr || to->size() != layout.size()) return std::nullopt;
  if (keeps_order(node)) return reshaped_layout(layout, *to, *from);
  if (node.is("Transpose")) {
    const auto axes = axes_of_transpose(node, from->size());
    if (!axes || layout.size() != axes->size()) return std::nullopt;
    AxisLayout result(axes->size());
    for (std::size_t i = 0; i < axes->size(); ++i) result[(*axes)[i]] = layout[i];
    return result;
  }
  if (node.is("Gather")) return before_gather(node, *from, layout);
  if (from->size() != layout.size()) return std::nullopt;
  if (node.is("Split")) return before_split(node, output, layout, shapes);
  if (node.is("Slice")) return before_slice(node, *from, layout);
  return std::nullopt;
}

std::optional<AxisLayout> layout_behind(const Node& node, const AxisLayout& layout, Terms& dims,
                                        const SymbolicShapes& shapes) {
  if (node.output(0) == nullptr || dims.size() != layout.size()) return std::nullopt;
  if (keeps_order(node)) {
    const Terms* to = shapes.dims(*node.output(0));
    if (to == nullptr) return std::nullopt;
    auto result = reshaped_layout(layout, dims, *to);
    if (result) dims = *to;
    return result;
  }
  const auto axes = node.is("Transpose") ? axes_of_transpose(node, dims.size()) : std::nullopt;
  if (!axes) return std::nullopt;
  AxisLayout result;
  Terms turned;
  for (const std::size_t axis : *axes) {
    result.push_back(layout[axis]);
    turned.push_back(dims[axis]);
  }
  dims = std::move(turned);
  return result;
}

}  // namespace mcompress
