// Canonical Huffman codes of bytes: code lengths by package-merge (Larmore and Hirschberg 1990),
// four interleaved streams, decoded by a table that gives up to two symbols a lookup.
#pragma once

#include <array>
#include <cstdint>

#include "codec/bits.h"
#include "codec/symbols.h"

namespace mcompress::codec {

inline constexpr unsigned kMostHuffmanBits = 15;  // what a decoder has to take
inline constexpr unsigned kFastHuffmanBits = 12;  // what one lookup of the table covers

// The code lengths of least total size for these counts among those of at most `limit` bits; 0 for
// values that do not occur. At least two values must occur, at most 2^limit.
Classes huffman_lengths(const Counts& counts, unsigned limit);

// Bits that the symbols take with these lengths.
std::uint64_t huffman_bits(const Counts& counts, const Classes& lengths);

// Appends table and streams. `lengths` must cover every value of `symbols`.
void huffman_encode(Bytes symbols, const Classes& lengths, Buffer& out);

// Decodes exactly as many symbols as fit into `out`. False on bytes that no encoder writes, without
// having read or written outside of the spans.
bool huffman_decode(Bytes coded, std::span<std::uint8_t> out);

}  // namespace mcompress::codec
