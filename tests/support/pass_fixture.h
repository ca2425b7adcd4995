// Runs passes on small models written as text, and compares what the models compute.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/io.h"
#include "mcompress/pipeline.h"
#include "mcompress/runtime.h"

namespace mcompress::testing {

// "float[4,3] name = {..}" with numbers that depend on the name only, in [low, high].
std::string weights(std::string_view name, std::vector<std::int64_t> dims, float low = -1.0f,
                    float high = 1.0f);

struct PassRun {
  Status status = ok_status();
  Explain explain;
  Diagnostics diagnostics;
  Report report;
  bool changed = false;

  // Decisions of kind "done", of one pass (empty: of all).
  std::int64_t applied(std::string_view pass = {}) const;
  // The reason given for a node or value; empty: none.
  std::string why(std::string_view subject) const;
  // The number a pass reported; -1 when there is none. The last run of that pass counts.
  std::int64_t count(std::string_view pass, std::string_view key) const;
};

// "name" or "name:{\"option\": 1}".
std::unique_ptr<PassRun> run_passes(Model& model, const std::vector<std::string>& passes);
// The same for another target than the default one.
std::unique_ptr<PassRun> run_passes_for(std::string_view target, Model& model,
                                        const std::vector<std::string>& passes);
// The same for runs without a runtime.
std::unique_ptr<PassRun> run_without_runtime(Model& model, const std::vector<std::string>& passes);

std::int64_t count_nodes(const Model& model, std::string_view op_type);
std::int64_t count_initializers(const Model& model);

// Runs both models in ONNX Runtime on seeded inputs (open dimensions become `open`) and expects the
// outputs, matched by name, to be equal within |a - b| <= tolerance (1 + |a|).
void expect_same_results(const Model& before, const Model& after, double tolerance,
                         std::int64_t open = 2);
// The same on given inputs.
void expect_same_results_on(const std::vector<NamedTensor>& feeds, const Model& before,
                            const Model& after, double tolerance);
// Seeded values of the type of an input; open dimensions become `open`.
Tensor seeded_input(const PortInfo& port, std::int64_t open);

// Parses, runs, verifies, checks with ONNX, compares results; the model after the run.
struct Checked {
  std::unique_ptr<Model> before, after;
  std::unique_ptr<PassRun> run;
};
Checked check_passes(std::string_view text, const std::vector<std::string>& passes,
                     double tolerance = 1e-5, std::int64_t open = 2);

}  // namespace mcompress::testing
