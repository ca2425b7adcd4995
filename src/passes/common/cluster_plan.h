// Which weights get a codebook, how many entries each, and what they become.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/block_plan.h"

namespace mcompress {

// One constant that codebooks stand for; several readers share it.
struct ClusterUnit {
  BlockUnit place;     // one holder: value, tensor, rows
  std::size_t fewest;  // clusters it may not go below: first and depthwise convolutions
  std::string why_fewest;
  std::size_t clusters = 0;
  Value& value() const { return *place.holders.front().value; }
  const Tensor& tensor() const { return place.holders.front().tensor; }
};

struct ClusterRequest {
  std::vector<std::string> include, exclude;
  std::int64_t min_elements = 4096;
};

// Float32 weights of all graphs, in order; every one that stays is explained. Fails as reading the
// weights does.
Result<std::vector<ClusterUnit>> plan_clusters(Model& model, const ClusterRequest& request,
                                               PassContext& context);

// Bits of an index among so many clusters.
unsigned index_bits(std::size_t clusters);
// Bytes of indices and codebook in the file; nodes are left out.
std::uint64_t clustered_bytes(std::int64_t elements, std::size_t clusters);

struct ClusterCodes {
  std::vector<float> codebook;      // ascending; [entries, dimension]
  std::vector<std::uint8_t> codes;  // by element of the weight, or by `dimension` of them
  std::size_t dimension = 1;
  std::size_t entries() const { return codebook.size() / dimension; }
  double signal = 0, noise = 0;  // of the weights, without importance
  std::vector<std::uint64_t> counts() const;
  double sqnr_db() const;  // 200 without noise
};

// Puts codebook and indices in the place of the weight, explains it.
//   W  becomes  codes -- unpack -- Gather(codebook) -- Reshape
// constants for the runtime to compute when the model is loaded. `how` is for the report. The
// opset has to be kClusterOpset at least.
inline constexpr std::int64_t kClusterOpset = 7;
Status emit_clusters(const ClusterUnit& unit, const ClusterCodes& codes, const std::string& how,
                     PassContext& context);

}  // namespace mcompress
