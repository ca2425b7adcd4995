// Codebooks of weights: which entries, and which one each weight takes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mcompress/pass.h"
#include "numeric/kmeans.h"
#include "passes/common/cluster/cluster_plan.h"

namespace mcompress {

// A weight in memory with what its elements count.
struct ClusterInput {
  std::vector<float> values;      // by element
  std::vector<float> importance;  // mean of x^2 of what each element multiplies; empty: all alike
  bool zero = false;              // one entry has to be exactly 0
};
// `energy`: mean x^2 by column of the unit, or empty. Zero is kept exact where it is asked for, or
// where one weight in twenty is 0. Fails as reading does.
Result<ClusterInput> cluster_input(const ClusterUnit& unit, std::span<const float> energy,
                                   bool keep_zero);

// Entries that nothing takes go; those left keep their order. Of one group.
void drop_unused(ClusterCodes& codes);
// per_bit times the bits of each code, by how often it is taken: what rate-distortion adds to the
// cost of an error.
std::vector<double> bit_penalties(const ClusterCodes& codes, double per_bit);
// Sets `signal` and `noise`.
void measure_codes(const ClusterInput& input, ClusterCodes& codes);

// Clusters of `dimension` elements that follow each other, by k-means from a seed; of them as many
// as divide the weight. `rate` as below.
ClusterCodes fit_vector_clusters(const ClusterInput& input, std::size_t clusters,
                                 std::size_t dimension, double rate, std::uint64_t seed,
                                 const Executor& executor);

// (Weighted) noise over signal of the weight for each number of clusters in `counts`.
std::vector<double> cluster_errors(const ClusterInput& input, std::span<const std::size_t> counts,
                                   const Executor& executor, const ChannelGroups& groups = {});

// The best codebook of so many entries for each group. `rate` > 0: weights take the entry c with
// the least h (w - c)^2 + rate D bits(c), D the mean of the first term without it, bits(c) the
// length of a code for how often c is taken, found anew three times: fewer bits after entropy
// coding for more error. D is that of all groups.
ClusterCodes fit_clusters(const ClusterInput& input, std::size_t clusters, double rate,
                          const Executor& executor, const ChannelGroups& groups = {});

// Entries c that minimise sum over rows w of (w' - w) H (w' - w)^T with assignments as they are, H
// (columns x columns) the second moments of the inputs: with M_c the 0/1 rows of entry c, normal
// equations A c = b, A_ij = sum of M_i H M_j^T, b_i = sum of M_i H w^T. Entries equal to 0 stay.
// Each group has equations of its own, from its rows; numbers of vectors are unknowns each. False,
// nothing changed: the equations have no stable solution, or it is no better.
bool refit_codebook(const ClusterInput& input, const RowView& view, std::span<const double> moments,
                    ClusterCodes& codes, const Executor& executor);

}  // namespace mcompress
