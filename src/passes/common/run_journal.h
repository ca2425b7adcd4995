// Results of a long run, in a file: a run that was interrupted goes on from it.
//
// The file is written by appending. Header: "mcbj", version 2. Then records, each with its length
// and digest: the stage (a pass may write several kinds), the digest of the stage's run (model,
// data, options), the place of the result, and the result. A stage opens with a record without a
// result. A record that was cut off or does not match its digest ends what is read, and is written
// over.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mcompress/status.h"
#include "support/files.h"

namespace mcompress {

class RunJournal {
 public:
  // Makes the file, or reads what is in it. Fails with kInput for a file of something else or where
  // the stage is of another run, and with kOutput when it can not be made.
  static Result<std::unique_ptr<RunJournal>> open(FileSystem& files, const std::string& path,
                                                  std::string_view stage, std::uint64_t run);
  ~RunJournal();
  RunJournal(const RunJournal&) = delete;
  RunJournal& operator=(const RunJournal&) = delete;

  // Results of the stage.
  std::size_t size() const { return places_.size(); }
  bool holds(std::uint64_t place) const { return places_.contains(place); }
  // What add() was given for the place. Fails with kInput when the file has changed since.
  Result<std::vector<std::byte>> read(std::uint64_t place) const;
  // On disk when it returns. Fails with kOutput.
  Status add(std::uint64_t place, std::span<const std::byte> result);
  // The file holds something that can not be what was added.
  Error changed() const;

 private:
  RunJournal(FileSystem& files, std::string path, int descriptor, std::string_view stage,
             std::uint64_t run)
      : files_(files), path_(std::move(path)), descriptor_(descriptor), stage_(stage), run_(run) {}
  struct Extent {
    std::uint64_t offset = 0, length = 0;
  };
  Status begin();
  Status scan(std::uint64_t size);
  Status append(std::uint64_t place, std::span<const std::byte> result, Extent& extent);
  Status read_at(std::uint64_t offset, std::span<std::byte> bytes) const;
  Status write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  Error failed(Code code, std::string_view what, int error_number) const;

  FileSystem& files_;
  std::string path_;
  int descriptor_;
  std::string stage_;
  std::uint64_t run_;
  std::uint64_t end_ = 0;
  std::map<std::uint64_t, Extent> places_;
};

// What a result is written with, and read again.
class JournalWriter {
 public:
  template <class Number>
  void number(Number value) {
    append(std::bit_cast<std::array<std::byte, sizeof(Number)>>(value));
  }
  template <class Number>
  void list(std::span<const Number> values) {
    number(std::uint64_t{values.size()});
    append(std::as_bytes(values));
  }
  void text(std::string_view text) { list(std::span<const char>(text)); }
  void append(std::span<const std::byte> raw) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + raw.size());
    if (!raw.empty()) std::memcpy(bytes_.data() + at, raw.data(), raw.size());
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

// Reads zeros and empty lists once the bytes have ended; complete() tells.
class JournalReader {
 public:
  explicit JournalReader(std::span<const std::byte> bytes) : rest_(bytes) {}
  template <class Number>
  Number number() {
    std::array<std::byte, sizeof(Number)> bits{};
    if (rest_.size() < bits.size()) {
      good_ = false;
      return Number{};
    }
    std::memcpy(bits.data(), rest_.data(), bits.size());
    rest_ = rest_.subspan(bits.size());
    return std::bit_cast<Number>(bits);
  }
  template <class Number>
  std::vector<Number> list() {
    const auto count = number<std::uint64_t>();
    if (!good_ || count > rest_.size() / sizeof(Number)) {
      good_ = false;
      return {};
    }
    std::vector<Number> values(count);
    if (count > 0) std::memcpy(values.data(), rest_.data(), count * sizeof(Number));
    rest_ = rest_.subspan(count * sizeof(Number));
    return values;
  }
  std::string text() {
    const std::vector<char> characters = list<char>();
    return {characters.begin(), characters.end()};
  }
  std::span<const std::byte> rest() const { return rest_; }
  bool good() const { return good_; }
  bool complete() const { return good_ && rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
  bool good_ = true;
};

}  // namespace mcompress
