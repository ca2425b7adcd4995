// eliminate-identity, eliminate-dead, eliminate-duplicates, dedup-initializers.
#include <gtest/gtest.h>

#include "mcompress/edit.h"
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
         "int64[1] all = {-1}, int64[3] rows = {0,-2,2}, int64[3] turned = {0,2,1}, float[0] none "
         "= "
         "{}, float[3] by1 = {1.0,1.0,1.0}, float[3] by2 = {1.0,1.0,2.0}, float[1,1] m1 = {1.0}, "
         "float[1,1] m2 = {2.0}, float[1,1,1,1] m4 = {1.0}, int64[1] third = {3}> { " +
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
           "a = Gather<axis=1>(x, rows) y = Neg(a)",
           "a = Resize(x, none, by1) y = Neg(a)",
           "a = Resize(x, none, none, same) y = Neg(a)",
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
           {"a = Gather<axis=1>(x, turned) y = Neg(a)", "2,3,4"},
           {"a = Gather<axis=2>(x, rows) y = Neg(a)", "2,3,3"},
           {"a = Resize(x, none, by2) y = Neg(a)", "2,3,8"},
       }) {
    const auto checked =
        check_passes(image(body, out), {"infer-shapes", "eliminate-identity"}, 0.0);
    EXPECT_EQ(checked.after->graph().node_count(), 2u) << body;
    EXPECT_FALSE(checked.run->changed) << body;
  }
}

TEST(EliminateIdentity, AProductWithTheMatrixOne) {
  for (const auto& [body, out, left] :
       std::vector<std::tuple<std::string_view, std::string_view, std::size_t>>{
           {"u = Unsqueeze(x, third) a = MatMul(u, m1) y = Neg(a)", "2,3,4,1", 2},
           {"u = Unsqueeze(x, third) a = MatMul(u, m4) y = Neg(a)", "2,3,4,1", 2},
           {"u = Unsqueeze(x, third) t = Transpose<perm=[0,1,3,2]>(u) a = MatMul(m1, t) y = Neg(a)",
            "2,3,1,4", 3},
           {"u = Unsqueeze(x, third) a = MatMul(u, m2) y = Neg(a)", "2,3,4,1", 3},
           {"u = Unsqueeze(x, third) s = Slice(x, start, axis, axis) t = Slice(s, start, axis, "
            "start) v = Squeeze(t, start) w = Transpose(v) a = MatMul(w, m4) y = Neg(a)",
            "1,1,4,1", 6},
       }) {
    const auto checked = check_passes(
        image(body, out), {"infer-shapes", "eliminate-identity", "eliminate-dead"}, 0.0);
    EXPECT_EQ(checked.after->graph().node_count(), left) << body;
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

// Whatever stood between two names that may not change, an Identity keeps them apart.
TEST(EliminateIdentity, BetweenNamesOfTheInterfaceAnIdentityRemains) {
  for (const char* body : {"y = Mul(x, one)", "a = Cast<to=11>(x) y = Cast<to=1>(a)",
                           "a, b = Split<axis=0>(x, sizes) y = Concat<axis=0>(a, b)",
                           "y, mask = Dropout(x, half)", "y = Slice(x, zero, ends)"}) {
    const auto checked = check_passes(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[4] x) => (float[4] y) <float one = "
        "{1}, float half = {0.5}, int64[2] sizes = {1,3}, int64[1] zero = {0}, int64[1] ends = "
        "{9}> { " +
            std::string(body) + " }",
        {"infer-shapes", "eliminate-identity", "merge-casts", "merge-slices", "eliminate-dead"},
        0.0);
    EXPECT_EQ(checked.after->graph().node_count(), 1U) << body;
    EXPECT_EQ(count_nodes(*checked.after, "Identity"), 1) << body;
    EXPECT_EQ(count_initializers(*checked.after), 0) << body;
  }
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

TEST(EliminateDead, KeepsWhatIsReadAnywhere) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[4] x) => (float[4] y, float[4] shown, float[2] first)
<float[4] captured = {1.0, 2.0, 3.0, 4.0}, float[4] shown = {4.0, 3.0, 2.0, 1.0}, int64[2] parts = {2, 2}> {
  first, second = Split<axis=0>(x, parts)
  y = If (c) <
    then_branch = t () => (float[4] o) { o = Add(x, captured) },
    else_branch = e () => (float[4] p) { p = Neg(x) }
  >
})",
                                    {"eliminate-dead"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->applied(), 0);
}

TEST(EliminateDead, ALoopWithWhatItCaptures) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (int64 trips, float[2] x) => (float[2] y)
<bool keep = {1}, float[2] w = {1.0, 2.0}> {
  n = Neg(x)
  unused = Loop (trips, keep, x) <
    body = b (int64 i, bool k, float[2] a) => (bool ko, float[2] ao)
    <float[2] inner = {3.0, 4.0}> {
      ko = Identity(k)
      s = Add(n, w)
      ao = Mul(s, inner)
    }
  >
  y = Relu(x)
})",
                                    {"eliminate-dead"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(count_initializers(*checked.after), 0);
  EXPECT_EQ(checked.run->count("eliminate-dead", "nodes"), 2);
}

TEST(EliminateDead, EffectsInsideABranchOrAFunctionCount) {
  auto model = model_from_text(R"(
<ir_version: 9, opset_import: ["" : 17, "custom" : 1, "local" : 1]>
g (bool c, float[2] x) => (float[2] y) {
  quiet = local.plain(x)
  loud = local.outer(x)
  a = If (c) <
    then_branch = t () => (float[2] o) { o = custom.Print(x) },
    else_branch = e () => (float[2] p) { p = Neg(x) }
  >
  y = Relu(x)
}
<domain: "local", opset_import: ["" : 17]>
plain (u) => (v) { v = Neg(u) }
<domain: "local", opset_import: ["" : 17, "local" : 1]>
outer (u) => (v) { v = local.prints(u) }
<domain: "local", opset_import: ["custom" : 1]>
prints (u) => (v) { v = custom.Print(u) })");
  const auto run = run_passes(*model, {"eliminate-dead"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(run->count("eliminate-dead", "nodes"), 1);
  EXPECT_EQ(maker_of(*model, "quiet"), nullptr);
  ASSERT_NE(maker_of(*model, "loud"), nullptr);
  ASSERT_NE(maker_of(*model, "a"), nullptr);
  constexpr std::string_view kWhy =
      "nothing reads it, but an operator of domain 'custom' may have effects";
  EXPECT_EQ(run->why("If node that makes 'a'"), kWhy);
  EXPECT_EQ(run->why("outer node that makes 'loud'"), kWhy);
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

TEST(EliminateDuplicates, OnlyOfEqualAttributesAndOutputs) {
  const auto merged = [](std::string_view body, std::string_view out = "2,3,4") {
    return check_passes(image(body, out), {"eliminate-duplicates"}, 0.0)
        .run->count("eliminate-duplicates", "merged");
  };
  EXPECT_EQ(merged("a = LeakyRelu<alpha=0.5>(x) b = LeakyRelu<alpha=0.5>(x) y = Add(a, b)"), 1);
  EXPECT_EQ(merged("a = LeakyRelu<alpha=0.5>(x) b = LeakyRelu<alpha=0.25>(x) y = Add(a, b)"), 0);
  EXPECT_EQ(merged("a = Elu<alpha=0.0>(x) b = Elu<alpha=-0.0>(x) y = Add(a, b)"), 0);
  EXPECT_EQ(merged("a = Neg(x) b = Abs(x) y = Add(a, b)"), 0);
  EXPECT_EQ(merged("a = Mul(x, one) b = Mul(one, x) y = Add(a, b)"), 1);
  EXPECT_EQ(merged("a = Sub(x, one) b = Sub(one, x) y = Add(a, b)"), 0);
  // Three terms are not added in any order with the same result.
  EXPECT_EQ(merged("a = Sum(x, one, zero) b = Sum(one, x, zero) y = Add(a, b)"), 0);
  // Both outputs of one go where those of the other went.
  EXPECT_EQ(merged("a, m = MaxPool<kernel_shape=[1]>(x) b, n = MaxPool<kernel_shape=[1]>(x) "
                   "s = Add(a, b) t = Add(m, n) f = Cast<to=1>(t) y = Add(s, f)"),
            1);
  EXPECT_EQ(merged("a, m = MaxPool<kernel_shape=[1]>(x) b = MaxPool<kernel_shape=[1]>(x) "
                   "f = Cast<to=1>(m) s = Add(a, b) y = Add(s, f)"),
            1);
  EXPECT_EQ(merged("b = MaxPool<kernel_shape=[1]>(x) a, m = MaxPool<kernel_shape=[1]>(x) "
                   "f = Cast<to=1>(m) s = Add(a, b) y = Add(s, f)"),
            0);
}

TEST(EliminateDuplicates, InEachGraphForItself) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] y) {
  n = Neg(x)
  y = If (c) <
    then_branch = t () => (float[2] o) { a = Exp(n) b = Exp(n) o = Add(a, b) },
    else_branch = e () => (float[2] p) { d = Exp(n) p = Exp(n) }
  >
})",
                                    {"eliminate-duplicates"}, 0.0);
  // Two in the one branch; in the other one of the two is what the branch gives back.
  EXPECT_EQ(checked.run->count("eliminate-duplicates", "merged"), 2);
  EXPECT_EQ(count_nodes(*checked.after, "Exp"), 2);
}

TEST(EliminateDuplicates, ANodeOfABodyReadsWhatStandsOutsideBeforeIt) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] y) {
  n = Exp(x)
  z = If (c) <
    then_branch = t () => (float[2] o) { a = Exp(x) b = Neg(x) o = Add(a, b) },
    else_branch = e () => (float[2] p) { p = Exp(x) }
  >
  m = Neg(x)
  y = Sum(m, n, z)
})",
                                    {"eliminate-duplicates"}, 0.0);
  EXPECT_EQ(checked.run->count("eliminate-duplicates", "merged"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Exp"), 2);  // a body has to make its output itself
  EXPECT_EQ(count_nodes(*checked.after, "Neg"), 2);  // the outer one comes too late
  EXPECT_NE(checked.run->why("Exp node that makes 'p'").find("nested graph"), std::string::npos);
}

TEST(EliminateDuplicates, CustomOperatorsAndCallsStay) {
  auto model = model_from_text(R"(
<ir_version: 9, opset_import: ["" : 17, "custom" : 1, "local" : 1]>
g (float[2] x) => (float[2] y) {
  a = custom.Count(x)
  b = custom.Count(x)
  c = local.f(x)
  d = local.f(x)
  y = Sum(a, b, c, d)
}
<domain: "local", opset_import: ["" : 17]>
f (u) => (v) { v = RandomNormalLike(u) })");
  EXPECT_FALSE(run_passes(*model, {"eliminate-duplicates"})->changed);
}

TEST(EliminateDuplicates, EqualConstantsOfAnyKind) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) {
  a = Constant <value = float[2] {1.0, 2.0}> ()
  b = Constant <value = float[2] {1.0, 2.0}> ()
  c = Constant <value = float[1,2] {1.0, 2.0}> ()
  d = Constant <value_floats = [1.0, 2.0]> ()
  e = Constant <value_floats = [1.0, 2.0]> ()
  s = Sum(x, a, b, d, e)
  k = Constant <value_ints = [2]> ()
  m = Mul(s, c)
  y = Reshape(m, k)
})",
                                    {"eliminate-duplicates"}, 0.0);
  EXPECT_EQ(checked.run->count("eliminate-duplicates", "merged"), 2);
  EXPECT_EQ(count_nodes(*checked.after, "Constant"), 4);
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

TEST(DedupInitializers, BytesDecideNotNumbers) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[1] x) => (float[1] y, int32[1] i)
<float[1] zero = {0.0}, float[1] minus = {-0.0}, int32[1] whole = {0}, int32[1] nought = {0}> {
  a = Add(x, zero)
  y = Add(a, minus)
  i = Add(whole, nought)
})",
                                    {"dedup-initializers"}, 0.0);
  EXPECT_EQ(checked.run->count("dedup-initializers", "merged"), 1);
  EXPECT_EQ(checked.after->graph().find("nought"), nullptr);
  EXPECT_NE(checked.after->graph().find("minus"), nullptr);
}

// Equal weights of 32 x `columns` in both branches of an If.
std::string branches(std::int64_t columns) {
  const std::string n = std::to_string(columns);
  const auto branch = [&](std::string_view name) {
    return weights("w", {32, columns})
        .replace(0, std::string("float[32," + n + "] w").size(),
                 "float[32," + n + "] " + std::string(name));
  };
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (bool c, float[2,32] x) => (float[2," + n +
         "] y) { y = If (c) < then_branch = t () => (float[2," + n + "] o) <" + branch("a") +
         "> { o = MatMul(x, a) }, else_branch = e () => (float[2," + n + "] p) <" + branch("b") +
         "> { q = MatMul(x, b) p = Neg(q) } > }";
}

TEST(DedupInitializers, LargeOnesOfSiblingBranchesMoveOut) {
  const auto checked = check_passes(branches(16), {"dedup-initializers"}, 0.0);
  EXPECT_EQ(checked.run->count("dedup-initializers", "merged"), 1);
  EXPECT_EQ(checked.run->count("dedup-initializers", "bytes"), 32 * 16 * 4);
  EXPECT_EQ(count_initializers(*checked.after), 1);
  EXPECT_EQ(checked.after->graph().initializers().size(), 1u);
  // A small one costs more as a captured value than it saves.
  const auto small = check_passes(branches(1), {"dedup-initializers"}, 0.0);
  EXPECT_FALSE(small.run->changed);
}

TEST(DedupInitializers, AnOutputIsKeptForTheOthers) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y, float[2] k)
<float[2] k = {1.0, 2.0}, float[2] a = {1.0, 2.0}> { y = Add(x, a) })",
                                    {"dedup-initializers"}, 0.0);
  EXPECT_EQ(checked.run->count("dedup-initializers", "merged"), 1);
  EXPECT_EQ(maker_of(*checked.after, "y")->input(1)->name(), "k");
}

TEST(DedupInitializers, ReadsLargeOnesWholeWhenTheirSamplesAgree) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,300000] x) => (float[N,300000] y) {
  a = Add(x, x)
  b = Add(a, x)
  c = Add(b, x)
  y = Add(c, x)
})");
  Editor editor(*model);
  // The second and the third equal the first; the last differs in its last element only.
  for (int i = 0; i < 4; ++i) {
    std::vector<float> numbers(300000, 0.25f);
    if (i == 3) numbers.back() = 0.5f;
    Value& w = editor.add_initializer(model->graph(), "w", make_float_tensor(numbers, {300000}));
    editor.set_input(*maker_of(*model, std::string(1, "abcy"[i])), 1, &w);
  }
  const auto run = run_passes(*model, {"dedup-initializers"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(run->count("dedup-initializers", "merged"), 2);
  EXPECT_EQ(maker_of(*model, "c")->input(1), maker_of(*model, "a")->input(1));
  EXPECT_NE(maker_of(*model, "y")->input(1), maker_of(*model, "a")->input(1));
}

TEST(DedupInitializers, SmallOnesStayWhenAskedTo) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y)
<float[2] a = {1.0, 2.0}, float[2] b = {1.0, 2.0}> { s = Add(x, a) y = Mul(s, b) })");
  EXPECT_FALSE(run_passes(*model, {"dedup-initializers:{\"min-bytes\": 9}"})->changed);
  EXPECT_TRUE(run_passes(*model, {"dedup-initializers:{\"min-bytes\": 8}"})->changed);
}

}  // namespace
}  // namespace mcompress::testing
