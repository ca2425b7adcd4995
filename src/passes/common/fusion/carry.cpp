#include "passes/common/fusion/carry.h"

#include <algorithm>
#include <cstdint>

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

// Longer ways are not looked at: time stays linear in the size of the graph.
constexpr int kLongestWay = 12;

std::string stopped_at(const Node& node) {
  return std::string(node.op_type()) + " '" + node.label() + "' does not let it through";
}

// The product of the dimensions behind an axis, when they are known.
std::optional<std::int64_t> elements_behind(const Value& value, std::size_t axis,
                                            std::size_t rank) {
  std::int64_t product = 1;
  for (std::size_t i = axis + 1; i < rank; ++i) {
    const auto dim = dim_of(value, static_cast<std::int64_t>(i));
    if (!dim || *dim < 1 || product > INT64_MAX / *dim) return std::nullopt;
    product *= *dim;
  }
  return product;
}

// The same numbers in the same order under other dimensions. Element f has entry f / inner % size
// of the step. Along an axis of `length` with `behind` elements behind it that depends on the
// position alone when `behind` divides `inner` and the entries fit a whole number of times.
bool regroup(const Value& from, const Value& to, Carried& step) {
  if (!step.axis) return true;
  const auto from_rank = rank_of(from), to_rank = rank_of(to);
  if (!from_rank || !to_rank || *step.axis >= *from_rank) return false;
  const auto inner = elements_behind(from, *step.axis, *from_rank);
  const auto size = static_cast<std::int64_t>(step.a.size());
  if (!inner || size < 1) return false;
  for (std::size_t axis = *to_rank; axis-- > 0;) {
    const auto behind = elements_behind(to, axis, *to_rank);
    const auto length = dim_of(to, static_cast<std::int64_t>(axis));
    if (!behind || !length || *length < 1 || *inner % *behind != 0) return false;
    const std::int64_t repeat = *inner / *behind;
    if (*length % size != 0 || *length / size % repeat != 0) continue;
    Carried next;
    next.axis = axis;
    for (std::int64_t i = 0; i < *length; ++i) {
      const auto entry = static_cast<std::size_t>(i / repeat % size);
      next.a.push_back(step.a[entry]);
      next.c.push_back(step.c[entry]);
    }
    step = std::move(next);
    return true;
  }
  return false;
}

std::optional<std::vector<std::size_t>> permutation(const Node& node) {
  std::vector<std::size_t> result;
  if (const auto perm = node.ints_attribute("perm")) {
    for (const std::int64_t axis : *perm) {
      if (axis < 0 || axis >= static_cast<std::int64_t>(perm->size())) return std::nullopt;
      result.push_back(static_cast<std::size_t>(axis));
    }
    return result;
  }
  const auto rank = rank_of(*node.input(0));
  if (!rank) return std::nullopt;
  for (std::size_t i = *rank; i-- > 0;) result.push_back(i);
  return result;
}

bool takes_part(const Node& node) { return node.is("Gather") || node.is("Slice"); }

bool regroups(const Node& node) {
  return node.is("Reshape") || node.is("Flatten") || node.is("Squeeze") || node.is("Unsqueeze");
}

bool all_zero(const std::vector<double>& values) {
  return std::ranges::all_of(values, [](double value) { return value == 0.0; });
}

// Averages of windows: a shift passes where no zero is averaged, a factor always.
bool passes_pooling(const Node& node, const Carried& step) {
  if (step.axis && *step.axis > 1) return false;
  if (node.is("GlobalAveragePool")) return true;
  if (node.is("AveragePool")) {
    if (all_zero(step.c)) return true;
    const auto pads = node.ints_attribute("pads");
    const bool padded =
        pads && std::ranges::any_of(*pads, [](std::int64_t pad) { return pad != 0; });
    const std::string_view automatic = node.string_attribute("auto_pad", "NOTSET");
    const bool uncounted = node.int_attribute("count_include_pad", 0) == 0;
    return uncounted || (!padded && (automatic == "NOTSET" || automatic == "VALID"));
  }
  if (!node.is("MaxPool") || node.output(1) != nullptr) return false;
  return std::ranges::all_of(step.a, [](double a) { return a > 0.0; });
}

// Position `index` of the axis is the output: the others must not change.
Carried only_at(std::size_t axis, std::int64_t first, std::int64_t total, const Carried& step,
                std::int64_t length) {
  Carried next;
  next.axis = axis;
  next.a.assign(static_cast<std::size_t>(total), 1.0);
  next.c.assign(static_cast<std::size_t>(total), 0.0);
  for (std::int64_t i = 0; i < length; ++i) {
    const auto entry = static_cast<std::size_t>(step.axis ? i : 0);
    next.a[static_cast<std::size_t>(first + i)] = step.a[entry];
    next.c[static_cast<std::size_t>(first + i)] = step.c[entry];
  }
  return next;
}

std::optional<std::size_t> axis_of(std::int64_t axis, const Node& node) {
  if (axis < 0) {
    const auto rank = rank_of(*node.input(0));
    if (!rank) return std::nullopt;
    axis += static_cast<std::int64_t>(*rank);
  }
  if (axis < 0) return std::nullopt;
  return static_cast<std::size_t>(axis);
}

bool back_through_split(const Node& node, const Value& value, Carried& step) {
  const auto axis = axis_of(node.int_attribute("axis", 0), node);
  if (!axis || (step.axis && step.axis != axis)) return false;
  std::int64_t total = 0, first = 0, length = 0;
  for (const Value* part : node.outputs()) {
    if (part == nullptr) return false;
    const auto size = dim_of(*part, static_cast<std::int64_t>(*axis));
    if (!size) return false;
    if (part == &value) {
      first = total;
      length = *size;
    }
    total += *size;
  }
  step = only_at(*axis, first, total, step, length);
  return true;
}

// What a node takes out of its input: positions [first, first + length) of an axis.
struct Window {
  std::size_t axis = 0;
  std::int64_t first = 0, length = 1, size = 0;  // size: of the whole axis
};

std::optional<Window> window_of(const Node& node) {
  std::optional<std::size_t> axis;
  std::int64_t first = 0, end = 0;
  const auto one_of = [](const IntsParameter& parameter) -> std::optional<std::int64_t> {
    if (!parameter.known || !parameter.values || parameter.values->size() != 1) return std::nullopt;
    return parameter.values->front();
  };
  if (node.is("Gather")) {
    const auto index = constant_of(node.input(1));
    const auto number = constant_ints(node.input(1), 1);
    if (!index || !index->dims().empty() || !number) return std::nullopt;
    axis = axis_of(node.int_attribute("axis", 0), node);
    first = number->front();
    // Position -1 ends where the axis ends.
    end = first == -1 ? INT64_MAX : first + 1;
  } else if (node.is("Slice")) {
    const auto starts = one_of(ints_parameter(node, "starts", 1));
    const auto ends = one_of(ints_parameter(node, "ends", 2));
    const auto along = one_of(ints_parameter(node, "axes", 3));
    const IntsParameter steps = ints_parameter(node, "steps", 4);
    const bool every = steps.known && (!steps.values || *steps.values == Ints{1});
    if (!starts || !ends || !along || !every) return std::nullopt;
    axis = axis_of(*along, node);
    first = *starts;
    end = *ends;
  }
  if (!axis) return std::nullopt;
  const auto size = dim_of(*node.input(0), static_cast<std::int64_t>(*axis));
  if (!size || *size < 1) return std::nullopt;
  const auto from_begin = [&](std::int64_t place) {
    if (place < 0) place = place < -*size ? 0 : place + *size;
    return std::min(place, *size);
  };
  Window window{*axis, from_begin(first), from_begin(end) - from_begin(first), *size};
  if (window.length < 1) return std::nullopt;
  return window;
}

// Part of a tensor of which other nodes take other parts.
bool back_through_window(const Node& node, Carried& step) {
  const auto window = window_of(node);
  // A Gather of one position drops the axis, so no axis of the result is named here.
  constexpr std::size_t kMostParts = 64;
  if (!window || step.axis || node.input(0)->uses().size() > kMostParts) return false;
  for (const Use& use : node.input(0)->uses()) {
    if (use.node == &node) continue;
    if (use.node == nullptr || use.graph != &node.graph() || use.slot != 0) return false;
    const auto other = window_of(*use.node);
    if (!other || other->axis != window->axis) return false;
    const bool apart = other->first + other->length <= window->first ||
                       window->first + window->length <= other->first;
    if (!apart) return false;
  }
  step = only_at(window->axis, window->first, window->size, step, window->length);
  return true;
}

// The step in front of the node that makes `value` instead of behind it.
bool step_back(const Node& node, const Value& value, Carried& step) {
  if (node.is("Split")) return back_through_split(node, value, step);
  if (takes_part(node)) return back_through_window(node, step);
  if (regroups(node)) return regroup(value, *node.input(0), step);
  if (node.is("Transpose")) {
    const auto perm = permutation(node);
    if (!perm || (step.axis && *step.axis >= perm->size())) return false;
    if (step.axis) step.axis = (*perm)[*step.axis];
    return true;
  }
  return passes_pooling(node, step);
}

bool step_forward(const Node& node, Carried& step) {
  if (regroups(node)) return regroup(*node.input(0), *node.output(0), step);
  if (node.is("Transpose")) {
    const auto perm = permutation(node);
    if (!perm || (step.axis && *step.axis >= perm->size())) return false;
    if (!step.axis) return true;
    const auto place = std::ranges::find(*perm, *step.axis);
    if (place == perm->end()) return false;
    step.axis = static_cast<std::size_t>(place - perm->begin());
    return true;
  }
  return passes_pooling(node, step);
}

// One entry per channel along the axis of a linear operator.
bool fits(const ChannelAxis& channels, Carried& step) {
  if (!step.axis) {
    step.a.resize(static_cast<std::size_t>(channels.channels), step.a.front());
    step.c.resize(static_cast<std::size_t>(channels.channels), step.c.front());
    return true;
  }
  return channels.rank && *step.axis + channels.from_end + 1 == *channels.rank &&
         static_cast<std::int64_t>(step.a.size()) == channels.channels;
}

Carriage no_way(std::string why) { return {std::nullopt, {}, std::move(why), false}; }

Carriage back(Value& value, const Node& reader, Carried step, int& left) {
  Node* node = value.producer();
  if (node == nullptr) return no_way("'" + std::string(value.name()) + "' is computed by no node");
  // Other parts of a tensor may have readers of their own.
  if (only_user(value) != &reader && !takes_part(reader)) return no_way(why_not_only_user(value));
  if (--left < 0) return no_way("no linear operator is near");
  LinearSearch search = find_linear(value);
  if (search.op) {
    if (!fits(search.op->out, step)) {
      return no_way("its channels are not those of " + search.op->label());
    }
    return {search.op, std::move(step), {}, false};
  }
  if (node->is("MatMul") && !step.axis && all_zero(step.c)) {
    // A factor of a product is one of either operand.
    Carriage found = no_way(std::move(search.why));
    for (Value* operand : node->inputs()) {
      if (operand == nullptr) continue;
      found = back(*operand, *node, step, left);
      if (found.op) break;
    }
    return found;
  }
  if (search.kind_fits) return no_way(std::move(search.why));
  if (node->input(0) == nullptr || !step_back(*node, value, step)) return no_way(stopped_at(*node));
  return back(*node->input(0), *node, std::move(step), left);
}

}  // namespace

Carriage carry_back(Value& value, const Node& reader, Carried step) {
  int left = kLongestWay;
  Carriage found = back(value, reader, std::move(step), left);
  found.on_the_way = left < kLongestWay - 1;
  return found;
}

Carriage carry_forward(Value& value, Carried step) {
  Value* next = &value;
  for (int left = kLongestWay; left > 0; --left) {
    Node* node = only_user(*next);
    if (node == nullptr) return no_way(why_not_only_user(*next));
    if (node->input(0) != next) return no_way(stopped_at(*node));
    LinearSearch search = linear_operator(*node);
    if (search.kind_fits) {
      if (!search.op) return no_way(std::move(search.why));
      LinearOp& op = *search.op;
      if (!op.in_layout) return no_way(op.label() + " transposes its input");
      if (op.is("MatMul")) find_bias(op);
      if (!fits(op.in, step)) return no_way("its channels are not those of " + op.label());
      if (!all_zero(step.c) && !takes_shift(op)) {
        return no_way(op.label() + (op.is("MatMul")
                                        ? " has no bias for a shift"
                                        : " pads with zeros, which a shift would miss"));
      }
      return {search.op, std::move(step), {}, false};
    }
    if (node->output(0) == nullptr || !step_forward(*node, step)) return no_way(stopped_at(*node));
    next = node->output(0);
  }
  return no_way("no linear operator is near");
}

std::optional<VariesAlong> varies_along(const Value& constant, std::optional<std::size_t> rank) {
  const auto shape = static_shape(constant);
  if (!shape) return std::nullopt;
  VariesAlong found;
  if (std::ranges::all_of(*shape, [](std::int64_t size) { return size == 1; })) {
    if (shape->empty() || (rank && shape->size() <= *rank)) return found;
    return std::nullopt;
  }
  if (!rank || shape->size() > *rank) return std::nullopt;
  for (std::size_t i = 0; i < shape->size(); ++i) {
    if ((*shape)[i] == 1) continue;
    if (found.axis) return std::nullopt;
    found.axis = *rank - shape->size() + i;
    found.size = (*shape)[i];
  }
  return found;
}

}  // namespace mcompress
