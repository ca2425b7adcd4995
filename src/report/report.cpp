#include "mcompress/report.h"

#include <utility>
#include <variant>
#include <vector>

#include "support/ordered.h"

namespace mcompress {

// One list may hold values and scopes in any order.
struct ReportScope::Entry {
  using Scope = std::unique_ptr<ReportScope>;
  using Item = std::variant<Datum, Scope>;
  std::variant<Datum, Scope, std::vector<Item>> content;
};

struct ReportScope::Parts {
  OrderedMap<std::string, Entry> entries;
  OrderedMap<std::string, double> seconds;

  std::vector<Entry::Item>& list(std::string_view key) {
    auto& content = entries[key].content;
    if (!std::holds_alternative<std::vector<Entry::Item>>(content)) {
      std::vector<Entry::Item> items;
      const Datum* fact = std::get_if<Datum>(&content);
      if (fact != nullptr && fact->as_list() != nullptr) {
        items.assign(fact->as_list()->begin(), fact->as_list()->end());
      }
      content = std::move(items);
    }
    return std::get<std::vector<Entry::Item>>(content);
  }
};

ReportScope::ReportScope() : parts_(std::make_unique<Parts>()) {}
ReportScope::~ReportScope() = default;

void ReportScope::set(std::string_view key, Datum value) {
  parts_->entries[key].content = std::move(value);
}

void ReportScope::append(std::string_view key, Datum value) {
  parts_->list(key).emplace_back(std::move(value));
}

ReportScope& ReportScope::child(std::string_view key) {
  auto& content = parts_->entries[key].content;
  if (auto* scope = std::get_if<Entry::Scope>(&content)) return **scope;
  return *content.emplace<Entry::Scope>(std::make_unique<ReportScope>());
}

ReportScope& ReportScope::item(std::string_view key, std::string_view name) {
  auto scope = std::make_unique<ReportScope>();
  scope->text("name", name);
  ReportScope& result = *scope;
  parts_->list(key).emplace_back(std::move(scope));
  return result;
}

void ReportScope::seconds(std::string_view key, double value) { parts_->seconds.set(key, value); }

Datum ReportScope::facts() const {
  // Keys are unique already: pushing avoids the look-up of Datum::set.
  Datum::Map map;
  for (const auto& [key, entry] : parts_->entries) {
    if (const Datum* datum = std::get_if<Datum>(&entry.content)) {
      map.emplace_back(key, *datum);
    } else if (const auto* scope = std::get_if<Entry::Scope>(&entry.content)) {
      map.emplace_back(key, (*scope)->facts());
    } else {
      Datum::List list;
      for (const Entry::Item& item : std::get<std::vector<Entry::Item>>(entry.content)) {
        const auto* nested = std::get_if<Entry::Scope>(&item);
        list.push_back(nested != nullptr ? (*nested)->facts() : std::get<Datum>(item));
      }
      map.emplace_back(key, Datum(Datum::Value(std::move(list))));
    }
  }
  return Datum(Datum::Value(std::move(map)));
}

void ReportScope::collect_times(const std::string& path, Datum::List& out) const {
  for (const auto& [key, value] : parts_->seconds) {
    Datum entry = Datum::map();
    entry.set("path", Datum::string(path));
    entry.set("key", Datum::string(key));
    entry.set("seconds", Datum::real(value));
    out.push_back(std::move(entry));
  }
  for (const auto& [key, entry] : parts_->entries) {
    const std::string below = path.empty() ? key : path + "." + key;
    if (const auto* scope = std::get_if<Entry::Scope>(&entry.content)) {
      (*scope)->collect_times(below, out);
    } else if (const auto* list = std::get_if<std::vector<Entry::Item>>(&entry.content)) {
      for (std::size_t i = 0; i < list->size(); ++i) {
        const auto* nested = std::get_if<Entry::Scope>(&(*list)[i]);
        if (nested == nullptr) continue;
        (*nested)->collect_times(below + '[' + std::to_string(i) + ']', out);
      }
    }
  }
}

Datum ReportScope::times() const {
  Datum::List list;
  collect_times("", list);
  return Datum(Datum::Value(std::move(list)));
}

void Report::add_diagnostics(const Diagnostics& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics.all()) {
    static constexpr const char* kLevels[] = {"note", "warning", "error"};
    Datum entry = Datum::map();
    entry.set("level", Datum::string(kLevels[static_cast<std::size_t>(diagnostic.level)]));
    entry.set("id", Datum::string(diagnostic.id));
    entry.set("message", Datum::string(diagnostic.message));
    const std::string& file = diagnostic.where.file;
    const std::pair<std::string_view, std::string> optional_parts[] = {
        {"hint", diagnostic.hint},
        {"file", file.substr(file.rfind('/') + 1)},
        {"path", diagnostic.where.path},
        {"subject", diagnostic.where.subject}};
    for (const auto& [key, text] : optional_parts) {
      if (!text.empty()) entry.set(key, Datum::string(text));
    }
    root_.append("diagnostics", std::move(entry));
  }
}

Datum Report::to_datum(Times times) const {
  Datum::Map map;
  map.emplace_back("schema", Datum::string("mcompress-report"));
  map.emplace_back("schema_version", Datum::integer(kSchemaVersion));
  Datum facts = root_.facts();
  for (auto& entry : std::get<Datum::Map>(facts.value())) map.push_back(std::move(entry));
  if (times == Times::kInclude) map.emplace_back("times", root_.times());
  return Datum(Datum::Value(std::move(map)));
}

}  // namespace mcompress
