#include "search/search_report.h"

#include <algorithm>
#include <cmath>

#include "gates.h"
#include "judge.h"
#include "mcompress/host.h"

namespace mcompress::tools {
namespace {

std::string db_text(double db) { return db >= 200 ? "equal" : decimal_text(db, 1) + " dB"; }

double db_of(double noise) { return std::min(-10 * std::log10(std::max(noise, 1e-20)), 200.0); }

// "3 cluster-4, 1 int8".
std::string forms_text(const SearchOptions& options, const SearchPoint& point) {
  std::string text;
  for (std::size_t form = 0; form < options.forms.size(); ++form) {
    const auto count = std::count(point.choice.begin(), point.choice.end(), form);
    if (count == 0) continue;
    if (!text.empty()) text += ", ";
    text += std::to_string(count) + " " + options.forms[form].name;
  }
  return text;
}

// Front points as rows; the best one too where it is not on the front.
std::vector<std::size_t> shown_points(const SearchOutcome& outcome) {
  std::vector<std::size_t> shown = outcome.front;
  if (outcome.best && std::find(shown.begin(), shown.end(), *outcome.best) == shown.end()) {
    shown.push_back(*outcome.best);
    std::stable_sort(shown.begin(), shown.end(), [&outcome](std::size_t a, std::size_t b) {
      return outcome.points[a].bytes < outcome.points[b].bytes;
    });
  }
  return shown;
}

Datum point_datum(const SearchOptions& options, const SearchOutcome& outcome, std::size_t place) {
  const SearchPoint& point = outcome.points[place];
  Datum map = Datum::map();
  map.set("bytes", Datum::integer(static_cast<std::int64_t>(point.bytes)));
  map.set("drop", Datum::real(point.quality.drop));
  map.set("sqnr_db", Datum::real(point.quality.sqnr_db));
  map.set("predicted_sqnr_db", Datum::real(std::min(point.predicted_db, 200.0)));
  if (point.latency) map.set("latency", Datum::real(*point.latency));
  if (point.predicted_latency) {
    map.set("predicted_latency", Datum::real(*point.predicted_latency));
  }
  map.set("origin", Datum::string(point.origin));
  map.set("holds", Datum::boolean(point.holds));
  map.set("front", Datum::boolean(std::find(outcome.front.begin(), outcome.front.end(), place) !=
                                  outcome.front.end()));
  map.set("best", Datum::boolean(outcome.best == place));
  Datum choice = Datum::map();
  for (std::size_t layer = 0; layer < point.choice.size(); ++layer) {
    choice.set(outcome.layers[layer].name, Datum::string(options.forms[point.choice[layer]].name));
  }
  map.set("choice", std::move(choice));
  return map;
}

}  // namespace

Table front_table(const SearchOptions& options, const SearchOutcome& outcome,
                  const SearchFacts& facts) {
  Table table;
  const bool timed = options.limits.max_latency > 0;
  std::vector<std::string> head = {"front", "bytes", "of input",
                                   (facts.metric.empty() ? "metric" : facts.metric) + " drop",
                                   "SQNR"};
  if (timed) head.emplace_back("latency");
  head.emplace_back("layers");
  table.row(head);
  for (const std::size_t place : shown_points(outcome)) {
    const SearchPoint& point = outcome.points[place];
    std::vector<std::string> row = {
        outcome.best == place ? (point.holds ? "best" : "nearest") : "", grouped(point.bytes),
        percent_text(static_cast<double>(point.bytes) /
                     static_cast<double>(std::max<std::uint64_t>(facts.input_bytes, 1))),
        decimal_text(point.quality.drop, 2), db_text(point.quality.sqnr_db)};
    if (timed) row.push_back(point.latency ? decimal_text(*point.latency, 3) + " x" : "-");
    row.push_back(forms_text(options, point));
    table.row(std::move(row));
  }
  return table;
}

Table choice_table(const SearchOptions& options, const SearchOutcome& outcome,
                   const SearchPoint& point) {
  Table table;
  table.row({"layer", "operator", "form", "float32", "saved", "SQNR of it alone"});
  for (std::size_t i = 0; i < outcome.layers.size(); ++i) {
    const SearchLayer& layer = outcome.layers[i];
    const std::size_t form = point.choice[i];
    const bool known = !layer.effects.empty();
    const SearchEffect effect = known ? layer.effects[form] : SearchEffect{};
    const auto saved = static_cast<std::uint64_t>(std::max<std::int64_t>(0, -effect.bytes));
    table.row({layer.name, layer.op_type, options.forms[form].name, bytes_text(layer.weight_bytes),
               bytes_text(saved),
               form == 0 || !known ? "-"
               : effect.measured   ? db_text(db_of(effect.noise))
                                   : "about " + db_text(db_of(effect.noise))});
  }
  return table;
}

std::string effort_text(const SearchOptions& options, const SearchOutcome& outcome) {
  std::string text =
      decimal_text(outcome.evaluations, 1) + " of " + std::to_string(options.evaluations) +
      " evaluations: " + counted(outcome.points.size(), "choice") + " on all data, " +
      counted(static_cast<std::uint64_t>(outcome.trials), "layer") + " alone on " +
      counted(static_cast<std::uint64_t>(outcome.trial_samples), "sample");
  if (outcome.remembered > 0) {
    text += "; " + std::to_string(outcome.remembered) + " choices remembered";
  }
  for (const SearchedWidth& width : outcome.widths) {
    text +=
        "\nwidth " + decimal_text(width.share, 2) +
        (width.share == outcome.width.share ? " (chosen): " : ": ") +
        (width.bytes == 0
             ? "nothing was evaluated"
             : grouped(width.bytes) + " bytes, drop " + decimal_text(width.quality.drop, 2) + ", " +
                   db_text(width.quality.sqnr_db) + (width.holds ? "" : ", does not hold")) +
        ", " + decimal_text(width.evaluations, 1) + " evaluations";
  }
  if (!outcome.left_out.empty()) {
    text += "\nleft as they are: " + counted(outcome.left_out.size(), "weight") +
            " without a name in the file, first '" + outcome.left_out.front() + "'";
  }
  if (outcome.best) {
    const SearchPoint& best = outcome.points[*outcome.best];
    text += "\nthe sum of the layers' noises predicts " + db_text(best.predicted_db) +
            ", measured " + db_text(best.quality.sqnr_db) + " (found by: " + best.origin + ")";
    if (best.latency && best.predicted_latency) {
      text += "\nthe layers' times predict " + decimal_text(*best.predicted_latency, 3) +
              " of the original's time, measured " + decimal_text(*best.latency, 3);
    }
  }
  return text;
}

Error missed_error(const SearchOptions& options, const SearchOutcome& outcome,
                   const SearchFacts& facts) {
  std::string text = "no choice of forms was found that holds";
  if (outcome.best) {
    const SearchPoint& point = outcome.points[*outcome.best];
    const SearchLimits& limits = options.limits;
    text += "; the nearest";
    std::string wants;
    const auto add = [&text, &wants](const std::string& has, const std::string& asked) {
      text += (wants.empty() ? " has " : ", ") + has;
      wants += (wants.empty() ? "" : ", ") + asked;
    };
    if (limits.max_bytes > 0) {
      add(std::to_string(point.bytes) + " bytes",
          "at most " + std::to_string(limits.max_bytes) + " bytes beside what is noted");
    }
    if (limits.max_drop < 100) {
      add(drop_text(facts.metric, point.quality.drop),
          "--max-drop " + decimal_text(limits.max_drop, 2));
    }
    if (limits.min_sqnr > 0) {
      add(db_text(point.quality.sqnr_db), "--min-sqnr " + decimal_text(limits.min_sqnr, 1));
    }
    if (limits.max_latency > 0 && point.latency) {
      add(decimal_text(*point.latency, 3) + " of the original's time",
          "--max-latency " + decimal_text(limits.max_latency, 3));
    }
    text += "; asked for: " + wants;
  }
  return Error(Code::kGateMissed, "gate-missed", std::move(text), {},
               "nothing was written; --write-missed writes the nearest; more --evaluations or "
               "other --forms may find one");
}

Datum front_datum(const SearchOptions& options, const SearchOutcome& outcome,
                  const SearchFacts& facts, bool layers) {
  Datum map = Datum::map();
  map.set("schema", Datum::string("mcompress-search"));
  map.set("version", Datum::integer(1));
  map.set("metric", Datum::string(facts.metric));
  map.set("input_bytes", Datum::integer(static_cast<std::int64_t>(facts.input_bytes)));
  Datum limits = Datum::map();
  if (options.limits.max_bytes > 0) {
    limits.set("max_bytes", Datum::integer(static_cast<std::int64_t>(options.limits.max_bytes)));
  }
  if (options.limits.max_drop < 100) {
    limits.set("max_drop", Datum::real(options.limits.max_drop));
  }
  if (options.limits.min_sqnr > 0) {
    limits.set("min_sqnr_db", Datum::real(options.limits.min_sqnr));
  }
  if (options.limits.max_latency > 0) {
    limits.set("max_latency", Datum::real(options.limits.max_latency));
  }
  map.set("limits", std::move(limits));
  map.set("evaluations", Datum::real(outcome.evaluations));
  map.set("most_evaluations", Datum::integer(options.evaluations));
  map.set("layers_alone", Datum::integer(outcome.trials));
  map.set("layers_alone_samples", Datum::integer(outcome.trial_samples));
  map.set("interrupted", Datum::boolean(outcome.interrupted));
  Datum widths = Datum::list();
  for (const SearchedWidth& width : outcome.widths) {
    Datum row = Datum::map();
    row.set("width", Datum::real(width.share));
    row.set("chosen", Datum::boolean(width.share == outcome.width.share));
    row.set("evaluations", Datum::real(width.evaluations));
    if (width.bytes > 0) {
      row.set("bytes", Datum::integer(static_cast<std::int64_t>(width.bytes)));
      row.set("drop", Datum::real(width.quality.drop));
      row.set("sqnr_db", Datum::real(width.quality.sqnr_db));
      row.set("holds", Datum::boolean(width.holds));
    }
    widths.push(std::move(row));
  }
  if (!outcome.widths.empty()) map.set("widths", std::move(widths));
  Datum points = Datum::list();
  for (std::size_t i = 0; i < outcome.points.size(); ++i) {
    const bool shown =
        layers || outcome.best == i ||
        std::find(outcome.front.begin(), outcome.front.end(), i) != outcome.front.end();
    if (shown) points.push(point_datum(options, outcome, i));
  }
  map.set("points", std::move(points));
  if (!layers) return map;
  Datum list = Datum::list();
  for (const SearchLayer& layer : outcome.layers) {
    Datum entry = Datum::map();
    entry.set("name", Datum::string(layer.name));
    entry.set("op_type", Datum::string(layer.op_type));
    entry.set("weight_bytes", Datum::integer(static_cast<std::int64_t>(layer.weight_bytes)));
    if (!layer.effects.empty() && layer.effects[0].microseconds > 0) {
      entry.set("microseconds", Datum::real(layer.effects[0].microseconds));
    }
    Datum forms = Datum::list();
    for (std::size_t form = 1; form < layer.effects.size(); ++form) {
      const SearchEffect& effect = layer.effects[form];
      if (!effect.applies) continue;
      Datum row = Datum::map();
      row.set("form", Datum::string(options.forms[form].name));
      row.set("bytes", Datum::integer(effect.bytes));
      row.set("sqnr_db", Datum::real(db_of(effect.noise)));
      row.set("measured", Datum::boolean(effect.measured));
      if (effect.microseconds > 0) row.set("microseconds", Datum::real(effect.microseconds));
      forms.push(std::move(row));
    }
    entry.set("forms", std::move(forms));
    list.push(std::move(entry));
  }
  map.set("layers", std::move(list));
  Datum borders = Datum::list();
  for (const SearchBorder& border : outcome.borders) {
    if (border.noise <= 0 && border.microseconds <= 0) continue;
    Datum row = Datum::map();
    row.set("left", Datum::string(outcome.layers[border.left].name));
    row.set("right", Datum::string(outcome.layers[border.right].name));
    row.set("noise", Datum::real(border.noise));
    row.set("microseconds", Datum::real(border.microseconds));
    borders.push(std::move(row));
  }
  if (!borders.as_list()->empty()) map.set("borders", std::move(borders));
  return map;
}

}  // namespace mcompress::tools
