#include <gtest/gtest.h>

#include "ir/walk.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::string_view kHead = "<ir_version: 10, opset_import: [\"\" : 17, \"l\" : 1]>\n";

Checked inlined(const std::string& rest, const std::string& options = "") {
  const std::string pass = "inline-functions" + (options.empty() ? "" : ":" + options);
  return check_passes(std::string(kHead) + rest, {pass}, 0.0);
}

TEST(InlineFunctions, OneCall) {
  const auto checked = inlined(R"(g (float[2,3] x) => (float[2,3] y) { y = l.f(x, x) }
<domain: "l", opset_import: ["" : 17]> f (a, b) => (c) { t = Add(a, b) c = Neg(t) })");
  EXPECT_TRUE(checked.after->functions().empty());
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
  EXPECT_EQ(checked.run->count("inline-functions", "calls"), 1);
  EXPECT_EQ(checked.run->applied(), 1);
}

TEST(InlineFunctions, NamesStayUnique) {
  // The names of the function are those of the model, twice over, and a nested graph has one.
  const auto checked = inlined(R"(g (float[2] a) => (float[2] c) {
  t = l.f(a)
  u = l.f(t)
  k = Constant<value = bool {1}>()
  c = If (k) < then_branch = z () => (float[2] d) { q = l.f(u) d = l.f(q) },
               else_branch = e () => (float[2] h) { h = Identity(u) } >
}
<domain: "l", opset_import: ["" : 17]> f (x) => (y) { t = Neg(x) a = Exp(t) y = Add(a, t) })");
  EXPECT_TRUE(checked.after->functions().empty());
  EXPECT_EQ(count_nodes(*checked.after, "Exp"), 4);
}

TEST(InlineFunctions, AttributesComeFromTheCallOrTheDefault) {
  const auto checked = inlined(R"(g (float[2,3] x) => (float[2,3] y, float[2,3] z, float[2,3] w) {
  y = l.f<slope = 0.5>(x)
  z = l.f(x)
  w = l.g2(x)
}
<domain: "l", opset_import: ["" : 17]>
f <slope: float = 0.25> (a) => (b) { b = LeakyRelu<alpha: float = @slope>(a) }
<domain: "l", opset_import: ["" : 17]>
g2 <slope> (a) => (b) { b = LeakyRelu<alpha: float = @slope>(a) })");
  EXPECT_EQ(maker_of(*checked.after, "y")->float_attribute("alpha", 0), 0.5f);
  EXPECT_EQ(maker_of(*checked.after, "z")->float_attribute("alpha", 0), 0.25f);
  // Neither: as if the node did not have it.
  EXPECT_EQ(maker_of(*checked.after, "w")->attribute("alpha"), nullptr);
}

TEST(InlineFunctions, AttributesPassThroughNestedCalls) {
  const auto checked = inlined(R"(g (float[2,3] x) => (float[2,3] y) { y = l.outer<k = 0.75>(x) }
<domain: "l", opset_import: ["" : 17, "l" : 1]>
outer <k> (a) => (b) { t = l.inner<slope: float = @k>(a) b = l.inner<slope = 0.5>(t) }
<domain: "l", opset_import: ["" : 17]>
inner <slope> (a) => (b) { b = LeakyRelu<alpha: float = @slope>(a) })");
  EXPECT_TRUE(checked.after->functions().empty());
  const Node* last = maker_of(*checked.after, "y");
  EXPECT_EQ(last->float_attribute("alpha", 0), 0.5f);
  EXPECT_EQ(last->input(0)->producer()->float_attribute("alpha", 0), 0.75f);
}

TEST(InlineFunctions, AttributesReachGraphsInsideTheFunction) {
  const auto checked = inlined(R"(g (bool c, float[2] x) => (float[2] y) { y = l.f<k = 0.5>(c, x) }
<domain: "l", opset_import: ["" : 17]>
f <k> (p, a) => (b) {
  t = Neg(a)
  b = If (p) < then_branch = u () => (m) { m = LeakyRelu<alpha: float = @k>(t) },
               else_branch = v () => (n) { n = Add(a, t) } >
})");
  EXPECT_TRUE(checked.after->functions().empty());
  for_each_node(checked.after->graph(), [&](Node& node) {
    if (node.is("LeakyRelu")) {
      EXPECT_EQ(node.float_attribute("alpha", 0), 0.5f);
    }
  });
}

TEST(InlineFunctions, InputsAndOutputsThatAreLeftOut) {
  const auto checked = inlined(R"(g (float[2,3] x) => (float[2,3] y) <float m = {0.5}> {
  y = l.f(x, , m)
  u, w = l.two(x)
}
<domain: "l", opset_import: ["" : 17]> f (a, low, high) => (b) { b = Clip(a, low, high) }
<domain: "l", opset_import: ["" : 17]> two (a) => (b, c) { b = Neg(a) c = Exp(b) })");
  const Node* clip = maker_of(*checked.after, "y");
  ASSERT_EQ(clip->inputs().size(), 3u);
  EXPECT_EQ(clip->input(1), nullptr);
}

// ONNX Runtime refuses such functions, so that there is nothing to compare with.
TEST(InlineFunctions, WhatAFunctionOnlyPassesOnIsCopied) {
  auto model =
      model_from_text(std::string(kHead) + R"(g (float[2] x) => (float[2] y, float[2] z, float[2] w)
{ y, z, w = l.f(x) }
<domain: "l", opset_import: ["" : 17]> f (a) => (a, b, b) { b = Neg(a) })");
  EXPECT_TRUE(run_passes(*model, {"inline-functions"})->status.ok());
  EXPECT_EQ(count_nodes(*model, "Identity"), 2);
  const auto expected = model_from_text(std::string(kHead) +
                                        "g (float[2] x) => (float[2] y, float[2] z, float[2] w) "
                                        "{ y = Identity(x) z = Neg(x) w = Neg(x) }");
  expect_same_results(*expected, *model, 0.0);
}

TEST(InlineFunctions, WhatACallLeavesOutCanNotBeHandedOut) {
  auto model = model_from_text(std::string(kHead) + R"(g (float[2] x) => (float[2] y)
{ y, z = l.f(x) }
<domain: "l", opset_import: ["" : 17]> f (a, b) => (c, b) { c = Neg(a) })");
  const auto run = run_passes(*model, {"inline-functions"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_EQ(run->why("f"), "function 'f' hands out its input 'b', which the call leaves out");
  EXPECT_EQ(model->functions().size(), 1u);
}

TEST(InlineFunctions, OverloadsAreTakenApart) {
  const auto checked = inlined(R"(g (float[2] x) => (float[2] y, float[2] z)
{ y = l.f:one(x) z = l.f:two(x) }
<domain: "l", overload: "one", opset_import: ["" : 17]> f (a) => (b) { b = Neg(a) }
<domain: "l", overload: "two", opset_import: ["" : 17]> f (a) => (b) { b = Abs(a) })");
  EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "Neg");
  EXPECT_EQ(maker_of(*checked.after, "z")->op_type(), "Abs");
}

TEST(InlineFunctions, OnlyTheNamedOnes) {
  const std::string text = R"(g (float[2] x) => (float[2] y) { t = l.f(x) y = l.h(t) }
<domain: "l", opset_import: ["" : 17]> f (a) => (b) { b = Neg(a) }
<domain: "l", opset_import: ["" : 17, "l" : 1]> h (a) => (b) { t = l.f(a) b = Exp(t) })";
  const auto checked = inlined(text, R"({"functions": ["f"]})");
  ASSERT_EQ(checked.after->functions().size(), 1u);
  EXPECT_EQ(checked.after->functions()[0].name, "h");
  // Where the function that stays called it, it is written out as well.
  EXPECT_EQ(checked.after->functions()[0].body->first()->op_type(), "Neg");
  const auto by_domain = inlined(text, R"({"functions": ["l.?"]})");
  EXPECT_TRUE(by_domain.after->functions().empty());
  EXPECT_FALSE(inlined(text, R"({"functions": ["k"]})").run->changed);
}

TEST(InlineFunctions, UnusedOnesGo) {
  const auto checked = inlined(R"(g (float[2] x) => (float[2] y) { y = Relu(x) }
<domain: "l", opset_import: ["" : 17]> f (a) => (b) { b = Neg(a) })");
  EXPECT_TRUE(checked.after->functions().empty());
  EXPECT_TRUE(checked.run->changed);
  EXPECT_EQ(checked.run->count("inline-functions", "functions-removed"), 1);
}

TEST(InlineFunctions, ManyCallsOfALargeFunctionWouldGrowTheFile) {
  std::string body = "t0 = Neg(a) ";
  for (int i = 1; i < 40; ++i) {
    body += "t" + std::to_string(i) + " = Neg(t" + std::to_string(i - 1) + ") ";
  }
  std::string calls = "v0 = l.f(x) ";
  for (int i = 1; i < 10; ++i) {
    calls += "v" + std::to_string(i) + " = l.f(v" + std::to_string(i - 1) + ") ";
  }
  const std::string text = "g (float[2] x) => (float[2] v9) { " + calls + "}\n" +
                           "<domain: \"l\", opset_import: [\"\" : 17]> f (a) => (t39) { " + body +
                           "}";
  const auto kept = inlined(text);
  EXPECT_EQ(kept.after->functions().size(), 1u);
  EXPECT_FALSE(kept.run->changed);
  EXPECT_NE(kept.run->why("f").find("its 10 calls would add about"), std::string::npos);
  const auto forced = inlined(text, R"({"inline-growth": 1000000})");
  EXPECT_EQ(forced.after->graph().node_count(), 400u);
  const auto named = inlined(text, R"({"functions": ["f"]})");
  EXPECT_EQ(named.after->graph().node_count(), 400u);
}

TEST(InlineFunctions, CallsThatDoubleAtEveryLevelAreRefused) {
  std::string text = std::string(kHead) + "g (float[2] x) => (float[2] y) { y = l.f0(x) }\n";
  for (int i = 0; i < 40; ++i) {
    const std::string next = "l.f" + std::to_string(i + 1);
    text += "<domain: \"l\", opset_import: [\"\" : 17, \"l\" : 1]> f" + std::to_string(i) +
            " (a) => (c) { b = " + next + "(a) c = " + next + "(b) }\n";
  }
  text += "<domain: \"l\", opset_import: [\"\" : 17]> f40 (a) => (b) { b = Neg(a) }";
  auto model = model_from_text(text);
  // By itself it takes what is cheap; asked for all, it says no.
  EXPECT_TRUE(run_passes(*model, {"inline-functions"})->status.ok());
  const auto run = run_passes(*model, {R"(inline-functions:{"functions": ["*"]})"});
  ASSERT_FALSE(run->status.ok());
  EXPECT_EQ(run->status.error().diagnostic.id, "too-many-inlined-nodes");
}

TEST(InlineFunctions, AFunctionOfAnotherOpsetIsMigrated) {
  // 17 and 13 mean the same by ReduceSum, not by Squeeze of 12.
  auto model = model_from_text(std::string(kHead) + R"(g (float[2,1,3] x) => (float[2,3] y)
{ t = l.f(x) y = l.h(t) }
<domain: "l", opset_import: ["" : 12]> f (a) => (b) { t = Squeeze<axes=[1]>(a) b = Neg(t) }
<domain: "l", opset_import: ["" : 13]> h (a) => (b) { b = Abs(a) })");
  const auto run = run_passes(*model, {"inline-functions"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_TRUE(model->functions().empty());
  EXPECT_TRUE(check_model(*model).ok());
  const auto expected = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 12]> g (float[2,1,3] x) => (float[2,3] y)
{ t = Squeeze<axes=[1]>(x) u = Neg(t) y = Abs(u) })");
  expect_same_results(*expected, *model, 0.0);
}

TEST(InlineFunctions, AFunctionThatMeansSomethingElseStays) {
  auto model = model_from_text(std::string(kHead) + R"(g (float[2,3] x) => (float[2,3] y)
{ y = l.f<k=1>(x) }
<domain: "l", opset_import: ["" : 12]> f <k> (a) => (b) { b = Softmax<axis: int = @k>(a) })");
  const auto run = run_passes(*model, {"inline-functions"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("f"),
            "it is written for version 12 of ONNX's operators, the model for version 17; Softmax: "
            "its attribute 'axis' depends on the call of the function");
}

TEST(InlineFunctions, ImportsComeAlong) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17, "l" : 1]>
g (float[2,3] x) => (float[2,3] y) { y = l.f(x) }
<domain: "l", opset_import: ["" : 17, "ai.onnx.ml" : 3]>
f (a) => (b) { b = ai.onnx.ml.Binarizer<threshold=0.1>(a) })",
                                    {"inline-functions"}, 0.0);
  EXPECT_EQ(checked.after->opset("ai.onnx.ml"), 3);
}

TEST(InlineFunctions, WeightsInFunctionsAreReached) {
  const auto checked = check_passes(
      std::string(kHead) + "g (float[2,64] x) => (float[2,64] y) { t = l.f(x) y = l.f(t) }\n" +
          "<domain: \"l\", opset_import: [\"\" : 17]> f (a) => (b) { w = Constant<value = " +
          weights("", {64, 64}) + ">() b = MatMul(a, w) }",
      {"inline-functions", "lift-constants", "infer-shapes", "dedup-initializers",
       "quantize-weights"},
      0.5);
  // Both calls share the one weight.
  EXPECT_EQ(checked.run->applied("quantize-weights"), 1);
}

TEST(InlineFunctions, RecursionIsRefusedAtLoad) {
  Diagnostics diagnostics;
  const auto model =
      parse_model_text(std::string(kHead) + R"(g (float[2] x) => (float[2] y) { y = l.f(x) }
<domain: "l", opset_import: ["" : 17, "l" : 1]> f (a) => (b) { t = l.h(a) b = Neg(t) }
<domain: "l", opset_import: ["" : 17, "l" : 1]> h (a) => (b) { b = l.f(a) })",
                       diagnostics);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, Code::kInput);
  EXPECT_EQ(model.error().diagnostic.message, "function 'f' calls 'h' calls 'f'");
}

}  // namespace
}  // namespace mcompress::testing
