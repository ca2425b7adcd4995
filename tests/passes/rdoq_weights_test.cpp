// rdoq-weights: the best partition against all of them; what moves, how far, and what stays, in
// every form of integer weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "numeric/rate_distortion.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

constexpr double kNoSymbol = std::numeric_limits<double>::infinity();

// All ways to cut symbols 0 to n - 1 into runs, each with its best member.
double least_cost(const SymbolWeights& symbols, int n, double per_bit) {
  double total = 0, least = kNoSymbol;
  for (const std::uint64_t count : symbols.counts) total += static_cast<double>(count);
  for (int cuts = 0; cuts < 1 << (n - 1); ++cuts) {
    double cost = 0;
    for (int begin = 0, end = 0; begin < n; begin = end) {
      end = begin + 1;
      while (end < n && (cuts >> (end - 1) & 1) == 0) ++end;
      double count = 0, best = kNoSymbol;
      for (int s = begin; s < end; ++s) count += static_cast<double>(symbols.counts[s]);
      for (int member = begin; member < end; ++member) {
        double error = 0;
        for (int s = begin; s < end; ++s) {
          error += symbols.weight[s] * (s - member) * (s - member);
        }
        best = std::min(best, error);
      }
      if (count > 0) cost += best + per_bit * count * std::log2(total / count);
    }
    least = std::min(least, cost);
  }
  return least;
}

TEST(RateDistortion, FindsTheBestOfAllPartitions) {
  std::mt19937 random(3);
  constexpr int kSymbols = 11;
  for (int round = 0; round < 20; ++round) {
    SymbolWeights symbols;
    for (int s = 0; s < kSymbols; ++s) {
      symbols.counts[s] = random() % 4 == 0 ? 0 : random() % 100;
      symbols.weight[s] =
          static_cast<double>(symbols.counts[s]) * (0.5 + static_cast<double>(random() % 8) / 8);
    }
    symbols.counts[5] = 7, symbols.weight[5] = 7;
    for (const double per_bit : {0.3, 1.0, 4.0, 30.0}) {
      const SymbolBits bits = constrained_bits(symbols, per_bit, {});
      // Each symbol of the partition, by its own bits: no other partition is cheaper.
      double cost = 0;
      for (int s = 0; s < kSymbols; ++s) {
        if (symbols.counts[s] == 0) continue;
        const auto n = static_cast<double>(symbols.counts[s]);
        const int to = cheapest_symbol(static_cast<std::uint8_t>(s), symbols.weight[s] / n, per_bit,
                                       bits, 255);
        cost += symbols.weight[s] * (s - to) * (s - to) + n * per_bit * bits[to];
      }
      EXPECT_LE(cost, least_cost(symbols, kSymbols, per_bit) * (1 + 1e-12));
      const SymbolBits kept = constrained_bits(symbols, per_bit, std::uint8_t{5});
      EXPECT_TRUE(std::isfinite(kept[5]));
    }
  }
}

TEST(RateDistortion, SymbolsMoveWithinTheirReach) {
  SymbolBits bits;
  bits.fill(kNoSymbol);
  bits[10] = 1, bits[14] = 3;
  EXPECT_EQ(cheapest_symbol(13, 1, 0.1, bits, 255), 14);
  EXPECT_EQ(cheapest_symbol(13, 1, 100, bits, 255), 10);
  EXPECT_EQ(cheapest_symbol(13, 1, 100, bits, 2), 14);
  EXPECT_EQ(cheapest_symbol(20, 1, 1, bits, 2), 20);
  EXPECT_EQ(cheapest_symbol(12, 1, 1, bits, 255), 10);
}

// Normal codes from -100 to 100; one in five is 0 where `sparse`.
std::string codes(std::string_view type, int rows, int columns, int deviation,
                  bool sparse = false) {
  std::mt19937 random(7);
  const bool is_unsigned = type.starts_with("u");
  const int middle = is_unsigned ? 128 : 0, most = 100;
  std::string text =
      std::string(type) + "[" + std::to_string(rows) + "," + std::to_string(columns) + "] c = {";
  for (int i = 0; i < rows * columns; ++i) {
    double sum = 0;
    for (int k = 0; k < 12; ++k) sum += static_cast<double>(random() % 65536) / 65536 - 0.5;
    int code = std::clamp(static_cast<int>(std::lround(sum * deviation)), -most, most);
    if (sparse && random() % 5 == 0) code = 0;
    text += (i > 0 ? "," : "") + std::to_string(code + middle);
  }
  return text + "}";
}

std::string product(const std::string& type, int opset, int deviation, bool sparse = false) {
  const std::string zero = type.starts_with("u") ? "128" : "0";
  return "<ir_version: 10, opset_import: [\"\" : " + std::to_string(opset) +
         "]> g (float[N,96] x) => (float[N,64] y) <" + codes(type, 96, 64, deviation, sparse) +
         ", float s = {0.5}, " + type + " z = {" + zero +
         "}> { w = DequantizeLinear(c, s, z) y = MatMul(x, w) }";
}

std::vector<double> numbers_of(const Model& model, std::string_view name = "c") {
  const auto floats = read_floats(*model.graph().find(name)->initializer());
  return {floats->begin(), floats->end()};
}

double entropy(const std::vector<double>& numbers) {
  std::map<double, double> counts;
  for (const double x : numbers) ++counts[x];
  double bits = 0;
  const auto n = static_cast<double>(numbers.size());
  for (const auto& [x, count] : counts) bits += count / n * std::log2(n / count);
  return bits;
}

TEST(RdoqWeights, EveryTypeGetsSmallerWithinTheRatioThatWasAskedFor) {
  for (const std::string type : {"int8", "uint8"}) {
    const std::string least = "24";
    const auto checked =
        check_passes(product(type, 21, 30),
                     {"infer-shapes", "rdoq-weights:{\"weight-sqnr\": " + least + "}"}, 1000);
    EXPECT_EQ(checked.run->applied("rdoq-weights"), 1) << type << checked.run->why("c");
    const auto before = numbers_of(*checked.before), after = numbers_of(*checked.after);
    const double middle = type == "uint8" ? 128 : 0;
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
      signal += std::pow(before[i] - middle, 2), noise += std::pow(before[i] - after[i], 2);
    }
    EXPECT_GE(10 * std::log10(signal / noise), std::stod(least)) << type;
    EXPECT_LT(entropy(after), entropy(before) - 0.4) << type;
    // Nothing leaves the range that was there.
    EXPECT_LE(*std::ranges::max_element(after), *std::ranges::max_element(before));
    EXPECT_GE(*std::ranges::min_element(after), *std::ranges::min_element(before));
  }
}

TEST(RdoqWeights, ZerosStayAndReachHolds) {
  const auto sparse = check_passes(product("int8", 17, 30, true),
                                   {"infer-shapes", R"(rdoq-weights:{"rate": 40})"}, 1000);
  const auto near =
      check_passes(product("int8", 17, 30, true),
                   {"infer-shapes", R"(rdoq-weights:{"rate": 40, "reach": 1})"}, 1000);
  EXPECT_EQ(sparse.run->applied("rdoq-weights"), 1);
  EXPECT_EQ(near.run->applied("rdoq-weights"), 1);
  const auto before = numbers_of(*sparse.before), after = numbers_of(*sparse.after);
  const auto close = numbers_of(*near.after);
  bool far = false;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (before[i] == 0) {
      EXPECT_EQ(after[i], 0);
    }
    far = far || std::fabs(after[i] - before[i]) > 1;
    EXPECT_LE(std::fabs(close[i] - before[i]), 1);
  }
  EXPECT_TRUE(far);
  EXPECT_LT(entropy(close), entropy(before));
}

// What the model makes of the unit matrix.
std::vector<float> rows_of(const Model& model, std::int64_t n) {
  auto runtime = find_runtime("onnxruntime");
  auto session = (*runtime)->open(model, {});
  EXPECT_TRUE(session.ok());
  if (!session.ok()) return {};
  std::vector<float> unit(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i) unit[static_cast<std::size_t>(i * (n + 1))] = 1;
  const std::vector<NamedTensor> feeds = {{"x", make_float_tensor(unit, {n, n})}};
  const std::vector<std::string> fetch = {"y"};
  auto results = (*session)->run(feeds, fetch);
  EXPECT_TRUE(results.ok());
  if (!results.ok()) return {};
  return *read_floats(results->front());
}

TEST(RdoqWeights, WorksOnWhatQuantizationWrites) {
  const std::string text =
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,128] x) => (float[N,96] y) <" +
      weights("w", {128, 96}) + "> { y = MatMul(x, w) }";
  const std::pair<std::string, std::string> kForms[] = {
      {"int4", "matmul-nbits"}, {"uint4", "matmul-nbits"}, {"int4", "dequantize"},
      {"uint4", "dequantize"},  {"int8", "fold"},          {"int8", "matmul-nbits"},
      {"int4", "fold"}};
  for (const auto& [type, form] : kForms) {
    const std::string blocks =
        "quantize-blocks:{\"weights\": \"" + type + "\", \"block-form\": \"" + form + "\"}";
    std::vector<std::string> passes = {"lift-constants", "infer-shapes",
                                       "convert-opset:{\"to\": 21}", blocks};
    const auto plain = check_passes(text, passes, 1000);
    passes.push_back(R"(rdoq-weights:{"rate": 8, "min-elements": 1024})");
    const auto moved = check_passes(text, passes, 1000);
    ASSERT_EQ(moved.run->applied("rdoq-weights"), 1)
        << type << form << moved.run->why("w_quantized");
    // Wiring that is wrong would leave nothing of the signal.
    const auto real = rows_of(*plain.after, 128), now = rows_of(*moved.after, 128);
    ASSERT_EQ(real.size(), now.size());
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < real.size(); ++i) {
      signal += std::pow(double{real[i]}, 2), noise += std::pow(double{real[i]} - now[i], 2);
    }
    EXPECT_GT(noise, 0) << type << form;
    EXPECT_GT(10 * std::log10(signal / noise), 12) << type << form;
  }
}

TEST(RdoqWeights, ReasonsWhyWeightsStay) {
  const auto off = check_passes(product("int8", 17, 30), {"infer-shapes", "rdoq-weights"}, 0);
  EXPECT_EQ(off.run->applied("rdoq-weights"), 0);
  const auto excluded =
      check_passes(product("int8", 17, 30),
                   {"infer-shapes", R"(rdoq-weights:{"rate": 9, "exclude": ["c"]})"}, 0);
  EXPECT_FALSE(excluded.run->why("c").empty());
  const auto read = check_passes(
      "<ir_version: 8, opset_import: [\"\" : 17]> g (float[96,64] x) => (int8[192,64] y) <" +
          codes("int8", 96, 64, 30) + "> { i = Cast <to = 3> (x) y = Concat <axis = 0> (c, i) }",
      {R"(rdoq-weights:{"rate": 9})"}, 0);
  EXPECT_EQ(read.run->applied("rdoq-weights"), 0);
  EXPECT_NE(read.run->why("c").find("not a quantized weight of Concat"), std::string::npos);
  // At almost no price for a bit there is nothing to gain.
  const auto cheap =
      check_passes(product("int8", 17, 30), {"infer-shapes", R"(rdoq-weights:{"rate": 0.001})"}, 0);
  EXPECT_EQ(cheap.run->applied("rdoq-weights"), 0);
  EXPECT_NE(cheap.run->why("c").find("worth the error"), std::string::npos);
}

}  // namespace
}  // namespace mcompress::testing
