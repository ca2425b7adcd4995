// sensitivity: what each layer alone in integers does to the outputs, ranked; and which layers to
// keep in float32.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "app.h"
#include "compress.h"
#include "gates.h"
#include "mcompress/host.h"
#include "mcompress/memory.h"
#include "mcompress/precision.h"
#include "models.h"
#include "target_choice.h"
#include "try.h"
#include "work_options.h"

namespace mcompress::tools {
namespace {

struct Options : DataFlags {
  std::string output;
  std::string mode = "static";
  double min_sqnr = 0;
  double max_drop = 100;
  std::string metric = "sqnr";
  std::string calib;
  std::string eval;
  std::string eval_metric = "auto";
  std::string characters;
  std::string target = "onnxruntime-cpu";
  std::int64_t rank_samples = 8;
  std::int64_t jobs = 0;
  std::int64_t memory_budget = 0;
  bool json = false;

  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema = make_schema();
    return kSchema;
  }

 private:
  static Schema<Options> make_schema() {
    Schema<Options> schema =
        Schema<Options>()
            .field("output", &Options::output,
                   "write the layers to keep in float32 as a file for `quantize --exclude @FILE`; "
                   "- is standard output")
            .unit("FILE")
            .field("mode", &Options::mode, "how layers would be quantized, as in `quantize`")
            .choices({"static", "dynamic", "weight-only"})
            .field(
                "min-sqnr", &Options::min_sqnr,
                "keep the worst layers in float32 until the model's outputs reach this signal to "
                "noise ratio; exit status 5 where they never do; 0: not asked for")
            .range(0, 200)
            .unit("dB")
            .field("max-drop", &Options::max_drop,
                   "keep the worst layers in float32 until the metric of the data (without labels: "
                   "agreement with the original) drops by no more, a perplexity rises by no more "
                   "percent; exit status 5 where it always does; 100: not asked for")
            .range(0, 100)
            .unit("points")
            .field("metric", &Options::metric,
                   "what ranks the layers, at the model's outputs: signal to noise ratio, KL "
                   "divergence, or how often the highest value stays the highest")
            .choices({"sqnr", "kl", "top1"})
            .field("rank-samples", &Options::rank_samples,
                   "samples on which each layer is run, spread evenly over the data")
            .range(1, 1e6)
            .field("calib", &Options::calib, "calibration data: " + std::string(kDataKinds))
            .unit("DATA")
            .field("eval", &Options::eval,
                   "data to rank on and to measure --max-drop with; not given: those of --calib")
            .unit("DATA")
            .field("eval-metric", &Options::eval_metric, "of --max-drop; auto: what labels suggest")
            .choices(
                {"auto", "top1", "topk", "text", "agreement", "mask", "perplexity", "retrieval"})
            .field("characters", &Options::characters,
                   "class list of a text recogniser, one per line")
            .unit("FILE")
            .field("target", &Options::target,
                   "the runtime to quantize for, or a file of your own that describes one")
            .unit("NAME|FILE");
    add_work_fields(schema, &Options::jobs, &Options::memory_budget,
                    "for activations that are kept; 0: 256 MiB");
    schema.field("json", &Options::json, "the ranking as JSON");
    add_data_fields(schema);
    return schema;
  }
};

constexpr double kExactDb = 200;

std::string shown_db(double db) { return db >= kExactDb ? "equal" : decimal_text(db, 1) + " dB"; }

class Sensitivity final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("MODEL", model_, "ONNX model")->required()->type_name("");
    flags.add(Options::schema().specs(), "Data and work");
    std::vector<Recipe> recipes;
    for (const char* name : {"quantize-static", "quantize-dynamic", "quantize-weight-only"}) {
      auto recipe = builtin_recipe(name);
      if (recipe.ok()) recipes.push_back(std::move(recipe).value());
    }
    specs_ = pass_options(recipes);
    // What has to hold is this command's own business.
    std::erase_if(specs_, [](const OptionSpec& spec) {
      return spec.name == "min-sqnr" || spec.name == "max-drop";
    });
    flags.add(specs_, "How layers would be quantized");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = Options::schema();
    MCOMPRESS_ASSIGN(options_, schema.parse(flags_->given(schema.specs()), diagnostics));
    MCOMPRESS_ASSIGN(Recipe recipe, check_request());
    MCOMPRESS_ASSIGN(runtime_, find_runtime("onnxruntime"));
    runtime_->warm_up();
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(model_, console));
    original_ = loaded.model->clone();
    MCOMPRESS_TRY(open_inputs(*original_, console));
    auto effects = measure(*loaded.model, recipe, console);
    if (!effects.ok()) return std::move(effects).error().in_file(model_);
    MCOMPRESS_ASSIGN(const auto inlined, calls_written_out(*original_, recipe));
    name_patterns(*effects, inlined.get());
    if (!options_.output.empty()) {
      const std::string text = exclude_file(*effects, gates());
      MCOMPRESS_TRY(options_.output == "-" ? console.print(text)
                                           : write_file(options_.output, text));
    }
    if (options_.json) {
      MCOMPRESS_TRY(console.print(result_json(datum_of(*effects))));
    } else if (options_.output != "-") {
      MCOMPRESS_TRY(console.print(table_of(*effects).text()));
    }
    console.say(cost_text(*effects));
    console.say(cut_text(*effects));
    return verdict(*effects, gates());
  }

 private:
  Gates gates() const { return {options_.min_sqnr, options_.max_drop}; }

  std::string pass() const {
    return options_.mode == "weight-only" ? "quantize-weights" : "quantize-" + options_.mode;
  }

  // The recipe with the flags set, up to the pass that quantizes.
  Result<Recipe> check_request() {
    if (options_.calib.empty()) {
      return Error(Code::kUsage, "no-calibration-data", "calibration data are missing",
                   {{}, "--calib", {}}, "give --calib DATA");
    }
    if (options_.json && options_.output == "-") {
      return Error(Code::kUsage, "two-outputs",
                   "of --output and --json one can go to standard output, not two");
    }
    MCOMPRESS_ASSIGN(target_, TargetChoice::of(options_.target));
    const std::vector<std::string> others = {model_, options_.calib, options_.eval,
                                             options_.characters};
    MCOMPRESS_TRY(check_overwrites(options_.output, "output", others));
    if (!options_.output.empty()) MCOMPRESS_TRY(check_writable(options_.output));
    MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe("quantize-" + options_.mode));
    recipe.target = options_.target;
    Datum flags = flags_->given(specs_);
    if (options_.mode == "static") {  // whose pass searches itself
      flags.set("min-sqnr", Datum::real(options_.min_sqnr));
      flags.set("max-drop", Datum::real(options_.max_drop));
    }
    MCOMPRESS_TRY(read_pattern_files(flags));
    MCOMPRESS_TRY(apply_flags(recipe, flags));
    return recipe;
  }

  Status open_inputs(const Model& model, Console& console) {
    MCOMPRESS_ASSIGN(calib_, open_samples(options_.calib, model, options_, 0, console));
    if (!options_.eval.empty()) {
      DataFlags flags = options_;  // --input and --balance are about calibration
      flags.input.clear();
      flags.balance = "none";
      MCOMPRESS_ASSIGN(eval_, open_samples(options_.eval, model, flags, 0, console));
    }
    return ok_status();
  }

  Result<LayerEffects> measure(Model& model, const Recipe& recipe, Console& console) {
    Judged before(*runtime_, *original_, model_, 1);
    DropMeter meter(before, eval_ != nullptr ? *eval_ : *calib_,
                    {options_.eval_metric, options_.characters, {}, 5, options_.pad_id}, console);
    EffectRequest request;
    request.samples = options_.rank_samples;
    if (options_.metric == "kl") request.metric = EffectMetric::kKl;
    if (options_.metric == "top1") request.metric = EffectMetric::kAgreement;
    LayerEffects effects;
    PrecisionServices precision;
    precision.data = eval_.get();
    precision.measure = &request;
    precision.effects = &effects;
    precision.drop = [&](Session& candidate) -> Result<double> {
      MCOMPRESS_ASSIGN(const double drop, meter.drop(candidate));
      precision.drop_metric = meter.metric();
      return drop;
    };
    Diagnostics diagnostics;
    Services services;
    services.runtime = runtime_;
    services.target = &target_->target();
    JudgedData judged(*calib_, precision);
    services.calibration_data = &judged;
    services.diagnostics = &diagnostics;
    services.progress = &console;
    if (options_.memory_budget > 0) give_memory_back_at_once();
    services.memory_budget = static_cast<std::uint64_t>(options_.memory_budget);
    services.threads = static_cast<int>(options_.jobs);
    services.reference = [&] { return before.session(); };
    Explain explain;
    Report report;
    // What stands behind the pass is run on the copies that are judged.
    // `quantize` leaves what is excluded alone in every pass.
    precision.finish = [&](Model& trial, const std::vector<std::string>& excluded) {
      return run_rest(trial, recipe, pass(), excluded, target_->target(), runtime_);
    };
    const RecipeStep step =
        *std::find_if(recipe.steps.begin(), recipe.steps.end(),
                      [this](const RecipeStep& candidate) { return candidate.pass == pass(); });
    Recipe preparing = steps_before(recipe, pass());
    if (options_.mode == "static") preparing.steps.push_back(step);
    Status status = run_pipeline(model, preparing, builtin_passes(), services, PipelineOptions{},
                                 explain, report);
    if (status.ok() && options_.mode != "static") {
      auto measured = measure_layers(model, step, recipe.target, precision,
                                     {options_.min_sqnr, options_.max_drop}, services);
      if (measured.ok()) {
        effects = std::move(measured).value();
      } else {
        status = std::move(measured).error();
      }
    }
    console.show(diagnostics);
    if (!status.ok()) return std::move(status).error();
    drop_metric_ = precision.drop_metric;
    if (effects.layers.empty()) {
      return Error(Code::kUnsupported, "nothing-to-measure",
                   "mode " + options_.mode + " quantizes no layer of this model for target '" +
                       options_.target + "'");
    }
    return effects;
  }

  // A pattern has to mean the same in the file that `quantize` is given.
  void name_patterns(LayerEffects& effects, const Model* inlined) const {
    std::vector<const Model*> states = {original_.get()};
    if (inlined != nullptr) states.push_back(inlined);
    for (LayerEffect& effect : effects.layers) {
      if (effect.pattern.empty()) continue;
      if (!check_patterns(states, "exclude", {&effect.pattern, 1}).ok()) effect.pattern.clear();
    }
  }

  std::string rank_text(const LayerEffect& effect) const {
    if (!effect.measured) return "not measured";
    return "SQNR " + shown_db(effect.sqnr_db) + ", KL " + option_text(Datum::real(effect.kl));
  }

  std::string exclude_file(const LayerEffects& effects, const Gates& gates) const {
    std::string text = "# Layers of " + file_name(model_) +
                       ", the most sensitive first. The lines without # stay float32 with\n"
                       "#   mcompress quantize " +
                       file_name(model_) + " --exclude @THIS_FILE ...\n";
    text +=
        "# All layers in integers: " + figures(effects.quantized_sqnr_db, effects.quantized_drop) +
        ".";
    if (!effects.keep.empty()) {
      text += " With these in float32: " + figures(effects.kept_sqnr_db, effects.kept_drop) + ".";
    }
    text += gates.any() ? "\n" : " Nothing was asked for beyond the usual check of the outputs.\n";
    std::size_t next = 0;
    for (std::size_t place = 0; place < effects.layers.size(); ++place) {
      const LayerEffect& effect = effects.layers[place];
      const bool kept = next < effects.keep.size() && effects.keep[next] == place;
      if (kept) ++next;
      text += "# " + std::to_string(place + 1) + ": " + effect.op_type + ", " + rank_text(effect) +
              "\n";
      if (effect.pattern.empty()) {
        text += "#   has no name of its own in the file: " + effect.name + "\n";
      } else {
        text += (kept ? "" : "# ") + effect.pattern + "\n";
      }
    }
    return text;
  }

  std::string figures(double sqnr, std::optional<double> drop) const {
    std::string text = shown_db(sqnr);
    if (drop) text += ", " + drop_text(drop_metric_, *drop);
    return text;
  }

  Table table_of(const LayerEffects& effects) const {
    Table table;
    table.row({"layer", "operator", "SQNR", "KL", "top-1 kept", "own SQNR", "weights", "keep"});
    std::size_t next = 0;
    for (std::size_t place = 0; place < effects.layers.size(); ++place) {
      const LayerEffect& effect = effects.layers[place];
      const bool kept = next < effects.keep.size() && effects.keep[next] == place;
      if (kept) ++next;
      table.row({effect.name, effect.op_type, effect.measured ? shown_db(effect.sqnr_db) : "-",
                 effect.measured ? decimal_text(effect.kl, 6) : "-",
                 effect.measured ? percent_text(effect.agreement) : "-",
                 effect.own_sqnr_db ? shown_db(*effect.own_sqnr_db) : "-",
                 effect.weight_bytes > 0 ? bytes_text(effect.weight_bytes) : "-",
                 kept ? "float32" : ""});
    }
    return table;
  }

  static std::string cost_text(const LayerEffects& effects) {
    return counted(effects.layers.size(), "layer") + " on " +
           counted(static_cast<std::uint64_t>(effects.samples), "sample") + ": " +
           decimal_text(effects.passes, 1) + " runs of the model per sample, from " +
           counted(static_cast<std::uint64_t>(effects.cuts), "cut") + "; " +
           counted(static_cast<std::uint64_t>(effects.trials), "whole choice") + " run";
  }

  std::string cut_text(const LayerEffects& effects) const {
    std::string text =
        "all layers in integers: " + figures(effects.quantized_sqnr_db, effects.quantized_drop);
    if (effects.keep.empty()) return text;
    return text + "; " + counted(effects.keep.size(), "layer") +
           " in float32: " + figures(effects.kept_sqnr_db, effects.kept_drop);
  }

  Status verdict(const LayerEffects& effects, const Gates& gates) const {
    if (effects.holds || !gates.any()) return ok_status();
    GateFigures reached;
    reached.sqnr_db = effects.kept_sqnr_db;
    reached.drop = effects.kept_drop;
    reached.metric = drop_metric_;
    Status status = check_gates(gates, reached);
    if (status.ok()) return status;
    Error error = std::move(status).error().in_file(model_);
    error.diagnostic.hint = "the ranking is complete; no choice of layers satisfies what was asked";
    return error;
  }

  Datum datum_of(const LayerEffects& effects) const {
    Datum map = Datum::map();
    map.set("model", Datum::string(file_name(model_)));
    map.set("metric", Datum::string(options_.metric));
    map.set("samples", Datum::integer(effects.samples));
    map.set("cuts", Datum::integer(effects.cuts));
    map.set("passes", Datum::real(effects.passes));
    map.set("choices_run", Datum::integer(effects.trials));
    map.set("quantized_sqnr_db", Datum::real(effects.quantized_sqnr_db));
    if (effects.quantized_drop) {
      map.set("drop_metric", Datum::string(drop_metric_));
      map.set("quantized_drop", Datum::real(*effects.quantized_drop));
    }
    map.set("kept_sqnr_db", Datum::real(effects.kept_sqnr_db));
    if (effects.kept_drop) map.set("kept_drop", Datum::real(*effects.kept_drop));
    map.set("holds", Datum::boolean(effects.holds));
    Datum layers = Datum::list();
    std::size_t next = 0;
    for (std::size_t place = 0; place < effects.layers.size(); ++place) {
      const LayerEffect& effect = effects.layers[place];
      const bool kept = next < effects.keep.size() && effects.keep[next] == place;
      if (kept) ++next;
      Datum entry = Datum::map();
      entry.set("name", Datum::string(effect.name));
      entry.set("pattern", Datum::string(effect.pattern));
      entry.set("op_type", Datum::string(effect.op_type));
      Datum members = Datum::list();
      for (const std::string& member : effect.members) members.push(Datum::string(member));
      entry.set("members", std::move(members));
      entry.set("measured", Datum::boolean(effect.measured));
      entry.set("sqnr_db", Datum::real(effect.sqnr_db));
      entry.set("kl", Datum::real(effect.kl));
      entry.set("agreement", Datum::real(effect.agreement));
      if (effect.own_sqnr_db) entry.set("own_sqnr_db", Datum::real(*effect.own_sqnr_db));
      entry.set("weight_bytes", Datum::integer(static_cast<std::int64_t>(effect.weight_bytes)));
      entry.set("keep", Datum::boolean(kept));
      layers.push(std::move(entry));
    }
    map.set("layers", std::move(layers));
    return map;
  }

  Flags* flags_ = nullptr;
  std::vector<OptionSpec> specs_;
  std::string model_;
  Options options_;
  std::shared_ptr<Runtime> runtime_;
  std::optional<TargetChoice> target_;
  std::unique_ptr<Model> original_;
  std::unique_ptr<DataSource> calib_, eval_;
  std::string drop_metric_;
};

}  // namespace

std::unique_ptr<Command> make_sensitivity() { return std::make_unique<Sensitivity>(); }

}  // namespace mcompress::tools
