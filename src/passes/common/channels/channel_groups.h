// Channel indices followed through a graph (after DepGraph, Fang et al., 2023, but index by index).
//
// Every axis of every tensor that holds channels has one cell per index. Operators that line two
// axes up unite their cells; Concat, Split, Slice and Reshape make axes out of the cells of others.
// A set of united cells is a unit: cut one of its indices, and all have to go. Axes that only pass
// through share one list, so that long chains cost nothing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "mcompress/channels.h"
#include "mcompress/ir.h"

namespace mcompress {

inline constexpr std::uint32_t kFixedCell = UINT32_MAX;               // an index that is never cut
using AxisCells = std::shared_ptr<const std::vector<std::uint32_t>>;  // null: nothing to cut

// An axis of a constant, or of a computed operand of a product.
struct ChannelSlices {
  const Node* node = nullptr;
  const Value* tensor = nullptr;
  std::size_t axis = 0;
  AxisCells cells;
  ChannelMember::Role role = ChannelMember::Role::kMakes;
};

// What a cut changes in a node besides its weights.
struct ChannelEdit {
  enum class What : std::uint8_t {
    kGroup,       // Conv, ConvTranspose: attribute `group` is the number of input channels
    kNormGroups,  // GroupNormalization: attribute `num_groups`
    kHiddenSize,  // LSTM, GRU, RNN: attribute `hidden_size`
    kSplit,       // sizes of the parts
    kSlice,       // starts and ends
    kIndices,     // Gather
    kShapeInput,  // Reshape, Expand, Resize: a list of sizes in input `slot`
  };
  Node* node = nullptr;
  What what = What::kGroup;
  std::size_t slot = 1;
  std::size_t axis = 0;               // kSplit, kSlice, kIndices: of the data
  std::vector<std::int64_t> numbers;  // as they are
  std::vector<AxisCells> axes;        // of the list's entries, or {of the data}
  std::vector<std::size_t> of_entry;  // kShapeInput: entry for each of `axes`
};

class ChannelTrace {
 public:
  explicit ChannelTrace(Model& model);

  // Units, frozen or not.
  std::uint32_t unit_of(std::uint32_t cell) const { return unit_of_cell_[cell]; }
  std::size_t units() const { return frozen_.size(); }
  bool is_frozen(std::uint32_t unit) const { return !frozen_[unit].empty(); }
  const std::string& why_frozen(std::uint32_t unit) const { return frozen_[unit]; }

  struct Group {
    ChannelGroup facts;
    std::vector<std::uint32_t> units;  // ascending
    std::vector<std::size_t> slices;   // places in slices()
  };
  const std::vector<Group>& groups() const { return groups_; }
  const std::vector<ChannelSlices>& slices() const { return slices_; }
  const std::vector<ChannelEdit>& edits() const { return edits_; }
  // One entry per axis of a value; empty: nothing to cut.
  const std::vector<AxisCells>& axes(const Value& value) const { return axes_[value.id()]; }
  Model& model() const { return *model_; }

 private:
  friend class ChannelTracer;
  Model* model_;
  std::vector<std::vector<AxisCells>> axes_;  // by id of the value
  std::vector<ChannelSlices> slices_;
  std::vector<ChannelEdit> edits_;
  std::vector<std::uint32_t> unit_of_cell_;
  std::vector<std::string> frozen_;  // by unit
  std::vector<Group> groups_;
};

}  // namespace mcompress
