#include "passes/common/integer/static_emit.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "passes/common/integer/float_layers.h"
#include "support/try.h"

namespace mcompress {
namespace {

template <class T>
Tensor typed_tensor(DataType type, const std::vector<T>& values, std::vector<std::int64_t> dims) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return make_bytes_tensor(type, std::move(dims), std::move(bytes));
}

std::int64_t count_of(std::size_t size) { return static_cast<std::int64_t>(size); }

// The Add right behind a MatMul that gives it a constant bias, and the slot of that; or null.
struct FollowingAdd {
  Node* add = nullptr;
  std::size_t slot = 0;
};
FollowingAdd following_add(const Node& node, std::int64_t channels) {
  const Value& output = *node.output(0);
  if (output.uses().size() != 1 || output.uses().front().node == nullptr) return {};
  Node& add = *output.uses().front().node;
  if (!add.is("Add") || &add.graph() != &node.graph()) return {};
  const std::size_t slot = add.input(0) == &output ? 1 : 0;
  const Value* addend = add.input(slot);
  if (addend == nullptr || addend->constant() == nullptr) return {};
  const Tensor& tensor = *addend->constant();
  if (tensor.dtype() != DataType::kFloat || tensor.elements() != channels ||
      tensor.dims().empty() || tensor.dims().back() != tensor.elements()) {
    return {};
  }
  return {&add, slot};
}

class Emitter {
 public:
  Emitter(const StaticPlan& plan, const Target& target, const EmitOptions& options, Editor& edit,
          TensorFactory& tensors, const Executor& executor, Explain& explain)
      : plan_(plan),
        target_(target),
        options_(options),
        edit_(edit),
        tensors_(tensors),
        executor_(executor),
        explain_(explain) {}

  Status run() {
    for (const IntegerNode& node : plan_.nodes) {
      if (!node.float_output) producer_[node.output->id()] = &node;
    }
    // Readers are found before anything is rewired.
    for (const IntegerNode& node : plan_.nodes) {
      for (const std::size_t slot : node.inputs) {
        readers_[node.node->input(slot)->id()].push_back(
            {&node.node->graph(), node.node, static_cast<std::uint32_t>(slot)});
      }
    }
    for (const IntegerNode& node : plan_.nodes) {
      if (node.kind == OperatorRule::Kind::kWeighted) MCOMPRESS_TRY(quantize_weights_of(node));
    }
    for (Value* value : plan_.tensors) MCOMPRESS_TRY(quantize_activation(*value));
    keep_float_layers(edit_, target_);
    return ok_status();
  }

 private:
  ActivationScale scale_of(const Value& value) const { return options_.scales.at(value.id()); }

  Value& scalar_scale(const ActivationScale& scale, const std::string& base) {
    return edit_.add_initializer(graph(), base + "_scale", make_float_scalar(scale.scale));
  }
  Value& scalar_zero(const ActivationScale& scale, const std::string& base) {
    const DataType type = target_.signed_activations ? DataType::kInt8 : DataType::kUint8;
    return edit_.add_initializer(
        graph(), base + "_zero_point",
        make_bytes_tensor(type, {}, {static_cast<std::byte>(scale.zero_point & 0xff)}));
  }
  Graph& graph() { return edit_.model().graph(); }

  // ONNX Runtime wants 0-D scale and zero point: of shape [1] they keep Add from QLinearAdd.
  Status quantize_activation(Value& value) {
    const auto found = producer_.find(value.id());
    const IntegerNode* maker = found != producer_.end() ? found->second : nullptr;
    const ActivationScale scale = scale_of(value);
    const std::string base(value.name());
    Value& scale_value = scalar_scale(scale, base);
    Value& zero_value = scalar_zero(scale, base);
    Value* source = maker != nullptr ? maker->node->output(0) : &value;
    NewNode quantize{.op_type = "QuantizeLinear",
                     .inputs = {source, &scale_value, &zero_value},
                     .base_name = base + "_quantize",
                     .output_names = {base + "_quantized"}};
    Node* anchor = maker != nullptr ? maker->node : value.producer();
    Node& q = anchor != nullptr ? edit_.insert_after(*anchor, std::move(quantize))
                                : edit_.insert_before(*graph().first(), std::move(quantize));
    Node& dq = edit_.insert_after(q, {.op_type = "DequantizeLinear",
                                      .inputs = {q.output(0), &scale_value, &zero_value},
                                      .base_name = base + "_dequantize",
                                      .output_names = {base + "_dequantized"}});
    if (maker == nullptr) {
      for (const Use& use : readers_[value.id()]) edit_.redirect(use, *dq.output(0));
      return ok_status();
    }
    // Everybody reads the dequantized value: a second float reader would keep the integer kernel
    // from forming. The output keeps its name when it is part of the interface.
    MCOMPRESS_TRY(edit_.replace_all(value, *dq.output(0)));
    if (source == &value) edit_.set_input(q, 0, &value);
    if (maker->absorbed != nullptr) MCOMPRESS_TRY(edit_.erase(*maker->absorbed));
    return ok_status();
  }

  std::span<const double> means_of(const Value& value) const {
    if (!options_.bias_correction || options_.table == nullptr) return {};
    const ValueStats* stats = options_.table->find(value.name());
    return stats != nullptr ? std::span<const double>(stats->channel_means)
                            : std::span<const double>();
  }

  Status quantize_weights_of(const IntegerNode& plan) {
    Node& node = *plan.node;
    const Tensor weight = *plan.weight->constant();
    const std::string base(plan.weight->name());
    const std::int64_t groups = node.int_attribute("group", 1);
    const bool depthwise = groups > 1 && plan.layout.length() == plan.layout.taps;
    WeightRounding rounding;
    // Depthwise kernels accumulate in 32 bits everywhere.
    rounding.saturation_free = target_.saturation_free_weights && !depthwise;
    // The codes of an affine form lie at both ends: seven bits keep every pair inside 16.
    // ONNX Runtime's depthwise kernel takes one zero point: with others it ran 18 times slower.
    const bool affine =
        options_.weight_form == WeightForm::kAffineInt8 && !(depthwise && target_.cost_model);
    const WeightForm form = affine ? WeightForm::kAffineInt8 : WeightForm::kSymmetric;
    if (options_.weight_bits < 8 || (affine && rounding.saturation_free)) rounding.max_code = 63;
    rounding.search_scale = options_.search_scale;
    const bool one_scale = options_.one_weight_scale || plan.per_tensor;
    const auto channels = static_cast<std::size_t>(plan.layout.channels);
    const float input_scale = scale_of(*node.input(0)).scale;
    std::vector<float> bias(channels, 0.0F);
    std::vector<float> least_scales;
    if (plan.bias != nullptr) {
      MCOMPRESS_ASSIGN(bias, read_floats(*plan.bias->constant()));
      // |b| / (scale(x) * scale(W)) has to stay below 2^31; 2^30 leaves room for the correction.
      least_scales.resize(channels);
      for (std::size_t c = 0; c < channels; ++c) {
        const float magnitude = std::isfinite(bias[c]) ? std::fabs(bias[c]) : 0;
        least_scales[c] = static_cast<float>(double{magnitude} / (double{input_scale} * 0x1p30));
      }
    }
    const std::pair key(node.id(), input_scale);
    QuantizedWeight fresh;
    const QuantizedWeight* known = nullptr;
    if (options_.rounded != nullptr) {
      const auto found = options_.rounded->find(key);
      if (found != options_.rounded->end()) known = &found->second;
    }
    if (known == nullptr) {
      MCOMPRESS_ASSIGN(fresh, quantize_weight(weight, plan.layout, rounding, form, one_scale,
                                              means_of(*node.input(0)), groups, least_scales,
                                              tensors_, executor_));
      known = &fresh;
      if (options_.rounded != nullptr) {
        known = &options_.rounded->emplace(key, std::move(fresh)).first->second;
      }
    }
    const QuantizedWeight& quantized = *known;
    const std::vector<double> shift = shift_of(node, quantized, channels);
    const bool corrected = !shift.empty();
    for (std::size_t c = 0; corrected && c < channels; ++c) {
      bias[c] = static_cast<float>(double{bias[c]} - shift[c]);
    }

    const bool per_channel = quantized.scales.size() == channels && !one_scale;
    const std::vector<std::int64_t> flat = {count_of(channels)};
    const std::vector<std::int64_t> scale_dims = per_channel ? flat : std::vector<std::int64_t>();
    Value& codes = edit_.add_initializer(graph(), base + "_quantized", quantized.codes);
    Value& scale = edit_.add_initializer(graph(), base + "_scale",
                                         make_float_tensor(quantized.scales, scale_dims));
    std::vector<std::uint8_t> zeros = quantized.zero_points;
    if (zeros.empty()) zeros.assign(quantized.scales.size(), 0);
    Value& zero = edit_.add_initializer(graph(), base + "_zero_point",
                                        typed_tensor(DataType::kInt8, zeros, scale_dims));
    Node& dq = edit_.insert_before(node, {.op_type = "DequantizeLinear",
                                          .inputs = {&codes, &scale, &zero},
                                          .base_name = base + "_dequantized"});
    if (per_channel) edit_.set_attribute(dq, attribute("axis", plan.layout.axis));
    edit_.set_input(node, 1, dq.output(0));

    if (node.is("MatMul")) {
      if (corrected) correct_following_add(node, shift);
    } else if (target_.float_biases) {
      if (corrected) set_float_bias(node, bias, base);
    } else if (plan.bias != nullptr || corrected) {
      add_integer_bias(node, bias, !per_channel, quantized.scales, input_scale, base);
    }

    Decision decision;
    decision.subject = base;
    decision.op_type = node.op_type();
    decision.what = std::string("int8 weights, ") + (affine ? "asymmetric, " : "") +
                    (rounding.max_code < 127 ? "7 bits, " : "") +
                    (per_channel ? "per channel" : "per tensor") + "; integer kernel";
    decision.why = quantized.how;
    if (corrected) {
      decision.why += decision.why.empty() ? "" : "; ";
      decision.why += "bias corrected for the mean of the weight error";
    }
    decision.bytes_before = weight.byte_size();
    decision.bytes_after = quantized.codes.byte_size() + 5 * quantized.scales.size();
    decision.sqnr_db = quantized.sqnr_db;
    explain_.chose(std::move(decision));
    release(*plan.weight);
    if (plan.bias != nullptr) release(*plan.bias);
    return ok_status();
  }

  // What rounding adds to the output of each channel on average; empty: not known.
  std::vector<double> shift_of(const Node& node, const QuantizedWeight& quantized,
                               std::size_t channels) const {
    std::vector<double> shift = quantized.mean_shift;
    if (options_.bias_shifts == nullptr) return shift;
    const auto more = options_.bias_shifts->find(node.id());
    if (more == options_.bias_shifts->end() || more->second.size() != channels) return shift;
    shift.resize(channels);
    for (std::size_t c = 0; c < channels; ++c) shift[c] += more->second[c];
    return shift;
  }

  void set_float_bias(Node& node, const std::vector<float>& bias, const std::string& weight_name) {
    const std::string base =
        node.input(2) != nullptr ? std::string(node.input(2)->name()) : weight_name + "_bias";
    edit_.set_input(node, 2,
                    &edit_.add_initializer(graph(), base + "_corrected",
                                           make_float_tensor(bias, {count_of(bias.size())})));
  }

  void add_integer_bias(Node& node, const std::vector<float>& bias, bool one_scale,
                        const std::vector<float>& weight_scales, float input_scale,
                        const std::string& weight_name) {
    std::vector<std::int32_t> codes(bias.size());
    std::vector<float> scales(bias.size());
    for (std::size_t c = 0; c < bias.size(); ++c) {
      scales[c] = input_scale * weight_scales[weight_scales.size() > 1 ? c : 0];
      const double code = std::nearbyint(double{bias[c]} / double{scales[c]});
      codes[c] = static_cast<std::int32_t>(std::clamp(code, -2147483647.0, 2147483647.0));
      if (std::isnan(bias[c])) codes[c] = 0;
    }
    const std::string base =
        node.input(2) != nullptr ? std::string(node.input(2)->name()) : weight_name + "_bias";
    const std::vector<std::int64_t> flat = {count_of(bias.size())};
    Value& values = edit_.add_initializer(graph(), base + "_quantized",
                                          typed_tensor(DataType::kInt32, codes, flat));
    Value& scale = edit_.add_initializer(
        graph(), base + "_scale",
        one_scale ? make_float_scalar(scales.front()) : make_float_tensor(scales, flat));
    Node& dq = edit_.insert_before(node, {.op_type = "DequantizeLinear",
                                          .inputs = {&values, &scale},
                                          .base_name = base + "_dequantized"});
    if (!one_scale) edit_.set_attribute(dq, attribute("axis", std::int64_t{0}));
    edit_.set_input(node, 2, dq.output(0));
  }

  // MatMul has no bias of its own: the correction goes into the constant added right behind it.
  void correct_following_add(Node& node, const std::vector<double>& shift) {
    const FollowingAdd found = following_add(node, count_of(shift.size()));
    if (found.add == nullptr) return;
    Node& add = *found.add;
    const std::size_t slot = found.slot;
    Value* addend = add.input(slot);
    const Tensor& tensor = *addend->constant();
    auto values = read_floats(tensor);
    if (!values.ok()) return;
    for (std::size_t c = 0; c < shift.size(); ++c) {
      (*values)[c] = static_cast<float>(double{(*values)[c]} - shift[c]);
    }
    Value& fresh = edit_.add_initializer(
        graph(), std::string(addend->name()) + "_corrected",
        make_float_tensor(*values, {tensor.dims().begin(), tensor.dims().end()}));
    edit_.set_input(add, slot, &fresh);
    release(*addend);
  }

  void release(Value& value) {
    if (value.uses().empty() && value.is_initializer() && !value.is_graph_input()) {
      (void)edit_.erase_initializer(value);
    }
  }

  const StaticPlan& plan_;
  const Target& target_;
  const EmitOptions& options_;
  Editor& edit_;
  TensorFactory& tensors_;
  const Executor& executor_;
  Explain& explain_;
  std::map<std::uint32_t, const IntegerNode*> producer_;
  std::map<std::uint32_t, std::vector<Use>> readers_;
};

}  // namespace

bool has_room_for_shift(const IntegerNode& node) {
  return !node.node->is("MatMul") || following_add(*node.node, node.layout.channels).add != nullptr;
}

Status emit_static(const StaticPlan& plan, const Target& target, const EmitOptions& options,
                   Editor& edit, TensorFactory& tensors, const Executor& executor,
                   Explain& explain) {
  return Emitter(plan, target, options, edit, tensors, executor, explain).run();
}

}  // namespace mcompress
