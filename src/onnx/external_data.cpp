#include "onnx/external_data.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <future>
#include <map>
#include <tuple>
#include <utility>

#include "ir/deferred.h"
#include "onnx/archive.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kChunk = 4 << 20;
// From here on a tensor may be worth mapping by itself, which wants whole pages.
constexpr std::uint64_t kLargeTensor = 1 << 20;
constexpr std::uint64_t kSmallAlignment = 64;

class FileSlice final : public Storage {
 public:
  FileSlice(MappedFilePtr file, std::uint64_t offset, std::uint64_t length)
      : file_(std::move(file)), offset_(offset), length_(length) {}

  std::uint64_t size() const override { return length_; }
  Result<Pinned> pin(std::uint64_t offset, std::uint64_t length) const override {
    if (offset > length_ || length > length_ - offset) {
      return Error(Code::kInput, "tensor-range",
                   "bytes " + std::to_string(offset) + "+" + std::to_string(length) +
                       " are outside a tensor of " + std::to_string(length_) + " bytes");
    }
    return Pinned(file_, file_->bytes().subspan(offset_ + offset, length));
  }
  std::uint64_t digest() const override {
    // Two threads may both compute it: they store the same number.
    if (!digested_.load(std::memory_order_acquire)) {
      Hasher hasher;
      for (std::uint64_t at = 0; at < length_; at += kChunk) {
        const std::uint64_t length = std::min(kChunk, length_ - at);
        hasher.bytes(file_->bytes().subspan(offset_ + at, length));
        if (length_ > kChunk) release(at, length);
      }
      digest_.store(hasher.digest(), std::memory_order_relaxed);
      digested_.store(true, std::memory_order_release);
    }
    return digest_.load(std::memory_order_relaxed);
  }
  std::optional<FileRange> file_range() const override {
    return FileRange{file_->descriptor(), offset_};
  }
  void release(std::uint64_t offset, std::uint64_t length) const override {
    file_->release(offset_ + offset, length);
  }

 private:
  MappedFilePtr file_;
  std::uint64_t offset_;
  std::uint64_t length_;
  mutable std::atomic<std::uint64_t> digest_{0};
  mutable std::atomic<bool> digested_{false};
};

Error bad_external(const onnx::TensorProto& tensor, std::string_view id, std::string message,
                   std::string hint = {}) {
  return Error(Code::kInput, id, std::move(message), {{}, {}, tensor.name()}, std::move(hint));
}

struct ExternalRange {
  std::string location;
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> length;
};

Result<ExternalRange> external_range(const onnx::TensorProto& tensor) {
  ExternalRange range;
  const auto number = [&](const onnx::StringStringEntryProto& entry) -> Result<std::uint64_t> {
    std::uint64_t value = 0;
    const char* end = entry.value().data() + entry.value().size();
    const auto [stop, error] = std::from_chars(entry.value().data(), end, value);
    if (error != std::errc() || stop != end) {
      return bad_external(tensor, "external-data-range",
                          "external data has " + entry.key() + " '" + entry.value() +
                              "', which is not a number of bytes");
    }
    return value;
  };
  for (const onnx::StringStringEntryProto& entry : tensor.external_data()) {
    if (entry.key() == "location") range.location = entry.value();
    if (entry.key() == "offset") {
      MCOMPRESS_ASSIGN(range.offset, number(entry));
    }
    if (entry.key() == "length") {
      MCOMPRESS_ASSIGN(range.length, number(entry));
    }
  }
  return range;
}

}  // namespace

StoragePtr make_file_slice(MappedFilePtr file, std::uint64_t offset, std::uint64_t length) {
  return std::make_shared<FileSlice>(std::move(file), offset, length);
}

Status attach_external_data(FileSystem& files, const std::string& folder, ParsedModel& parsed) {
  std::map<std::string, MappedFilePtr> mapped;
  std::map<std::string, std::shared_ptr<const ArchivedFileView>> archived;
  return for_each_tensor(parsed.proto, [&](onnx::TensorProto& tensor, TensorPlace) -> Status {
    if (!is_external(tensor)) return ok_status();
    MCOMPRESS_ASSIGN(const ExternalRange range, external_range(tensor));
    if (parsed.file == nullptr) {
      return bad_external(
          tensor, "external-data-in-memory",
          "external data '" + range.location + "' can not be found for a model that is not a file");
    }
    MappedFilePtr& file = mapped[range.location];
    std::shared_ptr<const ArchivedFileView>& member = archived[range.location];
    if (parsed.archive != nullptr && member == nullptr) {
      MCOMPRESS_ASSIGN(member, parsed.archive->data_file(range.location));
    }
    if (parsed.archive == nullptr && file == nullptr) {
      auto opened = map_contained(files, folder, range.location);
      if (!opened.ok()) {
        Error error = std::move(opened).error();
        if (error.diagnostic.where.subject.empty()) error.diagnostic.where.subject = tensor.name();
        return error;
      }
      file = std::move(opened).value();
      parsed.data_files.push_back({range.location, file});
    }
    const std::uint64_t available = member != nullptr ? member->size() : file->bytes().size();
    const std::string where =
        "'" + range.location + "', which has " + std::to_string(available) + " bytes";
    if (range.offset > available) {
      return bad_external(
          tensor, "external-data-range",
          "external data starts at byte " + std::to_string(range.offset) + " of " + where,
          "is the data file complete?");
    }
    std::uint64_t length = available - range.offset;
    if (range.length) {
      if (*range.length > length) {
        return bad_external(tensor, "external-data-range",
                            "external data needs " + std::to_string(*range.length) +
                                " bytes from byte " + std::to_string(range.offset) + " of " + where,
                            "is the data file complete?");
      }
      length = *range.length;
    } else {
      // Files with several tensors may leave the length out: then the type says it.
      const auto elements = element_count(
          std::span(tensor.dims().data(), static_cast<std::size_t>(tensor.dims_size())));
      const auto needed = elements
                              ? packed_bytes(static_cast<DataType>(tensor.data_type()), *elements)
                              : std::nullopt;
      if (needed && *needed < length) length = *needed;
    }
    StoragePtr slice;
    if (member != nullptr) {
      MCOMPRESS_ASSIGN(slice, member->slice(range.offset, length));
    } else {
      slice = make_file_slice(file, range.offset, length);
    }
    clear_data(tensor);
    tensor.set_raw_data(wire::make_placeholder(parsed.payloads.add(std::move(slice), true)));
    return ok_status();
  });
}

Result<DataLayout> externalise(onnx::ModelProto& skeleton, Payloads& payloads,
                               const LayoutOptions& options) {
  DataLayout layout;
  // File ranges are compared as ranges: two tensors may have been loaded from the same one.
  using Key = std::tuple<const Storage*, int, std::uint64_t, std::uint64_t>;
  std::map<Key, std::uint64_t> placed;
  const auto visit = [&](onnx::TensorProto& tensor, TensorPlace place) -> Status {
    if (place == TensorPlace::kSparsePart) return ok_status();
    StoragePtr storage;
    bool was_external = false;
    if (const auto payload = wire::placeholder_payload(tensor.raw_data())) {
      storage = payloads.storages.at(*payload);
      was_external = payloads.external.at(*payload);
    } else if (tensor.data_type() == onnx::TensorProto::STRING ||
               find_dtype(static_cast<DataType>(tensor.data_type())) == nullptr) {
      return ok_status();
    } else if (tensor.ByteSizeLong() < options.threshold) {
      return ok_status();
    }
    if (place == TensorPlace::kAttribute && !was_external && !options.attributes_too) {
      return ok_status();
    }
    if (storage == nullptr) {
      // The message is about to lose its data fields, so the bytes need a place of their own.
      auto owned = std::make_shared<const onnx::TensorProto>(tensor);
      MCOMPRESS_ASSIGN(const Tensor read, tensor_from_proto(*owned, owned, payloads));
      storage = read.storage();
    }
    const std::uint64_t size = storage == nullptr ? 0 : storage->size();
    if (size < options.threshold || size == 0) return ok_status();
    const auto range = storage->file_range();
    const Key key = range ? Key(nullptr, range->descriptor, range->offset, size)
                          : Key(storage.get(), -1, 0, size);
    const auto [found, inserted] = placed.emplace(key, 0);
    if (inserted) {
      const std::uint64_t alignment =
          size >= kLargeTensor ? std::max<std::uint64_t>(options.alignment, 1) : kSmallAlignment;
      found->second = (layout.size + alignment - 1) / alignment * alignment;
      layout.size = found->second + size;
      layout.entries.push_back({storage, found->second});
    }
    clear_data(tensor);
    tensor.set_data_location(onnx::TensorProto::EXTERNAL);
    const auto add = [&](const char* name, std::string value) {
      auto* entry = tensor.add_external_data();
      entry->set_key(name);
      entry->set_value(std::move(value));
    };
    add("location", options.location);
    add("offset", std::to_string(found->second));
    add("length", std::to_string(size));
    return ok_status();
  };
  MCOMPRESS_TRY(for_each_tensor(skeleton, visit));
  return layout;
}

Status WriteMeter::advance(std::uint64_t bytes) {
  done_ += bytes;
  progress_.update("save", done_, total_, "bytes");
  if (progress_.cancelled()) {
    return Error(Code::kCancelled, "cancelled", "interrupted while saving");
  }
  return ok_status();
}

namespace {

// One part is computed while the one before it is written.
Status write_computed(const Storage& storage, std::uint64_t offset, std::uint64_t length,
                      OutputFile& output, WriteMeter& meter) {
  const auto part = [&](std::uint64_t at) {
    return std::async(std::launch::async,
                      [&storage, first = offset + at, count = std::min(kChunk, length - at)] {
                        return storage.pin(first, count);
                      });
  };
  auto next = part(0);
  for (std::uint64_t at = 0; at < length; at += kChunk) {
    MCOMPRESS_ASSIGN(const Pinned pinned, next.get());
    if (length - at > kChunk) next = part(at + kChunk);
    MCOMPRESS_TRY(output.write(pinned.bytes()));
    MCOMPRESS_TRY(meter.advance(pinned.bytes().size()));
  }
  return ok_status();
}

}  // namespace

Status write_storage(const Storage& storage, std::uint64_t offset, std::uint64_t length,
                     OutputFile& output, WriteMeter& meter) {
  if (is_computed(storage)) return write_computed(storage, offset, length, output, meter);
  // A system call per small tensor costs more than the copy.
  constexpr std::uint64_t kKernelCopy = 64 << 10;
  const auto range = length >= kKernelCopy ? storage.file_range() : std::nullopt;
  // Inside the kernel large chunks cost no memory, and a chunk is how soon an interrupt is seen.
  const std::uint64_t chunk = range ? 4 * kChunk : kChunk;
  for (std::uint64_t at = 0; at < length; at += chunk) {
    const std::uint64_t part = std::min(chunk, length - at);
    if (range) {
      MCOMPRESS_TRY(output.copy(range->descriptor, range->offset + offset + at, part));
    } else {
      MCOMPRESS_ASSIGN(const Pinned pinned, storage.pin(offset + at, part));
      MCOMPRESS_TRY(output.write(pinned.bytes()));
      storage.release(offset + at, part);
    }
    MCOMPRESS_TRY(meter.advance(part));
  }
  return ok_status();
}

Status write_rope(const wire::Rope& rope, OutputFile& output, WriteMeter& meter) {
  for (const wire::Rope::Piece& piece : rope.pieces) {
    if (piece.storage == nullptr) {
      MCOMPRESS_TRY(output.write(std::string_view(rope.text).substr(piece.offset, piece.length)));
      MCOMPRESS_TRY(meter.advance(piece.length));
    } else {
      MCOMPRESS_TRY(write_storage(*piece.storage, piece.offset, piece.length, output, meter));
    }
  }
  return ok_status();
}

Status write_layout(const DataLayout& layout, OutputFile& output, WriteMeter& meter) {
  for (const DataLayout::Entry& entry : layout.entries) {
    MCOMPRESS_TRY(output.zeros(entry.offset - output.position()));
    MCOMPRESS_TRY(write_storage(*entry.storage, 0, entry.storage->size(), output, meter));
  }
  return ok_status();
}

}  // namespace mcompress
