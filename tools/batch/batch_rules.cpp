#include "batch/batch_rules.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "mcompress/host.h"
#include "mcompress/io.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

// The exit status of a process tells which rule fits.
constexpr std::size_t kMostRules = 200;
constexpr int kNone = 254, kUnreadable = 255;

bool looks_like_file(const std::string& name) {
  return name.ends_with(".json") || name.ends_with(".yaml") || name.ends_with(".yml");
}

Error rule_error(std::string_view id, std::string message, const Datum& datum, std::string path,
                 std::string hint = {}) {
  Location where = datum.where();
  where.path = std::move(path);
  return Error(Code::kUsage, id, std::move(message), std::move(where), std::move(hint));
}

Status check_keys(const Datum& map, const std::vector<std::string>& known,
                  const std::string& path) {
  for (const auto& [key, value] : *map.as_map()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string close = nearest_name(key, known);
    std::string all;
    for (const std::string& one : known) all += (all.empty() ? "" : ", ") + one;
    return rule_error("rules-unknown-key", "unknown key '" + key + "'", value,
                      path.empty() ? key : path + "." + key,
                      close.empty() ? "known keys: " + all : "did you mean '" + close + "'?");
  }
  return ok_status();
}

Status read_condition(const Datum& when, const std::string& path, BatchRule& rule) {
  if (when.as_map() == nullptr) return rule_error("rules-when", "must be a map", when, path);
  Datum content = Datum::map();
  for (const auto& [key, value] : *when.as_map()) {
    if (key == "path") {
      if (value.as_string() == nullptr) {
        return rule_error("rules-path", "must be a text", value, path + ".path");
      }
      rule.path = *value.as_string();
      continue;
    }
    if (key == "data") {
      return rule_error("rules-data", "is a condition of a recipe's steps, not of a rule", value,
                        path + ".data");
    }
    // Sizes may be plain numbers.
    Datum given = value;
    const auto* number = std::get_if<std::int64_t>(&value.value());
    if (number != nullptr && key.starts_with("bytes-")) {
      given = Datum(Datum::Value(std::to_string(*number)), value.where());
    }
    content.set(key, std::move(given));
  }
  if (content.as_map()->empty()) return ok_status();
  Diagnostics diagnostics;
  auto parsed = StepCondition::schema().parse(content, diagnostics);
  if (!parsed.ok()) return std::move(parsed).error().at(path).in_file(when.where().file);
  rule.content = std::move(*parsed);
  return ok_status();
}

Result<BatchRule> read_rule(const Datum& entry, const std::string& path, const fs::path& folder,
                            Console& console) {
  BatchRule rule;
  if (entry.as_map() == nullptr) {
    return rule_error("rules-entry", "must be a map with the key 'recipe' or 'skip'", entry, path);
  }
  MCOMPRESS_TRY(check_keys(entry, {"recipe", "skip", "when"}, path));
  if (const Datum* skip = entry.find("skip")) {
    const bool* value = std::get_if<bool>(&skip->value());
    if (value == nullptr) {
      return rule_error("rules-skip", "must be true or false", *skip, path + ".skip");
    }
    rule.skip = *value;
  }
  const Datum* recipe = entry.find("recipe");
  if ((recipe != nullptr) == rule.skip) {
    return rule_error("rules-entry", "needs either 'recipe' or 'skip: true'", entry, path);
  }
  if (recipe != nullptr) {
    if (recipe->as_string() == nullptr) {
      return rule_error("rules-recipe", "must be a file or the name of a recipe", *recipe,
                        path + ".recipe");
    }
    rule.recipe = *recipe->as_string();
    if (looks_like_file(rule.recipe) && fs::path(rule.recipe).is_relative()) {
      rule.recipe = (folder / rule.recipe).string();
    }
    auto found = find_recipe(rule.recipe, console);
    if (!found.ok()) {
      Error error = std::move(found).error();
      // A name that is unknown stands in this file; what is wrong in a recipe stands in that one.
      if (error.diagnostic.where.file.empty()) error.diagnostic.where = recipe->where();
      return error;
    }
    rule.found = std::move(*found);
  }
  if (const Datum* when = entry.find("when")) {
    MCOMPRESS_TRY(read_condition(*when, path + ".when", rule));
  }
  return rule;
}

bool fits_path(const BatchRule& rule, const std::string& place) {
  return rule.path.empty() || matches_glob(rule.path, place);
}

// In a process of its own.
[[noreturn]] void look(const std::vector<BatchRule>& rules, const std::string& model,
                       const std::string& place) {
  int status = kUnreadable;
  try {
    // What is wrong with a model is said by its job.
    const int nothing = ::open("/dev/null", O_WRONLY);
    if (nothing >= 0) ::dup2(nothing, STDERR_FILENO);
    Diagnostics diagnostics;
    const auto loaded = load_model(model, LoadOptions{}, diagnostics);
    if (loaded.ok()) {
      status = kNone;
      for (std::size_t i = 0; i < rules.size(); ++i) {
        const BatchRule& rule = rules[i];
        if (!fits_path(rule, place)) continue;
        if (rule.content && !holds(*rule.content, **loaded, false)) continue;
        status = static_cast<int>(i);
        break;
      }
    }
  } catch (...) {
    status = kUnreadable;
  }
  ::_exit(status);
}

}  // namespace

Result<std::vector<BatchRule>> read_rules(const std::string& recipe, Console& console) {
  std::vector<BatchRule> rules;
  if (looks_like_file(recipe)) {
    const auto datum = read_datum_file(recipe);
    const Datum* list = datum.ok() ? datum->find("rules") : nullptr;
    if (list != nullptr) {
      const auto read_all = [&]() -> Status {
        MCOMPRESS_TRY(check_keys(*datum, {"rules", "version"}, ""));
        if (const Datum* version = datum->find("version")) {
          const auto* number = std::get_if<std::int64_t>(&version->value());
          if (number == nullptr || *number != 1) {
            return rule_error("rules-version", "rules of version 1 are known", *version, "version");
          }
        }
        const Datum::List* entries = list->as_list();
        if (entries == nullptr || entries->empty() || entries->size() > kMostRules) {
          return rule_error("rules-list",
                            "must be a list of 1 to " + std::to_string(kMostRules) + " rules",
                            *list, "rules");
        }
        for (std::size_t i = 0; i < entries->size(); ++i) {
          const std::string path = "rules[" + std::to_string(i) + "]";
          const BatchRule* before = rules.empty() ? nullptr : &rules.back();
          if (before != nullptr && before->path.empty() && !before->content) {
            return rule_error("rules-unreachable", "is never reached", (*entries)[i], path,
                              "the rule before it has no condition");
          }
          MCOMPRESS_ASSIGN(BatchRule rule,
                           read_rule((*entries)[i], path, fs::path(recipe).parent_path(), console));
          rules.push_back(std::move(rule));
        }
        return ok_status();
      };
      Status status = read_all();
      if (!status.ok()) return std::move(status).error().in_file(recipe);
      return rules;
    }
  }
  BatchRule all;
  all.recipe = recipe;
  MCOMPRESS_ASSIGN(all.found, find_recipe(recipe, console));
  rules.push_back(std::move(all));
  return rules;
}

const BatchRule* choose_rule(const std::vector<BatchRule>& rules, const std::string& model,
                             const std::string& place) {
  const auto by_path = std::find_if(rules.begin(), rules.end(),
                                    [&](const BatchRule& rule) { return fits_path(rule, place); });
  if (by_path == rules.end()) return nullptr;
  if (!by_path->content) return &*by_path;
  const pid_t child = ::fork();
  if (child == 0) look(rules, model, place);
  int status = 0;
  pid_t ended = -1;
  while (child > 0 && (ended = ::waitpid(child, &status, 0)) < 0 && errno == EINTR) {
  }
  const int verdict = ended > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : kUnreadable;
  if (verdict == kNone) return nullptr;
  if (verdict < static_cast<int>(rules.size())) return &rules[static_cast<std::size_t>(verdict)];
  // Its job says what is wrong with it.
  const auto some = std::find_if(by_path, rules.end(), [&](const BatchRule& rule) {
    return fits_path(rule, place) && !rule.skip;
  });
  return some == rules.end() ? &*by_path : &*some;
}

}  // namespace mcompress::tools
