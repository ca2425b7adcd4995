// Calibration: data sources, the statistics of activations, and the table that keeps them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mcompress/io.h"
#include "mcompress/ir.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// What the samples of an .npz mean. kSlice: axis 0 is the model's batch axis, a sample is
// array[i:i+1]; kIndex: sample i is array[i] as it stands. kAuto compares ranks with the model.
enum class Feeding : std::uint8_t { kAuto, kSlice, kIndex };

struct Labels {
  std::optional<Tensor> numbers;   // class numbers, per sample or per step; -1: ignore
  std::vector<std::string> texts;  // text labels, one per sample
};

// Sorted, counted, restartable samples for the inputs of one model.
class DataSource {
 public:
  virtual ~DataSource() = default;
  virtual std::int64_t count() const = 0;
  // Content digest of everything a sample can come from; independent of path and file times.
  // Computed as samples are read in order; what was not read yet is read now. 0: unreadable.
  virtual std::uint64_t digest() const = 0;
  virtual std::string description() const = 0;
  // Samples `first`..`first+count-1` together, batched along axis 0 when `can_batch()`; else
  // count must be 1.
  virtual Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) = 0;
  Result<std::vector<NamedTensor>> sample(std::int64_t index) { return batch(index, 1); }
  virtual bool can_batch() const = 0;
  // The number of samples the model wants at once, where its inputs fix the batch axis; 0: any.
  virtual std::int64_t fixed_batch() const { return 0; }
  virtual const Labels& labels() const = 0;
};

struct DataOptions {
  Feeding feeding = Feeding::kAuto;
  std::int64_t limit = 0;                             // first N samples; 0: all
  std::uint64_t max_bytes = std::uint64_t{64} << 30;  // of one decoded array
};

// Opens `.npz`, a folder of `.npy` (one array per input, or one sample per file and input), a
// folder of ONNX test sets (`test_data_set_*/input_*.pb`). Names, types and shapes are checked
// against `inputs` first. `x_scale`/`x_bias` turn an integer array x into floats. Arrays that are
// no input are ignored with a note. Fails with kInput.
Result<std::unique_ptr<DataSource>> open_data(const std::filesystem::path& path,
                                              std::span<const PortInfo> inputs,
                                              const DataOptions& options, Diagnostics& diagnostics);

// Statistics of one value over all samples; of fixed size whatever the number of samples.
struct ValueStats {
  double minimum = 0, maximum = 0;
  double mean = 0, mean_square = 0;  // each element taken for the middle of its bin
  // Of the smallest and of the largest element of each sample, the mean over the samples; where
  // the tensor can not be cut into samples, over the runs. Not wider than minimum to maximum.
  double average_minimum = 0, average_maximum = 0;
  std::int64_t count = 0, nan_count = 0, infinity_count = 0, zero_count = 0;
  // bins[i] counts finite values in [(first_bin+i)*2^exponent, (first_bin+i+1)*2^exponent).
  std::vector<std::uint64_t> bins;
  std::int64_t first_bin = 0;
  int exponent = 0;
  // Mean per index of axis 1 (channel_values) or of the last axis (last_axis_values); empty when
  // not asked for or when the size of that axis varies between samples. For bias correction.
  std::vector<double> channel_means;
};

struct CalibrationRequest {
  std::vector<std::string> values;            // names of float values of the top graph
  std::vector<std::string> channel_values;    // subset whose means along axis 1 are wanted
  std::vector<std::string> last_axis_values;  // subset whose means along the last axis are wanted
  std::int64_t samples = 0;                   // first N; 0: all
  // With samples 0: stop after so many bytes of activations, or after 32 samples where that is more
  // (up to 512 MiB of activations; 20 samples in any case), taken from samples spread evenly over
  // the data; 0: all samples. What is taken depends on the model and the data alone.
  std::uint64_t enough_bytes = 0;
};

// Value name -> statistics, with the digests it was made from. Its file is JSON
// (docs/calibration-table.md).
class CalibrationTable {
 public:
  const ValueStats* find(std::string_view value) const;
  void set(std::string_view value, ValueStats stats);
  const std::map<std::string, ValueStats, std::less<>>& all() const { return values_; }

  // Digest of the model whose values were observed, and of the data.
  std::uint64_t model_digest = 0;
  std::vector<std::uint64_t> data_digests;
  std::int64_t samples = 0;
  std::string runtime;  // name and version; a note, not compared
  // Which samples were observed, as first and count, ascending; not in the file.
  std::vector<std::pair<std::int64_t, std::int64_t>> observed;

  Result<std::string> to_json() const;
  static Result<CalibrationTable> from_json(std::string_view text, std::string_view file);
  static Result<CalibrationTable> load(const std::filesystem::path& path);
  Status save(const std::filesystem::path& path) const;
  // Statistics of both data sets together. Fails (kInput) when the models differ or when both
  // saw the same data.
  Status merge(const CalibrationTable& other);

 private:
  std::map<std::string, ValueStats, std::less<>> values_;
};

struct CalibratorOptions {
  std::uint64_t memory_budget = 0;  // bytes of runs and statistics; 0: 256 MiB of observed values
  int threads = 1;                  // runs at once, which change no result; 0: one per processor
  std::int64_t batch = 0;           // samples per run; 0: what the first one shows decides
};

// Runs the model on every sample, in order, and observes values as they are made. A budget decides
// how many runs are in flight and how many passes over the data it takes; it changes no bit of the
// table. NaN and infinity are counted and warned about by name, never fatal. Fails with kInput or
// kUnsupported as the runtime does, with kCancelled on interrupt.
Result<CalibrationTable> calibrate(Runtime& runtime, const Model& model, DataSource& data,
                                   const CalibrationRequest& request,
                                   const CalibratorOptions& options, Diagnostics& diagnostics,
                                   Progress& progress);

// How a range is taken from statistics. kMovingAverage: from the mean minimum of a sample to the
// mean maximum, which one odd sample moves little.
enum class RangeMethod : std::uint8_t { kMinMax, kMovingAverage, kPercentile, kEntropy, kMse };
struct ValueRange {
  double minimum = 0, maximum = 0;
};
// Always includes 0. `percentile` in (50, 100], used by kPercentile. `levels` 256 for 8 bits.
ValueRange choose_range(const ValueStats& stats, RangeMethod method, double percentile, int levels,
                        bool symmetric);

}  // namespace mcompress
