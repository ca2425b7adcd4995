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
#include "mcompress/language.h"
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
  int threads = 1;                   // samples at once, which changes no figure; 0: as processors
};

// Runs both sessions on the same samples and accumulates errors without keeping
// results; samples that do not fill a batch of fixed size are left out. Fails with kInput when an
// output is missing.
Result<Comparison> compare_outputs(Session& reference, Session& candidate, DataSource& data,
                                   const CompareOptions& options, Progress& progress);

// ----------------------------------------------------------------------------- error of layers

// A value of the reference's top graph and the one of the candidate that stands for it.
struct ValuePair {
  std::string reference, candidate;
};
// Values of both top graphs that nodes make and that have one name, in the candidate's order; first
// those that the candidate rounds, which may be named after the reference's ("x_dequantized").
std::vector<ValuePair> shared_values(const Model& reference, const Model& candidate);

struct LayerError {
  std::string value;           // in the reference
  std::string layer, op_type;  // the reference's node that makes it
  std::int64_t values = 0;     // pairs in which both are finite
  // With the errors of everything in front of it: both models run from their inputs. +inf: equal.
  double accumulated_db = 0;
  double cosine = 0, max_abs_error = 0;  // accumulated
  // By itself: what stands in the candidate between this value and the nearest paired ones in front
  // of it (its own quantizers included), run on the reference's values.
  std::optional<double> own_db;
  std::string why_no_own;  // where own_db is empty
  std::int64_t nodes = 0;  // of the candidate in that part
};

struct LayerComparison {
  std::int64_t samples = 0, own_samples = 0;
  std::vector<LayerError> layers;  // in the candidate's execution order
  // The first layer whose accumulated error is not zero, and the one behind which most is lost:
  // the largest own noise relative to its signal.
  std::optional<std::size_t> first_differing, worst_own;
  std::int64_t differing_shapes = 0;  // samples and values whose shapes differ; left out
};

struct LayerOptions {
  std::int64_t limit = 0;       // first N samples; 0: all
  std::int64_t own_limit = 16;  // of them for the layers by themselves; 0: none
  // Bytes of the reference's values and of the layers' weights held at a time; 0: 256 MiB. A
  // smaller budget means more runs of both models, never another result.
  std::uint64_t memory_budget = 0;
  int threads = 1;
};

// Layer-wise error of float values. Where a quantized candidate rounds a paired value, the rounded
// one is compared. Fails with kInput when no float value is paired.
Result<LayerComparison> compare_layers(Runtime& runtime, const Model& reference,
                                       const Model& candidate, std::span<const ValuePair> pairs,
                                       DataSource& data, const LayerOptions& options,
                                       Progress& progress);

// ---------------------------------------------------------------------------- labelled quality

// kAuto: text labels mean kText; labels of three or more axes, as many as the output has values,
// kMask; other numbers kTop1; no labels, but token ids and an output [batch, length, vocabulary],
// kPerplexity; no labels but a reference, kAgreement.
//   kPerplexity: exp of the mean negative log-likelihood of each next token of the data.
//   kRetrieval: rows 0..n-1 are queries, rows n..2n-1 what they look for, in the same order: share
//     of queries whose nearest (cosine) is their own.
//   kGeneration: prompts are continued greedily; share of tokens equal to the reference's.
enum class Metric : std::uint8_t {
  kAuto,
  kTop1,
  kTopK,
  kText,
  kAgreement,
  kMask,
  kPerplexity,
  kRetrieval,
  kGeneration
};
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
  // Runs at the same time, which change no result; 0: as many as there are processors. Of language
  // models one. The session evaluated has to bear it, the reference is asked one at a time.
  int at_once = 1;
  // Of a language model: what its inputs are (empty: by their names), a token that is padding, the
  // tokens at the start of each sequence that are context alone (kPerplexity), and how many tokens
  // are generated (kGeneration).
  std::vector<LanguageInput> language;
  std::int64_t pad_id = -1;
  std::int64_t context_tokens = 0;
  std::int64_t tokens = 32;
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
  // (kAgreement), mean intersection over union (kMask); for language models as Metric says.
  double value = 0;
  std::int64_t decisions = 0;  // that count: one per label that is not -1
  std::int64_t correct = 0;
  // Numeric labels only, by label; confusion counts (label, decision) pairs that differ.
  std::vector<ClassScore> classes;
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> confusion;
  std::optional<double> character_error_rate;  // kText
  // kTop1 over more than five classes: share of labels among the five highest.
  std::optional<double> top5;
  // With a reference: share of equal decisions, for yes/no outputs the intersection over union of
  // the two yes sets; and the SQNR of the judged output.
  std::optional<double> agreement;
  std::optional<double> sqnr_db;
  // More of kPerplexity ("nll", "nll_error" (standard error of the mean); with a reference
  // "kl_mean", "kl_p99", "kl_max" in nats), kRetrieval (with a reference "mean_cosine",
  // "top10_overlap") and kGeneration ("equal_sequences", "first_difference": tokens before it, the
  // mean; all of them where there is none).
  std::map<std::string, double> figures;
};

// Whether the value is a share of 1 that is better the larger; a perplexity is not.
bool is_share(Metric metric);
// What was lost: points (hundredths) of a share; of a perplexity the percent by which it rose.
double drop_between(const Evaluation& before, const Evaluation& after);

// An output with one value per label is a yes/no output: yes above the threshold, label 1 means
// yes. Integer outputs with one value per label are decisions themselves. Otherwise the highest
// value decides. Labels of -1 are ignored. Fails with kUsage when the metric can not be inferred
// or lacks something, with kInput when labels and outputs do not fit together.
//
// kPerplexity: each sample is one sequence by itself. The token at t counts when it and the one in
// front of it are real (attention mask not 0, id not negative and not `pad_id`) and t is at least
// `context_tokens`; agreement is that of the highest logits, on the same positions.
//
// `reference`: becomes the evaluation of options.reference where the metric finds it on the way
// (kPerplexity, kRetrieval).
Result<Evaluation> evaluate(Session& session, DataSource& data, const EvaluateOptions& options,
                            Progress& progress, std::optional<Evaluation>* reference = nullptr);
// The metric that `evaluate` would take, as far as that shows without labels: kPerplexity for
// kAuto, else what is asked for.
Metric settled_metric(const Session& session, const DataSource& data,
                      const EvaluateOptions& options);

// ---------------------------------------------------------------------------------- detections

struct DetectionOptions {
  // Outputs; empty: found by their shapes (see detection_agreement). `classes` may stay empty.
  std::string boxes, scores, classes;
  // kCorners: x1 y1 x2 y2 (or y1 x1 y2 x2); kCentre: x y width height.
  enum class BoxForm : std::uint8_t { kAuto, kCorners, kCentre };
  BoxForm form = BoxForm::kAuto;
  double min_score = 0.25;
  double min_overlap = 0.5;  // intersection over union, to match, and to suppress a double
  std::optional<std::int64_t> background;  // a class that is no object
  std::int64_t most = 300;                 // detections per sample, highest scores first
  std::int64_t limit = 0;                  // first N samples; 0: all
};

// The reference's detections taken for the truth.
struct DetectionAgreement {
  std::string boxes, scores, classes;  // outputs used; one name in `boxes` alone: all in one
  std::int64_t samples = 0;
  std::int64_t in_reference = 0, in_candidate = 0, matched = 0;
  double precision = 0, recall = 0, f1 = 0;  // 1 where neither model sees anything
  double mean_overlap = 0;                   // of matched pairs
  double mean_score_change = 0;              // candidate less reference, of matched pairs
};

// Per sample and model: detections above `min_score`, doubles of one class suppressed, highest
// score first; each of the candidate's is matched with the free one of the reference of its class
// that it overlaps most. Forms that are recognised, N detections and C classes:
//   boxes [.., N, 4] with scores [.., N, C], or scores [.., N] and perhaps classes [.., N]
//   [.., N, 6] (corners, score, class)           [N, 7] (sample, corners, class, score)
//   [1, 4 + C, N] with N > 4 + C (centre form)   [1, N, 5 + C] (centre form, objectness)
// Fails with kUsage when the outputs have none of these, with kInput when they do not fit together.
Result<DetectionAgreement> detection_agreement(Session& reference, Session& candidate,
                                               DataSource& data, const DetectionOptions& options,
                                               Progress& progress);

// -------------------------------------------------------------------------------------- classes

// How the loss falls on classes: what an average hides. Accuracies are shares.
struct ClassChange {
  std::int64_t label = 0;
  std::int64_t count = 0;
  double before = 0, after = 0;
};
struct Disparity {
  std::vector<ClassChange> classes;  // largest loss first, then by label
  double mean_change = 0;            // over classes that both saw, each counting alike
  // The largest loss beyond the mean one, in shares; 0 when all classes change alike.
  double disparity = 0;
  double worst_before = 0, worst_after = 0;  // accuracy of the worst class
};
// Empty without numeric labels.
std::optional<Disparity> disparity_of(const Evaluation& before, const Evaluation& after);

// The class list that text recognisers carry in their metadata ("character", one per line); empty
// when there is none. `evaluate` adds the blank in front and the space behind when they lack.
std::vector<std::string> characters_of(const Model& model);
// Lines of a class list; a line break at the very end adds no line.
std::vector<std::string> parse_characters(std::string_view text);

// ------------------------------------------------------------------------------------- latency

class EnergyMeter;

struct BenchTarget {
  std::string name;
  std::function<Result<std::unique_ptr<Session>>()> open;
};

struct BenchOptions {
  std::int64_t loads = 3;  // times each target is opened; the last session is the one run
  // Rounds that do not count. kUntilStable: until the median of five rounds is within 3 % of the
  // five before, for each target; at most 200 rounds or `seconds`.
  static constexpr std::int64_t kUntilStable = -1;
  std::int64_t warm_up = 3;
  std::int64_t min_rounds = 10;
  std::int64_t max_rounds = 0;  // 0: no limit
  double seconds = 1;           // of counted running per target, when max_rounds allows
  // Afterwards each target runs alone for as long again, between two readings.
  EnergyMeter* energy = nullptr;
};

struct BenchTimes {
  std::string name;
  double load_ms = 0;  // median
  double p50_ms = 0, p90_ms = 0, p99_ms = 0, min_ms = 0, mean_ms = 0;
  double runs_per_second = 0;
  std::int64_t runs = 0;
  std::int64_t warm_up = 0;              // rounds that were run before and did not count
  std::optional<double> joules_per_run;  // BenchOptions::energy, where the machine tells
};

// Energy of the processor packages from the kernel's RAPL counters (powercap); what else runs on
// the machine is in it.
class EnergyMeter {
 public:
  explicit EnergyMeter(const std::filesystem::path& folder = "/sys/class/powercap");
  bool works() const { return !packages_.empty(); }
  void start();
  // Since start(); empty where no counter can be read.
  std::optional<double> joules() const;

 private:
  struct Package {
    std::filesystem::path counter;  // microjoules
    std::uint64_t range = 0;
    std::optional<std::uint64_t> start;
  };
  std::vector<Package> packages_;
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
// Data to run a model without data: floats in [-1, 1), integers and booleans 0; masks, positions
// and the like of a language model fit its tokens (with `shapes` they do not). Fails with kInput
// for an input of unknown rank whose shape is not given, with kUnsupported for strings.
Result<std::vector<NamedTensor>> make_feeds(std::span<const PortInfo> inputs,
                                            const FeedOptions& options);

}  // namespace mcompress
