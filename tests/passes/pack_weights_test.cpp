// Codes in groups, constants that share them, and what pack-weights makes of small, sparse and
// large weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "codec/code_lengths.h"
#include "passes/common/symbols/symbol_pools.h"
#include "support/models.h"
#include "support/pass_fixture.h"

namespace mcompress::testing {
namespace {

using Counts = std::vector<std::uint64_t>;

Counts bell(std::size_t symbols, double width, double total) {
  Counts counts;
  for (std::size_t s = 0; s < symbols; ++s) {
    const double x = (static_cast<double>(s) - static_cast<double>(symbols) / 2 + 0.3) / width;
    counts.push_back(static_cast<std::uint64_t>(total * std::exp(-x * x / 2)) +
                     (s % 3 == 0 ? 1 : 0));
  }
  return counts;
}

std::uint64_t huffman_bits(const Counts& counts) {
  const std::vector<std::uint8_t> lengths = codec::code_lengths(counts, 15);
  std::uint64_t bits = 0;
  for (std::size_t s = 0; s < counts.size(); ++s) bits += counts[s] * lengths[s];
  return bits;
}

TEST(SymbolCode, IsACompletePrefixCodeOfWholeGroups) {
  for (const auto& counts :
       {bell(16, 3, 1e6), bell(256, 30, 1e5), bell(256, 200, 400), bell(2, 1, 50), bell(3, 1, 9),
        bell(17, 60, 5000), Counts{0, 7, 0, 0, 0, 1}, Counts(256, 1000)}) {
    const SymbolCode code = best_symbol_code(counts, 15);
    std::set<unsigned> seen;
    double kraft = 0;
    std::uint64_t bits = 0, tree = 0;
    for (const SymbolGroup& group : code.groups) {
      EXPECT_LE(group.symbols.size(), std::size_t{1} << group.bits);
      kraft += std::ldexp(1.0, -int{group.length});
      for (const std::uint8_t symbol : group.symbols) {
        EXPECT_TRUE(seen.insert(symbol).second);
        bits += counts[symbol] * (group.length + group.bits);
        tree += counts[symbol] * group.length;
      }
      EXPECT_LE(group.length, code.levels);
    }
    EXPECT_DOUBLE_EQ(kraft, 1.0);
    EXPECT_EQ(bits, code.coded_bits);
    EXPECT_EQ(tree, code.tree_bits);
    for (std::size_t s = 0; s < counts.size(); ++s) {
      EXPECT_EQ(counts[s] > 0, seen.contains(static_cast<unsigned>(s))) << s;
    }
    // Never more than Huffman's bits and the nodes that a tree of 15 levels takes.
    EXPECT_LE(code.coded_bits, huffman_bits(counts) + 8 * 6000);
  }
  // So many symbols that nodes do not count: Huffman's bits.
  const Counts many = bell(16, 3, 1e9);
  EXPECT_EQ(best_symbol_code(many, 15).coded_bits, huffman_bits(many));
  // All alike: no tree at all.
  const SymbolCode flat = best_symbol_code(Counts(256, 1000), 15);
  EXPECT_EQ(flat.groups.size(), 1U);
  EXPECT_EQ(flat.coded_bits, 256U * 1000 * 8);
  EXPECT_EQ(flat.tree_bits, 0U);
}

TEST(SymbolCode, MemoryIsWorthBits) {
  const Counts counts = bell(256, 40, 1e6);
  const SymbolCode small = best_symbol_code(counts, 15), quick = best_symbol_code(counts, 15, 1e-2);
  EXPECT_LT(quick.tree_bits, small.tree_bits);
  EXPECT_GE(quick.bytes(), small.bytes());
}

class Streams {
 public:
  Streams()
      : model_(model_from_text("<opset_import: [\"\" : 17]> g (float[1] x) => (float[1] y) "
                               "{ y = Neg(x) }")) {}
  // Symbols as often as `counts` say, mixed.
  SymbolStream stream(const Counts& counts) {
    SymbolStream stream;
    for (std::size_t s = 0; s < counts.size(); ++s) {
      stream.symbols.insert(stream.symbols.end(), counts[s], static_cast<std::uint8_t>(s));
    }
    std::uint32_t state = 7;
    for (std::size_t i = stream.symbols.size(); i-- > 1;) {
      state = state * 1664525 + 1013904223;
      std::swap(stream.symbols[i], stream.symbols[(state >> 8) % (i + 1)]);
    }
    stream.table.resize(counts.size());
    stream.graph = &model_->graph();
    return stream;
  }

 private:
  std::unique_ptr<Model> model_;
};

TEST(SymbolPools, StreamsOfOneShapeShareATreeWhateverTheirAlphabets) {
  Streams make;
  SymbolPools pools;
  const Counts one = {4000, 1000, 500, 200, 100};
  const std::size_t a = pools.add(make.stream(one));
  const std::size_t b = pools.add(make.stream({0, 0, 100, 200, 500, 1000, 4000}));
  pools.arrange();
  EXPECT_EQ(pools.pools(), 1U);
  EXPECT_EQ(pools.share(a).coded_bits, pools.share(b).coded_bits);
  EXPECT_EQ(pools.share(a).coded_bits, best_symbol_code(one, 15).coded_bits);
  // Unlike and large: each its own.
  const std::size_t c = pools.add(make.stream(Counts(64, 5000)));
  pools.arrange();
  EXPECT_EQ(pools.pools(), 2U);
  EXPECT_EQ(pools.share(c).coded_bits, 64U * 5000 * 6);
  pools.drop(c);
  pools.arrange();
  EXPECT_EQ(pools.pools(), 1U);
}

std::string codes_text(std::int64_t rows, std::int64_t columns, std::uint32_t seed,
                       const std::function<int(std::uint32_t)>& number) {
  std::string text;
  std::uint32_t state = seed;
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    state = state * 1664525 + 1013904223;
    text += (i > 0 ? "," : "") + std::to_string(number(state));
  }
  return text;
}

// Four layers of 4,096 weights, of other ranges but alike.
std::string four_layers() {
  std::string initializers, nodes;
  for (int layer = 0; layer < 4; ++layer) {
    const std::string n = std::to_string(layer), next = std::to_string(layer + 1);
    initializers += "int8[64,64] c" + n + " = {" +
                    codes_text(64, 64, static_cast<std::uint32_t>(layer),
                               [&](std::uint32_t x) {
                                 return (x >> 28) < 11
                                            ? 3 * layer
                                            : 3 * layer - 4 + static_cast<int>(x >> 16 & 7);
                               }) +
                    "}, ";
    nodes += "w" + n + " = DequantizeLinear(c" + n + ", s, z) x" + next + " = MatMul(x" + n +
             ", w" + n + ") ";
  }
  return "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,64] x0) => (float[N,64] x4) <" +
         initializers + "float s = {0.0625}, int8 z = {3}> { " + nodes + "}";
}

TEST(PackWeights, SmallLayersShareATree) {
  const auto packed = check_passes(four_layers(), {"infer-shapes", "pack-weights"}, 0);
  ASSERT_EQ(packed.run->applied("pack-weights"), 4) << packed.run->why("c0");
  EXPECT_EQ(packed.run->count("pack-weights", "trees"), 1);
  EXPECT_EQ(packed.run->count("pack-weights", "executed_nodes"),
            packed.run->count("pack-weights", "executed_nodes_before"));
  std::set<std::string> functions;
  for (const Function& function : packed.after->functions()) functions.insert(function.name);
  EXPECT_TRUE(functions.contains("level"));
  EXPECT_GE(packed.after->ir_version(), 8);
}

TEST(PackWeights, WhatDecodingHoldsIsLimited) {
  const auto packed =
      check_passes(four_layers(), {"infer-shapes", R"(pack-weights:{"max-load-bytes": 1000})"}, 0);
  EXPECT_EQ(packed.run->applied("pack-weights"), 0);
  EXPECT_NE(packed.run->why("c2").find("max-load-bytes allows"), std::string::npos)
      << packed.run->why("c2");
}

// 98 % of zeros, more than 254 of them on end at the start, in between and at the end.
TEST(PackWeights, DistancesOfSparseWeightsComeBackBitForBit) {
  for (const int opset : {11, 17}) {
    std::int64_t at = 0;
    const std::string codes = codes_text(256, 256, 5, [&](std::uint32_t x) {
      const std::int64_t i = at++;
      if (i < 700 || (i > 20000 && i < 20900) || i > 65000) return 2;
      return (x >> 24) < 5 ? static_cast<int>(x >> 16 & 3) + ((x >> 16 & 3) >= 2 ? 1 : 0) : 2;
    });
    const std::string text =
        "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) +
        "]> g (float[N,256] x) => (float[N,256] y) <uint8[256,256] c = {" + codes +
        "}, float[5] e = {-1.5, -0.25, 0, 0.5, 1}> { i = Cast<to: int = 6>(c) w = Gather(e, i) y = "
        "MatMul(x, w) }";
    const auto packed = check_passes(text, {"infer-shapes", "pack-weights"}, 0);
    ASSERT_EQ(packed.run->applied("pack-weights"), 1) << packed.run->why("e");
    bool scattered = false;
    for (const Node* node : packed.after->graph().nodes()) {
      scattered = scattered || node->is("ScatterElements");
    }
    EXPECT_TRUE(scattered) << opset;
  }
}

}  // namespace
}  // namespace mcompress::testing
