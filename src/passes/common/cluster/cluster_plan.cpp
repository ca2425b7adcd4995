#include "passes/common/cluster/cluster_plan.h"

#include <algorithm>
#include <bit>

#include "ir/facts.h"
#include "passes/common/constants.h"
#include "passes/common/selection.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kSensitive = 64;  // clusters: 6 bits

// Fed by an input of the graph alone.
bool is_first(const Node& node) {
  const Value* const data = node.input(0);
  return data != nullptr && data->is_graph_input();
}

void find_fewest(ClusterUnit& unit) {
  unit.fewest = 2;
  for (const Use& use : unit.value().uses()) {
    const Node& node = *use.node;
    if (!node.is("Conv")) continue;
    const auto dims = unit.tensor().dims();
    if (dims.size() > 1 && dims[1] == 1 && node.int_attribute("group", 1) > 1) {
      unit.fewest = kSensitive;
      unit.why_fewest = "depthwise convolution";
    } else if (is_first(node)) {
      unit.fewest = kSensitive;
      unit.why_fewest = "first convolution";
    }
  }
}

// Finds the rows of the weight; the reason why it stays.
std::string look_at_readers(BlockUnit::Holder& holder, const Selection& selection) {
  bool first = true;
  for (const Use& use : holder.value->uses()) {
    if (use.node == nullptr) return "is an output of the graph";
    const auto view = weight_view(*use.node, use.slot, holder.tensor.dims());
    if (!view) {
      holder.user = use.node;
      return "is not a weight of " + std::string(use.node->op_type()) + " '" + use.node->label() +
             "'";
    }
    if (std::string why = selection.why_not(*use.node, holder.value); !why.empty()) {
      holder.user = use.node;
      return why;
    }
    if (first) {
      holder.view = row_view(*view, holder.tensor.dims());
      holder.user = use.node;
    }
    first = false;
  }
  return {};
}

}  // namespace

unsigned index_bits(std::size_t clusters) {
  return std::max(1U, static_cast<unsigned>(std::bit_width(clusters - 1)));
}

ChannelGroups channel_groups(const RowView& view, std::size_t wanted) {
  ChannelGroups groups;
  if (wanted < 2 || view.rows < 2) return groups;
  groups.rows = view.rows, groups.inner = view.inner;
  groups.size = (view.rows + wanted - 1) / wanted;
  groups.count = (view.rows + groups.size - 1) / groups.size;
  return groups.count == 1 ? ChannelGroups{} : groups;
}

std::uint64_t clustered_bytes(std::int64_t elements, std::size_t clusters,
                              const ChannelGroups& groups) {
  const std::uint64_t books = 4 * clusters * groups.count;
  const std::uint64_t offsets = groups.count == 1                 ? 0
                                : groups.rows % groups.count == 0 ? 4 * groups.count
                                                                  : 4 * groups.rows;
  return (static_cast<std::uint64_t>(elements) * index_bits(clusters) + 7) / 8 + books + offsets;
}

Result<std::vector<ClusterUnit>> plan_clusters(Model& model, const ClusterRequest& request,
                                               PassContext& context) {
  const Selection selection(request.include, request.exclude);
  std::vector<ClusterUnit> units;
  for (Value* value : constants_of(model.graph())) {
    const Tensor tensor = value->is_initializer() ? *value->initializer() : *constant_of(value);
    if (tensor.dtype() != DataType::kFloat || value->uses().empty()) continue;
    if (tensor.elements() <= 16) continue;
    ClusterUnit unit;
    unit.place.holders.push_back(
        {value, tensor, {}, BlockUnit::Kind::kOther, BlockRule::Form::kFold, nullptr});
    BlockUnit::Holder& holder = unit.place.holders.front();
    std::string why;
    if (tensor.dims().size() < 2) {
      why = "is a vector: biases and normalisation stay float32";
    } else if (tensor.elements() < request.min_elements) {
      why = "has " + std::to_string(tensor.elements()) + " elements, below " +
            std::to_string(request.min_elements);
    } else if (value->is_initializer() && value->constant() == nullptr) {
      why = "a caller of the model may override it";
    } else {
      why = look_at_readers(holder, selection);
    }
    if (why.empty()) {
      MCOMPRESS_ASSIGN(const bool finite, is_finite(tensor));
      if (!finite) why = "holds NaN or infinity, which codebooks have not";
    }
    if (!why.empty()) {
      explain_kept(context, *value, tensor, holder.user, std::move(why));
      continue;
    }
    find_fewest(unit);
    unit.groups = channel_groups(holder.view, static_cast<std::size_t>(request.groups));
    units.push_back(std::move(unit));
  }
  return units;
}

}  // namespace mcompress
