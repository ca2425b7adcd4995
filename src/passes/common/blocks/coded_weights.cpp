#include "passes/common/blocks/coded_weights.h"

#include <cmath>

#include "passes/common/blocks/block_emit.h"
#include "passes/common/blocks/byte_weights.h"
#include "passes/common/opsets.h"
#include "passes/common/target_rules.h"
#include "support/try.h"

namespace mcompress {
namespace {

bool by_channel(const BlockFormat& format) { return format.bits == 8 && format.block == 0; }

Result<BlockRequest> block_request(const CodedRequest& wish, PassContext& context) {
  BlockRequest request;
  const bool bytes = wish.type.ends_with('8');
  const std::int64_t block = bytes && wish.block_size < 0 ? 0 : wish.block_size;
  MCOMPRESS_ASSIGN(request.format, block_format(wish.type, block, context.target().blocks));
  if (wish.scales == "float32" || (wish.scales == "auto" && block == 0)) {
    request.format.scales = DataType::kFloat;
  }
  if (wish.scales == "bfloat16") request.format.scales = DataType::kBfloat16;
  request.min_elements = 1;
  return request;
}

}  // namespace

Result<CodedPlan> plan_coded(Value& value, const WeightView& view, const CodedRequest& request,
                             PassContext& context) {
  MCOMPRESS_ASSIGN(const BlockRequest wish, block_request(request, context));
  CodedPlan plan;
  if (by_channel(wish.format)) {
    const DataType type = wish.format.asymmetric ? DataType::kUint8 : DataType::kInt8;
    plan.why = why_not_stored(context.target(), type);
    if (plan.why.empty()) plan.why = why_no_broadcast(value.graph().model());
    const auto channels = static_cast<std::uint64_t>(view.channels);
    const std::uint64_t elements = channels * static_cast<std::uint64_t>(view.length());
    if (plan.why.empty() && byte_weight_bytes(elements, channels) >= 4 * elements) {
      plan.why = "would not get smaller";
    }
    if (plan.why.empty()) plan.format = wish.format;
    return plan;
  }
  MCOMPRESS_ASSIGN(FoundBlockUnit found, block_unit_of(value, wish, context));
  plan.why = std::move(found.why);
  if (found.unit) plan.format = found.unit->format;
  return plan;
}

Status write_coded(Value& value, const WeightView& view, const BlockRows& rows,
                   const CodedRequest& request, PassContext& context) {
  if (by_channel(rows.format)) {
    const Tensor tensor = *value.constant();
    MCOMPRESS_ASSIGN(const QuantizedWeight weight,
                     byte_weight_of(rows, view, tensor.dims(), context.tensors()));
    return emit_byte_weights(value, view, weight, context);
  }
  MCOMPRESS_ASSIGN(const BlockRequest wish, block_request(request, context));
  MCOMPRESS_ASSIGN(FoundBlockUnit found, block_unit_of(value, wish, context));
  if (!found.unit) {
    return Error(Code::kInternal, "no-unit",
                 "weight '" + std::string(value.name()) + "' can not be written: " + found.why);
  }
  found.unit->format = rows.format;
  return emit_blocks(*found.unit, rows, "sparse", context);
}

std::uint64_t coded_bytes(const BlockRows& rows) {
  return static_cast<std::uint64_t>(std::ceil(rows.format.bits_per_weight(rows.columns) *
                                              static_cast<double>(rows.rows * rows.columns) / 8));
}

}  // namespace mcompress
