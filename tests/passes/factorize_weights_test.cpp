// factorize-weights: matrices of known rank, sites that must stay whole, ranks within a budget.
#include <gtest/gtest.h>

#include <cmath>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr double kExact = 1e-4;

std::string model(std::string_view signature, std::string_view initializers,
                  std::string_view body) {
  return "<ir_version: 8, opset_import: [\"\" : 17]> g " + std::string(signature) + " <" +
         std::string(initializers) + "> { " + std::string(body) + " }";
}

// A matrix of rank 4: sums of products of four pairs of waves.
std::string rank_four(std::string_view name, std::size_t rows, std::size_t columns,
                      std::string_view dims) {
  std::string text = "float[" + std::string(dims) + "] " + std::string(name) + " = {";
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      double sum = 0;
      for (std::size_t k = 1; k <= 4; ++k) {
        sum += std::sin(0.37 * static_cast<double>((r + 1) * k)) *
               std::cos(0.23 * static_cast<double>((c + 2) * k)) / static_cast<double>(k);
      }
      text += (r + c > 0 ? "," : "") + std::to_string(sum);
    }
  }
  return text + "}";
}

Checked factorized(const std::string& text, const std::string& options, double tolerance = kExact) {
  return check_passes(text, {"lift-constants", "infer-shapes", "factorize-weights:" + options},
                      tolerance);
}

const std::string kAll = R"({"min-elements": 64, "layer-sqnr": 80})";

TEST(FactorizeWeights, FindsTheRankOfProducts) {
  const auto checked = factorized(model("(float[N,48] x) => (float[N,64] y)",
                                        rank_four("w", 48, 64, "48,64"), "y = MatMul(x, w)"),
                                  kAll);
  EXPECT_EQ(checked.run->applied("factorize-weights"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "MatMul"), 2);
  const Value* left = checked.after->graph().find("w_left");
  ASSERT_NE(left, nullptr);
  EXPECT_EQ(left->initializer()->dims()[1], 8);  // the least step above 4
  EXPECT_EQ(checked.after->graph().find("w"), nullptr);
}

TEST(FactorizeWeights, KeepsWhatGemmAndConvolutionsDoBesides) {
  const auto gemm = factorized(model("(float[N,48] x) => (float[N,64] y)",
                                     rank_four("w", 64, 48, "64,48") + ", " + weights("b", {64}),
                                     "y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b)"),
                               kAll);
  EXPECT_EQ(gemm.run->applied("factorize-weights"), 1);
  EXPECT_EQ(count_nodes(*gemm.after, "Gemm"), 1);
  EXPECT_EQ(count_nodes(*gemm.after, "MatMul"), 1);
  const auto conv =
      factorized(model("(float[1,48,5,7] x) => (float[1,64,H,W] y)",
                       rank_four("w", 64, 48, "64,48,1,1") + ", " + weights("b", {64}),
                       "y = Conv<strides = [2, 1], pads = [1, 0, 1, 2]>(x, w, b)"),
                 kAll);
  EXPECT_EQ(conv.run->applied("factorize-weights"), 1);
  EXPECT_EQ(count_nodes(*conv.after, "Conv"), 2);
}

TEST(FactorizeWeights, LeavesAloneWhatWouldNotGain) {
  struct Case {
    std::string initializers, body, why;
  };
  const std::string many = weights("w", {48, 64});
  for (const auto& [initializers, body, why] :
       {Case{many, "y = MatMul(x, w)", "is the largest that saves anything"},
        Case{rank_four("w", 48, 64, "48,64"),
             "a = MatMul(x, w) b = Relu(a) c = MatMul(x, w) "
             "y = Add(b, c)",
             "is read 2 times"},
        Case{rank_four("w", 48, 64, "48,64"), "z = Softmax(w) y = MatMul(x, z)",
             "is not a weight of"}}) {
    const auto checked =
        factorized(model("(float[N,48] x) => (float[N,64] y)", initializers, body), kAll);
    EXPECT_EQ(checked.run->applied("factorize-weights"), 0) << body;
    EXPECT_NE(checked.run->why("w").find(why), std::string::npos) << checked.run->why("w");
  }
}

// Two layers, one of rank 4 and one of full rank, within 80 % of the weights: the first gives.
TEST(FactorizeWeights, SpreadsRanksWhereTheyCostLeast) {
  const auto checked =
      factorized(model("(float[N,64] x) => (float[N,64] y)",
                       rank_four("w", 64, 64, "64,64") + ", " + weights("v", {64, 64}),
                       "h = MatMul(x, w) y = MatMul(h, v)"),
                 R"({"min-elements": 64, "keep": 0.7})", 1e-3);
  EXPECT_NE(checked.after->graph().find("w_left"), nullptr);
  EXPECT_EQ(checked.after->graph().find("v_left"), nullptr);
}

}  // namespace
}  // namespace mcompress::testing
