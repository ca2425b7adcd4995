#include "calibration/npz.h"

#include <fcntl.h>
#include <zip.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "support/files.h"
#include "support/try.h"

namespace mcompress {
namespace {

Error bad(std::string id, std::string message, std::string subject = {}, std::string hint = {}) {
  Location where;
  where.subject = std::move(subject);
  return {Code::kInput, id, std::move(message), std::move(where), std::move(hint)};
}

Error ends_early(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return bad("data-truncated", "bytes " + std::to_string(offset) + " to " +
                                   std::to_string(offset + length) + " are wanted, there are " +
                                   std::to_string(size));
}

// Read, not mapped: pages of a mapping would count as memory of this process until given back.
class FileBytes final : public ByteSource {
 public:
  FileBytes(FileSystem& files, int descriptor, std::uint64_t size)
      : files_(files), descriptor_(descriptor), size_(size) {}
  ~FileBytes() override { files_.close(descriptor_); }
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;

  std::uint64_t size() const override { return size_; }
  Status read(std::uint64_t offset, std::span<std::byte> out) override {
    if (offset > size_ || out.size() > size_ - offset) {
      return ends_early(offset, out.size(), size_);
    }
    while (!out.empty()) {
      const ssize_t got = files_.read(descriptor_, out, offset);
      if (got == -EINTR) continue;
      if (got < 0) return bad("data-unreadable", std::strerror(static_cast<int>(-got)));
      if (got == 0) return bad("data-truncated", "the file became shorter while it was read");
      offset += static_cast<std::uint64_t>(got);
      out = out.subspan(static_cast<std::size_t>(got));
    }
    return ok_status();
  }

 private:
  FileSystem& files_;
  int descriptor_;
  std::uint64_t size_;
};

// What the zip library reads through. The reason why a read failed is kept: the library has a
// number for it only.
class ZipInput {
 public:
  explicit ZipInput(std::unique_ptr<ByteSource> bytes) : bytes_(std::move(bytes)) {
    zip_error_init(&error_);
  }
  ~ZipInput() { zip_error_fini(&error_); }
  ZipInput(const ZipInput&) = delete;
  ZipInput& operator=(const ZipInput&) = delete;

  const std::optional<Error>& failure() const { return failure_; }

  // A zip_source_callback; `self` is a ZipInput that outlives the source.
  static zip_int64_t serve(void* self, void* data, zip_uint64_t length, zip_source_cmd_t command) {
    return static_cast<ZipInput*>(self)->answer(data, length, command);
  }

 private:
  zip_int64_t answer(void* data, zip_uint64_t length, zip_source_cmd_t command) {
    switch (command) {
      case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_SUPPORTS, ZIP_SOURCE_OPEN, ZIP_SOURCE_READ,
                                              ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT, ZIP_SOURCE_ERROR,
                                              ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL,
                                              -1);
      case ZIP_SOURCE_OPEN:
        at_ = 0;
        return 0;
      case ZIP_SOURCE_CLOSE:
      case ZIP_SOURCE_FREE:
        return 0;
      case ZIP_SOURCE_READ:
        return read(data, length);
      case ZIP_SOURCE_SEEK: {
        const zip_int64_t to =
            zip_source_seek_compute_offset(at_, bytes_->size(), data, length, &error_);
        if (to < 0) return -1;
        at_ = static_cast<std::uint64_t>(to);
        return 0;
      }
      case ZIP_SOURCE_TELL:
        return static_cast<zip_int64_t>(at_);
      case ZIP_SOURCE_STAT: {
        auto* info = static_cast<zip_stat_t*>(data);
        zip_stat_init(info);
        info->size = bytes_->size();
        info->valid = ZIP_STAT_SIZE;
        return sizeof *info;
      }
      case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&error_, data, length);
      default:
        zip_error_set(&error_, ZIP_ER_OPNOTSUPP, 0);
        return -1;
    }
  }

  zip_int64_t read(void* data, zip_uint64_t length) {
    const std::uint64_t left = bytes_->size() - std::min(at_, bytes_->size());
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(length, left));
    Status status = bytes_->read(at_, {static_cast<std::byte*>(data), count});
    if (!status.ok()) {
      failure_ = std::move(status).error();
      zip_error_set(&error_, ZIP_ER_READ, EIO);
      return -1;
    }
    at_ += count;
    return static_cast<zip_int64_t>(count);
  }

  std::unique_ptr<ByteSource> bytes_;
  std::uint64_t at_ = 0;
  zip_error_t error_;
  std::optional<Error> failure_;
};

struct CloseZip {
  void operator()(zip_t* p) const { zip_discard(p); }
  void operator()(zip_file_t* p) const { zip_fclose(p); }
};
// The archive and what it reads through, which has to live longer.
struct OpenZip {
  explicit OpenZip(std::unique_ptr<ByteSource> bytes) : input(std::move(bytes)) {}
  ZipInput input;
  std::unique_ptr<zip_t, CloseZip> archive;

  // The reason why reading failed, else what the library says.
  Error failure(std::string id, const char* otherwise) const {
    return input.failure() ? *input.failure() : bad(std::move(id), otherwise);
  }
};
using ZipHandle = std::shared_ptr<OpenZip>;
using ZipFile = std::unique_ptr<zip_file_t, CloseZip>;

class ZipEntryBytes final : public ByteSource {
 public:
  ZipEntryBytes(ZipHandle archive, NpzArchive::Entry entry, bool stored)
      : zip_(std::move(archive)), entry_(std::move(entry)), stored_(stored) {}

  std::uint64_t size() const override { return entry_.bytes; }

  Status read(std::uint64_t offset, std::span<std::byte> out) override {
    if (offset > entry_.bytes || out.size() > entry_.bytes - offset) {
      return ends_early(offset, out.size(), entry_.bytes);
    }
    if (offset + out.size() <= kept_.size()) {
      std::copy_n(kept_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
      return ok_status();
    }
    if (out.empty()) return ok_status();
    Cursor& cursor = nearest(offset);
    cursor.used = ++turn_;
    MCOMPRESS_TRY(go_to(cursor, offset));
    MCOMPRESS_TRY(read_on(cursor, out));
    // At the end the library compares checksums; it does so when it is asked for more.
    if (cursor.position == entry_.bytes) {
      std::byte extra{};
      const zip_int64_t got = zip_fread(cursor.file.get(), &extra, 1);
      if (got < 0) return failure(cursor);
      cursor.file.reset();
      if (got > 0) {
        kept_.clear();
        return bad("zip-entry-longer", "more bytes than the " + std::to_string(entry_.bytes) +
                                           " that the archive declares");
      }
    }
    return ok_status();
  }

 private:
  // A place up to which the entry was unpacked.
  struct Cursor {
    ZipFile file;  // null: not begun, or read to the end
    std::uint64_t position = 0;
    std::uint64_t used = 0;
  };

  // Behind which the least has to be unpacked; else the one that was not used the longest. Threads
  // that each read a part of the samples come back to theirs in turn.
  Cursor& nearest(std::uint64_t offset) {
    Cursor* best = nullptr;
    for (Cursor& cursor : cursors_) {
      const bool before = cursor.file != nullptr && (stored_ || cursor.position <= offset);
      if (before && (best == nullptr || cursor.position > best->position)) best = &cursor;
    }
    return best != nullptr ? *best
                           : *std::ranges::min_element(cursors_, {}, [](const Cursor& cursor) {
                               return cursor.file != nullptr ? cursor.used : 0;
                             });
  }

  Status go_to(Cursor& cursor, std::uint64_t offset) {
    if (cursor.file != nullptr && stored_ && cursor.position != offset) {
      if (zip_fseek(cursor.file.get(), static_cast<zip_int64_t>(offset), SEEK_SET) != 0) {
        return failure(cursor);
      }
      cursor.position = offset;
      return ok_status();
    }
    if (cursor.file == nullptr || cursor.position > offset) {
      cursor.file.reset(zip_fopen_index(zip_->archive.get(), entry_.index, 0));
      if (cursor.file == nullptr) {
        return zip_->failure("zip-entry-unreadable", zip_strerror(zip_->archive.get()));
      }
      cursor.position = 0;
      if (stored_ && offset != 0) return go_to(cursor, offset);
    }
    std::vector<std::byte> skipped(std::min<std::uint64_t>(offset - cursor.position, 64 << 10));
    while (cursor.position < offset) {
      const std::uint64_t step = std::min<std::uint64_t>(skipped.size(), offset - cursor.position);
      MCOMPRESS_TRY(read_on(cursor, std::span(skipped).first(static_cast<std::size_t>(step))));
    }
    return ok_status();
  }
  Status read_on(Cursor& cursor, std::span<std::byte> out) {
    while (!out.empty()) {
      const zip_int64_t got = zip_fread(cursor.file.get(), out.data(), out.size());
      if (got < 0) return failure(cursor);
      if (got == 0) return ends_early(cursor.position, out.size(), cursor.position);
      if (!stored_ && cursor.position == kept_.size() && kept_.size() < kKeptBytes) {
        kept_.reserve(std::min<std::uint64_t>(entry_.bytes, kKeptBytes));
        const auto room =
            std::min<std::uint64_t>(static_cast<std::uint64_t>(got), kKeptBytes - kept_.size());
        kept_.insert(kept_.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(room));
      }
      cursor.position += static_cast<std::uint64_t>(got);
      out = out.subspan(static_cast<std::size_t>(got));
    }
    return ok_status();
  }
  Error failure(Cursor& cursor) {
    Error error = zip_->failure("zip-entry-damaged", zip_file_strerror(cursor.file.get()));
    cursor.file.reset();
    kept_.clear();  // what came before the damage was not checked yet
    return error;
  }

  ZipHandle zip_;
  NpzArchive::Entry entry_;
  bool stored_;
  std::array<Cursor, 4> cursors_;
  std::uint64_t turn_ = 0;
  // What was unpacked first is often wanted again, and going back would unpack it all once more.
  static constexpr std::size_t kKeptBytes = 2 << 20;
  std::vector<std::byte> kept_;
};

class Archive final : public NpzArchive {
 public:
  explicit Archive(ZipHandle handle) : handle_(std::move(handle)) {}

  Status list() {
    const zip_int64_t count = zip_get_num_entries(archive(), 0);
    std::set<std::string, std::less<>> seen;
    for (zip_int64_t i = 0; i < count; ++i) {
      zip_stat_t info;
      zip_stat_init(&info);
      if (zip_stat_index(archive(), static_cast<zip_uint64_t>(i), 0, &info) != 0) {
        return handle_->failure("zip-damaged", zip_strerror(archive()));
      }
      constexpr zip_uint64_t kNeeded = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_METHOD;
      if ((info.valid & kNeeded) != kNeeded) {
        return bad("zip-damaged", "entry " + std::to_string(i) + " has no name or size");
      }
      std::string name = info.name;
      if (!name.ends_with(".npy")) continue;
      if ((info.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && info.encryption_method != ZIP_EM_NONE) {
        return bad("zip-encrypted", "the entry is encrypted", name);
      }
      if (info.comp_method != ZIP_CM_STORE && info.comp_method != ZIP_CM_DEFLATE) {
        return bad("zip-compression",
                   "compression method " + std::to_string(info.comp_method) +
                       " is not supported (stored and deflate are)",
                   name, "save it with numpy.savez or numpy.savez_compressed");
      }
      name.resize(name.size() - 4);
      if (!seen.insert(name).second) {
        return bad("zip-name-twice", "the archive holds two arrays of this name", name);
      }
      entries_.push_back({std::move(name), static_cast<std::uint64_t>(i), info.size});
      stored_.push_back(info.comp_method == ZIP_CM_STORE);
    }
    return ok_status();
  }

  std::span<const Entry> entries() const override { return entries_; }
  Result<std::unique_ptr<ByteSource>> open_entry(const Entry& entry) override {
    const auto found = std::ranges::find(entries_, entry.index, &Entry::index);
    const bool stored = stored_[static_cast<std::size_t>(found - entries_.begin())];
    return std::unique_ptr<ByteSource>(std::make_unique<ZipEntryBytes>(handle_, entry, stored));
  }

 private:
  zip_t* archive() const { return handle_->archive.get(); }

  ZipHandle handle_;
  std::vector<Entry> entries_;
  std::vector<bool> stored_;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> open_bytes(const std::string& path) {
  FileSystem& files = real_files();
  const int descriptor = open_to_read(files, path, 0);
  if (descriptor < 0) {
    return Error(Code::kInput, "data-unreadable", std::strerror(-descriptor), {path, {}, {}});
  }
  struct stat info {};
  const int status = files.status(descriptor, info);
  if (status < 0 || !S_ISREG(info.st_mode)) {
    files.close(descriptor);
    return Error(Code::kInput, "data-unreadable",
                 status < 0 ? std::strerror(-status) : "this is no regular file", {path, {}, {}});
  }
  return std::unique_ptr<ByteSource>(
      std::make_unique<FileBytes>(files, descriptor, static_cast<std::uint64_t>(info.st_size)));
}

Result<std::shared_ptr<NpzArchive>> NpzArchive::open(const std::string& path) {
  MCOMPRESS_ASSIGN(auto bytes, open_bytes(path));
  const auto zip = std::make_shared<OpenZip>(std::move(bytes));
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_function_create(&ZipInput::serve, &zip->input, &error);
  if (source != nullptr) zip->archive.reset(zip_open_from_source(source, ZIP_RDONLY, &error));
  std::optional<Error> failure;
  if (zip->archive == nullptr) {
    if (source != nullptr) zip_source_free(source);
    const std::string why =
        "this .npz can not be opened: " + std::string(zip_error_strerror(&error));
    failure = zip->failure("npz-unreadable", why.c_str());
  }
  zip_error_fini(&error);
  if (failure) return std::move(*failure).in_file(path);
  auto archive = std::make_shared<Archive>(zip);
  Status listed = archive->list();
  if (!listed.ok()) return std::move(listed).error().in_file(path);
  return std::shared_ptr<NpzArchive>(std::move(archive));
}

}  // namespace mcompress
