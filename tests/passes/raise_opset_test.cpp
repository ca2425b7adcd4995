#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string at(std::int64_t opset, std::string_view rest) {
  return "<ir_version: 4, opset_import: [\"\" : " + std::to_string(opset) + "]> g " +
         std::string(rest);
}

Checked raised(const std::string& text, std::int64_t to = 13) {
  auto checked =
      check_passes(text, {"infer-shapes", "raise-opset:{\"to\": " + std::to_string(to) + "}"}, 0.0);
  EXPECT_EQ(checked.after->opset(""), to) << text;
  return checked;
}

TEST(RaiseOpset, AttributesBecomeInputs) {
  raised(
      at(9, "(float[2,3,4] x) => (float[2,2,4] y) { y = Slice<starts=[0],ends=[2],axes=[1]>(x) }"));
  raised(at(9,
            "(float[2,3,4] x) => (float[2,5,4] y) "
            "{ y = Pad<pads=[0,1,0,0,1,0],value=1.5>(x) }"));
  raised(at(9, "(float[2,3] x) => (float[2,3] y) { y = Clip<min=-0.5,max=0.5>(x) }"));
  raised(at(9, "(float[2,3] x) => (float[2,3] y) { y = Clip<max=0.5>(x) }"));
  raised(at(9, "(float[2,5] x) => (float[2,2] y, int64[2,2] i) { y, i = TopK<k=2,axis=1>(x) }"));
  raised(at(
      12,
      "(float[2,1,4] x) => (float[4,2] y) "
      "{ a = Squeeze<axes=[1]>(x) b = Unsqueeze<axes=[0]>(a) c = ReduceSum<axes=[0],keepdims=0>(b) "
      "y = Transpose(c) }"));
  raised(
      at(12,
         "(float[6,2] x) => (float[2,2] y, float[4,2] z) { y, z = Split<axis=0,split=[2,4]>(x) }"));
  raised(at(9, "(float[2,3] x) => (float[2,3] y) { y = Dropout<ratio=0.5>(x) }"));
}

TEST(RaiseOpset, UpsampleBecomesResize) {
  const auto nine = at(9,
                       "(float[1,2,3,3] x) => (float[1,2,6,6] y) <float[4] s = {1,1,2,2}> "
                       "{ y = Upsample<mode=\"nearest\">(x, s) }");
  EXPECT_EQ(count_nodes(*raised(nine).after, "Resize"), 1);
  const auto seven = at(7,
                        "(float[1,2,3,3] x) => (float[1,2,6,6] y) "
                        "{ y = Upsample<mode=\"linear\",scales=[1.0,1.0,2.0,2.0]>(x) }");
  EXPECT_EQ(count_nodes(*raised(seven).after, "Resize"), 1);
  const auto ten = at(10,
                      "(float[1,2,3,3] x) => (float[1,2,5,5] y) <float[4] s = {1,1,1.7,1.7}> "
                      "{ y = Resize<mode=\"nearest\">(x, s) }");
  raised(ten);
}

TEST(RaiseOpset, SoftmaxOverTheLastAxisOnlyNamesIt) {
  const auto checked =
      raised(at(12, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=2>(x) }"));
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  const auto flat = raised(at(12, "(float[2,4,1,1] x) => (float[2,4,1,1] y) { y = Softmax(x) }"));
  EXPECT_EQ(flat.after->graph().node_count(), 1u);
  EXPECT_EQ(maker_of(*flat.after, "y")->int_attribute("axis", -1), 1);
}

TEST(RaiseOpset, SoftmaxOverSeveralAxesIsFlattened) {
  for (std::string_view op : {"Softmax", "LogSoftmax", "Hardmax"}) {
    const auto checked = raised(
        at(11, "(float[2,3,4] x) => (float[2,3,4] y) { y = " + std::string(op) + "<axis=1>(x) }"));
    EXPECT_EQ(count_nodes(*checked.after, "Flatten"), 1) << op;
    EXPECT_EQ(checked.after->graph().node_count(), 4u);
  }
}

TEST(RaiseOpset, ReductionsAndSplitBeyondSeventeen) {
  raised(at(12,
            "(float[2,3,4] x) => (float[2,1,4] y, float[1,1,1] z) "
            "{ y = ReduceMean<axes=[1]>(x) z = ReduceMax(x) }"),
         18);
  raised(at(12, "(float[6,2] x) => (float[3,2] y, float[3,2] z) { y, z = Split<axis=0>(x) }"), 21);
}

TEST(RaiseOpset, InNestedGraphs) {
  const auto checked = raised(at(11, R"((bool c, float[1,3] x) => (float[3] y) {
  y = If (c) <
    then_branch = a () => (float[3] o) { o = Squeeze<axes=[0]>(x) },
    else_branch = b () => (float[3] p) { n = Neg(x) p = Squeeze<axes=[0]>(n) }
  >
})"));
  EXPECT_EQ(count_initializers(*checked.after), 2);
}

TEST(RaiseOpset, AnUntouchedModelStaysUntouched) {
  const auto checked =
      check_passes(at(13, "(float[2] x) => (float[2] y) { y = Relu(x) }"), {"raise-opset"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

TEST(RaiseOpset, OneOperatorThatCanNotMoveKeepsTheModel) {
  auto model = model_from_text(at(12, R"((float[2,3,4,4] x) => (float[2,3,8,8] y, float[2,1,3] z)
<float[8] roi = {0,0,0,0,1,1,1,1}, float[4] s = {1,1,2,2}> {
  y = Resize<coordinate_transformation_mode="tf_half_pixel_for_nn",mode="nearest">(x, roi, s)
  z = ReduceSum<axes=[2,3],keepdims=0>(x)
})"));
  const auto run = run_passes(*model, {"raise-opset"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(model->opset(""), 12);
  EXPECT_EQ(run->why("Resize node that makes 'y'"),
            "its coordinate_transformation_mode tf_half_pixel_for_nn ended with opset 13");
  ASSERT_EQ(run->diagnostics.all().size(), 1u);
  EXPECT_EQ(run->diagnostics.all()[0].id, "opset-not-raised");
}

TEST(RaiseOpset, FunctionsThatWouldChangeKeepTheModel) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 12, "local" : 1]>
g (float[2,3] x) => (float[2,3] y) { y = local.f(x) }
<domain: "local", opset_import: ["" : 12]>
f (a) => (b) { b = Softmax(a) })");
  const auto run = run_passes(*model, {"raise-opset"});
  EXPECT_FALSE(run->changed);
  ASSERT_EQ(run->diagnostics.all().size(), 1u);
  EXPECT_NE(run->diagnostics.all()[0].message.find("the function uses Softmax"), std::string::npos);
}

// A pass that needs a newer form asks for it; what a function uses counts like the rest.
TEST(RaiseOpset, OperatorsInFunctionsKeepAnEditorFromRaising) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (float[2,3] x) => (float[2,3] y) { y = local.f(x) }
<domain: "local", opset_import: ["" : 17]>
f (a) => (b) { b = ReduceMax<axes=[0]>(a) })");
  Editor editor(*model, &onnx_catalog());
  const Status raised = editor.require_opset("", 18);
  ASSERT_FALSE(raised.ok());
  EXPECT_EQ(raised.error().diagnostic.where.subject, "ReduceMax node that makes 'b'");
  EXPECT_EQ(model->opset(""), 17);
}

}  // namespace
}  // namespace mcompress::testing
