// drift: what new data do to the ranges of a calibration table.
#include "mcompress/drift.h"

#include <CLI/CLI.hpp>

#include "app.h"
#include "compress.h"
#include "mcompress/host.h"
#include "models.h"
#include "try.h"
#include "work_options.h"

namespace mcompress::tools {
namespace {

struct Options : DataFlags {
  std::string data;
  std::string target = "onnxruntime-cpu";
  std::int64_t samples = 0;
  std::int64_t top = 20;
  std::int64_t jobs = 0;
  std::int64_t memory_budget = 0;
  double max_psi = 0;
  bool json = false;

  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema = make_schema();
    return kSchema;
  }

 private:
  static Schema<Options> make_schema() {
    Schema<Options> schema;
    schema.field("data", &Options::data, "the new data: " + std::string(kDataKinds)).unit("DATA");
    add_sample_field(schema, &Options::samples)
        .field("max-psi", &Options::max_psi,
               "exit with 5 when the PSI of a value passes this; 0: no limit")
        .range(0, 1e6)
        .field("top", &Options::top, "how many values are listed")
        .range(0, 1e6)
        .field("target", &Options::target, "the runtime that the table was made for")
        .unit("NAME");
    add_work_fields(schema, &Options::jobs, &Options::memory_budget, kCalibrationBudget);
    schema.field("json", &Options::json, "the result as JSON");
    add_data_fields(schema);
    return schema;
  }
};

std::string range_text(const ValueRange& range) {
  return decimal_text(range.minimum, 3) + " .. " + decimal_text(range.maximum, 3);
}

std::string advice(const Drift& drift) {
  std::size_t shifted = 0, watched = 0;
  for (const ValueDrift& value : drift.values) {
    shifted += value.verdict == DriftVerdict::kRecalibrate ? 1U : 0U;
    watched += value.verdict == DriftVerdict::kWatch ? 1U : 0U;
  }
  if (drift.verdict == DriftVerdict::kRecalibrate) {
    return "recalibrate: the new data leave the ranges of " + counted(shifted, "value") + " of " +
           std::to_string(drift.values.size());
  }
  if (drift.verdict == DriftVerdict::kWatch) {
    return "watch: " + counted(watched, "value") + " of " + std::to_string(drift.values.size()) +
           " moved, none far";
  }
  return "stable: the ranges hold for the new data";
}

class DriftCommand final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("MODEL", model_, "ONNX model, float, as it was calibrated")
        ->required()
        ->type_name("");
    app.add_option("TABLE", table_, "the table that `mcompress calibrate` made of it")
        ->required()
        ->type_name("");
    flags.add(Options::schema().specs(), "Data and work");
  }

  Status run(Console& console) override {
    Diagnostics parsed;
    const auto& schema = Options::schema();
    MCOMPRESS_ASSIGN(options_, schema.parse(flags_->given(schema.specs()), parsed));
    if (options_.data.empty() && options_.input.empty()) {
      return Error(Code::kUsage, "no-data", "data are missing", {{}, "--data", {}},
                   "give --data DATA");
    }
    MCOMPRESS_ASSIGN(const CalibrationTable table, CalibrationTable::load(table_));
    MCOMPRESS_ASSIGN(const CalibrationTable seen, observe(table, console));
    auto drift = find_drift(table, seen);
    if (!drift.ok()) return std::move(drift).error().in_file(table_);
    MCOMPRESS_TRY(console.print(options_.json ? result_json(to_datum(*drift)) : text(*drift)));
    if (options_.max_psi <= 0 || drift->values.empty()) return ok_status();
    const ValueDrift& worst = drift->values.front();
    if (worst.psi <= options_.max_psi) return ok_status();
    return Error(Code::kGateMissed, "drift",
                 "the PSI is " + decimal_text(worst.psi, 3) + ", --max-psi allows " +
                     decimal_text(options_.max_psi, 3),
                 {model_, {}, worst.value}, "calibrate again with data like the new ones");
  }

 private:
  Result<CalibrationTable> observe(const CalibrationTable& table, Console& console) const {
    MCOMPRESS_ASSIGN(const std::shared_ptr<Runtime> runtime, find_runtime("onnxruntime"));
    runtime->warm_up();
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(model_, console));
    MCOMPRESS_ASSIGN(const auto data, open_samples(options_.data, *loaded.model, options_,
                                                   options_.samples, console));
    MCOMPRESS_TRY(check_data(*data, *loaded.model, console));
    Diagnostics diagnostics;
    MCOMPRESS_TRY(prepare_for_calibration(loaded, options_.target, runtime, console));
    if (fingerprint(*loaded.model) != table.model_digest) {
      return Error(Code::kInput, "table-of-another-model",
                   "the table was made from another model, or for another target than '" +
                       options_.target + "'",
                   {table_, {}, {}}, "`mcompress calibrate` makes a table of " + file_name(model_));
    }
    CalibrationRequest request;
    for (const auto& [name, stats] : table.all()) request.values.push_back(name);
    CalibratorOptions calibrator;
    calibrator.threads = static_cast<int>(options_.jobs);
    calibrator.memory_budget = static_cast<std::uint64_t>(options_.memory_budget);
    auto seen =
        calibrate(*runtime, *loaded.model, *data, request, calibrator, diagnostics, console);
    console.show(diagnostics);
    if (!seen.ok()) return std::move(seen).error().in_file(model_);
    return seen;
  }

  std::string text(const Drift& drift) const {
    std::string text =
        advice(drift) + "\n" + counted(static_cast<std::uint64_t>(drift.samples), "new sample") +
        " against " + std::to_string(drift.calibrated_samples) + " of " + file_name(table_);
    if (drift.noise > 0.1) {
      text += "; so few samples make a PSI of about " + decimal_text(drift.noise, 2) + " by chance";
    }
    text += "\n";
    Table table;
    table.row({"value", "PSI", "KS", "outside", "saturated", "calibrated", "new", ""});
    const auto shown = std::min(static_cast<std::size_t>(options_.top), drift.values.size());
    for (std::size_t i = 0; i < shown; ++i) {
      const ValueDrift& value = drift.values[i];
      table.row(
          {value.value, decimal_text(value.psi, 3), decimal_text(value.ks, 3),
           share_text(value.outside), share_text(value.saturated), range_text(value.calibrated),
           range_text(value.seen),
           value.verdict == DriftVerdict::kStable ? "" : std::string(verdict_name(value.verdict))});
    }
    if (shown > 0) text += table.text();
    if (shown < drift.values.size()) {
      text += "and " + std::to_string(drift.values.size() - shown) + " more (--top)\n";
    }
    return text;
  }

  static std::string share_text(double share) { return decimal_text(share * 100, 3) + " %"; }

  Datum to_datum(const Drift& drift) const {
    Datum map = Datum::map();
    map.set("model", Datum::string(file_name(model_)));
    map.set("table", Datum::string(file_name(table_)));
    map.set("data", Datum::string(file_name(options_.data)));
    map.set("samples", Datum::integer(drift.samples));
    map.set("calibrated_samples", Datum::integer(drift.calibrated_samples));
    map.set("verdict", Datum::string(verdict_name(drift.verdict)));
    map.set("noise_psi", Datum::real(drift.noise));
    Datum values = Datum::list();
    for (const ValueDrift& value : drift.values) {
      Datum entry = Datum::map();
      entry.set("name", Datum::string(value.value));
      entry.set("psi", Datum::real(value.psi));
      entry.set("ks", Datum::real(value.ks));
      entry.set("outside", Datum::real(value.outside));
      entry.set("saturated", Datum::real(value.saturated));
      entry.set("calibrated_saturated", Datum::real(value.calibrated_saturated));
      entry.set("calibrated_min", Datum::real(value.calibrated.minimum));
      entry.set("calibrated_max", Datum::real(value.calibrated.maximum));
      entry.set("min", Datum::real(value.seen.minimum));
      entry.set("max", Datum::real(value.seen.maximum));
      entry.set("not_finite", Datum::integer(value.not_finite));
      entry.set("verdict", Datum::string(verdict_name(value.verdict)));
      values.push(std::move(entry));
    }
    map.set("values", std::move(values));
    return map;
  }

  Flags* flags_ = nullptr;
  Options options_;
  std::string model_, table_;
};

}  // namespace

std::unique_ptr<Command> make_drift() { return std::make_unique<DriftCommand>(); }

}  // namespace mcompress::tools
