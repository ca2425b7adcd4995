#include "passes/common/symbols/group_books.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace mcompress {

std::int64_t entries_of_group(std::span<const std::int64_t> dims, const ConstantIndices& indices) {
  const std::int64_t all = dims[0];
  if (indices.offsets.empty()) return all;
  if (dims.size() != 1) return 0;
  std::int64_t entries = all;
  for (const std::int32_t offset : indices.offsets) {
    if (offset > 0) entries = std::min<std::int64_t>(entries, offset);
  }
  const bool groups = std::ranges::all_of(indices.offsets, [&](std::int32_t offset) {
    return offset >= 0 && offset < all && offset % entries == 0;
  });
  return groups && all % entries == 0 ? entries : 0;
}

GroupBooks rank_entries(const ConstantIndices& indices, std::span<const float> book,
                        std::size_t entries, std::span<std::uint8_t> symbols) {
  GroupBooks books;
  books.offsets = indices.offsets;
  books.entries.resize(book.size());
  books.zeros_first = true;
  const auto inner = static_cast<std::size_t>(indices.dims.back());
  const auto first_of = [&](std::size_t i) {
    return static_cast<std::size_t>(books.offsets[i / inner % books.offsets.size()]);
  };
  std::vector<std::uint64_t> counts(book.size());
  for (std::size_t i = 0; i < symbols.size(); ++i) ++counts[first_of(i) + symbols[i]];
  std::vector<std::uint8_t> rank(book.size());
  for (std::size_t first = 0; first < book.size(); first += entries) {
    std::vector<std::size_t> order(entries);
    std::iota(order.begin(), order.end(), first);
    std::ranges::stable_sort(order, std::ranges::greater{},
                             [&](std::size_t entry) { return counts[entry]; });
    for (std::size_t r = 0; r < entries; ++r) {
      rank[order[r]] = static_cast<std::uint8_t>(r);
      books.entries[first + r] = book[order[r]];
    }
    books.zeros_first = books.zeros_first && books.entries[first] == 0;
  }
  for (std::size_t i = 0; i < symbols.size(); ++i) symbols[i] = rank[first_of(i) + symbols[i]];
  return books;
}

}  // namespace mcompress
