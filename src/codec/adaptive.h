// Bits of symbols in an arithmetic code whose probabilities are learnt on the way: no table, so
// that a plane of few kilobytes loses nothing to one. Three predictions of each bit are mixed in
// the logistic domain (Mahoney, "Adaptive Weighing of Context Models for Lossless Data
// Compression", 2005). Integer arithmetic: the same bytes on every machine. docs/format.md has the
// formulas.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "codec/bits.h"

namespace mcompress::codec {

// Symbols of a plane; about 130 ns each.
inline constexpr std::size_t kMostAdaptive = std::size_t{1} << 17;

// The number of bits of a symbol, then their code. Nothing when that would take more than `most`
// bytes. 1 to kMostAdaptive symbols, one of them not 0.
std::optional<Buffer> adaptive_encode(Bytes symbols, std::size_t most);

// Decodes exactly as many symbols as fit into `out`. False on bytes that no encoder writes.
bool adaptive_decode(Bytes coded, std::span<std::uint8_t> out);

}  // namespace mcompress::codec
