// What layers multiply in the original model and in one that is being pruned, side by side.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "mcompress/pass.h"
#include "numeric/gptq.h"
#include "numeric/sparse_rows.h"
#include "passes/common/prune/prune_plan.h"

namespace mcompress {

// Of one input value read in one way, for each group of a convolution. y: in the original.
struct PruneInputGroup {
  std::unique_ptr<GramMatrix> gram;   // of x
  std::unique_ptr<CrossGram> cross;   // of y and x; null where it would be too large
  std::vector<float> held_y, held_x;  // rows that went into neither
};

struct PruneInput {
  std::vector<std::size_t> layers;  // places in the list that was asked about
  std::vector<PruneInputGroup> groups;
};

struct PruneObservation {
  std::int64_t samples = 512;  // of the calibration data, spread evenly; each fifth is held out
  // Of what is held out, nothing is fitted to, not even rows that there is no more room for.
  bool judged = false;
};

// Runs both models on the calibration data, which must be there, and looks at the inputs of layers
// [begin, end). Layers that nothing was seen of have no entry. Fails as the runtime and the data
// do.
Result<std::vector<PruneInput>> observe_layers(const Model& original, const Model& pruned,
                                               const std::vector<PruneLayer>& layers,
                                               std::size_t begin, std::size_t end,
                                               const PruneObservation& how, PassContext& context);

// Bytes that the statistics of a layer take.
std::uint64_t observation_bytes(const PruneLayer& layer);
// Whether they can be taken.
bool is_observable(const PruneLayer& layer);

}  // namespace mcompress
