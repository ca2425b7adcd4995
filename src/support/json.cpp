#include "support/json.h"

#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

// An input iterator that lets others see how far the parser has read.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** seen) : at_(at), seen_(seen) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *seen_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** seen_;
};

// The part of a library message that says what is wrong, without its number and position.
std::string plain_message(std::string_view what) {
  const std::size_t position = what.find("syntax error");
  if (position != std::string_view::npos) return std::string(what.substr(position));
  const std::size_t bracket = what.find("] ");
  return std::string(bracket == std::string_view::npos ? what : what.substr(bracket + 2));
}

class Handler {
 public:
  Handler(std::string_view text, std::string_view file, const ParseLimits& limits)
      : seen_(text.data()),
        text_(text),
        previous_(text.data()),
        counted_(text.data()),
        line_start_(text.data()),
        builder_(file, limits) {}

  bool null() { return scalar(std::monostate{}); }
  bool boolean(bool value) { return scalar(value); }
  bool number_integer(std::int64_t value) { return number(value); }
  bool number_unsigned(std::uint64_t value) {
    if (value <= static_cast<std::uint64_t>(INT64_MAX)) {
      return number(static_cast<std::int64_t>(value));
    }
    return number(static_cast<double>(value));
  }
  bool number_float(double value, const std::string&) { return number(value); }
  bool string(std::string& value) { return scalar(std::move(value)); }
  bool binary(std::vector<std::uint8_t>&) { return false; }
  bool start_object(std::size_t) {
    const auto [line, column] = token();
    return builder_.begin(true, line, column);
  }
  bool key(std::string& name) {
    const auto [line, column] = token();
    return builder_.key(name, line, column);
  }
  bool end_object() { return close(); }
  bool start_array(std::size_t) {
    const auto [line, column] = token();
    return builder_.begin(false, line, column);
  }
  bool end_array() { return close(); }
  template <class Exception>
  bool parse_error(std::size_t, const std::string&, const Exception& exception) {
    // What was read last is the culprit; at the end of the text there is no such character.
    const char* at = seen_ > text_.data() ? seen_ - 1 : seen_;
    if (at < counted_) at = counted_;
    const auto [line, column] = place(at);
    return builder_.fail("json-syntax", plain_message(exception.what()), line, column);
  }

  DatumBuilder& builder() { return builder_; }
  const char* seen_;

 private:
  struct Place {
    std::size_t line, column;
  };
  // Positions are asked for in rising order, so each character is looked at once.
  Place place(const char* at) {
    for (; counted_ < at; ++counted_) {
      if (*counted_ == '\n') {
        ++line_;
        line_start_ = counted_ + 1;
      }
    }
    return {line_, static_cast<std::size_t>(at - line_start_) + 1};
  }
  // Where the token starts that the parser has just read.
  Place token() {
    const char* at = previous_;
    while (at < seen_ && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t' || *at == ',' ||
                          *at == ':' || (static_cast<unsigned char>(*at) & 0x80) != 0)) {
      ++at;  // the bytes above 127 can only be a byte order mark
    }
    previous_ = seen_;
    return place(at);
  }
  bool scalar(Datum::Value value) {
    const auto [line, column] = token();
    return builder_.scalar(std::move(value), line, column);
  }
  bool number(Datum::Value value) {
    const bool result = scalar(std::move(value));
    // A number ends where another character starts, which the parser had to look at.
    if (previous_ > text_.data() && previous_ < text_.data() + text_.size()) --previous_;
    return result;
  }
  bool close() {
    previous_ = seen_;
    return builder_.end();
  }

  std::string_view text_;
  const char* previous_;
  const char* counted_;
  const char* line_start_;
  std::size_t line_ = 1;
  DatumBuilder builder_;
};

constexpr std::size_t kLineWidth = 100;

// Length of a valid UTF-8 sequence at `at`, or 0.
std::size_t valid_sequence(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0U;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xC2   ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool outside = (lead == 0xED && second > 0x9F) || (lead == 0xF4 && second > 0x8F);
  return overlong || outside ? 0 : length;
}

void print_text(std::string_view text, std::string& out) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    const std::size_t length = valid_sequence(text, at);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      ++at;
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      out += "\\u00";
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    } else {
      out += text.substr(at, length);
    }
    at += length;
  }
  out += '"';
}

void print_real(double value, std::string& out) {
  std::string text = shortest(value);
  if (!std::isfinite(value)) {
    out += '"' + text + '"';
    return;
  }
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  out += text;
}

void print_value(const Datum& datum, std::size_t level, bool pretty, std::string& out);

void print_inline_list(const Datum::List& list, std::string& out) {
  out += '[';
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (i != 0) out += ", ";
    print_value(list[i], 0, false, out);
  }
  out += ']';
}

bool scalars_only(const Datum::List& list) {
  for (const Datum& item : list) {
    if (item.as_list() != nullptr || item.as_map() != nullptr) return false;
  }
  return true;
}

void new_line(std::size_t level, std::string& out) {
  out += '\n';
  out.append(level * 2, ' ');
}

void print_list(const Datum::List& list, std::size_t level, bool pretty, std::string& out) {
  if (list.empty() || !pretty) return print_inline_list(list, out);
  if (scalars_only(list)) {
    const std::size_t start = out.size();
    const std::size_t line_start = out.rfind('\n') + 1;
    print_inline_list(list, out);
    if (out.size() - line_start <= kLineWidth) return;
    out.resize(start);
  }
  out += '[';
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (i != 0) out += ',';
    new_line(level + 1, out);
    print_value(list[i], level + 1, pretty, out);
  }
  new_line(level, out);
  out += ']';
}

void print_map(const Datum::Map& map, std::size_t level, bool pretty, std::string& out) {
  out += '{';
  for (std::size_t i = 0; i < map.size(); ++i) {
    if (i != 0) out += pretty ? "," : ", ";
    if (pretty) new_line(level + 1, out);
    print_text(map[i].first, out);
    out += ": ";
    print_value(map[i].second, level + 1, pretty, out);
  }
  if (pretty && !map.empty()) new_line(level, out);
  out += '}';
}

void print_value(const Datum& datum, std::size_t level, bool pretty, std::string& out) {
  const Datum::Value& value = datum.value();
  if (const Datum::Map* map = datum.as_map()) {
    print_map(*map, level, pretty, out);
  } else if (const Datum::List* list = datum.as_list()) {
    print_list(*list, level, pretty, out);
  } else if (const std::string* text = datum.as_string()) {
    print_text(*text, out);
  } else if (const auto* typed = std::get_if<Datum::Text>(&value)) {
    print_text(typed->text, out);
  } else if (const double* real = std::get_if<double>(&value)) {
    print_real(*real, out);
  } else {
    out += datum.is_null() ? "null" : option_text(datum);
  }
}

}  // namespace

Result<Datum> parse_json(std::string_view text, std::string_view file, const ParseLimits& limits) {
  MCOMPRESS_TRY(check_size(text, file, limits));
  Handler handler(text, file, limits);
  const CountingIterator begin(text.data(), &handler.seen_);
  const CountingIterator end(text.data() + text.size(), &handler.seen_);
  const bool parsed = nlohmann::json::sax_parse(begin, end, &handler);
  DatumBuilder& builder = handler.builder();
  if (builder.error()) return std::move(*builder.error());
  if (!parsed || !builder.done()) {
    return parse_failure(file, 1, 1, "json-syntax", "is no complete JSON text");
  }
  return builder.take();
}

std::string print_json(const Datum& datum) {
  std::string out;
  print_value(datum, 0, true, out);
  out += '\n';
  return out;
}

std::string print_json_line(const Datum& datum) {
  std::string out;
  print_value(datum, 0, false, out);
  return out;
}

}  // namespace mcompress
