#include "passes/common/symbols/symbol_code.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include "codec/code_lengths.h"
#include "numeric/fixed_math.h"

namespace mcompress {
namespace {

constexpr std::array<unsigned, 5> kGroupBits = {8, 4, 2, 1, 0};
// Bytes in the file, measured: nodes of a level, of a group of one and of several symbols.
constexpr std::uint64_t kTree = 230, kLevel = 140, kLoneGroup = 95, kGroup = 100;

using Counts = std::span<const std::uint64_t>;

std::uint64_t count_of(const SymbolGroup& group, Counts counts) {
  std::uint64_t total = 0;
  for (const std::uint8_t symbol : group.symbols) total += counts[symbol];
  return total;
}

SymbolCode finished(std::vector<SymbolGroup> groups, Counts counts) {
  SymbolCode code;
  code.overhead = kTree;
  for (const SymbolGroup& group : groups) {
    const std::uint64_t count = count_of(group, counts);
    code.tree_bits += count * group.length;
    code.coded_bits += count * (group.length + group.bits);
    code.levels = std::max<unsigned>(code.levels, group.length);
    code.overhead += group.bits == 0 ? kLoneGroup : kGroup + group.symbols.size();
  }
  code.overhead += kLevel * code.levels;
  code.groups = std::move(groups);
  return code;
}

// n symbols of length l make groups of the powers of two that n is made of: codes of l - bits.
std::vector<SymbolGroup> groups_of(std::span<const std::uint8_t> lengths, Counts counts) {
  std::vector<SymbolGroup> groups;
  for (unsigned length = 1; length < 32; ++length) {
    std::vector<std::uint8_t> same;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      if (lengths[s] == length) same.push_back(static_cast<std::uint8_t>(s));
    }
    std::ranges::stable_sort(same, std::ranges::greater{},
                             [&](std::uint8_t s) { return counts[s]; });
    std::size_t next = 0;
    for (const unsigned bits : kGroupBits) {
      const std::size_t size = std::size_t{1} << bits;
      for (; bits <= length && same.size() - next >= size; next += size) {
        const auto from = same.begin() + static_cast<std::ptrdiff_t>(next);
        groups.push_back({{from, from + static_cast<std::ptrdiff_t>(size)},
                          bits,
                          static_cast<std::uint8_t>(length - bits)});
      }
    }
  }
  return groups;
}

// Symbols in order of frequency, cut into groups: least sum of
// count (factor log2(total / count) + bits) and `penalty` bits for each.
std::vector<SymbolGroup> cut_by_frequency(std::span<const std::uint8_t> order, Counts counts,
                                          double penalty, double factor) {
  const std::size_t n = order.size();
  std::vector<std::uint64_t> before(n + 1);
  for (std::size_t i = 0; i < n; ++i) before[i + 1] = before[i] + counts[order[i]];
  const auto total = static_cast<double>(before[n]);
  std::vector<double> cost(n + 1, std::numeric_limits<double>::infinity());
  std::vector<std::pair<std::size_t, unsigned>> from(n + 1);
  cost[0] = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (const unsigned bits : kGroupBits) {
      const std::size_t size = std::size_t{1} << bits;
      if (size > 1 && i + size / 2 >= n) continue;  // a smaller one holds as much
      const std::size_t end = std::min(n, i + size);
      const auto count = static_cast<double>(before[end] - before[i]);
      const double added = count * (factor * fixed_log2(total / count) + bits) + penalty;
      if (cost[i] + added < cost[end]) cost[end] = cost[i] + added, from[end] = {i, bits};
    }
  }
  std::vector<SymbolGroup> groups;
  for (std::size_t end = n; end > 0; end = from[end].first) {
    const auto begin = order.begin() + static_cast<std::ptrdiff_t>(from[end].first);
    groups.push_back(
        {{begin, order.begin() + static_cast<std::ptrdiff_t>(end)}, from[end].second, 0});
  }
  std::ranges::reverse(groups);
  return groups;
}

}  // namespace

SymbolCode best_symbol_code(std::span<const std::uint64_t> counts, unsigned longest,
                            double memory_weight) {
  std::vector<std::uint8_t> order;
  for (std::size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] > 0) order.push_back(static_cast<std::uint8_t>(s));
  }
  std::ranges::stable_sort(order, std::ranges::greater{},
                           [&](std::uint8_t s) { return counts[s]; });
  if (order.size() == 1) return finished({{order, 0, 0}}, counts);
  SymbolCode best;
  double least = 0;
  const auto consider = [&](std::vector<SymbolGroup> groups) {
    SymbolCode code = finished(std::move(groups), counts);
    const double cost = static_cast<double>(code.bytes()) +
                        memory_weight * kMemoryOfTreeBit * static_cast<double>(code.tree_bits);
    if (best.groups.empty() || cost < least) least = cost, best = std::move(code);
  };
  for (unsigned limit = longest; limit > 0 && order.size() <= (std::size_t{1} << limit); --limit) {
    consider(groups_of(codec::code_lengths(counts, limit), counts));
  }
  const double factor = 1 + 8 * memory_weight * kMemoryOfTreeBit;
  for (const double penalty : {0.0, 8.0 * kGroup, 32.0 * kGroup, 128.0 * kGroup}) {
    std::vector<SymbolGroup> groups = cut_by_frequency(order, counts, penalty, factor);
    std::vector<std::uint64_t> sums;
    sums.reserve(groups.size());
    for (const SymbolGroup& group : groups) sums.push_back(count_of(group, counts));
    if (groups.size() == 1) {
      consider(std::move(groups));
      continue;
    }
    for (unsigned limit = longest; groups.size() <= (std::size_t{1} << limit); --limit) {
      const std::vector<std::uint8_t> lengths = codec::code_lengths(sums, limit);
      for (std::size_t g = 0; g < groups.size(); ++g) groups[g].length = lengths[g];
      consider(groups);
      if (limit == 1) break;
    }
  }
  return best;
}

}  // namespace mcompress
