// How channels pass through operators that have rules of their own: group normalisations, pixels
// shuffled to channels, numbers rounded to integers, sums by Einstein's convention, and recurrent
// layers.
#include <algorithm>
#include <array>
#include <map>

#include "ir/facts.h"
#include "passes/common/channels/channel_tracer.h"

namespace mcompress {
namespace {

using Role = ChannelMember::Role;
using Cells = std::vector<std::uint32_t>;

AxisCells share(Cells cells) { return std::make_shared<const Cells>(std::move(cells)); }

// The same cells, so many times over.
AxisCells repeated(const AxisCells& cells, std::size_t times) {
  if (cells == nullptr) return nullptr;
  Cells all;
  all.reserve(cells->size() * times);
  for (std::size_t i = 0; i < times; ++i) all.insert(all.end(), cells->begin(), cells->end());
  return share(std::move(all));
}

// Products whose weights are integers, and the input that holds them.
struct IntegerProduct {
  std::string_view op_type;
  std::size_t weight;
  bool convolves;
};
constexpr auto kIntegerProducts = std::to_array<IntegerProduct>({
    {"ConvInteger", 1, true},
    {"DynamicQuantizeMatMul", 1, false},
    {"MatMulInteger", 1, false},
    {"MatMulIntegerToFloat", 1, false},
    {"MatMulNBits", 1, false},
    {"QGemm", 3, false},
    {"QLinearConv", 3, true},
    {"QLinearMatMul", 3, false},
});

// A constant that is turned from integers to floats, maybe moved on the way.
bool is_rounded_weight(const Value* value) {
  for (int depth = 0; depth < 4 && value != nullptr; ++depth) {
    const Node* maker = value->producer();
    if (maker == nullptr) return false;
    if (maker->is("DequantizeLinear")) return is_constant(maker->input(0));
    if (!maker->is("Transpose") && !maker->is("Reshape") && !maker->is("Identity") &&
        !maker->is("Cast")) {
      return false;
    }
    value = maker->input(0);
  }
  return false;
}

}  // namespace

std::optional<bool> ChannelTracer::special(Node& node) {
  if (rounded_weights(node)) return true;
  if (!node.domain().empty() || !node.bodies().empty()) return std::nullopt;
  if (node.is("GroupNormalization")) return group_norm(node);
  if (node.is("LRN")) {
    return freeze_axes(
        node, [](std::size_t axis) { return axis == 1; },
        node.label() + " takes sums over neighbours of them");
  }
  if (node.is("DepthToSpace")) return depth_to_space(node);
  if (node.is("SpaceToDepth")) return space_to_depth(node);
  if (node.is("QuantizeLinear") || node.is("DequantizeLinear")) return round_trip(node);
  if (node.is("Einsum")) return einsum(node);
  if (node.is("LSTM")) return recurrent(node, 4);
  if (node.is("GRU")) return recurrent(node, 3);
  if (node.is("RNN")) return recurrent(node, 1);
  return std::nullopt;
}

// A layer whose weights are integers keeps its channels, and those that it reads.
bool ChannelTracer::rounded_weights(Node& node) {
  const auto* product =
      std::ranges::find(kIntegerProducts, node.op_type(), &IntegerProduct::op_type);
  std::size_t slot = 1;
  bool convolves = node.is("Conv") || node.is("ConvTranspose");
  if (product != kIntegerProducts.end()) {
    slot = product->weight;
    convolves = product->convolves;
  } else {
    if (!convolves && !node.is("Gemm") && !node.is("MatMul")) return false;
    if (!is_rounded_weight(node.input(1))) {
      if (!node.is("MatMul") || !is_rounded_weight(node.input(0))) return false;
      slot = 0;
    }
  }
  const std::string why = node.label() + " has weights that are stored as integers";
  freeze_inputs(node, why);
  const auto dims = dims_of(node.output(0));
  if (!dims || dims->size() < 2) return true;
  Axes out(dims->size());
  const std::size_t axis = convolves ? 1 : slot == 0 ? dims->size() - 2 : dims->size() - 1;
  if (const auto size = (*dims)[axis]) out[axis] = fresh(*size, node);
  freeze(out[axis], why);
  set(node.output(0), std::move(out));
  return true;
}

// Means are those of groups of channels: a group goes as a whole. Up to opset 20 scale and shift
// are one number per group, then one per channel.
bool ChannelTracer::group_norm(Node& node) {
  const AxisCells cells = only_axis(node.input(0), 1, node.label() + " takes means over them");
  const auto dims = dims_of(node.input(0));
  if (cells == nullptr) return true;
  const auto groups =
      static_cast<std::size_t>(std::max<std::int64_t>(node.int_attribute("num_groups", 0), 0));
  if (!dims || groups == 0 || cells->size() % groups != 0) return false;
  const std::size_t each = cells->size() / groups;
  if (groups == 1) freeze(cells, node.label() + " takes means or sums over them");
  Cells heads;
  const std::string why = node.label() + " has a channel in the group that can not be cut";
  for (std::size_t i = 0; i < cells->size(); ++i) {
    const std::uint32_t head = (*cells)[i - i % each];
    if (i % each == 0) heads.push_back(head);
    unite_or_freeze(head, (*cells)[i], why);
  }
  const AxisCells of_groups = share(std::move(heads));
  for (std::size_t i = 1; i < node.inputs().size(); ++i) {
    const Value* parameter = node.input(i);
    if (!is_weight(parameter) || parameter->initializer()->dims().size() != 1) {
      freeze(cells, node.label() + " has parameters that are computed");
      continue;
    }
    const auto size = static_cast<std::size_t>(parameter->initializer()->dims()[0]);
    if (size != cells->size() && size != groups) return false;
    demand(node, *parameter, 0, size == cells->size() ? cells : of_groups, Role::kParameter);
  }
  trace_.edits_.push_back({&node, ChannelEdit::What::kNormGroups, 0, 0, {}, {of_groups}, {}});
  Axes out(dims->size());
  out[1] = cells;
  set(node.output(0), std::move(out));
  return true;
}

// Channels that become the pixels of one: they go together.
bool ChannelTracer::depth_to_space(Node& node) {
  const AxisCells cells =
      only_axis(node.input(0), 1, node.label() + " puts other channels between them");
  if (cells == nullptr) return true;
  const auto block = static_cast<std::size_t>(
      std::clamp<std::int64_t>(node.int_attribute("blocksize", 0), 0, 4096));
  if (block == 0 || cells->size() % (block * block) != 0) return false;
  const std::size_t made = cells->size() / (block * block);
  const bool columns_first = node.string_attribute("mode", "DCR") == "DCR";
  Cells out(cells->begin(), cells->begin() + static_cast<std::ptrdiff_t>(made));
  const std::string why = node.label() + " joins it with a channel that can not be cut";
  for (std::size_t c = 0; c < made; ++c) {
    const auto place = [&](std::size_t k) {
      return (*cells)[columns_first ? k * made + c : c * block * block + k];
    };
    out[c] = place(0);
    for (std::size_t k = 1; k < block * block; ++k) unite_or_freeze(out[c], place(k), why);
  }
  if (made < 2) {
    freeze(cells, node.label() + " makes one channel of them");
    return true;
  }
  Axes axes(4);
  axes[1] = share(std::move(out));
  set(node.output(0), std::move(axes));
  return true;
}

// Channel o of the output is channel o mod C of the input.
bool ChannelTracer::space_to_depth(Node& node) {
  const AxisCells cells = only_axis(node.input(0), 1, node.label() + " takes them apart");
  if (cells == nullptr) return true;
  const auto block =
      static_cast<std::size_t>(std::clamp<std::int64_t>(node.int_attribute("blocksize", 0), 0, 64));
  if (block == 0) return false;
  Axes axes(4);
  axes[1] = repeated(cells, block * block);
  set(node.output(0), std::move(axes));
  return true;
}

// To integers and back: a scale for all, or one for each index of an axis.
bool ChannelTracer::round_trip(Node& node) {
  const Axes axes = axes_of(node.input(0));
  if (std::ranges::all_of(axes, [](const AxisCells& cells) { return cells == nullptr; })) {
    return true;
  }
  if (node.int_attribute("block_size", 0) != 0) {
    freeze_inputs(node, node.label() + " has scales of blocks");
    return true;
  }
  if (node.input(0)->initializer() != nullptr) return false;
  std::int64_t axis = node.int_attribute("axis", 1);
  if (axis < 0) axis += static_cast<std::int64_t>(axes.size());
  for (std::size_t i = 1; i < node.inputs().size(); ++i) {
    const Value* parameter = node.input(i);
    if (parameter == nullptr) continue;
    if (!is_weight(parameter)) {
      freeze_inputs(node, node.label() + " has scales that are computed");
      return true;
    }
    if (parameter->initializer()->elements() == 1) continue;
    if (parameter->initializer()->dims().size() != 1 || axis < 0 ||
        axis >= static_cast<std::int64_t>(axes.size())) {
      return false;
    }
    demand(node, *parameter, 0, axes[static_cast<std::size_t>(axis)], Role::kParameter);
  }
  set(node.output(0), axes);
  return true;
}

// Einsum: axes of one letter are the same channels. A letter that only a constant has, and that is
// left, is made by it.
bool ChannelTracer::einsum(Node& node) {
  std::string equation(node.string_attribute("equation", ""));
  std::erase(equation, ' ');
  const std::size_t arrow = equation.find("->");
  if (arrow == std::string::npos || equation.find('.') != std::string::npos) return false;
  const std::string left = equation.substr(0, arrow), result = equation.substr(arrow + 2);
  std::vector<std::string> terms(1);
  for (const char c : left) {
    if (c == ',') {
      terms.emplace_back();
    } else {
      terms.back() += c;
    }
  }
  const auto repeats = [](std::string term) {
    std::ranges::sort(term);
    return std::ranges::adjacent_find(term) != term.end();
  };
  if (terms.size() != node.inputs().size() || repeats(result)) return false;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const auto dims = dims_of(node.input(i));
    if (!dims || dims->size() != terms[i].size() || repeats(terms[i])) return false;
  }
  struct Letter {
    AxisCells cells;
    bool tracked = false, fixed = false;
    std::vector<std::pair<const Value*, std::size_t>> constants;
  };
  std::map<char, Letter> letters;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const Value* input = node.input(i);
    for (std::size_t axis = 0; axis < terms[i].size(); ++axis) {
      Letter& letter = letters[terms[i][axis]];
      if (is_weight(input)) {
        letter.constants.emplace_back(input, axis);
        continue;
      }
      letter.tracked = true;
      const AxisCells mine = axis_of(input, axis);
      if (mine == nullptr) {
        letter.fixed = true;
      } else {
        letter.cells = letter.cells == nullptr ? mine : unite(letter.cells, mine, node);
      }
    }
  }
  Axes out(result.size());
  for (auto& [name, letter] : letters) {
    const std::size_t at = result.find(name);
    const bool stays = at != std::string::npos;
    if (letter.cells != nullptr && letter.fixed) {
      freeze(letter.cells, node.label() + " combines them with channels that can not be cut");
    }
    if (letter.tracked) {
      for (const auto& [constant, axis] : letter.constants) {
        demand(node, *constant, axis, letter.cells, stays ? Role::kParameter : Role::kReads);
      }
    } else if (stays && letter.constants.size() == 1) {
      const auto& [constant, axis] = letter.constants.front();
      letter.cells = make(node, *constant, axis);
    } else {
      for (const auto& [constant, axis] : letter.constants) {
        demand(node, *constant, axis, nullptr, Role::kReads);
      }
    }
    if (stays) out[at] = letter.cells;
  }
  set(node.output(0), std::move(out));
  return true;
}

// W [directions, gates * hidden, inputs], R [directions, gates * hidden, hidden], B [directions, 2
// * gates * hidden]: a hidden unit is a row of each gate, and what all units of the next step read
// of it. Both directions lose the same units.
bool ChannelTracer::recurrent(Node& node, std::size_t gates) {
  const Value* const w = node.input(1);
  const Value* const r = node.input(2);
  if (!is_weight(w) || !is_weight(r) || w->initializer()->dims().size() != 3 ||
      r->initializer()->dims().size() != 3) {
    freeze_inputs(node, node.label() + " has weights that are computed");
    return true;
  }
  const AxisCells in = only_axis(node.input(0), 2, node.label() + " runs over them");
  if (in != nullptr && static_cast<std::int64_t>(in->size()) != w->initializer()->dims()[2]) {
    return false;
  }
  const std::int64_t size = r->initializer()->dims()[2];
  const auto rows = static_cast<std::int64_t>(gates) * size;
  if (w->initializer()->dims()[1] != rows || r->initializer()->dims()[1] != rows) return false;
  demand(node, *w, 2, in, Role::kReads);
  const Axes& known = trace_.axes_[r->id()];
  const AxisCells hidden = known.size() == 3 && known[2] != nullptr ? known[2] : fresh(size, node);
  if (hidden == nullptr) return true;
  const AxisCells each_gate = repeated(hidden, gates);
  demand(node, *w, 1, each_gate, Role::kMakes);
  demand(node, *r, 1, each_gate, Role::kMakes);
  demand(node, *r, 2, hidden, Role::kReads);
  const auto parameter = [&](std::size_t slot, std::size_t axis, const AxisCells& cells) {
    const Value* value = node.input(slot);
    if (value == nullptr) return;
    const auto dims = dims_of(value);
    if (!dims || axis >= dims->size() ||
        (*dims)[axis] != static_cast<std::int64_t>(cells->size())) {
      freeze(hidden, node.label() + " has parameters of unknown size");
    } else if (is_weight(value)) {
      demand(node, *value, axis, cells, Role::kParameter);
    } else {
      unite(axis_of(value, axis), cells, node);
    }
  };
  parameter(3, 1, repeated(hidden, 2 * gates));
  parameter(5, 2, hidden);
  if (gates == 4) {
    parameter(6, 2, hidden);
    parameter(7, 1, repeated(hidden, 3));
  }
  trace_.edits_.push_back({&node, ChannelEdit::What::kHiddenSize, 0, 0, {}, {hidden}, {}});
  for (std::size_t i = 0; i < node.outputs().size(); ++i) {
    Axes out(i == 0 ? 4 : 3);
    out.back() = hidden;
    set(node.output(i), std::move(out));
  }
  return true;
}

}  // namespace mcompress
