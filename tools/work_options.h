// Options that commands declare alike: how a command that runs the model many times works.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "mcompress/options.h"

namespace mcompress::tools {

// What calibration holds, whichever command asks for it.
constexpr std::string_view kCalibrationBudget =
    "for calibration beside the model: runs and statistics; 0: 256 MiB of observed activations";

// --jobs and --memory-budget. `budget`: what that is for.
template <class Options>
void add_work_fields(Schema<Options>& schema, std::int64_t Options::*jobs,
                     std::int64_t Options::*memory_budget, std::string_view budget) {
  schema
      .field("jobs", jobs,
             "runs of the model at the same time, which change no result; 0: one per processor")
      .range(0, 1024)
      .field("memory-budget", memory_budget, std::string(budget))
      .unit("bytes")
      .range(0, 9e15);
}

// --samples, of the data that a command looks at.
template <class Options>
Schema<Options>& add_sample_field(Schema<Options>& schema, std::int64_t Options::*samples) {
  return schema.field("samples", samples, "use the first N samples; 0: all").range(0, 1e9);
}

}  // namespace mcompress::tools
