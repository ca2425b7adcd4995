// Range asymmetric numeral systems (Duda 2013) over bytes: 32 interleaved states of 32 bits that
// give and take words of 16 bits, frequencies in 1/4096, 1/8192 or 1/16384.
#pragma once

#include <array>
#include <cstdint>

#include "codec/bits.h"
#include "codec/symbols.h"

namespace mcompress::codec {

// Below 4096 each; they add up to 2^bits.
struct Frequencies {
  unsigned bits = 12;  // 12 to 14
  std::array<std::uint16_t, 256> of{};

  std::uint16_t operator[](std::size_t symbol) const { return of[symbol]; }
};

// The frequencies of least coded size for these counts, in finer parts where that saves one byte in
// 2048: every value that occurs gets at least 1. At least two values must occur.
Frequencies rans_frequencies(const Counts& counts);
// The same in 1 / 2^bits, for counts of which no frequency would reach 4096.
Frequencies rans_frequencies(const Counts& counts, unsigned bits);

// Bytes that the words will take, states and table left out, but for rounding.
std::uint64_t rans_bytes(const Counts& counts, const Frequencies& frequencies);

// Appends table, states and words, as method 7 of docs/format.md has them.
void rans_encode(Bytes symbols, const Frequencies& frequencies, Buffer& out);

// As huffman_decode. `plain`: without vector instructions, for comparison.
bool rans_decode(Bytes coded, std::span<std::uint8_t> out, bool plain = false);
// Method 3, which archives up to format 3 have: frequencies in 1/4096, states in full.
bool rans_decode_full(Bytes coded, std::span<std::uint8_t> out, bool plain = false);

}  // namespace mcompress::codec
