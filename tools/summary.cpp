#include "summary.h"

#include <algorithm>

#include "gates.h"
#include "layer_table.h"
#include "mcompress/host.h"

namespace mcompress::tools {
namespace {

Table before_and_after(const Summary& summary) {
  Table table;
  table.row({"", "before", summary.planned ? "planned" : "after", ""});
  const double ratio = summary.bytes_after > 0 ? static_cast<double>(summary.bytes_before) /
                                                     static_cast<double>(summary.bytes_after)
                                               : 0;
  table.row({"bytes", grouped(summary.bytes_before), grouped(summary.bytes_after),
             ratio >= 1 ? decimal_text(ratio, 2) + " x smaller" : ""});
  if (summary.quality != nullptr) add_quality_rows(*summary.quality, table);
  if (summary.comparison != nullptr) {
    // Models with dozens of outputs: the report has them all.
    constexpr std::size_t kMost = 8;
    for (std::size_t i = 0; i < std::min(summary.comparison->outputs.size(), kMost); ++i) {
      const OutputError& output = summary.comparison->outputs[i];
      table.row({"SQNR of " + output.output, "", decibel_text(output.sqnr_db)});
    }
  } else if (summary.quality == nullptr && summary.coverage.weights > 0 && !summary.planned) {
    table.row({"outputs", "", "", "not compared: no data"});
  }
  if (summary.latency.size() == 2) {
    const double before = summary.latency[0].p50_ms, after = summary.latency[1].p50_ms;
    table.row({"latency p50", milliseconds_text(before), milliseconds_text(after),
               decimal_text(before / after, 2) + " x as fast"});
  }
  return table;
}

}  // namespace

std::vector<std::string> summary_texts(const Summary& summary) {
  std::vector<std::string> texts;
  if (summary.verbose || summary.planned) texts.push_back(decision_table(summary.explain).text());
  if (const Table steps = steps_table(summary.report); summary.verbose && !steps.empty()) {
    texts.push_back(steps.text());
  }
  if (const Table layers = layer_table(summary.report.facts()); !layers.empty()) {
    texts.push_back(layers.text());
  }
  if (summary.coverage.of_weights > 0) {
    texts.push_back(coverage_text(summary.coverage, summary.verbose));
    const auto kept = kept_in_float(summary.explain);
    if (!kept.empty()) {
      texts.push_back("computed in float32:\n" +
                      reasons_text(kept, summary.verbose ? kept.size() : 4));
    }
  } else if (const std::string applied = applied_text(summary.explain); !applied.empty()) {
    texts.push_back("applied: " + applied);
  }
  texts.push_back(mixed_precision_text(summary.report.facts()));
  if (summary.kernels != nullptr) texts.push_back(kernels_text(*summary.kernels, summary.verbose));
  texts.push_back(before_and_after(summary).text());
  if (summary.note_bytes >= 4096 && summary.note_bytes >= summary.bytes_after / 10) {
    texts.push_back(bytes_text(summary.note_bytes) +
                    " of it are notes of the exporter, such as stack traces of nodes: "
                    "--strip-notes leaves them out");
  }
  return texts;
}

}  // namespace mcompress::tools
