// eval, compare and bench: models judged by running them.
#include <CLI/CLI.hpp>

#include "app.h"
#include "judge.h"
#include "mcompress/host.h"
#include "models.h"
#include "try.h"

namespace mcompress::tools {
namespace {

struct Options : DataFlags {
  std::string data;
  std::string against;
  std::string metric = "auto";
  std::string characters;
  std::string output_name;
  std::vector<std::string> outputs;
  std::int64_t k = 5;
  std::int64_t samples = 0;
  std::int64_t threads = 1;
  std::int64_t runs = 0;
  std::int64_t loads = 3;
  std::int64_t seed = 0;
  double seconds = 1;
  bool json = false;
};

Schema<Options> data_schema() {
  Schema<Options> schema;
  schema.field("data", &Options::data, "data: " + std::string(kDataKinds))
      .unit("DATA")
      .field("samples", &Options::samples, "use the first N samples; 0: all")
      .range(0, 1e9)
      .field("threads", &Options::threads, "of the runtime")
      .range(1, 1024)
      .field("json", &Options::json, "the result as JSON");
  add_data_fields(schema);
  return schema;
}

// What the three commands share: a schema, loaded models, a runtime.
class Judging : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    declare_arguments(app);
    flags.add(schema().specs(), "Data and work");
  }

 protected:
  virtual void declare_arguments(CLI::App& app) = 0;
  virtual const Schema<Options>& schema() const = 0;

  Status start(bool needs_data) {
    Diagnostics diagnostics;
    MCOMPRESS_ASSIGN(options_, schema().parse(flags_->given(schema().specs()), diagnostics));
    if (needs_data && options_.data.empty() && options_.input.empty()) {
      return Error(Code::kUsage, "no-data", "data are missing", {{}, "--data", {}},
                   "give --data DATA");
    }
    return ok_status();
  }

  Result<std::unique_ptr<DataSource>> samples(const Model& model, Console& console) const {
    return open_samples(options_.data, model, options_, options_.samples, console);
  }

  Flags* flags_ = nullptr;
  Options options_;
};

class Eval final : public Judging {
 public:
  void declare_arguments(CLI::App& app) override {
    app.add_option("MODEL", model_, "ONNX model")->required()->type_name("");
  }

  const Schema<Options>& schema() const override {
    static const Schema<Options> kSchema =
        data_schema()
            .field("against", &Options::against, "judge this model too, and how often both agree")
            .unit("REF")
            .field("metric", &Options::metric, "auto: what the labels suggest")
            .choices({"auto", "top1", "topk", "text", "agreement", "mask"})
            .field("k", &Options::k, "for --metric topk")
            .range(1, 1e6)
            .field("characters", &Options::characters,
                   "class list of a text recogniser, one per line")
            .unit("FILE")
            .field("output-name", &Options::output_name,
                   "the output to judge; the first float output when not given")
            .unit("NAME");
    return kSchema;
  }

  Status run(Console& console) override {
    MCOMPRESS_TRY(start(true));
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    runtime->warm_up();
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(model_, console));
    LoadedModel reference;
    if (!options_.against.empty()) {
      MCOMPRESS_ASSIGN(reference, load(options_.against, console));
    }
    MCOMPRESS_ASSIGN(const auto data, samples(*loaded.model, console));
    const int threads = static_cast<int>(options_.threads);
    Judged candidate(*runtime, *loaded.model, model_, threads);
    std::optional<Judged> against;
    if (reference.model) against.emplace(*runtime, *reference.model, options_.against, threads);
    const EvalSettings settings{options_.metric, options_.characters, options_.output_name,
                                options_.k};
    MCOMPRESS_ASSIGN(const Quality quality, judge_quality(against ? &*against : nullptr, candidate,
                                                          *data, settings, console));
    if (options_.json) {
      Datum map = Datum::map();
      map.set("model", Datum::string(file_name(model_)));
      map.set("data", Datum::string(file_name(options_.data)));
      map.set("result", to_datum(quality.candidate, true));
      if (quality.reference) map.set("reference", to_datum(*quality.reference, false));
      return console.print(json_text(map));
    }
    return console.print(text(quality));
  }

 private:
  std::string text(const Quality& quality) const {
    const Evaluation& result = quality.candidate;
    std::string text = std::string(metric_name(result.metric)) + " " + percent_text(result.value);
    if (result.decisions > 0) {
      text += " (" + grouped(static_cast<std::uint64_t>(result.correct)) + " of " +
              grouped(static_cast<std::uint64_t>(result.decisions)) + ")";
    }
    text += ", " + counted(static_cast<std::uint64_t>(result.samples), "sample") + "\n";
    if (result.character_error_rate) {
      text += "character errors " + percent_text(*result.character_error_rate) + "\n";
    }
    if (quality.reference) {
      const double points = (result.value - quality.reference->value) * 100;
      text += file_name(options_.against) + ": " + percent_text(quality.reference->value) +
              ", difference " + (points >= 0 ? "+" : "") + decimal_text(points, 2) + " points\n";
    }
    if (result.agreement && result.metric != Metric::kAgreement) {
      text += "agreement " + percent_text(*result.agreement) + "\n";
    }
    if (result.sqnr_db) text += "SQNR " + decibel_text(*result.sqnr_db) + "\n";
    constexpr std::size_t kMostClasses = 30;
    if (!result.classes.empty() && result.classes.size() <= kMostClasses) {
      Table table;
      table.row({"class", "right", "of", ""});
      for (const ClassScore& score : result.classes) {
        table.row({std::to_string(score.label), std::to_string(score.correct),
                   std::to_string(score.count),
                   percent_text(score.count > 0 ? static_cast<double>(score.correct) /
                                                      static_cast<double>(score.count)
                                                : 0)});
      }
      text += table.text();
    }
    return text;
  }

  std::string model_;
};

class Compare final : public Judging {
 public:
  void declare_arguments(CLI::App& app) override {
    app.add_option("REF", reference_, "the model to compare with")->required()->type_name("");
    app.add_option("MODEL", model_, "the model that is compared")->required()->type_name("");
  }

  const Schema<Options>& schema() const override {
    static const Schema<Options> kSchema =
        data_schema().field("outputs", &Options::outputs, "these outputs only").unit("NAME,...");
    return kSchema;
  }

  Status run(Console& console) override {
    MCOMPRESS_TRY(start(true));
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    runtime->warm_up();
    MCOMPRESS_ASSIGN(const LoadedModel reference, load(reference_, console));
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(model_, console));
    MCOMPRESS_ASSIGN(const auto data, samples(*reference.model, console));
    const int threads = static_cast<int>(options_.threads);
    Judged against(*runtime, *reference.model, reference_, threads);
    Judged candidate(*runtime, *loaded.model, model_, threads);
    MCOMPRESS_ASSIGN(Session * left, against.session());
    MCOMPRESS_ASSIGN(Session * right, candidate.session());
    CompareOptions compare;
    compare.outputs = options_.outputs;
    MCOMPRESS_ASSIGN(const Comparison comparison,
                     compare_outputs(*left, *right, *data, compare, console));
    if (options_.json) {
      Datum map = Datum::map();
      map.set("reference", sizes(reference));
      map.set("model", sizes(loaded));
      map.set("data", Datum::string(file_name(options_.data)));
      map.set("comparison", to_datum(comparison));
      return console.print(json_text(map));
    }
    std::string text = file_name(model_) + " (" + bytes_text(loaded.size.total()) + ") against " +
                       file_name(reference_) + " (" + bytes_text(reference.size.total()) + "), " +
                       counted(static_cast<std::uint64_t>(comparison.samples), "sample") + "\n";
    text += comparison_table(comparison).text();
    for (const OutputError& output : comparison.outputs) {
      if (output.differing_non_finite > 0) {
        text += output.output + ": " + std::to_string(output.differing_non_finite) +
                " values are finite in one model only\n";
      }
      if (output.differing_shapes > 0) {
        text += output.output + ": shapes differ in " + std::to_string(output.differing_shapes) +
                " samples\n";
      }
    }
    return console.print(text);
  }

 private:
  static Datum sizes(const LoadedModel& model) {
    Datum map = Datum::map();
    map.set("file", Datum::string(file_name(model.path)));
    map.set("bytes", Datum::integer(static_cast<std::int64_t>(model.size.total())));
    return map;
  }

  std::string reference_, model_;
};

class Bench final : public Judging {
 public:
  void declare_arguments(CLI::App& app) override {
    app.add_option("MODEL", model_, "ONNX model")->required()->type_name("");
  }

  const Schema<Options>& schema() const override {
    static const Schema<Options> kSchema =
        data_schema()
            .field("against", &Options::against, "run this model in turn with MODEL")
            .unit("REF")
            .field("runs", &Options::runs, "rounds; 0: as many as --seconds allow")
            .range(0, 1e9)
            .field("seconds", &Options::seconds, "of running each model")
            .range(0.001, 3600)
            .unit("seconds")
            .field("loads", &Options::loads, "how often each model is opened")
            .range(1, 1000)
            .field("seed", &Options::seed, "of made-up inputs")
            .range(0, 9e15);
    return kSchema;
  }

  Status run(Console& console) override {
    MCOMPRESS_TRY(start(false));
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    runtime->warm_up();
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(model_, console));
    LoadedModel reference;
    if (!options_.against.empty()) {
      MCOMPRESS_ASSIGN(reference, load(options_.against, console));
    }
    std::unique_ptr<DataSource> data;
    if (!options_.data.empty() || !options_.input.empty()) {
      MCOMPRESS_ASSIGN(data, samples(*loaded.model, console));
    }
    const int threads = static_cast<int>(options_.threads);
    Judged candidate(*runtime, *loaded.model, model_, threads);
    std::optional<Judged> against;
    if (reference.model) against.emplace(*runtime, *reference.model, options_.against, threads);
    BenchOptions bench;
    bench.loads = options_.loads;
    bench.seconds = options_.seconds;
    if (options_.runs > 0) bench.min_rounds = bench.max_rounds = options_.runs;
    MCOMPRESS_ASSIGN(const auto times,
                     judge_latency(against ? &*against : nullptr, candidate, data.get(), bench,
                                   static_cast<std::uint64_t>(options_.seed), console));
    const bool both = times.size() == 2;
    const double ratio = both && times[1].p50_ms > 0 ? times[0].p50_ms / times[1].p50_ms : 0;
    if (options_.json) {
      Datum map = Datum::map();
      map.set("runtime", Datum::string(runtime->name()));
      map.set("threads", Datum::integer(options_.threads));
      if (both) map.set("reference", to_datum(times[0]));
      map.set("model", to_datum(times.back()));
      if (both) map.set("speedup_p50", Datum::real(ratio));
      return console.print(json_text(map));
    }
    std::string text = std::string(runtime->name()) + ", " +
                       counted(static_cast<std::uint64_t>(options_.threads), "thread") + "\n";
    text += latency_table(times).text();
    if (both) text += "p50 " + decimal_text(ratio, 2) + " x faster\n";
    return console.print(text);
  }

 private:
  std::string model_;
};

}  // namespace

std::unique_ptr<Command> make_eval() { return std::make_unique<Eval>(); }
std::unique_ptr<Command> make_compare() { return std::make_unique<Compare>(); }
std::unique_ptr<Command> make_bench() { return std::make_unique<Bench>(); }

}  // namespace mcompress::tools
