#include "batch/batch_figures.h"

#include "mcompress/host.h"
#include "report/report_data.h"

namespace mcompress::tools {

void add_figures(const std::string& report, JournalEntry& entry) {
  const auto datum = read_datum_file(report);
  if (!datum.ok()) return;
  const auto result = result_of_report(*datum, report);
  if (!result.ok()) return;
  entry.metric = result->metric;
  entry.quality_before = result->quality_before;
  entry.quality = result->quality;
  entry.drop = result->drop;
  entry.sqnr_db = result->sqnr_db;
  entry.latency_before_ms = result->latency_before_ms;
  entry.latency_ms = result->latency_ms;
}

}  // namespace mcompress::tools
