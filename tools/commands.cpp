// optimize, convert-opset, quantize and run: a recipe each, one path.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "app.h"
#include "compress.h"
#include "gates.h"
#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

// Common to the commands that write a model.
class Writing : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    declare_arguments(app, flags);
    flags.add(CompressOptions::schema(takes_data()).specs(), "Output, data and work");
  }

 protected:
  virtual void declare_arguments(CLI::App& app, Flags& flags) = 0;
  virtual bool takes_data() const { return true; }

  void declare_model(CLI::App& app) {
    app.add_option("MODEL", model_, "ONNX model")->required()->type_name("");
  }

  Result<Job> job(std::string_view command) const {
    Job job;
    job.command = command;
    job.input = model_;
    Diagnostics diagnostics;
    const auto& schema = CompressOptions::schema(takes_data());
    MCOMPRESS_ASSIGN(job.options, schema.parse(flags_->given(schema.specs()), diagnostics));
    return job;
  }

  Flags* flags_ = nullptr;
  std::string model_;
};

// ------------------------------------------------------------------------------------- optimize

struct SelectionOptions {
  std::vector<std::string> only, skip;

  static const Schema<SelectionOptions>& schema() {
    static const Schema<SelectionOptions> kSchema =
        Schema<SelectionOptions>()
            .field("only", &SelectionOptions::only, "run these passes of the recipe only")
            .unit("PASS,...")
            .field("skip", &SelectionOptions::skip, "leave these passes of the recipe out")
            .unit("PASS,...");
    return kSchema;
  }
};

Status check_passes(const std::vector<std::string>& names, std::string_view flag,
                    const Recipe& recipe) {
  std::vector<std::string> known;
  for (const RecipeStep& step : recipe.steps) known.push_back(step.pass);
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string close = nearest_name(name, known);
    return Error(Code::kUsage, "pass-not-in-recipe",
                 "'" + name + "' is no pass of recipe '" + recipe.name + "'",
                 {{}, "--" + std::string(flag), {}},
                 close.empty() ? "--print-recipe lists them" : "did you mean '" + close + "'?");
  }
  return ok_status();
}

class Optimize final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags& flags) override {
    declare_model(app);
    flags.add(SelectionOptions::schema().specs(), "Passes");
    auto recipe = builtin_recipe("optimize");
    if (!recipe.ok()) return;
    specs_ = pass_options({&recipe.value(), 1});
    flags.add(specs_, "Options of passes");
  }

  bool takes_data() const override { return false; }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job("optimize"));
    MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe("optimize"));
    const auto& schema = SelectionOptions::schema();
    Diagnostics diagnostics;
    MCOMPRESS_ASSIGN(const SelectionOptions selection,
                     schema.parse(flags_->given(schema.specs()), diagnostics));
    MCOMPRESS_TRY(check_passes(selection.only, "only", recipe));
    MCOMPRESS_TRY(check_passes(selection.skip, "skip", recipe));
    const auto named = [](const std::vector<std::string>& names, const std::string& name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    std::erase_if(recipe.steps, [&](const RecipeStep& step) {
      return named(selection.skip, step.pass) ||
             (!selection.only.empty() && !named(selection.only, step.pass));
    });
    if (recipe.steps.empty()) {
      return Error(Code::kUsage, "no-passes-left", "no pass is left to run", {{}, "--skip", {}});
    }
    wanted.pass_flags = flags_->given(specs_);
    MCOMPRESS_TRY(apply_flags(recipe, wanted.pass_flags));
    wanted.choose_recipe = [&recipe](const Model&, ReportScope&) -> Result<Recipe> {
      return recipe;
    };
    return compress(std::move(wanted), console);
  }

 private:
  std::vector<OptionSpec> specs_;
};

// -------------------------------------------------------------------------------- convert-opset

class ConvertOpset final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags& flags) override {
    declare_model(app);
    auto recipe = builtin_recipe("convert-opset");
    if (!recipe.ok()) return;
    specs_ = pass_options({&recipe.value(), 1});
    flags.add(specs_, "Where to");
  }

  bool takes_data() const override { return false; }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job("convert-opset"));
    MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe("convert-opset"));
    wanted.pass_flags = flags_->given(specs_);
    wanted.translates = true;
    MCOMPRESS_TRY(apply_flags(recipe, wanted.pass_flags));
    wanted.choose_recipe = [&recipe](const Model&, ReportScope&) -> Result<Recipe> {
      return recipe;
    };
    return compress(std::move(wanted), console);
  }

 private:
  std::vector<OptionSpec> specs_;
};

// ------------------------------------------------------------------------------------- quantize

struct ModeOptions {
  std::string mode = "auto";

  static const Schema<ModeOptions>& schema() {
    static const Schema<ModeOptions> kSchema =
        Schema<ModeOptions>()
            .field("mode", &ModeOptions::mode,
                   "static: integer kernels, ranges from data; dynamic: integer matrix products, "
                   "ranges found on every run; weight-only: small file, float kernels; float16, "
                   "bfloat16: arithmetic in them where the target gains by it, else weights alone; "
                   "auto: static with data, else dynamic where it pays")
            .choices({"auto", "static", "dynamic", "weight-only", "float16", "bfloat16"});
    return kSchema;
  }
};

bool is_constant_weight(const Value* value, std::size_t rank, std::int64_t min_elements) {
  if (value == nullptr) return false;
  const Tensor* tensor = value->initializer();
  if (tensor == nullptr && value->producer() != nullptr && value->producer()->is("Constant")) {
    const AttributeValue* held = value->producer()->attribute("value");
    tensor = held != nullptr ? std::get_if<Tensor>(held) : nullptr;
  }
  return tensor != nullptr && tensor->dims().size() == rank &&
         tensor->dtype() == DataType::kFloat && tensor->elements() >= min_elements;
}

// LSTMs with constant weights that are large enough for dynamic quantization, in nested graphs too.
std::uint64_t large_lstms(const Graph& graph) {
  constexpr std::int64_t kMinElements = 16384;  // of one of the two weights
  std::uint64_t count = 0;
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    if (node->is("LSTM") && is_constant_weight(node->input(2), 3, kMinElements)) ++count;
    for (const Graph* body : node->bodies()) count += large_lstms(*body);
  }
  return count;
}

// Matrix products of the top graph, and of functions, whose weights are large enough for dynamic
// quantization, and LSTMs.
std::uint64_t dynamic_products(const Model& model) {
  constexpr std::int64_t kMinElements = 8192;
  std::uint64_t count = large_lstms(model.graph());
  const auto look = [&count](const Graph& graph) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (!node->is("MatMul") && !node->is("Gemm")) continue;
      if (is_constant_weight(node->input(1), 2, kMinElements)) ++count;
    }
  };
  look(model.graph());
  for (const Function& function : model.functions()) look(*function.body);
  return count;
}

class Quantize final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags& flags) override {
    declare_model(app);
    flags.add(ModeOptions::schema().specs(), "What to quantize, and how");
    std::vector<Recipe> recipes;
    for (const char* name : {"quantize-static", "quantize-dynamic", "quantize-weight-only",
                             "quantize-blocks", "quantize-float16"}) {
      auto recipe = builtin_recipe(name);
      if (recipe.ok()) recipes.push_back(std::move(recipe).value());
    }
    specs_ = pass_options(recipes);
    // What belongs to quantization first, the rest apart.
    std::vector<OptionSpec> own, cleaning;
    for (const OptionSpec& spec : specs_) {
      (of_quantization(spec.name) ? own : cleaning).push_back(spec);
    }
    flags.add(own, "What to quantize, and how");
    flags.add(cleaning, "Options of cleaning passes");
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job("quantize"));
    const auto& schema = ModeOptions::schema();
    Diagnostics diagnostics;
    MCOMPRESS_ASSIGN(const ModeOptions given,
                     schema.parse(flags_->given(schema.specs()), diagnostics));
    const bool has_table = !wanted.options.table.empty();
    const bool has_ranges = has_table || has_calibration_data(wanted.options);
    if (given.mode == "static" && !has_ranges) {
      return Error(Code::kUsage, "no-calibration-data",
                   "static quantization needs calibration data", {{}, "--mode", {}},
                   "give --calib DATA or --table TABLE, or use --mode dynamic");
    }
    wanted.pass_flags = flags_->given(specs_);
    MCOMPRESS_TRY(read_pattern_files(wanted.pass_flags));
    // No number that a pass could take: the samples are found before it runs.
    if (wanted.options.samples == "auto") {
      std::erase_if(std::get<Datum::Map>(wanted.pass_flags.value()),
                    [](const auto& entry) { return entry.first == "samples"; });
    }
    wanted.must_compress = true;
    std::string mode = given.mode;
    MCOMPRESS_ASSIGN(const bool floats, wants_floats(mode, wanted.pass_flags));
    if (!floats) take_bytes(mode, wanted.pass_flags);
    const bool blocks =
        !floats && (mode == "auto" || mode == "weight-only") && wants_blocks(wanted.pass_flags);
    const std::string label = (floats || blocks) && mode == "auto" ? "weight-only" : mode;
    if (floats) mode = "float16";
    if (blocks) mode = "blocks";
    if (mode == "auto" && has_ranges) mode = "static";
    // What can be known before the model is there is refused before.
    if (mode != "auto") {
      MCOMPRESS_ASSIGN(Recipe recipe, builtin_recipe("quantize-" + mode));
      MCOMPRESS_TRY(apply_flags(recipe, wanted.pass_flags));
    }
    const bool named = floats || blocks;
    const bool automatic = given.mode == "auto" && !named && mode != "weight-only";
    wanted.choose_recipe = [mode, label, named, automatic, has_table, &console](
                               const Model& model, ReportScope& report) -> Result<Recipe> {
      std::string chosen = mode;
      std::string why = "asked for";
      if (automatic && chosen == "static") why = has_table ? "--table given" : "--calib given";
      if (chosen == "auto") {
        const std::uint64_t products = dynamic_products(model);
        chosen = products > 0 ? "dynamic" : "weight-only";
        why = products > 0 ? "no calibration data, and " + std::to_string(products) +
                                 (products == 1 ? " matrix product that gains"
                                                : " matrix products that gain")
                           : "no calibration data, and no large matrix products";
      }
      report.text("mode", named ? label : chosen);
      report.text("mode_reason", why);
      if (automatic) console.say("mode " + chosen + ": " + why);
      return builtin_recipe("quantize-" + chosen);
    };
    return compress(std::move(wanted), console);
  }

 private:
  // Weights below 8 bits, or with a scale per block, are the matter of one pass.
  static bool wants_blocks(const Datum& pass_flags) {
    for (const OptionSpec& spec : builtin_passes().find("quantize-blocks")->options) {
      const bool shared = spec.name == "include" || spec.name == "exclude" ||
                          spec.name == "min-elements" || spec.name == "samples";
      if (!shared && pass_flags.find(spec.name) != nullptr) return true;
    }
    return false;
  }

  // Eight bits without a word of blocks: a scale per channel, as quantize-weights has it.
  static void take_bytes(std::string& mode, Datum& pass_flags) {
    const Datum* given = pass_flags.find("weights");
    const std::string weights = given != nullptr ? option_text(*given) : std::string();
    if ((weights != "int8" && weights != "uint8") || (mode != "auto" && mode != "weight-only")) {
      return;
    }
    Datum::Map& flags = std::get<Datum::Map>(pass_flags.value());
    std::erase_if(flags, [](const auto& entry) { return entry.first == "weights"; });
    if (wants_blocks(pass_flags)) {
      pass_flags.set("weights", Datum::string(weights));
      return;
    }
    mode = "weight-only";
    if (pass_flags.find("scheme") == nullptr) {
      pass_flags.set("scheme", Datum::string(weights == "int8" ? "symmetric" : "affine"));
    }
  }

  // Floats of fewer bits are the matter of one pass. Says which, and in which form.
  static Result<bool> wants_floats(const std::string& mode, Datum& pass_flags) {
    const Datum* given = pass_flags.find("weights");
    const std::string weights = given != nullptr ? option_text(*given) : std::string();
    if (mode == "float16" || mode == "bfloat16") {
      if (!weights.empty() && weights != mode) {
        return Error(Code::kUsage, "two-types",
                     "mode " + mode + " computes with weights of that type, not " + weights,
                     {{}, "--weights", {}}, "leave --mode out to store weights alone");
      }
      pass_flags.set("weights", Datum::string(mode));
      return true;
    }
    const bool floats = weights.starts_with("float") || weights.starts_with("bfloat");
    if (!floats || mode == "static" || mode == "dynamic") return false;
    if (pass_flags.find("form") == nullptr) pass_flags.set("form", Datum::string("storage"));
    return true;
  }

  static bool of_quantization(std::string_view option) {
    for (const char* name : {"quantize-static", "quantize-dynamic", "quantize-weights",
                             "quantize-blocks", "cast-float16"}) {
      for (const OptionSpec& spec : builtin_passes().find(name)->options) {
        if (spec.name == option) return true;
      }
    }
    return false;
  }

  std::vector<OptionSpec> specs_;
};

// ------------------------------------------------------------------------------------------ run

class Run final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags&) override {
    app.add_option("RECIPE", recipe_, "JSON or YAML file")->required()->type_name("");
    declare_model(app);
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job("run"));
    wanted.recipe_file = recipe_;
    auto datum = read_datum_file(recipe_);
    if (!datum.ok()) return as_usage(std::move(datum).error().in_file(recipe_));
    Diagnostics diagnostics;
    auto recipe = parse_recipe(*datum, builtin_passes(), diagnostics);
    console.show(diagnostics);
    if (!recipe.ok()) return std::move(recipe).error().in_file(recipe_);
    if (!flags_->has("target")) wanted.options.target = recipe->target;
    if (!flags_->has("seed")) wanted.options.seed = static_cast<std::int64_t>(recipe->seed);
    wanted.choose_recipe = [&recipe](const Model&, ReportScope&) -> Result<Recipe> {
      return *recipe;
    };
    wanted.must_compress =
        std::any_of(recipe->steps.begin(), recipe->steps.end(), [](const RecipeStep& step) {
          return step.pass.starts_with("quantize-") || step.pass == "cast-float16";
        });
    return compress(std::move(wanted), console);
  }

 private:
  // A recipe that is missing or wrong is a usage error; not so a disk that fails.
  static Error as_usage(Error error) {
    if (error.diagnostic.id != "file-unreadable") error.code = Code::kUsage;
    return error;
  }

  std::string recipe_;
};

}  // namespace

std::unique_ptr<Command> make_optimize() { return std::make_unique<Optimize>(); }
std::unique_ptr<Command> make_convert_opset() { return std::make_unique<ConvertOpset>(); }
std::unique_ptr<Command> make_quantize() { return std::make_unique<Quantize>(); }
std::unique_ptr<Command> make_run() { return std::make_unique<Run>(); }

}  // namespace mcompress::tools
