// quantize-weights and quantize-dynamic on small graphs: each form, each reason, and weights where
// they are seldom looked for.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "ir/facts.h"
#include "ir/walk.h"
#include "support/arrays.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr double kRounding = 0.1;
constexpr std::string_view kSeventeen = "<ir_version: 8, opset_import: [\"\" : 17]> g ";

std::string model(std::string_view signature, std::string_view initializers, std::string_view body,
                  std::string_view head = kSeventeen) {
  return std::string(head) + std::string(signature) + " <" + std::string(initializers) + "> { " +
         std::string(body) + " }";
}

bool is_float_weight(const Value& value) {
  return value.initializer()->dtype() == DataType::kFloat && value.initializer()->elements() >= 256;
}

// Float32 weights that are left anywhere.
std::int64_t float_weights(const Model& model) {
  std::int64_t count = 0;
  for_each_graph(const_cast<Model&>(model).graph(), [&](Graph& graph) {
    count += std::ranges::count_if(graph.initializers(),
                                   [](const Value* value) { return is_float_weight(*value); });
  });
  return count;
}

std::uint64_t saved_bytes(const Model& model) { return save_model_bytes(model)->size(); }

// --------------------------------------------------------------------------- quantize-weights

Checked weights_quantized(const std::string& text, double tolerance = kRounding,
                          const std::string& options = "{}") {
  return check_passes(text, {"lift-constants", "infer-shapes", "quantize-weights:" + options},
                      tolerance);
}

void expect_stored(const std::string& text, std::int64_t sites = 1) {
  const auto checked = weights_quantized(text);
  EXPECT_EQ(checked.run->applied("quantize-weights"), sites) << text.substr(0, 120);
  EXPECT_EQ(float_weights(*checked.after), 0) << text.substr(0, 120);
  EXPECT_LT(saved_bytes(*checked.after), saved_bytes(*checked.before)) << text.substr(0, 120);
}

std::string why_left(const std::string& text, std::string_view weight = "w",
                     const std::string& options = "{}") {
  const auto checked = weights_quantized(text, 0.0, options);
  EXPECT_EQ(checked.run->applied("quantize-weights"), 0) << text.substr(0, 120);
  EXPECT_FALSE(checked.run->changed) << text.substr(0, 120);
  return checked.run->why(weight);
}

TEST(QuantizeWeights, OfEveryOperatorThatHasThem) {
  expect_stored(model("(float[N,8,6,6] x) => (float[N,16,4,4] y)", weights("w", {16, 8, 3, 3}),
                      "y = Conv(x, w)"));
  expect_stored(model("(float[N,8,6,6] x) => (float[N,32,6,6] y)", weights("w", {32, 2, 3, 3}),
                      "y = Conv<group=4,pads=[1,1,1,1]>(x, w)"));
  expect_stored(
      model("(float[N,32,9] x) => (float[N,16,7] y)", weights("w", {16, 32, 3}), "y = Conv(x, w)"));
  expect_stored(model("(float[N,32,3,3] x) => (float[N,16,A,B] y)", weights("w", {32, 8, 2, 2}),
                      "y = ConvTranspose<group=2,strides=[2,2]>(x, w)"));
  expect_stored(
      model("(float[N,64] x) => (float[N,16] y)", weights("w", {64, 16}), "y = MatMul(x, w)"));
  expect_stored(
      model("(float[64,N] x) => (float[16,N] y)", weights("w", {16, 64}), "y = MatMul(w, x)"));
  expect_stored(model("(float[3,N,64] x) => (float[3,N,16] y)", weights("w", {3, 64, 16}),
                      "y = MatMul(x, w)"));
  expect_stored(model("(float[N,64] x) => (float[N,16] y)",
                      weights("w", {64, 16}) + ", " + weights("b", {16}), "y = Gemm(x, w, b)"));
  expect_stored(model("(float[64,N] x) => (float[N,16] y)", weights("w", {16, 64}),
                      "y = Gemm<transA=1,transB=1,alpha=0.5>(x, w)"));
  expect_stored(
      model("(int64[N] ids) => (float[N,64] y)", weights("w", {16, 64}), "y = Gather(w, ids)"));
  expect_stored(model("(float[3,N,32] x) => (float[3,1,N,16] y)",
                      weights("w", {1, 64, 32}) + ", " + weights("r", {1, 64, 16}),
                      "y = LSTM<hidden_size=16>(x, w, r)"),
                2);
}

TEST(QuantizeWeights, SchemesAndWhatTheyStore) {
  const std::string centred =
      model("(float[N,64] x) => (float[N,16] y)", weights("w", {64, 16}), "y = MatMul(x, w)");
  const std::string shifted = model("(float[N,64] x) => (float[N,16] y)",
                                    weights("w", {64, 16}, 0.0f, 1.0f), "y = MatMul(x, w)");
  const auto type_of = [](const Checked& checked) {
    return checked.after->graph().find("w_quantized")->constant()->dtype();
  };
  EXPECT_EQ(type_of(weights_quantized(centred)), DataType::kInt8);
  EXPECT_EQ(type_of(weights_quantized(shifted)), DataType::kUint8) << "one bit more of use";
  EXPECT_EQ(type_of(weights_quantized(shifted, kRounding, R"({"scheme": "symmetric"})")),
            DataType::kInt8);
  EXPECT_EQ(type_of(weights_quantized(centred, kRounding, R"({"scheme": "affine"})")),
            DataType::kUint8);
}

TEST(QuantizeWeights, SaysWhyOneStays) {
  const std::string signature = "(float[N,64] x) => (float[N,16] y)";
  const std::string w = weights("w", {64, 16});
  EXPECT_EQ(why_left(model("(float[N,16] x) => (float[N,8] y)", weights("w", {16, 8}),
                           "y = MatMul(x, w)")),
            "has 128 elements, below 256");
  EXPECT_EQ(
      why_left(model("(float[N,64] x, float[64,16] w) => (float[N,16] y)", w, "y = MatMul(x, w)")),
      "a caller of the model may override it");
  EXPECT_EQ(
      why_left(model("(float[N,64] x) => (float[N,16] y, float[64,16] w)", w, "y = MatMul(x, w)")),
      "is an output of the graph");
  EXPECT_EQ(why_left(model("(float[64,16] x) => (float[64,16] y)", w, "y = Add(x, w)")),
            "is not a weight of Add 'Add node that makes 'y''");
  EXPECT_EQ(why_left(model("(float[N,64] x, float[64,16] z) => (float[N,16] y, float[64,16] u)", w,
                           "y = MatMul(x, w) u = Mul(w, z)")),
            "is not a weight of Mul 'Mul node that makes 'u''");
  EXPECT_EQ(why_left(model(signature, w, "y = MatMul(x, w)"), "w", R"({"exclude": ["Mat*"]})"),
            "excluded by 'Mat*'");
  EXPECT_EQ(why_left(model(signature, w, "y = MatMul(x, w)"), "w", R"({"include": ["Conv"]})"),
            "not among the included");
  EXPECT_EQ(why_left(model("(float[N,1] x) => (float[N,400] y)", weights("w", {1, 400}),
                           "y = MatMul(x, w)")),
            "would not get smaller: 400 channels of 1 weights");
  // Vectors and other types are no weights: nothing is said of them.
  EXPECT_EQ(
      why_left(model("(float[N,300] x) => (float[N,300] y)", weights("w", {300}), "y = Add(x, w)")),
      "");
}

// The Mul that restores a weight broadcasts as it does since opset 7.
TEST(QuantizeWeights, NotBeforeOpsetSeven) {
  Diagnostics diagnostics;
  const auto old = parse_model_text(
      model("(float[1,16,8,8] x) => (float[1,16,8,8] y)", weights("w", {16, 16, 1, 1}),
            "y = Conv(x, w)", "<ir_version: 3, opset_import: [\"\" : 6]> g "),
      diagnostics);
  ASSERT_TRUE(old.ok());
  const auto run = run_passes(**old, {"quantize-weights"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("w"), "needs opset 7, the model has 6");
}

TEST(QuantizeWeights, OfOneWeightAndSeveralReaders) {
  // An embedding that is tied to the last layer: rows for one reader, columns for the other.
  const auto checked =
      weights_quantized(model("(int64[N] ids) => (float[N,40] y)", weights("w", {40, 16}),
                              "h = Gather(w, ids) r = Relu(h) y = Gemm<transB=1>(r, w)"));
  EXPECT_EQ(checked.run->applied("quantize-weights"), 1);
  EXPECT_EQ(count_nodes(*checked.after, "Cast"), 1);
  EXPECT_EQ(float_weights(*checked.after), 0);
}

TEST(QuantizeWeights, InBranchesAndBodies) {
  const auto both = weights_quantized(
      model("(bool c, int64 trips, float[2,32] x) => (float[2,32] y, float[2,32] z)",
            weights("outer", {32, 32}) + ", bool go = {1}",
            "y = If (c) < then_branch = t () => (float[2,32] o) { o = MatMul(x, outer) }, "
            "else_branch = e () => (float[2,32] p) <" +
                weights("inner", {32, 32}) +
                "> { q = MatMul(x, inner) p = Neg(q) } > "
                "z = Loop (trips, go, x) < body = b (int64 i, bool k, float[2,32] a) => (bool ko, "
                "float[2,32] ao) <" +
                weights("looped", {32, 32}, -0.1f, 0.1f) +
                "> { ko = Identity(k) m = MatMul(a, looped) ao = Tanh(m) } >"));
  EXPECT_EQ(both.run->applied("quantize-weights"), 3);
  EXPECT_EQ(float_weights(*both.after), 0);
  // The codes stay in the graph of the weight.
  EXPECT_NE(both.after->graph().find("outer_quantized"), nullptr);
  EXPECT_EQ(both.after->graph().find("inner_quantized"), nullptr);
}

TEST(QuantizeWeights, OldModelsThatListTheirWeightsAsInputs) {
  const auto checked = check_passes(
      model("(float[N,64] x, float[64,16] w) => (float[N,16] y)", weights("w", {64, 16}),
            "y = MatMul(x, w)", "<ir_version: 3, opset_import: [\"\" : 9]> g "),
      {"quantize-weights"}, kRounding);
  EXPECT_EQ(checked.run->applied("quantize-weights"), 1);
  EXPECT_EQ(float_weights(*checked.after), 0) << "the weight itself has to go";
  EXPECT_LT(saved_bytes(*checked.after), saved_bytes(*checked.before));
}

// A weight of `rows` x 16 with one element replaced.
std::string odd_weight(float odd) {
  auto made = model_from_text(
      model("(float[N,64] x) => (float[N,16] y)", weights("w", {64, 16}), "y = MatMul(x, w)"));
  Editor editor(*made);
  Value& weight = *made->graph().find("w");
  auto values = read_floats(*weight.constant()).value();
  values[100] = odd;
  editor.set_constant(weight, make_float_tensor(values, {64, 16}));
  return save_model_bytes(*made).value();
}

TEST(QuantizeWeights, NanAndInfinityStayWhatTheyAre) {
  for (const float odd :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    auto given = model_from_bytes(odd_weight(odd));
    const auto run = run_passes(*given, {"quantize-weights"});
    ASSERT_TRUE(run->status.ok());
    EXPECT_FALSE(run->changed) << odd;
    EXPECT_EQ(run->why("w"), "holds NaN or infinity, which integers have not") << odd;
  }
}

TEST(QuantizeWeights, TargetsThatDoNotFoldGetDequantizeLinear) {
  const std::string text = model("(float[N,8,6,6] x) => (float[N,16,4,4] y)",
                                 weights("w", {16, 8, 3, 3}), "y = Conv(x, w)");
  const auto before = model_from_text(text);
  const auto after = before->clone();
  const auto run = run_passes_for("generic-qdq", *after, {"quantize-weights"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(run->applied("quantize-weights"), 1);
  EXPECT_EQ(after->graph().node_count(), 2u);
  const Node* node = maker_of(*after, "y")->input(1)->producer();
  ASSERT_TRUE(node != nullptr && node->is("DequantizeLinear"));
  EXPECT_EQ(node->int_attribute("axis", -9), 0);
  EXPECT_EQ(node->input(1)->constant()->dims().size(), 1u);
  EXPECT_TRUE(check_model(*after).ok());
  expect_same_results(*before, *after, kRounding);
}

TEST(QuantizeWeights, BeforeOpsetThirteenThereIsNoAxisToDequantizeAlong) {
  const std::string text =
      model("(float[N,8,6,6] x) => (float[N,16,4,4] y)", weights("w", {16, 8, 3, 3}),
            "y = Conv(x, w)", "<ir_version: 7, opset_import: [\"\" : 12]> g ");
  const auto before = model_from_text(text);
  const auto after = before->clone();
  const auto run = run_passes_for("generic-qdq", *after, {"quantize-weights"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(run->applied("quantize-weights"), 1);
  EXPECT_EQ(count_nodes(*after, "DequantizeLinear"), 0);
  const Status sound = check_model(*after);
  EXPECT_TRUE(sound.ok()) << to_string(sound.error().diagnostic);
  expect_same_results(*before, *after, kRounding);
}

// --------------------------------------------------------------------------- quantize-dynamic

constexpr double kDynamic = 0.25;

Checked dynamic(const std::string& text, double tolerance = kDynamic,
                const std::string& options = R"({"min-elements": 64})") {
  return check_passes(text, {"lift-constants", "infer-shapes", "quantize-dynamic:" + options},
                      tolerance);
}

std::string why_float(const std::string& text, const std::string& options = "{}") {
  std::string all = R"({"min-elements": 64)";
  if (options != "{}") all += ", " + options.substr(1);
  const auto checked = dynamic(text, 0.0, options == "{}" ? all + "}" : all);
  EXPECT_FALSE(checked.run->changed) << text.substr(0, 120);
  return checked.run->why("w");
}

TEST(QuantizeDynamic, MatMulAndGemmInAllForms) {
  for (std::string_view body :
       {"y = MatMul(x, w)", "y = Gemm(x, w)", "y = Gemm(x, w, b)", "y = Gemm<beta=0.5>(x, w)"}) {
    const auto checked = dynamic(model("(float[N,64] x) => (float[N,16] y)",
                                       weights("w", {64, 16}) + ", " + weights("b", {16}), body));
    EXPECT_EQ(checked.run->applied("quantize-dynamic"), 1) << body;
    EXPECT_EQ(count_nodes(*checked.after, "MatMulInteger"), 1) << body;
    EXPECT_EQ(float_weights(*checked.after), 0) << body;
    EXPECT_EQ(checked.after->graph().outputs()[0]->name(), "y");
  }
  const auto transposed = dynamic(model("(float[N,64] x) => (float[N,16] y)",
                                        weights("w", {16, 64}) + ", " + weights("b", {1, 16}),
                                        "y = Gemm<transB=1>(x, w, b)"));
  EXPECT_EQ(count_nodes(*transposed.after, "MatMulInteger"), 1);
  const auto batched = dynamic(
      model("(float[2,N,64] x) => (float[2,N,16] y)", weights("w", {64, 16}), "y = MatMul(x, w)"));
  EXPECT_EQ(count_nodes(*batched.after, "MatMulInteger"), 1);
}

TEST(QuantizeDynamic, ProductsOfOneInputShareItsQuantization) {
  const auto checked = dynamic(model(
      "(float[N,64] x) => (float[N,16] y)", weights("w", {64, 16}) + ", " + weights("v", {64, 16}),
      "a = MatMul(x, w) b = MatMul(x, v) c = Relu(x) d = MatMul(c, v) "
      "y = Sum(a, b, d)"));
  EXPECT_EQ(checked.run->applied("quantize-dynamic"), 3);
  EXPECT_EQ(count_nodes(*checked.after, "DynamicQuantizeLinear"), 2);
  EXPECT_EQ(float_weights(*checked.after), 0);
}

TEST(QuantizeDynamic, AWeightOfTwoProductsIsStoredOnce) {
  const auto checked =
      check_passes(model("(float[N,64] x) => (float[N,16] y)", weights("w", {64, 16}),
                         "r = Relu(x) a = MatMul(x, w) b = MatMul(r, w) y = Add(a, b)"),
                   {"quantize-dynamic:{\"min-elements\": 64}", "dedup-initializers"}, kDynamic);
  EXPECT_EQ(checked.run->applied("quantize-dynamic"), 2);
  EXPECT_LT(saved_bytes(*checked.after), 2500u);
}

TEST(QuantizeDynamic, SaysWhyOneStays) {
  const std::string signature = "(float[N,64] x) => (float[N,16] y)";
  const std::string w = weights("w", {64, 16});
  EXPECT_EQ(
      why_float(model("(float[N,64] x, float[64,16] w) => (float[N,16] y)", w, "y = MatMul(x, w)")),
      "a caller may override its weight");
  EXPECT_EQ(why_float(model("(double[N,2] x) => (double[N,2] y)", "double[2,2] w = {1,2,3,4}",
                            "y = MatMul(x, w)")),
            "its weight is not float32");
  EXPECT_EQ(why_float(model("(float[3,N,64] x) => (float[3,N,16] y)", weights("w", {3, 64, 16}),
                            "y = MatMul(x, w)")),
            "has a batched weight");
  EXPECT_EQ(why_float(model("(float[2,16] x) => (float[2,16] y)", w + ", " + weights("k", {2, 64}),
                            "m = MatMul(k, w) y = Add(x, m)")),
            "multiplies two constants");
  for (std::string_view body : {"y = Gemm<alpha=0.5>(x, w)", "y = Gemm<beta=0.5>(x, w, b)"}) {
    EXPECT_EQ(why_float(model(signature, w + ", " + weights("b", {16}), body)),
              "uses transA, alpha or beta")
        << body;
  }
  EXPECT_EQ(why_float(model(signature, w, "y = MatMul(x, w)"), R"({"exclude": ["w"]})"),
            "excluded by 'w'");
  EXPECT_EQ(why_float(model(signature, w, "y = MatMul(x, w)"), R"({"include": ["Gemm"]})"),
            "not among the included");
  EXPECT_EQ(why_float(model(signature, w, "y = MatMul(x, w)",
                            "<ir_version: 5, opset_import: [\"\" : 10]> g ")),
            "needs opset 11, the model has 10");
}

TEST(QuantizeDynamic, AWeightThatIsAnOutputStaysOne) {
  const auto checked = dynamic(model("(float[N,64] x) => (float[N,16] y, float[64,16] w)",
                                     weights("w", {64, 16}), "y = MatMul(x, w)"));
  ASSERT_EQ(checked.after->graph().outputs().size(), 2u);
  EXPECT_EQ(checked.after->graph().outputs()[1]->name(), "w");
}

// A recurrent layer that an exporter wrote as a Loop: its step is a product, and the first one
// stands in front of it.
TEST(QuantizeDynamic, ProductsInBodiesShareTheCodesOfTheirWeight) {
  const auto checked = check_passes(
      model("(float[2,64] x) => (float[2,64] y)",
            weights("w", {64, 64}) + ", int64 m = {3}, bool go = {1}, float k = {0.1}",
            "a = MatMul(x, w) s = Tanh(a) y = Loop (m, go, s) < body = l (int64 i, bool c, "
            "float[2,64] t) => (bool d, float[2,64] u)"
            " { d = Identity(c) p = MatMul(t, w) q = Mul(p, k) u = Tanh(q) }>"),
      {"quantize-dynamic:{\"min-elements\": 64}", "dedup-initializers"}, kDynamic);
  EXPECT_EQ(checked.run->applied("quantize-dynamic"), 2);
  EXPECT_EQ(count_nodes(*checked.after, "MatMulInteger"), 2);
  EXPECT_EQ(count_nodes(*checked.after, "DynamicQuantizeLinear"), 2);
  EXPECT_EQ(float_weights(*checked.after), 0);
  EXPECT_LT(saved_bytes(*checked.after), 64u * 64u + 2000u);
}

TEST(QuantizeDynamic, NanAndInfinityStayWhatTheyAre) {
  for (const float odd :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    auto given = model_from_bytes(odd_weight(odd));
    const auto run = run_passes(*given, {"quantize-dynamic:{\"min-elements\": 64}"});
    ASSERT_TRUE(run->status.ok());
    EXPECT_FALSE(run->changed) << odd;
    EXPECT_EQ(run->why("w"), "holds NaN or infinity, which integers have not") << odd;
  }
}

TEST(QuantizeDynamic, OldModelsThatListTheirWeightsAsInputs) {
  const auto checked = check_passes(
      model("(float[N,64] x, float[64,16] w) => (float[N,16] y)", weights("w", {64, 16}),
            "y = MatMul(x, w)", "<ir_version: 3, opset_import: [\"\" : 11]> g "),
      {"quantize-dynamic:{\"min-elements\": 64}"}, kDynamic);
  EXPECT_EQ(checked.run->applied("quantize-dynamic"), 1);
  EXPECT_EQ(float_weights(*checked.after), 0) << "the weight itself has to go";
}

// ---------------------------------------------------------------------------- quantize-static

TEST(QuantizeStatic, SaysThatBodiesAreLeftAlone) {
  auto given = model_from_text(
      model("(bool c, float[2,32] x) => (float[2,32] y)", weights("w", {32, 32}),
            "y = If (c) < then_branch = t () => (float[2,32] o) { o = MatMul(x, w) }, "
            "else_branch = e () => (float[2,32] p) { p = Neg(x) } >"));
  const auto run = run_passes(*given, {"quantize-static"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("MatMul node that makes 'o'"),
            "is in a nested graph, whose activations can not be observed");
}

// In integers here and in float there it would be stored twice.
TEST(QuantizeStatic, AWeightThatABodyReadsTooIsStoredOnce) {
  auto shared = model_from_text(
      model("(float[2,64] x) => (float[2,64] y)",
            weights("w", {64, 64}) + ", int64 m = {3}, bool go = {1}",
            "a = MatMul(x, w) s = Tanh(a) y = Loop (m, go, s) < body = l (int64 i, bool c, "
            "float[2,64] t) => (bool d, float[2,64] u) { d = Identity(c) p = MatMul(t, w) u = "
            "Tanh(p) }>"));
  const auto run = run_passes(*shared, {"quantize-static", "quantize-weights"});
  ASSERT_TRUE(run->status.ok());
  EXPECT_EQ(run->why("MatMul node that makes 'a'"),
            "shares its weight with a nested graph, whose activations can not be observed");
  EXPECT_EQ(run->applied("quantize-weights"), 1);
  EXPECT_EQ(float_weights(*shared), 0);
}

TEST(QuantizeStatic, NanAndInfinityStayWhatTheyAre) {
  auto given = model_from_bytes(odd_weight(std::numeric_limits<float>::infinity()));
  const auto run = run_passes(*given, {"quantize-static"});
  ASSERT_TRUE(run->status.ok()) << "no data are needed: nothing is left to observe";
  EXPECT_FALSE(run->changed);
  EXPECT_EQ(run->why("MatMul node that makes 'y'"),
            "has a weight with NaN or infinity, which integers have not");
}

TEST(QuantizeStatic, OldModelsThatListTheirWeightsAsInputs) {
  const auto before = model_from_text(model("(float[N,64] x, float[64,16] w) => (float[N,16] y)",
                                            weights("w", {64, 16}), "y = MatMul(x, w)",
                                            "<ir_version: 3, opset_import: [\"\" : 13]> g "));
  const auto after = before->clone();
  const TempFolder folder;
  std::vector<float> samples(8 * 64);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i] = static_cast<float>(i % 33) / 8.0F - 2.0F;
  }
  write_npz(folder / "data.npz", {{"x", npy_floats({8, 64}, samples)}});
  Diagnostics diagnostics;
  const auto runtime = find_runtime("onnxruntime").value();
  const auto session = runtime->open(*before, {}).value();
  std::vector<PortInfo> ports = {session->inputs().begin(), session->inputs().end()};
  std::erase_if(ports, [](const PortInfo& port) { return port.name != "x"; });
  const auto data = open_data(folder / "data.npz", ports, {}, diagnostics);
  ASSERT_TRUE(data.ok()) << to_string(data.error().diagnostic);
  Recipe recipe;
  recipe.target = "generic-qdq";
  // The check of the outputs runs, on copies of the model, and is content with little: kernels that
  // saturate are not what is tested here.
  Datum easy = Datum::map();
  easy.set("guard-sqnr", Datum::integer(5));
  recipe.steps.push_back({"quantize-static", std::move(easy)});
  recipe.steps.push_back({"eliminate-dead", Datum::map()});
  Services services;
  services.runtime = runtime;
  services.calibration_data = data->get();
  services.diagnostics = &diagnostics;
  Explain explain;
  Report report;
  const Status status =
      run_pipeline(*after, recipe, builtin_passes(), services, {}, explain, report);
  ASSERT_TRUE(status.ok()) << to_string(status.error().diagnostic);
  EXPECT_GE(count_nodes(*after, "QuantizeLinear"), 1);
  EXPECT_EQ(float_weights(*after), 0);
  const Status sound = check_model(*after);
  EXPECT_TRUE(sound.ok()) << to_string(sound.error().diagnostic);
  expect_same_results(*before, *after, kDynamic);
}

}  // namespace
}  // namespace mcompress::testing
