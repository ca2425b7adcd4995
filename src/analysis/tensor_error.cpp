#include "analysis/tensor_error.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "analysis/align.h"
#include "ir/convert.h"
#include "ir/facts.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::int64_t kChunk = 1 << 16;  // whole bytes of the smallest types

// Reads a tensor piece by piece, dequantized where that is how it is read:
//   float[i] = (q[i] - zero_point[c]) scale[c],  c = (i / inner) % channels
class FloatReader {
 public:
  // Empty: can not be read as floats.
  static std::optional<FloatReader> open(const SeenTensor& seen) {
    const Tensor& tensor = seen.tensor;
    if (tensor.is_opaque() || !can_decode(tensor.dtype())) return std::nullopt;
    FloatReader reader(tensor);
    if (seen.through == nullptr) return reader;
    const Node& node = *seen.through;
    if (node.int_attribute("block_size", 0) != 0) return std::nullopt;
    const auto scales = constant_reals(node.input(1), tensor.elements() + 1);
    if (!scales || scales->empty()) return std::nullopt;
    reader.scale_ = *scales;
    reader.zero_.assign(scales->size(), 0.0);
    if (node.input(2) != nullptr) {
      const auto zeros = constant_reals(node.input(2), tensor.elements() + 1);
      if (!zeros || zeros->size() != scales->size()) return std::nullopt;
      reader.zero_ = *zeros;
    }
    if (scales->size() == 1) return reader;
    const auto rank = static_cast<std::int64_t>(tensor.dims().size());
    std::int64_t axis = node.int_attribute("axis", 1);
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank) return std::nullopt;
    const auto place = static_cast<std::size_t>(axis);
    if (tensor.dims()[place] != static_cast<std::int64_t>(scales->size())) return std::nullopt;
    for (std::size_t i = place + 1; i < tensor.dims().size(); ++i) {
      reader.inner_ *= tensor.dims()[i];
    }
    return reader;
  }

  Status read(std::int64_t first, std::span<float> out) const {
    const std::uint64_t bits = find_dtype(tensor_.dtype())->bits;
    const std::uint64_t offset = static_cast<std::uint64_t>(first) * bits / 8;
    const std::uint64_t length = (out.size() * bits + 7) / 8;
    MCOMPRESS_ASSIGN(const Pinned pinned, tensor_.storage()->pin(offset, length));
    decode_to_float(tensor_.dtype(), pinned.bytes(), out);
    tensor_.storage()->release(offset, length);
    if (scale_.empty()) return ok_status();
    const auto channels = static_cast<std::int64_t>(scale_.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::int64_t index = first + static_cast<std::int64_t>(i);
      const auto c = static_cast<std::size_t>(index / inner_ % channels);
      out[i] = static_cast<float>((static_cast<double>(out[i]) - zero_[c]) * scale_[c]);
    }
    return ok_status();
  }

 private:
  explicit FloatReader(const Tensor& tensor) : tensor_(tensor) {}

  Tensor tensor_;
  std::vector<double> scale_, zero_;
  std::int64_t inner_ = 1;
};

std::vector<std::int64_t> without_ones(const Tensor& tensor) {
  std::vector<std::int64_t> dims(tensor.dims().begin(), tensor.dims().end());
  std::erase(dims, 1);
  return dims;
}

}  // namespace

std::optional<SeenTensor> seen_tensor(const Value* value) {
  if (const auto data = data_of(value)) return SeenTensor{*data, nullptr};
  const Node* node = value != nullptr ? value->producer() : nullptr;
  if (node == nullptr || node->op_type() != "DequantizeLinear") return std::nullopt;
  const auto data = data_of(node->input(0));
  return data ? std::optional(SeenTensor{*data, node}) : std::nullopt;
}

Result<std::optional<double>> tensor_sqnr(const SeenTensor& before, const SeenTensor& after) {
  using Found = std::optional<double>;
  if (without_ones(before.tensor) != without_ones(after.tensor)) return Found();
  const auto left = FloatReader::open(before);
  const auto right = FloatReader::open(after);
  if (!left || !right) return Found();
  const std::int64_t count = before.tensor.elements();
  std::vector<float> a(static_cast<std::size_t>(std::min(count, kChunk))), b(a.size());
  double signal = 0, noise = 0;
  for (std::int64_t first = 0; first < count; first += kChunk) {
    const auto length = static_cast<std::size_t>(std::min(kChunk, count - first));
    MCOMPRESS_TRY(left->read(first, std::span(a).first(length)));
    MCOMPRESS_TRY(right->read(first, std::span(b).first(length)));
    for (std::size_t i = 0; i < length; ++i) {
      if (!std::isfinite(a[i]) || !std::isfinite(b[i])) continue;
      const double x = static_cast<double>(a[i]), error = x - static_cast<double>(b[i]);
      signal += x * x;
      noise += error * error;
    }
  }
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (noise == 0) return Found(kInfinity);
  return Found(signal == 0 ? -kInfinity : 10 * std::log10(signal / noise));
}

}  // namespace mcompress
