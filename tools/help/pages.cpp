#include "help/pages.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "help/schemas.h"
#include "help/topics.h"
#include "mcompress/pass.h"
#include "mcompress/target.h"
#include "recipe_files.h"

namespace mcompress::tools {
namespace {

std::vector<std::string> recipe_words() {
  std::vector<std::string> words;
  for (const BuiltinRecipe& recipe : builtin_recipes()) words.emplace_back(recipe.name);
  return words;
}

std::vector<std::string> target_words() {
  std::vector<std::string> words;
  for (const Target* target : all_targets()) words.push_back(target->name);
  return words;
}

std::vector<std::string> pass_words() {
  std::vector<std::string> words;
  for (const PassInfo* pass : builtin_passes().all()) words.emplace_back(pass->name);
  return words;
}

// The passes --only and --skip choose from.
std::vector<std::string> passes_of_recipe(std::string_view command) {
  std::vector<std::string> words;
  const auto recipe = builtin_recipe(command);
  if (!recipe.ok()) return pass_words();
  for (const RecipeStep& step : recipe->steps) {
    if (std::find(words.begin(), words.end(), step.pass) == words.end()) words.push_back(step.pass);
  }
  return words;
}

std::vector<std::string> command_words() {
  std::vector<std::string> words;
  for (const CommandInfo& command : all_commands()) {
    words.emplace_back(command.name);
    if (!command.alias.empty()) words.emplace_back(command.alias);
  }
  return words;
}

ValueHint hint_of_argument(std::string_view command, std::string_view name) {
  ValueHint hint;
  if (name == "RECIPE") {
    hint.words = recipe_words();
    hint.files = true;
  } else if (name == "NAME" && command == "passes") {
    hint.words = pass_words();
  } else if (name == "NAME" && command == "targets") {
    hint.words = target_words();
    hint.files = true;
  } else if (name == "NAME" && command == "schema") {
    hint.words = schema_names();
  } else if (name == "SHELL") {
    hint.words = {"bash", "zsh", "fish"};
  } else if (name == "COMMAND") {
    hint.words = command_words();
  } else {
    hint.files = true;
  }
  return hint;
}

bool names_a_file(std::string_view unit) {
  return unit.find("FILE") != std::string_view::npos ||
         unit.find("DATA") != std::string_view::npos ||
         unit.find("PATH") != std::string_view::npos || unit == "REF" || unit == "TABLE" ||
         unit == "MODEL";
}

ValueHint hint_of_flag(std::string_view command, const OptionSpec& spec) {
  ValueHint hint;
  hint.list = spec.kind == OptionSpec::Kind::kStringList;
  if (!spec.choices.empty()) {
    hint.words = spec.choices;
    return hint;
  }
  if (spec.name == "target") hint.words = target_words();
  if (spec.unit == "PASS,...") hint.words = passes_of_recipe(command);
  hint.folders = spec.unit == "FOLDER";
  hint.files = names_a_file(spec.unit);
  return hint;
}

FlagPage flag_page(const CommandInfo& info, const CLI::Option& option, const Flags& flags) {
  FlagPage flag;
  for (const std::string& name : option.get_snames()) flag.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) flag.names.push_back("--" + name);
  flag.help = option.get_description();
  flag.group = option.get_group();
  if (option.get_items_expected_max() > 0) flag.value = option.get_type_name();
  for (const std::string& name : option.get_lnames()) {
    const OptionSpec* spec = flags.spec(name);
    if (spec == nullptr) continue;
    flag.repeatable = spec->kind == OptionSpec::Kind::kStringList;
    if (spec->kind == OptionSpec::Kind::kBool) {
      flag.value.clear();
    } else {
      flag.hint = hint_of_flag(info.name, *spec);
    }
  }
  return flag;
}

}  // namespace

CommandPage page_of(const CommandInfo& info, const CLI::App& app, const Flags& flags) {
  CommandPage page;
  page.info = &info;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      ArgumentPage argument;
      argument.name = option->get_name(true);
      argument.help = option->get_description();
      argument.required = option->get_required();
      argument.hint = hint_of_argument(info.name, argument.name);
      page.arguments.push_back(std::move(argument));
    } else if (!option->get_group().empty()) {
      page.flags.push_back(flag_page(info, *option, flags));
    }
  }
  return page;
}

std::vector<std::string> help_subjects() {
  std::vector<std::string> words = command_words();
  for (const HelpTopic& topic : help_topics()) {
    if (std::find(words.begin(), words.end(), topic.name) == words.end()) {
      words.emplace_back(topic.name);
    }
  }
  return words;
}

std::vector<std::string> value_flags(const CommandPage& page) {
  std::vector<std::string> names;
  for (const FlagPage& flag : page.flags) {
    if (!flag.value.empty()) names.insert(names.end(), flag.names.begin(), flag.names.end());
  }
  return names;
}

}  // namespace mcompress::tools
