// Tensors: an element type, dimensions and shared immutable storage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mcompress/dtype.h"
#include "mcompress/status.h"

namespace mcompress {

// Bytes are visible only while a pin lives.
class Pinned {
 public:
  Pinned() = default;
  Pinned(std::shared_ptr<const void> keep, std::span<const std::byte> bytes)
      : keep_(std::move(keep)), bytes_(bytes) {}
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::shared_ptr<const void> keep_;
  std::span<const std::byte> bytes_;
};

// A range of an open file that holds the same bytes: lets a writer copy inside the kernel.
struct FileRange {
  int descriptor = -1;
  std::uint64_t offset = 0;
};

// Immutable bytes: heap, slice of a mapped file, spill file, or part of a parsed message.
class Storage {
 public:
  virtual ~Storage() = default;
  // Number of bytes; never touches the data.
  virtual std::uint64_t size() const = 0;
  // Fails with Code::kInput when the range is not inside the storage or can not be read.
  virtual Result<Pinned> pin(std::uint64_t offset, std::uint64_t length) const = 0;
  // Content digest, computed once.
  virtual std::uint64_t digest() const = 0;
  // Where the same bytes stand in a file, when they do.
  virtual std::optional<FileRange> file_range() const { return std::nullopt; }
  // Tells the system that the pages of this range will not be needed soon (mapped storage).
  virtual void release(std::uint64_t /*offset*/, std::uint64_t /*length*/) const {}
};

using StoragePtr = std::shared_ptr<const Storage>;

// A value type: copying shares the storage. String tensors and tensors of unknown type are
// opaque: `storage()` is null and `opaque()` holds what the loader keeps for saving.
class Tensor {
 public:
  Tensor() = default;
  // `storage` holds exactly packed_bytes(dtype, product(dims)) little-endian bytes.
  Tensor(DataType dtype, std::vector<std::int64_t> dims, StoragePtr storage);
  static Tensor opaque_tensor(DataType dtype, std::vector<std::int64_t> dims,
                              std::shared_ptr<const void> origin, std::uint64_t bytes);

  DataType dtype() const { return dtype_; }
  std::span<const std::int64_t> dims() const { return dims_; }
  // Product of the dimensions; 1 for a scalar, 0 when any dimension is 0.
  std::int64_t elements() const { return elements_; }
  // Packed size; for opaque tensors the size as stored.
  std::uint64_t byte_size() const;
  const StoragePtr& storage() const { return storage_; }
  bool is_opaque() const { return storage_ == nullptr; }
  const std::shared_ptr<const void>& opaque() const { return opaque_; }

 private:
  DataType dtype_ = DataType::kUndefined;
  std::vector<std::int64_t> dims_;
  std::int64_t elements_ = 0;
  StoragePtr storage_;
  std::shared_ptr<const void> opaque_;
  std::uint64_t opaque_bytes_ = 0;
};

// Product of dimensions; empty when a dimension is negative or the product passes 2^63-1.
std::optional<std::int64_t> element_count(std::span<const std::int64_t> dims);

// Small tensors from values.
Tensor make_float_tensor(std::span<const float> values, std::vector<std::int64_t> dims);
Tensor make_int64_tensor(std::span<const std::int64_t> values, std::vector<std::int64_t> dims);
Tensor make_bytes_tensor(DataType dtype, std::vector<std::int64_t> dims,
                         std::vector<std::byte> bytes);
inline Tensor make_float_scalar(float value) { return make_float_tensor({&value, 1}, {}); }

// Storage over bytes that something else keeps alive.
StoragePtr make_storage(std::shared_ptr<const void> keep, std::span<const std::byte> bytes);
StoragePtr make_storage(std::vector<std::byte> bytes);

// The way numeric code reads weights: chunks of at most `chunk_elements`, in order, decoded from
// any float or integer type up to 64 bits (booleans and packed sub-byte types included), never
// the whole tensor at once. Fails with kUnsupported for types that have no numeric meaning here.
using ChunkFn = std::function<void(std::int64_t first_element, std::span<const float>)>;
Status read_as_float(const Tensor& tensor, std::size_t chunk_elements, const ChunkFn& receive);

// Whole-tensor conveniences for small tensors. read_floats accepts what read_as_float does.
// read_ints accepts integer and boolean types only.
Result<std::vector<float>> read_floats(const Tensor& tensor);
Result<std::vector<std::int64_t>> read_ints(const Tensor& tensor);

// Equal type, dims and bytes (digests first, then the bytes themselves).
Result<bool> same_content(const Tensor& left, const Tensor& right);

// Makes new tensors, on the heap or in a spill file, by size and budget.
class TensorFactory {
 public:
  virtual ~TensorFactory() = default;
  using FillFn = std::function<Status(std::uint64_t offset, std::span<std::byte>)>;
  // `fill` is called with consecutive ranges until all bytes are written.
  virtual Result<Tensor> make(DataType dtype, std::vector<std::int64_t> dims,
                              const FillFn& fill) = 0;
};
// Heap up to `heap_budget` bytes in total, then unlinked files in the temporary folder.
std::unique_ptr<TensorFactory> make_tensor_factory(std::uint64_t heap_budget);

}  // namespace mcompress
