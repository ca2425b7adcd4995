#include "report/report_plot.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "mcompress/host.h"

namespace mcompress::tools {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Scalar {
  char32_t code = 0;
  std::size_t length = 0;  // 0: no UTF-8
};

Scalar scalar_at(std::string_view text) {
  const auto byte = [text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return {};
  char32_t code = first & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80) return {};
    code = code << 6U | (byte(i) & 0x3FU);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kSmallest[length] || code > 0x10FFFF) return {};
  return {code, length};
}

// Characters that XML 1.0 allows, less those that change the direction of what follows.
bool is_plain(char32_t code) {
  if (code < 0x20) return code == '\t' || code == '\n' || code == '\r';
  const bool directs = (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
  return !(code >= 0x7F && code < 0xA0) && !(code >= 0xD800 && code <= 0xDFFF) && code != 0xFFFE &&
         code != 0xFFFF && !directs;
}

template <class Special>
std::string escaped(std::string_view text, const Special& special) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  while (!text.empty()) {
    const Scalar scalar = scalar_at(text);
    const std::size_t length = std::max<std::size_t>(scalar.length, 1);
    if (scalar.length == 0 || !is_plain(scalar.code)) {
      out += kReplacement;
    } else if (const std::string_view instead = special(text[0]); !instead.empty()) {
      out += instead;
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

std::string_view markup(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&quot;";
    case '\'':
      return "&#39;";
    default:
      return {};
  }
}

}  // namespace

std::string escape_markup(std::string_view text) { return escaped(text, markup); }

std::string escape_markdown(std::string_view text) {
  return escaped(text, [](char c) -> std::string_view {
    switch (c) {
      case '|':
        return "&#124;";
      case '`':
        return "&#96;";
      case '*':
        return "&#42;";
      case '_':
        return "&#95;";
      case '[':
        return "&#91;";
      case ']':
        return "&#93;";
      case '\\':
        return "&#92;";
      case '~':
        return "&#126;";
      case '@':
        return "&#64;";
      case '\n':
      case '\r':
        return " ";
      default:
        return markup(c);
    }
  });
}

std::vector<double> nice_ticks(double low, double high, int most) {
  if (!std::isfinite(low) || !std::isfinite(high) || low >= high || most < 2) return {};
  const double width = high - low;
  if (!std::isfinite(width)) return {};
  // floor(high/step) - ceil(low/step) + 1 ticks lie within; the first step with few enough.
  double power = std::pow(10, std::floor(std::log10(width / most)));
  for (;; power *= 10) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double step = factor * power;
      if (!(step > 0)) return {};
      constexpr double kSlack = 1e-9;
      const double first = std::ceil(low / step - kSlack), last = std::floor(high / step + kSlack);
      if (last - first + 1 > most) continue;
      std::vector<double> ticks;
      for (double i = first; i <= last; ++i) ticks.push_back(i == 0 ? 0 : i * step);
      return ticks;
    }
  }
}

std::string tick_text(double tick, std::span<const double> ticks) {
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : std::abs(tick);
  int digits = 0;
  if (step > 0 && std::isfinite(step)) {
    digits = std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 12);
  }
  return decimal_text(tick, digits);
}

double PlotScale::at(double value) const {
  if (high == low) return (from + to) / 2;
  return from + (value - low) / (high - low) * (to - from);
}

PlotScale scale_of(std::span<const double> values, double margin, double from, double to) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (low > high) return {0, 1, from, to};
  double more = (high - low) * margin;
  if (high == low) more = low == 0 ? 1 : std::abs(low) * 0.01;
  return {low - more, high + more, from, to};
}

ValueHistogram joint_histogram(const ValueStats& before, const ValueStats& after,
                               std::size_t bins) {
  ValueHistogram joint;
  bins = std::clamp<std::size_t>(bins, 1, 4096);
  joint.low = std::min(before.minimum, after.minimum);
  joint.high = std::max(before.maximum, after.maximum);
  const double width = (joint.high - joint.low) / static_cast<double>(bins);
  const auto spread = [&](const ValueStats& stats) {
    std::vector<double> counts(bins, 0);
    const double unit = std::ldexp(1.0, stats.exponent);
    for (std::size_t i = 0; i < stats.bins.size(); ++i) {
      if (stats.bins[i] == 0) continue;
      const double first = static_cast<double>(stats.first_bin + static_cast<std::int64_t>(i));
      // Nothing lies outside what was seen.
      const double from = std::max(first * unit, stats.minimum);
      const double to = std::min((first + 1) * unit, stats.maximum);
      const auto count = static_cast<double>(stats.bins[i]);
      const auto place = [&](double value) {
        if (!(width > 0)) return std::size_t{0};
        const double at = std::clamp((value - joint.low) / width, 0.0, static_cast<double>(bins));
        return std::min(static_cast<std::size_t>(at), bins - 1);
      };
      const std::size_t left = place(from), right = place(to);
      if (left == right || !(to > from)) {
        counts[left] += count;
        continue;
      }
      for (std::size_t bin = left; bin <= right; ++bin) {
        const double start = joint.low + static_cast<double>(bin) * width;
        const double part = std::min(to, start + width) - std::max(from, start);
        counts[bin] += count * std::max(part, 0.0) / (to - from);
      }
    }
    std::vector<std::uint64_t> rounded;
    rounded.reserve(bins);
    for (const double count : counts) {
      rounded.push_back(static_cast<std::uint64_t>(std::llround(count)));
    }
    return rounded;
  };
  joint.before = spread(before);
  joint.after = spread(after);
  return joint;
}

std::vector<std::size_t> pareto_front(std::span<const TradePoint> points) {
  std::vector<std::size_t> order(points.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return points[a].bytes != points[b].bytes ? points[a].bytes < points[b].bytes
                                              : points[a].quality > points[b].quality;
  });
  std::vector<std::size_t> front;
  for (const std::size_t i : order) {
    if (std::isnan(points[i].quality)) continue;
    if (front.empty() || points[i].quality > points[front.back()].quality) front.push_back(i);
  }
  return front;
}

std::string coordinate(double value) {
  std::string text = decimal_text(value, 2);
  if (text.find('.') != std::string::npos) {
    while (text.back() == '0') text.pop_back();
    if (text.back() == '.') text.pop_back();
  }
  return text == "-0" ? "0" : text;
}

std::string outline_points(std::span<const std::uint64_t> counts, std::uint64_t most, double width,
                           double height) {
  const double full = std::log1p(static_cast<double>(std::max<std::uint64_t>(most, 1)));
  const double step = width / static_cast<double>(std::max<std::size_t>(counts.size(), 1));
  std::string points = "0," + coordinate(height);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double share = std::log1p(static_cast<double>(counts[i])) / full;
    const std::string y = coordinate(height - share * height);
    points += " " + coordinate(static_cast<double>(i) * step) + "," + y;
    points += " " + coordinate(static_cast<double>(i + 1) * step) + "," + y;
  }
  return points + " " + coordinate(width) + "," + coordinate(height);
}

}  // namespace mcompress::tools
