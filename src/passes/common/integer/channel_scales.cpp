#include "passes/common/integer/channel_scales.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "passes/common/fusion/coefficients.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::array<std::string_view, 10> kThrough = {
    "Abs",           "AveragePool", "Dropout",   "GlobalAveragePool",
    "GlobalMaxPool", "Identity",    "LeakyRelu", "MaxPool",
    "PRelu",         "Relu"};

bool reshapes(const Node& node) {
  return node.is("Flatten") || node.is("Squeeze") || node.is("Reshape");
}

// [N, C, 1, 1] -> [N, C].
bool drops_unit_axes(const Node& node) {
  const Value* in = node.input(0);
  const Value* out = node.output(0);
  if (in == nullptr || out == nullptr || rank_of(*out) != std::size_t{2}) return false;
  const auto rank = rank_of(*in);
  if (!rank || *rank < 3 || !dim_of(*in, 1) || dim_of(*in, 1) != dim_of(*out, 1)) return false;
  for (std::size_t axis = 2; axis < *rank; ++axis) {
    if (dim_of(*in, static_cast<std::int64_t>(axis)) != 1) return false;
  }
  return true;
}

struct ClipBounds {
  bool from_zero = false;
  double top = std::numeric_limits<double>::infinity();
};
ClipBounds clip_bounds(const Node& node) {
  ClipBounds bounds;
  const auto low = constant_scalar(node.input(1));
  bounds.from_zero = node.input(1) != nullptr ? low == 0.0 : node.float_attribute("min", -1) == 0;
  if (node.input(2) != nullptr) {
    const auto high = constant_scalar(node.input(2));
    bounds.from_zero = bounds.from_zero && high.has_value();
    bounds.top = high.value_or(0);
  } else if (node.attribute("max") != nullptr) {
    bounds.top = double{node.float_attribute("max", 0)};
  }
  return bounds;
}

// How a node carries a factor from a data input to its output.
struct Carrier {
  std::vector<std::size_t> inputs;  // slots of data; empty: it does not
  bool constant = false;            // Add or Sub with a constant in the other slot
  bool flattens = false;
  bool clips = false;
};
Carrier carrier_of(const Node& node) {
  Carrier carrier;
  if (node.input(0) == nullptr || node.output(0) == nullptr) return carrier;
  for (std::size_t i = 1; i < node.outputs().size(); ++i) {
    if (node.output(i) != nullptr && !node.output(i)->uses().empty()) return carrier;
  }
  const bool sum = node.is("Add") || node.is("Sub");
  if (sum || node.is("Mul") || node.is("Div")) {
    if (node.input(1) == nullptr) return carrier;
    const bool first = is_constant(node.input(0));
    const bool second = is_constant(node.input(1));
    if (first && second) return carrier;
    if (!sum && !first && !second) return carrier;
    if (node.is("Div") && first) return carrier;
    if (!first) carrier.inputs.push_back(0);
    if (!second) carrier.inputs.push_back(1);
    carrier.constant = sum && (first || second);
    return carrier;
  }
  if (node.is("Clip")) {
    if (!clip_bounds(node).from_zero) return carrier;
    carrier.clips = true;
  } else if (reshapes(node)) {
    if (!drops_unit_axes(node)) return carrier;
    carrier.flattens = true;
  } else if (std::ranges::none_of(kThrough, [&](auto type) { return node.is(type); })) {
    return carrier;
  }
  if (node.is("PRelu") && !is_constant(node.input(1))) return carrier;
  carrier.inputs.push_back(0);
  return carrier;
}

bool is_norm_type(const Node& node) {
  return node.is("LayerNormalization") || node.is("RMSNormalization") ||
         node.is("SimplifiedLayerNormalization");
}

bool is_layer_norm(const Node& node, std::int64_t channels) {
  if (!is_norm_type(node) || node.input(1) == nullptr) return false;
  for (const std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
    if (node.input(slot) == nullptr) continue;
    const auto constant = constant_of(node.input(slot));
    if (!constant || constant->dims().size() != 1 || constant->elements() != channels ||
        constant->dtype() != DataType::kFloat) {
      return false;
    }
  }
  return true;
}

// The slot of the constant when the node multiplies something whose channels can not be scaled
// further up by one number per channel of its last axis.
std::optional<std::size_t> gain_slot(Node& node, std::int64_t channels) {
  if (!node.is("Mul") || node.input(0) == nullptr || node.input(1) == nullptr) return std::nullopt;
  const std::size_t slot = is_constant(node.input(1)) ? 1 : 0;
  const Value& data = *node.input(1 - slot);
  const auto constant = constant_of(node.input(slot));
  if (!constant || is_constant(&data) || channels < 2 || constant->elements() != channels ||
      constant->dtype() != DataType::kFloat || constant->dims().empty() ||
      constant->dims().back() != channels) {
    return std::nullopt;
  }
  Node* const maker = data.producer();
  if (maker == nullptr || is_norm_type(*maker) || linear_operator(*maker).op ||
      !carrier_of(*maker).inputs.empty()) {
    return std::nullopt;
  }
  return slot;
}

std::string named(const Node& node) {
  return std::string(node.op_type()) + " '" + node.label() + "'";
}

// Finds one group: everything that is connected with a value.
class Flood {
 public:
  Flood(const Graph& graph, std::set<const Value*>& seen) : graph_(graph), seen_(seen) {}

  void from(Value& value, std::int64_t channels, std::size_t from_end) {
    group_.channels = channels;
    reach(value, from_end);
    while (!queue_.empty()) {
      const auto [next, axis] = queue_.back();
      queue_.pop_back();
      look_at(*next, axis);
    }
  }
  ScaleGroup& group() { return group_; }
  const std::string& why() const { return why_; }

 private:
  void reach(Value& value, std::size_t from_end) {
    const auto [place, fresh] = axes_.try_emplace(&value, from_end);
    if (!fresh) {
      if (place->second != from_end) stop("its channels meet those of another axis");
      return;
    }
    seen_.insert(&value);
    group_.values.emplace_back(&value, from_end);
    queue_.emplace_back(&value, from_end);
  }

  void stop(std::string why) {
    if (why_.empty()) why_ = std::move(why);
  }

  void look_at(Value& value, std::size_t from_end) {
    const std::string name = "'" + std::string(value.name()) + "'";
    if (value.is_graph_output()) stop(name + " is an output of the model");
    if (is_captured(value)) stop(name + " is read inside a nested graph");
    if (element_type(value) != DataType::kFloat) stop(name + " is not known to be float32");
    if (dim_of(value, -1 - static_cast<std::int64_t>(from_end)) != group_.channels) {
      stop("the channels of " + name + " are not known");
    }
    if (value.producer() == nullptr) {
      stop(name + " is an input of the model");
    } else {
      maker(*value.producer(), value, from_end);
    }
    for (const Use& use : value.uses()) {
      if (use.node != nullptr && use.graph == &graph_) reader(*use.node, use.slot, from_end);
    }
  }

  void maker(Node& node, const Value& value, std::size_t from_end) {
    if (LinearSearch search = linear_operator(node); search.op) {
      const LinearOp& op = *search.op;
      if (op.out.channels == group_.channels && op.out.from_end == from_end &&
          element_type(*node.input(1)) == DataType::kFloat && node.output(0) == &value) {
        group_.makers.push_back(op);
      } else {
        stop(op.label() + " has other channels");
      }
      return;
    }
    if (from_end == 0 && node.output(0) == &value && is_layer_norm(node, group_.channels)) {
      group_.norms.push_back(&node);
      return;
    }
    if (const auto slot = from_end == 0 ? gain_slot(node, group_.channels) : std::nullopt) {
      group_.gains.push_back({&node, *slot, {group_.channels, rank_of(value), 0}});
      return;
    }
    const Carrier carrier = carrier_of(node);
    if (carrier.inputs.empty() || node.output(0) != &value) {
      stop(named(node) + " makes '" + std::string(value.name()) + "'");
      return;
    }
    carry(node, carrier, from_end);
  }

  void reader(Node& node, std::size_t slot, std::size_t from_end) {
    if (node.is("Shape") || node.is("Size")) return;  // the same whatever the values are
    if (LinearSearch search = linear_operator(node); search.op && slot == 0) {
      const LinearOp& op = *search.op;
      if (op.in_layout && op.in.channels == group_.channels && op.in.from_end == from_end &&
          element_type(*node.input(1)) == DataType::kFloat) {
        if (readers_.insert(&node).second) group_.readers.push_back(op);
      } else {
        stop(op.label() + " has other channels");
      }
      return;
    }
    const Carrier carrier = carrier_of(node);
    if (std::ranges::find(carrier.inputs, slot) == carrier.inputs.end()) {
      stop(named(node) + " reads it");
      return;
    }
    std::size_t out_axis = from_end;
    if (carrier.flattens) {
      const auto rank = rank_of(*node.input(0));
      if (!rank || from_end + 2 != *rank) return stop(named(node) + " reads it");
      out_axis = 0;
    }
    carry(node, carrier, out_axis);
  }

  // `from_end`: of the channels in the node's output.
  void carry(Node& node, const Carrier& carrier, std::size_t from_end) {
    std::size_t in_axis = from_end;
    if (carrier.flattens) {
      const auto rank = rank_of(*node.input(0));
      if (!rank || from_end != 0) return stop(named(node) + " moves its channels");
      in_axis = *rank - 2;
    }
    reach(*node.output(0), from_end);
    for (const std::size_t slot : carrier.inputs) reach(*node.input(slot), in_axis);
    if (!carried_.insert(&node).second) return;
    if (carrier.constant) {
      const ChannelAxis axis{group_.channels, rank_of(*node.output(0)), from_end};
      const std::size_t slot = carrier.inputs.front() == 0 ? 1 : 0;
      if (!per_channel(axis, node.input(slot)) ||
          element_type(*node.input(slot)) != DataType::kFloat) {
        stop("the constant of " + named(node) + " is not one number per channel");
      }
      group_.shifts.push_back({&node, slot, axis});
    }
    if (carrier.clips) {
      group_.clips.push_back(&node);
      group_.top = std::min(group_.top, clip_bounds(node).top);
    }
  }

  const Graph& graph_;
  std::set<const Value*>& seen_;
  ScaleGroup group_;
  std::string why_;
  std::map<const Value*, std::size_t> axes_;
  std::set<const Node*> carried_, readers_;
  std::vector<std::pair<Value*, std::size_t>> queue_;
};

Result<Tensor> scaled_list(PassContext& context, const Value& constant, const ChannelAxis& axis,
                           std::span<const double> factors, std::vector<std::int64_t> dims) {
  auto numbers = per_channel(axis, &constant);
  if (!numbers) {
    return Error(Code::kInternal, "scale-constant", "a constant is not one number per channel",
                 {{}, {}, std::string(constant.name())});
  }
  for (std::size_t i = 0; i < numbers->size(); ++i) (*numbers)[i] *= factors[i];
  MCOMPRESS_ASSIGN(Rounded rounded,
                   round_coefficients(context, {std::move(dims), *numbers}, DataType::kFloat));
  if (!rounded.tensor) {
    return Error(Code::kUnsupported, "scale-constant", std::move(rounded.why_not));
  }
  return std::move(*rounded.tensor);
}

}  // namespace

ScaleGroups find_scale_groups(Graph& graph) {
  ScaleGroups groups;
  std::set<const Value*> seen;
  for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    Value* output = node->output(0);
    if (output == nullptr || seen.count(output) != 0) continue;
    std::int64_t channels = 0;
    std::size_t from_end = 0;
    if (is_norm_type(*node)) {
      channels = dim_of(*output, -1).value_or(0);
      if (!is_layer_norm(*node, channels)) continue;
    } else if (gain_slot(*node, dim_of(*output, -1).value_or(0))) {
      channels = *dim_of(*output, -1);
    } else {
      const LinearSearch search = linear_operator(*node);
      if (!search.op) continue;
      channels = search.op->out.channels;
      from_end = search.op->out.from_end;
    }
    Flood flood(graph, seen);
    flood.from(*output, channels, from_end);
    if (!flood.why().empty()) {
      groups.left.emplace_back(node, flood.why());
    } else if (flood.group().readers.empty()) {
      groups.left.emplace_back(node, "no linear operator reads what it makes");
    } else {
      groups.found.push_back(std::move(flood.group()));
    }
  }
  return groups;
}

Result<std::string> apply_scales(PassContext& context, const ScaleGroup& group,
                                 std::span<const double> scales) {
  std::vector<double> inverse(scales.begin(), scales.end());
  for (double& x : inverse) x = 1 / x;
  const std::vector<double> zeros(scales.size(), 0.0);
  // Numbers first: a float32 that can not hold one is found before anything is changed.
  std::vector<std::pair<std::pair<Node*, std::size_t>, Tensor>> constants;
  for (const ScaledConstant& shift : group.shifts) {
    std::vector<std::int64_t> dims(shift.axis.from_end + 1, 1);
    dims[0] = group.channels;
    MCOMPRESS_ASSIGN(Tensor tensor, scaled_list(context, *shift.node->input(shift.slot), shift.axis,
                                                inverse, std::move(dims)));
    constants.emplace_back(std::pair(shift.node, shift.slot), std::move(tensor));
  }
  for (const ScaledConstant& gain : group.gains) {
    MCOMPRESS_ASSIGN(Tensor tensor, scaled_list(context, *gain.node->input(gain.slot), gain.axis,
                                                inverse, {group.channels}));
    constants.emplace_back(std::pair(gain.node, gain.slot), std::move(tensor));
  }
  for (Node* norm : group.norms) {
    for (const std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
      if (norm->input(slot) == nullptr) continue;
      MCOMPRESS_ASSIGN(Tensor tensor,
                       scaled_list(context, *norm->input(slot), {group.channels, std::size_t{1}, 0},
                                   inverse, {group.channels}));
      constants.emplace_back(std::pair(norm, slot), std::move(tensor));
    }
  }
  std::size_t made = 0;
  std::size_t read = 0;
  std::string why;
  for (; made < group.makers.size() && why.empty(); ++made) {
    MCOMPRESS_ASSIGN(why, scale_output(context, group.makers[made], inverse, zeros));
  }
  for (; read < group.readers.size() && why.empty(); ++read) {
    const LinearOp& op = group.readers[read];
    MCOMPRESS_ASSIGN(why, absorb_before(context, op, *op.node->input(0), scales, zeros));
  }
  if (!why.empty()) {  // back again; the last one of all did nothing
    if (read > 0) {
      --read;
    } else {
      --made;
    }
    for (std::size_t i = 0; i < made; ++i) {
      MCOMPRESS_TRY(scale_output(context, group.makers[i], scales, zeros));
    }
    for (std::size_t i = 0; i < read; ++i) {
      const LinearOp& op = group.readers[i];
      MCOMPRESS_TRY(absorb_before(context, op, *op.node->input(0), inverse, zeros));
    }
    return why;
  }
  for (auto& [place, tensor] : constants) {
    give_constant(context, *place.first, place.second,
                  std::string(place.first->output(0)->name()) + "_scaled", std::move(tensor));
  }
  return why;
}

Result<std::string> insert_scales(PassContext& context, Value& value,
                                  std::span<const LinearOp> readers,
                                  std::span<const double> scales) {
  const auto rank = rank_of(value);
  if (!rank || readers.empty()) return std::string("its rank is not known");
  const ChannelAxis& axis = readers.front().in;
  std::vector<double> inverse(scales.begin(), scales.end());
  for (double& x : inverse) x = 1 / x;
  std::vector<std::int64_t> dims(axis.from_end + 1, 1);
  dims[0] = axis.channels;
  MCOMPRESS_ASSIGN(Rounded factors,
                   round_coefficients(context, {std::move(dims), inverse}, DataType::kFloat));
  if (!factors.tensor) return std::move(factors.why_not);
  const std::vector<double> zeros(scales.size(), 0.0);
  const std::string base(value.name());
  Value& factor =
      add_constant(context, value.graph(), base + "_smoothing", std::move(*factors.tensor));
  NewNode mul{"Mul", {&value, &factor}, 1, base + "_smoothed", "", {}, {}};
  Node& product = value.producer() != nullptr
                      ? context.edit().insert_after(*value.producer(), std::move(mul))
                      : context.edit().insert_before(*value.graph().first(), std::move(mul));
  if (value.type() != nullptr) {
    context.edit().set_type(*product.output(0), *value.type(), false);
  }
  for (std::size_t i = 0; i < readers.size(); ++i) {
    MCOMPRESS_ASSIGN(std::string why,
                     absorb_before(context, readers[i], *product.output(0), scales, zeros));
    if (why.empty()) continue;
    for (std::size_t j = 0; j < i; ++j) {
      MCOMPRESS_TRY(absorb_before(context, readers[j], value, inverse, zeros));
    }
    MCOMPRESS_TRY(erase_unused(context, *product.output(0)));
    return why;
  }
  return std::string();
}

}  // namespace mcompress
