#include "passes/common/integer/integer_forms.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "ir/facts.h"
#include "passes/common/contrib/contrib.h"
#include "passes/common/fusion/merge.h"
#include "passes/common/integer/dynamic_lstm.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

bool has_8_bits(DataType type) { return type == DataType::kInt8 || type == DataType::kUint8; }

std::string quoted(const Value& value) { return "'" + std::string(value.name()) + "'"; }

std::optional<std::int64_t> from_front(std::int64_t axis, std::optional<std::size_t> rank) {
  if (axis >= 0) return axis;
  if (!rank) return std::nullopt;
  return axis + static_cast<std::int64_t>(*rank);
}

std::optional<double> zero_point_of(const CodedTensor& coded) {
  return coded.zero != nullptr ? constant_scalar(coded.zero) : std::optional(0.0);
}

// Equal zero points for all channels, as kernels of convolutions ask for.
bool one_zero(const CodedTensor& coded) {
  if (coded.zero == nullptr) return true;
  const auto zeros = constant_ints(coded.zero);
  return zeros && std::ranges::all_of(*zeros, [&](std::int64_t z) { return z == zeros->front(); });
}

// The types that kernels of products take: activations, weights.
bool takes_types(DataType x, DataType w) { return x == DataType::kUint8 || w == DataType::kInt8; }

std::string why_not_one_scale(const CodedTensor& coded) {
  return coded.axis ? quoted(*coded.codes) + " has a scale per channel" : std::string();
}

void copy_attributes(const Node& from, std::initializer_list<std::string_view> names,
                     NewNode& form) {
  for (const std::string_view name : names) {
    const AttributeValue* found = from.attribute(name);
    if (found == nullptr) continue;
    if (const auto* number = std::get_if<std::int64_t>(found)) {
      form.attributes.push_back({std::string(name), *number});
    } else if (const auto* real = std::get_if<float>(found)) {
      form.attributes.push_back({std::string(name), *real});
    } else if (const auto* list = std::get_if<std::vector<std::int64_t>>(found)) {
      form.attributes.push_back({std::string(name), *list});
    } else if (const auto* text = std::get_if<std::string>(found)) {
      form.attributes.push_back({std::string(name), *text});
    }
  }
}

// Numbers of a constant, one for each channel.
template <class T>
std::vector<T> spread(std::vector<T> values, std::int64_t channels) {
  if (values.size() == 1) values.resize(static_cast<std::size_t>(channels), values.front());
  return values;
}

struct UnaryForm {
  std::string_view op_type, integer;
};
constexpr auto kUnary = std::to_array<UnaryForm>({{"AveragePool", "QLinearAveragePool"},
                                                  {"GlobalAveragePool", "QLinearGlobalAveragePool"},
                                                  {"LeakyRelu", "QLinearLeakyRelu"},
                                                  {"Sigmoid", "QLinearSigmoid"},
                                                  {"Softmax", "QLinearSoftmax"}});

const UnaryForm* unary_form(const Node& node) {
  const auto found =
      std::ranges::find_if(kUnary, [&](const UnaryForm& form) { return node.is(form.op_type); });
  return found == kUnary.end() ? nullptr : &*found;
}

}  // namespace

std::optional<CodedTensor> coded_by(const Node& node) {
  const bool restores = node.is("DequantizeLinear");
  if ((!restores && !node.is("QuantizeLinear")) || node.input(0) == nullptr ||
      node.output(0) == nullptr || node.int_attribute("block_size", 0) != 0) {
    return std::nullopt;
  }
  CodedTensor coded;
  coded.codes = restores ? const_cast<Node&>(node).input(0) : const_cast<Node&>(node).output(0);
  coded.scale = const_cast<Node&>(node).input(1);
  coded.zero = const_cast<Node&>(node).input(2);
  coded.type = coded.zero != nullptr ? element_type(*coded.zero) : element_type(*coded.codes);
  const auto scale = constant_of(coded.scale);
  if (!has_8_bits(coded.type) || !scale || scale->dtype() != DataType::kFloat) return std::nullopt;
  if (coded.zero != nullptr && !is_constant(coded.zero)) return std::nullopt;
  if (scale->elements() != 1) {
    if (scale->dims().size() != 1) return std::nullopt;
    coded.axis = from_front(node.int_attribute("axis", 1), rank_of(*node.input(0)));
    if (!coded.axis) return std::nullopt;
  }
  return coded;
}

std::optional<CodedTensor> coded_tensor(const Value* value) {
  const Node* node = made_by(value, "DequantizeLinear");
  return node != nullptr ? coded_by(*node) : std::nullopt;
}

bool same_codes(const CodedTensor& left, const CodedTensor& right) {
  if (left.axis || right.axis || left.type != right.type) return false;
  const auto scale = constant_scalar(left.scale), zero = zero_point_of(left);
  return scale && zero && scale == constant_scalar(right.scale) && zero == zero_point_of(right);
}

std::optional<std::pair<double, double>> code_range(const CodedTensor& coded) {
  const auto scale = constant_scalar(coded.scale);
  const auto zero = zero_point_of(coded);
  if (coded.axis || !scale || !zero || !(*scale > 0.0)) return std::nullopt;
  const bool is_signed = coded.type == DataType::kInt8;
  const double lowest = is_signed ? -128 : 0, highest = is_signed ? 127 : 255;
  return std::pair((lowest - *zero) * *scale, (highest - *zero) * *scale);
}

bool IntegerForms::knows(const Node& node) {
  return node.is("Conv") || node.is("MatMul") || node.is("Gemm") || node.is("Add") ||
         node.is("Mul") || node.is("Concat") || unary_form(node) != nullptr;
}

std::string IntegerForms::why_not_offered(std::string_view domain, std::string_view op_type) const {
  const NativeOperator* native = context_.target().native(op_type, domain);
  if (native == nullptr) return "the target has no " + std::string(op_type);
  if (domain.empty() && model_.opset("") < native->since) {
    return std::string(op_type) + " is newer than the model's opset";
  }
  return {};
}

Value* IntegerForms::zero_of(Graph& graph, const CodedTensor& coded) {
  if (coded.zero != nullptr) return coded.zero;
  Value*& made = zeros_[{&graph, coded.type}];
  if (made == nullptr) {
    made = &add_constant(context_, graph, "zero_point",
                         make_bytes_tensor(coded.type, {}, std::vector<std::byte>(1)));
  }
  return made;
}

Result<Value*> IntegerForms::bias_codes(const Node& op, std::size_t slot, const CodedTensor& x,
                                        const CodedTensor& w, std::int64_t channels,
                                        std::string& why) {
  const Value* bias = op.input(slot);
  if (bias == nullptr) return nullptr;
  const auto s_x = constant_reals(x.scale), s_w = constant_reals(w.scale);
  if (!s_x || !s_w) return Error(Code::kInternal, "fuse-quantized", "scales are no constants");
  std::vector<float> scales;
  for (const double scale : spread(*s_w, channels)) {
    scales.push_back(static_cast<float>(s_x->front()) * static_cast<float>(scale));
  }
  if (Node* restore = made_by(bias, "DequantizeLinear")) {
    const auto own = constant_reals(restore->input(1));
    const auto zero = restore->input(2) != nullptr ? constant_reals(restore->input(2))
                                                   : std::optional(std::vector<double>{0.0});
    const Value* codes = restore->input(0);
    if (codes == nullptr || element_type(*codes) != DataType::kInt32 || !own || !zero ||
        std::ranges::any_of(*zero, [](double z) { return z != 0.0; })) {
      why = quoted(*bias) + " is no int32 bias with zero point 0";
      return nullptr;
    }
    const auto given = spread(*own, channels);
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const auto wanted = static_cast<double>(scales[i]);
      if (given.size() == scales.size() && std::abs(given[i] - wanted) <= 1e-6 * wanted) continue;
      why = "the scale of the bias is not that of the products";
      return nullptr;
    }
    const auto dims = static_shape(*codes);
    if (!dims || *dims != std::vector<std::int64_t>{channels}) {
      why = quoted(*bias) + " is not one number per channel";
      return nullptr;
    }
    return restore->input(0);
  }
  const auto data = constant_of(bias);
  if (!data || data->dtype() != DataType::kFloat || data->elements() != channels ||
      data->dims().back() != channels) {
    why = quoted(*bias) + " is no constant with one number per channel";
    return nullptr;
  }
  MCOMPRESS_ASSIGN(const std::vector<float> real, read_floats(*data));
  std::vector<std::byte> bytes(real.size() * sizeof(std::int32_t));
  for (std::size_t i = 0; i < real.size(); ++i) {
    const float code = std::nearbyint(real[i] / scales[i]);  // in float32, as the runtime does
    if (!(std::abs(code) <= 2147483520.0f)) {
      why = "the bias does not fit into 32 bits";
      return nullptr;
    }
    const auto whole = static_cast<std::int32_t>(code);
    std::memcpy(bytes.data() + i * sizeof whole, &whole, sizeof whole);
  }
  return &add_constant(context_, const_cast<Node&>(op).graph(),
                       std::string(bias->name()) + "_codes",
                       make_bytes_tensor(DataType::kInt32, {channels}, std::move(bytes)));
}

Result<IntegerForms::Form> IntegerForms::convolution(const QuantizedSite& site,
                                                     const CodedTensor& result) {
  const Node& op = *site.op;
  const auto x = coded_tensor(op.input(0)), w = coded_tensor(op.input(1));
  Form form;
  form.why = why_not_offered("", "QLinearConv");
  if (!form.why.empty()) return form;
  const auto shape = w ? static_shape(*w->codes) : std::nullopt;
  if (!x || !w || !shape || shape->size() < 3) {
    form.why = "it does not read dequantized activations and weights";
  } else if (!is_constant(w->codes)) {
    form.why = "its weight is no constant";
  } else if (x->axis || (w->axis && *w->axis != 0)) {
    form.why = "the scales are not one for the activations and one per output channel";
  } else if (x->type != result.type || !takes_types(x->type, w->type)) {
    form.why = "there is no kernel for these integer types";
  } else if (!one_zero(*w)) {
    form.why = "the zero points of the weight differ";
  }
  if (!form.why.empty()) return form;
  MCOMPRESS_ASSIGN(Value* const bias, bias_codes(op, 2, *x, *w, shape->front(), form.why));
  if (!form.why.empty()) return form;
  Graph& graph = site.op->graph();
  form.node.op_type = "QLinearConv";
  form.node.inputs = {x->codes, x->scale,           zero_of(graph, *x), w->codes,
                      w->scale, zero_of(graph, *w), result.scale,       zero_of(graph, result)};
  if (bias != nullptr) form.node.inputs.push_back(bias);
  copy_attributes(op, {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"},
                  form.node);
  return form;
}

// a B, or a B + c, with the result in float32.
Result<IntegerForms::Form> IntegerForms::real_gemm(const QuantizedSite& site, const CodedTensor& a,
                                                   const CodedTensor& b) {
  Form form;
  form.why = why_not_offered(kContribDomain, "MatMulIntegerToFloat");
  if (!form.why.empty()) return form;
  const Node& op = *site.op;
  const bool turned = op.int_attribute("transB", 0) != 0;
  const Value* bias = op.is("Gemm") ? op.input(2) : nullptr;
  if (site.last != site.op) bias = site.last->input(is_constant(site.last->input(1)) ? 1 : 0);
  const auto shape = static_shape(*b.codes);
  if (bias != nullptr) {
    const auto data = constant_of(bias);
    if (!data || data->dtype() != DataType::kFloat || !shape || data->dims().size() != 1 ||
        data->elements() != (turned ? shape->front() : shape->back())) {
      form.why = "its bias is no constant with one number per column";
      return form;
    }
  }
  Graph& graph = site.op->graph();
  Value* codes = b.codes;
  if (turned) {
    constexpr std::int64_t kMostTurned = std::int64_t{64} << 20;
    const auto data = constant_of(codes);
    if (!data || data->elements() > kMostTurned) {
      form.why = "its weight would have to be transposed";
      return form;
    }
    MCOMPRESS_ASSIGN(Tensor other, transposed_codes(*data, context_.tensors()));
    codes = &add_constant(context_, graph, std::string(codes->name()) + "_transposed",
                          std::move(other));
  }
  form.node.domain = kContribDomain;
  form.node.op_type = "MatMulIntegerToFloat";
  form.node.inputs = {a.codes, codes, a.scale, b.scale, zero_of(graph, a), zero_of(graph, b)};
  if (bias != nullptr) form.node.inputs.push_back(const_cast<Value*>(bias));
  return form;
}

Result<IntegerForms::Form> IntegerForms::product(const QuantizedSite& site,
                                                 const std::optional<CodedTensor>& result) {
  const Node& op = *site.op;
  const bool gemm = op.is("Gemm");
  const bool turned = op.int_attribute("transB", 0) != 0;
  const auto a = coded_tensor(op.input(0)), b = coded_tensor(op.input(1));
  Form form;
  const auto shape = b ? static_shape(*b->codes) : std::nullopt;
  if (!a || !b) {
    form.why = "it does not read two dequantized tensors";
  } else if (a->axis) {
    form.why = why_not_one_scale(*a);
  } else if (b->axis && (!shape || shape->size() != 2 || *b->axis != (turned ? 0 : 1))) {
    form.why = "the scales of the weight are not one per column";
  } else if ((result && a->type != result->type) || !takes_types(a->type, b->type)) {
    form.why = "there is no kernel for these integer types";
  } else if (gemm && (op.int_attribute("transA", 0) != 0 || op.float_attribute("alpha", 1) != 1 ||
                      (op.input(2) != nullptr && op.float_attribute("beta", 1) != 1))) {
    form.why = "it transposes or scales what it multiplies";
  } else if (gemm && (!shape || shape->size() != 2 || !is_constant(b->codes))) {
    form.why = "its weight is no constant matrix";
  }
  if (!form.why.empty()) return form;
  // A bias of codes is QGemm's own; one in float32 would be rounded for it.
  const bool coded_bias = gemm && made_by(op.input(2), "DequantizeLinear") != nullptr;
  if (!result && !coded_bias) return real_gemm(site, *a, *b);
  Graph& graph = site.op->graph();
  if (!gemm) {
    form.why = why_not_offered("", "QLinearMatMul");
    form.node.op_type = "QLinearMatMul";
    form.node.inputs = {a->codes, a->scale,           zero_of(graph, *a), b->codes,
                        b->scale, zero_of(graph, *b), result->scale,      zero_of(graph, *result)};
    return form;
  }
  form.why = why_not_offered(kContribDomain, "QGemm");
  if (!form.why.empty()) return form;
  MCOMPRESS_ASSIGN(Value* const bias,
                   bias_codes(op, 2, *a, *b, (*shape)[turned ? 0 : 1], form.why));
  if (!form.why.empty()) return form;
  form.node.domain = kContribDomain;
  form.node.op_type = "QGemm";
  form.node.inputs = {a->codes,           a->scale, zero_of(graph, *a), b->codes, b->scale,
                      zero_of(graph, *b), bias};
  if (result) {
    form.node.inputs.insert(form.node.inputs.end(), {result->scale, zero_of(graph, *result)});
  }
  form.node.attributes.push_back(attribute("transB", std::int64_t{turned}));
  return form;
}

Result<IntegerForms::Form> IntegerForms::binary(const QuantizedSite& site,
                                                const CodedTensor& result) {
  const Node& op = *site.op;
  const std::string op_type = "QLinear" + std::string(op.op_type());
  const auto a = coded_tensor(op.input(0)), b = coded_tensor(op.input(1));
  Form form;
  form.why = why_not_offered(kContribDomain, op_type);
  if (!form.why.empty()) return form;
  if (!a || !b) {
    form.why = "it does not read two dequantized tensors";
  } else if (a->axis || b->axis) {
    form.why = why_not_one_scale(a->axis ? *a : *b);
  } else if (a->type != result.type || b->type != result.type) {
    form.why = "there is no kernel for these integer types";
  }
  if (!form.why.empty()) return form;
  Graph& graph = site.op->graph();
  form.node.domain = kContribDomain;
  form.node.op_type = op_type;
  form.node.inputs = {a->codes, a->scale,           zero_of(graph, *a), b->codes,
                      b->scale, zero_of(graph, *b), result.scale,       zero_of(graph, result)};
  return form;
}

Result<IntegerForms::Form> IntegerForms::unary(const QuantizedSite& site,
                                               const CodedTensor& result) {
  const Node& op = *site.op;
  const std::string_view op_type = unary_form(op)->integer;
  const auto x = coded_tensor(op.input(0));
  Form form;
  form.why = why_not_offered(kContribDomain, op_type);
  if (!form.why.empty()) return form;
  const auto dilations = op.ints_attribute("dilations");
  if (!x) {
    form.why = "it does not read a dequantized tensor";
  } else if (x->axis) {
    form.why = why_not_one_scale(*x);
  } else if (x->type != result.type) {
    form.why = "there is no kernel for these integer types";
  } else if (op.is("AveragePool") &&
             (op.int_attribute("ceil_mode", 0) != 0 ||
              (dilations && std::ranges::any_of(*dilations, [](auto d) { return d != 1; })))) {
    form.why = "the integer kernel rounds sizes down and has no dilations";
  }
  if (!form.why.empty()) return form;
  Graph& graph = site.op->graph();
  form.node.domain = kContribDomain;
  form.node.op_type = op_type;
  form.node.inputs = {x->codes, x->scale, zero_of(graph, *x), result.scale, zero_of(graph, result)};
  copy_attributes(
      op, {"alpha", "auto_pad", "axis", "count_include_pad", "kernel_shape", "pads", "strides"},
      form.node);
  if (op.is("Softmax")) {
    constexpr std::int64_t kOneAxis = 13;  // before: everything behind the axis together
    const bool one_axis = model_.opset("") >= kOneAxis;
    if (op.attribute("axis") == nullptr) {
      form.node.attributes.push_back(attribute("axis", std::int64_t{one_axis ? -1 : 1}));
    }
    form.node.attributes.push_back(attribute("opset", model_.opset("")));
  }
  return form;
}

Result<IntegerForms::Form> IntegerForms::concat(const QuantizedSite& site,
                                                const CodedTensor& result) {
  Form form;
  form.why = why_not_offered(kContribDomain, "QLinearConcat");
  if (!form.why.empty()) return form;
  Graph& graph = site.op->graph();
  std::vector<CodedTensor> parts;
  for (const Value* input : site.op->inputs()) {
    const auto part = coded_tensor(input);
    if (!part || part->axis || part->type != result.type) {
      form.why = "it does not read dequantized tensors of one type";
      return form;
    }
    parts.push_back(*part);
  }
  form.node.domain = kContribDomain;
  form.node.op_type = "QLinearConcat";
  form.node.inputs = {result.scale, zero_of(graph, result)};
  for (const CodedTensor& part : parts) {
    form.node.inputs.insert(form.node.inputs.end(), {part.codes, part.scale, zero_of(graph, part)});
  }
  copy_attributes(*site.op, {"axis"}, form.node);
  return form;
}

Result<IntegerForms::Form> IntegerForms::form_of(const QuantizedSite& site) {
  std::optional<CodedTensor> result;
  if (site.quantize != nullptr) {
    result = coded_by(*site.quantize);
    if (!result || result->axis) {
      return Form{{}, "its result has no constant scale of 8-bit codes for all elements"};
    }
  }
  const Node& op = *site.op;
  if (op.is("MatMul") || op.is("Gemm")) return product(site, result);
  if (!result) return Form{{}, "its result is not quantized"};
  if (op.is("Conv")) return convolution(site, *result);
  if (op.is("Concat")) return concat(site, *result);
  if (op.is("Add") || op.is("Mul")) return binary(site, *result);
  return unary(site, *result);
}

Result<std::string> IntegerForms::write(const QuantizedSite& site) {
  MCOMPRESS_ASSIGN(Form form, form_of(site));
  if (!form.why.empty()) return std::move(form.why);
  Node& end = site.quantize != nullptr ? *site.quantize : *site.last;
  if (!form.node.domain.empty() && model_.opset(form.node.domain) == 0) {
    context_.edit().set_opset(form.node.domain, 1);
  }
  chose(context_, *site.op, "becomes " + form.node.op_type);
  MCOMPRESS_TRY(become(context_, end, std::move(form.node)));
  return std::string();
}

}  // namespace mcompress
