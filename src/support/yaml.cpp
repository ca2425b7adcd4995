#include "support/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>

#include "support/json.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Thrown to leave the library's parser; the builder holds the error.
struct Stop {};

std::optional<std::int64_t> based_int(std::string_view digits, int base) {
  std::int64_t value = 0;
  const char* stop = digits.data() + digits.size();
  const auto [end, error] = std::from_chars(digits.data(), stop, value, base);
  if (error != std::errc() || end != stop) return std::nullopt;
  return value;
}

bool looks_like_number(std::string_view text) {
  if (text.starts_with('+') || text.starts_with('-')) text.remove_prefix(1);
  if (text.starts_with('.')) text.remove_prefix(1);
  return !text.empty() && text.front() >= '0' && text.front() <= '9';
}

// YAML 1.2 core schema.
Datum::Value resolve_plain(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return {};
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::string folded = lower(text);
  if (folded == ".inf" || folded == "+.inf") return kInfinity;
  if (folded == "-.inf") return -kInfinity;
  if (folded == ".nan") return std::numeric_limits<double>::quiet_NaN();
  if (text.starts_with("0x")) {
    if (const auto value = based_int(std::string_view(text).substr(2), 16)) return *value;
  } else if (text.starts_with("0o")) {
    if (const auto value = based_int(std::string_view(text).substr(2), 8)) return *value;
  } else if (looks_like_number(text)) {
    if (const auto value = parse_int(text)) return *value;
    if (const auto value = parse_real(text)) return *value;
  }
  return text;
}

class Handler final : public YAML::EventHandler {
 public:
  Handler(std::string_view file, const ParseLimits& limits) : builder_(file, limits) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    if (key_expected())
      key(mark, "");
    else
      value(mark, {});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(mark, "yaml-alias", "an alias ('*name') is not read; write the value again");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& text) override {
    if (key_expected()) return key(mark, text);
    if (tag.empty() || tag == "?") return value(mark, resolve_plain(text));
    if (tag != "!" && tag != "tag:yaml.org,2002:str") unknown_tag(mark, tag);
    value(mark, text);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    begin(mark, tag, "tag:yaml.org,2002:seq", false);
  }
  void OnSequenceEnd() override { finish(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    begin(mark, tag, "tag:yaml.org,2002:map", true);
  }
  void OnMapEnd() override { finish(); }

  DatumBuilder& builder() { return builder_; }

 private:
  static std::size_t line(const YAML::Mark& mark) {
    return static_cast<std::size_t>(mark.line) + 1;
  }
  static std::size_t column(const YAML::Mark& mark) {
    return static_cast<std::size_t>(mark.column) + 1;
  }
  bool key_expected() const { return builder_.in_map() && !have_key_.back(); }
  [[noreturn]] void fail(const YAML::Mark& mark, std::string_view id, std::string message) {
    builder_.fail(id, std::move(message), line(mark), column(mark));
    throw Stop{};
  }
  [[noreturn]] void unknown_tag(const YAML::Mark& mark, const std::string& tag) {
    fail(mark, "yaml-tag", "the tag '" + tag + "' is not known");
  }
  void key(const YAML::Mark& mark, const std::string& name) {
    if (!builder_.key(name, line(mark), column(mark))) throw Stop{};
    have_key_.back() = true;
  }
  void value(const YAML::Mark& mark, Datum::Value content) {
    if (!builder_.scalar(std::move(content), line(mark), column(mark))) throw Stop{};
    placed();
  }
  void begin(const YAML::Mark& mark, const std::string& tag, std::string_view standard, bool map) {
    if (!tag.empty() && tag != "?" && tag != "!" && tag != standard) unknown_tag(mark, tag);
    if (key_expected()) fail(mark, "yaml-key", "a key has to be a text, not a list or a map");
    if (!builder_.begin(map, line(mark), column(mark))) throw Stop{};
    have_key_.push_back(false);
  }
  void finish() {
    if (!builder_.end()) throw Stop{};
    have_key_.pop_back();
    placed();
  }
  void placed() {
    if (!have_key_.empty()) have_key_.back() = false;
  }

  DatumBuilder builder_;
  std::vector<bool> have_key_;  // one per open container
};

class YamlPrinter {
 public:
  std::string print(const Datum& datum) {
    if (is_inline(datum, 0)) {
      text_ += flow(datum);
    } else {
      block(datum, 0);
    }
    if (text_.empty() || text_.back() != '\n') text_ += '\n';
    return std::move(text_);
  }

 private:
  static constexpr std::size_t kWidth = 80;

  static bool is_scalar(const Datum& datum) {
    return datum.as_map() == nullptr && datum.as_list() == nullptr;
  }

  // Quoted where it would read as something else.
  static std::string scalar(const Datum& datum) {
    const std::string* text = datum.as_string();
    if (text == nullptr) return print_json_line(datum);
    bool plain = !text->empty() && std::holds_alternative<std::string>(resolve_plain(*text));
    for (std::size_t i = 0; plain && i < text->size(); ++i) {
      const char c = (*text)[i];
      const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      const bool inside = i > 0 && (c == '-' || (c == ' ' && i + 1 < text->size()));
      plain = word || c == '_' || c == '/' || (c == '.' && i > 0) || inside;
    }
    return plain ? *text : print_json_line(datum);
  }

  static std::string flow(const Datum& datum) {
    if (const Datum::List* list = datum.as_list()) {
      std::string text = "[";
      for (const Datum& item : *list) text += (text.size() > 1 ? ", " : "") + flow(item);
      return text + "]";
    }
    if (const Datum::Map* map = datum.as_map()) {
      std::string text = "{";
      for (const auto& [key, value] : *map) {
        text += (text.size() > 1 ? ", " : "") + scalar(Datum::string(key)) + ": " + flow(value);
      }
      return text + "}";
    }
    return scalar(datum);
  }

  // Short lists and maps of scalars stand on one line.
  static bool is_inline(const Datum& datum, std::size_t indent) {
    if (is_scalar(datum)) return true;
    if (const Datum::List* list = datum.as_list()) {
      if (list->empty()) return true;
      if (!std::all_of(list->begin(), list->end(), is_scalar)) return false;
    }
    if (const Datum::Map* map = datum.as_map()) {
      if (map->empty()) return true;
      if (indent == 0 || !std::all_of(map->begin(), map->end(),
                                      [](const auto& entry) { return is_scalar(entry.second); })) {
        return false;
      }
    }
    return indent + flow(datum).size() <= kWidth;
  }

  void block(const Datum& datum, std::size_t indent) {
    const std::string margin(indent, ' ');
    if (const Datum::List* list = datum.as_list()) {
      for (const Datum& item : *list) {
        text_ += margin + "- ";
        if (is_inline(item, indent + 2)) {
          text_ += flow(item) + '\n';
          continue;
        }
        // The first line of the item stands behind the dash.
        const std::size_t start = text_.size();
        block(item, indent + 2);
        text_.erase(start, indent + 2);
      }
      return;
    }
    for (const auto& [key, value] : *datum.as_map()) {
      text_ += margin + scalar(Datum::string(key)) + ':';
      if (is_inline(value, indent + 2 + key.size())) {
        text_ += ' ' + flow(value) + '\n';
        continue;
      }
      text_ += '\n';
      block(value, indent + 2);
    }
  }

  std::string text_;
};

class SecondDocument final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { at = mark, seen = true, throw Stop{}; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

  YAML::Mark at;
  bool seen = false;
};

}  // namespace

Result<Datum> parse_yaml(std::string_view text, std::string_view file, const ParseLimits& limits) {
  MCOMPRESS_TRY(check_size(text, file, limits));
  Handler handler(file, limits);
  SecondDocument second;
  DatumBuilder& builder = handler.builder();
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(handler);
    parser.HandleNextDocument(second);
  } catch (const Stop&) {
    if (second.seen) {
      builder.fail("yaml-documents", "only one document is read, a second one starts here",
                   static_cast<std::size_t>(second.at.line) + 1,
                   static_cast<std::size_t>(second.at.column) + 1);
    }
  } catch (const YAML::Exception& exception) {
    builder.fail("yaml-syntax", exception.msg, static_cast<std::size_t>(exception.mark.line) + 1,
                 static_cast<std::size_t>(exception.mark.column) + 1);
  }
  if (builder.error()) return std::move(*builder.error());
  return builder.take();  // null for an empty text
}

std::string print_yaml(const Datum& datum) { return YamlPrinter().print(datum); }

}  // namespace mcompress
