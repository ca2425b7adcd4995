// How channels pass through operators that only move data.
#include <algorithm>
#include <numeric>

#include "ir/facts.h"
#include "passes/common/channels/channel_tracer.h"

namespace mcompress {
namespace {

using Role = ChannelMember::Role;
using Cells = std::vector<std::uint32_t>;
using Ints = std::vector<std::int64_t>;

AxisCells share(Cells cells) { return std::make_shared<const Cells>(std::move(cells)); }

bool any(const std::vector<AxisCells>& axes) {
  return std::ranges::any_of(axes, [](const AxisCells& cells) { return cells != nullptr; });
}

std::optional<std::size_t> place(std::int64_t axis, std::size_t rank) {
  if (axis < 0) axis += static_cast<std::int64_t>(rank);
  if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) return std::nullopt;
  return static_cast<std::size_t>(axis);
}

std::optional<Ints> known(const IntsParameter& parameter) {
  return parameter.known ? parameter.values : std::nullopt;
}

}  // namespace

bool ChannelTracer::concat(Node& node) {
  const auto dims = dims_of(node.output(0));
  const auto first = dims ? dims : dims_of(node.input(0));
  if (!first) return false;
  const std::size_t rank = first->size();
  const auto axis = place(node.int_attribute("axis", 1), rank);
  if (!axis) return false;
  Axes out(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    if (i == *axis) continue;
    bool fixed = false;
    for (const Value* input : node.inputs()) {
      const AxisCells mine = axis_of(input, i);
      if (is_weight(input)) continue;
      fixed = fixed || mine == nullptr;
      if (mine != nullptr) out[i] = out[i] == nullptr ? mine : unite(out[i], mine, node);
    }
    if (out[i] == nullptr) continue;
    if (fixed) freeze(out[i], node.label() + " combines them with channels that can not be cut");
    for (const Value* input : node.inputs()) {
      if (is_weight(input)) demand(node, *input, i, out[i], Role::kParameter);
    }
  }
  bool sized = true;
  bool tracked = false;
  Cells cells;
  for (const Value* input : node.inputs()) {
    const auto own = dims_of(input);
    const AxisCells mine = is_weight(input) ? nullptr : axis_of(input, *axis);
    tracked = tracked || mine != nullptr;
    if (mine != nullptr) {
      cells.insert(cells.end(), mine->begin(), mine->end());
    } else if (own && *axis < own->size() && (*own)[*axis] && *(*own)[*axis] < (1 << 24)) {
      cells.insert(cells.end(), static_cast<std::size_t>(*(*own)[*axis]), kFixedCell);
    } else {
      sized = false;
    }
  }
  if (tracked && sized) {
    out[*axis] = share(std::move(cells));
  } else if (tracked) {
    for (const Value* input : node.inputs()) {
      freeze(axis_of(input, *axis), node.label() + " joins them with a part of unknown size");
    }
  }
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::split(Node& node) {
  const Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const auto axis = place(node.int_attribute("axis", 0), axes.size());
  if (!axis) return false;
  const AxisCells& cells = axes[*axis];
  const std::size_t parts = node.outputs().size();
  Ints sizes;
  if (cells != nullptr) {
    const IntsParameter given = ints_parameter(node, "split", 1);
    if (!given.known) return false;
    if (given.values) {
      sizes = *given.values;
    } else {
      const std::size_t each = (cells->size() + parts - 1) / parts;
      for (std::size_t i = 0; i < parts; ++i) {
        const std::size_t begin = std::min(i * each, cells->size());
        sizes.push_back(static_cast<std::int64_t>(std::min(each, cells->size() - begin)));
      }
    }
    if (sizes.size() != parts || std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}) !=
                                     static_cast<std::int64_t>(cells->size())) {
      return false;
    }
    trace_.edits_.push_back({&node, ChannelEdit::What::kSplit, 1, *axis, sizes, {cells}, {}});
  }
  std::size_t begin = 0;
  for (std::size_t i = 0; i < parts; ++i) {
    Axes out = axes;
    if (cells != nullptr) {
      const auto size = static_cast<std::size_t>(sizes[i]);
      const auto from = cells->begin() + static_cast<std::ptrdiff_t>(begin);
      out[*axis] = size < 2 ? nullptr : share(Cells(from, from + sizes[i]));
      if (size == 1) freeze(*from, node.label() + " has a part of one channel");
      begin += size;
    }
    set(node.output(i), std::move(out));
  }
  return true;
}

bool ChannelTracer::slice(Node& node) {
  Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const auto starts = known(ints_parameter(node, "starts", 1));
  const auto ends = known(ints_parameter(node, "ends", 2));
  const IntsParameter axes_given = ints_parameter(node, "axes", 3);
  const IntsParameter steps = ints_parameter(node, "steps", 4);
  if (!axes_given.known) return false;
  std::vector<std::size_t> which;
  if (axes_given.values) {
    for (const std::int64_t axis : *axes_given.values) {
      const auto at = place(axis, axes.size());
      if (!at) return false;
      which.push_back(*at);
    }
  } else {
    if (!starts) return false;
    which.resize(starts->size());
    std::iota(which.begin(), which.end(), std::size_t{0});
  }
  for (std::size_t i = 0; i < which.size(); ++i) {
    AxisCells& cells = which[i] < axes.size() ? axes[which[i]] : axes.front();
    if (which[i] >= axes.size()) return false;
    if (cells == nullptr) continue;
    const auto size = static_cast<std::int64_t>(cells->size());
    const bool plain = starts && ends && starts->size() == which.size() &&
                       ends->size() == which.size() && steps.known &&
                       (!steps.values || (i < steps.values->size() && (*steps.values)[i] == 1));
    if (!plain) {
      freeze(cells, node.label() + " takes a part of them that is computed, or in steps");
      cells = nullptr;
      continue;
    }
    const auto clamp = [&](std::int64_t at) {
      return std::clamp<std::int64_t>(at < 0 ? at + size : at, 0, size);
    };
    const std::int64_t begin = clamp((*starts)[i]), end = std::max(begin, clamp((*ends)[i]));
    trace_.edits_.push_back(
        {&node, ChannelEdit::What::kSlice, i, which[i], {begin, end}, {cells}, {}});
    if (end - begin < 2) {
      for (std::int64_t c = begin; c < end; ++c) {
        freeze((*cells)[static_cast<std::size_t>(c)], node.label() + " takes one channel");
      }
      cells = nullptr;
    } else if (end - begin < size) {
      cells = share(Cells(cells->begin() + begin, cells->begin() + end));
    }
  }
  set(node.output(0), std::move(axes));
  return true;
}

bool ChannelTracer::gather(Node& node) {
  const Value* data = node.input(0);
  const auto data_dims = dims_of(data), index_dims = dims_of(node.input(1));
  if (!data_dims || !index_dims) return false;
  const auto axis = place(node.int_attribute("axis", 0), data_dims->size());
  if (!axis || any(axes_of(node.input(1)))) return false;
  Axes out(data_dims->size() + index_dims->size() - 1);
  if (is_weight(data)) {  // rows of a table
    if (*axis != 0 || data_dims->size() != 2 || is_weight(node.input(1)))
      return axes_of(data).empty();
    if (data->initializer()->dtype() != DataType::kFloat) return axes_of(data).empty();
    out.back() = make(node, *data, 1);
    set(node.output(0), std::move(out));
    return true;
  }
  const Axes axes = axes_of(data);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (i == *axis) continue;
    out[i < *axis ? i : i + index_dims->size() - 1] = axes[i];
  }
  if (const AxisCells cells = *axis < axes.size() ? axes[*axis] : nullptr; cells != nullptr) {
    const auto indices = constant_ints(node.input(1));
    if (!indices || index_dims->size() > 1) return false;
    Cells taken;
    Ints places;
    for (std::int64_t index : *indices) {
      if (index < 0) index += static_cast<std::int64_t>(cells->size());
      if (index < 0 || index >= static_cast<std::int64_t>(cells->size())) return false;
      places.push_back(index);
      taken.push_back((*cells)[static_cast<std::size_t>(index)]);
    }
    if (taken.size() < 2 || index_dims->empty()) {
      for (const std::uint32_t cell : taken) freeze(cell, node.label() + " takes one channel");
    } else {
      out[*axis] = share(std::move(taken));
    }
    trace_.edits_.push_back({&node, ChannelEdit::What::kIndices, 1, *axis, places, {cells}, {}});
  }
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::pad(Node& node) {
  Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const auto pads = known(ints_parameter(node, "pads", 1));
  const auto which = node.input(3) != nullptr ? constant_ints(node.input(3)) : std::nullopt;
  if (node.input(3) != nullptr && !which) return false;
  const std::size_t count = which ? which->size() : axes.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto at = which ? place((*which)[i], axes.size()) : std::optional(i);
    if (!at) return false;
    if (axes[*at] == nullptr) continue;
    if (pads && pads->size() == 2 * count && (*pads)[i] == 0 && (*pads)[i + count] == 0) continue;
    freeze(axes[*at], node.label() + " adds channels, or may do so");
    axes[*at] = nullptr;
  }
  set(node.output(0), std::move(axes));
  return true;
}

bool ChannelTracer::resize(Node& node) {
  Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const bool old = node.is("Upsample") || trace_.model().opset("") < 11;
  const std::size_t scale_slot = old ? 1 : 2;
  std::optional<std::vector<double>> scales = constant_reals(node.input(scale_slot));
  if (const auto* listed = node.attribute("scales")) {
    if (const auto* floats = std::get_if<std::vector<float>>(listed)) {
      scales.emplace(floats->begin(), floats->end());
    }
  }
  const std::optional<Ints> sizes = old ? std::nullopt : constant_ints(node.input(3));
  const auto which = node.ints_attribute("axes");
  const bool stretches =
      node.string_attribute("keep_aspect_ratio_policy", "stretch") == "stretch" &&
      node.string_attribute("coordinate_transformation_mode", "") != "tf_crop_and_resize";
  const std::size_t count = which ? which->size() : axes.size();
  ChannelEdit edit{&node, ChannelEdit::What::kShapeInput, 3, 0, {}, {}, {}};
  for (std::size_t i = 0; i < count; ++i) {
    const auto at = which ? place((*which)[i], axes.size()) : std::optional(i);
    if (!at) return false;
    AxisCells& cells = axes[*at];
    if (cells == nullptr) continue;
    const bool by_scale = scales && scales->size() == count && (*scales)[i] == 1.0;
    const bool by_size = sizes && sizes->size() == count && stretches &&
                         (*sizes)[i] == static_cast<std::int64_t>(cells->size());
    if (by_size) {
      edit.axes.push_back(cells);
      edit.of_entry.push_back(i);
    } else if (!by_scale) {
      freeze(cells, node.label() + " resizes them, or may do so");
      cells = nullptr;
    }
  }
  if (!edit.axes.empty()) {
    edit.numbers = *sizes;
    trace_.edits_.push_back(std::move(edit));
  }
  set(node.output(0), std::move(axes));
  return true;
}

// Blocks of neighbouring axes that hold the same elements, found from both ends. What is left in
// the middle, where sizes are not known, has to stay as it is.
ChannelTracer::Axes ChannelTracer::map_reshape(Node& node, const Axes& from, const Dims& old_dims,
                                               const Dims& new_dims,
                                               const std::vector<bool>& copied) {
  Axes to(new_dims.size());
  std::size_t i0 = 0, j0 = 0, i1 = old_dims.size(), j1 = new_dims.size();
  const auto usable = [](const std::optional<std::int64_t>& dim) { return dim && *dim > 0; };
  while (i0 < i1 && j0 < j1) {
    if (i0 == j0 && copied[j0]) {
      to[j0++] = from[i0++];
      continue;
    }
    if (!usable(old_dims[i0]) || !usable(new_dims[j0])) break;
    std::size_t i = i0 + 1, j = j0 + 1;
    std::int64_t p = *old_dims[i0], q = *new_dims[j0];
    while (p != q) {
      const bool left = p < q;
      if (left ? (i == i1 || !usable(old_dims[i])) : (j == j1 || !usable(new_dims[j]))) break;
      (left ? p : q) *= left ? *old_dims[i++] : *new_dims[j++];
    }
    if (p != q) break;
    map_block(node, from, old_dims, new_dims, i0, i, j0, j, to);
    i0 = i, j0 = j;
  }
  while (i0 < i1 && j0 < j1) {
    if (!usable(old_dims[i1 - 1]) || !usable(new_dims[j1 - 1])) break;
    std::size_t i = i1 - 1, j = j1 - 1;
    std::int64_t p = *old_dims[i], q = *new_dims[j];
    while (p != q) {
      const bool left = p < q;
      if (left ? (i == i0 || !usable(old_dims[i - 1])) : (j == j0 || !usable(new_dims[j - 1]))) {
        break;
      }
      (left ? p : q) *= left ? *old_dims[--i] : *new_dims[--j];
    }
    if (p != q) break;
    map_block(node, from, old_dims, new_dims, i, i1, j, j1, to);
    i1 = i, j1 = j;
  }
  for (std::size_t i = i0; i < i1; ++i) {
    freeze(from[i], node.label() + " joins them with axes of unknown size");
  }
  return to;
}

void ChannelTracer::map_block(Node& node, const Axes& from, const Dims& old_dims,
                              const Dims& new_dims, std::size_t old_first, std::size_t old_last,
                              std::size_t new_first, std::size_t new_last, Axes& to) {
  std::vector<std::size_t> olds, news;
  for (std::size_t i = old_first; i < old_last; ++i) {
    if (*old_dims[i] != 1) olds.push_back(i);
  }
  for (std::size_t j = new_first; j < new_last; ++j) {
    if (*new_dims[j] != 1) news.push_back(j);
  }
  std::vector<std::size_t> tracked;
  for (const std::size_t i : olds) {
    if (from[i] != nullptr) tracked.push_back(i);
  }
  if (tracked.empty()) return;
  if (olds.size() == 1 && news.size() == 1) {
    to[news[0]] = from[olds[0]];
    return;
  }
  if (olds.size() == 1) {
    // Heads: one coordinate is that of what can be cut, the others stay whole. Of three the first
    // one is often that of query, key and value.
    const std::size_t kept = news.size() > 2 && *new_dims[news[0]] <= 3 ? 1 : 0;
    const Cells& cells = *from[olds[0]];
    std::size_t inner = 1;
    for (std::size_t k = kept + 1; k < news.size(); ++k) {
      inner *= static_cast<std::size_t>(*new_dims[news[k]]);
    }
    const auto size = static_cast<std::size_t>(*new_dims[news[kept]]);
    Cells heads;
    for (std::size_t h = 0; h < size; ++h) heads.push_back(cells[h * inner]);
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::uint32_t head = heads[c / inner % size];
      if (head != kFixedCell && cells[c] != kFixedCell) {
        unite(head, cells[c]);
        family_split_[find_family(family_of_cell_[find(head)])] = true;
      } else {
        const std::string why = node.label() + " keeps them beside channels that can not be cut";
        freeze(head, why), freeze(cells[c], why);
      }
    }
    to[news[kept]] = share(std::move(heads));
    return;
  }
  if (news.size() == 1) {
    const std::size_t kept = tracked.front();
    for (std::size_t k = 1; k < tracked.size(); ++k) {
      freeze(from[tracked[k]], node.label() + " joins them with other channels");
    }
    std::size_t inner = 1;
    for (const std::size_t i : olds) {
      if (i > kept) inner *= static_cast<std::size_t>(*old_dims[i]);
    }
    const auto total = static_cast<std::size_t>(*new_dims[news[0]]);
    if (total > (std::size_t{1} << 24)) {
      freeze(from[kept], node.label() + " joins them with too many others");
      return;
    }
    Cells cells(total);
    for (std::size_t c = 0; c < total; ++c)
      cells[c] = (*from[kept])[c / inner % from[kept]->size()];
    to[news[0]] = share(std::move(cells));
    return;
  }
  for (const std::size_t i : tracked) {
    freeze(from[i], node.label() + " distributes them over several axes");
  }
}

bool ChannelTracer::reshape(Node& node) {
  const Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const auto shape = known(ints_parameter(node, "shape", 1));
  const auto old_dims = dims_of(node.input(0)), new_dims = dims_of(node.output(0));
  if (!shape) {
    freeze_inputs(node, node.label() + " has a shape that is computed");
    return true;
  }
  if (!old_dims || !new_dims || old_dims->size() != axes.size() ||
      new_dims->size() != shape->size() || node.int_attribute("allowzero", 0) != 0 ||
      node.input(1) == nullptr) {
    return false;
  }
  std::vector<bool> copied(shape->size());
  for (std::size_t j = 0; j < shape->size(); ++j) copied[j] = (*shape)[j] == 0;
  Axes out = map_reshape(node, axes, *old_dims, *new_dims, copied);
  ChannelEdit edit{&node, ChannelEdit::What::kShapeInput, 1, 0, *shape, {}, {}};
  for (std::size_t j = 0; j < out.size(); ++j) {
    if (out[j] == nullptr || (*shape)[j] <= 0) continue;
    edit.axes.push_back(out[j]);
    edit.of_entry.push_back(j);
  }
  if (!edit.axes.empty()) trace_.edits_.push_back(std::move(edit));
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::flatten(Node& node) {
  const Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const auto dims = dims_of(node.input(0));
  if (!dims || dims->size() != axes.size()) return false;
  std::int64_t axis = node.int_attribute("axis", 1);
  if (axis < 0) axis += static_cast<std::int64_t>(dims->size());
  if (axis < 0 || axis > static_cast<std::int64_t>(dims->size())) return false;
  Dims to(2, 1);
  for (std::size_t i = 0; i < dims->size(); ++i) {
    auto& part = to[static_cast<std::int64_t>(i) < axis ? 0 : 1];
    part = part && (*dims)[i] ? std::optional(*part * *(*dims)[i]) : std::nullopt;
  }
  set(node.output(0), map_reshape(node, axes, *dims, to, {axis == 1, false}));
  return true;
}

bool ChannelTracer::expand(Node& node) {
  const Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const auto shape = constant_ints(node.input(1));
  if (!shape) return false;
  const std::size_t rank = std::max(axes.size(), shape->size());
  Axes out(rank);
  ChannelEdit edit{&node, ChannelEdit::What::kShapeInput, 1, 0, *shape, {}, {}};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t at = i + rank - axes.size();
    out[at] = axes[i];
    if (axes[i] == nullptr || at + shape->size() < rank) continue;
    const std::size_t entry = at + shape->size() - rank;
    if ((*shape)[entry] == 1) continue;
    edit.axes.push_back(axes[i]);
    edit.of_entry.push_back(entry);
  }
  if (!edit.axes.empty()) trace_.edits_.push_back(std::move(edit));
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::transpose(Node& node) {
  const Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const auto order = node.ints_attribute("perm");
  Axes out(axes.size());
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t at =
        order && i < order->size() ? static_cast<std::size_t>((*order)[i]) : axes.size() - 1 - i;
    if (at >= axes.size()) return false;
    out[i] = axes[at];
  }
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::squeeze(Node& node) {
  const Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const auto which = known(ints_parameter(node, "axes", 1));
  if (!which) return false;
  std::vector<bool> gone(axes.size());
  for (const std::int64_t axis : *which) {
    const auto at = place(axis, axes.size());
    if (!at || axes[*at] != nullptr) return false;
    gone[*at] = true;
  }
  Axes out;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (!gone[i]) out.push_back(axes[i]);
  }
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::unsqueeze(Node& node) {
  const Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const auto which = known(ints_parameter(node, "axes", 1));
  if (!which) return false;
  std::vector<bool> added(axes.size() + which->size());
  for (const std::int64_t axis : *which) {
    const auto at = place(axis, added.size());
    if (!at) return false;
    added[*at] = true;
  }
  Axes out(added.size());
  for (std::size_t i = 0, next = 0; i < added.size() && next < axes.size(); ++i) {
    if (!added[i]) out[i] = axes[next++];
  }
  set(node.output(0), std::move(out));
  return true;
}

bool ChannelTracer::reduce(Node& node) {
  const Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const IntsParameter which = ints_parameter(node, "axes", 1);
  if (!which.known) return false;
  const bool none = !which.values || which.values->empty();
  if (none && node.int_attribute("noop_with_empty_axes", 0) != 0) return pass_through(node);
  std::vector<bool> reduced(axes.size(), none);
  if (!none) {
    for (const std::int64_t axis : *which.values) {
      const auto at = place(axis, axes.size());
      if (!at) return false;
      reduced[*at] = true;
    }
  }
  Axes out;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (reduced[i]) {
      freeze(axes[i], node.label() + " takes means or sums over them");
      if (node.int_attribute("keepdims", 1) != 0) out.push_back(nullptr);
    } else {
      out.push_back(axes[i]);
    }
  }
  set(node.output(0), std::move(out));
  return true;
}

// Sizes of a tensor as data: harmless where nobody looks at those that a cut changes.
bool ChannelTracer::shape(Node& node) {
  const Axes axes = axes_of(node.input(0));
  if (!any(axes)) return true;
  const auto rank = static_cast<std::int64_t>(axes.size());
  const auto bound = [&](std::int64_t at) {
    return std::clamp<std::int64_t>(at < 0 ? at + rank : at, 0, rank);
  };
  const std::int64_t first = bound(node.int_attribute("start", 0));
  const std::int64_t last = bound(node.int_attribute("end", rank));
  std::vector<bool> seen(axes.size());
  for (const Use& use : node.output(0)->uses()) {
    std::optional<Ints> taken;
    if (use.node != nullptr && use.node->is("Gather") && use.slot == 0) {
      taken = constant_ints(use.node->input(1));
    } else if (use.node != nullptr && use.node->is("Slice") && use.slot == 0) {
      const auto starts = known(ints_parameter(*use.node, "starts", 1));
      const auto ends = known(ints_parameter(*use.node, "ends", 2));
      const IntsParameter steps = ints_parameter(*use.node, "steps", 4);
      if (starts && ends && starts->size() == 1 && ends->size() == 1 && steps.known &&
          (!steps.values || steps.values->front() == 1)) {
        const std::int64_t size = last - first;
        const auto inside = [&](std::int64_t at) {
          return std::clamp<std::int64_t>(at < 0 ? at + size : at, 0, size);
        };
        taken.emplace();
        for (std::int64_t i = inside(starts->front()); i < inside(ends->front()); ++i) {
          taken->push_back(i);
        }
      }
    }
    if (!taken) {
      std::fill(seen.begin(), seen.end(), true);
      continue;
    }
    for (std::int64_t index : *taken) {
      if (index < 0) index += last - first;
      const std::int64_t at = index + first;
      if (at >= 0 && at < rank) seen[static_cast<std::size_t>(at)] = true;
    }
  }
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    if (seen[i] && at >= first && at < last) {
      freeze(axes[i], node.label() + " computes with their number");
    }
  }
  return true;
}

}  // namespace mcompress
