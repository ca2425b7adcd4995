#include "onnx/loadable.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "mcompress/dtype.h"
#include "mcompress/tensor.h"
#include "onnx/wire_fields.h"
#include "support/hash.h"
#include "support/sparse_buffer.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Pieces = std::vector<codec::Archive::Piece>;

// Smaller tensors stay in the model: what they hold is often a shape that a runtime wants to see.
constexpr std::uint64_t kHandedOver = 1024;
constexpr int kMaxGraphDepth = 64;
constexpr std::uint64_t kMaxModelBytes = 0x7fffffff;  // of one protobuf message
constexpr std::string_view kNowhere = "mcompress-memory";
// Fields of TensorProto and StringStringEntryProto (onnx.proto).
enum : std::uint32_t {
  kDims = 1,
  kDataType = 2,
  kSegment = 3,
  kName = 8,
  kRawData = 9,
  kExternalData = 13,
  kDataLocation = 14,
  kEntryKey = 1,
  kEntryValue = 2,
};

Error damaged(std::string_view id, std::string message, std::string_view tensor = {}) {
  return Error(Code::kInput, id, std::move(message), {{}, {}, std::string(tensor)},
               "the archive is damaged or was not written by mcompress");
}

// Bytes that type and dimensions need; empty for texts and types that nobody here knows.
Result<std::optional<std::uint64_t>> needed_bytes(std::int32_t dtype,
                                                  const std::vector<std::int64_t>& dims,
                                                  std::string_view name) {
  const DTypeInfo* info = find_dtype(static_cast<DataType>(dtype));
  if (info == nullptr || info->bits == 0) return std::optional<std::uint64_t>();
  const auto elements = element_count(dims);
  const auto bytes = elements ? packed_bytes(static_cast<DataType>(dtype), *elements)
                              : std::optional<std::uint64_t>();
  if (!bytes) return damaged("tensor-dims", "dimensions are negative or too large", name);
  return bytes;
}

Status check_size(const LoadableTensor& tensor, std::uint64_t stored) {
  if (tensor.bytes == stored) return ok_status();
  return damaged("tensor-size",
                 "type and dimensions need " + std::to_string(tensor.bytes) + " bytes, but " +
                     std::to_string(stored) + " are stored",
                 tensor.name);
}

Error too_large(std::uint64_t bytes) {
  return Error(Code::kUnsupported, "message-too-large",
               "the model without its weights has " + std::to_string(bytes) + " bytes; at most " +
                   std::to_string(kMaxModelBytes) + " are possible");
}

// A range of a file of the archive, piece by piece.
template <class ReadPiece>
Status for_each_piece(const Pieces& pieces, std::uint64_t offset, std::uint64_t length,
                      ReadPiece&& visit) {
  auto at = std::upper_bound(
      pieces.begin(), pieces.end(), offset,
      [](std::uint64_t place, const codec::Archive::Piece& piece) { return place < piece.offset; });
  if (at != pieces.begin()) --at;
  for (const std::uint64_t end = offset + length; at != pieces.end() && at->offset < end; ++at) {
    const std::uint64_t from = std::max(offset, at->offset);
    const std::uint64_t until = std::min(end, at->offset + at->length);
    if (from < until) MCOMPRESS_TRY(visit(*at, from, until - from));
  }
  return ok_status();
}

// A file of an archive with what is no large tensor in place, decoded once.
class PartlyDecoded {
 public:
  static Result<PartlyDecoded> make(const codec::Archive& archive, const Pieces& pieces,
                                    std::uint64_t size) {
    PartlyDecoded file(archive, pieces);
    if (size == 0) return file;
    file.buffer_ = SparseBuffer::make(static_cast<std::size_t>(size));
    if (file.buffer_ == nullptr) {
      return damaged("archive-too-large",
                     "a file of " + std::to_string(size) + " bytes finds no room in memory");
    }
    for (const codec::Archive::Piece& piece : pieces) {
      if (!file.in_place(piece)) continue;
      MCOMPRESS_TRY(archive.read(piece.stream, piece.stream_offset,
                                 file.buffer_->bytes().subspan(piece.offset, piece.length)));
    }
    return file;
  }
  std::string_view text() const {
    if (buffer_ == nullptr) return {};
    return {reinterpret_cast<const char*>(buffer_->bytes().data()), buffer_->bytes().size()};
  }
  // A range inside the file, tensors included.
  Status read(std::uint64_t offset, std::span<std::byte> out) const {
    return for_each_piece(*pieces_, offset, out.size(),
                          [&](const codec::Archive::Piece& piece, std::uint64_t from,
                              std::uint64_t length) -> Status {
                            const auto place = out.subspan(from - offset, length);
                            if (in_place(piece)) {
                              std::memcpy(place.data(), buffer_->bytes().data() + from, length);
                              return ok_status();
                            }
                            return archive_->read(
                                piece.stream, piece.stream_offset + (from - piece.offset), place);
                          });
  }

 private:
  PartlyDecoded(const codec::Archive& archive, const Pieces& pieces)
      : archive_(&archive), pieces_(&pieces) {}
  bool in_place(const codec::Archive::Piece& piece) const {
    return archive_->index().streams[piece.stream].residue || piece.length < kHandedOver;
  }
  const codec::Archive* archive_;
  const Pieces* pieces_;
  std::shared_ptr<SparseBuffer> buffer_;  // null: an empty file
};

// Writes the model anew: large initializers of the main graph leave it, other tensors that stood
// in data files come in. What has no such tensor inside is copied as it stands.
class Rewriting {
 public:
  Rewriting(const codec::Archive& archive, const std::vector<Pieces>& pieces)
      : archive_(archive), pieces_(pieces) {
    for (std::size_t i = 1; i < archive.index().files.size(); ++i) {
      data_files_.emplace(archive.index().files[i].name, i);
    }
  }

  Result<std::string> run() {
    MCOMPRESS_TRY(decoded(0));
    message_ = files_.at(0).text();
    MCOMPRESS_ASSIGN(const Part part, message(wire::Kind::kModel, 0, message_.size(), 0, false));
    if (part.size > kMaxModelBytes) return too_large(part.size);
    std::string model(part.size, '\0');
    const auto out = std::as_writable_bytes(std::span(model));
    std::uint64_t at = 0;
    for (const Run& run : part.runs) {
      const auto place = out.subspan(at, run.length);
      at += run.length;
      if (run.file == codec::kNoFile) {
        std::memcpy(place.data(), own_.data() + run.offset, run.length);
      } else {
        MCOMPRESS_TRY(decoded(run.file));
        MCOMPRESS_TRY(files_.at(run.file).read(run.offset, place));
      }
    }
    return model;
  }

  std::vector<LoadableTensor> take_tensors() { return std::move(tensors_); }

 private:
  // Bytes of a file of the archive, or of `own_`.
  struct Run {
    std::uint32_t file = codec::kNoFile;
    std::uint64_t offset = 0, length = 0;
  };
  struct Part {
    std::vector<Run> runs;
    std::uint64_t size = 0;
    bool changed = false;

    void add(std::uint32_t file, std::uint64_t offset, std::uint64_t length) {
      if (length == 0) return;
      size += length;
      if (!runs.empty() && runs.back().file == file &&
          runs.back().offset + runs.back().length == offset) {
        runs.back().length += length;
      } else {
        runs.push_back({file, offset, length});
      }
    }
    void add(const Part& inner) {
      for (const Run& run : inner.runs) add(run.file, run.offset, run.length);
    }
  };

  Status decoded(std::uint32_t file) {
    if (files_.contains(file)) return ok_status();
    MCOMPRESS_ASSIGN(PartlyDecoded made, PartlyDecoded::make(archive_, pieces_[file],
                                                             archive_.index().files[file].size));
    files_.emplace(file, std::move(made));
    return ok_status();
  }

  void add_own(Part& part, std::string_view text) {
    part.add(codec::kNoFile, own_.size(), text.size());
    own_ += text;
  }
  void add_header(Part& part, std::uint32_t field, std::uint64_t length) {
    std::string text;
    wire::append_varint(text, wire::delimited_tag(field));
    wire::append_varint(text, length);
    add_own(part, text);
  }

  // `main`: the message is the main graph.
  Result<Part> message(wire::Kind kind, std::uint64_t at, std::uint64_t end, int graphs,
                       bool main) {
    if (kind == wire::Kind::kGraph && ++graphs > kMaxGraphDepth) {
      return damaged("graph-nesting",
                     "graphs are nested more than " + std::to_string(kMaxGraphDepth) + " deep");
    }
    Part part;
    std::uint64_t copied = at;
    while (at < end) {
      MCOMPRESS_ASSIGN(const wire::Field field, wire::read_field(message_, at, end));
      at = field.end;
      const wire::Kind child =
          field.delimited ? wire::child_kind(kind, field.number) : wire::Kind::kOther;
      if (child == wire::Kind::kOther) continue;
      Part inner;
      if (child == wire::Kind::kTensor) {
        MCOMPRESS_ASSIGN(inner, tensor(field.body, field.end, main));
      } else {
        const bool top = kind == wire::Kind::kModel && child == wire::Kind::kGraph;
        MCOMPRESS_ASSIGN(inner, message(child, field.body, field.end, graphs, top));
      }
      if (!inner.changed) continue;
      part.changed = true;
      part.add(0, copied, field.start - copied);
      copied = field.end;
      add_header(part, field.number, inner.size);
      part.add(inner);
    }
    part.add(0, copied, end - copied);
    return part;
  }

  struct Source {
    std::uint32_t file = 0;
    std::uint64_t offset = 0, length = 0;
    bool found = false;
  };
  struct TensorFields {
    LoadableTensor tensor;
    Source raw;
    std::vector<std::pair<std::string_view, std::string_view>> external;
    bool is_external = false, segment = false;
  };

  std::string_view body(const wire::Field& field) const {
    return message_.substr(field.body, field.end - field.body);
  }

  Result<TensorFields> tensor_fields(std::uint64_t at, std::uint64_t end) const {
    TensorFields fields;
    while (at < end) {
      MCOMPRESS_ASSIGN(const wire::Field field, wire::read_field(message_, at, end));
      at = field.end;
      if (field.numeric && field.number == kDims) {
        fields.tensor.dims.push_back(static_cast<std::int64_t>(field.value));
      } else if (field.delimited && field.number == kDims) {
        for (std::uint64_t place = field.body; place < field.end;) {
          MCOMPRESS_ASSIGN(const std::uint64_t size, wire::read_varint(message_, place, field.end));
          fields.tensor.dims.push_back(static_cast<std::int64_t>(size));
        }
      } else if (field.numeric && field.number == kDataType) {
        fields.tensor.dtype = static_cast<std::int32_t>(field.value);
      } else if (field.numeric && field.number == kDataLocation) {
        fields.is_external = field.value == 1;
      } else if (field.delimited && field.number == kName) {
        fields.tensor.name = body(field);
      } else if (field.delimited && field.number == kRawData) {
        fields.raw = {0, field.body, field.end - field.body, true};
      } else if (field.delimited && field.number == kSegment) {
        fields.segment = true;
      } else if (field.delimited && field.number == kExternalData) {
        auto& [key, value] = fields.external.emplace_back();
        for (std::uint64_t place = field.body; place < field.end;) {
          MCOMPRESS_ASSIGN(const wire::Field part, wire::read_field(message_, place, field.end));
          place = part.end;
          if (part.delimited && part.number == kEntryKey) key = body(part);
          if (part.delimited && part.number == kEntryValue) value = body(part);
        }
      }
    }
    return fields;
  }

  // Where the data of an external tensor stand in the archive.
  Result<Source> source_of(const TensorFields& fields,
                           const std::optional<std::uint64_t>& needed) const {
    std::string_view location;
    std::uint64_t offset = 0;
    std::optional<std::uint64_t> length;
    for (const auto& [key, value] : fields.external) {
      if (key == "location") location = value;
      if (key != "offset" && key != "length") continue;
      std::uint64_t number = 0;
      const char* end = value.data() + value.size();
      const auto [stop, error] = std::from_chars(value.data(), end, number);
      if (error != std::errc() || stop != end) {
        return damaged("external-data-range", "a place is not a number of bytes",
                       fields.tensor.name);
      }
      (key == "offset" ? offset : length.emplace()) = number;
    }
    const auto file = data_files_.find(location);
    if (file == data_files_.end()) {
      return damaged(
          "external-data-missing",
          "the archive has no data file '" + std::string(location) + "', which the model names",
          fields.tensor.name);
    }
    const std::uint64_t size = archive_.index().files[file->second].size;
    if (offset > size || (length && *length > size - offset)) {
      return damaged("external-data-range",
                     "data are outside of '" + std::string(location) + "', which has " +
                         std::to_string(size) + " bytes",
                     fields.tensor.name);
    }
    if (!length) length = needed ? std::min(*needed, size - offset) : size - offset;
    return Source{static_cast<std::uint32_t>(file->second), offset, *length, true};
  }

  Result<Part> tensor(std::uint64_t at, std::uint64_t end, bool main) {
    MCOMPRESS_ASSIGN(TensorFields fields, tensor_fields(at, end));
    LoadableTensor& tensor = fields.tensor;
    Part part;
    if (!fields.is_external && (!main || !fields.raw.found)) return part;
    MCOMPRESS_ASSIGN(const auto needed, needed_bytes(tensor.dtype, tensor.dims, tensor.name));
    Source source = fields.raw;
    if (fields.is_external) {
      MCOMPRESS_ASSIGN(source, source_of(fields, needed));
    }
    // A runtime knows weights by their names and tells a name from text that a NUL cuts short.
    const bool named = !tensor.name.empty() && tensor.name.find('\0') == std::string::npos;
    const bool hand_over = main && named && needed && !fields.segment &&
                           source.length >= kHandedOver && names_.insert(tensor.name).second;
    if (!hand_over && !fields.is_external) return part;
    part.changed = true;
    for (std::uint64_t place = at; place < end;) {
      MCOMPRESS_ASSIGN(const wire::Field field, wire::read_field(message_, place, end));
      place = field.end;
      if (field.number == kRawData || field.number == kExternalData ||
          field.number == kDataLocation) {
        continue;
      }
      part.add(0, field.start, field.end - field.start);
    }
    if (!hand_over) {
      // Counted on the way: many names for the same data could add up to any number.
      inlined_ += source.length;
      if (source.length > kMaxModelBytes || inlined_ > kMaxModelBytes) return too_large(inlined_);
      add_header(part, kRawData, source.length);
      part.add(source.file, source.offset, source.length);
      return part;
    }
    tensor.bytes = *needed;
    MCOMPRESS_TRY(check_size(tensor, source.length));
    tensor.file = source.file;
    tensor.offset = source.offset;
    add_entry(part, "location", kNowhere);
    add_entry(part, "offset", "0");
    add_entry(part, "length", std::to_string(source.length));
    std::string external;
    wire::append_varint(external, kDataLocation << 3);
    wire::append_varint(external, 1);
    add_own(part, external);
    tensors_.push_back(std::move(tensor));
    return part;
  }

  void add_entry(Part& part, std::string_view key, std::string_view value) {
    std::string entry;
    wire::append_varint(entry, wire::delimited_tag(kEntryKey));
    wire::append_varint(entry, key.size());
    entry += key;
    wire::append_varint(entry, wire::delimited_tag(kEntryValue));
    wire::append_varint(entry, value.size());
    entry += value;
    add_header(part, kExternalData, entry.size());
    add_own(part, entry);
  }

  const codec::Archive& archive_;
  const std::vector<Pieces>& pieces_;
  std::map<std::string, std::size_t, std::less<>> data_files_;
  std::map<std::uint32_t, PartlyDecoded> files_;
  std::string_view message_;  // the model file, large tensors are holes of zeros
  std::string own_;
  std::vector<LoadableTensor> tensors_;
  std::set<std::string> names_;  // of what was handed over
  std::uint64_t inlined_ = 0;
};

}  // namespace

Result<LoadableArchive> LoadableArchive::open(std::span<const std::byte> bytes) {
  MCOMPRESS_ASSIGN(codec::Archive opened, codec::Archive::open(bytes));
  LoadableArchive archive(std::move(opened));
  const std::size_t files = archive.archive_.index().files.size();
  for (std::size_t i = 0; i < files; ++i) archive.pieces_.push_back(archive.archive_.pieces_of(i));
  if (files == 0) {
    MCOMPRESS_TRY(archive.list_weights());
  } else {
    Rewriting rewriting(archive.archive_, archive.pieces_);
    MCOMPRESS_ASSIGN(archive.model_, rewriting.run());
    archive.tensors_ = rewriting.take_tensors();
  }
  for (std::size_t i = 0; i < archive.tensors_.size(); ++i) {
    archive.by_name_.emplace(archive.tensors_[i].name, i);
  }
  return archive;
}

Status LoadableArchive::list_weights() {
  for (const codec::ArchivedTensor& entry : archive_.index().tensors) {
    LoadableTensor tensor;
    tensor.name = entry.name;
    tensor.dtype = entry.dtype;
    tensor.dims = entry.dims;
    tensor.stream = entry.stream;
    const std::uint64_t stored = archive_.index().streams[entry.stream].length;
    MCOMPRESS_ASSIGN(const auto needed, needed_bytes(entry.dtype, entry.dims, entry.name));
    tensor.bytes = needed.value_or(stored);
    MCOMPRESS_TRY(check_size(tensor, stored));
    tensors_.push_back(std::move(tensor));
  }
  return ok_status();
}

std::optional<std::size_t> LoadableArchive::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return std::nullopt;
  return found->second;
}

Status LoadableArchive::read(std::size_t tensor, std::span<std::byte> out) const {
  const LoadableTensor& wanted = tensors_[tensor];
  const auto whole_stream = [&](std::size_t stream) -> Status {
    MCOMPRESS_TRY(archive_.read(stream, 0, out));
    if (digest_bytes(out) == archive_.index().streams[stream].digest) return ok_status();
    return damaged("archive-damaged", "the weight does not have its digest", wanted.name);
  };
  if (wanted.file == codec::kNoFile) return whole_stream(wanted.stream);
  return for_each_piece(
      pieces_[wanted.file], wanted.offset, out.size(),
      [&](const codec::Archive::Piece& piece, std::uint64_t from, std::uint64_t length) -> Status {
        const codec::ArchivedStream& stream = archive_.index().streams[piece.stream];
        if (!stream.residue && length == out.size() && length == stream.length) {
          return whole_stream(piece.stream);
        }
        return archive_.read(piece.stream, piece.stream_offset + (from - piece.offset),
                             out.subspan(from - wanted.offset, length));
      });
}

}  // namespace mcompress
