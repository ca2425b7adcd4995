// Arithmetic of the report's plots, and text of strangers in its markup.
#include "report/report_plot.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "report/report_charts.h"
#include "report/report_tracking.h"

namespace mcompress::tools {
namespace {

TEST(ReportPlot, TicksAreMultiplesOfOneTwoOrFive) {
  EXPECT_EQ(nice_ticks(0, 10, 6), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(nice_ticks(0, 10, 5), (std::vector<double>{0, 5, 10}));
  EXPECT_EQ(nice_ticks(-3, 3, 4), (std::vector<double>{-2, 0, 2}));
  EXPECT_EQ(nice_ticks(1.2e6, 4.1e6, 4), (std::vector<double>{2e6, 3e6, 4e6}));
  const std::vector<double> small = nice_ticks(0.9, 1.0, 6);
  ASSERT_EQ(small.size(), 6U);  // steps of 0.02: 0.9, 0.92 ... 1
  EXPECT_DOUBLE_EQ(small[0], 0.9);
  EXPECT_DOUBLE_EQ(small[5], 1.0);
  EXPECT_TRUE(nice_ticks(1, 1, 5).empty());
  EXPECT_TRUE(nice_ticks(2, 1, 5).empty());
  EXPECT_TRUE(nice_ticks(0, std::numeric_limits<double>::infinity(), 5).empty());
  EXPECT_TRUE(nice_ticks(-1e308, 1e308, 5).empty());
}

TEST(ReportPlot, TicksAreNoMoreThanAskedFor) {
  for (const double low : {-7.3, 0.0, 0.013, 99.5}) {
    for (const double width : {0.004, 0.7, 3.0, 81.0, 1e7}) {
      for (const int most : {2, 3, 5, 8}) {
        const std::vector<double> ticks = nice_ticks(low, low + width, most);
        EXPECT_LE(ticks.size(), static_cast<std::size_t>(most));
        for (const double tick : ticks) {
          EXPECT_GE(tick, low - width * 1e-6);
          EXPECT_LE(tick, low + width * (1 + 1e-6));
        }
      }
    }
  }
}

TEST(ReportPlot, TextOfTicksHasTheDigitsOfTheirSteps) {
  const std::vector<double> halves = {0, 0.5, 1}, twenties = {980, 1000, 1020},
                            cents = {0.92, 0.94};
  EXPECT_EQ(tick_text(0.5, halves), "0.5");
  EXPECT_EQ(tick_text(1, halves), "1.0");
  EXPECT_EQ(tick_text(1000, twenties), "1000");
  EXPECT_EQ(tick_text(0.92, cents), "0.92");
}

TEST(ReportPlot, ScalesAreLinearAndNeverOfNoWidth) {
  const PlotScale scale{10, 20, 100, 0};
  EXPECT_DOUBLE_EQ(scale.at(10), 100);
  EXPECT_DOUBLE_EQ(scale.at(12.5), 75);
  EXPECT_DOUBLE_EQ(scale.at(20), 0);
  EXPECT_DOUBLE_EQ((PlotScale{3, 3, 0, 8}.at(3)), 4);
  const PlotScale wide = scale_of(std::vector<double>{2, 12, 7}, 0.1, 0, 1);
  EXPECT_DOUBLE_EQ(wide.low, 1);
  EXPECT_DOUBLE_EQ(wide.high, 13);
  const PlotScale one = scale_of(std::vector<double>{50}, 0.1, 0, 1);
  EXPECT_DOUBLE_EQ(one.low, 49.5);
  EXPECT_DOUBLE_EQ(one.high, 50.5);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const PlotScale finite = scale_of(std::vector<double>{kInfinity, 4, 6}, 0, 0, 1);
  EXPECT_DOUBLE_EQ(finite.low, 4);
  EXPECT_DOUBLE_EQ(finite.high, 6);
}

ValueStats stats_of(double minimum, double maximum, int exponent, std::int64_t first,
                    std::vector<std::uint64_t> bins) {
  ValueStats stats;
  stats.minimum = minimum;
  stats.maximum = maximum;
  stats.exponent = exponent;
  stats.first_bin = first;
  stats.bins = std::move(bins);
  return stats;
}

TEST(ReportPlot, HistogramsOfDifferentBinsAreBroughtToTheSame) {
  // Bins of 1 over [0, 4] and of 2 over [0, 4]: four joint bins of width 1.
  const ValueStats fine = stats_of(0, 4, 0, 0, {8, 0, 4, 2});
  const ValueStats coarse = stats_of(0, 4, 1, 0, {10, 6});
  const ValueHistogram joint = joint_histogram(fine, coarse, 4);
  EXPECT_DOUBLE_EQ(joint.low, 0);
  EXPECT_DOUBLE_EQ(joint.high, 4);
  EXPECT_EQ(joint.before, (std::vector<std::uint64_t>{8, 0, 4, 2}));
  EXPECT_EQ(joint.after, (std::vector<std::uint64_t>{5, 5, 3, 3}));
}

TEST(ReportPlot, WhatLiesInABinIsWithinWhatWasSeen) {
  // One bin [0, 8) of which only [3, 5] was seen, beside [0, 8]: joint bins of width 2 from 0. Of
  // the width 2 that was seen, 1 lies in [2, 4) and 1 in [4, 6).
  const ValueStats narrow = stats_of(3, 5, 3, 0, {100});
  const ValueStats wide = stats_of(0, 8, 1, 0, {1, 2, 3, 4});
  const ValueHistogram joint = joint_histogram(narrow, wide, 4);
  EXPECT_EQ(joint.before, (std::vector<std::uint64_t>{0, 50, 50, 0}));
  EXPECT_EQ(joint.after, (std::vector<std::uint64_t>{1, 2, 3, 4}));
  // All values alike: one bin has them all.
  const ValueStats same = stats_of(2, 2, 0, 2, {7});
  const ValueHistogram one = joint_histogram(same, same, 3);
  EXPECT_EQ(std::accumulate(one.before.begin(), one.before.end(), std::uint64_t{0}), 7U);
}

TEST(ReportPlot, TheFrontIsWhatNothingBeats) {
  const std::vector<TradePoint> points = {{100, 50}, {50, 40}, {60, 39}, {50, 41},
                                          {100, 50}, {30, 10}, {120, 49}};
  EXPECT_EQ(pareto_front(points), (std::vector<std::size_t>{5, 3, 0}));
  EXPECT_TRUE(pareto_front({}).empty());
}

TEST(ReportPlot, OutlinesAreLogarithmsOfCounts) {
  // log(1 + 3) / log(1 + 15) = 1/2 of a height of 80.
  const std::vector<std::uint64_t> counts = {0, 3, 15};
  EXPECT_EQ(outline_points(counts, 15, 30, 80), "0,80 0,80 10,80 10,40 20,40 20,0 30,0 30,80");
}

TEST(ReportPlot, CoordinatesAreShort) {
  EXPECT_EQ(coordinate(1.5), "1.5");
  EXPECT_EQ(coordinate(20), "20");
  EXPECT_EQ(coordinate(-0.001), "0");
  EXPECT_EQ(coordinate(-2.25), "-2.25");
}

TEST(ReportPlot, StrangersTextIsInert) {
  EXPECT_EQ(escape_markup("<script>alert('x' && \"y\")</script>"),
            "&lt;script&gt;alert(&#39;x&#39; &amp;&amp; &quot;y&quot;)&lt;/script&gt;");
  EXPECT_EQ(escape_markup("caf\xC3\xA9 \xF0\x9F\x98\x80"), "caf\xC3\xA9 \xF0\x9F\x98\x80");
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(escape_markup(std::string("a\0b", 3)), "a" + bad + "b");
  EXPECT_EQ(escape_markup("\x1b[31m"), bad + "[31m");
  EXPECT_EQ(escape_markup("a\xFFz"), "a" + bad + "z");  // no UTF-8
  EXPECT_EQ(escape_markup("\xC0\xBC"), bad + bad);      // '<' in two bytes
  EXPECT_EQ(escape_markup("\xED\xA0\x80"), bad);        // half of a surrogate pair
  EXPECT_EQ(escape_markup("a\xE2\x80\xAE"
                          "b"),
            "a" + bad + "b");                       // turns the direction
  EXPECT_EQ(escape_markup("\xE2\x82"), bad + bad);  // ends too early
}

TEST(ReportPlot, MarkdownCellsStayCells) {
  EXPECT_EQ(escape_markdown("a|b\nc"), "a&#124;b c");
  EXPECT_EQ(escape_markdown("[x](y) `z` @team"), "&#91;x&#93;(y) &#96;z&#96; &#64;team");
  EXPECT_EQ(escape_markdown("<b>"), "&lt;b&gt;");
}

TEST(ReportPlot, TitlesInPicturesAreEscaped) {
  ScatterPlot plot{"<t>", "x", "y", {{1, 2, "1", "<script>", true}, {2, 3, "2", "b", true}}};
  const std::string svg = scatter_svg(plot, "p");
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  EXPECT_NE(svg.find("&lt;script&gt;"), std::string::npos);
  EXPECT_NE(svg.find("class=\"front\""), std::string::npos);
}

TEST(ReportTracking, OneRunForOneResultElseOneBelowAnother) {
  ReportContent content;
  content.title = "t";
  ReportResult original, made;
  original.original = true;
  made.label = "q.onnx";
  made.bytes_before = 100;
  made.bytes_after = 25;
  made.sqnr_db = std::numeric_limits<double>::infinity();  // no number of JSON
  content.results = {original, made};
  std::vector<TrackedRun> runs = tracked_runs(content, {});
  ASSERT_EQ(runs.size(), 1U);
  EXPECT_EQ(runs[0].id.size(), 32U);
  EXPECT_EQ(runs[0].metrics, (std::vector<std::pair<std::string, double>>{
                                 {"bytes_before", 100}, {"bytes_after", 25}, {"size_ratio", 4}}));
  made.failed = true;
  content.results.push_back(made);
  runs = tracked_runs(content, {});
  ASSERT_EQ(runs.size(), 3U);
  EXPECT_EQ(runs[1].parent, runs[0].id);
  EXPECT_NE(runs[1].id, runs[2].id);
  EXPECT_TRUE(runs[2].failed);
  const std::string lines = event_lines(runs, {}, nullptr);
  EXPECT_EQ(lines.find("time_ms"), std::string::npos);
  EXPECT_NE(lines.find("\"status\": \"failed\""), std::string::npos);
}

}  // namespace
}  // namespace mcompress::tools
