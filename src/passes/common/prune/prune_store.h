// Writing pruned weights in the form that was chosen, and telling what became of each.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/blocks/coded_weights.h"
#include "passes/common/prune/prune_run.h"
#include "passes/common/prune/sparse_storage.h"

namespace mcompress {

struct PruneStore {
  std::string storage = "auto";                        // of float32: auto, dense, bitmask, gaps
  std::string pattern;                                 // as it was asked for
  CodedRequest coded;                                  // of layers with codes
  std::map<std::uint32_t, std::string> float_because;  // why a weight, by id, has none
};

// The form that float32 weights get.
SparseForm store_form(const PruneStore& store, const SparseBytes& bytes, const Model& model,
                      const Target& target);

// Stores what write_pruned() put into the planned model, and reports and explains it by tensor and
// in all. Fails with kUnsupported when the runtime would restore weights on every run, and as the
// editor and reading do.
Status store_pruned(Model& model, const std::vector<PruneLayer>& layers,
                    const std::vector<PrunedLayer>& pruned, const PruneStore& store,
                    PassContext& context);

}  // namespace mcompress
