// Layers in float32 between integer ones: whether ONNX Runtime leaves their weights whole.
#include "passes/common/integer/float_layers.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "mcompress/mcompress.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

// x is 0 in the first channel and 10 in the second. With one scale for the weights 1 and 0.001,
// 1 / 255, the second is rounded to 0.
std::string model_text(std::string_view layer, std::string_view behind = "",
                       std::string_view dims = "1,2,1,1", std::string_view result = "1,1,1,1",
                       std::string_view weight = "1,2,1,1", int opset = 13) {
  const std::string last = behind.empty() ? "c" : "b";
  return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) + "]> g (float[" +
         std::string(dims) + "] x) => (float[" + std::string(result) + "] y) <float[" +
         std::string(weight) +
         "] w = {1.0, 0.001}, float s = {0.1}, uint8 z = {0}, float t = {0.001}, float lo = {0.0}, "
         "float hi = {6.0}> { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) " +
         std::string(layer) + " " + std::string(behind) + " r = QuantizeLinear(" + last +
         ", t, z) y = DequantizeLinear(r, t, z) }";
}

int kept(Model& model, const Target& target) {
  Editor edit(model);
  return keep_float_layers(edit, target);
}

float answer(const Model& model, std::vector<std::int64_t> dims) {
  const auto runtime = find_runtime("onnxruntime").value();
  const auto session = runtime->open(model, {});
  EXPECT_TRUE(session.ok()) << to_string(session.error().diagnostic);
  if (!session.ok()) return 0;
  const std::vector<float> x = {0, 10};
  const std::vector<NamedTensor> feeds = {{"x", make_float_tensor(x, std::move(dims))}};
  const auto outputs = (*session)->run(feeds, {});
  EXPECT_TRUE(outputs.ok());
  return outputs.ok() ? read_floats(outputs->front())->front() : 0;
}

struct Layer {
  std::string name, node, behind, dims, result, weight;
};
const std::vector<Layer>& layers() {
  static const std::vector<Layer> kAll = {
      {"Conv", "c = Conv(d, w)", "", "1,2,1,1", "1,1,1,1", "1,2,1,1"},
      {"Conv, Relu", "c = Conv(d, w)", "b = Relu(c)", "1,2,1,1", "1,1,1,1", "1,2,1,1"},
      {"Conv, Clip", "c = Conv(d, w)", "b = Clip(c, lo, hi)", "1,2,1,1", "1,1,1,1", "1,2,1,1"},
      {"signal", "c = Conv(d, w)", "", "1,2,1", "1,1,1", "1,2,1"},
      {"ConvTranspose", "c = ConvTranspose(d, w)", "", "1,2,1,1", "1,1,1,1", "2,1,1,1"},
      {"Gemm", "c = Gemm(d, w)", "", "1,2", "1,1", "2,1"},
      {"Gemm, transB", "c = Gemm<transB=1>(d, w)", "", "1,2", "1,1", "1,2"},
  };
  return kAll;
}

TEST(FloatLayers, KeepTheirWeightsWholeInTheRuntime) {
  for (const Layer& one : layers()) {
    const auto model =
        model_from_text(model_text(one.node, one.behind, one.dims, one.result, one.weight));
    const std::vector<std::int64_t> dims =
        one.dims.size() > 5   ? std::vector<std::int64_t>{1, 2, 1, 1}
        : one.dims.size() > 3 ? std::vector<std::int64_t>{1, 2, 1}
                              : std::vector<std::int64_t>{1, 2};
    EXPECT_NEAR(answer(*model, dims), 0, 1e-6) << one.name << ": rounded by the runtime itself";
    EXPECT_EQ(kept(*model, default_target()), 1) << one.name;
    EXPECT_NEAR(answer(*model, dims), 0.01, 1e-6) << one.name;
    EXPECT_EQ(count_nodes(*model, "DequantizeLinear"), 2) << one.name << ": no reader is left";
    EXPECT_EQ(kept(*model, default_target()), 0) << one.name << ": done";
  }
}

TEST(FloatLayers, WithTwoChannelsInEachGroupHaveAScaleForEveryChannel) {
  const auto model = model_from_text(
      "<ir_version: 8, opset_import: [\"\" : 13]> g (float[1,4,2,2] x) => (float[1,2,2,2] y) <" +
      weights("w", {2, 2, 1, 1}) +
      ", float s = {0.1}, uint8 z = {7}> { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, "
      "z) c = Conv<group=2>(d, w) r = QuantizeLinear(c, s, z) e = DequantizeLinear(r, s, z) y = "
      "Add(e, e) u = Abs(d) }");
  EXPECT_EQ(kept(*model, default_target()), 1);
  const Node* conv = nullptr;
  for (const Node* node = model->graph().first(); node != nullptr;
       node = model->graph().next(*node)) {
    if (node->is("Conv")) conv = node;
  }
  ASSERT_NE(conv, nullptr);
  const Node& restore = *conv->input(0)->producer();
  EXPECT_EQ(restore.int_attribute("axis", -1), 1);
  EXPECT_EQ(read_floats(*restore.input(1)->constant()).value(), std::vector<float>(4, 0.1F));
  EXPECT_EQ(read_floats(*restore.input(2)->constant()).value(), std::vector<float>(4, 7));
  EXPECT_EQ(count_nodes(*model, "DequantizeLinear"), 3) << "Abs reads the first one";
}

TEST(FloatLayers, AreLeftWhereTheRuntimeRoundsNothing) {
  const auto untouched = [](const std::string& text, const Target& target) {
    const auto model = model_from_text(text);
    const auto before = fingerprint(*model);
    EXPECT_EQ(kept(*model, target), 0) << text;
    EXPECT_EQ(fingerprint(*model), before) << text;
  };
  const Target& ort = default_target();
  untouched(model_text("c = Conv(d, w)", "b = Sigmoid(c)"), ort);
  untouched(model_text("c = Conv(d, w) u = Abs(c)"), ort);
  untouched(model_text("c = Conv(x, w)"), ort);
  untouched(model_text("v = DequantizeLinear(z, t, z) c = Conv(d, w)", "b = Add(c, v)"), ort);
  untouched(model_text("c = MatMul(d, w)", "", "1,2", "1,1", "2,1"), ort);
  untouched(model_text("c = Gemm<transA=1>(d, w)", "", "2,1", "1,1", "2,1"), ort);
  untouched(model_text("c = Conv(d, w)", "", "1,2,1,1", "1,1,1,1", "1,2,1,1", 10), ort);
  untouched(model_text("c = Conv(d, w)"), *find_target("openvino"));
}

}  // namespace
}  // namespace mcompress::testing
