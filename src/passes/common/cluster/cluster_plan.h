// Which weights get a codebook, how many entries each, and what they become.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/blocks/block_plan.h"

namespace mcompress {

// Output channels in runs of neighbours, a codebook for each run; the last run may be shorter.
struct ChannelGroups {
  std::size_t count = 1;
  std::size_t rows = 1, inner = 1;  // element i belongs to channel i / inner % rows
  std::size_t size = 1;             // channels of a group
  std::size_t of(std::size_t element) const {
    return count == 1 ? 0 : element / inner % rows / size;
  }
};
// At most `wanted` groups of the channels that `view` has as rows; 0 and 1: all are one.
ChannelGroups channel_groups(const RowView& view, std::size_t wanted);

// One constant that codebooks stand for; several readers share it.
struct ClusterUnit {
  BlockUnit place;     // one holder: value, tensor, rows
  std::size_t fewest;  // clusters it may not go below: first and depthwise convolutions
  std::string why_fewest;
  std::size_t clusters = 0;  // of each group
  ChannelGroups groups;
  Value& value() const { return *place.holders.front().value; }
  const Tensor& tensor() const { return place.holders.front().tensor; }
};

struct ClusterRequest {
  std::vector<std::string> include, exclude;
  std::int64_t min_elements = 4096;
  std::int64_t groups = 1;  // of channels, at most
};

// Float32 weights of all graphs, in order; every one that stays is explained. Fails as reading the
// weights does.
Result<std::vector<ClusterUnit>> plan_clusters(Model& model, const ClusterRequest& request,
                                               PassContext& context);

// Bits of an index among so many clusters.
unsigned index_bits(std::size_t clusters);
// Bytes of indices and codebooks in the file; nodes are left out.
std::uint64_t clustered_bytes(std::int64_t elements, std::size_t clusters,
                              const ChannelGroups& groups = {});

struct ClusterCodes {
  // [entries, dimension], ascending; of several groups [groups, entries], each ascending, then as
  // many 0 as it has fewer entries than others. Vectors have one group.
  std::vector<float> codebook;
  std::vector<std::uint8_t> codes;  // by element of the weight, or by `dimension` of them
  std::size_t dimension = 1;
  ChannelGroups groups;
  std::size_t entries() const { return codebook.size() / dimension / groups.count; }
  // What stands for an element.
  float value(std::size_t element) const {
    const std::size_t entry = groups.of(element) * entries() + codes[element / dimension];
    return codebook[entry * dimension + element % dimension];
  }
  double signal = 0, noise = 0;               // of the weights, without importance
  std::vector<std::uint64_t> counts() const;  // of codes, whatever their group
  double sqnr_db() const;                     // 200 without noise
};

// Puts codebook and indices in the place of the weight, explains it.
//   W  becomes  codes -- unpack -- [Add(group * entries) --] Gather(codebook) -- Reshape
// constants for the runtime to compute when the model is loaded. `how` is for the report. The
// opset has to be kClusterOpset at least.
inline constexpr std::int64_t kClusterOpset = 7;
Status emit_clusters(const ClusterUnit& unit, const ClusterCodes& codes, const std::string& how,
                     PassContext& context);

}  // namespace mcompress
