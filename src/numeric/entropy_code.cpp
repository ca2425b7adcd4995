#include "numeric/entropy_code.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "numeric/fixed_math.h"

namespace mcompress {

double entropy_bits(std::span<const std::uint64_t> counts) {
  const auto total = static_cast<double>(std::accumulate(counts.begin(), counts.end(), 0ULL));
  double bits = 0;
  for (const std::uint64_t count : counts) {
    if (count > 0) {
      bits += static_cast<double>(count) * fixed_log2(total / static_cast<double>(count));
    }
  }
  return bits;
}

std::uint64_t coded_bits(std::span<const std::uint64_t> counts,
                         std::span<const std::uint8_t> lengths) {
  std::uint64_t bits = 0;
  for (std::size_t s = 0; s < counts.size(); ++s) bits += counts[s] * lengths[s];
  return bits;
}

WaveletMatrix wavelet_matrix(std::span<const std::uint8_t> symbols,
                             std::span<const std::uint8_t> lengths) {
  WaveletMatrix matrix;
  std::array<std::uint64_t, 256> counts{};
  for (const std::uint8_t symbol : symbols) ++counts[symbol];
  std::vector<std::uint8_t> order;  // by length, then by value
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    if (lengths[s] > 0) order.push_back(static_cast<std::uint8_t>(s));
  }
  std::ranges::stable_sort(order, {}, [&](std::uint8_t s) { return lengths[s]; });
  if (order.size() <= 1) {
    for (const std::uint8_t s : order) {
      matrix.leaves.push_back(s);
      matrix.leaf_counts.push_back(counts[s]);
    }
    return matrix;
  }
  // The nodes of a level in the order of the array: children by 0 of all inner nodes, then those by
  // 1. The last ones of a level are its leaves.
  std::array<std::uint32_t, 256> codes{};  // first bit lowest
  std::vector<std::uint32_t> inner = {0};
  std::vector<std::vector<std::uint8_t>> runs;
  std::size_t next = 0;
  for (std::uint8_t level = 0; next < order.size(); ++level) {
    std::vector<std::uint32_t> nodes = inner;
    for (const std::uint32_t code : inner) nodes.push_back(code | std::uint32_t{1} << level);
    std::size_t leaves = 0;
    while (next + leaves < order.size() && lengths[order[next + leaves]] == level + 1) ++leaves;
    runs.emplace_back();
    for (std::size_t i = 0; i < leaves; ++i) {
      const std::uint8_t symbol = order[next + i];
      codes[symbol] = nodes[nodes.size() - leaves + i];
      runs.back().push_back(symbol);
    }
    next += leaves;
    nodes.resize(nodes.size() - leaves);
    inner = std::move(nodes);
  }
  for (std::size_t level = runs.size(); level-- > 0;) {
    for (const std::uint8_t symbol : runs[level]) {
      matrix.leaves.push_back(symbol);
      matrix.leaf_counts.push_back(counts[symbol]);
    }
  }
  std::vector<std::uint8_t> alive(symbols.begin(), symbols.end()), ones;
  for (std::size_t level = 0; level < runs.size(); ++level) {
    matrix.level_bits.push_back(alive.size());
    std::vector<std::byte> bits((alive.size() + 7) / 8);
    std::size_t kept = 0;
    ones.clear();
    for (std::size_t i = 0; i < alive.size(); ++i) {
      const std::uint8_t symbol = alive[i];
      const unsigned bit = codes[symbol] >> level & 1;
      bits[i / 8] |= static_cast<std::byte>(bit << (i % 8));
      const bool ends = lengths[symbol] == level + 1;
      if (bit != 0) {
        if (!ends) ones.push_back(symbol);
      } else if (!ends) {
        alive[kept++] = symbol;
      }
    }
    alive.resize(kept);
    alive.insert(alive.end(), ones.begin(), ones.end());
    matrix.bits.push_back(std::move(bits));
  }
  return matrix;
}

}  // namespace mcompress
