// A report as Markdown for a pull request, and as JSON.
#include <algorithm>

#include "mcompress/host.h"
#include "mcompress/version.h"
#include "report/report_data.h"
#include "report/report_plot.h"

namespace mcompress::tools {
namespace {

std::string row(std::initializer_list<std::string> cells) {
  std::string text = "|";
  for (const std::string& cell : cells) text += " " + escape_markdown(cell) + " |";
  return text + "\n";
}

std::string rest_line(std::size_t shown, std::size_t all) {
  return shown < all ? "\nand " + std::to_string(all - shown) + " more\n" : std::string();
}

std::string folded(const std::string& title, const std::string& body) {
  return "\n<details><summary>" + title + "</summary>\n\n" + body + "\n</details>\n";
}

Datum text(std::string_view value) { return Datum::string(value); }
Datum count(std::uint64_t value) { return Datum::integer(static_cast<std::int64_t>(value)); }

void set_real(Datum& map, std::string_view key, const std::optional<double>& value) {
  if (value) map.set(key, Datum::real(*value));
}
void set_text(Datum& map, std::string_view key, const std::string& value) {
  if (!value.empty()) map.set(key, text(value));
}

Datum histogram_datum(const ValueHistogram& histogram) {
  Datum map = Datum::map();
  map.set("low", Datum::real(histogram.low));
  map.set("high", Datum::real(histogram.high));
  for (const auto& [key, counts] :
       {std::pair("before", &histogram.before), std::pair("after", &histogram.after)}) {
    Datum list = Datum::list();
    for (const std::uint64_t one : *counts) list.push(count(one));
    map.set(key, std::move(list));
  }
  return map;
}

Datum result_datum(const ReportResult& result) {
  Datum map = Datum::map();
  map.set("label", text(result.label));
  set_text(map, "model", result.model);
  if (result.bytes_before > 0) map.set("bytes_before", count(result.bytes_before));
  map.set("bytes_after", count(result.bytes_after));
  set_text(map, "metric", result.metric);
  set_real(map, "quality_before", result.quality_before);
  set_real(map, "quality", result.quality);
  set_real(map, "drop", result.drop);
  set_real(map, "sqnr_db", result.sqnr_db);
  set_real(map, "latency_before_ms", result.latency_before_ms);
  set_real(map, "latency_ms", result.latency_ms);
  set_real(map, "relative_latency", result.relative_latency);
  map.set("original", Datum::boolean(result.original));
  map.set("failed", Datum::boolean(result.failed));
  set_text(map, "message", result.message);
  return map;
}

Datum decision_datum(const ReportDecision& decision) {
  Datum map = Datum::map();
  set_text(map, "pass", decision.pass);
  map.set("subject", text(decision.subject));
  set_text(map, "op_type", decision.op_type);
  map.set("applied", Datum::boolean(decision.applied));
  set_text(map, "what", decision.what);
  set_text(map, "why", decision.why);
  if (decision.bytes_before > 0) {
    map.set("bytes_before", count(decision.bytes_before));
    map.set("bytes_after", count(decision.bytes_after));
  }
  set_real(map, "sqnr_db", decision.sqnr_db);
  return map;
}

template <class Items, class Make>
void set_list(Datum& map, std::string_view key, const Items& items, const Make& make) {
  Datum list = Datum::list();
  for (const auto& item : items) list.push(make(item));
  map.set(key, std::move(list));
}

}  // namespace

std::string markdown_page(const ReportContent& content, const ReportLimits& limits) {
  std::string out = "## " + escape_markdown(content.title) + "\n\n";
  out += "| result | before | after | ratio | quality | SQNR | latency |\n";
  out += "|---|--:|--:|--:|--:|--:|--:|\n";
  // Those who read a comment want the figures; the page has the rest.
  constexpr std::size_t kMostLines = 50;
  const std::size_t most = std::min(limits.rows, kMostLines);
  std::size_t shown = 0;
  for (const ReportResult& result : content.results) {
    if (shown == most) break;
    ++shown;
    const std::string latency = result.latency_ms ? milliseconds(result.latency_ms)
                                : result.relative_latency
                                    ? decimal_text(*result.relative_latency, 3) + " of original"
                                    : "-";
    const std::string after =
        result.failed ? "failed: " + result.message : bytes_text(result.bytes_after);
    out +=
        row({result.label + (result.original ? " (original)" : ""),
             result.bytes_before > 0 ? bytes_text(result.bytes_before) : "-", after,
             result.original || result.failed ? "-"
                                              : ratio_text(result.bytes_before, result.bytes_after),
             quality_text(result), decibels(result.sqnr_db), latency});
  }
  out += rest_line(shown, content.results.size());
  for (const std::string& note : content.notes) out += "\n- " + escape_markdown(note);
  if (!content.notes.empty()) out += "\n";
  if (!content.layers.empty()) {
    std::string body = "| tensor | before | after | SQNR | form |\n|---|--:|--:|--:|---|\n";
    shown = std::min({limits.layers, most, content.layers.size()});
    for (std::size_t i = 0; i < shown; ++i) {
      const ReportLayer& layer = content.layers[i];
      body +=
          row({layer.name, bytes_text(layer.bytes_before), bytes_text(layer.bytes_after),
               decibels(layer.sqnr_db), layer.form.empty() ? "left: " + layer.why : layer.form});
    }
    out += folded("Weights", body + rest_line(shown, content.layers.size()));
  }
  if (!content.activations.empty()) {
    std::string body = "| layer | operator | by itself | with all in front |\n|---|---|--:|--:|\n";
    shown = std::min({limits.layers, most, content.activations.size()});
    for (std::size_t i = 0; i < shown; ++i) {
      const ReportActivation& activation = content.activations[i];
      body += row({activation.layer, activation.op_type, decibels(activation.own_db),
                   decibels(activation.accumulated_db)});
    }
    out += folded("Error of layers", body + rest_line(shown, content.activations.size()));
  }
  if (!content.operators.empty()) {
    std::string body = "| operator | before | after |\n|---|--:|--:|\n";
    for (std::size_t i = 0; i < content.operators.size() && i < most; ++i) {
      const ReportCounts& counts = content.operators[i];
      body += row({counts.name, std::to_string(counts.before), std::to_string(counts.after)});
    }
    for (const auto& [kernel, number] : content.kernels) {
      body += row({"executed: " + kernel, "-", std::to_string(number)});
    }
    out += folded("Operators", body);
  }
  if (!content.decisions.empty()) {
    std::string body = "| state | decisions | bytes | reason | first |\n|---|--:|--:|---|---|\n";
    const std::vector<ReasonGroup> groups = reason_groups(content.decisions);
    shown = std::min(most, groups.size());
    for (std::size_t i = 0; i < shown; ++i) {
      body += row({groups[i].applied ? "applied" : "left", std::to_string(groups[i].count),
                   groups[i].bytes > 0 ? bytes_text(groups[i].bytes) : "-", groups[i].why,
                   groups[i].example});
    }
    out += folded("Reasons", body + rest_line(shown, groups.size()));
  }
  if (!content.provenance.empty()) {
    std::string body = "| fact | value |\n|---|---|\n";
    for (const auto& [name, value] : content.provenance) body += row({name, value});
    out += folded("Provenance", body);
  }
  return out;
}

Datum page_datum(const ReportContent& content, const ReportLimits& limits) {
  Datum map = Datum::map();
  map.set("schema", text("mcompress-page"));
  map.set("schema_version", Datum::integer(1));
  map.set("tool_version", text(kVersion));
  map.set("title", text(content.title));
  map.set("batch", Datum::boolean(content.batch));
  set_list(map, "results", content.results, result_datum);
  const TradeOff plot = trade_off_of(content);
  Datum trade = Datum::map();
  trade.set("size", text(plot.size));
  trade.set("quality", text(plot.quality));
  trade.set("latency", text(plot.latency));
  set_list(trade, "points", plot.points, [](const TradeOff::Point& point) {
    Datum entry = Datum::map();
    entry.set("result", count(point.result));
    entry.set("size", Datum::real(point.size));
    entry.set("quality", Datum::real(point.quality));
    set_real(entry, "latency", point.latency);
    entry.set("front", Datum::boolean(point.front));
    return entry;
  });
  map.set("trade_off", std::move(trade));
  set_list(map, "outputs", content.outputs, [](const ReportOutput& output) {
    Datum entry = Datum::map();
    entry.set("name", text(output.name));
    set_real(entry, "sqnr_db", output.sqnr_db);
    set_real(entry, "cosine", output.cosine);
    set_real(entry, "max_abs_error", output.max_abs_error);
    set_real(entry, "argmax_agreement", output.agreement);
    return entry;
  });
  set_list(map, "layers", content.layers, [](const ReportLayer& layer) {
    Datum entry = Datum::map();
    entry.set("name", text(layer.name));
    entry.set("bytes_before", count(layer.bytes_before));
    entry.set("bytes_after", count(layer.bytes_after));
    set_real(entry, "sqnr_db", layer.sqnr_db);
    set_text(entry, "form", layer.form);
    set_text(entry, "why", layer.why);
    return entry;
  });
  set_list(map, "weights", content.weights, [](const WeightChange& change) {
    Datum entry = Datum::map();
    entry.set("name", text(change.name));
    entry.set("layer", text(change.layer));
    entry.set("op_type", text(change.op_type));
    if (!change.why_not.empty()) {
      entry.set("why_not", text(change.why_not));
      return entry;
    }
    entry.set("elements_before", Datum::integer(change.elements_before));
    entry.set("elements_after", Datum::integer(change.elements_after));
    entry.set("zeros_before", count(change.zeros_before));
    entry.set("zeros_after", count(change.zeros_after));
    set_real(entry, "sqnr_db", change.sqnr_db);
    entry.set("histogram", histogram_datum(change.histogram));
    return entry;
  });
  map.set("activation_samples", Datum::integer(content.activation_samples));
  std::size_t drawn = 0;
  set_list(map, "activations", content.activations, [&](const ReportActivation& activation) {
    Datum entry = Datum::map();
    entry.set("value", text(activation.value));
    entry.set("layer", text(activation.layer));
    entry.set("op_type", text(activation.op_type));
    set_real(entry, "own_db", activation.own_db);
    entry.set("accumulated_db", Datum::real(activation.accumulated_db));
    if (activation.histogram && drawn++ < limits.histograms) {
      entry.set("histogram", histogram_datum(*activation.histogram));
    }
    return entry;
  });
  set_list(map, "operators", content.operators, [](const ReportCounts& counts) {
    Datum entry = Datum::map();
    entry.set("name", text(counts.name));
    entry.set("before", count(counts.before));
    entry.set("after", count(counts.after));
    return entry;
  });
  set_list(map, "kernels", content.kernels, [](const auto& kernel) {
    Datum entry = Datum::map();
    entry.set("name", text(kernel.first));
    entry.set("nodes", Datum::integer(kernel.second));
    return entry;
  });
  set_list(map, "stayed_float", content.stayed_float, decision_datum);
  set_list(map, "decisions", content.decisions, decision_datum);
  set_list(map, "provenance", content.provenance, [](const auto& fact) {
    Datum entry = Datum::map();
    entry.set("name", text(fact.first));
    entry.set("value", text(fact.second));
    return entry;
  });
  set_list(map, "notes", content.notes, [](const std::string& note) { return text(note); });
  if (!content.recipe.is_null()) map.set("recipe", content.recipe);
  return map;
}

}  // namespace mcompress::tools
