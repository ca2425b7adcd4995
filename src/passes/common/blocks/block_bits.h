// Which weights get 8 bits instead of few, within a size.
#pragma once

#include <cstdint>
#include <vector>

#include "passes/common/blocks/block_plan.h"

namespace mcompress {

struct BitsRequest {
  double average_bits = 0;      // of all planned weights, scales and zero points included; 0: open
  std::uint64_t max_bytes = 0;  // of the model; 0: open
  std::int64_t samples = 8;     // of the calibration data to judge on
  // Models above this many bytes are not run once for each weight: their errors are judged by what
  // they are to the outputs of layers.
  std::uint64_t most_measured = std::uint64_t{256} << 20;
  std::size_t most_runs = 400;
  bool any() const { return average_bits > 0 || max_bytes > 0; }
};

struct BitsChoice {
  std::int64_t raised = 0;
  bool measured = false;
  double average_bits = 0;
  std::uint64_t bytes = 0;  // of the planned weights
};

// Each unit alone in its few bits, the rest in float32: what it does to the outputs of the model
// (or, without data or in large models, of the layers that read it, inputs weighted by `energies`)
// for each byte that 8 bits would cost more decides who gets them. Sets the formats. Fails with
// kGateMissed when the few bits alone take more, and as the runtime does.
Result<BitsChoice> choose_bits(Model& model, std::vector<BlockUnit>& units,
                               const std::vector<std::vector<float>>& energies,
                               const BitsRequest& request, PassContext& context);

}  // namespace mcompress
