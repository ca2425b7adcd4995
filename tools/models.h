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
#include "mcompress/data.h"
#include "mcompress/io.h"
#include "mcompress/ir.h"
#include "mcompress/options.h"
#include "mcompress/runtime.h"
#include "mcompress/sampling.h"

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

// How data become samples; the base of the options of every command that takes data.
struct DataFlags {
  std::string feeding = "auto";
  std::string preprocess;
  std::vector<std::string> raw;
  std::vector<std::string> input;
  std::string balance = "none";
  std::int64_t sequence_length = 0;
  std::int64_t pad_id = -1;
};

// Declares them. `data` is the name of the option that --input adds to.
template <class Options>
void add_data_fields(Schema<Options>& schema) {
  const auto text = [](std::string DataFlags::*member) {
    return static_cast<std::string Options::*>(member);
  };
  const auto list = [](std::vector<std::string> DataFlags::*member) {
    return static_cast<std::vector<std::string> Options::*>(member);
  };
  const auto number = [](std::int64_t DataFlags::*member) {
    return static_cast<std::int64_t Options::*>(member);
  };
  schema
      .field("feeding", text(&DataFlags::feeding),
             "what axis 0 of the arrays is: the model's batch axis, or an axis of samples")
      .choices({"auto", "slice", "index"})
      .field("preprocess", text(&DataFlags::preprocess),
             "how images become inputs: resize=256,crop=224,mean=..,std=..,scale=1/255,"
             "layout=nchw,channels=rgb, or a YAML file; else by the model's input")
      .unit("TEXT|FILE")
      .field("raw", list(&DataFlags::raw),
             "what a sample of a raw file is: x=f32[1,3,224,224]; else as the model's input")
      .unit("NAME=TYPE[SHAPE],...")
      .field("input", list(&DataFlags::input),
             "samples of one input from a path of its own; may be given again")
      .unit("NAME=PATH,...")
      .field("balance", text(&DataFlags::balance), "labels: as many samples of each label")
      .choices({"none", "labels"})
      .field("sequence-length", number(&DataFlags::sequence_length),
             "tokens of each sequence that one long row of token ids is cut into; 0: the model's "
             "own, or 128")
      .range(0, 1e9)
      .unit("N")
      .field("pad-id", number(&DataFlags::pad_id),
             "the token id that is padding; negative ids always are; -1: no other")
      .range(-1, 9e15)
      .unit("N");
}

// What can be given as data.
inline constexpr std::string_view kDataKinds =
    "an .npz, .npy, raw file or list of files, or a folder of images, .npy or ONNX test sets";

// Opens data for a model; `limit` 0: all samples. An empty path: --input gives all inputs.
Result<std::unique_ptr<DataSource>> open_samples(const std::string& path, const Model& model,
                                                 const DataFlags& flags, std::int64_t limit,
                                                 Console& console);
// The same for some of the model's inputs.
Result<std::unique_ptr<DataSource>> open_samples_for(const std::string& path, const Model& model,
                                                     const std::vector<PortInfo>& ports,
                                                     const DataFlags& flags, std::int64_t limit,
                                                     Console& console);

// The digest of all samples, as text. Fails as reading them does.
Result<std::string> samples_digest(DataSource& data);

// Warns of data that can not be real; for what decides ranges.
Status check_data(DataSource& data, const Model& model, Console& console);

// "auto" or a number of samples.
struct SampleCount {
  std::int64_t count = 0;  // 0: all
  bool until_stable = false;
};
Result<SampleCount> parse_sample_count(const std::string& text);
// How the ranges converged, as lines for people and as facts of a report.
std::string convergence_text(const StableCalibration& calibration);
Datum to_datum(const StableCalibration& calibration);

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
