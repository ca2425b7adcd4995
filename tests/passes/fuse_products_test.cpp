// fuse-transpose-gemm and fuse-reshape-gemm.
#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string with(std::string_view signature, const std::string& given, std::string_view body,
                 int opset = 17) {
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) + "]> g " +
         std::string(signature) + (given.empty() ? "" : " <" + given + ">") + " { " +
         std::string(body) + " }";
}

TEST(FuseTransposeGemm, Operands) {
  const auto made = [](std::string_view signature, std::string_view body) {
    const auto checked =
        check_passes(with(signature, "", body), {"infer-shapes", "fuse-transpose-gemm"}, 1e-6, 3);
    EXPECT_EQ(checked.run->count("fuse-transpose-gemm", "fused"), 1) << body;
    const Node& gemm = *maker_of(*checked.after, "y");
    EXPECT_TRUE(gemm.is("Gemm"));
    EXPECT_EQ(count_nodes(*checked.after, "Transpose"), 0);
    return gemm.int_attribute("transA", 0) * 2 + gemm.int_attribute("transB", 0);
  };
  EXPECT_EQ(made("(float[4,3] a, float[4,5] b) => (float[3,5] y)",
                 "t = Transpose<perm=[1,0]>(a) y = Gemm(t, b)"),
            2);
  EXPECT_EQ(made("(float[3,4] a, float[4,5] b) => (float[3,5] y)",
                 "t = Transpose(a) y = Gemm<transA=1>(t, b)"),
            0);
  EXPECT_EQ(made("(float[3,4] a, float[5,4] b) => (float[3,5] y)",
                 "t = Transpose<perm=[1,0]>(b) y = MatMul(a, t)"),
            1);
  EXPECT_EQ(
      made("(float[3,4] a, float[3,4] b) => (float[3,3] y)", "t = Transpose(b) y = MatMul(a, t)"),
      1);
  // Both operands and two readers.
  EXPECT_EQ(made("(float[3,3] a, float[3,3] b) => (float[3,3] y)",
                 "t = Transpose(a) p = Gemm(b, t) q = MatMul(t, p) y = Gemm(t, q)"),
            2);
}

TEST(FuseTransposeGemm, SaysWhyOneStays) {
  const auto why = [](std::string_view signature, std::string_view body, int opset = 17) {
    const auto checked = check_passes(with(signature, "", body, opset),
                                      {"infer-shapes", "fuse-transpose-gemm"}, 0.0, 3);
    EXPECT_FALSE(checked.run->changed) << body;
    EXPECT_EQ(checked.run->count("fuse-transpose-gemm", "eligible"), 1) << body;
    return checked.run->why("Transpose node that makes 't'");
  };
  EXPECT_EQ(why("(float[4,3] a, float[4,5] b) => (float[3,5] y, float[3,4] t)",
                "t = Transpose(a) y = Gemm(t, b)"),
            "'t' is a graph output");
  EXPECT_EQ(why("(float[4,3] a, float[4,5] b) => (float[3,5] y, float[3,4] z)",
                "t = Transpose(a) z = Relu(t) y = Gemm(t, b)"),
            "it is read by Relu 'Relu node that makes 'z''");
  EXPECT_EQ(why("(float[2,3,4] a, float[2,3,5] b) => (float[2,4,5] y)",
                "t = Transpose<perm=[0,2,1]>(a) y = MatMul(t, b)"),
            "it does not exchange two dimensions");
  EXPECT_EQ(why("(float[4,3] a, float[2,4,5] b) => (float[2,3,5] y)",
                "t = Transpose(a) y = MatMul(t, b)"),
            "MatMul 'MatMul node that makes 'y'' is not known to have two matrices as operands");
  EXPECT_EQ(
      why("(int32[4,3] a, int32[4,5] b) => (int32[3,5] y)", "t = Transpose(a) y = MatMul(t, b)"),
      "Gemm is for floating point, this is int32");
  EXPECT_EQ(why("(float[4,3] a, float[4,5] b) => (float[3,5] y)",
                "t = Transpose(a) y = MatMul(t, b)", 10),
            "MatMul 'MatMul node that makes 'y'' has no bias, which Gemm needs before opset 11");
}

TEST(FuseTransposeGemm, InBranchesButNotAcrossThem) {
  const auto checked =
      check_passes(with("(bool c, float[4,3] a, float[4,5] b) => (float[3,5] y)", "",
                        R"(
  t = Transpose(a)
  y = If (c) <
    then_branch = u () => (float[3,5] o) { s = Transpose(a) o = MatMul(s, b) },
    else_branch = e () => (float[3,5] p) { p = MatMul(t, b) }
  >)"),
                   {"infer-shapes", "fuse-transpose-gemm"});
  EXPECT_EQ(checked.run->count("fuse-transpose-gemm", "fused"), 1);
  EXPECT_EQ(checked.run->why("Transpose node that makes 't'"), "'t' is read inside a nested graph");
}

std::string flattened(std::string_view in, std::string_view out, std::string_view body) {
  return with("(float[" + std::string(in) + "] x) => (float[" + std::string(out) + "] y)",
              weights("w", {4, 5}) + ", " + weights("v", {5, 4}) + ", " + weights("b", {5}) +
                  ", int64[2] flat = {-1, 4}, int64[3] deep = {0, -1, 5}, int64[3] three = {-1, 3, "
                  "5}, int64[3] other = {3, -1, 5}",
              body);
}

TEST(FuseReshapeGemm, AroundProducts) {
  const auto left = [](std::string_view in, std::string_view out, std::string_view body) {
    const auto checked =
        check_passes(flattened(in, out, body), {"infer-shapes", "fuse-reshape-gemm"}, 1e-5, 2);
    EXPECT_EQ(checked.run->count("fuse-reshape-gemm", "fused"), 1) << body;
    EXPECT_EQ(count_nodes(*checked.after, "Reshape"), 0) << body;
    return checked.after->graph().node_count();
  };
  EXPECT_EQ(left("2,3,4", "2,3,5", "f = Reshape(x, flat) g = Gemm(f, w, b) y = Reshape(g, three)"),
            2u);
  EXPECT_EQ(left("N,3,4", "N,3,5",
                 "f = Reshape(x, flat) g = Gemm<transB=1,alpha=0.5,beta=2.0>(f, v, b) "
                 "y = Reshape(g, three)"),
            2u);
  EXPECT_EQ(left("N,3,4", "N,3,5", "f = Reshape(x, flat) g = Gemm(f, w) y = Reshape(g, three)"),
            1u);
  EXPECT_EQ(left("N,3,4", "N,3,5",
                 "f = Reshape(x, flat) m = MatMul(f, w) g = Add(b, m) y = Reshape(g, three)"),
            2u);
}

// Sizes that are open, but the same ones.
TEST(FuseReshapeGemm, OpenDimensionsThatAreCopied) {
  const std::string header =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,T,4] x) => "
      "(float[A,B,5] y) <int64[2] flat = {-1,4}, int64 i0 = {0}, int64 i1 = {1}, "
      "int64[1] ax = {0}, int64[1] five = {5}, " +
      weights("w", {4, 5}) + ", " + weights("b", {5}) + "> { ";
  const std::string body =
      "s = Shape(x) n = Gather(s, i0) t = Gather(s, i1) n1 = Unsqueeze(n, ax) t1 = Unsqueeze(t, "
      "ax) f = Reshape(x, flat) g = Gemm(f, w, b) ";
  const std::vector<std::string> passes = {"infer-shapes", "fuse-reshape-gemm"};
  const auto same = check_passes(
      header + body + "r = Concat<axis = 0>(n1, t1, five) y = Reshape(g, r) }", passes);
  EXPECT_EQ(same.run->why("Gemm node that makes 'g'"), "");
  EXPECT_EQ(count_nodes(*same.after, "MatMul"), 1);
  EXPECT_EQ(count_nodes(*same.after, "Reshape"), 0);
  const auto turned = check_passes(
      header + body + "r = Concat<axis = 0>(t1, n1, five) y = Reshape(g, r) }", passes);
  EXPECT_EQ(count_nodes(*turned.after, "Reshape"), 2);
}

TEST(FuseReshapeGemm, SaysWhyOneStays) {
  const auto why = [](std::string_view in, std::string_view out, std::string_view body) {
    const auto checked =
        check_passes(flattened(in, out, body), {"infer-shapes", "fuse-reshape-gemm"}, 0.0, 3);
    EXPECT_FALSE(checked.run->changed) << body;
    return checked.run->why("Gemm node that makes 'g'");
  };
  EXPECT_EQ(why("6,2,4", "4,3,5", "f = Reshape(x, flat) g = Gemm(f, w, b) y = Reshape(g, three)"),
            "the Reshapes around it may differ in their dimensions");
  EXPECT_EQ(why("N,M,4", "A,3,5", "f = Reshape(x, flat) g = Gemm(f, w, b) y = Reshape(g, three)"),
            "the Reshapes around it may differ in their dimensions");
  EXPECT_EQ(why("2,3,2,2", "2,3,5", "f = Reshape(x, flat) g = Gemm(f, w, b) y = Reshape(g, three)"),
            "the Reshapes around it are no pair");
  EXPECT_EQ(why("2,6,2", "2,3,5", "f = Reshape(x, flat) g = Gemm(f, w, b) y = Reshape(g, three)"),
            "the Reshapes around it do not keep rows together");
}

}  // namespace
}  // namespace mcompress::testing
