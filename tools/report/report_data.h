// What a report shows: collected once, then written as HTML, Markdown, JSON or for a tracker.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/options.h"
#include "mcompress/weight_change.h"
#include "models.h"

namespace mcompress::tools {

// A result of some run: a point of the trade-off plot, a row of a batch.
struct ReportResult {
  std::string label;  // what the point is called
  std::string model;  // file of the original; "" unknown
  std::uint64_t bytes_before = 0, bytes_after = 0;
  std::string metric;  // "top1"; "" : no labelled data
  std::optional<double> quality_before, quality;
  bool share = true;              // the metric is a share of 1 that is better the larger
  std::optional<double> drop;     // points lost; percent of a perplexity
  std::optional<double> sqnr_db;  // of the worst output
  std::optional<double> latency_before_ms, latency_ms;
  std::optional<double> relative_latency;  // of the original's
  bool original = false;                   // the model before the run
  bool failed = false;
  std::string message;    // of a failure
  bool searched = false;  // comes from the front of a search
};

struct ReportLayer {
  std::string name, form, why;
  std::uint64_t bytes_before = 0, bytes_after = 0;
  std::optional<double> sqnr_db;
};

struct ReportActivation {
  std::string value, layer, op_type;
  std::optional<double> own_db;
  double accumulated_db = 0;
  std::optional<ValueHistogram> histogram;
};

struct ReportDecision {
  std::string pass, subject, op_type, what, why;
  bool applied = false;
  std::uint64_t bytes_before = 0, bytes_after = 0;
  std::optional<double> sqnr_db;
};

struct ReportOutput {
  std::string name;
  std::optional<double> sqnr_db, cosine, max_abs_error, agreement;
};

struct ReportCounts {
  std::string name;
  std::uint64_t before = 0, after = 0;
};

struct ReportContent {
  std::string title;
  bool batch = false;                 // results of several models
  std::vector<ReportResult> results;  // of one run: the original, then it
  std::vector<ReportOutput> outputs;
  std::vector<ReportLayer> layers;  // tensors that a pass looked at, most bytes first
  std::vector<WeightChange> weights;
  std::vector<ReportActivation> activations;  // worst first
  std::int64_t activation_samples = 0;
  std::vector<ReportCounts> operators;
  std::vector<std::pair<std::string, std::int64_t>> kernels;
  std::vector<ReportDecision> stayed_float;  // nodes that were meant for integers
  std::vector<ReportDecision> decisions;
  std::vector<std::pair<std::string, std::string>> provenance;
  std::vector<std::string> notes;  // what could not be shown, and why
  Datum recipe;                    // null: unknown
};

struct ReportLimits {
  std::size_t layers = 40, histograms = 12, rows = 500;
};

// Facts of one "mcompress-report": a result, and everything else where `content` wants it. `file`
// names it in messages. Fails with kInput for data that are no such report.
Result<ReportResult> result_of_report(const Datum& report, const std::string& file);
void add_run_report(const Datum& report, ReportContent& content);
// Points of a search's front: {"points": [{"bytes", "drop" or "quality", "sqnr_db", "latency",
// "label" or "origin"}]}, or that list alone. Fails with kInput.
Status add_front(const Datum& front, const std::string& file, ReportContent& content);
// Entries of a batch's journals or JSON lines, the last of each job. Fails with kInput.
Status add_batch(const std::string& path, ReportContent& content);

// What models say by themselves: operators, provenance; tensors where no run report told of them.
Status add_models(const LoadedModel& model, const LoadedModel* reference, ReportContent& content);
// By running them: histograms of weights, and with data (may be null) activations and layer errors.
struct ReportRuns {
  std::int64_t samples = 8;
  std::int64_t threads = 1;
  std::size_t histograms = 12;
};
Status add_runs(const std::shared_ptr<Runtime>& runtime, const LoadedModel& model,
                const LoadedModel& reference, DataSource* data, const ReportRuns& options,
                ReportContent& content, Console& console);

// Which results make the trade-off plot, and by what they are judged.
struct TradeOff {
  std::string quality;  // "top1, %", "SQNR, dB"; "": nothing is known
  std::string size;     // "bytes", "share of the original's bytes, %"
  struct Point {
    std::size_t result = 0;  // in ReportContent::results
    double size = 0, quality = 0;
    std::optional<double> latency;
    bool front = false;
  };
  std::vector<Point> points;
  std::string latency;  // "latency p50, ms"; "": unknown
};
TradeOff trade_off_of(const ReportContent& content);

// Names and values for trackers: "bytes_after", "top1"; finite ones only.
std::vector<std::pair<std::string, double>> metrics_of(const ReportResult& result);

std::string html_page(const ReportContent& content, const ReportLimits& limits);
std::string markdown_page(const ReportContent& content, const ReportLimits& limits);
// {"schema": "mcompress-page", "version": 1, ...}.
Datum page_datum(const ReportContent& content, const ReportLimits& limits);

// Reasons that decisions share but for numbers and names, most bytes first.
struct ReasonGroup {
  std::string why, example;
  bool applied = false;
  std::uint64_t count = 0, bytes = 0;
};
std::vector<ReasonGroup> reason_groups(const std::vector<ReportDecision>& decisions);

// "3.48 x", "41.8 dB", "98.85 %"; "-" for what is unknown.
std::string ratio_text(std::uint64_t before, std::uint64_t after);
std::string decibels(const std::optional<double>& db);
std::string quality_text(const ReportResult& result);
std::string milliseconds(const std::optional<double>& ms);

}  // namespace mcompress::tools
