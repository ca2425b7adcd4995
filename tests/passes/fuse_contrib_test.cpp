#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

const std::vector<std::string> kPasses = {"infer-shapes", "fuse-contrib:{\"allow-contrib\": true}"};
constexpr std::string_view kPass = "fuse-contrib";

std::string header(int opset = 17) {
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) + "]> g ";
}

// A convolution into t, then `body`.
std::string conv(std::string_view body, int opset = 17, std::string_view more = "") {
  return header(opset) + "(float[1,3,8,8] x) => (float y) <" + weights("w", {4, 3, 3, 3}) + "," +
         weights("b", {4}) + ", float low = {-0.25}, float high = {0.5}" + std::string(more) +
         "> { t = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w, b) " + std::string(body) + " }";
}

std::string gemm(std::string_view body, int opset = 17) {
  return header(opset) + "(float[3,6] x) => (float y) <" + weights("w", {6, 4}) + "," +
         weights("b", {4}) + ", float low = {0}, float high = {6}> { t = Gemm(x, w, b) " +
         std::string(body) + " }";
}

Checked becomes_one(const std::string& text, std::string_view op_type) {
  Checked checked = check_passes(text, kPasses);
  EXPECT_EQ(checked.after->graph().node_count(), 1u) << text;
  EXPECT_EQ(count_nodes(*checked.after, op_type), 1) << text;
  EXPECT_EQ(checked.after->graph().first()->domain(), "com.microsoft");
  EXPECT_EQ(checked.after->opset("com.microsoft"), 1);
  EXPECT_EQ(checked.run->count(kPass, op_type), 1) << text;
  return checked;
}

std::string why_not(const std::string& text, std::string_view subject) {
  const auto checked = check_passes(text, kPasses, 0.0);
  EXPECT_FALSE(checked.run->changed) << text;
  EXPECT_EQ(checked.run->count(kPass, "fused"), 0) << text;
  EXPECT_EQ(checked.after->opset("com.microsoft"), 0);
  return checked.run->why(subject);
}

TEST(FuseContrib, DoesNothingWithoutBeingAllowedTo) {
  auto model = model_from_text(conv("y = Relu(t)"));
  const auto run = run_passes(*model, {"infer-shapes", "fuse-contrib"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(model->opset("com.microsoft"), 0);
}

TEST(FuseContrib, RefusesATargetWithoutOperatorsOfItsOwn) {
  auto model = model_from_text(conv("y = Relu(t)"));
  const auto run = run_passes_for("generic-qdq", *model, kPasses);
  ASSERT_FALSE(run->status.ok());
  EXPECT_EQ(run->status.error().code, Code::kUsage);
  EXPECT_EQ(run->status.error().diagnostic.message,
            "target 'generic-qdq' has no operators of its own");
  EXPECT_FALSE(run->changed);
}

TEST(FuseContrib, ANormalisationByTheRootMeanSquare) {
  const auto norm = [](std::string_view square) {
    return header() + "(float[n,3,6] x) => (float[n,3,6] y) <" + weights("gamma", {6}) +
           ", float two = {2}, float one = {1}, float epsilon = {0.00001}> { s = " +
           std::string(square) +
           " m = ReduceMean<axes = [-1]>(s) e = Add(m, epsilon) r = Sqrt(e) i = Div(one, r) "
           "n = Mul(x, i) y = Mul(n, gamma) }";
  };
  const auto checked = check_passes(norm("Pow(x, two)"), kPasses, 1e-5);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  const Node& node = *checked.after->graph().first();
  EXPECT_EQ(node.op_type(), "SimplifiedLayerNormalization");
  EXPECT_EQ(node.domain(), "");
  EXPECT_FLOAT_EQ(node.float_attribute("epsilon", 0), 1e-5F);
  // Not the mean of squares, and not for every target.
  EXPECT_FALSE(check_passes(norm("Abs(x)"), kPasses, 0.0).run->changed);
  EXPECT_FALSE(
      check_passes(norm("Pow(x, two)"), {"infer-shapes", "fuse-contrib"}, 0.0).run->changed);
}

TEST(FuseContrib, ConvAppliesItsActivation) {
  for (const char* body :
       {"y = Relu(t)", "y = LeakyRelu(t)", "y = LeakyRelu<alpha = 0.3>(t)", "y = Sigmoid(t)",
        "y = Tanh(t)", "y = HardSigmoid(t)", "y = HardSigmoid<alpha = 0.4, beta = 0.1>(t)",
        "y = Clip(t, low, high)", "y = Clip(t, low)", "y = Clip(t, , high)", "y = HardSwish(t)",
        "s = HardSigmoid<alpha = 0.16666667, beta = 0.5>(t) y = Mul(t, s)",
        "s = HardSigmoid<alpha = 0.16666667, beta = 0.5>(t) y = Mul(s, t)"}) {
    const auto checked = becomes_one(conv(body), "FusedConv");
    EXPECT_EQ(checked.after->graph().first()->ints_attribute("strides"),
              (std::vector<std::int64_t>{2, 2}));
  }
  // The bounds go with the Clip.
  EXPECT_EQ(count_initializers(*becomes_one(conv("y = Clip(t, low, high)"), "FusedConv").after), 2);
  becomes_one(conv("y = Clip<min = -0.25, max = 0.5>(t)", 10), "FusedConv");
  becomes_one(conv("y = Clip<max = 0.5>(t)", 10), "FusedConv");
}

TEST(FuseContrib, GemmAppliesItsActivation) {
  for (const char* body :
       {"y = Relu(t)", "y = LeakyRelu<alpha = 0.3>(t)", "y = Sigmoid(t)", "y = Tanh(t)",
        "y = HardSigmoid<alpha = 0.4, beta = 0.1>(t)", "y = Elu(t)", "y = Elu<alpha = 0.5>(t)",
        "y = Softplus(t)", "y = Softsign(t)"}) {
    becomes_one(gemm(body), "FusedGemm");
  }
}

TEST(FuseContrib, ConvAddsATensor) {
  const auto sum = [&](const std::string& body, const std::string& inputs) {
    return header() + "(float[N,3,8,8] x" + inputs + ") => (float y) <" +
           weights("w", {4, 3, 3, 3}) + "," + weights("w2", {4, 3, 1, 1}) + "," +
           weights("b", {4}) + "> { t = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w, b) " + body +
           " }";
  };
  const std::string z = ", float[N,4,4,4] z";
  const std::string made = "c = Conv<strides = [2,2]>(x, w2) z = Relu(c) ";
  for (const char* body : {"y = Add(t, z)", "y = Add(z, t)", "u = Add(t, z) y = Relu(u)",
                           "u = Add(z, t) y = LeakyRelu<alpha = 0.3>(u)"}) {
    const auto checked = check_passes(sum(made + body, ""), kPasses);
    EXPECT_EQ(checked.after->graph().node_count(), 2u) << body;
    const Node& node = *maker_of(*checked.after, "y");
    EXPECT_EQ(node.op_type(), "FusedConv") << body;
    ASSERT_EQ(node.inputs().size(), 4u) << body;
    EXPECT_EQ(node.input(3)->producer()->op_type(), "FusedConv") << body;
    EXPECT_EQ(node.ints_attribute("pads"), (std::vector<std::int64_t>{1, 1, 1, 1}));
  }
  // Of two convolutions the later one adds the other; a result with an activation is no operand.
  const auto both =
      check_passes(sum("s = Conv<strides = [2,2]>(x, w2) u = Add(t, s) y = Relu(u)", ""), kPasses);
  EXPECT_EQ(count_nodes(*both.after, "FusedConv"), 1);
  EXPECT_EQ(both.after->graph().node_count(), 2u);
  EXPECT_EQ(maker_of(*both.after, "y")->input(1)->name(), "w2");
  EXPECT_EQ(why_not(sum("y = Add(t, z)", ", float[N,4,1,1] z"), "Add node that makes 'y'"),
            "'z' may have another shape than the convolution");
  EXPECT_EQ(why_not(sum("y = Add(t, z)", ", float[M,4,4,4] z"), "Add node that makes 'y'"),
            "'z' may have another shape than the convolution");
  for (const char* body : {"u = Add(t, z) y = Add(u, t)", "y = Add(t, t)"}) {
    EXPECT_FALSE(check_passes(sum(body, z), kPasses, 0.0).run->changed) << body;
  }
}

// The runtime keeps convolutions in blocks of channels, and a sum only with what lies in blocks
// too.
TEST(FuseContrib, ConvAddsWhatLiesInItsLayout) {
  const auto sum = [&](const std::string& body) {
    return header() + "(float[N,4,8,8] x, float[N,4,8,8] z, float[N,8,4,8] v) => (float y) <" +
           weights("w", {4, 4, 1, 1}) + "> { " + body + " }";
  };
  const auto written = [&](const std::string& body) {
    return count_nodes(*check_passes(sum(body), kPasses).after, "FusedConv");
  };
  EXPECT_EQ(written("t = Conv(x, w) y = Add(t, z)"), 0);
  EXPECT_EQ(why_not(sum("t = Conv(x, w) y = Add(t, z)"), "Add node that makes 'y'"),
            "the runtime does not keep 'z' in the layout of convolutions");
  EXPECT_EQ(written("c = Conv(z, w) g = GlobalAveragePool(c) m = Mul(c, g) t = Conv(x, w) "
                    "y = Add(t, m)"),
            0);
  EXPECT_EQ(written("c = Conv(z, w) p = MaxPool<kernel_shape = [1,1]>(c) t = Conv(x, w) "
                    "y = Add(t, p)"),
            1);
  EXPECT_EQ(written("c = Conv(z, w) r = Relu(c) q = Transpose<perm = [0,2,1,3]>(v) "
                    "t = Conv(q, w) y = Add(t, r)"),
            1);  // Conv with Relu; the sum is none
  // What has one dimension only is not computed in blocks.
  becomes_one(header() + "(float[N,4,8] x, float[N,4,8] z) => (float y) <" +
                  weights("w", {4, 4, 1}) + "> { t = Conv(x, w) y = Add(t, z) }",
              "FusedConv");
}

TEST(FuseContrib, LeavesQuantizedConvolutionsToTheRuntime) {
  const auto quantized = [&](std::string_view body) {
    return header() + "(float[1,3,8,8] x, float[1,4,8,8] z) => (float y) <" +
           weights("w", {4, 3, 3, 3}) +
           ", float s = {0.01}, uint8 o = {128}> { q = "
           "QuantizeLinear(x, s, o) d = DequantizeLinear(q, s, o) t = Conv<pads = [1,1,1,1]>(d, "
           "w) " +
           std::string(body) + " }";
  };
  EXPECT_EQ(why_not(quantized("y = Relu(t)"), "Relu node that makes 'y'"),
            "'d' is dequantized: the runtime reads the integers");
  EXPECT_EQ(why_not(quantized("y = Add(t, z)"), "Add node that makes 'y'"),
            "'d' is dequantized: the runtime reads the integers");
}

TEST(FuseContrib, SaysWhichActivationsStay) {
  EXPECT_EQ(why_not(conv("y = Elu(t)"), "Elu node that makes 'y'"), "FusedConv does not apply Elu");
  EXPECT_EQ(why_not(gemm("y = Clip(t, low, high)"), "Clip node that makes 'y'"),
            "FusedGemm does not apply Clip");
  EXPECT_EQ(why_not(header() + "(float[1,3,8,8] x, float low) => (float y) <" +
                        weights("w", {4, 3, 3, 3}) + "> { t = Conv(x, w) y = Clip(t, low) }",
                    "Clip node that makes 'y'"),
            "its bounds are computed");
  EXPECT_EQ(why_not(header() + "(double[3,6] x, double[6,4] w) => (double y) { t = Gemm(x, w) y = "
                               "Relu(t) }",
                    "Relu node that makes 'y'"),
            "'t' is float64, only float32 is merged");
  // Read by others too, or by an activation of another kind.
  for (const char* body :
       {"r = Relu(t) y = Add(r, t)", "y = Sin(t)", "s = HardSigmoid(t) y = Mul(t, s)",
        "s = HardSigmoid<alpha = 0.16666667, beta = 0.5>(t) y = Add(t, s)"}) {
    const auto checked = check_passes(conv(body), kPasses, 0.0);
    EXPECT_FALSE(checked.run->changed) << body;
  }
}

TEST(FuseContrib, KeepsTheNamesOfOutputs) {
  const auto checked =
      check_passes(header() + "(float[1,3,8,8] x) => (float y, float z) <" +
                       weights("w", {4, 3, 3, 3}) + "> { t = Conv(x, w) y = Relu(t) z = Neg(y) }",
                   kPasses);
  EXPECT_EQ(checked.run->count(kPass, "FusedConv"), 1);
  EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "FusedConv");
}

TEST(FuseContrib, ActivationsInBranches) {
  const auto checked = check_passes(
      header() + "(bool c, float[3,6] x) => (float[3,4] y) <" + weights("w", {6, 4}) + R"(> {
  y = If (c) <
    then_branch = yes () => (float[3,4] o) { t = Gemm(x, w) o = Relu(t) },
    else_branch = no () => (float[3,4] p) { u = Gemm(x, w) p = Neg(u) }
  >
})",
      kPasses);
  EXPECT_EQ(checked.run->count(kPass, "FusedGemm"), 1);
}

// ----------------------------------------------------------------------------------- products

std::string product(std::string_view body) {
  return header() +
         "(float[2,5,6] x, float[2,5,6] z) => (float y) <float two = {2}, float[1,1,1] "
         "eight = {8}, float[1,1,1,1] wide = {8}, float zero = {0}> { " +
         std::string(body) + " }";
}

TEST(FuseContrib, ProductsReadTransposedAndScaledOperands) {
  for (const char* body :
       {"q = Transpose<perm = [0,2,1]>(z) y = MatMul(x, q)",
        "q = Transpose<perm = [0,2,1]>(x) y = MatMul(q, z)",
        "q = Transpose<perm = [0,2,1]>(z) m = MatMul(x, q) y = Mul(m, two)",
        "q = Transpose<perm = [0,2,1]>(z) m = MatMul(x, q) y = Div(m, eight)",
        "q = Transpose<perm = [0,2,1]>(z) s = Mul(two, x) m = MatMul(s, q) y = Div(m, eight)",
        "q = Transpose<perm = [0,2,1]>(z) r = Div(x, eight) s = Mul(q, two) y = MatMul(r, s)",
        "s = Mul(z, two) q = Transpose<perm = [0,2,1]>(s) y = MatMul(x, q)"}) {
    const auto checked = check_passes(product(body), kPasses);
    EXPECT_EQ(count_nodes(*checked.after, "FusedMatMul"), 1) << body;
    EXPECT_EQ(count_nodes(*checked.after, "Transpose"), 0) << body;
    EXPECT_GE(checked.run->count(kPass, "FusedMatMul"), 1) << body;
  }
  const auto checked =
      check_passes(product("q = Transpose<perm = [0,2,1]>(z) s = Mul(two, x) m = MatMul(s, q) y = "
                           "Div(m, eight)"),
                   kPasses);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(count_initializers(*checked.after), 2);  // those that nothing read before
  EXPECT_FLOAT_EQ(checked.after->graph().first()->float_attribute("alpha", 0), 0.25f);
  EXPECT_EQ(checked.after->graph().first()->int_attribute("transB", 0), 1);
}

TEST(FuseContrib, OneTransposeForTwoProducts) {
  const auto checked = check_passes(
      product("q = Transpose<perm = [0,2,1]>(z) a = MatMul(x, q) b = MatMul(z, q) y = Add(a, b)"),
      kPasses);
  EXPECT_EQ(count_nodes(*checked.after, "FusedMatMul"), 2);
  EXPECT_EQ(count_nodes(*checked.after, "Transpose"), 0);
}

TEST(FuseContrib, SaysWhichProductsStay) {
  EXPECT_EQ(why_not(product("q = Transpose<perm = [0,2,1]>(z) m = MatMul(x, q) n = Neg(q) k = "
                            "MatMul(m, z) y = MatMul(n, k)"),
                    "Transpose node that makes 'q'"),
            "'q' is read by Neg 'Neg node that makes 'n'' too");
  EXPECT_EQ(why_not(header() + "(double[2,5,6] x, double[2,5,6] z) => (double y) { q = "
                               "Transpose<perm = [0,2,1]>(z) y = MatMul(x, q) }",
                    "Transpose node that makes 'q'"),
            "'q' is float64, only float32 is merged");
  for (const char* body :
       {// a factor that adds an axis, or makes everything zero, or is no number
        "q = Reshape(z, shape) m = MatMul(x, q) y = Mul(m, wide)",
        "q = Reshape(z, shape) m = MatMul(x, q) y = Mul(m, zero)",
        "q = Reshape(z, shape) m = MatMul(x, q) y = Div(two, m)",
        "q = Reshape(z, shape) m = MatMul(x, q) y = Mul(m, vector)",
        // another exchange of axes
        "q = Transpose<perm = [1,0,2]>(x) r = Reshape(q, shape) y = MatMul(x, r)"}) {
    const auto checked =
        check_passes(header() +
                         "(float[2,5,6] x, float[2,5,6] z) => (float y) <float two = {2}, "
                         "float[1,1,1,1] wide = {8}, float zero = {0}, int64[3] shape = {2,6,5}, "
                         "float[5] vector = {1,2,3,4,5}> { " +
                         std::string(body) + " }",
                     kPasses, 0.0);
    EXPECT_FALSE(checked.run->changed) << body;
  }
  EXPECT_EQ(why_not(header() + "(float[2,5,6] x, float[2,6,5] z) => (float y, float m) <float two "
                               "= {2}> { m = MatMul(x, z) y = Mul(m, two) }",
                    "Mul node that makes 'y'"),
            "'m' is a graph output");
}

// ---------------------------------------------------------------------------------- dimensions

TEST(FuseContrib, DimensionsThatFollowEachOtherArePartsOfShape) {
  const auto sizes = [](const std::string& body, int opset = 17) {
    return header(opset) +
           "(float[N,5,M] x) => (int64[K] y) <int64 i1 = {1}, int64 last = {-1}, "
           "int64[2] two = {1,2}, int64[2] twice = {1,1}, int64[1] zero = {0}> { s = Shape(x) " +
           body + " }";
  };
  for (const auto& [body, start, end] :
       {std::tuple("g = Gather(s, i1) y = Unsqueeze(g, zero)", 1, 2),
        std::tuple("g = Gather(s, last) y = Unsqueeze(g, zero)", 2, 3),
        std::tuple("y = Gather(s, two)", 1, 3)}) {
    const auto checked = check_passes(sizes(body), kPasses, 0.0);
    EXPECT_EQ(checked.after->graph().node_count(), 1u) << body;
    EXPECT_EQ(checked.after->graph().first()->int_attribute("start", -9), start) << body;
    EXPECT_EQ(checked.after->graph().first()->int_attribute("end", -9), end) << body;
  }
  EXPECT_FALSE(check_passes(sizes("y = Gather(s, twice)"), kPasses, 0.0).run->changed);
  EXPECT_FALSE(check_passes(sizes("y = Gather(s, two)", 14), kPasses, 0.0).run->changed);
  EXPECT_FALSE(check_passes(sizes("g = Gather(s, two) y = Concat<axis = 0>(g, s)"), kPasses, 0.0)
                   .run->changed);
}

// Its kernel is slower than the two operators it stands for.
TEST(FuseContrib, SumsThatAreNormalisedStay) {
  const auto checked =
      check_passes(header() + "(float[2,5,6] x, float[2,5,6] z) => (float y) <" +
                       weights("g", {6}) + "> { s = Add(x, z) y = LayerNormalization(s, g) }",
                   kPasses, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

// --------------------------------------------------------------------------------------- gates

std::string gate(std::string_view body, int opset = 17) {
  return header(opset) +
         "(float[2,5,6] x) => (float y) <float half = {0.5}, float one = {1}, "
         "float root = {1.41421354}, float k = {1.702}, float cubic = {0.044715}, "
         "float slope = {0.79788458}, float three = {3}," +
         weights("v", {6}) + "," + weights("u", {1}) + "> { " + std::string(body) + " }";
}

TEST(FuseContrib, Gates) {
  becomes_one(gate("d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)"),
              "Gelu");
  becomes_one(gate("p = Pow(x, three) c = Mul(p, cubic) s = Add(x, c) t = Mul(s, slope) q = "
                   "Tanh(t) a = Add(q, one) m = Mul(x, a) y = Mul(m, half)"),
              "FastGelu");
  for (const auto& [body, alpha] :
       {std::pair("s = Sigmoid(x) y = Mul(x, s)", 1.0f),
        std::pair("r = Mul(x, k) s = Sigmoid(r) y = Mul(s, x)", 1.702f),
        std::pair("r = Div(x, half) s = Sigmoid(r) y = Mul(s, x)", 2.0f)}) {
    const auto checked = becomes_one(gate(body), "QuickGelu");
    EXPECT_FLOAT_EQ(checked.after->graph().first()->float_attribute("alpha", 0), alpha);
  }
}

TEST(FuseContrib, GeluTakesABias) {
  becomes_one(gate("s = Add(x, v) y = Gelu(s)", 20), "BiasGelu");
  becomes_one(gate("s = Add(v, x) y = Gelu<approximate = \"tanh\">(s)", 20), "FastGelu");
  const auto checked = check_passes(
      gate("z = Add(x, v) d = Div(z, root) e = Erf(d) a = Add(e, one) m = Mul(z, a) y = Mul(m, "
           "half)"),
      kPasses);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(count_nodes(*checked.after, "BiasGelu"), 1);
}

TEST(FuseContrib, LeavesOtherGates) {
  for (const char* body :
       {"s = Sigmoid(x) y = Add(x, s)", "r = Add(x, v) s = Sigmoid(r) y = Mul(x, s)",
        "d = Div(x, root) e = Erf(d) a = Add(e, half) m = Mul(x, a) y = Mul(m, half)"}) {
    EXPECT_FALSE(check_passes(gate(body), kPasses, 0.0).run->changed) << body;
  }
  // No vector: one number, or a full tensor; or read by others.
  for (const char* body : {"s = Add(x, u) y = Gelu(s)", "s = Add(x, x) y = Gelu(s)"}) {
    EXPECT_FALSE(check_passes(gate(body, 20), kPasses, 0.0).run->changed) << body;
  }
  EXPECT_EQ(
      why_not(gate("s = Add(x, v) t = Gelu(s) y = Add(t, s)", 20), "Gelu node that makes 't'"),
      "'s' is read 2 times");
  EXPECT_EQ(why_not(gate("s = Sigmoid(x) m = Mul(x, s) y = Add(m, s)"), "Mul node that makes 'm'"),
            "'s' is read 2 times");
}

// Everything else still runs on what came out, and finds nothing to spoil.
TEST(FuseContrib, OtherPassesLeaveItsOperatorsAlone) {
  auto model = model_from_text(
      header() + "(float[2,5,6] x, float[2,5,6] z) => (float y, float v) <" +
      weights("g", {6}, 0.5f, 1.5f) + "," + weights("w", {6, 4}) + "," + weights("b", {4}) +
      ", int64[2] flat = {10,6}> { s = Add(x, z) n = LayerNormalization(s, g) q = Transpose<perm = "
      "[0,2,1]>(s) p = MatMul(n, q) k = Sigmoid(p) y = Mul(p, k) f = Reshape(s, flat) o = "
      "Gemm(f, w, b) r = Relu(o) v = Abs(r) }");
  const auto original = model->clone();
  std::vector<std::string> passes = kPasses;
  ASSERT_TRUE(run_passes(*model, passes)->status.ok());
  EXPECT_EQ(count_nodes(*model, "FusedMatMul"), 1);
  EXPECT_EQ(count_nodes(*model, "FusedGemm"), 1);
  for (const PassInfo* pass : builtin_passes().all()) {
    if (!pass->keeps_results || pass->name == "convert-opset") continue;
    const auto run = run_passes(*model, {std::string(pass->name)});
    EXPECT_TRUE(run->status.ok()) << pass->name;
  }
  for (const char* op : {"FusedMatMul", "FusedGemm", "QuickGelu"}) {
    EXPECT_EQ(count_nodes(*model, op), 1) << op;
  }
  expect_same_results(*original, *model, 1e-5);
}

// A sum [n, 5, 6] that is normalised, with `more` behind it.
std::string summed(std::string_view body, std::string_view outputs = "float[n,5,6] y") {
  return header() + "(float[n,5,6] a, float[n,5,6] b, float[5,6] c) => (" + std::string(outputs) +
         ") <" + weights("gamma", {6}) + "," + weights("beta", {6}) + "," + weights("v", {6}) +
         "," + weights("gamma2", {5, 6}) + "," + weights("beta2", {5, 6}) + "> { " +
         std::string(body) + " }";
}

TEST(FuseContrib, ASumThatOnlyANormalisationReads) {
  const std::string norm = " y = LayerNormalization<axis = -1, epsilon = 0.01>(s, gamma, beta)";
  auto checked = becomes_one(summed("s = Add(a, b)" + norm), "SkipLayerNormalization");
  EXPECT_EQ(checked.after->graph().first()->inputs().size(), 4u);
  for (std::string_view bias : {"t = Add(a, v) s = Add(t, b)", "t = Add(v, a) s = Add(b, t)"}) {
    checked = becomes_one(summed(std::string(bias) + norm), "SkipLayerNormalization");
    EXPECT_EQ(checked.after->graph().first()->inputs().size(), 5u) << bias;
  }
  // Others read what the vector was added to.
  checked = check_passes(summed("t = Add(a, v) s = Add(t, b)" + norm + " z = Neg(t)",
                                "float[n,5,6] y, float[n,5,6] z"),
                         kPasses);
  EXPECT_EQ(count_nodes(*checked.after, "Add"), 1);
  EXPECT_EQ(checked.run->count(kPass, "SkipLayerNormalization"), 1);
}

TEST(FuseContrib, ASumOfWhatAnotherSuchOperatorMakes) {
  std::string text = summed(
      "t = Add(a, v) g = Gelu(t) s = Add(g, b) y = LayerNormalization<axis = -1>(s, gamma, beta)");
  text.replace(text.find("17"), 2, "20");
  const auto checked = check_passes(text, kPasses);
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
  EXPECT_EQ(checked.run->count(kPass, "BiasGelu"), 1);
  EXPECT_EQ(checked.run->count(kPass, "SkipLayerNormalization"), 1);
}

TEST(FuseContrib, OtherSumsInFrontOfNormalisationsStay) {
  constexpr std::string_view kSubject = "LayerNormalization node that makes 'y'";
  const std::string norm = " y = LayerNormalization<axis = -1>(s, gamma, beta)";
  EXPECT_EQ(
      why_not(summed("s = Add(a, b)" + norm + " z = Neg(s)", "float[n,5,6] y, float[n,5,6] z"),
              kSubject),
      "'s' is read 2 times");
  EXPECT_EQ(why_not(summed("s = Add(a, c)" + norm), kSubject),
            "the two tensors added may differ in shape");
  EXPECT_EQ(why_not(summed("s = Add(c, c)" + norm, "float[5,6] y"), kSubject),
            "the runtime adds in front of a normalisation of [batch, length, width] only");
  EXPECT_EQ(
      why_not(summed("s = Add(a, b) y = LayerNormalization<axis = 1>(s, gamma2, beta2)"), kSubject),
      "it normalises more than the last axis");
  EXPECT_EQ(why_not(summed("s = Add(a, b) y = LayerNormalization<axis = -1>(s, gamma)"), kSubject),
            "its scale or shift is no constant vector");
}

}  // namespace
}  // namespace mcompress::testing
