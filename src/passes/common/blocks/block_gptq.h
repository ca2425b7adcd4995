// Rounds weights in few bits by what they do to the outputs of their layers (GPTQ).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "passes/common/blocks/block_calibration.h"

namespace mcompress {

struct BlockGptqOptions {
  std::int64_t samples = 64;  // of the calibration data, spread evenly
  // Parts of the network, one after the other: each sees the ones before it quantized.
  std::int64_t levels = 12;
  double damping = 0.01;                                // of the mean energy of a layer's inputs
  std::uint64_t gram_bytes = std::uint64_t{512} << 20;  // of the Gram matrices held at once
};

struct BlockGptqResult {
  std::int64_t layers = 0;  // whose codes were chosen so
  std::int64_t left = 0;    // rounded to nearest: too wide, or inputs that tell nothing
  std::int64_t damped = 0;  // whose inputs are nearly dependent
  std::int64_t levels = 0;
  std::int64_t resumed = 0;  // taken from the journal
  double gain_db = 0;  // mean over the layers: output error of nearest codes over that of ours
};

class BlockJournal;

// Level by level in the order of the graph: the model as it stands is run on the data, the inputs
// of the level's units become Gram matrices, and their codes those with the least output error on
// the grids that `search` finds with the columns' energies as weights (static groups). `emit`
// writes a rounded unit into the model before the next level is looked at. Units without input
// come first. `energies` as column_energies() makes them. What `journal` (null: none) holds is not
// rounded again, and what is rounded goes into it. Fails as the runtime, the data and the journal
// do.
Result<BlockGptqResult> round_blocks_by_gptq(
    Model& model, const std::vector<BlockUnit>& units,
    const std::vector<std::vector<float>>& energies, const BlockGptqOptions& options,
    PassContext& context, BlockJournal* journal,
    const std::function<Status(std::size_t unit, const BlockRows& rows, const std::string& how)>&
        emit);

}  // namespace mcompress
