// Judging models by running them: error against a reference, quality on labelled data, latency.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/io.h"
#include "mcompress/ir.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// ---------------------------------------------------------------------------- error of outputs

// How far one output of a candidate is from the reference, over all samples.
struct OutputError {
  std::string output;
  std::int64_t values = 0;                // pairs in which both are finite
  std::int64_t differing_non_finite = 0;  // pairs in which a NaN or infinity has no equal partner
  std::int64_t differing_shapes = 0;      // samples whose shapes differ; they count nowhere else
  double sqnr_db = 0;                     // 10 log10(sum ref^2 / sum (ref - out)^2); inf: equal
  double cosine = 0;
  double max_abs_error = 0;
  // Rows are all axes but the last. Absent for rows of one value and for outputs that are no
  // floats.
  std::optional<double> argmax_agreement;
  std::int64_t rows = 0;
  // The sample with the lowest SQNR.
  std::int64_t worst_sample = 0;
  double worst_sqnr_db = 0;
};

struct Comparison {
  std::int64_t samples = 0;
  std::vector<OutputError> outputs;  // in the order asked for
};

struct CompareOptions {
  std::vector<std::string> outputs;  // empty: every output that both sessions have
  std::int64_t limit = 0;            // first N samples; 0: all
};

// Runs both sessions on the same samples, one by one, and accumulates errors without keeping
// results; samples that do not fill a batch of fixed size are left out. Fails with kInput when an
// output is missing.
Result<Comparison> compare_outputs(Session& reference, Session& candidate, DataSource& data,
                                   const CompareOptions& options, Progress& progress);

// ---------------------------------------------------------------------------- labelled quality

// kAuto: text labels mean kText; labels of three or more axes, as many as the output has values,
// kMask; other numbers kTop1; no labels but a reference, kAgreement.
enum class Metric : std::uint8_t { kAuto, kTop1, kTopK, kText, kAgreement, kMask };
std::string_view metric_name(Metric metric);  // "top1"
// Empty for an unknown name.
std::optional<Metric> parse_metric(std::string_view name);

struct EvaluateOptions {
  Metric metric = Metric::kAuto;
  std::string output;                   // empty: the first float output
  std::int64_t k = 5;                   // for kTopK
  std::optional<double> threshold;      // of yes/no outputs; default 0.5
  std::vector<std::string> characters;  // for kText: class i is characters[i], class 0 the blank
  bool ignore_spaces = true;            // for kText
  Session* reference = nullptr;         // also compares decisions with this one's
  std::int64_t limit = 0;               // first N samples; 0: all
  std::int64_t batch = 0;               // samples per run where the data allow it; 0: chosen
};

struct ClassScore {
  std::int64_t label = 0;
  std::int64_t count = 0;
  std::int64_t correct = 0;
};

struct Evaluation {
  Metric metric = Metric::kAuto;  // the one used, never kAuto
  std::string output;
  std::int64_t samples = 0;
  // Share of right decisions (kTop1, kTopK, kText), share of decisions equal to the reference's
  // (kAgreement), mean intersection over union (kMask).
  double value = 0;
  std::int64_t decisions = 0;  // that count: one per label that is not -1
  std::int64_t correct = 0;
  // Numeric labels only, by label; confusion counts (label, decision) pairs that differ.
  std::vector<ClassScore> classes;
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> confusion;
  std::optional<double> character_error_rate;  // kText
  // With a reference: share of equal decisions, for yes/no outputs the intersection over union of
  // the two yes sets; and the SQNR of the judged output.
  std::optional<double> agreement;
  std::optional<double> sqnr_db;
};

// An output with one value per label is a yes/no output: yes above the threshold, label 1 means
// yes. Integer outputs with one value per label are decisions themselves. Otherwise the highest
// value decides. Labels of -1 are ignored. Fails with kUsage when the metric can not be inferred
// or lacks something, with kInput when labels and outputs do not fit together.
Result<Evaluation> evaluate(Session& session, DataSource& data, const EvaluateOptions& options,
                            Progress& progress);

// The class list that text recognisers carry in their metadata ("character", one per line); empty
// when there is none. `evaluate` adds the blank in front and the space behind when they lack.
std::vector<std::string> characters_of(const Model& model);
// Lines of a class list; a line break at the very end adds no line.
std::vector<std::string> parse_characters(std::string_view text);

// ------------------------------------------------------------------------------------- latency

struct BenchTarget {
  std::string name;
  std::function<Result<std::unique_ptr<Session>>()> open;
};

struct BenchOptions {
  std::int64_t loads = 3;    // times each target is opened; the last session is the one run
  std::int64_t warm_up = 3;  // rounds that do not count
  std::int64_t min_rounds = 10;
  std::int64_t max_rounds = 0;  // 0: no limit
  double seconds = 1;           // of counted running per target, when max_rounds allows
};

struct BenchTimes {
  std::string name;
  double load_ms = 0;  // median
  double p50_ms = 0, p90_ms = 0, p99_ms = 0, min_ms = 0, mean_ms = 0;
  double runs_per_second = 0;
  std::int64_t runs = 0;
};

// Opens all targets and runs them in turn, A B A B, so that drift of the machine hits all alike;
// round r feeds samples[r % size]. Percentiles are nearest-rank.
Result<std::vector<BenchTimes>> bench_sessions(std::span<const BenchTarget> targets,
                                               std::span<const std::vector<NamedTensor>> samples,
                                               const BenchOptions& options, Progress& progress);

struct FeedOptions {
  std::uint64_t seed = 0;
  std::int64_t free_size = 1;  // of dimensions that the model leaves open
  std::map<std::string, std::vector<std::int64_t>, std::less<>> shapes;  // by input; overrides
};
// Data to run a model without data: floats in [-1, 1), integers and booleans 0. Fails with kInput
// for an input of unknown rank whose shape is not given, with kUnsupported for strings.
Result<std::vector<NamedTensor>> make_feeds(std::span<const PortInfo> inputs,
                                            const FeedOptions& options);

}  // namespace mcompress
