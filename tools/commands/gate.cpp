// gate: a model against a committed baseline.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "app.h"
#include "gate/gate_checks.h"
#include "gate/gate_measure.h"
#include "mcompress/companion.h"
#include "mcompress/host.h"
#include "mcompress/pipeline.h"
#include "models.h"
#include "recipe_files.h"
#include "try.h"
#include "work_options.h"

namespace mcompress::tools {
namespace {

constexpr std::int64_t kLayerSamples = 4;
constexpr double kLatencyGrowth = 0.2;  // allowed where latency is measured and nothing else said

struct Options : DataFlags {
  std::string baseline;
  std::string against;
  std::string eval, calib;
  std::string recipe;
  std::string target = "onnxruntime-cpu";
  std::string metric = "auto";
  std::string characters;
  std::string output_name;
  std::string junit, markdown;
  std::int64_t k = 5;
  std::int64_t samples = 0;
  std::int64_t layer_samples = -1;
  std::int64_t threads = 1;
  std::int64_t seed = 0;
  std::int64_t repeats = 5;
  std::int64_t top = 5;
  double seconds = 1;
  bool latency = false;
  bool measure_memory = false;
  bool update = false;
  bool json = false;

  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema = make_schema();
    return kSchema;
  }

 private:
  static Schema<Options> make_schema() {
    Schema<Options> schema;
    schema.field("baseline", &Options::baseline, "what to compare with, a file that is committed")
        .unit("FILE")
        .field("update", &Options::update, "write the baseline instead, or write it anew")
        .field("against", &Options::against, "the model that MODEL was made of")
        .unit("REF")
        .field("eval", &Options::eval,
               "data to judge on, with labels or without: " + std::string(kDataKinds))
        .unit("DATA")
        .field("calib", &Options::calib,
               "data that MODEL was calibrated with, to see that it was; judged on without --eval")
        .unit("DATA")
        .field("recipe", &Options::recipe, "recipe that MODEL was made with, to be recorded")
        .unit("FILE|NAME");
    add_sample_field(schema, &Options::samples)
        .field("layer-samples", &Options::layer_samples,
               "samples for layers by themselves; 0: none; -1: as in the baseline, or 4")
        .range(-1, 1e9)
        .field("target", &Options::target, "where nodes are meant to run in integers")
        .unit("NAME|FILE")
        .field("metric", &Options::metric, "as for `mcompress eval`")
        .choices({"auto", "top1", "topk", "text", "agreement", "mask", "perplexity", "retrieval",
                  "generation"})
        .field("k", &Options::k, "for --metric topk")
        .range(1, 1e6)
        .field("characters", &Options::characters, "class list of a text recogniser, one per line")
        .unit("FILE")
        .field("output-name", &Options::output_name,
               "the output to judge; the first float output when not given")
        .unit("NAME")
        .field("latency", &Options::latency,
               "time MODEL and the reference in turn; needs --against")
        .field("repeats", &Options::repeats, "of timing both; the median ratio counts")
        .range(1, 1000)
        .field("seconds", &Options::seconds, "of one repeat, for each model")
        .range(0.001, 3600)
        .unit("seconds")
        .field("measure-memory", &Options::measure_memory,
               "run once more and count what the runtime allocates")
        .field("threads", &Options::threads, "of the runtime")
        .range(1, 1024)
        .field("seed", &Options::seed, "of made-up inputs, where no data are given")
        .range(0, 9e15)
        .field("json", &Options::json, "the result as JSON")
        .field("junit", &Options::junit, "write the checks as JUnit XML too")
        .unit("FILE")
        .field("markdown", &Options::markdown, "write them as a Markdown section too")
        .unit("FILE")
        .field("top", &Options::top, "so many classes, those that lost most first")
        .range(0, 1e6);
    add_data_fields(schema);
    return schema;
  }
};

class GateCommand final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("MODEL", model_path_, "ONNX model")->required()->type_name("");
    flags.add(Options::schema().specs(), "Data and work");
    flags.add(gate_limit_specs(), "Limits (off: none), before those of the baseline");
  }

  Status run(Console& console) override {
    MCOMPRESS_TRY(read_options());
    std::optional<Baseline> was;
    MCOMPRESS_TRY(read_old(was));
    if (was) limits_ = was->limits;
    MCOMPRESS_TRY(limits_.read(flags_->given(gate_limit_specs()), true));
    if (options_.latency && !limits_.get(GateLimit::kLatencyGrowth) &&
        !limits_.by_flag(GateLimit::kLatencyGrowth)) {
      limits_.set(GateLimit::kLatencyGrowth, kLatencyGrowth);
    }
    Baseline now;
    MCOMPRESS_TRY(measure_now(was, now, console));
    return options_.update ? update(was, now, console) : judge(*was, now, console);
  }

 private:
  Status read_options() {
    Diagnostics diagnostics;
    const auto& schema = Options::schema();
    MCOMPRESS_ASSIGN(options_, schema.parse(flags_->given(schema.specs()), diagnostics));
    if (options_.baseline.empty()) {
      return Error(Code::kUsage, "no-baseline", "the baseline is missing", {{}, "--baseline", {}},
                   "give --baseline FILE; with --update it is written");
    }
    if (!options_.update && options_.baseline == "-") {
      return Error(Code::kUsage, "no-baseline", "a baseline is read from a file",
                   {{}, "--baseline", {}});
    }
    std::vector<std::string> others = {model_path_,    options_.against, options_.eval,
                                       options_.calib, options_.recipe,  options_.characters,
                                       options_.junit, options_.markdown};
    if (options_.update) {
      if (options_.baseline == "-") {
        return Error(Code::kUsage, "no-baseline", "a baseline is written to a file",
                     {{}, "--baseline", {}});
      }
      MCOMPRESS_TRY(check_overwrites(options_.baseline, "baseline", others));
      MCOMPRESS_TRY(check_writable(options_.baseline));
    }
    others.resize(others.size() - 2);
    others.push_back(options_.baseline);
    MCOMPRESS_TRY(check_report(options_.junit, "junit", others));
    others.push_back(options_.junit);
    return check_report(options_.markdown, "markdown", others);
  }

  static Status check_report(const std::string& path, std::string_view flag,
                             const std::vector<std::string>& others) {
    if (path.empty()) return ok_status();
    if (path == "-") {
      return Error(Code::kUsage, "report-to-stdout",
                   "standard output has the table, or --json; a report goes to a file",
                   {{}, "--" + std::string(flag), {}});
    }
    MCOMPRESS_TRY(check_overwrites(path, flag, others));
    return check_writable(path);
  }

  // The baseline as it is, if there is one; without --update there has to be.
  Status read_old(std::optional<Baseline>& was) const {
    auto read = read_baseline(options_.baseline);
    if (read.ok()) {
      was = std::move(*read);
    } else if (!options_.update || read.error().diagnostic.id != "no-baseline") {
      return std::move(read).error();
    }
    return ok_status();
  }

  bool has_data() const {
    return !options_.eval.empty() || !options_.calib.empty() || !options_.input.empty();
  }

  Error refuse(std::string message) const {
    return Error(Code::kInput, "baseline-of-another", std::move(message),
                 {options_.baseline, {}, {}}, "`--update` writes a baseline of what is given now");
  }

  // What the baseline was made with has to be what is given now.
  Status check_same(const BaselineFile& was, const BaselineFile& now, std::string_view what,
                    std::string_view flag) const {
    if (was.digest == now.digest) return ok_status();
    if (now.digest.empty()) {
      return Error(Code::kUsage, "baseline-needs-more",
                   "the baseline was made with " + std::string(what) + " '" + was.file +
                       "' (digest " + was.digest + "), and none is given",
                   {options_.baseline, {}, {}}, "give " + std::string(flag));
    }
    return refuse("was made " +
                  (was.digest.empty() ? "without " + std::string(what)
                                      : "with another " + std::string(what) + ": '" + was.file +
                                            "' of digest " + was.digest) +
                  ", and '" + now.file + "' has " + now.digest);
  }

  Status measure_now(const std::optional<Baseline>& was, Baseline& now, Console& console) {
    const bool compared = was && !options_.update;
    MCOMPRESS_ASSIGN(const TargetChoice target, TargetChoice::of(options_.target));
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    runtime->warm_up();
    MCOMPRESS_TRY(read_recipe(now, console));
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(model_path_, console));
    now.model = {file_name(model_path_), digest_text(fingerprint(*loaded.model))};
    LoadedModel reference;
    if (!options_.against.empty()) {
      MCOMPRESS_ASSIGN(reference, load(options_.against, console));
      now.reference = {file_name(options_.against), digest_text(fingerprint(*reference.model))};
    }
    if (compared) {
      MCOMPRESS_TRY(check_same(was->reference, now.reference, "reference", "--reference REF"));
      MCOMPRESS_TRY(check_settings(*was));
    }
    std::unique_ptr<DataSource> data;
    MCOMPRESS_TRY(open_subject_data(*loaded.model, compared ? &*was : nullptr, data, now, console));
    if (compared && was->samples != now.samples) {
      return refuse("was made with " + std::to_string(was->samples) + " samples, and there are " +
                    std::to_string(now.samples));
    }
    read_provenance(*loaded.model, now);
    MCOMPRESS_TRY(check_calibration(*loaded.model, now, console));
    GateRequest request;
    request.eval = {options_.metric,
                    options_.characters,
                    options_.output_name,
                    options_.k,
                    options_.pad_id,
                    0,
                    32};
    request.threads = static_cast<int>(options_.threads);
    constexpr std::int64_t kMostValues = std::int64_t{1} << 24;  // a second of sums
    request.most_values = compared ? 0 : kMostValues;
    if (compared) request.output_samples = std::max<std::int64_t>(was->output_samples, 1);
    request.layer_samples = options_.layer_samples;
    if (request.layer_samples < 0) {
      request.layer_samples = was && !was->layers.empty() ? was->layer_samples : kLayerSamples;
      if (compared && was->layers.empty()) request.layer_samples = 0;
    }
    request.measure_memory = options_.measure_memory || (was && was->measured_bytes.has_value());
    const auto growth = limits_.get(GateLimit::kLatencyGrowth);
    const auto ratio = limits_.get(GateLimit::kLatencyRatio);
    request.latency = options_.latency || growth || ratio;
    if (request.latency && options_.against.empty()) {
      return Error(
          Code::kUsage, "no-reference", "latency is judged by that of a reference in the same run",
          {{}, options_.latency ? "--latency" : "--max-latency-ratio", {}}, "give --reference REF");
    }
    request.repeats = options_.repeats;
    request.seconds = options_.seconds;
    request.latency_limit = ratio;
    if (compared && growth && was->latency_ratio) {
      const double grown = *was->latency_ratio * (1 + *growth);
      request.latency_limit = ratio ? std::min(*ratio, grown) : grown;
    }
    const GateSubject subject{
        runtime,    &loaded,     options_.against.empty() ? nullptr : &reference,
        data.get(), !has_data(), &target};
    MCOMPRESS_TRY(measure_gate(subject, request, now, console));
    now.limits = limits_;
    return ok_status();
  }

  // Settings that have no other value than the baseline's.
  Status check_settings(const Baseline& was) const {
    const auto differs = [this](std::string_view flag, std::int64_t recorded) {
      return Error(Code::kUsage, "not-as-in-baseline",
                   "the baseline was made with " + std::to_string(recorded),
                   {options_.baseline, "--" + std::string(flag), {}},
                   "leave it out, or make the baseline anew with --update");
    };
    const std::int64_t layers = was.layers.empty() ? 0 : was.layer_samples;
    if (options_.layer_samples > 0 && options_.layer_samples != layers) {
      return differs("layer-samples", layers);
    }
    if (flags_->has("seed") && options_.seed != was.seed) return differs("seed", was.seed);
    return ok_status();
  }

  Status read_recipe(Baseline& now, Console& console) const {
    if (options_.recipe.empty()) return ok_status();
    MCOMPRESS_ASSIGN(const NamedRecipe found, find_recipe(options_.recipe, console));
    now.recipe = {found.file.empty() ? options_.recipe : file_name(found.file),
                  digest_text(recipe_digest(found.recipe, builtin_passes()))};
    return ok_status();
  }

  static void read_provenance(const Model& model, Baseline& now) {
    now.recipe_digest = metadata_of(model, "mcompress.recipe");
    now.calibration_digest = metadata_of(model, "mcompress.calibration");
    // A model may say anything.
    for (std::string* digest : {&now.recipe_digest, &now.calibration_digest}) {
      if (digest->find_first_not_of("0123456789abcdef,") != std::string::npos) digest->clear();
    }
  }

  Status open_subject_data(const Model& model, const Baseline* was,
                           std::unique_ptr<DataSource>& data, Baseline& now, Console& console) {
    now.seed = was != nullptr ? was->seed : options_.seed;
    if (!has_data()) {
      if (was != nullptr) {
        MCOMPRESS_TRY(check_same(was->data, now.data, "data", "--eval DATA"));
      }
      data = std::make_unique<MadeUpData>(model, static_cast<std::uint64_t>(now.seed));
      now.samples = data->count();
      return ok_status();
    }
    const std::string& path = options_.eval.empty() ? options_.calib : options_.eval;
    MCOMPRESS_ASSIGN(data, open_samples(path, model, options_, options_.samples, console));
    const std::int64_t step = std::max<std::int64_t>(data->fixed_batch(), 1);
    if (data->count() < step) {
      return Error(Code::kInput, "too-few-samples",
                   std::to_string(data->count()) + " samples, the model wants " +
                       std::to_string(step) + " at once",
                   {path, {}, {}});
    }
    auto digest = digest_with_labels(*data);
    if (!digest.ok()) return std::move(digest).error().in_file(path);
    now.data = {file_name(path.empty() ? std::string("--input") : path), *digest};
    now.samples = data->count();
    return was != nullptr ? check_same(was->data, now.data, "data", "--eval DATA") : ok_status();
  }

  // Says so where the model was calibrated with other data than --calib.
  Status check_calibration(const Model& model, const Baseline& now, Console& console) const {
    if (options_.calib.empty() || now.calibration_digest.empty()) return ok_status();
    MCOMPRESS_ASSIGN(const auto data, open_samples(options_.calib, model, options_, 0, console));
    const std::string digest = digest_text(data->digest());
    if (now.calibration_digest.find(digest) != std::string::npos) return ok_status();
    Diagnostics diagnostics;
    diagnostics.warn("calibrated-otherwise",
                     "the model was calibrated with data of digest " + now.calibration_digest +
                         ", and all of '" + file_name(options_.calib) + "' has " + digest,
                     {model_path_, {}, {}});
    console.show(diagnostics);
    return ok_status();
  }

  // Writes what was asked for, all or nothing.
  Status write(const GateOutcome& outcome, const Baseline* baseline) const {
    const GateTitle title{file_name(model_path_), file_name(options_.baseline),
                          baseline != nullptr};
    std::string text, junit, markdown;
    std::vector<TextFile> files;
    if (baseline != nullptr) {
      text = json_text(tools::to_datum(*baseline));
      files.push_back({options_.baseline, text});
    }
    if (!options_.junit.empty()) {
      junit = junit_text(outcome, title);
      files.push_back({options_.junit, junit});
    }
    if (!options_.markdown.empty()) {
      markdown = markdown_text(outcome, title, static_cast<std::size_t>(options_.top));
      files.push_back({options_.markdown, markdown});
    }
    return files.empty() ? ok_status() : write_files(files);
  }

  Status print(const GateOutcome& outcome, std::string_view more, Console& console) const {
    if (!options_.json) {
      return console.print(gate_text(outcome, static_cast<std::size_t>(options_.top)) +
                           std::string(more));
    }
    Datum map = Datum::map();
    map.set("model", Datum::string(file_name(model_path_)));
    map.set("baseline", Datum::string(file_name(options_.baseline)));
    map.set("updated", Datum::boolean(!more.empty()));
    const Datum found = tools::to_datum(outcome);
    for (const auto& [key, value] : *found.as_map()) map.set(key, value);
    return console.print(result_json(map));
  }

  Status judge(const Baseline& was, const Baseline& now, Console& console) const {
    const GateOutcome outcome = check_gate(was, now, limits_);
    MCOMPRESS_TRY(write(outcome, nullptr));
    MCOMPRESS_TRY(print(outcome, "", console));
    return missed(outcome, "`--update` accepts the model as it is now");
  }

  Status missed(const GateOutcome& outcome, std::string hint) const {
    if (outcome.met()) return ok_status();
    std::string names;
    for (const GateCheck& check : outcome.checks) {
      if (check.verdict != GateCheck::Verdict::kMissed) continue;
      names += (names.empty() ? "" : ", ") + check.name;
    }
    return Error(Code::kGateMissed, "gate-missed", "missed: " + names, {model_path_, {}, {}},
                 std::move(hint));
  }

  // A baseline is not written for a model that misses what holds whatever the baseline was.
  Status update(const std::optional<Baseline>& was, const Baseline& now, Console& console) const {
    const GateOutcome own = check_gate(now, now, limits_);
    if (!own.met()) {
      MCOMPRESS_TRY(print(own, "", console));
      return missed(own, "nothing was written; give another limit to write it all the same");
    }
    const GateOutcome outcome = was ? check_gate(*was, now, limits_) : own;
    MCOMPRESS_TRY(write(outcome, &now));
    return print(outcome, file_name(options_.baseline) + (was ? ": written anew\n" : ": written\n"),
                 console);
  }

  Flags* flags_ = nullptr;
  Options options_;
  GateLimits limits_;
  std::string model_path_;
};

}  // namespace

std::unique_ptr<Command> make_gate() { return std::make_unique<GateCommand>(); }

}  // namespace mcompress::tools
