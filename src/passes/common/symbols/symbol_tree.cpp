#include "passes/common/symbols/symbol_tree.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "ir/builder.h"
#include "numeric/entropy_code.h"
#include "passes/common/constants.h"

namespace mcompress {
namespace {

constexpr std::int64_t kSplitSizesOpset = 13;
constexpr std::size_t kByte = 8;

std::int64_t whole(std::size_t count) { return static_cast<std::int64_t>(count); }

Tensor byte_tensor(DataType type, std::vector<std::byte> bytes) {
  const std::int64_t count = whole(bytes.size());
  return make_bytes_tensor(type, {count}, std::move(bytes));
}

constexpr std::string_view kDomain = "mcompress";
constexpr std::string_view kLevel = "level", kRun = "run";
constexpr std::int64_t kFunctionsIrVersion = 8;

// A function that is written out line by line.
class FunctionWriter {
 public:
  FunctionWriter(Model& model, std::string_view name) : builder_(model) {
    made_.domain = kDomain;
    made_.name = name;
    made_.opsets[""] = model.opset("");
    made_.body = builder_.new_graph(nullptr);
  }
  Value& input() {
    Value& value = fresh();
    builder_.add_input(*made_.body, value);
    return value;
  }
  Value& node(std::string type, const std::vector<Value*>& inputs,
              std::string_view attribute_name = {}) {
    Node& made = builder_.add_node(*made_.body, {}, {}, std::move(type), {}, nullptr);
    for (Value* value : inputs) builder_.add_node_input(made, value);
    Value& output = fresh();
    builder_.add_node_output(made, &output);
    if (!attribute_name.empty()) {
      builder_.add_attribute(made, {std::string(attribute_name), std::int64_t{1}, nullptr});
    }
    builder_.append(*made_.body, made);
    return output;
  }
  void finish(Value& output) {
    builder_.add_output(*made_.body, output);
    builder_.add_function(std::move(made_));
  }

 private:
  Value& fresh() { return builder_.add_value(*made_.body, std::string(1, next_++)); }
  Builder builder_;
  Function made_;
  char next_ = 'a';
};

// Undoes a stable partition: ones stand among the last elements, counted from the end, zeros among
// the first. Bytes of bits are int32; the tables are those of SymbolTreeWriter::Tables.
void add_level(Model& model) {
  FunctionWriter f(model, kLevel);
  Value &parted = f.input(), &bytes = f.input(), &is_one = f.input(), &within = f.input(),
        &minus_ones = f.input(), &zeros = f.input(), &axis = f.input(), &flat = f.input();
  Value& bits = f.node("Gather", {&is_one, &bytes});
  Value& from_end = f.node("CumSum", {&f.node("Gather", {&minus_ones, &bytes}), &axis}, "reverse");
  Value& from_start = f.node("CumSum", {&f.node("Gather", {&zeros, &bytes}), &axis}, "exclusive");
  Value& starts = f.node("Where", {&bits, &from_end, &from_start});
  Value& places = f.node("Add", {&starts, &f.node("Gather", {&within, &bytes})});
  f.finish(f.node("Reshape", {&f.node("Gather", {&parted, &places}), &flat}));
}

// Numbers within a group, some in each byte, become its symbols.
void add_run(Model& model) {
  FunctionWriter f(model, kRun);
  Value &symbols = f.input(), &digits = f.input(), &bytes = f.input(), &flat = f.input();
  Value& by_byte = f.node("Gather", {&symbols, &digits});
  f.finish(f.node("Reshape", {&f.node("Gather", {&by_byte, &bytes}), &flat}));
}

}  // namespace

Value& ConstantMaker::node(std::string type, std::vector<Value*> inputs,
                           std::vector<NewAttribute> attributes, std::string domain) {
  return *edit_
              .insert_before(anchor_, {.op_type = std::move(type),
                                       .inputs = std::move(inputs),
                                       .base_name = "h",
                                       .domain = std::move(domain),
                                       .attributes = std::move(attributes),
                                       .output_names = {"h"}})
              .output(0);
}

Value& ConstantMaker::cast(Value& value, DataType type) {
  std::vector<NewAttribute> to;
  to.push_back(attribute("to", static_cast<std::int64_t>(type)));
  return node("Cast", {&value}, std::move(to));
}

Value& ConstantMaker::constant(Tensor tensor) {
  bytes_ += tensor.byte_size();
  return edit_.add_initializer(graph_, "h", std::move(tensor));
}

Value& ConstantMaker::ints(std::span<const std::int64_t> numbers) {
  return constant(make_int64_tensor(numbers, {whole(numbers.size())}));
}

Value& ConstantMaker::number(std::int32_t number) {
  Value*& known = numbers_[number];
  if (known == nullptr) known = &constant(make_int32_tensor({&number, 1}, {}));
  return *known;
}

Value& ConstantMaker::flat_shape() {
  const std::int64_t all = -1;
  if (flat_shape_ == nullptr) flat_shape_ = &ints({&all, 1});
  return *flat_shape_;
}

Value& ConstantMaker::joined(const std::vector<Value*>& parts) {
  if (parts.size() == 1) return *parts.front();
  std::vector<NewAttribute> axis;
  axis.push_back(attribute("axis", std::int64_t{0}));
  return node("Concat", parts, std::move(axis));
}

std::vector<Value*> ConstantMaker::split(Value& value, std::span<const std::int64_t> sizes) {
  std::vector<std::int64_t> parts;
  for (const std::int64_t size : sizes) {
    if (size > 0) parts.push_back(size);
  }
  std::vector<Value*> made(sizes.size());
  std::vector<Value*> outputs = {&value};
  if (parts.size() > 1) {
    NewNode split{
        .op_type = "Split", .inputs = {&value}, .outputs = parts.size(), .base_name = "h"};
    split.output_names.assign(parts.size(), "h");
    if (graph_.model().opset("") >= kSplitSizesOpset) {
      split.inputs.push_back(&ints(parts));
    } else {
      split.attributes.push_back(attribute("split", parts));
    }
    const auto all = edit_.insert_before(anchor_, std::move(split)).outputs();
    outputs.assign(all.begin(), all.end());
  }
  std::size_t next = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] > 0) made[i] = outputs[next++];
  }
  return made;
}

Value& SymbolTreeWriter::call(std::string_view function, std::vector<Value*> inputs) {
  Editor& edit = maker_.edit();
  Model& model = edit.model();
  const bool known = std::ranges::any_of(model.functions(), [&](const Function& f) {
    return f.domain == kDomain && f.name == function;
  });
  if (!known) {
    if (function == kLevel) {
      add_level(model);
    } else {
      add_run(model);
    }
    edit.require_ir_version(kFunctionsIrVersion);
    edit.set_opset(kDomain, 1);
  }
  return maker_.node(std::string(function), std::move(inputs), {}, std::string(kDomain));
}

// int32 [256, 8 / bits]: the numbers of so many bits that a byte holds, the lowest first.
Value& SymbolTreeWriter::digits(unsigned bits) {
  Value*& known = digits_[bits];
  if (known != nullptr) return *known;
  if (column_ == nullptr) {
    const std::int64_t column[] = {256, 1};
    Value& range =
        maker_.node("Range", {&maker_.number(0), &maker_.number(256), &maker_.number(1)});
    column_ = &maker_.node("Reshape", {&range, &maker_.ints(column)});
  }
  std::vector<std::int32_t> powers;
  for (unsigned at = 0; at < kByte; at += bits) powers.push_back(std::int32_t{1} << at);
  Value& divisors = maker_.constant(make_int32_tensor(powers, {1, whole(powers.size())}));
  Value& shifted = maker_.node("Div", {column_, &divisors});
  return *(digits_[bits] = &maker_.node("Mod", {&shifted, &maker_.number(1 << bits)}));
}

const SymbolTreeWriter::Tables& SymbolTreeWriter::tables() {
  if (tables_.is_one != nullptr) return tables_;
  Value& bits = digits(1);
  tables_.is_one = &maker_.cast(bits, DataType::kBool);
  std::vector<std::int32_t> places(kByte);
  std::iota(places.begin(), places.end(), 0);
  Value& place = maker_.constant(make_int32_tensor(places, {1, whole(kByte)}));
  Value& up_to = maker_.node("CumSum", {&bits, &maker_.number(1)});
  Value& before = maker_.node("Sub", {&up_to, &bits});
  tables_.within =
      &maker_.node("Where", {tables_.is_one, &before, &maker_.node("Sub", {&place, &before})});
  const std::int64_t last = kByte - 1;
  std::vector<NewAttribute> axis;
  axis.push_back(attribute("axis", std::int64_t{1}));
  Value& ones = maker_.node("Gather", {&up_to, &maker_.ints({&last, 1})}, std::move(axis));
  tables_.minus_ones = &maker_.node("Neg", {&ones});
  tables_.zeros = &maker_.node("Add", {tables_.minus_ones, &maker_.number(kByte)});
  return tables_;
}

// The symbols of a group, as often as they occur: [count] of `type`.
Value& SymbolTreeWriter::run(const SymbolGroup& group, std::uint64_t count, Value* numbers,
                             std::span<const std::byte> leaves, DataType type) {
  std::vector<std::byte> table;
  for (const std::uint8_t symbol : group.symbols) table.push_back(leaves[symbol]);
  if (group.bits == 0) {
    std::vector<NewAttribute> value;
    value.push_back({"value", byte_tensor(type, std::move(table))});
    const auto n = static_cast<std::int64_t>(count);
    return maker_.node("ConstantOfShape", {&maker_.ints({&n, 1})}, std::move(value));
  }
  table.resize(std::size_t{1} << group.bits);
  Value& known = maker_.constant(byte_tensor(type, std::move(table)));
  if (group.bits == kByte) return maker_.node("Gather", {&known, numbers});
  return call(kRun, {&known, &digits(group.bits), numbers, &maker_.flat_shape()});
}

Value& SymbolTreeWriter::merged(Value& parted, Value& bytes) {
  const Tables& by_byte = tables();
  return call(kLevel, {&parted, &bytes, by_byte.is_one, by_byte.within, by_byte.minus_ones,
                       by_byte.zeros, &maker_.number(0), &maker_.flat_shape()});
}

Value& SymbolTreeWriter::write(const SymbolCode& code, std::span<const std::uint8_t> symbols,
                               std::span<const std::byte> leaves, DataType type) {
  const std::size_t count = code.groups.size();
  std::array<std::uint8_t, 256> group_of{}, number_of{};
  for (std::size_t g = 0; g < count; ++g) {
    for (std::size_t i = 0; i < code.groups[g].symbols.size(); ++i) {
      group_of[code.groups[g].symbols[i]] = static_cast<std::uint8_t>(g);
      number_of[code.groups[g].symbols[i]] = static_cast<std::uint8_t>(i);
    }
  }
  std::vector<std::uint8_t> groups, lengths;
  groups.reserve(symbols.size() + kByte * count);
  std::vector<std::vector<std::byte>> numbers(count);  // of each group, packed
  std::vector<std::uint64_t> counts(count);
  const auto take = [&](std::size_t g, unsigned number) {
    const unsigned bits = code.groups[g].bits;
    groups.push_back(static_cast<std::uint8_t>(g));
    if (bits > 0) {
      const std::size_t at = counts[g] * bits;
      if (at % kByte == 0) numbers[g].push_back(std::byte{0});
      numbers[g].back() |= static_cast<std::byte>(number << (at % kByte));
    }
    ++counts[g];
  };
  for (const std::uint8_t symbol : symbols) take(group_of[symbol], number_of[symbol]);
  for (std::size_t g = 0; g < count; ++g) {
    lengths.push_back(code.groups[g].length);
    while (counts[g] % kByte != 0) take(g, 0);
  }
  if (count == 1) lengths.front() = 1;
  const WaveletMatrix matrix = wavelet_matrix(groups, lengths);
  // One constant for all: bits of levels, the first first, then numbers within groups.
  std::vector<std::byte> packed;
  std::vector<std::int64_t> sizes;
  const auto put = [&](std::span<const std::byte> bytes) {
    packed.insert(packed.end(), bytes.begin(), bytes.end());
    sizes.push_back(whole(bytes.size()));
  };
  for (const auto& bits : matrix.bits) put(bits);
  for (const std::uint8_t g : matrix.leaves) put(numbers[g]);
  std::vector<Value*> pieces(sizes.size());
  if (!packed.empty()) {
    Value& stored = maker_.constant(byte_tensor(DataType::kUint8, std::move(packed)));
    pieces = maker_.split(maker_.cast(stored, DataType::kInt32), sizes);
  }
  const std::size_t levels = matrix.bits.size();
  std::size_t next = 0;  // of the runs
  const auto add_run = [&](std::vector<Value*>& parts) {
    const std::uint8_t g = matrix.leaves[next];
    parts.push_back(&run(code.groups[g], counts[g], pieces[levels + next], leaves, type));
    ++next;
  };
  std::vector<Value*> parts;
  if (levels == 0) add_run(parts);
  for (std::size_t level = levels; level-- > 0;) {
    while (next < count && lengths[matrix.leaves[next]] == level + 1) add_run(parts);
    parts = {&merged(maker_.joined(parts), *pieces[level])};
  }
  return *parts.front();
}

std::uint64_t tree_memory(const SymbolCode& code, std::uint64_t symbols) {
  constexpr std::uint64_t kOfSymbol = 4;
  return static_cast<std::uint64_t>(kMemoryOfTreeBit) * code.tree_bits + kOfSymbol * symbols;
}

}  // namespace mcompress
