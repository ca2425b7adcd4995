#include <gtest/gtest.h>

#include <cmath>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

// A model of one chain with a BatchNormalization of `channels` channels at its end.
std::string model_with(std::string_view signature, std::string_view initializers,
                       std::string_view body, std::int64_t channels,
                       std::string_view input_of_norm = "t") {
  const auto c = std::vector<std::int64_t>{channels};
  return "<ir_version: 8, opset_import: [\"\" : 17]> g " + std::string(signature) + " <" +
         std::string(initializers) + ", " + weights("gamma", c, 0.5f, 2.0f) + ", " +
         weights("beta", c) + ", " + weights("mean", c) + ", " + weights("var", c, 0.1f, 3.0f) +
         "> {" + std::string(body) + " y = BatchNormalization(" + std::string(input_of_norm) +
         ", gamma, beta, mean, var) }";
}

void expect_fused(const std::string& text, double tolerance = 1e-5) {
  const auto checked =
      check_passes(text, {"infer-shapes", "fuse-batchnorm", "eliminate-dead"}, tolerance);
  EXPECT_EQ(count_nodes(*checked.after, "BatchNormalization"), 0) << text.substr(0, 200);
  EXPECT_EQ(checked.run->count("fuse-batchnorm", "fused"), 1);
  EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
}

std::string reason(const std::string& text) {
  const auto checked = check_passes(text, {"infer-shapes", "fuse-batchnorm"}, 0.0);
  EXPECT_EQ(count_nodes(*checked.after, "BatchNormalization"), 1);
  EXPECT_EQ(checked.run->count("fuse-batchnorm", "fused"), 0);
  return checked.run->why("BatchNormalization node that makes 'y'");
}

TEST(FuseBatchnorm, IntoConvWithAndWithoutBias) {
  expect_fused(model_with("(float[N,3,6,6] x) => (float[N,4,6,6] y)", weights("w", {4, 3, 3, 3}),
                          "t = Conv<pads=[1,1,1,1]>(x, w)", 4));
  expect_fused(model_with("(float[N,3,6,6] x) => (float[N,4,6,6] y)",
                          weights("w", {4, 3, 3, 3}) + ", " + weights("b", {4}),
                          "t = Conv<pads=[1,1,1,1]>(x, w, b)", 4));
}

TEST(FuseBatchnorm, IntoGroupedAndOneDimensionalConv) {
  expect_fused(model_with("(float[N,4,6,6] x) => (float[N,8,6,6] y)", weights("w", {8, 1, 1, 1}),
                          "t = Conv<group=4>(x, w)", 8));
  expect_fused(model_with("(float[N,3,9] x) => (float[N,4,7] y)", weights("w", {4, 3, 3}),
                          "t = Conv(x, w)", 4));
}

TEST(FuseBatchnorm, IntoConvTransposeGroupByGroup) {
  expect_fused(model_with("(float[N,4,5,5] x) => (float[N,3,A,B] y)", weights("w", {4, 3, 2, 2}),
                          "t = ConvTranspose<strides=[2,2]>(x, w)", 3));
  expect_fused(model_with("(float[N,4,5,5] x) => (float[N,6,A,B] y)",
                          weights("w", {4, 3, 2, 2}) + ", " + weights("b", {6}),
                          "t = ConvTranspose<group=2,strides=[2,2],output_padding=[1,1]>(x, w, b)",
                          6));
}

TEST(FuseBatchnorm, IntoGemmBothWaysWithAlphaAndBeta) {
  expect_fused(
      model_with("(float[N,5] x) => (float[N,4] y)", weights("w", {5, 4}), "t = Gemm(x, w)", 4));
  expect_fused(model_with("(float[N,5] x) => (float[N,4] y)",
                          weights("w", {4, 5}) + ", " + weights("b", {1, 4}),
                          "t = Gemm<transB=1,alpha=0.5,beta=2.0>(x, w, b)", 4));
  expect_fused(model_with("(float[5,N] x) => (float[N,4] y)",
                          weights("w", {5, 4}) + ", " + weights("b", {1}),
                          "t = Gemm<transA=1,alpha=3.0>(x, w, b)", 4));
}

TEST(FuseBatchnorm, IntoMatMulWithAndWithoutAdd) {
  expect_fused(
      model_with("(float[N,5] x) => (float[N,4] y)", weights("w", {5, 4}), "t = MatMul(x, w)", 4));
  expect_fused(model_with("(float[N,5] x) => (float[N,4] y)",
                          weights("w", {5, 4}) + ", " + weights("b", {4}),
                          "m = MatMul(x, w) t = Add(b, m)", 4));
}

TEST(FuseBatchnorm, OutputChannelsAreScaledInDouble) {
  const auto checked =
      check_passes(model_with("(float[N,1,2,2] x) => (float[N,2,2,2] y)",
                              "float[2,1,1,1] w = {1.0, -3.0}", "t = Conv(x, w)", 2),
                   {"fuse-batchnorm"});
  const Model& before = *checked.before;
  const auto parameter = [&](std::string_view name) {
    return constant_reals(const_cast<Model&>(before).graph().find(name)).value();
  };
  const auto gamma = parameter("gamma"), beta = parameter("beta"), mean = parameter("mean"),
             variance = parameter("var");
  const Node& conv = *maker_of(*checked.after, "y");
  const auto weight = constant_reals(conv.input(1)).value();
  const auto bias = constant_reals(conv.input(2)).value();
  for (std::size_t i = 0; i < 2; ++i) {
    const double a = gamma[i] / std::sqrt(variance[i] + static_cast<double>(1e-5f));
    EXPECT_EQ(weight[i], static_cast<float>((i == 0 ? 1.0 : -3.0) * a));
    EXPECT_EQ(bias[i], static_cast<float>(beta[i] - mean[i] * a));
  }
}

TEST(FuseBatchnorm, ClonesAWeightThatAnotherNodeReads) {
  const std::string text =
      model_with("(float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] z)",
                 weights("w", {4, 3, 1, 1}), "z = Conv(x, w) t = Conv(x, w)", 4);
  const auto checked = check_passes(text, {"fuse-batchnorm"});
  EXPECT_EQ(count_nodes(*checked.after, "BatchNormalization"), 0);
  EXPECT_EQ(maker_of(*checked.after, "z")->input(1)->name(), "w");
  EXPECT_NE(maker_of(*checked.after, "y")->input(1)->name(), "w");
}

TEST(FuseBatchnorm, WorksInBranchesOnCapturedWeights) {
  const std::string c4 = weights("gamma", {4}, 0.5f, 2.0f) + ", " + weights("beta", {4}) + ", " +
                         weights("mean", {4}) + ", " + weights("var", {4}, 0.1f, 3.0f);
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (bool c, float[N,3,4,4] x) => "
      "(float[N,4,4,4] y) <" +
          weights("w", {4, 3, 1, 1}) + ", " + c4 + R"(> {
  y = If (c) <
    then_branch = t () => (float[N,4,4,4] o) { s = Conv(x, w)  o = BatchNormalization(s, gamma, beta, mean, var) },
    else_branch = e () => (float[N,4,4,4] p) { p = Conv(x, w) }
  >
})",
      {"fuse-batchnorm"});
  EXPECT_EQ(checked.run->count("fuse-batchnorm", "fused"), 1);
}

TEST(FuseBatchnorm, SaysWhyOneStays) {
  const std::string image = "(float[N,3,6,6] x) => (float[N,4,6,6] y)";
  const std::string w = weights("w", {4, 3, 1, 1});
  EXPECT_EQ(reason(model_with("(float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] t)", w,
                              "t = Conv(x, w)", 4)),
            "'t' is a graph output");
  EXPECT_EQ(reason(model_with("(float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] z)", w,
                              "t = Conv(x, w) z = Relu(t)", 4)),
            "'t' is read 2 times");
  EXPECT_EQ(reason(model_with(image, w, "s = Conv(x, w) t = Relu(s)", 4)),
            "its input comes from Relu 'Relu node that makes 't''");
  EXPECT_EQ(reason(model_with("(float[N,4,6,6] x) => (float[N,4,6,6] y)", w, "", 4, "x")),
            "its input is computed by no node");
  EXPECT_EQ(reason(model_with("(float[N,3,6,6] x, float[4,3,1,1] w) => (float[N,4,6,6] y)",
                              weights("unused", {1}), "t = Conv(x, w)", 4)),
            "the weight of Conv 'Conv node that makes 't'' is no constant");
  EXPECT_EQ(reason(model_with("(float[N,2,5] x) => (float[N,2,4] y)", weights("w", {5, 4}),
                              "t = MatMul(x, w)", 2)),
            "the rank of its input is not 2, so channels are not columns");
}

TEST(FuseBatchnorm, StaysWhenItsInputIsReadInABranch) {
  const std::string text =
      model_with("(bool c, float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] z)",
                 weights("w", {4, 3, 1, 1}), R"(t = Conv(x, w)
  z = If (c) <
    then_branch = a () => (float[N,4,6,6] o) { o = Relu(t) },
    else_branch = b () => (float[N,4,6,6] p) { p = Neg(t) }
  >)",
                 4);
  EXPECT_EQ(reason(text), "'t' is read inside a nested graph");
}

TEST(FuseBatchnorm, StaysInTrainingModeOrWhenParametersAreInputs) {
  const std::string four = weights("w", {4, 3, 1, 1}) + ", " + weights("beta", {4}) + ", " +
                           weights("mean", {4}) + ", " + weights("var", {4}, 0.1f, 3.0f);
  EXPECT_EQ(
      reason("<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,3,6,6] x, float[4] gamma) "
             "=> (float[N,4,6,6] y) <" +
             four + "> { t = Conv(x, w) y = BatchNormalization(t, gamma, beta, mean, var) }"),
      "its parameter 'gamma' is no constant");
  auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,3,6,6] x) => (float[N,4,6,6] y) <" +
      four + ", " + weights("gamma", {4}) +
      "> { t = Conv(x, w) y, m, v = BatchNormalization<training_mode=1>(t, gamma, beta, mean, "
      "var) }");
  const auto run = run_passes(*model, {"fuse-batchnorm"});
  EXPECT_EQ(run->why("BatchNormalization node that makes 'y'"), "it is in training mode");
}

TEST(FuseBatchnorm, IntoTheOperatorBehindIt) {
  const std::string given = weights("gamma", {4}, 0.5f, 2.0f) + ", " + weights("beta", {4}) + ", " +
                            weights("mean", {4}) + ", " + weights("var", {4}, 0.1f, 3.0f) + ", " +
                            weights("w", {6, 2, 3, 3}) + ", " + weights("k", {4, 2, 3, 3}) + ", " +
                            weights("v", {4, 5}) + ", " + weights("d", {36, 5}) + ", " +
                            weights("b", {5}) +
                            ", float[4] zero = {0,0,0,0}, int64[2] flat = {0, -1}";
  const auto left = [&](std::string_view io, std::string_view body) {
    const auto checked =
        check_passes("<ir_version: 8, opset_import: [\"\" : 17]> g " + std::string(io) + " <" +
                         given + "> { " + std::string(body) + " }",
                     {"infer-shapes", "fuse-batchnorm", "eliminate-dead"}, 1e-5, 3);
    EXPECT_EQ(checked.run->count("fuse-batchnorm", "fused"), 1) << body;
    return checked.after->graph().node_count();
  };
  const std::string norm = "n = BatchNormalization(x, gamma, beta, mean, var) ";
  const std::string image = "(float[N,4,3,3] x) => (float[N,6,A,B] y)";
  EXPECT_EQ(left(image, norm + "y = Conv<group=2>(n, w)"), 1u);
  EXPECT_EQ(left(image,
                 "n = BatchNormalization(x, gamma, zero, zero, var) "
                 "y = Conv<group=2,pads=[1,1,1,1]>(n, w)"),
            1u);
  EXPECT_EQ(left("(float[N,4,3,3] x) => (float[N,4,A,B] y)",
                 "n = BatchNormalization(x, gamma, zero, zero, var) y = ConvTranspose<group=2>(n, "
                 "k)"),
            1u);
  const std::string flat = "(float[N,4] x) => (float[N,5] y)";
  EXPECT_EQ(left(flat, norm + "y = Gemm(n, v)"), 1u);
  EXPECT_EQ(left(flat, norm + "m = MatMul(n, v) y = Add(m, b)"), 2u);
  // Operators in between that keep channels apart.
  const std::string pooled = "(float[N,4,3,3] x) => (float[N,5] y)";
  EXPECT_EQ(left(pooled, norm + "p = GlobalAveragePool(n) f = Flatten(p) y = Gemm(f, v, b)"), 3u);
  EXPECT_EQ(left(pooled, norm + "f = Flatten(n) y = Gemm(f, d, b)"), 2u);
  EXPECT_EQ(left(pooled, norm + "t = Transpose<perm=[0,2,3,1]>(n) f = Reshape(t, flat) "
                                "y = Gemm(f, d, b)"),
            3u);
  EXPECT_EQ(left(image, norm + "p = MaxPool<kernel_shape=[2,2],pads=[1,1,1,1]>(n) "
                               "y = Conv<group=2>(p, w)"),
            2u);
  EXPECT_EQ(left(image, norm + "p = AveragePool<kernel_shape=[2,2],pads=[1,1,1,1]>(n) "
                               "y = Conv<group=2>(p, w)"),
            2u);
}

TEST(FuseBatchnorm, ThroughOperatorsBehindALinearOne) {
  expect_fused(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,5] x) => (float[N,4,3,2] y) <" +
      weights("w", {5, 24}) + ", " + weights("b", {24}) + ", " + weights("gamma", {4}, 0.5f, 2.0f) +
      ", " + weights("beta", {4}) + ", " + weights("mean", {4}) + ", " +
      weights("var", {4}, 0.1f, 3.0f) +
      ", int64[4] shape = {-1, 4, 3, 2}> { d = Gemm(x, w, b) t = Reshape(d, shape) "
      "y = BatchNormalization(t, gamma, beta, mean, var) }");
  expect_fused(model_with("(float[N,3,6,6] x) => (float[N,4,1,1] y)", weights("w", {4, 3, 3, 3}),
                          "c = Conv(x, w) t = GlobalAveragePool(c)", 4));
  expect_fused(
      model_with("(float[N,3,6] x) => (float[N,4,6] y)",
                 weights("w", {3, 4}) + ", " + weights("b", {4}) + ", int64[3] s = {0, 6, 3}",
                 "r = Transpose<perm=[0,2,1]>(x) m = MatMul(r, w) k = Add(m, b) "
                 "t = Transpose<perm=[0,2,1]>(k)",
                 4));
}

TEST(FuseBatchnorm, SaysWhyItDoesNotPass) {
  const std::string image = "(float[N,4,6,6] x) => (float[N,A,B,C] y)";
  const auto ahead = [&](std::string_view io, std::string_view given, std::string_view behind) {
    const auto checked = check_passes(
        "<ir_version: 8, opset_import: [\"\" : 17]> g " + std::string(io) + " <" +
            std::string(given) + ", " + weights("gamma", {4}, -2.0f, 2.0f) + ", " +
            weights("beta", {4}) + ", " + weights("mean", {4}) + ", " +
            weights("var", {4}, 0.1f, 3.0f) +
            "> { n = BatchNormalization(x, gamma, beta, mean, var) " + std::string(behind) + " }",
        {"infer-shapes", "fuse-batchnorm"}, 0.0, 3);
    EXPECT_FALSE(checked.run->changed) << behind;
    return checked.run->why("BatchNormalization node that makes 'n'");
  };
  EXPECT_EQ(ahead(image, weights("w", {3, 4, 3, 3}), "y = Conv<pads=[1,1,1,1]>(n, w)"),
            "its input is computed by no node; Conv 'Conv node that makes 'y'' pads with zeros, "
            "which a shift would miss");
  EXPECT_EQ(
      ahead(image, weights("w", {3, 4, 3, 3}), "p = MaxPool<kernel_shape=[2,2]>(n) y = Conv(p, w)"),
      "its input is computed by no node; MaxPool 'MaxPool node that makes 'p'' does not let "
      "it through");
  EXPECT_EQ(
      ahead("(float[N,4,3] x) => (float[N,4,5] y)", weights("w", {3, 5}) + ", " + weights("b", {5}),
            "m = MatMul(n, w) y = Add(m, b)"),
      "its input is computed by no node; its channels are not those of MatMul 'MatMul node "
      "that makes 'm''");
}

// Statistics that would not survive as float32 numbers.
TEST(FuseBatchnorm, OddStatistics) {
  const auto run_with = [](std::string_view values) {
    auto model = model_from_text(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,1,2,2] x) => (float[N,1,2,2] y) "
        "<float[1,1,1,1] w = {3.0}, " +
        std::string(values) +
        "> { t = Conv(x, w) y = BatchNormalization<epsilon=1e-30>(t, s, b, m, v) }");
    const auto run = run_passes(*model, {"fuse-batchnorm"});
    EXPECT_TRUE(run->status.ok());
    return run->changed ? "fused" : run->why("BatchNormalization node that makes 'y'");
  };
  EXPECT_EQ(run_with("float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1e-20}"),
            "fused");
  EXPECT_EQ(run_with("float[1] s = {1e30}, float[1] b = {0}, float[1] m = {0}, float[1] v = {0}"),
            "channel 0: folded scale is 1e+45, too large for float32");
  EXPECT_EQ(run_with("float[1] s = {2e38}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}"),
            "channel 0: scaled weight is inf, not finite or too large for float32");
  EXPECT_EQ(run_with("float[1] s = {1}, float[1] b = {inf}, float[1] m = {0}, float[1] v = {1}"),
            "channel 0: shift is inf, not a finite number");
  EXPECT_EQ(run_with("float[1] s = {1}, float[1] b = {0}, float[1] m = {nan}, float[1] v = {1}"),
            "channel 0: mean is nan, not a finite number");
}

TEST(FuseBatchnorm, OfAllVersions) {
  const auto at = [](int opset, std::string_view attributes) {
    Diagnostics diagnostics;
    auto model = parse_model_text(
        "<ir_version: 3, opset_import: [\"\" : " + std::to_string(opset) +
            "]> g (float[N,3,4,4] x) => (float[N,4,4,4] y) <" + weights("w", {4, 3, 1, 1}) + ", " +
            weights("s", {4}, 0.5f, 2.0f) + ", " + weights("v", {4}, 0.5f, 2.0f) +
            "> { t = Conv(x, w) y = BatchNormalization<" + std::string(attributes) +
            ">(t, s, s, s, v) }",
        diagnostics);
    EXPECT_TRUE(model.ok());
    if (!model.ok()) return std::string("no model");
    const auto run = run_passes(**model, {"fuse-batchnorm"});
    return run->changed ? "fused" : run->why("BatchNormalization node that makes 'y'");
  };
  EXPECT_EQ(at(6, "epsilon=0.01"), "it is in training mode");
  EXPECT_EQ(at(6, "is_test=1"), "fused");
  EXPECT_EQ(at(7, "epsilon=0.01"), "fused");
  EXPECT_EQ(at(7, "spatial=0"), "it is per element");
  EXPECT_EQ(at(9, "momentum=0.5"), "fused");
  EXPECT_EQ(at(14, "training_mode=1"), "it is in training mode");
  EXPECT_EQ(at(15, "training_mode=0"), "fused");
}

TEST(FuseBatchnorm, HalfPrecisionKeepsWithinItsRange) {
  auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float16[N,1,2,2] x) => (float16[N,1,2,2] y) "
      "<float16[1,1,1,1] w = {23728}, float16[1] s = {23728}, float16[1] z = {0}, float16[1] v = "
      "{15360}> { t = Conv(x, w) y = BatchNormalization(t, s, z, z, v) }");
  const auto run = run_passes(*model, {"fuse-batchnorm"});
  EXPECT_FALSE(run->changed);
  EXPECT_NE(run->why("BatchNormalization node that makes 'y'").find("is too large for float16"),
            std::string::npos);
}

TEST(FuseBatchnorm, StaysWhenAVarianceIsNegative) {
  const std::string text =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,1,2,2] x) => (float[N,1,2,2] y) "
      "<float[1,1,1,1] w = {1.0}, float[1] one = {1.0}, float[1] bad = {-1.0}> "
      "{ t = Conv(x, w) y = BatchNormalization(t, one, one, one, bad) }";
  auto model = model_from_text(text);
  const auto run = run_passes(*model, {"fuse-batchnorm"});
  EXPECT_FALSE(run->changed);
  EXPECT_NE(run->why("BatchNormalization node that makes 'y'").find("variance"), std::string::npos);
}

}  // namespace
}  // namespace mcompress::testing
