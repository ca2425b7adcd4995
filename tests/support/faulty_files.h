// A FileSystem that works on real files but fails where the test says so.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>

#include "support/files.h"

namespace mcompress::testing {

class FaultyFiles final : public FileSystem {
 public:
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

  // Every call that can fail counts; call number `fail_at` (from 1) and all later ones fail with
  // `error`, or that one only when `fail_once` is set.
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
  std::int64_t calls() const { return calls_; }

  int open(const std::string& path, int flags, mode_t mode) override {
    return fault() ? -error : FileSystem::open(path, flags, mode);
  }
  ssize_t read(int descriptor, std::span<std::byte> bytes, std::uint64_t offset) override {
    if (interrupted()) return -EINTR;
    if (fault()) return -error;
    return FileSystem::read(descriptor, bytes.first(std::min(step, bytes.size())), offset);
  }
  ssize_t write(int descriptor, std::span<const std::byte> bytes, std::uint64_t offset) override {
    if (interrupted()) return -EINTR;
    if (fault()) return -error;
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
    if (fault()) return -error;
    return FileSystem::copy_range(from, from_offset, to, to_offset, std::min(step, length));
  }
  int set_mode(int descriptor, mode_t mode) override {
    return fault() ? -error : FileSystem::set_mode(descriptor, mode);
  }
  int sync(int descriptor) override { return fault() ? -error : FileSystem::sync(descriptor); }
  int rename(const std::string& from, const std::string& to) override {
    return fault() ? -error : FileSystem::rename(from, to);
  }
  int link(const std::string& from, const std::string& to) override {
    if (!can_link) return -EPERM;
    return fault() ? -error : FileSystem::link(from, to);
  }
  void* map(int descriptor, std::size_t length) override {
    return can_map ? FileSystem::map(descriptor, length) : nullptr;
  }

 private:
  bool fault() {
    ++calls_;
    return fail_once ? calls_ == fail_at : calls_ >= fail_at;
  }
  bool interrupted() {
    if (!interrupts) return false;
    odd_ = !odd_;
    return odd_;
  }

  std::int64_t calls_ = 0;
  bool odd_ = false;
};

}  // namespace mcompress::testing
