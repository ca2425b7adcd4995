#include <gtest/gtest.h>

#include "ir/facts.h"
#include "ir/walk.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr std::int64_t kNewest = 28;

std::string at(std::int64_t opset, std::string_view rest) {
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) + "]> g " +
         std::string(rest);
}

std::string convert(std::int64_t to) {
  return "convert-opset:{\"to\": " + std::to_string(to) + "}";
}

// A model as it is written for one opset, and the opsets that it can be written for.
struct Case {
  std::string_view name;
  std::int64_t opset, oldest;
  std::string_view text;
  std::int64_t newest = kNewest;
};

// The same calculation in each of them, run by ONNX Runtime; refused for older ones.
class EveryOpset : public ::testing::TestWithParam<Case> {};

TEST_P(EveryOpset, MeansTheSameOrIsRefused) {
  const Case& given = GetParam();
  const std::string text = at(given.opset, given.text);
  for (std::int64_t to = given.oldest; to <= given.newest; ++to) {
    SCOPED_TRACE("to opset " + std::to_string(to));
    const auto checked = check_passes(text, {convert(to)}, 2e-6);
    EXPECT_EQ(checked.after->opset(""), to);
    EXPECT_EQ(checked.run->changed, to != given.opset);
    // And back, unless the way is one-way: what was written out stays so.
    auto back = run_passes(*checked.after, {convert(given.opset)});
    if (back->status.ok()) expect_same_results(*checked.before, *checked.after, 2e-6, 2);
  }
  for (std::int64_t to = 7; to < given.oldest; ++to) {
    SCOPED_TRACE("to opset " + std::to_string(to));
    auto model = model_from_text(text);
    const auto run = run_passes(*model, {convert(to)});
    ASSERT_FALSE(run->status.ok());
    EXPECT_EQ(run->status.error().code, Code::kUnsupported);
    EXPECT_FALSE(run->status.error().diagnostic.where.subject.empty());
    EXPECT_NE(run->status.error().diagnostic.message.find("can not move from version"),
              std::string::npos)
        << run->status.error().diagnostic.message;
  }
}

constexpr Case kCases[] = {
    {"ArgMax", 13, 7, "(float[2,3] x) => (int64[2,1] y) { y = ArgMax<axis=-1>(x) }"},
    {"ArgMaxLast", 13, 12,
     "(float[2,3] x) => (int64[2,1] y) { y = ArgMax<axis=1,select_last_index=1>(x) }"},
    {"AveragePool", 19, 7,
     "(float[1,2,6,6] x) => (float[1,2,3,3] y) "
     "{ y = AveragePool<kernel_shape=[2,2],strides=[2,2]>(x) }"},
    {"AveragePoolDilated", 19, 19,
     "(float[1,2,6,6] x) => (float[1,2,4,4] y) "
     "{ y = AveragePool<kernel_shape=[2,2],dilations=[2,2]>(x) }"},
    {"BatchNormalization", 15, 7,
     "(float[1,2,3] x) => (float[1,2,3] y) "
     "<float[2] s = {1,2}, float[2] b = {0,1}, float[2] m = {0.5,0}, float[2] v = {1,4}> "
     "{ y = BatchNormalization(x, s, b, m, v) }"},
    {"Celu", 12, 7, "(float[2,3] x) => (float[2,3] y) { y = Celu<alpha=2.0>(x) }", 27},
    {"Clip", 13, 7,
     "(float[2,3] x) => (float[2,3] y) <float a = {-0.5}, float b = {0.5}> { y = Clip(x, a, b) }"},
    {"ClipAbove", 13, 7,
     "(float[2,3] x) => (float[2,3] y) <float b = {0.25}> { y = Clip(x, , b) }"},
    {"ClipComputed", 13, 8,
     "(float[2,3] x, float l) => (float[2,3] y) { h = Abs(l) y = Clip(x, l, h) }"},
    {"ClipIntegers", 13, 12,
     "(int32[2,3] x) => (int32[2,3] y) <int32 a = {-1}> { y = Clip(x, a) }"},
    {"Concat", 13, 7, "(float[2,3] x) => (float[2,6] y) { y = Concat<axis=-1>(x, x) }"},
    {"ConstantList", 13, 7,
     "(float[2] x) => (float[2] y) { c = Constant<value_floats=[1.0,2.0]>() y = Add(x, c) }"},
    {"DequantizeOne", 13, 10,
     "(uint8[2,3] x) => (float[2,3] y) <float s = {0.5}, uint8 z = {3}> "
     "{ y = DequantizeLinear(x, s, z) }",
     27},
    {"DequantizeChannels", 13, 13,
     "(uint8[2,3] x) => (float[2,3] y) <float[3] s = {0.5,1,2}, uint8[3] z = {3,0,1}> "
     "{ y = DequantizeLinear<axis=1>(x, s, z) }",
     27},
    {"Dropout", 13, 7, "(float[2,3] x) => (float[2,3] y) <float r = {0.5}> { y = Dropout(x, r) }"},
    {"Flatten", 13, 7, "(float[2,3,4] x) => (float[6,4] y) { y = Flatten<axis=-1>(x) }"},
    {"Gather", 13, 7,
     "(float[2,3] x) => (float[2,2] y) <int64[2] i = {2,0}> { y = Gather<axis=-1>(x, i) }"},
    {"Gelu", 20, 9, "(float[2,3] x) => (float[2,3] y) { y = Gelu(x) }"},
    {"Gemm", 13, 7, "(float[2,3] a, float[3,4] b) => (float[2,4] y) { y = Gemm(a, b) }"},
    {"GreaterOrEqual", 16, 11,
     "(float[2,3] x, float[2,3] z) => (bool[2,3] y) { y = GreaterOrEqual(x, z) }"},
    {"GridSample", 20, 16,
     "(float[1,1,4,4] x, float[1,3,3,2] g) => (float[1,1,3,3] y) "
     "{ y = GridSample<mode=\"linear\">(x, g) }"},
    {"GroupNormalization", 21, 7,
     "(float[1,4,3] x) => (float[1,4,3] y) <float[4] s = {1,2,3,4}, float[4] b = {0,1,0,1}> "
     "{ y = GroupNormalization<num_groups=2>(x, s, b) }"},
    {"HardSwish", 14, 7, "(float[2,3] x) => (float[2,3] y) { y = HardSwish(x) }"},
    {"LayerNormalization", 17, 9,
     "(float[2,3,4] x) => (float[2,3,4] y) <float[4] s = {1,2,3,4}, float[4] b = {0,1,0,1}> "
     "{ y = LayerNormalization(x, s, b) }"},
    {"LogSoftmax", 13, 7, "(float[2,3,4] x) => (float[2,3,4] y) { y = LogSoftmax<axis=1>(x) }"},
    {"MaxOfSame", 13, 7, "(float[2,3] x, float[2,3] z) => (float[2,3] y) { y = Max(x, z) }"},
    {"MaxOfBroadcast", 13, 8, "(float[2,3] x, float[3] z) => (float[2,3] y) { y = Max(x, z) }"},
    {"MaxPool", 12, 7,
     "(float[1,2,6,6] x) => (float[1,2,3,3] y) { y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x) "
     "}"},
    {"MaxPoolCeil", 12, 10,
     "(float[1,2,5,5] x) => (float[1,2,3,3] y) "
     "{ y = MaxPool<kernel_shape=[2,2],strides=[2,2],ceil_mode=1>(x) }"},
    {"Mish", 18, 7, "(float[2,3] x) => (float[2,3] y) { y = Mish(x) }"},
    {"Pad", 13, 7,
     "(float[2,3] x) => (float[3,5] y) <int64[4] p = {1,0,0,2}, float v = {1.5}> "
     "{ y = Pad(x, p, v) }"},
    {"PadAxes", 18, 7,
     "(float[2,3,4] x) => (float[2,6,4] y) <int64[2] p = {1,2}, int64[1] a = {-2}> "
     "{ y = Pad(x, p, , a) }"},
    {"PadWrap", 19, 19,
     "(float[2,3] x) => (float[2,5] y) <int64[4] p = {0,1,0,1}> { y = Pad<mode=\"wrap\">(x, p) }"},
    {"PowMixed", 15, 12, "(float[2,3] x) => (float[2,3] y) <int64 e = {2}> { y = Pow(x, e) }"},
    {"QuantizeToldType", 21, 10,
     "(float[2,3] x) => (int8[2,3] y) <float s = {0.01}> "
     "{ y = QuantizeLinear<output_dtype=3>(x, s) }",
     27},
    {"Range", 11, 7,
     "(int64 n) => (int64[k] y) <int64 o = {0}, int64 d = {1}> { y = Range(o, n, d) }"},
    {"ReduceMean", 18, 7,
     "(float[2,3,4] x) => (float[2,3] y) <int64[1] a = {-1}> { y = ReduceMean<keepdims=0>(x, a) }"},
    {"ReduceNothing", 18, 7,
     "(float[2,3] x) => (float[2,3] y) { y = ReduceSum<noop_with_empty_axes=1>(x) }"},
    {"ReduceAll", 18, 7, "(float[2,3] x) => (float[1,1] y) { y = ReduceMax(x) }"},
    {"ReduceSum", 13, 7,
     "(float[2,3] x) => (float[2,1] y) <int64[1] a = {1}> { y = ReduceSum(x, a) }"},
    {"ReshapeZero", 14, 14,
     "(float[2,3] x) => (float[3,2] y) <int64[2] s = {3,2}> { y = Reshape<allowzero=1>(x, s) }"},
    {"ResizeScales", 13, 7,
     "(float[1,1,2,3] x) => (float[1,1,4,6] y) <float[4] s = {1,1,2,2}> "
     "{ y = Resize<mode=\"nearest\",coordinate_transformation_mode=\"asymmetric\","
     "nearest_mode=\"floor\">(x, , s) }"},
    {"ResizeHalfPixel", 13, 11,
     "(float[1,1,2,3] x) => (float[1,1,4,6] y) <int64[4] s = {1,1,4,6}> "
     "{ y = Resize<mode=\"linear\">(x, , , s) }"},
    {"ScatterElements", 18, 9,
     "(float[3] x) => (float[3] y) <int64[1] i = {2}, float[1] u = {7}> "
     "{ y = ScatterElements<axis=-1>(x, i, u) }"},
    {"ScatterAdd", 18, 16,
     "(float[3] x) => (float[3] y) <int64[1] i = {2}, float[1] u = {7}> "
     "{ y = ScatterElements<reduction=\"add\">(x, i, u) }"},
    {"Shape", 15, 7, "(float[2,3,4] x) => (int64[2] y) { y = Shape<start=1>(x) }"},
    {"Slice", 13, 7,
     "(float[2,6] x) => (float[2,2] y) <int64[1] b = {-3}, int64[1] e = {-1}, int64[1] a = {-1}> "
     "{ y = Slice(x, b, e, a) }"},
    {"SliceSteps", 13, 10,
     "(float[2,6] x) => (float[2,3] y) "
     "<int64[1] b = {0}, int64[1] e = {6}, int64[1] a = {1}, int64[1] s = {2}> "
     "{ y = Slice(x, b, e, a, s) }"},
    {"SliceComputed", 13, 10,
     "(float[6] x, int64[1] b) => (float[k] y) <int64[1] e = {6}> { y = Slice(x, b, e) }"},
    {"Softmax", 13, 7, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=1>(x) }"},
    {"SoftmaxLast", 13, 7, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }"},
    {"SoftmaxOld", 7, 7, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=1>(x) }"},
    {"SplitSizes", 13, 7,
     "(float[2,6] x) => (float[2,2] y, float[2,4] z) <int64[2] s = {2,4}> "
     "{ y, z = Split<axis=-1>(x, s) }"},
    {"SplitParts", 18, 7,
     "(float[2,6] x) => (float[2,3] y, float[2,3] z) { y, z = Split<axis=1,num_outputs=2>(x) }"},
    {"SplitUneven", 18, 7,
     "(float[2,5] x) => (float[2,3] y, float[2,2] z) { y, z = Split<axis=1,num_outputs=2>(x) }"},
    {"Squeeze", 13, 7,
     "(float[2,1,3] x) => (float[1,2,3] y) <int64[1] a = {-2}, int64[1] b = {-3}> "
     "{ t = Squeeze(x, a) y = Unsqueeze(t, b) }"},
    {"Swish", 24, 7, "(float[2,3] x) => (float[2,3] y) { y = Swish(x) }", 24},
    {"TopK", 11, 7,
     "(float[2,5] x) => (float[2,2] y, int64[2,2] i) <int64[1] k = {2}> { y, i = TopK(x, k) }"},
    {"TopKSmallest", 11, 11,
     "(float[2,5] x) => (float[2,2] y, int64[2,2] i) <int64[1] k = {2}> "
     "{ y, i = TopK<largest=0>(x, k) }"},
    {"Upsample", 9, 7,
     "(float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1,1,2,2}> "
     "{ y = Upsample<mode=\"linear\">(x, s) }"},
};

INSTANTIATE_TEST_SUITE_P(Operators, EveryOpset, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

// ------------------------------------------------------------------------------- before opset 7

Node& only_node(Model& model, std::string_view op_type) {
  Node* found = nullptr;
  for_each_node(model.graph(), [&](Node& node) {
    if (node.op_type() == op_type) found = &node;
  });
  EXPECT_NE(found, nullptr) << op_type;
  return *found;
}

std::unique_ptr<Model> from_six(std::string_view rest, std::int64_t to) {
  auto model = model_from_text("<ir_version: 3, opset_import: [\"\" : 6]> g " + std::string(rest));
  const auto run = run_passes(*model, {convert(to)});
  EXPECT_TRUE(run->status.ok()) << to_string(run->status.error().diagnostic);
  EXPECT_TRUE(check_model(*model).ok());
  return model;
}

TEST(ConvertOpset, AnAxisOfOldBroadcastingBecomesDimensions) {
  const auto model = from_six(
      "(float[2,3,4,5] x, float[3] b) => (float[2,3,4,5] y) "
      "{ y = Add<broadcast=1,axis=1>(x, b) }",
      13);
  const Node& add = only_node(*model, "Add");
  EXPECT_TRUE(add.attributes().empty());
  EXPECT_EQ(add.input(1)->producer()->op_type(), "Unsqueeze");
  EXPECT_EQ(constant_ints(add.input(1)->producer()->input(1)), (std::vector<std::int64_t>{1, 2}));
  // Written the new way it is the same model.
  const auto modern = model_from_text(at(13,
                                         "(float[2,3,4,5] x, float[3] b) => (float[2,3,4,5] y) "
                                         "<int64[2] a = {1,2}> "
                                         "{ t = Unsqueeze(b, a) y = Add(x, t) }"));
  expect_same_results(*modern, *model, 0.0);
}

TEST(ConvertOpset, InferenceIsNoLongerAskedFor) {
  const auto model = from_six(
      "(float[1,2,3] x, float[2] s) => (float[1,2,3] y) "
      "{ t = BatchNormalization<is_test=1>(x, s, s, s, s) y = Dropout<is_test=1>(t) }",
      9);
  EXPECT_EQ(only_node(*model, "BatchNormalization").attribute("is_test"), nullptr);
  auto training = model_from_text(
      "<ir_version: 3, opset_import: [\"\" : 6]> g (float[2] x) => (float[2] y) "
      "{ y = Dropout(x) }");
  EXPECT_NE(run_passes(*training, {convert(9)})->status.error().diagnostic.message.find("training"),
            std::string::npos);
}

// ------------------------------------------------------------------------------- the whole model

TEST(ConvertOpset, NamesNodeVersionsReasonAndWayOut) {
  auto model =
      model_from_text(at(13, R"((float[1,1,2,3] x, bool[2] m) => (float[1,1,4,6] y, bool[2] n)
<int64[4] s = {1,1,4,6}> { y = Resize<mode="linear">(x, , , s) n = Not(m) })"));
  const std::uint64_t before = fingerprint(*model);
  const auto run = run_passes(*model, {convert(9)});
  ASSERT_FALSE(run->status.ok());
  const Diagnostic& said = run->status.error().diagnostic;
  EXPECT_EQ(said.id, "opset-not-convertible");
  EXPECT_EQ(said.where.subject, "Resize node that makes 'y'");
  EXPECT_EQ(said.message,
            "Resize can not move from version 13 to opset 9, which does not have it: before "
            "opset 11 coordinates are asymmetric");
  EXPECT_EQ(said.hint, "opset 11 is within reach");
  EXPECT_EQ(fingerprint(*model), before);
}

TEST(ConvertOpset, TypesThatTheOlderSetLacksAreRefused) {
  auto model = model_from_text(at(22, "(bfloat16[2] x) => (bfloat16[2] y) { y = Cos(x) }"));
  const auto run = run_passes(*model, {convert(21)});
  ASSERT_FALSE(run->status.ok());
  EXPECT_NE(run->status.error().diagnostic.message.find("can not be tensor(bfloat16) there"),
            std::string::npos)
      << run->status.error().diagnostic.message;
}

TEST(ConvertOpset, AnIrVersionThatOlderRuntimesRefuseGoesDownToo) {
  auto model = model_from_text(
      "<ir_version: 10, opset_import: [\"\" : 21]> g (float[2] x) => (float[2] y) "
      "{ y = Relu(x) }");
  EXPECT_TRUE(run_passes(*model, {convert(13)})->status.ok());
  EXPECT_EQ(model->ir_version(), 7);
  EXPECT_TRUE(run_passes(*model, {convert(23)})->status.ok());
  EXPECT_EQ(model->ir_version(), 11);
}

TEST(ConvertOpset, OpsetsOutOfReachAreUsageErrors) {
  auto model = model_from_text(at(13, "(float[2] x) => (float[2] y) { y = Relu(x) }"));
  const auto run = run_passes(*model, {convert(6)});
  ASSERT_FALSE(run->status.ok());
  EXPECT_EQ(run->status.error().code, Code::kUsage);
}

TEST(ConvertOpset, NothingIsDoneWhereTheModelIsThere) {
  const auto checked =
      check_passes(at(13, "(float[2] x) => (float[2] y) { y = Relu(x) }"), {convert(13)}, 0.0);
  EXPECT_FALSE(checked.run->changed);
}

TEST(ConvertOpset, NestedGraphsMoveAsWell) {
  const std::string text = at(13, R"((bool c, float[1,3] x) => (float[3] y) <int64[1] a = {0}> {
  y = If (c) <
    then_branch = t () => (float[3] o) { o = Squeeze(x, a) },
    else_branch = e () => (float[3] p) { n = HardSigmoid(x) q = Softmax<axis=0>(n) p = Squeeze(q, a) }
  >
})");
  for (const std::int64_t to : {9, 11, 12, 16, 21, 28}) {
    const auto checked = check_passes(text, {convert(to)}, 2e-6);
    EXPECT_EQ(checked.after->opset(""), to);
  }
}

TEST(ConvertOpset, SharedConstantsServeTheOtherReaders) {
  const auto checked = check_passes(at(13,
                                       "(float[2,1,3] x) => (float[2,3] y, int64[1] z) "
                                       "<int64[1] a = {1}> { y = Squeeze(x, a) z = Identity(a) }"),
                                    {convert(11)}, 0.0);
  EXPECT_EQ(count_initializers(*checked.after), 1);
}

TEST(ConvertOpset, FunctionsMoveInPlaceWhereTheyCan) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 12, "local" : 1]>
g (float[2,3,4] x) => (float[3,4] y) { t = local.f(x) y = Relu(t) }
<domain: "local", opset_import: ["" : 12]>
f (a) => (b) { s = ReduceSum<axes=[0]>(a) b = Squeeze<axes=[0]>(s) })",
                                    {convert(21)}, 0.0);
  ASSERT_EQ(checked.after->functions().size(), 1u);
  EXPECT_EQ(checked.after->functions()[0].opsets.at(""), 21);
}

TEST(ConvertOpset, FunctionsThatDependOnTheirCallsAreWrittenOut) {
  const auto checked = check_passes(R"(
<ir_version: 8, opset_import: ["" : 12, "local" : 1]>
g (float[2,1,3] x) => (float[2,3] y) { y = local.f<where=[1]>(x) }
<domain: "local", opset_import: ["" : 12]>
f <where> (a) => (b) { b = Squeeze<axes: ints = @where>(a) })",
                                    {convert(13)}, 0.0);
  EXPECT_TRUE(checked.after->functions().empty());
  EXPECT_EQ(maker_of(*checked.after, "y")->op_type(), "Squeeze");
}

TEST(ConvertOpset, WhatStandsForAnOperatorFitsItsSurroundings) {
  // Names of the definition are taken in the model already, and the node is in a nested graph.
  const std::string text = at(20, R"((bool c, float[2,3] x) => (float[2,3] y) {
  y = If (c) <
    then_branch = t () => (float[2,3] o) { X = Gelu<approximate="tanh">(x) o = Gelu(X) },
    else_branch = e () => (float[2,3] p) { p = HardSwish(x) }
  >
})");
  const auto checked = check_passes(text, {convert(13)}, 2e-6);
  EXPECT_EQ(count_nodes(*checked.after, "Gelu"), 0);
  EXPECT_EQ(count_nodes(*checked.after, "HardSwish"), 0);
}

}  // namespace
}  // namespace mcompress::testing
