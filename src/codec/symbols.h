// Which byte values occur, and a small number for each: how both coders write their tables.
#pragma once

#include <array>
#include <cstdint>

#include "codec/bits.h"

namespace mcompress::codec {

using Counts = std::array<std::uint32_t, 256>;

// How often each byte value occurs.
Counts count_bytes(Bytes bytes);

// Small numbers of the byte values that occur: 1 to `kMostClass`; 0: does not occur.
inline constexpr unsigned kMostClass = 15;
using Classes = std::array<std::uint8_t, 256>;

// First and last value, one bit "all between occur" or a bit for each, then each class as its
// difference to the one before in unary, small differences first. At least one must be set.
void write_classes(const Classes& classes, BitWriter& bits, Buffer& head);
// False on bytes that nothing writes.
bool read_classes(std::uint8_t first, std::uint8_t last, BitReader& bits, Classes& classes);

// log2(4096 / f) in 1/65536 bits for f of 1 to 4096; the same on every machine.
const std::array<std::uint32_t, 4097>& cost_of_frequency();

}  // namespace mcompress::codec
