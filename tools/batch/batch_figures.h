// What a job of a batch measured, from its report.
#pragma once

#include <string>

#include "batch/journal.h"

namespace mcompress::tools {

// Quality, error and latency into the entry; a report that can not be read leaves it as it is.
void add_figures(const std::string& report, JournalEntry& entry);

}  // namespace mcompress::tools
