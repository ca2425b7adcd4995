#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string graph(std::string_view body, int opset = 14) {
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) +
         "]> g (float[N,4,6] x) => (float[N,4,6] y) <float zero = {0}, float one = {1}, float[1] "
         "three = {3}, float six = {6}, float sixth = {0.16666667}, float half = {0.5}, float two "
         "= "
         "{2}> { " +
         std::string(body) + " }";
}

const std::vector<std::string> kPasses = {"infer-shapes", "fuse-hard-swish"};

constexpr const char* kSwishes[] = {
    "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
    "a = Add(three, x) c = Clip(a, zero, six) m = Mul(c, x) y = Mul(sixth, m)",
    "a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Mul(d, x)",
    "a = Add(x, three) c = Clip(a, zero, six) h = Mul(x, sixth) y = Mul(h, c)",
    "a = Add(x, three) r = Relu(a) c = Min(r, six) m = Mul(x, c) y = Div(m, six)",
    "a = Add(x, three) r = Relu(a) c = Clip(r, zero, six) m = Mul(x, c) y = Div(m, six)",
    "a = Add(x, three) r = Max(zero, a) c = Min(six, r) m = Mul(x, c) y = Mul(m, sixth)",
    "a = Add(x, three) r = Min(a, six) c = Relu(r) m = Mul(x, c) y = Mul(m, sixth)",
    "m = Mul(x, sixth) a = Add(m, half) c = Clip(a, zero, one) y = Mul(c, x)",
    "h = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(h, x)",
    "t = Mul(x, two) h = HardSigmoid<alpha = 0.083333333, beta = 0.5>(t) y = Mul(x, h)",
};

TEST(FuseHardSwish, InEveryOrder) {
  for (const char* body : kSwishes) {
    const auto checked = check_passes(graph(body), kPasses);
    EXPECT_EQ(checked.after->graph().node_count(), 1u) << body;
    EXPECT_EQ(count_nodes(*checked.after, "HardSwish"), 1) << body;
    EXPECT_EQ(checked.run->count("fuse-hard-swish", "fused"), 1) << body;
  }
}

TEST(FuseHardSwish, IsASigmoidAndAProductBeforeOpset14) {
  for (const char* body : kSwishes) {
    const auto checked = check_passes(graph(body, 13), kPasses);
    EXPECT_EQ(checked.after->opset(""), 13);
    EXPECT_EQ(count_nodes(*checked.after, "HardSigmoid"), 1) << body;
    EXPECT_EQ(count_nodes(*checked.after, "Mul"), 1) << body;
    EXPECT_EQ(checked.after->graph().node_count(), 2u) << body;
  }
  const auto there = check_passes(
      graph("h = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(h, x)", 13), kPasses, 0.0);
  EXPECT_FALSE(there.run->changed);
  EXPECT_EQ(there.run->why("Mul node that makes 'y'"),
            "HardSwish needs opset 14, the model has 13");
}

TEST(FuseHardSwish, OldClipsHaveAttributes) {
  const auto checked = check_passes(
      "<ir_version: 6, opset_import: [\"\" : 10]> g (float[N,4] x) => (float[N,4] y) <float three "
      "= "
      "{3}, float six = {6}> { a = Add(x, three) c = Clip<min = 0.0, max = 6.0>(a) m = Mul(x, c) y "
      "= Div(m, six) }",
      kPasses);
  EXPECT_EQ(count_nodes(*checked.after, "HardSigmoid"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Clip"), 0);
}

TEST(FuseHardSwish, SigmoidsThatStandAlone) {
  const struct {
    const char* body;
    float alpha, beta;
  } cases[] = {
      {"a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)", 1.0f / 6, 0.5f},
      {"a = Add(x, three) c = Clip(a, zero, six) y = Mul(sixth, c)", 1.0f / 6, 0.5f},
      {"m = Mul(x, sixth) a = Add(m, half) y = Clip(a, zero, one)", 1.0f / 6, 0.5f},
      {"m = Mul(x, half) y = Clip(m, zero, one)", 0.5f, 0.0f},
      {"a = Add(x, three) r = Relu(a) c = Min(r, six) y = Div(c, six)", 1.0f / 6, 0.5f},
      // From 3 to 6, moved to 0 and divided.
      {"a = Max(x, three) c = Min(a, six) d = Sub(c, three) y = Div(d, three)", 1.0f / 3, -1.0f},
  };
  for (const auto& [body, alpha, beta] : cases) {
    const auto checked = check_passes(graph(body), kPasses);
    EXPECT_EQ(checked.after->graph().node_count(), 1u) << body;
    const Node& node = *maker_of(*checked.after, "y");
    ASSERT_TRUE(node.is("HardSigmoid")) << body;
    EXPECT_NEAR(node.float_attribute("alpha", 0), alpha, 1e-6f) << body;
    EXPECT_NEAR(node.float_attribute("beta", 9), beta, 1e-6f) << body;
  }
}

TEST(FuseHardSwish, LeavesOtherClamps) {
  for (const char* body : {
           "y = Clip(x, zero, six)",
           "y = HardSigmoid(x)",
           "a = Add(x, half) y = Clip(a, zero, one)",
           "c = Clip(x, zero, six) d = Div(c, half) y = Mul(d, half)",
           "a = Add(x, three) c = Clip(a, one, six) m = Mul(x, c) y = Div(m, six)",
           "a = Add(x, half) c = Clip(a, zero, six) m = Mul(x, c) y = Sub(m, six)",
           "a = Add(x, three) c = Clip(a, zero) m = Mul(x, c) y = Div(m, six)",
           "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Sub(m, six)",
           "r = Relu(x) y = Mul(r, x)",
       }) {
    const auto checked = check_passes(graph(body), kPasses, 0.0);
    EXPECT_FALSE(checked.run->changed) << body;
    EXPECT_EQ(checked.run->count("fuse-hard-swish", "eligible"), 0) << body;
  }
}

TEST(FuseHardSwish, SaysWhyOneStays) {
  const std::string head = "<ir_version: 8, opset_import: [\"\" : 17]> g ";
  const std::string given = "<float zero = {0}, float three = {3}, float six = {6}> ";
  const std::string swish =
      "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six) ";
  const auto why = [&](const std::string& text) {
    const auto checked = check_passes(head + text, kPasses, 0.0);
    EXPECT_FALSE(checked.run->changed) << text;
    EXPECT_EQ(checked.run->count("fuse-hard-swish", "eligible"), 1) << text;
    return checked.run->why("Div node that makes 'y'");
  };
  EXPECT_EQ(why("(float[2,3] x) => (float[2,3] y, float[2,3] m) " + given + "{ " + swish + " }"),
            "'m' is a graph output");
  EXPECT_EQ(why("(float[2,3] x) => (float[2,3] y, float[2,3] z) " + given + "{ " + swish +
                "z = Exp(a) }"),
            "'a' is read 2 times");
  EXPECT_EQ(why("(bool b, float[2,3] x) => (float[2,3] y, float[2,3] z) " + given + "{ " + swish +
                R"( z = If (b) <
    then_branch = t () => (float[2,3] o) { o = Neg(c) },
    else_branch = f () => (float[2,3] p) { p = Neg(x) }
  > })"),
            "'c' is read inside a nested graph");
  EXPECT_EQ(why("(double[2,3] x) => (double[2,3] y) <double zero = {0}, double three = {3}, double "
                "six = {6}> { " +
                swish + " }"),
            "'x' is float64, only float32 is merged");
}

TEST(FuseHardSwish, BoundsThatACallerMayOverrideAreNoConstants) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,4] x, float six) => (float[N,4] y) "
      "<float zero = {0}, float three = {3}, float six = {6}> { a = Add(x, three) c = Clip(a, "
      "zero, "
      "six) m = Mul(x, c) y = Div(m, six) }",
      kPasses, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

TEST(FuseHardSwish, InBranches) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 13]> g (bool b, float[2,3] x) => (float[2,3] y)
<float zero = {0}, float three = {3}, float six = {6}> {
  y = If (b) <
    then_branch = t () => (float[2,3] o) { a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) o = Div(m, six) },
    else_branch = f () => (float[2,3] p) { p = Neg(x) }
  >
})",
                                    kPasses);
  EXPECT_EQ(checked.run->count("fuse-hard-swish", "fused"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "HardSigmoid"), 1);
}

}  // namespace
}  // namespace mcompress::testing
