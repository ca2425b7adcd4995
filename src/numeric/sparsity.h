// Which weights of a layer go: scores, patterns and masks. A weight is [rows, columns], one row per
// output; a mask has one byte per weight, 1 where it stays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace mcompress {

struct SparsityPattern {
  enum class Kind : std::uint8_t {
    kUnstructured,
    kOfGroup,  // of each `group` neighbouring columns at most `kept` stay: N:M, as 2:4
    kBlock,    // rectangles of block_rows x block_columns go or stay whole
  };
  Kind kind = Kind::kUnstructured;
  std::size_t kept = 0, group = 0;
  std::size_t block_rows = 1, block_columns = 1;
  // Columns that lie side by side along the input axis: groups and blocks do not reach over the
  // end of such a run. 0: all columns. Of a convolution, the input channels at one tap.
  std::size_t run = 0;

  bool of_group() const { return kind == Kind::kOfGroup; }
};

// "unstructured", "N:M" with 0 < N < M <= 64, "block:RxC" with R, C from 1 to 1024. Empty: none of
// them.
std::optional<SparsityPattern> parse_pattern(std::string_view text);

enum class SparsityScope : std::uint8_t {
  kRow,    // each row loses the same share
  kLayer,  // one ranking of all weights of the layer
};

// What each weight counts: |w|, or with the energy E[x^2] of the inputs (one per column) the score
// of Wanda, |w| sqrt(E[x^2]) (Sun et al., "A Simple and Effective Pruning Approach for Large
// Language Models", 2023). Columns where nothing was seen count a millionth of the mean energy.
std::vector<float> weight_scores(std::span<const float> weights, std::size_t columns,
                                 std::span<const double> energies);

// Takes the lowest scores away: round(sparsity * count) of a row or of the layer, whole blocks as
// far as that allows; of a group all but the highest. Equal scores: the first ones go. Of groups
// that a run cuts short the same share stays, rounded up.
std::vector<std::uint8_t> choose_mask(std::span<const float> scores, std::size_t columns,
                                      const SparsityPattern& pattern, SparsityScope scope,
                                      double sparsity);

// Share of zeros.
double mask_sparsity(std::span<const std::uint8_t> mask);

// How much each layer loses under a budget. errors[layer][i] is what sparsity i * step costs, not
// falling in i; sizes are weights. The choice with the least sum of errors among those that take
// at least `sparsity` of all weights away, by dynamic programming over the weights taken, counted
// in 4096ths of all.
std::vector<std::size_t> spread_sparsity(const std::vector<std::vector<double>>& errors,
                                         std::span<const std::int64_t> sizes, double step,
                                         double sparsity);

}  // namespace mcompress
