#include "numeric/rate_distortion.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "numeric/fixed_math.h"

namespace mcompress {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// Sums over symbols before each one: of counts, weights, weights times symbol and its square.
struct Running {
  std::array<double, 257> count{}, weight{}, first{}, second{};
};

Running running_sums(const SymbolWeights& symbols) {
  Running sums;
  for (std::size_t s = 0; s < 256; ++s) {
    const auto at = static_cast<double>(s);
    sums.count[s + 1] = sums.count[s] + static_cast<double>(symbols.counts[s]);
    sums.weight[s + 1] = sums.weight[s] + symbols.weight[s];
    sums.first[s + 1] = sums.first[s] + symbols.weight[s] * at;
    sums.second[s + 1] = sums.second[s] + symbols.weight[s] * at * at;
  }
  return sums;
}

}  // namespace

SymbolBits bits_by_counts(const std::array<std::uint64_t, 256>& counts) {
  double total = 0;
  for (const std::uint64_t count : counts) total += static_cast<double>(count);
  SymbolBits bits{};
  for (std::size_t s = 0; s < 256; ++s) {
    bits[s] = counts[s] > 0 ? fixed_log2(total / static_cast<double>(counts[s])) : kNever;
  }
  return bits;
}

SymbolBits constrained_bits(const SymbolWeights& symbols, double per_bit,
                            std::optional<std::uint8_t> zero) {
  const Running sums = running_sums(symbols);
  const double total = sums.count[256];
  // The member of [begin, end) that stands for it: the integer next to the weighted mean.
  const auto member = [&](std::size_t begin, std::size_t end) -> std::size_t {
    if (zero && *zero >= begin && *zero < end && symbols.counts[*zero] > 0) return *zero;
    const double weight = sums.weight[end] - sums.weight[begin];
    if (!(weight > 0)) return begin;
    const double mean = std::floor((sums.first[end] - sums.first[begin]) / weight + 0.5);
    return static_cast<std::size_t>(
        std::clamp(mean, static_cast<double>(begin), static_cast<double>(end - 1)));
  };
  std::array<double, 257> cost{};
  std::array<std::size_t, 257> from{};
  for (std::size_t end = 1; end <= 256; ++end) {
    cost[end] = kNever;
    for (std::size_t begin = 0; begin < end; ++begin) {
      const double count = sums.count[end] - sums.count[begin];
      double run = 0;
      if (count > 0) {
        const auto at = static_cast<double>(member(begin, end));
        const double error = (sums.second[end] - sums.second[begin]) -
                             2 * at * (sums.first[end] - sums.first[begin]) +
                             at * at * (sums.weight[end] - sums.weight[begin]);
        run = std::max(0.0, error) + per_bit * count * fixed_log2(total / count);
      }
      if (cost[begin] + run < cost[end]) cost[end] = cost[begin] + run, from[end] = begin;
    }
  }
  SymbolBits bits;
  bits.fill(kNever);
  for (std::size_t end = 256; end > 0; end = from[end]) {
    const double count = sums.count[end] - sums.count[from[end]];
    if (count > 0) bits[member(from[end], end)] = fixed_log2(total / count);
  }
  return bits;
}

std::uint8_t cheapest_symbol(std::uint8_t symbol, double weight, double per_bit,
                             const SymbolBits& bits, int reach) {
  int best = symbol;
  double least = per_bit * bits[symbol];
  for (int distance = 1; distance <= reach; ++distance) {
    const double error = weight * distance * distance;
    if (error >= least) break;
    for (const int other : {symbol - distance, symbol + distance}) {
      if (other < 0 || other > 255) continue;
      const double cost = error + per_bit * bits[static_cast<std::size_t>(other)];
      if (cost < least) least = cost, best = other;
    }
  }
  return static_cast<std::uint8_t>(best);
}

}  // namespace mcompress
