// optimize, convert-opset and run: a recipe each, one path.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>

#include "mcompress/host.h"
#include "mcompress/recipe.h"
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
    declare_model(app);
  }

  Status run(Console& console) override {
    MCOMPRESS_ASSIGN(Job wanted, job_of_recipe("run", recipe_, console));
    return compress(std::move(wanted), console);
  }

 private:
  std::string recipe_;
};

}  // namespace

std::unique_ptr<Command> make_optimize() { return std::make_unique<Optimize>(); }
std::unique_ptr<Command> make_convert_opset() { return std::make_unique<ConvertOpset>(); }
std::unique_ptr<Command> make_run() { return std::make_unique<Run>(); }

}  // namespace mcompress::tools
