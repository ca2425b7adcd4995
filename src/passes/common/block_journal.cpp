#include "passes/common/block_journal.h"

#include <fcntl.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kMagic = "mcbj";
constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kHeader = 16;        // magic, version, run
constexpr std::uint64_t kRecordHeader = 16;  // length of the body, its digest
constexpr mode_t kMode = 0644;

class BodyWriter {
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
  void append(std::span<const std::byte> raw) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + raw.size());
    if (!raw.empty()) std::memcpy(bytes_.data() + at, raw.data(), raw.size());
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class BodyReader {
 public:
  explicit BodyReader(std::span<const std::byte> bytes) : rest_(bytes) {}
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
  bool complete() const { return good_ && rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
  bool good_ = true;
};

std::vector<std::byte> body_of(std::size_t unit, const JournalEntry& entry) {
  BodyWriter body;
  body.number(std::uint64_t{unit});
  body.list(std::span<const char>(entry.how));
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
  return body.take();
}

std::optional<JournalEntry> entry_of(std::span<const std::byte> bytes) {
  BodyReader body(bytes);
  JournalEntry entry;
  static_cast<void>(body.number<std::uint64_t>());
  const std::vector<char> how = body.list<char>();
  entry.how.assign(how.begin(), how.end());
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
  if (!body.complete()) return std::nullopt;
  return entry;
}

}  // namespace

Result<std::unique_ptr<BlockJournal>> BlockJournal::open(FileSystem& files, const std::string& path,
                                                         std::uint64_t run) {
  int descriptor = -EINTR;
  while (descriptor == -EINTR) {
    descriptor = files.open(path, O_RDWR | O_CREAT | O_CLOEXEC, kMode);
  }
  if (descriptor < 0) {
    return Error(Code::kOutput, "journal-unwritable",
                 "can not be opened: " + std::generic_category().message(-descriptor),
                 {path, {}, {}});
  }
  std::unique_ptr<BlockJournal> journal(new BlockJournal(files, path, descriptor));
  struct stat status {};
  if (const int failed = files.status(descriptor, status); failed < 0) {
    return journal->failed(Code::kInput, "can not be looked at", -failed);
  }
  if (!S_ISREG(status.st_mode)) {
    return Error(Code::kUsage, "journal-no-file", "is no regular file", {path, {}, {}});
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size == 0) {
    MCOMPRESS_TRY(journal->begin(run));
  } else {
    MCOMPRESS_TRY(journal->scan(size, run));
  }
  return journal;
}

BlockJournal::~BlockJournal() { files_.close(descriptor_); }

Error BlockJournal::failed(Code code, std::string_view what, int error_number) const {
  return Error(code, "journal-failed",
               std::string(what) + ": " + std::generic_category().message(error_number),
               {path_, {}, {}});
}

Status BlockJournal::begin(std::uint64_t run) {
  BodyWriter header;
  for (const char c : kMagic) header.number(c);
  header.number(kVersion);
  header.number(run);
  MCOMPRESS_TRY(write_at(0, header.take()));
  end_ = kHeader;
  return ok_status();
}

Status BlockJournal::scan(std::uint64_t size, std::uint64_t run) {
  std::array<std::byte, kHeader> header{};
  if (size >= kHeader) MCOMPRESS_TRY(read_at(0, header));
  BodyReader reader(header);
  std::string magic;
  for (std::size_t i = 0; i < kMagic.size(); ++i) magic += reader.number<char>();
  if (size < kHeader || magic != kMagic || reader.number<std::uint32_t>() != kVersion) {
    return Error(Code::kInput, "no-journal", "is no file of an interrupted run", {path_, {}, {}},
                 "name another file, or remove it");
  }
  if (reader.number<std::uint64_t>() != run) {
    return Error(Code::kInput, "other-run",
                 "was made by a run with another model, other data or other options",
                 {path_, {}, {}}, "repeat the command it was made by, or remove it");
  }
  end_ = kHeader;
  std::vector<std::byte> body;
  while (size - end_ > kRecordHeader) {
    std::array<std::byte, kRecordHeader> head{};
    MCOMPRESS_TRY(read_at(end_, head));
    BodyReader record(head);
    const auto length = record.number<std::uint64_t>();
    const auto digest = record.number<std::uint64_t>();
    if (length < sizeof(std::uint64_t) || length > size - end_ - kRecordHeader) break;
    body.resize(length);
    MCOMPRESS_TRY(read_at(end_ + kRecordHeader, body));
    if (digest_bytes(body) != digest || !entry_of(body)) break;
    places_[BodyReader(body).number<std::uint64_t>()] = {end_, length};
    end_ += kRecordHeader + length;
  }
  return ok_status();
}

Status BlockJournal::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = files_.read(descriptor_, bytes, offset);
    if (got == -EINTR) continue;
    if (got <= 0) {
      return failed(Code::kInput, "can not be read", got < 0 ? static_cast<int>(-got) : EIO);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return ok_status();
}

Status BlockJournal::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = files_.write(descriptor_, bytes, offset);
    if (put == -EINTR) continue;
    if (put <= 0) {
      return failed(Code::kOutput, "can not be written", put < 0 ? static_cast<int>(-put) : EIO);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  int synced = -EINTR;
  while (synced == -EINTR) synced = files_.sync(descriptor_);
  if (synced < 0) return failed(Code::kOutput, "can not be written", -synced);
  return ok_status();
}

Result<JournalEntry> BlockJournal::read(std::size_t unit) const {
  const Place& place = places_.at(unit);
  std::array<std::byte, kRecordHeader> head{};
  MCOMPRESS_TRY(read_at(place.offset, head));
  BodyReader record(head);
  std::vector<std::byte> body(place.length);
  MCOMPRESS_TRY(read_at(place.offset + kRecordHeader, body));
  std::optional<JournalEntry> entry;
  if (record.number<std::uint64_t>() == place.length &&
      record.number<std::uint64_t>() == digest_bytes(body)) {
    entry = entry_of(body);
  }
  if (!entry) {
    return Error(Code::kInput, "journal-changed", "has changed while it was in use",
                 {path_, {}, {}});
  }
  return std::move(*entry);
}

Status BlockJournal::add(std::size_t unit, const JournalEntry& entry) {
  const std::vector<std::byte> body = body_of(unit, entry);
  BodyWriter record;
  record.number(std::uint64_t{body.size()});
  record.number(digest_bytes(body));
  record.append(body);
  const std::vector<std::byte> bytes = record.take();
  MCOMPRESS_TRY(write_at(end_, bytes));
  places_[unit] = {end_, body.size()};
  end_ += bytes.size();
  return ok_status();
}

}  // namespace mcompress
