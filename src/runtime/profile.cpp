#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>

#include "mcompress/runtime.h"
#include "support/json.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kKernelTime = "_kernel_time";

std::string text_of(const Datum* datum) {
  if (datum == nullptr) return {};
  const std::string* text = datum->as_string();
  return text == nullptr ? std::string() : *text;
}

double number_of(const Datum* datum) {
  if (datum == nullptr) return 0;
  if (const auto* whole = std::get_if<std::int64_t>(&datum->value())) {
    return static_cast<double>(*whole);
  }
  if (const auto* real = std::get_if<double>(&datum->value())) return *real;
  return 0;
}

}  // namespace

Result<std::vector<ProfileEvent>> parse_profile(std::string_view json, std::string_view file) {
  // The runtime keeps up to a million events of about twenty values.
  ParseLimits limits;
  limits.bytes = std::uint64_t{4} << 30;
  limits.values = 40'000'000;
  MCOMPRESS_ASSIGN(const Datum root, parse_json(json, file, limits));
  const Datum::List* events = root.as_list();
  if (events == nullptr) {
    return Error(Code::kInternal, "profile-unreadable", "the runtime's profile is no list",
                 Location{std::string(file), {}, {}});
  }
  std::map<std::string, std::size_t, std::less<>> places;
  std::vector<ProfileEvent> result;
  for (const Datum& event : *events) {
    if (text_of(event.find("cat")) != "Node") continue;
    std::string name = text_of(event.find("name"));
    if (!name.ends_with(kKernelTime)) continue;
    name.resize(name.size() - kKernelTime.size());
    const auto [place, added] = places.try_emplace(name, result.size());
    if (added) {
      ProfileEvent fresh;
      fresh.node = std::move(name);
      if (const Datum* arguments = event.find("args")) {
        fresh.op_type = text_of(arguments->find("op_name"));
        fresh.provider = text_of(arguments->find("provider"));
      }
      result.push_back(std::move(fresh));
    }
    ProfileEvent& total = result[place->second];
    total.microseconds += number_of(event.find("dur"));
    ++total.calls;
  }
  std::sort(result.begin(), result.end(), [](const ProfileEvent& a, const ProfileEvent& b) {
    return a.microseconds != b.microseconds ? a.microseconds > b.microseconds : a.node < b.node;
  });
  return result;
}

}  // namespace mcompress
