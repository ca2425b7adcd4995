#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "codec/container.h"
#include "mcompress/archive.h"
#include "onnx/archive.h"
#include "onnx/proto.h"
#include "onnx/wire.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Smaller tensors are coded with what surrounds them: a block of their own would cost more.
constexpr std::uint64_t kStreamThreshold = 1024;
// Planes of 256 KiB: tables cost little, and what is in work fits a cache of the second level.
constexpr std::uint32_t kBlockElements = 1 << 18;
constexpr std::uint32_t kResidueBlock = 8 << 20;

Elements elements_of(DataType dtype) {
  const auto sized = [](std::uint8_t width, bool floating) {
    return Elements{width, floating, false};
  };
  switch (dtype) {
    case DataType::kFloat:
      return sized(4, true);
    case DataType::kDouble:
      return sized(8, true);
    case DataType::kFloat16:
    case DataType::kBfloat16:
      return sized(2, true);
    case DataType::kInt64:
    case DataType::kUint64:
      return sized(8, false);
    case DataType::kInt32:
    case DataType::kUint32:
      return sized(4, false);
    case DataType::kInt16:
    case DataType::kUint16:
      return sized(2, false);
    case DataType::kInt4:
    case DataType::kUint4:
      return {1, false, true};
    default:
      return {};
  }
}

// Where weights differ from channel to channel, tables of small blocks pay for themselves: tried on
// the beginning of the tensor.
std::uint32_t block_bytes_for(std::span<const std::byte> bytes, const Elements& elements) {
  constexpr std::size_t kPlaceBytes = 7;  // of a block in the index
  std::size_t least = std::numeric_limits<std::size_t>::max();
  std::uint32_t best = kBlockElements;
  const std::size_t sample = std::min<std::size_t>(bytes.size(), kBlockElements * elements.width);
  for (const std::uint32_t count : {kBlockElements, kBlockElements / 8, kBlockElements / 64}) {
    const std::size_t step = std::size_t{count} * elements.width;
    std::size_t total = 0;
    for (std::size_t at = 0; at < sample; at += step) {
      const auto block = bytes.subspan(at, std::min(step, sample - at));
      total += encode_block(block, elements, CodingEffort::kFast).size() + kPlaceBytes;
    }
    if (total < least) {
      least = total;
      best = count;
    }
  }
  // Of a large tensor still enough for many threads; tables count a quarter.
  constexpr std::size_t kLarge = 16 * kBlockElements, kFold = 4;
  if (best == kBlockElements && bytes.size() / elements.width >= kLarge) best *= kFold;
  return best * elements.width;
}

struct Range {
  std::uint64_t offset = 0, length = 0;
  DataType dtype = DataType::kUndefined;
};

// A file of the model, and the tensors that stand in it.
struct Member {
  const MappedFile* file = nullptr;
  std::string name;
  std::vector<Range> ranges;
  std::vector<std::uint32_t> streams;  // of the ranges, once added
};

struct Found {
  codec::ArchivedTensor tensor;
  std::size_t member = 0;
  std::uint64_t offset = 0, length = 0;
};

// Tensors by where they stand. Payloads of a loaded model are ranges of its files.
Result<std::vector<Found>> find_tensors(const ParsedModel& parsed, std::vector<Member>& members) {
  std::map<int, std::size_t> by_descriptor;
  for (std::size_t i = 0; i < members.size(); ++i) {
    by_descriptor.emplace(members[i].file->descriptor(), i);
  }
  onnx::ModelProto proto = parsed.proto;
  std::set<std::string_view> main;
  for (const onnx::TensorProto& tensor : parsed.proto.graph().initializer()) {
    main.insert(tensor.name());
  }
  std::vector<Found> found;
  MCOMPRESS_TRY(for_each_tensor(proto, [&](onnx::TensorProto& tensor, TensorPlace place) -> Status {
    const auto payload = wire::placeholder_payload(tensor.raw_data());
    if (!payload) return ok_status();
    const Storage& storage = *parsed.payloads.storages.at(*payload);
    const auto range = storage.file_range();
    if (!range || storage.size() < kStreamThreshold) return ok_status();
    const auto member = by_descriptor.find(range->descriptor);
    if (member == by_descriptor.end()) return ok_status();
    Found entry;
    entry.tensor.name = tensor.name();
    entry.tensor.dtype = tensor.data_type();
    entry.tensor.dims.assign(tensor.dims().begin(), tensor.dims().end());
    entry.tensor.initializer = place == TensorPlace::kInitializer && main.contains(tensor.name());
    entry.member = member->second;
    entry.offset = range->offset;
    entry.length = storage.size();
    members[entry.member].ranges.push_back(
        {entry.offset, entry.length, static_cast<DataType>(tensor.data_type())});
    found.push_back(std::move(entry));
    return ok_status();
  }));
  for (Member& member : members) {
    // Ranges that several tensors share are one; of ranges that overlap the first one counts.
    std::stable_sort(member.ranges.begin(), member.ranges.end(),
                     [](const Range& a, const Range& b) {
                       return a.offset != b.offset ? a.offset < b.offset : a.length < b.length;
                     });
    std::vector<Range> apart;
    for (const Range& range : member.ranges) {
      if (apart.empty() || range.offset >= apart.back().offset + apart.back().length) {
        apart.push_back(range);
      }
    }
    member.ranges = std::move(apart);
  }
  return found;
}

class Packing {
 public:
  Packing(OutputFile& out, const Executor& executor, CodingEffort effort, Progress& progress)
      : writer_(out, executor, effort), progress_(progress) {}

  Status add_member(Member& member, std::uint32_t number) {
    const std::span<const std::byte> bytes = member.file->bytes();
    std::vector<std::pair<std::uint64_t, std::uint64_t>> gaps;  // offset in the file, length
    std::uint64_t at = 0, rest = 0;
    const auto gap_until = [&](std::uint64_t end) {
      if (end > at) gaps.emplace_back(at, end - at);
      rest += end - at;
    };
    for (const Range& range : member.ranges) {
      gap_until(range.offset);
      at = range.offset + range.length;
    }
    gap_until(bytes.size());
    if (rest > 0) {
      codec::ArchivedStream residue;
      residue.file = number;
      residue.residue = true;
      residue.length = rest;
      residue.block_bytes = kResidueBlock;
      const auto source =
          [gaps, bytes](std::uint64_t offset, std::size_t length,
                        std::vector<std::byte>& scratch) -> Result<std::span<const std::byte>> {
        scratch.clear();
        for (const auto& [start, size] : gaps) {
          if (offset >= size) {
            offset -= size;
            continue;
          }
          const auto part = static_cast<std::size_t>(
              std::min<std::uint64_t>(size - offset, length - scratch.size()));
          const auto piece = bytes.subspan(start + offset, part);
          scratch.insert(scratch.end(), piece.begin(), piece.end());
          offset = 0;
          if (scratch.size() == length) break;
        }
        return std::span<const std::byte>(scratch);
      };
      MCOMPRESS_TRY(writer_.add(std::move(residue), {}, source, progress_));
    }
    for (const Range& range : member.ranges) {
      const Elements elements = elements_of(range.dtype);
      codec::ArchivedStream stream;
      stream.file = number;
      stream.offset = range.offset;
      stream.length = range.length;
      stream.block_bytes = block_bytes_for(bytes.subspan(range.offset, range.length), elements);
      member.streams.push_back(static_cast<std::uint32_t>(writer_.streams()));
      MCOMPRESS_TRY(writer_.add(
          std::move(stream), elements,
          [bytes, start = range.offset](
              std::uint64_t offset, std::size_t length,
              std::vector<std::byte>&) -> Result<std::span<const std::byte>> {
            return bytes.subspan(start + offset, length);
          },
          progress_));
      member.file->release(range.offset, range.length);
    }
    return ok_status();
  }

  Result<std::uint32_t> add_weight(const Tensor& tensor) {
    const Elements elements = elements_of(tensor.dtype());
    codec::ArchivedStream stream;
    stream.length = tensor.byte_size();
    {
      const std::uint64_t sample =
          std::min<std::uint64_t>(stream.length, std::uint64_t{kBlockElements} * elements.width);
      MCOMPRESS_ASSIGN(const Pinned pinned, tensor.storage()->pin(0, sample));
      stream.block_bytes = block_bytes_for(pinned.bytes(), elements);
    }
    const auto number = static_cast<std::uint32_t>(writer_.streams());
    MCOMPRESS_TRY(writer_.add(
        std::move(stream), elements,
        [&tensor](std::uint64_t offset, std::size_t length,
                  std::vector<std::byte>& scratch) -> Result<std::span<const std::byte>> {
          MCOMPRESS_ASSIGN(const Pinned pinned, tensor.storage()->pin(offset, length));
          scratch.assign(pinned.bytes().begin(), pinned.bytes().end());
          return std::span<const std::byte>(scratch);
        },
        progress_));
    return number;
  }

  codec::ArchiveWriter& writer() { return writer_; }

 private:
  codec::ArchiveWriter writer_;
  Progress& progress_;
};

Result<codec::ArchiveIndex> pack_files(const ParsedModel& parsed, Packing& packing) {
  std::vector<Member> members;
  members.push_back({parsed.file.get(), file_name_of(parsed.file->path()), {}, {}});
  for (const DataFile& data : parsed.data_files) {
    members.push_back({data.file.get(), data.location, {}, {}});
  }
  MCOMPRESS_ASSIGN(std::vector<Found> found, find_tensors(parsed, members));
  codec::ArchiveIndex index;
  std::uint64_t total = 0;
  for (const Member& member : members) total += member.file->bytes().size();
  packing.writer().expect(total);
  for (std::size_t i = 0; i < members.size(); ++i) {
    MCOMPRESS_TRY(packing.add_member(members[i], static_cast<std::uint32_t>(i)));
    const std::span<const std::byte> bytes = members[i].file->bytes();
    index.files.push_back({members[i].name, bytes.size(), digest_bytes(bytes)});
  }
  for (Found& entry : found) {
    const Member& member = members[entry.member];
    for (std::size_t i = 0; i < member.ranges.size(); ++i) {
      if (member.ranges[i].offset != entry.offset || member.ranges[i].length != entry.length) {
        continue;
      }
      entry.tensor.stream = member.streams[i];
      index.tensors.push_back(std::move(entry.tensor));
      break;
    }
  }
  return index;
}

Result<codec::ArchiveIndex> pack_weights(const Model& model, Packing& packing) {
  codec::ArchiveIndex index;
  std::uint64_t total = 0;
  for (const Value* value : model.graph().initializers())
    total += value->initializer()->byte_size();
  packing.writer().expect(total);
  for (const Value* value : model.graph().initializers()) {
    const Tensor& tensor = *value->initializer();
    if (tensor.is_opaque() || tensor.byte_size() == 0) continue;
    codec::ArchivedTensor entry;
    entry.name = value->name();
    entry.dtype = static_cast<std::int32_t>(tensor.dtype());
    entry.dims.assign(tensor.dims().begin(), tensor.dims().end());
    entry.initializer = true;
    MCOMPRESS_ASSIGN(entry.stream, packing.add_weight(tensor));
    index.tensors.push_back(std::move(entry));
  }
  return index;
}

}  // namespace

Result<PackedModel> pack_model(const Model& model, const std::filesystem::path& archive,
                               const PackOptions& options, Progress& progress) {
  const ParsedModel* parsed = parsed_model(model);
  if (parsed == nullptr || parsed->file == nullptr) {
    return Error(Code::kInternal, "pack-without-file", "only a model loaded from a file is packed");
  }
  if (parsed->archive != nullptr && !options.only_weights) {
    return Error(Code::kUnsupported, "already-an-archive", "the model is an archive already",
                 {model.source().string(), {}, {}}, "`mcompress unpack` restores the model");
  }
  const Executor executor(options.threads);
  AtomicOutput output(real_files());
  MCOMPRESS_ASSIGN(OutputFile * file, output.add(archive.string()));
  Packing packing(*file, executor, options.effort, progress);
  MCOMPRESS_ASSIGN(codec::ArchiveIndex index, options.only_weights ? pack_weights(model, packing)
                                                                   : pack_files(*parsed, packing));
  if (options.only_weights && index.tensors.empty()) {
    return Error(Code::kUnsupported, "no-weights", "the model has no initializer to pack",
                 {model.source().string(), {}, {}});
  }
  PackedModel packed;
  packed.bytes = packing.writer().source_bytes();
  for (const codec::ArchivedTensor& tensor : index.tensors) {
    packed.tensors.push_back(described(tensor, packing.writer().stream(tensor.stream)));
  }
  MCOMPRESS_TRY(packing.writer().finish(std::move(index)));
  packed.archive = file->position();
  if (packed.archive > packed.bytes && !options.allow_larger) {
    return Error(Code::kOutput, "larger-than-input",
                 "the archive has " + std::to_string(packed.archive) + " bytes, the input " +
                     std::to_string(packed.bytes),
                 {archive.string(), {}, {}},
                 "nothing was written; --allow-larger writes it anyway");
  }
  MCOMPRESS_TRY(file->finish());
  if (!options.dry_run) MCOMPRESS_TRY(output.commit());
  return packed;
}

}  // namespace mcompress
