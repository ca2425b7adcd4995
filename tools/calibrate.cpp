// calibrate: the statistics table, from data or from other tables.
#include <CLI/CLI.hpp>

#include "app.h"
#include "compress.h"
#include "mcompress/host.h"
#include "models.h"
#include "target_choice.h"
#include "try.h"

namespace mcompress::tools {
namespace {

struct Options {
  std::string output;
  std::string calib;
  std::string target = "onnxruntime-cpu";
  std::string feeding = "auto";
  std::int64_t samples = 0;
  std::int64_t jobs = 0;
  std::int64_t memory_budget = 0;

  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        Schema<Options>()
            .field("output", &Options::output, "the table to write; - is standard output")
            .unit("TABLE")
            .field("calib", &Options::calib,
                   "calibration data: .npz, a folder of .npy, or a folder of ONNX test sets")
            .unit("DATA")
            .field("samples", &Options::samples, "use the first N samples; 0: all")
            .range(0, 1e9)
            .field("target", &Options::target,
                   "the runtime to calibrate for, or a file of your own that describes one")
            .unit("NAME|FILE")
            .field("feeding", &Options::feeding,
                   "what axis 0 of the arrays is: the model's batch axis, or an axis of samples")
            .choices({"auto", "slice", "index"})
            .field("jobs", &Options::jobs,
                   "runs of the model at the same time, which change no result; 0: one per "
                   "processor")
            .range(0, 1024)
            .field("memory-budget", &Options::memory_budget,
                   "for activations that are being observed; 0: 256 MiB")
            .unit("bytes")
            .range(0, 9e15);
    return kSchema;
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
    if (options_.output.empty()) {
      return Error(Code::kUsage, "no-output", "the output is missing", {{}, "--output", {}},
                   "give -o TABLE");
    }
    std::vector<std::string> others = {options_.calib};
    if (!merge_) others.insert(others.end(), inputs_.begin(), inputs_.end());
    MCOMPRESS_TRY(check_overwrites(options_.output, "output", others));
    MCOMPRESS_TRY(check_writable(options_.output));
    MCOMPRESS_ASSIGN(const CalibrationTable table, merge_ ? merged() : calibrated(console));
    MCOMPRESS_ASSIGN(const std::string text, table.to_json());
    MCOMPRESS_TRY(options_.output == "-" ? console.print(text) : write_file(options_.output, text));
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
      if (spec.name == "output" || !flags_->has(spec.name)) continue;
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
    if (options_.calib.empty()) {
      return Error(Code::kUsage, "no-calibration-data", "calibration data is missing",
                   {{}, "--calib", {}}, "give --calib DATA");
    }
    MCOMPRESS_ASSIGN(const TargetChoice choice, TargetChoice::of(options_.target));
    const Target* target = &choice.target();
    const std::string& path = inputs_.front();
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    runtime->warm_up();
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(path, console));
    MCOMPRESS_ASSIGN(const auto data, open_samples(options_.calib, *loaded.model, options_.feeding,
                                                   options_.samples, console));
    // The graph that `quantize` will hold when it needs the table.
    MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe("quantize-static"));
    recipe = steps_before(std::move(recipe), "quantize-static");
    recipe.target = options_.target;
    Diagnostics diagnostics;
    Services services;
    services.runtime = runtime;
    services.target = target;
    services.diagnostics = &diagnostics;
    services.progress = &console;
    Explain explain;
    Report report;
    auto prepared = run_pipeline(*loaded.model, recipe, builtin_passes(), services,
                                 PipelineOptions{}, explain, report);
    if (!prepared.ok()) {
      console.show(diagnostics);
      return std::move(prepared).error().in_file(path);
    }
    CalibratorOptions calibrator;
    calibrator.threads = static_cast<int>(options_.jobs);
    calibrator.memory_budget = static_cast<std::uint64_t>(options_.memory_budget);
    auto table = calibrate_activations(*loaded.model, *target, *runtime, *data, calibrator,
                                       options_.samples, diagnostics, console);
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

std::unique_ptr<Command> make_calibrate() { return std::make_unique<Calibrate>(); }

}  // namespace mcompress::tools
