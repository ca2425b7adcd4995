#include "onnx/contrib_schemas.h"

#include <onnx/defs/shape_inference.h>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>

#include "ir/domains.h"

namespace mcompress {
namespace {

using Context = onnx::InferenceContext;
using Shape = onnx::TensorShapeProto;
using Rule = void (*)(Context&);

const Shape* shape_of(const Context& context, std::size_t input) {
  return onnx::hasInputShape(context, input) ? &onnx::getInputShape(context, input) : nullptr;
}

std::int64_t number(const Context& context, const char* name) {
  const onnx::AttributeProto* attribute = context.getAttribute(name);
  return attribute != nullptr ? attribute->i() : 0;
}

// Of heads: products with it do not overflow.
std::int64_t count(const Context& context, const char* name) {
  return std::clamp<std::int64_t>(number(context, name), 0, 1 << 20);
}

// 0 for what is unknown or beyond reason.
std::int64_t size_of(const Shape* shape, int axis) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  if (shape == nullptr || axis >= shape->dim_size() || !shape->dim(axis).has_dim_value()) return 0;
  const std::int64_t size = shape->dim(axis).dim_value();
  return size > kMost ? 0 : size;
}

void set_size(Shape::Dimension& dim, std::int64_t size) {
  if (size > 0) dim.set_dim_value(size);
}

// As many dimensions as the input, the last one given. 0: unknown.
void like_with_last(Context& context, std::int64_t last) {
  onnx::propagateElemTypeFromInputToOutput(context, 0, 0);
  const Shape* input = shape_of(context, 0);
  if (input == nullptr || input->dim_size() == 0) return;
  Shape shape = *input;
  shape.mutable_dim(shape.dim_size() - 1)->Clear();
  set_size(*shape.mutable_dim(shape.dim_size() - 1), last);
  onnx::updateOutputShape(context, 0, shape);
}

void like_first(Context& context) {
  onnx::propagateElemTypeFromInputToOutput(context, 0, 0);
  const Shape* input = shape_of(context, 0);
  if (input != nullptr) onnx::updateOutputShape(context, 0, *input);
}

// Scales, clamps or fills in: the result is float32 whatever the type of the input.
void float_like_first(Context& context) {
  onnx::updateOutputElemType(context, 0, onnx::TensorProto::FLOAT);
  const Shape* input = shape_of(context, 0);
  if (input != nullptr) onnx::updateOutputShape(context, 0, *input);
}

// Output 3 is the sum before the normalisation.
void skip_normalisation(Context& context) {
  like_first(context);
  if (context.getNumOutputs() < 4) return;
  onnx::propagateElemTypeFromInputToOutput(context, 0, 3);
  const Shape* input = shape_of(context, 0);
  if (input != nullptr) onnx::updateOutputShape(context, 3, *input);
}

void block_product(Context& context) { like_with_last(context, number(context, "N")); }

void product(Context& context, std::size_t right, bool turn_left, bool turn_right) {
  const Shape* a = shape_of(context, 0);
  const Shape* b = shape_of(context, right);
  if (a == nullptr || b == nullptr || a->dim_size() < 2 || b->dim_size() < 2) return;
  Shape left = *a, other = *b;
  const int rows = left.dim_size() - (turn_left ? 1 : 2);
  const int columns = other.dim_size() - (turn_right ? 2 : 1);
  const Shape::Dimension m = left.dim(rows), n = other.dim(columns);
  left.mutable_dim()->DeleteSubrange(left.dim_size() - 2, 2);
  other.mutable_dim()->DeleteSubrange(other.dim_size() - 2, 2);
  Shape shape;
  onnx::bidirectionalBroadcastShapeInference(left, other, shape);
  *shape.add_dim() = m;
  *shape.add_dim() = n;
  onnx::updateOutputShape(context, 0, shape);
}

void fused_product(Context& context) {
  onnx::propagateElemTypeFromInputToOutput(context, 0, 0);
  if (number(context, "transBatchA") != 0 || number(context, "transBatchB") != 0) return;
  product(context, 1, number(context, "transA") != 0, number(context, "transB") != 0);
}

void integer_product(Context& context) {
  onnx::updateOutputElemType(context, 0, onnx::TensorProto::FLOAT);
  product(context, 1, false, false);
}

void gemm(Context& context, std::size_t right) {
  const Shape* a = shape_of(context, 0);
  const Shape* b = shape_of(context, right);
  if (a == nullptr || b == nullptr || a->dim_size() != 2 || b->dim_size() != 2) return;
  product(context, right, number(context, "transA") != 0, number(context, "transB") != 0);
}

void fused_gemm(Context& context) {
  onnx::propagateElemTypeFromInputToOutput(context, 0, 0);
  gemm(context, 1);
}

void fused_convolution(Context& context) {
  onnx::propagateElemTypeFromInputToOutput(context, 0, 0);
  onnx::convPoolShapeInference(context, true, false, 0, 1);
}

// With a scale for its result it stays in integers.
void quantized_gemm(Context& context) {
  constexpr std::size_t kScale = 7;
  if (context.getNumInputs() > kScale && context.getInputType(kScale) != nullptr) {
    onnx::propagateElemTypeFromInputToOutput(context, 0, 0);
  } else {
    onnx::updateOutputElemType(context, 0, onnx::TensorProto::FLOAT);
  }
  gemm(context, 3);
}

void quantized_binary(Context& context) {
  onnx::propagateElemTypeFromInputToOutput(context, 0, 0);
  const Shape* a = shape_of(context, 0);
  const Shape* b = shape_of(context, 3);
  if (a == nullptr || b == nullptr) return;
  Shape shape;
  onnx::bidirectionalBroadcastShapeInference(*a, *b, shape);
  onnx::updateOutputShape(context, 0, shape);
}

void quantized_global_pool(Context& context) {
  onnx::propagateElemTypeFromInputToOutput(context, 0, 0);
  const Shape* input = shape_of(context, 0);
  if (input == nullptr || input->dim_size() < 3) return;
  Shape shape = *input;
  const int from = number(context, "channels_last") != 0 ? 1 : 2;
  for (int i = 0; i < shape.dim_size() - 2; ++i) shape.mutable_dim(from + i)->set_dim_value(1);
  onnx::updateOutputShape(context, 0, shape);
}

void quantized_pool(Context& context) {
  onnx::propagateElemTypeFromInputToOutput(context, 0, 0);
  if (number(context, "channels_last") == 0) {
    onnx::convPoolShapeInference(context, false, true, 0, 0);
  }
}

// Scale and zero point of the result, then each part with its own.
void quantized_concat(Context& context) {
  onnx::propagateElemTypeFromInputToOutput(context, 1, 0);
  const Shape* first = shape_of(context, 2);
  if (first == nullptr) return;
  const int rank = first->dim_size();
  std::int64_t axis = number(context, "axis");
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) return;
  Shape shape = *first;
  std::int64_t sum = 0;
  bool known = true;
  for (std::size_t i = 2; i < context.getNumInputs(); i += 3) {
    const Shape* part = shape_of(context, i);
    if (part == nullptr || part->dim_size() != rank) return;
    const std::int64_t size = size_of(part, static_cast<int>(axis));
    known = known && size > 0;
    sum += size;
  }
  shape.mutable_dim(static_cast<int>(axis))->Clear();
  if (known) set_size(*shape.mutable_dim(static_cast<int>(axis)), sum);
  onnx::updateOutputShape(context, 0, shape);
}

// [batch, length, hidden] by weights of Q, K and V side by side.
void attention(Context& context) {
  std::int64_t hidden = 0;
  const onnx::AttributeProto* sizes = context.getAttribute("qkv_hidden_sizes");
  const Shape* weights = shape_of(context, 1);
  if (sizes != nullptr && sizes->ints_size() == 3) {
    hidden = sizes->ints(2);
  } else {
    hidden = size_of(weights, 1) / 3;
  }
  like_with_last(context, hidden);
}

// Q of [batch, length, hidden], V of [batch, length, hidden] or [batch, heads, length, depth].
void multi_head_attention(Context& context) {
  const Shape* query = shape_of(context, 0);
  if (query == nullptr || query->dim_size() != 3 || context.getNumInputs() < 3) return;
  const Shape* value = shape_of(context, 2);
  std::int64_t hidden = 0;
  if (value != nullptr && value->dim_size() == 3) hidden = size_of(value, 2);
  if (value != nullptr && value->dim_size() == 4) {
    hidden = size_of(value, 3) * count(context, "num_heads");
  }
  like_with_last(context, hidden);
}

void grouped_attention(Context& context) {
  const bool packed = context.getNumInputs() < 2 || context.getInputType(1) == nullptr;
  if (!packed) return like_first(context);
  const std::int64_t heads = count(context, "num_heads");
  const std::int64_t all = heads + 2 * count(context, "kv_num_heads");
  like_with_last(context, all > 0 ? size_of(shape_of(context, 0), 2) / all * heads : 0);
}

const std::map<std::string_view, Rule>& rules() {
  static const std::map<std::string_view, Rule> kRules = {
      {"Attention", attention},
      {"BiasGelu", like_first},
      {"DynamicQuantizeMatMul", integer_product},
      {"FastGelu", like_first},
      {"FusedConv", fused_convolution},
      {"FusedGemm", fused_gemm},
      {"FusedMatMul", fused_product},
      {"Gelu", like_first},
      {"GroupQueryAttention", grouped_attention},
      {"MatMulBnb4", block_product},
      {"MatMulIntegerToFloat", integer_product},
      {"MatMulNBits", block_product},
      {"MultiHeadAttention", multi_head_attention},
      {"QGemm", quantized_gemm},
      {"QLinearAdd", quantized_binary},
      {"QLinearAveragePool", quantized_pool},
      {"QLinearConcat", quantized_concat},
      {"QLinearGlobalAveragePool", quantized_global_pool},
      {"QLinearLeakyRelu", like_first},
      {"QLinearMul", quantized_binary},
      {"QLinearSigmoid", like_first},
      {"QLinearSoftmax", like_first},
      {"QuickGelu", like_first},
      {"RotaryEmbedding", like_first},
      {"SkipLayerNormalization", skip_normalisation},
      {"SkipSimplifiedLayerNormalization", skip_normalisation},
  };
  return kRules;
}

class WithContrib final : public onnx::ISchemaRegistry {
 public:
  WithContrib() {
    for (const auto& [name, rule] : rules()) {
      onnx::OpSchema schema(std::string(name), __FILE__, __LINE__);
      schema.SetDomain(std::string(kContribDomain))
          .SinceVersion(1)
          .TypeAndShapeInferenceFunction(rule);
      schemas_.emplace(name, std::move(schema));
    }
    // ONNX has these operators of classic learning, but no rule for their shapes.
    for (const auto& [name, rule] : {std::pair<const char*, Rule>{"Scaler", float_like_first},
                                     {"Normalizer", float_like_first},
                                     {"Imputer", like_first}}) {
      onnx::OpSchema schema(name, __FILE__, __LINE__);
      schema.SetDomain(kClassic).SinceVersion(1).TypeAndShapeInferenceFunction(rule);
      classic_.emplace(name, std::move(schema));
    }
    // The runtime keeps this one of its own in ONNX's domain.
    onnx::OpSchema simplified("SimplifiedLayerNormalization", __FILE__, __LINE__);
    simplified.SinceVersion(1).TypeAndShapeInferenceFunction(like_first);
    simplified_ = std::move(simplified);
  }

  const onnx::OpSchema* GetSchema(const std::string& name, int version,
                                  const std::string& domain) const override {
    if (domain == kContribDomain) {
      const auto found = schemas_.find(name);
      if (found != schemas_.end()) return &found->second;
    }
    if (domain == kClassic) {
      const auto found = classic_.find(name);
      if (found != classic_.end()) return &found->second;
    }
    if (domain.empty() && name == "SimplifiedLayerNormalization") return &simplified_;
    return onnx::OpSchemaRegistry::Schema(name, version, domain);
  }

 private:
  static constexpr const char* kClassic = "ai.onnx.ml";
  std::map<std::string, onnx::OpSchema, std::less<>> schemas_, classic_;
  onnx::OpSchema simplified_;
};

}  // namespace

const onnx::ISchemaRegistry& schemas_with_contrib() {
  static const WithContrib registry;
  return registry;
}

}  // namespace mcompress
