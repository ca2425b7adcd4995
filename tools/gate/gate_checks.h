// A model against its baseline: one check per figure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "console.h"
#include "gate/gate_baseline.h"
#include "mcompress/options.h"

namespace mcompress::tools {

struct GateCheck {
  enum class Verdict : std::uint8_t { kPassed, kMissed, kSkipped };
  std::string id, name;                // "file-bytes", "file bytes"
  std::string baseline, now, allowed;  // as text
  Verdict verdict = Verdict::kPassed;
  std::string why;  // of a miss or a skip; a line
};
std::string_view verdict_text(GateCheck::Verdict verdict);  // "ok", "MISSED", "-"

struct GateOutcome {
  std::vector<GateCheck> checks;
  std::vector<std::string> notes;    // what is another than in the baseline, and no miss
  std::vector<ClassChange> classes;  // those that lost, most first
  std::size_t missed() const;
  bool met() const { return missed() == 0; }
};

// Checks `now` against `was`; limits are those of `limits`. A limit asked for by flag, or an
// absolute one, whose figure is not known counts as missed.
GateOutcome check_gate(const Baseline& was, const Baseline& now, const GateLimits& limits);

// Lines for people: a row per check, the classes that lost most, notes.
std::string gate_text(const GateOutcome& outcome, std::size_t classes);
Datum to_datum(const GateOutcome& outcome);

// What the reports say about where the outcome is from.
struct GateTitle {
  std::string model, baseline;  // names of files
  bool updated = false;         // the baseline was written anew
};
// JUnit's XML as CI servers read it: a test case per check. Characters that XML can not hold become
// U+FFFD.
std::string junit_text(const GateOutcome& outcome, const GateTitle& title);
// A section with a table, for a comment or a step summary.
std::string markdown_text(const GateOutcome& outcome, const GateTitle& title, std::size_t classes);

}  // namespace mcompress::tools
