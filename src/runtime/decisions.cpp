#include "runtime/decisions.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include "ir/convert.h"
#include "mcompress/evaluate.h"

namespace mcompress {

Result<std::vector<float>> view_values(const TensorView& view, std::string_view output) {
  const std::optional<std::int64_t> count = element_count(view.dims);
  std::vector<float> values(static_cast<std::size_t>(count.value_or(0)));
  if (!decode_to_float(view.dtype, view.bytes, values)) {
    Location where;
    where.subject = output;
    return Error(Code::kUnsupported, "output-not-numeric",
                 "results of type " + dtype_name(view.dtype) + " can not be compared",
                 std::move(where));
  }
  return values;
}

std::int64_t argmax(std::span<const float> values) {
  std::int64_t best = -1;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) continue;
    if (best < 0 || values[i] > values[static_cast<std::size_t>(best)]) {
      best = static_cast<std::int64_t>(i);
    }
  }
  return best;
}

bool among_highest(std::span<const float> values, std::int64_t label, std::int64_t k) {
  const auto at = static_cast<std::size_t>(label);
  if (at >= values.size() || std::isnan(values[at])) return false;
  std::int64_t higher = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] > values[at] || (values[i] == values[at] && i < at)) ++higher;
  }
  return higher < k;
}

std::string ctc_text(std::span<const float> steps_by_classes,
                     std::span<const std::string> characters) {
  std::string text;
  std::int64_t previous = 0;
  const std::size_t classes = characters.size();
  for (std::size_t start = 0; start + classes <= steps_by_classes.size(); start += classes) {
    const std::int64_t best = argmax(steps_by_classes.subspan(start, classes));
    if (best > 0 && best != previous) text += characters[static_cast<std::size_t>(best)];
    previous = best;
  }
  return text;
}

std::string without_spaces(std::string_view text) {
  std::string out;
  std::remove_copy(text.begin(), text.end(), std::back_inserter(out), ' ');
  return out;
}

std::u32string code_points(std::string_view text) {
  std::u32string points;
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    std::size_t length = 1;
    if (first >= 0xF0) {
      length = 4;
    } else if (first >= 0xE0) {
      length = 3;
    } else if (first >= 0xC0) {
      length = 2;
    }
    length = std::min(length, text.size() - i);
    char32_t point = 0;
    for (std::size_t k = 0; k < length; ++k) {
      point = (point << 8) | static_cast<unsigned char>(text[i + k]);
    }
    points += point;  // the bytes themselves: enough to compare
    i += length;
  }
  return points;
}

std::size_t levenshtein(std::u32string_view left, std::u32string_view right) {
  std::vector<std::size_t> row(right.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < left.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < right.size(); ++j) {
      const std::size_t change = diagonal + (left[i] == right[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({change, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

Result<std::vector<std::string>> fit_characters(std::vector<std::string> characters,
                                                std::size_t classes) {
  if (characters.size() + 1 == classes || characters.size() + 2 == classes) {
    const bool space = characters.size() + 2 == classes;
    characters.insert(characters.begin(), std::string());
    if (space) characters.emplace_back(" ");
  }
  if (characters.size() != classes) {
    return Error(Code::kInput, "characters-count",
                 "the class list has " + std::to_string(characters.size()) +
                     " lines and the output " + std::to_string(classes) + " classes");
  }
  return characters;
}

std::vector<std::string> parse_characters(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

std::vector<std::string> characters_of(const Model& model) {
  for (const auto& [key, value] : model.metadata()) {
    if (key == "character") return parse_characters(value);
  }
  return {};
}

}  // namespace mcompress
