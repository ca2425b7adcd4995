// quantize-dynamic on LSTMs, what becomes of GRUs and RNNs, and embedding tables that stay in int8.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/facts.h"
#include "ir/walk.h"
#include "mcompress/executed.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::string_view kHead = "<ir_version: 8, opset_import: [\"\" : 17]> g ";
const std::vector<std::string> kDynamic = {"lift-constants", "infer-shapes", "quantize-dynamic"};
// Of a hidden state in [-1, 1]: int8 weights, and activations of 8 bits at every step.
constexpr double kRecurrent = 0.03;

std::string w(std::string_view name, std::vector<std::int64_t> dims) {
  return weights(name, std::move(dims), -0.2F, 0.2F);
}

// Hidden size 64, input size 96, 9 steps.
std::string lstm(std::string_view attributes, std::string_view inputs, std::int64_t directions,
                 std::string_view more = {}, std::string_view outputs = "y, h, c") {
  const std::string d = std::to_string(directions);
  return std::string(kHead) + "(float[9,N,96] x) => (float[9," + d + ",N,64] y, float[" + d +
         ",N,64] h, float[" + d + ",N,64] c) <" + w("w", {directions, 256, 96}) + ", " +
         w("r", {directions, 256, 64}) + ", " + w("b", {directions, 512}) +
         std::string(more.empty() ? "" : ", ") + std::string(more) + "> { " + std::string(outputs) +
         " = LSTM<hidden_size=64" + std::string(attributes) + ">(x, w, r" + std::string(inputs) +
         ") }";
}

std::uint64_t bytes_of(const Model& model) { return save_model_bytes(model)->size(); }

TEST(DynamicLstm, AllDirectionsAndWhatElseTheOperatorHas) {
  struct Case {
    std::string_view attributes, inputs;
    std::int64_t directions;
    std::string more;
  };
  const std::vector<Case> cases = {
      {"", ", b", 1, ""},
      {"", "", 1, ""},
      {", direction=\"reverse\"", ", b", 1, ""},
      {", direction=\"bidirectional\"", ", b", 2, ""},
      {", clip=0.7", ", b", 1, ""},
      {", input_forget=1", ", b", 1, ""},
      {", activations=[\"Sigmoid\", \"Tanh\", \"Relu\"]", ", b", 1, ""},
      {", activations=[\"HardSigmoid\", \"Softsign\", \"Tanh\"], activation_alpha=[0.3], "
       "activation_beta=[0.4]",
       ", b", 1, ""},
      {"", ", b, , , , p", 1, w("p", {1, 192})},
      {", direction=\"bidirectional\"", ", b, , , , p", 2, w("p", {2, 192})},
      {"", ", b, n", 1, "int32[2] n = {9, 4}"},
      {"", ", b, , h0, c0", 1, w("h0", {1, 2, 64}) + ", " + w("c0", {1, 2, 64})},
  };
  for (const Case& one : cases) {
    const auto checked = check_passes(lstm(one.attributes, one.inputs, one.directions, one.more),
                                      kDynamic, kRecurrent);
    ASSERT_TRUE(checked.run->status.ok()) << one.attributes << one.inputs;
    EXPECT_EQ(checked.run->applied("quantize-dynamic"), 2) << one.attributes << one.inputs;
    EXPECT_EQ(count_nodes(*checked.after, "LSTM"), 0) << one.attributes << one.inputs;
    EXPECT_EQ(count_nodes(*checked.after, "DynamicQuantizeLSTM"), 1) << one.attributes;
    EXPECT_LT(3 * bytes_of(*checked.after), bytes_of(*checked.before)) << one.attributes;
    const auto kernels = count_integer_kernels(*find_runtime("onnxruntime").value(), *checked.after,
                                               default_target());
    ASSERT_TRUE(kernels.ok());
    EXPECT_EQ(kernels->integer, 1);
    EXPECT_EQ(kernels->planned, 1);
  }
}

TEST(DynamicLstm, WeightsAreTransposedAndScaledPerGateAndUnit) {
  const auto checked =
      check_passes(lstm(", direction=\"bidirectional\"", ", b", 2), kDynamic, kRecurrent);
  const Node* node = nullptr;
  for_each_node(checked.after->graph(), [&](Node& one) {
    if (one.op_type() == "DynamicQuantizeLSTM") node = &one;
  });
  ASSERT_NE(node, nullptr);
  const auto before = read_floats(*checked.before->graph().find("r")->constant()).value();
  const Tensor& codes = *node->input(2)->constant();
  EXPECT_EQ(std::vector<std::int64_t>(codes.dims().begin(), codes.dims().end()),
            (std::vector<std::int64_t>{2, 64, 256}));
  EXPECT_EQ(codes.dtype(), DataType::kInt8);
  const auto stored = read_floats(codes).value();
  const auto scales = read_floats(*node->input(10)->constant()).value();
  ASSERT_EQ(scales.size(), 512u);
  for (std::int64_t d = 0; d < 2; ++d) {
    for (std::int64_t row = 0; row < 256; row += 17) {
      for (std::int64_t k = 0; k < 64; k += 5) {
        const auto at = static_cast<std::size_t>((d * 256 + row) * 64 + k);
        const auto transposed = static_cast<std::size_t>((d * 64 + k) * 256 + row);
        const float scale = scales[static_cast<std::size_t>(d * 256 + row)];
        // Weights that avoid 16-bit saturation may be one step off the nearest.
        EXPECT_NEAR(before[at], stored[transposed] * scale, 1.6F * scale) << d << ' ' << row;
      }
    }
  }
}

TEST(DynamicLstm, InBranchesToo) {
  const std::string text =
      std::string(kHead) + "(bool p, float[9,2,96] x) => (float[9,1,2,64] y) <" +
      w("w", {1, 256, 96}) + ", " + w("r", {1, 256, 64}) +
      "> { y = If (p) < then_branch = t () => (float[9,1,2,64] o) { o = LSTM<hidden_size=64>(x, w, "
      "r) }, else_branch = e () => (float[9,1,2,64] q) { o2 = LSTM<hidden_size=64>(x, w, r) q = "
      "Neg(o2) } >";
  const auto checked = check_passes(text + " }", kDynamic, kRecurrent);
  EXPECT_EQ(checked.run->applied("quantize-dynamic"), 4);
  std::int64_t kernels = 0;
  for_each_node(checked.after->graph(),
                [&](Node& node) { kernels += node.op_type() == "DynamicQuantizeLSTM" ? 1 : 0; });
  EXPECT_EQ(kernels, 2);
}

TEST(DynamicLstm, SaysWhyOneStays) {
  const auto why = [](const std::string& text, std::string_view target = "onnxruntime-cpu") {
    const auto model = model_from_text(text);
    const auto run = run_passes_for(target, *model, kDynamic);
    EXPECT_TRUE(run->status.ok());
    EXPECT_EQ(count_nodes(*model, "DynamicQuantizeLSTM"), 0);
    return run->why("w");
  };
  EXPECT_EQ(
      why(std::string(kHead) + "(float[N,9,96] x) => (float[N,9,1,64] y) <" + w("w", {1, 256, 96}) +
          ", " + w("r", {1, 256, 64}) + "> { y = LSTM<hidden_size=64, layout=1>(x, w, r) }"),
      "is laid out batch first, which the integer LSTM lacks (missing: rule LSTM/batch-first "
      "of onnxruntime-cpu)");
  EXPECT_EQ(
      why(std::string(kHead) + "(float[9,N,16] x) => (float[9,1,N,16] y) <" + w("w", {1, 64, 16}) +
          ", " + w("r", {1, 64, 16}) + "> { y = LSTM<hidden_size=16>(x, w, r) }"),
      "has few weights: slower with activations quantized on every step (slow: rule "
      "LSTM/small-lstm of onnxruntime-cpu)");
  EXPECT_EQ(why(lstm("", ", b", 1), "generic-qdq"),
            "standard ONNX has no LSTM with integer weights (rule dynamic LSTM of generic-qdq)");
  EXPECT_NE(
      why(std::string(kHead) + "(float[9,N,96] x) => (float[9,1,N,64] y) <" + w("w", {1, 192, 96}) +
          ", " + w("r", {1, 192, 64}) + "> { y = GRU<hidden_size=64>(x, w, r) }")
          .find("has no kernel with integer weights"),
      std::string::npos);
  EXPECT_EQ(
      why(std::string(kHead) + "(float[9,N,96] x, float[1,256,64] r) => (float[9,1,N,64] y) <" +
          w("w", {1, 256, 96}) + "> { y = LSTM<hidden_size=64>(x, w, r) }"),
      "has a weight that is computed");
}

TEST(DynamicProducts, OnlyWherePayingForTheActivationsPays) {
  const auto applied = [](std::string_view rows, std::int64_t length, std::int64_t columns) {
    const auto model = model_from_text(
        std::string(kHead) + "(float[" + std::string(rows) + "," + std::to_string(length) +
        "] x) => (float[" + std::string(rows) + "," + std::to_string(columns) + "] y) <" +
        w("w", {length, columns}) + "> { y = MatMul(x, w) }");
    const auto run = run_passes(*model, kDynamic);
    EXPECT_EQ(run->applied("quantize-dynamic") == 0,
              run->why("w").find("too few to pay") != std::string::npos);
    return run->applied("quantize-dynamic") == 1;
  };
  // Measured: 0.9 x at one row, 1.5 x at 64; 2 x at 64 rows; 5 x.
  EXPECT_FALSE(applied("1", 128, 128));
  EXPECT_FALSE(applied("N", 128, 128)) << "open rows may be one";
  EXPECT_TRUE(applied("64", 128, 128));
  EXPECT_FALSE(applied("64", 64, 64));
  EXPECT_TRUE(applied("N", 384, 384));
}

TEST(DynamicProducts, OfTwoActivationsStayFloatAndSaySo) {
  const auto model = model_from_text(
      std::string(kHead) + "(float[N,6,256] x) => (float[N,6,256] y) <" + w("w", {256, 256}) +
      "> { q = MatMul(x, w) t = Transpose<perm=[0,2,1]>(x) s = MatMul(q, t) z = Softmax(s) "
      "y = MatMul(z, x) }");
  const auto run = run_passes(*model, kDynamic);
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(run->why("MatMul node that makes 's'"), "multiplies two activations");
  EXPECT_EQ(run->why("MatMul node that makes 'y'"), "multiplies two activations");
  EXPECT_EQ(count_nodes(*model, "MatMulInteger") + count_nodes(*model, "MatMul"), 3);
}

TEST(EmbeddingTables, LargeOnesAreLookedUpInIntegers) {
  const auto text = [](std::int64_t rows, std::string_view body) {
    return std::string(kHead) + "(int64[N,5] i) => (float[N,5,300] y) <" + w("t", {rows, 300}) +
           "> { " + std::string(body) + " }";
  };
  const std::vector<std::string> passes = {"lift-constants", "infer-shapes", "quantize-weights"};
  const auto large = check_passes(text(1000, "y = Gather(t, i)"), passes, 2e-3);
  EXPECT_EQ(large.run->applied("quantize-weights"), 1);
  EXPECT_EQ(count_nodes(*large.after, "Gather"), 2);
  EXPECT_EQ(count_nodes(*large.after, "Sub"), 0);
  std::int64_t int8 = 0;
  for (const Value* value : large.after->graph().initializers()) {
    int8 += value->initializer()->dtype() == DataType::kInt8 ? 1 : 0;
    EXPECT_TRUE(value->initializer()->elements() <= 1000 ||
                value->initializer()->dtype() == DataType::kInt8);
  }
  EXPECT_EQ(int8, 1);
  // Two readers, one table.
  const auto twice = check_passes(
      text(1000, "a = Gather(t, i) b = Gather(t, i) n = Neg(b) y = Max(a, n)"), passes, 2e-3);
  EXPECT_EQ(count_nodes(*twice.after, "Gather"), 4);
  EXPECT_LT(3 * bytes_of(*twice.after), bytes_of(*twice.before));
  // Below a megabyte the table is folded back when the model is loaded.
  const auto small = check_passes(text(100, "y = Gather(t, i)"), passes, 2e-3);
  EXPECT_EQ(small.run->applied("quantize-weights"), 1);
  EXPECT_EQ(count_nodes(*small.after, "Gather"), 1);
}

}  // namespace
}  // namespace mcompress::testing
