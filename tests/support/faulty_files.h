// A FileSystem that works on real files but fails where the test says so.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "support/files.h"

namespace mcompress::testing {

// Safe to use from several threads; the settings are changed while nobody does.
class FaultyFiles : public FileSystem {
 public:
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

  // Every call that can fail counts; call number `fail_at` (from 1) and all later ones fail with
  // `error`, or that one only when `fail_once` is set. Removing files never fails: nothing could
  // be done about it.
  std::int64_t fail_at = kNever;
  bool fail_once = false;
  int error = EIO;
  // At most so many bytes per read or write.
  std::size_t step = std::numeric_limits<std::size_t>::max();
  // Bytes that may still be written before ENOSPC.
  std::uint64_t space = std::numeric_limits<std::uint64_t>::max();
  bool can_map = true;
  bool can_copy_range = true;
  bool can_link = true;
  // Every call with an odd number is interrupted first.
  bool interrupts = false;

  enum class Side : std::uint8_t {
    kReading,
    kWriting,
    kEither,  // a look at a path that is read or will be written
  };
  struct Fault {
    std::string call;
    std::string path;
    Side side = Side::kEither;
  };
  std::int64_t calls() const { return calls_; }
  // The first call that was made to fail.
  const std::optional<Fault>& fault() const { return fault_; }

  int open(const std::string& path, int flags, mode_t mode) override {
    const bool writes = (flags & (O_WRONLY | O_RDWR)) != 0;
    if (interrupted()) return -EINTR;
    if (fails("open", path, writes ? Side::kWriting : Side::kReading)) return -error;
    return remember(FileSystem::open(path, flags, mode), path, writes);
  }
  int close(int descriptor) override {
    const Open open = forget(descriptor);
    const int result = FileSystem::close(descriptor);
    return fails("close", open.path, open.side()) ? -error : result;
  }
  int status(int descriptor, struct stat& out) override {
    if (fails("fstat", descriptor)) return -error;
    return FileSystem::status(descriptor, out);
  }
  int status(const std::string& path, struct stat& out) override {
    return fails("stat", path, Side::kEither) ? -error : FileSystem::status(path, out);
  }
  int resolve(const std::string& path, std::string& real) override {
    return fails("realpath", path, Side::kEither) ? -error : FileSystem::resolve(path, real);
  }
  int list(const std::string& folder, std::vector<Entry>& entries) override {
    return fails("readdir", folder, Side::kReading) ? -error : FileSystem::list(folder, entries);
  }
  int make_folder(const std::string& path) override {
    return fails("mkdir", path, Side::kWriting) ? -error : FileSystem::make_folder(path);
  }
  int make_private_folder(const std::string& prefix, std::string& path) override {
    if (fails("mkdtemp", folder_of(prefix), Side::kWriting)) return -error;
    return FileSystem::make_private_folder(prefix, path);
  }
  int open_unnamed(const std::string& folder) override {
    if (interrupted()) return -EINTR;
    if (fails("mkstemp", folder, Side::kWriting)) return -error;
    return remember(FileSystem::open_unnamed(folder), folder, true);
  }
  int reserve(int descriptor, std::uint64_t length) override {
    if (interrupted()) return -EINTR;
    if (fails("fallocate", descriptor)) return -error;
    return length > space ? -ENOSPC : FileSystem::reserve(descriptor, length);
  }
  ssize_t read(int descriptor, std::span<std::byte> bytes, std::uint64_t offset) override {
    if (interrupted()) return -EINTR;
    if (fails("read", descriptor)) return -error;
    return FileSystem::read(descriptor, bytes.first(std::min(step, bytes.size())), offset);
  }
  ssize_t write(int descriptor, std::span<const std::byte> bytes, std::uint64_t offset) override {
    if (interrupted()) return -EINTR;
    if (fails("write", descriptor)) return -error;
    const auto room =
        static_cast<std::size_t>(std::min<std::uint64_t>(space, std::min(step, bytes.size())));
    if (room == 0) return -ENOSPC;
    const ssize_t count = FileSystem::write(descriptor, bytes.first(room), offset);
    if (count > 0) space -= static_cast<std::uint64_t>(count);
    return count;
  }
  ssize_t copy_range(int from, std::uint64_t from_offset, int to, std::uint64_t to_offset,
                     std::size_t length) override {
    if (!can_copy_range) return -EXDEV;
    if (interrupted()) return -EINTR;
    if (fails("copy_file_range", to)) return -error;
    if (space == 0) return -ENOSPC;
    const ssize_t count = FileSystem::copy_range(
        from, from_offset, to, to_offset,
        static_cast<std::size_t>(std::min<std::uint64_t>(space, std::min(step, length))));
    if (count > 0) space -= static_cast<std::uint64_t>(count);
    return count;
  }
  int set_mode(int descriptor, mode_t mode) override {
    return fails("fchmod", descriptor) ? -error : FileSystem::set_mode(descriptor, mode);
  }
  int sync(int descriptor) override {
    if (interrupted()) return -EINTR;
    return fails("fsync", descriptor) ? -error : FileSystem::sync(descriptor);
  }
  int rename(const std::string& from, const std::string& to) override {
    return fails("rename", to, Side::kWriting) ? -error : FileSystem::rename(from, to);
  }
  int link(const std::string& from, const std::string& to) override {
    if (!can_link) return -EPERM;
    return fails("link", to, Side::kWriting) ? -error : FileSystem::link(from, to);
  }
  void* map(int descriptor, std::size_t length) override {
    if (!can_map || fails("mmap", descriptor)) return nullptr;
    return FileSystem::map(descriptor, length);
  }
  void* map_writable(int descriptor, std::size_t length) override {
    if (fails("mmap", descriptor)) return nullptr;
    return FileSystem::map_writable(descriptor, length);
  }

  // As new, but for files that are still open.
  void reset() {
    const std::lock_guard lock(mutex_);
    fail_at = kNever;
    fail_once = false;
    error = EIO;
    step = std::numeric_limits<std::size_t>::max();
    space = std::numeric_limits<std::uint64_t>::max();
    can_map = can_copy_range = can_link = true;
    interrupts = false;
    calls_ = 0;
    fault_.reset();
  }

 private:
  struct Open {
    std::string path;
    bool writes = false;
    Side side() const { return writes ? Side::kWriting : Side::kReading; }
  };

  bool fails(const char* call, int descriptor) {
    Open open;
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = open_.find(descriptor); found != open_.end()) open = found->second;
    }
    return fails(call, open.path, open.side());
  }
  bool fails(const char* call, const std::string& path, Side side) {
    const std::lock_guard lock(mutex_);
    ++calls_;
    if (fail_once ? calls_ != fail_at : calls_ < fail_at) return false;
    if (!fault_) fault_ = Fault{call, path, side};
    return true;
  }
  bool interrupted() {
    if (!interrupts) return false;
    const std::lock_guard lock(mutex_);
    odd_ = !odd_;
    return odd_;
  }
  int remember(int descriptor, const std::string& path, bool writes) {
    const std::lock_guard lock(mutex_);
    if (descriptor >= 0) open_[descriptor] = {path, writes};
    return descriptor;
  }
  Open forget(int descriptor) {
    const std::lock_guard lock(mutex_);
    const auto found = open_.find(descriptor);
    if (found == open_.end()) return {};
    Open open = std::move(found->second);
    open_.erase(found);
    return open;
  }

  std::mutex mutex_;
  std::int64_t calls_ = 0;
  bool odd_ = false;
  std::optional<Fault> fault_;
  std::map<int, Open> open_;
};

}  // namespace mcompress::testing
