#include "analysis/formulas.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace mcompress {
namespace {

using Name = std::string_view;
using MaybeWork = std::optional<Work>;

// Operations per element of the first output. A function (exp, erf, tanh, sqrt...), a comparison
// and a rounding count as one.
const std::unordered_map<Name, std::uint64_t>& per_element() {
  static const std::unordered_map<Name, std::uint64_t> kTable = {
      // one function
      {"Abs", 1},
      {"Acos", 1},
      {"Acosh", 1},
      {"Asin", 1},
      {"Asinh", 1},
      {"Atan", 1},
      {"Atanh", 1},
      {"BitShift", 1},
      {"BitwiseNot", 1},
      {"Ceil", 1},
      {"Cos", 1},
      {"Cosh", 1},
      {"Erf", 1},
      {"Exp", 1},
      {"Floor", 1},
      {"Hardmax", 1},
      {"IsInf", 1},
      {"IsNaN", 1},
      {"Log", 1},
      {"Neg", 1},
      {"Not", 1},
      {"Reciprocal", 1},
      {"Relu", 1},
      {"Round", 1},
      {"Shrink", 1},
      {"Sigmoid", 1},
      {"Sign", 1},
      {"Sin", 1},
      {"Sinh", 1},
      {"Sqrt", 1},
      {"Tan", 1},
      {"Tanh", 1},
      {"ThresholdedRelu", 1},
      {"CumSum", 1},
      // two operands
      {"And", 1},
      {"BitwiseAnd", 1},
      {"BitwiseOr", 1},
      {"BitwiseXor", 1},
      {"Div", 1},
      {"Equal", 1},
      {"Greater", 1},
      {"GreaterOrEqual", 1},
      {"Less", 1},
      {"LessOrEqual", 1},
      {"Mod", 1},
      {"Mul", 1},
      {"Or", 1},
      {"Pow", 1},
      {"Sub", 1},
      {"Add", 1},
      {"Xor", 1},
      // activations written out
      {"BiasGelu", 6},
      {"Celu", 4},
      {"Clip", 2},
      {"Elu", 3},
      {"FastGelu", 8},
      {"Gelu", 5},
      {"HardSigmoid", 4},
      {"HardSwish", 5},
      {"LeakyRelu", 2},
      {"Mish", 5},
      {"PRelu", 2},
      {"QuickGelu", 3},
      {"Selu", 4},
      {"Softplus", 3},
      {"Softsign", 3},
      {"Swish", 2},
      // normalisations: mean, difference, square, sum, times 1/deviation, scale, shift
      {"BatchNormalization", 2},
      {"EmbedLayerNormalization", 9},
      {"GroupNormalization", 7},
      {"InstanceNormalization", 7},
      {"LayerNormalization", 7},
      {"LpNormalization", 3},
      {"MeanVarianceNormalization", 5},
      {"RMSNormalization", 4},
      {"SimplifiedLayerNormalization", 4},
      {"SkipLayerNormalization", 8},
      {"SkipSimplifiedLayerNormalization", 5},
      // largest, difference, exp, sum, quotient
      {"LogSoftmax", 5},
      {"Softmax", 5},
      // quotient, round, shift; difference, product; lowest and highest before
      {"DequantizeLinear", 2},
      {"DynamicQuantizeLinear", 5},
      {"GatherBlockQuantized", 2},
      {"QuantizeLinear", 3},
      // as above, between a dequantization of each input and a quantization
      {"QLinearAdd", 8},
      {"QLinearMul", 8},
      {"QLinearLeakyRelu", 7},
      {"QLinearSigmoid", 6},
      {"QLinearSoftmax", 10},
      {"RotaryEmbedding", 3},
  };
  return kTable;
}

// Operations per element of the first input.
const std::unordered_map<Name, std::uint64_t>& per_input_element() {
  static const std::unordered_map<Name, std::uint64_t> kTable = {
      {"ArgMax", 1},
      {"ArgMin", 1},
      {"GlobalAveragePool", 1},
      {"GlobalLpPool", 2},
      {"GlobalMaxPool", 1},
      {"QLinearGlobalAveragePool", 3},
      {"QLinearReduceMean", 3},
      {"ReduceL1", 2},
      {"ReduceL2", 2},
      {"ReduceLogSum", 1},
      {"ReduceLogSumExp", 2},
      {"ReduceMax", 1},
      {"ReduceMean", 1},
      {"ReduceMin", 1},
      {"ReduceProd", 1},
      {"ReduceSum", 1},
      {"ReduceSumSquare", 2},
  };
  return kTable;
}

// What only moves, selects, converts or makes data.
const std::unordered_set<Name>& moving() {
  static const std::unordered_set<Name> kTable = {"BitCast",
                                                  "Cast",
                                                  "CastLike",
                                                  "CenterCropPad",
                                                  "Col2Im",
                                                  "Compress",
                                                  "Concat",
                                                  "ConcatFromSequence",
                                                  "Constant",
                                                  "ConstantOfShape",
                                                  "DepthToSpace",
                                                  "Dropout",
                                                  "Expand",
                                                  "EyeLike",
                                                  "Flatten",
                                                  "Gather",
                                                  "GatherElements",
                                                  "GatherND",
                                                  "Identity",
                                                  "If",
                                                  "Loop",
                                                  "NonZero",
                                                  "OneHot",
                                                  "Optional",
                                                  "OptionalGetElement",
                                                  "OptionalHasElement",
                                                  "Pad",
                                                  "QLinearConcat",
                                                  "Range",
                                                  "ReorderInput",
                                                  "ReorderOutput",
                                                  "Reshape",
                                                  "ReverseSequence",
                                                  "Scan",
                                                  "ScatterElements",
                                                  "ScatterND",
                                                  "SequenceAt",
                                                  "SequenceConstruct",
                                                  "SequenceEmpty",
                                                  "SequenceErase",
                                                  "SequenceInsert",
                                                  "SequenceLength",
                                                  "SequenceMap",
                                                  "Shape",
                                                  "Size",
                                                  "Slice",
                                                  "SpaceToDepth",
                                                  "Split",
                                                  "SplitToSequence",
                                                  "Squeeze",
                                                  "Tile",
                                                  "Transpose",
                                                  "Trilu",
                                                  "Unsqueeze",
                                                  "Where"};
  return kTable;
}

bool known_domain(Name domain) {
  return domain.empty() || domain == "com.microsoft" || domain == "com.microsoft.nchwc" ||
         domain == "com.ms.internal.nhwc";
}

std::uint64_t tail_product(const Sizes& sizes, std::size_t from) {
  return product(Sizes(sizes.begin() + static_cast<std::ptrdiff_t>(std::min(from, sizes.size())),
                       sizes.end()));
}

std::uint64_t from_end(const Sizes& sizes, std::size_t back) { return sizes[sizes.size() - back]; }

class Formula {
 public:
  Formula(const Node& node, ShapeReader& shapes) : node_(node), shapes_(shapes) {}

  MaybeWork run() {
    const Name op = node_.op_type();
    if (moving().contains(op)) return Work{};
    if (const auto found = per_element().find(op); found != per_element().end()) {
      // In training forms the statistics are outputs too; the first is the data everywhere.
      return scaled(out(), found->second);
    }
    if (const auto found = per_input_element().find(op); found != per_input_element().end()) {
      return scaled(in(0), found->second);
    }
    if (op == "Sum" || op == "Max" || op == "Min" || op == "Mean") return variadic(op == "Mean");
    if (MaybeWork work = convolution(op)) return work;
    if (MaybeWork work = matrix_product(op)) return work;
    if (op == "LSTM" || op == "DynamicQuantizeLSTM") return recurrent(4, 13);
    if (op == "GRU") return recurrent(3, 11);
    if (op == "RNN") return recurrent(1, 2);
    if (op == "Attention" && node_.domain().empty()) return standard_attention();
    if (op == "Attention") return projected_attention(4);
    if (op == "QAttention") return projected_attention(8);
    if (op == "MultiHeadAttention") return multi_head_attention();
    if (op == "GroupQueryAttention") return grouped_attention();
    if (op == "Einsum") return einsum();
    return sampling(op);
  }

 private:
  std::optional<Sizes> sizes(std::size_t slot) { return shapes_.sizes(node_.input(slot)); }
  std::optional<std::uint64_t> in(std::size_t slot) { return shapes_.elements(node_.input(slot)); }
  std::optional<std::uint64_t> out() { return shapes_.elements(node_.output(0)); }
  std::uint64_t attribute(Name name) const {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(node_.int_attribute(name, 0), 0));
  }

  static MaybeWork scaled(std::optional<std::uint64_t> elements, std::uint64_t each) {
    return elements ? MaybeWork(Work{0, times(*elements, each)}) : std::nullopt;
  }

  MaybeWork variadic(bool mean) {
    const std::size_t operands = node_.inputs().size();
    return scaled(out(), (operands == 0 ? 0 : operands - 1) + (mean ? 1 : 0));
  }

  // A fused activation, one operation per element.
  std::uint64_t activation(std::uint64_t elements) const {
    return node_.string_attribute("activation", {}).empty() ? 0 : elements;
  }

  MaybeWork convolution(Name op) {
    const bool quantized = op == "QLinearConv";
    const bool transposed = op == "ConvTranspose";
    if (!quantized && !transposed && op != "Conv" && op != "ConvInteger" && op != "FusedConv" &&
        op != "NhwcFusedConv" && op != "DeformConv") {
      return std::nullopt;
    }
    // [outputs, inputs of a group, kernel...], for ConvTranspose [inputs, outputs of a group, ..]
    const auto weight = sizes(quantized ? 3 : 1);
    const auto result = out();
    const auto places = transposed ? in(0) : result;
    if (!weight || weight->size() < 2 || !result || !places) return std::nullopt;
    Work work{times(*places, tail_product(*weight, 1)), activation(*result)};
    const std::size_t bias = quantized ? 8 : op == "DeformConv" ? 3 : 2;
    if (op != "ConvInteger" && node_.input(bias) != nullptr) work.other = plus(work.other, *result);
    if (quantized) work.other = plus(work.other, times(*result, 3));
    return work;
  }

  MaybeWork matrix_product(Name op) {
    if (op == "Gemm" || op == "FusedGemm") return gemm(1, 2, 0);
    if (op == "QGemm") return gemm(3, 6, 3);
    if (op == "MatMulNBits" || op == "MatMulBnb4") {
      const auto left = in(0);
      if (!left) return std::nullopt;  // A[.., K] by N columns
      Work work{times(*left, attribute("N")), 0};
      const std::size_t bias = 5;
      const auto result = out();
      if (op == "MatMulNBits" && node_.input(bias) != nullptr && result) work.other = *result;
      return work;
    }
    std::size_t right = 1;
    std::uint64_t after = 0;  // per element of the result
    if (op == "QLinearMatMul") {
      right = 3, after = 3;
    } else if (op == "DynamicQuantizeMatMul" || op == "MatMulIntegerToFloat") {
      after = 2;
    } else if (op == "FusedMatMul") {
      after = node_.float_attribute("alpha", 1) == 1.0F ? 0 : 1;
    } else if (op != "MatMul" && op != "MatMulInteger") {
      return std::nullopt;
    }
    const auto a = sizes(0), b = sizes(right);
    const auto result = out();
    std::optional<std::uint64_t> depth;
    const bool fused = op == "FusedMatMul";
    if (a && !a->empty()) {
      const bool turned = fused && attribute("transA") != 0 && a->size() > 1;
      depth = from_end(*a, turned ? 2 : 1);
    } else if (b && !b->empty()) {
      const bool turned = fused && attribute("transB") != 0;
      depth = from_end(*b, turned || b->size() == 1 ? 1 : 2);
    }
    if (!depth || !result) return std::nullopt;
    return Work{times(*result, *depth), times(*result, after)};
  }

  MaybeWork gemm(std::size_t right, std::size_t bias, std::uint64_t after) {
    const auto a = sizes(0);
    const auto b = sizes(right);
    if (!a || !b || a->size() != 2 || b->size() != 2) return std::nullopt;
    const bool turned_a = attribute("transA") != 0, turned_b = attribute("transB") != 0;
    const std::uint64_t result = times((*a)[turned_a ? 1 : 0], (*b)[turned_b ? 0 : 1]);
    Work work{times(result, (*a)[turned_a ? 0 : 1]),
              plus(times(result, after), activation(result))};
    if (node_.input(bias) != nullptr) work.other = plus(work.other, result);
    return work;
  }

  // `gates` matrix products of the input and of the state per step; `each` operations per hidden
  // unit for biases, activations and the new state.
  MaybeWork recurrent(std::uint64_t gates, std::uint64_t each) {
    const auto x = sizes(0);
    const auto r = sizes(2);
    if (!x || x->size() != 3) return std::nullopt;
    std::uint64_t hidden = attribute("hidden_size");
    if (hidden == 0 && r && r->size() == 3)
      hidden = (*r)[node_.op_type() == "DynamicQuantizeLSTM" ? 1 : 2];
    const std::uint64_t directions =
        node_.string_attribute("direction", "forward") == "bidirectional" ? 2 : 1;
    const std::uint64_t steps = times(times((*x)[0], (*x)[1]), directions);
    const std::uint64_t per_step = times(times(gates, hidden), plus((*x)[2], hidden));
    return Work{times(steps, per_step), times(times(steps, hidden), each)};
  }

  // Scores [rows, keys] of depth `q`, then a weighted sum of depth `v`; scale and softmax between.
  static Work attention(std::uint64_t batch, std::uint64_t heads, std::uint64_t rows,
                        std::uint64_t keys, std::uint64_t q, std::uint64_t v) {
    const std::uint64_t scores = product({batch, heads, rows, keys});
    return {times(scores, plus(q, v)), times(scores, 6)};
  }

  std::uint64_t past(std::size_t slot, std::size_t axis) {
    const auto kept = sizes(slot);
    return kept && kept->size() > axis ? (*kept)[axis] : 0;
  }

  // ai.onnx: Q, K, V of [batch, heads, length, depth] or [batch, length, heads * depth].
  MaybeWork standard_attention() {
    const auto q = sizes(0), k = sizes(1), v = sizes(2);
    if (!q || !k || !v || q->size() < 3 || k->size() != q->size() || v->size() != q->size()) {
      return std::nullopt;
    }
    const std::uint64_t kept = past(4, 2);
    if (q->size() == 4) {
      return attention((*q)[0], (*q)[1], (*q)[2], plus((*k)[2], kept), (*q)[3], (*v)[3]);
    }
    const std::uint64_t heads = std::max<std::uint64_t>(attribute("q_num_heads"), 1);
    const std::uint64_t sources = std::max<std::uint64_t>(attribute("kv_num_heads"), 1);
    return attention((*q)[0], heads, (*q)[1], plus((*k)[1], kept), (*q)[2] / heads,
                     (*v)[2] / sources);
  }

  // com.microsoft: the product with the weights of Q, K and V first.
  MaybeWork projected_attention(std::size_t past_slot) {
    const auto x = sizes(0), w = sizes(1);
    if (!x || !w || x->size() != 3 || w->size() != 2) return std::nullopt;
    const std::uint64_t heads = std::max<std::uint64_t>(attribute("num_heads"), 1);
    std::uint64_t q = (*w)[1] / 3, v = q;
    if (const auto given = node_.ints_attribute("qkv_hidden_sizes"); given && given->size() == 3) {
      q = static_cast<std::uint64_t>(std::max<std::int64_t>((*given)[0], 0));
      v = static_cast<std::uint64_t>(std::max<std::int64_t>((*given)[2], 0));
    }
    Work work =
        attention((*x)[0], heads, (*x)[1], plus((*x)[1], past(past_slot, 3)), q / heads, v / heads);
    const std::uint64_t projected = product({(*x)[0], (*x)[1], (*w)[1]});
    work.macs = plus(work.macs, times(projected, (*x)[2]));
    work.other = plus(work.other, projected);  // biases
    return work;
  }

  MaybeWork multi_head_attention() {
    const auto q = sizes(0);
    if (!q) return std::nullopt;
    const std::uint64_t kept = past(6, 2);
    if (q->size() == 5) {  // [batch, length, heads, 3, depth]
      return attention((*q)[0], (*q)[2], (*q)[1], plus((*q)[1], kept), (*q)[4], (*q)[4]);
    }
    const auto k = sizes(1), v = sizes(2);
    if (q->size() != 3 || !k) return std::nullopt;
    const std::uint64_t heads = std::max<std::uint64_t>(attribute("num_heads"), 1);
    std::uint64_t keys = k->size() > 1 ? (*k)[1] : 0;
    std::uint64_t depth = (*q)[2] / heads;
    if (k->size() == 4) keys = (*k)[2];  // [batch, heads, length, depth]
    if (v && v->size() == 3) depth = (*v)[2] / heads;
    if (v && v->size() == 4) depth = (*v)[3];
    return attention((*q)[0], heads, (*q)[1], plus(keys, kept), (*q)[2] / heads, depth);
  }

  MaybeWork grouped_attention() {
    const auto q = sizes(0);
    if (!q || q->size() != 3) return std::nullopt;
    const std::uint64_t heads = std::max<std::uint64_t>(attribute("num_heads"), 1);
    const std::uint64_t sources = attribute("kv_num_heads");
    const bool packed = node_.input(1) == nullptr;
    const std::uint64_t depth = (*q)[2] / (packed ? plus(heads, times(2, sources)) : heads);
    return attention((*q)[0], heads, (*q)[1], plus((*q)[1], past(3, 2)), depth, depth);
  }

  // One multiply-accumulate for every combination of all indices, for each operand but the first.
  MaybeWork einsum() {
    const Name equation = node_.string_attribute("equation", {});
    std::array<std::uint64_t, 128> extent{};
    std::size_t operand = 0, axis = 0;
    std::optional<Sizes> shape = sizes(0);
    for (std::size_t i = 0; i < equation.size(); ++i) {
      const char c = equation[i];
      if (c == ' ') continue;
      if (c == '-' || c == '.') {
        if (c == '.') return std::nullopt;
        break;
      }
      if (c == ',') {
        shape = sizes(++operand), axis = 0;
        continue;
      }
      const auto index = static_cast<unsigned char>(c);
      if (!shape || axis >= shape->size() || index >= extent.size()) return std::nullopt;
      extent[index] = std::max(extent[index], (*shape)[axis++]);
    }
    std::uint64_t combinations = 1;
    for (const std::uint64_t size : extent) {
      if (size > 0) combinations = times(combinations, size);
    }
    return Work{times(combinations, operand), 0};
  }

  MaybeWork sampling(Name op) {
    const auto result = out();
    if (!result) return std::nullopt;
    if (op == "MaxPool" || op == "AveragePool" || op == "LpPool" || op == "QLinearAveragePool" ||
        op == "NhwcMaxPool") {
      std::uint64_t window = op == "LpPool" ? 2 : 1;
      if (const auto kernel = node_.ints_attribute("kernel_shape")) {
        for (const std::int64_t size : *kernel) {
          window = times(window, static_cast<std::uint64_t>(std::max<std::int64_t>(size, 0)));
        }
      }
      return Work{0, times(*result, window)};
    }
    if (op == "LRN") return Work{0, times(*result, plus(attribute("size"), 5))};
    if (op != "Resize" && op != "Upsample" && op != "GridSample") return std::nullopt;
    // A weighted sum of 2 or 4 neighbours along each axis of the picture.
    const Name mode = node_.string_attribute("mode", op == "GridSample" ? "linear" : "nearest");
    if (mode == "nearest") return Work{};
    const auto shape = shapes_.sizes(node_.output(0));
    const std::size_t axes =
        shape && shape->size() > 2 ? std::min<std::size_t>(shape->size() - 2, 3) : 0;
    std::uint64_t neighbours = 1;
    for (std::size_t i = 0; i < axes; ++i) neighbours *= mode.find("cubic") != Name::npos ? 4 : 2;
    return Work{0, times(*result, 2 * neighbours - 1)};
  }

  const Node& node_;
  ShapeReader& shapes_;
};

}  // namespace

std::optional<Work> work_of(const Node& node, ShapeReader& shapes) {
  if (!node.bodies().empty()) return Work{};
  if (!known_domain(node.domain())) return std::nullopt;
  return Formula(node, shapes).run();
}

}  // namespace mcompress
