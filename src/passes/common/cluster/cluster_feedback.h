// Codes of clustered weights chosen one column after another, the columns to come making up for the
// error of each: GPTQ (numeric/gptq.h) with a codebook for its grid, and with what a code costs
// after entropy coding.
#pragma once

#include <span>

#include "numeric/gptq.h"
#include "passes/common/cluster/cluster_fit.h"

namespace mcompress {

// The factor of second moments (columns x columns) that `rows` rows of inputs gave. What few rows
// say of how columns depend on each other is mostly noise: columns / (3 rows) of the mean energy is
// added to each column's, 1 % at least. Empty as factor_gram().
// Of vectors along columns these keep their order, else those with most energy come first.
std::optional<GramFactor> factor_of_codes(std::span<const double> moments, std::size_t columns,
                                          std::int64_t rows, bool in_order = false);

// How vectors of neighbouring elements lie in the rows of a weight.
enum class VectorLayout : std::uint8_t {
  kColumns,  // along a row
  kRows,     // one column of several rows
  kNeither,
};
VectorLayout vector_layout(const RowView& view, std::size_t dimension);

// Entries at even distances `step` about 0, at most `most` of them (odd, the middle one is 0), and
// the nearest one for each weight. With entropy coding such a codebook has the least error for its
// bits.
ClusterCodes even_clusters(const ClusterInput& input, double step, std::size_t most,
                           const Executor& executor);

// Takes codes anew, entries as they are: in the order of the factor, with
// e = (w_j - c_j) / U_jj and w_k -= e U_jk for k > j, the code with the least
//   (w_j - c)^2 / U_jj^2 + rate D bits(c)
// D the mean of the first term at a rate of 0, bits(c) by how often a code was taken before, three
// times. Weights of exactly 0 stay. Entries that nothing takes go. A vector's columns make up for
// each other while it is chosen, its rows are chosen together; its layout is not kNeither. `codes`
// has its `noise` anew. `factor` has the columns of `view`.
void adapt_codes(const ClusterInput& input, const RowView& view, const GramFactor& factor,
                 double rate, ClusterCodes& codes, const Executor& executor);

}  // namespace mcompress
