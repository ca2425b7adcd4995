#include "passes/common/symbols/table_forms.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "ir/facts.h"
#include "passes/common/constants.h"
#include "passes/common/rewrite.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kNeverLookedUp = 0.01;  // of a row that was looked up once

Value* append_before(PassContext& context, Node& anchor, std::string_view op_type,
                     std::vector<Value*> inputs, const std::string& name) {
  return context.edit()
      .insert_before(
          anchor, {.op_type = std::string(op_type), .inputs = std::move(inputs), .base_name = name})
      .output(0);
}

Value* cast_before(PassContext& context, Node& anchor, Value* value, DataType type,
                   const std::string& name) {
  Value* const cast = append_before(context, anchor, "Cast", {value}, name);
  context.edit().set_attribute(*cast->producer(), attribute("to", static_cast<std::int64_t>(type)));
  return cast;
}

Value* ints(PassContext& context, Graph& graph, const std::string& name,
            std::vector<std::int64_t> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return &context.edit().add_initializer(graph, name, make_int64_tensor(values, {count}));
}

Status put_in_place(PassContext& context, Node& gather, Value& result) {
  MCOMPRESS_TRY(context.edit().replace_all(*gather.output(0), result));
  return context.edit().erase(gather);
}

Value& add_table(PassContext& context, const RowTable& table, const std::string& suffix,
                 std::span<const float> numbers, std::size_t columns) {
  return context.edit().add_initializer(
      table.value->graph(), std::string(table.value->name()) + suffix,
      make_float_tensor(numbers, {static_cast<std::int64_t>(numbers.size() / columns),
                                  static_cast<std::int64_t>(columns)}));
}

DataType map_type(std::size_t kept) {
  if (kept <= std::size_t{1} << 8) return DataType::kUint8;
  return kept <= std::size_t{1} << 16 ? DataType::kUint16 : DataType::kInt32;
}

Tensor map_tensor(const RowMerge& merge) {
  const DataType type = map_type(merge.kept);
  const std::size_t width = map_bytes(1, merge.kept);
  std::vector<std::byte> bytes(merge.to.size() * width);
  for (std::size_t r = 0; r < merge.to.size(); ++r) {
    for (std::size_t b = 0; b < width; ++b) {
      bytes[r * width + b] = static_cast<std::byte>(merge.to[r] >> (8 * b) & 0xff);
    }
  }
  return make_bytes_tensor(type, {static_cast<std::int64_t>(merge.to.size())}, std::move(bytes));
}

}  // namespace

std::vector<double> RowTable::importance() const {
  std::vector<double> weights(rows, 1);
  for (std::size_t r = 0; r < lookups.size(); ++r) {
    weights[r] = lookups[r] > 0 ? static_cast<double>(lookups[r]) : kNeverLookedUp;
  }
  return weights;
}

RowMerge merge_rows(const RowTable& table, bool unused) {
  RowMerge merge;
  merge.to.resize(table.rows);
  constexpr auto kNone = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t shared = kNone;
  std::unordered_map<std::uint64_t, std::vector<std::pair<std::size_t, std::uint32_t>>> known;
  for (std::size_t r = 0; r < table.rows; ++r) {
    if (unused && !table.lookups.empty() && table.lookups[r] == 0) {
      if (shared == kNone) {
        shared = static_cast<std::uint32_t>(merge.kept++);
      } else {
        ++merge.unused;
      }
      merge.to[r] = shared;
      continue;
    }
    const auto numbers = table.row(r);
    auto& alike = known[digest_bytes(std::as_bytes(numbers))];
    const auto same = std::ranges::find_if(alike, [&](const auto& entry) {
      return std::memcmp(table.row(entry.first).data(), numbers.data(), numbers.size_bytes()) == 0;
    });
    if (same != alike.end()) {
      merge.to[r] = same->second;
      ++merge.equal;
      continue;
    }
    merge.to[r] = static_cast<std::uint32_t>(merge.kept++);
    alike.emplace_back(r, merge.to[r]);
  }
  return merge;
}

RowMerge hash_rows(const RowTable& table, std::size_t buckets) {
  RowMerge merge;
  merge.to.resize(table.rows);
  merge.kept = std::min(buckets, table.rows);
  std::size_t own = 0;
  std::vector<bool> has_own(table.rows);
  if (!table.lookups.empty()) {
    std::vector<std::uint32_t> order(table.rows);
    std::iota(order.begin(), order.end(), 0U);
    std::ranges::stable_sort(order, std::greater{},
                             [&](std::uint32_t r) { return table.lookups[r]; });
    const std::size_t most = merge.kept - (merge.kept + 3) / 4;
    while (own < most && table.lookups[order[own]] > 0) has_own[order[own++]] = true;
  }
  std::uint32_t next = 0;
  const std::size_t shared = merge.kept - own;
  for (std::size_t r = 0; r < table.rows; ++r) {
    merge.to[r] = has_own[r] ? next++ : static_cast<std::uint32_t>(own + r % shared);
  }
  return merge;
}

std::vector<float> merged_rows(const RowTable& table, const RowMerge& merge) {
  const std::vector<double> importance = table.importance();
  std::vector<double> sums(merge.kept * table.columns), weights(merge.kept);
  std::vector<std::size_t> only(merge.kept, table.rows);  // the one row there is, or none
  std::vector<std::size_t> members(merge.kept);
  for (std::size_t r = 0; r < table.rows; ++r) {
    const std::size_t to = merge.to[r];
    weights[to] += importance[r];
    only[to] = r;
    ++members[to];
    for (std::size_t c = 0; c < table.columns; ++c) {
      sums[to * table.columns + c] += importance[r] * double{table.row(r)[c]};
    }
  }
  std::vector<float> rows(sums.size());
  for (std::size_t to = 0; to < merge.kept; ++to) {
    for (std::size_t c = 0; c < table.columns; ++c) {
      const std::size_t at = to * table.columns + c;
      if (members[to] == 1) rows[at] = table.row(only[to])[c];
      if (members[to] > 1) rows[at] = static_cast<float>(sums[at] / weights[to]);
    }
  }
  // Rows that are all the same are that row, not nearly so.
  std::vector<bool> alike(merge.kept, true);
  for (std::size_t r = 0; r < table.rows; ++r) {
    const auto one = table.row(only[merge.to[r]]);
    if (!std::ranges::equal(one, table.row(r))) alike[merge.to[r]] = false;
  }
  for (std::size_t to = 0; to < merge.kept; ++to) {
    if (!alike[to] || members[to] == 0) continue;
    std::ranges::copy(table.row(only[to]),
                      rows.begin() + static_cast<std::ptrdiff_t>(to * table.columns));
  }
  return rows;
}

BinaryRows binary_rows(const RowTable& table) {
  BinaryRows binary;
  binary.row_bytes = (table.columns + 7) / 8;
  binary.bits.resize(table.rows * binary.row_bytes);
  for (std::size_t r = 0; r < table.rows; ++r) {
    const auto row = table.row(r);
    const double columns = static_cast<double>(table.columns);
    const double middle = std::accumulate(row.begin(), row.end(), 0.0) / columns;
    double above = 0, below = 0, count_above = 0;
    for (std::size_t c = 0; c < table.columns; ++c) {
      const double number = double{row[c]};
      if (number < middle) {
        below += number;
        continue;
      }
      above += number;
      ++count_above;
      binary.bits[r * binary.row_bytes + c / 8] |= static_cast<std::byte>(1U << (c % 8));
    }
    // The least error for these signs: each side's own mean.
    above = count_above > 0 ? above / count_above : middle;
    below = count_above < columns ? below / (columns - count_above) : middle;
    binary.scale.push_back(static_cast<float>((above - below) / 2));
    binary.middle.push_back(static_cast<float>((above + below) / 2));
  }
  return binary;
}

void restore(const BinaryRows& binary, std::size_t row, std::span<float> out) {
  for (std::size_t c = 0; c < out.size(); ++c) {
    const auto byte = std::to_integer<unsigned>(binary.bits[row * binary.row_bytes + c / 8]);
    const float sign = (byte >> (c % 8) & 1U) != 0 ? 1.0F : -1.0F;
    out[c] = sign * binary.scale[row] + binary.middle[row];
  }
}

double table_sqnr(const RowTable& table, const RestoreRow& restore_row) {
  const std::vector<double> importance = table.importance();
  double signal = 0, noise = 0;
  std::vector<float> restored(table.columns);
  for (std::size_t r = 0; r < table.rows; ++r) {
    restore_row(r, restored);
    for (std::size_t c = 0; c < table.columns; ++c) {
      const double real = double{table.numbers[r * table.columns + c]};
      const double error = real - double{restored[c]};
      signal += importance[r] * real * real;
      noise += importance[r] * error * error;
    }
  }
  constexpr double kExact = 200;
  return noise > 0 ? std::min(kExact, 10 * std::log10(signal / noise)) : kExact;
}

std::uint64_t map_bytes(std::size_t rows, std::size_t kept) {
  return rows * *packed_bytes(map_type(kept), 1);
}

Result<std::uint64_t> emit_merged(const RowTable& table, const RowMerge& merge,
                                  std::span<const float> rows, bool modulo, PassContext& context) {
  Editor& edit = context.edit();
  Graph& graph = table.value->graph();
  const std::string base(table.value->name());
  Value& small = add_table(context, table, "_rows", rows, table.columns);
  std::uint64_t bytes = rows.size() * sizeof(float);
  Value* map = nullptr;
  if (!modulo) {
    map = &edit.add_initializer(graph, base + "_map", map_tensor(merge));
    bytes += map_bytes(table.rows, merge.kept);
  }
  for (Node* const gather : table.gathers) {
    Value* index = gather->input(1);
    if (modulo) {
      // Negative numbers count from the end.
      const auto number = [&](std::size_t n) {
        Tensor size = element_type(*index) == DataType::kInt32
                          ? make_int32_tensor(std::array{static_cast<std::int32_t>(n)}, {})
                          : make_int64_tensor(std::array{static_cast<std::int64_t>(n)}, {});
        return &edit.add_initializer(graph, base + "_size", std::move(size));
      };
      Value* const all = number(table.rows);
      index = append_before(context, *gather, "Add", {index, all}, base + "_wrapped");
      index = append_before(context, *gather, "Mod", {index, all}, base + "_row");
      index = append_before(context, *gather, "Mod", {index, number(merge.kept)}, base + "_bucket");
    } else {
      index = append_before(context, *gather, "Gather", {map, index}, base + "_mapped");
      if (map_type(merge.kept) != DataType::kInt32) {
        index = cast_before(context, *gather, index, DataType::kInt64, base + "_index");
      }
    }
    Value* const found =
        append_before(context, *gather, "Gather", {&small, index}, base + "_found");
    MCOMPRESS_TRY(put_in_place(context, *gather, *found));
  }
  MCOMPRESS_TRY(edit.erase_initializer(*table.value));
  return bytes;
}

Result<std::uint64_t> emit_product(const RowTable& table, std::span<const float> left,
                                   std::span<const float> right, std::size_t rank,
                                   PassContext& context) {
  const std::string base(table.value->name());
  Value& thin = add_table(context, table, "_left", left, rank);
  Value& wide = add_table(context, table, "_right", right, table.columns);
  for (Node* const gather : table.gathers) {
    Value* const found =
        append_before(context, *gather, "Gather", {&thin, gather->input(1)}, base + "_found");
    Value* const whole = append_before(context, *gather, "MatMul", {found, &wide}, base + "_whole");
    MCOMPRESS_TRY(put_in_place(context, *gather, *whole));
  }
  MCOMPRESS_TRY(context.edit().erase_initializer(*table.value));
  return (left.size() + right.size()) * sizeof(float);
}

std::string why_no_binary(const RowTable& table) {
  constexpr std::int64_t kMod = 10;
  const std::int64_t opset = table.value->graph().model().opset("");
  if (opset < kMod) {
    return "single bits are unpacked by Mod, from opset 10 on; the model has " +
           std::to_string(opset);
  }
  for (const Node* gather : table.gathers) {
    if (gather->input(1) == nullptr || !rank_of(*gather->input(1))) {
      return "the number of dimensions of what looks it up is not known";
    }
  }
  return {};
}

Result<std::uint64_t> emit_binary(const RowTable& table, const BinaryRows& binary,
                                  PassContext& context) {
  Editor& edit = context.edit();
  Graph& graph = table.value->graph();
  const std::string base(table.value->name());
  const auto rows = static_cast<std::int64_t>(table.rows);
  const auto row_bytes = static_cast<std::int64_t>(binary.row_bytes);
  const auto columns = static_cast<std::int64_t>(table.columns);
  Value& packed = edit.add_initializer(
      graph, base + "_bits", make_bytes_tensor(DataType::kUint8, {rows, row_bytes}, binary.bits));
  Value& scale =
      edit.add_initializer(graph, base + "_scale", make_float_tensor(binary.scale, {rows, 1}));
  Value& middle =
      edit.add_initializer(graph, base + "_middle", make_float_tensor(binary.middle, {rows, 1}));
  const auto int32s = [&](const std::string& name, std::span<const std::int32_t> values,
                          std::vector<std::int64_t> dims) {
    return &edit.add_initializer(graph, name, make_int32_tensor(values, std::move(dims)));
  };
  Value* const places = int32s(base + "_places", std::array{1, 2, 4, 8, 16, 32, 64, 128}, {8});
  Value* const two = int32s(base + "_two", std::array{2}, {});
  Value& twice = edit.add_initializer(graph, base + "_twice", make_float_scalar(2));
  Value& one = edit.add_initializer(graph, base + "_one", make_float_scalar(1));
  for (Node* const gather : table.gathers) {
    Value* const index = gather->input(1);
    const std::size_t rank = *rank_of(*index);
    std::vector<std::int64_t> apart(rank, 0), together(rank, 0);
    apart.insert(apart.end(), {row_bytes, 1});
    together.push_back(row_bytes * 8);
    const auto next = [&](std::string_view op, std::vector<Value*> inputs, const char* suffix) {
      return append_before(context, *gather, op, std::move(inputs), base + suffix);
    };
    Value* bits = next("Gather", {&packed, index}, "_found");
    bits = cast_before(context, *gather, bits, DataType::kInt32, base + "_bytes");
    bits = next("Reshape", {bits, ints(context, graph, base + "_apart", apart)}, "_byte");
    bits = next("Div", {bits, places}, "_shifted");
    bits = next("Mod", {bits, two}, "_bit");
    bits = next("Reshape", {bits, ints(context, graph, base + "_together", together)}, "_row");
    if (row_bytes * 8 != columns) {
      bits = next("Slice",
                  {bits, ints(context, graph, base + "_from", {0}),
                   ints(context, graph, base + "_to", {columns}),
                   ints(context, graph, base + "_axis", {static_cast<std::int64_t>(rank)})},
                  "_cut");
    }
    bits = cast_before(context, *gather, bits, DataType::kFloat, base + "_real");
    bits = next("Sub", {next("Mul", {bits, &twice}, "_doubled"), &one}, "_sign");
    bits = next("Mul", {bits, next("Gather", {&scale, index}, "_row_scale")}, "_scaled");
    bits = next("Add", {bits, next("Gather", {&middle, index}, "_row_middle")}, "_restored");
    MCOMPRESS_TRY(put_in_place(context, *gather, *bits));
  }
  MCOMPRESS_TRY(edit.erase_initializer(*table.value));
  return binary.bits.size() + 8 * table.rows;
}

}  // namespace mcompress
