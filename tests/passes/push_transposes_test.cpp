#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::string_view kPass = "push-transposes";

// x: [n, 3, 4, 5] is brought to [n, 4, 5, 3] as `t`; `B` in the body brings back.
std::string graph(std::string_view outputs, std::string body, int opset = 17) {
  const auto fill = [&](const std::string& mark, const std::string& text) {
    for (std::size_t at; (at = body.find(mark)) != std::string::npos;) {
      body.replace(at, mark.size(), text);
    }
  };
  fill("T(", "Transpose<perm=[0,2,3,1]>(");
  fill("B(", "Transpose<perm=[0,3,1,2]>(");
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) +
         "]> g (float[n,3,4,5] x, float[n,3,4,5] z) => (" + std::string(outputs) + ") <" +
         weights("channel", {3}) + ", " + weights("rows", {4, 1, 1}) + ", " +
         weights("whole", {1, 4, 5, 3}) + ", " + weights("steps", {3}, 0.01f, 0.02f) +
         ", float one = {1.5}, uint8 zero = {100}, uint8[3] zeros = {90, 100, 110}, int64[8] pads "
         "= {0,1,2,0, 0,0,1,0}, int64[1] c1 = {1}, int64[1] "
         "c3 = {3}, int64[2] c12 = {1, 2}, int64[1] last = {-1}, int64[2] parts = {1, 2}, float "
         "low = {0.0}, float high = {6.0}> { t = Transpose<perm=[0,2,3,1]>(x) " +
         body + " }";
}

Checked push(std::string_view outputs, std::string body, int opset = 17) {
  return check_passes(graph(outputs, std::move(body), opset), {"infer-shapes", std::string(kPass)},
                      1e-6, 2);
}

std::int64_t left(const Checked& checked) { return count_nodes(*checked.after, "Transpose"); }

TEST(PushTransposes, APairMeetsThroughOperatorsThatDoNotCare) {
  for (std::string_view body : {
           "a = Relu(t) y = B(a)",
           "a = Add(t, channel) b = Mul(a, rows) y = B(b)",
           "a = Mul(whole, t) y = B(a)",
           "a = Sub(one, t) b = Clip(a, low, high) y = B(b)",
           "a = Sigmoid(t) b = Mul(a, t) y = B(b)",
           "a = Softmax<axis=3>(t) y = B(a)",
           "a = Softmax(t) b = Neg(a) y = B(b)",
           "u = T(z) a = Add(t, u) y = B(a)",
           "u = T(z) c = Greater(t, u) a = Where(c, t, u) y = B(a)",
           "a = PRelu(t, channel) y = B(a)",
           "a = Cast<to=11>(t) b = Cast<to=1>(a) y = B(b)",
       }) {
    const auto checked = push("float[n,3,4,5] y", std::string(body));
    EXPECT_EQ(left(checked), 0) << body;
    EXPECT_EQ(checked.run->count(kPass, "regions"), 1) << body;
  }
}

TEST(PushTransposes, AxesMove) {
  for (const auto& [body, shape] : std::vector<std::pair<std::string_view, std::string_view>>{
           {"a = Pad(t, pads) y = B(a)", "n,3,5,8"},
           {"a = Slice(t, c1, c3, last) y = B(a)", "n,2,4,5"},
           {"u = T(z) a = Concat<axis=-1>(t, u) y = B(a)", "n,6,4,5"},
           {"u = T(z) a = Concat<axis=1>(t, u) y = B(a)", "n,3,8,5"},
           {"a = ReduceMean<axes=[1,2]>(t) y = B(a)", "n,3,1,1"},
           {"a = ReduceSum(t, last) y = B(a)", "n,1,4,5"},
       }) {
    const auto checked = push("float[" + std::string(shape) + "] y", std::string(body));
    EXPECT_EQ(left(checked), 0) << body;
  }
}

TEST(PushTransposes, CodesMoveWithTheirScales) {
  for (std::string_view body : {
           "q = QuantizeLinear(t, one, zero) a = DequantizeLinear(q, one, zero) y = B(a)",
           "q = QuantizeLinear<axis=3>(t, steps, zeros) a = DequantizeLinear<axis=-1>(q, steps, "
           "zeros) y = B(a)",
       }) {
    const auto checked = push("float[n,3,4,5] y", std::string(body));
    EXPECT_EQ(left(checked), 0) << body;
  }
  const auto checked = push("float[n,3,4,5] y",
                            "q = QuantizeLinear<axis=3>(t, steps, zeros) a = DequantizeLinear"
                            "<axis=-1>(q, steps, zeros) y = B(a)");
  for (const char* value : {"q", "y"}) {
    const Node* node = maker_of(*checked.after, value);
    ASSERT_NE(node, nullptr) << value;
    EXPECT_EQ(node->int_attribute("axis", 0), 1) << value;
  }
}

TEST(PushTransposes, DimensionsComeAndGo) {
  // What is left of [n, h, w, c] without h and w is in the same order as before.
  auto checked = push("float[n,3] y", "a = ReduceMean<axes=[1,2], keepdims=0>(t) y = Neg(a)");
  EXPECT_EQ(left(checked), 0);
  checked =
      push("float[n,3,4,5] y", "a = Unsqueeze(t, c1) b = Relu(a) d = Squeeze(b, c1) y = B(d)");
  EXPECT_EQ(left(checked), 0);
  checked =
      push("float[n,3] y",
           "a = ReduceMax<axes=[1]>(t) b = ReduceMax<axes=[2]>(a) d = Squeeze(b, c12) y = Exp(d)");
  EXPECT_EQ(left(checked), 0);
}

TEST(PushTransposes, ASplitGoesWithBothItsParts) {
  const auto checked = push("float[n,1,4,5] y, float[n,2,4,5] w",
                            "a, b = Split<axis=3>(t, parts) y = B(a) w = B(b)");
  EXPECT_EQ(left(checked), 0);
}

TEST(PushTransposes, TwoBecomeOneBehind) {
  const auto checked = push("float[n,4,5,3] y", "u = T(z) a = Add(t, u) y = Relu(a)");
  EXPECT_EQ(left(checked), 1);
  EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
}

TEST(PushTransposes, AResultThatIsReadElsewhereGetsATransposeOfItsOwn) {
  // Two are undone, the output of the model is transposed still.
  const auto checked = push("float[n,3,4,5] y, float[n,3,4,5] w, float[n,4,5,3] a",
                            "a = Relu(t) b = B(a) y = Neg(b) d = Exp(a) w = B(d)");
  EXPECT_EQ(left(checked), 1);
  EXPECT_EQ(maker_of(*checked.after, "a")->op_type(), "Transpose");
}

TEST(PushTransposes, NothingMovesWhereNothingIsGained) {
  for (std::string_view body : {"a = Relu(t) y = Neg(a)", "y = Relu(t)"}) {
    const auto checked = push("float[n,4,5,3] y", std::string(body));
    EXPECT_FALSE(checked.run->changed) << body;
    EXPECT_EQ(left(checked), 1);
  }
  // An operand that is not transposed stops it.
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[n,3,4,5] x, float[n,4,5,3] z) => "
      "(float[n,3,4,5] y) { t = Transpose<perm=[0,2,3,1]>(x) a = Add(t, z) "
      "y = Transpose<perm=[0,3,1,2]>(a) }",
      {"infer-shapes", std::string(kPass)}, 0.0, 2);
  EXPECT_FALSE(checked.run->changed);
}

TEST(PushTransposes, NoLargerTensorIsTransposedThanBefore) {
  // One in place of two, but of the joined tensor.
  const auto checked = push("float[n,4,5,6] y", "u = T(z) y = Concat<axis=3>(t, u)");
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Transpose node that makes 't'"),
            "the transpositions behind it would move more elements");
}

TEST(PushTransposes, AnotherOrderIsMerged) {
  const auto checked =
      push("float[n,5,4,3] y", "u = T(z) a = Add(t, u) y = Transpose<perm=[0,2,1,3]>(a)");
  EXPECT_EQ(left(checked), 1);
  EXPECT_EQ(*maker_of(*checked.after, "y")->ints_attribute("perm"),
            (std::vector<std::int64_t>{0, 3, 2, 1}));
}

TEST(PushTransposes, DimensionsOfOneOnlyAreAReshape) {
  const auto text = [](std::string_view input, std::string_view perm, std::string_view output) {
    return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[" + std::string(input) +
           "] x) => (float[" + std::string(output) + "] y) { y = Transpose<perm=[" +
           std::string(perm) + "]>(x) }";
  };
  const auto run = [](const std::string& model) {
    return check_passes(model, {"infer-shapes", std::string(kPass)}, 0.0, 2);
  };
  EXPECT_EQ(run(text("n,1,4", "0,2,1", "n,4,1")).run->count(kPass, "reshapes"), 1);
  EXPECT_EQ(run(text("1,3,1,5", "1,0,3,2", "3,1,5,1")).run->count(kPass, "reshapes"), 1);
  EXPECT_EQ(run(text("1,n,4", "1,0,2", "n,1,4")).run->count(kPass, "reshapes"), 1);
  EXPECT_EQ(run(text("2,3,1", "1,0,2", "3,2,1")).run->count(kPass, "reshapes"), 0);
  // Which of two open dimensions is which, no constant shape can say.
  const auto checked = run(text("n,1,m", "1,0,2", "1,n,m"));
  EXPECT_EQ(checked.run->count(kPass, "reshapes"), 0);
  EXPECT_FALSE(checked.run->why("Transpose node that makes 'y'").empty());
}

TEST(PushTransposes, BeforeOpset13) {
  auto checked = push("float[n,1,4,5] y", "a = ReduceSum<axes=[3]>(t) y = B(a)", 11);
  EXPECT_EQ(left(checked), 0);
  // Softmax took all dimensions from its axis on.
  checked = push("float[n,3,4,5] y", "a = Softmax<axis=3>(t) y = B(a)", 11);
  EXPECT_FALSE(checked.run->changed);
}

TEST(PushTransposes, InsideABranchAndCapturedFromOutside) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2,3,4] x) => (float[2,3,4] y) {
  t = Transpose<perm=[0,2,1]>(x)
  y = If (c) <
    then_branch = a () => (float[2,3,4] o) {
      u = Transpose<perm=[0,2,1]>(x) r = Relu(u) o = Transpose<perm=[0,2,1]>(r) },
    else_branch = b () => (float[2,3,4] p) { n = Neg(t) p = Transpose<perm=[0,2,1]>(n) }
  >
})",
                                    {"infer-shapes", std::string(kPass)}, 0.0);
  EXPECT_EQ(checked.run->count(kPass, "regions"), 1);
  EXPECT_EQ(left(checked), 2);
}

}  // namespace
}  // namespace mcompress::testing
