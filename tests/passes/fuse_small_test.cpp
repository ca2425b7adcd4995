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

}  // namespace
}  // namespace mcompress::testing
