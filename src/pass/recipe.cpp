#include <algorithm>

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
  static const std::vector<std::string> kKeys = {"converge", "name", "passes", "seed", "target"};
  for (const auto& [key, value] : *map) {
    if (std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end()) continue;
    const std::string close = nearest(key, kKeys);
    return recipe_error("recipe-unknown-key", "unknown key '" + key + "'", at(value, key),
                        close.empty() ? "known keys: converge, name, passes, seed, target"
                                      : "did you mean '" + close + "'?");
  }

  Recipe recipe;
  if (const Datum* name = datum.find("name")) {
    MCOMPRESS_ASSIGN(recipe.name, text_of(*name, "name"));
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
    const std::string path = "passes[" + std::to_string(i) + "]";
    RecipeStep step;
    step.options = Datum::map();
    if (const Datum::Map* fields = entry.as_map()) {
      const Datum* name = entry.find("pass");
      if (name == nullptr) {
        return recipe_error("recipe-pass-name", "the key 'pass' is missing", at(entry, path));
      }
      MCOMPRESS_ASSIGN(step.pass, text_of(*name, path + ".pass"));
      for (const auto& [key, value] : *fields) {
        if (key == "pass") continue;
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

Datum print_recipe(const Recipe& recipe, const PassRegistry& registry) {
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
    list.push(std::move(entry));
  }
  datum.set("passes", std::move(list));
  return datum;
}

std::uint64_t recipe_digest(const Recipe& recipe, const PassRegistry& registry) {
  return digest_bytes(print_json(print_recipe(recipe, registry)));
}

}  // namespace mcompress
