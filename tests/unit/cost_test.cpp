// Figures worked out by hand.
#include <gtest/gtest.h>

#include "mcompress/analysis.h"
#include "mcompress/io.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress {
namespace {

using testing::model_from_text;
using testing::weights;

struct Counted {
  std::unique_ptr<Model> model;
  PinnedShapes shapes;
  ModelCost cost;
};

Counted count(std::unique_ptr<Model> model, const ShapePins& pins = {}) {
  Counted counted;
  counted.model = std::move(model);
  Editor editor(*counted.model, &onnx_catalog());
  auto pinned = pin_input_shapes(editor, pins);
  EXPECT_TRUE(pinned.ok());
  counted.shapes = std::move(pinned).value();
  Diagnostics diagnostics;
  EXPECT_TRUE(infer_shapes(*counted.model, editor, diagnostics).ok());
  counted.cost = cost_of(*counted.model, counted.shapes);
  return counted;
}

Counted count(const std::string& inputs, const std::string& outputs, const std::string& constants,
              const std::string& nodes, const ShapePins& pins = {}) {
  return count(
      model_from_text("<ir_version: 8, opset_import: [\"\" : 17, \"com.microsoft\" : 1]> g (" +
                      inputs + ") => (" + outputs + ") <" + constants + "> { " + nodes + " }"),
      pins);
}

void expect(const Counted& counted, std::uint64_t macs, std::uint64_t flops) {
  EXPECT_EQ(counted.cost.macs, macs);
  EXPECT_EQ(counted.cost.flops, flops);
  EXPECT_FALSE(counted.cost.saturated);
}

TEST(Cost, Convolution) {
  // 4 x 8 x 8 results of 3 x 3 x 3 products, and a bias.
  const auto plain = count("float[1,3,8,8] x", "float[1,4,8,8] y",
                           weights("w", {4, 3, 3, 3}) + ", " + weights("b", {4}),
                           "y = Conv <pads = [1,1,1,1]> (x, w, b)");
  expect(plain, 256 * 27, 2 * 256 * 27 + 256);
  EXPECT_EQ(plain.cost.parameters, 112U);
  EXPECT_EQ(plain.cost.weight_bytes, 448U);
  // One input channel per output: 9 products each.
  expect(count("float[1,4,8,8] x", "float[1,4,4,4] y", weights("w", {4, 1, 3, 3}),
               "y = Conv <pads = [1,1,1,1], strides = [2,2], group = 4> (x, w)"),
         64 * 9, 2 * 64 * 9);
  // Each of 2 x 3 x 3 inputs goes to 5 x 2 x 2 places.
  expect(count("float[1,2,3,3] x", "float[1,5,6,6] y", weights("w", {2, 5, 2, 2}),
               "y = ConvTranspose <strides = [2,2]> (x, w)"),
         18 * 20, 2 * 18 * 20);
}

TEST(Cost, MatrixProducts) {
  expect(count("float[5,6] x", "float[5,7] y", weights("w", {7, 6}) + ", " + weights("b", {7}),
               "y = Gemm <transB = 1> (x, w, b)"),
         5 * 6 * 7, 2 * 210 + 35);
  expect(count("float[2,3,5,6] x, float[6,7] w", "float[2,3,5,7] y", "", "y = MatMul (x, w)"),
         2 * 3 * 5 * 7 * 6, 2 * 1260);
  expect(count("float[6] x, float[6,7] w", "float[7] y", "", "y = MatMul (x, w)"), 42, 84);
  expect(count("float[2,5,6] x, float[2,6,7] z", "float[2,5,7] y", "",
               "y = Einsum <equation = \"bik,bkj->bij\"> (x, z)"),
         2 * 5 * 6 * 7, 2 * 420);
}

TEST(Cost, IntegerForms) {
  const std::string conv =
      "float xs = {1.0}, uint8 xz = {0}, int8[4,3,1,1] w = {1,2,3,4,5,6,7,8,9,1,2,3}, "
      "float ws = {1.0}, int8 wz = {0}, float ys = {1.0}, uint8 yz = {0}";
  // 4 x 2 x 2 results of 3 products; 3 operations to quantize each.
  expect(count("uint8[1,3,2,2] x", "uint8[1,4,2,2] y", conv,
               "y = QLinearConv (x, xs, xz, w, ws, wz, ys, yz)"),
         16 * 3, 2 * 48 + 3 * 16);
  expect(count("uint8[1,3,2,2] x", "int32[1,4,2,2] y", conv, "y = ConvInteger (x, w)"), 48, 96);
  expect(count("uint8[5,6] x, uint8[6,7] w", "int32[5,7] y", "", "y = MatMulInteger (x, w)"), 210,
         420);
  expect(count("uint8[5,6] x, uint8[6,7] w", "uint8[5,7] y", "float s = {1.0}, uint8 z = {0}",
               "y = QLinearMatMul (x, s, z, w, s, z, s, z)"),
         210, 420 + 3 * 35);
  // Between QuantizeLinear (3 each) and DequantizeLinear (2 each) the product counts as it is.
  expect(count("float[5,6] x", "float[5,7] y",
               "float s = {1.0}, int8 z = {0}, " + weights("w", {6, 7}),
               "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = MatMul (d, w)"),
         210, 420 + 30 * 3 + 30 * 2);
}

TEST(Cost, BlockQuantizedProduct) {
  const auto counted = count(model_from_text(R"(
      <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
      g (float[N,5,32] x, uint8[8,1,16] w, float[8] s) => (y) {
        a = com.microsoft.MatMulNBits <K = 32, N = 8, bits = 4, block_size = 32> (x, w, s) y = Relu (a) })"),
                             {{"x", {2, 5, 32}}});
  expect(counted, 2 * 5 * 32 * 8, 2 * 2560 + 80);
}

TEST(Cost, RecurrentLayers) {
  // 3 steps of 2 samples: 4 gates of 8 units, each from 5 inputs and 8 states.
  expect(count("float[3,2,5] x", "float[3,1,2,8] y",
               weights("w", {1, 32, 5}) + ", " + weights("r", {1, 32, 8}),
               "y = LSTM <hidden_size = 8> (x, w, r)"),
         6 * 32 * 13, 2 * 6 * 32 * 13 + 6 * 8 * 13);
  expect(count("float[3,2,5] x", "float[3,2,2,8] y",
               weights("w", {2, 24, 5}) + ", " + weights("r", {2, 24, 8}),
               "y = GRU <hidden_size = 8, direction = \"bidirectional\"> (x, w, r)"),
         2 * 6 * 24 * 13, 2 * 2 * 6 * 24 * 13 + 2 * 6 * 8 * 11);
  expect(count("float[3,2,5] x", "float[3,1,2,8] y",
               weights("w", {1, 8, 5}) + ", " + weights("r", {1, 8, 8}), "y = RNN (x, w, r)"),
         6 * 8 * 13, 2 * 6 * 8 * 13 + 6 * 8 * 2);
}

TEST(Cost, NormalisationsPoolingsAndElements) {
  expect(
      count("float[2,10] x", "float[2,10] y", weights("s", {10}), "y = LayerNormalization (x, s)"),
      0, 20 * 7);
  expect(count("float[2,10] x", "float[2,10] y", "", "y = Softmax (x)"), 0, 20 * 5);
  expect(count("float[1,2,4,4] x", "float[1,2,2,2] y", "",
               "y = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x)"),
         0, 8 * 4);
  expect(count("float[1,2,4,4] x", "float[1,2,1,1] y", "", "y = GlobalAveragePool (x)"), 0, 32);
  // 1 for the sum, 2 for the bounds, 1 for Relu, nothing for the view.
  expect(count("float[4] x", "float[2,2] y", "int64[2] s = {2, 2}",
               "a = Add (x, x) b = Clip (a) c = Relu (b) y = Reshape (c, s)"),
         0, 4 + 8 + 4);
  expect(count("float[2,3] x, float[3] z", "float[2,3] y", "", "y = Sum (x, z, x)"), 0, 12);
  expect(count("float[1,2,4,4] x", "float[1,2,8,8] y", "float[4] s = {1.0, 1.0, 2.0, 2.0}",
               "y = Resize <mode = \"linear\"> (x, , s)"),
         0, 128 * 7);
}

TEST(Cost, SizesAreGivenSharedOrTakenAsOne) {
  const auto text = [&](const ShapePins& pins) {
    return count("float[N,3] x, float[M,N] z", "float[M,3] y", "", "y = MatMul (z, x)", pins);
  };
  EXPECT_EQ(text({}).cost.macs, 3U);
  EXPECT_EQ(text({}).shapes.assumed, (std::vector<std::string>{"N", "M"}));
  // N holds for both inputs.
  EXPECT_EQ(text({{"x", {7, 3}}}).cost.macs, 3U * 7U);
  EXPECT_EQ(text({{"x", {7, 3}}}).shapes.assumed, (std::vector<std::string>{"M"}));
  EXPECT_EQ(text({{"x", {7, 3}}, {"z", {5, 7}}}).cost.macs, 3U * 7U * 5U);
  EXPECT_TRUE(text({{"z", {5, 7}}}).shapes.assumed.empty());
}

TEST(Cost, WrongShapesAreRefused) {
  const auto why = [](const ShapePins& pins) {
    const auto model = model_from_text(
        R"(<ir_version: 8, opset_import: ["" : 17]> g (float[N,3] x, float[M,N] z) => (float[M,3] y)
           { y = MatMul (z, x) })");
    Editor editor(*model);
    const auto pinned = pin_input_shapes(editor, pins);
    EXPECT_FALSE(pinned.ok());
    if (pinned.ok()) return std::string();
    EXPECT_EQ(pinned.error().code, Code::kUsage);
    return to_string(pinned.error().diagnostic);
  };
  EXPECT_NE(why({{"X", {1, 3}}}).find("did you mean 'x'"), std::string::npos);
  EXPECT_NE(why({{"x", {1, 4}}}).find("axis 1 given as 4, the model has [N, 3]"),
            std::string::npos);
  EXPECT_NE(why({{"x", {1, 3, 1}}}).find("3 sizes given, the model has [N, 3]"), std::string::npos);
  EXPECT_NE(why({{"x", {-1, 3}}}).find("a size can not be -1"), std::string::npos);
  EXPECT_NE(why({{"x", {7, 3}}, {"z", {1, 8}}}).find("'N' is 7 elsewhere"), std::string::npos);
}

TEST(Cost, TheDearerBranchCounts) {
  const auto counted = count(model_from_text(R"(
      <ir_version: 8, opset_import: ["" : 17]>
      g (bool c, float[4,4] x) => (float[4,4] y) {
        y = If (c) < then_branch = t () => (float[4,4] p) { p = Relu (x) },
                     else_branch = e () => (float[4,4] q) { q = MatMul (x, x) } > })"));
  expect(counted, 64, 128);
  ASSERT_EQ(counted.cost.nodes.size(), 3U);
  std::map<std::string_view, std::uint64_t> repeats;
  for (const NodeCost& node : counted.cost.nodes) repeats[node.node->op_type()] = node.repeats;
  EXPECT_EQ(repeats["Relu"], 0U);
  EXPECT_EQ(repeats["MatMul"], 1U);
  EXPECT_EQ(counted.cost.nodes[0].graph, "");
  EXPECT_NE(counted.cost.nodes[1].graph, "");
}

TEST(Cost, LoopsCountEveryRound) {
  const auto loop = [](const std::string& trips, const std::string& inputs) {
    return count(model_from_text(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[4,4] x" + inputs +
        ") => (float[4,4] y) <" + trips +
        "> { y = Loop (n, , x) < body = b (int64 i, bool c, "
        "float[4,4] s) => (bool d, float[4,4] t) { d = Identity (c) t = MatMul (s, s) } > }"));
  };
  expect(loop("int64 n = {6}", ""), 6 * 64, 2 * 6 * 64);
  const auto open = loop("", ", int64 n");
  expect(open, 64, 128);
  ASSERT_FALSE(open.cost.notes.empty());
  EXPECT_NE(open.cost.notes.back().find("one round"), std::string::npos);
}

TEST(Cost, WhatHasNoFormulaIsNamed) {
  const auto counted = count(model_from_text(R"(
      <ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>
      g (float[4] x) => (y) { a = com.example.Mystery (x) y = Relu (a) })"));
  EXPECT_EQ(counted.cost.nodes[0].certainty, NodeCost::Certainty::kUnknown);
  ASSERT_EQ(counted.cost.notes.size(), 1U);
  EXPECT_EQ(counted.cost.notes[0], "not counted: Relu 1, com.example:Mystery 1");
}

TEST(Cost, HugeSizesStopAtTheLimit) {
  const auto counted = count("float[N,M] x, float[M,N] z", "float[N,N] y", "", "y = MatMul (x, z) ",
                             {{"x", {4'000'000'000'000'000'000, 4'000'000'000'000'000'000}}});
  EXPECT_EQ(counted.cost.macs, kCountLimit);
  EXPECT_EQ(counted.cost.flops, kCountLimit);
  EXPECT_TRUE(counted.cost.saturated);
  const MemoryPlan plan = plan_memory(*counted.model, counted.shapes);
  EXPECT_EQ(plan.peak_bytes, kCountLimit);
  EXPECT_TRUE(plan.saturated);
  // Nothing times anything is nothing.
  EXPECT_EQ(count("float[N,M] x, float[M,N] z", "float[N,N] y", "", "y = MatMul (x, z)",
                  {{"x", {0, 4'000'000'000'000'000'000}}})
                .cost.macs,
            0U);
}

TEST(Cost, EveryFixtureIsCountedTheSameTwice) {
  for (const auto& entry : testing::fixtures()) {
    const auto first = count(testing::model_from_bytes(entry.bytes));
    const auto second = count(testing::model_from_bytes(entry.bytes));
    EXPECT_EQ(first.cost.flops, second.cost.flops) << entry.name;
    EXPECT_EQ(first.cost.notes, second.cost.notes) << entry.name;
    const MemoryPlan plan = plan_memory(*first.model, first.shapes);
    EXPECT_LE(plan.alive.size(), plan.values) << entry.name;
  }
}

}  // namespace
}  // namespace mcompress
