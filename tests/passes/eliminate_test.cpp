// eliminate-identity, eliminate-dead, eliminate-duplicates, dedup-initializers.
#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string image(std::string_view body, std::string_view out = "2,3,4") {
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2,3,4] x) => (float[" +
         std::string(out) +
         "] y) <float one = {1.0}, float zero = {0.0}, float[1,1,1] one3 = {1.0}, float[1,1,1,1] "
         "one4 = {1.0}, int64[3] same = {2,3,4}, int64[3] open = {0,-1,4}, int64[6] nothing = "
         "{0,0,0,0,0,0}, int64[1] start = {0}, int64[1] end = {9223372036854775807}, int64[1] "
         "three = {3}, int64[1] axis = {1}, int64[3] ones = {1,1,1}, int64[2] two = {6,4}, "
         "int64[1] all = {-1}> { " +
         std::string(body) + " }";
}

TEST(EliminateIdentity, RemovesWhatChangesNothing) {
  for (std::string_view body : {
           "a = Identity(x) y = Neg(a)",
           "a = Dropout(x) y = Neg(a)",
           "a = Cast<to=1>(x) y = Neg(a)",
           "a = Transpose<perm=[0,1,2]>(x) y = Neg(a)",
           "a = Reshape(x, same) y = Neg(a)",
           "a = Reshape(x, open) y = Neg(a)",
           "a = Pad(x, nothing) y = Neg(a)",
           "a = Slice(x, start, end, axis) y = Neg(a)",
           "a = Slice(x, start, three, axis) y = Neg(a)",
           "a = Expand(x, same) y = Neg(a)",
           "a = Expand(x, ones) y = Neg(a)",
           "a = Tile(x, ones) y = Neg(a)",
           "a = Concat<axis=1>(x) y = Neg(a)",
           "a = Sum(x) y = Neg(a)",
           "a = Max(x) y = Neg(a)",
           "a = Mul(x, one) y = Neg(a)",
           "a = Mul(one3, x) y = Neg(a)",
           "a = Div(x, one) y = Neg(a)",
           "a = Pow(x, one) y = Neg(a)",
           "a = Add(zero, x) y = Neg(a)",
           "a = Sub(x, zero) y = Neg(a)",
           "a = Clip(x) y = Neg(a)",
           "a = Squeeze(x2, axis) y = Neg(a)",
           "b = Transpose<perm=[2,0,1]>(x) a = Transpose<perm=[1,2,0]>(b) y = Neg(a)",
           "b = Reshape(x, two) a = Reshape(b, same) y = Neg(a)",
       }) {
    std::string text = image(body);
    if (const auto at = text.find("x2"); at != std::string::npos) {
      text = image("u = Unsqueeze(x, axis) a = Squeeze(u, axis) y = Neg(a)");
    }
    const auto checked = check_passes(text, {"infer-shapes", "eliminate-identity"}, 0.0);
    EXPECT_EQ(checked.after->graph().node_count(), 1u) << text;
    EXPECT_GE(checked.run->count("eliminate-identity", "removed"), 1) << body;
  }
}

TEST(EliminateIdentity, LeavesWhatChangesTheShapeOrTheNumbers) {
  for (const auto& [body, out] : std::vector<std::pair<std::string_view, std::string_view>>{
           {"a = Mul(x, one4) y = Neg(a)", "1,2,3,4"},
           {"a = Sub(zero, x) y = Neg(a)", "2,3,4"},
           {"a = Transpose<perm=[0,2,1]>(x) y = Neg(a)", "2,4,3"},
           {"a = Reshape(x, two) y = Neg(a)", "6,4"},
           {"a = Slice(x, axis, end, axis) y = Neg(a)", "2,2,4"},
           {"a = Flatten(x) y = Neg(a)", "2,12"},
       }) {
    const auto checked =
        check_passes(image(body, out), {"infer-shapes", "eliminate-identity"}, 0.0);
    EXPECT_EQ(checked.after->graph().node_count(), 2u) << body;
    EXPECT_FALSE(checked.run->changed) << body;
  }
}

TEST(EliminateIdentity, MergesTranspositionsAndViews) {
  auto checked =
      check_passes(image("a = Transpose<perm=[0,2,1]>(x) y = Transpose<perm=[1,0,2]>(a)", "4,2,3"),
                   {"eliminate-identity"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(*maker_of(*checked.after, "y")->ints_attribute("perm"),
            (std::vector<std::int64_t>{2, 0, 1}));
  checked =
      check_passes(image("a = Flatten(x) y = Reshape(a, two)", "6,4"), {"eliminate-identity"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  // The inner one stays where it is read elsewhere.
  checked =
      check_passes(image("a = Transpose<perm=[0,2,1]>(x) b = Relu(a) c = "
                         "Transpose<perm=[0,2,1]>(a) d = Transpose<perm=[0,2,1]>(b) y = Add(c, d)"),
                   {"eliminate-identity"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 4u);
}

TEST(EliminateIdentity, KeepsTheNamesOfTheInterface) {
  auto checked = check_passes(image("a = Neg(x) y = Identity(a)"), {"eliminate-identity"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
  checked = check_passes(image("y = Identity(x)"), {"eliminate-identity"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(checked.run->why("Identity node that makes 'y'"),
            "'y' and 'x' are both part of the model's interface");
}

TEST(EliminateIdentity, ABranchKeepsComputingItsOutput) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] y) {
  y = If (c) <
    then_branch = a () => (float[2] o) { o = Identity(x) },
    else_branch = b () => (float[2] p) { q = Identity(x) p = Neg(q) }
  >
})",
                                    {"eliminate-identity"}, 0.0);
  EXPECT_EQ(count_nodes(*checked.after, "Identity"), 1);
  EXPECT_NE(checked.run->why("Identity node that makes 'o'").find("nested graph"),
            std::string::npos);
}

TEST(EliminateIdentity, DropoutStaysWithItsMaskOrInTraining) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, bool training) => (float[2] y, bool[2] m) {
  a, m = Dropout(x)
  b = Dropout(a, , training)
  y = Neg(b)
})",
                                    {"eliminate-identity"}, 10.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Dropout node that makes 'a'"), "its mask is used");
  EXPECT_EQ(checked.run->why("Dropout node that makes 'b'"), "it may be in training mode");
}

TEST(EliminateDead, FollowsChainsAcrossGraphs) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] y)
<float[2] used = {1.0, 2.0}, float[2] unused = {1.0, 2.0}, float[2] dead = {1.0, 2.0}> {
  a = Add(x, dead)
  b = Neg(a)
  z = If (c) <
    then_branch = t () => (float[2] o) { o = Neg(b) },
    else_branch = e () => (float[2] p) { p = Identity(b) }
  >
  d = Abs(x)
  y = If (c) <
    then_branch = t2 () => (float[2] q) <float[2] inner = {3.0, 4.0}> { r = Exp(d)  q = Add(x, used) },
    else_branch = e2 () => (float[2] s) { s = Neg(x) }
  >
})",
                                    {"eliminate-dead"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(count_nodes(*checked.after, "Exp"), 0);
  EXPECT_EQ(count_initializers(*checked.after), 1);
  EXPECT_EQ(checked.run->count("eliminate-dead", "nodes"), 5);
  EXPECT_EQ(checked.run->count("eliminate-dead", "initializers"), 3);
  EXPECT_EQ(checked.run->count("eliminate-dead", "bytes"), 24);
}

TEST(EliminateDead, LeavesOverridableInputsAndUnknownOperators) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17, "custom" : 1]>
g (float[2] x, float[2] w) => (float[2] y)
<float[2] w = {1.0, 2.0}> {
  a = custom.Print(x)
  y = Neg(x)
})");
  const auto run = run_passes(*model, {"eliminate-dead"});
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("Print node that makes 'a'"),
            "nothing reads it, but an operator of domain 'custom' may have effects");
}

TEST(EliminateDead, TakesAChainOfTenThousandNodes) {
  auto model = model_from_bytes(chain_bytes(10'000));
  Editor editor(*model);
  // Cut the chain behind the first node: everything that follows is dead.
  Graph& graph = model->graph();
  Value& end = *graph.outputs()[0];
  ASSERT_TRUE(end.uses().size() == 1);
  editor.redirect(end.uses()[0], *graph.first()->output(0));
  const auto run = run_passes(*model, {"eliminate-dead"});
  EXPECT_EQ(model->graph().node_count(), 1u);
  EXPECT_EQ(run->count("eliminate-dead", "nodes"), 9'999);
}

TEST(EliminateDuplicates, CollapsesEqualChains) {
  const auto checked = check_passes(image("a = Transpose<perm=[2,1,0]>(x) b = Neg(a) c = "
                                          "Transpose<perm=[2,1,0]>(x) d = Neg(c) e = "
                                          "Transpose<perm=[0,1,2]>(x) y = Sum(b, d)",
                                          "4,3,2"),
                                    {"eliminate-duplicates"}, 0.0);
  EXPECT_EQ(checked.run->count("eliminate-duplicates", "merged"), 2);
  EXPECT_EQ(count_nodes(*checked.after, "Transpose"), 2);
}

TEST(EliminateDuplicates, LeavesRandomNodesAndTwoOutputs) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y, float[2] z, float[2] r) {
  y = Neg(x)
  z = Neg(x)
  a = RandomNormalLike(x)
  b = RandomNormalLike(x)
  c = Sub(a, a)
  d = Sub(b, b)
  r = Add(c, d)
})",
                                    {"eliminate-duplicates"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_NE(checked.run->why("Neg node that makes 'z'").find("part of the model's interface"),
            std::string::npos);
}

TEST(EliminateDuplicates, OfAnOutputAndAnInnerValueTheNameStays) {
  const auto checked = check_passes(image("a = Neg(x) y = Neg(x) b = Relu(a)"),
                                    {"eliminate-duplicates", "eliminate-dead"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
}

TEST(DedupInitializers, KeepsOneCopyInSight) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] y)
<float[2] a = {1.0, 2.0}, float[2] b = {1.0, 2.0}, float[1,2] other = {1.0, 2.0}, float[2] near = {1.0, 2.5}> {
  s = Add(x, a)
  t = Mul(s, b)
  u = Mul(t, near)
  v = If (c) <
    then_branch = p () => (float[2] o) <float[2] i = {1.0, 2.0}> { o = Add(u, i) },
    else_branch = q () => (float[2] r) { r = Neg(u) }
  >
  w = Mul(v, other)
  k = Constant <value_ints = [2]> ()
  y = Reshape(w, k)
})",
                                    {"dedup-initializers"}, 0.0);
  EXPECT_EQ(checked.run->count("dedup-initializers", "merged"), 2);
  EXPECT_EQ(checked.run->count("dedup-initializers", "bytes"), 16);
  EXPECT_EQ(count_initializers(*checked.after), 3);
}

TEST(DedupInitializers, LeavesOutputsAndOverridableOnes) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, float[2] w) => (float[2] y, float[2] k)
<float[2] a = {1.0, 2.0}, float[2] k = {1.0, 2.0}, float[2] w = {1.0, 2.0}> {
  s = Add(x, a)
  y = Mul(s, w)
})",
                                    {"dedup-initializers"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("k"), "it equals 'a' but is a graph output");
}

}  // namespace
}  // namespace mcompress::testing
