#include "numeric/sparsity.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

namespace mcompress {
namespace {

std::optional<std::size_t> number_in(std::string_view text, std::size_t limit) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (number < 1 || number > limit) return std::nullopt;
  return number;
}

// Drops the `gone` entries of `list` with the lowest scores.
template <class Drop>
void drop_lowest(std::vector<std::uint32_t>& list, std::span<const float> scores, std::size_t gone,
                 Drop&& drop) {
  gone = std::min(gone, list.size());
  if (gone == 0) return;
  const auto lower = [&](std::uint32_t a, std::uint32_t b) {
    return scores[a] != scores[b] ? scores[a] < scores[b] : a < b;
  };
  if (gone < list.size()) {
    std::nth_element(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(gone), list.end(),
                     lower);
  }
  for (std::size_t i = 0; i < gone; ++i) drop(list[i]);
}

std::size_t share_of(std::size_t count, double sparsity) {
  return static_cast<std::size_t>(std::llround(static_cast<double>(count) * sparsity));
}

void mask_groups(std::span<const float> scores, std::size_t columns, std::size_t run,
                 const SparsityPattern& pattern, std::vector<std::uint8_t>& mask) {
  std::vector<std::uint32_t> list;
  for (std::size_t row = 0; row < mask.size(); row += columns) {
    for (std::size_t first = 0; first < columns; first += run) {
      const std::size_t end = std::min(first + run, columns);
      for (std::size_t at = first; at < end; at += pattern.group) {
        const std::size_t width = std::min(pattern.group, end - at);
        const std::size_t stay = (width * pattern.kept + pattern.group - 1) / pattern.group;
        list.resize(width);
        std::iota(list.begin(), list.end(), static_cast<std::uint32_t>(row + at));
        drop_lowest(list, scores, width - stay, [&](std::uint32_t i) { mask[i] = 0; });
      }
    }
  }
}

void mask_blocks(std::span<const float> scores, std::size_t columns, std::size_t run,
                 const SparsityPattern& pattern, SparsityScope scope, double sparsity,
                 std::vector<std::uint8_t>& mask) {
  struct Block {
    std::size_t row, rows, column, columns;
  };
  const std::size_t rows = mask.size() / columns;
  const auto prune = [&](const std::vector<Block>& blocks, std::size_t weights) {
    std::vector<float> means;
    means.reserve(blocks.size());
    for (const Block& block : blocks) {
      double sum = 0;
      for (std::size_t r = block.row; r < block.row + block.rows; ++r) {
        for (std::size_t c = block.column; c < block.column + block.columns; ++c) {
          const double score = double{scores[r * columns + c]};
          sum += score * score;
        }
      }
      means.push_back(static_cast<float>(sum / static_cast<double>(block.rows * block.columns)));
    }
    std::vector<std::uint32_t> order(blocks.size());
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return means[a] < means[b]; });
    std::size_t left = share_of(weights, sparsity);
    for (const std::uint32_t i : order) {
      const Block& block = blocks[i];
      const std::size_t size = block.rows * block.columns;
      if (size > left) break;
      left -= size;
      for (std::size_t r = block.row; r < block.row + block.rows; ++r) {
        std::fill_n(mask.begin() + static_cast<std::ptrdiff_t>(r * columns + block.column),
                    block.columns, std::uint8_t{0});
      }
    }
  };
  std::vector<Block> blocks;
  for (std::size_t row = 0; row < rows; row += pattern.block_rows) {
    const std::size_t height = std::min(pattern.block_rows, rows - row);
    for (std::size_t first = 0; first < columns; first += run) {
      const std::size_t end = std::min(first + run, columns);
      for (std::size_t at = first; at < end; at += pattern.block_columns) {
        blocks.push_back({row, height, at, std::min(pattern.block_columns, end - at)});
      }
    }
    if (scope == SparsityScope::kRow) {
      prune(blocks, height * columns);
      blocks.clear();
    }
  }
  if (!blocks.empty()) prune(blocks, mask.size());
}

}  // namespace

std::optional<SparsityPattern> parse_pattern(std::string_view text) {
  constexpr std::size_t kLargestGroup = 64, kLargestBlock = 1024;
  SparsityPattern pattern;
  if (text == "unstructured") return pattern;
  constexpr std::string_view kBlock = "block:";
  const bool block = text.starts_with(kBlock);
  if (block) text.remove_prefix(kBlock.size());
  const std::size_t split = text.find(block ? 'x' : ':');
  if (split == std::string_view::npos) return std::nullopt;
  const std::size_t limit = block ? kLargestBlock : kLargestGroup;
  const auto left = number_in(text.substr(0, split), limit);
  const auto right = number_in(text.substr(split + 1), limit);
  if (!left || !right) return std::nullopt;
  if (block) {
    pattern.kind = SparsityPattern::Kind::kBlock;
    pattern.block_rows = *left;
    pattern.block_columns = *right;
    return pattern;
  }
  if (*left >= *right) return std::nullopt;
  pattern.kind = SparsityPattern::Kind::kOfGroup;
  pattern.kept = *left;
  pattern.group = *right;
  return pattern;
}

std::vector<float> weight_scores(std::span<const float> weights, std::size_t columns,
                                 std::span<const double> energies) {
  std::vector<float> scores(weights.size());
  if (energies.empty()) {
    std::ranges::transform(weights, scores.begin(), [](float w) { return std::fabs(w); });
    return scores;
  }
  const double mean = std::accumulate(energies.begin(), energies.end(), 0.0) /
                      static_cast<double>(std::max<std::size_t>(energies.size(), 1));
  std::vector<double> roots(columns);
  for (std::size_t c = 0; c < columns; ++c)
    roots[c] = std::sqrt(std::max(energies[c], 1e-6 * mean));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    scores[i] = static_cast<float>(std::fabs(double{weights[i]}) * roots[i % columns]);
  }
  return scores;
}

std::vector<std::uint8_t> choose_mask(std::span<const float> scores, std::size_t columns,
                                      const SparsityPattern& pattern, SparsityScope scope,
                                      double sparsity) {
  std::vector<std::uint8_t> mask(scores.size(), 1);
  if (columns == 0 || mask.empty()) return mask;
  const std::size_t run = pattern.run == 0 ? columns : pattern.run;
  if (pattern.of_group()) {
    mask_groups(scores, columns, run, pattern, mask);
    return mask;
  }
  if (pattern.kind == SparsityPattern::Kind::kBlock) {
    mask_blocks(scores, columns, run, pattern, scope, sparsity, mask);
    return mask;
  }
  const std::size_t part = scope == SparsityScope::kRow ? columns : mask.size();
  std::vector<std::uint32_t> list(part);
  for (std::size_t first = 0; first < mask.size(); first += part) {
    std::iota(list.begin(), list.end(), static_cast<std::uint32_t>(first));
    drop_lowest(list, scores, share_of(part, sparsity), [&](std::uint32_t i) { mask[i] = 0; });
  }
  return mask;
}

double mask_sparsity(std::span<const std::uint8_t> mask) {
  if (mask.empty()) return 0;
  const auto zeros = std::count(mask.begin(), mask.end(), std::uint8_t{0});
  return static_cast<double>(zeros) / static_cast<double>(mask.size());
}

std::vector<std::size_t> spread_sparsity(const std::vector<std::vector<double>>& errors,
                                         std::span<const std::int64_t> sizes, double step,
                                         double sparsity) {
  constexpr std::size_t kParts = 4096;
  const double all =
      static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
  const std::size_t layers = errors.size();
  if (layers == 0 || !(all > 0)) return std::vector<std::size_t>(layers);
  const auto wanted = static_cast<std::size_t>(
      std::min<double>(std::ceil(sparsity * static_cast<double>(kParts)), kParts));
  constexpr double kNever = std::numeric_limits<double>::infinity();
  // best[taken]: the least error so far with so many parts taken, `wanted` standing for more.
  std::vector<double> best(wanted + 1, kNever);
  best[0] = 0;
  std::vector<std::vector<std::uint16_t>> choice(layers);
  std::vector<std::vector<std::uint16_t>> before(layers);
  for (std::size_t l = 0; l < layers; ++l) {
    std::vector<double> next(wanted + 1, kNever);
    choice[l].assign(wanted + 1, 0);
    before[l].assign(wanted + 1, 0);
    for (std::size_t i = 0; i < errors[l].size(); ++i) {
      // Half a part too much here is half a part too little there: together not below the wish.
      const double exact = static_cast<double>(sizes[l]) * step * static_cast<double>(i) / all *
                           static_cast<double>(kParts);
      const auto parts = static_cast<std::size_t>(std::floor(exact + 0.5));
      for (std::size_t taken = 0; taken <= wanted; ++taken) {
        if (best[taken] == kNever) continue;
        const std::size_t to = std::min(taken + parts, wanted);
        const double error = best[taken] + errors[l][i];
        if (error < next[to]) {
          next[to] = error;
          choice[l][to] = static_cast<std::uint16_t>(i);
          before[l][to] = static_cast<std::uint16_t>(taken);
        }
      }
    }
    best = std::move(next);
  }
  std::size_t at = wanted;
  while (at > 0 && best[at] == kNever) --at;  // more is asked for than there is
  std::vector<std::size_t> chosen(layers);
  for (std::size_t l = layers; l-- > 0;) {
    chosen[l] = choice[l][at];
    at = before[l][at];
  }
  return chosen;
}

}  // namespace mcompress
