// Two models side by side: error of the outputs, quality on labelled data, latency.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "console.h"
#include "mcompress/evaluate.h"
#include "mcompress/report.h"
#include "mcompress/runtime.h"

namespace mcompress::tools {

// A model with a session that is opened when it is first needed.
class Judged {
 public:
  // kOpen: nothing will be run, so that nothing is prepared for it: every operator must have a
  // kernel and fit its neighbours, weights are not unpacked (a third of the memory and the time).
  enum class Use : std::uint8_t { kRun, kOpen };
  Judged(Runtime& runtime, const Model& model, std::string file, int threads, Use use = Use::kRun)
      : runtime_(runtime), model_(model), file_(std::move(file)), threads_(threads), use_(use) {}
  Result<Session*> session();
  Result<std::unique_ptr<Session>> open_another() const;
  const Model& model() const { return model_; }
  const std::string& file() const { return file_; }

 private:
  Runtime& runtime_;
  const Model& model_;
  std::string file_;
  int threads_;
  Use use_;
  std::unique_ptr<Session> session_;
};

struct EvalSettings {
  std::string metric = "auto";
  std::string characters;  // file
  std::string output;
  std::int64_t k = 5;
  std::int64_t pad_id = -1;  // these as in EvaluateOptions
  std::int64_t context_tokens = 0;
  std::int64_t tokens = 32;
};

struct Quality {
  std::optional<Evaluation> reference;
  Evaluation candidate;
};

// Of `evaluate`; a model may carry its class list. Fails with kUsage for an unknown metric, with
// kInput when the class list can not be read.
Result<EvaluateOptions> evaluate_options(const EvalSettings& settings, const Model& model);

// Judges `candidate` on data, and `reference` (may be null) too unless only agreement with it is
// asked (kAgreement, kGeneration).
Result<Quality> judge_quality(Judged* reference, Judged& candidate, DataSource& data,
                              const EvalSettings& settings, Progress& progress);

// Up to eight samples to run a model on; `data` null or empty: one that is made up.
Result<std::vector<std::vector<NamedTensor>>> bench_feeds(DataSource* data, const Model& model,
                                                          std::uint64_t seed);
// Latency of `reference` (may be null) and `candidate`, interleaved.
Result<std::vector<BenchTimes>> judge_latency(Judged* reference, Judged& candidate,
                                              std::span<const std::vector<NamedTensor>> feeds,
                                              const BenchOptions& options, Progress& progress);

// Inputs made up for a model, a few samples of them.
class MadeUpData final : public DataSource {
 public:
  MadeUpData(const Model& model, std::uint64_t seed) : model_(model), seed_(seed) {}
  std::int64_t count() const override { return 3; }
  std::uint64_t digest() const override { return 0; }
  std::string description() const override { return "made-up inputs"; }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override;
  bool can_batch() const override { return false; }
  const Labels& labels() const override { return labels_; }

 private:
  const Model& model_;
  std::uint64_t seed_;
  Labels labels_;
};
// Why outputs that ought to be equal are not; empty: they are, but for rounding.
std::string difference_in(const Comparison& comparison);

// "98.85 %", "32.1 dB", "0.412 ms".
std::string percent_text(double fraction);
std::string decibel_text(double db);
std::string milliseconds_text(double ms);
// A metric's value and what became of it: "98.85 %" and "-0.12 points", "51.3661" and "+1.20 %".
std::string value_text(const Evaluation& evaluation);
std::string change_text(const Evaluation& before, const Evaluation& after);
// What belongs to a language metric besides its value: "KL divergence mean 0.0012, ..."; a line
// each, for people.
std::string figures_text(const Evaluation& evaluation);

// As facts of a report.
Datum to_datum(const Comparison& comparison);
Datum to_datum(const Evaluation& evaluation, bool details);
Datum to_datum(const Disparity& disparity);
Datum to_datum(const BenchTimes& times);
// As lines for people.
Table comparison_table(const Comparison& comparison);
Table latency_table(const std::vector<BenchTimes>& times);
void add_quality_rows(const Quality& quality, Table& table);

}  // namespace mcompress::tools
