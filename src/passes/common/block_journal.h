// Weights that are rounded already, in a file: a run that was interrupted goes on from it.
//
// The file is written by appending. Header: "mcbj", version 1, the digest of the run (model, data,
// options). Then a record for each weight: its place, how it was rounded, format, codes, scales and
// zero points, with the digest of all that; a record that was cut off or does not match its digest
// ends what is read, and is written over.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "mcompress/status.h"
#include "numeric/block_quantize.h"
#include "support/files.h"

namespace mcompress {

struct JournalEntry {
  BlockRows rows;
  std::string how;
  double gain_db = 0;
};

class BlockJournal {
 public:
  // Makes the file, or reads what is in it. Fails with kInput for a file of something else or of
  // another run, and with kOutput when it can not be made.
  static Result<std::unique_ptr<BlockJournal>> open(FileSystem& files, const std::string& path,
                                                    std::uint64_t run);
  ~BlockJournal();
  BlockJournal(const BlockJournal&) = delete;
  BlockJournal& operator=(const BlockJournal&) = delete;

  std::size_t size() const { return places_.size(); }
  bool holds(std::size_t unit) const { return places_.contains(unit); }
  // What add() was given for the unit. Fails with kInput when the file has changed since.
  Result<JournalEntry> read(std::size_t unit) const;
  // On disk when it returns. Fails with kOutput.
  Status add(std::size_t unit, const JournalEntry& entry);

 private:
  BlockJournal(FileSystem& files, std::string path, int descriptor)
      : files_(files), path_(std::move(path)), descriptor_(descriptor) {}
  struct Place {
    std::uint64_t offset = 0, length = 0;
  };
  Status begin(std::uint64_t run);
  Status scan(std::uint64_t size, std::uint64_t run);
  Status read_at(std::uint64_t offset, std::span<std::byte> bytes) const;
  Status write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  Error failed(Code code, std::string_view what, int error_number) const;

  FileSystem& files_;
  std::string path_;
  int descriptor_;
  std::uint64_t end_ = 0;
  std::map<std::size_t, Place> places_;
};

}  // namespace mcompress
