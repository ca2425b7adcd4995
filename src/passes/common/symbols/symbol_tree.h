// Entropy-coded constants in operators of the standard: see numeric/entropy_code.h for the levels
// of the code and passes/common/symbols/symbol_code.h for its groups.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/symbols/symbol_code.h"

namespace mcompress {

// The opset from which CumSum, Range and Mod do the work.
inline constexpr std::int64_t kSymbolTreeOpset = 11;
// Longest code of a group: array operations for each symbol, and the depth of the graph.
inline constexpr unsigned kSymbolTreeDepth = 15;

// Adds nodes that compute constants, all of them in front of the node that was the first one of a
// graph when the maker was made.
class ConstantMaker {
 public:
  ConstantMaker(Graph& graph, PassContext& context)
      : anchor_(*graph.first()), graph_(graph), edit_(context.edit()) {}

  Value& node(std::string type, std::vector<Value*> inputs,
              std::vector<NewAttribute> attributes = {}, std::string domain = {});
  Value& cast(Value& value, DataType type);
  Value& constant(Tensor tensor);
  Value& ints(std::span<const std::int64_t> numbers);  // int64, one dimension
  Value& number(std::int32_t number);                  // int32 scalars are shared
  Value& joined(const std::vector<Value*>& parts);     // along the first dimension
  // Along the first dimension; sizes of 0 are left out and null.
  std::vector<Value*> split(Value& value, std::span<const std::int64_t> sizes);
  Value& flat_shape();
  Graph& graph() { return graph_; }
  Editor& edit() { return edit_; }
  std::uint64_t bytes() const { return bytes_; }  // of constants so far

 private:
  Node& anchor_;
  Graph& graph_;
  Editor& edit_;
  std::map<std::int32_t, Value*> numbers_;
  Value* flat_shape_ = nullptr;
  std::uint64_t bytes_ = 0;
};

// Writes trees; those of one graph share the tables by which bytes are taken apart.
class SymbolTreeWriter {
 public:
  explicit SymbolTreeWriter(ConstantMaker& maker) : maker_(maker) {}

  // [symbols + a few], the byte leaves[s] for each symbol s, in `type` (of one byte); what stands
  // behind the symbols means nothing. `code` is one for these symbols.
  //
  // What is the same for all levels, and for all groups of several symbols, are functions of the
  // model,
  // which runtimes write out before they compute constants:
  //
  //   level l: places = Where(bit, -ones from this byte on, zeros before it) + place in the byte
  //            array = Gather(Concat(array of level l + 1, runs of groups that end here), places)
  //
  // Every group is filled up to a multiple of eight symbols, so that all arrays are whole bytes.
  Value& write(const SymbolCode& code, std::span<const std::uint8_t> symbols,
               std::span<const std::byte> leaves, DataType type);

 private:
  struct Tables {  // by byte, int32 [256, ...]
    Value* is_one = nullptr;
    Value* within = nullptr;  // the place among equal bits of the byte
    Value* minus_ones = nullptr;
    Value* zeros = nullptr;
  };
  Value& digits(unsigned bits);
  const Tables& tables();
  Value& call(std::string_view function, std::vector<Value*> inputs);
  Value& run(const SymbolGroup& group, std::uint64_t count, Value* numbers,
             std::span<const std::byte> leaves, DataType type);
  Value& merged(Value& parted, Value& bytes);

  ConstantMaker& maker_;
  Value* column_ = nullptr;  // 0 to 255
  std::map<unsigned, Value*> digits_;
  Tables tables_;
};

// Bytes that a runtime which keeps every result until the last one holds for a tree:
// kMemoryOfTreeBit for each bit of the codes of groups, 4 for each symbol.
std::uint64_t tree_memory(const SymbolCode& code, std::uint64_t symbols);

}  // namespace mcompress
