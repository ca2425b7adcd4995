// Weights that are rounded already, in the file of a run that may be interrupted (RunJournal,
// stage "gptq"): how each was rounded, its format, codes, scales and zero points.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "numeric/block_quantize.h"
#include "passes/common/run_journal.h"

namespace mcompress {

struct JournalEntry {
  BlockRows rows;
  std::string how;
  double gain_db = 0;
};

class BlockJournal {
 public:
  // As RunJournal::open.
  static Result<std::unique_ptr<BlockJournal>> open(FileSystem& files, const std::string& path,
                                                    std::uint64_t run);

  std::size_t size() const { return journal_->size(); }
  bool holds(std::size_t unit) const { return journal_->holds(unit); }
  // What add() was given for the unit. Fails with kInput when the file has changed since.
  Result<JournalEntry> read(std::size_t unit) const;
  // On disk when it returns. Fails with kOutput.
  Status add(std::size_t unit, const JournalEntry& entry);

 private:
  explicit BlockJournal(std::unique_ptr<RunJournal> journal) : journal_(std::move(journal)) {}
  std::unique_ptr<RunJournal> journal_;
};

}  // namespace mcompress
