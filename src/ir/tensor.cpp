#include "mcompress/tensor.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "ir/convert.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

class SpanStorage final : public Storage {
 public:
  SpanStorage(std::shared_ptr<const void> keep, std::span<const std::byte> bytes)
      : keep_(std::move(keep)), bytes_(bytes) {}

  std::uint64_t size() const override { return bytes_.size(); }
  Result<Pinned> pin(std::uint64_t offset, std::uint64_t length) const override {
    if (offset > bytes_.size() || length > bytes_.size() - offset) {
      return Error(Code::kInput, "tensor-range",
                   "bytes " + std::to_string(offset) + "+" + std::to_string(length) +
                       " are outside a tensor of " + std::to_string(bytes_.size()) + " bytes");
    }
    return Pinned(keep_, bytes_.subspan(offset, length));
  }
  std::uint64_t digest() const override {
    // Two threads may both compute it: they store the same number.
    if (!digested_.load(std::memory_order_acquire)) {
      digest_.store(digest_bytes(bytes_), std::memory_order_relaxed);
      digested_.store(true, std::memory_order_release);
    }
    return digest_.load(std::memory_order_relaxed);
  }

 private:
  std::shared_ptr<const void> keep_;
  std::span<const std::byte> bytes_;
  mutable std::atomic<std::uint64_t> digest_{0};
  mutable std::atomic<bool> digested_{false};
};

template <class T>
Tensor tensor_of(DataType dtype, std::span<const T> values, std::vector<std::int64_t> dims) {
  std::vector<std::byte> bytes(values.size_bytes());
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return {dtype, std::move(dims), make_storage(std::move(bytes))};
}

template <class T>
void decode_ints(std::span<const std::byte> bytes, std::vector<std::int64_t>& out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = static_cast<std::int64_t>(value);
  }
}

}  // namespace

StoragePtr make_storage(std::shared_ptr<const void> keep, std::span<const std::byte> bytes) {
  return std::make_shared<SpanStorage>(std::move(keep), bytes);
}

StoragePtr make_storage(std::vector<std::byte> bytes) {
  auto keep = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  const std::span<const std::byte> view(*keep);
  return std::make_shared<SpanStorage>(std::move(keep), view);
}

std::optional<std::int64_t> element_count(std::span<const std::int64_t> dims) {
  // A zero anywhere makes the product zero, however large the other dimensions are.
  if (std::any_of(dims.begin(), dims.end(), [](std::int64_t size) { return size < 0; })) {
    return std::nullopt;
  }
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return 0;
  std::int64_t product = 1;
  for (std::int64_t size : dims) {
    if (product > std::numeric_limits<std::int64_t>::max() / size) return std::nullopt;
    product *= size;
  }
  return product;
}

Tensor::Tensor(DataType dtype, std::vector<std::int64_t> dims, StoragePtr storage)
    : dtype_(dtype),
      dims_(std::move(dims)),
      elements_(element_count(dims_).value_or(0)),
      storage_(std::move(storage)) {}

Tensor Tensor::opaque_tensor(DataType dtype, std::vector<std::int64_t> dims,
                             std::shared_ptr<const void> origin, std::uint64_t bytes) {
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.dims_ = std::move(dims);
  tensor.elements_ = element_count(tensor.dims_).value_or(0);
  tensor.opaque_ = std::move(origin);
  tensor.opaque_bytes_ = bytes;
  return tensor;
}

std::uint64_t Tensor::byte_size() const { return storage_ ? storage_->size() : opaque_bytes_; }

Tensor make_float_tensor(std::span<const float> values, std::vector<std::int64_t> dims) {
  return tensor_of(DataType::kFloat, values, std::move(dims));
}

Tensor make_int64_tensor(std::span<const std::int64_t> values, std::vector<std::int64_t> dims) {
  return tensor_of(DataType::kInt64, values, std::move(dims));
}

Tensor make_bytes_tensor(DataType dtype, std::vector<std::int64_t> dims,
                         std::vector<std::byte> bytes) {
  return {dtype, std::move(dims), make_storage(std::move(bytes))};
}

Result<bool> same_content(const Tensor& left, const Tensor& right) {
  if (left.dtype() != right.dtype() || !std::ranges::equal(left.dims(), right.dims()) ||
      left.is_opaque() || right.is_opaque()) {
    return false;
  }
  if (left.storage() == right.storage()) return true;
  if (left.byte_size() != right.byte_size()) return false;
  if (left.storage()->digest() != right.storage()->digest()) return false;
  constexpr std::uint64_t kChunk = std::uint64_t{4} << 20;
  for (std::uint64_t offset = 0; offset < left.byte_size(); offset += kChunk) {
    const std::uint64_t length = std::min(kChunk, left.byte_size() - offset);
    MCOMPRESS_ASSIGN(const Pinned a, left.storage()->pin(offset, length));
    MCOMPRESS_ASSIGN(const Pinned b, right.storage()->pin(offset, length));
    if (std::memcmp(a.bytes().data(), b.bytes().data(), length) != 0) return false;
  }
  return true;
}

Status read_as_float(const Tensor& tensor, std::size_t chunk_elements, const ChunkFn& receive) {
  const DTypeInfo* info = find_dtype(tensor.dtype());
  if (tensor.is_opaque() || info == nullptr || !can_decode(tensor.dtype())) {
    return Error(Code::kUnsupported, "tensor-not-numeric",
                 "a tensor of type " + dtype_name(tensor.dtype()) + " can not be read as numbers");
  }
  // Chunks start at whole bytes, for packed types too.
  const std::size_t step = std::max<std::size_t>(8, chunk_elements / 8 * 8);
  const auto total = static_cast<std::size_t>(tensor.elements());
  std::vector<float> decoded;
  for (std::size_t first = 0; first < total; first += step) {
    const std::size_t count = std::min(step, total - first);
    const std::uint64_t offset = first * info->bits / 8;
    const std::uint64_t length = (count * info->bits + 7) / 8;
    MCOMPRESS_ASSIGN(const Pinned pinned, tensor.storage()->pin(offset, length));
    const std::byte* data = pinned.bytes().data();
    const bool aligned = reinterpret_cast<std::uintptr_t>(data) % alignof(float) == 0;
    if (tensor.dtype() == DataType::kFloat && aligned) {
      receive(static_cast<std::int64_t>(first), {reinterpret_cast<const float*>(data), count});
    } else {
      decoded.resize(count);
      decode_to_float(tensor.dtype(), pinned.bytes(), decoded);
      receive(static_cast<std::int64_t>(first), decoded);
    }
    tensor.storage()->release(offset, length);
  }
  return ok_status();
}

Result<std::vector<float>> read_floats(const Tensor& tensor) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(tensor.elements()));
  MCOMPRESS_TRY(read_as_float(tensor, std::size_t{1} << 20, [&](std::int64_t, auto chunk) {
    values.insert(values.end(), chunk.begin(), chunk.end());
  }));
  return values;
}

Result<std::vector<std::int64_t>> read_ints(const Tensor& tensor) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(tensor.elements()));
  if (tensor.is_opaque()) {
    return Error(Code::kUnsupported, "tensor-not-numeric", "an opaque tensor has no integers");
  }
  MCOMPRESS_ASSIGN(const Pinned pinned, tensor.storage()->pin(0, tensor.byte_size()));
  switch (tensor.dtype()) {
    case DataType::kInt64:
      decode_ints<std::int64_t>(pinned.bytes(), values);
      break;
    case DataType::kInt32:
      decode_ints<std::int32_t>(pinned.bytes(), values);
      break;
    case DataType::kInt16:
      decode_ints<std::int16_t>(pinned.bytes(), values);
      break;
    case DataType::kInt8:
      decode_ints<std::int8_t>(pinned.bytes(), values);
      break;
    case DataType::kUint64:
      decode_ints<std::uint64_t>(pinned.bytes(), values);
      break;
    case DataType::kUint32:
      decode_ints<std::uint32_t>(pinned.bytes(), values);
      break;
    case DataType::kUint16:
      decode_ints<std::uint16_t>(pinned.bytes(), values);
      break;
    case DataType::kBool:
    case DataType::kUint8:
      decode_ints<std::uint8_t>(pinned.bytes(), values);
      break;
    default:
      return Error(Code::kUnsupported, "tensor-not-integer",
                   "a tensor of type " + dtype_name(tensor.dtype()) + " holds no integers");
  }
  return values;
}

}  // namespace mcompress
