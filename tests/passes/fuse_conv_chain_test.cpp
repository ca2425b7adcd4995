#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::string_view kHead = "<ir_version: 8, opset_import: [\"\" : 17]> g ";

std::string chain(std::string_view out, const std::string& given, std::string_view body) {
  return std::string(kHead) + "(float[N,4,9,9] x) => (float[N," + std::string(out) + "] y) <" +
         given + "> { " + std::string(body) + " }";
}

// What is left when the chain is one operator.
Checked joined(const std::string& text) {
  auto checked = check_passes(text, {"infer-shapes", "fuse-conv-chain"}, 1e-5, 3);
  EXPECT_EQ(checked.run->count("fuse-conv-chain", "fused"), 1) << text.substr(0, 120);
  return checked;
}

TEST(FuseConvChain, PointwiseAfterAnyKernel) {
  const std::string u = weights("u", {8, 4, 3, 3}) + ", " + weights("b", {8});
  const std::string w = weights("w", {5, 8, 1, 1}) + ", " + weights("d", {5});
  const auto checked =
      joined(chain("5,A,B", u + ", " + w,
                   "t = Conv<pads=[1,0,2,1],strides=[2,1],dilations=[1,2]>(x, u, b) "
                   "y = Conv<strides=[2,3]>(t, w, d)"));
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  const Node& conv = *maker_of(*checked.after, "y");
  EXPECT_EQ(conv.ints_attribute("strides"), (std::vector<std::int64_t>{4, 3}));
  EXPECT_EQ(conv.ints_attribute("pads"), (std::vector<std::int64_t>{1, 0, 2, 1}));
}

TEST(FuseConvChain, AnyKernelAfterPointwise) {
  const std::string u = weights("u", {8, 4, 1, 1});
  const std::string w = weights("w", {5, 8, 3, 3});
  // Without a bias in between zeros stay zeros, so padding is no obstacle.
  joined(chain("5,A,B", u + ", " + w,
               "t = Conv<strides=[2,1]>(x, u) y = Conv<pads=[1,2,3,1],strides=[1,2],"
               "dilations=[1,2]>(t, w)"));
  joined(
      chain("5,A,B", u + ", " + w + ", " + weights("b", {8}), "t = Conv(x, u, b) y = Conv(t, w)"));
}

TEST(FuseConvChain, WeightsAreTheProduct) {
  const auto checked = joined(std::string(kHead) +
                              "(float[1,2,2] x) => (float[1,1,2] y) <float[2,2,1] u = {1,2,3,4}, "
                              "float[2] b = {10,20}, float[1,2,1] w = {5,6}, float[1] d = {7}> "
                              "{ t = Conv(x, u, b) y = Conv(t, w, d) }");
  const Node& conv = *maker_of(*checked.after, "y");
  // 5 [1 2] + 6 [3 4]; 5 10 + 6 20 + 7
  EXPECT_EQ(constant_reals(conv.input(1)), (std::vector<double>{23, 34}));
  EXPECT_EQ(constant_reals(conv.input(2)), (std::vector<double>{177}));
}

TEST(FuseConvChain, Groups) {
  joined(chain("8,A,B", weights("u", {8, 2, 3, 3}) + ", " + weights("w", {8, 4, 1, 1}),
               "t = Conv<group=2>(x, u) y = Conv<group=2>(t, w)"));
  // One group that reads all: the product has one group.
  joined(chain(
      "6,A,B",
      weights("u", {20, 2, 1, 1}) + ", " + weights("w", {6, 20, 1, 1}) + ", " + weights("b", {20}),
      "t = Conv<group=2>(x, u, b) y = Conv(t, w)"));
  joined(chain("6,A,B", weights("u", {20, 4, 1, 1}) + ", " + weights("w", {6, 10, 1, 1}),
               "t = Conv(x, u) y = Conv<group=2>(t, w)"));
}

TEST(FuseConvChain, ThreeInARow) {
  auto checked = check_passes(chain("4,9,9",
                                    weights("u", {4, 4, 1, 1}) + ", " + weights("v", {4, 4, 1, 1}) +
                                        ", " + weights("w", {4, 4, 3, 3}),
                                    "s = Conv(x, u) t = Conv(s, v) y = Conv<pads=[1,1,1,1]>(t, w)"),
                              {"infer-shapes", "fuse-conv-chain", "eliminate-dead"});
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(count_initializers(*checked.after), 1);
}

TEST(FuseConvChain, Products) {
  const std::string given = weights("u", {4, 8}) + ", " + weights("w", {8, 3}) + ", " +
                            weights("v", {3, 8}) + ", " + weights("b", {8}) + ", " +
                            weights("d", {3});
  const auto left = [&](std::string_view in, std::string_view out, std::string_view body) {
    const auto checked =
        joined(std::string(kHead) + "(float[" + std::string(in) + "] x) => (float[" +
               std::string(out) + "] y) <" + given + "> { " + std::string(body) + " }");
    return checked.after->graph().node_count();
  };
  EXPECT_EQ(left("N,4", "N,3", "t = Gemm<alpha=0.5>(x, u, b) y = Gemm<beta=2.0,transB=1>(t, v, d)"),
            1u);
  EXPECT_EQ(left("4,N", "N,3", "t = Gemm<transA=1>(x, u, b) y = Gemm(t, w)"), 1u);
  EXPECT_EQ(left("N,5,4", "N,5,3", "t = MatMul(x, u) y = MatMul(t, w)"), 1u);
  EXPECT_EQ(left("N,5,4", "N,5,3", "m = MatMul(x, u) t = Add(m, b) k = MatMul(t, w) y = Add(k, d)"),
            2u);
  EXPECT_EQ(left("N,5,4", "N,5,3", "m = MatMul(x, u) t = Add(m, b) y = MatMul(t, w)"), 2u);
  EXPECT_EQ(left("N,4", "N,3", "m = MatMul(x, u) t = Add(m, b) y = Gemm(t, w, d)"), 1u);
}

std::string reason(const std::string& text, std::string_view subject) {
  const auto checked = check_passes(text, {"infer-shapes", "fuse-conv-chain"}, 0.0, 3);
  EXPECT_FALSE(checked.run->changed);
  return checked.run->why(subject);
}

TEST(FuseConvChain, SaysWhyOneStays) {
  const std::string conv = "Conv node that makes 'y'";
  EXPECT_EQ(reason(chain("8,9,9", weights("u", {2, 4, 1, 1}) + ", " + weights("w", {8, 2, 1, 1}),
                         "t = Conv(x, u) y = Conv(t, w)"),
                   conv),
            "one operator would have 32 weights, the pair has 24");
  // Depthwise then pointwise: one operator would do nine times the work.
  EXPECT_EQ(reason(chain("8,9,9", weights("u", {4, 1, 3, 3}) + ", " + weights("w", {8, 4, 1, 1}),
                         "t = Conv<group=4,pads=[1,1,1,1]>(x, u) y = Conv(t, w)"),
                   conv),
            "one operator would have 288 weights, the pair has 68");
  const std::string given =
      weights("u", {8, 4, 1, 1}) + ", " + weights("w", {5, 8, 3, 3}) + ", " + weights("b", {8});
  EXPECT_EQ(reason(chain("5,A,B", given, "t = Conv(x, u, b) y = Conv<pads=[1,1,1,1]>(t, w)"), conv),
            "Conv 'Conv node that makes 'y'' pads with zeros, where the bias of Conv 'Conv node "
            "that makes 't'' would be missing");
  EXPECT_EQ(
      reason(chain("5,A,B", given, "t = Conv<pads=[1,1,1,1]>(x, u) y = Conv(t, w)"), conv),
      "neither Conv 'Conv node that makes 't'' nor Conv 'Conv node that makes 'y'' is 1x1 without "
      "padding");
  EXPECT_EQ(
      reason(chain("5,A,B", given, "t = Conv(x, u) y = Conv<auto_pad=\"SAME_UPPER\">(t, w)"), conv),
      "Conv 'Conv node that makes 'y'' pads by auto_pad");
  EXPECT_EQ(reason(chain("5,A,B", given,
                         "t = Conv(x, u) z = Relu(t) s = ReduceMax<keepdims=1>(z) "
                         "k = Conv(t, w) y = Add(k, s)"),
                   "Conv node that makes 'k'"),
            "'t' is read 2 times");
  // Weights of low rank.
  EXPECT_EQ(
      reason(std::string(kHead) + "(float[N,8] x) => (float[N,8] y) <" + weights("u", {8, 2}) +
                 ", " + weights("w", {2, 8}) + "> { t = MatMul(x, u) y = MatMul(t, w) }",
             "MatMul node that makes 'y'"),
      "one operator would have 64 weights, the pair has 32");
}

TEST(FuseConvChain, NothingThatIsNotFinite) {
  auto model = model_from_text(std::string(kHead) +
                               "(float[1,1,2] x) => (float[1,1,2] y) <float[1,1,1] u = {1e30}, "
                               "float[1,1,1] w = {1e30}> { t = Conv(x, u) y = Conv(t, w) }");
  const auto run = run_passes(*model, {"fuse-conv-chain"});
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("Conv node that makes 'y'"),
            "a folded number, 1e+60, is not finite or too large for float32");
}

TEST(FuseConvChain, InBranchesAndWithSharedWeights) {
  const auto checked = check_passes(
      std::string(kHead) + "(bool c, float[N,4,5,5] x) => (float[N,4,5,5] y, float[N,4,5,5] z) <" +
          weights("w", {4, 4, 1, 1}) + ", " + weights("v", {4, 4, 1, 1}) + R"(> {
  z = Conv(x, w)
  y = If (c) <
    then_branch = t () => (float[N,4,5,5] o) { a = Conv(x, w) o = Conv(a, v) },
    else_branch = e () => (float[N,4,5,5] p) { q = Conv(z, w) r = Conv(q, w) p = Neg(r) }
  >
})",
      {"infer-shapes", "fuse-conv-chain"});
  EXPECT_EQ(checked.run->count("fuse-conv-chain", "fused"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Conv"), 4);
  EXPECT_EQ(maker_of(*checked.after, "z")->input(1)->name(), "w");
  EXPECT_EQ(checked.run->why("Conv node that makes 'q'"), "'z' is read inside a nested graph");
  EXPECT_EQ(checked.run->why("Conv node that makes 'r'"),
            "other nodes read its weights, which would stay beside the new ones");
}

}  // namespace
}  // namespace mcompress::testing
