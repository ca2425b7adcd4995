// Which integers to keep when they will be entropy-coded: the bits of a symbol against the error of
// taking another one. Chou, Lookabaugh and Gray, "Entropy-constrained vector quantization", 1989;
// on a line its partition is found exactly, by dynamic programming.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace mcompress {

// Of symbols 0 to 255: how often each one occurs, and what an error of 1 costs, summed over those.
struct SymbolWeights {
  std::array<std::uint64_t, 256> counts{};
  std::array<double, 256> weight{};
};

// Bits of each symbol; infinite: not to be used.
using SymbolBits = std::array<double, 256>;

// By how often symbols occur. No symbol at all gives infinite ones.
SymbolBits bits_by_counts(const std::array<std::uint64_t, 256>& counts);

// Cuts the symbols into runs that share one of their members so that
//   sum of weight * distance^2 + per_bit * sum of log2(all / those of the run)
// is least. The members that are kept have the bits of their run. `zero`, where given, stays what
// it is, and stands for its whole run.
SymbolBits constrained_bits(const SymbolWeights& symbols, double per_bit,
                            std::optional<std::uint8_t> zero);

// The symbol within `reach` of another with the least weight * distance^2 + per_bit * bits; among
// equals the nearest, then the smaller. The symbol itself where none in reach may be used.
std::uint8_t cheapest_symbol(std::uint8_t symbol, double weight, double per_bit,
                             const SymbolBits& bits, int reach);

}  // namespace mcompress
