// The outcome of `gate` as text, JSON, JUnit XML and Markdown.
#include <algorithm>

#include "gate/gate_checks.h"
#include "judge.h"

namespace mcompress::tools {
namespace {

using Verdict = GateCheck::Verdict;

std::string class_text(const ClassChange& change) {
  return "class " + std::to_string(change.label) + ": " + percent_text(change.before) + " -> " +
         percent_text(change.after) + " of " + std::to_string(change.count);
}

std::string headline(const GateOutcome& outcome) {
  const std::size_t missed = outcome.missed();
  const auto judged = static_cast<std::uint64_t>(
      std::count_if(outcome.checks.begin(), outcome.checks.end(),
                    [](const GateCheck& check) { return check.verdict != Verdict::kSkipped; }));
  if (missed == 0) return "passed: " + counted(judged, "check");
  return "missed: " + std::to_string(missed) + " of " + counted(judged, "check");
}

// Bytes of the UTF-8 sequence at the start of `text`, 0 where there is none that XML 1.0 can hold.
std::size_t sequence_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= 0x20 || first == '\t' || first == '\n' || first == '\r' ? 1 : 0;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  std::uint32_t code = first & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80) return 0;
    code = code << 6U | (byte(i) & 0x3FU);
  }
  constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kLeast[length] || code > 0x10FFFF || surrogate || code == 0xFFFE || code == 0xFFFF) {
    return 0;
  }
  return length;
}

// For text and for attributes in double quotes; line breaks survive in both.
std::string xml_text(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      text.remove_prefix(1);
      continue;
    }
    const std::string_view piece = text.substr(0, length);
    if (piece == "&") {
      out += "&amp;";
    } else if (piece == "<") {
      out += "&lt;";
    } else if (piece == ">") {
      out += "&gt;";
    } else if (piece == "\"") {
      out += "&quot;";
    } else if (piece == "\n") {
      out += "&#10;";
    } else if (piece == "\r") {
      out += "&#13;";
    } else if (piece == "\t") {
      out += "&#9;";
    } else {
      out += piece;
    }
    text.remove_prefix(length);
  }
  return out;
}

// What would end a cell, start a tag or give the text another form.
std::string markdown_cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n' || c == '\r') {
      out += ' ';
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      if (std::string_view("|\\`*_[]#").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
  }
  return out;
}

std::string details(const GateCheck& check) {
  return "baseline " + check.baseline + ", now " + check.now + ", allowed " + check.allowed;
}

}  // namespace

std::string gate_text(const GateOutcome& outcome, std::size_t classes) {
  Table table;
  table.row({"check", "baseline", "now", "allowed", ""});
  for (const GateCheck& check : outcome.checks) {
    table.row({check.name, check.baseline, check.now, check.allowed,
               std::string(verdict_text(check.verdict))});
  }
  std::string text = table.text();
  for (const GateCheck& check : outcome.checks) {
    if (check.verdict == Verdict::kMissed) text += check.name + ": " + check.why + "\n";
  }
  for (const GateCheck& check : outcome.checks) {
    if (check.verdict == Verdict::kSkipped && !check.why.empty()) {
      text += check.name + ": not checked: " + check.why + "\n";
    }
  }
  for (std::size_t i = 0; i < outcome.classes.size() && i < classes; ++i) {
    text += class_text(outcome.classes[i]) + "\n";
  }
  for (const std::string& note : outcome.notes) text += note + "\n";
  return text + headline(outcome) + "\n";
}

Datum to_datum(const GateOutcome& outcome) {
  Datum map = Datum::map();
  map.set("met", Datum::boolean(outcome.met()));
  map.set("missed", Datum::integer(static_cast<std::int64_t>(outcome.missed())));
  Datum checks = Datum::list();
  for (const GateCheck& check : outcome.checks) {
    Datum entry = Datum::map();
    entry.set("id", Datum::string(check.id));
    entry.set("name", Datum::string(check.name));
    entry.set("baseline", Datum::string(check.baseline));
    entry.set("now", Datum::string(check.now));
    entry.set("allowed", Datum::string(check.allowed));
    entry.set("verdict", Datum::string(check.verdict == Verdict::kPassed   ? "passed"
                                       : check.verdict == Verdict::kMissed ? "missed"
                                                                           : "skipped"));
    if (!check.why.empty()) entry.set("why", Datum::string(check.why));
    checks.push(std::move(entry));
  }
  map.set("checks", std::move(checks));
  Datum classes = Datum::list();
  for (const ClassChange& change : outcome.classes) {
    Datum entry = Datum::map();
    entry.set("label", Datum::integer(change.label));
    entry.set("count", Datum::integer(change.count));
    entry.set("before", Datum::real(change.before));
    entry.set("after", Datum::real(change.after));
    classes.push(std::move(entry));
  }
  map.set("classes", std::move(classes));
  Datum notes = Datum::list();
  for (const std::string& note : outcome.notes) notes.push(Datum::string(note));
  map.set("notes", std::move(notes));
  return map;
}

std::string junit_text(const GateOutcome& outcome, const GateTitle& title) {
  const auto attribute = [](std::string_view name, std::string_view value) {
    return " " + std::string(name) + "=\"" + xml_text(value) + "\"";
  };
  const auto skipped = static_cast<std::size_t>(
      std::count_if(outcome.checks.begin(), outcome.checks.end(),
                    [](const GateCheck& check) { return check.verdict == Verdict::kSkipped; }));
  const std::string counts = attribute("tests", std::to_string(outcome.checks.size())) +
                             attribute("failures", std::to_string(outcome.missed())) +
                             attribute("errors", "0");
  const std::string skips = attribute("skipped", std::to_string(skipped));
  std::string text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" +
                     attribute("name", "mcompress gate") + counts + attribute("time", "0") +
                     ">\n  <testsuite" + attribute("name", title.model) + counts + skips +
                     attribute("time", "0") + ">\n";
  for (const GateCheck& check : outcome.checks) {
    text += "    <testcase" + attribute("classname", title.model) + attribute("name", check.name) +
            attribute("time", "0") + ">\n";
    if (check.verdict == Verdict::kMissed) {
      text += "      <failure" + attribute("message", check.why) +
              attribute("type", "gate-missed") + ">" + xml_text(details(check)) + "</failure>\n";
    } else if (check.verdict == Verdict::kSkipped) {
      text += "      <skipped" +
              attribute("message", check.why.empty() ? "the limit is off" : check.why) + "/>\n";
    } else {
      text += "      <system-out>" + xml_text(details(check)) + "</system-out>\n";
    }
    text += "    </testcase>\n";
  }
  return text + "  </testsuite>\n</testsuites>\n";
}

std::string markdown_text(const GateOutcome& outcome, const GateTitle& title, std::size_t classes) {
  std::string text = "### mcompress gate: " + markdown_cell(title.model) + "\n\n**" +
                     headline(outcome) + "** against " + markdown_cell(title.baseline) +
                     (title.updated ? ", which is written anew" : "") +
                     "\n\n| check | baseline | now | allowed | |\n|---|--:|--:|--:|---|\n";
  for (const GateCheck& check : outcome.checks) {
    text += "| ";
    for (const std::string* cell : {&check.name, &check.baseline, &check.now, &check.allowed}) {
      text += markdown_cell(*cell) + " | ";
    }
    text += check.verdict == Verdict::kMissed ? "**missed** |\n"
                                              : std::string(verdict_text(check.verdict)) + " |\n";
  }
  std::string lines;
  for (const GateCheck& check : outcome.checks) {
    if (check.why.empty()) continue;
    lines += "- " + markdown_cell(check.name) +
             (check.verdict == Verdict::kSkipped ? ": not checked: " : ": ") +
             markdown_cell(check.why) + "\n";
  }
  for (std::size_t i = 0; i < outcome.classes.size() && i < classes; ++i) {
    lines += "- " + class_text(outcome.classes[i]) + "\n";
  }
  for (const std::string& note : outcome.notes) lines += "- " + markdown_cell(note) + "\n";
  return lines.empty() ? text : text + "\n" + lines;
}

}  // namespace mcompress::tools
