// Channels that can only be cut together: what structured pruning may take out of a model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// What channels are of. kHeads: slices that a Reshape makes of a wider axis, as heads of attention;
// kFfn: made and read by matrix products alone; kChannels: everything else.
enum class ChannelKind : std::uint8_t { kChannels, kHeads, kFfn };
std::string_view name_of(ChannelKind kind);

// A weight of a group. Makers have one slice per unit that is made, readers one that is read;
// parameters are per-channel constants in between.
struct ChannelMember {
  enum class Role : std::uint8_t { kMakes, kReads, kParameter };
  std::string node;  // Node::label()
  std::string op_type;
  std::string tensor;  // name of the constant; empty: both operands are computed
  std::int64_t axis = 0;
  Role role = Role::kMakes;
};
std::string_view name_of(ChannelMember::Role role);

struct ChannelGroup {
  std::string name;  // label of the first node that makes its channels
  ChannelKind kind = ChannelKind::kChannels;
  std::int64_t units = 0;       // that can be cut one by one, frozen ones included
  std::int64_t unit_width = 1;  // slices of the first maker's weight in one unit
  std::int64_t free_units = 0;  // not frozen
  std::string frozen;           // why the first frozen unit is; empty: none is
  std::vector<ChannelMember> members;
};

// The coupling groups of the top graph, in the order of their first makers. Reads types: to be
// called after infer_shapes(), with constants lifted. Time grows with the nodes and with the sizes
// of the axes of weights.
std::vector<ChannelGroup> channel_groups(const Model& model);

}  // namespace mcompress
