#include "onnx/archive.h"

#include <algorithm>

#include "mcompress/archive.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

// A tensor of an archive. Its digest is that of the index, which a checksum covers.
class ArchivedStorage final : public Storage {
 public:
  ArchivedStorage(std::shared_ptr<const ArchiveBlocks> blocks, std::size_t stream)
      : blocks_(std::move(blocks)), stream_(stream) {}
  std::uint64_t size() const override { return index().length; }
  Result<Pinned> pin(std::uint64_t offset, std::uint64_t length) const override {
    return blocks_->pin(stream_, offset, length);
  }
  std::uint64_t digest() const override { return index().digest; }

 private:
  const codec::ArchivedStream& index() const { return blocks_->archive().index().streams[stream_]; }
  std::shared_ptr<const ArchiveBlocks> blocks_;
  std::size_t stream_;
};

}  // namespace

Result<Pinned> ArchiveBlocks::pin(std::size_t stream, std::uint64_t offset,
                                  std::uint64_t length) const {
  const codec::ArchivedStream& asked = archive_.index().streams[stream];
  if (offset > asked.length || length > asked.length - offset) {
    return Error(Code::kInput, "tensor-range",
                 "bytes " + std::to_string(offset) + "+" + std::to_string(length) +
                     " are outside a tensor of " + std::to_string(asked.length) + " bytes");
  }
  if (length == 0) return Pinned();
  const codec::ArchivedStream& owner =
      asked.copy_of == 0 ? asked : archive_.index().streams[asked.copy_of - 1];
  const std::uint64_t block = offset / owner.block_bytes;
  if ((offset + length - 1) / owner.block_bytes != block) {
    const auto bytes = std::make_shared<std::vector<std::byte>>(length);
    MCOMPRESS_TRY(archive_.read(stream, offset, *bytes));
    return Pinned(bytes, *bytes);
  }
  std::shared_ptr<const std::vector<std::byte>> bytes;
  {
    const std::lock_guard lock(mutex_);
    for (const Kept& kept : kept_) {
      if (kept.stream == stream && kept.block == block) bytes = kept.bytes;
    }
  }
  if (bytes == nullptr) {
    const auto index = static_cast<std::size_t>(block);
    auto decoded = std::make_shared<std::vector<std::byte>>(archive_.block_length(stream, index));
    MCOMPRESS_TRY(archive_.read_block(stream, index, *decoded));
    bytes = std::move(decoded);
    const std::lock_guard lock(mutex_);
    if (kept_.size() == kMostKept) kept_.erase(kept_.begin());
    kept_.push_back({stream, index, bytes});
  }
  const auto skip = static_cast<std::size_t>(offset - block * owner.block_bytes);
  return Pinned(bytes, std::span(*bytes).subspan(skip, static_cast<std::size_t>(length)));
}

Result<std::shared_ptr<const ArchivedFileView>> ArchivedFileView::make(
    std::shared_ptr<const ArchiveBlocks> blocks, std::size_t file, std::uint64_t threshold) {
  const std::shared_ptr<ArchivedFileView> view(new ArchivedFileView);
  view->blocks_ = std::move(blocks);
  const codec::Archive& archive = view->blocks_->archive();
  view->size_ = archive.index().files[file].size;
  view->pieces_ = archive.pieces_of(file);
  view->filled_.resize(view->pieces_.size());
  if (view->size_ > 0) {
    view->buffer_ = SparseBuffer::make(static_cast<std::size_t>(view->size_));
    if (view->buffer_ == nullptr) {
      return Error(Code::kInput, "archive-too-large",
                   "a file of " + std::to_string(view->size_) + " bytes finds no room in memory");
    }
  }
  for (std::size_t i = 0; i < view->pieces_.size(); ++i) {
    const codec::Archive::Piece& piece = view->pieces_[i];
    if (!archive.index().streams[piece.stream].residue && piece.length >= threshold) continue;
    MCOMPRESS_TRY(archive.read(piece.stream, piece.stream_offset,
                               view->buffer_->bytes().subspan(piece.offset, piece.length)));
    view->filled_[i] = true;
  }
  return std::shared_ptr<const ArchivedFileView>(view);
}

std::span<const std::byte> ArchivedFileView::bytes() const {
  return buffer_ == nullptr ? std::span<const std::byte>() : buffer_->bytes();
}

Result<StoragePtr> ArchivedFileView::slice(std::uint64_t offset, std::uint64_t length) const {
  const codec::Archive& archive = blocks_->archive();
  auto at = std::upper_bound(
      pieces_.begin(), pieces_.end(), offset,
      [](std::uint64_t place, const codec::Archive::Piece& piece) { return place < piece.offset; });
  if (at != pieces_.begin()) --at;
  for (; at != pieces_.end() && at->offset < offset + length; ++at) {
    const auto number = static_cast<std::size_t>(at - pieces_.begin());
    if (filled_[number]) continue;
    if (at->offset == offset && at->length == length) {
      return StoragePtr(std::make_shared<ArchivedStorage>(blocks_, at->stream));
    }
    MCOMPRESS_TRY(archive.read(at->stream, at->stream_offset,
                               buffer_->bytes().subspan(at->offset, at->length)));
    filled_[number] = true;
  }
  return make_storage(buffer_, bytes().subspan(offset, length));
}

Result<std::shared_ptr<const ArchivedModel>> ArchivedModel::open(MappedFilePtr file) {
  MCOMPRESS_ASSIGN(codec::Archive archive, codec::Archive::open(file->bytes()));
  auto model = std::make_shared<ArchivedModel>();
  model->blocks_ = std::make_shared<const ArchiveBlocks>(std::move(file), std::move(archive));
  return std::shared_ptr<const ArchivedModel>(std::move(model));
}

Result<std::shared_ptr<const ArchivedFileView>> ArchivedModel::model_file(
    std::uint64_t threshold) const {
  if (files() == 0) {
    return Error(
        Code::kUnsupported, "archive-of-weights",
        "the archive holds " + std::to_string(index().tensors.size()) + " weights and no graph", {},
        "pack the model without --only-weights, or read it with archive_c.h");
  }
  return ArchivedFileView::make(blocks_, 0, threshold);
}

Result<std::shared_ptr<const ArchivedFileView>> ArchivedModel::data_file(
    const std::string& location) const {
  for (std::size_t i = 1; i < files(); ++i) {
    if (index().files[i].name == location) return ArchivedFileView::make(blocks_, i, 0);
  }
  return Error(Code::kInput, "external-data-missing",
               "the archive has no data file '" + location + "', which the model names", {},
               "the archive is damaged or was not written by mcompress");
}

SavedModel ArchivedModel::unpacked_size() const {
  SavedModel size;
  for (std::size_t i = 0; i < files(); ++i) {
    (i == 0 ? size.model_bytes : size.data_bytes) += index().files[i].size;
  }
  return size;
}

Status ArchivedModel::unpack(const std::filesystem::path& path, AtomicOutput& output,
                             WriteMeter& meter) const {
  const codec::Archive& archive = blocks_->archive();
  const Executor executor(0);
  std::vector<std::byte> buffer;
  // Data files first: a model file is there only when all that it names is.
  for (std::size_t i = files(); i-- > 0;) {
    const codec::ArchivedFile& wanted = index().files[i];
    std::string target = path.string();
    if (i > 0) {
      MCOMPRESS_ASSIGN(target, join_contained(folder_of(path.string()), wanted.name));
      MCOMPRESS_TRY(output.add_folder(folder_of(target)));
    }
    MCOMPRESS_ASSIGN(OutputFile * file, output.add(target));
    Hasher hasher;
    for (const codec::Archive::Piece& piece : archive.pieces_of(i)) {
      // Some blocks at a time, each by a thread of its own; they begin where the stream's do.
      const std::uint64_t block = archive.owner(piece.stream).block_bytes;
      constexpr std::uint64_t kStep = std::uint64_t{16} << 20;
      const std::uint64_t blocks = std::max<std::uint64_t>(1, kStep / block);
      for (std::uint64_t at = 0; at < piece.length;) {
        const std::uint64_t from = piece.stream_offset + at, first = from / block;
        const std::uint64_t end =
            std::min(piece.stream_offset + piece.length, (first + blocks) * block);
        buffer.resize(static_cast<std::size_t>(end - from));
        const auto count = static_cast<std::size_t>((end + block - 1) / block - first);
        MCOMPRESS_TRY(executor.try_parallel_for(count, 1, [&](std::size_t begin, std::size_t) {
          const std::uint64_t low = std::max(from, (first + begin) * block);
          const std::uint64_t high = std::min(end, (first + begin + 1) * block);
          return archive.read(piece.stream, low,
                              std::span(buffer).subspan(static_cast<std::size_t>(low - from),
                                                        static_cast<std::size_t>(high - low)));
        }));
        at += buffer.size();
        hasher.bytes(buffer);
        MCOMPRESS_TRY(file->write(buffer));
        MCOMPRESS_TRY(meter.advance(buffer.size()));
      }
    }
    if (hasher.digest() != wanted.digest) {
      return Error(Code::kInput, "archive-damaged",
                   "file '" + wanted.name + "' of the archive does not have its digest");
    }
    MCOMPRESS_TRY(file->finish());
  }
  return ok_status();
}

Result<bool> is_archive(const std::filesystem::path& path) {
  MCOMPRESS_ASSIGN(const MappedFilePtr file, map_file(real_files(), path.string()));
  return ArchivedModel::is_one(file->bytes());
}

namespace {

enum class Ending : std::uint8_t { kCommit, kDrop };

Result<SavedModel> unpack_files(const std::filesystem::path& archive,
                                const std::filesystem::path& model, Progress& progress,
                                Ending ending) {
  const auto run = [&]() -> Result<SavedModel> {
    MCOMPRESS_ASSIGN(MappedFilePtr file, map_file(real_files(), archive.string()));
    MCOMPRESS_ASSIGN(const auto packed, ArchivedModel::open(std::move(file)));
    MCOMPRESS_TRY(packed->model_file(0));
    AtomicOutput output(real_files());
    WriteMeter meter(progress, packed->unpacked_size().total());
    MCOMPRESS_TRY(packed->unpack(model, output, meter));
    if (ending == Ending::kCommit) MCOMPRESS_TRY(output.commit());
    return packed->unpacked_size();
  };
  auto result = run();
  if (!result.ok()) return std::move(result).error().in_file(archive.string());
  return result;
}

}  // namespace

Result<SavedModel> unpack_archive(const std::filesystem::path& archive,
                                  const std::filesystem::path& model, Progress& progress) {
  return unpack_files(archive, model, progress, Ending::kCommit);
}

Result<SavedModel> check_archive(const std::filesystem::path& archive,
                                 const std::filesystem::path& model, Progress& progress) {
  return unpack_files(archive, model, progress, Ending::kDrop);
}

PackedTensor described(const codec::ArchivedTensor& tensor, const codec::ArchivedStream& stream) {
  PackedTensor entry{tensor.name, stream.length, 0};
  for (const codec::ArchivedBlock& block : stream.blocks) entry.coded += block.size;
  return entry;
}

Result<PackedModel> describe_archive(const std::filesystem::path& archive) {
  MCOMPRESS_ASSIGN(MappedFilePtr file, map_file(real_files(), archive.string()));
  PackedModel described;
  described.archive = file->bytes().size();
  auto packed = ArchivedModel::open(std::move(file));
  if (!packed.ok()) return std::move(packed).error().in_file(archive.string());
  const codec::ArchiveIndex& index = (*packed)->index();
  described.bytes = (*packed)->unpacked_size().total();
  for (const codec::ArchivedTensor& tensor : index.tensors) {
    PackedTensor entry = mcompress::described(tensor, index.streams[tensor.stream]);
    if (index.files.empty()) described.bytes += entry.bytes;
    described.tensors.push_back(std::move(entry));
  }
  return described;
}

}  // namespace mcompress
