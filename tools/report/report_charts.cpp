#include "report/report_charts.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "report/report_plot.h"

namespace mcompress::tools {
namespace {

struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
  bool meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

std::string attribute(std::string_view name, double value) {
  return " " + std::string(name) + "=\"" + coordinate(value) + "\"";
}

std::string text_at(double x, double y, std::string_view anchor, std::string_view kind,
                    std::string_view text) {
  return "<text" + attribute("x", x) + attribute("y", y) + " text-anchor=\"" + std::string(anchor) +
         "\"" + (kind.empty() ? "" : " class=\"" + std::string(kind) + "\"") + ">" +
         escape_markup(text) + "</text>";
}

std::string line(double x1, double y1, double x2, double y2) {
  return "<line class=\"grid\"" + attribute("x1", x1) + attribute("y1", y1) + attribute("x2", x2) +
         attribute("y2", y2) + "/>";
}

constexpr double kWidth = 480, kHeight = 330;
constexpr double kLeft = 62, kRight = 466, kTop = 30, kBottom = 282;
constexpr double kRadius = 6;

// 15.2 M of 15200000: what stands at ticks of large numbers.
std::string short_tick(double tick, const std::vector<double>& ticks) {
  const double largest = std::max(std::abs(ticks.front()), std::abs(ticks.back()));
  constexpr std::array<std::pair<double, std::string_view>, 3> kUnits = {
      {{1e9, " G"}, {1e6, " M"}, {1e3, " k"}}};
  for (const auto& [unit, name] : kUnits) {
    if (largest < unit * 2) continue;
    std::vector<double> scaled;
    scaled.reserve(ticks.size());
    for (const double one : ticks) scaled.push_back(one / unit);
    return tick_text(tick / unit, scaled) + std::string(tick == 0 ? "" : name);
  }
  return tick_text(tick, ticks);
}

// Beside the point where nothing is yet; to its right where there is no such place.
Box label_box(double x, double y, double width, const std::vector<Box>& taken) {
  constexpr double kTall = 13, kGap = kRadius + 3;
  const std::array<Box, 8> places = {{
      {x + kGap, y - kTall / 2, x + kGap + width, y + kTall / 2},
      {x - width / 2, y - kGap - kTall, x + width / 2, y - kGap},
      {x - kGap - width, y - kTall / 2, x - kGap, y + kTall / 2},
      {x - width / 2, y + kGap, x + width / 2, y + kGap + kTall},
      {x + kGap, y - kGap - kTall, x + kGap + width, y - kGap},
      {x - kGap - width, y - kGap - kTall, x - kGap, y - kGap},
      {x + kGap, y + kGap, x + kGap + width, y + kGap + kTall},
      {x - kGap - width, y + kGap, x - kGap, y + kGap + kTall},
  }};
  for (const Box& place : places) {
    const bool inside =
        place.left > kLeft && place.right < kWidth && place.top > 0 && place.bottom < kBottom;
    if (inside && std::none_of(taken.begin(), taken.end(),
                               [&](const Box& other) { return other.meets(place); })) {
      return place;
    }
  }
  return places.front();
}

}  // namespace

std::string scatter_svg(const ScatterPlot& plot, std::string_view id) {
  std::vector<double> xs, ys;
  for (const ScatterPoint& point : plot.points) {
    xs.push_back(point.x);
    ys.push_back(point.y);
  }
  constexpr double kMargin = 0.08;
  PlotScale across = scale_of(xs, kMargin, kLeft, kRight);
  if (across.low < 0) across.low = 0;  // there are no negative sizes
  const PlotScale up = scale_of(ys, kMargin, kBottom, kTop);
  const std::string name(id);
  std::string svg = "<svg viewBox=\"0 0 " + coordinate(kWidth) + " " + coordinate(kHeight) +
                    "\" role=\"img\" aria-labelledby=\"" + name + "-title\">\n<title id=\"" + name +
                    "-title\">" + escape_markup(plot.title) + "</title>\n";
  const std::vector<double> columns = nice_ticks(across.low, across.high, 6);
  for (const double tick : columns) {
    const double x = across.at(tick);
    svg += line(x, kTop, x, kBottom) +
           text_at(x, kBottom + 17, "middle", "tick", short_tick(tick, columns)) + "\n";
  }
  const std::vector<double> rows = nice_ticks(up.low, up.high, 7);
  for (const double tick : rows) {
    const double y = up.at(tick);
    svg += line(kLeft, y, kRight, y) +
           text_at(kLeft - 7, y + 4, "end", "tick", short_tick(tick, rows)) + "\n";
  }
  svg += text_at((kLeft + kRight) / 2, kHeight - 8, "middle", "", plot.x_label) + "\n";
  svg += text_at(4, 16, "start", "", plot.y_label) + "\n";
  std::vector<const ScatterPoint*> front;
  for (const ScatterPoint& point : plot.points) {
    if (point.front) front.push_back(&point);
  }
  std::sort(front.begin(), front.end(),
            [](const ScatterPoint* a, const ScatterPoint* b) { return a->x < b->x; });
  if (front.size() > 1) {
    svg += "<polyline class=\"front\" points=\"";
    for (std::size_t i = 0; i < front.size(); ++i) {
      svg += (i == 0 ? "" : " ") + coordinate(across.at(front[i]->x)) + "," +
             coordinate(up.at(front[i]->y));
    }
    svg += "\"/>\n";
  }
  std::vector<Box> taken;
  // The front on top of what lies in the same place.
  std::vector<ScatterPoint> drawn = plot.points;
  std::stable_partition(drawn.begin(), drawn.end(),
                        [](const ScatterPoint& point) { return !point.front; });
  for (const ScatterPoint& point : drawn) {
    const double x = across.at(point.x), y = up.at(point.y);
    taken.push_back({x - kRadius, y - kRadius, x + kRadius, y + kRadius});
    svg += "<circle class=\"" + std::string(point.front ? "point" : "plain") + "\"" +
           attribute("cx", x) + attribute("cy", y) + attribute("r", kRadius) + "><title>" +
           escape_markup(point.title) + "</title></circle>\n";
  }
  // Beyond that many numbers nothing could be read; the table and the pointer still tell.
  constexpr std::size_t kMostLabels = 60;
  if (plot.points.size() <= kMostLabels) {
    for (const ScatterPoint& point : plot.points) {
      constexpr double kDigit = 8;
      const Box box = label_box(across.at(point.x), up.at(point.y),
                                kDigit * static_cast<double>(point.number.size()), taken);
      taken.push_back(box);
      svg += text_at((box.left + box.right) / 2, box.bottom - 2, "middle", "", point.number) + "\n";
    }
  }
  return svg + "</svg>\n";
}

std::string bar_svg(double value, double most, std::string_view kind) {
  constexpr double kFull = 100;
  const double width = most > 0 ? std::clamp(value / most, 0.0, 1.0) * kFull : 0;
  return "<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" "
         "aria-hidden=\"true\">"
         "<rect class=\"" +
         std::string(kind) + "\"" + attribute("width", width) + " height=\"8\"/></svg>";
}

std::string decibel_bar(double db) {
  constexpr double kFull = 60, kGood = 30, kFair = 15;
  return bar_svg(std::isinf(db) && db > 0 ? kFull : db, kFull,
                 db >= kGood   ? "good"
                 : db >= kFair ? "fair"
                               : "poor");
}

std::string histogram_svg(const ValueHistogram& histogram, std::string_view title) {
  std::uint64_t most = 1;
  for (const auto* counts : {&histogram.before, &histogram.after}) {
    for (const std::uint64_t count : *counts) most = std::max(most, count);
  }
  constexpr double kAcross = 240, kTall = 80;
  return "<svg viewBox=\"0 0 240 80\" preserveAspectRatio=\"none\" role=\"img\"><title>" +
         escape_markup(title) + "</title><polygon class=\"area\" points=\"" +
         outline_points(histogram.before, most, kAcross, kTall) +
         "\"/><polyline class=\"outline\" points=\"" +
         outline_points(histogram.after, most, kAcross, kTall) + "\"/></svg>";
}

std::string legend_svg(bool before) {
  return before
             ? "<svg viewBox=\"0 0 24 12\" aria-hidden=\"true\"><rect class=\"area\" width=\"24\" "
               "height=\"12\"/></svg>"
             : "<svg viewBox=\"0 0 24 12\" aria-hidden=\"true\"><rect class=\"outline\" x=\"1\" "
               "y=\"1\" width=\"22\" height=\"10\"/></svg>";
}

}  // namespace mcompress::tools
