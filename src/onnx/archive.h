// A model inside an archive: its files as they would be, tensors decoded where they are looked at.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "codec/container.h"
#include "mcompress/archive.h"
#include "mcompress/io.h"
#include "mcompress/status.h"
#include "mcompress/tensor.h"
#include "onnx/external_data.h"
#include "support/files.h"
#include "support/sparse_buffer.h"

namespace mcompress {

// The archive and the blocks that were decoded last.
class ArchiveBlocks {
 public:
  ArchiveBlocks(MappedFilePtr file, codec::Archive archive)
      : file_(std::move(file)), archive_(std::move(archive)) {}
  const codec::Archive& archive() const { return archive_; }
  // A range of a stream. Ranges within one block share it.
  Result<Pinned> pin(std::size_t stream, std::uint64_t offset, std::uint64_t length) const;

 private:
  struct Kept {
    std::size_t stream, block;
    std::shared_ptr<const std::vector<std::byte>> bytes;
  };
  static constexpr std::size_t kMostKept = 4;

  MappedFilePtr file_;
  codec::Archive archive_;
  mutable std::mutex mutex_;
  mutable std::vector<Kept> kept_;
};

// One file of an archive: whatever is no tensor is there, tensors are holes.
class ArchivedFileView {
 public:
  // `threshold`: tensors below it are decoded at once.
  static Result<std::shared_ptr<const ArchivedFileView>> make(
      std::shared_ptr<const ArchiveBlocks> blocks, std::size_t file, std::uint64_t threshold);
  std::uint64_t size() const { return size_; }
  // With holes of zeros.
  std::span<const std::byte> bytes() const;
  // A tensor that stands by itself in the archive is decoded when it is pinned; of any other range
  // what is still missing is decoded now. The range must lie inside the file.
  Result<StoragePtr> slice(std::uint64_t offset, std::uint64_t length) const;

 private:
  ArchivedFileView() = default;
  std::shared_ptr<const ArchiveBlocks> blocks_;
  std::uint64_t size_ = 0;
  std::vector<codec::Archive::Piece> pieces_;
  mutable std::vector<bool> filled_;
  std::shared_ptr<SparseBuffer> buffer_;  // null: an empty file
};

class ArchivedModel {
 public:
  static bool is_one(std::span<const std::byte> bytes) { return codec::looks_like_archive(bytes); }
  // Fails with kInput (damaged) or kUnsupported (another version).
  static Result<std::shared_ptr<const ArchivedModel>> open(MappedFilePtr file);

  std::size_t files() const { return index().files.size(); }
  const codec::ArchiveIndex& index() const { return blocks_->archive().index(); }
  // Fails with kUnsupported when there are weights only.
  Result<std::shared_ptr<const ArchivedFileView>> model_file(std::uint64_t threshold) const;
  // Fails with kInput when there is no such file.
  Result<std::shared_ptr<const ArchivedFileView>> data_file(const std::string& location) const;
  SavedModel unpacked_size() const;
  // Adds the files to `output`, the model file as `path`.
  Status unpack(const std::filesystem::path& path, AtomicOutput& output, WriteMeter& meter) const;

 private:
  std::shared_ptr<const ArchiveBlocks> blocks_;
};

// Length and coded size of a tensor; one that is stored as another has coded size 0.
PackedTensor described(const codec::ArchivedTensor& tensor, const codec::ArchivedStream& stream);

}  // namespace mcompress
