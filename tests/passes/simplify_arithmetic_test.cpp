#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

Checked simplify(std::string_view body, int opset = 17) {
  return check_passes(
      "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) +
          "]> g (float[n,3] x, bool[n,3] c) => (float[n,3] y) <float two = {2.0}, float half = "
          "{0.5}, "
          "float three = {3.0}, float eight = {8.0}, float minus = {-4.0}, float zero = {0.0}, "
          "float "
          "tiny = {1e-05}, float[1,1,1] two3 = {2.0}, float[3] twos = {2.0, 2.0, 2.0}, float[3] "
          "mixed = {2.0, 4.0, 2.0}, bool[1,3] yes = {1,1,1}, bool[1,3] no = {0,0,0}, bool[1,3] "
          "some = {1,0,1}, float[3] row = {1.0, 2.0, 3.0}, int64[1] axis = {0}> { " +
          std::string(body) + " }",
      {"infer-shapes", "simplify-arithmetic"}, 0.0, 2);
}

std::string maker(const Checked& checked, std::string_view name) {
  return std::string(maker_of(*checked.after, name)->op_type());
}

TEST(SimplifyArithmetic, ASquareIsAProduct) {
  EXPECT_EQ(maker(simplify("y = Pow(x, two)"), "y"), "Mul");
  EXPECT_EQ(maker(simplify("y = Pow(x, three)"), "y"), "Pow");
  EXPECT_EQ(maker(simplify("a = Pow(x, two3) s = Squeeze(a) y = Add(x, two)"), "a"), "Pow");
}

TEST(SimplifyArithmetic, TheSquareOfAWrittenNormalisationStays) {
  const std::string mean =
      "a = Pow(x, two) b = ReduceMean<axes=[1]>(a) d = Add(b, tiny) e = Sqrt(d) ";
  for (std::string_view end :
       {"y = Div(x, e)", "f = Div(two, e) y = Mul(x, f)", "f = Reciprocal(e) y = Mul(x, f)"}) {
    const auto checked = simplify(mean + std::string(end));
    EXPECT_EQ(maker(checked, "a"), "Pow") << end;
    EXPECT_EQ(checked.run->why("Pow node that makes 'a'"),
              "it is a part of a normalisation, which runtimes know as a whole");
  }
  // A deviation that divides nothing, and a square that others read as well.
  EXPECT_EQ(maker(simplify(mean + "y = Add(x, e)"), "a"), "Mul");
  EXPECT_EQ(maker(simplify(mean + "f = Div(e, two) y = Add(x, f)"), "a"), "Mul");
  EXPECT_EQ(maker(simplify(mean + "f = Div(x, e) y = Add(f, a)"), "a"), "Mul");
}

TEST(SimplifyArithmetic, ARootOfWhatIsNotNegative) {
  for (std::string_view body : {"a = Mul(x, x) y = Pow(a, half)", "a = Abs(x) y = Pow(a, half)",
                                "a = Mul(x, x) b = ReduceMean<axes=[1]>(a) d = Add(b, tiny) e = "
                                "Pow(d, half) y = Add(e, x)"}) {
    EXPECT_EQ(simplify(body).run->count("simplify-arithmetic", "replaced"), 1) << body;
  }
  for (std::string_view body : {"a = Abs(x) b = Sub(a, tiny) y = Pow(b, half)",
                                "a = Abs(x) b = Add(a, minus) y = Pow(b, half)",
                                "a = Tanh(x) b = Mul(a, x) d = Abs(b) y = Pow(x, half)"}) {
    auto model = model_from_text(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[n,3] x) => (float[n,3] y) <float half "
        "= {0.5}, float tiny = {1e-05}, float minus = {-4.0}> { " +
        std::string(body) + " }");
    const auto run = run_passes(*model, {"infer-shapes", "simplify-arithmetic"});
    EXPECT_EQ(run->count("simplify-arithmetic", "replaced"), 0) << body;
    EXPECT_NE(run->why("Pow node that makes 'y'").find("may be negative"), std::string::npos);
  }
}

TEST(SimplifyArithmetic, ADivisionByAPowerOfTwo) {
  EXPECT_EQ(maker(simplify("y = Div(x, eight)"), "y"), "Mul");
  EXPECT_EQ(maker(simplify("y = Div(x, minus)"), "y"), "Mul");
  EXPECT_EQ(maker(simplify("y = Div(x, twos)"), "y"), "Mul");
  for (std::string_view body : {"y = Div(x, three)", "y = Div(x, mixed)", "y = Div(two, x)"}) {
    EXPECT_EQ(simplify(body).run->count("simplify-arithmetic", "replaced"), 0) << body;
  }
  EXPECT_EQ(simplify("y = Div(x, three)").run->why("Div node that makes 'y'"),
            "the reciprocal of 'three' is not exact");
  auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (int64[n] x) => (int64[n] y) <int64 two = {2}> "
      "{ y = Div(x, two) }");
  EXPECT_FALSE(run_passes(*model, {"simplify-arithmetic"})->changed);
}

TEST(SimplifyArithmetic, ChoicesThatAreMade) {
  EXPECT_EQ(simplify("a = Neg(x) b = Where(yes, a, x) y = Exp(b)").after->graph().node_count(), 2u);
  EXPECT_EQ(simplify("a = Neg(x) b = Where(no, a, x) y = Exp(b)").after->graph().node_count(), 1u);
  EXPECT_FALSE(simplify("y = Where(some, x, row)").run->changed);
  // The side that is taken is smaller than the result.
  const auto checked = simplify("y = Where(no, x, row)");
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Where node that makes 'y'"),
            "it always takes one side, but may change its shape");
}

TEST(SimplifyArithmetic, TwoNegations) {
  const auto checked = simplify("a = Not(c) b = Not(a) y = Where(b, x, row)");
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
}

TEST(SimplifyArithmetic, AChoiceByTheOppositeTakesTheOtherSide) {
  auto checked = simplify("d = Not(c) y = Where(d, x, two)");
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(checked.run->count("simplify-arithmetic", "replaced"), 1);
  checked = simplify("d = Not(c) e = Where(d, x, two) f = Where(d, two, e) y = Add(e, f)");
  EXPECT_EQ(count_nodes(*checked.after, "Not"), 0);
}

TEST(SimplifyArithmetic, AMaskThatIsAConditionAgain) {
  auto checked = simplify("m = Where(c, zero, minus) d = Cast<to=9>(m) y = Where(d, two, x)");
  EXPECT_EQ(checked.after->graph().node_count(), 1u);  // Where(c, x, two)
  EXPECT_EQ(checked.run->count("simplify-arithmetic", "replaced"), 2);
  checked = simplify("m = Where(c, minus, zero) d = Cast<to=9>(m) y = Where(d, two, x)");
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  for (std::string_view body :
       {"m = Where(c, two, minus) d = Cast<to=9>(m) y = Where(d, two, x)",
        "m = Where(c, zero, x) d = Cast<to=9>(m) y = Where(d, two, x)",
        "m = Where(c, zero, minus) d = Cast<to=10>(m) e = Cast<to=1>(d) y = Add(e, x)",
        "m = Where(c, zero, two3) d = Cast<to=9>(m) e = Squeeze(d, axis) y = Where(e, two, x)"}) {
    EXPECT_EQ(simplify(body).run->count("simplify-arithmetic", "replaced"), 0) << body;
  }
}

}  // namespace
}  // namespace mcompress::testing
