#include "passes/common/blocks/block_plan.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "ir/facts.h"
#include "passes/common/blocks/block_rows.h"
#include "passes/common/constants.h"
#include "passes/common/opsets.h"
#include "passes/common/selection.h"
#include "passes/common/target_rules.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Form = BlockRule::Form;
using Kind = BlockUnit::Kind;

// Shorter rows get hardly smaller than with 8 bits and lose much: depthwise kernels.
constexpr std::size_t kShortestRow = 16;
// The opsets from which DequantizeLinear takes 4-bit types and blocks, and 2-bit types.
constexpr std::int64_t kFourBitOpset = 21, kTwoBitOpset = 25;

// MatMulNBits needs long sums to be as fast as a product in float32: with ONNX Runtime 1.32, blocks
// of 32 and 16 to 128 rows of input, 120 to 192 inputs take 1.1 to 1.8 x the time of float32, 256
// the same, 576 0.9 x; 32 outputs 1.3 x, 64 the same.
constexpr std::size_t kNBitsInputs = 256, kNBitsOutputs = 64;

bool is_half(DataType type) { return type == DataType::kFloat16 || type == DataType::kBfloat16; }

// float32 of a constant of 16-bit floats: stored in few bytes, computed with in many.
bool widens(const Node& node) {
  return node.is("Cast") &&
         node.int_attribute("to", 0) == static_cast<std::int64_t>(DataType::kFloat);
}

// MatMulNBits stands for the node: y = x W, or Gemm's x W + c, x of at least two dimensions.
bool is_plain_product(const Node& node, std::size_t slot, const Tensor& weight) {
  const Value* data = node.input(0);
  if (slot != 1 || data == nullptr || data->initializer() != nullptr) return false;
  if (node.is("MatMul")) {
    const auto rank = rank_of(*data);
    return rank && *rank >= 2 && weight.dims().size() == 2;
  }
  return node.is("Gemm") && node.int_attribute("transA", 0) == 0 &&
         node.float_attribute("alpha", 1) == 1 &&
         (node.input(2) == nullptr || node.float_attribute("beta", 1) == 1);
}

class Planner {
 public:
  Planner(const BlockRequest& request, PassContext& context)
      : request_(request),
        context_(context),
        rule_(context.target().blocks),
        selection_(request.include, request.exclude) {}

  Status consider(Value& value) {
    const Tensor tensor = value.is_initializer() ? *value.initializer() : *constant_of(&value);
    if (tensor.dims().size() < 2) return ok_status();
    if (tensor.dtype() == DataType::kFloat) return consider(value, tensor);
    if (!is_half(tensor.dtype())) return ok_status();
    std::vector<Value*> widened;
    for (const Use& use : value.uses()) {
      if (use.node != nullptr && widens(*use.node)) widened.push_back(use.node->output(0));
    }
    // What is read in both types would be stored twice.
    if (widened.size() != value.uses().size()) return consider(value, tensor);
    if (is_overridable(value)) return ok_status();
    for (Value* real : widened) {
      // Scales and the like are nobody's business.
      if (is_weight(*real, tensor)) MCOMPRESS_TRY(consider(*real, tensor));
    }
    return ok_status();
  }

  Status consider(Value& value, const Tensor& tensor) {
    if (value.uses().empty()) return ok_status();
    if (tensor.elements() < request_.min_elements) {
      if (tensor.elements() > 16) {
        skip(value, tensor, nullptr,
             "has " + std::to_string(tensor.elements()) + " elements, below " +
                 std::to_string(request_.min_elements));
      }
      return ok_status();
    }
    MCOMPRESS_ASSIGN(FoundBlockUnit found, look_at(value, tensor));
    if (found.unit) found.why = why_no_gain_over_bytes(*found.unit);
    if (found.unit && found.why.empty()) {
      units_.push_back(std::move(*found.unit));
    } else {
      skip(value, tensor, found.user, std::move(found.why));
    }
    return ok_status();
  }

  Result<FoundBlockUnit> look_at(Value& value, const Tensor& tensor) {
    FoundBlockUnit found;
    if (is_overridable(value)) {
      found.why = "a caller of the model may override it";
      return found;
    }
    BlockUnit unit;
    const bool widened = value.producer() != nullptr && widens(*value.producer());
    unit.holders.push_back({&value,
                            tensor,
                            {},
                            Kind::kOther,
                            Form::kFold,
                            nullptr,
                            widened ? DataType::kFloat : tensor.dtype()});
    found.why = look_at_users(unit.holders.front());
    if (found.why.empty()) found.why = choose(unit);
    found.user = unit.holders.front().user;
    if (!found.why.empty()) return found;
    MCOMPRESS_ASSIGN(const bool finite, is_finite(tensor));
    if (finite) {
      found.unit = std::move(unit);
    } else {
      found.why = "holds NaN or infinity, which codes have not";
    }
    return found;
  }

  // Constants that are another one transposed take its rows.
  Status join_copies() {
    using Looks = std::tuple<std::size_t, std::size_t, std::uint64_t>;
    std::map<Looks, std::vector<std::size_t>> alike;
    for (std::size_t i = 0; i < units_.size(); ++i) {
      MCOMPRESS_ASSIGN(const std::uint64_t digest, first_rows_digest(units_[i].holders[0]));
      alike[{units_[i].rows(), units_[i].columns(), digest}].push_back(i);
    }
    std::vector<bool> taken(units_.size());
    for (const auto& [looks, places] : alike) {
      for (std::size_t i = 0; i < places.size(); ++i) {
        if (taken[places[i]]) continue;
        BlockUnit& first = units_[places[i]];
        for (std::size_t j = i + 1; j < places.size(); ++j) {
          BlockUnit& second = units_[places[j]];
          if (taken[places[j]] || !may_share(first, second)) continue;
          MCOMPRESS_ASSIGN(const bool same, same_rows(first.holders[0], second.holders[0]));
          if (!same) continue;
          first.holders.push_back(second.holders[0]);
          // What a table can not spare a product need not have.
          if (second.format.bits > first.format.bits) first.format = second.format;
          taken[places[j]] = true;
        }
      }
    }
    std::size_t kept = 0;
    for (std::size_t i = 0; i < units_.size(); ++i) {
      if (taken[i]) continue;
      if (kept != i) units_[kept] = std::move(units_[i]);
      ++kept;
    }
    units_.resize(kept);
    return ok_status();
  }

  std::vector<BlockUnit> take() { return std::move(units_); }

 private:
  static bool is_weight(const Value& value, const Tensor& tensor) {
    return std::ranges::any_of(value.uses(), [&](const Use& use) {
      return use.node != nullptr && weight_view(*use.node, use.slot, tensor.dims());
    });
  }

  static bool is_overridable(const Value& value) {
    return value.is_initializer() && value.constant() == nullptr;
  }

  void skip(const Value& value, const Tensor& tensor, const Node* user, std::string why) {
    explain_kept(context_, value, tensor, user, std::move(why));
  }

  // Finds rows and kind; the reason why the value stays.
  std::string look_at_users(BlockUnit::Holder& holder) {
    const auto dims = holder.tensor.dims();
    bool products = true, tables = true;
    for (const Use& use : holder.value->uses()) {
      if (use.node == nullptr) return "is an output of the graph";
      const auto view = weight_view(*use.node, use.slot, dims);
      if (!view) {
        holder.user = use.node;
        return "is not a weight of " + std::string(use.node->op_type()) + " '" + use.node->label() +
               "'";
      }
      if (std::string why = selection_.why_not(*use.node, holder.value); !why.empty()) {
        holder.user = use.node;
        return why;
      }
      const RowView rows = row_view(*view, dims);
      if (holder.user == nullptr) {
        holder.view = rows;
        holder.user = use.node;
      }
      // The same numbers for all; the rows of the first reader decide.
      const bool same_rows = rows.rows == holder.view.rows && rows.outer == holder.view.outer;
      products = products && same_rows && is_plain_product(*use.node, use.slot, holder.tensor);
      tables = tables && same_rows && use.node->is("Gather") && use.graph == &holder.value->graph();
      if (use.graph != &holder.value->graph()) products = false;
    }
    holder.kind = products ? Kind::kProduct : tables ? Kind::kTable : Kind::kOther;
    return {};
  }

  Form form_for(const BlockUnit::Holder& holder) const {
    if (request_.form) {
      const bool fits = *request_.form == Form::kMatMulNBits   ? holder.kind == Kind::kProduct
                        : *request_.form == Form::kGatherBlock ? holder.kind == Kind::kTable
                                                               : true;
      if (fits) return *request_.form;
      if (*request_.form == Form::kMatMulNBits && holder.kind == Kind::kTable) {
        return Form::kGatherBlock;
      }
      return Form::kFold;
    }
    switch (holder.kind) {
      case Kind::kProduct: {
        const bool slow =
            rule_.products == Form::kMatMulNBits &&
            (holder.view.columns() < kNBitsInputs || holder.view.rows < kNBitsOutputs);
        return !slow && holder.tensor.elements() >= rule_.min_product_elements ? rule_.products
                                                                               : rule_.others;
      }
      case Kind::kTable:
        return rule_.tables;
      case Kind::kOther:
        return rule_.others;
    }
    return Form::kNone;
  }

  // Form and format; the reason why there is none.
  std::string choose(BlockUnit& unit) {
    BlockUnit::Holder& holder = unit.holders.front();
    unit.format = holder.kind == Kind::kTable && request_.table_format ? *request_.table_format
                                                                       : request_.format;
    BlockFormat& format = unit.format;
    const std::size_t columns = unit.columns();
    if (columns < kShortestRow) {
      return "has rows of " + std::to_string(columns) + " weights: too short for few bits";
    }
    holder.form = form_for(holder);
    // Rows of the operator are whole bytes.
    if (holder.form == Form::kGatherBlock &&
        columns * static_cast<std::size_t>(format.bits) % 8 != 0) {
      holder.form = Form::kFold;
    }
    // The operators of packed products have no blocks of whole rows.
    if (!request_.form && holder.form == Form::kMatMulNBits && format.block == 0 &&
        std::ranges::find(rule_.block_sizes, 0) == rule_.block_sizes.end()) {
      holder.form = rule_.others;
    }
    // ONNX Runtime's CPU kernels of both operators know float32 and float16.
    if (holder.is_packed() && holder.type == DataType::kBfloat16) holder.form = Form::kFold;
    if (holder.form == Form::kNone) {
      return "is not taken in few bits (" + rule_name(context_.target(), "blocks") + ")";
    }
    if (std::ranges::find(rule_.bits, format.bits) == rule_.bits.end()) {
      return std::to_string(format.bits) + " bits are not taken (" +
             rule_name(context_.target(), "blocks") + ")";
    }
    const std::int64_t opset = holder.value->graph().model().opset("");
    if (holder.form == Form::kDequantize && opset < dequantize_opset(format)) {
      // Blocks of 8 bits and what is smaller came late; older models can compute the same.
      holder.form = Form::kFold;
    }
    if (holder.form == Form::kFold) {
      if (std::string why = why_no_broadcast(holder.value->graph().model()); !why.empty()) {
        return why;
      }
    }
    fit_format(holder, format);
    if (const auto block = static_cast<std::int64_t>(format.block);
        holder.form != Form::kFold && !rule_.block_sizes.empty() &&
        std::ranges::find(rule_.block_sizes, block) == rule_.block_sizes.end()) {
      return "blocks of " + (block == 0 ? std::string("whole rows") : std::to_string(block)) +
             " are not taken (" + rule_name(context_.target(), "blocks") + ")";
    }
    const double bytes =
        format.bits_per_weight(columns) * static_cast<double>(holder.tensor.elements()) / 8;
    constexpr double kNodes = 600;  // of the nodes and names that are added
    if (bytes + kNodes >= static_cast<double>(holder.tensor.byte_size())) {
      return "would not get smaller";
    }
    return {};
  }

  // Unpacking takes some ten nodes, bytes with a scale per channel take two: for a small weight
  // these are more than what shorter codes save, and bytes lose less.
  std::string why_no_gain_over_bytes(const BlockUnit& unit) const {
    if (request_.form || unit.holders.front().form != Form::kFold || unit.format.bits >= 8) {
      return {};
    }
    constexpr double kMoreNodes = 1000;  // bytes of nodes and names, measured on 24 weights
    const auto elements = static_cast<double>(unit.holders.front().tensor.elements());
    const double blocks = unit.format.bits_per_weight(unit.columns()) * elements / 8;
    if (blocks + kMoreNodes < elements + 4 * static_cast<double>(unit.rows())) return {};
    return "takes no fewer bytes in " + std::to_string(unit.format.bits) +
           " bits than in 8: the nodes that unpack it count, too";
  }

  // What the form can hold.
  void fit_format(const BlockUnit::Holder& holder, BlockFormat& format) const {
    if (rule_.symmetric) format.asymmetric = false;
    // DequantizeLinear knows blocks along one axis, and its scales have the type of its result.
    if (holder.form == Form::kDequantize) {
      format.scales = holder.type;
      if (!holder.view.axis) format.block = 0;
    }
    // float32 ones may be stored narrower, behind a Cast.
    if (holder.is_packed() && holder.type != DataType::kFloat) format.scales = holder.type;
    if (!holder.is_packed() && format.block >= holder.view.columns()) format.block = 0;
  }

  static bool may_share(const BlockUnit& first, const BlockUnit& second) {
    const BlockUnit::Holder &a = first.holders.front(), &b = second.holders.front();
    // Other forms hold their codes in the order of their own weight.
    return &a.value->graph() == &b.value->graph() && a.is_packed() && b.is_packed() &&
           a.type == b.type && first.format.block == second.format.block &&
           first.columns() % first.format.block == 0;
  }

  const BlockRequest& request_;
  PassContext& context_;
  const BlockRule& rule_;
  Selection selection_;
  std::vector<BlockUnit> units_;
};

}  // namespace

RowView row_view(const WeightView& view, std::span<const std::int64_t> dims) {
  RowView rows;
  rows.outer = static_cast<std::size_t>(view.outer);
  rows.rows = static_cast<std::size_t>(view.channels);
  rows.inner = static_cast<std::size_t>(view.inner);
  rows.row_axis = view.axis;
  if (dims.size() == 2 && view.axis >= 0) rows.axis = 1 - view.axis;
  return rows;
}

std::int64_t dequantize_opset(const BlockFormat& format) {
  return format.bits == 2 ? kTwoBitOpset : kFourBitOpset;
}

Result<BlockFormat> block_format(std::string_view type, std::int64_t block, const BlockRule& rule) {
  BlockFormat format;
  format.bits = type.back() - '0';
  format.asymmetric = type.starts_with("uint");
  if (block > 0 && (block < 16 || (block & (block - 1)) != 0)) {
    return Error(Code::kUsage, "block-size",
                 "a block of " + std::to_string(block) + " weights is not a power of two from 16",
                 {{}, "block-size", {}}, "blocks have 16, 32, 64, 128 or 256 weights");
  }
  constexpr std::int64_t kUsual = 32;
  const std::vector<std::int64_t>& sizes = rule.block_sizes;
  format.block = static_cast<std::size_t>(block >= 0 ? block : kUsual);
  if (block < 0 && !sizes.empty() && std::ranges::find(sizes, kUsual) == sizes.end()) {
    const auto larger = std::ranges::find_if(sizes, [](std::int64_t s) { return s >= kUsual; });
    format.block = static_cast<std::size_t>(larger != sizes.end() ? *larger : sizes.front());
  }
  return format;
}

Result<FoundBlockUnit> block_unit_of(Value& value, const BlockRequest& request,
                                     PassContext& context) {
  const std::optional<Tensor> tensor =
      value.is_initializer() ? *value.initializer() : constant_of(&value);
  FoundBlockUnit found;
  found.why = "is no float32 constant";
  if (!tensor || tensor->dtype() != DataType::kFloat) return found;
  return Planner(request, context).look_at(value, *tensor);
}

Result<std::vector<BlockUnit>> plan_blocks(Model& model, const BlockRequest& request,
                                           PassContext& context) {
  Planner planner(request, context);
  for (Value* value : constants_of(model.graph())) MCOMPRESS_TRY(planner.consider(*value));
  MCOMPRESS_TRY(planner.join_copies());
  return planner.take();
}

}  // namespace mcompress
