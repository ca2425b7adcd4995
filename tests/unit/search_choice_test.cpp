#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "search/ledger.h"
#include "search/measure.h"
#include "search/places.h"

namespace mcompress {
namespace {

SearchLayer layer_named(const std::string& name, std::uint64_t bytes, std::string pattern) {
  SearchLayer layer;
  layer.name = name;
  layer.op_type = "Conv";
  layer.weight_bytes = bytes;
  layer.patterns = {std::move(pattern)};
  return layer;
}

// A bias that only the node's name reaches takes the node's weight with it.
TEST(SearchLayers, ThoseThatARecipeCannotTellApartAreOne) {
  std::vector<SearchLayer> layers = {layer_named("a.bias", 40, "a"), layer_named("b", 800, "b"),
                                     layer_named("a.weight", 400, "a.weight"),
                                     layer_named("c", 10, "c"), layer_named("d", 20, "c")};
  const std::vector<std::pair<std::size_t, std::size_t>> same = {{2, 0}, {4, 3}, {0, 0}};
  join_layers(layers, same);
  ASSERT_EQ(layers.size(), 3U);
  EXPECT_EQ(layers[0].name, "a.weight");
  EXPECT_EQ(layers[0].weight_bytes, 440U);
  EXPECT_EQ(layers[0].patterns, (std::vector<std::string>{"a", "a.weight"}));
  EXPECT_EQ(layers[1].name, "b");
  EXPECT_EQ(layers[1].weight_bytes, 800U);
  EXPECT_EQ(layers[2].name, "d");
  EXPECT_EQ(layers[2].patterns, (std::vector<std::string>{"c"}));
}

TEST(SearchLayers, NothingInCommonStaysApart) {
  std::vector<SearchLayer> layers = {layer_named("a", 1, "a"), layer_named("b", 2, "b")};
  join_layers(layers, {});
  ASSERT_EQ(layers.size(), 2U);
  EXPECT_EQ(layers[1].name, "b");
}

SearchEffect measured(double noise) {
  SearchEffect effect;
  effect.applies = effect.measured = true;
  effect.noise = noise;
  return effect;
}

SearchEffect shared() {
  SearchEffect effect;
  effect.applies = effect.only_shared = true;
  return effect;
}

// Elsewhere the second form loses 100 and 10,000 times what the first does: 1000 times by their
// geometric mean, and so here.
TEST(SearchLayers, NoiseOfASharedFormIsByThatOfOthers) {
  std::vector<SearchLayer> layers(3);
  layers[0].effects = {measured(0), measured(1e-4), measured(1e-2)};
  layers[1].effects = {measured(0), measured(1e-6), measured(1e-2)};
  layers[2].effects = {measured(0), measured(1e-5), shared()};
  fill_shared_noise(layers);
  EXPECT_NEAR(layers[2].effects[2].noise, 1e-2, 1e-12);
  EXPECT_TRUE(layers[2].effects[2].applies);
  EXPECT_DOUBLE_EQ(layers[2].effects[1].noise, 1e-5);
}

TEST(SearchLayers, ASharedFormOfWhichNothingIsKnownDoesNotApply) {
  std::vector<SearchLayer> layers(2);
  layers[0].effects = {measured(0), shared(), measured(1e-3)};
  layers[1].effects = {measured(0), measured(1e-2), SearchEffect{}};
  fill_shared_noise(layers);
  EXPECT_FALSE(layers[0].effects[1].applies);
}

SearchPoint point_of(double drop, double db, std::uint64_t bytes, bool holds = true) {
  SearchPoint point;
  point.quality = {drop, db};
  point.bytes = bytes;
  point.holds = holds;
  return point;
}

// Of three forms the second does not apply to the last layer: 2 + 2 + 1 single changes, and 2 x 2
// + 2 x 1 + 2 x 1 of two layers.
TEST(SearchNeighbours, DifferInOneLayerOrTwo) {
  std::vector<SearchLayer> layers(3);
  layers[0].effects = layers[1].effects = {measured(0), measured(1e-4), measured(1e-2)};
  layers[2].effects = {measured(0), SearchEffect{}, measured(1e-3)};
  const std::vector<std::size_t> centre = {1, 0, 2};
  const auto all = neighbours_of(layers, centre, 100);
  ASSERT_EQ(all.size(), 13U);
  EXPECT_EQ(all[0], (std::vector<std::size_t>{0, 0, 2}));
  EXPECT_EQ(all[4], (std::vector<std::size_t>{1, 0, 0}));
  const std::set<std::vector<std::size_t>> unequal(all.begin(), all.end());
  EXPECT_EQ(unequal.size(), 13U);
  for (const auto& choice : all) {
    std::size_t changes = 0;
    for (std::size_t i = 0; i < 3; ++i) changes += choice[i] != centre[i] ? 1 : 0;
    EXPECT_TRUE(changes == 1 || changes == 2);
    EXPECT_TRUE(layers[2].effects[choice[2]].applies);
  }
  // Ten pairs of changes are too many for nine.
  EXPECT_EQ(neighbours_of(layers, centre, 9).size(), 5U);
}

TEST(SearchPreference, TellsWhetherBeatingTheOriginalCounts) {
  SearchOptions options;
  options.limits.max_bytes = 100;
  options.prefer = SearchPrefer::kMetric;
  const SearchPoint coarse = point_of(-0.15, 18.4, 80), fine = point_of(-0.05, 31.9, 99);
  EXPECT_TRUE(better_point(options, coarse, fine));
  EXPECT_FALSE(better_point(options, fine, coarse));
  options.prefer = SearchPrefer::kNoLoss;
  EXPECT_TRUE(better_point(options, fine, coarse));
  options.prefer = SearchPrefer::kSqnr;
  EXPECT_TRUE(better_point(options, fine, coarse));
  // What is lost counts for all but the last.
  const SearchPoint lossy = point_of(0.1, 40, 90);
  EXPECT_TRUE(better_point(options, lossy, fine));
  options.prefer = SearchPrefer::kNoLoss;
  EXPECT_TRUE(better_point(options, fine, lossy));
  options.prefer = SearchPrefer::kMetric;
  EXPECT_TRUE(better_point(options, fine, lossy));
}

TEST(SearchPreference, WhatHoldsComesFirstThenFewBytesWhereNoneAreAskedFor) {
  SearchOptions options;
  options.limits.max_drop = 1;
  EXPECT_TRUE(better_point(options, point_of(0.9, 10, 50), point_of(0, 50, 60)));
  EXPECT_TRUE(better_point(options, point_of(0.9, 10, 60), point_of(1.5, 12, 50, false)));
  EXPECT_TRUE(better_point(options, point_of(1.2, 10, 60, false), point_of(1.5, 12, 50, false)));
}

}  // namespace
}  // namespace mcompress
