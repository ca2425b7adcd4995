// Which samples of the data are run together, and which are run at all. Depends on the model and
// the data alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "mcompress/calibration.h"

namespace mcompress {

// Which samples make which run.
struct RunSchedule {
  std::int64_t samples = 0;
  std::int64_t first = 1;   // samples of run 0
  std::int64_t batch = 1;   // of the others
  bool wrap = false;        // the model fixes the batch: the last run begins again with sample 0
  std::int64_t picked = 0;  // runs after run 0 that are taken, spread evenly; 0: all

  std::int64_t all_runs() const {
    return samples <= first ? 1 : 1 + (samples - first + batch - 1) / batch;
  }
  std::int64_t runs() const { return picked > 0 ? 1 + picked : all_runs(); }
  std::int64_t begin(std::int64_t run) const {
    if (run == 0) return 0;
    const std::int64_t nth = picked > 0 ? (run - 1) * (all_runs() - 1) / picked : run - 1;
    return first + nth * batch;
  }
  std::int64_t size(std::int64_t run) const {
    const std::int64_t wanted = run == 0 ? first : batch;
    return wrap ? wanted : std::min(wanted, samples - begin(run));
  }
};

// All samples asked for; the batch is that of the model or of the options, else 1. Fails with
// kUnsupported for a model that wants very many samples at once.
Result<RunSchedule> make_schedule(const DataSource& data, const CalibrationRequest& request,
                                  const CalibratorOptions& options);
// The samples of a run that show so many bytes of values each is worth putting together.
std::int64_t batch_for(std::uint64_t bytes_per_sample);
// Leaves runs out, evenly, when fewer samples are enough (CalibrationRequest::enough_bytes).
void pick_runs(RunSchedule& schedule, std::uint64_t bytes_per_sample, std::uint64_t wanted_bytes);

Result<std::vector<NamedTensor>> read_run(DataSource& data, const RunSchedule& schedule,
                                          std::int64_t run);

}  // namespace mcompress
