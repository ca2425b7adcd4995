#include "mcompress/evaluate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "numeric/error.h"
#include "runtime/decisions.h"
#include "runtime/feeds.h"
#include "runtime/language_metrics.h"
#include "support/executor.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Feeds of this size keep activations in the caches; more samples per run gain nothing.
constexpr std::uint64_t kBatchBytes = 1 << 20;
constexpr std::int64_t kMaxBatch = 64;
constexpr std::int64_t kTop5 = 5;
// How far a rounded probability may lie outside 0 to 1.
constexpr float kSlack = 0.05F;

constexpr std::array<std::pair<Metric, std::string_view>, 9> kNames = {{
    {Metric::kAuto, "auto"},
    {Metric::kTop1, "top1"},
    {Metric::kTopK, "topk"},
    {Metric::kText, "text"},
    {Metric::kAgreement, "agreement"},
    {Metric::kMask, "mask"},
    {Metric::kPerplexity, "perplexity"},
    {Metric::kRetrieval, "retrieval"},
    {Metric::kGeneration, "generation"},
}};

Location at(std::string_view subject) {
  Location where;
  where.subject = subject;
  return where;
}

// The judged output of one run.
struct Output {
  DataType dtype = DataType::kUndefined;
  std::vector<std::int64_t> dims;
  std::vector<float> values;
};

Result<Output> run_output(Session& session, std::span<const NamedTensor> feeds,
                          const std::string& name) {
  Output output;
  MCOMPRESS_TRY(session.run(feeds, {&name, 1}, [&](std::size_t, const TensorView& view) -> Status {
    output.dtype = view.dtype;
    output.dims.assign(view.dims.begin(), view.dims.end());
    MCOMPRESS_ASSIGN(output.values, view_values(view, name));
    return ok_status();
  }));
  if (output.dtype == DataType::kUndefined) {
    return Error(Code::kInput, "output-no-tensor", "the output is no tensor", at(name));
  }
  return output;
}

Result<std::string> pick_output(const Session& session, const EvaluateOptions& options) {
  if (!options.output.empty()) {
    MCOMPRESS_TRY(check_fetch(session.outputs(), {&options.output, 1}));
    return options.output;
  }
  for (const PortInfo& port : session.outputs()) {
    const DTypeInfo* info = find_dtype(port.type.element);
    if (info != nullptr && info->floating) return port.name;
  }
  if (session.outputs().empty()) {
    return Error(Code::kInput, "no-output", "the model has no output");
  }
  return session.outputs().front().name;
}

// How the values of one sample become decisions: `rows` of `width` values each.
struct Shape {
  enum class Kind : std::uint8_t { kHighest, kYesNo, kDirect };
  Kind kind = Kind::kHighest;
  std::size_t rows = 0, width = 0;
};

class Judge {
 public:
  Judge(const EvaluateOptions& options, const Labels& labels, std::string output)
      : options_(options), labels_(labels) {
    result_.output = std::move(output);
  }

  // Reads the labels and settles the metric, as far as that can be done without an output.
  Status prepare(std::int64_t samples);
  // Results of `count` samples, of which the first `seen` were judged before; `reference` may be
  // null.
  Status add(std::int64_t first, std::int64_t count, std::int64_t seen, const Output& output,
             const Output* reference);
  Evaluation finish();

 private:
  using Values = std::span<const float>;

  Status settle(const Output& output, std::size_t per_sample);
  Result<Shape> shape_of(const Output& output, std::size_t per_sample) const;
  Result<bool> yes(float value) const;
  Result<std::int64_t> decide(const Shape& shape, Values row) const;
  Status add_numbers(const Shape& shape, std::int64_t sample, Values values,
                     const Values* expected);
  Status score(const Shape& shape, std::int64_t label, std::int64_t decision, Values row);
  Status add_mask(std::int64_t sample, Values values, const Values* expected);
  Status add_text(std::int64_t sample, Values values, const Values* expected);
  void compare_decisions(const Shape& shape, std::int64_t own, std::int64_t other);

  const EvaluateOptions& options_;
  const Labels& labels_;
  Metric metric_ = Metric::kAuto;
  bool settled_ = false;
  std::vector<std::int64_t> numbers_;
  std::size_t label_rows_ = 0;  // labels per sample; 0: none
  std::vector<std::string> characters_;
  std::map<std::int64_t, ClassScore> classes_;
  double overlap_sum_ = 0;
  std::uint64_t edits_ = 0, reference_characters_ = 0;
  std::int64_t compared_ = 0, equal_ = 0;
  std::int64_t ranked_ = 0, among_five_ = 0;
  std::uint64_t both_yes_ = 0, any_yes_ = 0;
  bool yes_no_ = false;
  ErrorAccumulator error_;
  Evaluation result_;
};

Status Judge::prepare(std::int64_t samples) {
  result_.samples = samples;
  metric_ = options_.metric;
  const bool texts = !labels_.texts.empty();
  const bool numbers = labels_.numbers.has_value();
  if (metric_ == Metric::kAuto) {
    if (texts) {
      metric_ = Metric::kText;
    } else if (!numbers && options_.reference != nullptr) {
      metric_ = Metric::kAgreement;
    } else if (!numbers) {
      return Error(Code::kUsage, "metric-no-labels", "the data hold no labels", {},
                   "name a reference model to measure agreement with it");
    }
  }
  if (metric_ == Metric::kAgreement) {
    if (options_.reference != nullptr) return ok_status();
    return Error(Code::kUsage, "metric-no-reference", "agreement needs a reference model");
  }
  if (metric_ == Metric::kText) {
    if (!texts) return Error(Code::kUsage, "metric-no-labels", "the data hold no text labels");
    if (options_.characters.empty()) {
      return Error(Code::kUsage, "metric-no-characters", "text needs the list of characters", {},
                   "give a file with one class per line");
    }
    if (static_cast<std::int64_t>(labels_.texts.size()) < samples) {
      return Error(Code::kInput, "labels-count",
                   "there are " + std::to_string(labels_.texts.size()) + " labels for " +
                       std::to_string(samples) + " samples");
    }
    return ok_status();
  }
  if (!numbers) return Error(Code::kUsage, "metric-no-labels", "the data hold no numeric labels");
  const Tensor& tensor = *labels_.numbers;
  const std::int64_t held = tensor.dims().empty() ? 0 : tensor.dims()[0];
  if (held < samples || held == 0) {
    return Error(Code::kInput, "labels-count",
                 "there are labels for " + std::to_string(held) + " of " + std::to_string(samples) +
                     " samples");
  }
  label_rows_ = static_cast<std::size_t>(tensor.elements() / held);
  MCOMPRESS_ASSIGN(numbers_, read_ints(tensor));
  return ok_status();
}

// Whether labels are a mask shows only beside an output.
Status Judge::settle(const Output& output, std::size_t per_sample) {
  if (settled_) return ok_status();
  settled_ = true;
  if (metric_ == Metric::kAuto) {
    const bool mask = labels_.numbers->dims().size() >= 3 && label_rows_ == per_sample;
    metric_ = mask ? Metric::kMask : Metric::kTop1;
  }
  if (metric_ == Metric::kText) {
    const std::size_t classes =
        output.dims.empty() ? 0 : static_cast<std::size_t>(output.dims.back());
    MCOMPRESS_ASSIGN(characters_, fit_characters(options_.characters, classes));
  }
  if (metric_ == Metric::kMask && label_rows_ != per_sample) {
    return Error(Code::kInput, "labels-shape",
                 "a sample has " + std::to_string(label_rows_) + " labels and the output " +
                     std::to_string(per_sample) + " values",
                 at(result_.output));
  }
  return ok_status();
}

Result<Shape> Judge::shape_of(const Output& output, std::size_t per_sample) const {
  const DTypeInfo* info = find_dtype(output.dtype);
  const bool floating = info != nullptr && info->floating;
  const std::size_t last = output.dims.empty() ? 1 : static_cast<std::size_t>(output.dims.back());
  Shape shape;
  shape.rows = label_rows_;
  if (shape.rows == 0) shape.rows = !floating || last < 2 ? per_sample : per_sample / last;
  if (shape.rows == 0) return shape;  // no value at all
  shape.width = per_sample / shape.rows;
  const bool fits = shape.rows * shape.width == per_sample && shape.width > 0 &&
                    (shape.rows == 1 || shape.width == 1 || shape.width == last);
  if (!fits) {
    return Error(Code::kInput, "labels-shape",
                 "a sample has " + std::to_string(shape.rows) + " labels and the output " +
                     std::to_string(per_sample) + " values, " + std::to_string(last) +
                     " along its last axis",
                 at(result_.output));
  }
  if (shape.width == 1) shape.kind = floating ? Shape::Kind::kYesNo : Shape::Kind::kDirect;
  return shape;
}

Result<bool> Judge::yes(float value) const {
  if (!options_.threshold && (value < -kSlack || value > 1 + kSlack)) {
    return Error(Code::kUsage, "metric-no-threshold",
                 "the output has one value per label and goes beyond 0 to 1", at(result_.output),
                 "give the threshold above which it means yes");
  }
  return static_cast<double>(value) > options_.threshold.value_or(0.5);
}

Result<std::int64_t> Judge::decide(const Shape& shape, Values row) const {
  if (shape.kind == Shape::Kind::kHighest) return argmax(row);
  if (shape.kind == Shape::Kind::kDirect) return static_cast<std::int64_t>(row[0]);
  MCOMPRESS_ASSIGN(const bool is_yes, yes(row[0]));
  return std::int64_t{is_yes ? 1 : 0};
}

void Judge::compare_decisions(const Shape& shape, std::int64_t own, std::int64_t other) {
  ++compared_;
  if (own == other) ++equal_;
  if (shape.kind != Shape::Kind::kYesNo) return;
  yes_no_ = true;
  if (own == 1 || other == 1) ++any_yes_;
  if (own == 1 && other == 1) ++both_yes_;
}

Status Judge::score(const Shape& shape, std::int64_t label, std::int64_t decision, Values row) {
  if (label == -1) return ok_status();
  const bool highest = shape.kind == Shape::Kind::kHighest;
  const auto classes = static_cast<std::int64_t>(row.size());
  const bool legal = label >= 0 && (!highest || label < classes) &&
                     (shape.kind != Shape::Kind::kYesNo || label <= 1);
  if (!legal) {
    return Error(Code::kInput, "label-out-of-range",
                 "label " + std::to_string(label) + " is none of the output's " +
                     std::to_string(highest ? classes : 2) + " classes",
                 at(result_.output));
  }
  const bool correct = metric_ == Metric::kTopK && highest ? among_highest(row, label, options_.k)
                                                           : label == decision;
  if (metric_ == Metric::kTop1 && highest && classes > kTop5) {
    ++ranked_;
    if (among_highest(row, label, kTop5)) ++among_five_;
  }
  ClassScore& of_class = classes_[label];
  of_class.label = label;
  ++of_class.count;
  ++result_.decisions;
  if (correct) {
    ++of_class.correct;
    ++result_.correct;
  } else {
    ++result_.confusion[{label, decision}];
  }
  return ok_status();
}

Status Judge::add_numbers(const Shape& shape, std::int64_t sample, Values values,
                          const Values* expected) {
  for (std::size_t row = 0; row < shape.rows; ++row) {
    const Values part = values.subspan(row * shape.width, shape.width);
    MCOMPRESS_ASSIGN(const std::int64_t decision, decide(shape, part));
    if (expected != nullptr) {
      MCOMPRESS_ASSIGN(const std::int64_t other,
                       decide(shape, expected->subspan(row * shape.width, shape.width)));
      compare_decisions(shape, decision, other);
    }
    if (metric_ == Metric::kAgreement) continue;
    const std::size_t index = static_cast<std::size_t>(sample) * shape.rows + row;
    MCOMPRESS_TRY(score(shape, numbers_[index], decision, part));
  }
  return ok_status();
}

Status Judge::add_mask(std::int64_t sample, Values values, const Values* expected) {
  Shape shape;
  shape.kind = Shape::Kind::kYesNo;
  std::uint64_t both = 0, any = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    MCOMPRESS_ASSIGN(const bool own, yes(values[i]));
    const std::int64_t label = numbers_[static_cast<std::size_t>(sample) * label_rows_ + i];
    if (expected != nullptr) {
      MCOMPRESS_ASSIGN(const bool other, yes((*expected)[i]));
      compare_decisions(shape, own ? 1 : 0, other ? 1 : 0);
    }
    if (label == -1) continue;
    if (own || label > 0) ++any;
    if (own && label > 0) ++both;
  }
  // Nothing wanted and nothing found is a right answer.
  overlap_sum_ += any == 0 ? 1.0 : static_cast<double>(both) / static_cast<double>(any);
  ++result_.decisions;
  return ok_status();
}

Status Judge::add_text(std::int64_t sample, Values values, const Values* expected) {
  const auto clean = [&](std::string text) {
    return options_.ignore_spaces ? without_spaces(text) : text;
  };
  const std::string own = clean(ctc_text(values, characters_));
  const std::string label = clean(labels_.texts[static_cast<std::size_t>(sample)]);
  ++result_.decisions;
  if (own == label) ++result_.correct;
  const std::u32string points = code_points(label);
  edits_ += levenshtein(points, code_points(own));
  reference_characters_ += points.size();
  if (expected != nullptr) {
    ++compared_;
    if (own == clean(ctc_text(*expected, characters_))) ++equal_;
  }
  return ok_status();
}

Status Judge::add(std::int64_t first, std::int64_t count, std::int64_t seen, const Output& output,
                  const Output* reference) {
  if (reference != nullptr) {
    if (reference->dims != output.dims) {
      return Error(Code::kInput, "output-shapes-differ",
                   "the two models give results of different shapes", at(result_.output));
    }
  }
  const std::size_t per_sample = output.values.size() / static_cast<std::size_t>(count);
  MCOMPRESS_TRY(settle(output, per_sample));
  Shape shape;
  if (metric_ != Metric::kText && metric_ != Metric::kMask) {
    MCOMPRESS_ASSIGN(shape, shape_of(output, per_sample));
  }
  for (std::int64_t i = seen; i < count; ++i) {
    const std::size_t start = static_cast<std::size_t>(i) * per_sample;
    const Values values = Values(output.values).subspan(start, per_sample);
    Values other;
    const Values* expected = nullptr;
    if (reference != nullptr) {
      other = Values(reference->values).subspan(start, per_sample);
      expected = &other;
      error_.add(other, values);
    }
    if (metric_ == Metric::kText) {
      MCOMPRESS_TRY(add_text(first + i, values, expected));
    } else if (metric_ == Metric::kMask) {
      MCOMPRESS_TRY(add_mask(first + i, values, expected));
    } else {
      MCOMPRESS_TRY(add_numbers(shape, first + i, values, expected));
    }
  }
  return ok_status();
}

double share(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

Evaluation Judge::finish() {
  result_.metric = metric_;
  for (const auto& [label, score] : classes_) result_.classes.push_back(score);
  if (options_.reference != nullptr) {
    result_.sqnr_db = error_.stats().sqnr_db();
    if (yes_no_) {
      result_.agreement =
          any_yes_ == 0 ? 1.0 : static_cast<double>(both_yes_) / static_cast<double>(any_yes_);
    } else {
      result_.agreement = share(equal_, compared_);
    }
  }
  if (metric_ == Metric::kAgreement) {
    result_.decisions = compared_;
    result_.correct = equal_;
  }
  if (ranked_ > 0) result_.top5 = share(among_five_, ranked_);
  result_.value = share(result_.correct, result_.decisions);
  if (metric_ == Metric::kMask && result_.decisions > 0) {
    result_.value = overlap_sum_ / static_cast<double>(result_.decisions);
  }
  if (metric_ == Metric::kText && reference_characters_ > 0) {
    result_.character_error_rate =
        static_cast<double>(edits_) / static_cast<double>(reference_characters_);
  }
  return std::move(result_);
}

Result<std::int64_t> choose_batch(DataSource& data, const EvaluateOptions& options,
                                  std::int64_t samples) {
  if (const std::int64_t fixed = data.fixed_batch(); fixed > 0) {
    if (fixed <= samples) return fixed;
    return Error(Code::kInput, "batch-too-large",
                 "the model takes " + std::to_string(fixed) + " samples at once and there are " +
                     std::to_string(samples));
  }
  if (!data.can_batch() || samples == 0) return std::int64_t{1};
  if (options.batch > 0) return options.batch;
  MCOMPRESS_ASSIGN(const auto feeds, data.sample(0));
  std::uint64_t bytes = 1;
  for (const NamedTensor& feed : feeds) bytes += feed.tensor.byte_size();
  return std::clamp(static_cast<std::int64_t>(kBatchBytes / bytes), std::int64_t{1}, kMaxBatch);
}

// Are the results of `count` samples one after the other?
bool splits(const Output& output, std::int64_t count) {
  return count == 1 || (!output.dims.empty() && output.dims[0] == count);
}

// Samples that are run together, and what comes of them.
struct Portion {
  std::int64_t start = 0, count = 0;
  std::int64_t seen = 0;  // of them, judged before
  std::vector<NamedTensor> feeds;
  Output result;
};

}  // namespace

std::optional<Disparity> disparity_of(const Evaluation& before, const Evaluation& after) {
  std::map<std::int64_t, const ClassScore*> scores;
  for (const ClassScore& score : before.classes) scores[score.label] = &score;
  Disparity result;
  for (const ClassScore& score : after.classes) {
    const auto other = scores.find(score.label);
    if (other == scores.end() || score.count == 0 || other->second->count == 0) continue;
    ClassChange change{score.label, score.count,
                       share(other->second->correct, other->second->count),
                       share(score.correct, score.count)};
    result.mean_change += change.after - change.before;
    result.classes.push_back(change);
  }
  if (result.classes.empty()) return std::nullopt;
  result.mean_change /= static_cast<double>(result.classes.size());
  std::stable_sort(result.classes.begin(), result.classes.end(),
                   [](const ClassChange& a, const ClassChange& b) {
                     return a.after - a.before < b.after - b.before;
                   });
  const ClassChange& most = result.classes.front();
  result.disparity = std::max(0.0, result.mean_change - (most.after - most.before));
  result.worst_before = result.worst_after = 1;
  for (const ClassChange& change : result.classes) {
    result.worst_before = std::min(result.worst_before, change.before);
    result.worst_after = std::min(result.worst_after, change.after);
  }
  return result;
}

std::string_view metric_name(Metric metric) {
  for (const auto& [value, name] : kNames) {
    if (value == metric) return name;
  }
  return {};
}

std::optional<Metric> parse_metric(std::string_view name) {
  for (const auto& [value, known] : kNames) {
    if (known == name) return value;
  }
  return std::nullopt;
}

Result<Evaluation> evaluate(Session& session, DataSource& data, const EvaluateOptions& options,
                            Progress& progress, std::optional<Evaluation>* reference) {
  const Metric metric = settled_metric(session, data, options);
  if (metric == Metric::kPerplexity) {
    return evaluate_perplexity(session, data, options, progress, reference);
  }
  if (metric == Metric::kRetrieval) {
    return evaluate_retrieval(session, data, options, progress, reference);
  }
  if (metric == Metric::kGeneration) return evaluate_generation(session, data, options, progress);
  MCOMPRESS_ASSIGN(const std::string output, pick_output(session, options));
  if (options.reference != nullptr) {
    MCOMPRESS_TRY(check_fetch(options.reference->outputs(), {&output, 1}));
  }
  const std::int64_t samples =
      options.limit > 0 ? std::min(options.limit, data.count()) : data.count();
  Judge judge(options, data.labels(), output);
  MCOMPRESS_TRY(judge.prepare(samples));
  MCOMPRESS_ASSIGN(std::int64_t batch, choose_batch(data, options, samples));
  const bool fixed = data.fixed_batch() > 1;
  const Executor executor(options.at_once);
  std::vector<Portion> wave;
  for (std::int64_t first = 0; first < samples;) {
    if (progress.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
    progress.update("evaluate", static_cast<std::uint64_t>(first),
                    static_cast<std::uint64_t>(samples), "samples");
    wave.clear();
    const auto at_once = static_cast<std::size_t>(executor.threads());
    for (std::int64_t next = first; next < samples && wave.size() < at_once;) {
      Portion portion;
      // A fixed batch that passes the end reaches back to samples that were judged already.
      portion.count = fixed ? batch : std::min(batch, samples - next);
      portion.start = std::min(next, samples - portion.count);
      portion.seen = next - portion.start;
      MCOMPRESS_ASSIGN(portion.feeds, data.batch(portion.start, portion.count));
      next = portion.start + portion.count;
      wave.push_back(std::move(portion));
    }
    MCOMPRESS_TRY(
        executor.try_parallel_for(wave.size(), 1, [&](std::size_t i, std::size_t) -> Status {
          MCOMPRESS_ASSIGN(wave[i].result, run_output(session, wave[i].feeds, output));
          return ok_status();
        }));
    for (const Portion& portion : wave) {
      if (!splits(portion.result, portion.count)) {
        if (fixed) {
          return Error(Code::kInput, "output-not-per-sample",
                       "the first axis of the output does not count samples", at(output));
        }
        batch = 1;
        break;
      }
      std::optional<Output> expected;
      if (options.reference != nullptr) {
        MCOMPRESS_ASSIGN(expected, run_output(*options.reference, portion.feeds, output));
      }
      MCOMPRESS_TRY(judge.add(portion.start, portion.count, portion.seen, portion.result,
                              expected ? &*expected : nullptr));
      first = portion.start + portion.count;
    }
  }
  return judge.finish();
}

}  // namespace mcompress
