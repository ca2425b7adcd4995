// explain: in which form each weight of a model is, or what a recipe or plan would make of it and
// why.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "forms.h"
#include "mcompress/host.h"
#include "mcompress/recipe.h"
#include "planning.h"
#include "recipe_files.h"
#include "try.h"
#include "writing.h"

namespace mcompress::tools {
namespace {

struct Options {
  std::vector<std::string> tensor;
  std::string recipe;
  std::int64_t min_elements = 16;

  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        Schema<Options>()
            .field("tensor", &Options::tensor,
                   "only tensors whose name, node or operator matches one of these globs")
            .unit("GLOB,...")
            .field(
                "recipe", &Options::recipe,
                "what this recipe (a file or a name) or plan would do; not given: what the model "
                "holds already")
            .unit("RECIPE|PLAN")
            .field("min-elements", &Options::min_elements,
                   "of the model as it is: smaller constants are not listed")
            .range(1, 1e12)
            .unit("elements");
    return kSchema;
  }
};

// Those of CompressOptions that a run without an output has a use for.
std::vector<OptionSpec> data_specs() {
  std::vector<OptionSpec> specs;
  for (const OptionSpec& spec : CompressOptions::schema(true).specs()) {
    constexpr std::string_view kOfAnOutput[] = {
        "output", "report",  "times",           "dry-run",      "allow-larger", "write-missed",
        "verify", "bench",   "external-data",   "provenance",   "dump-passes",  "resume",
        "guard",  "threads", "guard-tolerance", "print-recipe", "strip-notes"};
    if (std::find(std::begin(kOfAnOutput), std::end(kOfAnOutput), spec.name) ==
        std::end(kOfAnOutput)) {
      specs.push_back(spec);
    }
  }
  return specs;
}

std::string shape_text(const std::vector<std::int64_t>& dims) {
  std::string text;
  for (const std::int64_t dim : dims) text += (text.empty() ? "" : "x") + std::to_string(dim);
  return text.empty() ? "-" : text;
}

// Columns of names and reasons to the left, of numbers to the right; the last one ends where it
// ends.
class WordTable {
 public:
  explicit WordTable(std::vector<bool> numbers) : numbers_(std::move(numbers)) {}
  void row(std::vector<std::string> cells) {
    for (std::string& cell : cells) {
      for (char& c : cell) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
      }
    }
    rows_.push_back(std::move(cells));
  }
  std::string text() const {
    std::vector<std::size_t> widths(numbers_.size());
    for (const auto& row : rows_) {
      for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (const auto& row : rows_) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string padding(widths[i] - row[i].size(), ' ');
        if (i > 0) text += "  ";
        if (numbers_[i]) text += padding;
        text += row[i];
        if (!numbers_[i] && i + 1 < row.size()) text += padding;
      }
      text += '\n';
    }
    return text;
  }

 private:
  std::vector<bool> numbers_;
  std::vector<std::vector<std::string>> rows_;
};

class ExplainWeights final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("MODEL", model_, "ONNX model")->required()->type_name("");
    flags.add(Options::schema().specs(), "What to explain");
    flags.add(data_specs(), "Data and work");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = Options::schema();
    MCOMPRESS_ASSIGN(options_, schema.parse(flags_->given(schema.specs()), diagnostics));
    const Datum given = flags_->given(data_specs());
    MCOMPRESS_ASSIGN(work_, CompressOptions::schema(true).parse(given, diagnostics));
    return options_.recipe.empty() ? explain_model(console) : explain_recipe(console);
  }

 private:
  struct Names {
    std::string_view tensor, node, op_type;
  };

  bool selects(const Names& names) const {
    if (options_.tensor.empty()) return true;
    return std::any_of(options_.tensor.begin(), options_.tensor.end(), [&](const auto& glob) {
      return matches_glob(glob, names.tensor) || matches_glob(glob, names.node) ||
             matches_glob(glob, names.op_type);
    });
  }

  // Every glob has to match something.
  Status check_globs(const std::vector<Names>& all) const {
    for (const std::string& glob : options_.tensor) {
      std::vector<std::string> known;
      bool matched = false;
      for (const Names& names : all) {
        for (const std::string_view name : {names.tensor, names.node, names.op_type}) {
          if (name.empty()) continue;
          matched = matched || matches_glob(glob, name);
          known.emplace_back(name);
        }
      }
      if (matched) continue;
      const std::string close = nearest_name(glob, known);
      return Error(
          Code::kUsage, "pattern-matches-nothing",
          "'" + glob + "' matches no tensor, node or operator", {{}, "--tensor", {}},
          close.empty() ? "without --tensor all are listed" : "did you mean '" + close + "'?");
    }
    return ok_status();
  }

  // ----------------------------------------------------------------------------- what is there

  Status explain_model(Console& console) {
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(model_, console));
    auto forms = weight_forms(*loaded.model, options_.min_elements);
    if (!forms.ok()) return std::move(forms).error().in_file(model_);
    std::vector<Names> names;
    for (const WeightForm& form : *forms) names.push_back({form.tensor, form.node, form.op_type});
    MCOMPRESS_TRY(check_globs(names));
    std::erase_if(*forms, [this](const WeightForm& form) {
      return !selects({form.tensor, form.node, form.op_type});
    });
    if (work_.json) return console.print(result_json(model_datum(*loaded.model, *forms)));
    std::string text;
    for (const auto& [key, value] : loaded.model->metadata()) {
      if (key.starts_with("mcompress.")) text += key + ": " + value + "\n";
    }
    WordTable table({false, false, false, true, true, false});
    table.row({"tensor", "node", "shape", "bytes", "of float32", "form"});
    std::uint64_t compressed = 0;
    for (const WeightForm& form : *forms) {
      compressed += form.compressed ? 1 : 0;
      const double share = form.float_bytes > 0 ? static_cast<double>(form.bytes) /
                                                      static_cast<double>(form.float_bytes)
                                                : 0;
      table.row({form.tensor, form.op_type + " " + form.node, shape_text(form.dims),
                 grouped(form.bytes),
                 form.float_bytes > 0 ? decimal_text(share * 100, 1) + " %" : "-", form.form});
    }
    MCOMPRESS_TRY(console.print(text + table.text()));
    console.say(grouped(compressed) + " of " + counted(forms->size(), "weight") +
                " compressed; --recipe NAME tells what a recipe would make of them");
    return ok_status();
  }

  Datum model_datum(const Model& model, const std::vector<WeightForm>& forms) const {
    Datum map = Datum::map();
    map.set("model", Datum::string(file_name(model_)));
    Datum provenance = Datum::map();
    for (const auto& [key, value] : model.metadata()) {
      if (key.starts_with("mcompress.")) provenance.set(key, Datum::string(value));
    }
    map.set("provenance", std::move(provenance));
    Datum list = Datum::list();
    for (const WeightForm& form : forms) {
      Datum entry = Datum::map();
      entry.set("tensor", Datum::string(form.tensor));
      entry.set("node", Datum::string(form.node));
      entry.set("op", Datum::string(form.op_type));
      Datum dims = Datum::list();
      for (const std::int64_t dim : form.dims) dims.push(Datum::integer(dim));
      if (!form.dims.empty()) entry.set("shape", std::move(dims));
      entry.set("form", Datum::string(form.form));
      entry.set("compressed", Datum::boolean(form.compressed));
      entry.set("bytes", Datum::integer(static_cast<std::int64_t>(form.bytes)));
      if (form.float_bytes > 0) {
        entry.set("float_bytes", Datum::integer(static_cast<std::int64_t>(form.float_bytes)));
      }
      if (form.density) entry.set("density", Datum::real(*form.density));
      list.push(std::move(entry));
    }
    map.set("weights", std::move(list));
    return map;
  }

  // -------------------------------------------------------------------- what a recipe would do

  Result<Job> job_for(Console& console) {
    Job wanted;
    wanted.command = "explain";
    wanted.input = model_;
    wanted.options = work_;
    auto datum =
        std::string_view(options_.recipe).ends_with("ml") || options_.recipe.ends_with(".json")
            ? read_datum_file(options_.recipe)
            : Result<Datum>(Datum());
    if (!datum.ok()) return std::move(datum).error();
    if (is_plan(*datum)) {
      MCOMPRESS_ASSIGN(Plan plan, read_plan(options_.recipe, console));
      if (!flags_->has("target")) wanted.options.target = plan.recipe.target;
      if (!flags_->has("seed")) {
        wanted.options.seed = static_cast<std::int64_t>(plan.recipe.seed);
      }
      carry_out(wanted, std::move(plan), options_.recipe, PlanModel::kOther, console);
      wanted.decided = {};  // what does not hold is explained, not refused
      return wanted;
    }
    MCOMPRESS_ASSIGN(NamedRecipe found, find_recipe(options_.recipe, console));
    Recipe& recipe = found.recipe;
    Datum given = place_data(recipe.data, found.file, model_);
    const Datum typed = flags_->given(data_specs());
    for (const auto& [key, value] : *typed.as_map()) given.set(key, value);
    Diagnostics diagnostics;
    MCOMPRESS_ASSIGN(wanted.options, CompressOptions::schema(true).parse(given, diagnostics));
    recipe.data = Datum();
    wanted.recipe_file = found.file;
    if (!flags_->has("target")) wanted.options.target = recipe.target;
    if (!flags_->has("seed")) wanted.options.seed = static_cast<std::int64_t>(recipe.seed);
    const bool has_data = has_calibration_data(wanted.options) || !wanted.options.table.empty();
    wanted.choose_recipe = [recipe = std::move(recipe), has_data](const Model& model,
                                                                  ReportScope&) {
      return resolve_recipe(recipe, model, has_data);
    };
    return wanted;
  }

  Status explain_recipe(Console& console) {
    MCOMPRESS_ASSIGN(Job wanted, job_for(console));
    wanted.options.dry_run = true;
    wanted.options.verify = false;
    wanted.options.json = false;
    Plan plan;
    note_decisions(wanted, plan);
    MCOMPRESS_TRY(compress(std::move(wanted), console));
    std::vector<Names> names;
    for (const PlannedDecision& line : plan.decisions) {
      names.push_back({line.tensor, line.node, line.op_type});
    }
    MCOMPRESS_TRY(check_globs(names));
    std::erase_if(plan.decisions, [this](const PlannedDecision& line) {
      return !selects({line.tensor, line.node, line.op_type});
    });
    if (work_.json) {
      Datum map = Datum::map();
      map.set("model", Datum::string(plan.model));
      map.set("recipe", Datum::string(plan.recipe.name));
      const Datum printed = print_plan(plan, builtin_passes());
      map.set("decisions", *printed.find("decisions"));
      return console.print(result_json(map));
    }
    WordTable table({false, false, true, true, true, false, false});
    table.row({"tensor", "node", "before", "after", "SQNR", "does", "form and reason"});
    for (const PlannedDecision& line : plan.decisions) {
      std::string reason = line.form;
      if (!line.why.empty()) reason += (reason.empty() ? "" : "; ") + line.why;
      table.row({line.tensor.empty() ? "-" : line.tensor, line.op_type + " " + line.node,
                 line.bytes_before > 0 ? grouped(line.bytes_before) : "-",
                 line.bytes_before > 0 ? grouped(line.bytes_after) : "-",
                 line.sqnr_db ? decimal_text(*line.sqnr_db, 1) + " dB" : "-",
                 line.keep() ? "keep" : line.pass, reason});
    }
    return console.print(table.text());
  }

  Flags* flags_ = nullptr;
  std::string model_;
  Options options_;
  CompressOptions work_;
};

}  // namespace

std::unique_ptr<Command> make_explain() { return std::make_unique<ExplainWeights>(); }

}  // namespace mcompress::tools
