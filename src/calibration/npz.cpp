#include "calibration/npz.h"

#include <fcntl.h>
#include <zip.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
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

struct CloseZip {
  void operator()(zip_t* p) const { zip_discard(p); }
  void operator()(zip_file_t* p) const { zip_fclose(p); }
};
using ZipHandle = std::shared_ptr<zip_t>;
using ZipFile = std::unique_ptr<zip_file_t, CloseZip>;

class ZipEntryBytes final : public ByteSource {
 public:
  ZipEntryBytes(ZipHandle archive, NpzArchive::Entry entry, bool stored)
      : archive_(std::move(archive)), entry_(std::move(entry)), stored_(stored) {}

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
    MCOMPRESS_TRY(go_to(offset));
    MCOMPRESS_TRY(read_on(out));
    // At the end the library compares checksums; it does so when it is asked for more.
    if (position_ == entry_.bytes) {
      std::byte extra{};
      const zip_int64_t got = zip_fread(file_.get(), &extra, 1);
      if (got < 0) return failure();
      file_.reset();
      if (got > 0) {
        kept_.clear();
        return bad("zip-entry-longer", "more bytes than the " + std::to_string(entry_.bytes) +
                                           " that the archive declares");
      }
    }
    return ok_status();
  }

 private:
  Status go_to(std::uint64_t offset) {
    if (file_ != nullptr && stored_ && position_ != offset) {
      if (zip_fseek(file_.get(), static_cast<zip_int64_t>(offset), SEEK_SET) != 0) return failure();
      position_ = offset;
      return ok_status();
    }
    if (file_ == nullptr || position_ > offset) {
      file_.reset(zip_fopen_index(archive_.get(), entry_.index, 0));
      if (file_ == nullptr) {
        return bad("zip-entry-unreadable", zip_strerror(archive_.get()));
      }
      position_ = 0;
      if (stored_ && offset != 0) return go_to(offset);
    }
    std::vector<std::byte> skipped(std::min<std::uint64_t>(offset - position_, 64 << 10));
    while (position_ < offset) {
      const std::uint64_t step = std::min<std::uint64_t>(skipped.size(), offset - position_);
      MCOMPRESS_TRY(read_on(std::span(skipped).first(static_cast<std::size_t>(step))));
    }
    return ok_status();
  }
  Status read_on(std::span<std::byte> out) {
    while (!out.empty()) {
      const zip_int64_t got = zip_fread(file_.get(), out.data(), out.size());
      if (got < 0) return failure();
      if (got == 0) return ends_early(position_, out.size(), position_);
      if (!stored_ && position_ == kept_.size() && kept_.size() < kKeptBytes) {
        kept_.reserve(std::min<std::uint64_t>(entry_.bytes, kKeptBytes));
        const auto room =
            std::min<std::uint64_t>(static_cast<std::uint64_t>(got), kKeptBytes - kept_.size());
        kept_.insert(kept_.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(room));
      }
      position_ += static_cast<std::uint64_t>(got);
      out = out.subspan(static_cast<std::size_t>(got));
    }
    return ok_status();
  }
  Error failure() {
    Error error = bad("zip-entry-damaged", zip_file_strerror(file_.get()));
    file_.reset();
    kept_.clear();  // what came before the damage was not checked yet
    return error;
  }

  ZipHandle archive_;
  NpzArchive::Entry entry_;
  bool stored_;
  ZipFile file_;  // null: not begun, or read to the end
  std::uint64_t position_ = 0;
  // What was unpacked first is often wanted again, and going back would unpack it all once more.
  static constexpr std::size_t kKeptBytes = 2 << 20;
  std::vector<std::byte> kept_;
};

class Archive final : public NpzArchive {
 public:
  explicit Archive(ZipHandle handle) : handle_(std::move(handle)) {}

  Status list() {
    const zip_int64_t count = zip_get_num_entries(handle_.get(), 0);
    std::set<std::string, std::less<>> seen;
    for (zip_int64_t i = 0; i < count; ++i) {
      zip_stat_t info;
      zip_stat_init(&info);
      if (zip_stat_index(handle_.get(), static_cast<zip_uint64_t>(i), 0, &info) != 0) {
        return bad("zip-damaged", zip_strerror(handle_.get()));
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
  ZipHandle handle_;
  std::vector<Entry> entries_;
  std::vector<bool> stored_;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> open_bytes(const std::string& path) {
  FileSystem& files = real_files();
  const int descriptor = files.open(path, O_RDONLY | O_CLOEXEC, 0);
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
  int code = 0;
  zip_t* raw = zip_open(path.c_str(), ZIP_RDONLY, &code);
  if (raw == nullptr) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    Error result(Code::kInput, "npz-unreadable",
                 "this .npz can not be opened: " + std::string(zip_error_strerror(&error)),
                 {path, {}, {}});
    zip_error_fini(&error);
    return result;
  }
  auto archive = std::make_shared<Archive>(ZipHandle(raw, CloseZip()));
  Status listed = archive->list();
  if (!listed.ok()) return std::move(listed).error().in_file(path);
  return std::shared_ptr<NpzArchive>(std::move(archive));
}

}  // namespace mcompress
