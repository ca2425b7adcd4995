// Range asymmetric numeral systems (Duda 2013) over bytes: 32 interleaved states of 32 bits that
// give and take words of 16 bits, frequencies in 1/4096.
#pragma once

#include <array>
#include <cstdint>

#include "codec/bits.h"
#include "codec/symbols.h"

namespace mcompress::codec {

using Frequencies = std::array<std::uint16_t, 256>;  // sum to 4096; below 4096 each

// The frequencies of least coded size for these counts: every value that occurs gets at least 1.
// At least two values must occur.
Frequencies rans_frequencies(const Counts& counts);

// Bytes that the words will take, states and table left out, but for rounding.
std::uint64_t rans_bytes(const Counts& counts, const Frequencies& frequencies);

// Appends table, states and words.
void rans_encode(Bytes symbols, const Frequencies& frequencies, Buffer& out);

// As huffman_decode. `plain`: without vector instructions, for comparison.
bool rans_decode(Bytes coded, std::span<std::uint8_t> out, bool plain = false);

}  // namespace mcompress::codec
