// The pictures of a report, as inline SVG.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/weight_change.h"

namespace mcompress::tools {

struct ScatterPoint {
  double x = 0, y = 0;
  std::string number;  // what stands beside it
  std::string title;   // what a pointer over it shows
  bool front = false;  // on the dashed line
};
struct ScatterPlot {
  std::string title, x_label, y_label;
  std::vector<ScatterPoint> points;
};
// Points with numbers beside them that do not lie on each other where there is room. `id` is unique
// in its page.
std::string scatter_svg(const ScatterPlot& plot, std::string_view id);

// A bar of `value` out of `most`; `kind` is its class: before, after, good, fair, poor.
std::string bar_svg(double value, double most, std::string_view kind);
// Signal to noise as a bar of up to 60 dB.
std::string decibel_bar(double db);
// The area of what was before, the outline of what came after.
std::string histogram_svg(const ValueHistogram& histogram, std::string_view title);
// "tan square" of the legend: a picture of the area (before) or of the outline.
std::string legend_svg(bool before);

}  // namespace mcompress::tools
