// The work of ChannelTrace: cells, who is united with whom, and the rules of the operators.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/common/channels/channel_groups.h"

namespace mcompress {

class ChannelTracer {
 public:
  using Axes = std::vector<AxisCells>;
  using Dims = std::vector<std::optional<std::int64_t>>;

  explicit ChannelTracer(ChannelTrace& trace);
  void run();

 private:
  // --- cells
  std::uint32_t find(std::uint32_t cell);
  AxisCells fresh(std::int64_t size, const Node& maker);
  void unite(std::uint32_t left, std::uint32_t right);
  // Both axes have the same channels from now on; null is fixed.
  AxisCells unite(const AxisCells& left, const AxisCells& right, const Node& node);
  void freeze(const AxisCells& cells, const std::string& why);
  void freeze(std::uint32_t cell, const std::string& why);
  void freeze_inputs(const Node& node, const std::string& why);
  // Both are the same channel from now on, or, where one of them is fixed, none may go.
  void unite_or_freeze(std::uint32_t left, std::uint32_t right, const std::string& why);
  // The channels of one axis of the value; those of its other axes can not be cut.
  AxisCells only_axis(const Value* value, std::size_t axis, const std::string& why);

  // --- values
  Axes axes_of(const Value* value) const;
  AxisCells axis_of(const Value* value, std::size_t axis) const;
  void set(const Value* value, Axes axes);
  static std::optional<Dims> dims_of(const Value* value);
  static bool is_weight(const Value* value);
  // The axis of a constant holds these channels.
  AxisCells demand(const Node& node, const Value& constant, std::size_t axis, AxisCells cells,
                   ChannelMember::Role role);
  // The axis of a constant that makes channels: new cells, or those of another reader.
  AxisCells make(const Node& node, const Value& constant, std::size_t axis);

  // --- rules; false: the operator is not followed
  bool follow(Node& node);
  bool convolution(Node& node);
  bool transposed(Node& node);
  bool gemm(Node& node);
  bool matmul(Node& node);
  bool elementwise(Node& node);
  bool batch_norm(Node& node);
  bool pass_through(Node& node);
  bool pool(Node& node);
  bool freeze_axes(Node& node, const std::function<bool(std::size_t)>& freezes,
                   const std::string& why);
  bool normalise(Node& node);
  bool concat(Node& node);
  bool split(Node& node);
  bool slice(Node& node);
  bool gather(Node& node);
  bool pad(Node& node);
  bool resize(Node& node);
  bool reshape(Node& node);
  bool flatten(Node& node);
  bool expand(Node& node);
  bool transpose(Node& node);
  bool squeeze(Node& node);
  bool unsqueeze(Node& node);
  bool reduce(Node& node);
  bool shape(Node& node);
  Axes map_reshape(Node& node, const Axes& from, const Dims& old_dims, const Dims& new_dims,
                   const std::vector<bool>& copied);
  void map_block(Node& node, const Axes& from, const Dims& old_dims, const Dims& new_dims,
                 std::size_t old_first, std::size_t old_last, std::size_t new_first,
                 std::size_t new_last, Axes& to);
  bool bias(Node& node, const Value* value, const AxisCells& cells);
  // Operators with rules of their own; nothing: it is none of them.
  std::optional<bool> special(Node& node);
  bool rounded_weights(Node& node);
  bool group_norm(Node& node);
  bool depth_to_space(Node& node);
  bool space_to_depth(Node& node);
  bool round_trip(Node& node);
  bool einsum(Node& node);
  bool recurrent(Node& node, std::size_t gates);

  void finish();
  void check_readers();
  void make_groups();

  ChannelTrace& trace_;
  Graph& graph_;
  std::vector<std::uint32_t> parent_, family_of_cell_;
  std::vector<std::string> frozen_;  // by cell; of a set: at its root
  std::vector<std::uint32_t> family_parent_;
  std::vector<const Node*> family_maker_;
  std::vector<bool> family_split_;
  std::vector<std::map<std::size_t, std::size_t>> asked_;  // by value: uses that know each axis
  std::uint32_t find_family(std::uint32_t family);
};

}  // namespace mcompress
