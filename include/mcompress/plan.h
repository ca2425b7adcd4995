// Plans: what a recipe decides about each tensor of a model, as data that people may edit, and the
// recipe that does what an edited plan says.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/options.h"
#include "mcompress/pass.h"
#include "mcompress/pipeline.h"
#include "mcompress/status.h"

namespace mcompress {

// What is done to one tensor, or to a node that has none, by one pass. A tensor that several passes
// work on (zeros, then clusters) has a decision for each, in their order.
struct PlannedDecision {
  std::string tensor;   // empty: the decision is about the node alone
  std::string made_of;  // the tensor of the model that an earlier pass made this one of; or empty
  std::string node;     // the first that reads the tensor, as Node::label() has it; may be empty
  std::string op_type;  // of that node
  std::optional<std::vector<std::int64_t>> shape;
  std::string pass;  // empty: kept as it is
  // What of the pass's options tells this tensor from others; laid over the options of the recipe.
  Datum options = Datum::map();
  // Predictions: the form in words, why, bytes of the weight, signal to noise ratio of the weight.
  std::string form, why;
  std::uint64_t bytes_before = 0, bytes_after = 0;
  std::optional<double> sqnr_db;
  // It stands as the recipe itself decides it: nobody changed it. Decisions written by hand or by
  // a search are not.
  bool planned = false;
  Location where = {};  // in the file; empty: not read from one

  bool keep() const { return pass.empty(); }
  // What names it in messages and patterns.
  const std::string& subject() const { return tensor.empty() ? node : tensor; }
};

struct Plan {
  std::string model;                        // file name without folders
  std::uint64_t model_digest = 0;           // fingerprint() of the model
  std::vector<std::uint64_t> data_digests;  // of the calibration data it was made with
  Recipe recipe;                            // without conditions; target and seed are its own
  std::vector<PlannedDecision> decisions;   // in graph order
  // Predicted for the whole: bytes of the files, and the worst float output where there were data.
  std::uint64_t bytes_before = 0, bytes_after = 0;
  std::optional<double> output_sqnr_db;
};

// Plans say which version of their form they are written in.
inline constexpr std::int64_t kPlanVersion = 1;

// Is it a plan at all, rather than a recipe?
bool is_plan(const Datum& datum);

// {"mcompress-plan": 1, "model": {"file", "digest"}, "calibration": [..], "totals": {..},
//  "recipe": {..}, "decisions": [{"tensor", "node", "op", "shape", "do": PASS or "keep", "options",
//  "form", "why", "bytes", "sqnr-db", "mark"}]}. A mark is there for what is `planned`; it no
//  longer
// fits once one of the decisions about its tensor is changed, added or taken away.
Datum print_plan(const Plan& plan, const PassRegistry& registry);
// The text of a file: YAML with a few lines that say how to edit it, or JSON.
enum class PlanText : std::uint8_t { kYaml, kJson };
std::string plan_text(const Plan& plan, const PassRegistry& registry, PlanText form);

// Checks names, options and marks. Fails with kUsage at line and column: an unknown key, pass or
// option (with the nearest name), an option that is about all tensors together, a tensor decided
// twice by one pass, kept and compressed, a version that is newer than the program.
Result<Plan> parse_plan(const Datum& datum, const PassRegistry& registry, Diagnostics& diagnostics);

// Does a pass decide about tensors one by one, so that a plan can name it?
bool decides_on_tensors(std::string_view pass);

// Gives the pattern that `include` and `exclude` of passes match with what a decision is about and
// with nothing else; empty: there is none. Not set: the subject's name, literally.
using PatternOf = std::function<std::string(const PlannedDecision&)>;

// A pattern that matches this name only: special characters stand in brackets.
std::string pattern_of_name(std::string_view name);

// The recipe that does what the plan says. Where everything is as planned: the plan's own. Else
// what was changed is left out of the recipe's steps, and gets steps of its own, beside them, with
// its options; where the options of such a step are a budget for all tensors together (a size, a
// drop), the step gives way to steps that spell out what was decided within it. Fails with
// kUnsupported at the decision that no step can be made for.
Result<Recipe> recipe_of(const Plan& plan, const PassRegistry& registry,
                         const PatternOf& pattern_of = {});

}  // namespace mcompress
