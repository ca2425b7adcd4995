#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::string_view kHead = "<ir_version: 8, opset_import: [\"\" : 17]> g ";

std::string image(std::string_view out, const std::string& given, std::string_view body) {
  return std::string(kHead) + "(float[N,4,7,7] x) => (float[N," + std::string(out) + "] y) <" +
         given + "> { " + std::string(body) + " }";
}

std::string norm_of(std::string_view name, std::int64_t channels) {
  const std::string n(name);
  return weights(n + "g", {channels}, 0.5f, 2.0f) + ", " + weights(n + "b", {channels}) + ", " +
         weights(n + "m", {channels}) + ", " + weights(n + "v", {channels}, 0.1f, 3.0f);
}

void expect_one_node(const std::string& text, std::int64_t sites) {
  const auto checked =
      check_passes(text, {"infer-shapes", "fuse-batchnorm", "fuse-parallel-conv"}, 1e-5, 3);
  EXPECT_EQ(checked.run->count("fuse-parallel-conv", "fused"), sites) << text.substr(0, 100);
  EXPECT_EQ(checked.after->graph().node_count(), 1u) << text.substr(0, 100);
}

// A block as RepVGG trains it.
TEST(FuseParallelConv, ThreeBranchesWithNormalisation) {
  for (std::string_view sum : {"s = Add(a, b) y = Add(s, i)", "s = Add(i, b) y = Add(a, s)",
                               "s = Add(b, a) y = Sum(i, s)"}) {
    expect_one_node(
        image("4,7,7",
              weights("u", {4, 4, 3, 3}) + ", " + weights("w", {4, 4, 1, 1}) + ", " +
                  norm_of("p", 4) + ", " + norm_of("q", 4) + ", " + norm_of("r", 4),
              "c = Conv<pads=[1,1,1,1]>(x, u) a = BatchNormalization(c, pg, pb, pm, pv) "
              "d = Conv(x, w) b = BatchNormalization(d, qg, qb, qm, qv) "
              "i = BatchNormalization(x, rg, rb, rm, rv) " +
                  std::string(sum)),
        2);
  }
}

TEST(FuseParallelConv, KernelsInsideOneAnother) {
  const std::string bias = ", " + weights("b", {6}) + ", " + weights("d", {6});
  // Strides, groups, a kernel that lies to one side, and one with wider pads.
  expect_one_node(
      image("6,A,B", weights("u", {6, 2, 3, 3}) + ", " + weights("w", {6, 2, 1, 1}) + bias,
            "a = Conv<group=2,strides=[2,2],pads=[1,1,1,1]>(x, u, b) "
            "c = Conv<group=2,strides=[2,2]>(x, w, d) y = Add(a, c)"),
      1);
  expect_one_node(
      image("6,A,B", weights("u", {6, 4, 3, 3}) + ", " + weights("w", {6, 4, 1, 3}) + bias,
            "a = Conv<pads=[1,1,1,1]>(x, u) c = Conv<pads=[0,1,0,1]>(x, w, d) "
            "y = Add(c, a)"),
      1);
  expect_one_node(image("6,A,B", weights("u", {6, 4, 3, 3}) + ", " + weights("w", {6, 4, 2, 2}),
                        "a = Conv<pads=[2,2,2,2],dilations=[2,2]>(x, u) "
                        "c = Conv<pads=[2,2,0,0],dilations=[2,2]>(x, w) y = Add(c, a)"),
                  1);
}

TEST(FuseParallelConv, AtTheEndOfAKernel) {
  expect_one_node(image("4,7,7", weights("u", {4, 4, 3, 3}) + ", " + weights("m", {4, 4, 1, 1}),
                        "a = Conv<pads=[2,2,0,0]>(x, u) c = Conv(x, m) y = Add(a, c)"),
                  1);
}

TEST(FuseParallelConv, TheInputItself) {
  expect_one_node(image("4,7,7", weights("u", {4, 1, 3, 3}),
                        "a = Conv<group=4,pads=[1,1,1,1]>(x, u) y = Add(x, a)"),
                  1);
  const auto checked =
      check_passes(std::string(kHead) +
                       "(float[1,4,2] x) => (float[1,4,2] y) <float[4,2,1] u = "
                       "{1,2,3,4,5,6,7,8}> { a = Conv<group=2>(x, u) y = Add(a, x) }",
                   {"fuse-parallel-conv"});
  EXPECT_EQ(constant_reals(maker_of(*checked.after, "y")->input(1)),
            (std::vector<double>{2, 2, 3, 5, 6, 6, 7, 9}));
  // The input of one branch is the other one.
  const auto chained =
      check_passes(image("4,7,7", weights("u", {4, 4, 1, 1}) + ", " + weights("w", {4, 4, 3, 3}),
                         "t = Conv(x, u) a = Conv<pads=[1,1,1,1]>(t, w) y = Add(t, a)"),
                   {"fuse-parallel-conv"});
  EXPECT_EQ(chained.run->count("fuse-parallel-conv", "fused"), 1);
  EXPECT_EQ(chained.after->graph().node_count(), 2u);
}

TEST(FuseParallelConv, SumsOfProducts) {
  const std::string given = weights("u", {4, 6}) + ", " + weights("w", {4, 6}) + ", " +
                            weights("v", {6, 4}) + ", " + weights("a", {4, 2}) + ", " +
                            weights("e", {2, 6}) + ", " + weights("b", {6}) + ", " +
                            weights("d", {6}) + ", " + weights("h", {2});
  const auto left = [&](std::string_view in, std::string_view out, std::string_view body) {
    const auto checked =
        check_passes(std::string(kHead) + "(float[" + std::string(in) + "] x) => (float[" +
                         std::string(out) + "] y) <" + given + "> { " + std::string(body) + " }",
                     {"infer-shapes", "fuse-parallel-conv"}, 1e-5, 3);
    EXPECT_EQ(checked.run->count("fuse-parallel-conv", "fused"), 1) << body;
    return checked.after->graph().node_count();
  };
  EXPECT_EQ(left("N,5,4", "N,5,6", "p = MatMul(x, u) q = MatMul(x, w) y = Add(p, q)"), 1u);
  EXPECT_EQ(left("N,4", "N,6",
                 "p = Gemm<alpha=0.5>(x, u, b) q = Gemm<transB=1,beta=3.0>(x, v, d) y = Add(p, q)"),
            1u);
  // An adapter of low rank beside the weight it adapts.
  EXPECT_EQ(
      left("N,5,4", "N,5,6", "p = MatMul(x, u) z = MatMul(x, a) q = MatMul(z, e) y = Add(p, q)"),
      1u);
  EXPECT_EQ(left("N,5,4", "N,5,6",
                 "m = MatMul(x, u) p = Add(m, b) z = MatMul(x, a) k = Add(z, h) q = MatMul(k, e) "
                 "y = Add(q, p)"),
            2u);
}

TEST(FuseParallelConv, Concatenations) {
  expect_one_node(image("9,A,B",
                        weights("u", {4, 4, 3, 3}) + ", " + weights("w", {5, 4, 3, 3}) + ", " +
                            weights("b", {5}),
                        "a = Conv<strides=[2,2]>(x, u) c = Conv<strides=[2,2]>(x, w, b) y = "
                        "Concat<axis=1>(a, c)"),
                  1);
  const auto checked = check_passes(
      image("15,7,7",
            weights("u", {4, 4, 1, 1}) + ", " + weights("w", {5, 4, 1, 1}) + ", " +
                weights("v", {2, 4, 1, 1}),
            "r = Relu(x) a = Conv(x, u) c = Conv(x, w) e = Conv(r, v) y = Concat<axis=-3>(r, a, c, "
            "e)"),
      {"infer-shapes", "fuse-parallel-conv", "infer-shapes"});
  EXPECT_EQ(count_nodes(*checked.after, "Conv"), 2);
  EXPECT_EQ(maker_of(*checked.after, "y")->inputs().size(), 3u);
  const std::string flat = "(float[N,5,4] x) => (float[N,5,5] y) <" + weights("u", {4, 3}) + ", " +
                           weights("w", {4, 2}) + ", " + weights("b", {3}) + ", " +
                           weights("d", {2}) + "> { ";
  expect_one_node(
      std::string(kHead) + flat + "a = MatMul(x, u) c = MatMul(x, w) y = Concat<axis=2>(a, c) }",
      1);
  const auto biased = check_passes(std::string(kHead) + flat +
                                       "m = MatMul(x, u) a = Add(m, b) k = MatMul(x, w) c = Add(d, "
                                       "k) y = Concat<axis=-1>(a, c) }",
                                   {"infer-shapes", "fuse-parallel-conv", "infer-shapes"});
  EXPECT_EQ(biased.after->graph().node_count(), 2u);
}

std::string reason(const std::string& text, std::string_view subject) {
  const auto checked =
      check_passes(text, {"infer-shapes", "fuse-batchnorm", "fuse-parallel-conv"}, 1e-6, 3);
  EXPECT_EQ(checked.run->count("fuse-parallel-conv", "fused"), 0);
  return checked.run->why(subject);
}

TEST(FuseParallelConv, SaysWhyOneStays) {
  const std::string given = weights("u", {4, 4, 3, 3}) + ", " + weights("w", {4, 4, 3, 3}) + ", " +
                            weights("k", {4, 4, 1, 3}) + ", " + weights("l", {4, 4, 3, 1}) + ", " +
                            weights("m", {4, 4, 1, 1});
  const std::string add = "Add node that makes 'y'";
  // Side by side, but not the same input elements.
  EXPECT_EQ(reason(image("4,7,7", given,
                         "a = Conv<pads=[0,1,0,1]>(x, k) c = Conv<pads=[1,0,1,0]>(x, l) "
                         "y = Add(a, c)"),
                   add),
            "the kernel of one branch does not fit into that of Conv 'Conv node that makes 'a''");
  EXPECT_EQ(reason(image("4,7,7", given,
                         "a = Conv<pads=[1,1,1,1]>(x, u) c = Conv<pads=[2,2,2,2],dilations=[2,2]>"
                         "(x, w) y = Add(a, c)"),
                   add),
            "the kernel of one branch does not fit into that of Conv 'Conv node that makes 'a''");
  EXPECT_EQ(reason(image("4,7,7", given,
                         "a = Conv<auto_pad=\"SAME_UPPER\">(x, u) c = Conv(x, m) y = Add(a, c)"),
                   add),
            "Conv 'Conv node that makes 'a'' pads by auto_pad");
  EXPECT_EQ(reason(image("4,7,7", given,
                         "a = Conv<pads=[1,1,1,1]>(x, u) c = Conv(x, m) r = Relu(c) s = Add(a, c) "
                         "y = Mul(s, r)"),
                   "Add node that makes 's'"),
            "'c' is read 2 times");
  EXPECT_EQ(
      reason(image("4,7,7", given, "a = Conv<pads=[1,1,1,1]>(x, u) r = Relu(x) y = Add(a, r)"),
             add),
      "");
  EXPECT_EQ(reason(image("12,7,7", given,
                         "a = Conv<pads=[1,1,1,1]>(x, u) c = Conv<pads=[1,1,1,1]>(x, w) r = Neg(c) "
                         "y = Concat<axis=1>(a, c, r)"),
                   "Concat node that makes 'y'"),
            "'c' is read 2 times");
  EXPECT_EQ(reason(image("4,14,7", given,
                         "a = Conv<pads=[1,1,1,1]>(x, u) c = Conv<pads=[1,1,1,1]>(x, w) "
                         "y = Concat<axis=2>(a, c)"),
                   "Concat node that makes 'y'"),
            "");
}

TEST(FuseParallelConv, InBranchesWithWeightsThatOthersRead) {
  const auto checked = check_passes(
      std::string(kHead) + "(bool c, float[N,4,5,5] x) => (float[N,4,5,5] y, float[N,4,5,5] z) <" +
          weights("w", {4, 4, 1, 1}) + ", " + weights("u", {4, 4, 1, 1}) + ", " +
          weights("v", {4, 4, 1, 1}) + R"(> {
  z = Conv(x, w)
  y = If (c) <
    then_branch = t () => (float[N,4,5,5] o) { a = Conv(x, w) b = Conv(x, v) o = Add(a, b) },
    else_branch = e () => (float[N,4,5,5] p) { q = Conv(x, u) k = Add(q, z) r = Conv(x, w) p = Add(k, r) }
  >
})",
      {"infer-shapes", "fuse-parallel-conv"});
  EXPECT_EQ(checked.run->count("fuse-parallel-conv", "fused"), 1);
  EXPECT_EQ(maker_of(*checked.after, "z")->input(1)->name(), "w");
  EXPECT_EQ(checked.run->why("Add node that makes 'k'"), "'z' is read inside a nested graph");
}

TEST(FuseParallelConv, WeightsThatOthersReadAreNotCopied) {
  const std::string given = weights("u", {4, 4, 3, 3}) + ", " + weights("w", {4, 4, 3, 3});
  EXPECT_EQ(
      reason(image("4,7,7", given,
                   "r = Relu(x) k = Conv<pads=[1,1,1,1]>(r, u) a = Conv<pads=[1,1,1,1]>(x, u) "
                   "s = Add(a, x) y = Mul(k, s)"),
             "Add node that makes 's'"),
      "other nodes read its weights, which would stay beside the new ones");
  EXPECT_EQ(
      reason(image("8,7,7", given,
                   "r = Relu(x) k = Conv<pads=[1,1,1,1]>(r, u) a = Conv<pads=[1,1,1,1]>(x, u) "
                   "s = Mul(k, a) t = Conv<pads=[1,1,1,1]>(s, w) b = Conv<pads=[1,1,1,1]>(s, u) "
                   "y = Concat<axis=1>(t, b)"),
             "Concat node that makes 'y'"),
      "other nodes read its weights, which would stay beside the new ones");
}

}  // namespace
}  // namespace mcompress::testing
