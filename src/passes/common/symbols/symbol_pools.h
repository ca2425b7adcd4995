// Which constants share a code: a tree of nodes costs as much for a small constant as for a large
// one, so small ones are coded one behind another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/symbols/symbol_tree.h"

namespace mcompress {

// A constant as symbols and what they stand for.
struct SymbolStream {
  std::vector<std::uint8_t> symbols;  // two different ones at least
  DataType type = DataType::kUint8;   // of whole bytes
  std::vector<std::byte> table;       // entries of the same size, one for each possible symbol
  std::vector<std::int64_t> entry;    // dimensions of an entry
  Graph* graph = nullptr;             // where it is needed
};

// What coding a stream costs, its share of what it has in common with others included.
struct SymbolShare {
  double entropy_bits = 0;       // of its symbols, each by itself, by their own frequencies
  std::uint64_t coded_bits = 0;  // with the code of its pool
  std::uint64_t own_bytes = 0;   // tables and nodes of its own, estimated
  std::uint64_t tree_bytes = 0;  // its part of the tree, by symbols, estimated
  std::uint64_t memory = 0;      // bytes that a runtime holds while it decodes
  std::uint64_t coded_bytes() const { return (coded_bits + 7) / 8; }
  std::uint64_t bytes() const { return coded_bytes() + own_bytes + tree_bytes; }
};

// Symbols are numbered anew in each stream by how often they occur: streams of unlike alphabets
// and like shapes of distribution then have like codes. Pools have at most 4 Mi symbols; longer
// streams are cut.
class SymbolPools {
 public:
  SymbolPools();
  ~SymbolPools();
  // Returns its number.
  std::size_t add(SymbolStream stream);
  // No longer coded.
  void drop(std::size_t stream);
  // Decides which streams share a code, by bytes. Called again after streams were dropped.
  // `memory_weight` as of best_symbol_code().
  void arrange(double memory_weight = 0);
  SymbolShare share(std::size_t stream) const;
  std::size_t pools() const;
  std::vector<std::size_t> pools_of(std::size_t stream) const;
  // Adds the nodes of all pools to a graph: what streams of that graph decode to, [symbols,
  // entry...], by number; null for others.
  std::vector<Value*> write(ConstantMaker& maker) const;

 private:
  struct Part;
  struct Pool;
  // The tree makes what the one stream stands for, not numbers to look up.
  bool is_direct(const Pool& pool) const;
  void merge_pools(double memory_weight);
  std::vector<SymbolStream> streams_;
  std::vector<std::vector<std::size_t>> parts_of_;  // by stream
  std::vector<bool> dropped_;
  std::vector<Part> parts_;
  std::vector<Pool> pools_;
};

}  // namespace mcompress
