// cast-float16 on small graphs: each stored type bit for bit, each reason to stay, and where casts
// stand when the arithmetic is converted.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ir/convert.h"
#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/half/float_storage.h"
#include "passes/common/half/half_plan.h"
#include "support/executor.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string model(std::string_view signature, std::string_view initializers, std::string_view body,
                  int opset = 17, int ir = 8) {
  return "<ir_version: " + std::to_string(ir) + ", opset_import: [\"\" : " + std::to_string(opset) +
         "]> g " + std::string(signature) + " <" + std::string(initializers) + "> { " +
         std::string(body) + " }";
}

struct Cast16 {
  std::unique_ptr<Model> before, after;
  std::unique_ptr<PassRun> run;
};

Cast16 cast(const std::string& text, const std::string& options,
            std::string_view target = "generic-qdq") {
  Cast16 result;
  result.before = model_from_text(text);
  result.after = result.before->clone();
  result.run = run_passes_for(target, *result.after,
                              {"lift-constants", "infer-shapes", "cast-float16:" + options});
  EXPECT_TRUE(result.run->status.ok()) << text.substr(0, 200);
  EXPECT_TRUE(verify(*result.after).ok()) << text.substr(0, 200);
  const Status sound = check_model(*result.after);
  EXPECT_TRUE(sound.ok()) << (sound.ok() ? "" : sound.error().diagnostic.message);
  return result;
}

Cast16 stored(const std::string& text, double tolerance, const std::string& weights,
              const std::string& more = "", std::string_view target = "onnxruntime-cpu") {
  Cast16 result =
      cast(text, "{\"form\": \"storage\", \"weights\": \"" + weights + "\"" + more + "}", target);
  expect_same_results(*result.before, *result.after, tolerance);
  return result;
}

Cast16 computed(const std::string& text, double tolerance, const std::string& more = "") {
  Cast16 result = cast(text, "{\"form\": \"compute\"" + more + "}");
  expect_same_results(*result.before, *result.after, tolerance);
  return result;
}

const Value* initializer_of(const Model& model, DataType type) {
  const Value* found = nullptr;
  for_each_graph(const_cast<Model&>(model).graph(), [&](Graph& graph) {
    for (const Value* value : graph.initializers()) {
      if (value->initializer()->dtype() == type) found = value;
    }
  });
  return found;
}

std::int64_t count_typed(const Model& model, DataType type, std::int64_t least = 0) {
  std::int64_t count = 0;
  for_each_graph(const_cast<Model&>(model).graph(), [&](Graph& graph) {
    for (const Value* value : graph.initializers()) {
      const Tensor& tensor = *value->initializer();
      count += tensor.dtype() == type && tensor.elements() >= least ? 1 : 0;
    }
  });
  return count;
}

// Casts that read another cast's result.
std::int64_t cast_pairs(const Model& model) {
  std::int64_t count = 0;
  for_each_node(const_cast<Model&>(model).graph(), [&](Node& node) {
    const Node* maker = node.is("Cast") ? node.input(0)->producer() : nullptr;
    count += maker != nullptr && maker->is("Cast") ? 1 : 0;
  });
  return count;
}

const Executor& one_thread() {
  static const Executor executor(1);
  return executor;
}

const std::string kGemm =
    model("(float[3,32] x) => (float[3,24] y)", weights("w", {32, 24}), "y = MatMul(x, w)");

// ------------------------------------------------------------------------------------ storage

TEST(CastFloat16, StoresWeightsOfEveryOperator) {
  const std::string text =
      model("(float[2,3,12,12] x, int64[2] i) => (float[2,10] y, float[2,16] e)",
            weights("k", {8, 3, 5, 5}) + ", " + weights("b", {8}) + ", " +
                weights("w", {512, 10}, -0.1F, 0.1F) + ", " + weights("t", {40, 16}),
            "c = Conv(x, k, b) f = Flatten(c) y = MatMul(f, w) e = Gather(t, i)");
  const auto checked = stored(text, 5e-3, "float16");
  EXPECT_EQ(checked.run->applied("cast-float16"), 3);
  EXPECT_EQ(count_typed(*checked.after, DataType::kFloat16), 3);
  EXPECT_EQ(count_nodes(*checked.after, "Cast"), 3);
  EXPECT_EQ(checked.after->opset(""), 17);
}

TEST(CastFloat16, RoundsHalfToEvenBitForBit) {
  const auto checked = stored(kGemm, 5e-3, "float16");
  const auto original =
      read_floats(*initializer_of(*checked.before, DataType::kFloat)->initializer());
  const Tensor& codes = *initializer_of(*checked.after, DataType::kFloat16)->initializer();
  const auto pinned = codes.storage()->pin(0, codes.byte_size());
  ASSERT_TRUE(original.ok() && pinned.ok());
  for (std::size_t i = 0; i < original->size(); ++i) {
    std::uint16_t code = 0;
    std::memcpy(&code, pinned->bytes().data() + 2 * i, 2);
    // Independent of the codec: the nearest number of 11 significant bits.
    const float x = (*original)[i];
    const double unit = std::ldexp(1.0, std::max(std::ilogb(x), -14) - 10);
    EXPECT_EQ(float16_to_float(code), static_cast<float>(std::nearbyint(double{x} / unit) * unit));
  }
}

TEST(CastFloat16, RaisesTheOpsetOnlyWhereTheTypeNeedsIt) {
  const std::string old = model("(float[3,32] x) => (float[3,24] y)", weights("w", {32, 24}),
                                "y = MatMul(x, w)", 11, 6);
  EXPECT_EQ(stored(old, 5e-3, "float16").after->opset(""), 11);
  EXPECT_EQ(stored(old, 5e-2, "bfloat16").after->opset(""), 13);
  const auto eight = stored(old, 0.2, "float8e4m3fn");
  EXPECT_EQ(eight.after->opset(""), 19);
  EXPECT_GE(eight.after->ir_version(), 9);
  EXPECT_EQ(count_nodes(*eight.after, "Mul"), 1);
}

TEST(CastFloat16, Float8HasAScalePerChannel) {
  const auto channels = stored(kGemm, 0.2, "float8");
  const Value* codes = initializer_of(*channels.after, DataType::kFloat8E4M3FN);
  ASSERT_NE(codes, nullptr);
  EXPECT_EQ(count_typed(*channels.after, DataType::kFloat, 24), 1);  // the scales
  const auto tensor = stored(kGemm, 0.2, "float8", ", \"float-scales\": \"tensor\"");
  EXPECT_EQ(count_typed(*tensor.after, DataType::kFloat, 2), 0);
  const auto none = stored(kGemm, 0.2, "float8", ", \"float-scales\": \"none\"");
  EXPECT_EQ(count_nodes(*none.after, "Mul"), 0);
  EXPECT_EQ(count_typed(*stored(kGemm, 0.4, "float8e5m2").after, DataType::kFloat8E5M2), 1);
}

TEST(CastFloat16, LargeWeightsAreScaledByAPowerOfTwo) {
  const std::string text = model("(float[3,32] x) => (float[3,24] y)",
                                 weights("w", {32, 24}, -3e6F, 3e6F), "y = MatMul(x, w)");
  const auto checked = cast(text, "{\"form\": \"storage\"}", "onnxruntime-cpu");
  ASSERT_FALSE(checked.run->explain.all().empty());
  EXPECT_GT(checked.run->explain.all().back().sqnr_db.value_or(0), 70);
  expect_same_results(*checked.before, *checked.after, 0.1);
  EXPECT_EQ(count_nodes(*checked.after, "Mul"), 1);
  const Value* scale = initializer_of(*checked.after, DataType::kFloat);
  ASSERT_NE(scale, nullptr);
  const auto value = read_floats(*scale->initializer());
  ASSERT_TRUE(value.ok() && value->size() == 1);
  EXPECT_EQ(std::exp2(std::round(std::log2(value->front()))), value->front());
  const auto plain = cast(text, "{\"form\": \"storage\", \"float-scales\": \"none\"}");
  EXPECT_EQ(plain.run->applied("cast-float16"), 0);
  EXPECT_NE(plain.run->why("w").find("are beyond 65504"), std::string::npos);
}

TEST(CastFloat16, StorageSaysWhyNot) {
  const auto why = [](const std::string& text, const std::string& options = "{}",
                      std::string_view target = "onnxruntime-cpu") {
    const auto checked = cast(text, options, target);
    EXPECT_EQ(checked.run->applied("cast-float16"), 0) << text.substr(0, 120);
    return checked.run->why("w");
  };
  EXPECT_EQ(
      why(model("(float[3,8] x) => (float[3,8] y)", weights("w", {8, 8}), "y = MatMul(x, w)")),
      "has 64 elements, below 256");
  EXPECT_EQ(why(model("(float[3,32] x, float[32,24] w) => (float[3,24] y)", weights("w", {32, 24}),
                      "y = MatMul(x, w)")),
            "a caller of the model may override it");
  EXPECT_NE(why(kGemm, "{\"exclude\": [\"MatMul\"]}"), "");
  EXPECT_NE(why(kGemm, "{\"form\": \"storage\", \"weights\": \"float8\"}", "tensorrt")
                .find("rule low-float/storage of tensorrt"),
            std::string::npos);
  EXPECT_NE(why(model(
                    "(float[3,32] x) => (float[3,24] y)",
                    "float[768] w = {" +
                        [] {
                          std::string text = "inf";
                          for (int i = 1; i < 768; ++i) text += ", 0.5";
                          return text;
                        }() +
                        "}, int64[2] s = {32, 24}",
                    "r = Reshape(w, s) y = MatMul(x, r)"),
                "{\"form\": \"storage\", \"weights\": \"float8\"}")
                .find("NaN or infinity"),
            std::string::npos);
}

TEST(CastFloat16, WeightsOfNestedGraphsAreStored) {
  const std::string text = model(
      "(float[3,32] x, bool c) => (float[3,24] y)", weights("w", {32, 24}),
      "y = If (c) <then_branch = t () => (float[3,24] a) <" + weights("v", {32, 24}) +
          "> { a = MatMul(x, v) }, else_branch = e () => (float[3,24] b) { b = MatMul(x, w) }>");
  const auto checked = stored(text, 5e-3, "float16");
  EXPECT_EQ(checked.run->applied("cast-float16"), 2);
  EXPECT_EQ(count_typed(*checked.after, DataType::kFloat), 0);
}

TEST(CastFloat16, LargeTablesStayHalfAtRunTime) {
  const std::string text =
      model("(int64[3] i) => (float[3,1024] y)", weights("t", {256, 1024}), "y = Gather(t, i)");
  const auto checked = stored(text, 5e-3, "float16");
  const Node* last = maker_of(*checked.after, "y");
  ASSERT_NE(last, nullptr);
  EXPECT_TRUE(last->is("Cast"));
  EXPECT_TRUE(last->input(0)->producer()->is("Gather"));
}

TEST(CastFloat16, ScansWhatDoesNotFit) {
  const std::vector<float> values = {65504.0F,
                                     65519.0F,
                                     65520.0F,
                                     -1e9F,
                                     5.9604645e-8F,
                                     2.9802322e-8F,
                                     3e-8F,
                                     0.0F,
                                     std::numeric_limits<float>::infinity(),
                                     std::numeric_limits<float>::quiet_NaN()};
  const Tensor tensor = make_float_tensor(values, {10});
  const auto scan = scan_floats(tensor, DataType::kFloat16, one_thread());
  ASSERT_TRUE(scan.ok());
  EXPECT_EQ(scan->beyond, 2);     // 65519 rounds down to 65504
  EXPECT_EQ(scan->vanishing, 1);  // half of the smallest rounds to even, which is 0
  EXPECT_EQ(scan->infinity_count, 1);
  EXPECT_EQ(scan->nan_count, 1);
  EXPECT_EQ(scan->largest, 1e9F);
  const auto wide = scan_floats(tensor, DataType::kBfloat16, one_thread());
  ASSERT_TRUE(wide.ok());
  EXPECT_EQ(wide->beyond + wide->vanishing, 0);
}

// ------------------------------------------------------------------------------------ compute

TEST(CastFloat16, CastsStandAtTheBoundariesOnly) {
  const std::string text =
      model("(float[3,32] x) => (float[3,16] y)",
            weights("w", {32, 24}) + ", " + weights("b", {24}) + ", " + weights("v", {24, 16}),
            "h = MatMul(x, w) a = Add(h, b) r = Relu(a) y = MatMul(r, v)");
  const auto checked = computed(text, 2e-2);
  EXPECT_EQ(count_nodes(*checked.after, "Cast"), 2);
  EXPECT_EQ(count_typed(*checked.after, DataType::kFloat), 0);
  EXPECT_EQ(element_type(*checked.after->graph().outputs()[0]), DataType::kFloat);
  EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
  EXPECT_EQ(checked.run->count("cast-float16", "converted"), 4);

  const auto whole = cast(text, "{\"form\": \"compute\", \"keep-io\": false}");
  EXPECT_EQ(count_nodes(*whole.after, "Cast"), 0);
  EXPECT_EQ(element_type(*whole.after->graph().inputs()[0]), DataType::kFloat16);
  EXPECT_EQ(element_type(*whole.after->graph().outputs()[0]), DataType::kFloat16);
}

TEST(CastFloat16, AValueReadInBothTypesHasOneCast) {
  const auto checked =
      computed(model("(float[3,32] x) => (float[3,24] y, float[3,24] z, float[3,24] p)",
                     weights("w", {32, 24}),
                     "y = MatMul(x, w) s = Sigmoid(y) t = Tanh(y) z = Add(s, t) p = Relu(y)"),
               2e-2, ", \"exclude\": [\"Sigmoid\", \"Tanh\", \"Add\"]");
  // x in, y out (read by Sigmoid and Tanh as well), p out.
  EXPECT_EQ(count_nodes(*checked.after, "Cast"), 3);
  EXPECT_EQ(cast_pairs(*checked.after), 0);
}

TEST(CastFloat16, OutputsOfOtherOutputsKeepTheirNames) {
  const auto checked = computed(model("(float[3,32] x) => (float[3,24] y, float[3,24] z)",
                                      weights("w", {32, 24}), "y = MatMul(x, w) z = Relu(y)"),
                                2e-2);
  EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
  EXPECT_EQ(checked.after->graph().outputs()[1]->name(), "z");
  EXPECT_EQ(count_nodes(*checked.after, "Cast"), 3);
}

TEST(CastFloat16, WhatGuardsADivisionStaysFloat32) {
  const auto checked =
      computed(model("(float[3,32] x) => (float[3,24] y)",
                     weights("w", {32, 24}) + ", float two = {2}, float eps = {1e-12}",
                     "h = MatMul(x, w) m = ReduceMean<axes = [1], keepdims = 1>(h) d = Sub(h, m) "
                     "p = Pow(d, two) v = ReduceMean<axes = [1], keepdims = 1>(p) e = Add(v, eps) "
                     "s = Sqrt(e) y = Div(d, s)"),
               2e-2);
  const auto why = [&](std::string_view value) {
    return checked.run->why(maker_of(*checked.before, value)->label());
  };
  EXPECT_EQ(why("e"), "its constant 1e-12 is 0 in float16");
  for (const char* value : {"p", "v", "s"}) {
    EXPECT_NE(why(value).find("is 0 in float16"), std::string::npos) << value;
  }
  EXPECT_NE(why("y"), "");
  EXPECT_EQ(why("h"), "");
  EXPECT_EQ(cast_pairs(*checked.after), 0);
}

TEST(CastFloat16, OperatorsThatLoseStay) {
  struct Case {
    std::string body, why;
  };
  for (const Case& one : {
           Case{"h = MatMul(x, w) y = Exp(h)", "calibration data would tell"},
           Case{"h = MatMul(x, w) y = Log(h)", "small ones"},
           Case{"h = MatMul(x, w) y = CumSum(h, one)", "one number after the other"},
           Case{"h = MatMul(x, w) y = Mul(h, big)", "beyond 6.55e+04"},
       }) {
    const auto checked =
        cast(model("(float[3,32] x) => (float[3,24] y)",
                   weights("w", {32, 24}) + ", int64 one = {1}, float big = {1e6}", one.body),
             "{\"form\": \"compute\"}");
    EXPECT_NE(checked.run->why(maker_of(*checked.before, "y")->label()).find(one.why),
              std::string::npos)
        << one.body << ": " << checked.run->why(maker_of(*checked.before, "y")->label());
    EXPECT_EQ(checked.run->count("cast-float16", "converted"), 1) << one.body;
  }
}

TEST(CastFloat16, LongSumsStay) {
  const std::string text = model("(float[300,32] x) => (float[1,24] y)", weights("w", {32, 24}),
                                 "h = MatMul(x, w) y = ReduceMean<axes = [0]>(h)");
  const auto why = [&](const std::string& options) {
    const auto checked = cast(text, options);
    return checked.run->why(maker_of(*checked.before, "y")->label());
  };
  EXPECT_EQ(why("{\"form\": \"compute\"}"), "adds up 300 terms");
  EXPECT_EQ(why("{\"form\": \"compute\", \"longest-sum\": 300}"), "");
}

TEST(CastFloat16, IslandsWithoutProductsStay) {
  const auto checked =
      cast(model("(float[3,32] x) => (float[3,32] y)", "", "a = Relu(x) y = Sigmoid(a)"),
           "{\"form\": \"compute\"}");
  EXPECT_EQ(checked.run->count("cast-float16", "converted"), 0);
  EXPECT_EQ(count_nodes(*checked.after, "Cast"), 0);
}

TEST(CastFloat16, MasksInFrontOfASoftmaxAreClamped) {
  const std::string chosen = model("(float[2,32] x, bool[2,24] m) => (float[2,24] y)",
                                   weights("w", {32, 24}) + ", float low = {-3.4028235e38}",
                                   "s = MatMul(x, w) k = Where(m, s, low) y = Softmax(k)");
  const auto checked = computed(chosen, 2e-2);
  EXPECT_EQ(checked.run->count("cast-float16", "masks"), 1);
  EXPECT_EQ(checked.run->count("cast-float16", "kept"), 0);
  const auto value = constant_scalar(initializer_of(*checked.after, DataType::kFloat16));
  const auto other = constant_scalar(
      maker_of(*checked.after, "k") != nullptr ? maker_of(*checked.after, "k")->input(2) : nullptr);
  EXPECT_TRUE(value == -65504.0 || other == -65504.0);

  // Scores are added: a quarter of it, so that no sum is infinite.
  const auto added = computed(
      model("(float[2,32] x, bool[2,24] m) => (float[2,24] y)",
            weights("w", {32, 24}) + ", float low = {-3.4028235e38}",
            "s = MatMul(x, w) c = Cast<to = 1>(m) k = Mul(c, low) a = Add(s, k) y = Softmax(a)"),
      2e-2);
  EXPECT_EQ(added.run->count("cast-float16", "masks"), 1);
  EXPECT_EQ(added.run->count("cast-float16", "retyped"), 1);  // the Cast of the mask
  EXPECT_EQ(cast_pairs(*added.after), 0);

  // Something else reads the numbers: they stay, and so do their readers.
  const auto read = cast(model("(float[2,32] x, bool[2,24] m) => (float[2,24] y, float[2,24] k)",
                               weights("w", {32, 24}) + ", float low = {-3.4028235e38}",
                               "s = MatMul(x, w) k = Where(m, s, low) y = Softmax(k)"),
                         "{\"form\": \"compute\"}");
  EXPECT_EQ(read.run->count("cast-float16", "masks"), 0);
  EXPECT_NE(read.run->why(maker_of(*read.before, "k")->label()).find("beyond"), std::string::npos);
  EXPECT_NE(read.run->why(maker_of(*read.before, "y")->label()).find("may not fit"),
            std::string::npos);
  expect_same_results(*read.before, *read.after, 2e-2);
}

TEST(CastFloat16, WholeNumbersStayExact) {
  const auto checked =
      computed(model("(float[3,32] x, int64[3,1] i) => (float[3,24] y)",
                     weights("w", {32, 24}) + ", float k = {0.001}",
                     "h = MatMul(x, w) c = Cast<to = 1>(i) p = Mul(c, k) y = Add(h, p)"),
               2e-2);
  EXPECT_NE(checked.run->why(maker_of(*checked.before, "p")->label()).find("2048"),
            std::string::npos);
}

TEST(CastFloat16, ConstantOfShapeMakesTheTypeItself) {
  const auto checked =
      computed(model("(float[3,32] x) => (float[3,24] y)", weights("w", {32, 24}),
                     "h = MatMul(x, w) s = Shape(h) o = ConstantOfShape<value = float[1] {0.5}>(s) "
                     "y = Add(h, o)"),
               2e-2);
  EXPECT_EQ(checked.run->count("cast-float16", "retyped"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Cast"), 2);
}

TEST(CastFloat16, BodiesHandFloat32InAndOut) {
  const std::string text =
      model("(float[3,32] x, bool c) => (float[3,24] y)", weights("w", {32, 24}),
            "h = MatMul(x, w) y = If (c) <then_branch = t () => (float[3,24] a) <" +
                weights("v", {24, 24}) +
                "> { a = MatMul(h, v) }, else_branch = e () => (float[3,24] b) { b = Relu(h) }>");
  const auto checked = computed(text, 2e-2);
  EXPECT_EQ(count_typed(*checked.after, DataType::kFloat16), 2);
  EXPECT_EQ(checked.run->count("cast-float16", "converted"), 3);
  const std::string loop = model(
      "(float[3,24] x, int64 n, bool c) => (float[3,24] y)", weights("w", {24, 24}, -0.2F, 0.2F),
      "y = Loop (n, c, x) <body = b (int64 i, bool go, float[3,24] s) => (bool on, float[3,24] z) "
      "{ on = Identity(go) z = MatMul(s, w) }>");
  const auto looped = cast(loop, "{\"form\": \"compute\"}");
  EXPECT_EQ(looped.run->count("cast-float16", "converted"), 1);
  EXPECT_EQ(looped.run->count("cast-float16", "casts"), 2);
}

TEST(CastFloat16, TiedWeightsAreThereOnce) {
  const auto checked = computed(model("(float[3,40] x) => (float[3,40] y, float[3,40] z)",
                                      weights("w", {40, 40}), "y = MatMul(x, w) z = MatMul(x, w)"),
                                5e-2, ", \"exclude\": [\"z\"]");
  EXPECT_EQ(count_typed(*checked.after, DataType::kFloat16, 1600), 1);
  EXPECT_EQ(count_typed(*checked.after, DataType::kFloat, 1600), 0);
}

TEST(CastFloat16, TargetsDecide) {
  // Stored only, unless asked for.
  const auto automatic = cast(kGemm, "{}", "onnxruntime-cpu");
  EXPECT_EQ(automatic.run->count("cast-float16", "converted"), -1);
  EXPECT_EQ(automatic.run->applied("cast-float16"), 1);
  const auto asked = cast(kGemm, "{\"form\": \"compute\"}", "onnxruntime-cpu");
  EXPECT_EQ(asked.run->count("cast-float16", "converted"), 1);
  EXPECT_FALSE(asked.run->diagnostics.all().empty());
  // No bfloat16 kernels, and no casts around them.
  const auto brain =
      cast(kGemm, "{\"form\": \"compute\", \"weights\": \"bfloat16\"}", "onnxruntime-cpu");
  EXPECT_EQ(brain.run->count("cast-float16", "converted"), 0);
  const auto fast = cast(kGemm, "{\"weights\": \"bfloat16\"}", "tensorrt");
  EXPECT_EQ(fast.run->count("cast-float16", "converted"), 1);
  EXPECT_EQ(count_typed(*fast.after, DataType::kBfloat16), 1);
}

TEST(CastFloat16, ValuesThatWereSeenDecide) {
  const auto before = model_from_text(model("(float[3,32] x) => (float[3,16] y)",
                                            weights("w", {32, 24}) + ", " + weights("v", {24, 16}),
                                            "h = MatMul(x, w) e = Exp(h) y = MatMul(e, v)"));
  ASSERT_TRUE(run_passes(*before, {"infer-shapes"})->status.ok());
  const auto kept = [&](double largest) {
    CalibrationTable table;
    ValueStats stats;
    stats.maximum = largest;
    table.set("e", stats);
    HalfChoice choice;
    choice.limit = 65504.0 / 4;
    choice.table = &table;
    const Selection all({}, {});
    HalfRules rules(*before, choice, *find_target("generic-qdq"), all, one_thread());
    auto plan = plan_half(*before, DataType::kFloat16, rules);
    EXPECT_TRUE(plan.ok());
    return plan->kept.size();
  };
  EXPECT_EQ(kept(16000), 0U);
  EXPECT_EQ(kept(17000), 2U);  // Exp, and who reads it
}

}  // namespace
}  // namespace mcompress::testing
