#include "passes/common/layer_rows.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "ir/convert.h"
#include "support/hash.h"

namespace mcompress {
namespace {

using Ints = std::vector<std::int64_t>;

std::optional<ConvGeometry> geometry_of(const Node& node, std::span<const std::int64_t> weight) {
  const std::size_t axes = weight.size() - 2;
  ConvGeometry conv;
  conv.groups = node.int_attribute("group", 1);
  conv.kernel.assign(weight.begin() + 2, weight.end());
  conv.strides = node.ints_attribute("strides").value_or(Ints(axes, 1));
  conv.dilations = node.ints_attribute("dilations").value_or(Ints(axes, 1));
  conv.pads = node.ints_attribute("pads").value_or(Ints(2 * axes, 0));
  const std::string_view automatic = node.string_attribute("auto_pad", "NOTSET");
  if (automatic == "VALID") conv.pads.assign(2 * axes, 0);
  if (automatic == "SAME_UPPER") conv.automatic = ConvGeometry::Auto::kSameUpper;
  if (automatic == "SAME_LOWER") conv.automatic = ConvGeometry::Auto::kSameLower;
  if (conv.groups < 1 || conv.strides.size() != axes || conv.dilations.size() != axes ||
      conv.pads.size() != 2 * axes) {
    return std::nullopt;
  }
  return conv;
}

bool all_finite(std::span<const float> values) {
  // A sum of products with 0 is NaN as soon as one of the values is not finite.
  float sum = 0;
  for (const float value : values) sum += value * 0.0F;
  return sum == 0.0F;
}

}  // namespace

std::optional<LayerRows> LayerRows::of(const Node& node, const WeightView& view) {
  const Value* weight = node.input(1);
  const Tensor* tensor = weight != nullptr ? weight->initializer() : nullptr;
  if (tensor == nullptr) return std::nullopt;
  return of(node, view, tensor->dims());
}

std::optional<LayerRows> LayerRows::of(const Node& node, const WeightView& view,
                                       std::span<const std::int64_t> dims) {
  LayerRows rows;
  rows.columns_ = static_cast<std::size_t>(view.length());
  if (node.is("Conv")) {
    if (dims.size() < 3) return std::nullopt;
    rows.conv_ = geometry_of(node, dims);
    if (!rows.conv_) return std::nullopt;
  } else if (!(node.is("Gemm") && node.int_attribute("transA", 0) == 0) &&
             !(node.is("MatMul") && dims.size() == 2)) {
    return std::nullopt;
  }
  return rows;
}

LayerRows LayerRows::of_vectors(std::size_t columns) {
  LayerRows rows;
  rows.columns_ = columns;
  return rows;
}

LayerRows LayerRows::made_by(const LayerRows& layer, std::size_t channels) {
  LayerRows rows;
  rows.columns_ = channels;
  if (layer.conv_) {
    const std::size_t axes = layer.conv_->kernel.size();
    rows.conv_.emplace();
    rows.conv_->kernel = rows.conv_->strides = rows.conv_->dilations = Ints(axes, 1);
    rows.conv_->pads = Ints(2 * axes, 0);
  }
  return rows;
}

bool LayerRows::same(const LayerRows& other) const {
  if (columns_ != other.columns_ || conv_.has_value() != other.conv_.has_value()) return false;
  if (!conv_) return true;
  return conv_->groups == other.conv_->groups && conv_->kernel == other.conv_->kernel &&
         conv_->strides == other.conv_->strides && conv_->dilations == other.conv_->dilations &&
         conv_->pads == other.conv_->pads && conv_->automatic == other.conv_->automatic;
}

std::uint64_t LayerRows::digest() const {
  Hasher hasher;
  hasher.integer(columns_).integer(conv_ ? 1 : 0);
  if (!conv_) return hasher.digest();
  hasher.integer(static_cast<std::uint64_t>(conv_->groups));
  hasher.integer(static_cast<std::uint64_t>(conv_->automatic));
  for (const Ints* numbers : {&conv_->kernel, &conv_->strides, &conv_->dilations, &conv_->pads}) {
    hasher.integer(numbers->size());
    for (const std::int64_t number : *numbers) hasher.integer(static_cast<std::uint64_t>(number));
  }
  return hasher.digest();
}

void LayerRows::read(const TensorView& input, std::int64_t wanted, std::int64_t turn,
                     std::vector<std::vector<float>>& rows) const {
  if (columns_ == 0 || input.dims.empty()) return;
  std::vector<float> decoded;
  if (input.dtype == DataType::kFloat16 || input.dtype == DataType::kBfloat16) {
    decoded.resize(input.bytes.size() / 2);
    if (!decode_to_float(input.dtype, input.bytes, decoded)) return;
  } else if (input.dtype != DataType::kFloat) {
    return;
  }
  const std::span<const float> values =
      input.dtype == DataType::kFloat
          ? std::span(reinterpret_cast<const float*>(input.bytes.data()),
                      input.bytes.size() / sizeof(float))
          : std::span<const float>(decoded);
  if (values.empty() || !all_finite(values)) return;
  if (!conv_) {
    if (input.dims.back() != static_cast<std::int64_t>(columns_)) return;
    const auto count = static_cast<std::int64_t>(values.size() / columns_);
    for (const std::int64_t at : spread_positions(count, wanted, turn)) {
      const auto row = values.subspan(static_cast<std::size_t>(at) * columns_, columns_);
      rows[0].insert(rows[0].end(), row.begin(), row.end());
    }
    return;
  }
  const auto map = PatchMap::make(*conv_, input.dims);
  if (!map || map->columns() != columns_) return;
  const std::vector<std::int64_t> positions = spread_positions(map->positions(), wanted, turn);
  for (std::int64_t group = 0; group < conv_->groups; ++group) {
    std::vector<float>& list = rows[static_cast<std::size_t>(group)];
    std::size_t end = list.size();
    list.resize(end + positions.size() * columns_);
    for (const std::int64_t position : positions) {
      map->read(values, position, group, std::span(list).subspan(end, columns_));
      end += columns_;
    }
  }
}

}  // namespace mcompress
