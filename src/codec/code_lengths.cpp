#include "codec/code_lengths.h"

#include <algorithm>
#include <cstddef>

namespace mcompress::codec {
namespace {

// A leaf, or a pair of items of the level below.
struct Item {
  std::uint64_t weight = 0;
  std::uint16_t leaf = 0;
  bool is_leaf = false;
};

// Lengths without a limit, of leaves by rising weight: the two lightest of leaves and pairs, a leaf
// before a pair of the same weight, which keeps the longest code short. O(n) (van Leeuwen 1976).
std::vector<std::uint8_t> unlimited_lengths(const std::vector<Item>& leaves) {
  const std::size_t n = leaves.size();
  std::vector<std::uint64_t> pairs;
  std::vector<std::size_t> parent(2 * n - 1);
  pairs.reserve(n - 1);
  std::size_t leaf = 0, pair = 0;
  const auto lightest = [&]() -> std::pair<std::uint64_t, std::size_t> {
    if (leaf < n && (pair == pairs.size() || leaves[leaf].weight <= pairs[pair])) {
      ++leaf;
      return {leaves[leaf - 1].weight, leaf - 1};
    }
    ++pair;
    return {pairs[pair - 1], n + pair - 1};
  };
  while (pairs.size() + 1 < n) {
    const auto [first, first_at] = lightest();
    const auto [second, second_at] = lightest();
    parent[first_at] = parent[second_at] = n + pairs.size();
    pairs.push_back(first + second);
  }
  std::vector<std::uint8_t> depth(2 * n - 1);
  for (std::size_t i = 2 * n - 2; i-- > 0;) {
    depth[i] = static_cast<std::uint8_t>(std::min(255, depth[parent[i]] + 1));
  }
  depth.resize(n);
  return depth;
}

}  // namespace

std::vector<std::uint8_t> code_lengths(std::span<const std::uint64_t> counts, unsigned longest) {
  std::vector<std::uint8_t> lengths(counts.size());
  std::vector<Item> leaves;
  for (std::size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] != 0) leaves.push_back({counts[s], static_cast<std::uint16_t>(s), true});
  }
  if (leaves.size() <= 1) {
    for (const Item& leaf : leaves) lengths[leaf.leaf] = 1;
    return lengths;
  }
  std::stable_sort(leaves.begin(), leaves.end(),
                   [](const Item& a, const Item& b) { return a.weight < b.weight; });
  const std::vector<std::uint8_t> free = unlimited_lengths(leaves);
  if (*std::max_element(free.begin(), free.end()) <= longest) {
    for (std::size_t i = 0; i < leaves.size(); ++i) lengths[leaves[i].leaf] = free[i];
    return lengths;
  }
  // levels[i]: the leaves merged with the packages, pairs of neighbours, of levels[i - 1].
  std::vector<std::vector<Item>> levels;
  levels.push_back(leaves);
  for (unsigned level = 1; level < longest; ++level) {
    const std::vector<Item>& below = levels.back();
    std::vector<Item> packages;
    for (std::size_t i = 0; i + 1 < below.size(); i += 2) {
      packages.push_back({below[i].weight + below[i + 1].weight, 0, false});
    }
    std::vector<Item> merged(leaves.size() + packages.size());
    std::merge(leaves.begin(), leaves.end(), packages.begin(), packages.end(), merged.begin(),
               [](const Item& a, const Item& b) { return a.weight < b.weight; });
    levels.push_back(std::move(merged));
  }
  // The first 2 n - 2 items of the top level; the packages among them are the first items, in
  // pairs, of the level below. Each time a leaf is taken its code grows by a bit.
  std::size_t take = 2 * leaves.size() - 2;
  for (auto level = levels.rbegin(); level != levels.rend() && take > 0; ++level) {
    std::size_t packages = 0;
    for (std::size_t i = 0; i < take; ++i) {
      const Item& item = (*level)[i];
      if (item.is_leaf) {
        ++lengths[item.leaf];
      } else {
        ++packages;
      }
    }
    take = 2 * packages;
  }
  return lengths;
}

}  // namespace mcompress::codec
