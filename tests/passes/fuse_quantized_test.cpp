#include <gtest/gtest.h>

#include <array>

#include "ir/facts.h"
#include "mcompress/tensor.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

const std::vector<std::string> kPasses = {"infer-shapes",
                                          "fuse-quantized:{\"allow-contrib\": true}"};
constexpr std::string_view kPass = "fuse-quantized";

constexpr std::string_view kConstants =
    "float s = {0.02}, uint8 o = {128}, uint8 low = {0}, int8 i = {0}, float t = {0.05}, float sw "
    "= {0.01}, float[3] sc = {0.01, 0.02, 0.005}, int8[3] zc = {0,0,0}, int8[3] differ = {0,1,0}, "
    "int8[3,2,1,1] w = {10,-20,30,40,-50,60}, int8[2,3] m = {10,-20,30,40,-50,60}, int8[3,2] mt = "
    "{10,40,-20,-50,30,60}, float[3] b = {0.1,-0.2,0.30001}, int32[3] bi = {100,-50,7}, float[3] "
    "bs = {0.0002,0.0004,0.0001}, float wrong = {0.1}, float zero = {0}, float six = {6}, "
    "int64[2] flat = {0,-1}";

std::string model(std::string_view body, std::string_view inputs = "float[2,2,4,4] x",
                  int opset = 13) {
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) + "]> g (" +
         std::string(inputs) + ") => (float y) <" + std::string(kConstants) +
         "> { xq = QuantizeLinear(x, s, o) xd = DequantizeLinear(xq, s, o) " + std::string(body) +
         " }";
}
constexpr std::string_view kEnd = " q = QuantizeLinear(r, t, o) y = DequantizeLinear(q, t, o)";

// One code more or less: 0.05.
Checked becomes(const std::string& text, std::string_view op_type, std::size_t nodes,
                double tolerance = 0.0501) {
  Checked checked = check_passes(text, kPasses, tolerance);
  EXPECT_EQ(count_nodes(*checked.after, op_type), 1) << text;
  EXPECT_EQ(checked.after->graph().node_count(), nodes) << text;
  return checked;
}

std::string why_not(const std::string& text,
                    std::string_view subject = "QuantizeLinear node that makes 'q'") {
  const auto checked = check_passes(text, kPasses, 0.0);
  EXPECT_FALSE(checked.run->changed) << text;
  return checked.run->why(subject);
}

TEST(FuseQuantized, DoesNothingWithoutBeingAllowedTo) {
  auto parsed = model_from_text(model("r = Add(xd, xd)" + std::string(kEnd)));
  const auto run = run_passes(*parsed, {"infer-shapes", "fuse-quantized"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
  const auto other = run_passes_for("generic-qdq", *parsed, kPasses);
  ASSERT_FALSE(other->status.ok());
  EXPECT_EQ(other->status.error().code, Code::kUsage);
}

TEST(FuseQuantized, Convolution) {
  const std::string conv = "wd = DequantizeLinear<axis = 0>(w, sc, zc) ";
  const auto checked =
      becomes(model(conv + "r = Conv(xd, wd, b)" + std::string(kEnd)), "QLinearConv", 3);
  const Node& node = *maker_of(*checked.after, "q");
  ASSERT_EQ(node.inputs().size(), 9u);
  // round(b / (0.02 sc)) : 0.1 / 0.0002, -0.2 / 0.0004, 0.30001 / 0.0001
  EXPECT_EQ(constant_ints(node.input(8)), (std::vector<std::int64_t>{500, -500, 3000}));
  // Activations that the codes cut anyway: nothing lies below the lowest one.
  for (const char* cut :
       {"c = Conv(xd, wd, b) r = Relu(c)", "c = Conv(xd, wd, b) r = Clip(c, zero)"}) {
    becomes(model(conv + cut + " q = QuantizeLinear(r, t, low) y = DequantizeLinear(q, t, low)"),
            "QLinearConv", 3);
    EXPECT_FALSE(check_passes(model(conv + cut + std::string(kEnd)), kPasses, 0.0).run->changed);
  }
  // 255 * 0.05 > 6
  EXPECT_FALSE(
      check_passes(model(conv + "c = Conv(xd, wd) r = Clip(c, zero, six) q = "
                                "QuantizeLinear(r, t, low) y = DequantizeLinear(q, t, low)"),
                   kPasses, 0.0)
          .run->changed);
  becomes(model(conv + "c = Conv(xd, wd) r = Clip(c, zero, six) q = QuantizeLinear(r, s, low) y = "
                       "DequantizeLinear(q, s, low)"),
          "QLinearConv", 3);
  // A bias of codes at the scale of the products stays as it is.
  const auto coded =
      becomes(model(conv + "bd = DequantizeLinear<axis = 0>(bi, bs) r = Conv(xd, wd, bd)" +
                    std::string(kEnd)),
              "QLinearConv", 3);
  EXPECT_EQ(maker_of(*coded.after, "q")->input(8)->name(), "bi");
  EXPECT_EQ(why_not(model(conv + "bd = DequantizeLinear(bi, wrong) r = Conv(xd, wd, bd)" +
                          std::string(kEnd))),
            "the scale of the bias is not that of the products");
  EXPECT_EQ(why_not(model("wd = DequantizeLinear<axis = 0>(w, sc, differ) r = Conv(xd, wd)" +
                          std::string(kEnd))),
            "the zero points of the weight differ");
}

TEST(FuseQuantized, Products) {
  const std::string inputs = "float[4,2] x";
  for (const char* weight : {"wd = DequantizeLinear<axis = 1>(m, sc, zc) ",
                             "wd = DequantizeLinear(m, sw, i) ", "wd = DequantizeLinear(m, sw) "}) {
    becomes(model(std::string(weight) + "r = MatMul(xd, wd)" + std::string(kEnd), inputs),
            "QLinearMatMul", 3);
    becomes(model(std::string(weight) + "r = Gemm(xd, wd, b)" + std::string(kEnd), inputs), "QGemm",
            3);
    // In float32 the sums of integers are what the sums of products are.
    for (const char* body :
         {"y = MatMul(xd, wd)", "y = Gemm(xd, wd)", "y = Gemm(xd, wd, b)",
          "p = MatMul(xd, wd) y = Add(p, b)", "p = MatMul(xd, wd) y = Add(b, p)"}) {
      becomes(model(std::string(weight) + body, inputs), "MatMulIntegerToFloat", 2, 1e-5);
    }
  }
  const std::string turned = "wd = DequantizeLinear<axis = 0>(mt, sc, zc) ";
  becomes(model(turned + "r = Gemm<transB = 1>(xd, wd, b)" + std::string(kEnd), inputs), "QGemm",
          3);
  const auto real = becomes(model(turned + "y = Gemm<transB = 1>(xd, wd, b)", inputs),
                            "MatMulIntegerToFloat", 2, 1e-5);
  EXPECT_EQ(constant_ints(maker_of(*real.after, "y")->input(1)),
            (std::vector<std::int64_t>{10, -20, 30, 40, -50, 60}));
  // A bias of codes, at the scale of the products.
  for (const char* end : {"y = Gemm<transB = 1>(xd, wd, bd)",
                          "r = Gemm<transB = 1>(xd, wd, bd) q = "
                          "QuantizeLinear(r, t, o) y = DequantizeLinear(q, t, o)"}) {
    const bool real = std::string_view(end).starts_with("y");
    const auto coded =
        becomes(model(turned + "bd = DequantizeLinear<axis = 0>(bi, bs) " + end, inputs), "QGemm",
                real ? 2 : 3, real ? 1e-5 : 0.0501);
    const Node& node = *maker_of(*coded.after, real ? "y" : "q");
    EXPECT_EQ(node.input(6)->name(), "bi");
    EXPECT_EQ(node.inputs().size(), real ? 7u : 9u);
  }
  EXPECT_EQ(
      why_not(model(turned + "r = Gemm<transB = 1, alpha = 0.5>(xd, wd, b)" + std::string(kEnd),
                    inputs)),
      "it transposes or scales what it multiplies");
}

TEST(FuseQuantized, OperatorsOfOneAndTwoTensors) {
  const std::string z = "float[2,2,4,4] x, float[2,2,1,1] z";
  const std::string zd = "zq = QuantizeLinear(z, t, o) zd = DequantizeLinear(zq, t, o) ";
  becomes(model(zd + "r = Add(xd, zd)" + std::string(kEnd), z), "QLinearAdd", 4);
  becomes(model(zd + "r = Mul(zd, xd)" + std::string(kEnd), z), "QLinearMul", 4);
  becomes(model(zd + "a = Add(zd, xd) r = Relu(a) q = QuantizeLinear(r, t, low) y = "
                     "DequantizeLinear(q, t, low)",
                z),
          "QLinearAdd", 4);
  for (const auto& [body, op_type] :
       {std::pair("r = GlobalAveragePool(xd)", "QLinearGlobalAveragePool"),
        std::pair("r = AveragePool<kernel_shape = [2,2], pads = [1,1,0,0]>(xd)",
                  "QLinearAveragePool"),
        std::pair("r = LeakyRelu<alpha = 0.3>(xd)", "QLinearLeakyRelu"),
        std::pair("r = Sigmoid(xd)", "QLinearSigmoid"),
        std::pair("r = Softmax<axis = 1>(xd)", "QLinearSoftmax"),
        std::pair("r = Softmax(xd)", "QLinearSoftmax")}) {
    becomes(model(body + std::string(kEnd)), op_type, 3);
  }
  becomes(model("r = Softmax(xd)" + std::string(kEnd), "float[2,2,4,4] x", 11), "QLinearSoftmax",
          3);
  becomes(model("zq = QuantizeLinear(z, t, o) zd = DequantizeLinear(zq, t, o) r = Concat<axis = "
                "1>(xd, zd)" +
                    std::string(kEnd),
                "float[2,2,4,4] x, float[2,3,4,4] z"),
          "QLinearConcat", 4);
  EXPECT_EQ(
      why_not(model("r = AveragePool<kernel_shape = [3,3], strides = [2,2], ceil_mode = 1>(xd)" +
                    std::string(kEnd))),
      "the integer kernel rounds sizes down and has no dilations");
  EXPECT_EQ(why_not(model("r = Add(xd, x)" + std::string(kEnd))),
            "it does not read two dequantized tensors");
}

TEST(FuseQuantized, MovesCodes) {
  const auto moved =
      becomes(model("r = Flatten(xd) u = Transpose(r) y = Neg(u)"), "Transpose", 5, 0.0);
  EXPECT_EQ(element_type(*maker_of(*moved.after, "r")->output(0)), DataType::kUint8);
  // Q(DQ(x)) behind them is nothing.
  becomes(model("f = Flatten(xd) q = QuantizeLinear(f, s, o) y = DequantizeLinear(q, s, o)"),
          "Flatten", 3, 0.0);
  becomes(model("p = MaxPool<kernel_shape = [2,2]>(xd) q = QuantizeLinear(p, s, o) y = "
                "DequantizeLinear(q, s, o)"),
          "MaxPool", 3, 0.0);
  EXPECT_FALSE(
      check_passes(model("p = MaxPool<kernel_shape = [2,2]>(xd) q = QuantizeLinear(p, t, o) "
                         "y = DequantizeLinear(q, t, o)"),
                   kPasses, 0.0)
          .run->changed);
}

TEST(FuseQuantized, WhatCodesCutAnyway) {
  const std::string tail = " q = QuantizeLinear(r, t, low) y = DequantizeLinear(q, t, low)";
  for (const std::string cut : {"r = Relu(x)", "r = Clip(x, zero)"}) {
    const auto checked = check_passes(model(cut + tail), kPasses, 0.0);
    EXPECT_EQ(maker_of(*checked.after, "q")->input(0)->name(), "x") << cut;
  }
  // Read by others too, a bound that codes reach, numbers below the lowest code.
  for (const std::string& body :
       {std::string("r = Relu(x) q = QuantizeLinear(r, t, low) d = DequantizeLinear(q, t, low) y = "
                    "Add(d, r)"),
        "r = Clip(x, zero, six)" + tail, "r = Relu(x)" + std::string(kEnd)}) {
    EXPECT_FALSE(check_passes(model(body), kPasses, 0.0).run->changed) << body;
  }
}

TEST(FuseQuantized, SignedActivationsBecomeUnsigned) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 13]> g (float[2,2,4,4] x) => (float y) <" +
          std::string(kConstants) +
          ", int8 a = {-28}> { xq = QuantizeLinear(x, s, a) xd = DequantizeLinear(xq, s, a) wd = "
          "DequantizeLinear<axis = 0>(w, sc, zc) r = Conv(xd, wd, b) q = QuantizeLinear(r, t, i) y "
          "= DequantizeLinear(q, t, i) }",
      kPasses, 0.0501);
  EXPECT_EQ(checked.after->graph().node_count(), 3u);
  const Node& conv = *maker_of(*checked.after, "q");
  EXPECT_EQ(conv.op_type(), "QLinearConv");
  EXPECT_EQ(constant_ints(conv.input(2)), (std::vector<std::int64_t>{100}));
  EXPECT_EQ(constant_ints(conv.input(7)), (std::vector<std::int64_t>{128}));
  EXPECT_EQ(element_type(*conv.input(0)), DataType::kUint8);
}

TEST(FuseQuantized, AFewStoredWeightsAreRestored) {
  const auto text = [](int others) {
    return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,10] x) => (float[N,10] y, "
           "float[N," +
           std::to_string(others) + "] z) <" + weights("large", {10, others}) +
           ", int8[10,10] q = {" +
           [] {
             std::string codes;
             for (int i = 0; i < 100; ++i) codes += (i != 0 ? "," : "") + std::to_string(i - 50);
             return codes;
           }() +
           "}, float[10] s = {0.5,0.25,1.5,0.125,1,2,3,4,5,6}> { f = Cast<to=1>(q) "
           "w = Mul(f, s) y = MatMul(x, w) z = MatMul(x, large) }";
  };
  const std::vector<std::string> allowed = {"infer-shapes",
                                            "fuse-quantized:{\"allow-contrib\": true}"};
  // 100 weights grow by 300 bytes: less than 1/200 of 80,540 bytes of constants, more of 40,540.
  const auto checked = check_passes(text(2000), allowed, 0.0);
  EXPECT_EQ(count_nodes(*checked.after, "Cast"), 0);
  EXPECT_EQ(count_nodes(*checked.after, "Mul"), 0) << checked.run->why("Mul node that makes 'w'");
  EXPECT_NE(checked.after->graph().find("w")->constant(), nullptr);
  EXPECT_FALSE(check_passes(text(1000), allowed, 0.0).run->changed);
  EXPECT_FALSE(check_passes(text(2000), {"infer-shapes", "fuse-quantized"}, 0.0).run->changed);
}

TEST(FuseQuantized, ScalesThatAreComputedStay) {
  EXPECT_FALSE(
      check_passes("<ir_version: 8, opset_import: [\"\" : 13]> g (float[2,3] x, float s) => "
                   "(float y) <uint8 o = {128}> { xq = QuantizeLinear(x, s, o) xd = "
                   "DequantizeLinear(xq, s, o) r = Add(xd, xd) q = QuantizeLinear(r, s, o) y = "
                   "DequantizeLinear(q, s, o) }",
                   kPasses, 0.0)
          .run->changed);
}

}  // namespace
}  // namespace mcompress::testing
