// Bytes of .npy files and of the entries of an .npz, read in pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mcompress/status.h"

namespace mcompress {

// Random access over bytes that may be compressed: reading forward is cheap, going back may start
// again from the beginning. Memory does not depend on the size.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual std::uint64_t size() const = 0;
  // Fills `out`. Fails with kInput when the bytes end early, are damaged or can not be read.
  virtual Status read(std::uint64_t offset, std::span<std::byte> out) = 0;
};

// A regular file.
Result<std::unique_ptr<ByteSource>> open_bytes(const std::string& path);

// An open .npz: a zip archive of .npy entries.
class NpzArchive {
 public:
  struct Entry {
    std::string name;  // without ".npy"
    std::uint64_t index = 0;
    std::uint64_t bytes = 0;  // as the archive declares
  };

  // Fails with kInput: no zip archive, names twice, encrypted entries, or a compression other than
  // stored and deflate.
  static Result<std::shared_ptr<NpzArchive>> open(const std::string& path);
  virtual ~NpzArchive() = default;
  virtual std::span<const Entry> entries() const = 0;
  // The archive stays open as long as a source of it lives.
  virtual Result<std::unique_ptr<ByteSource>> open_entry(const Entry& entry) = 0;
};

}  // namespace mcompress
