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

}  // namespace
}  // namespace mcompress::testing
