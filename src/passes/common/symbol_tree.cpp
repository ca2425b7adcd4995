#include "passes/common/symbol_tree.h"

#include <algorithm>
#include <array>

#include "codec/code_lengths.h"
#include "numeric/entropy_code.h"
#include "passes/common/constants.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kPart = std::size_t{4} << 20;  // symbols of a tree
constexpr std::uint64_t kNode = 60;                  // bytes of a node with short names
constexpr std::uint64_t kLevelNodes = 10, kTreeNodes = 16;
constexpr auto kInt32 = static_cast<std::int64_t>(DataType::kInt32);
constexpr auto kUint8 = static_cast<std::int64_t>(DataType::kUint8);
constexpr auto kBool = static_cast<std::int64_t>(DataType::kBool);
constexpr std::int64_t kSplitSizesOpset = 13;

std::int64_t whole(std::size_t count) { return static_cast<std::int64_t>(count); }

std::array<std::uint64_t, 256> counts_of(std::span<const std::uint8_t> symbols) {
  std::array<std::uint64_t, 256> counts{};
  for (const std::uint8_t symbol : symbols) ++counts[symbol];
  return counts;
}

// Shorter longest codes cost bits and spare levels: the limit with the least of both.
std::vector<std::uint8_t> lengths_for(std::span<const std::uint64_t> counts) {
  const auto used = std::ranges::count_if(counts, [](std::uint64_t count) { return count > 0; });
  std::vector<std::uint8_t> best;
  std::uint64_t least = 0;
  for (unsigned longest = kSymbolTreeDepth; longest > 0 && used <= whole(1ULL << longest);
       --longest) {
    std::vector<std::uint8_t> lengths = codec::code_lengths(counts, longest);
    const std::uint64_t bytes =
        coded_bits(counts, lengths) / 8 + kNode * kLevelNodes * *std::ranges::max_element(lengths);
    if (best.empty() || bytes < least) least = bytes, best = std::move(lengths);
  }
  return best;
}

Tensor int32_tensor(std::span<const std::uint64_t> numbers, std::vector<std::int64_t> dims) {
  std::vector<std::int32_t> narrow;
  narrow.reserve(numbers.size());
  for (const std::uint64_t number : numbers) narrow.push_back(static_cast<std::int32_t>(number));
  return make_int32_tensor(narrow, std::move(dims));
}

class TreeEmitter {
 public:
  TreeEmitter(Node& anchor, PassContext& context, std::uint64_t& bytes)
      : anchor_(anchor), graph_(anchor.graph()), edit_(context.edit()), bytes_(bytes) {}

  // uint8 [n], the symbols.
  Value& symbols(std::span<const std::uint8_t> symbols) {
    const auto counts = counts_of(symbols);
    const WaveletMatrix matrix = wavelet_matrix(symbols, lengths_for(counts));
    Value& runs = leaf_runs(matrix, symbols.size());
    const std::size_t levels = matrix.level_bits.size();
    if (levels == 0) return runs;
    std::vector<std::int64_t> sizes;  // of the runs, the deepest level first
    for (std::size_t level = levels; level-- > 0;) {
      const std::uint64_t below = level + 1 < levels ? matrix.level_bits[level + 1] : 0;
      sizes.push_back(static_cast<std::int64_t>(matrix.level_bits[level] - below));
    }
    const std::vector<Value*> ends = split(runs, sizes);
    const std::vector<Value*> bits = level_bits(matrix);
    Value* made = nullptr;
    for (std::size_t level = levels; level-- > 0;) {
      Value* const run = ends[levels - 1 - level];
      if (made == nullptr) {
        made = run;
      } else if (sizes[levels - 1 - level] > 0) {
        made = &node({"Concat", {made, run}}, attribute("axis", std::int64_t{0}));
      }
      made = &merged(*made, *bits[level]);
    }
    return *made;
  }

  Value& looked_up(Value& table, Value& symbols) {
    return node({"Gather", {&table, &cast(symbols, kInt32)}});
  }

  Value& constant(Tensor tensor) {
    bytes_ += tensor.byte_size();
    return edit_.add_initializer(graph_, "h", std::move(tensor));
  }

  Value& joined(std::vector<Value*> parts) {
    if (parts.size() == 1) return *parts.front();
    return node({"Concat", std::move(parts)}, attribute("axis", std::int64_t{0}));
  }

 private:
  struct Plain {
    std::string type;
    std::vector<Value*> inputs;
  };
  Node& plain_node(Plain plain) {
    return edit_.insert_before(
        anchor_,
        {.op_type = std::move(plain.type), .inputs = std::move(plain.inputs), .base_name = "h"});
  }
  Value& node(Plain plain) { return *plain_node(std::move(plain)).output(0); }
  Value& node(Plain plain, NewAttribute attribute) {
    Node& made = plain_node(std::move(plain));
    edit_.set_attribute(made, std::move(attribute));
    return *made.output(0);
  }
  Value& cast(Value& value, std::int64_t type) {
    return node({"Cast", {&value}}, attribute("to", type));
  }

  // A constant that all trees of the graph share.
  Value& shared(std::string_view name, Tensor tensor) {
    if (Value* known = graph_.find(name); known != nullptr && known->constant() != nullptr) {
      const auto same = same_content(*known->constant(), tensor);
      if (same.ok() && *same) return *known;
    }
    bytes_ += tensor.byte_size();
    return edit_.add_initializer(graph_, name, std::move(tensor));
  }
  Value& axis() {
    const std::uint64_t zero = 0;
    return shared("symbols_axis", int32_tensor({&zero, 1}, {}));
  }

  // Leaf by leaf as often as it occurs: uint8 [n].
  Value& leaf_runs(const WaveletMatrix& matrix, std::size_t count) {
    std::vector<std::uint64_t> starts;
    std::uint64_t at = 0;
    for (std::size_t i = 0; i + 1 < matrix.leaves.size(); ++i) {
      starts.push_back(at += matrix.leaf_counts[i]);
    }
    const std::uint64_t zero = 0;
    const std::int64_t n = whole(count);
    Value& number = shared("symbols_zero", int32_tensor({&zero, 1}, {1}));
    Value& zeros = node({"Expand", {&number, &constant(make_int64_tensor({&n, 1}, {1}))}});
    const std::vector<std::uint64_t> ones(starts.size(), 1);
    const std::int64_t leaves = whole(starts.size());
    Value& marks = node({"ScatterElements",
                         {&zeros, &constant(int32_tensor(starts, {leaves})),
                          &constant(int32_tensor(ones, {leaves}))}});
    Value& place = node({"CumSum", {&marks, &axis()}});
    std::vector<std::byte> table(matrix.leaves.size());
    std::ranges::transform(matrix.leaves, table.begin(),
                           [](std::uint8_t s) { return static_cast<std::byte>(s); });
    const std::int64_t entries = whole(table.size());
    Value& symbols = constant(make_bytes_tensor(DataType::kUint8, {entries}, std::move(table)));
    return node({"Gather", {&symbols, &place}});
  }

  std::vector<Value*> split(Value& value, std::vector<std::int64_t> sizes) {
    if (sizes.size() == 1) return {&value};
    NewNode made{.op_type = "Split", .inputs = {&value}, .outputs = sizes.size(), .base_name = "h"};
    made.attributes.push_back(attribute("axis", std::int64_t{0}));
    if (graph_.model().opset("") >= kSplitSizesOpset) {
      made.inputs.push_back(&constant(make_int64_tensor(sizes, {whole(sizes.size())})));
    } else {
      made.attributes.push_back(attribute("split", sizes));
    }
    const auto outputs = edit_.insert_before(anchor_, std::move(made)).outputs();
    return {outputs.begin(), outputs.end()};
  }

  // All bits behind each other, eight in a byte: uint8 of each level.
  std::vector<Value*> level_bits(const WaveletMatrix& matrix) {
    std::uint64_t total = 0;
    std::vector<std::int64_t> sizes;
    for (const std::uint64_t bits : matrix.level_bits) {
      total += bits;
      sizes.push_back(static_cast<std::int64_t>(bits));
    }
    std::vector<std::byte> packed((total + 7) / 8);
    std::size_t at = 0;
    for (std::size_t level = 0; level < matrix.bits.size(); ++level) {
      for (std::size_t i = 0; i < matrix.level_bits[level]; ++i, ++at) {
        const unsigned bit = std::to_integer<unsigned>(matrix.bits[level][i / 8]) >> (i % 8) & 1;
        packed[at / 8] |= static_cast<std::byte>(bit << (at % 8));
      }
    }
    if (total % 8 != 0) sizes.push_back(static_cast<std::int64_t>(8 - total % 8));
    std::vector<std::byte> table(256 * 8);
    for (std::size_t i = 0; i < table.size(); ++i) {
      table[i] = static_cast<std::byte>((i / 8) >> (i % 8) & 1);
    }
    Value& unpack =
        shared("symbols_bits", make_bytes_tensor(DataType::kUint8, {256, 8}, std::move(table)));
    const std::int64_t bytes = whole(packed.size()), all = -1;
    Value& stored = constant(make_bytes_tensor(DataType::kUint8, {bytes}, std::move(packed)));
    Value& bits = node({"Gather", {&unpack, &cast(stored, kInt32)}});
    Value& shape = shared("symbols_flat", make_int64_tensor({&all, 1}, {1}));
    return split(node({"Reshape", {&bits, &shape}}), std::move(sizes));
  }

  // Undoes a stable partition: the i-th one of the bits stands among the last elements, counted
  // from the end, the i-th zero among the first.
  Value& merged(Value& parted, Value& bits) {
    Value& ones = cast(bits, kInt32);
    Value& behind = node({"CumSum", {&ones, &axis()}}, attribute("reverse", std::int64_t{1}));
    Value& from_end = node({"Neg", {&behind}});
    Value& is_one = cast(bits, kBool);
    Value& zeros = cast(node({"Not", {&is_one}}), kInt32);
    Value& before = node({"CumSum", {&zeros, &axis()}}, attribute("exclusive", std::int64_t{1}));
    Value& place = node({"Where", {&is_one, &from_end, &before}});
    return node({"Gather", {&parted, &place}});
  }

  Node& anchor_;
  Graph& graph_;
  Editor& edit_;
  std::uint64_t& bytes_;
};

}  // namespace

SymbolCost symbol_cost(std::span<const std::uint8_t> symbols) {
  SymbolCost cost;
  for (std::size_t from = 0; from < symbols.size(); from += kPart) {
    const auto part = symbols.subspan(from, std::min(kPart, symbols.size() - from));
    const auto counts = counts_of(part);
    const std::vector<std::uint8_t> lengths = lengths_for(counts);
    const std::size_t levels = *std::ranges::max_element(lengths);
    const auto used = static_cast<std::uint64_t>(
        std::ranges::count_if(counts, [](std::uint64_t count) { return count > 0; }));
    cost.entropy_bits += entropy_bits(counts);
    cost.coded_bytes += used > 1 ? (coded_bits(counts, lengths) + 7) / 8 : 0;
    cost.overhead_bytes += kNode * (kTreeNodes + kLevelNodes * levels) + 9 * used + 16 * levels;
    cost.levels = std::max(cost.levels, levels);
  }
  return cost;
}

Result<Value*> emit_symbols(std::span<const std::uint8_t> symbols, const Tensor& values,
                            Node& anchor, PassContext& context, std::uint64_t& bytes) {
  TreeEmitter emitter(anchor, context, bytes);
  std::vector<Value*> parts;
  for (std::size_t from = 0; from < symbols.size(); from += kPart) {
    parts.push_back(
        &emitter.symbols(symbols.subspan(from, std::min(kPart, symbols.size() - from))));
  }
  Value& all = emitter.joined(std::move(parts));
  return &emitter.looked_up(emitter.constant(values), all);
}

}  // namespace mcompress
