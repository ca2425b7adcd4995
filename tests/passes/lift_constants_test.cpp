#include <gtest/gtest.h>

#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

TEST(LiftConstants, MakesInitializersOfTheSameNameInEveryGraph) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] y) {
  a = Constant <value = float[2] {1.0, 2.0}> ()
  b = Constant <value_float = 3.0> ()
  n = Constant <value_ints = [2]> ()
  s = Add(x, a)
  r = Reshape(s, n)
  y = If (c) <
    then_branch = t () => (float[2] o) { k = Constant <value_floats = [0.5, 0.25]> ()  o = Mul(r, k) },
    else_branch = e () => (float[2] p) { p = Mul(r, b) }
  >
})",
                                    {"lift-constants"}, 0.0);
  EXPECT_EQ(count_nodes(*checked.after, "Constant"), 0);
  EXPECT_EQ(checked.run->count("lift-constants", "lifted"), 4);
  for (std::string_view name : {"a", "b", "n"}) {
    Value* value = checked.after->graph().find(name);
    ASSERT_NE(value, nullptr);
    EXPECT_NE(value->constant(), nullptr) << name;
  }
}

TEST(LiftConstants, LeavesStringsWithAReason) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y, string s) {
  s = Constant <value_string = "a"> ()
  y = Neg(x)
})");
  const auto run = run_passes(*model, {"lift-constants"});
  EXPECT_EQ(count_nodes(*model, "Constant"), 1);
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("Constant node that makes 's'"), "its value is a string");
}

TEST(LiftConstants, AConstantThatIsAnOutputOfABranchStaysItsOutput) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] y) {
  y = If (c) <
    then_branch = t () => (float[2] o) { o = Constant <value = float[2] {1.0, 2.0}> () },
    else_branch = e () => (float[2] p) { p = Identity(x) }
  >
})",
                                    {"lift-constants"}, 0.0);
  EXPECT_EQ(count_nodes(*checked.after, "Constant"), 0);
}

constexpr std::string_view kOldModel = R"(
<ir_version: 3, opset_import: ["" : 9]>
g (float[2] x, float[2] w) => (float[2] y)
<float[2] w = {1.0, 2.0}> {
  y = Add(x, w)
})";

TEST(LiftConstants, OldModelsLoseTheInputsThatOnlyListInitializers) {
  auto model = model_from_text(kOldModel);
  const auto run = run_passes(*model, {"lift-constants"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(model->graph().inputs().size(), 1u);
  EXPECT_EQ(model->ir_version(), 4);
  EXPECT_NE(model->graph().find("w")->constant(), nullptr);
  EXPECT_TRUE(check_model(*model).ok());
}

TEST(LiftConstants, OverridableInputsAreFrozenOnlyWhenAsked) {
  const std::string text = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, float[2] w) => (float[2] y)
<float[2] w = {1.0, 2.0}> {
  y = Add(x, w)
})";
  auto model = model_from_text(text);
  EXPECT_FALSE(run_passes(*model, {"lift-constants"})->changed);
  EXPECT_EQ(model->graph().inputs().size(), 2u);
  const auto run = run_passes(*model, {"lift-constants:{\"freeze-inputs\": true}"});
  EXPECT_EQ(model->graph().inputs().size(), 1u);
  EXPECT_EQ(run->count("lift-constants", "frozen-inputs"), 1);
  EXPECT_EQ(run->applied(), 1);
}

}  // namespace
}  // namespace mcompress::testing
