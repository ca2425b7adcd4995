#include "judge.h"

#include <cmath>

#include "mcompress/host.h"
#include "mcompress/openable.h"
#include "models.h"
#include "try.h"

namespace mcompress::tools {

Result<std::unique_ptr<Session>> Judged::open_another() const {
  SessionOptions options;
  options.threads = threads_;
  std::unique_ptr<Model> hollow;
  if (use_ == Use::kOpen) {
    MCOMPRESS_ASSIGN(hollow, clone_to_open(model_));
    options.optimisation = Optimisation::kNone;
    options.prepack = options.memory_arena = false;
  }
  auto session = runtime_.open(hollow != nullptr ? *hollow : model_, options);
  if (!session.ok()) return std::move(session).error().in_file(file_);
  return session;
}

Result<Session*> Judged::session() {
  if (session_ == nullptr) {
    MCOMPRESS_ASSIGN(session_, open_another());
  }
  return session_.get();
}

Result<EvaluateOptions> evaluate_options(const EvalSettings& settings, const Model& model) {
  EvaluateOptions options;
  const std::optional<Metric> metric = parse_metric(settings.metric);
  if (!metric) {
    return Error(Code::kUsage, "unknown-metric", "unknown metric '" + settings.metric + "'",
                 {{}, "--metric", {}});
  }
  options.metric = *metric;
  options.output = settings.output;
  options.k = settings.k;
  options.pad_id = settings.pad_id;
  options.context_tokens = settings.context_tokens;
  options.tokens = settings.tokens;
  options.language = language_inputs(model);
  if (!settings.characters.empty()) {
    constexpr std::uint64_t kMostBytes = 64 << 20;
    MCOMPRESS_ASSIGN(const std::string text, read_file(settings.characters, kMostBytes));
    options.characters = parse_characters(text);
  } else {
    options.characters = characters_of(model);
  }
  return options;
}

Result<Quality> judge_quality(Judged* reference, Judged& candidate, DataSource& data,
                              const EvalSettings& settings, Progress& progress) {
  MCOMPRESS_ASSIGN(EvaluateOptions options, evaluate_options(settings, candidate.model()));
  Quality quality;
  MCOMPRESS_ASSIGN(Session * session, candidate.session());
  if (reference != nullptr) {
    MCOMPRESS_ASSIGN(options.reference, reference->session());
  }
  MCOMPRESS_ASSIGN(quality.candidate,
                   evaluate(*session, data, options, progress, &quality.reference));
  const Metric metric = quality.candidate.metric;
  const bool own_value = metric != Metric::kAgreement && metric != Metric::kGeneration;
  if (reference != nullptr && own_value && !quality.reference) {
    Session* original = options.reference;
    options.reference = nullptr;
    MCOMPRESS_ASSIGN(quality.reference, evaluate(*original, data, options, progress));
  }
  return quality;
}

Result<std::vector<std::vector<NamedTensor>>> bench_feeds(DataSource* data, const Model& model,
                                                          std::uint64_t seed) {
  std::vector<std::vector<NamedTensor>> samples;
  if (data != nullptr && data->count() > 0) {
    const std::int64_t step = std::max<std::int64_t>(data->fixed_batch(), 1);
    for (std::int64_t i = 0; i < 8 && (i + 1) * step <= data->count(); ++i) {
      MCOMPRESS_ASSIGN(auto sample, data->batch(i * step, step));
      samples.push_back(std::move(sample));
    }
  }
  if (samples.empty()) {
    FeedOptions feeds;
    feeds.seed = seed;
    MCOMPRESS_ASSIGN(auto made, make_feeds(ports_of(model), feeds));
    samples.push_back(std::move(made));
  }
  return samples;
}

Result<std::vector<BenchTimes>> judge_latency(Judged* reference, Judged& candidate,
                                              std::span<const std::vector<NamedTensor>> feeds,
                                              const BenchOptions& options, Progress& progress) {
  std::vector<BenchTarget> targets;
  for (Judged* judged : {reference, &candidate}) {
    if (judged == nullptr) continue;
    targets.push_back({judged->file(), [judged] { return judged->open_another(); }});
  }
  return bench_sessions(targets, feeds, options, progress);
}

Result<std::vector<NamedTensor>> MadeUpData::batch(std::int64_t first, std::int64_t) {
  FeedOptions feeds;
  feeds.seed = seed_ + static_cast<std::uint64_t>(first);
  return make_feeds(ports_of(model_), feeds);
}

std::string difference_in(const Comparison& comparison) {
  constexpr double kRounding = 40;  // decibels: half floats have no more than 60
  for (const OutputError& output : comparison.outputs) {
    const std::string name = "'" + output.output + "' ";
    if (output.differing_shapes > 0) return name + "has another shape";
    if (output.differing_non_finite > 0) {
      return name + "is finite in one model and not in the other";
    }
    if (output.values > 0 && output.sqnr_db < kRounding) {
      return name + "is only " + decibel_text(output.sqnr_db) + " above its error";
    }
  }
  return {};
}

std::string percent_text(double fraction) { return decimal_text(fraction * 100, 2) + " %"; }

std::string decibel_text(double db) {
  return std::isinf(db) && db > 0 ? "equal" : decimal_text(db, 1) + " dB";
}

std::string milliseconds_text(double ms) { return decimal_text(ms, ms < 10 ? 3 : 1) + " ms"; }

std::string value_text(const Evaluation& evaluation) {
  return is_share(evaluation.metric) ? percent_text(evaluation.value)
                                     : decimal_text(evaluation.value, 4);
}

std::string change_text(const Evaluation& before, const Evaluation& after) {
  const double change =
      is_share(after.metric) ? -drop_between(before, after) : drop_between(before, after);
  return (change >= 0 ? "+" : "") + decimal_text(change, 2) +
         (is_share(after.metric) ? " points" : " %");
}

std::string figures_text(const Evaluation& evaluation) {
  const auto& figures = evaluation.figures;
  const auto real = [&](const std::string& key) {
    return option_text(Datum::real(std::round(figures.at(key) * 1e6) / 1e6));
  };
  std::string text;
  if (figures.contains("nll")) {
    text += "negative log-likelihood " + real("nll") + " +- " + real("nll_error") + " per token\n";
  }
  if (figures.contains("kl_mean")) {
    text += "KL divergence mean " + real("kl_mean") + ", p99 " + real("kl_p99") + ", max " +
            real("kl_max") + "\n";
  }
  if (figures.contains("mean_cosine")) {
    text += "mean cosine " + real("mean_cosine") + ", overlap of the 10 nearest " +
            percent_text(figures.at("top10_overlap")) + "\n";
  }
  if (figures.contains("first_difference")) {
    text += "first difference after " + decimal_text(figures.at("first_difference"), 1) +
            " tokens on average, equal throughout " + percent_text(figures.at("equal_sequences")) +
            "\n";
  }
  return text;
}

Datum to_datum(const Comparison& comparison) {
  Datum map = Datum::map();
  map.set("samples", Datum::integer(comparison.samples));
  Datum outputs = Datum::list();
  for (const OutputError& error : comparison.outputs) {
    Datum entry = Datum::map();
    entry.set("name", Datum::string(error.output));
    entry.set("sqnr_db", Datum::real(error.sqnr_db));
    entry.set("cosine", Datum::real(error.cosine));
    entry.set("max_abs_error", Datum::real(error.max_abs_error));
    if (error.argmax_agreement) {
      entry.set("argmax_agreement", Datum::real(*error.argmax_agreement));
    }
    entry.set("values", Datum::integer(error.values));
    entry.set("differing_non_finite", Datum::integer(error.differing_non_finite));
    entry.set("differing_shapes", Datum::integer(error.differing_shapes));
    entry.set("worst_sample", Datum::integer(error.worst_sample));
    entry.set("worst_sqnr_db", Datum::real(error.worst_sqnr_db));
    outputs.push(std::move(entry));
  }
  map.set("outputs", std::move(outputs));
  return map;
}

Datum to_datum(const Evaluation& evaluation, bool details) {
  Datum map = Datum::map();
  map.set("metric", Datum::string(metric_name(evaluation.metric)));
  map.set("value", Datum::real(evaluation.value));
  map.set("output", Datum::string(evaluation.output));
  map.set("samples", Datum::integer(evaluation.samples));
  map.set("decisions", Datum::integer(evaluation.decisions));
  map.set("correct", Datum::integer(evaluation.correct));
  const auto optional = [&map](std::string_view key, const std::optional<double>& value) {
    if (value) map.set(key, Datum::real(*value));
  };
  optional("character_error_rate", evaluation.character_error_rate);
  optional("top5", evaluation.top5);
  optional("agreement", evaluation.agreement);
  optional("sqnr_db", evaluation.sqnr_db);
  for (const auto& [key, value] : evaluation.figures) map.set(key, Datum::real(value));
  if (!details || evaluation.classes.empty()) return map;
  Datum classes = Datum::list();
  for (const ClassScore& score : evaluation.classes) {
    Datum entry = Datum::map();
    entry.set("label", Datum::integer(score.label));
    entry.set("count", Datum::integer(score.count));
    entry.set("correct", Datum::integer(score.correct));
    classes.push(std::move(entry));
  }
  map.set("classes", std::move(classes));
  Datum confusion = Datum::list();
  for (const auto& [pair, count] : evaluation.confusion) {
    Datum entry = Datum::map();
    entry.set("label", Datum::integer(pair.first));
    entry.set("decision", Datum::integer(pair.second));
    entry.set("count", Datum::integer(count));
    confusion.push(std::move(entry));
  }
  map.set("confusion", std::move(confusion));
  return map;
}

Datum to_datum(const Disparity& disparity) {
  Datum map = Datum::map();
  map.set("mean_change", Datum::real(disparity.mean_change));
  map.set("disparity", Datum::real(disparity.disparity));
  map.set("worst_before", Datum::real(disparity.worst_before));
  map.set("worst_after", Datum::real(disparity.worst_after));
  Datum classes = Datum::list();
  for (const ClassChange& change : disparity.classes) {
    Datum entry = Datum::map();
    entry.set("label", Datum::integer(change.label));
    entry.set("count", Datum::integer(change.count));
    entry.set("before", Datum::real(change.before));
    entry.set("after", Datum::real(change.after));
    classes.push(std::move(entry));
  }
  map.set("largest_loss_first", std::move(classes));
  return map;
}

Datum to_datum(const BenchTimes& times) {
  Datum map = Datum::map();
  map.set("model", Datum::string(file_name(times.name)));
  map.set("load_ms", Datum::real(times.load_ms));
  map.set("p50_ms", Datum::real(times.p50_ms));
  map.set("p90_ms", Datum::real(times.p90_ms));
  map.set("p99_ms", Datum::real(times.p99_ms));
  map.set("min_ms", Datum::real(times.min_ms));
  map.set("mean_ms", Datum::real(times.mean_ms));
  map.set("runs_per_second", Datum::real(times.runs_per_second));
  map.set("runs", Datum::integer(times.runs));
  map.set("warm_up", Datum::integer(times.warm_up));
  if (times.joules_per_run) map.set("joules_per_run", Datum::real(*times.joules_per_run));
  return map;
}

Table comparison_table(const Comparison& comparison) {
  Table table;
  table.row({"output", "SQNR", "worst sample", "cosine", "max error", "argmax equal"});
  for (const OutputError& error : comparison.outputs) {
    table.row({error.output, decibel_text(error.sqnr_db), decibel_text(error.worst_sqnr_db),
               decimal_text(error.cosine, 6), option_text(Datum::real(error.max_abs_error)),
               error.argmax_agreement ? percent_text(*error.argmax_agreement) : "-"});
  }
  return table;
}

Table latency_table(const std::vector<BenchTimes>& times) {
  Table table;
  table.row({"model", "p50", "p90", "p99", "per second", "load", "runs"});
  for (const BenchTimes& entry : times) {
    table.row({file_name(entry.name), milliseconds_text(entry.p50_ms),
               milliseconds_text(entry.p90_ms), milliseconds_text(entry.p99_ms),
               decimal_text(entry.runs_per_second, 1), milliseconds_text(entry.load_ms),
               std::to_string(entry.runs)});
  }
  return table;
}

void add_quality_rows(const Quality& quality, Table& table) {
  const Evaluation& after = quality.candidate;
  const std::string name(metric_name(after.metric));
  if (quality.reference) {
    const Evaluation& before = *quality.reference;
    table.row({name, value_text(before), value_text(after), change_text(before, after)});
    if (after.character_error_rate && before.character_error_rate) {
      table.row({"character errors", percent_text(*before.character_error_rate),
                 percent_text(*after.character_error_rate)});
    }
  } else {
    table.row({name, "", value_text(after)});
  }
  if (after.agreement && after.metric != Metric::kAgreement) {
    table.row({"agreement", "", percent_text(*after.agreement)});
  }
}

}  // namespace mcompress::tools
