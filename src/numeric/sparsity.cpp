#include "numeric/sparsity.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

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

// One row of exchange_kept(). slope = u H + pull, so that taking w_k away as well costs
// 2 w_k slope_k + w_k^2 H_kk, and bringing w_j back -2 w_j slope_j + w_j^2 H_jj.
class RowExchange {
 public:
  RowExchange(std::span<const float> weights, const ExchangeInputs& inputs,
              std::span<const double> pull, std::span<std::uint8_t> mask)
      : weights_(weights),
        gram_(inputs.gram),
        believed_(1 - inputs.independence),
        mask_(mask),
        slope_(pull.begin(), pull.end()) {
    slope_.resize(mask.size());
    for (std::size_t c = 0; c < mask_.size(); ++c) {
      if (mask_[c] == 0) add(c, double{weights_[c]});
    }
  }

  // Until nothing helps, at most one exchange for each two columns. Groups: [begin, end).
  void run(std::span<const std::pair<std::size_t, std::size_t>> groups) {
    double gained = 0;
    for (std::size_t turn = 0; turn < mask_.size() / 2; ++turn) {
      Exchange best;
      if (groups.size() == 1) {
        // Of those that went the cheapest ones to bring back: all pairs would be too many.
        for (const std::size_t in : returning()) try_with(in, 0, mask_.size(), best);
      } else {
        for (const auto& [begin, end] : groups) {
          for (std::size_t j = begin; j < end; ++j) {
            if (mask_[j] == 0 && weights_[j] != 0) try_with(j, begin, end, best);
          }
        }
      }
      // What is next to nothing beside all before ends the search, too.
      if (!(best.change < -kLeast * gained)) return;
      gained -= best.change;
      mask_[best.back] = 1;
      mask_[best.out] = 0;
      add(best.back, -double{weights_[best.back]});
      add(best.out, double{weights_[best.out]});
    }
  }

 private:
  static constexpr double kLeast = 1e-4;
  struct Exchange {
    double change = 0;
    std::size_t back = 0, out = 0;
  };

  double h(std::size_t i, std::size_t j) const {
    const double both = gram_[i * mask_.size() + j];
    return i == j ? both : believed_ * both;
  }
  void add(std::size_t c, double w) {
    const double* const row = gram_.data() + c * mask_.size();
    for (std::size_t k = 0; k < slope_.size(); ++k) slope_[k] += w * believed_ * row[k];
    slope_[c] += w * (1 - believed_) * row[c];
  }
  double back_cost(std::size_t j) const {
    const double w = double{weights_[j]};
    return w * (w * h(j, j) - 2 * slope_[j]);
  }

  std::vector<std::size_t> returning() const {
    constexpr std::size_t kTried = 16;
    std::vector<std::pair<double, std::size_t>> costs;
    for (std::size_t j = 0; j < mask_.size(); ++j) {
      if (mask_[j] == 0 && weights_[j] != 0) costs.emplace_back(back_cost(j), j);
    }
    const auto end = costs.begin() + static_cast<std::ptrdiff_t>(std::min(kTried, costs.size()));
    std::partial_sort(costs.begin(), end, costs.end());
    std::vector<std::size_t> found;
    for (auto at = costs.begin(); at != end; ++at) found.push_back(at->second);
    return found;
  }

  void try_with(std::size_t in, std::size_t begin, std::size_t end, Exchange& best) const {
    const double back = back_cost(in), w = double{weights_[in]};
    for (std::size_t k = begin; k < end; ++k) {
      if (mask_[k] == 0) continue;
      const double v = double{weights_[k]};
      const double change = back + v * (v * h(k, k) + 2 * (slope_[k] - w * h(in, k)));
      if (change < best.change) best = {change, in, k};
    }
  }

  std::span<const float> weights_;
  std::span<const double> gram_;
  double believed_;
  std::span<std::uint8_t> mask_;
  std::vector<double> slope_;
};

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

std::vector<float> relative_scores(std::span<const float> weights, std::size_t columns,
                                   std::span<const double> energies) {
  std::vector<float> scores(weights.size());
  const std::size_t rows = columns == 0 ? 0 : weights.size() / columns;
  std::vector<double> of_row(rows), of_column(columns);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double size = std::fabs(double{weights[i]});
    of_row[i / columns] += size;
    of_column[i % columns] += size;
  }
  const double mean = std::accumulate(energies.begin(), energies.end(), 0.0) /
                      static_cast<double>(std::max<std::size_t>(energies.size(), 1));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double size = std::fabs(double{weights[i]});
    if (size == 0) continue;
    const double energy = energies.empty() ? 1 : std::max(energies[i % columns], 1e-6 * mean);
    scores[i] = static_cast<float>((size / of_row[i / columns] + size / of_column[i % columns]) *
                                   std::sqrt(std::sqrt(energy)));
  }
  return scores;
}

void exchange_kept(std::span<const float> weights, std::size_t columns,
                   const ExchangeInputs& inputs, const SparsityPattern& pattern,
                   const Executor& executor, std::span<std::uint8_t> mask) {
  if (columns == 0 || pattern.kind == SparsityPattern::Kind::kBlock) return;
  std::vector<std::pair<std::size_t, std::size_t>> groups;
  if (pattern.of_group()) {
    const std::size_t run = pattern.run == 0 ? columns : pattern.run;
    for (std::size_t first = 0; first < columns; first += run) {
      const std::size_t end = std::min(first + run, columns);
      for (std::size_t at = first; at < end; at += pattern.group) {
        groups.emplace_back(at, std::min(at + pattern.group, end));
      }
    }
  } else {
    groups.emplace_back(0, columns);
  }
  executor.parallel_for(weights.size() / columns, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      const auto pull =
          inputs.pull.empty() ? inputs.pull : inputs.pull.subspan(r * columns, columns);
      RowExchange(weights.subspan(r * columns, columns), inputs, pull,
                  mask.subspan(r * columns, columns))
          .run(groups);
    }
  });
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
