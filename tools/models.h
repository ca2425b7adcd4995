// What commands do with models before and after their own work.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "console.h"
#include "mcompress/calibration.h"
#include "mcompress/io.h"
#include "mcompress/ir.h"
#include "mcompress/options.h"
#include "mcompress/runtime.h"

namespace mcompress::tools {

struct LoadedModel {
  std::string path;
  std::unique_ptr<Model> model;
  SavedModel size;  // on disk
};

// Loads a model and shows what the loader had to say.
Result<LoadedModel> load(const std::string& path, Console& console);

// Inputs that a caller has to feed.
std::vector<PortInfo> ports_of(const Model& model);

// Opens data for a model; `limit` 0: all samples.
Result<std::unique_ptr<DataSource>> open_samples(const std::string& path, const Model& model,
                                                 std::string_view feeding, std::int64_t limit,
                                                 Console& console);

// Every graph of the model, functions left out, outer before inner.
void each_graph(const Model& model, const std::function<void(const Graph&)>& visit);

// Refuses (kUsage) a pattern that matches no node name, operator type or tensor name, naming the
// nearest ones. `models`: states of one model, one of which has to have it, in functions too.
// `flag` is the option it was given to.
Status check_patterns(std::span<const Model* const> models, std::string_view flag,
                      std::span<const std::string> patterns);
// The same for names of the model's functions, with or without domain.
Status check_functions(const Model& model, std::string_view flag,
                       const std::vector<std::string>& patterns);

// Refuses (kOutput) early what could not be written later: a folder, a missing or read-only
// folder. "-" is standard output.
Status check_writable(const std::string& path);

// Refuses (kUsage) an output that would take the place of one of `others`: files that the same
// command reads or writes. `flag` is the option the output was given to.
Status check_overwrites(const std::string& output, std::string_view flag,
                        std::span<const std::string> others);

// "model.onnx" of a path: reports name no folders.
std::string file_name(const std::string& path);

}  // namespace mcompress::tools
