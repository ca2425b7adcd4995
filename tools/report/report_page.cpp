// A report as one HTML file that loads nothing: well-formed as XML, readable without script.
#include <algorithm>
#include <cmath>

#include "embedded_page.h"
#include "mcompress/host.h"
#include "mcompress/version.h"
#include "report/report_charts.h"
#include "report/report_data.h"
#include "report/report_plot.h"

namespace mcompress::tools {
namespace {

std::string base64_of_hex(std::string_view hex) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto nibble = [](char c) {
    return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
  };
  std::string text;
  unsigned held = 0, bits = 0;
  for (const char c : hex) {
    held = held << 4U | nibble(c);
    bits += 4;
    if (bits < 6) continue;
    bits -= 6;
    text += kDigits[held >> bits & 63U];
  }
  if (bits > 0) text += kDigits[held << (6 - bits) & 63U];
  while (text.size() % 4 != 0) text += '=';
  return text;
}

std::string_view embedded_text(std::string_view name) {
  for (const auto& file : embedded::page) {
    if (file.name == name) return file.text;
  }
  return {};
}

std::string number_text(double value) {
  return std::isfinite(value) ? coordinate(value) : std::string(value > 0 ? "1e9" : "-1e9");
}

class Page {
 public:
  Page(const ReportContent& content, const ReportLimits& limits)
      : content_(content), limits_(limits) {}

  std::string text() {
    std::string body;
    body += section("results", content_.batch ? "Models" : "Size, quality, latency", results());
    body += section("layers", "Weights", layers());
    body += section("weights", "Values of weights", weights());
    body += section("activations", "Activations", activations());
    body += section("operators", "Operators", operators());
    body += section("decisions", "Decisions and reasons", decisions());
    body += section("provenance", "Provenance", provenance());
    std::string out = head();
    out += "<body>\n<header>\n<h1>" + escape_markup(content_.title) +
           "</h1>\n<nav aria-label=\"Sections\"><ul>" + contents_ +
           "</ul></nav>\n</header>\n<main>\n";
    out += cards() + notes() + body + "</main>\n<footer>Written by mcompress " +
           std::string(kVersion) + ". This file loads nothing.</footer>\n<script>" +
           std::string(embedded_text("script")) + "</script>\n</body>\n</html>\n";
    return out;
  }

 private:
  std::string head() const {
    return "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
           "<meta charset=\"utf-8\"/>\n<meta http-equiv=\"Content-Security-Policy\" content=\""
           "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-" +
           base64_of_hex(MCOMPRESS_STYLE_SHA256) + "'; script-src 'sha256-" +
           base64_of_hex(MCOMPRESS_SCRIPT_SHA256) +
           "'\"/>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
           "<meta name=\"color-scheme\" content=\"light dark\"/>\n"
           "<meta name=\"generator\" content=\"mcompress " +
           std::string(kVersion) + "\"/>\n<title>" + escape_markup(content_.title) +
           "</title>\n<style>" + std::string(embedded_text("style")) + "</style>\n</head>\n";
  }

  std::string section(const std::string& id, const std::string& title, const std::string& body) {
    if (body.empty()) return {};
    contents_ += "<li><a href=\"#" + id + "\">" + title + "</a></li>";
    return "<section aria-labelledby=\"" + id + "\">\n<h2 id=\"" + id + "\">" + title + "</h2>\n" +
           body + "</section>\n";
  }

  // ------------------------------------------------------------------------------------- pieces

  static std::string cell(std::string_view text, std::string_view kind = {}) {
    return "<td" + (kind.empty() ? "" : " class=\"" + std::string(kind) + "\"") + ">" +
           escape_markup(text) + "</td>";
  }
  static std::string row_head(std::string_view text, std::string_view kind = "name") {
    return "<th scope=\"row\" class=\"" + std::string(kind) + "\">" + escape_markup(text) + "</th>";
  }
  static std::string number_cell(double value, std::string_view text, const std::string& bar = {}) {
    return "<td class=\"num\" data-value=\"" + number_text(value) + "\">" + escape_markup(text) +
           bar + "</td>";
  }
  static std::string bytes_cell(std::uint64_t bytes, const std::string& bar = {}) {
    return number_cell(static_cast<double>(bytes), bytes == 0 ? "-" : bytes_text(bytes), bar);
  }
  static std::string decibel_cell(const std::optional<double>& db) {
    return number_cell(db.value_or(-1), decibels(db), db ? decibel_bar(*db) : std::string());
  }

  // `columns`: names, those that start with '#' are of numbers.
  static std::string table(const std::string& caption,
                           std::initializer_list<std::string_view> columns, const std::string& rows,
                           std::string_view kind = "sortable") {
    std::string text = "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"" +
                       caption + "\">\n<table class=\"" + std::string(kind) + "\">\n<caption>" +
                       caption + "</caption>\n<thead><tr>";
    for (std::string_view column : columns) {
      const bool number = column.starts_with('#');
      if (number) column.remove_prefix(1);
      text += std::string("<th scope=\"col\"") + (number ? " class=\"num\"" : "") + ">" +
              std::string(column) + "</th>";
    }
    return text + "</tr></thead>\n<tbody>\n" + rows + "</tbody>\n</table>\n</div>\n";
  }

  static std::string legend() {
    return "<p class=\"legend\"><span>" + legend_svg(true) + "before</span><span>" +
           legend_svg(false) +
           "after</span><span class=\"soft\">heights are logarithms of counts</span></p>\n";
  }

  // ------------------------------------------------------------------------------------ summary

  static std::string card(const std::string& name, const std::string& value,
                          const std::string& more) {
    return "<div><dt>" + escape_markup(name) + "</dt><dd>" + escape_markup(value) +
           (more.empty() ? "" : "<small>" + escape_markup(more) + "</small>") + "</dd></div>\n";
  }

  std::string cards() const {
    std::string text;
    if (content_.batch) {
      std::uint64_t before = 0, after = 0, failed = 0;
      for (const ReportResult& result : content_.results) {
        if (result.failed) ++failed;
        if (result.failed || result.original) continue;
        before += result.bytes_before;
        after += result.bytes_after;
      }
      text += card("models", std::to_string(content_.results.size()),
                   failed == 0 ? "all done" : std::to_string(failed) + " failed");
      text += card("all together", bytes_text(after), "before " + bytes_text(before));
      text += card("smaller by", ratio_text(before, after), "");
    } else if (const ReportResult* result = main_result()) {
      text += card("size", bytes_text(result->bytes_after),
                   result->bytes_before > 0 ? "before " + bytes_text(result->bytes_before) : "");
      if (result->bytes_before > 0) {
        text += card("smaller by", ratio_text(result->bytes_before, result->bytes_after), "");
      }
      if (result->quality) {
        ReportResult old = *result;
        old.quality = result->quality_before;
        text += card(result->metric, quality_text(*result),
                     old.quality ? "before " + quality_text(old) : "");
      }
      if (result->sqnr_db) {
        text += card("outputs", decibels(result->sqnr_db), "signal to error, worst output");
      }
      if (result->latency_ms) {
        text += card(
            "latency p50", milliseconds(result->latency_ms),
            result->latency_before_ms ? "before " + milliseconds(result->latency_before_ms) : "");
      }
    }
    return text.empty() ? text : "<dl class=\"cards\">\n" + text + "</dl>\n";
  }

  // The run that everything else on the page is about.
  const ReportResult* main_result() const {
    const ReportResult* found = nullptr;
    for (const ReportResult& result : content_.results) {
      if (!result.original && !result.searched && found == nullptr) found = &result;
    }
    return found;
  }

  std::string notes() const {
    std::string text;
    for (const std::string& note : content_.notes) text += "<li>" + escape_markup(note) + "</li>\n";
    return text.empty() ? text : "<ul class=\"soft\">\n" + text + "</ul>\n";
  }

  // ------------------------------------------------------------------------------------ results

  // "top1 98.85 % (-0.35)", "perplexity 12.3 (+1.20 %)": models of a batch have metrics of their
  // own and no row for the original.
  static std::string quality_and_change(const ReportResult& result) {
    if (!result.quality || result.metric.empty()) return quality_text(result);
    std::string text = result.metric + " " + quality_text(result);
    if (!result.drop) return text;
    const double change = result.share ? -*result.drop : *result.drop;
    return text + " (" + (change >= 0 ? "+" : "") + decimal_text(change, 2) +
           (result.share ? ")" : " %)");
  }

  // "0.061 ms (0.65 x)": of the original's.
  std::string latency_text(const ReportResult& result) const {
    if (!result.latency_ms) {
      return result.relative_latency ? decimal_text(*result.relative_latency, 3) + " of original"
                                     : "-";
    }
    const double before = result.latency_before_ms.value_or(0);
    return milliseconds(result.latency_ms) +
           (content_.batch && before > 0
                ? " (" + decimal_text(*result.latency_ms / before, 2) + " x)"
                : "");
  }

  std::string results() const {
    if (content_.results.empty()) return {};
    std::string text = plots();
    std::uint64_t most = 1;
    for (const ReportResult& result : content_.results) {
      most = std::max({most, result.bytes_before, result.bytes_after});
    }
    const TradeOff plot = trade_off_of(content_);
    std::map<std::size_t, bool> front;
    for (const TradeOff::Point& point : plot.points) front[point.result] = point.front;
    std::string rows;
    std::size_t shown = 0;
    for (std::size_t i = 0; i < content_.results.size() && shown < limits_.rows; ++i, ++shown) {
      const ReportResult& result = content_.results[i];
      const auto bytes = static_cast<double>(result.bytes_after);
      rows += "<tr>" + number_cell(static_cast<double>(i + 1), std::to_string(i + 1)) +
              row_head(result.label);
      if (result.failed) {
        rows += "<td class=\"state-failed\">failed</td>";
      } else {
        rows += cell(result.original                    ? "original"
                     : front.contains(i) && front.at(i) ? "on the front"
                                                        : "done",
                     "tag");
      }
      rows += bytes_cell(result.bytes_before, bar_svg(static_cast<double>(result.bytes_before),
                                                      static_cast<double>(most), "before"));
      rows += result.failed ? number_cell(-1, "-")
                            : bytes_cell(result.bytes_after,
                                         bar_svg(bytes, static_cast<double>(most), "after"));
      const double ratio = result.bytes_after > 0 ? static_cast<double>(result.bytes_before) /
                                                        static_cast<double>(result.bytes_after)
                                                  : 0;
      rows += number_cell(ratio, result.failed || result.original
                                     ? "-"
                                     : ratio_text(result.bytes_before, result.bytes_after));
      rows += number_cell(content_.batch ? -result.drop.value_or(1e6)
                                         : result.quality.value_or(-result.drop.value_or(1e6)),
                          content_.batch ? quality_and_change(result) : quality_text(result));
      rows += number_cell(result.sqnr_db.value_or(-1), decibels(result.sqnr_db));
      const auto latency = result.latency_ms ? result.latency_ms : result.relative_latency;
      rows += number_cell(latency.value_or(-1), latency_text(result));
      rows += cell(result.message, "why") + "</tr>\n";
    }
    text += table(content_.batch ? "Every model of the batch" : "Results",
                  {"#No.", "name", "state", "#before", "#after", "#ratio", "#quality", "#SQNR",
                   "#latency", "message"},
                  rows);
    if (shown < content_.results.size()) {
      text += "<p class=\"soft\">and " + std::to_string(content_.results.size() - shown) +
              " more</p>\n";
    }
    std::string outputs;
    for (std::size_t i = 0; i < content_.outputs.size() && i < limits_.layers; ++i) {
      const ReportOutput& output = content_.outputs[i];
      const auto real = [](const std::optional<double>& value, int digits) {
        return value ? decimal_text(*value, digits) : std::string("-");
      };
      outputs +=
          "<tr>" + row_head(output.name) + decibel_cell(output.sqnr_db) +
          number_cell(output.cosine.value_or(-1), real(output.cosine, 6)) +
          number_cell(output.max_abs_error.value_or(-1), real(output.max_abs_error, 6)) +
          number_cell(output.agreement.value_or(-1),
                      output.agreement ? decimal_text(*output.agreement * 100, 2) + " %" : "-") +
          "</tr>\n";
    }
    if (!outputs.empty()) {
      text +=
          table("Outputs against those of the original",
                {"output", "#SQNR", "#cosine", "#largest error", "#same highest value"}, outputs);
    }
    return text;
  }

  std::string plots() const {
    const TradeOff plot = trade_off_of(content_);
    if (plot.points.size() < 2) return {};
    ScatterPlot quality{"Quality over size", plot.size, plot.quality, {}};
    ScatterPlot latency{"Latency over size", plot.size, plot.latency, {}};
    for (const TradeOff::Point& point : plot.points) {
      const ReportResult& result = content_.results[point.result];
      const std::string number = std::to_string(point.result + 1);
      const std::string title =
          number + ": " + result.label + ", " + bytes_text(result.bytes_after);
      quality.points.push_back({point.size, point.quality, number, title, point.front});
      if (point.latency) {
        latency.points.push_back({point.size, *point.latency, number, title, false});
      }
    }
    std::string text = "<div class=\"plots\">\n<figure>" + scatter_svg(quality, "quality") +
                       "<figcaption>Quality over size; the dashed line joins the Pareto front: "
                       "nothing else is both smaller and better. Numbers are those of the table."
                       "</figcaption></figure>\n";
    if (!plot.latency.empty()) {
      text += "<figure>" + scatter_svg(latency, "latency") +
              "<figcaption>Latency over size; lower is faster.</figcaption></figure>\n";
    }
    return text + "</div>\n";
  }

  // ------------------------------------------------------------------------------------- layers

  std::string layers() const {
    if (content_.layers.empty()) return {};
    double most = 1;
    for (const ReportLayer& layer : content_.layers) {
      most = std::max(most, static_cast<double>(std::max(layer.bytes_before, layer.bytes_after)));
    }
    std::string rows;
    const std::size_t shown = std::min(limits_.layers, content_.layers.size());
    for (std::size_t i = 0; i < shown; ++i) {
      const ReportLayer& layer = content_.layers[i];
      const auto before = static_cast<double>(layer.bytes_before);
      const auto after = static_cast<double>(layer.bytes_after);
      rows += "<tr>" + row_head(layer.name) +
              bytes_cell(layer.bytes_before, bar_svg(before, most, "before")) +
              bytes_cell(layer.bytes_after, bar_svg(after, most, "after")) +
              decibel_cell(layer.sqnr_db) +
              cell(layer.form.empty() ? "left: " + layer.why : layer.form, "why") + "</tr>\n";
    }
    std::string text =
        table("Weights, largest first", {"tensor", "#before", "#after", "#SQNR", "form"}, rows);
    if (shown < content_.layers.size()) {
      std::uint64_t before = 0, after = 0;
      for (std::size_t i = shown; i < content_.layers.size(); ++i) {
        before += content_.layers[i].bytes_before;
        after += content_.layers[i].bytes_after;
      }
      text += "<p class=\"soft\">and " + std::to_string(content_.layers.size() - shown) +
              " smaller ones: " + bytes_text(before) + " before, " + bytes_text(after) +
              " after</p>\n";
    }
    return text;
  }

  static std::string figure(const std::string& name, const std::string& more,
                            const ValueHistogram& histogram) {
    const auto end = [](double value) {
      const double size = std::abs(value);
      return decimal_text(value, size >= 100 ? 0 : size >= 1 ? 2 : 4);
    };
    return "<figure><figcaption><strong>" + escape_markup(name) + "</strong><br/>" +
           escape_markup(more) + "</figcaption>" +
           histogram_svg(histogram, "Values of " + name + " before and after") +
           "<div class=\"ends\"><span>" + end(histogram.low) + "</span><span>" +
           end(histogram.high) + "</span></div></figure>\n";
  }

  std::string weights() const {
    std::string figures, missing;
    for (const WeightChange& change : content_.weights) {
      if (!change.why_not.empty()) {
        missing += "<li><code>" + escape_markup(change.name) +
                   "</code>: " + escape_markup(change.why_not) + "</li>\n";
        continue;
      }
      std::string more = change.op_type + ", " + std::to_string(change.elements_after) + " values";
      if (change.sqnr_db) more += ", " + decibels(change.sqnr_db);
      if (change.zeros_after > 0 && change.elements_after > 0) {
        more += ", " +
                decimal_text(static_cast<double>(change.zeros_after) * 100 /
                                 static_cast<double>(change.elements_after),
                             1) +
                " % zeros";
      }
      figures += figure(change.name, more, change.histogram);
    }
    if (figures.empty() && missing.empty()) return {};
    std::string text = "<p>The largest weights as the operators that read them see them.</p>\n";
    if (!figures.empty()) text += legend() + "<div class=\"grid\">\n" + figures + "</div>\n";
    if (!missing.empty()) text += "<p>Not shown:</p>\n<ul class=\"soft\">\n" + missing + "</ul>\n";
    return text;
  }

  std::string activations() const {
    if (content_.activations.empty()) return {};
    std::string rows, figures;
    const std::size_t shown = std::min(limits_.layers, content_.activations.size());
    for (std::size_t i = 0; i < shown; ++i) {
      const ReportActivation& activation = content_.activations[i];
      rows += "<tr>" + row_head(activation.layer) + cell(activation.op_type) +
              decibel_cell(activation.own_db) + decibel_cell(activation.accumulated_db) + "</tr>\n";
    }
    std::size_t drawn = 0;
    for (const ReportActivation& activation : content_.activations) {
      if (!activation.histogram || drawn == limits_.histograms) continue;
      ++drawn;
      figures +=
          figure(activation.layer, activation.op_type + ", " + decibels(activation.accumulated_db),
                 *activation.histogram);
    }
    std::string text = "<p>What both models compute, on " +
                       std::to_string(content_.activation_samples) +
                       " samples; the layers that lose most by themselves first.</p>\n" +
                       table("Error of layers",
                             {"layer", "operator", "#by itself", "#with all in front of it"}, rows);
    if (shown < content_.activations.size()) {
      text += "<p class=\"soft\">and " + std::to_string(content_.activations.size() - shown) +
              " layers that lose less</p>\n";
    }
    if (!figures.empty()) text += legend() + "<div class=\"grid\">\n" + figures + "</div>\n";
    return text;
  }

  // ---------------------------------------------------------------------------------- operators

  std::string operators() const {
    if (content_.operators.empty() && content_.kernels.empty()) return {};
    std::string text, rows;
    for (std::size_t i = 0; i < content_.operators.size() && i < limits_.rows; ++i) {
      const ReportCounts& count = content_.operators[i];
      const auto before = static_cast<double>(count.before),
                 after = static_cast<double>(count.after);
      const double change = after - before;
      rows += "<tr>" + row_head(count.name) + number_cell(before, std::to_string(count.before)) +
              number_cell(after, std::to_string(count.after)) +
              number_cell(change, (change > 0 ? "+" : "") + coordinate(change)) + "</tr>\n";
    }
    if (!rows.empty()) {
      text += table("Operators of the graphs", {"operator", "#before", "#after", "#change"}, rows);
    }
    rows.clear();
    for (const auto& [name, count] : content_.kernels) {
      rows += "<tr>" + row_head(name) +
              number_cell(static_cast<double>(count), std::to_string(count)) + "</tr>\n";
    }
    if (!rows.empty()) {
      text += table("Integer kernels that the runtime executes", {"kernel", "#nodes"}, rows);
    }
    rows.clear();
    for (std::size_t i = 0; i < content_.stayed_float.size() && i < limits_.rows; ++i) {
      const ReportDecision& node = content_.stayed_float[i];
      rows += "<tr>" + row_head(node.subject) + cell(node.op_type) + cell(node.what) +
              cell(node.why, "why") + "</tr>\n";
    }
    if (!rows.empty()) {
      text += table("Meant for integers, executed in float32",
                    {"node", "operator", "kernel", "why"}, rows);
    }
    return text;
  }

  // ---------------------------------------------------------------------------------- decisions

  std::string decisions() const {
    if (content_.decisions.empty()) return {};
    std::string rows;
    for (const ReasonGroup& group : reason_groups(content_.decisions)) {
      rows += "<tr>" + cell(group.applied ? "applied" : "left", "tag") +
              number_cell(static_cast<double>(group.count), std::to_string(group.count)) +
              bytes_cell(group.bytes) + cell(group.why, "why") + cell(group.example, "name") +
              "</tr>\n";
    }
    std::string text = table("What was done and what was not, by reason",
                             {"state", "#decisions", "#bytes", "reason", "first"}, rows);
    rows.clear();
    // Tensors first: of clean-up there is a line for every node that went.
    std::vector<const ReportDecision*> order;
    for (const ReportDecision& decision : content_.decisions) order.push_back(&decision);
    std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
      return a->bytes_before > b->bytes_before;
    });
    const std::size_t shown = std::min(limits_.rows, order.size());
    for (std::size_t i = 0; i < shown; ++i) {
      const ReportDecision& decision = *order[i];
      std::string what = decision.what;
      if (!decision.why.empty()) what += (what.empty() ? "" : ": ") + decision.why;
      rows += std::string("<tr data-state=\"") + (decision.applied ? "applied" : "left") + "\">" +
              row_head(decision.subject) + cell(decision.op_type) + cell(decision.pass, "tag") +
              cell(decision.applied ? "applied" : "left", "tag") +
              bytes_cell(decision.bytes_before) + bytes_cell(decision.bytes_after) +
              number_cell(decision.sqnr_db.value_or(-1), decibels(decision.sqnr_db)) +
              cell(what, "why") + "</tr>\n";
    }
    text += "<details open=\"open\">\n<summary>Each decision, most bytes first</summary>\n" +
            table("Decisions",
                  {"tensor or node", "operator", "pass", "state", "#before", "#after", "#SQNR",
                   "what and why"},
                  rows, "sortable filterable");
    if (shown < order.size()) {
      text += "<p class=\"soft\">and " + std::to_string(order.size() - shown) +
              " more; they count above, --rows shows them</p>\n";
    }
    return text + "</details>\n";
  }

  std::string provenance() const {
    std::string rows;
    for (const auto& [name, value] : content_.provenance) {
      rows += "<tr>" + row_head(name, "tag") + cell(value, "name") + "</tr>\n";
    }
    std::string text;
    if (!rows.empty()) text += table("Where this comes from", {"fact", "value"}, rows, "facts");
    if (!content_.recipe.is_null()) {
      text += "<details>\n<summary>Recipe</summary>\n<pre tabindex=\"0\">" +
              escape_markup(json_text(content_.recipe)) + "</pre>\n</details>\n";
    }
    return text;
  }

  const ReportContent& content_;
  const ReportLimits& limits_;
  std::string contents_;
};

}  // namespace

std::string html_page(const ReportContent& content, const ReportLimits& limits) {
  return Page(content, limits).text();
}

}  // namespace mcompress::tools
