// From JSON to a report's content: runs, fronts of searches, journals of batches.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "batch/journal.h"
#include "mcompress/digest.h"
#include "mcompress/evaluate.h"
#include "mcompress/host.h"
#include "outcome.h"
#include "report/report_data.h"
#include "report/report_plot.h"
#include "try.h"

namespace mcompress::tools {
namespace {

namespace fs = std::filesystem;

std::string text_of(const Datum* datum) {
  return datum != nullptr && datum->as_string() != nullptr ? *datum->as_string() : std::string();
}

const Datum* at(const Datum& datum, std::string_view key) { return datum.find(key); }
template <class... Keys>
const Datum* at(const Datum& datum, std::string_view key, Keys... rest) {
  const Datum* inner = datum.find(key);
  return inner != nullptr ? at(*inner, rest...) : nullptr;
}

std::optional<double> number_of(const Datum* datum) {
  if (datum == nullptr) return std::nullopt;
  if (const auto* whole = std::get_if<std::int64_t>(&datum->value())) {
    return static_cast<double>(*whole);
  }
  const auto* real = std::get_if<double>(&datum->value());
  return real != nullptr ? std::optional(*real) : std::nullopt;
}

// JSON has no infinity: an SQNR of null is that of equal values.
std::optional<double> decibels_of(const Datum* datum) {
  if (datum != nullptr && datum->is_null()) return std::numeric_limits<double>::infinity();
  return number_of(datum);
}

std::uint64_t count_of(const Datum* datum) {
  const auto* whole = datum != nullptr ? std::get_if<std::int64_t>(&datum->value()) : nullptr;
  return whole != nullptr && *whole > 0 ? static_cast<std::uint64_t>(*whole) : 0;
}

bool true_of(const Datum* datum) {
  return datum != nullptr && datum->value() == Datum::Value(true);
}

const Datum::List& list_of(const Datum* datum) {
  static const Datum::List kNone;
  return datum != nullptr && datum->as_list() != nullptr ? *datum->as_list() : kNone;
}

std::optional<double> time_of(const Datum& report, std::string_view path, std::string_view key) {
  for (const Datum& time : list_of(at(report, "times"))) {
    if (text_of(time.find("path")) == path && text_of(time.find("key")) == key) {
      return number_of(time.find("seconds"));
    }
  }
  return std::nullopt;
}

Error no_report(const std::string& file, std::string message, std::string hint) {
  return Error(Code::kInput, "no-report", std::move(message), {file, {}, {}}, std::move(hint));
}

ReportDecision decision_of(const Datum& entry) {
  ReportDecision decision;
  decision.pass = text_of(entry.find("pass"));
  decision.subject = text_of(entry.find("subject"));
  decision.op_type = text_of(entry.find("op_type"));
  decision.what = text_of(entry.find("what"));
  decision.why = text_of(entry.find("why"));
  decision.applied = true_of(entry.find("applied"));
  decision.bytes_before = count_of(entry.find("bytes_before"));
  decision.bytes_after = count_of(entry.find("bytes_after"));
  decision.sqnr_db = decibels_of(entry.find("sqnr_db"));
  return decision;
}

// The last word on each tensor: what was done, else why nothing was.
void add_layers(ReportContent& content) {
  std::map<std::string_view, std::size_t> places;
  for (const ReportDecision& decision : content.decisions) {
    if (decision.bytes_before == 0 || !compresses_weights(decision.pass)) continue;
    const auto [place, added] = places.try_emplace(decision.subject, content.layers.size());
    if (!added && !decision.applied) continue;
    ReportLayer layer{decision.subject,     decision.applied ? decision.what : std::string(),
                      decision.why,         decision.bytes_before,
                      decision.bytes_after, decision.sqnr_db};
    if (added) {
      content.layers.push_back(std::move(layer));
      continue;
    }
    ReportLayer& known = content.layers[place->second];
    // Passes that follow each other: from what the first one found.
    if (!known.form.empty()) {
      layer.bytes_before = std::max(known.bytes_before, layer.bytes_before);
      layer.form = known.form + "; " + layer.form;
      if (!layer.sqnr_db) layer.sqnr_db = known.sqnr_db;
    }
    known = std::move(layer);
  }
  std::stable_sort(
      content.layers.begin(), content.layers.end(),
      [](const ReportLayer& a, const ReportLayer& b) { return a.bytes_before > b.bytes_before; });
}

std::optional<double> relative_latency_of(const ReportResult& result) {
  if (result.relative_latency) return result.relative_latency;
  if (!result.latency_ms || result.latency_before_ms.value_or(0) <= 0) return std::nullopt;
  return *result.latency_ms / *result.latency_before_ms;
}

}  // namespace

Result<ReportResult> result_of_report(const Datum& report, const std::string& file) {
  if (text_of(report.find("schema")) != "mcompress-report") {
    return no_report(file, "is no report of a run: \"schema\" is not \"mcompress-report\"",
                     "commands that write a model write one with --report FILE");
  }
  ReportResult result;
  result.model = text_of(at(report, "input", "file"));
  result.label = text_of(at(report, "output", "file"));
  if (result.label.empty()) result.label = file_name(file);
  result.bytes_before = count_of(at(report, "input", "bytes"));
  result.bytes_after = count_of(at(report, "output", "bytes"));
  if (const Datum* after = at(report, "evaluation", "after")) {
    result.metric = text_of(after->find("metric"));
    result.quality = number_of(after->find("value"));
    result.quality_before = number_of(at(report, "evaluation", "before", "value"));
    const auto metric = parse_metric(result.metric);
    result.share = !metric || is_share(*metric);
    if (result.quality && result.quality_before) {
      const double before = *result.quality_before, now = *result.quality;
      result.drop = result.share ? (before - now) * 100 : (now / before - 1) * 100;
    }
  }
  for (const Datum& output : list_of(at(report, "comparison", "outputs"))) {
    const auto db = decibels_of(output.find("sqnr_db"));
    if (db && (!result.sqnr_db || *db < *result.sqnr_db)) result.sqnr_db = db;
  }
  const auto milliseconds_of = [&](std::string_view path) -> std::optional<double> {
    const auto seconds = time_of(report, path, "p50");
    return seconds ? std::optional(*seconds * 1e3) : std::nullopt;
  };
  result.latency_before_ms = milliseconds_of("latency.before");
  result.latency_ms = milliseconds_of("latency.after");
  return result;
}

void add_run_report(const Datum& report, ReportContent& content) {
  for (const Datum& output : list_of(at(report, "comparison", "outputs"))) {
    content.outputs.push_back({text_of(output.find("name")), decibels_of(output.find("sqnr_db")),
                               number_of(output.find("cosine")),
                               number_of(output.find("max_abs_error")),
                               number_of(output.find("argmax_agreement"))});
  }
  for (const Datum& entry : list_of(at(report, "decisions"))) {
    content.decisions.push_back(decision_of(entry));
  }
  add_layers(content);
  if (const Datum* kernels = at(report, "executed", "kernels"); kernels && kernels->as_map()) {
    for (const auto& [name, count] : *kernels->as_map()) {
      content.kernels.emplace_back(name, static_cast<std::int64_t>(count_of(&count)));
    }
  }
  for (const Datum& node : list_of(at(report, "executed", "stayed_float"))) {
    ReportDecision decision;
    decision.subject = text_of(node.find("node"));
    decision.op_type = text_of(node.find("op_type"));
    decision.what = text_of(node.find("kernel"));
    decision.why = text_of(node.find("why"));
    content.stayed_float.push_back(std::move(decision));
  }
  const auto fact = [&](const char* name, const std::string& value) {
    if (!value.empty()) content.provenance.emplace_back(name, value);
  };
  fact("command", text_of(report.find("command")));
  fact("written by", "mcompress " + text_of(report.find("tool_version")));
  fact("mode", text_of(report.find("mode")));
  fact("guard", text_of(at(report, "guard", "mode")));
  if (const Datum* recipe = report.find("recipe")) {
    fact("target", text_of(recipe->find("target")));
    fact("recipe digest", digest_text(text_digest(json_line(*recipe))));
    content.recipe = *recipe;
  }
  for (const Datum& diagnostic : list_of(at(report, "diagnostics"))) {
    if (text_of(diagnostic.find("level")) != "warning") continue;
    content.notes.push_back("warning: " + text_of(diagnostic.find("message")));
  }
}

Status add_front(const Datum& front, const std::string& file, ReportContent& content) {
  const Datum* points = front.as_list() != nullptr ? &front : front.find("points");
  if (points == nullptr || points->as_list() == nullptr) {
    return no_report(file, "has no list of points",
                     "{\"points\": [{\"bytes\": 1000, \"sqnr_db\": 30.5, \"label\": \"a\"}]}");
  }
  const std::string metric = text_of(front.find("metric"));
  const std::uint64_t input_bytes = count_of(front.find("input_bytes"));
  std::size_t index = 0;
  for (const Datum& point : *points->as_list()) {
    ReportResult result;
    result.searched = true;
    result.bytes_after = count_of(point.find("bytes"));
    result.bytes_before = input_bytes;
    if (result.bytes_after == 0) {
      return no_report(file, "point " + std::to_string(index) + " has no \"bytes\"",
                       "a number of bytes above 0");
    }
    result.sqnr_db = decibels_of(point.find("sqnr_db"));
    if (!result.sqnr_db) result.sqnr_db = decibels_of(point.find("sqnr"));
    result.drop = number_of(point.find("drop"));
    result.quality = number_of(point.find("quality"));
    if (result.drop || result.quality) result.metric = metric.empty() ? "quality" : metric;
    result.relative_latency = number_of(point.find("latency"));
    result.latency_ms = number_of(point.find("latency_ms"));
    result.label = text_of(point.find("label"));
    if (result.label.empty()) result.label = text_of(point.find("origin"));
    result.label += (result.label.empty() ? "point " : " ") + std::to_string(++index);
    content.results.push_back(std::move(result));
  }
  return ok_status();
}

Status add_batch(const std::string& path, ReportContent& content) {
  content.batch = true;
  std::vector<std::string> files = {path};
  std::error_code error;
  if (fs::is_directory(path, error)) {
    files.clear();
    const fs::path state = fs::path(path) / ".mcompress-batch";
    for (auto it = fs::directory_iterator(state, error); !error && it != fs::directory_iterator();
         it.increment(error)) {
      const std::string name = it->path().filename().string();
      if (name.starts_with("journal-") && name.ends_with(".jsonl")) {
        files.push_back(it->path().string());
      }
    }
    std::sort(files.begin(), files.end());
    if (files.empty()) {
      return no_report(path, "is no folder of a batch: there is no .mcompress-batch/journal-*",
                       "`mcompress batch MODELS RECIPE -o FOLDER` makes one");
    }
  }
  std::map<std::string, JournalEntry> entries;
  for (const std::string& file : files) {
    constexpr std::uint64_t kMostBytes = 1ULL << 30;
    MCOMPRESS_ASSIGN(const std::string text, read_file(file, kMostBytes));
    MCOMPRESS_ASSIGN(auto found, parse_journal(text, file));
    for (auto& [name, entry] : found) entries[name] = std::move(entry);
  }
  std::string lines;
  for (const auto& [name, entry] : entries) {
    lines += journal_line(entry);
    ReportResult result;
    result.label = name;
    result.model = name;
    result.bytes_before = static_cast<std::uint64_t>(std::max<std::int64_t>(entry.bytes_before, 0));
    result.bytes_after = static_cast<std::uint64_t>(std::max<std::int64_t>(entry.bytes_after, 0));
    result.failed = entry.status != 0;
    result.message = entry.message;
    result.metric = entry.metric;
    const auto metric = parse_metric(entry.metric);
    result.share = !metric || is_share(*metric);
    result.quality_before = entry.quality_before;
    result.quality = entry.quality;
    result.drop = entry.drop;
    result.sqnr_db = entry.sqnr_db;
    result.latency_before_ms = entry.latency_before_ms;
    result.latency_ms = entry.latency_ms;
    content.results.push_back(std::move(result));
  }
  content.provenance.emplace_back("models", std::to_string(entries.size()));
  content.provenance.emplace_back("digest of the journal", digest_text(text_digest(lines)));
  return ok_status();
}

std::vector<ReasonGroup> reason_groups(const std::vector<ReportDecision>& decisions) {
  std::vector<ReasonGroup> groups;
  std::map<std::string, std::size_t> places;
  for (const ReportDecision& decision : decisions) {
    const std::string& why =
        decision.applied && !decision.what.empty() ? decision.what : decision.why;
    const std::string key = (decision.applied ? "+" : "-") + decision.pass + "\n" + reason_key(why);
    const auto [place, added] = places.try_emplace(key, groups.size());
    if (added) groups.push_back({decision.pass + ": " + why, decision.subject, decision.applied});
    ReasonGroup& group = groups[place->second];
    ++group.count;
    group.bytes += decision.bytes_before;
  }
  std::stable_sort(groups.begin(), groups.end(), [](const ReasonGroup& a, const ReasonGroup& b) {
    return a.bytes != b.bytes ? a.bytes > b.bytes : a.count > b.count;
  });
  return groups;
}

TradeOff trade_off_of(const ReportContent& content) {
  TradeOff plot;
  std::vector<std::size_t> usable;
  for (std::size_t i = 0; i < content.results.size(); ++i) {
    const ReportResult& result = content.results[i];
    if (!result.failed && result.bytes_after > 0) usable.push_back(i);
  }
  const auto all = [&](const auto& holds) {
    return !usable.empty() && std::all_of(usable.begin(), usable.end(),
                                          [&](std::size_t i) { return holds(content.results[i]); });
  };
  const auto measured = [](const ReportResult& result) { return !result.original; };
  const std::string metric = usable.empty() ? "" : content.results[usable.back()].metric;
  const bool several = content.batch;
  const bool same_metric =
      all([&](const ReportResult& r) { return r.original || r.metric == metric; });
  const bool quality = !several && same_metric && !metric.empty() &&
                       all([](const ReportResult& r) { return r.quality.has_value(); });
  const bool drop = all([&](const ReportResult& r) { return !measured(r) || r.drop.has_value(); });
  // Equal outputs have no place on an axis of decibels.
  const auto has_db = [](const ReportResult& r) { return r.sqnr_db && std::isfinite(*r.sqnr_db); };
  bool share = true;
  for (const std::size_t i : usable) share = share && content.results[i].share;
  int kind = 0;
  if (quality && share) {
    plot.quality = metric + ", %";
    kind = 1;
  } else if (drop) {
    plot.quality = share ? "change in points" : "change in % (up is better)";
    kind = 2;
  } else if (std::any_of(usable.begin(), usable.end(),
                         [&](std::size_t i) { return has_db(content.results[i]); })) {
    plot.quality = "SQNR of the outputs, dB";
    kind = 3;
  }
  if (kind == 0) return plot;
  plot.size = several ? "bytes, % of the original" : "bytes";
  std::vector<TradePoint> points;
  bool absolute = true, relative = true;
  for (const std::size_t i : usable) {
    const ReportResult& result = content.results[i];
    if (several && result.bytes_before == 0) continue;
    if (kind == 3 && !has_db(result)) continue;
    if (several && result.original) continue;
    TradeOff::Point point;
    point.result = i;
    const auto bytes = static_cast<double>(result.bytes_after);
    point.size = several ? bytes / static_cast<double>(result.bytes_before) * 100 : bytes;
    point.quality = kind == 1   ? *result.quality * 100
                    : kind == 2 ? -result.drop.value_or(0)
                                : *result.sqnr_db;
    absolute = absolute && result.latency_ms.has_value();
    relative = relative && (result.original || relative_latency_of(result));
    plot.points.push_back(point);
    points.push_back({point.size, point.quality});
  }
  for (const std::size_t i : pareto_front(points)) plot.points[i].front = true;
  // Times of different models say nothing beside each other.
  absolute = absolute && !several;
  if (plot.points.empty() || (!absolute && !relative)) return plot;
  plot.latency = absolute ? "latency p50, ms" : "latency, of the original's";
  for (TradeOff::Point& point : plot.points) {
    const ReportResult& result = content.results[point.result];
    point.latency = absolute ? result.latency_ms : relative_latency_of(result).value_or(1);
  }
  return plot;
}

std::vector<std::pair<std::string, double>> metrics_of(const ReportResult& result) {
  std::vector<std::pair<std::string, double>> metrics;
  const auto add = [&](const std::string& name, const std::optional<double>& value) {
    if (value && std::isfinite(*value)) metrics.emplace_back(name, *value);
  };
  const auto before = static_cast<double>(result.bytes_before);
  const auto after = static_cast<double>(result.bytes_after);
  if (before > 0) add("bytes_before", before);
  if (after > 0) add("bytes_after", after);
  if (before > 0 && after > 0) add("size_ratio", before / after);
  if (!result.metric.empty()) {
    add(result.metric + "_before", result.quality_before);
    add(result.metric, result.quality);
  }
  add("drop", result.drop);
  add("sqnr_db", result.sqnr_db);
  add("latency_before_ms", result.latency_before_ms);
  add("latency_ms", result.latency_ms);
  add("relative_latency", result.relative_latency);
  return metrics;
}

std::string ratio_text(std::uint64_t before, std::uint64_t after) {
  if (before == 0 || after == 0) return "-";
  return decimal_text(static_cast<double>(before) / static_cast<double>(after), 2) + " x";
}

std::string decibels(const std::optional<double>& db) {
  if (!db) return "-";
  if (std::isinf(*db)) return *db > 0 ? "equal" : "no signal";
  return decimal_text(*db, 1) + " dB";
}

std::string quality_text(const ReportResult& result) {
  if (result.quality) {
    return result.share ? decimal_text(*result.quality * 100, 2) + " %"
                        : decimal_text(*result.quality, 4);
  }
  if (!result.drop) return "-";
  return decimal_text(-*result.drop, 2) + (result.share ? " points" : " %");
}

std::string milliseconds(const std::optional<double>& ms) {
  return ms ? decimal_text(*ms, 3) + " ms" : "-";
}

}  // namespace mcompress::tools
