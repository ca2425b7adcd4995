// Measuring what a baseline records.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "console.h"
#include "gate/gate_baseline.h"
#include "judge.h"
#include "models.h"
#include "target_choice.h"

namespace mcompress::tools {

struct GateRequest {
  EvalSettings eval;
  int threads = 1;
  std::int64_t output_samples = 32;
  // No further sample is recorded once outputs have so many values; 0: no matter how many.
  std::int64_t most_values = 0;
  std::int64_t layer_samples = 4;  // 0: layers are left out
  bool measure_memory = false;
  bool latency = false;
  std::int64_t repeats = 5;  // of timing both models
  double seconds = 1;        // of one repeat, per model
  // What the ratio of latencies should not pass: a median above it is taken again, once, and the
  // lower one counts. Empty: taken once.
  std::optional<double> latency_limit;
};

// What is measured, and with what.
struct GateSubject {
  std::shared_ptr<Runtime> runtime;
  const LoadedModel* model = nullptr;
  const LoadedModel* reference = nullptr;  // null: none
  DataSource* data = nullptr;              // made-up inputs where none were given
  bool made_up = false;
  const TargetChoice* target = nullptr;
};

// Fills in everything but names and digests. What this build or runtime can not measure is left
// out, with a line to the console.
Status measure_gate(const GateSubject& subject, const GateRequest& request, Baseline& facts,
                    Console& console);

// Digest of samples and labels. Fails with kInput when the data can not be read again.
Result<std::string> digest_with_labels(DataSource& data);
// What a model says of how it was made: metadata "mcompress.recipe", "mcompress.calibration".
std::string metadata_of(const Model& model, std::string_view key);
std::string tool_version();

}  // namespace mcompress::tools
