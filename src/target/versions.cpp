#include "target/versions.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "support/text.h"

namespace mcompress {
namespace {

using Version = std::array<std::int64_t, 4>;

std::optional<Version> parse_version(std::string_view text) {
  Version version{};
  for (std::size_t part = 0;; ++part) {
    if (part == version.size()) return std::nullopt;
    const std::size_t point = text.find('.');
    const auto number = parse_int(text.substr(0, point));
    if (!number || *number < 0) return std::nullopt;
    version[part] = *number;
    if (point == std::string_view::npos) return version;
    text.remove_prefix(point + 1);
  }
}

struct Condition {
  std::string_view relation;
  Version version;
  bool holds(const Version& given) const {
    if (relation == "<") return given < version;
    if (relation == "<=") return given <= version;
    if (relation == ">") return given > version;
    if (relation == ">=") return given >= version;
    return given == version;
  }
};

std::optional<Condition> parse_condition(std::string_view word) {
  for (const std::string_view relation : {"<=", ">=", "<", ">", "="}) {
    if (!word.starts_with(relation)) continue;
    const auto version = parse_version(word.substr(relation.size()));
    if (!version) return std::nullopt;
    return Condition{relation, *version};
  }
  return std::nullopt;
}

// Calls check(condition) for each until it returns false. False when one is malformed too.
template <class Check>
bool all_conditions(std::string_view text, Check&& check) {
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    text = space == std::string_view::npos ? std::string_view() : text.substr(space + 1);
    if (word.empty()) continue;
    const auto condition = parse_condition(word);
    if (!condition || !check(*condition)) return false;
  }
  return true;
}

}  // namespace

bool are_version_conditions(std::string_view text) {
  return all_conditions(text, [](const Condition&) { return true; });
}

bool version_satisfies(std::string_view version, std::string_view conditions) {
  const auto given = parse_version(version);
  if (!given) return false;
  return all_conditions(conditions,
                        [&](const Condition& condition) { return condition.holds(*given); });
}

}  // namespace mcompress
