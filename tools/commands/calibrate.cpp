// calibrate: the statistics table, from data or from other tables.
#include <CLI/CLI.hpp>

#include "app.h"
#include "compress.h"
#include "mcompress/host.h"
#include "mcompress/memory.h"
#include "models.h"
#include "target_choice.h"
#include "try.h"
#include "work_options.h"

namespace mcompress::tools {
namespace {

struct Options : DataFlags {
  std::string output;
  std::string calib;
  std::string target = "onnxruntime-cpu";
  std::string samples = "0";
  std::int64_t jobs = 0;
  std::int64_t memory_budget = 0;
  bool dry_run = false;

  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema = make_schema();
    return kSchema;
  }

 private:
  static Schema<Options> make_schema() {
    Schema<Options> schema =
        Schema<Options>()
            .field("output", &Options::output, "the table to write; - is standard output")
            .unit("TABLE")
            .field("calib", &Options::calib, "calibration data: " + std::string(kDataKinds))
            .unit("DATA")
            .field("samples", &Options::samples,
                   "use the first N samples; 0: as many as the ranges need, spread evenly; auto: "
                   "twice as many each time until the ranges hardly move, which is printed")
            .unit("N|auto")
            .field("dry-run", &Options::dry_run, "observe everything, write no table")
            .field("target", &Options::target,
                   "the runtime to calibrate for, or a file of your own that describes one")
            .unit("NAME|FILE");
    add_work_fields(schema, &Options::jobs, &Options::memory_budget, kCalibrationBudget);
    add_data_fields(schema);
    return schema;
  }
};

class Calibrate final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("MODEL", inputs_, "ONNX model; with --merge, two or more tables")
        ->required()
        ->type_name("");
    app.add_flag("--merge", merge_, "merge tables of the same model and different data")
        ->group("Data and work");
    flags.add(Options::schema().specs(), "Data and work");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = Options::schema();
    MCOMPRESS_ASSIGN(options_, schema.parse(flags_->given(schema.specs()), diagnostics));
    if (options_.output.empty() && !options_.dry_run) {
      return Error(Code::kUsage, "no-output", "the output is missing", {{}, "--output", {}},
                   "give -o TABLE");
    }
    std::vector<std::string> others = {options_.calib};
    if (!merge_) others.insert(others.end(), inputs_.begin(), inputs_.end());
    MCOMPRESS_TRY(check_overwrites(options_.output, "output", others));
    if (!options_.output.empty()) MCOMPRESS_TRY(check_writable(options_.output));
    MCOMPRESS_ASSIGN(const CalibrationTable table, merge_ ? merged() : calibrated(console));
    MCOMPRESS_ASSIGN(const std::string text, table.to_json());
    if (!options_.dry_run) {
      MCOMPRESS_TRY(options_.output == "-" ? console.print(text)
                                           : write_file(options_.output, text));
    }
    console.say("observed " + counted(table.all().size(), "value") + " on " +
                counted(static_cast<std::uint64_t>(table.samples), "sample"));
    return ok_status();
  }

 private:
  Result<CalibrationTable> merged() const {
    if (inputs_.size() < 2) {
      return Error(Code::kUsage, "merge-needs-two", "merging takes two or more tables",
                   {{}, "--merge", {}});
    }
    for (const OptionSpec& spec : Options::schema().specs()) {
      if (spec.name == "output" || spec.name == "dry-run" || !flags_->has(spec.name)) continue;
      return Error(Code::kUsage, "flag-with-merge",
                   "says nothing about merging, which only adds up what the tables hold",
                   {{}, "--" + spec.name, {}}, "leave it out, or leave out --merge");
    }
    MCOMPRESS_ASSIGN(CalibrationTable table, CalibrationTable::load(inputs_.front()));
    for (std::size_t i = 1; i < inputs_.size(); ++i) {
      MCOMPRESS_ASSIGN(const CalibrationTable other, CalibrationTable::load(inputs_[i]));
      auto status = table.merge(other);
      if (!status.ok()) return std::move(status).error().in_file(inputs_[i]);
    }
    return table;
  }

  Result<CalibrationTable> calibrated(Console& console) const {
    if (inputs_.size() != 1) {
      return Error(Code::kUsage, "unexpected-argument", "unexpected argument '" + inputs_[1] + "'",
                   {}, "one model at a time; --merge takes several tables");
    }
    if (options_.calib.empty() && options_.input.empty()) {
      return Error(Code::kUsage, "no-calibration-data", "calibration data is missing",
                   {{}, "--calib", {}}, "give --calib DATA");
    }
    MCOMPRESS_ASSIGN(const TargetChoice choice, TargetChoice::of(options_.target));
    const Target* target = &choice.target();
    MCOMPRESS_ASSIGN(const SampleCount samples, parse_sample_count(options_.samples));
    const std::string& path = inputs_.front();
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    runtime->warm_up();
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(path, console));
    MCOMPRESS_ASSIGN(const auto data,
                     open_samples(options_.calib, *loaded.model, options_, samples.count, console));
    MCOMPRESS_TRY(check_data(*data, *loaded.model, console));
    MCOMPRESS_TRY(prepare_for_calibration(loaded, options_.target, runtime, console));
    Diagnostics diagnostics;
    CalibratorOptions calibrator;
    calibrator.threads = static_cast<int>(options_.jobs);
    if (options_.memory_budget > 0) give_memory_back_at_once();
    calibrator.memory_budget = static_cast<std::uint64_t>(options_.memory_budget);
    if (samples.until_stable) {
      auto calibration = calibrate_enough(*loaded.model, *target, *runtime, *data, calibrator,
                                          diagnostics, console);
      console.show(diagnostics);
      if (!calibration.ok()) return std::move(calibration).error().in_file(path);
      return std::move(calibration).value().table;
    }
    auto table = calibrate_activations(*loaded.model, *target, *runtime, *data, calibrator,
                                       samples.count, diagnostics, console);
    console.show(diagnostics);
    if (!table.ok()) return std::move(table).error().in_file(path);
    return table;
  }

  Flags* flags_ = nullptr;
  Options options_;
  std::vector<std::string> inputs_;
  bool merge_ = false;
};

}  // namespace

Status prepare_for_calibration(const LoadedModel& loaded, const std::string& target_name,
                               const std::shared_ptr<Runtime>& runtime, Console& console) {
  MCOMPRESS_ASSIGN(const TargetChoice choice, TargetChoice::of(target_name));
  MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe("quantize-static"));
  recipe = steps_before(std::move(recipe), "quantize-static");
  recipe.target = target_name;
  Diagnostics diagnostics;
  Services services;
  services.runtime = runtime;
  services.target = &choice.target();
  services.diagnostics = &diagnostics;
  services.progress = &console;
  Explain explain;
  Report report;
  auto prepared = run_pipeline(*loaded.model, recipe, builtin_passes(), services, PipelineOptions{},
                               explain, report);
  console.show(diagnostics);
  if (!prepared.ok()) return std::move(prepared).error().in_file(loaded.path);
  return ok_status();
}

Result<StableCalibration> calibrate_enough(Model& prepared, const Target& target, Runtime& runtime,
                                           DataSource& data, const CalibratorOptions& options,
                                           Diagnostics& diagnostics, Console& console) {
  const auto observe = [&](DataSource& part) {
    return calibrate_activations(prepared, target, runtime, part, options, part.count(),
                                 diagnostics, console);
  };
  MCOMPRESS_ASSIGN(StableCalibration found, calibrate_until_stable(data, observe, StableOptions{}));
  console.say(convergence_text(found));
  return found;
}

std::unique_ptr<Command> make_calibrate() { return std::make_unique<Calibrate>(); }

}  // namespace mcompress::tools
