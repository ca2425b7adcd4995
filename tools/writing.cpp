#include "writing.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "mcompress/recipe.h"
#include "recipe_files.h"
#include "try.h"

namespace mcompress::tools {

void Writing::declare(CLI::App& app, Flags& flags) {
  flags_ = &flags;
  declare_arguments(app, flags);
  flags.add(CompressOptions::schema(takes_data()).specs(), "Output, data and work");
}

void Writing::declare_model(CLI::App& app) {
  app.add_option("MODEL", model_, "ONNX model")->required()->type_name("");
}

Result<Job> Writing::job(std::string_view command, Datum defaults) const {
  Job job;
  job.command = command;
  job.input = model_;
  Diagnostics diagnostics;
  const auto& schema = CompressOptions::schema(takes_data());
  const Datum given = flags_->given(schema.specs());
  for (const auto& [key, value] : *given.as_map()) defaults.set(key, value);
  MCOMPRESS_ASSIGN(job.options, schema.parse(defaults, diagnostics));
  return job;
}

Result<Job> Writing::job_of_recipe(std::string_view command, NamedRecipe found) const {
  Recipe& recipe = found.recipe;
  MCOMPRESS_ASSIGN(Job wanted, job(command, place_data(recipe.data, found.file, model_)));
  recipe.data = Datum();
  wanted.recipe_file = found.file;
  if (!flags_->has("target")) wanted.options.target = recipe.target;
  if (!flags_->has("seed")) wanted.options.seed = static_cast<std::int64_t>(recipe.seed);
  wanted.must_compress = must_compress(recipe);
  wanted.translates = only_translates(recipe);
  const bool has_data = has_calibration_data(wanted.options) || !wanted.options.table.empty();
  wanted.choose_recipe = [recipe = std::move(recipe), has_data](const Model& model, ReportScope&) {
    return resolve_recipe(recipe, model, has_data);
  };
  return wanted;
}

std::function<Result<Recipe>(const Model&, ReportScope&)> always(Recipe recipe) {
  return
      [recipe = std::move(recipe)](const Model&, ReportScope&) -> Result<Recipe> { return recipe; };
}

std::vector<OptionSpec> options_of_recipes(std::span<const std::string_view> names) {
  std::vector<Recipe> recipes;
  for (const std::string_view name : names) {
    auto recipe = builtin_recipe(name);
    if (recipe.ok()) recipes.push_back(std::move(recipe).value());
  }
  return pass_options(recipes);
}

OptionGroups group_options(const std::vector<OptionSpec>& specs,
                           std::span<const std::string_view> passes) {
  OptionGroups groups;
  for (const OptionSpec& spec : specs) {
    const bool own = std::any_of(passes.begin(), passes.end(), [&](std::string_view pass) {
      const PassInfo* info = builtin_passes().find(pass);
      return info != nullptr &&
             std::any_of(info->options.begin(), info->options.end(),
                         [&](const OptionSpec& option) { return option.name == spec.name; });
    });
    (own ? groups.own : groups.rest).push_back(spec);
  }
  return groups;
}

}  // namespace mcompress::tools
