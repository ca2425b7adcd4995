#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

TEST(InferShapes, FindsShapesWithoutChangingTheModel) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,8,8] x) => (float[N,4,A,B] y) <float[4,3,1,1] w = {1,1,1,1,1,1,1,1,1,1,1,1}> {
  a = Relu(x)
  b = Conv<strides=[2,2]>(a, w)
  y = Neg(b)
})");
  const auto run = run_passes(*model, {"infer-shapes"});
  EXPECT_FALSE(run->changed);
  const Value& b = *model->graph().find("b");
  EXPECT_EQ(dim_of(b, 1), 4);
  EXPECT_EQ(dim_of(b, -1), 4);
  EXPECT_EQ(b.type()->shape->at(0).symbol, "N");
}

TEST(InferShapes, FollowsTheNumberOfDimensionsWhereSizesAreUnknown) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,C,H,W] x, int64[3] s) => (float[A,B] y) <int64[1] axis = {1}, float[5] k = {1,2,3,4,5}> {
  a = Reshape(x, s)
  b = Transpose<perm=[2,0,1]>(a)
  c = Softmax(b)
  d = Mul(c, k)
  e = MatMul(d, a)
  f = Concat<axis=0>(e, e)
  u = Unsqueeze(f, axis)
  q = Squeeze(u, axis)
  r = ReduceMean<axes=[0],keepdims=0>(q)
  y = Neg(r)
})");
  ASSERT_TRUE(run_passes(*model, {"infer-shapes"})->status.ok());
  const auto rank = [&](std::string_view name) { return rank_of(*model->graph().find(name)); };
  for (std::string_view name : {"a", "b", "c", "d", "e", "f", "q"})
    EXPECT_EQ(rank(name), 3u) << name;
  EXPECT_EQ(rank("u"), 4u);
  EXPECT_EQ(rank("r"), 2u);
}

// ONNX follows the elements of shapes up to such a Reshape, and no further; nor through an If.
TEST(InferShapes, NamesSizesThatAreComputedFromThoseOfInputs) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 13]>
g (float[N,8,6,6] x, bool c) => (y) <int64 zero = {0}, int64[1] axis = {0}, int64[2] rest = {8,36}> {
  s = Shape(x)
  n = Gather(s, zero)
  u = Unsqueeze(n, axis)
  t = Concat<axis=0>(u, rest)
  a = Reshape(x, t)
  b = Relu(a)
  d = If(c) < then_branch = left () => (l) { l = Neg(b) },
              else_branch = right () => (r) { q = Exp(b) r = Abs(q) } >
  e = Softmax(d)
  y = Neg(e)
})");
  const auto run = run_passes(*model, {"infer-shapes"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
  const std::vector<Dim> expected = {{std::nullopt, "N"}, {8, {}}, {36, {}}};
  for (std::string_view name : {"a", "b", "d", "e"}) {
    const TypeInfo* type = model->graph().find(name)->type();
    ASSERT_TRUE(type != nullptr && type->shape) << name;
    EXPECT_EQ(*type->shape, expected) << name;
  }
}

TEST(InferShapes, LeavesOpenWhatBranchesMakeDifferently) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 13]>
g (float[N,6] x, float[M,6] z, int64[2] s, bool c) => (y) {
  a = Reshape(x, s)
  d = If(c) < then_branch = left () => (l) { l = Neg(x) },
              else_branch = right () => (r) { r = Neg(z) } >
  e = Relu(d)
  f = Add(a, e)
  y = Neg(f)
})");
  ASSERT_TRUE(run_passes(*model, {"infer-shapes"})->status.ok());
  for (std::string_view name : {"a", "d", "e", "f"}) {
    const TypeInfo* type = model->graph().find(name)->type();
    ASSERT_TRUE(type != nullptr && type->shape) << name;
    EXPECT_EQ(type->shape->front(), Dim()) << name;
  }
}

TEST(InferShapes, KnowsOperatorsOfClassicLearning) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 1]>
g (int64[N,3] x) => (float[A,B] y) {
  a = ai.onnx.ml.Scaler <offset = [1.0, 2.0, 3.0], scale = [1.0, 0.5, 0.25]> (x)
  b = ai.onnx.ml.Normalizer <norm = "L2"> (a)
  c = ai.onnx.ml.Imputer <imputed_value_floats = [0.0]> (b)
  y = Neg(c)
})");
  ASSERT_TRUE(run_passes(*model, {"infer-shapes"})->status.ok());
  for (std::string_view name : {"a", "b", "c"}) {
    const Value& value = *model->graph().find(name);
    EXPECT_EQ(element_type(value), DataType::kFloat) << name;
    EXPECT_EQ(rank_of(value), 2u) << name;
    EXPECT_EQ(dim_of(value, 1), 3) << name;
  }
}

TEST(InferShapes, KnowsCommonOperatorsOfTheRuntime) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[N,5,32] x, float[N,5,96] p, float[N,4,5,8] v,
   uint8[8,1,16] w, float[8] s, float[8] g8, float[64,32] k) => (y) {
  a = com.microsoft.MatMulNBits <K = 32, N = 8, bits = 4, block_size = 32> (x, w, s)
  b = com.microsoft.QuickGelu (a)
  c, m, i, d = com.microsoft.SkipLayerNormalization (b, a, g8)
  e = Mul (c, d)
  f = SimplifiedLayerNormalization (e, g8)
  h = com.microsoft.FusedMatMul <transB = 1> (x, k)
  q = com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 4> (p)
  r = com.microsoft.MultiHeadAttention <num_heads = 4> (x, x, v)
  y = Neg (f)
})");
  ASSERT_TRUE(run_passes(*model, {"infer-shapes"})->status.ok());
  const auto last = [&](std::string_view name) {
    const Value& value = *model->graph().find(name);
    EXPECT_EQ(rank_of(value), 3U) << name;
    EXPECT_EQ(dim_of(value, 1), 5) << name;
    return dim_of(value, -1);
  };
  for (std::string_view name : {"a", "b", "c", "d", "e", "f"}) EXPECT_EQ(last(name), 8) << name;
  EXPECT_EQ(last("h"), 64);
  EXPECT_EQ(last("q"), 32);
  EXPECT_EQ(last("r"), 32);
}

TEST(InferShapes, AbsurdAttributesOfTheRuntimesOperatorsDoNoHarm) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[1,5,9223372036854775807] p, float[1,4,5,9223372036854775807] v) => (y) {
  q = com.microsoft.GroupQueryAttention <num_heads = 9223372036854775807, kv_num_heads = -5> (p)
  r = com.microsoft.MultiHeadAttention <num_heads = 9223372036854775807> (p, p, v)
  a = com.microsoft.MatMulNBits <K = 32, N = -8, bits = 4, block_size = 32> (p, p, p)
  y = Neg (p)
})");
  ASSERT_TRUE(run_passes(*model, {"infer-shapes"})->status.ok());
  for (std::string_view name : {"q", "r", "a"}) {
    EXPECT_EQ(dim_of(*model->graph().find(name), -1), std::nullopt) << name;
  }
}

// More nodes with graphs than are inferred at once: nothing is lost between.
TEST(InferShapes, OfManyBranches) {
  std::string nodes = "s = Shape(x) ";
  std::string last = "x";
  for (int i = 0; i < 200; ++i) {
    const std::string n = std::to_string(i);
    nodes += "y" + n + " = If (c) < then_branch = t" + n + " () => (o" + n + ") { o" + n +
             " = Add(" + last + ", w) }, else_branch = e" + n + " () => (p" + n + ") { q" + n +
             " = Neg(" + last + ") p" + n + " = Mul(q" + n + ", x) } > ";
    last = "y" + n;
    if (i == 50) nodes += "rr = Unsqueeze(y" + n + ", axis) ";
  }
  auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 17]>\ng (bool c, float[2,3] x) "
      "=> (float z, float k, float r) <float[1,3] w = {1,2,3}, int64[1] "
      "axis = {0}, int64[1] four = {4}> { " +
      nodes + "f = Concat<axis = 0>(four, s) e = Expand(rr, f) k = Tile(e, f) zz = Exp(" + last +
      ") z = Abs(zz) r = Abs(rr) }");
  const auto run = run_passes(*model, {"infer-shapes"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
  using Sizes = std::vector<std::int64_t>;
  const auto shape = [&](std::string_view name) {
    return static_shape(*model->graph().find(name)).value_or(Sizes());
  };
  EXPECT_EQ(shape("y0"), (Sizes{2, 3}));
  EXPECT_EQ(shape("y199"), (Sizes{2, 3}));
  EXPECT_EQ(shape("zz"), (Sizes{2, 3}));
  EXPECT_EQ(shape("rr"), (Sizes{1, 2, 3}));
  EXPECT_EQ(shape("e"), (Sizes{4, 2, 3}));
  for (Node* node : model->graph().nodes()) {
    for (const Graph* graph : node->bodies()) {
      EXPECT_EQ(static_shape(*graph->outputs()[0]), (Sizes{2, 3})) << graph->name();
    }
  }
}

TEST(InferShapes, IsNeverFatal) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2,3] x) => (float[2,3] y) <float[5,5] w = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}> {
  a = MatMul(x, w)
  y = Relu(a)
})");
  const auto run = run_passes(*model, {"infer-shapes"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
}

}  // namespace
}  // namespace mcompress::testing
