// fuse-layer-norm and fuse-rms-norm.
#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string graph(std::string_view body, int opset = 17, std::string_view type = "float[N,3,8]") {
  return "<ir_version: 10, opset_import: [\"\" : " + std::to_string(opset) + "]> g (" +
         std::string(type) + " x) => (" + std::string(type) +
         " y) <float two = {2}, float one = {1}, float zero = {0}, float e = {0.001}, float nth = "
         "{0.125}, float minus_half = {-0.5}, float[1] eight = {8}, int64[1] last = {-1}, " +
         weights("g", {8}) + ", " + weights("b", {8}) + ", " + weights("gt", {3, 1}) + "> { " +
         std::string(body) + " }";
}

const std::vector<std::string> kLayer = {"infer-shapes", "fuse-layer-norm"};
const std::vector<std::string> kRms = {"infer-shapes", "fuse-rms-norm"};

constexpr const char* kSpellings[] = {
    // written by PyTorch and Paddle
    "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) q = Pow(d, two) v = ReduceMean<axes = [-1]>(q) w "
    "= Add(v, e) s = Sqrt(w) n = Div(d, s) k = Mul(n, g) y = Add(k, b)",
    // one difference for each use
    "m = ReduceMean<axes = [2]>(x) d = Sub(x, m) d2 = Sub(x, m) q = Mul(d2, d2) v = "
    "ReduceMean<axes "
    "= [2]>(q) w = Add(e, v) s = Sqrt(w) n = Div(d, s) k = Mul(g, n) y = Add(b, k)",
    // sums and factors
    "t = ReduceSum(x, last) m = Mul(t, nth) d = Sub(x, m) q = Mul(d, d) u = ReduceSum(q, last) v = "
    "Div(u, eight) w = Add(v, e) s = Sqrt(w) r = Reciprocal(s) n = Mul(d, r) k = Mul(n, g) y = "
    "Add(k, b)",
    // written by Keras: gamma first, and the mean with beta
    "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes = [-1]>(q) w = "
    "Add(v, e) s = Sqrt(w) r = Reciprocal(s) k = Mul(r, g) a = Mul(x, k) c = Mul(m, k) o = Sub(b, "
    "c) y = Add(a, o)",
    // the mean of squares
    "m = ReduceMean<axes = [-1]>(x) q = Mul(x, x) p = ReduceMean<axes = [-1]>(q) mm = Mul(m, m) f "
    "= "
    "Sub(p, mm) v = Max(zero, f) w = Add(v, e) s = Sqrt(w) d = Sub(x, m) n = Div(d, s) k = Mul(n, "
    "g) y = Add(k, b)",
    "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) u = ReduceSumSquare<axes = [-1]>(d) v = Mul(u, "
    "nth) w = Add(v, e) s = Sqrt(w) i = Div(one, s) k = Mul(i, g) a = Mul(d, k) y = Add(a, b)",
    "m = ReduceMean<axes = [-1]>(x) d = Sub(m, x) q = Mul(d, d) v = ReduceMean<axes = [-1]>(q) w = "
    "Add(v, e) r = Pow(w, minus_half) n = Mul(d, r) k = Mul(n, g) y = Sub(b, k)",
};

TEST(FuseLayerNorm, InEverySpelling) {
  for (const char* body : kSpellings) {
    const auto checked = check_passes(graph(body), kLayer);
    EXPECT_EQ(checked.after->graph().node_count(), 1u) << body;
    const Node& node = *maker_of(*checked.after, "y");
    ASSERT_TRUE(node.is("LayerNormalization")) << body;
    EXPECT_EQ(node.int_attribute("axis", 0), -1);
    EXPECT_FLOAT_EQ(node.float_attribute("epsilon", 0), 0.001f);
    EXPECT_EQ(node.input(1)->name(), "g") << body;
    EXPECT_EQ(node.input(2)->name(), "b") << body;
  }
}

constexpr const char* kPlain =
    "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) q = Pow(d, two) v = ReduceMean<axes = [-1]>(q) w "
    "= Add(v, e) s = Sqrt(w) ";

TEST(FuseLayerNorm, WithoutScaleOrShift) {
  auto checked = check_passes(graph(std::string(kPlain) + "y = Div(d, s)"), kLayer);
  ASSERT_TRUE(maker_of(*checked.after, "y")->is("LayerNormalization"));
  EXPECT_EQ(maker_of(*checked.after, "y")->inputs().size(), 2u);
  checked = check_passes(
      graph(std::string(kPlain) + "n = Div(d, s) k = Mul(n, two) y = Add(k, one)"), kLayer);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(maker_of(*checked.after, "y")->inputs().size(), 3u);
}

// A scale along another axis stays outside.
TEST(FuseLayerNorm, TakesOnlyScalesOfTheLastAxes) {
  const auto checked =
      check_passes(graph(std::string(kPlain) + "n = Div(d, s) y = Mul(n, gt)"), kLayer);
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
  EXPECT_TRUE(maker_of(*checked.after, "y")->is("Mul"));
}

TEST(FuseLayerNorm, OverSeveralAxes) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 18]> g (float[N,2,3,4] x) => (float[N,2,3,4] y) "
      "<int64[2] axes = {3,2}, float two = {2}, float e = {0.001}, " +
          weights("g", {1, 1, 3, 4}) + ", " + weights("b", {3, 4}) +
          "> { m = ReduceMean(x, axes) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, axes) w = "
          "Add(v, e) s = Sqrt(w) n = Div(d, s) k = Mul(n, g) y = Add(k, b) }",
      kLayer);
  ASSERT_TRUE(maker_of(*checked.after, "y")->is("LayerNormalization"));
  EXPECT_EQ(maker_of(*checked.after, "y")->int_attribute("axis", 0), -2);
}

TEST(FuseLayerNorm, RaisesTheOpsetWhereThatPays) {
  const auto checked = check_passes(graph(kSpellings[0], 13), kLayer);
  EXPECT_EQ(checked.after->opset(""), 17);
  EXPECT_EQ(count_nodes(*checked.after, "LayerNormalization"), 1);
  auto model = model_from_text(graph(kSpellings[0], 13));
  const auto generic = run_passes_for("generic-qdq", *model, kLayer);
  EXPECT_FALSE(generic->changed);
  EXPECT_EQ(generic->why("Add node that makes 'y'"),
            "LayerNormalization needs opset 17, the model has 13");
}

TEST(FuseLayerNorm, SaysWhyOneStays) {
  const auto why = [](const std::string& text, std::string_view node) {
    const auto checked = check_passes(text, kLayer, 0.0);
    EXPECT_FALSE(checked.run->changed) << text;
    EXPECT_EQ(checked.run->count("fuse-layer-norm", "eligible"), 1) << text;
    return checked.run->why(node);
  };
  EXPECT_EQ(why(graph("m = ReduceMean<axes = [1]>(x) d = Sub(x, m) q = Mul(d, d) v = "
                      "ReduceMean<axes = [1]>(q) w = Add(v, e) s = Sqrt(w) y = Div(d, s)"),
                "Sqrt node that makes 's'"),
            "'x' is normalised over other axes than the last");
  EXPECT_EQ(why(graph(std::string(kPlain) + "y = Div(d, s)", 17, "float[N,3,K]"),
                "Div node that makes 'y'"),
            "the size of the last axes of 'x' is unknown");
  EXPECT_EQ(why(graph(std::string(kPlain) + "n = Div(d, s) z = Exp(s) y = Mul(n, z)"),
                "Div node that makes 'n'"),
            "'s' is read 2 times");
  EXPECT_EQ(why("<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,8] x) => (float[N,8] y, "
                "float[N,1] "
                "m) <float two = {2}, float e = {0.001}> { " +
                    std::string(kPlain) + "y = Div(d, s) }",
                "Div node that makes 'y'"),
            "'m' is a graph output");
}

TEST(FuseLayerNorm, LeavesWhatIsNone) {
  for (const char* body : {
           // no epsilon; another mean; an unbiased variance; not the mean of x
           "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes = "
           "[-1]>(q) "
           "s = Sqrt(v) t = Add(s, e) y = Div(d, t)",
           "m = ReduceMean<axes = [1]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes = "
           "[-1]>(q) "
           "w = Add(v, e) s = Sqrt(w) y = Div(d, s)",
           "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) q = Mul(d, d) u = ReduceSum(q, last) v = "
           "Mul(u, e) w = Add(v, e) s = Sqrt(w) y = Div(d, s)",
           "z = Neg(x) m = ReduceMean<axes = [-1]>(z) d = Sub(x, m) q = Mul(d, d) v = "
           "ReduceMean<axes = [-1]>(q) w = Add(v, e) s = Sqrt(w) y = Add(d, s)",
       }) {
    const auto checked = check_passes(graph(body), kLayer, 0.0);
    EXPECT_EQ(checked.run->count("fuse-layer-norm", "fused"), 0) << body;
    EXPECT_FALSE(checked.run->changed) << body;
  }
}

TEST(FuseLayerNorm, InBranches) {
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (bool c, float[2,8] x) => (float[2,8] y) "
      "<float "
      "two = {2}, float e = {0.001}> { y = If (c) < then_branch = t () => (float[2,8] o) { " +
          std::string(kPlain) +
          "o = Div(d, s) }, else_branch = f () => (float[2,8] p) { p = Neg(x) } > }",
      kLayer);
  EXPECT_EQ(checked.run->count("fuse-layer-norm", "fused"), 1);
}

TEST(FuseRmsNorm, InEverySpelling) {
  for (const char* body : {
           "q = Pow(x, two) v = ReduceMean(q, last) w = Add(v, e) s = Sqrt(w) r = Reciprocal(s) n "
           "= "
           "Mul(x, r) y = Mul(g, n)",
           "q = Mul(x, x) v = ReduceMean(q, last) w = Add(v, e) s = Sqrt(w) r = Div(one, s) n = "
           "Mul(x, r) y = Mul(n, g)",
           "q = Pow(x, two) u = ReduceSum(q, last) v = Div(u, eight) w = Add(e, v) s = Sqrt(w) k = "
           "Mul(x, g) y = Div(k, s)",
       }) {
    const auto checked = check_passes(graph(body, 23), kRms);
    EXPECT_EQ(checked.after->graph().node_count(), 1u) << body;
    ASSERT_TRUE(maker_of(*checked.after, "y")->is("RMSNormalization")) << body;
    EXPECT_EQ(maker_of(*checked.after, "y")->input(1)->name(), "g");
    // That is no layer normalisation.
    EXPECT_EQ(check_passes(graph(body, 23), kLayer).run->count("fuse-layer-norm", "eligible"), 0);
  }
}

TEST(FuseRmsNorm, StaysBeforeOpset23) {
  const auto checked =
      check_passes(graph("q = Mul(x, x) v = ReduceMean<axes = [-1]>(q) w = Add(v, e) "
                         "s = Sqrt(w) n = Div(x, s) y = Mul(n, g)",
                         17),
                   kRms, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Mul node that makes 'y'"),
            "RMSNormalization needs opset 23, the model has 17");
}

}  // namespace
}  // namespace mcompress::testing
