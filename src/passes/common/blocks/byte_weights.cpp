#include "passes/common/blocks/byte_weights.h"

#include "passes/common/constants.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {

Status emit_byte_weights(Value& value, const WeightView& layout, const QuantizedWeight& rounded,
                         PassContext& context) {
  const Tensor tensor = *value.constant();
  const auto dims = tensor.dims();
  const bool affine = !rounded.zero_points.empty();
  const std::string base(value.name());
  Graph& graph = value.graph();
  Editor& edit = context.edit();
  modernise_initializers(graph.model(), context);
  Value& codes = edit.add_initializer(graph, base + "_quantized", rounded.codes);
  Value& scale = edit.add_initializer(graph, base + "_scale",
                                      make_float_tensor(rounded.scales, layout.scale_dims));
  Node& anchor = *graph.first();
  Value* real = nullptr;
  // DequantizeLinear knows no axis before opset 13, and never two: a bidirectional LSTM has a
  // scale per direction and row.
  const std::int64_t axis = layout.axis >= 0 ? layout.axis
                            : dims[0] == 1   ? std::int64_t{1}
                                             : std::int64_t{-1};
  const bool per_axis = axis >= 0 && graph.model().opset("") >= 13;
  if (context.target().folds_weight_only || !per_axis) {
    real = edit.insert_before(anchor,
                              {.op_type = "Cast", .inputs = {&codes}, .base_name = base + "_cast"})
               .output(0);
    edit.set_attribute(*real->producer(), attribute("to", std::int64_t{1}));
    if (affine) {
      std::vector<float> zeros(rounded.zero_points.begin(), rounded.zero_points.end());
      Value& zero = edit.add_initializer(graph, base + "_zero_point",
                                         make_float_tensor(zeros, layout.scale_dims));
      real = edit.insert_before(
                     anchor,
                     {.op_type = "Sub", .inputs = {real, &zero}, .base_name = base + "_centre"})
                 .output(0);
    }
    real = edit.insert_before(
                   anchor,
                   {.op_type = "Mul", .inputs = {real, &scale}, .base_name = base + "_dequantized"})
               .output(0);
  } else {
    const auto flat = static_cast<std::int64_t>(rounded.scales.size());
    edit.set_constant(scale, make_float_tensor(rounded.scales, {flat}));
    std::vector<std::byte> zeros(static_cast<std::size_t>(flat));
    for (std::size_t i = 0; i < rounded.zero_points.size(); ++i) {
      zeros[i] = static_cast<std::byte>(rounded.zero_points[i]);
    }
    Value& zero =
        edit.add_initializer(graph, base + "_zero_point",
                             make_bytes_tensor(rounded.codes.dtype(), {flat}, std::move(zeros)));
    Node& node = edit.insert_before(anchor, {.op_type = "DequantizeLinear",
                                             .inputs = {&codes, &scale, &zero},
                                             .base_name = base + "_dequantized"});
    edit.set_attribute(node, attribute("axis", axis));
    real = node.output(0);
  }
  MCOMPRESS_TRY(edit.replace_all(value, *real));
  return edit.erase_initializer(value);
}

Result<QuantizedWeight> byte_weight_of(const BlockRows& rows, const WeightView& layout,
                                       std::span<const std::int64_t> dims, TensorFactory& tensors) {
  const auto channels = static_cast<std::size_t>(layout.channels);
  const auto inner = static_cast<std::size_t>(layout.inner);
  const bool affine = !rows.zero_points.empty();
  // int8 has the zero in the middle of the codes.
  const std::uint8_t flip = affine ? 0 : 128;
  QuantizedWeight weight;
  MCOMPRESS_ASSIGN(
      weight.codes,
      tensors.make(affine ? DataType::kUint8 : DataType::kInt8, {dims.begin(), dims.end()},
                   [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                     for (std::size_t k = 0; k < out.size(); ++k) {
                       const std::size_t flat = static_cast<std::size_t>(offset) + k;
                       const std::size_t row = flat / inner % channels;
                       const std::size_t column = flat / inner / channels * inner + flat % inner;
                       out[k] =
                           static_cast<std::byte>(rows.codes[row * rows.columns + column] ^ flip);
                     }
                     return ok_status();
                   }));
  weight.scales = rows.scales;
  weight.zero_points = rows.zero_points;
  weight.sqnr_db = rows.sqnr_db();
  return weight;
}

}  // namespace mcompress
