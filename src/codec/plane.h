// A plane: bytes that are coded together, by the method that makes them smallest.
#pragma once

#include <cstdint>

#include "codec/bits.h"

namespace mcompress::codec {

enum class PlaneMethod : std::uint8_t {
  kRaw = 0,
  kConstant = 1,  // one value throughout
  kHuffman = 2,
  kRansFull = 3,  // of formats before 4; read only
  kSparse = 4,    // one value nearly throughout: gaps between the others, then those
  kZstd = 5,
  kAdaptive = 6,  // probabilities learnt on the way, for what is small
  kRans = 7,
};

// From this share of one value on, in percent, gaps between the others are tried.
inline constexpr std::size_t kSparsePercent = 60;

// Gaps between set places as bytes: 255 stands for 255 places and more to come.
void put_gap(Buffer& gaps, std::uint64_t gap);

struct PlaneOptions {
  bool thorough = false;  // zstd and adaptive coding, too
  bool sparse = true;     // a plane inside a plane is not sparse again
};
// Appends method, length and body.
void encode_plane(Bytes symbols, const PlaneOptions& options, Buffer& out);
// Reads one from the front of `in`. False on bytes that no encoder writes.
bool decode_plane(ByteReader& in, std::span<std::uint8_t> out, bool sparse = true);

}  // namespace mcompress::codec
