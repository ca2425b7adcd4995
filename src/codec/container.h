// The archive: streams of bytes in coded blocks, and an index of the files they make up and the
// tensors they hold. docs/format.md describes every byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "mcompress/codec.h"
#include "mcompress/status.h"
#include "support/executor.h"
#include "support/files.h"

namespace mcompress::codec {

inline constexpr std::uint16_t kArchiveVersion = 4;  // those before it are read, too
inline constexpr std::size_t kArchiveHeader = 16;
inline constexpr std::size_t kArchiveTrailer = 32;
inline constexpr std::uint32_t kNoFile = std::numeric_limits<std::uint32_t>::max();

// Begins like an archive, of whatever version.
bool looks_like_archive(std::span<const std::byte> bytes);

struct ArchivedBlock {
  std::uint64_t offset = 0;  // in the archive
  std::uint32_t size = 0;    // coded
  std::uint32_t check = 0;   // low half of XXH3-64 of the coded bytes
};

// Bytes that are coded together. The residue of a file is what its other streams leave, in order.
struct ArchivedStream {
  std::uint32_t file = kNoFile;
  bool residue = false;
  std::uint64_t offset = 0;  // in the file; 0 for a residue
  std::uint64_t length = 0;
  std::uint64_t digest = 0;   // XXH3-64 of the bytes
  std::uint32_t copy_of = 0;  // 0: blocks of its own; else an earlier stream's number from 1
  std::uint32_t block_bytes = 0;
  std::vector<ArchivedBlock> blocks;
};

struct ArchivedFile {
  std::string name;  // relative; the model file first
  std::uint64_t size = 0;
  std::uint64_t digest = 0;
};

struct ArchivedTensor {
  std::string name;
  std::int32_t dtype = 0;  // ONNX's number
  std::vector<std::int64_t> dims;
  std::uint32_t stream = 0;
  bool initializer = false;  // of the main graph
};

struct ArchiveIndex {
  std::vector<ArchivedFile> files;  // none: weights only
  std::vector<ArchivedStream> streams;
  std::vector<ArchivedTensor> tensors;
};

// Writes an archive front to back: streams, then finish().
class ArchiveWriter {
 public:
  ArchiveWriter(OutputFile& out, const Executor& executor, CodingEffort effort);

  // The bytes of a range: a view of something that lives on, or of `scratch` after filling it.
  using SourceFn = std::function<Result<std::span<const std::byte>>(
      std::uint64_t offset, std::size_t length, std::vector<std::byte>& scratch)>;
  // `source` stays in use until the end. Codes `stream.length` bytes, decodes each block again and
  // compares. Fills blocks, digest and copy_of. Several blocks are in work at a time: memory is a
  // few blocks a thread.
  Status add(ArchivedStream stream, const Elements& elements, const SourceFn& source,
             Progress& progress);
  // Index and trailer. `index.streams` is replaced by what was added.
  Status finish(ArchiveIndex index);
  std::size_t streams() const { return streams_.size(); }
  const ArchivedStream& stream(std::size_t number) const { return streams_[number]; }
  // Taken together by all that was added.
  std::uint64_t source_bytes() const { return done_; }
  void expect(std::uint64_t bytes) { total_ = bytes; }

 private:
  Status start();

  OutputFile& out_;
  const Executor& executor_;
  CodingEffort effort_;
  std::vector<ArchivedStream> streams_;
  std::vector<SourceFn> sources_;
  std::vector<std::byte> header_;
  std::uint64_t done_ = 0, total_ = 0;
};

// An archive over bytes that somebody else keeps.
class Archive {
 public:
  // Checks header, index and their checksum, and that blocks and streams cover archive and files
  // exactly. Fails with kInput (damaged) or kUnsupported (another version).
  static Result<Archive> open(std::span<const std::byte> bytes);

  const ArchiveIndex& index() const { return index_; }
  std::size_t blocks_of(std::size_t stream) const { return owner(stream).blocks.size(); }
  std::size_t block_length(std::size_t stream, std::size_t block) const;
  // Checks and decodes one block. `out` has its length.
  Status read_block(std::size_t stream, std::size_t block, std::span<std::byte> out) const;
  // A range of a stream.
  Status read(std::size_t stream, std::uint64_t offset, std::span<std::byte> out) const;

  // What a file is made of, in order of its bytes.
  struct Piece {
    std::uint64_t offset = 0, length = 0;  // in the file
    std::size_t stream = 0;
    std::uint64_t stream_offset = 0;
  };
  std::vector<Piece> pieces_of(std::size_t file) const;
  // The stream itself, or the one it is a copy of: the one with blocks.
  const ArchivedStream& owner(std::size_t stream) const;

 private:
  std::span<const std::byte> bytes_;
  ArchiveIndex index_;
};

// In the index: numbers and texts, see docs/format.md.
std::vector<std::uint8_t> index_bytes(const ArchiveIndex& index);
Result<ArchiveIndex> parse_index(std::span<const std::byte> bytes, std::uint64_t archive_bytes);

}  // namespace mcompress::codec
