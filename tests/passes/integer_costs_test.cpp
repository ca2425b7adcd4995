// What runs in integers by the cost model of a target: against times of ONNX Runtime's kernels, and
// in plans.
#include "passes/common/integer/integer_costs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "mcompress/host.h"
#include "mcompress/mcompress.h"
#include "passes/common/integer/static_plan.h"
#include "support/arrays.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

struct Measured {
  std::string name;
  std::size_t rank;  // of the input; 2: a product
  double channels_in, channels_out, positions, taps, groups;
  double real, integer;  // microseconds a layer: AVX-512 VNNI, one thread, version 1.32
};

LayerCost cost_of(const KernelCosts& costs, const Measured& one) {
  LayerShape shape;
  shape.outputs = one.channels_out * one.positions;
  shape.channels = one.channels_out;
  shape.length = one.channels_in / one.groups * one.taps;
  shape.taps = one.taps;
  shape.groups = one.groups;
  shape.rank = one.rank;
  shape.depthwise = one.groups > 1 && one.groups == one.channels_in;
  return one.rank == 2 ? product_cost(costs, shape) : convolution_cost(costs, shape);
}

// Differences of chains of six and two layers, so that nothing else is in them
// (tests/bench/kernel_costs.py).
const std::vector<Measured>& measured() {
  static const std::vector<Measured> kAll = {
      {"signal 16, 3 taps", 3, 16, 16, 1000, 3, 1, 25.5, 8.6},
      {"signal 32, 3 taps", 3, 32, 32, 1000, 3, 1, 79.8, 19.3},
      {"short signal", 3, 64, 64, 50, 3, 1, 18.5, 4.4},
      {"signal 128, 3 taps", 3, 128, 128, 500, 3, 1, 537.1, 124.8},
      {"signal, 1 tap", 3, 64, 64, 500, 1, 1, 45.4, 13.2},
      {"signal, 31 taps", 3, 32, 32, 500, 31, 1, 412.8, 83.7},
      {"few channels", 3, 8, 8, 1000, 3, 1, 9.6, 14.1},
      {"depthwise signal, 3 taps", 3, 64, 64, 500, 3, 64, 24.1, 8.0},
      {"depthwise signal, 9 taps", 3, 64, 64, 500, 9, 64, 45.3, 14.3},
      {"depthwise signal, 31 taps", 3, 64, 64, 300, 31, 64, 92.0, 24.0},
      {"depthwise short signal", 3, 128, 128, 100, 3, 128, 23.7, 3.7},
      {"signal, 2 groups", 3, 64, 64, 500, 3, 2, 82.3, 34.5},
      {"signal, 8 groups of 8", 3, 64, 64, 500, 3, 8, 37.6, 74.6},
      {"signal, 16 groups of 8", 3, 128, 128, 200, 3, 16, 32.9, 61.5},
      {"signal, 8 groups of 32", 3, 256, 256, 100, 3, 8, 74.6, 28.1},
      {"image 32, 3x3", 4, 32, 32, 784, 9, 1, 130.7, 41.7},
      {"image 64, 3x3", 4, 64, 64, 784, 9, 1, 516.7, 137.7},
      {"image 128, 1x1", 4, 128, 128, 196, 1, 1, 63.4, 18.0},
      {"depthwise image, 3x3", 4, 64, 64, 784, 9, 64, 13.8, 22.6},
      {"depthwise image, 5x5", 4, 64, 64, 784, 25, 64, 31.7, 53.1},
      {"image, 8 groups of 8", 4, 64, 64, 784, 9, 8, 197.6, 288.1},
      {"volume 16, 3x3x3", 5, 16, 16, 4096, 27, 1, 1157.5, 886.2},
      {"volume 64, 3x3x3", 5, 64, 64, 512, 27, 1, 1509.2, 353.9},
      {"volume, 1x1x1", 5, 32, 32, 4096, 1, 1, 108.2, 32.4},
      {"product 64 x 256", 2, 256, 256, 64, 1, 1, 77.2, 25.3},
      {"product 256 x 1024", 2, 1024, 1024, 256, 1, 1, 5673.2, 1374.6},
      {"product 64 x 64", 2, 64, 64, 64, 1, 1, 5.5, 3.7},
      {"product 512 x 16", 2, 16, 16, 512, 1, 1, 2.9, 5.9},
      {"one row of 64", 2, 64, 64, 1, 1, 1, 0.6, 1.2},
  };
  return kAll;
}

TEST(KernelCosts, TheVnniProfileTellsTheFasterKernel) {
  const KernelCosts& costs = find_target("onnxruntime-cpu-vnni")->costs;
  for (const Measured& one : measured()) {
    const LayerCost cost = cost_of(costs, one);
    EXPECT_EQ(cost.integer < cost.real, one.integer < one.real)
        << one.name << ": " << cost.real / 1e3 << " and " << cost.integer / 1e3 << " us";
    // Grouped images in blocks depend on how groups fill a block.
    if (one.rank == 4 && one.groups > 1 && one.groups < one.channels_in) continue;
    EXPECT_LT(std::fabs(std::log2(cost.integer / cost.real / (one.integer / one.real))), 1)
        << one.name << ": " << cost.real / 1e3 << " and " << cost.integer / 1e3 << " us";
  }
}

// It holds on every x86-64 CPU: where integers lose with VNNI they are not said to win.
TEST(KernelCosts, TheDefaultProfileIsMoreCareful) {
  const KernelCosts& costs = default_target().costs;
  for (const Measured& one : measured()) {
    const LayerCost cost = cost_of(costs, one);
    if (one.integer > 1.15 * one.real) {
      EXPECT_GT(cost.integer, cost.real) << one.name;
    } else if (one.integer < 0.5 * one.real) {
      EXPECT_LT(cost.integer, cost.real) << one.name;
    }
  }
}

// The nodes of these operators that run in integers, of a graph whose values have so many elements
// a sample.
std::vector<std::string> in_integers(const std::string& text, const Target& target) {
  const auto model = model_from_text("<ir_version: 8, opset_import: [\"\" : 17]> g " + text);
  (void)run_passes(*model, {"infer-shapes"});
  CalibrationTable table;
  table.samples = 1;
  Graph& graph = model->graph();
  const auto set = [&](const Value* value) {
    ValueStats stats;
    stats.count = 1;
    if (value->type() == nullptr || !value->type()->shape) return;
    for (const Dim& dim : *value->type()->shape) stats.count *= dim.size.value_or(1);
    table.set(value->name(), stats);
  };
  for (const Value* value : graph.inputs()) set(value);
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    for (const Value* value : node->outputs()) set(value);
  }
  PlanOptions options;
  options.table = &table;
  Explain explain;
  const StaticPlan plan = plan_static(graph, target, Selection({}, {}), options, explain);
  std::vector<std::string> result;
  for (const IntegerNode& node : plan.nodes) result.emplace_back(node.output->name());
  return result;
}

using Names = std::vector<std::string>;

TEST(StaticPlan, ASeparableConvolutionOfASignalRunsInIntegers) {
  const std::string net = "(float[1,64,500] x) => (float[1,64,500] y) <" +
                          weights("d", {64, 1, 9}) + "," + weights("p", {64, 64, 1}) +
                          "> { a = Conv<group = 64, pads = [4, 4]>(x, d) b = Relu(a) "
                          "y = Conv(b, p) }";
  EXPECT_EQ(in_integers(net, default_target()), (Names{"b", "y"}));
  // The depthwise one alone as well: in float32 each channel is a product of its own.
  const std::string alone = "(float[1,64,500] x) => (float[1,64,500] y) <" +
                            weights("d", {64, 1, 9}) +
                            "> { y = Conv<group = 64, pads = [4, 4]>(x, d) }";
  EXPECT_EQ(in_integers(alone, default_target()), (Names{"y"}));
}

TEST(StaticPlan, ADepthwiseImageAloneStaysInFloat32) {
  const std::string alone = "(float[1,64,28,28] x) => (float[1,64,28,28] y) <" +
                            weights("d", {64, 1, 3, 3}) +
                            "> { y = Conv<group = 64, pads = [1, 1, 1, 1]>(x, d) }";
  EXPECT_EQ(in_integers(alone, default_target()), Names{});
}

TEST(StaticPlan, SmallGroupsOfASignalStayInFloat32) {
  const auto grouped = [](const std::string& groups, std::int64_t per_group) {
    return "(float[1,64,400] x) => (float[1,64,400] y) <" + weights("g", {64, per_group, 3}) +
           "> { y = Conv<group = " + groups + ", pads = [1, 1]>(x, g) }";
  };
  EXPECT_EQ(in_integers(grouped("8", 8), default_target()), Names{});
  EXPECT_EQ(in_integers(grouped("8", 8), *find_target("onnxruntime-cpu-vnni")), Names{});
  EXPECT_EQ(in_integers(grouped("1", 64), default_target()), (Names{"y"}));
}

TEST(StaticPlan, ALongKernelOnASignalOfOneChannelRunsInIntegers) {
  const std::string audio = "(float[1,1,16000] x) => (float[1,64,3981] y) <" +
                            weights("w", {64, 1, 80}) + "> { y = Conv<strides = [4]>(x, w) }";
  EXPECT_EQ(in_integers(audio, default_target()), (Names{"y"}));
  // Three taps leave nothing to gain, and images of so few channels stay by a rule of the target.
  const std::string few = "(float[1,1,16000] x) => (float[1,32,15998] y) <" +
                          weights("w", {32, 1, 3}) + "> { y = Conv(x, w) }";
  EXPECT_EQ(in_integers(few, default_target()), Names{});
  const std::string image = "(float[1,3,112,112] x) => (float[1,64,106,106] y) <" +
                            weights("w", {64, 3, 7, 7}) + "> { y = Conv(x, w) }";
  EXPECT_EQ(in_integers(image, default_target()), Names{});
}

// 1.17 x as fast as with all three in integers. That its weight stays whole is FloatLayers' part.
TEST(StaticPlan, ASlowConvolutionBetweenIntegersStaysInFloat32) {
  const std::string net =
      "(float[1,64,400] x) => (float[1,64,400] y) <" + weights("p", {64, 64, 5}) + "," +
      weights("g", {64, 8, 3}) + "," + weights("q", {64, 64, 5}) +
      "> { a = Conv<pads = [2, 2]>(x, p) b = Conv<group = 8, pads = [1, 1]>(a, g) "
      "y = Conv<pads = [2, 2]>(b, q) }";
  EXPECT_EQ(in_integers(net, default_target()), (Names{"a", "y"}));
}

TEST(StaticPlan, NarrowProductsStayInFloat32) {
  const auto product = [](std::int64_t rows, std::int64_t width) {
    const std::string shape = "[" + std::to_string(rows) + "," + std::to_string(width) + "]";
    return "(float" + shape + " x) => (float" + shape + " y) <" + weights("w", {width, width}) +
           "> { y = MatMul(x, w) }";
  };
  EXPECT_EQ(in_integers(product(512, 16), default_target()), Names{});
  EXPECT_EQ(in_integers(product(1, 64), default_target()), Names{});
  EXPECT_EQ(in_integers(product(64, 256), default_target()), (Names{"y"}));
  EXPECT_EQ(in_integers(product(1, 1024), default_target()), (Names{"y"}));
}

TEST(Targets, CostsAreReadAndCheckedAndPrinted) {
  const auto target_of = [](const std::string& costs) {
    const std::string text =
        R"({"extends": "onnxruntime-cpu", "name": "mine", "costs": )" + costs + "}";
    return Target::from_datum(*datum_from_json(text, "my.json"));
  };
  const auto mine = target_of(R"({"node": 700, "layout": 0.5})");
  ASSERT_TRUE(mine.ok()) << to_string(mine.error().diagnostic);
  EXPECT_EQ(mine->costs.node, 700);
  EXPECT_EQ(mine->costs.layout, 0.5);
  EXPECT_EQ(mine->costs.integer_product, default_target().costs.integer_product);
  EXPECT_EQ(Target::from_datum(mine->to_datum())->costs.node, 700);
  EXPECT_EQ(target_of(R"({"nodes": 7})").error().diagnostic.hint, "did you mean 'node'?");
  for (const std::string wrong : {"{\"node\": 0}", "{\"node\": -1}", "{\"node\": \"much\"}"}) {
    EXPECT_NE(target_of(wrong).error().diagnostic.message.find("a number above 0"),
              std::string::npos)
        << wrong;
  }
}

}  // namespace
}  // namespace mcompress::testing
