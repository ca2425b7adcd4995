#include "recipe_files.h"

#include <algorithm>
#include <optional>

#include "embedded_recipes.h"
#include "mcompress/host.h"
#include "mcompress/recipe.h"
#include "outcome.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

Error recipe_error(std::string_view id, std::string message, Location where, std::string hint) {
  return Error(Code::kUsage, id, std::move(message), std::move(where), std::move(hint));
}

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  names.reserve(std::size(embedded::recipes));
  for (const auto& file : embedded::recipes) names.emplace_back(file.name);
  return names;
}

std::string meant(std::string_view wrong) {
  const std::vector<std::string> names = recipe_names();
  const std::string close = nearest_name(wrong, names);
  return close.empty() ? "`mcompress help recipes` lists them" : "did you mean '" + close + "'?";
}

Result<Datum> embedded_datum(std::string_view name, const Location& where) {
  for (const auto& file : embedded::recipes) {
    if (file.name == name) return datum_from_json(file.text, std::string(name) + ".json");
  }
  return recipe_error("unknown-recipe", "unknown recipe '" + std::string(name) + "'", where,
                      meant(name));
}

bool has_option(const std::string& pass, std::string_view option) {
  const PassInfo* info = builtin_passes().find(pass);
  return info != nullptr &&
         std::any_of(info->options.begin(), info->options.end(),
                     [&](const OptionSpec& spec) { return spec.name == option; });
}

std::optional<double> number_of(const Datum* datum) {
  if (datum == nullptr) return std::nullopt;
  if (const auto* real = std::get_if<double>(&datum->value())) return *real;
  const auto* whole = std::get_if<std::int64_t>(&datum->value());
  return whole != nullptr ? std::optional(static_cast<double>(*whole)) : std::nullopt;
}

std::string pass_of(const Datum& entry) {
  const Datum* pass = entry.as_map() != nullptr ? entry.find("pass") : &entry;
  return pass != nullptr && pass->as_string() != nullptr ? *pass->as_string() : std::string();
}

// The entries that {"recipe": ..} stands for.
Status include_recipe(const Datum& entry, Datum& list) {
  const Datum& name = *entry.find("recipe");
  if (name.as_string() == nullptr) {
    return recipe_error("recipe-not-text", "must be the name of a built-in recipe", name.where(),
                        {});
  }
  MCOMPRESS_ASSIGN(const Datum included, embedded_datum(*name.as_string(), name.where()));
  std::vector<Datum> entries = *included.find("passes")->as_list();
  for (Datum& step : entries) {
    if (step.as_map() != nullptr) continue;
    Datum map = Datum::map();
    map.set("pass", step);
    step = std::move(map);
  }
  for (const auto& [key, value] : *entry.as_map()) {
    if (key == "recipe") continue;
    bool used = false;
    for (Datum& step : entries) {
      if (key == "when" && step.find("when") != nullptr) {
        return recipe_error("recipe-nested-when",
                            "recipe '" + *name.as_string() + "' has conditions of its own",
                            value.where(), "write its passes out, or leave 'when' out");
      }
      if (key != "when" && !has_option(pass_of(step), key)) continue;
      step.set(key, value);
      used = true;
    }
    if (used) continue;
    std::vector<std::string> known;
    for (const Datum& step : entries) {
      const PassInfo* info = builtin_passes().find(pass_of(step));
      if (info == nullptr) continue;
      for (const OptionSpec& spec : info->options) known.push_back(spec.name);
    }
    const std::string close = nearest_name(key, known);
    return recipe_error("unknown-option",
                        "no pass of recipe '" + *name.as_string() + "' has an option '" + key + "'",
                        value.where(),
                        close.empty() ? "`mcompress passes` has the options of each pass"
                                      : "did you mean '" + close + "'?");
  }
  for (Datum& step : entries) list.push(std::move(step));
  return ok_status();
}

Result<Datum> expand(Datum recipe) {
  const Datum* passes = recipe.find("passes");
  if (passes == nullptr || passes->as_list() == nullptr) return recipe;
  Datum list(Datum::Value(Datum::List{}), passes->where());
  for (const Datum& entry : *passes->as_list()) {
    if (entry.as_map() == nullptr || entry.find("recipe") == nullptr) {
      list.push(entry);
      continue;
    }
    MCOMPRESS_TRY(include_recipe(entry, list));
  }
  recipe.set("passes", std::move(list));
  return recipe;
}

// A recipe that is missing or wrong is a usage error; not so a disk that fails.
Error as_usage(Error error) {
  if (error.diagnostic.id != "file-unreadable") error.code = Code::kUsage;
  return error;
}

// "x=PATH" keeps its name.
std::string placed(const std::string& text, const fs::path& folder, const fs::path& model,
                   bool named) {
  const std::size_t equals = named ? text.find('=') : std::string::npos;
  const std::size_t start = equals == std::string::npos ? 0 : equals + 1;
  std::string path = text.substr(start);
  const std::string model_folder =
      model.has_parent_path() ? model.parent_path().string() : std::string(".");
  bool of_model = false;
  for (const auto& [mark, replacement] :
       {std::pair<std::string, std::string>{"{folder}", model_folder},
        {"{stem}", model.stem().string()}}) {
    for (std::size_t at = path.find(mark); at != std::string::npos;
         at = path.find(mark, at + replacement.size())) {
      of_model = of_model || (mark == "{folder}" && at == 0);
      path.replace(at, mark.size(), replacement);
    }
  }
  if (!of_model && fs::path(path).is_relative() && !folder.empty()) {
    path = (folder / path).string();
  }
  return text.substr(0, start) + path;
}

bool is_recipe_file(const std::string& name) {
  std::error_code none;
  return name.ends_with(".json") || name.ends_with(".yaml") || name.ends_with(".yml") ||
         name.find('/') != std::string::npos || fs::exists(name, none);
}

Result<Datum> read_recipe_file(const std::string& name) {
  auto read = read_datum_file(name);
  if (!read.ok()) return as_usage(std::move(read).error().in_file(name));
  return read;
}

}  // namespace

std::vector<BuiltinRecipe> builtin_recipes() {
  std::vector<BuiltinRecipe> list;
  for (const auto& file : embedded::recipes) {
    BuiltinRecipe one;
    one.name = file.name;
    if (auto datum = datum_from_json(file.text, std::string(file.name) + ".json"); datum.ok()) {
      const Datum* summary = datum->find("summary");
      one.preset = summary != nullptr;
      if (one.preset) one.summary = option_text(*summary);
    }
    list.push_back(std::move(one));
  }
  return list;
}

void give_gates_to_passes(Recipe& recipe) {
  for (const std::string_view gate : {"min-sqnr", "max-drop"}) {
    const Datum* value = recipe.gates.find(gate);
    if (value == nullptr) continue;
    for (RecipeStep& step : recipe.steps) {
      if (!has_option(step.pass, gate)) continue;
      const std::optional<double> own = number_of(step.options.find(gate)),
                                  asked = number_of(value);
      const bool looser = own && asked && (gate == "min-sqnr" ? *own < *asked : *own > *asked);
      if (step.options.find(gate) == nullptr || looser) step.options.set(gate, *value);
    }
  }
}

Result<Recipe> recipe_of_datum(Datum datum, const std::string& label, Console& console) {
  if (const Datum* parts = datum.find("parts")) {
    return recipe_error("recipe-has-parts", "is a recipe of several models", parts->where(),
                        "`mcompress run` takes it, and no other recipe holds it")
        .in_file(label);
  }
  auto whole = expand(std::move(datum));
  if (!whole.ok()) return std::move(whole).error().in_file(label);
  Diagnostics diagnostics;
  auto recipe = parse_recipe(*whole, builtin_passes(), diagnostics);
  console.show(diagnostics);
  if (!recipe.ok()) return std::move(recipe).error().in_file(label);
  give_gates_to_passes(*recipe);
  return recipe;
}

Result<RecipeText> read_recipe(const std::string& name) {
  RecipeText text;
  if (is_recipe_file(name)) {
    text.file = text.label = name;
    MCOMPRESS_ASSIGN(text.datum, read_recipe_file(name));
  } else {
    text.label = name + ".json";
    MCOMPRESS_ASSIGN(text.datum, embedded_datum(name, {}));
  }
  return text;
}

Result<NamedRecipe> recipe_of(RecipeText text, Console& console) {
  NamedRecipe found;
  found.file = std::move(text.file);
  MCOMPRESS_ASSIGN(found.recipe, recipe_of_datum(std::move(text.datum), text.label, console));
  return found;
}

Result<NamedRecipe> find_recipe(const std::string& name, Console& console) {
  MCOMPRESS_ASSIGN(RecipeText text, read_recipe(name));
  return recipe_of(std::move(text), console);
}

Datum place_data(const Datum& data, const std::string& recipe_file, const std::string& model) {
  if (data.as_map() == nullptr) return Datum::map();
  const fs::path folder = recipe_file.empty() ? fs::path() : fs::path(recipe_file).parent_path();
  Datum result = data;
  for (const std::string_view key : {"calib", "table", "eval", "characters"}) {
    const Datum* value = data.find(key);
    if (value == nullptr || value->as_string() == nullptr || value->as_string()->empty()) continue;
    result.set(key, Datum(Datum::Value(placed(*value->as_string(), folder, model, false)),
                          value->where()));
  }
  if (const Datum* input = data.find("input"); input != nullptr && input->as_list() != nullptr) {
    Datum list(Datum::Value(Datum::List{}), input->where());
    for (const Datum& item : *input->as_list()) {
      list.push(
          item.as_string() == nullptr
              ? item
              : Datum(Datum::Value(placed(*item.as_string(), folder, model, true)), item.where()));
    }
    result.set("input", std::move(list));
  }
  return result;
}

Datum data_of(const CompressOptions& options) {
  const Datum all = CompressOptions::schema(true).print(options);
  const Datum defaults = CompressOptions::schema(true).print(CompressOptions{});
  Datum data = Datum::map();
  for (const OptionSpec& spec : RecipeData::schema().specs()) {
    const Datum* value = all.find(spec.name);
    if (value == nullptr || *value == *defaults.find(spec.name)) continue;
    Datum given = *value;
    const bool path = spec.name == "calib" || spec.name == "table" || spec.name == "eval" ||
                      spec.name == "characters";
    if (path && given.as_string() != nullptr) {
      std::error_code ignored;
      given = Datum::string(fs::absolute(*given.as_string(), ignored).string());
    }
    if (spec.name == "input") {
      Datum list = Datum::list();
      for (const std::string& text : options.input) {
        const std::size_t equals = text.find('=');
        std::error_code ignored;
        list.push(Datum::string(equals == std::string::npos
                                    ? text
                                    : text.substr(0, equals + 1) +
                                          fs::absolute(text.substr(equals + 1), ignored).string()));
      }
      given = std::move(list);
    }
    data.set(spec.name, std::move(given));
  }
  return data.as_map()->empty() ? Datum() : data;
}

bool must_compress(const Recipe& recipe) {
  return std::any_of(recipe.steps.begin(), recipe.steps.end(), [](const RecipeStep& step) {
    return step.when.is_null() && compresses_weights(step.pass);
  });
}

bool only_translates(const Recipe& recipe) {
  return std::all_of(recipe.steps.begin(), recipe.steps.end(),
                     [](const RecipeStep& step) { return step.pass == "convert-opset"; });
}

}  // namespace mcompress::tools
