// How many clusters each weight gets: a knapsack over bytes and error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "passes/common/cluster/cluster_fit.h"

namespace mcompress {

// One way to store one weight.
struct ClusterOption {
  std::uint64_t bytes = 0;
  double error = 0;
  std::size_t clusters = 0;
};
// The option of each weight with the least sum of errors within `budget` bytes in all, by dynamic
// programming over steps of budget / 4096 (exact for bytes rounded up to steps; of what the
// smallest options leave, where there are more weights than steps). Empty: not even the smallest
// ones fit. Options of a weight stand by bytes, rising; errors do not have to fall.
std::vector<std::size_t> choose_within(std::span<const std::vector<ClusterOption>> weights,
                                       std::uint64_t budget);
// The options with the least bytes whose errors sum up to `most` at most; where there are none,
// those with the least error.
std::vector<std::size_t> choose_for_error(std::span<const std::vector<ClusterOption>> weights,
                                          double most);

struct ClusterBudget {
  double average_bits = 0;      // of indices and codebooks over all clustered weights; 0: none
  std::uint64_t max_bytes = 0;  // of the whole file; 0: none
  double min_sqnr_db = 0;       // of the outputs where there are data, else of weights; 0: none
  std::size_t most = 256;       // clusters
  bool any() const { return average_bits > 0 || max_bytes > 0 || min_sqnr_db > 0; }
};
struct ClusterChoice {
  double average_bits = 0, predicted_db = 0;
  std::uint64_t bytes = 0;
  bool measured = false;  // errors by the outputs of the model
};
// Sets `clusters` of the units. `energies` as of column_energies(). Fails with kGateMissed when the
// budget is too small, and as the runtime does.
Result<ClusterChoice> choose_clusters(Model& model, std::vector<ClusterUnit>& units,
                                      const std::vector<std::vector<float>>& energies,
                                      const ClusterBudget& budget, bool keep_zero,
                                      PassContext& context);

}  // namespace mcompress
