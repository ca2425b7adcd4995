// Wavelet matrices in the shape of prefix codes: symbols as bits that are decoded by
// array operators alone (CumSum, Where, Gather), a whole level of the code at a time.
//
// Level l keeps the l-th bit of every symbol whose code is longer than l, in the order in which the
// levels before it left them: stable, zeros before ones. Codes that end at a level are the last
// ones in that order, so that what goes on is a prefix of the array (Claude, Navarro and Ordonez,
// "The wavelet matrix", 2015). Bits kept: sum of code lengths, exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace mcompress {

// Bits of all symbols by their own frequencies: sum of count * log2(total / count).
double entropy_bits(std::span<const std::uint64_t> counts);

// Of symbols with codes of these lengths (codec/code_lengths.h).
std::uint64_t coded_bits(std::span<const std::uint64_t> counts,
                         std::span<const std::uint8_t> lengths);

struct WaveletMatrix {
  std::vector<std::uint8_t> leaves;          // symbols, in the order of their runs
  std::vector<std::uint64_t> leaf_counts;    // how often each one occurs
  std::vector<std::uint64_t> level_bits;     // symbols alive at each level
  std::vector<std::vector<std::byte>> bits;  // of each level, least significant first
};
// Symbols 0 to 255; `lengths` as of codec::code_lengths() for their counts. The runs of level l are
// those of symbols with codes of l + 1 bits; they stand behind the runs of deeper levels. A lone
// symbol has no levels at all.
WaveletMatrix wavelet_matrix(std::span<const std::uint8_t> symbols,
                             std::span<const std::uint8_t> lengths);

}  // namespace mcompress
