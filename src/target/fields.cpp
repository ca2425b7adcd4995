#include "target/fields.h"

#include <algorithm>
#include <cmath>

#include "support/text.h"
#include "support/try.h"

namespace mcompress {

Error target_error(std::string message, const Datum& datum, std::string hint) {
  return Error(Code::kUsage, "bad-target", std::move(message), datum.where(), std::move(hint));
}

Status TargetFields::open() const {
  if (datum_.as_map() != nullptr) return ok_status();
  return target_error(what_ + " must be a map", datum_);
}

const Datum* TargetFields::find(std::string_view key) {
  asked_.emplace_back(key);
  const Datum* value = datum_.find(key);
  return value != nullptr && !value->is_null() ? value : nullptr;
}

Error TargetFields::wrong_type(std::string_view key, const Datum& value,
                               std::string_view wanted) const {
  return target_error("'" + std::string(key) + "' of " + what_ + " must be " + std::string(wanted),
                      value);
}

Error TargetFields::not_among(std::string_view key, const Datum& value,
                              const std::vector<std::string>& known) const {
  const std::string* text = value.as_string();
  std::string hint = text != nullptr ? did_you_mean(*text, known) : std::string();
  if (hint.empty()) hint = "known: " + join(known, ", ");
  return target_error("'" + std::string(key) + "' of " + what_ +
                          (text != nullptr ? " is '" + *text + "', which is not known"
                                           : std::string(" must be a name")),
                      value, std::move(hint));
}

Status TargetFields::text(std::string_view key, std::string& out) {
  const Datum* value = find(key);
  if (value == nullptr) return ok_status();
  if (value->as_string() == nullptr) return wrong_type(key, *value, "a text");
  out = *value->as_string();
  return ok_status();
}

Status TargetFields::flag(std::string_view key, bool& out) {
  std::optional<bool> value;
  MCOMPRESS_TRY(flag(key, value));
  if (value) out = *value;
  return ok_status();
}

Status TargetFields::flag(std::string_view key, std::optional<bool>& out) {
  const Datum* value = find(key);
  if (value == nullptr) return ok_status();
  const bool* given = std::get_if<bool>(&value->value());
  if (given == nullptr) return wrong_type(key, *value, "true or false");
  out = *given;
  return ok_status();
}

Status TargetFields::whole(std::string_view key, std::int64_t& out) {
  std::optional<std::int64_t> value;
  MCOMPRESS_TRY(whole(key, value));
  if (value) out = *value;
  return ok_status();
}

Status TargetFields::whole(std::string_view key, std::optional<std::int64_t>& out) {
  const Datum* value = find(key);
  if (value == nullptr) return ok_status();
  const auto* given = std::get_if<std::int64_t>(&value->value());
  if (given == nullptr || *given < 0) return wrong_type(key, *value, "a whole number from 0 up");
  out = *given;
  return ok_status();
}

Status TargetFields::positive(std::string_view key, double& out) {
  const Datum* value = find(key);
  if (value == nullptr) return ok_status();
  const auto* whole = std::get_if<std::int64_t>(&value->value());
  const auto* given = std::get_if<double>(&value->value());
  const double number = whole != nullptr   ? static_cast<double>(*whole)
                        : given != nullptr ? *given
                                           : 0.0;
  if (!(number > 0) || !std::isfinite(number)) return wrong_type(key, *value, "a number above 0");
  out = number;
  return ok_status();
}

Status TargetFields::wholes(std::string_view key, std::vector<std::int64_t>& out) {
  const Datum* value = find(key);
  if (value == nullptr) return ok_status();
  out.clear();
  if (value->as_list() == nullptr) return wrong_type(key, *value, "a list of whole numbers");
  for (const Datum& item : *value->as_list()) {
    const auto* given = std::get_if<std::int64_t>(&item.value());
    if (given == nullptr) return wrong_type(key, item, "a list of whole numbers");
    out.push_back(*given);
  }
  return ok_status();
}

Status TargetFields::names(std::string_view key, std::vector<std::string>& out) {
  const Datum* value = find(key);
  if (value == nullptr) return ok_status();
  out.clear();
  if (value->as_list() == nullptr) return wrong_type(key, *value, "a list of names");
  for (const Datum& item : *value->as_list()) {
    if (item.as_string() == nullptr) return wrong_type(key, item, "a list of names");
    out.push_back(*item.as_string());
  }
  return ok_status();
}

Status TargetFields::finish() const {
  for (const auto& [key, value] : *datum_.as_map()) {
    if (std::find(asked_.begin(), asked_.end(), key) != asked_.end()) continue;
    std::string hint = did_you_mean(key, asked_);
    if (hint.empty()) hint = "known: " + join(asked_, ", ");
    return target_error("unknown key '" + key + "' in " + what_, value, std::move(hint));
  }
  return ok_status();
}

}  // namespace mcompress
