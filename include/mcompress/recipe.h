// What recipes hold beside passes: data, gates, conditions of steps.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/options.h"
#include "mcompress/pipeline.h"

namespace mcompress {

// When a step runs; every condition that is given has to hold. Asked of the model as it was read,
// before any pass.
struct StepCondition {
  // Of all constants together: "300kB", "1.5GiB".
  std::string bytes_above, bytes_below;
  // Operator types, "Conv" or "com.microsoft:Attention", nested graphs and functions included:
  // at least one of them is there; none of them is.
  std::vector<std::string> has_op, lacks_op;
  // Share of the bytes of constants that nodes of these types read, 0 to 1.
  std::vector<std::string> ops;
  double ops_above = -1;
  double ops_below = 2;
  // Whether there is calibration data or a table.
  std::string data = "any";

  // Rules: sizes can be read, limits of a share come with `ops`.
  static const Schema<StepCondition>& schema();
};

// The data a recipe brings along, under the names of the flags that hand them over. Paths are
// relative to the recipe; "{folder}" and "{stem}" in them are the model's folder and its file name
// without ".onnx".
struct RecipeData {
  std::string calib, samples, table, eval, metric, characters, feeding, preprocess, balance;
  std::vector<std::string> raw, input;
  std::int64_t sequence_length = 0;
  std::int64_t pad_id = -1;

  static const Schema<RecipeData>& schema();
};

// What the result has to satisfy, else nothing is written.
struct RecipeGates {
  double min_sqnr = 0;        // dB, of the worst float output
  double max_drop = 100;      // points of the metric, of a perplexity percent
  double max_size_ratio = 0;  // bytes of the result over those of the input; 0: not asked for
  std::string max_bytes;      // "4MB"; empty: not asked for

  static const Schema<RecipeGates>& schema();
};

// A size as recipes and flags spell it: "4096", "512MB" (decimal), "2GiB". Fails with kUsage.
Result<std::uint64_t> parse_size(std::string_view text, Location where);

// Whether the condition holds for a model. `has_data`: calibration data or a table are given.
bool holds(const StepCondition& condition, const Model& model, bool has_data);

// The recipe for this model: steps whose condition does not hold are dropped, conditions are gone.
// Fails with kUnsupported when no step is left.
Result<Recipe> resolve_recipe(Recipe recipe, const Model& model, bool has_data);

}  // namespace mcompress
