#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string graph(std::string_view body, int opset = 20, std::string_view more = "") {
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) +
         "]> g (float[N,4,6] x) => (float[N,4,6] y) <float half = {0.5}, float one = {1}, float "
         "root = {1.41421354}, float inverse = {0.70710677}, float[1] ones = {1}, float three = "
         "{3}, float cubic = {0.044715}, float slope = {0.79788458}, float two = {2}" +
         std::string(more) + "> { " + std::string(body) + " }";
}

const std::vector<std::string> kPasses = {"infer-shapes", "fuse-gelu"};

void becomes_one(const std::string& body, std::string_view approximate) {
  const auto checked = check_passes(graph(body), kPasses);
  EXPECT_EQ(checked.after->graph().node_count(), 1u) << body;
  EXPECT_EQ(count_nodes(*checked.after, "Gelu"), 1) << body;
  EXPECT_EQ(maker_of(*checked.after, "y")->string_attribute("approximate", "none"), approximate);
  EXPECT_EQ(checked.run->count("fuse-gelu", "fused"), 1);
}

TEST(FuseGelu, WithErfInEveryOrder) {
  for (const char* body : {
           "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
           "d = Mul(inverse, x) e = Erf(d) a = Add(ones, e) h = Mul(half, x) y = Mul(a, h)",
           "d = Div(x, root) e = Erf(d) a = Add(e, one) h = Mul(a, half) y = Mul(h, x)",
           "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Div(m, two)",
           "d = Div(x, root) e = Erf(d) k = Mul(e, half) a = Add(k, half) y = Mul(x, a)",
           "d = Div(x, root) e = Erf(d) h = Mul(x, half) k = Mul(h, e) y = Add(k, h)",
           "n = Neg(x) d = Div(n, root) k = Neg(d) e = Erf(k) a = Add(e, one) m = Mul(x, a) y = "
           "Mul(m, half)",
       }) {
    becomes_one(body, "none");
  }
}

TEST(FuseGelu, WithTanhInEveryOrder) {
  for (const char* body : {
           "p = Pow(x, three) c = Mul(p, cubic) s = Add(x, c) t = Mul(s, slope) u = Tanh(t) a = "
           "Add(u, one) m = Mul(x, a) y = Mul(m, half)",
           "q = Mul(x, x) p = Mul(q, x) c = Mul(cubic, p) s = Add(c, x) t = Mul(slope, s) u = "
           "Tanh(t) a = Add(one, u) h = Mul(half, x) y = Mul(h, a)",
           "b = Mul(cubic, x) q = Mul(x, b) p = Mul(x, q) s = Add(x, p) t = Mul(slope, s) u = "
           "Tanh(t) a = Add(one, u) h = Mul(half, a) y = Mul(x, h)",
           "q = Pow(x, two) c = Mul(q, cubic) k = Add(one, c) s = Mul(x, slope) t = Mul(s, k) u = "
           "Tanh(t) a = Add(one, u) m = Mul(a, x) y = Mul(half, m)",
       }) {
    becomes_one(body, "tanh");
  }
}

TEST(FuseGelu, OfASumIsOfTheSum) {
  const auto checked = check_passes(
      graph("z = Add(x, one) d = Div(z, root) e = Erf(d) a = Add(e, one) m = Mul(z, a) y = Mul(m, "
            "half)"),
      kPasses);
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
  EXPECT_EQ(maker_of(*checked.after, "y")->input(0)->name(), "z");
}

const std::string kErf =
    "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)";

TEST(FuseGelu, RaisesTheOpsetWhereThatPays) {
  const auto checked = check_passes(graph(kErf, 17), kPasses);
  EXPECT_EQ(count_nodes(*checked.after, "Gelu"), 1);
  EXPECT_EQ(checked.after->opset(""), 20);
  EXPECT_EQ(checked.run->count("fuse-gelu", "opset-from"), 17);
  // Nothing to merge: nothing moves.
  EXPECT_FALSE(check_passes(graph("y = Erf(x)", 17), kPasses).run->changed);
}

TEST(FuseGelu, SaysWhyTheOpsetStays) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2,3,4,4] x) => (float[2,3,2,2] z) "
      "<float "
      "half = {0.5}, float one = {1}, float root = {1.41421354}> { " +
          kErf +
          " z = AveragePool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1, "
          "count_include_pad "
          "= 1>(y) }",
      kPasses, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Mul node that makes 'y'"),
            "Gelu needs opset 20, the model has 17 and can not move: 'AveragePool node that makes "
            "'z'': AveragePool 19 counts padding differently when ceil_mode is set");
}

TEST(FuseGelu, MovesNoModelForATargetThatDoesNotAskForIt) {
  auto other = model_from_text(graph(kErf, 17));
  const auto generic = run_passes_for("generic-qdq", *other, kPasses);
  EXPECT_FALSE(generic->changed);
  EXPECT_EQ(generic->why("Mul node that makes 'y'"), "Gelu needs opset 20, the model has 17");
  other = model_from_text(graph(kErf, 20));
  EXPECT_EQ(run_passes_for("generic-qdq", *other, kPasses)->count("fuse-gelu", "fused"), 1);
}

TEST(FuseGelu, LeavesWhatIsNoGelu) {
  for (const char* body : {
           // another factor, another shift, another argument
           "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, one)",
           "d = Div(x, root) e = Erf(d) a = Add(e, half) m = Mul(x, a) y = Mul(m, half)",
           "d = Div(x, two) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
           "d = Div(x, root) e = Erf(d) a = Sub(one, e) m = Mul(x, a) y = Mul(m, half)",
           "z = Add(x, one) d = Div(z, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, "
           "half)",
           "p = Pow(x, two) c = Mul(p, cubic) s = Add(x, c) t = Mul(s, slope) u = Tanh(t) a = "
           "Add(u, one) m = Mul(x, a) y = Mul(m, half)",
       }) {
    const auto checked = check_passes(graph(body), kPasses, 0.0);
    EXPECT_FALSE(checked.run->changed) << body;
    EXPECT_EQ(checked.run->count("fuse-gelu", "eligible"), 0) << body;
  }
}

TEST(FuseGelu, SaysWhyOneStays) {
  const auto why = [](const std::string& text) {
    const auto checked = check_passes(text, kPasses, 0.0);
    EXPECT_FALSE(checked.run->changed) << text;
    EXPECT_EQ(checked.run->count("fuse-gelu", "eligible"), 1);
    return checked.run->why("Mul node that makes 'y'");
  };
  const std::string head = "<ir_version: 8, opset_import: [\"\" : 20]> g ";
  const std::string given = "<float half = {0.5}, float one = {1}, float root = {1.41421354}> ";
  EXPECT_EQ(
      why(head + "(float[2,3] x) => (float[2,3] y, float[2,3] e) " + given + "{ " + kErf + " }"),
      "'e' is a graph output");
  EXPECT_EQ(why(head + "(float[2,3] x) => (float[2,3] y, float[2,3] z) " + given + "{ " + kErf +
                " z = Neg(a) }"),
            "'a' is read 2 times");
  EXPECT_EQ(why(head + "(bool c, float[2,3] x) => (float[2,3] y, float[2,3] z) " + given + "{ " +
                kErf + R"( z = If (c) <
    then_branch = t () => (float[2,3] o) { o = Neg(a) },
    else_branch = f () => (float[2,3] p) { p = Neg(x) }
  > })"),
            "'a' is read inside a nested graph");
  auto model =
      model_from_text(head +
                      "(double[2,3] x) => (double[2,3] y) <double half = {0.5}, double one "
                      "= {1}, double root = {1.4142135623730951}> { " +
                      kErf + " }");
  const auto run = run_passes(*model, kPasses);
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("Mul node that makes 'y'"), "'x' is float64, only float32 is merged");
}

// A constant of more axes than x would give the result more axes, too.
TEST(FuseGelu, ConstantsThatAddAxesAreNoNumbers) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 20]> g (float[6] x) => (float[1,6] y) <float[1,1] "
      "half "
      "= {0.5}, float one = {1}, float root = {1.41421354}> { " +
          kErf + " }",
      kPasses, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

TEST(FuseGelu, InBranches) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 20]> g (bool c, float[2,3] x) => (float[2,3] y)
<float half = {0.5}, float one = {1}, float root = {1.41421354}> {
  y = If (c) <
    then_branch = t () => (float[2,3] o) { d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) o = Mul(m, half) },
    else_branch = f () => (float[2,3] p) { p = Neg(x) }
  >
})",
                                    kPasses);
  EXPECT_EQ(checked.run->count("fuse-gelu", "fused"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Gelu"), 1);
}

}  // namespace
}  // namespace mcompress::testing
