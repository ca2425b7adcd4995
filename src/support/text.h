// Text helpers. All of them are independent of the locale; text is UTF-8 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mcompress {

// Insertions, deletions, substitutions and swaps of neighbours, each counting 1. Returns
// `limit` + 1 as soon as the distance is known to pass `limit`.
std::size_t edit_distance(std::string_view left, std::string_view right, std::size_t limit);

// The candidate a user most likely meant: nearest by edit distance without regard to case and
// '_' or '-' (at most a third of the letters may differ), else the only candidate that starts
// with `name`. Empty when nothing is near. The first of equally near candidates wins.
std::string nearest(std::string_view name, std::span<const std::string> candidates);

// "did you mean 'group-size'?", or empty.
std::string did_you_mean(std::string_view name, std::span<const std::string> candidates);

// Does the pattern cover the whole text? '*' is any run (of '/' too), '?' one character, "[a-z]"
// a set of ASCII characters, "[!a-z]" any character outside it; an unclosed '[' stands for
// itself. Time is at most pattern length times text length.
bool glob_match(std::string_view pattern, std::string_view text);
bool is_glob(std::string_view pattern);

// Many patterns, most of which are plain names: those are looked up, so that time per text grows
// with the patterns that are not.
class GlobList {
 public:
  explicit GlobList(std::vector<std::string> patterns);

  const std::vector<std::string>& patterns() const { return patterns_; }
  // The place of the first pattern that covers the whole text; patterns().size(): none does.
  std::size_t first_match(std::string_view text) const;

 private:
  std::vector<std::string> patterns_;
  std::map<std::string, std::size_t, std::less<>> names_;
  std::vector<std::size_t> globs_;  // places of the others
};

// "999 B", "1.2 kB", "1.2 MB", "3.4 GB": decimal units, at most one digit after the point.
std::string human_bytes(std::uint64_t bytes);

// "12.50 MiB".
std::string memory_text(std::uint64_t bytes);

// "4096", "512MB" (decimal), "2GiB" and "2G" (binary), "1.5 GB". Empty for anything else and
// beyond 2^63 - 1.
std::optional<std::int64_t> parse_bytes(std::string_view text);

// "0.125" for (0.125, 3); "nan", "inf", "-inf" for what is not finite. Never "-0".
std::string fixed(double value, int digits);
// "12.5%" for (0.125, 1).
std::string percent(double fraction, int digits);
// The shortest text that reads back as the same number: "3", "0.1", "1e+300", "inf", "nan".
std::string shortest(double value);

// Whole text as a number; a leading '+' is accepted, surrounding spaces are not.
std::optional<std::int64_t> parse_int(std::string_view text);
std::optional<double> parse_real(std::string_view text);

// Breaks at spaces so that no line passes `width` characters where words allow; each line starts
// with `indent` spaces. Line breaks in the text are kept.
std::string wrap(std::string_view text, std::size_t width, std::size_t indent);

// "a", "a, b".
std::string join(std::span<const std::string> parts, std::string_view separator);

std::string lower(std::string_view text);

}  // namespace mcompress
