// What a command that writes a model says in the end.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "judge.h"
#include "mcompress/evaluate.h"
#include "outcome.h"

namespace mcompress::tools {

struct Summary {
  const Explain& explain;
  const Coverage& coverage;
  const ReportScope& report;
  std::uint64_t bytes_before = 0, bytes_after = 0;
  std::uint64_t note_bytes = 0;  // of bytes_after: what --strip-notes would leave out
  bool planned = false;          // nothing was written: decisions are shown too
  bool verbose = false;
  const IntegerKernels* kernels = nullptr;   // null: not counted
  const Quality* quality = nullptr;          // null: no labelled data
  const Comparison* comparison = nullptr;    // null: not compared
  std::span<const BenchTimes> latency = {};  // before and after, or nothing
};

// Paragraphs and tables, in order; some may be empty.
std::vector<std::string> summary_texts(const Summary& summary);

}  // namespace mcompress::tools
