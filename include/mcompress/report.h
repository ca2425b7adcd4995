// What a run did, as data: facts in the order they were given. The same work gives the same
// report, byte for byte; times are kept apart and left out unless asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "mcompress/options.h"
#include "mcompress/status.h"

namespace mcompress {

// A map of facts, nested scopes and lists. Keys share one name space; giving a key again replaces
// its value in place. A scope is used by one thread at a time; references to scopes hold as long
// as the report lives (a scope that is replaced by a fact ends).
class ReportScope {
 public:
  ReportScope();
  ~ReportScope();
  ReportScope(const ReportScope&) = delete;
  ReportScope& operator=(const ReportScope&) = delete;

  void set(std::string_view key, Datum value);
  void text(std::string_view key, std::string_view value) { set(key, Datum::string(value)); }
  void flag(std::string_view key, bool value) { set(key, Datum::boolean(value)); }
  void number(std::string_view key, double value) { set(key, Datum::real(value)); }
  void count(std::string_view key, std::int64_t value) { set(key, Datum::integer(value)); }

  // Adds a value at the end of the list `key`.
  void append(std::string_view key, Datum value);
  // The scope `key`, made when missing.
  ReportScope& child(std::string_view key);
  // A new scope at the end of the list `key`; its first fact is "name".
  ReportScope& item(std::string_view key, std::string_view name);

  // Seconds a step took. Not part of facts().
  void seconds(std::string_view key, double value);

  // All facts and nested scopes as a map.
  Datum facts() const;
  // All times of this scope and those below: a list of {path, key, seconds}.
  Datum times() const;

 private:
  struct Entry;
  struct Parts;
  void collect_times(const std::string& path, Datum::List& out) const;

  std::unique_ptr<Parts> parts_;
};

class Report {
 public:
  // Grows with every change that could break a reader: removed or renamed keys, other meanings.
  static constexpr std::int64_t kSchemaVersion = 1;
  enum class Times : std::uint8_t { kOmit, kInclude };

  ReportScope& root() { return root_; }
  const ReportScope& root() const { return root_; }

  // Lists the notes, warnings and errors under "diagnostics". Files are named without folders.
  void add_diagnostics(const Diagnostics& diagnostics);

  // {"schema": "mcompress-report", "schema_version": 1, <facts of the root>, "times": [...]}.
  Datum to_datum(Times times = Times::kOmit) const;

 private:
  ReportScope root_;
};

}  // namespace mcompress
