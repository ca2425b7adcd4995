// Lossless coding of blocks of tensor bytes: byte planes, codebooks and gaps in front of Huffman,
// rANS, adaptive coding or zstd, whichever comes out smallest. docs/format.md describes the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mcompress/status.h"

namespace mcompress {

// What the bytes of a block are: decides which forms are tried, never whether they come back.
struct Elements {
  std::uint8_t width = 1;  // bytes of one: 1, 2, 4 or 8
  bool floating = false;   // IEEE or bfloat16: sign, exponent, mantissa
  bool nibbles = false;    // two of 4 bits in each byte; width is 1
};

inline constexpr std::size_t kMostBlockBytes = std::size_t{16} << 20;
// No coded block is longer than its bytes and this.
inline constexpr std::size_t kBlockOverhead = 1;

// How much work goes into a block.
enum class CodingEffort : std::uint8_t {
  kFast,      // Huffman and rANS alone
  kThorough,  // adaptive coding of what is small; zstd at its highest level where it looks
              // promising
};

// At most kMostBlockBytes bytes; the same coded bytes on every machine. Empty bytes give an empty
// block.
std::vector<std::byte> encode_block(std::span<const std::byte> bytes, const Elements& elements,
                                    CodingEffort effort);

// Fills `out`, whose size the caller knows. Fails with kInput on bytes that are no block of that
// size; reads and writes within the spans only, and takes memory in proportion to them.
Status decode_block(std::span<const std::byte> coded, std::span<std::byte> out);

}  // namespace mcompress
