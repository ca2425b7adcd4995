// Reading a map of a target file key by key: what is not asked for is an error.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mcompress/options.h"
#include "mcompress/status.h"

namespace mcompress {

Error target_error(std::string message, const Datum& datum, std::string hint = {});

// `what` names the map in messages: "a target", "operator 'Conv'". Keys that are absent leave
// their variable alone. Each reader fails with kUsage on a wrong type, finish() on a key that
// nobody asked for, naming the nearest one.
class TargetFields {
 public:
  TargetFields(const Datum& datum, std::string what) : datum_(datum), what_(std::move(what)) {}

  Status open() const;  // is it a map?
  const Datum* find(std::string_view key);
  Status text(std::string_view key, std::string& out);
  Status flag(std::string_view key, bool& out);
  Status flag(std::string_view key, std::optional<bool>& out);
  Status whole(std::string_view key, std::int64_t& out);
  Status whole(std::string_view key, std::optional<std::int64_t>& out);
  // A number above 0.
  Status positive(std::string_view key, double& out);
  Status wholes(std::string_view key, std::vector<std::int64_t>& out);
  Status names(std::string_view key, std::vector<std::string>& out);
  // One of the names in `choices`.
  template <class T, std::size_t N>
  Status choice(std::string_view key, const std::array<std::pair<std::string_view, T>, N>& choices,
                T& out) {
    const Datum* value = find(key);
    if (value == nullptr) return ok_status();
    std::vector<std::string> known;
    for (const auto& [name, meaning] : choices) {
      known.emplace_back(name);
      if (value->as_string() == nullptr || *value->as_string() != name) continue;
      out = meaning;
      return ok_status();
    }
    return not_among(key, *value, known);
  }
  Status finish() const;

 private:
  Error wrong_type(std::string_view key, const Datum& value, std::string_view wanted) const;
  Error not_among(std::string_view key, const Datum& value,
                  const std::vector<std::string>& known) const;

  const Datum& datum_;
  std::string what_;
  std::vector<std::string> asked_;
};

}  // namespace mcompress
