// cluster-weights and pack-weights: what they write computes the weights an independent reading of
// the model gives; every form, opset and reason.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "numeric/vector_kmeans.h"
#include "passes/common/cluster_choice.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

std::string product(int opset, std::int64_t rows = 80, std::int64_t columns = 64) {
  const std::string k = std::to_string(rows), n = std::to_string(columns);
  return "<ir_version: 10, opset_import: [\"\" : " + std::to_string(opset) + "]> g (float[N," + k +
         "] x) => (float[N," + n + "] y) <" + weights("w", {rows, columns}) +
         "> { y = MatMul(x, w) }";
}

Checked clustered(const std::string& text, const std::string& options,
                  const std::vector<std::string>& more = {}, double tolerance = 4) {
  std::vector<std::string> passes = {"lift-constants", "infer-shapes",
                                     "cluster-weights:" + options};
  passes.insert(passes.end(), more.begin(), more.end());
  return check_passes(text, passes, tolerance);
}

// The weight as the runtime sees it: rows of the unit matrix times it.
std::vector<float> weight_of(const Model& model, std::size_t rows, std::size_t columns) {
  auto runtime = find_runtime("onnxruntime");
  EXPECT_TRUE(runtime.ok());
  auto session = (*runtime)->open(model, {});
  EXPECT_TRUE(session.ok());
  if (!session.ok()) return {};
  std::vector<float> unit(rows * rows);
  for (std::size_t i = 0; i < rows; ++i) unit[i * (rows + 1)] = 1;
  const auto n = static_cast<std::int64_t>(rows);
  const std::vector<NamedTensor> feeds = {{"x", make_float_tensor(unit, {n, n})}};
  const std::vector<std::string> fetch = {"y"};
  auto results = (*session)->run(feeds, fetch);
  EXPECT_TRUE(results.ok());
  if (!results.ok()) return {};
  const auto floats = read_floats(results->front());
  EXPECT_EQ(floats->size(), rows * columns);
  return *floats;
}

double sqnr(const std::vector<float>& real, const std::vector<float>& other) {
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < real.size(); ++i) {
    signal += double{real[i]} * real[i];
    noise += std::pow(double{real[i]} - other[i], 2);
  }
  return 10 * std::log10(signal / noise);
}

std::vector<float> original(const Model& model) {
  return *read_floats(*model.graph().find("w")->initializer());
}

TEST(ClusterWeights, EveryNumberOfBitsComesBackInTheRuntime) {
  for (const int opset : {11, 13, 17, 21}) {
    for (int bits = 1; bits <= 8; ++bits) {
      const auto checked =
          clustered(product(opset), "{\"bits\": " + std::to_string(bits) + "}", {}, 1000);
      EXPECT_EQ(checked.run->applied("cluster-weights"), 1) << opset << " " << bits;
      const auto real = original(*checked.before), now = weight_of(*checked.after, 80, 64);
      const std::set<float> entries(now.begin(), now.end());
      EXPECT_LE(entries.size(), std::size_t{1} << bits);
      // Uniform numbers: 6 dB a bit.
      EXPECT_GT(sqnr(real, now), 6.02 * bits - 1.0) << opset << " " << bits;
    }
  }
}

TEST(ClusterWeights, ElementsTakeTheNearestEntry) {
  const auto checked = clustered(product(17), R"({"clusters": 11})");
  const auto real = original(*checked.before), now = weight_of(*checked.after, 80, 64);
  const std::set<float> entries(now.begin(), now.end());
  EXPECT_EQ(entries.size(), 11U);
  for (std::size_t i = 0; i < real.size(); ++i) {
    for (const float e : entries) {
      EXPECT_LE(std::fabs(real[i] - now[i]), std::fabs(real[i] - e) + 1e-6);
    }
  }
}

TEST(VectorKmeans, FindsSeparatedClustersAndTakesTheFirstOfEqualOnes) {
  // Four corners, 50 points close to each.
  std::vector<float> values;
  for (int i = 0; i < 200; ++i) {
    const float x = i % 2 == 0 ? 5.0F : -5.0F, y = i % 4 < 2 ? 3.0F : -3.0F;
    values.push_back(x + static_cast<float>(i % 7 - 3) / 100);
    values.push_back(y + static_cast<float>(i % 5 - 2) / 100);
  }
  const VectorSet vectors{values, {}, 2};
  const Executor one(1), four(4);
  const std::vector<float> codebook = vector_codebook(vectors, 4, 9, one);
  ASSERT_EQ(codebook.size(), 8U);
  EXPECT_EQ(codebook, vector_codebook(vectors, 4, 9, four));
  std::vector<std::uint8_t> codes;
  nearest_entries(vectors, codebook, {}, codes, four);
  for (int i = 4; i < 200; ++i) EXPECT_EQ(codes[i], codes[i % 4]) << i;
  for (std::size_t c = 0; c < 4; ++c) {
    EXPECT_NEAR(std::fabs(codebook[2 * c]), 5, 0.02);
    EXPECT_NEAR(std::fabs(codebook[2 * c + 1]), 3, 0.02);
  }
  // Midway, and on two entries that are the same: the first one.
  const std::vector<float> tied = {1, 1, 1, 1, -1, 1}, middle = {0, 1, -1, 1};
  nearest_entries({middle, {}, 2}, tied, {}, codes, one);
  EXPECT_EQ(codes, (std::vector<std::uint8_t>{0, 2}));
  const std::vector<double> penalty = {0.5, 0, 9};
  nearest_entries({middle, {}, 2}, tied, penalty, codes, one);
  EXPECT_EQ(codes, (std::vector<std::uint8_t>{1, 1}));
  // Fewer different vectors than entries.
  EXPECT_EQ(vector_codebook({middle, {}, 2}, 16, 1, one).size(), 4U);
}

TEST(ClusterWeights, VectorsShareAnEntry) {
  for (const int opset : {11, 17, 21}) {
    for (const auto& [dimension, bits] :
         std::vector<std::pair<int, int>>{{2, 8}, {2, 4}, {2, 5}, {3, 6}, {4, 8}}) {
      const std::string options = "{\"dimension\": " + std::to_string(dimension) +
                                  ", \"bits\": " + std::to_string(bits) + "}";
      const auto plain = clustered(product(opset, 96, 128), options, {}, 1000);
      ASSERT_EQ(plain.run->applied("cluster-weights"), 1) << options;
      const auto real = original(*plain.before), now = weight_of(*plain.after, 96, 128);
      std::set<std::vector<float>> entries;
      for (std::size_t i = 0; i < now.size(); i += static_cast<std::size_t>(dimension)) {
        entries.insert({now.begin() + static_cast<std::ptrdiff_t>(i),
                        now.begin() + static_cast<std::ptrdiff_t>(i) + dimension});
      }
      EXPECT_LE(entries.size(), std::size_t{1} << bits) << options;
      // Uniform numbers: as good as single ones of as many bits, nearly.
      EXPECT_GT(sqnr(real, now), 6.02 * bits / dimension - 0.6) << options;
      const auto packed = clustered(product(opset, 96, 128), options,
                                    {R"(pack-weights:{"min-elements": 2})"}, 1000);
      EXPECT_EQ(now, weight_of(*packed.after, 96, 128)) << options;
    }
  }
}

TEST(ClusterWeights, OneCodebookForAll) {
  const std::string text =
      "<ir_version: 10, opset_import: [\"\" : 17]> g (float[N,80] x) => (float[N,64] y) <" +
      weights("v", {80, 80}) + ", " + weights("w", {80, 64}) +
      "> { t = MatMul(x, v) y = MatMul(t, w) }";
  const auto shared = check_passes(text,
                                   {"lift-constants", "infer-shapes",
                                    R"(cluster-weights:{"share": true})", "dedup-initializers"},
                                   1000);
  EXPECT_EQ(shared.run->applied("cluster-weights"), 2);
  std::size_t codebooks = 0;
  for (const Value* value : shared.after->graph().initializers()) {
    codebooks += value->name().find("codebook") != std::string_view::npos ? 1 : 0;
  }
  EXPECT_EQ(codebooks, 1U);
}

TEST(ClusterWeights, ReasonsWhyWeightsStay) {
  const auto small = clustered(product(17, 16, 16), "{}");
  EXPECT_EQ(small.run->applied("cluster-weights"), 0);
  EXPECT_NE(small.run->why("w").find("256 elements, below 4096"), std::string::npos);
  const auto excluded = clustered(product(17), R"({"exclude": ["w"]})");
  EXPECT_EQ(excluded.run->applied("cluster-weights"), 0);
  EXPECT_FALSE(excluded.run->why("w").empty());
}

TEST(ClusterWeights, RuntimesThatDoNotFoldAreRefused) {
  auto model = model_from_text(product(17));
  for (const std::string pass : {"cluster-weights", "pack-weights"}) {
    const auto run = run_passes_for("tensorrt", *model, {pass});
    ASSERT_FALSE(run->status.ok());
    EXPECT_EQ(run->status.error().code, Code::kUnsupported);
    EXPECT_NE(run->status.error().diagnostic.message.find("does not compute constants"),
              std::string::npos);
  }
}

TEST(ClusterChoice, IsTheBestOfAllCombinations) {
  const std::vector<std::vector<ClusterOption>> weights = {
      {{10, 9}, {20, 3}, {40, 1}}, {{5, 4}, {10, 2}, {20, 0.5}}, {{8, 100}, {16, 5}, {32, 1}}};
  for (const std::uint64_t budget : {23U, 40U, 47U, 60U, 92U}) {
    double best = 1e300;
    for (int i = 0; i < 27; ++i) {
      const auto &a = weights[0][i % 3], &b = weights[1][i / 3 % 3], &c = weights[2][i / 9];
      if (a.bytes + b.bytes + c.bytes <= budget) best = std::min(best, a.error + b.error + c.error);
    }
    // Steps are rounded up, so a little more than the budget has to be there.
    const auto chosen = choose_within(weights, budget + 1);
    ASSERT_EQ(chosen.size(), 3U) << budget;
    double error = 0;
    for (std::size_t w = 0; w < 3; ++w) error += weights[w][chosen[w]].error;
    EXPECT_DOUBLE_EQ(error, best) << budget;
  }
  EXPECT_TRUE(choose_within(weights, 20).empty());
}

TEST(PackWeights, ClusteredWeightsComeBackBitForBit) {
  for (const int opset : {11, 13, 21}) {
    for (const int bits : {2, 3, 4, 6, 8}) {
      const std::string options = "{\"rate\": 4, \"bits\": " + std::to_string(bits) + "}";
      const auto plain = clustered(product(opset, 256, 128), options, {}, 1000);
      const auto packed = clustered(product(opset, 256, 128), options, {"pack-weights"}, 1000);
      EXPECT_EQ(weight_of(*plain.after, 256, 128), weight_of(*packed.after, 256, 128))
          << opset << " " << bits;
      if (packed.run->applied("pack-weights") == 0) continue;
      EXPECT_GT(packed.run->count("pack-weights", "executed_nodes"), 0);
      EXPECT_EQ(packed.run->count("pack-weights", "executed_nodes"),
                packed.run->count("pack-weights", "executed_nodes_before"));
    }
  }
}

// Integer weights of a skewed distribution, the extremes of their type among them.
TEST(PackWeights, IntegerWeightsComeBackBitForBit) {
  for (const std::string type : {"int8", "uint8"}) {
    std::string numbers;
    std::uint32_t state = 1;
    for (int i = 0; i < 256 * 128; ++i) {
      state = state * 1664525 + 1013904223;
      const int size = (state >> 28) < 10 ? 0 : static_cast<int>(state >> 16 & 7);
      const int code = type == "int8" ? (i == 5   ? -128
                                         : i == 6 ? 127
                                                  : size - 3)
                                      : (i == 5 ? 255 : size);
      numbers += (i > 0 ? "," : "") + std::to_string(code);
    }
    const std::string text =
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,256] x) => (float[N,128] y) <" +
        type + "[256,128] c = {" + numbers + "}, float s = {0.5}, " + type +
        " z = {3}> { w = DequantizeLinear(c, s, z) y = MatMul(x, w) }";
    const auto packed = check_passes(text, {"infer-shapes", "pack-weights"}, 0);
    EXPECT_EQ(packed.run->applied("pack-weights"), 1) << type << packed.run->why("c");
    EXPECT_EQ(weight_of(*packed.before, 256, 128), weight_of(*packed.after, 256, 128)) << type;
  }
}

TEST(PackWeights, SaysWhyItWouldNotShrink) {
  const auto flat = clustered(product(17), R"({"bits": 8})", {"pack-weights"});
  EXPECT_EQ(flat.run->applied("pack-weights"), 0);
  EXPECT_NE(flat.run->why("w").find("would not shrink"), std::string::npos);
  const auto excluded = clustered(product(17, 256, 128), R"({"bits": 3, "rate": 4})",
                                  {R"(pack-weights:{"exclude": ["w_*"]})"}, 1000);
  EXPECT_EQ(excluded.run->applied("pack-weights"), 0);
}

}  // namespace
}  // namespace mcompress::testing
