#include <gtest/gtest.h>

#include "mcompress/analysis.h"
#include "mcompress/io.h"
#include "support/models.h"

namespace mcompress {
namespace {

struct Planned {
  std::unique_ptr<Model> model;
  MemoryPlan plan;
  std::vector<std::string> alive;
};

Planned plan(std::string_view text) {
  Planned planned;
  planned.model = testing::model_from_text(text);
  Editor editor(*planned.model, &onnx_catalog());
  const auto shapes = pin_input_shapes(editor, {});
  Diagnostics diagnostics;
  EXPECT_TRUE(infer_shapes(*planned.model, editor, diagnostics).ok());
  planned.plan = plan_memory(*planned.model, *shapes);
  for (const LiveValue& value : planned.plan.alive) planned.alive.emplace_back(value.value->name());
  return planned;
}

using Names = std::vector<std::string>;

TEST(Liveness, AValueLivesUntilItsLastReader) {
  // a: x 40 + a 40. b: a 40 + b 40. c: a 40 + b 40 + c 40 = 120. y: c 40 + y 40.
  const Planned planned = plan(R"(
    <ir_version: 8, opset_import: ["" : 17]> g (float[10] x) => (float[10] y) {
      a = Relu (x) b = Neg (a) c = Add (a, b) y = Abs (c) })");
  EXPECT_EQ(planned.plan.peak_bytes, 120U);
  ASSERT_NE(planned.plan.node, nullptr);
  EXPECT_EQ(planned.plan.node->op_type(), "Add");
  EXPECT_EQ(planned.alive, (Names{"a", "b", "c"}));
  EXPECT_EQ(planned.plan.total_bytes, 200U);
}

TEST(Liveness, OutputsLiveToTheEndAndConstantsDoNotCount) {
  // At y: a 4 (an output) + b 40 + y 40 (the weight is none of them).
  const Planned planned = plan(R"(
    <ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] a, float[10] y)
    <float[10] w = {1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,10.0}> {
      a = Relu (x) b = Add (a, w) k = Constant <value = float[2] {1.0, 2.0}> () y = Neg (b) })");
  EXPECT_EQ(planned.plan.peak_bytes, 84U);
  EXPECT_EQ(planned.alive, (Names{"b", "y", "a"}));
}

TEST(Liveness, ViewsShareMemory) {
  // Without sharing Neg would see r 40 and y 40 behind Reshape's a 40 + r 40; with it 80 all along,
  // and a is needed again at the end: Add: a 40 + n 40 + y 40.
  const Planned planned = plan(R"(
    <ir_version: 8, opset_import: ["" : 17]> g (float[10] x) => (float[10] y)
    <int64[2] s = {2, 5}, int64[1] f = {10}> {
      a = Relu (x) r = Reshape (a, s) n = Neg (r) v = Reshape (n, f) y = Add (v, a) })");
  EXPECT_EQ(planned.plan.peak_bytes, 120U);
  EXPECT_EQ(planned.plan.node->op_type(), "Add");
  EXPECT_EQ(planned.plan.total_bytes, 160U);
}

TEST(Liveness, BranchesTakeTheLargerOneAndWhatTheyCapture) {
  // While `then` runs: x and w 40 each (captured), k 40 (read later), c 1, q 400 and r 400.
  const Planned planned = plan(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (bool c, float[10,1] x, float[10] w) => (float[10] y) {
      k = Neg (w)
      m = If (c) <
        then_branch = t () => (float[10] o) {
          p = Transpose (x) q = MatMul (x, p) r = Relu (q) o = ReduceMax <axes = [0], keepdims = 0> (r)
        },
        else_branch = e () => (float[10] u) { u = Abs (w) } >
      y = Add (m, k) })");
  EXPECT_EQ(planned.plan.peak_bytes, 40U + 40U + 40U + 1U + 800U);
  EXPECT_EQ(planned.plan.node->op_type(), "Relu");
  EXPECT_NE(planned.plan.graph.find("then_branch"), std::string::npos);
  EXPECT_EQ(planned.alive, (Names{"q", "r", "x", "w", "k", "c"}));
}

TEST(Liveness, SmallTypesAreCountedInTheirBits) {
  const Planned planned = plan(R"(
    <ir_version: 8, opset_import: ["" : 17]> g (float16[10] x) => (int8[10] y) {
      y = Cast <to = 3> (x) })");
  EXPECT_EQ(planned.plan.peak_bytes, 30U);
}

TEST(Liveness, WhatIsUnknownIsSaid) {
  const Planned planned = plan(R"(
    <ir_version: 8, opset_import: ["" : 17, "com.example" : 1]> g (float[4] x) => (y) {
      a = com.example.Mystery (x) b = NonZero (x) y = Identity (a) })");
  ASSERT_EQ(planned.plan.notes.size(), 2U);
  EXPECT_EQ(planned.plan.notes[0], "1 value with dimensions that only the data tell, taken as 1");
  EXPECT_NE(planned.plan.notes[1].find("of unknown type or rank"), std::string::npos);
}

TEST(Liveness, NothingIsNoProblem) {
  const Planned planned =
      plan(R"(<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] x) { })");
  EXPECT_EQ(planned.plan.node, nullptr);
  EXPECT_EQ(planned.plan.peak_bytes, 16U);
}

}  // namespace
}  // namespace mcompress
