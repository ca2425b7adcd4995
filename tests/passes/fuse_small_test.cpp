// fuse-matmul-add and fuse-activation.
#include <gtest/gtest.h>

#include <tuple>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

TEST(FuseMatmulAdd, MakesAGemm) {
  for (std::string_view body :
       {"m = MatMul(x, w) y = Add(m, b)", "m = MatMul(x, w) y = Add(b, m)"}) {
    const std::string text =
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,5] x) => "
        "(float[N,4] y) <" +
        weights("w", {5, 4}) + ", " + weights("b", {4}) + "> { " + std::string(body) + " }";
    const auto checked = check_passes(text, {"infer-shapes", "fuse-matmul-add"});
    EXPECT_EQ(count_nodes(*checked.after, "Gemm"), 1);
    EXPECT_EQ(checked.after->graph().node_count(), 1u);
    EXPECT_EQ(maker_of(*checked.after, "y")->input(2)->name(), "b");
  }
}

TEST(FuseMatmulAdd, TakesARowOfNumbers) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,3] x) => (float[N,2] y, float[N,2] z) "
      "<float[3,2] w = {1,2,3,4,5,6}, float[1,2] b = {7,8}> "
      "{ m = MatMul(x, w) y = Add(m, b) n = Neg(x) k = MatMul(n, w) z = Add(b, k) }",
      {"infer-shapes", "fuse-matmul-add", "eliminate-dead"});
  EXPECT_EQ(count_nodes(*checked.after, "Gemm"), 2);
  EXPECT_EQ(checked.after->graph().node_count(), 3u);
  EXPECT_EQ(maker_of(*checked.after, "z")->input(2)->initializer()->dims().size(), 1u);
}

TEST(FuseMatmulAdd, SaysWhyOneStays) {
  const auto why = [](std::string_view shape, std::string_view out, std::string_view bias) {
    const std::string text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[" +
                             std::string(shape) + "] x) => (float[" + std::string(out) + "] y) <" +
                             weights("w", {5, 4}) + ", " + std::string(bias) +
                             "> { m = MatMul(x, w) y = Add(m, b) }";
    const auto checked = check_passes(text, {"infer-shapes", "fuse-matmul-add"}, 0.0);
    EXPECT_FALSE(checked.run->changed);
    return checked.run->why("Add node that makes 'y'");
  };
  EXPECT_EQ(why("N,3,5", "N,3,4", weights("b", {4})), "'x' has 3 dimensions, Gemm takes 2");
  EXPECT_EQ(why("2,5", "2,4", weights("b", {2, 4})), "'b' is not one number per column");
}

// Before opset 7 operands met by an attribute `broadcast`, and Gemm's bias did so too.
TEST(FuseMatmulAdd, LeavesOldBroadcastingAlone) {
  Diagnostics diagnostics;
  const auto model = parse_model_text(
      "<ir_version: 3, opset_import: [\"\" : 6]> g (float[3,5] x) => (float[3,4] y) <" +
          weights("w", {5, 4}) + ", " + weights("b", {4}) +
          "> { m = MatMul(x, w) y = Add <broadcast = 1> (m, b) }",
      diagnostics);
  ASSERT_TRUE(model.ok());
  const auto run = run_passes(**model, {"infer-shapes", "fuse-matmul-add"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(count_nodes(**model, "Gemm"), 0);
  EXPECT_EQ(run->why("Add node that makes 'y'"), "Add broadcasts in another way before opset 7");
}

TEST(FuseMatmulAdd, KeepsReadersOfAProductAndTypesThatGemmHasNot) {
  const std::string given = weights("w", {5, 4}) + ", " + weights("b", {4});
  const std::string head = "<ir_version: 8, opset_import: [\"\" : 17]> g ";
  const auto stays = [&](const std::string& text, std::string_view add) {
    const auto checked = check_passes(head + text, {"infer-shapes", "fuse-matmul-add"}, 0.0);
    EXPECT_FALSE(checked.run->changed) << text;
    EXPECT_EQ(checked.run->count("fuse-matmul-add", "eligible"), 1) << text;
    EXPECT_EQ(checked.run->count("fuse-matmul-add", "fused"), 0) << text;
    return checked.run->why("Add node that makes '" + std::string(add) + "'");
  };
  EXPECT_EQ(stays("(float[N,5] x) => (float[N,4] y, float[N,4] m) <" + given +
                      "> { m = MatMul(x, w) y = Add(m, b) }",
                  "y"),
            "'m' is a graph output");
  EXPECT_EQ(stays("(float[N,5] x) => (float[N,4] y) <" + given +
                      "> { m = MatMul(x, w) a = Add(m, b) r = Relu(m) y = Mul(a, r) }",
                  "a"),
            "'m' is read 2 times");
  EXPECT_EQ(stays("(bool c, float[N,5] x) => (float[N,4] y) <" + given + R"(> {
  m = MatMul(x, w)
  y = If (c) <
    then_branch = t () => (float[N,4] o) { o = Add(m, b) },
    else_branch = e () => (float[N,4] p) { q = MatMul(x, w) p = Neg(q) }
  >
})",
                  "o"),
            "'m' is read inside a nested graph");
  EXPECT_EQ(stays("(int32[2,2] x) => (int32[2,2] y) <int32[2,2] w = {1,2,3,4}, int32[2] b = "
                  "{1,2}> { m = MatMul(x, w) y = Add(m, b) }",
                  "y"),
            "Gemm is for floating point, this is int32");
  EXPECT_EQ(stays("(float[N,5] x) => (float[N,4] y) <" + weights("w", {5, 4}) +
                      ", float b = {0.5}> { m = MatMul(x, w) y = Add(m, b) }",
                  "y"),
            "'b' is not one number per column");
}

TEST(FuseMatmulAdd, AnUnknownRankStays) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[N] x, int64[K] shape) => (float[M,2] y) <float[2,2] w = {1,2,3,4}, float[2] b = {1,2}> {
  r = Reshape(x, shape)
  m = MatMul(r, w)
  y = Add(m, b)
})");
  const auto run = run_passes(*model, {"infer-shapes", "fuse-matmul-add"});
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("Add node that makes 'y'"), "the rank of 'r' is unknown");
}

TEST(FuseMatmulAdd, ABiasThatACallerMayOverrideIsNoConstant) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,5] x, "
      "float[4] b) => (float[N,4] y) <" +
          weights("w", {5, 4}) +
          ", float[4] b = {1,2,3,4}> { m = MatMul(x, w) y = Add(m, "
          "b) }",
      {"infer-shapes", "fuse-matmul-add"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->count("fuse-matmul-add", "eligible"), 0);
}

TEST(FuseMatmulAdd, InBranchesAndOfSharedWeights) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (bool c, float[N,5] x) => (float[N,4] y, "
      "float[N,4] z) <" +
          weights("w", {5, 4}) + ", " + weights("b", {4}) + R"(> {
  k = MatMul(x, w)
  z = Add(k, b)
  y = If (c) <
    then_branch = t () => (float[N,4] o) { m = MatMul(x, w) o = Add(m, b) },
    else_branch = e () => (float[N,4] p) {
      one = Constant <value_floats = [1.0]> ()
      q = MatMul(x, w)
      p = Add(one, q)
    }
  >
})",
      {"infer-shapes", "fuse-matmul-add"});
  EXPECT_EQ(checked.run->count("fuse-matmul-add", "fused"), 3);
  EXPECT_EQ(count_nodes(*checked.after, "Gemm"), 3);
  EXPECT_EQ(count_nodes(*checked.after, "Add"), 0);
  const Value& weight = *checked.after->graph().find("w");
  EXPECT_EQ(weight.uses().size(), 3u) << "one weight, three readers";
}

std::string clamps(std::string_view body) {
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[64] x) => (float[64] y) "
         "<float zero = {0.0}, float half = {0.5}, float six = {6.0}, float below = {-1.0}, float "
         "far = {7.0}> { " +
         std::string(body) + " }";
}

TEST(FuseActivation, MergesIntervals) {
  const auto merged = [](std::string_view body) {
    auto checked = check_passes(clamps(body), {"infer-shapes", "fuse-activation"}, 0.0);
    EXPECT_EQ(checked.run->count("fuse-activation", "merged"), 1) << body;
    EXPECT_EQ(checked.after->graph().node_count(), 1u) << body;
    const Node& node = *maker_of(*checked.after, "y");
    return std::tuple(std::string(node.op_type()), constant_scalar(node.input(1)),
                      constant_scalar(node.input(2)));
  };
  using Form = std::tuple<std::string, std::optional<double>, std::optional<double>>;
  EXPECT_EQ(merged("a = Relu(x) y = Clip(a, below, half)"), Form("Clip", 0.0, 0.5));
  EXPECT_EQ(merged("a = Clip(x, below, half) y = Relu(a)"), Form("Clip", 0.0, 0.5));
  EXPECT_EQ(merged("a = Relu(x) y = Relu(a)"), Form("Relu", std::nullopt, std::nullopt));
  EXPECT_EQ(merged("a = Clip(x, below) y = Clip(a, zero)"),
            Form("Relu", std::nullopt, std::nullopt));
  EXPECT_EQ(merged("a = Clip(x, half, far) y = Clip(a, zero, six)"), Form("Clip", 0.5, 6.0));
}

TEST(FuseActivation, WritesAClipFromZeroAsRelu) {
  const auto checked =
      check_passes(clamps("y = Clip(x, zero)"), {"infer-shapes", "fuse-activation"}, 0.0);
  EXPECT_EQ(count_nodes(*checked.after, "Relu"), 1);
}

TEST(FuseActivation, SaysWhyOneStays) {
  auto checked = check_passes(clamps("a = Clip(x, six, far) y = Clip(a, zero, half)"),
                              {"infer-shapes", "fuse-activation"}, 0.0);
  EXPECT_EQ(checked.run->why("Clip node that makes 'y'"),
            "its range and that of 'Clip node that makes 'a'' have nothing in common");
  checked = check_passes(clamps("a = Relu(x) b = Clip(a, zero, half) y = Add(a, b)"),
                         {"infer-shapes", "fuse-activation"}, 0.0);
  EXPECT_EQ(checked.run->why("Clip node that makes 'b'"), "'a' is read 2 times");
  EXPECT_FALSE(checked.run->changed);
}

TEST(FuseActivation, LongChainsBecomeOneNode) {
  const auto checked =
      check_passes(clamps("a = Relu(x) b = Clip(a, below, six) c = Clip(b, zero, far) y = Relu(c)"),
                   {"infer-shapes", "fuse-activation"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(checked.run->count("fuse-activation", "merged"), 3);
  const Node& node = *maker_of(*checked.after, "y");
  EXPECT_EQ(constant_scalar(node.input(1)), 0.0);
  EXPECT_EQ(constant_scalar(node.input(2)), 6.0);
}

TEST(FuseActivation, BoundsThatOthersReadStay) {
  const auto checked = check_passes(clamps("a = Relu(x) b = Clip(a, below, half) y = Mul(b, half)"),
                                    {"infer-shapes", "fuse-activation", "eliminate-dead"}, 0.0);
  EXPECT_EQ(checked.run->count("fuse-activation", "merged"), 1);
  EXPECT_EQ(maker_of(*checked.after, "y")->input(1)->name(), "half");
  EXPECT_EQ(checked.after->graph().find("below"), nullptr);
}

TEST(FuseActivation, TheAttributesOfOldClips) {
  const auto old = [](std::string_view body) {
    return check_passes(
        "<ir_version: 4, opset_import: [\"\" : 10]> g (float[64] x) => (float[64] "
        "y) { " +
            std::string(body) + " }",
        {"infer-shapes", "fuse-activation"}, 0.0);
  };
  auto checked = old("a = Relu(x) y = Clip<min=-1.0,max=0.5>(a)");
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  const Node* node = maker_of(*checked.after, "y");
  EXPECT_EQ(node->float_attribute("min", -9), 0.0f);
  EXPECT_EQ(node->float_attribute("max", -9), 0.5f);
  EXPECT_EQ(node->inputs().size(), 1u);
  checked = old("y = Clip<min=0.0>(x)");
  node = maker_of(*checked.after, "y");
  EXPECT_TRUE(node->is("Relu"));
  EXPECT_TRUE(node->attributes().empty());
}

TEST(FuseActivation, InBodiesButNotAcrossThem) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[64] x) => (float[64] y) <float half = {0.5}> {
  a = Relu(x)
  n = Neg(x)
  y = If (c) <
    then_branch = t () => (float[64] o) { o = Clip(a, , half) },
    else_branch = e () => (float[64] p) { q = Relu(n) p = Clip(q, , half) }
  >
})",
                                    {"infer-shapes", "fuse-activation"}, 0.0);
  EXPECT_EQ(checked.run->count("fuse-activation", "merged"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Relu"), 1);
  EXPECT_EQ(checked.run->why("Clip node that makes 'o'"), "'a' is read inside a nested graph");
}

TEST(FuseActivation, LeavesWhatIsNoConstantIntervalOfReals) {
  for (std::string_view text : {
           // Bounds that are computed, and one that a caller may override.
           "(float[64] x, float h) => (float[64] y) { a = Relu(x) y = Clip(a, , h) }",
           "(float[64] x, float h) => (float[64] y) <float h = {0.5}> "
           "{ a = Relu(x) y = Clip(a, , h) }",
           "(int64[8] x) => (int64[8] y) <int64 zero = {0}> { y = Clip(x, zero) }",
       }) {
    const auto checked =
        check_passes("<ir_version: 8, opset_import: [\"\" : 17]> g " + std::string(text),
                     {"infer-shapes", "fuse-activation"}, 0.0);
    EXPECT_FALSE(checked.run->changed) << text;
  }
  // The first of a chain is an output itself.
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[64] x) => (float[64] y, float[64] a) "
      "<float half = {0.5}> { a = Relu(x) y = Clip(a, , half) }",
      {"infer-shapes", "fuse-activation"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Clip node that makes 'y'"), "'a' is a graph output");
}

}  // namespace
}  // namespace mcompress::testing
