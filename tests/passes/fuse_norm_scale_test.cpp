#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string with(std::string_view signature, const std::string& given, std::string_view body) {
  return "<ir_version: 8, opset_import: [\"\" : 17]> g " + std::string(signature) + " <" + given +
         "> { " + std::string(body) + " }";
}

TEST(FuseNormScale, BehindANormalisation) {
  const auto left = [](std::string_view shape, std::string_view body, std::int64_t sites) {
    const std::string io =
        "(float[" + std::string(shape) + "] x) => (float[" + std::string(shape) + "] y)";
    const auto checked =
        check_passes(with(io,
                          weights("g", {4}, 0.5f, 2.0f) + ", " + weights("b", {4}) + ", " +
                              weights("v", {4}, 0.1f, 3.0f) + ", " + weights("s", {4}, 0.5f, 2.0f) +
                              ", " + weights("c", {4, 1, 1}) + ", float k = {0.25}",
                          body),
                     {"infer-shapes", "fuse-norm-scale"}, 1e-5, 3);
    EXPECT_EQ(checked.run->count("fuse-norm-scale", "fused"), sites) << body;
    return checked.after->graph().node_count();
  };
  EXPECT_EQ(left("N,3,4", "t = LayerNormalization(x, g) u = Mul(t, s) y = Add(u, b)", 2), 1u);
  EXPECT_EQ(left("N,3,4", "t = LayerNormalization<axis=2>(x, g, b) u = Div(t, k) y = Sub(s, u)", 2),
            1u);
  EXPECT_EQ(left("N,4,3,3", "t = InstanceNormalization(x, g, b) u = Mul(c, t) y = Sub(u, k)", 2),
            1u);
  EXPECT_EQ(left("N,4,3,3", "t = BatchNormalization(x, g, b, b, v) u = Mul(c, t) y = Sub(u, k)", 2),
            1u);
  EXPECT_EQ(left("N,4,3,3", "u = Mul(c, x) t = Sub(k, u) y = BatchNormalization(t, g, b, b, v)", 2),
            1u);
}

TEST(FuseNormScale, NumbersOfANormalisation) {
  const auto checked = check_passes(
      with("(float[1,2] x) => (float[1,2] y)",
           "float[2] g = {1,2}, float[2] b = {3,4}, float[2] s = {5,6}, float[2] t = {7,8}",
           "n = LayerNormalization(x, g, b) m = Mul(n, s) y = Add(m, t)"),
      {"infer-shapes", "fuse-norm-scale"});
  const Node& norm = *maker_of(*checked.after, "y");
  EXPECT_EQ(constant_reals(norm.input(1)), (std::vector<double>{5, 12}));
  EXPECT_EQ(constant_reals(norm.input(2)), (std::vector<double>{22, 32}));
}

TEST(FuseNormScale, InFrontOfSeveralOperators) {
  const std::string given = weights("s", {4}, 0.5f, 2.0f) + ", " + weights("p", {4, 3}) + ", " +
                            weights("q", {4, 3}) + ", " + weights("b", {3}) + ", " +
                            weights("k", {4, 1, 1}) + ", " + weights("u", {3, 4, 3, 3}) + ", " +
                            weights("w", {3, 4, 1, 1}) + ", " + weights("g", {4}, 0.5f, 2.0f) +
                            ", " + weights("m", {4}) + ", " + weights("v", {4}, 0.1f, 3.0f);
  const auto left = [&](std::string_view io, std::string_view body) {
    const auto checked =
        check_passes(with(io, given, body), {"infer-shapes", "fuse-norm-scale"}, 1e-5, 3);
    EXPECT_EQ(checked.run->count("fuse-norm-scale", "fused"), 1) << body;
    return checked.after->graph().node_count();
  };
  EXPECT_EQ(left("(float[N,5,4] x) => (float[N,5,3] y)",
                 "t = Mul(x, s) a = MatMul(t, p) c = MatMul(t, q) y = Mul(a, c)"),
            3u);
  EXPECT_EQ(left("(float[N,5,4] x) => (float[N,5,3] y)",
                 "t = Sub(s, x) m1 = MatMul(t, p) a = Add(m1, b) m2 = MatMul(t, q) c = Add(m2, b) "
                 "y = Mul(a, c)"),
            5u);
  EXPECT_EQ(left("(float[N,4,5,5] x) => (float[N,3,A,B] y, float[N,3,5,5] z)",
                 "t = BatchNormalization(x, g, m, m, v) y = Conv(t, u) z = Conv(t, w)"),
            2u);
}

TEST(FuseNormScale, SaysWhyOneStays) {
  const std::string given = weights("s", {4}, 0.5f, 2.0f) + ", " + weights("p", {4, 3}) + ", " +
                            weights("q", {4, 3}) + ", " + weights("g", {4}) +
                            ", float e = {0.00001}, float two = {2.0}";
  const auto why = [&](std::string_view io, std::string_view body, std::string_view subject) {
    const auto checked =
        check_passes(with(io, given, body), {"infer-shapes", "fuse-norm-scale"}, 0.0, 3);
    EXPECT_FALSE(checked.run->changed) << body;
    return checked.run->why(subject);
  };
  const std::string io = "(float[N,5,4] x) => (float[N,5,3] y)";
  EXPECT_EQ(why(io, "t = Add(x, s) a = MatMul(t, p) c = MatMul(t, q) y = Mul(a, c)",
                "Add node that makes 't'"),
            "MatMul 'MatMul node that makes 'a'' has no bias for a shift");
  EXPECT_EQ(why(io, "t = Mul(x, s) a = MatMul(t, p) c = MatMul(t, p) y = Mul(a, c)",
                "Mul node that makes 't'"),
            "'p' has other readers and would be copied");
  EXPECT_EQ(
      why(io,
          "n = ReduceMean<axes=[-1]>(x) d = Sub(x, n) h = Pow(d, two) "
          "r = ReduceMean<axes=[-1]>(h) f = Add(r, e) k = Sqrt(f) z = Div(d, k) t = Mul(z, s) "
          "a = MatMul(t, p) c = MatMul(t, q) y = Mul(a, c)",
          "Mul node that makes 't'"),
      "it is the last part of a normalisation or GELU, which runtimes know as a whole");
  EXPECT_EQ(why("(float[N,5,4] x) => (float[N,5,4] y, float[N,5,4] z)",
                "t = LayerNormalization(x, g) y = Mul(t, s) z = Neg(t)", "Mul node that makes 'y'"),
            "'t' is read 2 times");
}

TEST(FuseNormScale, InBranches) {
  const auto checked =
      check_passes(with("(bool c, float[N,4] x) => (float[N,4] y)",
                        weights("g", {4}, 0.5f, 2.0f) + ", " + weights("s", {4}), R"(
  n = LayerNormalization(x, g)
  y = If (c) <
    then_branch = t () => (float[N,4] o) { m = LayerNormalization(x, g) o = Mul(m, s) },
    else_branch = e () => (float[N,4] p) { p = Mul(n, s) }
  >)"),
                   {"infer-shapes", "fuse-norm-scale"});
  EXPECT_EQ(checked.run->count("fuse-norm-scale", "fused"), 1);
  EXPECT_EQ(checked.run->why("Mul node that makes 'p'"), "'n' is read inside a nested graph");
}

}  // namespace
}  // namespace mcompress::testing
