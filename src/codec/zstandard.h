// zstd, the only place that sees it.
#pragma once

#include <optional>

#include "codec/bits.h"

namespace mcompress::codec {

// A frame without size and checksum of its own; empty when it would pass `most` bytes.
std::optional<Buffer> zstd_encode(Bytes bytes, int level, std::size_t most);
// Exactly `out.size()` bytes of exactly one frame.
bool zstd_decode(Bytes coded, std::span<std::uint8_t> out);

inline constexpr int kZstdTrial = 5;
inline constexpr int kZstdBest = 19;

}  // namespace mcompress::codec
