#include "passes/common/blocks/block_emit.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>

#include "ir/convert.h"
#include "ir/domains.h"
#include "numeric/quantize.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Form = BlockRule::Form;

std::int64_t whole(std::size_t count) { return static_cast<std::int64_t>(count); }

// A tensor of `rows` rows of bytes, each made when it is needed.
Result<Tensor> tensor_of_rows(
    TensorFactory& tensors, DataType type, std::vector<std::int64_t> dims, std::size_t rows,
    std::size_t row_bytes,
    const std::function<void(std::size_t row, std::span<std::byte> out)>& fill) {
  std::vector<std::byte> one(row_bytes);
  std::size_t held = rows;  // none
  return tensors.make(type, std::move(dims),
                      [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                        while (!out.empty()) {
                          const std::size_t row = offset / row_bytes, from = offset % row_bytes;
                          const std::size_t count = std::min(out.size(), row_bytes - from);
                          if (from == 0 && count == row_bytes) {
                            fill(row, out.first(count));
                          } else {
                            if (row != held) fill(row, one);
                            held = row;
                            std::memcpy(out.data(), one.data() + from, count);
                          }
                          offset += count;
                          out = out.subspan(count);
                        }
                        return ok_status();
                      });
}

class BlockEmitter {
 public:
  BlockEmitter(const BlockUnit& unit, const BlockRows& rows, PassContext& context)
      : unit_(unit),
        rows_(rows),
        context_(context),
        edit_(context.edit()),
        graph_(unit.holders.front().value->graph()),
        base_(unit.holders.front().value->name()),
        bits_(static_cast<std::size_t>(rows.format.bits)),
        width_(rows.format.width(rows.columns)),
        blocks_(rows.format.blocks_of(rows.columns)) {}

  Status run() {
    modernise_initializers(graph_.model(), context_);
    for (const BlockUnit::Holder& holder : unit_.holders) {
      if (Node* const producer = holder.value->producer(); producer != nullptr) {
        Value* const source = producer->is("Cast") ? producer->input(0) : nullptr;
        edit_.replace_by_constant(*producer, holder.tensor);
        if (source != nullptr && source->is_initializer() && source->uses().empty()) {
          MCOMPRESS_TRY(edit_.erase_initializer(*source));
        }
      }
      switch (holder.form) {
        case Form::kMatMulNBits:
          MCOMPRESS_TRY(make_products(holder));
          break;
        case Form::kGatherBlock:
          MCOMPRESS_TRY(make_lookups(holder));
          break;
        case Form::kDequantize: {
          MCOMPRESS_ASSIGN(Value * real, dequantized(holder));
          MCOMPRESS_TRY(edit_.replace_all(*holder.value, *real));
          break;
        }
        default: {
          MCOMPRESS_ASSIGN(Value * real, folded(holder));
          MCOMPRESS_TRY(edit_.replace_all(*holder.value, *real));
        }
      }
      MCOMPRESS_TRY(edit_.erase_initializer(*holder.value));
    }
    return ok_status();
  }

  std::uint64_t bytes() const { return bytes_; }

 private:
  Value& constant(std::string_view ending, Tensor tensor) {
    bytes_ += tensor.byte_size();
    return edit_.add_initializer(graph_, base_ + std::string(ending), std::move(tensor));
  }

  // --- shared by the holders

  // [rows, blocks]; float32 to whoever reads it, or of the readers' type where the form binds that.
  Result<Value*> scales() {
    if (scales_ != nullptr) return scales_;
    const DataType type = rows_.format.scales;
    const std::size_t width = type == DataType::kFloat ? 4 : 2;
    const auto encode = [&](std::size_t row, std::span<std::byte> out) {
      encode_from_float(type, std::span(rows_.scales).subspan(row * blocks_, blocks_), out, {});
    };
    MCOMPRESS_ASSIGN(Tensor tensor,
                     tensor_of_rows(context_.tensors(), type, {whole(rows_.rows), whole(blocks_)},
                                    rows_.rows, blocks_ * width, encode));
    scales_ = &constant("_scale", std::move(tensor));
    const BlockUnit::Holder& holder = unit_.holders.front();
    if (type == DataType::kFloat || (holder.is_packed() && holder.type == type)) return scales_;
    Node& cast = edit_.insert_before(
        *graph_.first(),
        {.op_type = "Cast", .inputs = {scales_}, .base_name = base_ + "_scale_float"});
    edit_.set_attribute(cast, attribute("to", std::int64_t{1}));
    scales_ = cast.output(0);
    return scales_;
  }

  // uint8 [rows, ceil(blocks * bits / 8)]; null: symmetric.
  Result<Value*> packed_zero_points() {
    if (rows_.zero_points.empty() || zeros_ != nullptr) return zeros_;
    const std::size_t row_bytes = (blocks_ * bits_ + 7) / 8;
    MCOMPRESS_ASSIGN(
        Tensor tensor,
        tensor_of_rows(context_.tensors(), DataType::kUint8, {whole(rows_.rows), whole(row_bytes)},
                       rows_.rows, row_bytes, [&](std::size_t row, std::span<std::byte> out) {
                         pack_zero_points(rows_, row, out);
                       }));
    zeros_ = &constant("_zero_point", std::move(tensor));
    return zeros_;
  }

  // uint8, `row_bytes` for each row: as many as its blocks take, or those of its columns alone.
  Result<Value*> packed_codes(std::size_t row_bytes, std::vector<std::int64_t> dims) {
    if (codes_ != nullptr) return codes_;
    MCOMPRESS_ASSIGN(Tensor tensor, tensor_of_rows(context_.tensors(), DataType::kUint8,
                                                   std::move(dims), rows_.rows, row_bytes,
                                                   [&](std::size_t row, std::span<std::byte> out) {
                                                     pack_row_by_blocks(rows_, row, out);
                                                   }));
    codes_ = &constant("_quantized", std::move(tensor));
    return codes_;
  }

  Value& reshaped(Value& value, std::vector<std::int64_t> dims, std::string_view ending,
                  Node& anchor) {
    const std::int64_t rank = whole(dims.size());
    Value& shape = edit_.add_initializer(graph_, base_ + std::string(ending) + "_shape",
                                         make_int64_tensor(dims, {rank}));
    return *edit_
                .insert_before(anchor, {.op_type = "Reshape",
                                        .inputs = {&value, &shape},
                                        .base_name = base_ + std::string(ending)})
                .output(0);
  }

  // --- forms

  Status make_products(const BlockUnit::Holder& holder) {
    MCOMPRESS_TRY(edit_.require_opset(kContribDomain, 1));
    const std::size_t block_bytes = width_ * bits_ / 8;
    const std::vector<std::int64_t> dims = {whole(rows_.rows), whole(blocks_), whole(block_bytes)};
    MCOMPRESS_ASSIGN(Value * codes, packed_codes(blocks_ * block_bytes, dims));
    if (codes->constant()->dims().size() != dims.size()) {
      codes = &reshaped(*codes, dims, "_blocks", *graph_.first());
    }
    MCOMPRESS_ASSIGN(Value* const zeros, packed_zero_points());
    MCOMPRESS_ASSIGN(Value* const scale, scales());
    const std::vector<Use> uses(holder.value->uses().begin(), holder.value->uses().end());
    for (const Use& use : uses) {
      Node& product = *use.node;
      std::vector<Value*> inputs = {product.input(0), codes, scale};
      if (zeros != nullptr) inputs.push_back(zeros);
      NewNode made{.op_type = "MatMulNBits",
                   .inputs = std::move(inputs),
                   .base_name = name_of(product, "_nbits"),
                   .domain = std::string(kContribDomain)};
      const std::int64_t level = context_.target().blocks.accuracy_level;
      made.attributes.push_back(attribute("K", whole(rows_.columns)));
      made.attributes.push_back(attribute("N", whole(rows_.rows)));
      made.attributes.push_back(attribute("bits", whole(bits_)));
      made.attributes.push_back(attribute("block_size", whole(width_)));
      if (level != 0) made.attributes.push_back(attribute("accuracy_level", level));
      Value* result = edit_.insert_before(product, std::move(made)).output(0);
      if (product.is("Gemm") && product.input(2) != nullptr) {
        result = edit_
                     .insert_before(product, {.op_type = "Add",
                                              .inputs = {result, product.input(2)},
                                              .base_name = name_of(product, "_bias")})
                     .output(0);
      }
      MCOMPRESS_TRY(edit_.replace_all(*product.output(0), *result));
      MCOMPRESS_TRY(edit_.erase(product));
    }
    return ok_status();
  }

  Status make_lookups(const BlockUnit::Holder& holder) {
    MCOMPRESS_TRY(edit_.require_opset(kContribDomain, 1));
    // The last block of a row is not filled up here.
    const std::size_t row_bytes = rows_.columns * bits_ / 8;
    const std::vector<std::int64_t> dims = {whole(rows_.rows), whole(row_bytes)};
    MCOMPRESS_ASSIGN(Value * codes, packed_codes(row_bytes, dims));
    if (codes->constant()->dims().size() != dims.size()) {
      codes = &reshaped(*codes, dims, "_rows", *graph_.first());
    }
    MCOMPRESS_ASSIGN(Value* const zeros, packed_zero_points());
    MCOMPRESS_ASSIGN(Value* const scale, scales());
    const std::vector<Use> uses(holder.value->uses().begin(), holder.value->uses().end());
    for (const Use& use : uses) {
      Node& gather = *use.node;
      std::vector<Value*> inputs = {codes, gather.input(1), scale};
      if (zeros != nullptr) inputs.push_back(zeros);
      NewNode made{.op_type = "GatherBlockQuantized",
                   .inputs = std::move(inputs),
                   .base_name = name_of(gather, "_block"),
                   .domain = std::string(kContribDomain)};
      made.attributes.push_back(attribute("bits", whole(bits_)));
      made.attributes.push_back(attribute("block_size", whole(width_)));
      made.attributes.push_back(attribute("gather_axis", std::int64_t{0}));
      made.attributes.push_back(attribute("quantize_axis", std::int64_t{1}));
      Value* const result = edit_.insert_before(gather, std::move(made)).output(0);
      MCOMPRESS_TRY(edit_.replace_all(*gather.output(0), *result));
      MCOMPRESS_TRY(edit_.erase(gather));
    }
    return ok_status();
  }

  Result<Value*> dequantized(const BlockUnit::Holder& holder) {
    const RowView& view = holder.view;
    const bool is_signed = rows_.zero_points.empty();
    // In the order of the weight; with columns along the first axis the scales turn, too.
    const bool turned = view.axis && *view.axis == 0;
    std::vector<std::int8_t> codes(rows_.codes.size());
    const int middle = is_signed ? rows_.format.middle() : 0;
    for (std::size_t r = 0; r < rows_.rows; ++r) {
      const std::uint8_t* const row = rows_.codes.data() + r * rows_.columns;
      for (std::size_t o = 0; o < view.outer; ++o) {
        std::int8_t* const to = codes.data() + (o * view.rows + r) * view.inner;
        for (std::size_t i = 0; i < view.inner; ++i) {
          to[i] = static_cast<std::int8_t>(int{row[o * view.inner + i]} - middle);
        }
      }
    }
    const auto bits = static_cast<int>(bits_);
    const DataType type = integer_type(bits, is_signed);
    std::vector<std::int64_t> dims(holder.tensor.dims().begin(), holder.tensor.dims().end());
    MCOMPRESS_ASSIGN(Tensor tensor, packed_tensor(codes, bits, type, std::move(dims)));
    Value& stored = constant("_quantized", std::move(tensor));

    const bool by_channel = rows_.format.block == 0;
    std::vector<float> scales(rows_.scales.size());
    std::vector<std::int8_t> zeros(scales.size());
    for (std::size_t r = 0; r < rows_.rows; ++r) {
      for (std::size_t b = 0; b < blocks_; ++b) {
        const std::size_t from = r * blocks_ + b, to = turned ? b * rows_.rows + r : from;
        scales[to] = rows_.scales[from];
        if (!is_signed) zeros[to] = static_cast<std::int8_t>(rows_.zero_points[from]);
      }
    }
    std::vector<std::int64_t> scale_dims = {whole(rows_.rows)};
    if (!by_channel) {
      scale_dims = turned ? std::vector{whole(blocks_), whole(rows_.rows)}
                          : std::vector{whole(rows_.rows), whole(blocks_)};
    }
    Tensor real_scales = make_float_tensor(scales, scale_dims);
    if (const DataType real = rows_.format.scales; real != DataType::kFloat) {
      std::vector<std::byte> bytes(scales.size() * 2);
      encode_from_float(real, scales, bytes, {});
      real_scales = make_bytes_tensor(real, scale_dims, std::move(bytes));
    }
    Value& scale = constant("_scale", std::move(real_scales));
    MCOMPRESS_ASSIGN(Tensor zero_tensor, packed_tensor(zeros, bits, type, scale_dims));
    Value& zero = constant("_zero_point", std::move(zero_tensor));
    Node& node = edit_.insert_before(*graph_.first(), {.op_type = "DequantizeLinear",
                                                       .inputs = {&stored, &scale, &zero},
                                                       .base_name = base_ + "_dequantized"});
    edit_.set_attribute(node, attribute("axis", by_channel ? view.row_axis : *view.axis));
    if (!by_channel) edit_.set_attribute(node, attribute("block_size", whole(width_)));
    edit_.require_ir_version(bits_ == 2 ? 13 : bits_ == 4 ? 10 : 3);
    return node.output(0);
  }

  Result<Value*> folded(const BlockUnit::Holder& holder) {
    const RowView& view = holder.view;
    Node& anchor = *graph_.first();
    const std::int64_t rows = whole(rows_.rows), blocks = whole(blocks_), width = whole(width_);
    MCOMPRESS_ASSIGN(Value* const codes, fold_codes());
    Value* real = codes;
    if (!rows_.zero_points.empty()) {
      // They are few: a byte each.
      std::vector<std::byte> bytes(rows_.zero_points.size());
      std::memcpy(bytes.data(), rows_.zero_points.data(), bytes.size());
      Value& stored = constant(
          "_zero_point", make_bytes_tensor(DataType::kUint8, {rows, blocks, 1}, std::move(bytes)));
      Node& cast = edit_.insert_before(
          anchor, {.op_type = "Cast", .inputs = {&stored}, .base_name = base_ + "_zero_float"});
      edit_.set_attribute(cast, attribute("to", std::int64_t{1}));
      real = edit_
                 .insert_before(anchor, {.op_type = "Sub",
                                         .inputs = {real, cast.output(0)},
                                         .base_name = base_ + "_centre"})
                 .output(0);
    }
    MCOMPRESS_ASSIGN(Value* const stored_scales, scales());
    Value& scale = reshaped(*stored_scales, {rows, blocks, 1}, "_scale_of_block", anchor);
    real = edit_
               .insert_before(
                   anchor,
                   {.op_type = "Mul", .inputs = {real, &scale}, .base_name = base_ + "_scaled"})
               .output(0);
    const std::vector<std::int64_t> dims(holder.tensor.dims().begin(), holder.tensor.dims().end());
    if (blocks_ * width_ != rows_.columns) {
      real = &reshaped(*real, {rows, blocks * width}, "_padded", anchor);
      real = sliced(*real, anchor);
    }
    if (view.outer > 1) {
      real = &reshaped(*real, {rows, whole(view.outer), whole(view.inner)}, "_parts", anchor);
      Node& turn = edit_.insert_before(
          anchor, {.op_type = "Transpose", .inputs = {real}, .base_name = base_ + "_turned"});
      edit_.set_attribute(turn, attribute("perm", std::vector<std::int64_t>{1, 0, 2}));
      real = turn.output(0);
    }
    if (holder.type != DataType::kFloat) {
      Node& cast = edit_.insert_before(
          anchor, {.op_type = "Cast", .inputs = {real}, .base_name = base_ + "_half"});
      edit_.set_attribute(cast, attribute("to", static_cast<std::int64_t>(holder.type)));
      real = cast.output(0);
    }
    return &reshaped(*real, dims, "_dequantized", anchor);
  }

  // Codes as floats [rows, blocks, block], less the middle where there are no zero points.
  Result<Value*> fold_codes() {
    Node& anchor = *graph_.first();
    const std::vector<std::int64_t> dims = {whole(rows_.rows), whole(blocks_), whole(width_)};
    const int middle = rows_.zero_points.empty() ? rows_.format.middle() : 0;
    const std::size_t per_byte = 8 / bits_;
    const std::size_t padded = blocks_ * width_;
    MCOMPRESS_ASSIGN(Tensor bytes, packed_bytes_of(padded, per_byte));
    const std::int64_t count = whole(static_cast<std::size_t>(bytes.elements()));
    Value& stored = constant("_quantized", std::move(bytes));
    Node& index = edit_.insert_before(
        anchor, {.op_type = "Cast", .inputs = {&stored}, .base_name = base_ + "_cast"});
    if (per_byte == 1) {
      edit_.set_attribute(index, attribute("to", std::int64_t{1}));
      Value* real = &reshaped(*index.output(0), dims, "_codes", anchor);
      if (middle == 0) return real;
      Value& half = edit_.add_initializer(graph_, base_ + "_middle",
                                          make_float_scalar(static_cast<float>(middle)));
      return edit_
          .insert_before(
              anchor, {.op_type = "Sub", .inputs = {real, &half}, .base_name = base_ + "_centre"})
          .output(0);
    }
    edit_.set_attribute(index, attribute("to", static_cast<std::int64_t>(DataType::kInt32)));
    std::vector<float> table(256 * per_byte);
    for (std::size_t i = 0; i < table.size(); ++i) {
      const std::size_t code = (i / per_byte) >> (i % per_byte * bits_) & ((1U << bits_) - 1);
      table[i] = static_cast<float>(static_cast<int>(code) - middle);
    }
    Value& codebook = edit_.add_initializer(graph_, base_ + "_codebook",
                                            make_float_tensor(table, {256, whole(per_byte)}));
    Value* real = edit_
                      .insert_before(anchor, {.op_type = "Gather",
                                              .inputs = {&codebook, index.output(0)},
                                              .base_name = base_ + "_unpacked"})
                      .output(0);
    const std::int64_t wanted = dims[0] * dims[1] * dims[2];
    if (count * whole(per_byte) != wanted) {
      real = &reshaped(*real, {count * whole(per_byte)}, "_flat", anchor);
      real = cut(*real, 0, wanted, anchor);
    }
    return &reshaped(*real, dims, "_codes", anchor);
  }

  // All codes one after the other, rows filled up to whole blocks, packed: uint8 [bytes].
  Result<Tensor> packed_bytes_of(std::size_t padded, std::size_t per_byte) {
    const std::size_t total = rows_.rows * padded, bytes = (total + per_byte - 1) / per_byte;
    const auto code_at = [&](std::size_t i) -> unsigned {
      const std::size_t row = i / padded, k = i % padded;
      if (row >= rows_.rows || k >= rows_.columns) return 0;
      return rows_.codes[row * rows_.columns + k];
    };
    return context_.tensors().make(DataType::kUint8, {whole(bytes)},
                                   [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                                     for (std::size_t i = 0; i < out.size(); ++i) {
                                       unsigned packed = 0;
                                       for (std::size_t part = 0; part < per_byte; ++part) {
                                         packed |= code_at((offset + i) * per_byte + part)
                                                   << (part * bits_);
                                       }
                                       out[i] = static_cast<std::byte>(packed);
                                     }
                                     return ok_status();
                                   });
  }

  Value* sliced(Value& value, Node& anchor) { return cut(value, 1, whole(rows_.columns), anchor); }

  // The first `count` along an axis. Slice has its bounds in attributes before opset 10.
  Value* cut(Value& value, std::int64_t axis, std::int64_t count, Node& anchor) {
    const std::string name = base_ + "_cut";
    if (graph_.model().opset("") < 10) {
      Node& slice =
          edit_.insert_before(anchor, {.op_type = "Slice", .inputs = {&value}, .base_name = name});
      edit_.set_attribute(slice, attribute("starts", std::vector<std::int64_t>{0}));
      edit_.set_attribute(slice, attribute("ends", std::vector<std::int64_t>{count}));
      edit_.set_attribute(slice, attribute("axes", std::vector<std::int64_t>{axis}));
      return slice.output(0);
    }
    const auto number = [&](std::string_view ending, std::int64_t one) {
      return &edit_.add_initializer(graph_, name + std::string(ending),
                                    make_int64_tensor({&one, 1}, {1}));
    };
    return edit_
        .insert_before(anchor, {.op_type = "Slice",
                                .inputs = {&value, number("_from", 0), number("_to", count),
                                           number("_axis", axis)},
                                .base_name = name})
        .output(0);
  }

  static DataType integer_type(int bits, bool is_signed) {
    if (bits == 8) return is_signed ? DataType::kInt8 : DataType::kUint8;
    if (bits == 4) return is_signed ? DataType::kInt4 : DataType::kUint4;
    return is_signed ? DataType::kInt2 : DataType::kUint2;
  }

  // Codes by element, packed as ONNX packs the type.
  Result<Tensor> packed_tensor(std::span<const std::int8_t> codes, int bits, DataType type,
                               std::vector<std::int64_t> dims) {
    const std::size_t per_byte = 8 / static_cast<std::size_t>(bits);
    return context_.tensors().make(
        type, std::move(dims), [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
          if (per_byte == 1) {
            std::memcpy(out.data(), codes.data() + offset, out.size());
            return ok_status();
          }
          const std::size_t first = offset * per_byte;
          const std::size_t count = std::min(out.size() * per_byte, codes.size() - first);
          pack_codes(codes.subspan(first, count), bits, out);
          return ok_status();
        });
  }

  static std::string name_of(const Node& node, std::string_view ending) {
    return (node.name().empty() ? std::string(node.output(0)->name()) : std::string(node.name())) +
           std::string(ending);
  }

  const BlockUnit& unit_;
  const BlockRows& rows_;
  PassContext& context_;
  Editor& edit_;
  Graph& graph_;
  std::string base_;
  std::size_t bits_, width_, blocks_;
  Value* scales_ = nullptr;
  Value* zeros_ = nullptr;
  Value* codes_ = nullptr;
  std::uint64_t bytes_ = 0;
};

std::string_view meaning(Form form) {
  switch (form) {
    case Form::kMatMulNBits:
      return "stays packed at run time, multiplied by MatMulNBits";
    case Form::kGatherBlock:
      return "stays packed at run time: the rows that are looked up are computed back";
    case Form::kDequantize:
      return "DequantizeLinear";
    default:
      return "restored to float32 when the model is loaded";
  }
}

}  // namespace

Status emit_blocks(const BlockUnit& unit, const BlockRows& rows, const std::string& how,
                   PassContext& context) {
  std::vector<Decision> decisions;
  for (const BlockUnit::Holder& holder : unit.holders) {
    Decision decision;
    decision.subject = holder.value->name();
    decision.op_type = holder.user->op_type();
    const std::string type = (rows.zero_points.empty() ? "int" : "uint") +
                             std::to_string(rows.format.bits) + " weights, ";
    decision.what = type +
                    (rows.format.block == 0 ? "per channel"
                                            : "blocks of " + std::to_string(rows.format.block)) +
                    ", " + how;
    decision.why = meaning(holder.form);
    if (&holder != &unit.holders.front()) {
      decision.why += "; shares the codes of '" + std::string(unit.holders[0].value->name()) + "'";
    }
    decision.bytes_before = holder.tensor.byte_size();
    decision.sqnr_db = rows.sqnr_db();
    decisions.push_back(std::move(decision));
  }
  BlockEmitter emitter(unit, rows, context);
  MCOMPRESS_TRY(emitter.run());
  decisions.front().bytes_after = emitter.bytes();
  for (Decision& decision : decisions) context.explain().chose(std::move(decision));
  return ok_status();
}

}  // namespace mcompress
