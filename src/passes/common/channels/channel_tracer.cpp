#include "passes/common/channels/channel_tracer.h"

#include <algorithm>
#include <numeric>

#include "ir/facts.h"

namespace mcompress {
namespace {

using Cells = std::vector<std::uint32_t>;

AxisCells share(Cells cells) { return std::make_shared<const Cells>(std::move(cells)); }

}  // namespace

ChannelTracer::ChannelTracer(ChannelTrace& trace)
    : trace_(trace), graph_(trace.model().graph()), asked_(trace.model().value_limit()) {
  trace_.axes_.resize(trace.model().value_limit());
}

std::uint32_t ChannelTracer::find(std::uint32_t cell) {
  while (parent_[cell] != cell) {
    parent_[cell] = parent_[parent_[cell]];
    cell = parent_[cell];
  }
  return cell;
}

std::uint32_t ChannelTracer::find_family(std::uint32_t family) {
  while (family_parent_[family] != family) {
    family_parent_[family] = family_parent_[family_parent_[family]];
    family = family_parent_[family];
  }
  return family;
}

AxisCells ChannelTracer::fresh(std::int64_t size, const Node& maker) {
  // One channel can not go, and tens of millions are no channels.
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  if (size < 2 || size > kMost) return nullptr;
  const auto family = static_cast<std::uint32_t>(family_parent_.size());
  family_parent_.push_back(family);
  family_maker_.push_back(&maker);
  family_split_.push_back(false);
  Cells cells(static_cast<std::size_t>(size));
  std::iota(cells.begin(), cells.end(), static_cast<std::uint32_t>(parent_.size()));
  parent_.insert(parent_.end(), cells.begin(), cells.end());
  family_of_cell_.resize(parent_.size(), family);
  frozen_.resize(parent_.size());
  return share(std::move(cells));
}

void ChannelTracer::unite(std::uint32_t left, std::uint32_t right) {
  if (left == kFixedCell || right == kFixedCell) return;
  left = find(left), right = find(right);
  if (left == right) return;
  if (right < left) std::swap(left, right);  // the oldest stays the root
  parent_[right] = left;
  if (frozen_[left].empty()) frozen_[left] = std::move(frozen_[right]);
  const std::uint32_t first = find_family(family_of_cell_[left]),
                      second = find_family(family_of_cell_[right]);
  if (first == second) return;
  const std::uint32_t kept = std::min(first, second), gone = std::max(first, second);
  family_parent_[gone] = kept;
  family_split_[kept] = family_split_[kept] || family_split_[gone];
}

void ChannelTracer::freeze(std::uint32_t cell, const std::string& why) {
  if (cell == kFixedCell) return;
  std::string& reason = frozen_[find(cell)];
  if (reason.empty()) reason = why;
}

void ChannelTracer::freeze(const AxisCells& cells, const std::string& why) {
  if (cells == nullptr) return;
  for (const std::uint32_t cell : *cells) freeze(cell, why);
}

AxisCells ChannelTracer::unite(const AxisCells& left, const AxisCells& right, const Node& node) {
  if (left == right) return left;
  if (left == nullptr || right == nullptr || left->size() != right->size()) {
    const std::string why = node.label() + " combines them with channels that can not be cut";
    freeze(left, why), freeze(right, why);
    return left != nullptr ? left : right;
  }
  const std::string why = node.label() + " combines it with a channel that can not be cut";
  for (std::size_t i = 0; i < left->size(); ++i) unite_or_freeze((*left)[i], (*right)[i], why);
  return left;
}

void ChannelTracer::unite_or_freeze(std::uint32_t left, std::uint32_t right,
                                    const std::string& why) {
  if (left != kFixedCell && right != kFixedCell) {
    unite(left, right);
  } else {
    freeze(left, why), freeze(right, why);
  }
}

AxisCells ChannelTracer::only_axis(const Value* value, std::size_t axis, const std::string& why) {
  AxisCells cells = axis_of(value, axis);
  for (const AxisCells& other : axes_of(value)) {
    if (other != cells) freeze(other, why);
  }
  return cells;
}

void ChannelTracer::freeze_inputs(const Node& node, const std::string& why) {
  for (const Value* input : node.inputs()) {
    if (input == nullptr) continue;
    for (const AxisCells& cells : trace_.axes_[input->id()]) freeze(cells, why);
  }
}

// ------------------------------------------------------------------------------------- values

ChannelTracer::Axes ChannelTracer::axes_of(const Value* value) const {
  return value == nullptr ? Axes{} : trace_.axes_[value->id()];
}

AxisCells ChannelTracer::axis_of(const Value* value, std::size_t axis) const {
  if (value == nullptr) return nullptr;
  const Axes& axes = trace_.axes_[value->id()];
  return axis < axes.size() ? axes[axis] : nullptr;
}

void ChannelTracer::set(const Value* value, Axes axes) {
  if (value == nullptr) return;
  if (std::ranges::all_of(axes, [](const AxisCells& cells) { return cells == nullptr; })) return;
  trace_.axes_[value->id()] = std::move(axes);
}

std::optional<ChannelTracer::Dims> ChannelTracer::dims_of(const Value* value) {
  if (value == nullptr) return std::nullopt;
  if (const Tensor* tensor = value->initializer()) {
    return Dims(tensor->dims().begin(), tensor->dims().end());
  }
  if (value->type() == nullptr || !value->type()->shape) return std::nullopt;
  Dims dims;
  for (const Dim& dim : *value->type()->shape) dims.push_back(dim.size);
  return dims;
}

bool ChannelTracer::is_weight(const Value* value) {
  const Tensor* tensor = value != nullptr ? value->constant() : nullptr;
  // Packed types have no bytes of their own for each element.
  return tensor != nullptr && !tensor->is_opaque() && tensor->elements() > 0 &&
         tensor->byte_size() % static_cast<std::uint64_t>(tensor->elements()) == 0;
}

AxisCells ChannelTracer::demand(const Node& node, const Value& constant, std::size_t axis,
                                AxisCells cells, ChannelMember::Role role) {
  Axes& axes = trace_.axes_[constant.id()];
  axes.resize(constant.initializer()->dims().size());
  if (cells == nullptr) {
    freeze(axes[axis], node.label() + " reads '" + std::string(constant.name()) +
                           "' by channels that can not be cut");
    return axes[axis];
  }
  ++asked_[constant.id()][axis];
  axes[axis] = axes[axis] == nullptr ? cells : unite(axes[axis], cells, node);
  trace_.slices_.push_back({&node, &constant, axis, axes[axis], role});
  return axes[axis];
}

AxisCells ChannelTracer::make(const Node& node, const Value& constant, std::size_t axis) {
  const Axes& axes = trace_.axes_[constant.id()];
  AxisCells cells = axis < axes.size() ? axes[axis] : nullptr;
  if (cells == nullptr) cells = fresh(constant.initializer()->dims()[axis], node);
  return cells == nullptr ? nullptr
                          : demand(node, constant, axis, cells, ChannelMember::Role::kMakes);
}

// --------------------------------------------------------------------------------- the whole

void ChannelTracer::run() {
  for (Node* node = graph_.first(); node != nullptr; node = graph_.next(*node)) {
    if (follow(*node)) continue;
    freeze_inputs(*node, node->label() + " reads them in a way that is not followed");
  }
  check_readers();
  make_groups();
}

// What is read where no rule looks: outputs, nested graphs, and constants with readers that do not
// know of the cut.
void ChannelTracer::check_readers() {
  const auto check = [&](const Value& value) {
    const Axes& axes = trace_.axes_[value.id()];
    if (axes.empty()) return;
    for (const Use& use : value.uses()) {
      std::string why;
      if (use.node == nullptr) why = "'" + std::string(value.name()) + "' is a graph output";
      if (use.graph != &graph_)
        why = "'" + std::string(value.name()) + "' is read in a nested graph";
      if (why.empty()) continue;
      for (const AxisCells& cells : axes) freeze(cells, why);
    }
    if (value.initializer() == nullptr) return;
    for (std::size_t axis = 0; axis < axes.size(); ++axis) {
      if (axes[axis] == nullptr || asked_[value.id()][axis] >= value.uses().size()) continue;
      freeze(axes[axis], "'" + std::string(value.name()) +
                             "' has another reader, for which these are no channels");
    }
  };
  for (const Value* value : graph_.initializers()) check(*value);
  for (const Node* node = graph_.first(); node != nullptr; node = graph_.next(*node)) {
    for (const Value* value : node->outputs()) {
      if (value != nullptr) check(*value);
    }
  }
}

void ChannelTracer::make_groups() {
  constexpr std::uint32_t kNone = UINT32_MAX;
  std::vector<std::uint32_t> unit_of_root(parent_.size(), kNone),
      group_of_family(family_parent_.size(), kNone);
  trace_.unit_of_cell_.resize(parent_.size());
  std::vector<std::uint32_t> group_of_unit;
  for (std::uint32_t cell = 0; cell < parent_.size(); ++cell) {
    const std::uint32_t root = find(cell);
    if (unit_of_root[root] == kNone) {
      unit_of_root[root] = static_cast<std::uint32_t>(trace_.frozen_.size());
      trace_.frozen_.push_back(frozen_[root]);
      const std::uint32_t family = find_family(family_of_cell_[root]);
      if (group_of_family[family] == kNone) {
        group_of_family[family] = static_cast<std::uint32_t>(trace_.groups_.size());
        ChannelTrace::Group& group = trace_.groups_.emplace_back();
        group.facts.name = family_maker_[family]->label();
        if (family_split_[family]) group.facts.kind = ChannelKind::kHeads;
      }
      group_of_unit.push_back(group_of_family[family]);
      trace_.groups_[group_of_family[family]].units.push_back(unit_of_root[root]);
    }
    trace_.unit_of_cell_[cell] = unit_of_root[root];
  }
  std::vector<std::vector<std::size_t>> members(trace_.groups_.size());
  for (std::size_t i = 0; i < trace_.slices_.size(); ++i) {
    std::uint32_t last = kNone;
    for (const std::uint32_t cell : *trace_.slices_[i].cells) {
      if (cell == kFixedCell) continue;
      const std::uint32_t group = group_of_unit[trace_.unit_of_cell_[cell]];
      if (group == last) continue;
      last = group;
      if (members[group].empty() || members[group].back() != i) members[group].push_back(i);
    }
  }
  for (std::size_t g = 0; g < trace_.groups_.size(); ++g) {
    ChannelTrace::Group& group = trace_.groups_[g];
    ChannelGroup& facts = group.facts;
    group.slices = std::move(members[g]);
    facts.units = static_cast<std::int64_t>(group.units.size());
    for (const std::uint32_t unit : group.units) {
      if (!trace_.is_frozen(unit)) ++facts.free_units;
      if (facts.frozen.empty()) facts.frozen = trace_.why_frozen(unit);
    }
    bool products = true, reads = false, wide = false;
    for (const std::size_t place : group.slices) {
      const ChannelSlices& slice = trace_.slices_[place];
      facts.members.push_back({slice.node->label(), std::string(slice.node->op_type()),
                               slice.tensor->initializer() != nullptr
                                   ? std::string(slice.tensor->name())
                                   : std::string(),
                               static_cast<std::int64_t>(slice.axis), slice.role});
      if (slice.role == ChannelMember::Role::kParameter) continue;
      reads = reads || slice.role == ChannelMember::Role::kReads;
      products = products && (slice.node->is("Gemm") || slice.node->is("MatMul"));
      if (slice.role == ChannelMember::Role::kMakes && !wide) {
        wide = true;
        std::int64_t count = 0;
        for (const std::uint32_t cell : *slice.cells) {
          count += cell != kFixedCell && trace_.unit_of_cell_[cell] == group.units.front() ? 1 : 0;
        }
        facts.unit_width = std::max<std::int64_t>(count, 1);
      }
    }
    if (products && reads && facts.kind == ChannelKind::kChannels) facts.kind = ChannelKind::kFfn;
  }
}

// -------------------------------------------------------------------------------- public side

ChannelTrace::ChannelTrace(Model& model) : model_(&model) { ChannelTracer(*this).run(); }

std::string_view name_of(ChannelKind kind) {
  return kind == ChannelKind::kHeads ? "heads" : kind == ChannelKind::kFfn ? "ffn" : "channels";
}

std::string_view name_of(ChannelMember::Role role) {
  return role == ChannelMember::Role::kMakes   ? "makes"
         : role == ChannelMember::Role::kReads ? "reads"
                                               : "parameter";
}

std::vector<ChannelGroup> channel_groups(const Model& model) {
  const auto copy = model.clone();
  std::vector<ChannelGroup> groups;
  const ChannelTrace trace(*copy);
  for (const ChannelTrace::Group& group : trace.groups()) groups.push_back(group.facts);
  return groups;
}

}  // namespace mcompress
