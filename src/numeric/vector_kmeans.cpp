#include "numeric/vector_kmeans.h"

#include <algorithm>
#include <limits>
#include <random>

namespace mcompress {
namespace {

constexpr std::size_t kVectorGrain = std::size_t{1} << 14;
constexpr std::size_t kTraining = std::size_t{1} << 16;

float weight_at(const VectorSet& vectors, std::size_t i) {
  return vectors.weights.empty() ? 1.0F : vectors.weights[i];
}

float distance(const VectorSet& vectors, std::size_t v, const float* entry) {
  float sum = 0;
  for (std::size_t j = 0; j < vectors.dimension; ++j) {
    const std::size_t i = v * vectors.dimension + j;
    const float off = vectors.values[i] - entry[j];
    sum += weight_at(vectors, i) * off * off;
  }
  return sum;
}

// k-means++ (Arthur and Vassilvitskii, 2007): each entry a vector, drawn by its distance to those
// that are there.
std::vector<float> first_entries(const VectorSet& vectors, std::size_t entries,
                                 std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  const std::size_t n = vectors.count(), d = vectors.dimension;
  std::vector<float> codebook;
  std::vector<float> least(n, std::numeric_limits<float>::infinity());
  std::size_t next = static_cast<std::size_t>(uniform() * static_cast<double>(n));
  while (codebook.size() < entries * d) {
    const float* const from = vectors.values.data() + next * d;
    codebook.insert(codebook.end(), from, from + d);
    double total = 0;
    for (std::size_t v = 0; v < n; ++v) {
      least[v] = std::min(least[v], distance(vectors, v, codebook.data() + codebook.size() - d));
      total += double{least[v]};
    }
    if (!(total > 0)) break;
    double target = uniform() * total;
    std::size_t last = next;
    for (next = 0; next < n; ++next) {
      if (!(least[next] > 0)) continue;
      last = next;
      target -= double{least[next]};
      if (target < 0) break;
    }
    if (next == n) next = last;
  }
  return codebook;
}

}  // namespace

void nearest_entries(const VectorSet& vectors, std::span<const float> codebook,
                     std::span<const double> penalty, std::vector<std::uint8_t>& codes,
                     const Executor& executor) {
  const std::size_t d = vectors.dimension, k = codebook.size() / d;
  codes.resize(vectors.count());
  executor.parallel_for(codes.size(), kVectorGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t v = begin; v < end; ++v) {
      float least = std::numeric_limits<float>::infinity();
      std::size_t best = 0;
      for (std::size_t c = 0; c < k; ++c) {
        float cost = distance(vectors, v, codebook.data() + c * d);
        if (!penalty.empty()) cost += static_cast<float>(penalty[c]);
        if (cost < least) least = cost, best = c;
      }
      codes[v] = static_cast<std::uint8_t>(best);
    }
  });
}

double take_vector_means(const VectorSet& vectors, std::span<const std::uint8_t> codes,
                         std::vector<float>& codebook, const Executor& executor) {
  const std::size_t d = vectors.dimension;
  struct Sums {
    std::vector<double> weight, first;
    double noise = 0;
  };
  const Sums zero{std::vector<double>(codebook.size()), std::vector<double>(codebook.size()), 0};
  const Sums sums = executor.ordered_reduce(
      codes.size(), kVectorGrain, zero,
      [&](std::size_t begin, std::size_t end) {
        Sums part = zero;
        for (std::size_t v = begin; v < end; ++v) {
          for (std::size_t j = 0; j < d; ++j) {
            const std::size_t i = v * d + j, at = codes[v] * d + j;
            const double w = double{weight_at(vectors, i)}, x = double{vectors.values[i]};
            const double off = x - double{codebook[at]};
            part.weight[at] += w, part.first[at] += w * x, part.noise += w * off * off;
          }
        }
        return part;
      },
      [](Sums a, const Sums& b) {
        for (std::size_t i = 0; i < a.weight.size(); ++i) {
          a.weight[i] += b.weight[i], a.first[i] += b.first[i];
        }
        a.noise += b.noise;
        return a;
      });
  for (std::size_t i = 0; i < codebook.size(); ++i) {
    if (sums.weight[i] > 0) codebook[i] = static_cast<float>(sums.first[i] / sums.weight[i]);
  }
  return sums.noise;
}

std::vector<float> vector_codebook(const VectorSet& vectors, std::size_t entries,
                                   std::uint64_t seed, const Executor& executor) {
  const std::size_t d = vectors.dimension;
  const std::size_t step = (vectors.count() + kTraining - 1) / kTraining;
  std::vector<float> values, weights;
  for (std::size_t v = 0; v < vectors.count(); v += step) {
    for (std::size_t i = v * d; i < (v + 1) * d; ++i) {
      values.push_back(vectors.values[i]);
      if (!vectors.weights.empty()) weights.push_back(vectors.weights[i]);
    }
  }
  const VectorSet training{values, weights, d};
  std::vector<float> codebook = first_entries(training, entries, seed);
  std::vector<std::uint8_t> codes;
  double before = std::numeric_limits<double>::infinity();
  constexpr int kMostIterations = 40;
  constexpr double kGain = 0.999;  // of the error; less is not worth another iteration
  for (int iteration = 0; iteration < kMostIterations; ++iteration) {
    nearest_entries(training, codebook, {}, codes, executor);
    const double noise = take_vector_means(training, codes, codebook, executor);
    if (!(noise < before * kGain)) break;
    before = noise;
  }
  return codebook;
}

}  // namespace mcompress
