#include "passes/common/linear.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "ir/convert.h"
#include "numeric/fold.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

// A fold that numbers forbid travels as an error of this kind until it is a reason again.
constexpr std::string_view kRefused = "fold-refused";
Error refused(std::string why) { return Error(Code::kUnsupported, kRefused, std::move(why)); }

bool foldable_type(DataType type) {
  return type == DataType::kFloat || type == DataType::kFloat16 || type == DataType::kBfloat16;
}

std::string type_reason(DataType type) {
  return "weights of type " + dtype_name(type) + " are not folded";
}

// The bias operand of a Gemm or an Add as one number per channel, or the reason why it is none.
std::string check_bias(const LinearOp& op, const Value& bias) {
  if (!is_constant(&bias)) {
    return "the bias '" + std::string(bias.name()) + "' of " + op.label() + " is no constant";
  }
  if (!per_channel(op, &bias)) {
    return "the bias '" + std::string(bias.name()) + "' of " + op.label() +
           " is not one number per channel";
  }
  return {};
}

// Multiplies all weights of output channel o by a[o].
Result<Tensor> scaled_weight(PassContext& context, const LinearOp& op, const Tensor& weight,
                             std::span<const double> a) {
  const DTypeInfo& info = *find_dtype(weight.dtype());
  const std::uint64_t width = info.bits / 8;
  // Groups lie one behind the other, each with channels of its own.
  const std::int64_t per_group = weight.elements() / op.layout.groups;
  ChannelLayout layout;
  layout.channels = op.layout.channels;
  for (std::size_t i = op.layout.axis + 1; i < weight.dims().size(); ++i) {
    layout.inner *= weight.dims()[i];
  }
  layout.outer = per_group / std::max<std::int64_t>(1, layout.channels * layout.inner);

  std::vector<float> values;
  const auto fill = [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
    MCOMPRESS_ASSIGN(const Pinned pinned, weight.storage()->pin(offset, out.size()));
    values.resize(out.size() / width);
    decode_to_float(weight.dtype(), pinned.bytes(), values);
    auto first = static_cast<std::int64_t>(offset / width);
    for (std::span<float> rest(values); !rest.empty();) {
      const std::int64_t group = first / per_group;
      const auto count = static_cast<std::size_t>(std::min<std::int64_t>(
          static_cast<std::int64_t>(rest.size()), (group + 1) * per_group - first));
      const auto channels = static_cast<std::size_t>(layout.channels);
      if (FoldFailure failure =
              scale_channels(first - group * per_group, rest.first(count), layout,
                             a.subspan(static_cast<std::size_t>(group) * channels, channels))) {
        return refused(std::move(*failure));
      }
      rest = rest.subspan(count);
      first += static_cast<std::int64_t>(count);
    }
    encode_from_float(weight.dtype(), values, out, {});
    weight.storage()->release(offset, out.size());
    return ok_status();
  };
  return context.tensors().make(
      weight.dtype(), std::vector<std::int64_t>(weight.dims().begin(), weight.dims().end()), fill);
}

Result<Tensor> folded_bias(const LinearOp& op, const Value* bias, DataType type,
                           std::span<const double> a, std::span<const double> c) {
  const auto channels = static_cast<std::size_t>(op.channels);
  std::vector<float> old(channels, 0.0f);
  if (bias != nullptr) {
    const auto values = per_channel(op, bias);
    for (std::size_t i = 0; i < channels; ++i) old[i] = static_cast<float>((*values)[i]);
  }
  std::vector<float> folded(channels);
  if (FoldFailure failure = fold_bias(old, a, c, folded)) return refused(std::move(*failure));
  const auto bytes = packed_bytes(type, op.channels);
  std::vector<std::byte> packed(bytes.value_or(0));
  encode_from_float(type, folded, packed, {});
  return make_bytes_tensor(type, {op.channels}, std::move(packed));
}

// New data for an operand: in place when this is its only use, else as a new initializer.
void give_constant(PassContext& context, Node& node, std::size_t slot, std::string_view base,
                   Tensor tensor) {
  Value* value = node.input(slot);
  if (value != nullptr && value->is_initializer() && value->uses().size() == 1 &&
      !value->is_graph_input()) {
    context.edit().set_constant(*value, std::move(tensor));
    return;
  }
  Value& fresh = add_constant(context, node.graph(), base, std::move(tensor));
  context.edit().set_input(node, slot, &fresh);
}

bool all_equal(std::span<const double> values, double number) {
  return std::ranges::all_of(values, [&](double value) { return value == number; });
}

}  // namespace

std::string LinearOp::label() const {
  return std::string(node->op_type()) + " '" + node->label() + "'";
}

std::optional<std::vector<double>> per_channel(const LinearOp& op, const Value* constant) {
  const auto tensor = constant_of(constant);
  if (!tensor || tensor->elements() > std::max<std::int64_t>(op.channels, 1)) return std::nullopt;
  const std::size_t rank = tensor->dims().size();
  // Without a known rank of the output, at most one axis is certain not to add another.
  if (rank > op.rank.value_or(1)) return std::nullopt;
  for (std::size_t i = 0; i < rank; ++i) {
    const bool channel_axis = rank - 1 - i == op.channel_axis_from_end;
    const std::int64_t size = tensor->dims()[i];
    if (size != 1 && !(channel_axis && size == op.channels)) return std::nullopt;
  }
  auto values = constant_reals(constant, op.channels);
  if (!values) return std::nullopt;
  if (values->size() == 1) values->resize(static_cast<std::size_t>(op.channels), values->front());
  return values;
}

LinearSearch find_linear(Value& value) {
  LinearSearch search;
  Node* producer = value.producer();
  if (producer == nullptr) {
    search.why = "its input is computed by no node";
    return search;
  }
  LinearOp op;
  op.output = &value;
  op.node = producer;
  Value* bias = nullptr;
  if (producer->is("Add")) {
    for (std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
      Node* matmul = made_by(producer->input(slot), "MatMul");
      if (matmul == nullptr || only_user(*producer->input(slot)) != producer) continue;
      if (!is_constant(producer->input(1 - slot))) continue;
      op.node = matmul;
      op.add = producer;
      bias = producer->input(1 - slot);
      break;
    }
  }
  static constexpr std::array<std::string_view, 4> kKinds = {"Conv", "ConvTranspose", "Gemm",
                                                             "MatMul"};
  const bool kind_fits =
      std::ranges::any_of(kKinds, [&](std::string_view kind) { return op.node->is(kind); });
  if (!kind_fits) {
    search.why =
        "its input comes from " + std::string(producer->op_type()) + " '" + producer->label() + "'";
    return search;
  }
  search.kind_fits = true;
  const Value* weight = op.node->input(1);
  const auto data = constant_of(weight);
  if (!data) {
    search.why = "the weight of " + op.label() + " is no constant";
    return search;
  }
  if (!foldable_type(data->dtype())) {
    search.why = type_reason(data->dtype());
    return search;
  }
  const auto layout = weight_layout(*op.node);
  if (!layout || (op.is_matmul() && data->dims().size() != 2)) {
    search.why = "the weight of " + op.label() + " has an unusual shape";
    return search;
  }
  op.layout = *layout;
  op.channels = layout->channels * layout->groups;
  const bool spatial = op.node->is("Conv") || op.node->is("ConvTranspose");
  if (spatial) {
    op.rank = data->dims().size();
    op.channel_axis_from_end = *op.rank - 2;
  } else if (op.node->is("Gemm")) {
    op.rank = 2;
  } else {
    op.rank = rank_of(*op.node->output(0));
    if (!op.rank && op.node->input(0) != nullptr) op.rank = rank_of(*op.node->input(0));
  }
  if (!op.is_matmul()) bias = op.node->input(2);
  if (bias != nullptr) {
    // The bias of a convolution is [C] whatever the rank of its output.
    LinearOp view = op;
    if (spatial) view.rank = 1, view.channel_axis_from_end = 0;
    search.why = check_bias(view, *bias);
    if (!search.why.empty()) return search;
  }
  search.op = op;
  return search;
}

Result<std::string> absorb_affine(PassContext& context, const LinearOp& op, Node& absorbed,
                                  std::span<const double> a, std::span<const double> c) {
  Editor& editor = context.edit();
  Value& result = *absorbed.output(0);
  if (std::string why = editor.why_not_replace(result, *op.output); !why.empty()) return why;

  // y = alpha A B + beta C: alpha goes into the weight, beta into the bias.
  const bool gemm = op.node->is("Gemm");
  std::vector<double> weight_factors(a.begin(), a.end()), bias_factors(a.begin(), a.end());
  if (gemm) {
    const double alpha = op.node->float_attribute("alpha", 1.0f);
    const double beta = op.node->float_attribute("beta", 1.0f);
    for (double& factor : weight_factors) factor *= alpha;
    for (double& factor : bias_factors) factor *= beta;
  }
  const Tensor weight = *constant_of(op.node->input(op.layout.slot));
  Node* bias_node = op.is_matmul() ? op.add : op.node;
  std::size_t bias_slot = 2;
  if (op.add != nullptr) bias_slot = is_constant(op.add->input(1)) ? 1 : 0;
  Value* old_bias = bias_node != nullptr ? bias_node->input(bias_slot) : nullptr;

  std::optional<Tensor> new_weight, new_bias;
  if (!all_equal(weight_factors, 1.0)) {
    auto scaled = scaled_weight(context, op, weight, weight_factors);
    if (!scaled.ok()) {
      if (scaled.error().diagnostic.id == kRefused) return scaled.error().diagnostic.message;
      return std::move(scaled).error();
    }
    new_weight = std::move(*scaled);
  }
  const bool bias_changes = old_bias != nullptr ? !all_equal(bias_factors, 1.0) : false;
  if (bias_changes || !all_equal(c, 0.0)) {
    LinearOp view = op;
    if (!op.is_matmul() && !gemm) view.rank = 1, view.channel_axis_from_end = 0;
    auto folded = folded_bias(view, old_bias, weight.dtype(), bias_factors, c);
    if (!folded.ok()) return folded.error().diagnostic.message;
    new_bias = std::move(*folded);
  }

  // Only edits from here on.
  const std::string base(result.name());
  if (new_weight) {
    give_constant(context, *op.node, op.layout.slot,
                  std::string(op.node->input(op.layout.slot)->name()) + "_folded",
                  std::move(*new_weight));
  }
  Value* output = op.output;
  if (new_bias && bias_node != nullptr) {
    give_constant(context, *bias_node, bias_slot, base + "_bias", std::move(*new_bias));
  } else if (new_bias) {
    Value& bias = add_constant(context, absorbed.graph(), base + "_bias", std::move(*new_bias));
    Node& add =
        editor.insert_before(absorbed, {"Add", {output, &bias}, 1, base + "_add", "", {}, {}});
    output = add.output(0);
  }
  if (gemm) {
    editor.remove_attribute(*op.node, "alpha");
    editor.remove_attribute(*op.node, "beta");
  }
  return bypass(context, absorbed, *output);
}

}  // namespace mcompress
