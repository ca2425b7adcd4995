#include "report/report_tracking.h"

#include <algorithm>
#include <filesystem>

#include "mcompress/digest.h"
#include "mcompress/host.h"
#include "mcompress/version.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

// 128 bits out of two digests of the same text.
std::string run_id(const std::string& text) {
  return digest_text(text_digest(text)) + digest_text(text_digest("run\n" + text));
}

std::string real_text(double value) { return json_line(Datum::real(value)); }

// A JSON string is one of YAML.
std::string yaml_text(std::string_view text) { return json_line(Datum::string(text)); }

Error no_folder(const fs::path& path, const std::string& why) {
  return Error(Code::kOutput, "tracking-folder", why, {path.string(), {}, {}});
}

Status make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return no_folder(path, "can not be made: " + error.message());
  return ok_status();
}

// The folder of an experiment of that name; "" where there is none.
std::string find_experiment(const fs::path& folder, const std::string& name) {
  std::vector<std::string> found;
  std::error_code error;
  for (auto it = fs::directory_iterator(folder, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    const fs::path meta = it->path() / "meta.yaml";
    std::error_code ignored;
    if (!fs::is_regular_file(meta, ignored)) continue;
    const auto facts = read_datum_file(meta);
    if (!facts.ok()) continue;
    const Datum* known = facts->find("name");
    const Datum* stage = facts->find("lifecycle_stage");
    const bool deleted = stage != nullptr && option_text(*stage) == "deleted";
    if (known != nullptr && !deleted && option_text(*known) == name) {
      found.push_back(it->path().filename().string());
    }
  }
  return found.empty() ? std::string() : *std::min_element(found.begin(), found.end());
}

std::string artifact_uri(const fs::path& path) {
  // Of a path only what a URI allows stands as it is.
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string uri = "file://";
  for (const char c : fs::absolute(path).lexically_normal().string()) {
    if (kPlain.find(c) != std::string_view::npos) {
      uri += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    uri += '%';
    uri += kHex[byte >> 4U];
    uri += kHex[byte & 15U];
  }
  return uri;
}

Status write_run(const fs::path& folder, const fs::path& place, const std::string& experiment,
                 const TrackedRun& run, const std::string& now) {
  for (const char* part : {"params", "metrics", "tags", "artifacts"}) {
    MCOMPRESS_TRY(make_folder(folder / part));
  }
  const std::string status = run.failed ? "4" : "3";  // MLflow's FAILED and FINISHED
  const std::string meta = "artifact_uri: " + yaml_text(artifact_uri(place / "artifacts")) +
                           "\nend_time: " + now + "\nentry_point_name: ''\nexperiment_id: '" +
                           experiment + "'\nlifecycle_stage: active\nrun_id: " + run.id +
                           "\nrun_name: " + yaml_text(run.name) + "\nrun_uuid: " + run.id +
                           "\nsource_name: mcompress\nsource_type: 4\nsource_version: ''\n"
                           "start_time: " +
                           now + "\nstatus: " + status + "\ntags: []\nuser_id: mcompress\n";
  MCOMPRESS_TRY(write_file(folder / "meta.yaml", meta));
  for (const auto& [name, value] : run.parameters) {
    MCOMPRESS_TRY(write_file(folder / "params" / name, value));
  }
  for (const auto& [name, value] : run.metrics) {
    MCOMPRESS_TRY(write_file(folder / "metrics" / name, now + " " + real_text(value) + " 0\n"));
  }
  for (const auto& [name, value] : run.tags) {
    MCOMPRESS_TRY(write_file(folder / "tags" / name, value));
  }
  for (const auto& [name, text] : run.artifacts) {
    MCOMPRESS_TRY(write_file(folder / "artifacts" / name, text));
  }
  return ok_status();
}

// Names of files: what MLflow allows in keys, less '/', which would be a folder.
std::string key_of(std::string_view name) {
  std::string key;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-' || c == '.';
    key += plain ? c : '_';
  }
  constexpr std::size_t kLong = 200;
  if (key.empty() || key == "." || key == "..") return "_";
  return key.substr(0, kLong);
}

// Tags and parameters of MLflow have limits, and are one line in its tables.
std::string value_of(const std::string& text) {
  constexpr std::size_t kLong = 500;
  std::string value = text.substr(0, kLong);
  // Not in the middle of a character.
  while (value.size() < text.size() && !value.empty() &&
         (static_cast<unsigned char>(text[value.size()]) & 0xC0U) == 0x80) {
    value.pop_back();
  }
  std::replace(value.begin(), value.end(), '\n', ' ');
  return value;
}

void add_recipe(const Datum& recipe, TrackedRun& run) {
  const Datum* passes = recipe.find("passes");
  if (passes == nullptr || passes->as_list() == nullptr) return;
  std::string names;
  for (const Datum& step : *passes->as_list()) {
    const Datum* name = step.find("pass");
    if (name != nullptr) names += (names.empty() ? "" : ",") + option_text(*name);
  }
  run.parameters.emplace_back("passes", value_of(names));
}

}  // namespace

std::vector<TrackedRun> tracked_runs(
    const ReportContent& content,
    const std::vector<std::pair<std::string, std::string>>& artifacts) {
  TrackedRun whole;
  whole.name = content.title;
  whole.artifacts = artifacts;
  for (const auto& [name, value] : content.provenance) {
    const bool digest = name.find("digest") != std::string::npos || name.starts_with("mcompress.");
    (digest ? whole.tags : whole.parameters).emplace_back(key_of(name), value_of(value));
  }
  add_recipe(content.recipe, whole);
  whole.tags.emplace_back("mlflow.runName", value_of(content.title));
  whole.tags.emplace_back("mlflow.source.name", "mcompress");
  whole.tags.emplace_back("mlflow.source.type", "LOCAL");
  whole.tags.emplace_back("mcompress.page_version", std::string(kVersion));
  std::string identity = content.title + "\n" + std::string(kVersion) + "\n";
  for (const auto& [name, value] : content.provenance) identity += name + "=" + value + "\n";
  std::vector<TrackedRun> runs;
  std::vector<const ReportResult*> results;
  for (const ReportResult& result : content.results) {
    if (!result.original) results.push_back(&result);
  }
  for (const ReportResult* result : results) {
    TrackedRun run;
    run.name = result->label;
    run.failed = result->failed;
    run.metrics = metrics_of(*result);
    if (!result->model.empty()) run.parameters.emplace_back("model", value_of(result->model));
    if (!result->message.empty()) run.tags.emplace_back("message", value_of(result->message));
    run.tags.emplace_back("mlflow.runName", value_of(result->label));
    run.tags.emplace_back("mlflow.source.name", "mcompress");
    identity += result->label + "\n";
    for (const auto& [name, value] : run.metrics) identity += name + "=" + real_text(value) + "\n";
    runs.push_back(std::move(run));
  }
  for (auto& metric : whole.metrics) metric.first = key_of(metric.first);
  whole.id = run_id(identity);
  if (runs.size() == 1) {
    whole.metrics = std::move(runs.front().metrics);
    whole.failed = runs.front().failed;
    for (auto& parameter : runs.front().parameters)
      whole.parameters.push_back(std::move(parameter));
    runs.clear();
  } else {
    std::size_t place = 0;
    for (TrackedRun& run : runs) {
      run.parent = whole.id;
      run.id = run_id(identity + std::to_string(place++));
      run.tags.emplace_back("mlflow.parentRunId", whole.id);
      for (auto& metric : run.metrics) metric.first = key_of(metric.first);
    }
    const auto failed = std::count_if(results.begin(), results.end(),
                                      [](const ReportResult* result) { return result->failed; });
    whole.metrics.emplace_back("results", static_cast<double>(results.size()));
    whole.metrics.emplace_back("failed", static_cast<double>(failed));
  }
  runs.insert(runs.begin(), std::move(whole));
  return runs;
}

Status write_mlflow(const std::string& folder, const std::string& experiment,
                    const std::vector<TrackedRun>& runs, const TrackingClock& clock) {
  MCOMPRESS_TRY(make_folder(folder));
  const std::string now = std::to_string(clock.milliseconds);
  std::string id = find_experiment(folder, experiment);
  if (id.empty()) {
    // Eighteen digits, as MLflow's own.
    constexpr std::uint64_t kDigits = 900'000'000'000'000'000, kFirst = kDigits / 9;
    id = std::to_string(kFirst + text_digest(experiment) % kDigits);
    const fs::path place = fs::path(folder) / id;
    MCOMPRESS_TRY(make_folder(place));
    const std::string meta = "artifact_location: " + yaml_text(artifact_uri(place)) +
                             "\ncreation_time: " + now + "\nexperiment_id: '" + id +
                             "'\nlast_update_time: " + now +
                             "\nlifecycle_stage: active\nname: " + yaml_text(experiment) + "\n";
    MCOMPRESS_TRY(write_file(place / "meta.yaml", meta));
  }
  for (const TrackedRun& run : runs) {
    const fs::path place = fs::path(folder) / id / run.id;
    const fs::path part = fs::path(folder) / (".unfinished-" + run.id);
    std::error_code error;
    fs::remove_all(part, error);
    Status status = write_run(part, place, id, run, now);
    if (status.ok()) {
      fs::remove_all(place, error);
      fs::rename(part, place, error);
      if (error) status = no_folder(place, "can not be made: " + error.message());
    }
    if (status.ok()) continue;
    fs::remove_all(part, error);
    return status;
  }
  return ok_status();
}

std::string event_lines(const std::vector<TrackedRun>& runs,
                        const std::vector<std::pair<std::string, std::string>>& files,
                        const TrackingClock* clock) {
  std::string lines;
  for (const TrackedRun& run : runs) {
    const auto event = [&](std::string_view kind) {
      Datum map = Datum::map();
      map.set("event", Datum::string(kind));
      map.set("run", Datum::string(run.id));
      return map;
    };
    const auto write = [&](const Datum& map) { lines += json_line(map) + "\n"; };
    const auto timed = [&](Datum map) {
      if (clock != nullptr) map.set("time_ms", Datum::integer(clock->milliseconds));
      write(map);
    };
    Datum start = event("run-started");
    start.set("name", Datum::string(run.name));
    if (!run.parent.empty()) start.set("parent", Datum::string(run.parent));
    start.set("schema", Datum::string("mcompress-events"));
    start.set("version", Datum::integer(1));
    timed(std::move(start));
    for (const auto& [list, kind] :
         {std::pair(&run.parameters, "param"), std::pair(&run.tags, "tag")}) {
      for (const auto& [name, value] : *list) {
        Datum map = event(kind);
        map.set("name", Datum::string(name));
        map.set("value", Datum::string(value));
        write(map);
      }
    }
    for (const auto& [name, value] : run.metrics) {
      Datum map = event("metric");
      map.set("name", Datum::string(name));
      map.set("value", Datum::real(value));
      write(map);
    }
    for (const auto& [name, content] : run.artifacts) {
      const auto file = std::find_if(files.begin(), files.end(), [&name = name](const auto& entry) {
        return entry.first == name;
      });
      if (file == files.end()) continue;
      Datum map = event("artifact");
      map.set("name", Datum::string(name));
      map.set("path", Datum::string(file->second));
      write(map);
    }
    Datum end = event("run-finished");
    end.set("status", Datum::string(run.failed ? "failed" : "finished"));
    timed(std::move(end));
  }
  return lines;
}

}  // namespace mcompress::tools
