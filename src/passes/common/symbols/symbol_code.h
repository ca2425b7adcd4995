// Prefix codes whose symbols of one length stand in groups: a code that tells the group, then the
// number within the group in as many bits as are left. The bits are those of the code without
// groups; only the codes of groups need a tree.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mcompress {

struct SymbolGroup {
  std::vector<std::uint8_t> symbols;  // 2^bits of them; the last group of a code may have fewer
  unsigned bits = 0;                  // 0, 1, 2, 4 or 8
  std::uint8_t length = 0;            // of the group's code; 0: the only group
};

struct SymbolCode {
  std::vector<SymbolGroup> groups;
  unsigned levels = 0;           // longest code of a group
  std::uint64_t coded_bits = 0;  // of all symbols
  std::uint64_t tree_bits = 0;   // of them, those of codes of groups
  std::uint64_t overhead = 0;    // bytes of nodes and tables, estimated
  std::uint64_t bytes() const { return (coded_bits + 7) / 8 + overhead; }
};

// The code with the least bytes for symbols that occur so often (`counts`: by symbol, at most 256;
// one of them positive): Huffman codes of limited lengths in groups, and Huffman codes of groups
// that hold symbols of similar frequency (dynamic programming), whichever needs least, nodes
// counted. Codes of groups have at most `longest` bits. `memory_weight`: what a byte of memory
// counts against one of the file, where kMemoryOfTreeBit are held for each bit of these codes.
inline constexpr double kMemoryOfTreeBit = 19;
SymbolCode best_symbol_code(std::span<const std::uint64_t> counts, unsigned longest,
                            double memory_weight = 0);

}  // namespace mcompress
