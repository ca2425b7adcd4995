// A report for experiment trackers: an MLflow folder, and a stream of events for any other.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/status.h"
#include "report/report_data.h"

namespace mcompress::tools {

struct TrackedRun {
  std::string id;      // 32 hexadecimal digits, from the content alone
  std::string parent;  // id of the run it belongs to; "": none
  std::string name;
  bool failed = false;
  std::vector<std::pair<std::string, std::string>> parameters, tags;
  std::vector<std::pair<std::string, double>> metrics;
  std::vector<std::pair<std::string, std::string>> artifacts;  // file name, content
};

// One run for one result; for several a run with the artifacts and one below it per result.
std::vector<TrackedRun> tracked_runs(
    const ReportContent& content,
    const std::vector<std::pair<std::string, std::string>>& artifacts);

struct TrackingClock {
  std::int64_t milliseconds = 0;  // since 1970
};

// Adds the runs to `folder` in the layout of MLflow's file store: FOLDER/EXPERIMENT/RUN/meta.yaml,
// params, metrics, tags, artifacts. The experiment is the one of that name that is there, or a new
// one. A run that is there already is replaced; one that fails leaves nothing. Fails with kOutput.
Status write_mlflow(const std::string& folder, const std::string& experiment,
                    const std::vector<TrackedRun>& runs, const TrackingClock& clock);

// A JSON object a line: run-started, param, tag, metric, artifact, run-finished. `clock` null: no
// times. `files`: where artifacts were written, by name; those without are left out.
std::string event_lines(const std::vector<TrackedRun>& runs,
                        const std::vector<std::pair<std::string, std::string>>& files,
                        const TrackingClock* clock);

}  // namespace mcompress::tools
