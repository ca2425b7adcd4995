// cluster-weights and pack-weights: what they write computes the weights an independent reading of
// the model gives; every form, opset and reason.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "numeric/entropy_code.h"
#include "numeric/vector_kmeans.h"
#include "passes/common/cluster/cluster_choice.h"
#include "passes/common/cluster/cluster_feedback.h"
#include "passes/common/symbols/gap_symbols.h"
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

// Numbers that occur in columns [from, to) of a weight [rows, columns].
std::set<float> entries_of(const std::vector<float>& weight, std::size_t columns, std::size_t from,
                           std::size_t to) {
  std::set<float> entries;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    if (i % columns >= from && i % columns < to) entries.insert(weight[i]);
  }
  return entries;
}

TEST(ClusterWeights, EachGroupOfChannelsHasACodebook) {
  for (const int opset : {11, 21}) {
    for (int bits = 1; bits <= 8; ++bits) {
      // 64 channels, the columns: 4 groups of 16, and 5 of 13 at most.
      for (const std::size_t groups : {std::size_t{4}, std::size_t{5}}) {
        if (groups == 5 && bits != 3 && bits != 8) continue;
        const std::string options =
            "{\"groups\": " + std::to_string(groups) + ", \"bits\": " + std::to_string(bits) + "}";
        const auto plain = clustered(product(opset), options, {}, 1000);
        ASSERT_EQ(plain.run->applied("cluster-weights"), 1) << options;
        const auto real = original(*plain.before), now = weight_of(*plain.after, 80, 64);
        EXPECT_GT(sqnr(real, now), 6.02 * bits - 1.0) << options;
        const std::size_t size = (64 + groups - 1) / groups;
        std::set<float> all;
        for (std::size_t from = 0; from < 64; from += size) {
          const auto entries = entries_of(now, 64, from, std::min<std::size_t>(64, from + size));
          EXPECT_LE(entries.size(), std::size_t{1} << bits) << options;
          all.insert(entries.begin(), entries.end());
        }
        EXPECT_GT(all.size(), std::size_t{1} << bits) << options;
        const auto packed =
            clustered(product(opset), options, {R"(pack-weights:{"min-elements": 2})"}, 1000);
        EXPECT_EQ(now, weight_of(*packed.after, 80, 64)) << options << opset;
      }
    }
  }
}

TEST(ClusterWeights, GroupsThatManyZerosFillArePackedAsDistances) {
  const std::string text =
      "<ir_version: 10, opset_import: [\"\" : 17]> g (float[N,256] x) => (float[N,128] y) <" +
      weights("w", {256, 128}) + "> { y = MatMul(x, w) }";
  const std::vector<std::string> sparse = {
      "lift-constants", "infer-shapes",
      R"(prune-weights:{"sparsity": 0.9, "storage": "dense", "ends": true})",
      R"(cluster-weights:{"groups": 8, "bits": 3})"};
  std::vector<std::string> packing = sparse;
  packing.push_back("pack-weights");
  const auto plain = check_passes(text, sparse, 1000), packed = check_passes(text, packing, 1000);
  ASSERT_EQ(packed.run->applied("pack-weights"), 1) << packed.run->why("w");
  const auto now = weight_of(*packed.after, 256, 128);
  EXPECT_EQ(weight_of(*plain.after, 256, 128), now);
  EXPECT_GT(std::ranges::count(now, 0.0F), 256 * 128 * 8 / 10);
  std::size_t scatters = 0;
  for (const Node* node : packed.after->graph().nodes()) {
    scatters += node->is("ScatterElements") ? 1 : 0;
  }
  EXPECT_EQ(scatters, 1U);
}

TEST(GapSymbols, OfBothFormsGiveTheSymbolsBack) {
  for (const int values : {1, 3, 40}) {
    for (const unsigned sparse : {2U, 30U, 700U}) {
      std::vector<std::uint8_t> symbols;
      std::uint32_t state = 5;
      for (int i = 0; i < 5000; ++i) {
        state = state * 1664525 + 1013904223;
        const auto value = static_cast<std::uint8_t>(state >> 24) % values;
        symbols.push_back(
            (state >> 8) % sparse == 0 ? static_cast<std::uint8_t>(value + (value > 0)) : 1);
      }
      const Gaps gaps = gaps_of(symbols, 1);
      std::vector<std::uint8_t> back(symbols.size(), 1);
      std::size_t at = 0;
      for (std::size_t i = 0; i < gaps.symbols.size(); ++i) {
        at += gaps.skipped[i];
        back.at(at++) = gaps.symbols[i];
      }
      EXPECT_EQ(back, symbols) << values << " " << sparse;
      const auto joint = joint_gaps_of(symbols, 1);
      ASSERT_TRUE(joint);
      std::ranges::fill(back, 1);
      at = 0;
      for (const std::uint8_t s : joint->symbols) {
        at += s % joint->longest;
        back.at(at++) = joint->values.at(s / joint->longest);
      }
      EXPECT_EQ(back, symbols) << values << " " << sparse;
    }
  }
  std::vector<std::uint8_t> many(100);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<std::uint8_t>(i);
  EXPECT_FALSE(joint_gaps_of(many, 0));
}

TEST(PackWeights, DistancesAndSymbolsComeBackTogetherOrEachByItself) {
  const std::string text =
      "<ir_version: 10, opset_import: [\"\" : 17]> g (float[N,256] x) => (float[N,128] y) <" +
      weights("w", {256, 128}) + "> { y = MatMul(x, w) }";
  for (const int bits : {2, 7}) {
    const std::vector<std::string> sparse = {
        "lift-constants", "infer-shapes",
        R"(prune-weights:{"sparsity": 0.9, "storage": "dense", "ends": true})",
        "cluster-weights:{\"bits\": " + std::to_string(bits) + "}"};
    std::vector<std::string> packing = sparse;
    packing.push_back("pack-weights");
    const auto plain = check_passes(text, sparse, 1000), packed = check_passes(text, packing, 1000);
    ASSERT_EQ(packed.run->applied("pack-weights"), 1) << packed.run->why("w");
    EXPECT_EQ(weight_of(*plain.after, 256, 128), weight_of(*packed.after, 256, 128));
    std::size_t scatters = 0;
    for (const Node* node : packed.after->graph().nodes()) {
      scatters += node->is("ScatterElements") ? 1 : 0;
    }
    EXPECT_EQ(scatters, 1U) << bits;
  }
}

// Rows of inputs whose neighbours resemble each other, their second moments, and a weight.
struct Correlated {
  static constexpr std::size_t kColumns = 48, kRows = 40;
  std::vector<double> moments = std::vector<double>(kColumns * kColumns);
  ClusterInput input;
  RowView view;
  Correlated() {
    view.rows = kRows, view.inner = kColumns;
    view.outer = 1;
    for (std::size_t i = 0; i < kColumns; ++i) {
      for (std::size_t j = 0; j < kColumns; ++j) {
        moments[i * kColumns + j] =
            std::pow(0.9, std::abs(static_cast<double>(i) - static_cast<double>(j)));
      }
    }
    std::uint32_t state = 7;
    for (std::size_t i = 0; i < kRows * kColumns; ++i) {
      state = state * 1664525 + 1013904223;
      input.values.push_back(static_cast<float>(state >> 8) / 8388608.0F - 1);
    }
    for (std::size_t i = 0; i < input.values.size(); i += 5) input.values[i] = 0;
    input.zero = true;
  }
  // Sum over rows of (v - w) H (v - w)^T.
  double error(const ClusterCodes& codes) const {
    double sum = 0;
    for (std::size_t r = 0; r < kRows; ++r) {
      for (std::size_t i = 0; i < kColumns; ++i) {
        for (std::size_t j = 0; j < kColumns; ++j) {
          const std::size_t a = r * kColumns + i, b = r * kColumns + j;
          sum += (codes.value(a) - input.values[a]) * moments[i * kColumns + j] *
                 (codes.value(b) - input.values[b]);
        }
      }
    }
    return sum;
  }
};

TEST(ClusterFeedback, ColumnsMakeUpForEachOther) {
  const Correlated of;
  const Executor one(1), four(4);
  const auto factor = factor_of_codes(of.moments, Correlated::kColumns, 100000);
  ASSERT_TRUE(factor);
  const ClusterCodes nearest = even_clusters(of.input, 0.2, 15, one);
  EXPECT_EQ(nearest.codebook.size(), 11U);
  EXPECT_EQ(nearest.codebook[5], 0.0F);
  for (std::size_t i = 0; i < of.input.values.size(); ++i) {
    EXPECT_LE(std::fabs(nearest.value(i) - of.input.values[i]), 0.1 + 1e-6);
  }
  ClusterCodes plain = nearest, threads = nearest, cheap = nearest;
  adapt_codes(of.input, of.view, *factor, 0, plain, one);
  adapt_codes(of.input, of.view, *factor, 0, threads, four);
  EXPECT_EQ(plain.codes, threads.codes);
  EXPECT_LT(of.error(plain), of.error(nearest) / 2);
  // Fewer bits, for more error; what is 0 stays so.
  adapt_codes(of.input, of.view, *factor, 8, cheap, one);
  EXPECT_LT(entropy_bits(cheap.counts()), entropy_bits(plain.counts()) * 0.9);
  EXPECT_GT(of.error(cheap), of.error(plain));
  for (std::size_t i = 0; i < of.input.values.size(); i += 5) EXPECT_EQ(cheap.value(i), 0);
}

TEST(ClusterFeedback, CodebooksOfGroupsAreFittedToOutputsEachByItself) {
  const Correlated of;
  const Executor one(1);
  const ChannelGroups groups = channel_groups(of.view, 3);  // 14, 14 and 12 rows
  ASSERT_EQ(groups.count, 3U);
  EXPECT_EQ(groups.of(14 * Correlated::kColumns - 1), 0U);
  EXPECT_EQ(groups.of(14 * Correlated::kColumns), 1U);
  EXPECT_EQ(groups.of(39 * Correlated::kColumns), 2U);
  ClusterCodes codes = fit_clusters(of.input, 5, 0, one, groups);
  ASSERT_EQ(codes.codebook.size(), 15U);
  const ClusterCodes whole = fit_clusters(of.input, 5, 0, one);
  EXPECT_LE(codes.noise, whole.noise * 1.001);
  const double before = of.error(codes);
  EXPECT_TRUE(refit_codebook(of.input, of.view, of.moments, codes, one));
  EXPECT_LT(of.error(codes), before);
  for (std::size_t i = 0; i < of.input.values.size(); i += 5) EXPECT_EQ(codes.value(i), 0);
}

TEST(ClusterFeedback, NumbersOfVectorsAreFittedToOutputsEach) {
  Correlated of;
  of.input.zero = false;
  for (std::size_t i = 0; i < of.input.values.size(); ++i) of.input.values[i] += 0.01F;
  const Executor one(1), four(4);
  for (const std::size_t entries : {4U, 32U}) {  // fewer unknowns than columns, and more
    ClusterCodes codes = fit_vector_clusters(of.input, entries, 2, 0, 5, one);
    ClusterCodes threads = codes;
    const double before = of.error(codes);
    ASSERT_TRUE(refit_codebook(of.input, of.view, of.moments, codes, one));
    ASSERT_TRUE(refit_codebook(of.input, of.view, of.moments, threads, four));
    EXPECT_EQ(codes.codebook, threads.codebook);
    const double after = of.error(codes);
    EXPECT_LT(after, before * 0.98) << entries;
    // No number can be moved to an advantage, but for the damping of the equations.
    for (std::size_t i = 0; i < codes.codebook.size(); ++i) {
      for (const float step : {-0.02F, 0.02F}) {
        ClusterCodes moved = codes;
        moved.codebook[i] += step;
        EXPECT_GT(of.error(moved), after) << entries << " " << i;
      }
    }
  }
}

// Along columns (a matrix [rows, columns]) and across rows (its transpose, for MatMul).
TEST(ClusterFeedback, VectorsMakeUpForEachOther) {
  const Executor one(1), four(4);
  for (const bool transposed : {false, true}) {
    Correlated of;
    of.input.zero = false;
    if (transposed) {
      std::vector<float> turned(of.input.values.size());
      for (std::size_t r = 0; r < Correlated::kRows; ++r) {
        for (std::size_t c = 0; c < Correlated::kColumns; ++c) {
          turned[c * Correlated::kRows + r] = of.input.values[r * Correlated::kColumns + c];
        }
      }
      of.input.values = turned;
      of.view.outer = Correlated::kColumns;
      of.view.inner = 1;
    }
    const auto error = [&](const ClusterCodes& codes) {
      double sum = 0;
      for (std::size_t r = 0; r < Correlated::kRows; ++r) {
        std::vector<double> off(Correlated::kColumns);
        for (std::size_t c = 0; c < Correlated::kColumns; ++c) {
          const std::size_t at =
              transposed ? c * Correlated::kRows + r : r * Correlated::kColumns + c;
          off[c] = double{codes.value(at)} - double{of.input.values[at]};
        }
        for (std::size_t i = 0; i < off.size(); ++i) {
          for (std::size_t j = 0; j < off.size(); ++j) {
            sum += off[i] * of.moments[i * Correlated::kColumns + j] * off[j];
          }
        }
      }
      return sum;
    };
    for (const std::size_t dimension : {2U, 4U}) {
      ASSERT_EQ(vector_layout(of.view, dimension),
                transposed ? VectorLayout::kRows : VectorLayout::kColumns);
      const ClusterCodes nearest = fit_vector_clusters(of.input, 64, dimension, 0, 5, one);
      const auto factor = factor_of_codes(of.moments, Correlated::kColumns, 100000, !transposed);
      ASSERT_TRUE(factor);
      ClusterCodes plain = nearest, threads = nearest, cheap = nearest;
      adapt_codes(of.input, of.view, *factor, 0, plain, one);
      adapt_codes(of.input, of.view, *factor, 0, threads, four);
      EXPECT_EQ(plain.codes, threads.codes);
      EXPECT_LT(error(plain), error(nearest) * 0.7) << dimension << transposed;
      adapt_codes(of.input, of.view, *factor, 8, cheap, one);
      EXPECT_LT(entropy_bits(cheap.counts()), entropy_bits(plain.counts()));
    }
  }
  RowView odd;
  odd.outer = 8, odd.rows = 5, odd.inner = 1;
  EXPECT_EQ(vector_layout(odd, 2), VectorLayout::kNeither);
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

// More weights than the dynamic programme has steps.
TEST(ClusterChoice, OfThousandsOfWeights) {
  const std::vector<std::vector<ClusterOption>> weights(5000, {{10, 1.0, 2}, {20, 0.1, 4}});
  const auto figures = [&](const std::vector<std::size_t>& chosen) {
    std::pair<std::uint64_t, double> sums;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      sums.first += weights[i].at(chosen[i]).bytes, sums.second += weights[i][chosen[i]].error;
    }
    return sums;
  };
  EXPECT_TRUE(choose_within(weights, 49999).empty());
  EXPECT_EQ(choose_within(weights, 50000), std::vector<std::size_t>(5000, 0));
  const auto some = choose_within(weights, 60000);
  ASSERT_EQ(some.size(), 5000U);
  EXPECT_LE(figures(some).first, 60000U);
  EXPECT_LT(figures(some).second, 5000 - 0.9 * 800);
  EXPECT_EQ(choose_for_error(weights, 5000), std::vector<std::size_t>(5000, 0));
  const auto close = choose_for_error(weights, 3000);
  ASSERT_EQ(close.size(), 5000U);
  EXPECT_LE(figures(close).second, 3000);
  EXPECT_LT(figures(close).first, 50000U + 2300 * 10);
  EXPECT_EQ(choose_for_error(weights, 0).size(), 5000U);
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
