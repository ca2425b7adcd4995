// Arithmetic and SVG of the report's plots, and text that is safe in markup.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/weight_change.h"

namespace mcompress::tools {

// Safe as text and inside quoted attributes of HTML, XHTML and SVG: & < > " ' become references,
// what is no UTF-8 or no character of XML becomes U+FFFD.
std::string escape_markup(std::string_view text);
// Safe inside a cell of a Markdown table: the same as HTML, and | ` * _ [ ] \ and line breaks.
std::string escape_markdown(std::string_view text);

// Multiples of 1, 2 or 5 times a power of ten within [low, high], at most `most` (2 or more) of
// them. Empty unless low < high, both finite.
std::vector<double> nice_ticks(double low, double high, int most);
// As short as the steps between `ticks` allow: "0.25", "1500".
std::string tick_text(double tick, std::span<const double> ticks);

// From [low, high] onto [from, to]; everything onto the middle where low == high.
struct PlotScale {
  double low = 0, high = 1, from = 0, to = 1;
  double at(double value) const;
};
// [low, high] of the values, wider by `margin` of it on both sides; never of no width.
PlotScale scale_of(std::span<const double> values, double margin, double from, double to);

// Both statistics in the same `bins` bins from the smaller minimum to the larger maximum. A bin of
// the statistics that lies in several bins is shared among them by its overlap, so counts are
// rounded.
ValueHistogram joint_histogram(const ValueStats& before, const ValueStats& after, std::size_t bins);

// A point of size and quality; `quality` is better the larger.
struct TradePoint {
  double bytes = 0, quality = 0;
};
// Which points no other one beats: not larger and not worse, and better in one of both. By bytes;
// of equal points the first.
std::vector<std::size_t> pareto_front(std::span<const TradePoint> points);

// A number with at most `digits` decimals, for coordinates; never "-0".
std::string coordinate(double value);

// Columns of a histogram as the outline of an area, from the left, for the points of a polygon:
// heights are log(1 + count) of `most` in [0, height], from `bottom` up.
std::string outline_points(std::span<const std::uint64_t> counts, std::uint64_t most, double width,
                           double height);

}  // namespace mcompress::tools
