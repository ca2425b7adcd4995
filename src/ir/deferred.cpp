#include "ir/deferred.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "ir/spill.h"
#include "ir/walk.h"
#include "mcompress/edit.h"
#include "mcompress/openable.h"
#include "support/executor.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kAlignment = 64;

class DeferredStorage final : public Storage {
 public:
  DeferredStorage(std::uint64_t size, std::uint64_t digest, TensorFactory::FillFn fill)
      : size_(size), digest_(digest), fill_(std::move(fill)) {}

  std::uint64_t size() const override { return size_; }

  Result<Pinned> pin(std::uint64_t offset, std::uint64_t length) const override {
    if (offset > size_ || length > size_ - offset) {
      return Error(Code::kInternal, "tensor-range", "range outside a computed tensor");
    }
    if (length > kTensorStep) MCOMPRESS_TRY(spill());
    if (const Storage* kept = kept_.load(std::memory_order_acquire)) {
      return kept->pin(offset, length);
    }
    const std::uint64_t first = offset / kAlignment * kAlignment;
    const std::uint64_t last =
        std::min(size_, (offset + length + kAlignment - 1) / kAlignment * kAlignment);
    const auto buffer = std::make_shared_for_overwrite<std::byte[]>(last - first);
    MCOMPRESS_TRY(fill_(first, {buffer.get(), last - first}));
    return Pinned(buffer, {buffer.get() + (offset - first), length});
  }

  std::uint64_t digest() const override { return digest_; }

  std::optional<FileRange> file_range() const override {
    const Storage* kept = kept_.load(std::memory_order_acquire);
    return kept != nullptr ? kept->file_range() : std::nullopt;
  }

  void release(std::uint64_t offset, std::uint64_t length) const override {
    const Storage* kept = kept_.load(std::memory_order_acquire);
    if (kept != nullptr) kept->release(offset, length);
  }

  bool is_kept() const { return kept_.load(std::memory_order_acquire) != nullptr; }

 private:
  Status spill() const {
    const std::lock_guard lock(mutex_);
    if (spilled_ != nullptr) return ok_status();
    MCOMPRESS_ASSIGN(spilled_, make_spill(size_, fill_));
    kept_.store(spilled_.get(), std::memory_order_release);
    return ok_status();
  }

  std::uint64_t size_;
  std::uint64_t digest_;
  TensorFactory::FillFn fill_;
  mutable std::mutex mutex_;
  mutable StoragePtr spilled_;
  mutable std::atomic<const Storage*> kept_{nullptr};
};

// Zeros that take address space only: every page is the system's one page of zeros.
class HollowStorage final : public Storage {
 public:
  static Result<StoragePtr> create(std::uint64_t size) {
    void* address =
        ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) {
      return Error(Code::kInternal, "hollow-tensor",
                   std::string("no addresses for a tensor: ") + std::strerror(errno));
    }
    auto storage = std::make_shared<HollowStorage>(static_cast<std::byte*>(address), size);
    storage->self_ = storage;
    return StoragePtr(storage);
  }
  HollowStorage(std::byte* address, std::uint64_t size) : address_(address), size_(size) {}
  HollowStorage(const HollowStorage&) = delete;
  HollowStorage& operator=(const HollowStorage&) = delete;
  ~HollowStorage() override { ::munmap(address_, size_); }

  std::uint64_t size() const override { return size_; }
  Result<Pinned> pin(std::uint64_t offset, std::uint64_t length) const override {
    if (offset > size_ || length > size_ - offset) {
      return Error(Code::kInternal, "tensor-range", "range outside a hollow tensor");
    }
    return Pinned(self_.lock(), {address_ + offset, length});
  }
  std::uint64_t digest() const override { return digest_bytes({address_, size_}); }

 private:
  std::byte* address_;
  std::uint64_t size_;
  std::weak_ptr<const HollowStorage> self_;
};

std::vector<Value*> large_weights(const Model& model) {
  std::vector<Value*> found;
  for_each_graph(const_cast<Model&>(model).graph(), [&](Graph& graph) {
    for (Value* value : graph.initializers()) {
      const Tensor* tensor = value->initializer();
      const bool large = tensor != nullptr && !tensor->is_opaque() && !value->is_graph_input() &&
                         tensor->byte_size() >= kTensorStep;
      if (large) found.push_back(value);
    }
  });
  return found;
}

}  // namespace

Result<Tensor> defer_tensor(TensorFactory& tensors, const Executor& executor, DataType dtype,
                            std::vector<std::int64_t> dims, TensorFactory::FillFn fill) {
  const auto elements = element_count(dims);
  const auto bytes = elements ? packed_bytes(dtype, *elements) : std::nullopt;
  if (!bytes || !would_spill(tensors, *bytes)) return tensors.make(dtype, std::move(dims), fill);
  const auto steps = static_cast<std::size_t>((*bytes + kTensorStep - 1) / kTensorStep);
  constexpr std::size_t kMostLanes = 8;
  const std::size_t lanes =
      std::clamp<std::size_t>(static_cast<std::size_t>(executor.threads()), 1, kMostLanes);
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(lanes * kTensorStep);
  const auto lane = [&](std::size_t i, std::size_t step) {
    const std::uint64_t at = step * kTensorStep;
    return std::span(buffer.get() + i * kTensorStep, std::min(kTensorStep, *bytes - at));
  };
  Hasher hasher;
  for (std::size_t first = 0; first < steps; first += lanes) {
    const std::size_t count = std::min(lanes, steps - first);
    MCOMPRESS_TRY(
        executor.try_parallel_for(count, 1, [&](std::size_t begin, std::size_t end) -> Status {
          for (std::size_t i = begin; i < end; ++i) {
            MCOMPRESS_TRY(fill((first + i) * kTensorStep, lane(i, first + i)));
          }
          return ok_status();
        }));
    for (std::size_t i = 0; i < count; ++i) hasher.bytes(lane(i, first + i));
  }
  return Tensor(dtype, std::move(dims),
                std::make_shared<DeferredStorage>(*bytes, hasher.digest(), std::move(fill)));
}

bool is_computed(const Storage& storage) {
  const auto* deferred = dynamic_cast<const DeferredStorage*>(&storage);
  return deferred != nullptr && !deferred->is_kept();
}

Result<std::unique_ptr<Model>> clone_to_open(const Model& model) {
  if (large_weights(model).empty()) return std::unique_ptr<Model>();
  auto clone = model.clone();
  Editor editor(*clone);
  for (Value* value : large_weights(*clone)) {
    const Tensor& tensor = *value->initializer();
    MCOMPRESS_ASSIGN(StoragePtr hollow, HollowStorage::create(tensor.byte_size()));
    editor.set_constant(*value, Tensor(tensor.dtype(), {tensor.dims().begin(), tensor.dims().end()},
                                       std::move(hollow)));
  }
  return clone;
}

}  // namespace mcompress
