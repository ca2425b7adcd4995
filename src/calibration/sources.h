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
#include "mcompress/calibration.h"

namespace mcompress {

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

// One .npy file per input and sample: files[i] are those of inputs[i], in the order of samples.
// `extras` may hold labels, scales and biases.
Result<std::unique_ptr<DataSource>> open_sample_files(
    std::vector<std::vector<std::filesystem::path>> files, const ArraySet& extras,
    std::span<const PortInfo> inputs, const DataOptions& options, Diagnostics& diagnostics);

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
