#include "compress.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <future>
#include <system_error>

#include "gates.h"
#include "mcompress/companion.h"
#include "mcompress/host.h"
#include "mcompress/memory.h"
#include "mcompress/notes.h"
#include "mcompress/precision.h"
#include "mcompress/version.h"
#include "outcome.h"
#include "recipe_files.h"
#include "summary.h"
#include "target_choice.h"
#include "try.h"

namespace mcompress::tools {
namespace {

constexpr std::int64_t kProofSamples = 16;
constexpr std::uint64_t kLarge = 256 << 20;  // bytes of a model

class Compression {
 public:
  Compression(Job job, Console& console)
      : job_(std::move(job)), options_(job_.options), console_(console) {}

  Status run() {
    MCOMPRESS_TRY(check_request());
    if (!options_.print_recipe) {
      MCOMPRESS_ASSIGN(runtime_, find_runtime("onnxruntime"));
      // Beside the loading. Without a proof it may never be needed.
      if (options_.verify || has_calibration_data(options_)) runtime_->warm_up();
    }
    MCOMPRESS_ASSIGN(loaded_, load(job_.input, console_));
    root().text("command", job_.command);
    root().text("tool_version", kVersion);  // "version" is the schema's
    root().child("input").text("file", file_name(job_.input));
    root().child("input").count("bytes", static_cast<std::int64_t>(loaded_.size.total()));
    MCOMPRESS_ASSIGN(recipe_, job_.choose_recipe(*loaded_.model, root()));
    recipe_.target = options_.target;
    recipe_.seed = static_cast<std::uint64_t>(options_.seed);
    if (samples_.count > 0 && job_.pass_flags.find("samples") == nullptr) {
      job_.pass_flags.set("samples", Datum::integer(samples_.count));
    }
    MCOMPRESS_TRY(apply_flags(recipe_, job_.pass_flags));
    if (options_.print_recipe) {
      recipe_.data = data_of(options_);
      const std::string text = json_text(print_recipe(recipe_, builtin_passes()));
      return job_.reported ? job_.reported(text) : console_.print(text);
    }
    MCOMPRESS_TRY(check_names());
    MCOMPRESS_TRY(check_resume(options_.resume, recipe_));
    MCOMPRESS_TRY(open_inputs());
    if (options_.memory_budget > 0) give_memory_back_at_once();
    original_ = loaded_.model->clone();
    before_.emplace(*runtime_, *original_, job_.input, static_cast<int>(options_.threads));
    MCOMPRESS_TRY(find_enough_samples());
    const std::uint64_t revision = model().revision();
    Status status = run_passes();
    console_.show(diagnostics_);
    if (!status.ok()) return std::move(status).error().in_file(job_.input);
    coverage_ = coverage_of(explain_);
    MCOMPRESS_TRY(check_coverage());
    bool changed = model().revision() != revision && changed_;
    if (!changed && options_.strip_notes) {
      MCOMPRESS_ASSIGN(const std::uint64_t notes, note_bytes(model()));
      changed = notes > 0;
    }
    if (!changed) return finish_unchanged();
    MCOMPRESS_TRY(stamp());
    MCOMPRESS_TRY(prove());
    Status gates = judge_gates();
    if (!gates.ok() && !(options_.write_missed && gates.error().code == Code::kGateMissed)) {
      return std::move(gates).error().in_file(job_.input);
    }
    MCOMPRESS_TRY(write());
    if (!options_.resume.empty() && !options_.dry_run) {
      std::error_code ignored;  // a rest of it is in nobody's way
      std::filesystem::remove(options_.resume, ignored);
    }
    MCOMPRESS_TRY(finish());
    if (gates.ok()) gates = check_size_gates();
    if (gates.ok()) return ok_status();
    Error missed = std::move(gates).error().in_file(job_.input);
    missed.diagnostic.hint = "written nevertheless: --write-missed";
    return missed;
  }

 private:
  Model& model() { return *loaded_.model; }
  ReportScope& root() { return report_.root(); }

  Status check_request() {
    MCOMPRESS_ASSIGN(samples_, parse_sample_count(options_.samples));
    MCOMPRESS_ASSIGN(target_, TargetChoice::of(options_.target));
    if (options_.print_recipe) return ok_status();
    if (options_.output.empty() && !options_.dry_run) {
      return Error(Code::kUsage, "no-output", "the output is missing", {{}, "--output", {}},
                   "give -o OUT, or --dry-run to write nothing");
    }
    if ((options_.output == "-") + (options_.report == "-") + int{options_.json} > 1) {
      return Error(Code::kUsage, "two-outputs",
                   "of --output, --report and --json one can go to standard output, not two");
    }
    // The model may be replaced by the result, but nothing else.
    std::vector<std::string> others = {options_.report, options_.calib,      options_.table,
                                       options_.eval,   options_.characters, job_.recipe_file};
    MCOMPRESS_TRY(check_overwrites(options_.output, "output", others));
    if (!options_.resume.empty()) {
      std::vector<std::string> taken = others;
      taken.insert(taken.end(), {job_.input, options_.output});
      MCOMPRESS_TRY(check_overwrites(options_.resume, "resume", taken));
    }
    others.front() = job_.input;
    MCOMPRESS_TRY(check_overwrites(options_.report, "report", others));
    if (!options_.dry_run) MCOMPRESS_TRY(check_writable(options_.output));
    if (!options_.report.empty()) MCOMPRESS_TRY(check_writable(options_.report));
    return ok_status();
  }

  Status check_names() {
    if (job_.names_are_checked) return ok_status();
    std::vector<const Model*> states = {&model()};
    std::unique_ptr<Model> inlined;
    for (const RecipeStep& step : recipe_.steps) {
      const Datum printed = builtin_passes().find(step.pass)->print(step.options);
      for (const std::string_view key : {"include", "exclude", "functions"}) {
        const Datum* patterns = printed.find(key);
        const Datum::List* list = patterns != nullptr ? patterns->as_list() : nullptr;
        if (list == nullptr) continue;
        std::vector<std::string> texts;
        for (const Datum& item : *list) texts.push_back(option_text(item));
        if (key == "functions") {
          MCOMPRESS_TRY(check_functions(model(), key, texts));
          continue;
        }
        if (!texts.empty() && inlined == nullptr) {
          MCOMPRESS_ASSIGN(inlined, calls_written_out(model(), recipe_));
          if (inlined != nullptr) states.push_back(inlined.get());
        }
        MCOMPRESS_TRY(check_patterns(states, key, texts));
      }
    }
    return ok_status();
  }

  Status open_inputs() {
    if (!options_.table.empty()) {
      MCOMPRESS_ASSIGN(table_, CalibrationTable::load(options_.table));
    }
    if (job_.calibration) {
      MCOMPRESS_ASSIGN(calib_, job_.calibration(model()));
    } else if (has_calibration_data(options_)) {
      // Balancing needs to know how many; otherwise the pass takes what it wants.
      const std::int64_t limit = options_.balance == "labels" ? samples_.count : 0;
      MCOMPRESS_ASSIGN(calib_, open_samples(options_.calib, model(), options_, limit, console_));
    }
    if (calib_ != nullptr) MCOMPRESS_TRY(check_data(*calib_, model(), console_));
    if (!options_.eval.empty()) {
      DataFlags flags = options_;  // --input and --balance are about calibration
      flags.input.clear();
      flags.balance = "none";
      MCOMPRESS_ASSIGN(eval_, open_samples(options_.eval, model(), flags, 0, console_));
    }
    return ok_status();
  }

  bool calibrates() const {
    return std::ranges::count(recipe_.steps, "quantize-static", &RecipeStep::pass) > 0;
  }

  // --samples auto: ranges from a copy of the model, as the pass would find them.
  Status find_enough_samples() {
    if (!samples_.until_stable) return ok_status();
    if (calib_ == nullptr || table_ || !calibrates()) {
      return Error(Code::kUsage, "samples-auto",
                   table_              ? "a table has its samples already"
                   : calib_ != nullptr ? "recipe '" + recipe_.name + "' calibrates nothing"
                                       : "there are no calibration data",
                   {{}, "--samples", {}}, "give --calib DATA without --table");
    }
    const std::unique_ptr<Model> prepared = model().clone();
    Services services;
    services.runtime = runtime_;
    services.diagnostics = &diagnostics_;
    services.progress = &console_;
    services.threads = static_cast<int>(options_.jobs);
    Explain explain;
    Report report;
    MCOMPRESS_TRY(run_pipeline(*prepared, steps_before(recipe_, "quantize-static"),
                               builtin_passes(), services, PipelineOptions{}, explain, report));
    CalibratorOptions calibrator;
    calibrator.threads = static_cast<int>(options_.jobs);
    calibrator.memory_budget = static_cast<std::uint64_t>(options_.memory_budget);
    auto found = calibrate_enough(*prepared, target_->target(), *runtime_, *calib_, calibrator,
                                  diagnostics_, console_);
    if (!found.ok()) return std::move(found).error().in_file(job_.input);
    root().set("convergence", to_datum(*found));
    table_ = std::move(found->table);
    return ok_status();
  }

  Status run_passes() {
    Services& services = services_;
    services.runtime = runtime_;
    services.target = &target_->target();
    services.calibration_data = calib_.get();
    services.table = table_ ? &*table_ : nullptr;
    services.diagnostics = &diagnostics_;
    services.progress = &console_;
    services.memory_budget = static_cast<std::uint64_t>(options_.memory_budget);
    services.threads = static_cast<int>(options_.jobs);
    // Under a budget the one that passes compare with counts its memory and keeps none in store.
    std::unique_ptr<Session> counted;
    services.reference = [this, &counted]() -> Result<Session*> {
      if (options_.memory_budget == 0) return before_->session();
      if (counted == nullptr) {
        SessionOptions counting;
        counting.threads = static_cast<int>(options_.threads);
        counting.count_memory = true;
        MCOMPRESS_ASSIGN(counted, runtime_->open(*original_, counting));
      }
      return counted.get();
    };
    gates_ = gates_of(recipe_);
    if (calib_ != nullptr) {
      offer_judges();
      services.calibration_data = &*judged_;
    }
    Status done = run_pipeline(model(), recipe_, builtin_passes(), services,
                               options_.pipeline_options(), explain_, report_);
    services.reference = [this] { return before_->session(); };
    MCOMPRESS_TRY(std::move(done));
    changed_ = passes_that_changed(report_.root().facts()) > 0;
    return tell(job_.decided);
  }

  Status tell(const Onlooker& onlooker) {
    return onlooker ? onlooker({explain_, recipe_, *original_, services_, loaded_.size.total(),
                                saved_.total(), comparison_ ? &*comparison_ : nullptr})
                    : ok_status();
  }

  // For passes that choose between float32 and integers.
  void offer_judges() {
    judged_.emplace(*calib_, precision_);
    drop_meter_.emplace(*before_, eval_ != nullptr ? *eval_ : *calib_,
                        EvalSettings{options_.metric, options_.characters, {}, 5, options_.pad_id},
                        console_);
    precision_.drop = [this](Session& candidate) -> Result<double> {
      MCOMPRESS_ASSIGN(const double drop, drop_meter_->drop(candidate));
      precision_.drop_metric = drop_meter_->metric();
      return drop;
    };
    precision_.whole = &whole_;
    precision_.journal = options_.resume;
    precision_.finish = [this](Model& trial, const std::vector<std::string>& whole) {
      return run_rest(trial, recipe_, choosing_pass(recipe_), whole, target_->target(), runtime_);
    };
  }

  // Of what will be written.
  Status judge_gates() {
    if (!gates_.any() || !options_.verify) return ok_status();
    DropMeter* meter = drop_meter_ ? &*drop_meter_ : nullptr;
    MCOMPRESS_ASSIGN(const GateFigures figures,
                     gate_figures(gates_, comparison_ ? &*comparison_ : nullptr,
                                  quality_ ? &*quality_ : nullptr, meter, *after_));
    Status status = check_gates(gates_, figures);
    add_gates(gates_, figures, status.ok(), root().child("gates"));
    return status;
  }

  Status check_coverage() {
    if (!job_.must_compress || coverage_.weights > 0) return ok_status();
    const std::string reasons = reasons_text(coverage_.skipped, coverage_.skipped.size()) +
                                reasons_text(kept_in_float(explain_), 10);
    if (!reasons.empty()) console_.say("nothing could be compressed:\n" + reasons);
    return Error(Code::kUnsupported, "nothing-compressed", nothing_compressed(coverage_, recipe_),
                 {job_.input, {}, {}},
                 "nothing was written; `mcompress inspect` shows what the model holds");
  }

  Status stamp() {
    if (!options_.provenance) return ok_status();
    note("mcompress.version", kVersion);
    note("mcompress.recipe", digest_text(recipe_digest(recipe_, builtin_passes())));
    // The recipe names the target; a file of the user's own may change behind its name.
    if (target_->is_own()) note("mcompress.target", target_->stamp());
    if (!calibrates()) return ok_status();
    std::string digests;
    if (table_) {
      for (const std::uint64_t digest : table_->data_digests) {
        digests += (digests.empty() ? "" : ",") + digest_text(digest);
      }
    } else if (calib_ != nullptr) {
      MCOMPRESS_ASSIGN(digests, samples_digest(*calib_));
    }
    if (!digests.empty()) note("mcompress.calibration", digests);
    return ok_status();
  }

  void note(std::string_view key, std::string_view value) {
    Editor(model(), &onnx_catalog()).set_metadata(key, value);
    // Two strings in an entry, a tag and a length each: a few bytes more than their texts. What was
    // asked for does not count when the result is compared with the input.
    constexpr std::uint64_t kAround = 6;
    stamp_bytes_ += key.size() + value.size() + kAround;
  }

  // The checker, the runtime, and the original beside the result on what data there is.
  Status prove() {
    if (!options_.verify) {
      if (job_.command != "explain") console_.say("not verified: --no-verify");
      return ok_status();
    }
    if (Status sound = check_model(model()); !sound.ok()) {
      if (check_model(*original_).ok()) return sound_or_ours(std::move(sound));
      // Runtimes take what the checker refuses: outputs without a shape, for one.
      Diagnostics found;
      found.warn("checker-refuses-original",
                 "of the original, too, " + sound.error().diagnostic.message,
                 {job_.input, sound.error().diagnostic.where.path,
                  sound.error().diagnostic.where.subject});
      console_.show(found);
    }
    const int threads = static_cast<int>(options_.threads);
    auto counting = std::async(opens_two() ? std::launch::async : std::launch::deferred, [this] {
      return count_integer_kernels(*runtime_, model(), target_->target());
    });
    const bool will_run =
        calib_ != nullptr || eval_ != nullptr || options_.bench || job_.translates;
    after_.emplace(*runtime_, model(), options_.output.empty() ? "result" : options_.output,
                   threads, will_run ? Judged::Use::kRun : Judged::Use::kOpen);
    auto opened = after_->session();
    if (!opened.ok()) {
      Error error = std::move(opened).error();
      if (!before_->session().ok()) {
        return no_fault_of_ours(std::move(error), Code::kUnsupported);
      }
      if (job_.translates) return not_known_to_runtime(std::move(error));
      return sound_or_ours(std::move(error));
    }
    if (job_.translates) MCOMPRESS_TRY(prove_equal(**opened));
    DataSource* data = calib_ != nullptr ? calib_.get() : eval_.get();
    if (data != nullptr && data->count() > 0) {
      MCOMPRESS_ASSIGN(Session * reference, before_->session());
      CompareOptions compare;
      compare.limit = std::max(kProofSamples, data->fixed_batch());
      compare.threads = options_.memory_budget > 0 ? 1 : static_cast<int>(options_.jobs);
      MCOMPRESS_ASSIGN(comparison_,
                       compare_outputs(*reference, **opened, *data, compare, console_));
      console_.show(warnings_about(*comparison_));
    }
    MCOMPRESS_TRY(count_kernels(counting));
    if (comparison_) root().set("comparison", to_datum(*comparison_));
    if (eval_ != nullptr) {
      MCOMPRESS_ASSIGN(
          quality_,
          judge_quality(&*before_, *after_, *eval_,
                        {options_.metric, options_.characters, {}, 5, options_.pad_id}, console_));
      ReportScope& scope = root().child("evaluation");
      if (quality_->reference) scope.set("before", to_datum(*quality_->reference, false));
      scope.set("after", to_datum(quality_->candidate, false));
    }
    if (eval_ != nullptr || options_.bench) {
      BenchOptions bench;
      bench.loads = 1;
      bench.warm_up = BenchOptions::kUntilStable;
      bench.seconds = 0.25;
      bench.min_rounds = 10;
      MCOMPRESS_ASSIGN(const auto feeds, bench_feeds(data, after_->model(), recipe_.seed));
      MCOMPRESS_ASSIGN(latency_, judge_latency(&*before_, *after_, feeds, bench, console_));
    }
    return ok_status();
  }

  // Whether the result may be in two sessions at once.
  bool opens_two() const {
    const bool counts = target_->target().runtime == "onnxruntime";
    return counts && options_.memory_budget == 0 && loaded_.size.total() < kLarge;
  }

  // Which of the nodes that were meant for integers the runtime executes so.
  Status count_kernels(std::future<Result<IntegerKernels>>& counting) {
    if (target_->target().runtime != "onnxruntime") return ok_status();
    auto counted_kernels = counting.get();
    if (!counted_kernels.ok()) {
      if (counted_kernels.error().code != Code::kUnsupported) {
        return std::move(counted_kernels).error();
      }
      console_.say("integer kernels not counted: " + counted_kernels.error().diagnostic.message);
      return ok_status();
    }
    if (counted_kernels->planned == 0) return ok_status();
    kernels_ = std::move(*counted_kernels);
    add_kernels(*kernels_, root().child("executed"));
    return ok_status();
  }

  Status prove_equal(Session& result) {
    auto reference = before_->session();
    if (!reference.ok()) {
      console_.say("not compared: the runtime does not open the original");
      return ok_status();
    }
    MadeUpData data(*original_, recipe_.seed);
    const auto compare = [&](Session& other) {
      return compare_outputs(**reference, other, data, {}, console_);
    };
    // Not every input can be made up, and what is drawn at random is never equal.
    auto itself = compare(**reference);
    if (!itself.ok() || !difference_in(*itself).empty()) {
      console_.say("not compared: " + (itself.ok() ? "the original differs from run to run"
                                                   : itself.error().diagnostic.message));
      return ok_status();
    }
    auto found = compare(result);
    if (!found.ok()) return not_known_to_runtime(std::move(found).error());
    if (const std::string difference = difference_in(*found); !difference.empty()) {
      return sound_or_ours(Error(Code::kInternal, "result-differs",
                                 "on made-up inputs output " + difference,
                                 {options_.output, {}, {}}));
    }
    comparison_ = std::move(*found);
    return ok_status();
  }

  // What is wrong with the original already is no fault of the result.
  Error no_fault_of_ours(Error error, Code code) const {
    error.code = code;
    error.diagnostic.where.file = job_.input;
    error.diagnostic.hint =
        "so it is with the original; --no-verify writes the result without having checked or run "
        "it";
    return error;
  }

  Status write() {
    if (options_.dry_run) {
      auto bytes = save_model_bytes(model(), options_.strip_notes);
      if (bytes.ok()) saved_.model_bytes = bytes->size();
      return options_.write_missed ? ok_status() : check_size_gates();
    }
    if (options_.output == "-") {
      MCOMPRESS_ASSIGN(const std::string bytes, save_model_bytes(model(), options_.strip_notes));
      if (bytes.size() > loaded_.size.total() + stamp_bytes_ && !allow_larger()) {
        return larger_than_input(bytes.size(), loaded_.size.total());
      }
      saved_.model_bytes = bytes.size();
      if (!options_.write_missed) MCOMPRESS_TRY(check_size_gates());
      return console_.print(bytes);
    }
    SaveOptions save = options_.save_options();
    save.allow_larger = allow_larger();
    save.original_bytes = loaded_.size.total();
    save.added_bytes = stamp_bytes_;
    MCOMPRESS_ASSIGN(saved_, save_model(model(), options_.output, save, companion(), console_));
    return ok_status();
  }

  // The report, where it goes to a file beside the model. Nothing appears where the model is too
  // large for the gates.
  Companion companion() {
    const bool reports = !options_.report.empty() && options_.report != "-";
    if (!reports && !gates_.any_size()) return {{}, {}, job_.outputs};
    return {reports ? options_.report : std::string(),
            [this, reports](const SavedModel& saved) -> Result<std::string> {
              saved_ = saved;
              if (!options_.write_missed) MCOMPRESS_TRY(check_size_gates());
              return reports ? report_text() : std::string();
            },
            job_.outputs};
  }

  Status check_size_gates() const {
    return tools::check_size_gates(gates_, saved_.total(), loaded_.size.total());
  }

  bool allow_larger() const { return options_.allow_larger || job_.translates; }

  Status finish_unchanged() {
    root().flag("unchanged", true);
    if (options_.dry_run) {
      saved_ = loaded_.size;
    } else if (options_.output == "-") {
      MCOMPRESS_ASSIGN(const std::string bytes, save_model_bytes(*original_));
      saved_.model_bytes = bytes.size();
      MCOMPRESS_TRY(console_.print(bytes));
    } else {
      MCOMPRESS_ASSIGN(saved_, copy_model(*original_, options_.output, companion(), console_));
    }
    console_.say(options_.dry_run ? "nothing to change"
                                  : "nothing to change: the output is a copy of the input");
    return finish();
  }

  Status finish() {
    MCOMPRESS_TRY(tell(job_.finished));
    if (job_.made) MCOMPRESS_TRY(job_.made(model()));
    const bool with_model = report_text_.has_value();
    if (!with_model && !options_.report.empty() && options_.report != "-") {
      MCOMPRESS_TRY(write_file(options_.report, report_text()));
    }
    if (options_.json || options_.report == "-") MCOMPRESS_TRY(console_.print(report_text()));
    if (job_.reported) MCOMPRESS_TRY(job_.reported(report_text()));
    if (!console_.options().quiet) show_summary();
    return ok_status();
  }

  // Filled once: lists in it grow.
  const std::string& report_text() {
    if (!report_text_) {
      fill_report();
      const auto times = options_.times ? Report::Times::kInclude : Report::Times::kOmit;
      report_text_ = json_text(report_.to_datum(times));
    }
    return *report_text_;
  }

  void fill_report() {
    if (!options_.output.empty()) {
      root().child("output").text("file", file_name(options_.output));
    }
    root().child("output").count("bytes", static_cast<std::int64_t>(saved_.total()));
    root().flag("dry_run", options_.dry_run);
    root().set("recipe", print_recipe(recipe_, builtin_passes()));
    add_coverage(coverage_, root().child("coverage"));
    add_decisions(explain_, root());
    add_latency(latency_, root());
    report_.add_diagnostics(diagnostics_);
  }

  void show_summary() {
    Summary summary{explain_, coverage_, report_.root(), loaded_.size.total(), saved_.total()};
    summary.planned = options_.dry_run;
    summary.verbose = console_.options().verbose;
    summary.kernels = kernels_ ? &*kernels_ : nullptr;
    summary.quality = quality_ ? &*quality_ : nullptr;
    summary.comparison = comparison_ ? &*comparison_ : nullptr;
    summary.latency = latency_;
    if (!options_.strip_notes) {
      summary.note_bytes = saved_.note_bytes ? *saved_.note_bytes : note_bytes_of_model();
    }
    for (const std::string& text : summary_texts(summary)) console_.say(text);
  }

  // Of a result that was not saved from here.
  std::uint64_t note_bytes_of_model() {
    const auto found = note_bytes(model());
    return found.ok() ? *found : 0;
  }

  Job job_;
  const CompressOptions& options_;
  Console& console_;
  LoadedModel loaded_;
  std::unique_ptr<Model> original_;
  Recipe recipe_;
  std::shared_ptr<Runtime> runtime_;
  std::optional<TargetChoice> target_;
  std::unique_ptr<DataSource> calib_, eval_;
  SampleCount samples_;
  std::optional<CalibrationTable> table_;
  Diagnostics diagnostics_;
  Services services_;
  Explain explain_;
  Report report_;
  Coverage coverage_;
  bool changed_ = false;
  std::optional<Judged> before_, after_;
  Gates gates_;
  std::optional<DropMeter> drop_meter_;
  PrecisionServices precision_;
  std::vector<std::string> whole_;  // layers that stay float32 with their weights
  std::optional<JudgedData> judged_;
  std::optional<Comparison> comparison_;
  std::optional<IntegerKernels> kernels_;
  std::optional<Quality> quality_;
  std::vector<BenchTimes> latency_;
  SavedModel saved_;
  std::uint64_t stamp_bytes_ = 0;
  std::optional<std::string> report_text_;
};

}  // namespace

Status compress(Job job, Console& console) { return Compression(std::move(job), console).run(); }

}  // namespace mcompress::tools
