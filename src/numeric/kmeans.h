// Exact weighted k-means of one-dimensional points, and codebooks of weights by it.
//
// Clusters of sorted points are runs of neighbours, so that the best partition follows from
//   E[m][i] = min over j of E[m-1][j] + cost(j, i),
// cost(j, i) the weighted squared distance of points j ... i-1 to their mean. cost has the Monge
// property: the best j grows with i, and a row of E takes n log n by divide and conquer (Wang and
// Song, 2011; Groenlund et al., 2017). No start, no iteration, no empty cluster.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "support/executor.h"

namespace mcompress {

// Points with weights > 0, values strictly ascending.
struct WeightedPoints {
  std::vector<double> values, weights;
};

struct KmeansResult {
  // Ascending; as many as asked for, or as there are points (and zero) when these are fewer.
  std::vector<double> centroids;
  double error = 0;  // sum of weight * (value - centroid)^2
};

// The best centroids for every k up to `most`: one run of the recurrence serves them all. With
// `zero`, one of the centroids is exactly 0. Takes most * n words.
class ExactKmeans {
 public:
  ExactKmeans(WeightedPoints points, std::size_t most, bool zero);
  // `k` from 1 to `most`.
  KmeansResult clusters(std::size_t k) const;
  double error(std::size_t k) const;

 private:
  std::size_t effective(std::size_t k) const;
  double cost(std::size_t from, std::size_t to) const;
  void fill_row(std::size_t row, std::span<const double> before, std::span<double> now,
                std::vector<std::uint32_t>& best);

  WeightedPoints points_;
  std::size_t most_;
  bool zero_;
  std::vector<double> weight_, first_, second_;  // sums of w, w x, w x^2 before each point
  std::vector<double> errors_;                   // of all points, for each k
  // The first point of the last cluster, [k][points so far]: without and with the zero cluster
  // among the first k. The top bit marks the zero cluster itself.
  std::vector<std::vector<std::uint32_t>> plain_, with_zero_;
};

// Values in at most `bins` bins of equal width, each with the mean of what is in it: exact where
// there are few values. `importance(i)` is the weight of values[i], finite and >= 0; empty: 1.
// What is lost by taking bins for points is `inside`, sum of weight * (value - bin's mean)^2.
struct BinnedValues {
  WeightedPoints points;
  double inside = 0;
  double signal = 0;  // sum of weight * value^2
};
BinnedValues binned_values(std::span<const float> values, std::span<const float> importance,
                           std::size_t bins, const Executor& executor);

}  // namespace mcompress
