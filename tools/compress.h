// The one path of every command that writes a model: load, run a recipe, prove the result, write.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bind.h"
#include "console.h"
#include "judge.h"
#include "mcompress/companion.h"
#include "mcompress/options.h"
#include "mcompress/pipeline.h"
#include "models.h"

namespace mcompress::tools {

struct CompressOptions : DataFlags {
  // Output.
  std::string output;
  std::string report;
  std::string dump_passes;
  std::string external_data = "auto";
  bool dry_run = false;
  bool allow_larger = false;
  bool write_missed = false;
  bool provenance = true;
  bool verify = true;
  std::string guard = "auto";
  double guard_tolerance = 1e-4;
  bool print_recipe = false;
  bool json = false;
  bool times = false;
  bool strip_notes = false;
  // How to work.
  std::string target = "onnxruntime-cpu";
  std::int64_t seed = 0;
  std::int64_t threads = 1;
  std::int64_t jobs = 0;
  std::int64_t memory_budget = 0;
  // Data.
  std::string calib;
  std::string samples = "0";
  std::string table;
  std::string eval;
  std::string metric = "auto";
  std::string characters;
  bool bench = false;
  std::string resume;

  // `data`: with the options that hand data over.
  static const Schema<CompressOptions>& schema(bool data);
  GuardMode guard_mode() const;
  PipelineOptions pipeline_options() const;
  // Where weights go and notes do not; what the result may be compared with is the caller's.
  SaveOptions save_options() const;
};

// Is there --calib, or --input in its place?
inline bool has_calibration_data(const CompressOptions& options) {
  return !options.calib.empty() || !options.input.empty();
}

// What a run has decided and made, for those who look on.
struct RunFacts {
  const Explain& explain;
  const Recipe& recipe;
  const Model& original;
  const Services& services;                         // of the passes
  std::uint64_t bytes_before = 0, bytes_after = 0;  // of the files; after: 0 until it is known
  const Comparison* comparison = nullptr;           // null: not compared
};
using Onlooker = std::function<Status(const RunFacts&)>;

// What a command wants done.
struct Job {
  CompressOptions options;
  std::string input;
  std::string recipe_file;  // the user's own; empty: none
  // Flags that are options of passes: set in every step of the recipe that has them.
  Datum pass_flags = Datum::map();
  // Gives the recipe once the model is known; `report` gets what there is to say about the choice.
  std::function<Result<Recipe>(const Model&, ReportScope& report)> choose_recipe;
  std::string command;
  bool must_compress = false;  // nothing applied is an error
  // The result does the same in other operators: it may be larger, it is compared on made-up
  // inputs when no data is given, and a runtime that lacks its operators is no error of ours.
  bool translates = false;
  // The recipe's patterns are names of the cleaned model: not held against those of the file.
  bool names_are_checked = false;
  Onlooker decided;   // once passes have run, before anything is checked or written
  Onlooker finished;  // at the end of a run that succeeds
  // Makes the samples that passes see of the model; empty: they are options.calib and
  // options.input.
  std::function<Result<std::unique_ptr<DataSource>>(const Model&)> calibration;
  // Gets the result of a run that succeeds or is written all the same.
  std::function<Status(const Model&)> made;
  // The model appears with these; null: by itself.
  OutputSet* outputs = nullptr;
  // Gets the report of a run that succeeds or is written all the same, or what --print-recipe asks
  // for in the place of standard output.
  std::function<Status(const std::string& text)> reported;
};

Status compress(Job job, Console& console);

// Whether a step of the recipe keeps what it has done in a file: only such a file may be removed in
// the end. Fails with kUsage where none does and `resume` is not empty.
Status check_resume(const std::string& resume, const Recipe& recipe);

// Options of all passes in the recipes, each once.
std::vector<OptionSpec> pass_options(std::span<const Recipe> recipes);
// A built-in recipe.
Result<Recipe> builtin_recipe(std::string_view name);
// Sets `flags` in the steps that have such an option. Fails with kUsage for a value that the
// option refuses, or when no step has it.
Status apply_flags(Recipe& recipe, const Datum& flags);
// Brings a model into the form in which quantize-static calibrates it: its values are those of a
// table.
Status prepare_for_calibration(const LoadedModel& loaded, const std::string& target_name,
                               const std::shared_ptr<Runtime>& runtime, Console& console);
// calibrate_until_stable for what quantize-static asks for; says how the ranges converged.
Result<StableCalibration> calibrate_enough(Model& prepared, const Target& target, Runtime& runtime,
                                           DataSource& data, const CalibratorOptions& options,
                                           Diagnostics& diagnostics, Console& console);
// What stands before `pass` in the recipe.
Recipe steps_before(Recipe recipe, std::string_view pass);

// A copy of the model in which the calls of functions are written out as the recipe does it, with
// the names that nodes get by that. Null: the recipe does not, or there are no functions.
Result<std::unique_ptr<Model>> calls_written_out(const Model& model, Recipe recipe);

}  // namespace mcompress::tools
