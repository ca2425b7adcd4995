// optimize, convert-opset and run: a recipe each, one path.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <optional>

#include "mcompress/host.h"
#include "mcompress/recipe.h"
#include "product/product.h"
#include "recipe_files.h"
#include "try.h"
#include "writing.h"

namespace mcompress::tools {
namespace {

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
    wanted.choose_recipe = always(recipe);
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
    wanted.choose_recipe = always(recipe);
    return compress(std::move(wanted), console);
  }

 private:
  std::vector<OptionSpec> specs_;
};

// ------------------------------------------------------------------------------------------ run

class Run final : public Writing {
 public:
  void declare_arguments(CLI::App& app, Flags&) override {
    app.add_option("RECIPE", recipe_, "JSON or YAML file, or the name of a built-in recipe")
        ->required()
        ->type_name("");
    app.add_option("MODEL", model_, "ONNX model; of a recipe of several, the folder they are in")
        ->type_name("");
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(RecipeText text, read_recipe(recipe_));
    if (has_parts(text)) {
      MCOMPRESS_ASSIGN(Product product, product_of(text, console));
      return run_parts(std::move(product), console);
    }
    if (model_.empty()) {
      return Error(Code::kUsage, "no-model", "MODEL is required", {},
                   "usage: mcompress run RECIPE MODEL -o OUT");
    }
    MCOMPRESS_ASSIGN(NamedRecipe found, recipe_of(std::move(text), console));
    MCOMPRESS_ASSIGN(Job wanted, job_of_recipe("run", std::move(found)));
    return compress(std::move(wanted), console);
  }

 private:
  Status run_parts(Product product, Console& console) const {
    std::vector<std::string> of_one = {"resume"};
    for (const OptionSpec& spec : RecipeData::schema().specs()) of_one.push_back(spec.name);
    for (const std::string& flag : of_one) {
      if (!flags_->has(flag)) continue;
      return Error(Code::kUsage, "flag-of-one-model", "is for one model, and this recipe has parts",
                   {{}, "--" + flag, {}},
                   flag == "resume" ? "" : "write it under 'data' of a part");
    }
    std::error_code error;
    if (!model_.empty() && !std::filesystem::is_directory(model_, error)) {
      return Error(Code::kUsage, "parts-folder", "is no folder, and this recipe has parts",
                   {model_, {}, {}}, "give the folder of the models, or none: that of the recipe");
    }
    MCOMPRESS_ASSIGN(Job base, job("run"));
    ProductRun run;
    run.product = std::move(product);
    run.folder = model_;
    run.base = std::move(base.options);
    run.job = [this](Datum data) { return job("run", std::move(data)); };
    run.target_given = flags_->has("target");
    run.seed_given = flags_->has("seed");
    return run_product(run, console);
  }

  std::string recipe_;
};

}  // namespace

std::unique_ptr<Command> make_optimize() { return std::make_unique<Optimize>(); }
std::unique_ptr<Command> make_convert_opset() { return std::make_unique<ConvertOpset>(); }
std::unique_ptr<Command> make_run() { return std::make_unique<Run>(); }

}  // namespace mcompress::tools
