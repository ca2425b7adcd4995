// Options as data. A Datum is what a recipe file, a flag or an API call supplies; a Schema binds
// the fields of an options struct to names, bounds and help, and is the one source of flags,
// recipe keys, help texts and documentation.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "mcompress/status.h"

namespace mcompress {

// A JSON-like value with the place it came from. `Text` is a value typed on a command line: its
// type is decided by the option it is bound to.
class Datum {
 public:
  struct Text {
    std::string text;
    bool operator==(const Text&) const = default;
  };
  using List = std::vector<Datum>;
  using Map = std::vector<std::pair<std::string, Datum>>;  // insertion order, keys unique
  using Value =
      std::variant<std::monostate, bool, std::int64_t, double, std::string, Text, List, Map>;

  Datum() = default;
  Datum(Value value, Location where = {}) : value_(std::move(value)), where_(std::move(where)) {}

  static Datum map() { return Datum(Value(Map{})); }
  static Datum list() { return Datum(Value(List{})); }
  static Datum string(std::string_view text) { return Datum(Value(std::string(text))); }
  static Datum text(std::string_view text, Location where) {
    return Datum(Value(Text{std::string(text)}), std::move(where));
  }
  static Datum integer(std::int64_t number) { return Datum(Value(number)); }
  static Datum real(double number) { return Datum(Value(number)); }
  static Datum boolean(bool value) { return Datum(Value(value)); }

  const Value& value() const { return value_; }
  Value& value() { return value_; }
  const Location& where() const { return where_; }
  void set_where(Location where) { where_ = std::move(where); }
  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  const Map* as_map() const { return std::get_if<Map>(&value_); }
  const List* as_list() const { return std::get_if<List>(&value_); }
  const std::string* as_string() const { return std::get_if<std::string>(&value_); }
  // Looks a key up in a map; null when this is no map or has no such key.
  const Datum* find(std::string_view key) const;
  // Sets a key of a map (turning null into a map first); keeps the position of an existing key.
  Datum& set(std::string_view key, Datum value);
  void push(Datum value);
  // Compares values only, not locations.
  bool operator==(const Datum& other) const { return value_ == other.value_; }

 private:
  Value value_;
  Location where_;
};

struct OptionSpec {
  enum class Level : std::uint8_t { kBasic, kAdvanced, kExperimental, kDeprecated };
  enum class Kind : std::uint8_t { kBool, kInt, kReal, kString, kStringList };

  std::string name;  // kebab-case; the flag is "--" + name
  std::string help;
  Kind kind = Kind::kString;
  std::string unit;
  std::string default_text;
  std::vector<std::string> choices;  // for strings; empty: anything
  std::optional<double> minimum, maximum;
  Level level = Level::kBasic;
  std::string replaced_by;
};

// The type-erased part of a Schema: one field knows how to read and print itself.
struct SchemaField {
  OptionSpec spec;
  std::function<void(void* options, const Datum& checked)> assign;
  std::function<Datum(const void* options)> print;
};

// Checks `datum` (a map, or null for "all defaults") against the fields: unknown keys get the
// nearest name, text becomes the field's type, bounds and choices are enforced. Each accepted
// value is handed to the field's `assign`. Location paths are "<path>.<name>" or "--<name>".
Status parse_fields(std::span<const SchemaField> fields, const Datum& datum, void* options,
                    Diagnostics& diagnostics);

template <class Options>
class Schema {
 public:
  // T is bool, std::int64_t, double, std::string or std::vector<std::string>.
  template <class T>
  Schema& field(std::string_view name, T Options::*member, std::string_view help) {
    SchemaField entry;
    entry.spec.name = name;
    entry.spec.help = help;
    if constexpr (std::is_same_v<T, bool>) {
      entry.spec.kind = OptionSpec::Kind::kBool;
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
      entry.spec.kind = OptionSpec::Kind::kInt;
    } else if constexpr (std::is_same_v<T, double>) {
      entry.spec.kind = OptionSpec::Kind::kReal;
    } else if constexpr (std::is_same_v<T, std::string>) {
      entry.spec.kind = OptionSpec::Kind::kString;
    } else {
      static_assert(std::is_same_v<T, std::vector<std::string>>, "unsupported option type");
      entry.spec.kind = OptionSpec::Kind::kStringList;
    }
    entry.assign = [member](void* options, const Datum& datum) {
      T& target = static_cast<Options*>(options)->*member;
      if constexpr (std::is_same_v<T, std::vector<std::string>>) {
        target.clear();
        for (const Datum& item : std::get<Datum::List>(datum.value())) {
          target.push_back(std::get<std::string>(item.value()));
        }
      } else {
        target = std::get<T>(datum.value());
      }
    };
    entry.print = [member](const void* options) {
      const T& source = static_cast<const Options*>(options)->*member;
      if constexpr (std::is_same_v<T, std::vector<std::string>>) {
        Datum::List items;
        for (const std::string& item : source) items.push_back(Datum::string(item));
        return Datum(Datum::Value(std::move(items)));
      } else {
        return Datum(Datum::Value(source));
      }
    };
    const Options defaults{};
    entry.spec.default_text = default_text(entry.print(&defaults));
    fields_.push_back(std::move(entry));
    specs_.push_back(fields_.back().spec);
    return *this;
  }
  // These refine the field that was just added.
  Schema& range(double minimum, double maximum) {
    return refine([&](OptionSpec& spec) { spec.minimum = minimum, spec.maximum = maximum; });
  }
  Schema& choices(std::initializer_list<std::string_view> names) {
    return refine([&](OptionSpec& spec) { spec.choices.assign(names.begin(), names.end()); });
  }
  Schema& unit(std::string_view name) {
    return refine([&](OptionSpec& spec) { spec.unit = name; });
  }
  Schema& level(OptionSpec::Level level) {
    return refine([&](OptionSpec& spec) { spec.level = level; });
  }
  Schema& replaced_by(std::string_view name) {
    return refine([&](OptionSpec& spec) { spec.replaced_by = name; });
  }
  // A condition across fields; `check` returns the error or ok.
  Schema& rule(std::function<Status(const Options&)> check) {
    rules_.push_back(std::move(check));
    return *this;
  }

  Result<Options> parse(const Datum& datum, Diagnostics& diagnostics) const {
    Options options{};
    Status status = parse_fields(fields_, datum, &options, diagnostics);
    if (!status.ok()) return std::move(status).error();
    for (const auto& rule : rules_) {
      Status result = rule(options);
      if (!result.ok()) return std::move(result).error();
    }
    return options;
  }
  // parse(print(x)) == x.
  Datum print(const Options& options) const {
    Datum map = Datum::map();
    for (const SchemaField& entry : fields_) map.set(entry.spec.name, entry.print(&options));
    return map;
  }
  std::span<const OptionSpec> specs() const { return specs_; }

 private:
  static std::string default_text(const Datum& datum);
  template <class F>
  Schema& refine(F&& change) {
    change(fields_.back().spec);
    specs_.back() = fields_.back().spec;
    return *this;
  }
  std::vector<SchemaField> fields_;
  std::vector<OptionSpec> specs_;
  std::vector<std::function<Status(const Options&)>> rules_;
};

// "3", "0.5", "true", "a,b": the text form that parses back to the same value.
std::string option_text(const Datum& datum);

template <class Options>
std::string Schema<Options>::default_text(const Datum& datum) {
  return option_text(datum);
}

}  // namespace mcompress
