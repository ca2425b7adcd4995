// Codebooks of vectors of 2 to 4 numbers: k-means++ and Lloyd's iterations, from a seed.
//
// The same entries on every run with any number of threads: sums are made in a fixed order, among
// equal distances the first entry counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "support/executor.h"

namespace mcompress {

struct VectorSet {
  std::span<const float> values;   // [count, dimension]
  std::span<const float> weights;  // of each number, or empty: all alike
  std::size_t dimension = 2;
  std::size_t count() const { return values.size() / dimension; }
};

// At most `entries` (256 at most) entries [entries, dimension] with little weighted squared error,
// found on at most 2^16 vectors that are spread evenly. Equal vectors may leave fewer.
std::vector<float> vector_codebook(const VectorSet& vectors, std::size_t entries,
                                   std::uint64_t seed, const Executor& executor);

// The entry with the least weighted squared distance plus `penalty` (of each entry, or empty) for
// each vector.
void nearest_entries(const VectorSet& vectors, std::span<const float> codebook,
                     std::span<const double> penalty, std::vector<std::uint8_t>& codes,
                     const Executor& executor);

// Entries as the weighted means of the vectors that take them; those that nothing takes stay.
// Returns the weighted squared error that was there before.
double take_vector_means(const VectorSet& vectors, std::span<const std::uint8_t> codes,
                         std::vector<float>& codebook, const Executor& executor);

}  // namespace mcompress
