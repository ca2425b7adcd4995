#include <algorithm>
#include <cmath>

#include "mcompress/options.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {

const Datum* Datum::find(std::string_view key) const {
  const Map* map = as_map();
  if (map == nullptr) return nullptr;
  for (const auto& [name, value] : *map) {
    if (name == key) return &value;
  }
  return nullptr;
}

Datum& Datum::set(std::string_view key, Datum value) {
  if (!std::holds_alternative<Map>(value_)) value_ = Map{};
  Map& map = std::get<Map>(value_);
  for (auto& [name, present] : map) {
    if (name == key) return present = std::move(value);
  }
  map.emplace_back(std::string(key), std::move(value));
  return map.back().second;
}

void Datum::push(Datum value) {
  if (!std::holds_alternative<List>(value_)) value_ = List{};
  std::get<List>(value_).push_back(std::move(value));
}

namespace {

// Doubles hold every integer up to here.
constexpr double kExactIntegers = 9007199254740992.0;

using Kind = OptionSpec::Kind;

std::string_view expectation(Kind kind) {
  switch (kind) {
    case Kind::kBool:
      return "true or false";
    case Kind::kInt:
      return "an integer";
    case Kind::kReal:
      return "a number";
    case Kind::kString:
      return "text";
    case Kind::kStringList:
      break;
  }
  return "a list of texts";
}

std::string describe(const Datum& datum) {
  if (datum.is_null()) return "nothing";
  if (datum.as_map() != nullptr) return "a map";
  if (datum.as_list() != nullptr) return "a list";
  if (const std::string* text = datum.as_string()) return "the text '" + *text + "'";
  if (const auto* typed = std::get_if<Datum::Text>(&datum.value())) return "'" + typed->text + "'";
  return option_text(datum);
}

Error usage(std::string_view id, std::string message, Location where, std::string hint = {}) {
  return Error(Code::kUsage, id, std::move(message), std::move(where), std::move(hint));
}

Error wrong_type(const OptionSpec& spec, const Datum& datum, const Location& where) {
  std::string hint;
  if (spec.kind == Kind::kBool && datum.as_string() != nullptr) hint = "write it without quotes";
  return usage("wrong-option-type",
               "expects " + std::string(expectation(spec.kind)) + ", not " + describe(datum), where,
               std::move(hint));
}

std::optional<bool> read_bool(const Datum& datum) {
  if (const bool* value = std::get_if<bool>(&datum.value())) return *value;
  const auto* typed = std::get_if<Datum::Text>(&datum.value());
  if (typed == nullptr) return std::nullopt;
  if (typed->text == "true" || typed->text == "1" || typed->text == "on") return true;
  if (typed->text == "false" || typed->text == "0" || typed->text == "off") return false;
  return std::nullopt;
}

std::optional<double> read_real(const Datum& datum) {
  std::optional<double> value;
  if (const auto* integer = std::get_if<std::int64_t>(&datum.value())) {
    value = static_cast<double>(*integer);
  } else if (const double* real = std::get_if<double>(&datum.value())) {
    value = *real;
  } else if (const auto* typed = std::get_if<Datum::Text>(&datum.value())) {
    value = parse_real(typed->text);
  } else if (const std::string* text = datum.as_string(); text != nullptr) {
    // JSON has no other way to write an infinity.
    if (*text == "inf" || *text == "-inf") value = parse_real(*text);
  }
  if (value && std::isnan(*value)) return std::nullopt;
  return value;
}

std::optional<std::int64_t> read_int(const OptionSpec& spec, const Datum& datum) {
  if (const auto* integer = std::get_if<std::int64_t>(&datum.value())) return *integer;
  std::optional<std::int64_t> value;
  std::string_view text;
  if (const auto* typed = std::get_if<Datum::Text>(&datum.value())) {
    text = typed->text;
    value = parse_int(text);
  } else if (const std::string* string = datum.as_string(); string && spec.unit == "bytes") {
    text = *string;
  }
  if (!value && !text.empty() && spec.unit == "bytes") value = parse_bytes(text);
  if (value || datum.as_string() != nullptr) return value;
  const std::optional<double> real = read_real(datum);
  if (!real || *real != std::floor(*real) || std::abs(*real) > kExactIntegers) return std::nullopt;
  return static_cast<std::int64_t>(*real);
}

// Splits at commas; "\," is a comma and "\\" a backslash inside a name.
void split_names(std::string_view text, Datum::List& names) {
  if (text.empty()) return;
  std::string name;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == ',' || text[i + 1] == '\\')) {
      name += text[++i];
    } else if (text[i] == ',') {
      names.push_back(Datum::string(name));
      name.clear();
    } else {
      name += text[i];
    }
  }
  names.push_back(Datum::string(name));
}

std::optional<Datum::List> read_names(const Datum& datum) {
  Datum::List names;
  const auto read_one = [&names](const Datum& item) {
    if (const auto* typed = std::get_if<Datum::Text>(&item.value())) {
      split_names(typed->text, names);
    } else if (const std::string* text = item.as_string()) {
      names.push_back(Datum::string(*text));
    } else {
      return false;
    }
    return true;
  };
  if (const Datum::List* list = datum.as_list()) {
    if (!std::all_of(list->begin(), list->end(), read_one)) return std::nullopt;
  } else if (!read_one(datum)) {
    return std::nullopt;
  }
  return names;
}

std::optional<Datum> read_typed(const OptionSpec& spec, const Datum& datum) {
  switch (spec.kind) {
    case Kind::kBool:
      if (const auto value = read_bool(datum)) return Datum::boolean(*value);
      break;
    case Kind::kInt:
      if (const auto value = read_int(spec, datum)) return Datum::integer(*value);
      break;
    case Kind::kReal:
      if (const auto value = read_real(datum)) return Datum::real(*value);
      break;
    case Kind::kString:
      if (const auto* typed = std::get_if<Datum::Text>(&datum.value())) {
        return Datum::string(typed->text);
      }
      if (const std::string* text = datum.as_string()) return Datum::string(*text);
      break;
    case Kind::kStringList:
      if (auto names = read_names(datum)) return Datum(Datum::Value(std::move(*names)));
      break;
  }
  return std::nullopt;
}

Status check_choice(const OptionSpec& spec, const std::string& text, const Location& where) {
  if (spec.choices.empty() ||
      std::find(spec.choices.begin(), spec.choices.end(), text) != spec.choices.end()) {
    return ok_status();
  }
  return usage("option-not-a-choice", "'" + text + "' is none of " + join(spec.choices, ", "),
               where, did_you_mean(text, spec.choices));
}

Status check_bounds(const OptionSpec& spec, const Datum& checked, const Location& where) {
  if (const std::string* text = checked.as_string()) return check_choice(spec, *text, where);
  if (const Datum::List* list = checked.as_list()) {
    for (const Datum& item : *list) {
      MCOMPRESS_TRY(check_choice(spec, std::get<std::string>(item.value()), where));
    }
    return ok_status();
  }
  // long double tells neighbouring 64-bit integers apart where it is wider than double.
  long double number = 0;
  if (const auto* integer = std::get_if<std::int64_t>(&checked.value())) {
    number = static_cast<long double>(*integer);
  } else if (const double* real = std::get_if<double>(&checked.value())) {
    number = *real;
  } else {
    return ok_status();
  }
  const std::string unit = spec.unit.empty() ? "" : " " + spec.unit;
  if (spec.minimum && number < *spec.minimum) {
    return usage("option-below-minimum",
                 option_text(checked) + " is below " + shortest(*spec.minimum) + unit, where);
  }
  if (spec.maximum && number > *spec.maximum) {
    return usage("option-above-maximum",
                 option_text(checked) + " is above " + shortest(*spec.maximum) + unit, where);
  }
  return ok_status();
}

// Where an entry of the map stands; what its own location lacks comes from the map.
Location entry_location(const Datum& map, const std::string& name, const Datum& entry) {
  Location where = entry.where();
  if (where.file.empty()) where.file = map.where().file;
  if (where.path.empty()) {
    where.path = map.where().path.empty() ? name : map.where().path + "." + name;
  }
  return where;
}

std::vector<std::string> known_names(std::span<const SchemaField> fields) {
  std::vector<std::string> names;
  for (const SchemaField& field : fields) {
    if (field.spec.level != OptionSpec::Level::kDeprecated) names.push_back(field.spec.name);
  }
  return names;
}

}  // namespace

Status parse_fields(std::span<const SchemaField> fields, const Datum& datum, void* options,
                    Diagnostics& diagnostics) {
  if (datum.is_null()) return ok_status();
  const Datum::Map* map = datum.as_map();
  if (map == nullptr) {
    return usage("options-not-a-map", "expects a map of options, not " + describe(datum),
                 datum.where());
  }
  for (const auto& [name, entry] : *map) {
    const Location where = entry_location(datum, name, entry);
    const auto field = std::find_if(fields.begin(), fields.end(), [&key = name](const auto& known) {
      return known.spec.name == key;
    });
    if (field == fields.end()) {
      const std::vector<std::string> names = known_names(fields);
      std::string hint = did_you_mean(name, names);
      if (hint.empty()) {
        hint = names.empty() ? "there are no options here" : "known: " + join(names, ", ");
      }
      return usage("unknown-option", "unknown option '" + name + "'", where, std::move(hint));
    }
    const OptionSpec& spec = field->spec;
    if (spec.level == OptionSpec::Level::kDeprecated) {
      diagnostics.warn("deprecated-option", "'" + name + "' is deprecated", where,
                       spec.replaced_by.empty() ? "" : "use '" + spec.replaced_by + "'");
    }
    if (entry.is_null()) continue;  // as if it were not there
    const std::optional<Datum> checked = read_typed(spec, entry);
    if (!checked) return wrong_type(spec, entry, where);
    MCOMPRESS_TRY(check_bounds(spec, *checked, where));
    field->assign(options, *checked);
  }
  return ok_status();
}

std::string option_text(const Datum& datum) {
  const Datum::Value& value = datum.value();
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
  if (const double* real = std::get_if<double>(&value)) return shortest(*real);
  if (const std::string* text = datum.as_string()) return *text;
  if (const auto* typed = std::get_if<Datum::Text>(&value)) return typed->text;
  std::string text;
  if (const Datum::List* list = datum.as_list()) {
    for (std::size_t i = 0; i < list->size(); ++i) {
      if (i != 0) text += ',';
      for (const char c : option_text((*list)[i])) {
        if (c == ',' || c == '\\') text += '\\';
        text += c;
      }
    }
  }
  return text;
}

}  // namespace mcompress
