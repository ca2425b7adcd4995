// quantize-blocks: each form computes what an independent reading of its codes says, and the forms
// agree; every reason; tied weights; bits within a size.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr double kFourBits = 0.5;  // tolerance of results, for wiring that is wrong altogether
constexpr std::string_view kHead = "<ir_version: 8, opset_import: [\"\" : 17]> g ";

std::string model(std::string_view signature, std::string_view initializers, std::string_view body,
                  std::string_view head = kHead) {
  return std::string(head) + std::string(signature) + " <" + std::string(initializers) + "> { " +
         std::string(body) + " }";
}

Checked blocks(const std::string& text, const std::string& options = "{}",
               double tolerance = kFourBits) {
  return check_passes(text, {"lift-constants", "infer-shapes", "quantize-blocks:" + options},
                      tolerance);
}

std::vector<float> floats_of(const Model& model, std::string_view name) {
  const Value* value = model.graph().find(name);
  EXPECT_NE(value, nullptr) << name;
  return value != nullptr ? *read_floats(*value->initializer()) : std::vector<float>{};
}

std::vector<std::uint8_t> bytes_of(const Model& model, std::string_view name) {
  const Value* value = model.graph().find(name);
  EXPECT_NE(value, nullptr) << name;
  if (value == nullptr) return {};
  const Tensor& tensor = *value->initializer();
  const auto pin = tensor.storage()->pin(0, tensor.byte_size());
  const auto bytes = pin->bytes();
  std::vector<std::uint8_t> out(bytes.size());
  std::ranges::transform(bytes, out.begin(), [](std::byte b) { return std::uint8_t(b); });
  return out;
}

// Weights as com.microsoft:MatMulNBits is documented to read them: row n holds ceil(K / block)
// blocks, each of block * bits / 8 bytes, codes least significant first; zero points of a row
// packed the same way, 2^(bits - 1) where there are none.
std::vector<float> decode(const std::vector<std::uint8_t>& codes, const std::vector<float>& scales,
                          const std::vector<std::uint8_t>& zeros, std::size_t rows,
                          std::size_t columns, std::size_t block, unsigned bits) {
  const std::size_t blocks = (columns + block - 1) / block;
  const std::size_t row_bytes = codes.size() / rows, zero_bytes = zeros.size() / rows;
  const unsigned mask = (1U << bits) - 1;
  std::vector<float> real(rows * columns);
  for (std::size_t n = 0; n < rows; ++n) {
    for (std::size_t k = 0; k < columns; ++k) {
      const std::size_t bit = k * bits, b = k / block, zero_bit = b * bits;
      const unsigned code = codes[n * row_bytes + bit / 8] >> (bit % 8) & mask;
      const unsigned zero = zeros.empty()
                                ? 1U << (bits - 1)
                                : zeros[n * zero_bytes + zero_bit / 8] >> (zero_bit % 8) & mask;
      real[n * columns + k] =
          (static_cast<float>(code) - static_cast<float>(zero)) * scales[n * blocks + b];
    }
  }
  return real;
}

double db(const std::vector<float>& real, const std::vector<float>& restored) {
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < real.size(); ++i) {
    signal += double{real[i]} * real[i];
    noise += std::pow(double{real[i]} - restored[i], 2);
  }
  return 10 * std::log10(signal / noise);
}

std::vector<float> transposed(const std::vector<float>& matrix, std::size_t rows,
                              std::size_t columns) {
  std::vector<float> turned(matrix.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) turned[c * rows + r] = matrix[r * columns + c];
  }
  return turned;
}

const std::string kProduct =
    model("(float[N,3,80] x) => (float[N,3,24] y)", weights("w", {80, 24}), "y = MatMul(x, w)");

TEST(QuantizeBlocks, ProductsAreWhatTheOperatorDocuments) {
  struct Case {
    std::string type;
    unsigned bits;
    double least_db;
  };
  for (const auto& [type, bits, least_db] :
       {Case{"uint4", 4, 20}, Case{"int4", 4, 18}, Case{"uint8", 8, 40}, Case{"uint2", 2, 6}}) {
    const auto checked = blocks(
        kProduct,
        R"({"block-form": "matmul-nbits", "block-size": 32, "scales": "float32", "weights": ")" +
            type + "\"}",
        4);
    EXPECT_EQ(checked.run->applied("quantize-blocks"), 1) << type;
    EXPECT_EQ(count_nodes(*checked.after, "MatMulNBits"), 1) << type;
    const auto zeros =
        type[0] == 'u' ? bytes_of(*checked.after, "w_zero_point") : std::vector<std::uint8_t>{};
    const auto restored = decode(bytes_of(*checked.after, "w_quantized"),
                                 floats_of(*checked.after, "w_scale"), zeros, 24, 80, 32, bits);
    const auto real = transposed(floats_of(*checked.before, "w"), 80, 24);
    EXPECT_GT(db(real, restored), least_db) << type;
  }
}

// x = the unit matrix brings the weight back: what folds at load equals the reading above bit for
// bit.
TEST(QuantizeBlocks, FoldedWeightsAreTheSameBits) {
  for (const std::string type : {"uint4", "int4", "uint2", "int8"}) {
    const std::string options = R"("block-size": 16, "weights": ")" + type + "\"}";
    const auto packed = blocks(kProduct, R"({"block-form": "matmul-nbits", )" + options, 4);
    const auto folded = blocks(kProduct, R"({"block-form": "fold", )" + options, 4);
    const unsigned bits = static_cast<unsigned>(type.back() - '0');
    const auto zeros =
        type[0] == 'u' ? bytes_of(*packed.after, "w_zero_point") : std::vector<std::uint8_t>{};
    const auto expected =
        transposed(decode(bytes_of(*packed.after, "w_quantized"),
                          floats_of(*packed.after, "w_scale"), zeros, 24, 80, 16, bits),
                   24, 80);
    auto runtime = find_runtime("onnxruntime");
    ASSERT_TRUE(runtime.ok());
    auto session = (*runtime)->open(*folded.after, {});
    ASSERT_TRUE(session.ok());
    std::vector<float> unit(80 * 80);
    for (std::size_t i = 0; i < 80; ++i) unit[i * 81] = 1;
    for (std::size_t i = 0; i < 80; i += 3) {
      if (i + 3 > 80) break;
      const std::vector<float> rows(unit.begin() + static_cast<std::ptrdiff_t>(i * 80),
                                    unit.begin() + static_cast<std::ptrdiff_t>((i + 3) * 80));
      const std::vector<NamedTensor> feeds = {{"x", make_float_tensor(rows, {1, 3, 80})}};
      const std::vector<std::string> fetch = {"y"};
      auto results = (*session)->run(feeds, fetch);
      ASSERT_TRUE(results.ok());
      const auto got = read_floats(results->front());
      for (std::size_t k = 0; k < got->size(); ++k) {
        ASSERT_EQ((*got)[k], expected[i * 24 + k]) << type << " row " << i << " at " << k;
      }
    }
  }
}

TEST(QuantizeBlocks, EveryOperatorAndForm) {
  struct Case {
    std::string text;
    std::string_view made;
  };
  const std::vector<Case> cases = {
      {model("(float[N,64] x) => (float[N,48] y)",
             weights("w", {48, 64}) + ", " + weights("b", {48}), "y = Gemm<transB=1>(x, w, b)"),
       "MatMulNBits"},
      {model("(float[N,64] x) => (float[N,48] y)", weights("w", {48, 64}),
             "y = Gemm<transB=1,alpha=0.5>(x, w)"),
       "Gemm"},
      {model("(int64[N] i) => (float[N,48] y)", weights("w", {40, 48}), "y = Gather(w, i)"),
       "GatherBlockQuantized"},
      // Rows of 37 four-bit codes are no whole bytes.
      {model("(int64[N] i) => (float[N,37] y)", weights("w", {64, 37}), "y = Gather(w, i)"), ""},
      {model("(float[N,8,6,6] x) => (float[N,16,4,4] y)", weights("w", {16, 8, 3, 3}),
             "y = Conv(x, w)"),
       ""},
      {model("(float[N,32,3,3] x) => (float[N,16,A,B] y)", weights("w", {32, 8, 2, 2}),
             "y = ConvTranspose<group=2,strides=[2,2]>(x, w)"),
       "Transpose"},
      {model("(float[64,N] x) => (float[16,N] y)", weights("w", {16, 64}), "y = MatMul(w, x)"), ""},
      {model("(float[3,N,64] x) => (float[3,N,16] y)", weights("w", {3, 64, 16}),
             "y = MatMul(x, w)"),
       "Transpose"},
      {model("(float[3,N,32] x) => (float[3,1,N,16] y)",
             weights("w", {1, 64, 32}) + ", " + weights("r", {1, 64, 16}),
             "y = LSTM<hidden_size=16>(x, w, r)"),
       ""},
      // Old operators, whose Slice has its bounds in attributes.
      {model("(float[N,70] x) => (float[N,32] y)", weights("w", {70, 32}), "y = MatMul(x, w)",
             "<ir_version: 4, opset_import: [\"\" : 7]> g "),
       "Slice"},
  };
  for (const Case& one : cases) {
    // Small products are folded: the operator is asked for.
    const bool nbits = one.made == "MatMulNBits" || one.made == "GatherBlockQuantized";
    const auto checked = blocks(
        one.text, nbits ? R"({"block-form": "matmul-nbits"})" : R"({"block-form": "fold"})", 1.5);
    const std::int64_t weights_in = one.text.find("LSTM") != std::string::npos ? 2 : 1;
    EXPECT_EQ(checked.run->applied("quantize-blocks"), weights_in) << one.text.substr(0, 90);
    if (!one.made.empty()) {
      EXPECT_GE(count_nodes(*checked.after, one.made), 1) << one.text;
    }
  }
}

TEST(QuantizeBlocks, DequantizeLinearByBlocksRaisesTheOpset) {
  for (const std::string type : {"uint4", "int4", "int8"}) {
    const auto checked =
        blocks(kProduct,
               R"({"block-form": "dequantize", "block-size": 16, "weights": ")" + type + "\"}", 1);
    EXPECT_EQ(checked.after->opset(""), 21);
    const Node* dq = made_by(maker_of(*checked.after, "y")->input(1), "DequantizeLinear");
    ASSERT_NE(dq, nullptr);
    EXPECT_EQ(dq->int_attribute("block_size", 0), 16);
    EXPECT_EQ(dq->int_attribute("axis", -1), 0);
    EXPECT_EQ(dq->input(0)->initializer()->dims()[0], 80);
    EXPECT_EQ(dq->input(1)->initializer()->dims()[0], 5);
    EXPECT_EQ(dq->input(2)->initializer()->dtype(), dq->input(0)->initializer()->dtype());
    EXPECT_EQ(dtype_name(dq->input(0)->initializer()->dtype()), type);
  }
}

TEST(QuantizeBlocks, TargetsDecide) {
  const auto made = [](std::string_view target, std::string_view text) {
    auto model = model_from_text(text);
    const auto run = run_passes_for(target, *model, {"infer-shapes", "quantize-blocks"});
    EXPECT_TRUE(run->status.ok());
    return std::pair(std::move(model), run->why("w"));
  };
  const std::string conv = model("(float[N,8,6,6] x) => (float[N,16,4,4] y)",
                                 weights("w", {16, 8, 3, 3}), "y = Conv(x, w)");
  EXPECT_EQ(count_nodes(*made("generic-qdq", kProduct).first, "DequantizeLinear"), 1);
  EXPECT_NE(made("openvino", conv).second.find("rule blocks of openvino"), std::string::npos);
  // A scale per channel and no zero points.
  const auto npu = made("npu-int4", kProduct).first;
  const Node* dq = made_by(maker_of(*npu, "y")->input(1), "DequantizeLinear");
  ASSERT_NE(dq, nullptr);
  EXPECT_EQ(dq->attribute("block_size"), nullptr);
  EXPECT_EQ(dq->input(0)->initializer()->dtype(), DataType::kInt4);
  EXPECT_EQ(dq->input(1)->initializer()->elements(), 24);
}

// The operator pays for long sums and many outputs only.
TEST(QuantizeBlocks, ProductsThatWouldBeSlowerAreFolded) {
  const auto products = [](std::int64_t inputs, std::int64_t outputs) {
    const std::string k = std::to_string(inputs), n = std::to_string(outputs);
    const auto checked = blocks(model("(float[N," + k + "] x) => (float[N," + n + "] y)",
                                      weights("w", {inputs, outputs}), "y = MatMul(x, w)"),
                                "{}", 10);
    EXPECT_EQ(checked.run->applied("quantize-blocks"), 1);
    return count_nodes(*checked.after, "MatMulNBits");
  };
  EXPECT_EQ(products(256, 512), 1);
  EXPECT_EQ(products(128, 1024), 0) << "short sums";
  EXPECT_EQ(products(4096, 32), 0) << "few outputs";
  EXPECT_EQ(products(256, 256), 0) << "few weights";
}

// The table of a language model and its head, as one matrix and its transposed copy.
TEST(QuantizeBlocks, TiedWeightsAreStoredOnce) {
  auto tied = model_from_text(model("(int64[N,2] i) => (float[N,2,96] y)",
                                    weights("t", {96, 64}) + ", " + weights("h", {64, 96}),
                                    "e = Gather(t, i) \n y = MatMul(e, h)"));
  Editor edit(*tied, &onnx_catalog());
  const auto table = floats_of(*tied, "t");
  edit.set_constant(*tied->graph().find("h"),
                    make_float_tensor(transposed(table, 96, 64), {64, 96}));
  const auto before = tied->clone();
  const auto run =
      run_passes(*tied, {"infer-shapes", R"(quantize-blocks:{"block-form": "matmul-nbits"})"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(run->applied("quantize-blocks"), 2);
  EXPECT_EQ(count_nodes(*tied, "MatMulNBits"), 1);
  EXPECT_EQ(count_nodes(*tied, "GatherBlockQuantized"), 1);
  std::int64_t stored = 0;
  for (const Value* value : tied->graph().initializers()) {
    if (value->initializer()->dtype() == DataType::kUint8) {
      stored += static_cast<std::int64_t>(value->initializer()->byte_size());
    }
  }
  EXPECT_EQ(stored, 96 * 64 / 2 + 96) << "codes, and zero points of two blocks a row";
  expect_same_results(*before, *tied, 2.5);
  EXPECT_TRUE(verify(*tied).ok());
}

// 16-bit floats by their bits, of magnitudes from 1/16 to 1: float16, or bfloat16.
std::string half_weights(std::string_view name, std::int64_t rows, std::int64_t columns,
                         bool brain = false) {
  std::mt19937 random(static_cast<unsigned>(name.size() + name[0]));
  std::string text = (brain ? "bfloat16[" : "float16[") + std::to_string(rows) + "," +
                     std::to_string(columns) + "] " + std::string(name) + " = {";
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    const auto bits = static_cast<unsigned>(random()), step = bits >> 16 & 3;
    text += (i > 0 ? "," : "") + std::to_string(brain ? (bits & 0x807F) | (0x3D80 + step * 0x80)
                                                      : (bits & 0x83FF) | (0x2C00 + step * 0x400));
  }
  return text + "}";
}

// Models in 16-bit floats: codes and scales are read as the operators document, every form computes
// the same, and results have the type that they had.
TEST(QuantizeBlocks, SixteenBitFloatsKeepTheirType) {
  const std::string product = model("(float16[N,3,80] x) => (float16[N,3,24] y)",
                                    half_weights("w", 80, 24), "y = MatMul(x, w)");
  const std::string options = R"("min-elements": 1, "block-size": 16, "weights": "uint4"})";
  const auto packed = blocks(product, R"({"block-form": "matmul-nbits", )" + options, 4);
  EXPECT_EQ(packed.run->applied("quantize-blocks"), 1);
  EXPECT_EQ(count_nodes(*packed.after, "MatMulNBits"), 1);
  EXPECT_EQ(packed.after->graph().find("w_scale")->initializer()->dtype(), DataType::kFloat16);
  const auto restored =
      decode(bytes_of(*packed.after, "w_quantized"), floats_of(*packed.after, "w_scale"),
             bytes_of(*packed.after, "w_zero_point"), 24, 80, 16, 4);
  EXPECT_GT(db(transposed(floats_of(*packed.before, "w"), 80, 24), restored), 18);
  const auto folded = blocks(product, R"({"block-form": "fold", )" + options, 4);
  expect_same_results(*packed.after, *folded.after, 4e-2);  // activations in 8 bits
  const auto dequantized = blocks(product, R"({"block-form": "dequantize", )" + options, 4);
  EXPECT_EQ(count_nodes(*dequantized.after, "DequantizeLinear"), 1);
  expect_same_results(*folded.after, *dequantized.after, 1e-2);
  for (const Checked* checked : {&packed, &folded, &dequantized}) {
    EXPECT_EQ(element_type(*checked->after->graph().outputs()[0]), DataType::kFloat16);
  }

  const auto table = blocks(
      model("(int64[N,2] i) => (float16[N,2,64] y)", half_weights("t", 96, 64), "y = Gather(t, i)"),
      R"({"block-form": "matmul-nbits"})");
  EXPECT_EQ(count_nodes(*table.after, "GatherBlockQuantized"), 1);
}

// Stored in 16 bits and computed with in 32: the Cast goes, and so does what it reads.
TEST(QuantizeBlocks, WidenedFloatsAreRounded) {
  for (const bool brain : {false, true}) {
    const std::string text =
        model("(float[N,3,80] x) => (float[N,3,24] y)", half_weights("w", 80, 24, brain),
              "c = Cast<to=1>(w) y = MatMul(x, c)");
    for (const std::string form : {"matmul-nbits", "fold", "dequantize"}) {
      const auto checked = blocks(text, R"({"block-form": ")" + form + "\"}", 4);
      EXPECT_EQ(checked.run->applied("quantize-blocks"), 1) << form << brain;
      EXPECT_EQ(count_nodes(*checked.after, "MatMulNBits"), form == "matmul-nbits" ? 1 : 0);
      EXPECT_EQ(checked.after->graph().find("w"), nullptr);
    }
  }
  // Read in both types: a copy in few bits would come on top.
  const auto both = blocks(model("(float[N,80] x) => (float[N,24] y, float16[24,80] z)",
                                 half_weights("w", 80, 24),
                                 "c = Cast<to=1>(w) y = MatMul(x, c) z = Transpose(w)"));
  EXPECT_EQ(both.run->applied("quantize-blocks"), 0);
}

TEST(QuantizeBlocks, OtherNumbersAreNoCopies) {
  const auto checked = blocks(model("(int64[N,2] i) => (float[N,2,96] y)",
                                    weights("t", {96, 64}) + ", " + weights("h", {64, 96}),
                                    "e = Gather(t, i) \n y = MatMul(e, h)"),
                              R"({"block-form": "matmul-nbits"})", 5);
  EXPECT_NE(checked.after->graph().find("t_quantized"), nullptr);
  EXPECT_NE(checked.after->graph().find("h_quantized"), nullptr);
}

TEST(QuantizeBlocks, SaysWhyOneStays) {
  const auto why = [](const std::string& text, const std::string& options = "{}") {
    const auto checked = blocks(text, options, 0);
    EXPECT_EQ(checked.run->applied("quantize-blocks"), 0) << text.substr(0, 100);
    return checked.run->why("w");
  };
  const std::string w = weights("w", {64, 16});
  EXPECT_EQ(
      why(model("(float[N,16] x) => (float[N,8] y)", weights("w", {16, 8}), "y = MatMul(x, w)")),
      "has 128 elements, below 1024");
  EXPECT_EQ(why(model("(float[N,64,5,5] x) => (float[N,128,3,3] y)", weights("w", {128, 1, 3, 3}),
                      "z = Conv<group=64>(x, w) \n y = MaxPool<kernel_shape=[1,1]>(z)")),
            "has rows of 9 weights: too short for few bits");
  // 1,440 weights: 4.75 bits each and 1,000 bytes of nodes are more than bytes and 20 scales.
  EXPECT_EQ(why(model("(float[N,8,5,5] x) => (float[N,20,3,3] y)", weights("w", {20, 8, 3, 3}),
                      "y = Conv(x, w)")),
            "takes no fewer bytes in 4 bits than in 8: the nodes that unpack it count, too");
  EXPECT_EQ(why(model("(float[64,16] x) => (float[64,16] y)", w, "y = Add(x, w)")),
            "is not a weight of Add 'Add node that makes 'y''");
  EXPECT_EQ(why(model("(float[N,64] x) => (float[N,16] y, float[64,16] w)", w, "y = MatMul(x, w)")),
            "is an output of the graph");
  EXPECT_NE(why(model("(float[N,64] x) => (float[N,16] y)", w, "y = MatMul(x, w)"),
                R"({"exclude": ["MatMul"]})"),
            "");
}

TEST(QuantizeBlocks, RefusesWhatIsNoBlock) {
  auto wrong = model_from_text(kProduct);
  const auto run = run_passes(*wrong, {R"(quantize-blocks:{"block-size": 48})"});
  ASSERT_FALSE(run->status.ok());
  EXPECT_EQ(run->status.error().code, Code::kUsage);
  auto no_data = model_from_text(kProduct);
  const auto gptq = run_passes(*no_data, {R"(quantize-blocks:{"weight-method": "gptq"})"});
  ASSERT_FALSE(gptq->status.ok());
  EXPECT_EQ(gptq->status.error().code, Code::kUsage);
}

TEST(QuantizeBlocks, RaisesBitsWhereErrorsCostMost) {
  // The second matrix has a few large weights in each block: few bits leave little of the rest.
  const std::string text = model("(float[N,64] x) => (float[N,64] y)",
                                 weights("a", {64, 64}) + ", " + weights("b", {64, 64}),
                                 "h = MatMul(x, a) \n y = MatMul(h, b)");
  const auto bits_with = [&](double average) {
    auto graph = model_from_text(text);
    Editor edit(*graph, &onnx_catalog());
    auto uneven = floats_of(*graph, "b");
    for (std::size_t i = 0; i < uneven.size(); i += 11) uneven[i] *= 12;
    edit.set_constant(*graph->graph().find("b"), make_float_tensor(uneven, {64, 64}));
    const auto run = run_passes(
        *graph, {"infer-shapes", R"(quantize-blocks:{"block-form": "matmul-nbits", "avg-bits": )" +
                                     std::to_string(average) + "}"});
    EXPECT_TRUE(run->status.ok());
    std::map<std::string, std::int64_t> bits;
    for (const Node* node : graph->graph().nodes()) {
      if (node->op_type() == "MatMulNBits") {
        bits[std::string(node->input(1)->name())] = node->int_attribute("bits", 0);
      }
    }
    return bits;
  };
  // 4.625 and 8.75 bits a weight: their mean allows one of the two.
  auto chosen = bits_with(6.7);
  EXPECT_EQ(chosen["a_quantized"], 4);
  EXPECT_EQ(chosen["b_quantized"], 8);
  chosen = bits_with(8.8);
  EXPECT_EQ(chosen["a_quantized"], 8);
  auto graph = model_from_text(text);
  const auto run = run_passes(*graph, {"infer-shapes", R"(quantize-blocks:{"avg-bits": 3.0})"});
  ASSERT_FALSE(run->status.ok());
  EXPECT_EQ(run->status.error().code, Code::kGateMissed);
}

// Weights in bodies are ordinary.
TEST(QuantizeBlocks, InsideNestedGraphs) {
  const auto checked = blocks(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (bool c, float[N,128] x) => (float[N,32] y) <" +
          weights("w", {128, 32}) +
          "> { y = If(c) <then_branch = t () => (float[N,32] a) { a = MatMul(x, w) }, "
          "else_branch = e () => (float[N,32] b) { m = MatMul(x, w) \n b = Neg(m) }> }",
      "{}", 1);
  EXPECT_EQ(checked.run->applied("quantize-blocks"), 1);
}

}  // namespace
}  // namespace mcompress::testing
