// Clustered weights whose groups of channels have codebooks of their own, seen as symbols of one
// alphabet.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "passes/common/constant_indices.h"

namespace mcompress {

// Symbols are ranks within a group, 0 the entry that it has most of; offsets[u] is the first entry
// of the group of unit u of elements [outer, units, inner].
struct GroupBooks {
  std::vector<std::int32_t> offsets;
  std::vector<float> entries;  // [groups, entries of one], by rank
  bool zeros_first = false;    // rank 0 is the number 0 in all groups
  bool any() const { return !offsets.empty(); }
};

// Entries of one group where `indices` has the offsets of groups with as many entries each; all
// entries where it has none; else 0. `dims` are those of the codebook.
std::int64_t entries_of_group(std::span<const std::int64_t> dims, const ConstantIndices& indices);

// Numbers the entries of each group anew by how often they occur, so that one code does for all.
// `symbols`, numbers within groups below `entries`, become ranks.
GroupBooks rank_entries(const ConstantIndices& indices, std::span<const float> book,
                        std::size_t entries, std::span<std::uint8_t> symbols);

}  // namespace mcompress
