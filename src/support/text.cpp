#include "support/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

namespace mcompress {
namespace {

char fold(char c) {
  if (c >= 'A' && c <= 'Z') return static_cast<char>(c - 'A' + 'a');
  return c == '_' ? '-' : c;
}

std::string folded(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), fold);
  return result;
}

// Length in bytes of the character that starts at `at`; a stray byte is a character of its own.
std::size_t character_length(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const std::size_t length = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  std::size_t end = at + 1;
  while (end < text.size() && end < at + length &&
         (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    ++end;
  }
  return end - at;
}

// Index behind the ']' that closes the set opened at `open`, or npos. A ']' that comes first in
// the set belongs to it.
std::size_t set_end(std::string_view pattern, std::size_t open) {
  std::size_t at = open + 1;
  if (at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^')) ++at;
  const std::size_t close = pattern.find(']', at + 1);
  return close == std::string_view::npos ? close : close + 1;
}

bool set_contains(std::string_view set, char c) {
  const bool negated = set.front() == '!' || set.front() == '^';
  if (negated) set.remove_prefix(1);
  bool found = false;
  const auto code = static_cast<unsigned char>(c);
  for (std::size_t i = 0; i < set.size(); ++i) {
    const auto low = static_cast<unsigned char>(set[i]);
    if (i + 2 < set.size() && set[i + 1] == '-') {
      found |= low <= code && code <= static_cast<unsigned char>(set[i + 2]);
      i += 2;
    } else {
      found |= low == code;
    }
  }
  return found != negated;
}

struct Step {
  std::size_t pattern = 0;  // bytes of the pattern that were used; 0: no match
  std::size_t text = 0;     // bytes of the text that were matched
};

// Matches one pattern element that is not '*' against the start of the text.
Step match_one(std::string_view pattern, std::size_t p, std::string_view text, std::size_t t) {
  const std::size_t length = character_length(text, t);
  if (pattern[p] == '?') return {1, length};
  if (pattern[p] == '[') {
    const std::size_t end = set_end(pattern, p);
    if (end != std::string_view::npos) {
      const std::string_view set = pattern.substr(p + 1, end - p - 2);
      return set_contains(set, text[t]) ? Step{end - p, length} : Step{};
    }
  }
  return pattern[p] == text[t] ? Step{1, 1} : Step{};
}

template <class T, class... Format>
std::string number_text(T value, Format... format) {
  std::array<char, 512> buffer;
  const auto [end, error] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format...);
  return error == std::errc() ? std::string(buffer.data(), end) : std::string();
}

}  // namespace

std::size_t edit_distance(std::string_view left, std::string_view right, std::size_t limit) {
  if (left.size() > right.size()) std::swap(left, right);
  if (right.size() - left.size() > limit) return limit + 1;
  std::vector<std::size_t> before(left.size() + 1), previous(left.size() + 1),
      current(left.size() + 1);
  for (std::size_t i = 0; i <= left.size(); ++i) previous[i] = i;
  for (std::size_t j = 1; j <= right.size(); ++j) {
    current[0] = j;
    std::size_t smallest = j;
    for (std::size_t i = 1; i <= left.size(); ++i) {
      const std::size_t substitution = left[i - 1] == right[j - 1] ? 0 : 1;
      std::size_t best =
          std::min({previous[i] + 1, current[i - 1] + 1, previous[i - 1] + substitution});
      if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1]) {
        best = std::min(best, before[i - 2] + 1);
      }
      current[i] = best;
      smallest = std::min(smallest, best);
    }
    if (smallest > limit) return limit + 1;
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return std::min(previous[left.size()], limit + 1);
}

std::string nearest(std::string_view name, std::span<const std::string> candidates) {
  const std::string wanted = folded(name);
  if (wanted.empty()) return {};
  std::size_t limit = std::max<std::size_t>(1, wanted.size() / 3);
  const std::string* best = nullptr;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(wanted, folded(candidate), limit);
    if (distance > limit || distance >= std::max(wanted.size(), candidate.size())) continue;
    best = &candidate;
    if (distance == 0) return *best;
    limit = distance - 1;
  }
  if (best != nullptr) return *best;
  if (wanted.size() < 3) return {};
  for (const std::string& candidate : candidates) {
    if (!folded(candidate).starts_with(wanted)) continue;
    if (best != nullptr) return {};
    best = &candidate;
  }
  return best == nullptr ? std::string() : *best;
}

std::string did_you_mean(std::string_view name, std::span<const std::string> candidates) {
  const std::string found = nearest(name, candidates);
  return found.empty() ? found : "did you mean '" + found + "'?";
}

bool glob_match(std::string_view pattern, std::string_view text) {
  // Only the latest '*' ever has to be tried again: whatever an earlier one could take, the
  // latest one can take too.
  std::size_t p = 0, t = 0;
  std::size_t star = std::string_view::npos, star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      star_text = t;
      continue;
    }
    const Step step = p < pattern.size() ? match_one(pattern, p, text, t) : Step{};
    if (step.pattern != 0) {
      p += step.pattern;
      t += step.text;
      continue;
    }
    if (star == std::string_view::npos) return false;
    star_text += character_length(text, star_text);
    p = star;
    t = star_text;
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool is_glob(std::string_view pattern) {
  return pattern.find_first_of("*?[") != std::string_view::npos;
}

namespace {

// The only text that the pattern covers, where "[*]" and the like stand for a character; nothing:
// there are several, or it takes a closer look to tell.
std::optional<std::string> only_match(std::string_view pattern) {
  constexpr std::string_view kSpecial = "*?[";
  std::string text;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (kSpecial.find(pattern[i]) == std::string_view::npos) {
      text += pattern[i];
      continue;
    }
    if (pattern[i] != '[' || i + 2 >= pattern.size() || pattern[i + 2] != ']' ||
        kSpecial.find(pattern[i + 1]) == std::string_view::npos) {
      return std::nullopt;
    }
    text += pattern[i + 1];
    i += 2;
  }
  return text;
}

}  // namespace

GlobList::GlobList(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {
  for (std::size_t i = 0; i < patterns_.size(); ++i) {
    if (auto name = only_match(patterns_[i])) {
      names_.emplace(std::move(*name), i);
    } else {
      globs_.push_back(i);
    }
  }
}

std::size_t GlobList::first_match(std::string_view text) const {
  const auto named = names_.find(text);
  const std::size_t first = named != names_.end() ? named->second : patterns_.size();
  for (const std::size_t place : globs_) {
    if (place > first) break;
    if (glob_match(patterns_[place], text)) return place;
  }
  return first;
}

std::string human_bytes(std::uint64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " B";
  static constexpr std::array<std::string_view, 6> kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  // 999.95 is where one digit after the point would round up to 1000.0.
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return fixed(value, 1) + ' ' + std::string(kUnits[unit]);
}

std::string memory_text(std::uint64_t bytes) {
  return fixed(static_cast<double>(bytes) / (1 << 20), 2) + " MiB";
}

std::optional<std::int64_t> parse_bytes(std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  std::string_view suffix = text.substr(digits);
  if (suffix.starts_with(' ')) suffix.remove_prefix(1);
  std::string unit = lower(suffix);
  double factor = 1;
  if (!unit.empty() && unit != "b") {
    static constexpr std::string_view kPrefixes = "kmgt";
    const std::size_t power = kPrefixes.find(unit.front());
    if (power == std::string_view::npos) return std::nullopt;
    const std::string rest = unit.substr(1);
    if (rest != "" && rest != "b" && rest != "ib") return std::nullopt;
    factor = std::pow(rest == "b" ? 1000.0 : 1024.0, static_cast<double>(power) + 1);
  } else if (const auto whole = parse_int(text.substr(0, digits))) {
    return whole;
  }
  const auto number = parse_real(text.substr(0, digits));
  if (!number) return std::nullopt;
  const double bytes = *number * factor;
  if (!(bytes < 9223372036854775807.0) || bytes != std::floor(bytes)) return std::nullopt;
  return static_cast<std::int64_t>(bytes);
}

std::string fixed(double value, int digits) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = number_text(value, std::chars_format::fixed, std::clamp(digits, 0, 100));
  if (text.starts_with('-') && text.find_first_of("123456789") == std::string::npos) {
    text.erase(0, 1);
  }
  return text;
}

std::string percent(double fraction, int digits) { return fixed(fraction * 100, digits) + '%'; }

std::string shortest(double value) {
  if (std::isnan(value)) return "nan";
  return number_text(value);
}

std::optional<std::int64_t> parse_int(std::string_view text) {
  if (text.starts_with('+')) {
    text.remove_prefix(1);
    if (text.starts_with('-')) return std::nullopt;
  }
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_real(std::string_view text) {
  if (text.starts_with('+')) {
    text.remove_prefix(1);
    if (text.starts_with('-')) return std::nullopt;
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string wrap(std::string_view text, std::size_t width, std::size_t indent) {
  std::string result;
  const std::string margin(indent, ' ');
  std::size_t column = 0;
  std::size_t at = 0;
  bool line_started = false;
  while (at < text.size()) {
    if (text[at] == '\n') {
      result += '\n';
      line_started = false;
      ++at;
      continue;
    }
    if (text[at] == ' ') {
      ++at;
      continue;
    }
    const std::size_t end = std::min(text.find_first_of(" \n", at), text.size());
    const std::string_view word = text.substr(at, end - at);
    const auto letters =
        static_cast<std::size_t>(std::count_if(word.begin(), word.end(), [](char c) {
          return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
        }));
    if (line_started && column + 1 + letters > width) {
      result += '\n';
      line_started = false;
    }
    if (line_started) {
      result += ' ';
      ++column;
    } else {
      result += margin;
      column = indent;
      line_started = true;
    }
    result += word;
    column += letters;
    at = end;
  }
  return result;
}

std::string join(std::span<const std::string> parts, std::string_view separator) {
  std::string result;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i != 0) result += separator;
    result += parts[i];
  }
  return result;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

}  // namespace mcompress
