#include <gtest/gtest.h>

#include "search/places.h"
#include "support/models.h"

namespace mcompress {
namespace {

// Two branches that join, and a layer behind them.
constexpr std::string_view kBranches = R"(
    <ir_version: 8, opset_import: ["" : 17]> g (float[1,2] x) => (float[1,2] y)
    <float[2,2] w0 = {1.0,2.0,3.0,4.0}, float[2,2] w1 = {1.0,2.0,3.0,4.0},
     float[2,2] w2 = {1.0,2.0,3.0,4.0}, float[2,2] w3 = {1.0,2.0,3.0,4.0}> {
      start = Neg (x) a = MatMul (start, w0) r = Relu (a)
      b = MatMul (r, w1) c = MatMul (r, w2) j = Add (b, c) y = MatMul (j, w3) })";

std::vector<SearchLayer> layers_of(std::initializer_list<std::string> weights) {
  std::vector<SearchLayer> layers;
  for (const std::string& weight : weights) layers.emplace_back().name = weight;
  return layers;
}

LayerPlaces places_of(std::initializer_list<std::string> weights) {
  const auto model = testing::model_from_text(kBranches);
  const auto layers = layers_of(weights);
  return places_of_layers(*model, layers);
}

using Pairs = std::vector<std::pair<std::size_t, std::size_t>>;

TEST(SearchPlaces, NeighboursFollowTheData) {
  // w1 and w2 both read what w0 makes; behind the join the later of the two counts.
  EXPECT_EQ(places_of({"w0", "w1", "w2", "w3"}).neighbours, (Pairs{{0, 1}, {0, 2}, {2, 3}}));
  // A product whose weight is no layer is no layer.
  EXPECT_EQ(places_of({"w0", "w3"}).neighbours, (Pairs{{0, 1}}));
  EXPECT_TRUE(places_of({"w2"}).neighbours.empty());
}

TEST(SearchPlaces, NodesBelongToTheLayerInFrontOfThem) {
  const LayerPlaces places = places_of({"w0", "w1", "w2", "w3"});
  EXPECT_EQ(places.layer_of.at("start"), 0U);  // stands before all
  EXPECT_EQ(places.layer_of.at("r"), 0U);
  EXPECT_EQ(places.layer_of.at("j"), 2U);
  EXPECT_EQ(places.layer_of.at("y"), 3U);
}

TEST(SearchPlaces, KernelsAreFoundByTheLongestNameWithin) {
  LayerPlaces places;
  places.layer_of = {{"/a/Conv", 0}, {"/a/Conv_1", 1}, {"/Relu_output_0", 2}, {"conv", 3}};
  EXPECT_EQ(layer_of_kernel(places, "/a/Conv"), 0U);
  EXPECT_EQ(layer_of_kernel(places, "/a/Conv_token_3"), 0U);
  EXPECT_EQ(layer_of_kernel(places, "/a/Conv_1_token_6"), 1U);
  EXPECT_EQ(layer_of_kernel(places, "/Relu_output_0_nchwc"), 2U);
  EXPECT_EQ(layer_of_kernel(places, "fused conv"), 3U);
  EXPECT_EQ(layer_of_kernel(places, "deconvolution"), std::nullopt);  // within a word
  EXPECT_EQ(layer_of_kernel(places, "ReorderOutput"), std::nullopt);
}

// Two runs: a takes 10 and 30 (the middle one: 30), r twice a run 4 each, the loop's own time is
// that of what is in it.
constexpr std::string_view kTrace = R"([
  {"cat": "Session", "name": "model_run", "ts": 0, "dur": 100},
  {"cat": "Node", "name": "r_kernel_time", "ts": 20, "dur": 4, "args": {"op_name": "Relu"}},
  {"cat": "Node", "name": "a_kernel_time", "ts": 10, "dur": 10, "args": {"op_name": "MatMul"}},
  {"cat": "Node", "name": "Transpose_kernel_time", "ts": 15, "dur": 3, "args": {"op_name": "Transpose"}},
  {"cat": "Node", "name": "r_kernel_time", "ts": 25, "dur": 4, "args": {"op_name": "Relu"}},
  {"cat": "Node", "name": "loop_kernel_time", "ts": 5, "dur": 90, "args": {"op_name": "Loop"}},
  {"cat": "Node", "name": "y_fence_before", "ts": 26, "dur": 50},
  {"cat": "Node", "name": "y_kernel_time", "ts": 30, "dur": 7, "args": {"op_name": "MatMul"}},
  {"cat": "Node", "name": "a_kernel_time", "ts": 110, "dur": 30, "args": {"op_name": "MatMul"}},
  {"cat": "Node", "name": "Transpose_kernel_time", "ts": 115, "dur": 3, "args": {"op_name": "Transpose"}},
  {"cat": "Node", "name": "r_kernel_time", "ts": 120, "dur": 4, "args": {"op_name": "Relu"}},
  {"cat": "Node", "name": "r_kernel_time", "ts": 125, "dur": 4, "args": {"op_name": "Relu"}},
  {"cat": "Node", "name": "y_kernel_time", "ts": 130, "dur": 7, "args": {"op_name": "MatMul"}}
])";

TEST(SearchPlaces, SumsTheKernelsOfATraceByLayer) {
  const auto kernels = kernel_times(kTrace, 2);
  ASSERT_TRUE(kernels.ok());
  ASSERT_EQ(kernels->size(), 4U);
  EXPECT_EQ((*kernels)[0].name, "a");
  EXPECT_DOUBLE_EQ((*kernels)[0].microseconds, 30);
  EXPECT_EQ((*kernels)[1].name, "Transpose");
  EXPECT_EQ((*kernels)[2].name, "r");
  EXPECT_DOUBLE_EQ((*kernels)[2].microseconds, 8);
  const LayerPlaces places = places_of({"w0", "w1", "w2", "w3"});
  // The runtime's move goes with the kernel before it.
  EXPECT_EQ(times_of_layers(places, *kernels, 4), (std::vector<double>{41, 0, 0, 7}));
  EXPECT_FALSE(kernel_times("{}", 1).ok());
  EXPECT_FALSE(kernel_times("not a trace", 1).ok());
}

}  // namespace
}  // namespace mcompress
