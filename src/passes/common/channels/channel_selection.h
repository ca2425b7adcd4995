// Which units go: the cheapest ones for what they save, in steps that leave widths kernels like.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/channels/channel_groups.h"

namespace mcompress {

// kGlobal: all groups compete; kKind: those of one kind do, and each kind gives the same share;
// kUniform: each group gives the same share.
enum class ChannelScope : std::uint8_t { kGlobal, kKind, kUniform };

struct ChannelGoal {
  double share = 0;           // of units to cut, 0: not asked for
  double macs = 0;            // of the multiplications of products that may stay; 0: not asked for
  double time = 0;            // of the time of products that may stay; 0: not asked for
  std::vector<double> times;  // for `time`: of products, by id of the node
  ChannelScope scope = ChannelScope::kGlobal;
  std::int64_t granularity = 0;  // kept widths are multiples; 0: 16, or 8, or 4 for narrow ones
  std::vector<double> most;      // by group: share of its units that may go
};

struct ChannelChoice {
  std::vector<bool> cut;         // by unit
  std::vector<bool> eligible;    // by group
  std::vector<std::string> why;  // by group: why it is left alone
  double macs = 1;               // of products, that stay
  double time = 1;               // of the time of products, that stays; with ChannelGoal::time
  double share = 0;              // of eligible units that go
};

// `eligible_why`: by group, why it may not be touched; empty: it may. `macs`: by node id, of the
// uncut model.
ChannelChoice choose_channels(const ChannelTrace& trace, const std::vector<double>& scores,
                              const std::vector<std::string>& eligible_why,
                              const std::vector<double>& macs, const ChannelGoal& goal);

// Multiplications of Conv, ConvTranspose, Gemm and MatMul of the top graph with known sizes by id
// of the node, per element of axes whose size is not known. And what is left of them after a cut,
// as a share.
std::vector<double> product_macs(const Model& model);
double macs_left(const ChannelTrace& trace, const std::vector<double>& macs,
                 const std::vector<bool>& cut);

}  // namespace mcompress
