#include "batch/journal.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>

#include "mcompress/host.h"
#include "try.h"

namespace mcompress::tools {
namespace {

bool read(const Datum& map, std::string_view key, std::string& into) {
  const Datum* value = map.find(key);
  if (value == nullptr || value->as_string() == nullptr) return false;
  into = *value->as_string();
  return true;
}

bool read(const Datum& map, std::string_view key, std::int64_t& into) {
  const Datum* value = map.find(key);
  const auto* number = value != nullptr ? std::get_if<std::int64_t>(&value->value()) : nullptr;
  if (number == nullptr || *number < 0) return false;
  into = *number;
  return true;
}

// Numbers that are not finite stand as texts.
void read(const Datum& map, std::string_view key, std::optional<double>& into) {
  const Datum* value = map.find(key);
  if (value == nullptr) return;
  if (const auto* real = std::get_if<double>(&value->value())) into = *real;
  if (const auto* whole = std::get_if<std::int64_t>(&value->value())) {
    into = static_cast<double>(*whole);
  }
  if (value->as_string() == nullptr) return;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (*value->as_string() == "inf") into = kInfinity;
  if (*value->as_string() == "-inf") into = -kInfinity;
}

// Name and place of what is measured, for reading and writing.
struct Figure {
  std::string_view key;
  std::optional<double> JournalEntry::*place;
};
constexpr Figure kFigures[] = {{"quality_before", &JournalEntry::quality_before},
                               {"quality", &JournalEntry::quality},
                               {"drop", &JournalEntry::drop},
                               {"sqnr_db", &JournalEntry::sqnr_db},
                               {"latency_before_ms", &JournalEntry::latency_before_ms},
                               {"latency_ms", &JournalEntry::latency_ms}};

void add(const JournalEntry& entry, Datum& map) {
  map.set("job", Datum::string(entry.job));
  map.set("key", Datum::string(entry.key));
  map.set("status", Datum::integer(entry.status));
  map.set("bytes_before", Datum::integer(entry.bytes_before));
  map.set("bytes_after", Datum::integer(entry.bytes_after));
  map.set("output_digest", Datum::string(entry.output_digest));
  map.set("message", Datum::string(entry.message));
  if (!entry.recipe.empty()) map.set("recipe", Datum::string(entry.recipe));
  if (entry.peak_bytes > 0) map.set("peak_bytes", Datum::integer(entry.peak_bytes));
  if (!entry.metric.empty()) map.set("metric", Datum::string(entry.metric));
  for (const Figure& figure : kFigures) {
    if (const auto& value = entry.*figure.place) map.set(figure.key, Datum::real(*value));
  }
}

}  // namespace

std::string journal_line(const JournalEntry& entry) {
  Datum map = Datum::map();
  add(entry, map);
  return json_line(map) + "\n";
}

std::string result_line(const JournalEntry& entry) {
  Datum map = Datum::map();
  map.set("schema_version", Datum::integer(1));
  add(entry, map);
  return json_line(map) + "\n";
}

Result<std::map<std::string, JournalEntry>> parse_journal(std::string_view text,
                                                          const std::string& file) {
  std::map<std::string, JournalEntry> entries;
  for (std::size_t line = 1; !text.empty(); ++line) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(end + 1);
    const std::string label = file + ":" + std::to_string(line);
    const auto datum = datum_from_json(one, label);
    JournalEntry entry;
    if (!datum.ok() || !read(*datum, "job", entry.job) || !read(*datum, "key", entry.key) ||
        !read(*datum, "status", entry.status) ||
        !read(*datum, "bytes_before", entry.bytes_before) ||
        !read(*datum, "bytes_after", entry.bytes_after) ||
        !read(*datum, "output_digest", entry.output_digest) ||
        !read(*datum, "message", entry.message)) {
      return Error(Code::kInput, "journal-unreadable", "is no entry of a batch's journal",
                   {label, {}, {}}, "--restart begins anew");
    }
    // Journals of before have none of these.
    if (datum->find("recipe") != nullptr) read(*datum, "recipe", entry.recipe);
    if (datum->find("peak_bytes") != nullptr) read(*datum, "peak_bytes", entry.peak_bytes);
    if (datum->find("metric") != nullptr) read(*datum, "metric", entry.metric);
    for (const Figure& figure : kFigures) read(*datum, figure.key, entry.*figure.place);
    entries[entry.job] = std::move(entry);
  }
  return entries;
}

std::vector<std::size_t> share_jobs(const std::vector<std::uint64_t>& costs, std::size_t shards) {
  std::vector<std::size_t> order(costs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return costs[a] > costs[b]; });
  std::vector<std::uint64_t> sums(shards, 0);
  std::vector<std::size_t> shares(costs.size(), 0);
  for (const std::size_t job : order) {
    const auto least = std::min_element(sums.begin(), sums.end());
    shares[job] = static_cast<std::size_t>(least - sums.begin());
    *least += costs[job];
  }
  return shares;
}

std::size_t pick_job(const std::vector<std::uint64_t>& needs, std::uint64_t used,
                     std::uint64_t budget, bool nothing_runs) {
  if (nothing_runs) return 0;
  const std::uint64_t left = budget - std::min(used, budget);
  const auto fits =
      std::find_if(needs.begin(), needs.end(), [&](std::uint64_t need) { return need <= left; });
  return static_cast<std::size_t>(fits - needs.begin());
}

Result<Shard> parse_shard(const std::string& text) {
  std::size_t index = 0, count = 0;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, index);
  const bool slash = first.ec == std::errc() && first.ptr != end && *first.ptr == '/';
  if (slash) {
    const auto second = std::from_chars(first.ptr + 1, end, count);
    constexpr std::size_t kMost = 100000;
    if (second.ec == std::errc() && second.ptr == end && index >= 1 && index <= count &&
        count <= kMost) {
      return Shard{index - 1, count};
    }
  }
  return Error(Code::kUsage, "shard-unreadable", "'" + text + "' is no share", {{}, "--shard", {}},
               "2/4 is the second of four");
}

}  // namespace mcompress::tools
