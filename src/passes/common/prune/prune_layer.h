// Taking weights of one layer away: how, and what is done to those that stay.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "numeric/block_quantize.h"
#include "numeric/sparsity.h"
#include "passes/common/prune/prune_inputs.h"
#include "passes/common/prune/prune_plan.h"

namespace mcompress {

enum class PruneMethod : std::uint8_t { kAuto, kMagnitude, kWanda, kRelative, kSparseGpt };
enum class PruneRepair : std::uint8_t {
  kAuto,          // what leaves the least error on samples that are held out
  kNone,          // SparseGPT makes up for weights by itself, by least squares, and moves no mean
  kBias,          // the mean of each output
  kAffine,        // mean and gain of each output
  kLeastSquares,  // all weights that stay, and the mean
};

struct PruneRules {
  PruneMethod method = PruneMethod::kAuto;
  PruneRepair repair = PruneRepair::kAuto;
  SparsityPattern pattern;  // `run` is that of the layer
  // What is ranked together; empty: the layer, of Wanda's scores what held-out samples say.
  std::optional<SparsityScope> scope;
  double damping = 0;  // of the mean energy of the inputs; 0: found on held-out samples
};

// A layer with weights taken away; rows in the order of channel_vectors().
struct PrunedRows {
  std::vector<float> weights;
  std::vector<double> shift;  // of the outputs, one per row; empty: none
  std::string how;            // "sparsegpt, least squares"
  std::string score;          // what weights were ranked by, and beside which others
  std::string ranked;
  // The codes that the weights are, where the layer has a format; columns as RowView has them.
  std::optional<BlockRows> codes;
  double sparsity = 0;
  // Of the layer's outputs on held-out samples, signal about its mean over error, dB.
  std::optional<double> output_db;
  std::vector<std::size_t> ways;  // that were tried, by their numbers, the best first
};

// `original` and `current` are rows of the model as it came and as it is being pruned (the same in
// the first step). `input`: what was seen of the layer; null: nothing, so that only magnitudes
// count. `given`: a mask to keep to, or empty. `only`: the ways to try, by the numbers that an
// earlier call for this layer with the same rules gave them; empty: all.
PrunedRows prune_layer(const PruneLayer& layer, std::span<const float> original,
                       std::span<const float> current, const PruneInput* input,
                       const PruneRules& rules, double sparsity,
                       std::span<const std::uint8_t> given, std::span<const std::size_t> only,
                       const Executor& executor);

// What a SparseGPT sweep costs the layer's outputs, as a share of their variance, at each of the
// sparsities; with `by_scores` what Wanda's mask alone costs, on held-out rows. Empty when the
// inputs tell nothing.
std::vector<double> pruning_errors(const PruneLayer& layer, std::span<const float> weights,
                                   const PruneInput& input, const PruneRules& rules,
                                   std::span<const double> sparsities, bool by_scores,
                                   const Executor& executor);

}  // namespace mcompress
