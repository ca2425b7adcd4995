// Smaller forms of tables that Gather looks up row by row.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

// A constant [rows, columns] in float32 that nothing but Gathers along its rows reads.
struct RowTable {
  Value* value = nullptr;
  std::vector<Node*> gathers;
  std::size_t rows = 0, columns = 0;
  std::span<const float> numbers;  // of the constant, or of `copy`
  Pinned pin;
  std::vector<float> copy;
  std::vector<std::uint64_t> lookups;  // of each row, on the data; empty: no data
  // How much a row's error counts: its lookups, all the same without data. Rows that were never
  // looked up count a little.
  std::vector<double> importance() const;
  std::span<const float> row(std::size_t r) const { return numbers.subspan(r * columns, columns); }
};

// Which row of a smaller table stands for each row.
struct RowMerge {
  std::vector<std::uint32_t> to;  // by row
  std::size_t kept = 0;           // rows of the smaller table
  std::size_t equal = 0;          // rows that are the same as an earlier one, bit for bit
  std::size_t unused = 0;         // rows that were never looked up, beyond the one they share
};
// Rows that are equal share one; with `unused` so do all that were never looked up.
RowMerge merge_rows(const RowTable& table, bool unused);
// At most `buckets` rows: where there are lookups the rows looked up most have their own, in as
// many as three quarters of them, and the others share the rest by their number.
RowMerge hash_rows(const RowTable& table, std::size_t buckets);
// The smaller table: means of the rows that share one, weighted by importance.
std::vector<float> merged_rows(const RowTable& table, const RowMerge& merge);

// A row as m + s * (1 or -1): the sign of each number about the row's mean, s their mean distance.
struct BinaryRows {
  std::size_t row_bytes = 0;
  std::vector<std::byte> bits;       // [rows, row_bytes], the first column lowest
  std::vector<float> scale, middle;  // [rows]
};
BinaryRows binary_rows(const RowTable& table);
void restore(const BinaryRows& binary, std::size_t row, std::span<float> out);

// 10 log10 of the energy of the rows over that of their errors, by importance; 200 when exact.
using RestoreRow = std::function<void(std::size_t row, std::span<float> out)>;
double table_sqnr(const RowTable& table, const RestoreRow& restore_row);

// Each writes the form in the place of every Gather, and erases the table; the bytes it takes.
//   T ── Gather(i)   becomes   T' ── Gather(map ── Gather(i))
// or, where the map is `row modulo kept`, T' ── Gather(((i + rows) mod rows) mod kept).
Result<std::uint64_t> emit_merged(const RowTable& table, const RowMerge& merge,
                                  std::span<const float> rows, bool modulo, PassContext& context);
//   T ── Gather(i)   becomes   L ── Gather(i) ── MatMul(R)
Result<std::uint64_t> emit_product(const RowTable& table, std::span<const float> left,
                                   std::span<const float> right, std::size_t rank,
                                   PassContext& context);
//   T ── Gather(i)   becomes   bits ── Gather(i) ── unpack ── Mul(scale[i]) ── Add(middle[i])
// Needs opset 10 and indices of known rank, see why_no_binary().
Result<std::uint64_t> emit_binary(const RowTable& table, const BinaryRows& binary,
                                  PassContext& context);
std::string why_no_binary(const RowTable& table);

// Bytes of the map of `rows` numbers below `kept`: in 1, 2 or 4 bytes each.
std::uint64_t map_bytes(std::size_t rows, std::size_t kept);

}  // namespace mcompress
