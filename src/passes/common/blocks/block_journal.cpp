#include "passes/common/blocks/block_journal.h"

#include <span>
#include <utility>
#include <vector>

#include "support/try.h"

namespace mcompress {

Result<std::unique_ptr<BlockJournal>> BlockJournal::open(FileSystem& files, const std::string& path,
                                                         std::uint64_t run) {
  MCOMPRESS_ASSIGN(std::unique_ptr<RunJournal> journal, RunJournal::open(files, path, "gptq", run));
  return std::unique_ptr<BlockJournal>(new BlockJournal(std::move(journal)));
}

Result<JournalEntry> BlockJournal::read(std::size_t unit) const {
  MCOMPRESS_ASSIGN(const std::vector<std::byte> bytes, journal_->read(unit));
  JournalReader body(bytes);
  JournalEntry entry;
  entry.how = body.text();
  entry.gain_db = body.number<double>();
  BlockRows& rows = entry.rows;
  rows.rows = body.number<std::uint64_t>();
  rows.columns = body.number<std::uint64_t>();
  rows.format.bits = body.number<std::int32_t>();
  rows.format.block = body.number<std::uint64_t>();
  rows.format.asymmetric = body.number<std::int32_t>() != 0;
  rows.format.scales = static_cast<DataType>(body.number<std::int32_t>());
  rows.signal = body.number<double>();
  rows.noise = body.number<double>();
  rows.codes = body.list<std::uint8_t>();
  rows.scales = body.list<float>();
  rows.zero_points = body.list<std::uint8_t>();
  if (!body.complete()) return journal_->changed();
  return entry;
}

Status BlockJournal::add(std::size_t unit, const JournalEntry& entry) {
  JournalWriter body;
  body.text(entry.how);
  body.number(entry.gain_db);
  const BlockRows& rows = entry.rows;
  body.number(std::uint64_t{rows.rows});
  body.number(std::uint64_t{rows.columns});
  body.number(std::int32_t{rows.format.bits});
  body.number(std::uint64_t{rows.format.block});
  body.number(std::int32_t{rows.format.asymmetric});
  body.number(static_cast<std::int32_t>(rows.format.scales));
  body.number(rows.signal);
  body.number(rows.noise);
  body.list(std::span<const std::uint8_t>(rows.codes));
  body.list(std::span<const float>(rows.scales));
  body.list(std::span<const std::uint8_t>(rows.zero_points));
  return journal_->add(unit, body.take());
}

}  // namespace mcompress
