// What a model computes and keeps in memory, and what the cleaning passes could do, as text and as
// data.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "console.h"
#include "mcompress/analysis.h"
#include "mcompress/options.h"
#include "mcompress/runtime.h"
#include "models.h"

namespace mcompress::tools {

// What the runtime took, in bytes.
struct Measured {
  std::string runtime;
  MemoryUse optimised;  // of its own graph, as applications run it
  MemoryUse as_is;      // of the graph in the file
  std::string inputs;   // "made up", "sample 0 of calib.npz"
};

struct Workload {
  std::unique_ptr<Model> model;  // a copy with the shapes below
  PinnedShapes shapes;
  ModelCost cost;
  MemoryPlan memory;
  std::optional<Measured> measured;
};
// "NAME:1,3,224,224" as the list that a flag makes of it: {"NAME:1", "3", "224", "224"}.
Result<ShapePins> parse_shapes(const std::vector<std::string>& texts);
Result<Workload> workload_of(const Model& model, const ShapePins& pins, Console& console);
// Runs the model on `feeds`.
Result<Measured> measure(const Model& model, std::span<const NamedTensor> feeds,
                         std::string inputs);

std::string workload_text(const Workload& workload, std::int64_t top);
void add_workload(const Workload& workload, Datum& map);

// One pass of the optimize recipe on a copy.
struct PassChances {
  std::string pass;
  std::uint64_t sites = 0;                                     // in all rounds
  std::int64_t nodes_before = 0, nodes_after = 0;              // in the first round
  std::vector<std::pair<std::string, std::uint64_t>> skipped;  // reasons, most frequent first
};
Result<std::vector<PassChances>> pass_chances(const Model& model, Console& console);
std::string chances_text(const std::vector<PassChances>& chances);
Datum to_datum(const std::vector<PassChances>& chances);

}  // namespace mcompress::tools
