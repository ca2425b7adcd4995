// What each form does to each layer, the others left as they are.
#pragma once

#include <span>
#include <vector>

#include "search/space.h"

namespace mcompress {

struct MeasureCost {
  std::int64_t trials = 0;   // models run
  std::int64_t samples = 0;  // by each
  std::int64_t remembered = 0;
  double evaluations = 0;
};

// Fills SearchLayer::effects. Bytes come from building each model. Noise of the first float output
// on `SearchOptions::samples` samples, spread evenly, in at most `evaluations` runs of the
// evaluation data: fewer samples where that is too few, then fewer forms, the others interpolated.
// kCancelled on an interruption.
Result<MeasureCost> measure_layers_and_forms(SearchSpace& space, double evaluations);

// The noise of each form of a layer where only some are measured: its logarithm is linear in the
// bits per weight between them, and falls by 6 dB per bit beyond them. `noise` empty: unknown; at
// least one is known.
std::vector<double> interpolated_noise(const std::vector<double>& bits,
                                       const std::vector<std::optional<double>>& noise);

// Noise of effects that are `only_shared`, by measured ones of this layer and of others; what can't
// be told of applies no more.
void fill_shared_noise(std::span<SearchLayer> layers);

}  // namespace mcompress
