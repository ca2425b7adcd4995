#include "codec/container.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "codec/bits.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress::codec {
namespace {

// As PNG's: a byte that is no text, a name, and line ends that transfers as text would change.
constexpr std::array<std::uint8_t, 8> kMagic = {0x8d, 'M', 'C', 'A', '\r', '\n', 0x1a, '\n'};
// Blocks of one value take the least: this many bytes of index and block for 1 MiB at most.
constexpr std::uint64_t kMostExpansion = std::uint64_t{1} << 16;

Error damaged(std::string message) {
  return Error(Code::kInput, "archive-damaged", std::move(message), {},
               "the archive is incomplete, damaged or was not written by mcompress");
}

Bytes view(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}
std::uint32_t check_of(std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(digest_bytes(bytes));
}

void put_text(Buffer& out, std::string_view text) {
  put_number(out, text.size());
  out.insert(out.end(), text.begin(), text.end());
}
std::string take_text(ByteReader& in) {
  const Bytes text = in.take(in.number());
  return {text.begin(), text.end()};
}

std::uint64_t block_count(const ArchivedStream& stream) {
  return stream.length / stream.block_bytes + (stream.length % stream.block_bytes != 0 ? 1 : 0);
}

}  // namespace

bool looks_like_archive(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() &&
         std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

std::vector<std::uint8_t> index_bytes(const ArchiveIndex& index) {
  Buffer out;
  put_number(out, index.files.size());
  for (const ArchivedFile& file : index.files) {
    put_text(out, file.name);
    put_number(out, file.size);
    put_le(out, file.digest, 8);
  }
  put_number(out, index.streams.size());
  for (const ArchivedStream& stream : index.streams) {
    put_number(out, stream.file == kNoFile ? 0 : stream.file + std::uint64_t{1});
    out.push_back(stream.residue ? 1 : 0);
    put_number(out, stream.offset);
    put_number(out, stream.length);
    put_le(out, stream.digest, 8);
    put_number(out, stream.copy_of);
    if (stream.copy_of != 0) continue;
    put_number(out, stream.block_bytes);
    for (const ArchivedBlock& block : stream.blocks) {
      put_number(out, block.size);
      put_le(out, block.check, 4);
    }
  }
  put_number(out, index.tensors.size());
  for (const ArchivedTensor& tensor : index.tensors) {
    put_text(out, tensor.name);
    put_number(out, static_cast<std::uint64_t>(tensor.dtype));
    put_number(out, tensor.dims.size());
    for (const std::int64_t size : tensor.dims) put_number(out, static_cast<std::uint64_t>(size));
    put_number(out, tensor.stream);
    out.push_back(tensor.initializer ? 1 : 0);
  }
  return out;
}

namespace {

// Every count is checked against the bytes that are left before anything is allocated for it.
bool take_files(ByteReader& in, ArchiveIndex& index) {
  const std::uint64_t files = in.number();
  if (files > in.left() / 10) return false;
  for (std::uint64_t i = 0; i < files; ++i) {
    ArchivedFile file;
    file.name = take_text(in);
    file.size = in.number();
    file.digest = in.le(8);
    index.files.push_back(std::move(file));
  }
  return !in.failed();
}

bool take_streams(ByteReader& in, std::uint64_t archive_bytes, ArchiveIndex& index) {
  const std::uint64_t streams = in.number();
  if (streams > in.left() / 13) return false;
  std::uint64_t at = kArchiveHeader;
  std::uint64_t total = 0;
  const std::uint64_t most = (std::uint64_t{1} << 20) + archive_bytes * kMostExpansion;
  for (std::uint64_t i = 0; i < streams; ++i) {
    ArchivedStream stream;
    const std::uint64_t file = in.number();
    if (file > index.files.size() || (file == 0) != index.files.empty()) return false;
    if (file != 0) stream.file = static_cast<std::uint32_t>(file - 1);
    const std::uint8_t kind = in.byte();
    stream.residue = kind == 1;
    stream.offset = in.number();
    stream.length = in.number();
    stream.digest = in.le(8);
    const std::uint64_t copy_of = in.number();
    if (in.failed() || kind > 1 || copy_of > i || stream.length > most) return false;
    if (stream.residue && (stream.offset != 0 || file == 0)) return false;
    if (file == 0 && stream.offset != 0) return false;
    stream.copy_of = static_cast<std::uint32_t>(copy_of);
    if (copy_of != 0) {
      const ArchivedStream& source = index.streams[copy_of - 1];
      if (source.copy_of != 0 || source.length != stream.length || source.digest != stream.digest) {
        return false;
      }
      index.streams.push_back(std::move(stream));
      continue;
    }
    total += stream.length;
    const std::uint64_t block_bytes = in.number();
    if (total > most || block_bytes == 0 || block_bytes > kMostBlockBytes) return false;
    stream.block_bytes = static_cast<std::uint32_t>(block_bytes);
    if (block_count(stream) > in.left() / 5) return false;
    stream.blocks.resize(block_count(stream));
    for (ArchivedBlock& block : stream.blocks) {
      const std::uint64_t size = in.number();
      if (size == 0 || size > block_bytes + kBlockOverhead) return false;
      block.offset = at;
      block.size = static_cast<std::uint32_t>(size);
      block.check = static_cast<std::uint32_t>(in.le(4));
      at += size;
    }
    index.streams.push_back(std::move(stream));
  }
  // With trailer and coded index behind them the blocks make up the archive: checked by open().
  return !in.failed() && at <= archive_bytes;
}

bool take_tensors(ByteReader& in, ArchiveIndex& index) {
  const std::uint64_t tensors = in.number();
  if (tensors > in.left() / 5) return false;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    ArchivedTensor tensor;
    tensor.name = take_text(in);
    const std::uint64_t dtype = in.number();
    const std::uint64_t rank = in.number();
    if (in.failed() || dtype > 0x7fffffff || rank > in.left()) return false;
    tensor.dtype = static_cast<std::int32_t>(dtype);
    for (std::uint64_t d = 0; d < rank; ++d) {
      const std::uint64_t size = in.number();
      if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return false;
      tensor.dims.push_back(static_cast<std::int64_t>(size));
    }
    const std::uint64_t stream = in.number();
    const std::uint8_t flags = in.byte();
    if (in.failed() || flags > 1 || stream >= index.streams.size()) return false;
    tensor.stream = static_cast<std::uint32_t>(stream);
    tensor.initializer = flags == 1;
    if (index.streams[stream].residue) return false;
    index.tensors.push_back(std::move(tensor));
  }
  return !in.failed() && in.left() == 0;
}

// The streams of a file stand in order, apart from each other, and with its residue, which comes
// first, they are the file.
bool covers_files(const ArchiveIndex& index) {
  std::vector<std::uint64_t> end(index.files.size()), sum(index.files.size());
  std::vector<bool> residue(index.files.size());
  for (const ArchivedStream& stream : index.streams) {
    if (stream.file == kNoFile) continue;
    const std::uint64_t size = index.files[stream.file].size;
    if (stream.length > size) return false;
    sum[stream.file] += stream.length;
    if (sum[stream.file] > size) return false;
    if (stream.residue) {
      if (residue[stream.file] || end[stream.file] != 0) return false;
      residue[stream.file] = true;
      continue;
    }
    if (stream.length == 0 || stream.offset < end[stream.file] ||
        stream.offset > size - stream.length) {
      return false;
    }
    end[stream.file] = stream.offset + stream.length;
  }
  for (std::size_t i = 0; i < index.files.size(); ++i) {
    if (sum[i] != index.files[i].size) return false;
    for (std::size_t j = 0; j < i; ++j) {
      if (index.files[j].name == index.files[i].name) return false;
    }
  }
  return true;
}

}  // namespace

Result<ArchiveIndex> parse_index(std::span<const std::byte> bytes, std::uint64_t archive_bytes) {
  ArchiveIndex index;
  ByteReader in(view(bytes));
  if (!take_files(in, index) || !take_streams(in, archive_bytes, index) ||
      !take_tensors(in, index) || !covers_files(index)) {
    return damaged("the index of the archive contradicts itself");
  }
  return index;
}

Result<Archive> Archive::open(std::span<const std::byte> bytes) {
  if (!looks_like_archive(bytes)) return damaged("this does not begin like an archive");
  if (bytes.size() < kArchiveHeader + kArchiveTrailer) {
    return damaged("an archive of " + std::to_string(bytes.size()) + " bytes is cut off");
  }
  const std::uint64_t version = load_le(view(bytes).data() + 8, 2);
  if (version == 0 || version > kArchiveVersion) {
    return Error(Code::kUnsupported, "archive-version",
                 "the archive has format " + std::to_string(version) +
                     ", this program reads formats up to " + std::to_string(kArchiveVersion),
                 {}, "a newer mcompress may read it");
  }
  const std::span<const std::byte> trailer = bytes.last(kArchiveTrailer);
  const std::uint64_t offset = load_le(view(trailer).data(), 8);
  const std::uint64_t coded = load_le(view(trailer).data() + 8, 8);
  const std::uint64_t raw = load_le(view(trailer).data() + 16, 8);
  const std::uint64_t check = load_le(view(trailer).data() + 24, 8);
  const std::uint64_t room = bytes.size() - kArchiveHeader - kArchiveTrailer;
  if (coded > room || offset != bytes.size() - kArchiveTrailer - coded || raw == 0 ||
      raw > kMostBlockBytes) {
    return damaged("the trailer of the archive does not fit its " + std::to_string(bytes.size()) +
                   " bytes");
  }
  const std::span<const std::byte> index = bytes.subspan(offset, coded);
  const std::uint64_t found =
      Hasher().bytes(bytes.first(kArchiveHeader)).bytes(index).bytes(trailer.first(24)).digest();
  if (found != check) return damaged("the index of the archive fails its checksum");
  std::vector<std::byte> plain(raw);
  MCOMPRESS_TRY(decode_block(index, plain));
  Archive archive;
  archive.bytes_ = bytes;
  MCOMPRESS_ASSIGN(archive.index_, parse_index(plain, bytes.size()));
  std::uint64_t end = kArchiveHeader;
  for (const ArchivedStream& stream : archive.index_.streams) {
    for (const ArchivedBlock& block : stream.blocks) end += block.size;
  }
  const std::uint64_t flags = load_le(view(bytes).data() + 10, 6);
  if (end != offset || flags != 0) return damaged("blocks and index do not make up the archive");
  return archive;
}

const ArchivedStream& Archive::owner(std::size_t stream) const {
  const ArchivedStream& asked = index_.streams.at(stream);
  return asked.copy_of == 0 ? asked : index_.streams.at(asked.copy_of - 1);
}

std::size_t Archive::block_length(std::size_t stream, std::size_t block) const {
  const ArchivedStream& from = owner(stream);
  return static_cast<std::size_t>(std::min<std::uint64_t>(
      from.block_bytes, from.length - std::uint64_t{block} * from.block_bytes));
}

Status Archive::read_block(std::size_t stream, std::size_t block, std::span<std::byte> out) const {
  const ArchivedBlock& place = owner(stream).blocks.at(block);
  const std::span<const std::byte> coded = bytes_.subspan(place.offset, place.size);
  if (check_of(coded) != place.check) {
    return damaged("block " + std::to_string(block) + " of stream " + std::to_string(stream) +
                   " fails its checksum");
  }
  return decode_block(coded, out);
}

Status Archive::read(std::size_t stream, std::uint64_t offset, std::span<std::byte> out) const {
  const ArchivedStream& from = owner(stream);
  if (offset > from.length || out.size() > from.length - offset) {
    return damaged("bytes " + std::to_string(offset) + "+" + std::to_string(out.size()) +
                   " are outside a stream of " + std::to_string(from.length));
  }
  std::vector<std::byte> whole;
  while (!out.empty()) {
    const auto block = static_cast<std::size_t>(offset / from.block_bytes);
    const auto skip = static_cast<std::size_t>(offset % from.block_bytes);
    const std::size_t length = block_length(stream, block);
    const std::size_t part = std::min(out.size(), length - skip);
    if (part == length) {
      MCOMPRESS_TRY(read_block(stream, block, out.first(length)));
    } else {
      whole.resize(length);
      MCOMPRESS_TRY(read_block(stream, block, whole));
      std::copy_n(whole.begin() + static_cast<std::ptrdiff_t>(skip), part, out.begin());
    }
    offset += part;
    out = out.subspan(part);
  }
  return ok_status();
}

std::vector<Archive::Piece> Archive::pieces_of(std::size_t file) const {
  std::vector<Piece> pieces;
  std::size_t residue = 0;
  std::uint64_t at = 0, taken = 0;
  const auto rest_until = [&](std::uint64_t end) {
    if (end > at) pieces.push_back({at, end - at, residue, taken});
    taken += end - at;
  };
  for (std::size_t i = 0; i < index_.streams.size(); ++i) {
    const ArchivedStream& stream = index_.streams[i];
    if (stream.file != file) continue;
    if (stream.residue) {
      residue = i;
      continue;
    }
    rest_until(stream.offset);
    pieces.push_back({stream.offset, stream.length, i, 0});
    at = stream.offset + stream.length;
  }
  rest_until(index_.files[file].size);
  return pieces;
}

// ------------------------------------------------------------------------------- writing

namespace {

constexpr std::uint64_t kStep = std::uint64_t{4} << 20;

Result<std::uint64_t> digest_of(const ArchiveWriter::SourceFn& source, std::uint64_t length) {
  Hasher hasher;
  std::vector<std::byte> scratch;
  for (std::uint64_t at = 0; at < length; at += kStep) {
    MCOMPRESS_ASSIGN(const std::span<const std::byte> part,
                     source(at, static_cast<std::size_t>(std::min(kStep, length - at)), scratch));
    hasher.bytes(part);
  }
  return hasher.digest();
}

Result<bool> same_bytes(const ArchiveWriter::SourceFn& one, const ArchiveWriter::SourceFn& other,
                        std::uint64_t length) {
  std::vector<std::byte> scratch, other_scratch;
  for (std::uint64_t at = 0; at < length; at += kStep) {
    const auto step = static_cast<std::size_t>(std::min(kStep, length - at));
    MCOMPRESS_ASSIGN(const std::span<const std::byte> a, one(at, step, scratch));
    MCOMPRESS_ASSIGN(const std::span<const std::byte> b, other(at, step, other_scratch));
    if (!std::equal(a.begin(), a.end(), b.begin(), b.end())) return false;
  }
  return true;
}

}  // namespace

ArchiveWriter::ArchiveWriter(OutputFile& out, const Executor& executor, CodingEffort effort)
    : out_(out), executor_(executor), effort_(effort) {
  Buffer header(kMagic.begin(), kMagic.end());
  put_le(header, kArchiveVersion, 2);
  put_le(header, 0, 6);
  const auto bytes = std::as_bytes(std::span(header));
  header_.assign(bytes.begin(), bytes.end());
}

Status ArchiveWriter::start() { return out_.position() == 0 ? out_.write(header_) : ok_status(); }

Status ArchiveWriter::add(ArchivedStream stream, const Elements& elements, const SourceFn& source,
                          Progress& progress) {
  MCOMPRESS_TRY(start());
  MCOMPRESS_ASSIGN(stream.digest, digest_of(source, stream.length));
  for (std::size_t i = 0; i < streams_.size() && stream.length > 0; ++i) {
    const ArchivedStream& other = streams_[i];
    if (other.copy_of != 0 || other.length != stream.length || other.digest != stream.digest) {
      continue;
    }
    MCOMPRESS_ASSIGN(const bool same, same_bytes(sources_[i], source, stream.length));
    if (!same) continue;
    stream.copy_of = static_cast<std::uint32_t>(i + 1);
    stream.block_bytes = 0;
    done_ += stream.length;
    streams_.push_back(std::move(stream));
    sources_.push_back(source);
    return ok_status();
  }
  stream.blocks.resize(block_count(stream));
  // A fixed number of blocks at a time: bytes do not depend on the threads.
  const auto batch = static_cast<std::size_t>(4 * executor_.threads());
  std::vector<std::vector<std::byte>> coded(std::min(batch, stream.blocks.size()));
  for (std::size_t first = 0; first < stream.blocks.size(); first += batch) {
    const std::size_t count = std::min(batch, stream.blocks.size() - first);
    MCOMPRESS_TRY(
        executor_.try_parallel_for(count, 1, [&](std::size_t begin, std::size_t end) -> Status {
          for (std::size_t i = begin; i < end; ++i) {
            const std::uint64_t offset = std::uint64_t{first + i} * stream.block_bytes;
            const auto length = static_cast<std::size_t>(
                std::min<std::uint64_t>(stream.block_bytes, stream.length - offset));
            std::vector<std::byte> scratch;
            MCOMPRESS_ASSIGN(const std::span<const std::byte> plain,
                             source(offset, length, scratch));
            coded[i] = encode_block(plain, elements, effort_);
            std::vector<std::byte> again(length);
            const Status decoded = decode_block(coded[i], again);
            if (!decoded.ok() || !std::equal(again.begin(), again.end(), plain.begin())) {
              return Error(Code::kInternal, "block-not-restored",
                           "a block does not decode to what was coded");
            }
          }
          return ok_status();
        }));
    for (std::size_t i = 0; i < count; ++i) {
      ArchivedBlock& block = stream.blocks[first + i];
      block.offset = out_.position();
      block.size = static_cast<std::uint32_t>(coded[i].size());
      block.check = check_of(coded[i]);
      MCOMPRESS_TRY(out_.write(coded[i]));
      done_ += std::min<std::uint64_t>(
          stream.block_bytes, stream.length - std::uint64_t{first + i} * stream.block_bytes);
    }
    progress.update("packing", done_, total_, "bytes");
    if (progress.cancelled()) return Error(Code::kCancelled, "cancelled", "packing was stopped");
  }
  streams_.push_back(std::move(stream));
  sources_.push_back(source);
  return ok_status();
}

Status ArchiveWriter::finish(ArchiveIndex index) {
  MCOMPRESS_TRY(start());
  index.streams = streams_;
  const Buffer plain = index_bytes(index);
  if (plain.size() > kMostBlockBytes) {
    return Error(Code::kUnsupported, "archive-index-too-large",
                 "the index would have " + std::to_string(plain.size()) +
                     " bytes, the format has " + std::to_string(kMostBlockBytes));
  }
  const std::vector<std::byte> coded =
      encode_block(std::as_bytes(std::span(plain)), {}, CodingEffort::kThorough);
  Buffer trailer;
  put_le(trailer, out_.position(), 8);
  put_le(trailer, coded.size(), 8);
  put_le(trailer, plain.size(), 8);
  const std::uint64_t check =
      Hasher().bytes(header_).bytes(coded).bytes(std::as_bytes(std::span(trailer))).digest();
  put_le(trailer, check, 8);
  MCOMPRESS_TRY(parse_index(std::as_bytes(std::span(plain)),
                            out_.position() + coded.size() + trailer.size()));
  MCOMPRESS_TRY(out_.write(coded));
  return out_.write(std::as_bytes(std::span(trailer)));
}

}  // namespace mcompress::codec
