#include "models.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>

#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

void each_graph_below(const Graph& graph, const std::function<void(const Graph&)>& visit) {
  visit(graph);
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    for (const Graph* body : node->bodies()) each_graph_below(*body, visit);
  }
}

Feeding feeding_of(std::string_view name) {
  if (name == "slice") return Feeding::kSlice;
  if (name == "index") return Feeding::kIndex;
  return Feeding::kAuto;
}

// "NAME=PATH".
std::optional<DataPath> named_path(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) return std::nullopt;
  return DataPath{text.substr(0, equals), text.substr(equals + 1)};
}

// A path, or "NAME=PATH,NAME=PATH" when it begins with an input's name and is no file.
void add_paths(const std::string& text, const std::vector<PortInfo>& ports,
               std::vector<DataPath>& paths) {
  std::error_code ignored;
  const std::optional<DataPath> first = named_path(text);
  const bool names_input =
      first && std::any_of(ports.begin(), ports.end(),
                           [&](const PortInfo& port) { return port.name == first->input; });
  if (!names_input || fs::exists(text, ignored)) {
    paths.push_back({{}, text});
    return;
  }
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string piece = text.substr(begin, end - begin);
    paths.push_back(named_path(piece).value_or(DataPath{{}, piece}));
    begin = end + 1;
  }
}

}  // namespace

Result<LoadedModel> load(const std::string& path, Console& console) {
  LoadedModel loaded;
  loaded.path = path;
  Diagnostics diagnostics;
  auto model = load_model(path, LoadOptions{}, diagnostics);
  console.show(diagnostics);
  if (!model.ok()) return std::move(model).error().in_file(path);
  loaded.model = std::move(model).value();
  MCOMPRESS_ASSIGN(loaded.size, model_size_on_disk(*loaded.model));
  return loaded;
}

std::vector<PortInfo> ports_of(const Model& model) {
  std::vector<PortInfo> ports;
  for (const Value* value : model.graph().inputs()) {
    if (value->is_initializer()) continue;
    PortInfo port;
    port.name = value->name();
    if (value->type() != nullptr) port.type = *value->type();
    ports.push_back(std::move(port));
  }
  return ports;
}

Result<std::unique_ptr<DataSource>> open_samples(const std::string& path, const Model& model,
                                                 const DataFlags& flags, std::int64_t limit,
                                                 Console& console) {
  return open_samples_for(path, model, ports_of(model), flags, limit, console);
}

Result<std::unique_ptr<DataSource>> open_samples_for(const std::string& path, const Model& model,
                                                     const std::vector<PortInfo>& ports,
                                                     const DataFlags& flags, std::int64_t limit,
                                                     Console& console) {
  SampleOptions options;
  options.feeding = feeding_of(flags.feeding);
  options.limit = limit;
  options.preprocess = flags.preprocess;
  options.raw = flags.raw;
  options.balance = flags.balance == "labels";
  options.language = language_inputs(model);
  options.sequence_length = flags.sequence_length;
  options.pad_id = flags.pad_id;
  std::vector<DataPath> paths;
  for (const std::string& text : flags.input) {
    const std::optional<DataPath> own = named_path(text);
    if (!own) {
      return Error(Code::kUsage, "input-path", "'" + text + "' names no input and path",
                   {{}, "--input", {}}, "write NAME=PATH");
    }
    paths.push_back(*own);
  }
  if (!path.empty()) add_paths(path, ports, paths);
  Diagnostics diagnostics;
  auto data = open_data(paths, ports, options, diagnostics);
  console.show(diagnostics);
  if (!data.ok()) return std::move(data).error().in_file(path);
  return data;
}

Result<std::string> samples_digest(DataSource& data) {
  const std::uint64_t digest = data.digest();
  if (digest != 0) return digest_text(digest);
  // Asked again, the data know which file it was.
  if (auto again = data.sample(0); !again.ok()) return std::move(again).error();
  return Error(Code::kInput, "data-unreadable",
               data.description() + " could not be read again for the digest of the data");
}

Status check_data(DataSource& data, const Model& model, Console& console) {
  Diagnostics diagnostics;
  const std::vector<PortInfo> ports = ports_of(model);
  Status status = check_samples(data, ports, diagnostics);
  console.show(diagnostics);
  return status;
}

Result<SampleCount> parse_sample_count(const std::string& text) {
  SampleCount samples;
  if (text == "auto") {
    samples.until_stable = true;
    return samples;
  }
  constexpr std::size_t kMostDigits = 9;
  const bool digits = !text.empty() && text.size() <= kMostDigits &&
                      text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits) {
    return Error(Code::kUsage, "sample-count",
                 "'" + text + "' is no number of samples of 0 to 999999999", {{}, "--samples", {}},
                 "write a number, or auto");
  }
  samples.count = std::stoll(text);
  return samples;
}

std::string convergence_text(const StableCalibration& calibration) {
  Table table;
  table.row({"samples", "median range moved", "95 % of ranges", "most", "where"});
  for (const RangeStep& step : calibration.steps) {
    const auto share = [](double change) { return decimal_text(change * 100, 2) + " %"; };
    table.row({std::to_string(step.samples), share(step.median), share(step.p95),
               share(step.largest), step.value});
  }
  std::string text = calibration.steps.empty() ? std::string() : table.text();
  const std::string seen = counted(static_cast<std::uint64_t>(calibration.table.samples), "sample");
  return text + (calibration.stable ? seen + " are enough: ranges hardly move any more"
                                    : "there are no more than " + seen + ": ranges still move");
}

Datum to_datum(const StableCalibration& calibration) {
  Datum map = Datum::map();
  map.set("samples", Datum::integer(calibration.table.samples));
  map.set("stable", Datum::boolean(calibration.stable));
  Datum steps = Datum::list();
  for (const RangeStep& step : calibration.steps) {
    Datum entry = Datum::map();
    entry.set("samples", Datum::integer(step.samples));
    entry.set("median_change", Datum::real(step.median));
    entry.set("p95_change", Datum::real(step.p95));
    entry.set("largest_change", Datum::real(step.largest));
    entry.set("value", Datum::string(step.value));
    steps.push(std::move(entry));
  }
  map.set("steps", std::move(steps));
  return map;
}

void each_graph(const Model& model, const std::function<void(const Graph&)>& visit) {
  each_graph_below(model.graph(), visit);
}

Status check_patterns(std::span<const Model* const> models, std::string_view flag,
                      std::span<const std::string> patterns) {
  if (patterns.empty()) return ok_status();
  std::set<std::string, std::less<>> known;  // sorted: hints do not depend on node order
  const auto add = [&known](std::string_view name) {
    if (!name.empty() && !known.contains(name)) known.emplace(name);
  };
  const auto look = [&](const Graph& graph) {
    for (const Value* value : graph.initializers()) add(value->name());
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      add(node->name());
      add(node->op_type());
      for (const Value* value : node->outputs()) {
        if (value != nullptr) add(value->name());
      }
    }
  };
  for (const Model* model : models) {
    each_graph_below(model->graph(), look);
    for (const Function& function : model->functions()) each_graph_below(*function.body, look);
  }
  for (const std::string& pattern : patterns) {
    // Of a plan they may be thousands, nearly all of them plain names.
    if (pattern.find_first_of("*?[") == std::string::npos && known.contains(pattern)) continue;
    const bool found = std::any_of(known.begin(), known.end(), [&](const std::string& name) {
      return matches_glob(pattern, name);
    });
    if (found) continue;
    std::vector<std::string> candidates(known.begin(), known.end());
    std::string hint;
    std::string wanted = pattern;
    std::erase(wanted, '*');
    for (int i = 0; i < 3; ++i) {
      const std::string close = nearest_name(wanted, candidates);
      if (close.empty()) break;
      hint += (i == 0 ? "nearest: '" : ", '") + close + "'";
      std::erase(candidates, close);
    }
    if (hint.empty()) hint = "`mcompress inspect --dump` lists the names";
    return Error(Code::kUsage, "pattern-without-match",
                 "'" + pattern + "' matches no node name, operator type or tensor of the model",
                 {{}, "--" + std::string(flag), {}}, hint);
  }
  return ok_status();
}

Status check_writable(const std::string& path) {
  if (path == "-") return ok_status();
  const auto refuse = [&path](std::string why) {
    return Error(Code::kOutput, "output-not-writable", std::move(why), {path, {}, {}});
  };
  std::error_code ignored;
  if (path.empty()) return refuse("the output has no name");
  const fs::path file(path);
  if (fs::is_directory(file, ignored)) return refuse("is a folder, not a file");
  fs::path folder = file.parent_path();
  if (folder.empty()) folder = ".";
  if (!fs::is_directory(folder, ignored)) {
    return refuse("there is no folder '" + folder.string() + "'");
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    return refuse("folder '" + folder.string() + "' can not be written: " + std::strerror(errno));
  }
  return ok_status();
}

Status check_overwrites(const std::string& output, std::string_view flag,
                        std::span<const std::string> others) {
  if (output.empty() || output == "-") return ok_status();
  const auto place = [](const std::string& path) {
    std::error_code ignored;
    const fs::path real = fs::weakly_canonical(fs::absolute(path, ignored), ignored);
    return real.empty() ? fs::path(path).lexically_normal() : real;
  };
  for (const std::string& other : others) {
    if (other.empty() || other == "-" || place(other) != place(output)) continue;
    return Error(Code::kUsage, "output-overwrites",
                 "'" + output + "' would overwrite '" + other + "', which this command needs too",
                 {{}, "--" + std::string(flag), {}}, "give it another name");
  }
  return ok_status();
}

std::string file_name(const std::string& path) { return fs::path(path).filename().string(); }

Status check_functions(const Model& model, std::string_view flag,
                       const std::vector<std::string>& patterns) {
  std::vector<std::string> names;
  for (const Function& function : model.functions()) {
    names.push_back(function.name);
    names.push_back(function.domain + "." + function.name);
  }
  for (const std::string& pattern : patterns) {
    if (std::any_of(names.begin(), names.end(),
                    [&](const std::string& name) { return matches_glob(pattern, name); })) {
      continue;
    }
    const std::string close = nearest_name(pattern, names);
    return Error(Code::kUsage, "no-such-function", "the model has no function '" + pattern + "'",
                 {{}, "--" + std::string(flag), {}},
                 close.empty() ? std::string() : "did you mean '" + close + "'?");
  }
  return ok_status();
}

}  // namespace mcompress::tools
