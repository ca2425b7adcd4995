// Which form each weight is stored in, so that limits of size and quality hold together: a search
// over recipes that run the same passes several times, each on some of the layers.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/ir.h"
#include "mcompress/pass.h"
#include "mcompress/pipeline.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// A way to store the weights of a layer.
struct SearchForm {
  std::string name;
  std::vector<RecipeStep> steps;  // in order, without `include`; none: as it is
  bool integers = false;  // values between such layers stay integers: borders to others cost
};

// Forms by their names:
//   float32, float16
//   int8             8 bits and a scale per channel, weights only
//   static           8 bits, run in integers (needs calibration data)
//   dynamic          8 bits, matrix products in integers, what they read quantized on every run
//   cluster-B        a codebook and B bits per weight, 1 to 8
//   clusters-K       the same with K entries, 2 to 256
//   int2-N, int4-N, int8-N   a scale and a zero point per block of N weights
//   sparse-P, sparse-P-cluster-B   P % of the weights are 0; then a codebook for the rest
// float32 is always among the result, and comes first. Fails with kUsage, naming the nearest.
Result<std::vector<SearchForm>> search_forms(std::span<const std::string> names);

struct SearchLimits {
  std::uint64_t max_bytes = 0;  // of the model file; 0: not asked for
  double max_drop = 100;        // points; 100: not asked for
  double min_sqnr = 0;          // dB; 0: not asked for
  double max_latency = 0;       // of the original's; 0: not asked for
};

enum class SearchStrategy : std::uint8_t {
  kKnapsack,  // measured sensitivities, exact choice for them, checked and improved on the data
  kBayes,     // a linear model of the outputs' noise, learnt from every evaluation
  kBrute,     // all combinations
};
enum class SearchPrefer : std::uint8_t {
  kMetric,  // the higher metric is better, even above the original's, then the higher SQNR
  kNoLoss,  // the same, but who beats the original is as good as the original
  kSqnr,    // the higher SQNR is better, then the higher metric
};

// Of one result on the evaluation data, against the original.
struct SearchQuality {
  double drop = 0;     // points
  double sqnr_db = 0;  // of the judged output
};

// What quality is ordered by where not all of SQNR: the points lost.
double preferred_drop(SearchPrefer prefer, const SearchQuality& quality);

// How much of what may be cut (channels, heads, hidden units) stays.
struct SearchWidth {
  double share = 1;
  std::vector<RecipeStep> steps;  // after SearchOptions::before; they take the rest out
};

struct SearchOptions {
  Recipe before;                    // what prepares a model for the forms' passes
  std::vector<SearchWidth> widths;  // of which one is chosen; empty: all that there is stays
  std::vector<RecipeStep> after;    // what follows them
  std::vector<SearchForm> forms;
  SearchLimits limits;
  SearchStrategy strategy = SearchStrategy::kKnapsack;
  SearchPrefer prefer = SearchPrefer::kNoLoss;
  std::int64_t evaluations =
      60;                     // runs of all evaluation data; runs of fewer samples count as less
  std::int64_t samples = 16;  // on which a layer alone is measured, at most
  std::int64_t front_points = 0;  // evaluations spent on the rest of the front
  std::uint64_t seed = 0;
  PipelineOptions pipeline;  // of `before`
};

// Results of earlier runs, by digests of what was done. They count as evaluations, so that a run
// that goes on finds what an uninterrupted one would have found.
struct SearchMemory {
  std::map<std::string, std::vector<double>> known;
  std::string metric;               // what the judge measured, for whoever keeps this
  std::function<Status()> changed;  // after each evaluation; empty: nobody keeps it
};

struct SearchServices {
  Services services;           // runtime, target, calibration data, diagnostics, progress, threads
  DataSource* data = nullptr;  // on which layers alone are measured
  // Quality on the evaluation data, which have so many samples.
  std::function<Result<SearchQuality>(Session& candidate)> judge;
  std::int64_t judged_samples = 1;
  // Time of a run, as a share of the original's; only asked with SearchLimits::max_latency.
  std::function<Result<double>(const Model& candidate)> latency;
  // Whether a pattern names something in the file that the recipe will be run on.
  std::function<bool(const std::string& pattern)> known_pattern;
  SearchMemory* memory = nullptr;
  std::string identity;  // digest of what results depend on beside the recipe: model and data
  int session_threads = 1;
};

// What a form does to a layer while the others stay as they are.
struct SearchEffect {
  bool applies = false;
  // Of the model file, more than with the layer as it is; without SearchOutcome::form_bytes.
  std::int64_t bytes = 0;
  double noise = 0;       // of the first float output, as a share of its energy
  bool measured = false;  // else interpolated from forms that were
  // The form computes in integers only beside other such layers: alone its borders cost more than
  // it saves. Then `noise` is what all such layers together lose less without this one.
  bool only_together = false;
  // It saves bytes only where other layers have it too, as what it takes once is more than it saves
  // here. Then `noise` is by how much more than its other forms it loses elsewhere.
  bool only_shared = false;
  double microseconds = 0;  // of a run, with what follows up to the next layer; 0: not asked for
};

// Between layers of which one computes in integers and the other does not. A layer alone in
// integers pays for its borders; where both sides do, each saves this.
struct SearchBorder {
  std::size_t left = 0, right = 0;  // layers; data go from one to the other
  double noise = 0;                 // as SearchEffect::noise
  double microseconds = 0;          // of converting; only known for right = left + 1
};

struct SearchLayer {
  std::string name;                   // of the weight
  std::vector<std::string> patterns;  // that `include` takes for it
  std::string op_type;
  std::uint64_t weight_bytes = 0;
  std::vector<SearchEffect> effects;  // one per form
};

struct SearchPoint {
  std::vector<std::size_t> choice;  // a form per layer
  std::uint64_t bytes = 0;
  SearchQuality quality;
  std::optional<double> latency;
  std::string origin;  // what proposed it: "knapsack", "uniform cluster-4"
  bool holds = false;
  double predicted_db = 0;                  // SQNR by the sum of the layers' noises
  std::optional<double> predicted_latency;  // by the layers' times
};

// What came of one of SearchOptions::widths.
struct SearchedWidth {
  double share = 1;
  double evaluations = 0;
  std::uint64_t bytes = 0;  // of its best choice
  SearchQuality quality;
  bool holds = false;
};

struct SearchOutcome {
  // Layers, points and front are those of the width that was chosen.
  SearchWidth width;
  std::vector<SearchedWidth> widths;  // in the order they were tried; empty: none were asked for
  std::vector<SearchLayer> layers;
  std::vector<SearchBorder> borders;
  std::vector<double> form_bytes;     // what each form takes once, however many layers have it
  std::vector<std::string> left_out;  // weights without a name that a recipe could use
  std::vector<SearchPoint> points;    // evaluated, in order
  std::optional<std::size_t> best;    // holds, or is nearest to it
  std::vector<std::size_t> front;     // bytes against quality, and latency where it was measured
  std::uint64_t base_bytes = 0;       // with every layer as it is, prepared
  std::int64_t trials = 0;            // layers alone that were run
  std::int64_t trial_samples = 0;
  double evaluations = 0;       // in runs of the evaluation data
  std::int64_t remembered = 0;  // of the evaluations
  bool interrupted = false;
};

// Searches; each width has an equal part of the evaluations that those before it left. Noises that
// are predicted are of forms alone, without what a cut loses. An interruption is no
// failure but ends it with what is there. Fails as passes and the runtime do, with kUnsupported
// where no form applies to any layer, with kUsage for kBrute when there are more combinations than
// evaluations.
Result<SearchOutcome> search_forms_of_layers(const Model& original, const SearchOptions& options,
                                             const SearchServices& services);

// The recipe that makes the model of this choice, from the original.
Recipe search_recipe(const SearchOptions& options, const SearchOutcome& outcome,
                     std::span<const std::size_t> choice);

}  // namespace mcompress
