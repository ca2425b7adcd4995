#include <gtest/gtest.h>

#include "ir/facts.h"
#include "support/executor.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

TEST(FoldConstants, ComputesOnlyWhatOthersRead) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y)
<float[2] a = {1.0, 4.0}, float[2] b = {2.0, 2.0}> {
  m = Mul(a, b)
  s = Sqrt(m)
  y = Add(x, s)
})",
                                    {"fold-constants"}, 1e-6);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(count_initializers(*checked.after), 1);
  EXPECT_EQ(checked.run->count("fold-constants", "folded"), 2);
  EXPECT_EQ(checked.run->count("fold-constants", "bytes-removed"), 16);
  EXPECT_EQ(checked.run->count("fold-constants", "bytes-stored"), 8);
  EXPECT_NE(checked.after->graph().find("s")->constant(), nullptr);
}

TEST(FoldConstants, SeesThroughConstantNodesAndBranchesOfEqualNames) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[2] x) => (float[2] y) {
  k = Constant <value = float[2] {1.0, 2.0}> ()
  n = Neg(k)
  y = If (c) <
    then_branch = t () => (float[2] o) { v = Exp(n)  o = Add(x, v) },
    else_branch = e () => (float[2] p) { v2 = Abs(n) p = Add(x, v2) }
  >
})",
                                    {"fold-constants"}, 1e-6);
  EXPECT_EQ(checked.run->count("fold-constants", "folded"), 3);
  for (std::string_view op : {"Neg", "Exp", "Abs", "Constant"}) {
    EXPECT_EQ(count_nodes(*checked.after, op), 0) << op;
  }
}

TEST(FoldConstants, ShapesOfStaticValuesAreConstants) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2,3,4] x) => (float[6,4] y)
<int64[1] last = {-1}, int64[1] minus = {-1}> {
  s = Shape(x)
  d = Gather(s, last)
  t = Concat<axis=0>(minus, d)
  y = Reshape(x, t)
})",
                                    {"infer-shapes", "fold-constants", "eliminate-dead"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(*constant_ints(maker_of(*checked.after, "y")->input(1)),
            (std::vector<std::int64_t>{-1, 4}));
}

TEST(FoldConstants, OneKnownDimensionOfAnOpenShapeIsEnough) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,4] x) => (float[M,4] y)
<int64[1] last = {2}, int64[1] minus = {-1}> {
  s = Shape(x)
  d = Gather(s, last)
  t = Concat<axis=0>(minus, d)
  y = Reshape(x, t)
})",
                                    {"infer-shapes", "fold-constants", "eliminate-dead"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
}

TEST(FoldConstants, ThePadsOfAnExportedPadBecomeConstant) {
  // What PyTorch writes for F.pad with fixed sizes.
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,2,6,6] x) => (float[N,2,7,7] y)
<int64[4] pads = {0,1,0,1}, int64[1] rest = {4}, int64[2] two = {-1,2}, int64[1] from = {-1},
 int64[1] to = {-9223372036854775807}, int64[1] axis = {0}, int64[1] step = {-1}, int64[1] flat = {-1}> {
  z = ConstantOfShape<value = int64[1] {0}>(rest)
  all = Concat<axis=0>(pads, z)
  pairs = Reshape(all, two)
  turned = Slice(pairs, from, to, axis, step)
  across = Transpose<perm=[1,0]>(turned)
  line = Reshape(across, flat)
  final = Cast<to=7>(line)
  y = Pad(x, final)
})",
                                    {"infer-shapes", "fold-constants"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(checked.run->count("fold-constants", "folded"), 7);
}

TEST(FoldConstants, SeveralOutputsAreStoredOneByOne) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y)
<float[6] a = {1.0, 4.0, 3.0, 2.0, 9.0, 8.0}, int64[3] parts = {2,2,2}> {
  p, q, r = Split<axis=0>(a, parts)
  s = Add(x, p)
  y = Mul(s, r)
})",
                                    {"fold-constants"}, 0.0);
  EXPECT_EQ(checked.after->graph().node_count(), 2u);
  EXPECT_EQ(checked.run->count("fold-constants", "bytes-stored"), 16);
}

TEST(FoldConstants, AnOutputOfTheModelMayBeFolded) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y, float[2] z)
<float[2] a = {1.0, 4.0}> {
  z = Neg(a)
  y = Relu(x)
})",
                                    {"fold-constants"}, 0.0);
  EXPECT_EQ(count_nodes(*checked.after, "Neg"), 0);
  EXPECT_EQ(checked.after->graph().outputs()[1]->name(), "z");
}

constexpr std::string_view kGrowing = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[1] x) => (float[N,1000] y)
<int64[2] shape = {100, 1000}> {
  big = ConstantOfShape(shape)
  y = Add(x, big)
})";

TEST(FoldConstants, NeverGrowsTheFileByMuch) {
  auto checked = check_passes(kGrowing, {"infer-shapes", "fold-constants"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("ConstantOfShape node that makes 'big'"),
            "its result takes 400.0 kB, the constants behind it only 16 B");
  checked =
      check_passes(kGrowing, {"infer-shapes", "fold-constants:{\"max-growth\": 400000}"}, 0.0);
  EXPECT_EQ(count_nodes(*checked.after, "ConstantOfShape"), 0);
}

// A sixteenth of the constants and 1 KiB: 2 kB are much for a model without weights, and little
// beside 80 kB of them.
TEST(FoldConstants, WhatIsMuchDependsOnTheModel) {
  const auto with = [](std::string_view more) {
    return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,1] x, float[N,200] v) => "
           "(float[N,500] y, float[N,100] z) <int64[1] shape = {500}" +
           std::string(more) +
           "> { row = ConstantOfShape(shape) y = Add(x, row) z = MatMul(v, w) }";
  };
  const auto small = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,1] x) => (float[N,500] y) "
      "<int64[1] shape = {500}> { row = ConstantOfShape(shape) y = Add(x, row) }",
      {"infer-shapes", "fold-constants"}, 0.0);
  EXPECT_EQ(count_nodes(*small.after, "ConstantOfShape"), 1);
  const auto large =
      check_passes(with(", " + weights("w", {200, 100})), {"infer-shapes", "fold-constants"}, 0.0);
  EXPECT_EQ(count_nodes(*large.after, "ConstantOfShape"), 0);
}

TEST(FoldConstants, ASharedWeightCountsOnlyOnce) {
  // The transposed copy is as large as the weight, which stays because Gemm reads it too.
  const std::string text =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,200] x) => "
      "(float[N,100] y, float[N,200] z) <" +
      weights("w", {200, 100}) +
      "> { y = MatMul(x, w) t = Transpose<perm=[1,0]>(w) z = MatMul(y, t) }";
  auto checked = check_passes(text, {"infer-shapes", "fold-constants"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Transpose node that makes 't'"),
            "its result takes 80.0 kB, the constants behind it only 0 B");
}

// A standardised weight: the mean, the centred weight and its square are each read at two places,
// so that none of them alone makes what it reads superfluous.
TEST(FoldConstants, WhatEndsSmallerFoldsAsAWhole) {
  const auto text = [](std::string_view result, std::string_view last) {
    return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,200] x) => (float[N,100] y" +
           std::string(result) + ") <float e = {0.001}, " + weights("w", {200, 100}) +
           "> { m = ReduceMean<axes=[0]>(w) d = Sub(w, m) s = Mul(d, d) v = "
           "ReduceMean<axes=[0]>(s) "
           "a = Add(v, e) r = Sqrt(a) n = Div(d, r) y = MatMul(x, n)" +
           std::string(last) + " }";
  };
  auto checked = check_passes(text("", ""), {"infer-shapes", "fold-constants"}, 1e-5);
  EXPECT_EQ(checked.after->graph().node_count(), 1u);
  EXPECT_EQ(checked.run->count("fold-constants", "bytes-stored"), 80000);
  // The weight itself stays: its copy would add as much again.
  checked = check_passes(text(", float[N,100] z", " z = MatMul(x, w)"),
                         {"infer-shapes", "fold-constants"}, 1e-5);
  EXPECT_EQ(count_nodes(*checked.after, "Div"), 1);
  EXPECT_EQ(checked.run->why("Div node that makes 'n'").substr(0, 2), "'d");
}

// Biases for pairs of places: computed for 15 distances, spread over 64 x 256 pairs.
TEST(FoldConstants, WhatStandsInFrontOfWhatGrowsFolds) {
  const std::string text =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,2,64,256] x) => (float[N,2,64,256] y) "
      "<" +
      weights("c", {15, 2}) + ", " + weights("a", {2, 700}) + ", " + weights("b", {700, 2}) +
      ", int64[2] square = {64, 256}, int64[1] last = {-1}, int64[1] all = {16384}, int64 size = "
      "{15}> { h = MatMul(c, a) r = Relu(h) t = MatMul(r, b) "
      "z = ConstantOfShape(all) i = Cast<to=7>(z) g = Gather<axis=0>(t, i) "
      "p = Transpose<perm=[1,0]>(g) "
      "q = Reshape(p, shape4) y = Add(x, q) }";
  std::string whole = text;
  whole.replace(whole.find("int64 size"), 10, "int64[4] shape4 = {1, 2, 64, 256}, int64 size");
  const auto checked = check_passes(whole, {"infer-shapes", "fold-constants"}, 1e-5);
  EXPECT_EQ(count_nodes(*checked.after, "MatMul"), 0);
  EXPECT_EQ(count_nodes(*checked.after, "Relu"), 0);
  EXPECT_EQ(count_nodes(*checked.after, "Gather"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Transpose"), 1);
}

// The sum of a product of vectors is one number, but what is summed would take 40 MB on the way.
TEST(FoldConstants, WhatIsLargeOnTheWayStays) {
  const std::string text =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N] x) => (float[N] y) "
      "<int64[2] column = {5000,1}, int64[2] row = {1,2000}> { a = ConstantOfShape(column) "
      "b = ConstantOfShape(row) p = Sub(a, b) s = ReduceSum<keepdims=0>(p) y = Add(x, s) }";
  const auto checked = check_passes(text, {"infer-shapes", "fold-constants"}, 0.0);
  EXPECT_EQ(count_nodes(*checked.after, "Sub"), 1);
}

TEST(FoldConstants, CompressedWeightsStayCompressed) {
  const std::string text = R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[8] x) => (float[8] y)
<int8[8] q = {1,2,3,4,5,6,7,8}, float s = {0.5}, int8 z = {0}> {
  w = DequantizeLinear(q, s, z)
  y = Add(x, w)
})";
  EXPECT_FALSE(check_passes(text, {"fold-constants"}, 0.0).run->changed);
  std::string codes = "int8[100] q = {";
  for (int i = 0; i < 100; ++i) codes += (i != 0 ? "," : "") + std::to_string(i);
  const auto checked = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[100] x) => (float[100] y) <" + codes +
          "}, float s = {0.5}> { f = Cast<to=1>(q) w = Mul(f, s) y = Add(x, w) }",
      {"fold-constants"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
  EXPECT_EQ(checked.run->why("Cast node that makes 'f'"),
            "it restores weights that are stored as int8");
}

TEST(FoldConstants, RandomNumbersAndOverridableInputsStay) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x, float[2] w) => (float[2] y)
<float[2] a = {1.0, 4.0}, float[2] w = {1.0, 1.0}> {
  r = RandomNormalLike(a)
  d = Sub(r, r)
  n = Neg(w)
  s = Add(x, d)
  y = Add(s, n)
})",
                                    {"fold-constants"}, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

TEST(FoldConstants, WithoutARuntimeNodesStayWithTheReason) {
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) <float[2] a = {1.0, 4.0}> { n = Neg(a) y = Add(x, n) })");
  const auto run = run_without_runtime(*model, {"fold-constants"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("Neg node that makes 'n'"), "this needs a runtime, and none is available");
}

TEST(FoldConstants, WhatTheRuntimeCanNotComputeDoesNotStopTheRest) {
  // A Reshape to an impossible shape fails when it runs.
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y, float[2,2] z)
<float[2] a = {1.0, 4.0}, float[5] b = {1.0,2.0,3.0,4.0,5.0}, int64[2] shape = {2, 2}> {
  n = Neg(a)
  y = Add(x, n)
  z = Reshape(b, shape)
})");
  const auto run = run_passes(*model, {"fold-constants"});
  EXPECT_TRUE(run->status.ok());
  EXPECT_EQ(count_nodes(*model, "Neg"), 0);
  EXPECT_EQ(count_nodes(*model, "Reshape"), 1);
  EXPECT_NE(run->why("Reshape node that makes 'z'").find("the runtime can not compute it"),
            std::string::npos);
}

TEST(FoldConstants, OpensNoSessionWhenThereIsNothingToFold) {
  class Refusing final : public Runtime {
   public:
    std::string_view name() const override { return "refusing"; }
    Result<std::unique_ptr<Session>> open(const Model&, const SessionOptions&) override {
      ADD_FAILURE() << "a session was opened";
      return Error(Code::kInternal, "no", "no");
    }
    Result<std::unique_ptr<Session>> open_file(const std::filesystem::path&,
                                               const SessionOptions&) override {
      return Error(Code::kInternal, "no", "no");
    }
    Result<std::vector<std::pair<std::string, std::int64_t>>> executed_operators(
        const Model&, const SessionOptions&) override {
      return Error(Code::kInternal, "no", "no");
    }
  };
  auto model = model_from_text(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) <float[2] a = {1.0, 4.0}> { y = Add(x, a) })");
  Editor editor(*model, &onnx_catalog());
  Diagnostics diagnostics;
  Services services;
  services.runtime = std::make_shared<Refusing>();
  services.diagnostics = &diagnostics;
  Explain explain;
  Report report;
  const auto tensors = make_tensor_factory(1 << 20);
  const Executor executor(1);
  PassContext context(editor, services, explain, report.root(), *tensors, executor, 0);
  auto pass = builtin_passes().find("fold-constants")->create(Datum::map(), diagnostics);
  ASSERT_TRUE(pass.ok());
  EXPECT_TRUE((*pass)->run(*model, context).ok());
}

}  // namespace
}  // namespace mcompress::testing
