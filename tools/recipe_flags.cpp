// Recipes of the commands, and the flags that change them.
#include <algorithm>
#include <map>

#include "compress.h"
#include "embedded_recipes.h"
#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

std::string owners_of(std::string_view option) {
  std::string text;
  for (const PassInfo* pass : builtin_passes().all()) {
    for (const OptionSpec& spec : pass->options) {
      if (spec.name == option) text += (text.empty() ? "" : " and ") + std::string(pass->name);
    }
  }
  return text;
}

// Passes that share a name may have defaults, choices and words of their own.
void join(const OptionSpec& spec, OptionSpec& known) {
  if (known.default_text != spec.default_text) known.default_text = "of each pass";
  if (known.choices == spec.choices || known.choices.empty()) return;
  if (known.help.find(spec.help) == std::string::npos) known.help += "; " + spec.help;
  for (const std::string& choice : spec.choices) {
    if (std::find(known.choices.begin(), known.choices.end(), choice) == known.choices.end()) {
      known.choices.push_back(choice);
    }
  }
}

}  // namespace

Result<Recipe> builtin_recipe(std::string_view name) {
  for (const auto& file : embedded::recipes) {
    if (file.name != name) continue;
    const std::string label = std::string(name) + ".json";
    MCOMPRESS_ASSIGN(const Datum datum, datum_from_json(file.text, label));
    Diagnostics diagnostics;
    return parse_recipe(datum, builtin_passes(), diagnostics);
  }
  return Error(Code::kInternal, "no-recipe", "there is no recipe '" + std::string(name) + "'");
}

std::vector<OptionSpec> pass_options(std::span<const Recipe> recipes) {
  std::vector<OptionSpec> specs;
  std::map<std::string, std::string> owners;
  for (const Recipe& recipe : recipes) {
    for (const RecipeStep& step : recipe.steps) {
      for (const OptionSpec& spec : builtin_passes().find(step.pass)->options) {
        const auto [place, added] = owners.try_emplace(spec.name, step.pass);
        if (added) {
          specs.push_back(spec);
          continue;
        }
        if (place->second == step.pass) continue;
        for (OptionSpec& known : specs) {
          if (known.name == spec.name) join(spec, known);
        }
      }
    }
  }
  return specs;
}

Status apply_flags(Recipe& recipe, const Datum& flags) {
  const Datum::Map* map = flags.as_map();
  if (map == nullptr) return ok_status();
  for (const auto& [name, value] : *map) {
    bool used = false;
    for (RecipeStep& step : recipe.steps) {
      const auto options = builtin_passes().find(step.pass)->options;
      if (std::none_of(options.begin(), options.end(),
                       [&key = name](const OptionSpec& spec) { return spec.name == key; })) {
        continue;
      }
      step.options.set(name, value);
      used = true;
    }
    if (!used) {
      const bool gate = name == "max-drop" || name == "min-sqnr";
      return Error(Code::kUsage, "flag-without-pass",
                   "is an option of " + owners_of(name) + ", which recipe '" + recipe.name +
                       "' does not run",
                   {{}, "--" + name, {}},
                   gate ? "`mcompress sensitivity --mode MODE --" + name +
                              " ... -o FILE` finds the layers to leave, and --exclude @FILE "
                              "leaves them"
                        : "--print-recipe shows what runs");
    }
  }
  for (const RecipeStep& step : recipe.steps) {
    Diagnostics diagnostics;
    MCOMPRESS_TRY(builtin_passes().find(step.pass)->create(step.options, diagnostics));
  }
  return ok_status();
}

Status check_resume(const std::string& resume, const Recipe& recipe) {
  if (resume.empty()) return ok_status();
  for (const RecipeStep& step : recipe.steps) {
    const Datum printed = builtin_passes().find(step.pass)->print(step.options);
    const Datum* method = printed.find("weight-method");
    if (method == nullptr) continue;
    const std::string name = option_text(*method);
    if ((step.pass == "quantize-blocks" && name.ends_with("gptq")) ||
        (step.pass == "awq" && name.starts_with("awq"))) {
      return ok_status();
    }
  }
  return Error(Code::kUsage, "nothing-to-resume",
               "nothing in recipe '" + recipe.name + "' takes so long that it can be resumed",
               {{}, "--resume", {}}, "it is for --weight-method gptq, awq and awq-gptq");
}

Recipe steps_before(Recipe recipe, std::string_view pass) {
  const auto first = std::find_if(recipe.steps.begin(), recipe.steps.end(),
                                  [&](const RecipeStep& step) { return step.pass == pass; });
  recipe.steps.erase(first, recipe.steps.end());
  return recipe;
}

Result<std::unique_ptr<Model>> calls_written_out(const Model& model, Recipe recipe) {
  std::erase_if(recipe.steps,
                [](const RecipeStep& step) { return step.pass != "inline-functions"; });
  if (recipe.steps.empty() || model.functions().empty()) return std::unique_ptr<Model>();
  auto copy = model.clone();
  Explain explain;
  MCOMPRESS_TRY(run_unheard(*copy, recipe, Services(), explain));
  return copy;
}

}  // namespace mcompress::tools
