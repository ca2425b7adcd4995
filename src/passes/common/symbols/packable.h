// A weight that pack-weights may code: its symbols, what they stand for and what was decided.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/symbols/group_books.h"
#include "passes/common/symbols/symbol_pools.h"

namespace mcompress {

struct Packable {
  Value* value = nullptr;  // what is to be replaced
  const Node* user = nullptr;
  SymbolStream stream;  // a symbol for each element
  std::vector<std::int64_t> dims;
  std::optional<DataType> cast;  // behind the look-up
  GroupBooks groups;
  std::uint64_t bytes_before = 0;
  std::string name;
  std::optional<std::uint8_t> zero;  // the symbol of clustered weights that are 0
  std::size_t symbols = 0;
  // Numbers of streams: of the symbols; or of distances, and of the symbols behind them.
  std::vector<std::size_t> streams;
  Decision decision;
  double entropy_bits = 0;  // of all symbols, each by itself
  // Distances and symbols in one stream: which symbols, and the longest distance.
  std::vector<std::uint8_t> joint_values;
  std::size_t longest = 0;
  std::vector<std::byte> value_table;  // what symbols stand for
  DataType value_type = DataType::kFloat;
  double joint_index_bits = 0;  // what the distances need of it
  bool joint() const { return longest > 0; }
  bool sparse() const { return streams.size() == 2 || joint(); }
};

}  // namespace mcompress
