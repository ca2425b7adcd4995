// Which weights of a layer go: scores, patterns and masks. A weight is [rows, columns], one row per
// output; a mask has one byte per weight, 1 where it stays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "support/executor.h"

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

// Relative importance and activations (Zhang et al., "Plug-and-Play: An Efficient Post-training
// Pruning Method for Large Language Models", 2024):
//   (|w_ij| / sum_k |w_ik| + |w_ij| / sum_k |w_kj|) sqrt(E[x_j^2])^(1/2),
// so that no output and no input loses all of its weights because they are small.
std::vector<float> relative_scores(std::span<const float> weights, std::size_t columns,
                                   std::span<const double> energies);

// Takes the lowest scores away: round(sparsity * count) of a row or of the layer, whole blocks as
// far as that allows; of a group all but the highest. Equal scores: the first ones go. Of groups
// that a run cuts short the same share stays, rounded up.
std::vector<std::uint8_t> choose_mask(std::span<const float> scores, std::size_t columns,
                                      const SparsityPattern& pattern, SparsityScope scope,
                                      double sparsity);

// What single scores do not see is how inputs go together: behind a ReLU all are positive, so that
// what goes adds up to a mean, and neighbours are alike.
struct ExchangeInputs {
  std::span<const double> gram;  // H, the mean of x x^T, [columns, columns]
  // For each row and column the mean of (what the row's output is off before anything goes) x_j;
  // empty: nothing is off.
  std::span<const double> pull;
  double independence = 0;  // share of H off its diagonal that is not believed, 0 to 1
};
// Exchanges weights that stay for others that went, in one row and with N:M in one group, as long
// as that lowers what the row's output loses,
//   J = u H u^T + 2 pull u^T   for the row u of what went (w there, else 0),
// the exchange of two that helps most first. As many stay in each row as did; blocks stay as they
// are. `gram` has a diagonal >= 0.
void exchange_kept(std::span<const float> weights, std::size_t columns,
                   const ExchangeInputs& inputs, const SparsityPattern& pattern,
                   const Executor& executor, std::span<std::uint8_t> mask);

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
