// The hot loops of both decoders, compiled for every instruction set that Highway knows here and
// chosen at run time. All give the same result; they stop while every access is still inside the
// bounds and leave the rest to the caller.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace mcompress::codec {

// Where each stream of a Huffman plane stands. `taken`: bits of *from that are used up, 0 to 7.
struct HuffmanLanes {
  std::array<const std::uint8_t*, 4> from{}, from_end{};
  std::array<std::uint8_t*, 4> to{}, to_end{};
  std::array<unsigned, 4> taken{};
};

// `pairs`: 2^bits entries, bits <= 12: first symbol | second << 8 | bits of both << 16 | how many
// symbols << 24.
void huffman_decode_pairs(const std::uint32_t* pairs, unsigned bits, HuffmanLanes& lanes);

inline constexpr std::size_t kRansStates = 32;
inline constexpr std::uint32_t kRansLow = 1U << 15;  // of a state between two symbols

struct RansState {
  std::array<std::uint32_t, kRansStates> states{};
  const std::uint8_t* from = nullptr;      // the next word of 16 bits
  const std::uint8_t* from_end = nullptr;  // an even number of bytes behind it
  std::uint8_t* to = nullptr;
  std::uint8_t* to_end = nullptr;
};

// `slots`: 2^bits entries, bits 12, 13 or 14: symbol << 24 | frequency << 12 | offset within the
// symbol. Whole groups of 32 symbols only.
void rans_decode_groups(const std::uint32_t* slots, unsigned bits, RansState& state);
// The same by plain arithmetic, for comparison in tests.
void rans_decode_groups_plain(const std::uint32_t* slots, unsigned bits, RansState& state);

// Bytes of elements of 2, 4 or 8 bytes to planes and back: planes[b][i] = elements[i * width + b],
// after turning each element left by one bit where `rotate` says so.
void split_planes(const std::uint8_t* elements, std::size_t count, std::size_t width, bool rotate,
                  std::uint8_t* planes);
void join_planes(const std::uint8_t* planes, std::size_t count, std::size_t width, bool rotate,
                 std::uint8_t* elements);

}  // namespace mcompress::codec
