// Lengths of prefix codes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mcompress::codec {

// Lengths of the best prefix code of at most `longest` bits for symbols that occur so often, by
// package-merge (Larmore and Hirschberg, 1990): 0 where the count is 0; a lone symbol gets 1. At
// most 65,536 symbols; 2^longest has to reach the number of those that occur.
std::vector<std::uint8_t> code_lengths(std::span<const std::uint64_t> counts, unsigned longest);

}  // namespace mcompress::codec
