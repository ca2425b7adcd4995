// Which weights get few bits with a scale per block, in which form.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/pass.h"
#include "numeric/block_quantize.h"
#include "passes/common/weights.h"

namespace mcompress {

// A weight seen as rows: row r, column k = (o, i) is element (o, r, i) of [outer, rows, inner]. A
// row is what one output channel multiplies, or one row of a table.
struct RowView {
  std::size_t outer = 1, rows = 1, inner = 1;
  std::size_t columns() const { return outer * inner; }
  // Where a row's number of a column lies.
  std::size_t element(std::size_t row, std::size_t column) const {
    return (column / inner * rows + row) * inner + column % inner;
  }
  // The axis of the weight along which columns lie; empty: they lie along several.
  std::optional<std::int64_t> axis;
  std::int64_t row_axis = 0;
};

// The rows of a weight of these dimensions.
RowView row_view(const WeightView& view, std::span<const std::int64_t> dims);

// One constant, or a constant and transposed copies of it.
struct BlockUnit {
  enum class Kind : std::uint8_t {
    kProduct,  // MatMul or Gemm with it on the right
    kTable,    // Gather along its rows
    kOther,
  };
  // A value to replace, and how its readers take it.
  struct Holder {
    Value* value = nullptr;
    Tensor tensor;
    RowView view;
    Kind kind = Kind::kOther;
    BlockRule::Form form = BlockRule::Form::kFold;
    const Node* user = nullptr;  // one of them, for reports
    // What the readers take: that of `tensor`, or float32 where a Cast makes it of 16-bit floats.
    DataType type = DataType::kFloat;
    // Whether the weight stays packed at run time.
    bool is_packed() const {
      return form == BlockRule::Form::kMatMulNBits || form == BlockRule::Form::kGatherBlock;
    }
    // Whether the operator's result, and so its scales, have the readers' type.
    bool binds_scales() const { return is_packed() || form == BlockRule::Form::kDequantize; }
  };
  std::vector<Holder> holders;  // the first one is rounded; the others hold the same rows
  BlockFormat format;
  std::size_t rows() const { return holders.front().view.rows; }
  std::size_t columns() const { return holders.front().view.columns(); }
};

// What options ask for: `type` from "uint2" to "int8"; a block of -1 weights is 32, or the next
// size that the target takes. Fails with kUsage for a size that is no power of two from 16 (0: a
// row).
Result<BlockFormat> block_format(std::string_view type, std::int64_t block, const BlockRule& rule);

struct BlockRequest {
  BlockFormat format;
  std::optional<BlockFormat> table_format;  // of what a Gather reads; empty: `format`
  // Of products, tables and others; empty: what the target says.
  std::optional<BlockRule::Form> form;
  std::int64_t min_elements = 1024;
  std::vector<std::string> include, exclude;
};

// The opset from which DequantizeLinear takes such weights: 21, of 2 bits 25.
std::int64_t dequantize_opset(const BlockFormat& format);

// Constants of all graphs in float32, float16 and bfloat16, and what a Cast to float32 makes of the
// latter, in order; every one that stays is explained. What is read by operators that want
// different forms gets the one all can read. Fails as reading the weights does.
Result<std::vector<BlockUnit>> plan_blocks(Model& model, const BlockRequest& request,
                                           PassContext& context);

// One constant by itself, whatever its size: its unit, or the reason why it stays. Fails as reading
// the weight does.
struct FoundBlockUnit {
  std::optional<BlockUnit> unit;
  const Node* user = nullptr;  // the reader that the reason speaks of, or null
  std::string why;
};
Result<FoundBlockUnit> block_unit_of(Value& value, const BlockRequest& request,
                                     PassContext& context);

}  // namespace mcompress
