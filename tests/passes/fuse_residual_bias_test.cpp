#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

const std::vector<std::string> kPasses = {"infer-shapes", "fuse-residual-bias"};
constexpr std::string_view kPass = "fuse-residual-bias";

std::string model(std::string_view body, std::string_view outputs = "float[2,3,5] y") {
  return "<ir_version: 9, opset_import: [\"\" : 17]> g (float[2,3,4] x) => (" +
         std::string(outputs) + ") <" + weights("g", {4}, 0.5f, 1.5f) + "," + weights("b", {4}) +
         "," + weights("w", {4, 4}) + "," + weights("c", {4}) + "," + weights("q", {4, 5}) + "," +
         weights("d", {5}) + "," + weights("one", {1}) + "> { n = LayerNormalization(x, g, b) " +
         std::string(body) + " }";
}

const std::string kProduct = "h = Relu(p0) m = MatMul(h, w) ";
const std::string kReader = "r0 = MatMul(n, w) p0 = Add(r0, b) ";
const std::string kEnd = "l = LayerNormalization(s, g, b) z = MatMul(l, q) y = Add(z, d)";

TEST(FuseResidualBias, MovesIntoTheNormalisation) {
  for (const char* sum : {"a = Add(m, c) s = Add(a, n) ", "a = Add(c, m) s = Add(n, a) ",
                          "a = Add(m, n) s = Add(a, c) ", "a = Add(n, m) s = Add(c, a) "}) {
    const auto checked = check_passes(model(kReader + kProduct + sum + kEnd), kPasses);
    EXPECT_EQ(checked.run->count(kPass, "fused"), 1) << sum;
    EXPECT_EQ(count_nodes(*checked.after, "Add"), 3) << sum;
    EXPECT_EQ(checked.after->graph().node_count() + 1, checked.before->graph().node_count());
    // b + c
    const auto shift = constant_reals(maker_of(*checked.after, "n")->input(2));
    const auto b = constant_reals(maker_of(*checked.before, "n")->input(2));
    ASSERT_TRUE(shift && b);
    const Node& old = *maker_of(*checked.before, "s");
    const Node& inner = *maker_of(*checked.before, "a");
    for (const Node* add : {&old, &inner}) {
      for (const Value* input : add->inputs()) {
        if (input->name() != "c") continue;
        const auto c = constant_reals(input);
        for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR((*shift)[i], (*b)[i] + (*c)[i], 1e-6);
      }
    }
    // d - c W
    const Node& reader = *maker_of(*checked.after, "p0");
    const auto bias = constant_reals(reader.input(1));
    const auto w = constant_reals(maker_of(*checked.before, "r0")->input(1));
    std::optional<std::vector<double>> c;
    for (const Value* value : checked.before->graph().initializers()) {
      if (value->name() == "c") c = constant_reals(value);
    }
    ASSERT_TRUE(bias && w && c);
    for (std::size_t o = 0; o < 4; ++o) {
      double expected = (*b)[o];
      for (std::size_t i = 0; i < 4; ++i) expected -= (*c)[i] * (*w)[i * 4 + o];
      EXPECT_NEAR((*bias)[o], expected, 1e-6);
    }
  }
}

TEST(FuseResidualBias, OneForEachLayer) {
  const std::string layer =
      kReader + kProduct +
      "a = Add(m, c) s = Add(a, n) n2 = LayerNormalization(s, g, b) r1 = MatMul(n2, w) p1 = "
      "Add(r1, b) h1 = Tanh(p1) m1 = MatMul(h1, w) a1 = Add(m1, c) s1 = Add(a1, n2) "
      "l = LayerNormalization(s1, g, b) z = MatMul(l, q) y = Add(z, d)";
  const auto checked = check_passes(model(layer), kPasses);
  EXPECT_EQ(checked.run->count(kPass, "fused"), 2);
  EXPECT_EQ(count_nodes(*checked.after, "Add"), 5);
}

TEST(FuseResidualBias, WithoutAShiftBefore) {
  const auto checked = check_passes(
      "<ir_version: 9, opset_import: [\"\" : 17]> g (float[2,3,4] x) => (float[2,3,4] y) <" +
          weights("g", {4}) + "," + weights("w", {4, 4}) + "," + weights("c", {4}) +
          "> { n = LayerNormalization(x, g) h = Relu(x) m = MatMul(h, w) a = Add(m, c) y = Add(a, "
          "n) }",
      kPasses);
  EXPECT_EQ(checked.run->count(kPass, "fused"), 1);
  EXPECT_EQ(maker_of(*checked.after, "n")->inputs().size(), 3u);
}

TEST(FuseResidualBias, SaysWhatForbidsIt) {
  const auto why = [](const std::string& text, std::string_view subject) {
    const auto checked = check_passes(text, kPasses, 0.0);
    EXPECT_FALSE(checked.run->changed) << text;
    return checked.run->why(subject);
  };
  const std::string a = "Add node that makes 'a'";
  const std::string sum = "a = Add(m, c) s = Add(a, n) ";
  EXPECT_EQ(why(model("r0 = MatMul(n, w) p0 = Neg(r0) " + kProduct + sum + kEnd), a),
            "MatMul 'MatMul node that makes 'r0'' has no bias for a shift");
  EXPECT_EQ(why(model("p0 = Neg(n) " + kProduct + sum + kEnd), a),
            "'n' is read by Neg 'Neg node that makes 'p0'' too");
  EXPECT_EQ(why(model(kReader + kProduct + sum + kEnd, "float[2,3,5] y, float[2,3,4] n"), a),
            "'n' is a graph output");
  EXPECT_EQ(why(model(kReader + kProduct + "a = Add(m, one) s = Add(a, n) " + kEnd), a),
            "its constant is not one number per channel");
  // The sum is not what the bias alone goes into.
  for (const char* other : {"a = Add(m, c) t = Neg(a) s0 = Add(a, n) s = Add(s0, t) ",
                            "a = Add(m, c) s = Mul(a, n) ", "a = Add(m, c) s = Add(a, x) "}) {
    EXPECT_FALSE(check_passes(model(kReader + kProduct + other + kEnd), kPasses, 0.0).run->changed)
        << other;
  }
}

}  // namespace
}  // namespace mcompress::testing
