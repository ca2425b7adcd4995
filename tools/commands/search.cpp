// search: a form for each layer's weights, so that limits of size, quality and time hold together.
#include "mcompress/search.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "gates.h"
#include "mcompress/digest.h"
#include "mcompress/host.h"
#include "mcompress/recipe.h"
#include "mcompress/version.h"
#include "patience.h"
#include "recipe_files.h"
#include "search/search_judge.h"
#include "search/search_memory.h"
#include "search/search_report.h"
#include "target_choice.h"
#include "try.h"
#include "writing.h"

namespace mcompress::tools {
namespace {

struct Options {
  std::string max_bytes;
  double max_size_ratio = 0;
  double max_drop = 100;
  double min_sqnr = 0;
  double max_latency = 0;
  std::vector<std::string> forms;
  std::vector<std::string> widths;
  bool pack = false;
  std::string strategy = "knapsack";
  std::string prefer = "no-loss";
  std::int64_t evaluations = 60;
  std::int64_t rank_samples = 16;
  std::string front;
  std::int64_t front_points = -1;
  std::string recipe;
  bool anytime = false;

  static const Schema<Options>& schema();
};

const Schema<Options>& Options::schema() {
  static const Schema<Options> kSchema =
      Schema<Options>()
          .field("max-size-ratio", &Options::max_size_ratio,
                 "bytes of the result over those of the input; 0: not asked for")
          .range(0, 1)
          .field("max-bytes", &Options::max_bytes, "bytes of the result: 300kB, 1.5MiB")
          .unit("SIZE")
          .field("max-drop", &Options::max_drop,
                 "points of the metric that may be lost on --eval, percent of a perplexity; 100: "
                 "not asked for")
          .range(0, 100)
          .unit("points")
          .field("min-sqnr", &Options::min_sqnr,
                 "of the judged output over all of --eval; 0: not asked for")
          .range(0, 200)
          .unit("dB")
          .field("max-latency", &Options::max_latency,
                 "time of a run over the original's, measured here; 0: not asked for")
          .range(0, 10)
          .field(
              "forms", &Options::forms,
              "float16, int8, static, dynamic, cluster-B, clusters-K, int4, int4-N, int8-N (or 2 "
              "bits), sparse-P, sparse-P-cluster-B; float32 always is one; not given: as limits "
              "and size suggest")
          .field("widths", &Options::widths,
                 "1, 0.75, ...: shares of channels, heads and hidden units that may stay, of which "
                 "one is chosen; which go is up to prune-channels")
          .field("pack", &Options::pack,
                 "entropy-code what is stored, in operators that are computed at load")
          .field("strategy", &Options::strategy,
                 "knapsack: exact for measured sensitivities, then improved on the data; bayes: a "
                 "model of the noise that learns from each evaluation; brute: all combinations")
          .choices({"knapsack", "bayes", "brute"})
          .field("prefer", &Options::prefer,
                 "what is better among results that hold. metric: the higher metric, then less "
                 "noise; no-loss: the same, but who beats the original counts as equal to it; "
                 "sqnr: less noise, then the higher metric")
          .choices({"metric", "no-loss", "sqnr"})
          .field("evaluations", &Options::evaluations,
                 "runs of all evaluation data; layers alone are run on some samples and count "
                 "for as much")
          .range(1, 1e6)
          .field("rank-samples", &Options::rank_samples,
                 "samples on which each form of each layer alone is run, at most")
          .range(1, 1e6)
          .field("front", &Options::front, "write all that was evaluated, and the Pareto front")
          .unit("FILE")
          .field(
              "front-points", &Options::front_points,
              "evaluations for sizes other than the one asked for; -1: with --front a seventh of "
              "all, 8 at most, else 0")
          .range(-1, 1e4)
          .field("recipe", &Options::recipe, "write the recipe found, for `mcompress run`")
          .unit("FILE")
          .field("anytime", &Options::anytime,
                 "after Ctrl-C write the best that holds so far; else nothing is written");
  return kSchema;
}

// What runs in integers only matters where time does.
std::vector<std::string> default_forms(const Options& options) {
  std::vector<std::string> forms = {"float16",   "int8",      "cluster-7", "cluster-6",
                                    "cluster-5", "cluster-4", "cluster-3", "cluster-2",
                                    "int4",      "int4-32",   "int4-128"};
  if (options.pack) {
    forms.insert(forms.end(), {"cluster-8", "sparse-50-cluster-5", "sparse-70-cluster-4"});
  }
  if (options.max_latency > 0) forms.insert(forms.end(), {"static", "dynamic"});
  return forms;
}

Result<std::vector<SearchWidth>> widths_of(const std::vector<std::string>& texts) {
  constexpr double kLeast = 0.05;
  std::vector<SearchWidth> widths;
  for (const std::string& text : texts) {
    SearchWidth width;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), width.share);
    const bool number = error == std::errc() && end == text.data() + text.size();
    if (!number || !(width.share >= kLeast && width.share <= 1)) {
      return Error(Code::kUsage, "bad-width", "'" + text + "' is no width", {{}, "--widths", {}},
                   "shares from 0.05 to 1 that stay: --widths 1,0.75,0.5");
    }
    if (width.share < 1) {
      RecipeStep prune{"prune-channels", Datum::map()};
      prune.options.set("sparsity", Datum::real(1 - width.share));
      prune.options.set("scope", Datum::string("global"));
      prune.options.set("max-cut", Datum::real(std::max(0.75, 1 - width.share)));
      width.steps.push_back(std::move(prune));
      for (const char* pass : {"infer-shapes", "dedup-initializers", "eliminate-dead"}) {
        width.steps.push_back({pass, Datum::map()});
      }
    }
    widths.push_back(std::move(width));
  }
  return widths;
}

class Search final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags& flags) override {
    declare_model(app);
    flags.add(Options::schema().specs(), "What has to hold, and how to look for it");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = Options::schema();
    MCOMPRESS_ASSIGN(options_, schema.parse(flags_->given(schema.specs()), diagnostics));
    MCOMPRESS_ASSIGN(Job wanted, job("search"));
    job_ = wanted.options;
    wanted.options.resume.clear();  // of passes, not of this
    MCOMPRESS_TRY(check_request());
    wanted.must_compress = true;
    wanted.choose_recipe = [this, &console](const Model& model,
                                            ReportScope& report) -> Result<Recipe> {
      return look(model, report, console);
    };
    MCOMPRESS_TRY(compress(std::move(wanted), console));
    return missed_ ? Status(*missed_) : ok_status();
  }

 private:
  Status check_request() {
    const bool any = options_.max_size_ratio > 0 || !options_.max_bytes.empty() ||
                     options_.max_drop < 100 || options_.min_sqnr > 0 || options_.max_latency > 0;
    if (!any) {
      return Error(Code::kUsage, "no-limit", "nothing has to hold", {},
                   "give --max-size-ratio, --max-bytes, --max-drop, --min-sqnr or --max-latency");
    }
    if (job_.eval.empty() && !has_calibration_data(job_)) {
      return Error(Code::kUsage, "no-data", "there are no data to judge by", {{}, "--eval", {}},
                   "give --eval DATA, or --calib DATA");
    }
    std::vector<std::string> taken = {model_,     job_.output, job_.report,    job_.calib,
                                      job_.table, job_.eval,   job_.characters};
    for (const auto& [path, flag] :
         {std::pair(&options_.front, "front"), std::pair(&options_.recipe, "recipe"),
          std::pair(&job_.resume, "resume")}) {
      if (path->empty()) continue;
      MCOMPRESS_TRY(check_overwrites(*path, flag, taken));
      MCOMPRESS_TRY(check_writable(*path));
      taken.push_back(*path);
    }
    MCOMPRESS_ASSIGN(
        forms_, search_forms(options_.forms.empty() ? default_forms(options_) : options_.forms));
    MCOMPRESS_ASSIGN(widths_, widths_of(options_.widths));
    if (static_cast<double>(widths_.size()) > static_cast<double>(options_.evaluations)) {
      return Error(Code::kUsage, "too-many-widths", "there are more widths than evaluations",
                   {{}, "--widths", {}}, "allow more --evaluations");
    }
    const bool integers = std::any_of(forms_.begin(), forms_.end(),
                                      [](const SearchForm& form) { return form.integers; });
    if (integers && !has_calibration_data(job_) && job_.table.empty()) {
      return Error(Code::kUsage, "no-calibration-data", "form static needs calibration data",
                   {{}, "--calib", {}}, "give --calib DATA");
    }
    MCOMPRESS_ASSIGN(const SampleCount samples, parse_sample_count(job_.samples));
    if (samples.until_stable) {
      return Error(Code::kUsage, "samples-auto", "a search calibrates many times",
                   {{}, "--samples", {}}, "give a number, or a table that calibrate made");
    }
    for (SearchForm& form : forms_) {
      for (RecipeStep& step : form.steps) {
        const PassInfo* pass = builtin_passes().find(step.pass);
        const bool takes =
            std::any_of(pass->options.begin(), pass->options.end(),
                        [](const OptionSpec& spec) { return spec.name == "samples"; });
        if (samples.count > 0 && takes) {
          step.options.set("samples", Datum::integer(samples.count));
        }
      }
    }
    MCOMPRESS_ASSIGN(target_, TargetChoice::of(job_.target));
    return open_memory(job_.resume, memory_);
  }

  Result<SearchOptions> options_of(const Model& model) {
    SearchOptions search;
    // What computes in integers needs operators of newer operator sets.
    const bool integers = std::any_of(forms_.begin(), forms_.end(), [](const SearchForm& form) {
      return form.integers || form.name == "dynamic";
    });
    MCOMPRESS_ASSIGN(Recipe base, builtin_recipe(integers ? "quantize-static" : "cluster"));
    search.before = steps_before(std::move(base), integers ? "equalize" : "cluster-weights");
    search.before.target = job_.target;
    search.before.seed = static_cast<std::uint64_t>(job_.seed);
    std::vector<std::string> after = {"dedup-initializers", "eliminate-dead"};
    if (options_.pack) after.insert(after.end(), {"pack-weights", "eliminate-dead"});
    for (const std::string& pass : after) search.after.push_back({pass, Datum::map()});
    search.forms = forms_;
    search.widths = widths_;
    MCOMPRESS_ASSIGN(search.limits.max_bytes, allowed_bytes(model));
    search.limits.max_drop = options_.max_drop;
    search.limits.min_sqnr = options_.min_sqnr;
    search.limits.max_latency = options_.max_latency;
    if (options_.strategy == "bayes") search.strategy = SearchStrategy::kBayes;
    if (options_.strategy == "brute") search.strategy = SearchStrategy::kBrute;
    if (options_.prefer == "metric") search.prefer = SearchPrefer::kMetric;
    if (options_.prefer == "sqnr") search.prefer = SearchPrefer::kSqnr;
    search.evaluations = options_.evaluations;
    search.samples = options_.rank_samples;
    search.front_points = options_.front_points >= 0 ? options_.front_points
                          : options_.front.empty()
                              ? 0
                              : std::min<std::int64_t>(8, options_.evaluations / 7);
    search.seed = static_cast<std::uint64_t>(job_.seed);
    search.pipeline.guard = job_.guard_mode();
    search.pipeline.guard_tolerance = job_.guard_tolerance;
    return search;
  }

  // Less what is noted in the result.
  Result<std::uint64_t> allowed_bytes(const Model& model) {
    MCOMPRESS_ASSIGN(const SavedModel size, model_size_on_disk(model));
    input_bytes_ = size.total();
    std::uint64_t allowed = 0;
    if (!options_.max_bytes.empty()) {
      MCOMPRESS_ASSIGN(allowed, parse_size(options_.max_bytes, {{}, "--max-bytes", {}}));
      allowed = std::max<std::uint64_t>(allowed, 1);
    }
    if (options_.max_size_ratio > 0) {
      const auto share =
          static_cast<std::uint64_t>(options_.max_size_ratio * static_cast<double>(input_bytes_));
      allowed = allowed == 0 ? share : std::min(allowed, share);
    }
    constexpr std::uint64_t kNotes = 160;
    const std::uint64_t notes = job_.provenance ? kNotes : 0;
    if (allowed > 0) allowed = allowed > notes ? allowed - notes : 1;
    return allowed;
  }

  Status open_data(const Model& model, Console& console) {
    if (has_calibration_data(job_)) {
      MCOMPRESS_ASSIGN(calib_, open_samples(job_.calib, model, job_, 0, console));
    }
    if (!job_.eval.empty()) {
      DataFlags flags = job_;  // --input and --balance are about calibration
      flags.input.clear();
      flags.balance = "none";
      MCOMPRESS_ASSIGN(eval_, open_samples(job_.eval, model, flags, 0, console));
    }
    if (!job_.table.empty()) {
      MCOMPRESS_ASSIGN(table_, CalibrationTable::load(job_.table));
    }
    return ok_status();
  }

  // Of all that numbers depend on, beside the recipe.
  Result<std::string> identity() const {
    MCOMPRESS_ASSIGN(const std::uint64_t model, file_digest(model_));
    std::string text = std::string(kVersion) + " " + digest_text(model);
    for (DataSource* data : {calib_.get(), eval_.get()}) {
      std::string digest = "-";
      if (data != nullptr) {
        MCOMPRESS_ASSIGN(digest, samples_digest(*data));
      }
      text += " " + digest;
    }
    if (!job_.table.empty()) {
      MCOMPRESS_ASSIGN(const std::uint64_t table, file_digest(job_.table));
      text += " " + digest_text(table);
    }
    text += " " + target_->stamp() + " " + job_.metric + " " + std::to_string(job_.pad_id);
    if (!job_.characters.empty()) {
      MCOMPRESS_ASSIGN(const std::uint64_t characters, file_digest(job_.characters));
      text += " " + digest_text(characters);
    }
    return text;
  }

  Result<Recipe> look(const Model& model, ReportScope& report, Console& console) {
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    MCOMPRESS_ASSIGN(SearchOptions search, options_of(model));
    MCOMPRESS_TRY(open_data(model, console));
    Judged original(*runtime, model, model_, static_cast<int>(job_.threads));
    DataSource& judged = eval_ != nullptr ? *eval_ : *calib_;
    SearchJudge::Effort effort;
    if (job_.memory_budget == 0) {
      effort.at_once = job_.threads > 1 ? 1 : static_cast<int>(job_.jobs);
      // A text recogniser answers with a megabyte a line, and is asked in every evaluation.
      effort.kept_bytes = std::uint64_t{1} << 30;
    }
    SearchJudge judge(original, judged, {job_.metric, job_.characters, {}, 5, job_.pad_id}, effort,
                      console);
    Diagnostics diagnostics;
    SearchServices services;
    services.services.runtime = runtime;
    services.services.target = &target_->target();
    services.services.calibration_data = calib_.get();
    services.services.table = table_ ? &*table_ : nullptr;
    services.services.diagnostics = &diagnostics;
    services.services.progress = &console;
    services.services.memory_budget = static_cast<std::uint64_t>(job_.memory_budget);
    services.services.threads = static_cast<int>(job_.jobs);
    services.services.reference = [&original] { return original.session(); };
    services.data = calib_ != nullptr ? calib_.get() : eval_.get();
    services.judged_samples = judged.count();
    services.judge = [this, &judge](Session& candidate) -> Result<SearchQuality> {
      MCOMPRESS_ASSIGN(const SearchQuality quality, judge.quality(candidate));
      memory_.metric = judge.metric();
      return quality;
    };
    services.latency = [&](const Model& candidate) {
      return judge.latency(*runtime, candidate, static_cast<int>(job_.threads));
    };
    MCOMPRESS_ASSIGN(const auto inlined, calls_written_out(model, search.before));
    std::vector<const Model*> states = {&model};
    if (inlined != nullptr) states.push_back(inlined.get());
    services.known_pattern = [&states](const std::string& pattern) {
      return check_patterns(states, "include", {&pattern, 1}).ok();
    };
    services.memory = &memory_;
    MCOMPRESS_ASSIGN(services.identity, identity());
    services.session_threads = static_cast<int>(job_.threads);
    std::optional<Patience> patience(std::in_place);  // what was found is shown and kept
    auto found = search_forms_of_layers(model, search, services);
    console.show(diagnostics);
    if (!found.ok()) return std::move(found).error().in_file(model_);
    return decide(search, *found, {memory_.metric, input_bytes_}, report, console);
  }

  Result<Recipe> decide(const SearchOptions& search, const SearchOutcome& outcome,
                        const SearchFacts& facts, ReportScope& report, Console& console) {
    console.say(front_table(search, outcome, facts).text());
    console.say(effort_text(search, outcome));
    if (!options_.front.empty()) {
      MCOMPRESS_TRY(
          write_file(options_.front, json_text(front_datum(search, outcome, facts, true))));
    }
    const bool holds = outcome.best && outcome.points[*outcome.best].holds;
    if (outcome.interrupted) {
      if (!options_.anytime || !holds) {
        return Error(Code::kCancelled, "cancelled", "interrupted", {},
                     options_.anytime ? "nothing that holds was found so far"
                                      : "nothing was written; --anytime writes the best so far");
      }
      Console::interrupted.store(false);  // it was an answer to how long to go on
    }
    report.set("search", front_datum(search, outcome, facts, false));
    if (!holds) {
      Error error = missed_error(search, outcome, facts).in_file(model_);
      if (!job_.write_missed || !outcome.best) return error;
      error.diagnostic.hint = "written nevertheless: --write-missed";
      missed_ = std::move(error);
    }
    const SearchPoint& best = outcome.points[*outcome.best];
    console.say(choice_table(search, outcome, best).text());
    Recipe recipe = search_recipe(search, outcome, best.choice);
    if (!options_.recipe.empty()) {
      MCOMPRESS_TRY(write_file(options_.recipe, json_text(print_recipe(recipe, builtin_passes()))));
    }
    // What was measured with the very data is checked once more on what is written.
    Datum gates = Datum::map();
    if (holds && search.limits.max_drop < 100) {
      gates.set("max-drop", Datum::real(search.limits.max_drop));
    }
    if (holds && search.limits.max_bytes > 0) {
      const std::uint64_t allowed = search.limits.max_bytes + (job_.provenance ? 160 : 0);
      gates.set("max-bytes", Datum::string(std::to_string(allowed)));
    }
    if (!gates.as_map()->empty()) recipe.gates = std::move(gates);
    return recipe;
  }

  Options options_;
  CompressOptions job_;
  std::vector<SearchForm> forms_;
  std::vector<SearchWidth> widths_;
  SearchMemory memory_;
  std::optional<TargetChoice> target_;
  std::unique_ptr<DataSource> calib_, eval_;
  std::optional<CalibrationTable> table_;
  std::uint64_t input_bytes_ = 0;
  std::optional<Error> missed_;
};

}  // namespace

std::unique_ptr<Command> make_search() { return std::make_unique<Search>(); }

}  // namespace mcompress::tools
