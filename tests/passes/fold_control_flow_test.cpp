#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::string_view kPass = "fold-control-flow";

std::string graph(std::string_view inputs, std::string_view outputs, std::string_view constants,
                  std::string_view body, int opset = 17) {
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) + "]> g (" +
         std::string(inputs) + ") => (" + std::string(outputs) + ") <" + std::string(constants) +
         "> { " + std::string(body) + " }";
}

std::int64_t unwrapped(const Checked& checked) { return checked.run->count(kPass, "unwrapped"); }

// A list of one entry is no scalar, which only shows once the If around it is gone.
TEST(FoldControlFlow, RangesGetTheScalarsTheyAskFor) {
  const auto checked = check_passes(
      graph("float[3] x", "int64[N] y", "bool yes = {1}, int64 zero = {0}, int64 one = {1}",
            "s = Shape(x) n = If (yes) < then_branch = t () => (int64[1] o) { o = Identity(s) },"
            " else_branch = e () => (int64[2] p) { p = Concat<axis=0>(s, s) } >"
            " r = Range(zero, n, one) y = Neg(r)"),
      {"infer-shapes", std::string(kPass), "infer-shapes"}, 0.0);
  EXPECT_EQ(unwrapped(checked), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Squeeze"), 1);
}

TEST(FoldControlFlow, ABranchTakesThePlaceOfAnIfThatIsDecided) {
  for (const char* value : {"1", "0"}) {
    // Both branches and the graph around them use the same names.
    const auto checked =
        check_passes(graph("float[2] x", "float[2] y",
                           std::string("bool yes = {") + value + "}, float[2] k = {1, 2}",
                           "a = Neg(x) z = If (yes) <"
                           " then_branch = t () => (float[2] o) <float[2] w = {3, 4}> { h = Add(a, "
                           "w) o = Exp(h) },"
                           " else_branch = e () => (float[2] o) <float[2] w = {5, 6}> { h = Mul(a, "
                           "w) o = Tanh(h) }"
                           "> y = Add(z, k)"),
                     {std::string(kPass), "eliminate-dead"}, 0.0);
    EXPECT_EQ(unwrapped(checked), 1);
    EXPECT_EQ(count_nodes(*checked.after, "If"), 0);
    EXPECT_EQ(count_nodes(*checked.after, *value == '1' ? "Exp" : "Tanh"), 1);
    EXPECT_EQ(checked.after->graph().node_count(), 4u);
    EXPECT_EQ(count_initializers(*checked.after), 2);
  }
}

TEST(FoldControlFlow, NamesStayUniqueWhereSeveralBodiesUsedThem) {
  // After the first If is gone, `h` of its branch is visible in the branches of the second.
  const auto checked = check_passes(
      graph("bool c, float[2] x", "float[2] y", "bool yes = {1}",
            "a = If (yes) <"
            " then_branch = t () => (float[2] o) { h = Neg(x) o = Exp(h) },"
            " else_branch = e () => (float[2] o) { o = Identity(x) }> "
            "b = If (c) <"
            " then_branch = t2 () => (float[2] o) { h = Abs(a) o = Exp(h) },"
            " else_branch = e2 () => (float[2] o) { h = Neg(a) o = Tanh(h) }> y = Add(a, b)"),
      {std::string(kPass)}, 0.0);
  EXPECT_EQ(unwrapped(checked), 1);
  EXPECT_EQ(count_nodes(*checked.after, "If"), 1);
}

TEST(FoldControlFlow, NestedOnesGoAtOnce) {
  const auto checked =
      check_passes(graph("float[2] x", "float[2] y", "bool yes = {1}, bool no = {0}",
                         "y = If (yes) < then_branch = t () => (float[2] o) { o = If (no) <"
                         "   then_branch = u () => (float[2] p) { p = Neg(x) },"
                         "   else_branch = v () => (float[2] p) { q = Abs(x) p = Exp(q) }> },"
                         " else_branch = e () => (float[2] o) { o = Tanh(x) }>"),
                   {std::string(kPass)}, 0.0);
  EXPECT_EQ(unwrapped(checked), 2);
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
  EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
}

TEST(FoldControlFlow, ABranchKnowsTheConditionItIsUnder) {
  const auto checked =
      check_passes(graph("bool c, float[2] x", "float[2] y", "float one = {1}",
                         "y = If (c) < then_branch = t () => (float[2] o) { o = If (c) <"
                         "   then_branch = u () => (float[2] p) { p = Neg(x) },"
                         "   else_branch = v () => (float[2] p) { p = Exp(x) }> },"
                         " else_branch = e () => (float[2] o) { n = Not(c) o = If (n) <"
                         "   then_branch = u2 () => (float[2] p) { p = Abs(x) },"
                         "   else_branch = v2 () => (float[2] p) { p = Tanh(x) }> }>"),
                   {std::string(kPass)}, 0.0);
  EXPECT_EQ(unwrapped(checked), 2);
  EXPECT_EQ(count_nodes(*checked.after, "If"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Neg"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Abs"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Not"), 0);
}

TEST(FoldControlFlow, ANegatedConditionTurnsTheBranches) {
  const auto checked = check_passes(graph("bool c, float[2] x", "float[2] y", "float one = {1}",
                                          "n = Not(c) y = If (n) <"
                                          " then_branch = t () => (float[2] o) { o = Neg(x) },"
                                          " else_branch = e () => (float[2] p) { p = Exp(x) }>"),
                                    {std::string(kPass)}, 0.0);
  EXPECT_EQ(checked.run->count(kPass, "turned"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Not"), 0);
}

TEST(FoldControlFlow, EqualBranchesNeedNoCondition) {
  const auto text = [](std::string_view other, std::string_view weight) {
    return graph(
        "bool c, float[2] x", "float[2] y", "float one = {1}",
        "y = If (c) <"
        " then_branch = t () => (float[2] o) <float[2] w = {3, 4}> { h = Add(x, w) o = Exp(h) },"
        " else_branch = e () => (float[2] p) <float[2] v = " +
            std::string(weight) + "> { i = Add(x, v) p = " + std::string(other) + "(i) }>");
  };
  auto checked = check_passes(text("Exp", "{3, 4}"), {std::string(kPass)}, 0.0);
  EXPECT_EQ(unwrapped(checked), 1);
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
  checked = check_passes(text("Exp", "{3, 5}"), {std::string(kPass)}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  checked = check_passes(text("Tanh", "{3, 4}"), {std::string(kPass)}, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

// The standard has none, and no runtime would feed them.
TEST(FoldControlFlow, BranchesWithInputsStay) {
  const auto model = model_from_text(
      graph("float[2] x", "float[2] y", "bool yes = {1}",
            "y = If (yes) < then_branch = t (float[2] u) => (float[2] o) { o = Neg(u) },"
            " else_branch = e () => (float[2] p) { p = Exp(x) }>"));
  const auto run = run_passes(*model, {std::string(kPass)});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(run->count(kPass, "unwrapped"), 0);
  EXPECT_EQ(run->why("If node that makes 'y'"),
            "its condition is always true, but that branch has inputs");
}

TEST(FoldControlFlow, OutputsOfTheModelKeepTheirNames) {
  // One result for two outputs, and an input handed through.
  const auto checked = check_passes(
      graph("float[2] x", "float[2] y, float[2] z", "bool yes = {1}",
            "y, z = If (yes) <"
            " then_branch = t () => (float[2] o, float[2] p) { o = Neg(x) p = Identity(o) },"
            " else_branch = e () => (float[2] o, float[2] p) { o = Exp(x) p = Abs(x) }>"),
      {std::string(kPass)}, 0.0);
  EXPECT_EQ(unwrapped(checked), 1);
  EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
  EXPECT_EQ(checked.after->graph().outputs()[1]->name(), "z");
}

TEST(FoldControlFlow, OutputsThatNobodyReadsGo) {
  const auto checked =
      check_passes(graph("bool c, float[2] x", "float[2] y", "float one = {1}",
                         "a, b, d = If (c) <"
                         " then_branch = t () => (float[2] o, float[2] p, float[2] q)"
                         "   { o = Neg(x) p = Exp(x) q = Abs(x) },"
                         " else_branch = e () => (float[2] o, float[2] p, float[2] q)"
                         "   { o = Exp(x) p = Abs(x) q = Neg(p) }> y = Add(a, d)"),
                   {std::string(kPass)}, 0.0);
  EXPECT_EQ(checked.run->count(kPass, "outputs"), 1);
  const Node* branch = checked.after->graph().first();
  ASSERT_EQ(branch->outputs().size(), 2u);
  EXPECT_EQ(branch->bodies()[0]->node_count() + branch->bodies()[1]->node_count(), 5u);
}

TEST(FoldControlFlow, AConditionThatACallerMayOverrideDecidesNothing) {
  const auto checked = check_passes(graph("float[2] x, bool c", "float[2] y", "bool c = {1}",
                                          "y = If (c) <"
                                          " then_branch = t () => (float[2] o) { o = Neg(x) },"
                                          " else_branch = e () => (float[2] p) { p = Exp(x) }>"),
                                    {std::string(kPass)}, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

// ------------------------------------------------------------------------------------------ Loop

std::string loop(std::string_view trips, std::string_view start, std::string_view next,
                 int opset = 17) {
  return graph("float[2] x", "float[2] y, float[k,2] list",
               "int64 m = {" + std::string(trips) + "}, bool go = {" + std::string(start) + "}",
               "y, list = Loop (m, go, x) < body = b (int64 i, bool c, float[2] s)"
               " => (bool d, float[2] t, float[2] e) { d = " +
                   std::string(next) +
                   " f = Cast<to=1>(i) g = Add(s, f) t = Exp(g) e = Mul(t, x) }>",
               opset);
}

TEST(FoldControlFlow, ALoopOfOneIterationIsItsBody) {
  for (const int opset : {11, 17}) {
    const auto checked =
        check_passes(loop("1", "1", "Identity(c)", opset), {std::string(kPass)}, 0.0);
    EXPECT_EQ(unwrapped(checked), 1);
    EXPECT_EQ(count_nodes(*checked.after, "Loop"), 0);
    EXPECT_EQ(count_nodes(*checked.after, "Unsqueeze"), 1);
    EXPECT_EQ(checked.after->graph().outputs()[1]->name(), "list");
  }
}

TEST(FoldControlFlow, ALoopThatStopsAfterTheFirstIteration) {
  std::string text = graph(
      "float[2] x", "float[2] y", "int64 m = {5}, bool go = {1}, bool stop = {0}",
      "y = Loop (m, go, x) < body = b (int64 i, bool c, float[2] s) => (bool stop, float[2] t)"
      " { t = Exp(s) }>");
  // The body hands its condition through from outside: only ONNX allows that, so no comparison.
  auto model = model_from_text(text);
  const auto run = run_passes(*model, {std::string(kPass)});
  EXPECT_EQ(run->count(kPass, "unwrapped"), 1);
  EXPECT_EQ(model->graph().node_count(), 1u);
}

TEST(FoldControlFlow, ALoopWithoutIterationsHandsOnWhereItStarts) {
  for (const auto& [trips, start] : {std::pair("0", "1"), std::pair("3", "0")}) {
    const auto checked = check_passes(
        graph("float[2] x", "float[2] y",
              "int64 m = {" + std::string(trips) + "}, bool go = {" + std::string(start) + "}",
              "z = Loop (m, go, x) < body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t)"
              " { d = Identity(c) t = Exp(s) }> y = Neg(z)"),
        {std::string(kPass)}, 0.0);
    EXPECT_EQ(unwrapped(checked), 1);
    EXPECT_EQ(checked.after->graph().node_count(), 1u);
  }
  const auto checked = check_passes(loop("0", "1", "Identity(c)"), {std::string(kPass)}, 0.0);
  EXPECT_EQ(unwrapped(checked), 0);
  EXPECT_EQ(checked.run->why("Loop node that makes 'y'"),
            "it runs no iteration, but it makes an empty list, 'list'");
}

TEST(FoldControlFlow, OtherLoopsStay) {
  for (const auto& text : {loop("2", "1", "Identity(c)"), loop("3", "1", "Not(c)")}) {
    EXPECT_FALSE(check_passes(text, {std::string(kPass)}, 0.0).run->changed);
  }
}

TEST(FoldControlFlow, AListThatNobodyReadsGoes) {
  const auto checked = check_passes(
      graph("float[2] x", "float[2] y", "int64 m = {3}, bool go = {1}",
            "y, list = Loop (m, go, x) < body = b (int64 i, bool c, float[2] s)"
            " => (bool d, float[2] t, float[2] e) { d = Identity(c) t = Exp(s) e = Neg(t) }>"),
      {std::string(kPass)}, 0.0);
  EXPECT_EQ(checked.run->count(kPass, "outputs"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Neg"), 0);
}

// As exporters write recurrent layers: the weight is a state that every iteration hands on.
TEST(FoldControlFlow, StatesThatNoIterationChangesAreReadFromOutside) {
  const auto checked = check_passes(
      graph("float[2] x", "float[2] y, float[2] w_after",
            "int64 m = {3}, bool go = {1}, float[2] w = {0.5, 2}, float[2] b = {1, 1}",
            "y, w_last, b_last = Loop (m, go, x, w, b) < body = l (int64 i, bool c, float[2] s,"
            " float[2] v, float[2] a) => (bool d, float[2] t, float[2] v_copy, float[2] a)"
            " { d = Identity(c) p = Mul(s, v) t = Add(p, a) v_copy = Identity(v) }>"
            " w_after = Neg(w_last)"),
      {std::string(kPass), "eliminate-dead"}, 0.0);
  EXPECT_EQ(checked.run->count(kPass, "states"), 2);
  const Node* loop = checked.after->graph().first();
  ASSERT_TRUE(loop != nullptr && loop->is("Loop"));
  EXPECT_EQ(loop->inputs().size(), 3u);
  EXPECT_EQ(loop->outputs().size(), 1u);
  EXPECT_EQ(count_nodes(*checked.after, "Identity"), 1);  // the condition
  EXPECT_FALSE(check_passes(graph("float[2] x", "float[2] y, float[2] z", "int64 m = {3}",
                                  "y, z = Loop (m, , x, x) < body = l (int64 i, bool c, float[2] s,"
                                  " float[2] v) => (bool d, float[2] t, float[2] s_copy)"
                                  " { d = Identity(c) t = Mul(s, v) s_copy = Identity(s) }>"),
                            {std::string(kPass)}, 0.0)
                   .run->changed);
}

TEST(FoldControlFlow, StatesOfAScanAreReadFromOutsideToo) {
  const auto checked = check_passes(
      graph("float[2] x, float[4,2] rows", "float[2] y, float[2] w_last, float[4,2] all",
            "float[2] w = {0.5, 2}",
            "y, w_last, all = Scan <num_scan_inputs=1, body = l (float[2] s, float[2] v, float[2] "
            "row) => (float[2] t, float[2] v_copy, float[2] e)"
            " { p = Mul(s, v) t = Add(p, row) v_copy = Identity(v) e = Neg(t) }> (x, w, rows)"),
      {std::string(kPass)}, 0.0);
  EXPECT_EQ(checked.run->count(kPass, "states"), 1);
  EXPECT_EQ(checked.after->graph().outputs()[1]->name(), "w_last");
}

}  // namespace
}  // namespace mcompress::testing
