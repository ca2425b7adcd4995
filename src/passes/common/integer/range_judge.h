// What ranges of activations do to the layers that read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/pass.h"
#include "numeric/quantize.h"
#include "passes/common/integer/static_plan.h"

namespace mcompress {

// One way to quantize a tensor.
struct RangeCandidate {
  std::string method;
  ValueRange range;
  QuantParams params;
  // Noise to signal ratio at the outputs of the readers, summed over these; below 0: not judged.
  double noise = -1;
};

// A tensor that stands for all that share its scale, and the ways to quantize it.
struct JudgedTensor {
  const Value* root = nullptr;
  std::vector<RangeCandidate> candidates;
};

// Fills in `noise`. The float model runs on each sample once; the moment a tensor exists, each of
// its readers (the layer with the activation behind it, reached through operators that only move
// elements) runs as a part of its own on the tensor as it is and as each candidate would round it:
//   noise = sum over readers of  sum (y^ - y)^2 / sum y^2
// Where softmax follows, the Kullback-Leibler divergence of the rounded from the real
// probabilities takes the place of that ratio. A reader that combines the tensor with another one
// passes its error on, so the tensor's own is counted. Memory: some runs, each with one tensor that
// is tried, and the weights of readers, in groups. Under a budget the first sample shows what a run
// takes, as many run at once as fit, and weights take a quarter; without one there are `at_once`
// runs at most. The same result for any number of threads and any budget. `samples`: numbers of
// samples of the context's data. Fails as the runtime does; returns how often the whole model ran.
Result<std::int64_t> judge_ranges(const Model& model, const StaticPlan& plan,
                                  std::vector<JudgedTensor>& tensors, QuantType type,
                                  const std::vector<std::int64_t>& samples, std::int64_t at_once,
                                  PassContext& context);

}  // namespace mcompress
