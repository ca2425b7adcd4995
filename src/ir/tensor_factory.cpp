#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "ir/spill.h"
#include "mcompress/tensor.h"
#include "support/files.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

Error spill_error(const std::string& folder, const std::string& what, int error) {
  return Error(Code::kOutput, "spill-file", what + ": " + std::strerror(error), {folder, {}, {}},
               "free space there, or set TMPDIR to another folder");
}

// An unnamed temporary file, mapped. Nothing is left behind however the process ends.
class SpillStorage final : public Storage {
 public:
  static Result<std::shared_ptr<SpillStorage>> create(std::uint64_t size) {
    FileSystem& files = real_files();
    const std::string folder = temporary_folder();
    int descriptor = 0;
    do descriptor = files.open_unnamed(folder);
    while (descriptor == -EINTR);
    if (descriptor < 0) {
      return spill_error(folder, "a temporary file can not be made", -descriptor);
    }
    // Reserving the space now turns a full disk into an error instead of a fault on first write.
    int code = 0;
    do code = files.reserve(descriptor, size);
    while (code == -EINTR);
    if (code < 0) {
      files.close(descriptor);
      return spill_error(folder, std::to_string(size) + " bytes can not be reserved", -code);
    }
    void* address = files.map_writable(descriptor, size);
    if (address == nullptr) {
      files.close(descriptor);
      return spill_error(folder, "a temporary file can not be mapped", ENOMEM);
    }
    return std::make_shared<SpillStorage>(descriptor, static_cast<std::byte*>(address), size);
  }
  SpillStorage(int descriptor, std::byte* address, std::uint64_t size)
      : descriptor_(descriptor), address_(address), size_(size) {}
  SpillStorage(const SpillStorage&) = delete;
  SpillStorage& operator=(const SpillStorage&) = delete;
  ~SpillStorage() override {
    ::munmap(address_, size_);
    real_files().close(descriptor_);
  }

  std::span<std::byte> writable() { return {address_, size_}; }
  std::uint64_t size() const override { return size_; }
  Result<Pinned> pin(std::uint64_t offset, std::uint64_t length) const override {
    if (offset > size_ || length > size_ - offset) {
      return Error(Code::kInternal, "tensor-range", "range outside a spilled tensor");
    }
    return Pinned(self_.lock(), {address_ + offset, length});
  }
  std::uint64_t digest() const override {
    const std::uint64_t digest = digest_bytes({address_, size_});
    release(0, size_);
    return digest;
  }
  std::optional<FileRange> file_range() const override { return FileRange{descriptor_, 0}; }
  void release(std::uint64_t offset, std::uint64_t length) const override {
    const std::uint64_t page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const std::uint64_t first = (offset + page - 1) / page * page;
    const std::uint64_t last = std::min(size_, offset + length) / page * page;
    if (last > first) ::madvise(address_ + first, last - first, MADV_DONTNEED);
  }
  void set_self(const std::shared_ptr<SpillStorage>& self) { self_ = self; }

 private:
  int descriptor_;
  std::byte* address_;
  std::uint64_t size_;
  std::weak_ptr<const SpillStorage> self_;
};

Status fill_in_chunks(std::span<std::byte> bytes, const TensorFactory::FillFn& fill,
                      const Storage* storage) {
  for (std::uint64_t offset = 0; offset < bytes.size(); offset += kTensorStep) {
    const std::uint64_t length = std::min<std::uint64_t>(kTensorStep, bytes.size() - offset);
    MCOMPRESS_TRY(fill(offset, bytes.subspan(offset, length)));
    if (storage != nullptr) storage->release(offset, length);
  }
  return ok_status();
}

class BudgetFactory final : public TensorFactory {
 public:
  explicit BudgetFactory(std::uint64_t heap_budget) : left_(heap_budget) {}

  Result<Tensor> make(DataType dtype, std::vector<std::int64_t> dims, const FillFn& fill) override {
    const auto elements = element_count(dims);
    const auto bytes = elements ? packed_bytes(dtype, *elements) : std::nullopt;
    if (!bytes) {
      return Error(Code::kInternal, "tensor-size", "a tensor of unknown or impossible size");
    }
    const std::uint64_t left = left_.load();
    if (!spills(*bytes)) {
      left_.store(left - std::min(left, *bytes));
      const auto buffer = std::make_shared_for_overwrite<std::byte[]>(*bytes);
      const std::span<std::byte> view(buffer.get(), *bytes);
      MCOMPRESS_TRY(fill_in_chunks(view, fill, nullptr));
      return Tensor(dtype, std::move(dims), make_storage(buffer, view));
    }
    MCOMPRESS_ASSIGN(StoragePtr spill, make_spill(*bytes, fill));
    return Tensor(dtype, std::move(dims), std::move(spill));
  }

  bool spills(std::uint64_t bytes) const { return bytes > left_.load() && bytes >= kTensorStep; }

 private:
  std::atomic<std::uint64_t> left_;
};

}  // namespace

bool would_spill(const TensorFactory& tensors, std::uint64_t bytes) {
  const auto* budgeted = dynamic_cast<const BudgetFactory*>(&tensors);
  return budgeted != nullptr && budgeted->spills(bytes);
}

Result<StoragePtr> make_spill(std::uint64_t bytes, const TensorFactory::FillFn& fill) {
  MCOMPRESS_ASSIGN(auto spill, SpillStorage::create(bytes));
  spill->set_self(spill);
  MCOMPRESS_TRY(fill_in_chunks(spill->writable(), fill, spill.get()));
  return StoragePtr(spill);
}

std::unique_ptr<TensorFactory> make_tensor_factory(std::uint64_t heap_budget) {
  return std::make_unique<BudgetFactory>(heap_budget);
}

}  // namespace mcompress
