#include "passes/common/run_journal.h"

#include <fcntl.h>

#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>

#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kMagic = "mcbj";
constexpr std::uint32_t kVersion = 2;
constexpr std::uint64_t kHeader = 8;         // magic, version
constexpr std::uint64_t kRecordHeader = 16;  // length of the body, its digest
constexpr std::uint64_t kOpening = std::numeric_limits<std::uint64_t>::max();  // no place
constexpr mode_t kMode = 0644;

// In front of the result in the body of a record.
struct RecordKey {
  std::string stage;
  std::uint64_t run = 0, place = 0;
};

void write_key(const RecordKey& key, JournalWriter& body) {
  body.text(key.stage);
  body.number(key.run);
  body.number(key.place);
}

RecordKey read_key(JournalReader& body) {
  RecordKey key;
  key.stage = body.text();
  key.run = body.number<std::uint64_t>();
  key.place = body.number<std::uint64_t>();
  return key;
}

}  // namespace

Result<std::unique_ptr<RunJournal>> RunJournal::open(FileSystem& files, const std::string& path,
                                                     std::string_view stage, std::uint64_t run) {
  int descriptor = -EINTR;
  while (descriptor == -EINTR) {
    descriptor = files.open(path, O_RDWR | O_CREAT | O_CLOEXEC, kMode);
  }
  if (descriptor < 0) {
    return Error(Code::kOutput, "journal-unwritable",
                 "can not be opened: " + std::generic_category().message(-descriptor),
                 {path, {}, {}});
  }
  std::unique_ptr<RunJournal> journal(new RunJournal(files, path, descriptor, stage, run));
  struct stat status {};
  if (const int failed = files.status(descriptor, status); failed < 0) {
    return journal->failed(Code::kInput, "can not be looked at", -failed);
  }
  if (!S_ISREG(status.st_mode)) {
    return Error(Code::kUsage, "journal-no-file", "is no regular file", {path, {}, {}});
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  MCOMPRESS_TRY(size == 0 ? journal->begin() : journal->scan(size));
  return journal;
}

RunJournal::~RunJournal() { files_.close(descriptor_); }

Error RunJournal::failed(Code code, std::string_view what, int error_number) const {
  return Error(code, "journal-failed",
               std::string(what) + ": " + std::generic_category().message(error_number),
               {path_, {}, {}});
}

Error RunJournal::changed() const {
  return Error(Code::kInput, "journal-changed", "has changed while it was in use", {path_, {}, {}});
}

Status RunJournal::begin() {
  JournalWriter header;
  for (const char c : kMagic) header.number(c);
  header.number(kVersion);
  MCOMPRESS_TRY(write_at(0, header.take()));
  end_ = kHeader;
  Extent opening;
  return append(kOpening, {}, opening);
}

Status RunJournal::scan(std::uint64_t size) {
  std::array<std::byte, kHeader> header{};
  if (size >= kHeader) MCOMPRESS_TRY(read_at(0, header));
  JournalReader reader(header);
  std::string magic;
  for (std::size_t i = 0; i < kMagic.size(); ++i) magic += reader.number<char>();
  if (size < kHeader || magic != kMagic || reader.number<std::uint32_t>() != kVersion) {
    return Error(Code::kInput, "no-journal", "is no file of an interrupted run", {path_, {}, {}},
                 "name another file, or remove it");
  }
  end_ = kHeader;
  bool opened = false;
  std::vector<std::byte> body;
  while (size - end_ > kRecordHeader) {
    std::array<std::byte, kRecordHeader> head{};
    MCOMPRESS_TRY(read_at(end_, head));
    JournalReader record(head);
    const auto length = record.number<std::uint64_t>();
    const auto digest = record.number<std::uint64_t>();
    if (length > size - end_ - kRecordHeader) break;
    body.resize(length);
    MCOMPRESS_TRY(read_at(end_ + kRecordHeader, body));
    JournalReader fields(body);
    const RecordKey key = read_key(fields);
    if (digest_bytes(body) != digest || !fields.good()) break;
    if (key.stage == stage_) {
      if (key.run != run_) {
        return Error(Code::kInput, "other-run",
                     "was made by a run with another model, other data or other options",
                     {path_, {}, {}}, "repeat the command it was made by, or remove it");
      }
      opened = true;
      if (key.place != kOpening) places_[key.place] = {end_, length};
    }
    end_ += kRecordHeader + length;
  }
  Extent opening;
  return opened ? ok_status() : append(kOpening, {}, opening);
}

Status RunJournal::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
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

Status RunJournal::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
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

Result<std::vector<std::byte>> RunJournal::read(std::uint64_t place) const {
  const Extent& extent = places_.at(place);
  std::array<std::byte, kRecordHeader> head{};
  MCOMPRESS_TRY(read_at(extent.offset, head));
  JournalReader record(head);
  std::vector<std::byte> body(extent.length);
  MCOMPRESS_TRY(read_at(extent.offset + kRecordHeader, body));
  if (record.number<std::uint64_t>() != extent.length ||
      record.number<std::uint64_t>() != digest_bytes(body)) {
    return changed();
  }
  JournalReader fields(body);
  static_cast<void>(read_key(fields));
  return std::vector<std::byte>(fields.rest().begin(), fields.rest().end());
}

Status RunJournal::append(std::uint64_t place, std::span<const std::byte> result, Extent& extent) {
  JournalWriter body;
  write_key({stage_, run_, place}, body);
  body.append(result);
  const std::vector<std::byte> bytes = body.take();
  JournalWriter record;
  record.number(std::uint64_t{bytes.size()});
  record.number(digest_bytes(bytes));
  record.append(bytes);
  const std::vector<std::byte> written = record.take();
  MCOMPRESS_TRY(write_at(end_, written));
  extent = {end_, bytes.size()};
  end_ += written.size();
  return ok_status();
}

Status RunJournal::add(std::uint64_t place, std::span<const std::byte> result) {
  Extent extent;
  MCOMPRESS_TRY(append(place, result, extent));
  places_[place] = extent;
  return ok_status();
}

}  // namespace mcompress
