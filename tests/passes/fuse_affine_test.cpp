#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string conv_then(std::string_view body, std::string_view initializers) {
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,3,5,5] x) => (float[N,4,5,5] y) <" +
         weights("w", {4, 3, 1, 1}) + ", " + std::string(initializers) + "> { t = Conv(x, w) " +
         std::string(body) + " }";
}

void expect_gone(const std::string& text, std::int64_t sites) {
  const auto checked = check_passes(text, {"infer-shapes", "fuse-affine"});
  EXPECT_EQ(checked.run->count("fuse-affine", "fused"), sites);
  for (std::string_view op : {"Mul", "Div", "Add", "Sub"}) {
    EXPECT_EQ(count_nodes(*checked.after, op), 0) << op;
  }
}

TEST(FuseAffine, ChainsBehindConv) {
  const std::string c = weights("c", {1, 4, 1, 1}, 0.5f, 2.0f) + ", " + weights("d", {4, 1, 1}) +
                        ", float s = {0.25}";
  expect_gone(conv_then("u = Mul(t, c) v = Add(u, d) y = Mul(s, v)", c), 3);
  expect_gone(conv_then("u = Div(t, c) v = Sub(u, d) y = Sub(d, v)", c), 3);
  expect_gone(conv_then("y = Add(t, s)", c), 1);
}

// There Mul with axis = 1 scales channels, which later means columns.
TEST(FuseAffine, LeavesOldBroadcastingAlone) {
  Diagnostics diagnostics;
  const auto model = parse_model_text(
      "<ir_version: 3, opset_import: [\"\" : 6]> g (float[1,4,4,4] x) => (float[1,4,4,4] y) <" +
          weights("w", {4, 4, 1, 1}) + ", " + weights("s", {4}) +
          "> { c = Conv(x, w) y = Mul <broadcast = 1, axis = 1> (c, s) }",
      diagnostics);
  ASSERT_TRUE(model.ok());
  const auto run = run_passes(**model, {"infer-shapes", "fuse-affine"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(count_nodes(**model, "Mul"), 1);
  ASSERT_FALSE(run->diagnostics.all().empty());
  EXPECT_EQ(run->diagnostics.all().back().id, "old-broadcasting");
}

TEST(FuseAffine, BehindGemmConvTransposeAndMatMul) {
  expect_gone("<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,5] x) => (float[N,4] y) <" +
                  weights("w", {4, 5}) + ", " + weights("b", {4}) + ", " + weights("c", {4}) +
                  "> { t = Gemm<transB=1,beta=0.5>(x, w, b) u = Mul(t, c) y = Add(u, c) }",
              2);
  expect_gone(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,4,3,3] x) => "
      "(float[N,6,A,B] y) <" +
          weights("w", {4, 3, 2, 2}) + ", " + weights("c", {6, 1, 1}) +
          "> { t = ConvTranspose<group=2>(x, w) u = Mul(t, c) y = Add(u, c) }",
      2);
  expect_gone(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,2,5] x) => (float[N,2,4] y) <" +
          weights("w", {5, 4}) + ", " + weights("c", {4}) + "> { t = MatMul(x, w) y = Mul(t, c) }",
      1);
}

TEST(FuseAffine, TheBiasOfAMatMulStays) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,2,5] x) => (float[N,2,4] y) <" +
          weights("w", {5, 4}) + ", " + weights("c", {4}) + "> { t = MatMul(x, w) y = Add(t, c) }",
      {"infer-shapes", "fuse-affine"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

TEST(FuseAffine, SaysWhyOneStays) {
  const auto why = [](std::string_view body, std::string_view initializers) {
    const auto checked =
        check_passes(conv_then(body, initializers), {"infer-shapes", "fuse-affine"}, 0.0);
    EXPECT_EQ(checked.run->count("fuse-affine", "fused"), 0);
    const Node* last = maker_of(*checked.after, "y");
    return checked.run->why(last->label());
  };
  EXPECT_EQ(why("y = Mul(t, c)", weights("c", {5, 5})),
            "the constant 'c' is not one number per channel");
  EXPECT_EQ(why("y = Div(c, t)", weights("c", {1})), "it divides a constant by its input");
  EXPECT_EQ(why("u = Relu(t) v = Add(t, u) y = Mul(t, c)", weights("c", {1})),
            "'t' is read 3 times");
  // Four dimensions more than the output has: the shape would change.
  EXPECT_EQ(why("u = Mul(t, c) s = Shape(t) y = Reshape(u, s)", weights("c", {1, 1, 1, 1, 1})), "");
}

std::string image_into(std::string_view body, std::string_view initializers) {
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,4,5,5] x) => (float[N,6,A,B] y) <" +
         weights("w", {6, 2, 3, 3}) + ", " + weights("c", {4, 1, 1}, 0.5f, 2.0f) +
         ", float s = {0.25}, float t = {0.75}" + std::string(initializers) + "> { " +
         std::string(body) + " }";
}

TEST(FuseAffine, InFrontOfAConvolutionWithoutPadding) {
  const auto checked = check_passes(
      image_into("a = Div(x, s) b = Mul(a, c) d = Sub(t, b) y = Conv<group=2>(d, w)", ""),
      {"infer-shapes", "fuse-affine"});
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(checked.run->count("fuse-affine", "fused"), 3);
}

TEST(FuseAffine, InFrontOfAConvolutionThatPadsAShiftStays) {
  auto checked = check_passes(
      image_into("a = Mul(x, c) b = Add(a, t) y = Conv<group=2,pads=[1,1,1,1]>(b, w)", ""),
      {"infer-shapes", "fuse-affine"});
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
  EXPECT_EQ(count_nodes(*checked.after, "Add"), 1);
  EXPECT_FALSE(run_passes(*checked.after, {"fuse-affine"})->changed);
  // A factor alone leaves nothing behind, and an Add alone stays.
  checked = check_passes(image_into("a = Div(x, c) y = Conv<group=2,pads=[1,1,1,1]>(a, w)", ""),
                         {"infer-shapes", "fuse-affine"});
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  checked = check_passes(image_into("a = Add(x, c) y = Conv<group=2,pads=[1,1,1,1]>(a, w)", ""),
                         {"infer-shapes", "fuse-affine"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

TEST(FuseAffine, InFrontOfGemmMatMulAndConvTranspose) {
  const auto nodes_left = [](const std::string& signature, const std::string& body) {
    const auto checked = check_passes(
        "<ir_version: 8, opset_import: [\"\" : 17]> g " + signature + " <" + weights("w", {5, 4}) +
            ", " + weights("v", {4, 5}) + ", " + weights("k", {5, 4, 2, 2}) + ", " +
            weights("b", {4}) + ", " + weights("c", {5}, 0.5f, 2.0f) + ", " +
            weights("d", {5, 1, 1}, 0.5f, 2.0f) + "> { " + body + " }",
        {"infer-shapes", "fuse-affine"});
    return checked.after->graph().node_count();
  };
  const std::string flat = "(float[N,5] x) => (float[N,4] y)";
  EXPECT_EQ(nodes_left(flat, "a = Mul(x, c) e = Add(a, c) y = Gemm<alpha=0.5,beta=2.0>(e, w, b)"),
            1u);
  EXPECT_EQ(nodes_left(flat, "a = Mul(x, c) e = Add(a, c) y = Gemm<transB=1>(e, v)"), 1u);
  EXPECT_EQ(nodes_left(flat, "a = Sub(x, c) m = MatMul(a, w) y = Add(m, b)"), 2u);
  EXPECT_EQ(nodes_left(flat, "a = Div(x, c) y = MatMul(a, w)"), 1u);
  EXPECT_EQ(nodes_left(flat, "a = Add(x, c) y = MatMul(a, w)"), 2u);
  EXPECT_EQ(nodes_left("(float[N,3,5] x) => (float[N,3,4] y)",
                       "a = Mul(x, c) e = Add(a, c) m = MatMul(e, w) y = Add(m, b)"),
            2u);
  EXPECT_EQ(nodes_left("(float[N,5,3,3] x) => (float[N,4,A,B] y)",
                       "a = Mul(x, d) e = Add(a, d) y = ConvTranspose<strides=[2,2]>(e, k)"),
            2u);
}

// The factor of an attention goes into the projection of its queries.
TEST(FuseAffine, ThroughProductsAndMoves) {
  const auto left = [](std::string_view body, std::int64_t sites) {
    const auto checked = check_passes(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,3,8] x) => (float[N,2,3,3] y) <" +
            weights("w", {8, 24}) + ", " + weights("b", {24}) + ", " + weights("q", {8, 8}) + ", " +
            weights("k", {8, 8}) +
            ", int64[4] heads = {0, -1, 2, 4}, int64[5] all = {0, -1, 3, 2, 4}, int64[3] parts = "
            "{8, 8, 8}, int64 zero = {0}, int64 one = {1}, float s = {0.5}, "
            "int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] last = {-1}, "
            "int64[1] far = {9223372036854775807}> { " +
            std::string(body) + " }",
        {"infer-shapes", "fuse-affine"}, 1e-5, 2);
    EXPECT_EQ(checked.run->count("fuse-affine", "fused"), sites) << body;
    return count_nodes(*checked.after, "Mul") + count_nodes(*checked.after, "Div");
  };
  const std::string joint =
      "m = MatMul(x, w) a = Add(m, b) f, g, h = Split<axis=2>(a, parts) "
      "i = Reshape(f, heads) j = Transpose<perm=[0,2,1,3]>(i) "
      "o = Reshape(g, heads) p = Transpose<perm=[0,2,3,1]>(o) t = Identity(h) ";
  EXPECT_EQ(left(joint + "l = MatMul(j, p) y = Mul(l, s)", 1), 0);
  EXPECT_EQ(left(joint + "j2 = Div(j, s) p2 = Mul(p, s) y = MatMul(j2, p2)", 2), 0);
  const std::string apart =
      "f = MatMul(x, q) i = Reshape(f, heads) j = Transpose<perm=[0,2,1,3]>(i) "
      "g = MatMul(x, k) o = Reshape(g, heads) p = Transpose<perm=[0,2,3,1]>(o) ";
  EXPECT_EQ(left(apart + "l = MatMul(j, p) y = Div(l, s)", 1), 0);
  EXPECT_EQ(left(apart + "r = Relu(j) l = MatMul(r, p) y = Div(l, s)", 1), 0);
  EXPECT_EQ(left(apart + "r = Relu(j) c = Neg(p) l = MatMul(r, c) y = Div(l, s)", 0), 1);
  const std::string stacked =
      "m = MatMul(x, w) a = Add(m, b) r = Reshape(a, all) "
      "v = Transpose<perm=[2,0,3,1,4]>(r) i = Gather<axis=0>(v, zero) o = Gather<axis=0>(v, one) "
      "p = Transpose<perm=[0,1,3,2]>(o) ";
  EXPECT_EQ(left(stacked + "l = MatMul(i, p) y = Mul(s, l)", 1), 0);
  const std::string sliced =
      "m = MatMul(x, w) a = Add(m, b) r = Reshape(a, all) v = Transpose<perm=[2,0,3,1,4]>(r) "
      "i5 = Slice(v, i0, i1, i0) o5 = Slice(v, i1, i2, i0) t5 = Slice(v, last, far, i0) "
      "i = Squeeze(i5, i0) o = Squeeze(o5, i0) t = Squeeze(t5, i0) p = "
      "Transpose<perm=[0,1,3,2]>(o) ";
  EXPECT_EQ(left(sliced + "j = Mul(i, s) y = MatMul(j, p)", 1), 0);
  EXPECT_EQ(left(sliced + "p2 = Mul(p, s) y = MatMul(i, p2)", 1), 0);
  EXPECT_EQ(
      left("m = MatMul(x, w) a = Add(m, b) r = Reshape(a, all) v = Transpose<perm=[2,0,3,1,4]>"
           "(r) i5 = Slice(v, i0, i2, i0) o5 = Slice(v, i1, i2, i0) i = ReduceSum<keepdims=0>"
           "(i5, i0) o = Squeeze(o5, i0) p = Transpose<perm=[0,1,3,2]>(o) p2 = Mul(p, s) "
           "y = MatMul(i, p2)",
           0),
      1);
  // Both read the same plane: what is folded for one would change the other.
  const std::string same =
      "m = MatMul(x, w) a = Add(m, b) r = Reshape(a, all) "
      "v = Transpose<perm=[2,0,3,1,4]>(r) i = Gather<axis=0>(v, zero) o = Gather<axis=0>(v, zero) "
      "p = Transpose<perm=[0,1,3,2]>(o) ";
  EXPECT_EQ(left(same + "l = MatMul(i, p) y = Mul(s, l)", 0), 1);
}

TEST(FuseAffine, PerChannelAcrossAReshape) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,5] x) => (float[N,2,3,4] y) <" +
          weights("w", {5, 24}) + ", " + weights("b", {24}) + ", " + weights("s", {2, 1, 1}) +
          ", " + weights("c", {3, 1}) +
          ", int64[4] shape = {0, 2, 3, 4}> { g = Gemm(x, w, b) r = Reshape(g, shape) u = Mul(r, "
          "s) "
          "y = Add(u, c) }",
      {"infer-shapes", "fuse-affine"});
  EXPECT_EQ(checked.run->count("fuse-affine", "fused"), 2);
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
}

TEST(FuseAffine, LeavesANormalisationWhole) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 12]> g (float[N,5,4] x) => (float[N,5,3] y) <" +
          weights("w", {4, 3}) + ", " + weights("b", {3}) + ", " + weights("s", {4}) +
          ", float e = {0.00001}, float two = {2.0}> { n = ReduceMean<axes=[-1]>(x) d = Sub(x, n) "
          "h = Pow(d, two) r = ReduceMean<axes=[-1]>(h) f = Add(r, e) k = Sqrt(f) z = Div(d, k) "
          "t = Mul(z, s) u = Add(t, s) m = MatMul(u, w) y = Add(m, b) }",
      {"infer-shapes", "fuse-affine"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Mul node that makes 't'"),
            "it is the last part of a normalisation or GELU, which runtimes know as a whole");
}

TEST(FuseAffine, InBranchesOnWeightsThatOthersReadToo) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (bool c, float[N,3,5,5] x) => "
      "(float[N,4,5,5] y, float[N,4,5,5] z) <" +
          weights("w", {4, 3, 1, 1}) + ", " + weights("k", {4, 1, 1}, 0.5f, 2.0f) + R"(> {
  z = Conv(x, w)
  y = If (c) <
    then_branch = t () => (float[N,4,5,5] o) { a = Conv(x, w) o = Mul(a, k) },
    else_branch = e () => (float[N,4,5,5] p) { p = Mul(z, k) }
  >
})",
      {"infer-shapes", "fuse-affine"});
  EXPECT_EQ(checked.run->count("fuse-affine", "fused"), 1);
  // The readers outside keep the weight as it was.
  EXPECT_EQ(maker_of(*checked.after, "z")->input(1)->name(), "w");
  EXPECT_EQ(checked.run->why("Mul node that makes 'p'"), "'z' is read inside a nested graph");
}

TEST(FuseAffine, WhatACallerMayOverrideOrReadStays) {
  const auto text = [](std::string_view inputs, std::string_view outputs) {
    return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,3,5,5] x" + std::string(inputs) +
           ") => (float[N,4,5,5] y" + std::string(outputs) + ") <" + weights("w", {4, 3, 1, 1}) +
           ", float k = {0.5}> { t = Conv(x, w) y = Mul(t, k) }";
  };
  for (std::string_view input : {", float k", ", float[4,3,1,1] w"}) {
    const auto checked = check_passes(text(input, ""), {"infer-shapes", "fuse-affine"}, 0.0);
    EXPECT_EQ(checked.run->count("fuse-affine", "fused"), 0) << input;
    EXPECT_FALSE(checked.run->changed) << input;
  }
  // An output keeps its numbers; the product reads a copy.
  const auto checked =
      check_passes(text("", ", float[4,3,1,1] w"), {"infer-shapes", "fuse-affine"});
  EXPECT_EQ(checked.run->count("fuse-affine", "fused"), 1);
  EXPECT_EQ(checked.after->graph().outputs()[1]->name(), "w");
  EXPECT_NE(maker_of(*checked.after, "y")->input(1)->name(), "w");
}

TEST(FuseAffine, LeavesAGeluWhole) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,4] x) => (float[N,3] y) <" +
          weights("w", {4, 3}) +
          ", float r = {1.4142135}, float one = {1.0}, float h = {0.5}, float s = {3.0}> { "
          "d = Div(x, r) e = Erf(d) a = Add(e, one) p = Mul(x, a) t = Mul(p, h) u = Mul(t, s) "
          "y = MatMul(u, w) }",
      {"infer-shapes", "fuse-affine"});
  EXPECT_EQ(checked.run->count("fuse-affine", "merged"), 0);
  EXPECT_EQ(checked.run->why("Mul node that makes 't'"),
            "it is the last part of a normalisation or GELU, which runtimes know as a whole");
}

TEST(FuseAffine, ConstantsOfAnyShapeMerge) {
  const auto left = [](std::string_view body) {
    const auto checked = check_passes(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2,3,4] x) => (float[2,3,4] y) <" +
            weights("s", {4}, 0.5f, 2.0f) + ", " + weights("t", {3, 1}, 0.5f, 2.0f) + ", " +
            weights("u", {3, 4}, 0.5f, 2.0f) + ", float k = {0.3}> { " + std::string(body) + " }",
        {"infer-shapes", "fuse-affine"});
    return std::pair(checked.after->graph().node_count(),
                     checked.run->count("fuse-affine", "merged"));
  };
  using Left = std::pair<std::size_t, std::int64_t>;
  EXPECT_EQ(left("a = Mul(x, s) b = Div(a, u) y = Mul(k, b)"), Left(1, 2));
  EXPECT_EQ(left("a = Sub(s, x) b = Add(a, k) y = Sub(b, u)"), Left(1, 2));
  EXPECT_EQ(left("a = Sub(s, x) y = Sub(u, a)"), Left(1, 1));
  // A factor through the shift to the one before.
  EXPECT_EQ(left("a = Mul(x, s) b = Add(a, k) c = Mul(b, s) y = Sub(c, s)"), Left(2, 2));
  EXPECT_EQ(left("a = Add(x, s) b = Mul(a, k) y = Sub(b, s)"), Left(3, 0));
  // Both together would be larger than each.
  EXPECT_EQ(left("a = Mul(x, s) y = Mul(a, t)"), Left(2, 0));
}

TEST(FuseAffine, FactorsOfGemm) {
  const auto run_on = [](std::string_view body) {
    return check_passes(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,5] x) => (float[N,4] y) <" +
            weights("w", {5, 4}) + ", " + weights("b", {4}) + "> { " + std::string(body) + " }",
        {"infer-shapes", "fuse-affine"});
  };
  auto checked = run_on("y = Gemm<alpha=0.5,beta=3.0>(x, w, b)");
  EXPECT_EQ(checked.run->count("fuse-affine", "factors"), 1);
  EXPECT_TRUE(maker_of(*checked.after, "y")->attributes().empty());
  checked = run_on("y = Gemm<beta=3.0>(x, w)");
  EXPECT_TRUE(maker_of(*checked.after, "y")->attributes().empty());
  checked = run_on("t = Gemm<alpha=0.5>(x, w) r = Relu(t) u = Gemm(x, w) y = Add(r, u)");
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Gemm node that makes 't'"),
            "alpha and beta stay, for others read 'w' as it is");
}

TEST(FuseAffine, StepsStayNearWhenAskedTo) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,4,6] x) => (float[N,3,4] y) <" +
          weights("w", {6, 3}) +
          ", float s = {0.5}> { m = MatMul(x, w) t = Transpose<perm=[0,2,1]>(m) y = Mul(t, s) }",
      {"infer-shapes", "fuse-affine:{\"through-moves\": false}"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

TEST(FuseAffine, FactorsAndShiftsOfOneNumberMerge) {
  const auto left = [](std::string_view body) {
    const auto checked = check_passes(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[7] x) => (float[7] y) <float s = "
        "{0.3}, float[1] t = {1.7}> { " +
            std::string(body) + " }",
        {"infer-shapes", "fuse-affine"});
    return std::pair(checked.after->graph().node_count(),
                     checked.run->count("fuse-affine", "merged"));
  };
  using Left = std::pair<std::size_t, std::int64_t>;
  EXPECT_EQ(left("a = Div(x, s) b = Mul(a, t) y = Mul(s, b)"), Left(1, 2));
  EXPECT_EQ(left("a = Add(x, s) b = Sub(a, t) y = Neg(b)"), Left(2, 1));
  EXPECT_EQ(left("a = Mul(x, s) y = Add(a, t)"), Left(2, 0));
  EXPECT_EQ(left("a = Mul(x, s) b = Mul(a, t) c = Relu(a) y = Add(b, c)"), Left(4, 0));
}

// 10 log10(max s^2 mean 1/s^2): 34 dB, 2.4 dB, and below 0 for a row that is exact.
TEST(FuseAffine, ScalesThatWouldSpoilRoundedWeightsStay) {
  const auto given = [](std::string_view scales, std::string_view body) {
    return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,4] x, float[N,2,2] z) => "
           "(float[N,3] y) <" +
           weights("w", {4, 3}) + ", " + weights("b", {3}) + ", int64[2] to = {-1, 4}, " +
           std::string(scales) + "> { " + std::string(body) + " }";
  };
  constexpr std::string_view kBounded = "fuse-affine:{\"scale-loss\": 10}";
  const auto muls = [&](const std::string& text, std::string_view pass) {
    const auto checked = check_passes(text, {"infer-shapes", std::string(pass)});
    if (count_nodes(*checked.after, "Mul") > 0) {
      EXPECT_EQ(checked.run->why("Mul node that makes 'm'").find("in the weight of "), 0u);
      EXPECT_NE(checked.run->why("Mul node that makes 'm'").find(" 34 dB "), std::string::npos);
    }
    return count_nodes(*checked.after, "Mul");
  };
  constexpr std::string_view kNear = "m = Mul(x, s) y = Gemm(m, w, b)";
  EXPECT_EQ(muls(given("float[4] s = {0.01, 1, -1, 1}", kNear), kBounded), 1);
  EXPECT_EQ(muls(given("float[4] s = {0.01, 1, -1, 1}", kNear), "fuse-affine"), 0);
  EXPECT_EQ(muls(given("float[4] s = {0.5, 1, -1, 1}", kNear), kBounded), 0);
  EXPECT_EQ(muls(given("float[4] s = {0, 1, -1, 1}", kNear), kBounded), 0);
  // Across the Reshape each scale counts for two rows.
  constexpr std::string_view kFar = "m = Mul(z, s) r = Reshape(m, to) y = Gemm(r, w, b)";
  EXPECT_EQ(muls(given("float[2,1] s = {0.014142, 1}", kFar), kBounded), 1);
  EXPECT_EQ(muls(given("float[2,1] s = {0.014142, 1}", kFar), "fuse-affine"), 0);
}

}  // namespace
}  // namespace mcompress::testing
