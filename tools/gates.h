// What a result has to satisfy (--min-sqnr, --max-drop), and files of patterns.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "judge.h"
#include "mcompress/options.h"
#include "mcompress/pipeline.h"

namespace mcompress::tools {

struct Gates {
  double min_sqnr = 0;          // dB; 0: not asked for
  double max_drop = 100;        // points, of a perplexity percent more; 100: not asked for
  double max_size_ratio = 0;    // of the input's bytes; 0: not asked for
  std::uint64_t max_bytes = 0;  // 0: not asked for
  bool any_size() const { return max_size_ratio > 0 || max_bytes > 0; }
  bool wants_drop() const { return max_drop < 100; }
  bool any() const { return min_sqnr > 0 || wants_drop(); }
};
// Of the recipe and its passes, the strictest.
Gates gates_of(const Recipe& recipe);

// What was reached.
struct GateFigures {
  std::optional<double> sqnr_db;  // of the worst float output
  std::optional<double> drop;     // as drop_between
  std::string metric;
};
// kGateMissed with the figures where they are not good enough or not known.
Status check_gates(const Gates& gates, const GateFigures& figures);

// kGateMissed where the result is too large.
Status check_size_gates(const Gates& gates, std::uint64_t bytes, std::uint64_t of_input);

// "top1 drops by 1.20 points", "perplexity rises by 1.20 %".
std::string drop_text(const std::string& metric, double drop);

void add_gates(const Gates& gates, const GateFigures& figures, bool met, ReportScope& scope);
// "mixed precision: 3 of 20 layers back in float32...", from the facts of a report; empty: no pass
// looked for a choice.
std::string mixed_precision_text(const Datum& facts);

// Measures what candidates lose against the original on the same data: points of the metric where
// the data have labels, percent of perplexity for a language model, else points of agreement. What
// the original answers is kept.
class DropMeter {
 public:
  DropMeter(Judged& original, DataSource& data, EvalSettings settings, Progress& progress)
      : original_(original), data_(data), settings_(std::move(settings)), progress_(progress) {}
  Result<double> drop(Session& candidate);
  // "top1"; empty before the first call.
  const std::string& metric() const { return metric_; }

 private:
  Judged& original_;
  DataSource& data_;
  EvalSettings settings_;
  Progress& progress_;
  std::unique_ptr<Session> kept_;  // replays the original's answers
  std::optional<Evaluation> reference_;
  std::string metric_;
};

// A session whose answers are kept: asked for the same runs in the same order once more, it runs
// nothing. What does not fit `most_bytes` is run again.
class KeptAnswers {
 public:
  explicit KeptAnswers(Session& session, std::uint64_t most_bytes = std::uint64_t{128} << 20);
  ~KeptAnswers();
  KeptAnswers(const KeptAnswers&) = delete;
  KeptAnswers& operator=(const KeptAnswers&) = delete;
  Session& from_the_start();

 private:
  std::unique_ptr<Session> replayed_;
};

// What a result reached; everything but the gates and the result may be null.
Result<GateFigures> gate_figures(const Gates& gates, const Comparison* comparison,
                                 const Quality* quality, DropMeter* meter, Judged& result);

// The pass of the recipe that chooses between float32 and integers.
std::string_view choosing_pass(const Recipe& recipe);

// Does to a copy of the model what the recipe has behind `pass`, unheard; `excluded` are patterns
// for the passes that take some.
Status run_rest(Model& trial, const Recipe& recipe, std::string_view pass,
                const std::vector<std::string>& excluded, const Target& target,
                const std::shared_ptr<Runtime>& runtime);

// Replaces "@FILE" among include and exclude patterns by the file's lines; empty ones and those
// that start with # are left out. Fails with kInput when the file can not be read.
Status read_pattern_files(Datum& flags);

}  // namespace mcompress::tools
