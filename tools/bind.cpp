#include "bind.h"

#include <CLI/CLI.hpp>
#include <utility>

namespace mcompress::tools {
namespace {

using Kind = OptionSpec::Kind;

// Options that have a letter of their own.
std::string flag_names(const OptionSpec& spec) {
  if (spec.name == "output") return "-o,--output";
  if (spec.name == "against") return "--against,--reference";
  if (spec.name == "quiet") return "-q,--quiet";
  if (spec.name == "verbose") return "-v,--verbose";
  return "--" + spec.name;
}

std::string value_name(const OptionSpec& spec) {
  if (!spec.choices.empty()) {
    std::string text;
    for (const std::string& choice : spec.choices) text += (text.empty() ? "" : "|") + choice;
    return text;
  }
  switch (spec.kind) {
    case Kind::kInt:
      return spec.unit.empty() ? "N" : spec.unit;
    case Kind::kReal:
      return spec.unit.empty() ? "X" : spec.unit;
    case Kind::kStringList:
      return spec.unit.empty() ? "NAME,..." : spec.unit;
    case Kind::kBool:
    case Kind::kString:
      break;
  }
  return spec.unit.empty() ? "TEXT" : spec.unit;
}

std::string help_of(const OptionSpec& spec) {
  std::string text = spec.help;
  if (spec.minimum && spec.maximum) {
    const auto number = [](double value) { return option_text(Datum::real(value)); };
    text += " [" + number(*spec.minimum) + " to " + number(*spec.maximum) + "]";
  }
  if (!spec.default_text.empty() && spec.kind != Kind::kBool) {
    text += " (default " + spec.default_text + ")";
  }
  if (spec.kind == Kind::kBool && spec.default_text == "true") {
    text += " (on unless --no-" + spec.name + ")";
  }
  return text;
}

}  // namespace

void Flags::add(std::span<const OptionSpec> specs, std::string_view group) {
  for (const OptionSpec& spec : specs) {
    if (find(spec.name) != nullptr) continue;
    Bound& bound = bound_.emplace_back();
    bound.spec = spec;
    switch (spec.kind) {
      case Kind::kBool: {
        std::string names = flag_names(spec);
        if (spec.default_text == "true") names += ",!--no-" + spec.name;
        bound.option = app_.add_flag(names, bound.text, help_of(spec));
        break;
      }
      case Kind::kStringList:
        bound.option = app_.add_option(flag_names(spec), bound.texts, help_of(spec))
                           ->expected(1)
                           ->allow_extra_args(false)
                           ->take_all();
        break;
      case Kind::kInt:
      case Kind::kReal:
      case Kind::kString:
        bound.option = app_.add_option(flag_names(spec), bound.text, help_of(spec))->take_last();
        break;
    }
    if (spec.kind != Kind::kBool) bound.option->type_name(value_name(spec));
    const bool hidden = spec.level == OptionSpec::Level::kDeprecated;
    bound.option->group(hidden ? "" : std::string(group));
  }
}

const Flags::Bound* Flags::find(std::string_view name) const {
  for (const Bound& bound : bound_) {
    if (bound.spec.name == name) return &bound;
  }
  return nullptr;
}

const OptionSpec* Flags::spec(std::string_view name) const {
  const Bound* bound = find(name);
  return bound != nullptr ? &bound->spec : nullptr;
}

Datum Flags::datum_of(const Bound& bound) const {
  const Location where{{}, "--" + bound.spec.name, {}};
  if (bound.spec.kind != Kind::kStringList) return Datum::text(bound.text, where);
  Datum list(Datum::Value(Datum::List{}), where);
  for (const std::string& text : bound.texts) list.push(Datum::text(text, where));
  return list;
}

Datum Flags::given(std::span<const OptionSpec> specs) const {
  Datum map = Datum::map();
  for (const OptionSpec& spec : specs) {
    if (has(spec.name)) map.set(spec.name, value(spec.name));
  }
  return map;
}

bool Flags::has(std::string_view name) const {
  const Bound* bound = find(name);
  return bound != nullptr && bound->option->count() > 0;
}

Datum Flags::value(std::string_view name) const {
  return has(name) ? datum_of(*find(name)) : Datum();
}

std::vector<std::string> Flags::names() const {
  std::vector<std::string> names = {"--help"};
  for (const Bound& bound : bound_) {
    names.push_back("--" + bound.spec.name);
    if (bound.spec.kind == Kind::kBool && bound.spec.default_text == "true") {
      names.push_back("--no-" + bound.spec.name);
    }
  }
  return names;
}

}  // namespace mcompress::tools
