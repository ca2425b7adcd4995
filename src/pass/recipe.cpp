#include "mcompress/recipe.h"

#include <algorithm>

#include "mcompress/host.h"
#include "mcompress/pipeline.h"
#include "support/hash.h"
#include "support/json.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

Error recipe_error(std::string_view id, std::string message, Location where,
                   std::string hint = {}) {
  return Error(Code::kUsage, id, std::move(message), std::move(where), std::move(hint));
}

Location at(const Datum& datum, std::string path) {
  Location where = datum.where();
  if (where.path.empty()) where.path = std::move(path);
  return where;
}

Result<std::string> text_of(const Datum& datum, const std::string& path,
                            std::string_view wanted = "must be a text") {
  if (const std::string* text = datum.as_string()) return *text;
  if (const auto* typed = std::get_if<Datum::Text>(&datum.value())) return typed->text;
  return recipe_error("recipe-not-text", std::string(wanted), at(datum, path));
}

// Of an entry without a pass: options are known by it, so only a key much like it can be meant.
Error missing_pass(const Datum::Map& fields, Location where) {
  std::vector<std::string> keys;
  keys.reserve(fields.size());
  for (const auto& [key, value] : fields) keys.push_back(key);
  std::string hint;
  for (const char* wanted : {"pass", "recipe"}) {
    const std::string close = nearest_name(wanted, keys);
    if (hint.empty() && !close.empty()) {
      hint = "unknown key '" + close + "': did you mean '" + wanted + "'?";
    }
  }
  return recipe_error("recipe-pass-name", "the key 'pass' is missing", std::move(where),
                      std::move(hint));
}

// A part of a recipe with a schema of its own, checked and as it was given.
template <class Part>
Result<Datum> part_of(Datum datum, const std::string& path, Diagnostics& diagnostics) {
  if (datum.as_map() == nullptr) {
    return recipe_error("recipe-part", "must be a map", at(datum, path));
  }
  // Sizes may be plain numbers.
  for (auto& [key, value] : std::get<Datum::Map>(datum.value())) {
    const auto* number = std::get_if<std::int64_t>(&value.value());
    const bool size = key == "bytes-above" || key == "bytes-below" || key == "max-bytes";
    if (size && number != nullptr) value.value() = std::to_string(*number);
  }
  auto parsed = Part::schema().parse(datum, diagnostics);
  if (!parsed.ok()) {
    Error error = std::move(parsed).error();
    if (error.diagnostic.where.file.empty()) error.diagnostic.where.file = datum.where().file;
    if (error.diagnostic.where.path.empty()) error.diagnostic.where.path = path;
    return error;
  }
  return datum;
}

Status check_version(const Datum& datum) {
  const auto* number = std::get_if<std::int64_t>(&datum.value());
  if (number == nullptr || *number < 1) {
    return recipe_error("recipe-version", "must be a whole number from 1 up", at(datum, "version"));
  }
  if (*number > kRecipeVersion) {
    return recipe_error("recipe-version",
                        "recipes of version " + std::to_string(*number) +
                            " are newer than this program, which reads version " +
                            std::to_string(kRecipeVersion),
                        at(datum, "version"));
  }
  return ok_status();
}

Status check_order(const Recipe& recipe, const PassRegistry& registry, const Datum::List& passes) {
  // A pass may stand several times; each occurrence has to come after every pass it names that is
  // in the recipe at all, at least once.
  for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
    const PassInfo* info = registry.find(recipe.steps[i].pass);
    for (std::string_view earlier : info->runs_after) {
      const auto first = std::find_if(recipe.steps.begin(), recipe.steps.end(),
                                      [&](const RecipeStep& step) { return step.pass == earlier; });
      if (first == recipe.steps.end()) continue;
      if (first - recipe.steps.begin() > static_cast<std::ptrdiff_t>(i)) {
        return recipe_error("recipe-order",
                            recipe.steps[i].pass + " has to run after " + std::string(earlier),
                            at(passes[i], "passes[" + std::to_string(i) + "]"));
      }
    }
  }
  return ok_status();
}

}  // namespace

Result<Recipe> parse_recipe(const Datum& datum, const PassRegistry& registry,
                            Diagnostics& diagnostics) {
  const Datum::Map* map = datum.as_map();
  if (map == nullptr) {
    return recipe_error("recipe-not-a-map", "a recipe must be a map with the key 'passes'",
                        datum.where());
  }
  static const std::vector<std::string> kKeys = {
      "converge", "data", "gates", "name", "passes", "seed", "summary", "target", "version"};
  for (const auto& [key, value] : *map) {
    if (std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end()) continue;
    const std::string close = nearest(key, kKeys);
    return recipe_error(
        "recipe-unknown-key", "unknown key '" + key + "'", at(value, key),
        close.empty() ? "known keys: " + join(kKeys, ", ") : "did you mean '" + close + "'?");
  }
  if (const Datum* version = datum.find("version")) MCOMPRESS_TRY(check_version(*version));

  Recipe recipe;
  if (const Datum* name = datum.find("name")) {
    MCOMPRESS_ASSIGN(recipe.name, text_of(*name, "name"));
  }
  if (const Datum* summary = datum.find("summary")) {
    MCOMPRESS_ASSIGN(recipe.summary, text_of(*summary, "summary"));
  }
  if (const Datum* data = datum.find("data")) {
    MCOMPRESS_ASSIGN(recipe.data, part_of<RecipeData>(*data, "data", diagnostics));
  }
  if (const Datum* gates = datum.find("gates")) {
    MCOMPRESS_ASSIGN(recipe.gates, part_of<RecipeGates>(*gates, "gates", diagnostics));
  }
  if (const Datum* target = datum.find("target")) {
    MCOMPRESS_ASSIGN(recipe.target, text_of(*target, "target"));
    // A file is read by whoever runs the recipe.
    if (find_target(recipe.target) == nullptr && !is_target_file(recipe.target)) {
      return unknown_target(recipe.target, at(*target, "target"));
    }
  }
  if (const Datum* seed = datum.find("seed")) {
    const auto* number = std::get_if<std::int64_t>(&seed->value());
    if (number == nullptr || *number < 0) {
      return recipe_error("recipe-seed", "must be a whole number from 0 up", at(*seed, "seed"));
    }
    recipe.seed = static_cast<std::uint64_t>(*number);
  }

  if (const Datum* converge = datum.find("converge")) {
    const auto* value = std::get_if<bool>(&converge->value());
    if (value == nullptr) {
      return recipe_error("recipe-converge", "must be true or false", at(*converge, "converge"));
    }
    recipe.converge = *value;
  }

  const Datum* passes = datum.find("passes");
  const Datum::List* list = passes != nullptr ? passes->as_list() : nullptr;
  if (list == nullptr || list->empty()) {
    return recipe_error("recipe-no-passes", "'passes' must be a list with at least one pass",
                        passes != nullptr ? passes->where() : datum.where());
  }
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Datum& entry = (*list)[i];
    // As the file counts them, where entries stand for several passes.
    const std::string path = at(entry, "passes[" + std::to_string(i) + "]").path;
    RecipeStep step;
    step.options = Datum::map();
    if (const Datum::Map* fields = entry.as_map()) {
      const Datum* name = entry.find("pass");
      if (name == nullptr) {
        return missing_pass(*fields, at(entry, path));
      }
      MCOMPRESS_ASSIGN(step.pass, text_of(*name, path + ".pass"));
      for (const auto& [key, value] : *fields) {
        if (key == "pass") continue;
        if (key == "when") {
          MCOMPRESS_ASSIGN(step.when, part_of<StepCondition>(value, path + ".when", diagnostics));
          continue;
        }
        Datum option = value;
        Location where = value.where();
        where.path = path + "." + key;
        option.set_where(std::move(where));
        step.options.set(key, std::move(option));
      }
    } else {
      MCOMPRESS_ASSIGN(
          step.pass,
          text_of(entry, path, "must be the name of a pass, or a map with the key 'pass'"));
    }
    const PassInfo* info = registry.find(step.pass);
    if (info == nullptr) return registry.unknown(step.pass, at(entry, path));
    auto made = info->create(step.options, diagnostics);
    if (!made.ok()) return std::move(made).error().in_file(entry.where().file).at(path);
    recipe.steps.push_back(std::move(step));
  }
  MCOMPRESS_TRY(check_order(recipe, registry, *list));
  return recipe;
}

namespace {

// What decides the result.
Datum print_run(const Recipe& recipe, const PassRegistry& registry) {
  Datum datum = Datum::map();
  if (!recipe.name.empty()) datum.set("name", Datum::string(recipe.name));
  datum.set("target", Datum::string(recipe.target));
  datum.set("seed", Datum::integer(static_cast<std::int64_t>(recipe.seed)));
  datum.set("converge", Datum::boolean(recipe.converge));
  Datum list = Datum::list();
  for (const RecipeStep& step : recipe.steps) {
    Datum entry = Datum::map();
    entry.set("pass", Datum::string(step.pass));
    const PassInfo* info = registry.find(step.pass);
    const Datum printed = info->print(step.options);
    if (const Datum::Map* fields = printed.as_map()) {
      for (const auto& [key, value] : *fields) entry.set(key, value);
    }
    if (!step.when.is_null()) entry.set("when", step.when);
    list.push(std::move(entry));
  }
  datum.set("passes", std::move(list));
  return datum;
}

}  // namespace

Datum print_recipe(const Recipe& recipe, const PassRegistry& registry) {
  Datum datum = Datum::map();
  datum.set("version", Datum::integer(kRecipeVersion));
  if (!recipe.summary.empty()) datum.set("summary", Datum::string(recipe.summary));
  if (!recipe.data.is_null()) datum.set("data", recipe.data);
  if (!recipe.gates.is_null()) datum.set("gates", recipe.gates);
  const Datum run = print_run(recipe, registry);
  for (const auto& [key, value] : *run.as_map()) datum.set(key, value);
  return datum;
}

std::uint64_t recipe_digest(const Recipe& recipe, const PassRegistry& registry) {
  return digest_bytes(print_json(print_run(recipe, registry)));
}

}  // namespace mcompress
