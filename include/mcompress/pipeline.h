// Recipes (passes with options, as data) and running them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/options.h"
#include "mcompress/pass.h"
#include "mcompress/report.h"
#include "mcompress/status.h"

namespace mcompress {

struct RecipeStep {
  std::string pass;
  Datum options;    // map; checked
  Datum when = {};  // map of StepCondition (recipe.h), checked; null: always
};

struct Recipe {
  std::string name;
  std::vector<RecipeStep> steps;
  std::string target = "onnxruntime-cpu";
  std::uint64_t seed = 0;
  // Neighbouring passes that keep results run, in an order of the registry's, until none of them
  // changes anything, whatever their order here. Else every step runs once, where it stands.
  bool converge = false;
  std::string summary = {};  // a line for people
  // Maps of RecipeData and RecipeGates (recipe.h), checked, with what was given only; null: none.
  Datum data = {};
  Datum gates = {};
};

// Recipes say which version of their form they are written in; without one, this.
inline constexpr std::int64_t kRecipeVersion = 1;

// Checks names, options, order and target; fills nothing in. Fails with kUsage.
// Form: {"version": 1, "name": .., "summary": .., "target": .., "seed": .., "converge": bool,
//        "data": {..}, "gates": {..}, "passes": ["name" | {"pass": .., "when": {..}, options..}]}.
Result<Recipe> parse_recipe(const Datum& datum, const PassRegistry& registry,
                            Diagnostics& diagnostics);
// The effective recipe, every option spelled out: replays the run.
Datum print_recipe(const Recipe& recipe, const PassRegistry& registry);
// Digest of what runs: the printed recipe without version, data, gates and summary.
std::uint64_t recipe_digest(const Recipe& recipe, const PassRegistry& registry);

enum class VerifyLevel : std::uint8_t { kOff, kEnds, kEachPass };

// How passes that should keep results are held to it, by running the graph before and after on
// seeded inputs (and a sample of the calibration data where there is some). A pass that moves a
// float by more than the tolerance, or another value at all, is undone and named; the others go
// on. What can not be run (unknown shapes, operators without a kernel, random numbers) is counted.
enum class GuardMode : std::uint8_t {
  kOff,
  kSite,   // what a pass changed, cut out of the graph: costs nothing for what it left alone
  kModel,  // the whole model, once for all passes; pass by pass only when that shows a difference
  kAuto,   // kModel up to 256 MiB of constants, else kSite
};

struct PipelineOptions {
  VerifyLevel verify = VerifyLevel::kEachPass;
  std::filesystem::path dump_folder;  // numbered text dump after each pass; empty: none
  GuardMode guard = GuardMode::kOff;  // needs Services::runtime
  double guard_tolerance = 1e-4;      // of the largest magnitude of an output; float32
  std::uint64_t tensor_heap_budget = std::uint64_t{128}
                                     << 20;  // of results; more go to spill files
};

// Runs the passes in order. A pass that fails leaves `model` in an unspecified state: drop it.
Status run_pipeline(Model& model, const Recipe& recipe, const PassRegistry& registry,
                    const Services& services, const PipelineOptions& options, Explain& explain,
                    Report& report);

// As run_pipeline with the built-in passes, on a model that is only tried out: what there would be
// to say and report is dropped, progress is not shown, and the model is not verified in between.
Status run_unheard(Model& model, const Recipe& recipe, const Services& services, Explain& explain);

// Observes everything that quantize-static could ask for, on a model that the passes before it
// have prepared: the table of `mcompress calibrate`. `samples` 0: all. Fails with kUnsupported when
// the target runs nothing of the model in integers, else as calibrate() does.
Result<CalibrationTable> calibrate_activations(Model& prepared, const Target& target,
                                               Runtime& runtime, DataSource& data,
                                               const CalibratorOptions& options,
                                               std::int64_t samples, Diagnostics& diagnostics,
                                               Progress& progress);

}  // namespace mcompress
