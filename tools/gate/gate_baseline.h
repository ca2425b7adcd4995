// The baseline of `gate`: what a model was when it was accepted, as a file that is committed.
// docs/gates.md describes its form.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gate/gate_limits.h"
#include "mcompress/evaluate.h"
#include "mcompress/options.h"
#include "mcompress/status.h"

namespace mcompress::tools {

// Every value of an output over the recorded samples in 64 sums, each with signs drawn per value
// (Alon, Matias, Szegedy: The space complexity of approximating the frequency moments, 1996). The
// mean square of the sums of a difference is an unbiased estimate of its energy, so that two
// sketches tell the error between two outputs that are no longer there; with a standard deviation
// of sqrt(2 / 64) of it, 0.8 dB. A value that is not finite counts as 0.
class OutputSketch {
 public:
  static constexpr std::size_t kSums = 64;

  // The next values; their order decides their signs.
  void add(std::span<const float> values);

  std::int64_t values = 0, non_finite = 0;
  double energy = 0;  // sum of squares
  std::vector<double> sums = std::vector<double>(kSums, 0.0);
};
// Decibels of the recorded signal over the difference; kEqualDb where both are equal, 0 where the
// numbers of values differ, or of those that are not finite.
double likeness_db(const OutputSketch& recorded, const OutputSketch& now);
// What larger ratios are taken for: rounding of floats.
inline constexpr double kEqualDb = 120;

struct BaselineFile {
  std::string file;    // without folders
  std::string digest;  // of the content; empty: there is none
  bool operator==(const BaselineFile&) const = default;
};

struct BaselineOutput {
  std::string name;
  OutputSketch sketch;
  std::optional<double> sqnr_db;  // against the reference
};

struct BaselineLayer {
  std::string name;
  double own_db = 0;  // by itself, on the reference's values; at most 80
};

// What is measured of a model, and what a baseline records.
struct Baseline {
  // Grows with every change that could break a reader.
  static constexpr std::int64_t kVersion = 1;

  std::string made_by, runtime, target;
  BaselineFile model, reference, data;  // `reference`, `data` without digest: none given
  std::int64_t samples = 0;             // of the data
  std::int64_t seed = 0;                // of made-up inputs, where there are no data
  // Digests of the recipe that was run and of the calibration data, as the model tells them, and
  // the recipe that was named.
  std::string recipe_digest, calibration_digest;
  BaselineFile recipe;

  std::uint64_t file_bytes = 0, weight_bytes = 0;
  std::uint64_t planned_bytes = 0;                // of activations, by their lifetimes
  std::optional<std::uint64_t> measured_bytes;    // the runtime's most, session and run
  std::map<std::string, std::int64_t> operators;  // "domain:Type"
  // Of the runtime's own graph; absent where the target is no runtime at hand.
  struct Integers {
    std::int64_t planned = 0, integer = 0, conversions = 0;
    std::map<std::string, std::int64_t> kernels;
    std::vector<std::string> in_float;  // nodes that were planned and are not
  };
  std::optional<Integers> integers;
  std::optional<Evaluation> quality;  // value, decisions, classes and agreement of it
  std::int64_t output_samples = 0;
  std::vector<BaselineOutput> outputs;
  std::int64_t layer_samples = 0;
  std::vector<BaselineLayer> layers;
  std::optional<double> latency_ratio;  // median of the model's over the reference's

  GateLimits limits;
};

Datum to_datum(const Baseline& baseline);
// Fails with kInput, at line and column where `datum` has them.
Result<Baseline> baseline_of(const Datum& datum);
// The same from a file. Fails with kInput, with a hint where there is no such file.
Result<Baseline> read_baseline(const std::filesystem::path& path);

}  // namespace mcompress::tools
