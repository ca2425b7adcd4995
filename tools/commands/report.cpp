// report: what a run, several runs, a search or a batch did, as a page, Markdown, JSON, or for an
// experiment tracker.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>

#include "app.h"
#include "judge.h"
#include "mcompress/digest.h"
#include "mcompress/host.h"
#include "report/report_data.h"
#include "report/report_tracking.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

struct Options : DataFlags {
  std::string output, format = "auto", title;
  std::string reference, eval, front;
  std::vector<std::string> run_reports;
  std::string metric = "auto", characters;
  std::string mlflow, experiment = "mcompress", events;
  std::int64_t samples = 8, threads = 1;
  std::int64_t layers = 40, histograms = 12, rows = 500;
  bool bench = false, clock = false, json = false;

  static const Schema<Options>& outputs() {
    static const Schema<Options> kSchema =
        Schema<Options>()
            .field("output", &Options::output, "the page; - is standard output")
            .unit("FILE")
            .field("format", &Options::format,
                   "of the output; auto: by its ending, .md and .json, else html")
            .choices({"auto", "html", "markdown", "json"})
            .field("json", &Options::json, "JSON on standard output")
            .field("title", &Options::title, "the heading; else the names of the models")
            .unit("TEXT")
            .field("layers", &Options::layers, "so many weights and layers, the rest in one line")
            .range(1, 1e6)
            .field("histograms", &Options::histograms,
                   "so many of the largest weights and of the worst layers as histograms")
            .range(0, 1000)
            .field("rows", &Options::rows, "so many rows of every other table")
            .range(1, 1e7)
            .field("mlflow", &Options::mlflow,
                   "add the run to this folder of MLflow's file store (mlruns)")
            .unit("FOLDER")
            .field("experiment", &Options::experiment, "its experiment")
            .unit("NAME")
            .field("events", &Options::events,
                   "parameters, metrics and artifacts as JSON lines; - is standard output")
            .unit("FILE")
            .field("clock", &Options::clock,
                   "note the time in --mlflow and --events; else all times are 0 or left out");
    return kSchema;
  }
  static const Schema<Options>& inputs() {
    static const Schema<Options> kSchema = [] {
      Schema<Options> schema;
      schema
          .field("reference", &Options::reference,
                 "the original: operators and values before and after")
          .unit("BASE")
          .field("run-report", &Options::run_reports,
                 "what --report of the command wrote that made the model; may be given again")
          .unit("R.json,...")
          .field("front", &Options::front, "points of `search --front`, for the trade-off plot")
          .unit("F.json")
          .field("eval", &Options::eval,
                 "labelled or plain data: quality of both models, and what their layers compute")
          .unit("DATA")
          .field("metric", &Options::metric, "as of `eval`")
          .field("characters", &Options::characters, "class list of a text recogniser")
          .unit("FILE")
          .field("samples", &Options::samples, "samples for layers and activations")
          .range(1, 1e6)
          .field("threads", &Options::threads, "of the runtime, per model")
          .range(1, 1024)
          .field("bench", &Options::bench,
                 "measure latencies now: they differ from run to run, and so does the page");
      add_data_fields(schema);
      return schema;
    }();
    return kSchema;
  }
};

bool ends_in(const std::string& path, std::string_view ending) {
  return fs::path(path).extension() == ending;
}

class ReportCommand final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("INPUT", given_,
                   "a model; run reports (.json); the folder or JSON lines (.jsonl) of a batch")
        ->type_name("");
    flags.add(Options::outputs().specs(), "Output");
    flags.add(Options::inputs().specs(), "Input");
  }

  Status run(Console& console) override {
    MCOMPRESS_TRY(start());
    MCOMPRESS_TRY(read_reports());
    if (!batch_.empty()) MCOMPRESS_TRY(add_batch(batch_, content_));
    if (!model_.empty()) MCOMPRESS_TRY(look_at_model(console));
    if (!options_.front.empty()) {
      MCOMPRESS_ASSIGN(const Datum front, read_datum_file(options_.front));
      MCOMPRESS_TRY(add_front(front, options_.front, content_));
    }
    content_.title = title();
    return write(console);
  }

 private:
  Status start() {
    Diagnostics diagnostics;
    MCOMPRESS_ASSIGN(
        options_, Options::outputs().parse(flags_->given(Options::outputs().specs()), diagnostics));
    MCOMPRESS_ASSIGN(
        const Options inputs,
        Options::inputs().parse(flags_->given(Options::inputs().specs()), diagnostics));
    take_inputs(inputs);
    for (const std::string& path : given_) {
      std::error_code ignored;
      if (ends_in(path, ".json")) {
        options_.run_reports.push_back(path);
      } else {
        const bool batch = ends_in(path, ".jsonl") || fs::is_directory(path, ignored);
        std::string& place = batch ? batch_ : model_;
        if (!place.empty()) {
          return Error(Code::kUsage, "two-inputs",
                       "'" + place + "' and '" + path + "': one model or batch makes a report", {},
                       "several run reports (.json) can stand in one");
        }
        place = path;
      }
    }
    if (!model_.empty() && !batch_.empty()) {
      return Error(
          Code::kUsage, "two-inputs",
          "'" + model_ + "' is a model, '" + batch_ + "' a batch: one of them makes a report");
    }
    if (model_.empty() && batch_.empty() && options_.run_reports.empty() &&
        options_.front.empty()) {
      return Error(Code::kUsage, "no-input", "there is nothing to report on", {},
                   "give a model, a run report (.json) or the folder of a batch");
    }
    if (!options_.reference.empty() && model_.empty()) return needs_model("reference");
    if (!options_.eval.empty() && (model_.empty() || options_.reference.empty())) {
      return needs_model("eval");
    }
    if (options_.bench && (model_.empty() || options_.reference.empty()))
      return needs_model("bench");
    if (options_.json) {
      if (!options_.output.empty() && options_.output != "-") {
        return Error(Code::kUsage, "two-outputs", "--json is for standard output, --output a file",
                     {}, "-o FILE --format json writes JSON to a file");
      }
      options_.output = "-";
      options_.format = "json";
    }
    return check_outputs();
  }

  void take_inputs(const Options& inputs) {
    static_cast<DataFlags&>(options_) = inputs;
    options_.reference = inputs.reference;
    options_.run_reports = inputs.run_reports;
    options_.front = inputs.front;
    options_.eval = inputs.eval;
    options_.metric = inputs.metric;
    options_.characters = inputs.characters;
    options_.samples = inputs.samples;
    options_.threads = inputs.threads;
    options_.bench = inputs.bench;
  }

  static Error needs_model(const char* flag) {
    return Error(Code::kUsage, "needs-models", "compares two models",
                 {{}, std::string("--") + flag, {}}, "report MODEL --reference BASE");
  }

  Status check_outputs() {
    if (options_.output.empty() && options_.mlflow.empty() && options_.events.empty()) {
      return Error(Code::kUsage, "no-output", "the output is missing", {{}, "--output", {}},
                   "give -o report.html");
    }
    if (options_.output == "-" && options_.events == "-") {
      return Error(Code::kUsage, "two-outputs",
                   "of --output and --events one can go to standard output, not both");
    }
    std::vector<std::string> others = options_.run_reports;
    others.insert(others.end(), {model_, batch_, options_.reference, options_.eval, options_.front,
                                 options_.characters});
    for (const auto& [path, flag] :
         {std::pair(&options_.output, "output"), std::pair(&options_.events, "events")}) {
      if (path->empty()) continue;
      MCOMPRESS_TRY(check_overwrites(*path, flag, others));
      MCOMPRESS_TRY(check_writable(*path));
      others.push_back(*path);
    }
    return ok_status();
  }

  // Of several runs of one model the original stands beside them once.
  Status read_reports() {
    std::vector<std::string> models;
    std::vector<std::string> sources;
    for (const std::string& path : options_.run_reports) {
      MCOMPRESS_ASSIGN(Datum report, read_datum_file(path));
      if (const Datum* parts = report.find("parts")) {
        MCOMPRESS_TRY(read_parts(*parts, path));
        if (const Datum* name = report.find("name")) product_ = option_text(*name);
      } else {
        MCOMPRESS_ASSIGN(ReportResult result, result_of_report(report, path));
        reports_.emplace_back(std::move(report), std::move(result));
      }
      sources.resize(reports_.size(), path);
    }
    for (const auto& [report, result] : reports_) {
      if (std::find(models.begin(), models.end(), result.model) == models.end()) {
        models.push_back(result.model);
      }
    }
    content_.batch = models.size() > 1;
    if (!reports_.empty() && !content_.batch) add_original(reports_.front().second);
    // The one that made MODEL comes first, and all that the page says of layers is about it.
    const auto about = std::find_if(reports_.begin(), reports_.end(), [&](const auto& report) {
      return !model_.empty() && report.second.label == file_name(model_);
    });
    if (about != reports_.end()) std::rotate(reports_.begin(), about, about + 1);
    for (const auto& [report, result] : reports_) content_.results.push_back(result);
    if (reports_.size() == 1 || about != reports_.end() || !model_.empty()) {
      if (!reports_.empty()) add_run_report(reports_.front().first, content_);
    } else {
      for (std::size_t i = 0; i < reports_.size(); ++i) {
        content_.provenance.emplace_back(
            "run report " + std::to_string(i + 1),
            file_name(sources[i]) + ", digest " +
                digest_text(text_digest(json_line(reports_[i].first))));
      }
    }
    return ok_status();
  }

  // Of a recipe of several models: a result for each.
  Status read_parts(const Datum& parts, const std::string& path) {
    if (parts.as_list() == nullptr) return ok_status();
    for (const Datum& part : *parts.as_list()) {
      const Datum* report = part.find("report");
      const Datum* name = part.find("name");
      MCOMPRESS_ASSIGN(ReportResult result,
                       result_of_report(report != nullptr ? *report : Datum::map(), path));
      if (name != nullptr) result.label = result.model = option_text(*name);
      reports_.emplace_back(report != nullptr ? *report : Datum(), std::move(result));
    }
    return ok_status();
  }

  void add_original(const ReportResult& run) {
    ReportResult original;
    original.original = true;
    original.label = run.model.empty() ? "original" : run.model;
    original.model = run.model;
    original.bytes_before = original.bytes_after = run.bytes_before;
    original.metric = run.metric;
    original.quality = original.quality_before = run.quality_before;
    original.share = run.share;
    if (run.quality_before) original.drop = 0;
    original.latency_ms = original.latency_before_ms = run.latency_before_ms;
    content_.results.push_back(std::move(original));
  }

  Status look_at_model(Console& console) {
    MCOMPRESS_ASSIGN(const LoadedModel model, load(model_, console));
    LoadedModel reference;
    const bool compares = !options_.reference.empty();
    if (compares) {
      MCOMPRESS_ASSIGN(reference, load(options_.reference, console));
    }
    ReportResult result;
    if (!reports_.empty()) {
      result = reports_.front().second;
    } else {
      result.label = file_name(model_);
      result.model = compares ? file_name(options_.reference) : file_name(model_);
    }
    if (result.bytes_after != 0 && result.bytes_after != model.size.total()) {
      content_.notes.push_back("warning: the run report is of a model of " +
                               std::to_string(result.bytes_after) + " bytes, " + file_name(model_) +
                               " has " + std::to_string(model.size.total()));
    }
    result.bytes_after = model.size.total();
    if (compares) result.bytes_before = reference.size.total();
    if (compares) MCOMPRESS_TRY(run_both(model, reference, result, console));
    MCOMPRESS_TRY(add_models(model, compares ? &reference : nullptr, content_));
    if (reports_.empty()) {
      if (compares) add_original(result);
      content_.results.push_back(std::move(result));
      return ok_status();
    }
    // In the place of what the report alone said.
    const auto place = std::find_if(content_.results.begin(), content_.results.end(),
                                    [](const ReportResult& known) { return !known.original; });
    if (place != content_.results.end()) *place = result;
    if (content_.results.front().original) {
      content_.results.erase(content_.results.begin());
      add_original(result);
      std::rotate(content_.results.begin(), content_.results.end() - 1, content_.results.end());
    }
    return ok_status();
  }

  Status run_both(const LoadedModel& model, const LoadedModel& reference, ReportResult& result,
                  Console& console) {
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    std::unique_ptr<DataSource> data;
    if (!options_.eval.empty() || !options_.input.empty()) {
      MCOMPRESS_ASSIGN(data, open_samples(options_.eval, *reference.model, options_, 0, console));
    }
    const int threads = static_cast<int>(options_.threads);
    Judged before(*runtime, *reference.model, options_.reference, threads);
    Judged after(*runtime, *model.model, model_, threads);
    if (data != nullptr && data->count() > 0) {
      MCOMPRESS_TRY(judge(before, after, *data, result, console));
    }
    if (options_.bench) {
      BenchOptions bench;
      bench.warm_up = BenchOptions::kUntilStable;
      MCOMPRESS_ASSIGN(const auto feeds, bench_feeds(data.get(), after.model(), 0));
      MCOMPRESS_ASSIGN(const auto times, judge_latency(&before, after, feeds, bench, console));
      result.latency_before_ms = times[0].p50_ms;
      result.latency_ms = times[1].p50_ms;
    }
    ReportRuns runs;
    runs.samples = options_.samples;
    runs.threads = options_.threads;
    runs.histograms = static_cast<std::size_t>(options_.histograms);
    return add_runs(runtime, model, reference, data.get(), runs, content_, console);
  }

  Status judge(Judged& before, Judged& after, DataSource& data, ReportResult& result,
               Console& console) {
    MCOMPRESS_ASSIGN(Session * left, before.session());
    MCOMPRESS_ASSIGN(Session * right, after.session());
    constexpr std::int64_t kSamples = 16;
    CompareOptions compare;
    compare.limit = std::max(kSamples, data.fixed_batch());
    MCOMPRESS_ASSIGN(const Comparison comparison,
                     compare_outputs(*left, *right, data, compare, console));
    content_.outputs.clear();
    result.sqnr_db.reset();
    for (const OutputError& output : comparison.outputs) {
      content_.outputs.push_back({output.output, output.sqnr_db, output.cosine,
                                  output.max_abs_error, output.argmax_agreement});
      if (!result.sqnr_db || output.sqnr_db < *result.sqnr_db) result.sqnr_db = output.sqnr_db;
    }
    auto quality =
        judge_quality(&before, after, data,
                      {options_.metric, options_.characters, {}, 5, options_.pad_id}, console);
    if (!quality.ok()) {
      // Data without labels still show what layers compute.
      if (options_.metric != "auto" || quality.error().code != Code::kUsage) {
        return std::move(quality).error();
      }
      content_.notes.push_back("no quality: " + quality.error().diagnostic.message);
      return ok_status();
    }
    result.metric = metric_name(quality->candidate.metric);
    result.share = is_share(quality->candidate.metric);
    result.quality = quality->candidate.value;
    result.quality_before.reset();
    result.drop.reset();
    if (quality->reference) {
      result.quality_before = quality->reference->value;
      result.drop = drop_between(*quality->reference, quality->candidate);
    } else if (result.share) {  // agreement with the original, which agrees with itself
      result.quality_before = 1.0;
      result.drop = (1 - *result.quality) * 100;
    }
    return ok_status();
  }

  std::string title() const {
    if (!options_.title.empty()) return options_.title;
    if (!batch_.empty()) return "Batch " + fs::path(batch_).lexically_normal().filename().string();
    if (!model_.empty()) {
      const std::string name = file_name(model_);
      return options_.reference.empty() ? name : name + ", from " + file_name(options_.reference);
    }
    if (reports_.size() == 1) {
      return reports_.front().second.label + ", from " + reports_.front().second.model;
    }
    if (reports_.empty()) return file_name(options_.front);
    if (content_.batch && !product_.empty()) return product_;
    return content_.batch
               ? counted(reports_.size(), "model")
               : counted(reports_.size(), "run") + " of " + reports_.front().second.model;
  }

  std::string format() const {
    if (options_.format != "auto") return options_.format;
    if (ends_in(options_.output, ".md")) return "markdown";
    return ends_in(options_.output, ".json") ? "json" : "html";
  }

  Status write(Console& console) {
    const ReportLimits limits{static_cast<std::size_t>(options_.layers),
                              static_cast<std::size_t>(options_.histograms),
                              static_cast<std::size_t>(options_.rows)};
    const auto text_in = [&](const std::string& form) {
      if (form == "json") return json_text(page_datum(content_, limits));
      return form == "markdown" ? markdown_page(content_, limits) : html_page(content_, limits);
    };
    TrackingClock clock;
    if (options_.clock) {
      clock.milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(
                               std::chrono::system_clock::now().time_since_epoch())
                               .count();
    }
    if (!options_.mlflow.empty() || !options_.events.empty()) {
      std::vector<std::pair<std::string, std::string>> artifacts, files;
      const bool wants_artifacts = !options_.mlflow.empty();
      artifacts.emplace_back("report.html", wants_artifacts ? text_in("html") : "");
      artifacts.emplace_back("report.json", wants_artifacts ? text_in("json") : "");
      artifacts.emplace_back("report.md", wants_artifacts ? text_in("markdown") : "");
      if (!options_.output.empty() && options_.output != "-") {
        const std::string form = format();
        files.emplace_back(form == "markdown" ? "report.md" : "report." + form, options_.output);
      }
      const std::vector<TrackedRun> runs = tracked_runs(content_, artifacts);
      if (!options_.mlflow.empty()) {
        MCOMPRESS_TRY(write_mlflow(options_.mlflow, options_.experiment, runs, clock));
      }
      if (!options_.events.empty()) {
        const std::string lines = event_lines(runs, files, options_.clock ? &clock : nullptr);
        MCOMPRESS_TRY(options_.events == "-" ? console.print(lines)
                                             : write_file(options_.events, lines));
      }
    }
    if (options_.output.empty()) return ok_status();
    const std::string text = text_in(format());
    if (options_.output == "-") return console.print(text);
    MCOMPRESS_TRY(write_file(options_.output, text));
    console.say(options_.output + ": " + bytes_text(text.size()));
    return ok_status();
  }

  Flags* flags_ = nullptr;
  std::vector<std::string> given_;
  std::string model_, batch_, product_;  // product_: the recipe of several models
  Options options_;
  std::vector<std::pair<Datum, ReportResult>> reports_;
  ReportContent content_;
};

}  // namespace

std::unique_ptr<Command> make_report() { return std::make_unique<ReportCommand>(); }

}  // namespace mcompress::tools
