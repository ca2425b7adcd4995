// Entropy-coded constants in operators of the standard: see numeric/entropy_code.h for the code.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

// The opset from which CumSum, Where and ScatterElements do the work.
inline constexpr std::int64_t kSymbolTreeOpset = 11;
// Longest code: array operations per symbol, and the depth of the graph.
inline constexpr unsigned kSymbolTreeDepth = 15;

struct SymbolCost {
  double entropy_bits = 0;
  std::uint64_t coded_bytes = 0;     // of the bits alone
  std::uint64_t overhead_bytes = 0;  // of tables and nodes, estimated
  std::size_t levels = 0;
  std::uint64_t bytes() const { return coded_bytes + overhead_bytes; }
};
SymbolCost symbol_cost(std::span<const std::uint8_t> symbols);

// Adds nodes in front of `anchor` that make a tensor [symbols] of the type of `values`: values[s]
// for each symbol s. `values` has more entries along its first dimension than the largest symbol.
// At least two different symbols are needed. In parts of at most 4 Mi symbols, so that what a
// runtime holds while it computes them stays bounded. `bytes` grows by the size of the constants.
Result<Value*> emit_symbols(std::span<const std::uint8_t> symbols, const Tensor& values,
                            Node& anchor, PassContext& context, std::uint64_t& bytes);

}  // namespace mcompress
