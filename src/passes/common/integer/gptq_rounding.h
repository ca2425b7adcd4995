// Rounds the weights of a static plan by what they do to the outputs of their layers (GPTQ).
#pragma once

#include <cstdint>
#include <functional>

#include "mcompress/pass.h"
#include "passes/common/integer/static_emit.h"

namespace mcompress {

// How a plan is made for a copy of the model, and how it is written.
struct StaticRecipe {
  std::function<StaticPlan(Graph& copy)> plan;
  std::function<EmitOptions(const StaticPlan& plan)> emit;
};

struct GptqRoundingOptions {
  std::int64_t samples = 64;                            // of the calibration data, spread evenly
  std::int64_t levels = 4;                              // parts of the network, one after the other
  double damping = 0.01;                                // of the mean energy of a layer's inputs
  bool bias_correction = true;                          // biases make up for the mean of the errors
  std::uint64_t gram_bytes = std::uint64_t{512} << 20;  // of the Gram matrices held at once
};

struct GptqRoundingResult {
  std::int64_t layers = 0;  // whose codes changed
  std::int64_t levels = 0;  // that there were
  std::int64_t left = 0;    // could not be looked at; a note tells why
  double gain_db = 0;       // mean over the layers: output error of nearest codes over that of ours
};

// Level by level in the order of the graph: the model is run in integers, with the weights before
// this level already rounded, the inputs of the level's layers become Gram matrices, and its
// weights get the codes with the least output error; scales stay. Depthwise convolutions, whose
// rows have a handful of elements, keep their codes. `rounded` is filled for every weighted node.
// Fails as the runtime and the data do.
Result<GptqRoundingResult> round_by_gptq(const Model& model, const StaticRecipe& recipe,
                                         const GptqRoundingOptions& options, PassContext& context,
                                         RoundedWeights& rounded);

// The same, judged by the whole model's outputs on `guard_samples` samples, or 64 where that is
// more: if they do not come nearer to the original's, `rounded` stays as it was. Written to the
// report as "gptq", and as one of the "steps" with its cost.
Status round_by_gptq_if_better(const Model& model, const StaticRecipe& recipe,
                               const GptqRoundingOptions& options, std::int64_t guard_samples,
                               PassContext& context, RoundedWeights& rounded);

}  // namespace mcompress
