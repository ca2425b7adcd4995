// The kinds of data sources behind open_data.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "calibration/feed.h"
#include "calibration/npy_array.h"
#include "calibration/raw_layout.h"
#include "mcompress/calibration.h"
#include "mcompress/data.h"

namespace mcompress {

// open_data for one path and no balancing.
Result<std::unique_ptr<DataSource>> open_path(const std::filesystem::path& path,
                                              std::span<const PortInfo> inputs,
                                              const SampleOptions& options,
                                              Diagnostics& diagnostics);

// Arrays by name, wherever they are stored.
struct ArraySet {
  std::string file;  // for messages
  using OpenFn = std::function<Result<NpyArray>()>;
  std::map<std::string, OpenFn, std::less<>> arrays;
};

// <input>_scale and <input>_bias, when either is there and no input of the model.
Result<std::optional<Affine>> find_affine(const ArraySet& set, const std::string& input,
                                          std::span<const PortInfo> inputs);
// `labels`, when there and no input of the model; must have `available` rows, keeps `count`.
Result<Labels> find_labels(const ArraySet& set, std::span<const PortInfo> inputs,
                           std::int64_t available, std::int64_t count);

// One array per input, all samples in it.
Result<std::unique_ptr<DataSource>> open_arrays(const ArraySet& set,
                                                std::span<const PortInfo> inputs,
                                                const DataOptions& options,
                                                Diagnostics& diagnostics);

// open_arrays for models whose token ids may be all there is: a row of tokens is cut into
// sequences, and what the ids imply is derived (derive_missing).
Result<std::unique_ptr<DataSource>> open_token_arrays(ArraySet set,
                                                      std::span<const PortInfo> inputs,
                                                      const SampleOptions& options,
                                                      Diagnostics& diagnostics);
// Whether arrays named `has` are enough: for each input there is one, or it is derived.
bool tokens_suffice(std::span<const PortInfo> inputs, const SampleOptions& options,
                    const std::function<bool(const std::string&)>& has);
// The input that holds the token ids, where everything else among `inputs` can be derived; null:
// there is none.
const PortInfo* token_ids_port(std::span<const PortInfo> inputs, const SampleOptions& options);
// Feeds `missing` beside what `source` has. Notes say what they become.
std::unique_ptr<DataSource> derive_missing(std::unique_ptr<DataSource> source,
                                           std::vector<LanguageInput> missing,
                                           const SampleOptions& options, const std::string& file,
                                           Diagnostics& diagnostics);
// Roles of the inputs: those that the options name, else by name.
std::vector<LanguageInput> roles_of(std::span<const PortInfo> inputs, const SampleOptions& options);

// Opens the file of an array, .npy or raw by its name.
struct ArrayOpener {
  RawLayouts layouts;
  std::uint64_t max_bytes = 0;
  // `one_sample`: a raw file holds one sample. Errors name the file.
  Result<NpyArray> open(const std::string& path, const PortInfo& port, bool one_sample) const;
};

// One .npy or raw file per input and sample: files[i] are those of inputs[i], in the order of
// samples. `extras` may hold labels, scales and biases.
Result<std::unique_ptr<DataSource>> open_sample_files(
    std::vector<std::vector<std::filesystem::path>> files, const ArrayOpener& opener,
    const ArraySet& extras, std::span<const PortInfo> inputs, const DataOptions& options,
    Diagnostics& diagnostics);

// One image per sample, for one input.
Result<std::unique_ptr<DataSource>> open_images(std::vector<std::filesystem::path> files,
                                                Labels labels, const std::string& root,
                                                const PortInfo& port, const SampleOptions& options,
                                                Diagnostics& diagnostics);

// A part of a JoinedSource serves these inputs.
struct SourcePart {
  std::unique_ptr<DataSource> source;
  std::string name;  // of the input, for messages
};
// Sources of different inputs side by side; `labels` take the place of the parts' own.
Result<std::unique_ptr<DataSource>> join_sources(std::vector<SourcePart> parts,
                                                 std::optional<Labels> labels,
                                                 const std::string& file);
// As many samples per label as there are of the rarest; with a limit, so many in all, and other
// labels fill up for rare ones. In the order of the source. Fails (kUsage) without labels of one
// per sample.
Result<std::unique_ptr<DataSource>> balance_labels(std::unique_ptr<DataSource> source,
                                                   std::int64_t limit, const std::string& file,
                                                   Diagnostics& diagnostics);

// ONNX test sets: `sets` are folders with input_*.pb, in the order of samples.
Result<std::unique_ptr<DataSource>> open_test_sets(std::vector<std::filesystem::path> sets,
                                                   const std::string& root,
                                                   std::span<const PortInfo> inputs,
                                                   const DataOptions& options,
                                                   Diagnostics& diagnostics);

// Fails unless the input is a tensor of a type that data can have.
Status check_port(const PortInfo& port);
// "256 samples from digits.npz".
std::string describe_source(std::int64_t count, const std::string& file);
// The number that ends a name, for sorting "x_2" before "x_10"; -1: none.
std::int64_t trailing_number(const std::string& name);

}  // namespace mcompress
