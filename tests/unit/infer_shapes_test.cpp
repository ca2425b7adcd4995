#include <gtest/gtest.h>

#include "mcompress/edit.h"
#include "mcompress/io.h"
#include "mcompress/ir.h"
#include "onnx/skeleton.h"
#include "support/models.h"

namespace mcompress {
namespace {

void infer(Model& model) {
  Editor editor(model, &onnx_catalog());
  Diagnostics diagnostics;
  ASSERT_TRUE(infer_shapes(model, editor, diagnostics).ok());
  EXPECT_TRUE(diagnostics.all().empty());
}

std::string dims_of(const Model& model, std::string_view name) {
  const Value* value = model.graph().find(name);
  if (value == nullptr || value->type() == nullptr || !value->type()->shape) return "unknown";
  std::string text;
  for (const Dim& dim : *value->type()->shape) {
    text += (text.empty() ? "" : ",") + (dim.size ? std::to_string(*dim.size) : "?" + dim.symbol);
  }
  return text;
}

TEST(InferShapes, SetsTypesWithoutTouchingTheModel) {
  auto model = testing::model_from_bytes(testing::fixture("captured"));
  const std::uint64_t before = fingerprint(*model);
  Editor editor(*model);
  Diagnostics diagnostics;
  ASSERT_TRUE(infer_shapes(*model, editor, diagnostics).ok());
  EXPECT_TRUE(diagnostics.all().empty());
  const TypeInfo* type = model->graph().find("start")->type();
  ASSERT_NE(type, nullptr);
  EXPECT_EQ(*type, (TypeInfo{DataType::kFloat, std::vector<Dim>{{8, {}}, {8, {}}}}));
  const Graph& other = *model->graph().last()->bodies()[1];
  EXPECT_NE(other.find("p")->type(), nullptr);
  EXPECT_EQ(fingerprint(*model), before);
  EXPECT_EQ(model->revision(), 0U);
  EXPECT_EQ(save_model_bytes(*model).value(), testing::fixture("captured"));
}

TEST(InferShapes, IsNeverFatal) {
  for (const auto& entry : testing::fixtures()) {
    auto model = testing::model_from_bytes(entry.bytes);
    Editor editor(*model);
    Diagnostics diagnostics;
    EXPECT_TRUE(infer_shapes(*model, editor, diagnostics).ok()) << entry.name;
  }
  auto wrong = testing::model_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4] x, float[5] z) => (float[9] y) { a = MatMul (x, z) y = Relu (a) })");
  Editor editor(*wrong);
  Diagnostics diagnostics;
  EXPECT_TRUE(infer_shapes(*wrong, editor, diagnostics).ok());
}

// Bodies of functions are inferred one by one: only what they call is put beside each.
TEST(InferShapes, TakesTheFunctionsThatAreCalled) {
  auto model = testing::model_from_text(R"(
    <ir_version: 10, opset_import: ["" : 17, "d" : 1]>
    g (float[2] x) => (y) { a = d.first (x) y = Relu (a) }
    <domain: "d", opset_import: ["" : 17]> other (x) => (y) { y = Tanh (x) }
    <domain: "d", opset_import: ["" : 17, "d" : 1]> first (x) => (y) { a = Tanh (x) y = d.second (a) }
    <domain: "d", opset_import: ["" : 17]> second (x) => (y) { y = Concat <axis = 0> (x, x) })");
  const auto names_with = [&](const Node* wanted) {
    std::vector<bool> nodes(model->node_limit());
    if (wanted != nullptr) nodes[wanted->id()] = true;
    const ModelSkeleton part = build_skeleton_of(*model, nodes).value();
    std::vector<std::string> names;
    for (const auto& function : part.proto.functions()) names.push_back(function.name());
    return names;
  };
  const Node* call = model->graph().first();
  EXPECT_EQ(names_with(call), (std::vector<std::string>{"first", "second"}));
  EXPECT_TRUE(names_with(model->graph().next(*call)).empty());
  EXPECT_TRUE(names_with(nullptr).empty());
  infer(*model);
  EXPECT_EQ(dims_of(*model, "a"), "4");
  EXPECT_EQ(dims_of(*model, "y"), "4");
}

// What is known to the last dimension is not looked at again, and what reads it goes by it.
TEST(InferShapes, FollowsNodesThatCameLater) {
  auto model = testing::model_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 3, 8, 8] x) => (float[N, 3, 4, 4] y) { a = Relu (x) y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (a) })");
  infer(*model);
  EXPECT_EQ(dims_of(*model, "a"), "?N,3,8,8");
  Editor editor(*model, &onnx_catalog());
  const Node& made =
      editor.append(model->graph(), {.op_type = "Flatten", .inputs = {model->graph().find("a")}});
  ASSERT_EQ(made.output(0)->type(), nullptr);
  infer(*model);
  EXPECT_EQ(dims_of(*model, made.output(0)->name()), "?N,192");
}

// A symbol that no input has any more may have become a number.
TEST(InferShapes, FollowsPinnedInputsThroughKnownShapes) {
  auto model = testing::model_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 4] x) => (float[M, 4] y) { a = Relu (x) b = Neg (a) y = Exp (b) })");
  infer(*model);
  ASSERT_EQ(dims_of(*model, "b"), "?N,4");
  Editor editor(*model, &onnx_catalog());
  editor.set_type(*model->graph().find("x"),
                  TypeInfo{DataType::kFloat, std::vector<Dim>{{7, {}}, {4, {}}}}, true);
  infer(*model);
  EXPECT_EQ(dims_of(*model, "a"), "7,4");
  EXPECT_EQ(dims_of(*model, "b"), "7,4");
}

// The vector of sizes is computed by nodes whose own types were known from the start.
TEST(InferShapes, HandsElementsOfShapesOnThroughKnownTypes) {
  auto model = testing::model_from_text(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[2, 3, 4] x) => (float[A, B] y)
    <int64[3] s, int64[1] head, int64[2] both, int64[1] zero = {0}, int64[1] rest = {-1}>
    { s = Shape (x) head = Gather (s, zero) both = Concat <axis = 0> (head, rest) r = Reshape (x, both) y = Relu (r) })");
  infer(*model);
  EXPECT_EQ(dims_of(*model, "r"), "2,12");
}

// Bodies are entered in each run: they may read what just became known.
TEST(InferShapes, EntersBodiesAgain) {
  auto model = testing::model_from_bytes(testing::fixture("captured"));
  infer(*model);
  const Graph& other = *model->graph().last()->bodies()[1];
  Value* inner = other.find("p");
  ASSERT_NE(inner->type(), nullptr);
  Editor editor(*model, &onnx_catalog());
  const Node& made = editor.insert_after(*inner->producer(), {.op_type = "Neg", .inputs = {inner}});
  ASSERT_EQ(made.output(0)->type(), nullptr);
  infer(*model);
  ASSERT_NE(made.output(0)->type(), nullptr);
  EXPECT_EQ(*made.output(0)->type(), *inner->type());
}

}  // namespace
}  // namespace mcompress
