// From option declarations to command line flags. Values are never parsed here: each becomes a
// Datum that knows its flag, and the schema reads it.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/options.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace mcompress::tools {

class Flags {
 public:
  explicit Flags(CLI::App& app) : app_(app) {}
  Flags(const Flags&) = delete;
  Flags& operator=(const Flags&) = delete;

  // Adds a flag per option; one that is there already is left alone. `group` heads them in the
  // help text.
  void add(std::span<const OptionSpec> specs, std::string_view group);
  // What was typed for the options of `specs`, as a map.
  Datum given(std::span<const OptionSpec> specs) const;
  bool has(std::string_view name) const;
  // What was typed; null when the flag was not given.
  Datum value(std::string_view name) const;
  // All flags, with their dashes.
  std::vector<std::string> names() const;
  // What declares a flag, named without dashes; null for others.
  const OptionSpec* spec(std::string_view name) const;

 private:
  struct Bound {
    OptionSpec spec;
    CLI::Option* option = nullptr;
    std::vector<std::string> texts;
    std::string text;
  };
  const Bound* find(std::string_view name) const;
  Datum datum_of(const Bound& bound) const;

  CLI::App& app_;
  std::deque<Bound> bound_;
};

}  // namespace mcompress::tools
