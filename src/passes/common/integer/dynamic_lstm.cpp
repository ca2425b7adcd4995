#include "passes/common/integer/dynamic_lstm.h"

#include <algorithm>
#include <vector>

#include "passes/common/rewrite.h"
#include "passes/common/weights.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::int64_t kGates = 4;

std::string why_not_weight(const Node& node, std::size_t slot) {
  const Value* value = node.input(slot);
  if (value == nullptr) return "lacks a weight";
  if (value->constant() == nullptr) {
    return value->initializer() != nullptr ? "a caller may override its weight"
                                           : "has a weight that is computed";
  }
  const Tensor& tensor = *value->constant();
  if (tensor.dtype() != DataType::kFloat) return "its weight is not float32";
  if (tensor.dims().size() != 3 || tensor.elements() == 0) return "has a weight of unusual shape";
  return {};
}

struct StoredWeight {
  Value *codes, *scale, *zero;
  std::uint64_t bytes = 0;
  double sqnr_db = 0;
};

// W or R, transposed; the scales in the order of the directions.
Result<StoredWeight> store(Node& node, std::size_t slot, bool per_channel, PassContext& context) {
  const Value& weight = *node.input(slot);
  const Tensor tensor = *weight.constant();
  const WeightView view = *weight_view(node, slot, tensor.dims());
  WeightRounding rounding;
  rounding.saturation_free = context.target().saturation_free_weights;
  const auto round = [&](std::span<const float> least) {
    return quantize_weight(tensor, view, rounding, false, {}, 1, least, context.tensors(),
                           context.executor());
  };
  MCOMPRESS_ASSIGN(QuantizedWeight quantized, round({}));
  const std::int64_t directions = tensor.dims()[0], rows = tensor.dims()[1];
  std::vector<std::int64_t> scale_dims = {directions, rows};
  if (!per_channel) {
    // The largest scale of a direction serves all its rows.
    std::vector<float> least(quantized.scales.size()), of_direction;
    for (std::int64_t d = 0; d < directions; ++d) {
      const auto first = quantized.scales.begin() + d * rows;
      of_direction.push_back(*std::max_element(first, first + rows));
      std::fill_n(least.begin() + d * rows, rows, of_direction.back());
    }
    MCOMPRESS_ASSIGN(quantized, round(least));
    quantized.scales = of_direction;
    scale_dims = {directions};
  }
  MCOMPRESS_ASSIGN(Tensor codes, transposed_codes(quantized.codes, context.tensors()));
  Editor& edit = context.edit();
  Graph& graph = node.graph();
  const std::string base(weight.name());
  StoredWeight stored;
  stored.bytes = codes.byte_size() + 5 * quantized.scales.size();
  stored.sqnr_db = quantized.sqnr_db;
  stored.codes = &edit.add_initializer(graph, base + "_quantized", std::move(codes));
  stored.scale = &edit.add_initializer(graph, base + "_scale",
                                       make_float_tensor(quantized.scales, scale_dims));
  stored.zero =
      &edit.add_initializer(graph, base + "_zero_point",
                            make_bytes_tensor(DataType::kInt8, scale_dims,
                                              std::vector<std::byte>(quantized.scales.size())));
  return stored;
}

}  // namespace

Result<Tensor> transposed_codes(const Tensor& codes, TensorFactory& tensors) {
  MCOMPRESS_ASSIGN(const Pinned pinned, codes.storage()->pin(0, codes.byte_size()));
  std::vector<std::int64_t> dims(codes.dims().begin(), codes.dims().end());
  const std::int64_t rows = dims[dims.size() - 2];
  const std::int64_t columns = dims.back();
  std::swap(dims[dims.size() - 2], dims.back());
  const std::span<const std::byte> bytes = pinned.bytes();
  return tensors.make(codes.dtype(), std::move(dims),
                      [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                        for (std::size_t i = 0; i < out.size(); ++i) {
                          const auto at = static_cast<std::int64_t>(offset + i);
                          const std::int64_t matrix = at / (rows * columns);
                          const std::int64_t within = at % (rows * columns);
                          out[i] = bytes[static_cast<std::size_t>(
                              matrix * rows * columns + within % rows * columns + within / rows)];
                        }
                        return ok_status();
                      });
}

std::string why_not_dynamic_lstm(const Node& node) {
  for (const std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
    if (std::string why = why_not_weight(node, slot); !why.empty()) return why;
  }
  const auto w = node.input(1)->constant()->dims();
  const auto r = node.input(2)->constant()->dims();
  if (w[0] != r[0] || w[1] != r[1] || r[1] != kGates * r[2]) {
    return "has weights whose shapes do not fit each other";
  }
  const Value* data = node.input(0);
  if (data == nullptr || data->initializer() != nullptr) return "has a constant input";
  return {};
}

Status make_dynamic_lstm(Node& node, bool per_channel, PassContext& context) {
  Editor& edit = context.edit();
  modernise_initializers(node.graph().model(), context);
  MCOMPRESS_TRY(edit.require_opset("com.microsoft", 1));
  const std::int64_t hidden = node.input(2)->constant()->dims()[2];
  MCOMPRESS_ASSIGN(const StoredWeight w, store(node, 1, per_channel, context));
  MCOMPRESS_ASSIGN(const StoredWeight r, store(node, 2, per_channel, context));
  constexpr std::size_t kFloatInputs = 8;  // X, W, R, B, sequence_lens, initial_h, initial_c, P
  std::vector<Value*> inputs(kFloatInputs, nullptr);
  for (std::size_t i = 0; i < kFloatInputs; ++i) inputs[i] = node.input(i);
  inputs[1] = w.codes;
  inputs[2] = r.codes;
  inputs.insert(inputs.end(), {w.scale, w.zero, r.scale, r.zero});
  NewNode made{.op_type = "DynamicQuantizeLSTM",
               .inputs = std::move(inputs),
               .outputs = std::max<std::size_t>(node.outputs().size(), 1),
               .base_name = std::string(node.name()) + "_integer",
               .domain = "com.microsoft"};
  for (const Attribute& given : node.attributes()) {
    if (given.name == "layout") continue;  // 0: what the operator always has
    const auto copy = [&](const auto* value) {
      if (value != nullptr) made.attributes.push_back({given.name, *value});
    };
    copy(std::get_if<std::int64_t>(&given.value));
    copy(std::get_if<float>(&given.value));
    copy(std::get_if<std::string>(&given.value));
    copy(std::get_if<std::vector<float>>(&given.value));
    copy(std::get_if<std::vector<std::string>>(&given.value));
  }
  if (node.attribute("hidden_size") == nullptr) {
    made.attributes.push_back(attribute("hidden_size", hidden));
  }
  Node& fresh = edit.insert_before(node, std::move(made));
  for (std::size_t i = 0; i < node.outputs().size(); ++i) {
    if (node.output(i) == nullptr) continue;
    MCOMPRESS_TRY(edit.replace_all(*node.output(i), *fresh.output(i)));
  }
  const std::vector<std::pair<Value*, const StoredWeight*>> weights = {{node.input(1), &w},
                                                                       {node.input(2), &r}};
  MCOMPRESS_TRY(edit.erase(node));
  for (const auto& [value, stored] : weights) {
    Decision decision;
    decision.subject = value->name();
    decision.op_type = "LSTM";
    decision.what = per_channel ? "int8 weights, per channel; activations quantized on every step"
                                : "int8 weights, per tensor; activations quantized on every step";
    decision.bytes_before = value->initializer()->byte_size();
    decision.bytes_after = stored->bytes;
    decision.sqnr_db = stored->sqnr_db;
    context.explain().chose(std::move(decision));
    if (value->uses().empty()) MCOMPRESS_TRY(edit.erase_initializer(*value));
  }
  return ok_status();
}

}  // namespace mcompress
