#include "passes/common/cluster/cluster_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "numeric/entropy_code.h"
#include "numeric/fixed_math.h"
#include "numeric/vector_kmeans.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kGrain = std::size_t{1} << 18;

// More entries need finer bins: an entry should be many of them wide.
std::size_t bins_for(std::size_t clusters) { return clusters > 32 ? 8192 : 2048; }

double importance_of(const ClusterInput& input, std::size_t i) {
  return input.importance.empty() ? 1 : double{input.importance[i]};
}

// Costs of taking an entry, beside its distance: nothing, or bits.
class Assigner {
 public:
  Assigner(const ClusterInput& input, const std::vector<float>& codebook)
      : input_(input), codebook_(codebook) {
    for (std::size_t c = 0; c + 1 < codebook.size(); ++c) {
      middles_.push_back((double{codebook[c]} + double{codebook[c + 1]}) / 2);
    }
    const auto zero = std::ranges::find(codebook, 0.0F);
    if (zero != codebook.end()) zero_ = static_cast<std::size_t>(zero - codebook.begin());
  }

  void nearest(std::vector<std::uint8_t>& codes, const Executor& executor) const {
    executor.parallel_for(codes.size(), kGrain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        codes[i] = static_cast<std::uint8_t>(closest(i));
      }
    });
  }

  void cheapest(std::vector<std::uint8_t>& codes, std::span<const double> penalty,
                const Executor& executor) const {
    constexpr std::size_t kReach = 3;  // entries on each side that are looked at
    executor.parallel_for(codes.size(), kGrain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        const std::size_t near = closest(i);
        const double x = double{input_.values[i]}, h = importance_of(input_, i);
        std::size_t best = near;
        double least = std::numeric_limits<double>::infinity();
        const auto look = [&](std::size_t c) {
          const double off = x - double{codebook_[c]};
          const double cost = h * off * off + penalty[c];
          if (cost < least) least = cost, best = c;
        };
        // What is 0 stays so.
        if (x == 0 && zero_ < codebook_.size()) {
          codes[i] = static_cast<std::uint8_t>(zero_);
          continue;
        }
        const std::size_t last = std::min(codebook_.size(), near + kReach + 1);
        for (std::size_t c = near > kReach ? near - kReach : 0; c < last; ++c) look(c);
        if (zero_ < codebook_.size()) look(zero_);
        codes[i] = static_cast<std::uint8_t>(best);
      }
    });
  }

 private:
  std::size_t closest(std::size_t i) const {
    return static_cast<std::size_t>(std::ranges::upper_bound(middles_, double{input_.values[i]}) -
                                    middles_.begin());
  }

  const ClusterInput& input_;
  const std::vector<float>& codebook_;
  std::vector<double> middles_;
  std::size_t zero_ = ~std::size_t{0};
};

struct Sums {
  std::vector<double> weight, first;
  std::vector<std::uint64_t> count;
  double noise = 0, plain_noise = 0, signal = 0;
};

Sums sums_of(const ClusterInput& input, const ClusterCodes& codes, const Executor& executor) {
  const std::size_t k = codes.codebook.size();
  const auto empty = [k] {
    Sums sums;
    sums.weight.resize(k), sums.first.resize(k), sums.count.resize(k);
    return sums;
  };
  return executor.ordered_reduce(
      codes.codes.size(), kGrain, empty(),
      [&](std::size_t begin, std::size_t end) {
        Sums part = empty();
        for (std::size_t i = begin; i < end; ++i) {
          const std::size_t c = codes.codes[i];
          const double x = double{input.values[i]}, h = importance_of(input, i);
          const double off = x - double{codes.codebook[c]};
          part.weight[c] += h, part.first[c] += h * x, ++part.count[c];
          part.noise += h * off * off, part.plain_noise += off * off, part.signal += x * x;
        }
        return part;
      },
      [k](Sums a, const Sums& b) {
        for (std::size_t c = 0; c < k; ++c) {
          a.weight[c] += b.weight[c], a.first[c] += b.first[c], a.count[c] += b.count[c];
        }
        a.noise += b.noise, a.plain_noise += b.plain_noise, a.signal += b.signal;
        return a;
      });
}

void take_means(const Sums& sums, std::vector<float>& codebook) {
  for (std::size_t c = 0; c < codebook.size(); ++c) {
    if (codebook[c] != 0 && sums.weight[c] > 0) {
      codebook[c] = static_cast<float>(sums.first[c] / sums.weight[c]);
    }
  }
}

// Values and importance of each group.
std::vector<ClusterInput> parts_of(const ClusterInput& input, const ChannelGroups& groups) {
  std::vector<ClusterInput> parts(groups.count);
  for (ClusterInput& part : parts) part.zero = input.zero;
  for (std::size_t i = 0; i < input.values.size(); ++i) {
    ClusterInput& part = parts[groups.of(i)];
    part.values.push_back(input.values[i]);
    if (!input.importance.empty()) part.importance.push_back(input.importance[i]);
  }
  return parts;
}

ClusterCodes nearest_clusters(const ClusterInput& input, std::size_t clusters,
                              const Executor& executor) {
  BinnedValues histogram =
      binned_values(input.values, input.importance, bins_for(clusters), executor);
  // What nothing looks at still has to be near something.
  if (histogram.points.values.empty()) {
    histogram = binned_values(input.values, {}, bins_for(clusters), executor);
  }
  const ExactKmeans kmeans(std::move(histogram.points), clusters, input.zero);
  ClusterCodes codes;
  for (const double c : kmeans.clusters(clusters).centroids) {
    const auto entry = static_cast<float>(c);
    if (codes.codebook.empty() || entry > codes.codebook.back()) codes.codebook.push_back(entry);
  }
  codes.codes.resize(input.values.size());
  Assigner(input, codes.codebook).nearest(codes.codes, executor);
  return codes;
}

void trade_for_bits(const ClusterInput& input, double per_bit, ClusterCodes& codes,
                    const Executor& executor) {
  constexpr int kPasses = 3;
  for (int pass = 0; pass < kPasses; ++pass) {
    const std::vector<double> penalty = bit_penalties(codes, per_bit);
    Assigner(input, codes.codebook).cheapest(codes.codes, penalty, executor);
    drop_unused(codes);
    take_means(sums_of(input, codes, executor), codes.codebook);
  }
}

void finish(const ClusterInput& input, ClusterCodes& codes, const Executor& executor) {
  const Sums sums = sums_of(input, codes, executor);
  drop_unused(codes);
  codes.signal = sums.signal, codes.noise = sums.plain_noise;
}

}  // namespace

void drop_unused(ClusterCodes& codes) {
  const std::vector<std::uint64_t> counts = codes.counts();
  std::vector<std::uint8_t> place(counts.size());
  std::size_t kept = 0;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    place[c] = static_cast<std::uint8_t>(kept);
    if (counts[c] > 0) codes.codebook[kept++] = codes.codebook[c];
  }
  if (kept == counts.size()) return;
  codes.codebook.resize(kept);
  for (std::uint8_t& code : codes.codes) code = place[code];
}

std::vector<double> bit_penalties(const ClusterCodes& codes, double per_bit) {
  const auto total = static_cast<double>(codes.codes.size());
  std::vector<double> penalties;
  for (const std::uint64_t count : codes.counts()) {
    penalties.push_back(per_bit * fixed_log2(total / std::max(0.5, static_cast<double>(count))));
  }
  return penalties;
}

void measure_codes(const ClusterInput& input, ClusterCodes& codes) {
  codes.signal = 0, codes.noise = 0;
  for (std::size_t i = 0; i < input.values.size(); ++i) {
    const double x = double{input.values[i]}, off = x - double{codes.value(i)};
    codes.signal += x * x, codes.noise += off * off;
  }
}

Result<ClusterInput> cluster_input(const ClusterUnit& unit, std::span<const float> energy,
                                   bool keep_zero) {
  ClusterInput input;
  MCOMPRESS_ASSIGN(input.values, read_floats(unit.tensor()));
  std::size_t zeros = 0;
  for (const float x : input.values) zeros += x == 0 ? 1 : 0;
  constexpr std::size_t kSparse = 20;
  input.zero = keep_zero || zeros * kSparse >= input.values.size();
  const RowView& view = unit.place.holders.front().view;
  if (energy.size() == view.columns()) {
    input.importance.resize(input.values.size());
    const std::size_t part = view.rows * view.inner;
    for (std::size_t i = 0; i < input.values.size(); ++i) {
      input.importance[i] = energy[i / part * view.inner + i % view.inner];
    }
  }
  return input;
}

std::vector<double> cluster_errors(const ClusterInput& input, std::span<const std::size_t> counts,
                                   const Executor& executor, const ChannelGroups& groups) {
  const std::size_t most = *std::ranges::max_element(counts);
  std::vector<double> errors(counts.size());
  double signal = 0;
  const std::vector<ClusterInput> parts =
      groups.count == 1 ? std::vector<ClusterInput>{} : parts_of(input, groups);
  for (std::size_t g = 0; g < groups.count; ++g) {
    const ClusterInput& of_group = parts.empty() ? input : parts[g];
    BinnedValues histogram =
        binned_values(of_group.values, of_group.importance, bins_for(most), executor);
    const ExactKmeans kmeans(std::move(histogram.points), most, of_group.zero);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      errors[i] += kmeans.error(counts[i]) + histogram.inside;
    }
    signal += histogram.signal;
  }
  for (double& error : errors) error = signal > 0 ? error / signal : 0;
  return errors;
}

ClusterCodes fit_clusters(const ClusterInput& input, std::size_t clusters, double rate,
                          const Executor& executor, const ChannelGroups& groups) {
  if (groups.count == 1) {
    ClusterCodes codes = nearest_clusters(input, clusters, executor);
    if (rate > 0) {
      const double noise = sums_of(input, codes, executor).noise;
      trade_for_bits(input, rate * noise / static_cast<double>(input.values.size()), codes,
                     executor);
    }
    finish(input, codes, executor);
    return codes;
  }
  const std::vector<ClusterInput> inputs = parts_of(input, groups);
  std::vector<ClusterCodes> parts;
  double noise = 0;
  for (std::size_t g = 0; g < groups.count; ++g) {
    parts.push_back(nearest_clusters(inputs[g], clusters, executor));
    if (rate > 0) noise += sums_of(inputs[g], parts[g], executor).noise;
  }
  ClusterCodes codes;
  codes.groups = groups;
  std::size_t entries = 0;
  for (std::size_t g = 0; g < groups.count; ++g) {
    if (rate > 0) {
      trade_for_bits(inputs[g], rate * noise / static_cast<double>(input.values.size()), parts[g],
                     executor);
    }
    finish(inputs[g], parts[g], executor);
    codes.signal += parts[g].signal, codes.noise += parts[g].noise;
    entries = std::max(entries, parts[g].codebook.size());
  }
  for (const ClusterCodes& part : parts) {
    codes.codebook.insert(codes.codebook.end(), part.codebook.begin(), part.codebook.end());
    codes.codebook.resize(codes.codebook.size() + entries - part.codebook.size());
  }
  codes.codes.resize(input.values.size());
  std::vector<std::size_t> next(groups.count);
  for (std::size_t i = 0; i < codes.codes.size(); ++i) {
    const std::size_t g = groups.of(i);
    codes.codes[i] = parts[g].codes[next[g]++];
  }
  return codes;
}

ClusterCodes fit_vector_clusters(const ClusterInput& input, std::size_t clusters,
                                 std::size_t dimension, double rate, std::uint64_t seed,
                                 const Executor& executor) {
  const VectorSet vectors{input.values, input.importance, dimension};
  ClusterCodes codes;
  codes.dimension = dimension;
  codes.codebook = vector_codebook(vectors, clusters, seed, executor);
  nearest_entries(vectors, codes.codebook, {}, codes.codes, executor);
  double noise = take_vector_means(vectors, codes.codes, codes.codebook, executor);
  constexpr int kPasses = 3;
  const double per_bit = rate * noise / static_cast<double>(vectors.count());
  for (int pass = 0; rate > 0 && pass < kPasses; ++pass) {
    std::vector<double> penalty;
    for (const std::uint64_t count : codes.counts()) {
      const double seen = std::max(0.5, static_cast<double>(count));
      penalty.push_back(per_bit * fixed_log2(static_cast<double>(vectors.count()) / seen));
    }
    nearest_entries(vectors, codes.codebook, penalty, codes.codes, executor);
    noise = take_vector_means(vectors, codes.codes, codes.codebook, executor);
  }
  for (std::size_t i = 0; i < input.values.size(); ++i) {
    const double x = double{input.values[i]};
    const double off =
        x - double{codes.codebook[codes.codes[i / dimension] * dimension + i % dimension]};
    codes.signal += x * x, codes.noise += off * off;
  }
  return codes;
}

}  // namespace mcompress
