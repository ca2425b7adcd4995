#include "passes/common/fusion/linear.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>

#include "ir/convert.h"
#include "ir/deferred.h"
#include "numeric/fold.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

// A fold that numbers forbid travels as an error of this kind until it is a reason again.
constexpr std::string_view kRefused = "fold-refused";
Error refused(std::string why) { return Error(Code::kUnsupported, kRefused, std::move(why)); }
Result<std::string> reason_or_error(Error error) {
  if (error.diagnostic.id == kRefused) return std::move(error.diagnostic.message);
  return error;
}

bool foldable_type(DataType type) {
  return type == DataType::kFloat || type == DataType::kFloat16 || type == DataType::kBfloat16;
}

std::string type_reason(DataType type) {
  return "weights of type " + dtype_name(type) + " are not folded";
}

bool all_equal(std::span<const double> values, double number) {
  return std::ranges::all_of(values, [&](double value) { return value == number; });
}

// The bias of a convolution is [C], whatever the rank of its output.
ChannelAxis bias_axis(const LinearOp& op) {
  const bool spatial = op.is("Conv") || op.is("ConvTranspose");
  return spatial ? ChannelAxis{op.out.channels, 1, 0} : op.out;
}

// Empty, or the reason why the operand can not be taken as one number per channel.
// Whether a constant is one number, or one per channel.
bool fits(const ChannelAxis& axis, const Value& constant) {
  const auto dims = static_shape(constant);
  // Without a known rank of the tensor, at most one axis is certain not to add another.
  if (!dims || dims->size() > axis.rank.value_or(1)) return false;
  for (std::size_t i = 0; i < dims->size(); ++i) {
    const bool channel_axis = dims->size() - 1 - i == axis.from_end;
    const std::int64_t size = (*dims)[i];
    if (size != 1 && !(channel_axis && size == axis.channels)) return false;
  }
  return true;
}

std::string check_bias(const LinearOp& op, const Value& bias) {
  const std::string name = "the bias '" + std::string(bias.name()) + "' of " + op.label();
  if (!is_constant(&bias)) return name + " is no constant";
  // Floats can be read: there is no need to try.
  const Tensor* held = bias.initializer();
  const bool reads = foldable_type(element_type(bias)) && (held == nullptr || !held->is_opaque());
  const ChannelAxis axis = bias_axis(op);
  if (!fits(axis, bias) || (!reads && !per_channel(axis, &bias))) {
    return name + " is not one number per channel";
  }
  return {};
}

// The operand that is or may become the bias.
struct BiasSlot {
  Node* node = nullptr;  // null: a MatMul without Add
  std::size_t slot = 2;
  Value* value = nullptr;
};
BiasSlot bias_slot(const LinearOp& op) {
  BiasSlot bias;
  bias.node = op.is("MatMul") ? op.add : op.node;
  if (op.add != nullptr) bias.slot = is_constant(op.add->input(1)) ? 1 : 0;
  if (bias.node != nullptr) bias.value = bias.node->input(bias.slot);
  return bias;
}

// y = alpha A B + beta C: once alpha is in the weight and beta in the bias, both are 1.
double gemm_factor(const LinearOp& op, std::string_view name) {
  return op.is("Gemm") ? static_cast<double>(op.node->float_attribute(name, 1.0f)) : 1.0;
}
void drop_gemm_factors(PassContext& context, const LinearOp& op) {
  if (!op.is("Gemm")) return;
  context.edit().remove_attribute(*op.node, "alpha");
  context.edit().remove_attribute(*op.node, "beta");
}

// Encodes, and fails when a number that float32 holds is beyond the type.
Status encode_finite(DataType type, std::span<const float> values, std::span<std::byte> out) {
  encode_from_float(type, values, out, {});
  if (type == DataType::kFloat) return ok_status();
  std::vector<float> rounded(values.size());
  decode_to_float(type, out, rounded);
  for (std::size_t i = 0; i < rounded.size(); ++i) {
    if (std::isfinite(rounded[i])) continue;
    return refused("a folded number, " + std::to_string(values[i]) + ", is too large for " +
                   dtype_name(type));
  }
  return ok_status();
}

Result<Tensor> float_constant(DataType type, std::span<const float> values,
                              std::vector<std::int64_t> dims) {
  const auto bytes = packed_bytes(type, static_cast<std::int64_t>(values.size()));
  std::vector<std::byte> packed(bytes.value_or(0));
  MCOMPRESS_TRY(encode_finite(type, values, packed));
  return make_bytes_tensor(type, std::move(dims), std::move(packed));
}

// Multiplies the weights of each channel of `by` by factors[channel].
Result<Tensor> scaled_weight(PassContext& context, const WeightLayout& by, const Tensor& weight,
                             std::span<const double> factors) {
  const DTypeInfo& info = *find_dtype(weight.dtype());
  const std::uint64_t width = info.bits / 8;
  // Groups lie one behind the other, each with channels of its own.
  const std::int64_t per_group = weight.elements() / by.groups;
  ChannelLayout layout;
  layout.channels = by.channels;
  for (std::size_t i = by.axis + 1; i < weight.dims().size(); ++i) {
    layout.inner *= weight.dims()[i];
  }
  layout.outer = per_group / std::max<std::int64_t>(1, layout.channels * layout.inner);

  // These may be called when this is long done, so that they hold what they read.
  const auto scale = [layout, per_group,
                      factors = std::vector<double>(factors.begin(), factors.end())](
                         std::int64_t first, std::span<float> values) -> Status {
    const auto channels = static_cast<std::size_t>(layout.channels);
    while (!values.empty()) {
      const std::int64_t group = first / per_group;
      const auto count = static_cast<std::size_t>(std::min<std::int64_t>(
          static_cast<std::int64_t>(values.size()), (group + 1) * per_group - first));
      if (FoldFailure failure = scale_channels(
              first - group * per_group, values.first(count), layout,
              std::span(factors).subspan(static_cast<std::size_t>(group) * channels, channels))) {
        return refused(std::move(*failure));
      }
      values = values.subspan(count);
      first += static_cast<std::int64_t>(count);
    }
    return ok_status();
  };
  const auto fill = [weight, width, scale](std::uint64_t offset,
                                           std::span<std::byte> out) -> Status {
    MCOMPRESS_ASSIGN(const Pinned pinned, weight.storage()->pin(offset, out.size()));
    const bool in_place = weight.dtype() == DataType::kFloat &&
                          reinterpret_cast<std::uintptr_t>(out.data()) % alignof(float) == 0;
    std::vector<float> decoded;
    constexpr std::size_t kPiece = std::size_t{256} << 10;  // stays in the cache between the steps
    for (std::size_t at = 0; at < out.size(); at += kPiece) {
      const std::span<std::byte> piece = out.subspan(at, std::min(kPiece, out.size() - at));
      const std::span<const std::byte> source = pinned.bytes().subspan(at, piece.size());
      const auto first = static_cast<std::int64_t>((offset + at) / width);
      if (in_place) {
        std::memcpy(piece.data(), source.data(), piece.size());
        MCOMPRESS_TRY(scale(first, {reinterpret_cast<float*>(piece.data()), piece.size() / width}));
      } else {
        decoded.resize(piece.size() / width);
        decode_to_float(weight.dtype(), source, decoded);
        MCOMPRESS_TRY(scale(first, decoded));
        MCOMPRESS_TRY(encode_finite(weight.dtype(), decoded, piece));
      }
    }
    weight.storage()->release(offset, out.size());
    return ok_status();
  };
  return defer_tensor(context.tensors(), context.executor(), weight.dtype(),
                      {weight.dims().begin(), weight.dims().end()}, fill);
}

// sums[o] = sum over inputs i of W_oi c_i, in the order of the elements.
Result<std::vector<double>> shift_products(const LinearOp& op, const Tensor& weight,
                                           std::span<const double> c) {
  std::vector<double> sums(static_cast<std::size_t>(op.out.channels), 0.0);
  // [outputs, inputs of the group, taps], or [inputs, outputs].
  const bool outputs_first = op.layout.axis == 0;
  const std::int64_t inputs = op.in_layout->channels;
  const std::int64_t outputs = op.out.channels;
  const std::int64_t taps =
      outputs_first ? weight.elements() / std::max<std::int64_t>(1, outputs * inputs) : 1;
  const std::int64_t outputs_per_group = std::max<std::int64_t>(1, outputs / op.in_layout->groups);
  MCOMPRESS_TRY(read_as_float(
      weight, std::size_t{1} << 16, [&](std::int64_t first, std::span<const float> chunk) {
        for (std::size_t k = 0; k < chunk.size(); ++k) {
          const std::int64_t at = first + static_cast<std::int64_t>(k);
          std::int64_t o = at % outputs, i = at / outputs;
          if (outputs_first) {
            o = at / (inputs * taps);
            i = at / taps % inputs + o / outputs_per_group * inputs;
          }
          sums[static_cast<std::size_t>(o)] +=
              static_cast<double>(chunk[k]) * c[static_cast<std::size_t>(i)];
        }
      }));
  return sums;
}

// float(a bias + c) for each output channel.
Result<Tensor> folded_bias(const LinearOp& op, const Value* bias, DataType type,
                           std::span<const double> a, std::span<const double> c) {
  std::vector<float> old(static_cast<std::size_t>(op.out.channels), 0.0f);
  if (bias != nullptr) {
    const auto values = per_channel(bias_axis(op), bias);
    if (!values) return refused("its bias can not be read");
    for (std::size_t i = 0; i < old.size(); ++i) old[i] = static_cast<float>((*values)[i]);
  }
  std::vector<float> folded(old.size());
  if (FoldFailure failure = fold_bias(old, a, c, folded)) return refused(std::move(*failure));
  return float_constant(type, folded, {op.out.channels});
}

void give_weight(PassContext& context, const LinearOp& op, Tensor tensor) {
  const std::string base = std::string(op.node->input(op.layout.slot)->name()) + "_folded";
  give_constant(context, *op.node, op.layout.slot, base, std::move(tensor));
}

}  // namespace

std::string LinearOp::label() const {
  return std::string(node->op_type()) + " '" + node->label() + "'";
}

std::optional<std::vector<double>> per_channel(const ChannelAxis& axis, const Value* constant) {
  if (!is_constant(constant) || !fits(axis, *constant)) return std::nullopt;
  auto values = constant_reals(constant, std::max<std::int64_t>(axis.channels, 1));
  if (!values) return std::nullopt;
  if (values->size() == 1) {
    values->resize(static_cast<std::size_t>(axis.channels), values->front());
  }
  return values;
}

LinearSearch linear_operator(Node& node) {
  LinearSearch search;
  search.kind_fits =
      std::ranges::any_of(kLinearOperators, [&](std::string_view kind) { return node.is(kind); });
  if (!search.kind_fits) {
    search.why = "its input comes from " + std::string(node.op_type()) + " '" + node.label() + "'";
    return search;
  }
  LinearOp op;
  op.node = &node;
  op.output = node.output(0);
  const Value* weight = node.input(1);
  if (!is_constant(weight)) {
    search.why = "the weight of " + op.label() + " is no constant";
    return search;
  }
  if (const DataType type = element_type(*weight); !foldable_type(type)) {
    search.why = type_reason(type);
    return search;
  }
  const auto layout = weight_layout(node);
  const auto dims = static_shape(*weight).value_or(std::vector<std::int64_t>());
  if (!layout || (op.is("MatMul") && dims.size() != 2) || node.input(0) == nullptr) {
    search.why = "the weight of " + op.label() + " has an unusual shape";
    return search;
  }
  op.layout = *layout;
  op.out.channels = layout->channels * layout->groups;
  WeightLayout inputs;
  if (op.is("Conv") || op.is("ConvTranspose")) {
    op.out.rank = op.in.rank = dims.size();
    op.out.from_end = op.in.from_end = dims.size() - 2;
    if (op.is("Conv")) inputs.groups = std::max<std::int64_t>(1, node.int_attribute("group", 1));
    inputs.axis = op.is("Conv") ? 1 : 0;
  } else {
    op.in.rank = op.is("Gemm") ? 2 : rank_of(*node.input(0));
    op.out.rank = op.is("Gemm") ? 2 : rank_of(*node.output(0));
    if (!op.out.rank) op.out.rank = op.in.rank;
    inputs.axis = 1 - layout->axis;
  }
  inputs.channels = dims[inputs.axis];
  op.in.channels = inputs.channels * inputs.groups;
  if (node.int_attribute("transA", 0) == 0) op.in_layout = inputs;
  if (const Value* bias = op.is("MatMul") ? nullptr : node.input(2)) {
    search.why = check_bias(op, *bias);
    if (!search.why.empty()) return search;
  }
  search.op = op;
  return search;
}

LinearSearch find_linear(Value& value) {
  Node* producer = value.producer();
  if (producer == nullptr) return {std::nullopt, "its input is computed by no node", false};
  if (!producer->is("Add")) return linear_operator(*producer);
  for (std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
    Node* matmul = made_by(producer->input(slot), "MatMul");
    const Value* bias = producer->input(1 - slot);
    if (matmul == nullptr || only_user(*producer->input(slot)) != producer || !is_constant(bias)) {
      continue;
    }
    LinearSearch search = linear_operator(*matmul);
    if (!search.op) return search;
    search.op->add = producer;
    search.op->output = &value;
    search.why = check_bias(*search.op, *bias);
    if (!search.why.empty()) search.op.reset();
    return search;
  }
  return linear_operator(*producer);
}

void find_bias(LinearOp& op) {
  if (!op.is("MatMul") || op.add != nullptr) return;
  Node* add = only_user(*op.output);
  if (add == nullptr || !add->is("Add") || add->output(0) == nullptr) return;
  LinearSearch with_bias = find_linear(*add->output(0));
  if (with_bias.op) op = *with_bias.op;
}

AffineStep affine_step(const Node& node, const ChannelAxis& axis) {
  AffineStep step;
  const bool product = node.is("Mul") || node.is("Div");
  if (!product && !node.is("Add") && !node.is("Sub")) return step;
  if (node.input(0) == nullptr || node.input(1) == nullptr) return step;
  const std::size_t slot = is_constant(node.input(1)) ? 1 : 0;
  const Value* constant = node.input(slot);
  if (!is_constant(constant) || is_constant(node.input(1 - slot))) return step;
  const auto values = per_channel(axis, constant);
  if (!values) {
    step.why_not =
        "the constant '" + std::string(constant->name()) + "' is not one number per channel";
    return step;
  }
  step.a.assign(values->size(), 1.0);
  step.c.assign(values->size(), 0.0);
  for (std::size_t i = 0; i < values->size(); ++i) {
    const double number = (*values)[i];
    if (node.is("Mul")) {
      step.a[i] = number;
    } else if (node.is("Add")) {
      step.c[i] = number;
    } else if (node.is("Sub")) {
      step.c[i] = slot == 1 ? -number : number;
      step.a[i] = slot == 1 ? 1.0 : -1.0;
    } else if (slot == 0 || number == 0.0) {
      step.why_not = slot == 0 ? "it divides a constant by its input" : "it divides by 0";
      return step;
    } else {
      step.a[i] = 1.0 / number;
    }
  }
  step.input = node.input(1 - slot);
  return step;
}

AffineRun run_before(Value& end, const Node& reader, const ChannelAxis& axis) {
  AffineRun run;
  run.input = &end;
  const Node* next = &reader;
  while (only_user(*run.input) == next && run.input->producer() != nullptr) {
    Node* node = run.input->producer();
    const AffineStep step = affine_step(*node, axis);
    if (step.input == nullptr) break;
    if (run.nodes.empty()) {
      run.a = step.a;
      run.c = step.c;
    } else {
      // The steps found so far come after this one: a (a' x + c') + c.
      for (std::size_t i = 0; i < run.a.size(); ++i) {
        run.c[i] += run.a[i] * step.c[i];
        run.a[i] *= step.a[i];
      }
    }
    run.nodes.push_back(node);
    run.input = step.input;
    next = node;
  }
  std::ranges::reverse(run.nodes);
  return run;
}

namespace {

// What an operator needs in order to make a y + c.
struct Folded {
  std::optional<Tensor> weight, bias;
};
Result<Folded> fold_behind(PassContext& context, const LinearOp& op, std::span<const double> a,
                           std::span<const double> c) {
  std::vector<double> weight_factors(a.begin(), a.end()), bias_factors(a.begin(), a.end());
  for (double& factor : weight_factors) factor *= gemm_factor(op, "alpha");
  for (double& factor : bias_factors) factor *= gemm_factor(op, "beta");
  const Tensor weight = *constant_of(op.node->input(op.layout.slot));
  const BiasSlot bias = bias_slot(op);
  Folded folded;
  if (!all_equal(weight_factors, 1.0)) {
    MCOMPRESS_ASSIGN(folded.weight, scaled_weight(context, op.layout, weight, weight_factors));
  }
  if ((bias.value != nullptr && !all_equal(bias_factors, 1.0)) || !all_equal(c, 0.0)) {
    MCOMPRESS_ASSIGN(folded.bias, folded_bias(op, bias.value, weight.dtype(), bias_factors, c));
  }
  return folded;
}

}  // namespace

Result<std::string> absorb_behind(PassContext& context, const LinearOp& op, Node& absorbed,
                                  std::span<const double> a, std::span<const double> c) {
  Editor& editor = context.edit();
  Value& result = *absorbed.output(0);
  if (std::string why = editor.why_not_replace(result, *op.output); !why.empty()) return why;
  auto folded = fold_behind(context, op, a, c);
  if (!folded.ok()) return reason_or_error(std::move(folded).error());

  // Only edits from here on.
  const BiasSlot bias = bias_slot(op);
  const std::string base(result.name());
  if (folded->weight) give_weight(context, op, std::move(*folded->weight));
  Value* output = op.output;
  if (folded->bias && bias.node != nullptr) {
    give_constant(context, *bias.node, bias.slot, base + "_bias", std::move(*folded->bias));
  } else if (folded->bias) {
    Value& shift =
        add_constant(context, absorbed.graph(), base + "_bias", std::move(*folded->bias));
    Node& add =
        editor.insert_before(absorbed, {"Add", {output, &shift}, 1, base + "_add", "", {}, {}});
    output = add.output(0);
  }
  drop_gemm_factors(context, op);
  return bypass(context, absorbed, *output);
}

Result<std::string> scale_output(PassContext& context, const LinearOp& op,
                                 std::span<const double> a, std::span<const double> c) {
  const BiasSlot bias = bias_slot(op);
  if (bias.node == nullptr && !all_equal(c, 0.0)) return op.label() + " has no bias for a shift";
  auto folded = fold_behind(context, op, a, c);
  if (!folded.ok()) return reason_or_error(std::move(folded).error());
  if (folded->weight) give_weight(context, op, std::move(*folded->weight));
  if (folded->bias) {
    give_constant(context, *bias.node, bias.slot, std::string(op.output->name()) + "_bias",
                  std::move(*folded->bias));
  }
  drop_gemm_factors(context, op);
  return std::string();
}

bool takes_shift(const LinearOp& op) {
  if (op.is("Gemm")) return true;
  if (op.is("MatMul")) return op.add != nullptr;
  if (!op.is("Conv")) return false;
  const std::string_view auto_pad = op.node->string_attribute("auto_pad", "NOTSET");
  if (auto_pad == "VALID") return true;
  const auto pads = op.node->ints_attribute("pads");
  return auto_pad == "NOTSET" &&
         (!pads || std::ranges::all_of(*pads, [](std::int64_t pad) { return pad == 0; }));
}

Result<std::string> absorb_before(PassContext& context, const LinearOp& op, Value& input,
                                  std::span<const double> a, std::span<const double> c) {
  const Tensor weight = *constant_of(op.node->input(op.layout.slot));
  const bool shifts = !all_equal(c, 0.0);
  const bool into_bias = shifts && takes_shift(op);
  const BiasSlot bias = bias_slot(op);
  std::optional<Tensor> new_weight, new_bias, left_over;
  std::vector<double> factors(a.begin(), a.end());
  for (double& factor : factors) factor *= gemm_factor(op, "alpha");
  if (!all_equal(factors, 1.0)) {
    auto scaled = scaled_weight(context, *op.in_layout, weight, factors);
    if (!scaled.ok()) return reason_or_error(std::move(scaled).error());
    new_weight = std::move(*scaled);
  }
  const double beta = gemm_factor(op, "beta");
  if (into_bias || (beta != 1.0 && bias.value != nullptr)) {
    MCOMPRESS_ASSIGN(std::vector<double> sums, shift_products(op, weight, c));
    for (double& sum : sums) sum *= gemm_factor(op, "alpha");
    const std::vector<double> betas(sums.size(), beta);
    auto folded = folded_bias(op, bias.value, weight.dtype(), betas, sums);
    if (!folded.ok()) return reason_or_error(std::move(folded).error());
    new_bias = std::move(*folded);
  }
  if (shifts && !into_bias) {
    // a x + c = a (x + c / a)
    std::vector<float> shift(c.size());
    for (std::size_t i = 0; i < c.size(); ++i) {
      shift[i] = static_cast<float>(c[i] / a[i]);
      if (!std::isfinite(shift[i])) return std::string("a factor of 0 leaves nothing to shift");
    }
    std::vector<std::int64_t> dims;
    if (std::ranges::adjacent_find(shift, std::not_equal_to<>()) == shift.end()) {
      shift.resize(1);
    } else {
      dims.assign(op.in.from_end + 1, 1);
      dims[0] = op.in.channels;
    }
    auto rounded = float_constant(weight.dtype(), shift, std::move(dims));
    if (!rounded.ok()) return reason_or_error(std::move(rounded).error());
    left_over = std::move(*rounded);
  }

  // Only edits from here on.
  Value& before = *op.node->input(0);
  const std::string base(before.name());
  if (new_weight) give_weight(context, op, std::move(*new_weight));
  if (new_bias) {
    give_constant(context, *bias.node, bias.slot, std::string(op.output->name()) + "_bias",
                  std::move(*new_bias));
  }
  Value* source = &input;
  if (left_over) {
    Value& shift = add_constant(context, op.node->graph(), base + "_shift", std::move(*left_over));
    Node& add = context.edit().insert_before(
        *op.node, {"Add", {&input, &shift}, 1, base + "_shifted", "", {}, {}});
    source = add.output(0);
  }
  drop_gemm_factors(context, op);
  context.edit().set_input(*op.node, 0, source);
  MCOMPRESS_TRY(erase_unused(context, before));
  return std::string();
}

}  // namespace mcompress
