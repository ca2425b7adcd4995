// What a batch has done: one JSON line per job, appended whole, read back after a crash.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/options.h"
#include "mcompress/status.h"

namespace mcompress::tools {

struct JournalEntry {
  std::string job;          // path of the output below the batch's folder
  std::string key;          // digest of model, recipe, data and version
  std::int64_t status = 0;  // exit status; 128 + N for signal N
  std::int64_t bytes_before = 0, bytes_after = 0;
  std::string output_digest;    // of what was written; empty on failure
  std::string message;          // the error
  std::string recipe;           // which one rules chose; empty: there is one for all
  std::int64_t peak_bytes = 0;  // of memory that the job held at once; 0: not known
  // As far as the recipe has data, and as the job's report says it.
  std::string metric;                                   // "top1"; empty: no labelled data
  std::optional<double> quality_before, quality;        // by it
  std::optional<double> drop;                           // points lost; of a perplexity percent
  std::optional<double> sqnr_db;                        // of the worst output; infinite: equal
  std::optional<double> latency_before_ms, latency_ms;  // beside each other, p50
};

std::string journal_line(const JournalEntry& entry);
// The same for --json.
std::string result_line(const JournalEntry& entry);
// The last entry of each job. A last line without its line break was being written when the
// program died and is left out. Fails with kInput, naming the line, for anything else that is no
// entry.
Result<std::map<std::string, JournalEntry>> parse_journal(std::string_view text,
                                                          const std::string& file);

// Which of N shards each job is in, from 0: dearest first, each to the shard with the least so far;
// equal costs by position. Depends on nothing but the costs.
std::vector<std::size_t> share_jobs(const std::vector<std::uint64_t>& costs, std::size_t shards);

// Of the waiting jobs, the first one that fits into what is left of the budget; one that alone
// needs more than the budget waits until nothing runs. `needs.size()`: none can start now. Jobs
// that run together never need more than the budget.
std::size_t pick_job(const std::vector<std::uint64_t>& needs, std::uint64_t used,
                     std::uint64_t budget, bool nothing_runs);

// "2/4": the second of four. Fails with kUsage.
struct Shard {
  std::size_t index = 0, count = 1;  // from 0
};
Result<Shard> parse_shard(const std::string& text);

}  // namespace mcompress::tools
