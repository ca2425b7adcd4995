// What each unit of a quantized model does to the model's outputs when it alone is rounded.
//
// The nodes in front of a unit are the same in every trial, so they are run once: the graph is cut
// at a few places, the values that cross a cut are kept for every sample, and a trial runs only
// what lies behind the last cut in front of its unit:
//
//   samples ── nodes 0..a ──┤a├── nodes a..b ──┤b├── nodes b.. ── outputs        once, in float32
//                            └── [unit rounded] nodes a.. ── outputs             per unit in a..b
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/ir.h"
#include "mcompress/runtime.h"

namespace mcompress {

class Executor;

// A copy of the float model, ids of values and nodes kept, in which one unit is rounded.
struct UnitTrial {
  std::unique_ptr<Model> model;  // null: the unit can not be rounded alone, and has no effect
  const Value* own = nullptr;    // what the unit makes, in the copy; null: not compared
};

struct UnitSource {
  const Model* model = nullptr;  // float32
  std::size_t count = 0;
  // The first node of `model` that a trial changes; null: unknown, so the whole model is run.
  std::function<const Node*(std::size_t unit)> first;
  std::function<const Value*(std::size_t unit)> own;  // what it makes in `model`; may give null
  std::function<Result<UnitTrial>(std::size_t unit)> emit;  // called by one thread at a time
};

struct UnitEffect {
  double noise = 0;      // sum (ref - out)^2 / sum ref^2 of the worst float output
  double kl = 0;         // mean over the rows of the first float output, nats
  double agreement = 1;  // share of these rows whose highest value is where it was
  double own_noise = 0;  // as `noise`, of what the unit makes
  bool own_known = false;
};

struct EffectOptions {
  std::int64_t samples = 8;  // spread evenly over the data
  // Bytes of runs and of what is kept between them; fewer samples where the outputs of all do not
  // fit. 0: 256 MiB of kept activations, and as many runs as there are threads.
  std::uint64_t memory_budget = 0;
  std::size_t cuts = 16;  // at most
};

struct EffectRun {
  std::vector<UnitEffect> units;
  std::int64_t samples = 0;
  std::int64_t cuts = 0;
  double passes = 0;  // trials' cost in runs of the whole model per sample, by number of nodes
  // Under a budget: trials at once, bytes of one run, the most that was kept of samples and
  // activations, and what it takes at least.
  std::int64_t at_once = 0;
  std::uint64_t run_bytes = 0, kept_bytes = 0, least_bytes = 0;
};

// Fails as the runtime does on the model itself, and as `emit` does. A part that can not be cut out
// (it holds graphs, or values that are no tensors) is no failure: the whole model is run instead.
Result<EffectRun> measure_effects(Runtime& runtime, const UnitSource& source, DataSource& data,
                                  const EffectOptions& options, const Executor& executor,
                                  Progress& progress);

// dB of a noise to signal ratio: 200 for 0, at least -200.
double decibel(double noise);

// Mean over rows of `width` of sum p ln(p/q): of the rows themselves where the reference's are
// distributions, else of their softmax. Rows with NaN or infinity count as ln(width).
double mean_kl(std::span<const float> reference, std::span<const float> output, std::size_t width);

}  // namespace mcompress
