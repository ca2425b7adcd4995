#include "passes/common/cluster_fit.h"

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

// Entries that nothing takes go; those left keep their order.
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

// Solves a symmetric positive definite system in place; false where it is none.
bool solve(std::vector<double>& a, std::vector<double>& b, std::size_t n) {
  for (std::size_t j = 0; j < n; ++j) {
    double pivot = a[j * n + j];
    for (std::size_t m = 0; m < j; ++m) pivot -= a[j * n + m] * a[j * n + m];
    if (!(pivot > 0)) return false;
    a[j * n + j] = std::sqrt(pivot);
    for (std::size_t i = j + 1; i < n; ++i) {
      double sum = a[i * n + j];
      for (std::size_t m = 0; m < j; ++m) sum -= a[i * n + m] * a[j * n + m];
      a[i * n + j] = sum / a[j * n + j];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t m = 0; m < i; ++m) b[i] -= a[i * n + m] * b[m];
    b[i] /= a[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t m = i + 1; m < n; ++m) b[i] -= a[m * n + i] * b[m];
    b[i] /= a[i * n + i];
  }
  return true;
}

}  // namespace

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
                                   const Executor& executor) {
  const std::size_t most = *std::ranges::max_element(counts);
  ValueHistogram histogram =
      value_histogram(input.values, input.importance, bins_for(most), executor);
  const ExactKmeans kmeans(std::move(histogram.points), most, input.zero);
  std::vector<double> errors;
  for (const std::size_t k : counts) {
    const double noise = kmeans.error(k) + histogram.inside;
    errors.push_back(histogram.signal > 0 ? noise / histogram.signal : 0);
  }
  return errors;
}

ClusterCodes fit_clusters(const ClusterInput& input, std::size_t clusters, double rate,
                          const Executor& executor) {
  ValueHistogram histogram =
      value_histogram(input.values, input.importance, bins_for(clusters), executor);
  // What nothing looks at still has to be near something.
  if (histogram.points.values.empty()) {
    histogram = value_histogram(input.values, {}, bins_for(clusters), executor);
  }
  const ExactKmeans kmeans(std::move(histogram.points), clusters, input.zero);
  ClusterCodes codes;
  for (const double c : kmeans.clusters(clusters).centroids) {
    const auto entry = static_cast<float>(c);
    if (codes.codebook.empty() || entry > codes.codebook.back()) codes.codebook.push_back(entry);
  }
  codes.codes.resize(input.values.size());
  Assigner(input, codes.codebook).nearest(codes.codes, executor);
  Sums sums = sums_of(input, codes, executor);
  constexpr int kPasses = 3;
  const double per_bit = rate * sums.noise / static_cast<double>(input.values.size());
  for (int pass = 0; rate > 0 && pass < kPasses; ++pass) {
    const auto total = static_cast<double>(input.values.size());
    std::vector<double> penalty(codes.codebook.size());
    for (std::size_t c = 0; c < penalty.size(); ++c) {
      const double seen = std::max(0.5, static_cast<double>(sums.count[c]));
      penalty[c] = per_bit * fixed_log2(total / seen);
    }
    Assigner(input, codes.codebook).cheapest(codes.codes, penalty, executor);
    drop_unused(codes);
    sums = sums_of(input, codes, executor);
    take_means(sums, codes.codebook);
    sums = sums_of(input, codes, executor);
  }
  drop_unused(codes);
  codes.signal = sums.signal, codes.noise = sums.plain_noise;
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

bool refit_codebook(const ClusterInput& input, const RowView& view, std::span<const double> moments,
                    ClusterCodes& codes, const Executor& executor) {
  const std::size_t columns = view.columns(), k = codes.codebook.size();
  if (moments.size() != columns * columns) return false;
  // All rows add to the same k equations: some of them tell as much.
  constexpr double kWork = 4e9;
  const double row_work = static_cast<double>(columns) * static_cast<double>(columns + k);
  const auto most = static_cast<std::size_t>(std::max(1.0, kWork / row_work));
  const std::size_t step = (view.rows + most - 1) / most;
  struct Equations {
    std::vector<double> a, b;
  };
  const std::size_t used = (view.rows + step - 1) / step;
  const Equations sums = executor.ordered_reduce(
      used, 4, Equations{std::vector<double>(k * k), std::vector<double>(k)},
      [&](std::size_t begin, std::size_t end) {
        Equations part{std::vector<double>(k * k), std::vector<double>(k)};
        std::vector<double> sum(k);
        for (std::size_t n = begin; n < end; ++n) {
          const auto at = [&](std::size_t column) {
            const std::size_t o = column / view.inner, i = column % view.inner;
            return (o * view.rows + n * step) * view.inner + i;
          };
          std::vector<std::size_t> entry(columns);
          std::vector<double> real(columns);
          for (std::size_t c = 0; c < columns; ++c) {
            entry[c] = codes.codes[at(c)];
            real[c] = double{input.values[at(c)]};
          }
          for (std::size_t i = 0; i < columns; ++i) {
            std::ranges::fill(sum, 0);
            double with = 0;
            const double* const row = moments.data() + i * columns;
            for (std::size_t j = 0; j < columns; ++j) {
              sum[entry[j]] += row[j];
              with += row[j] * real[j];
            }
            for (std::size_t c = 0; c < k; ++c) part.a[entry[i] * k + c] += sum[c];
            part.b[entry[i]] += with;
          }
        }
        return part;
      },
      [](Equations x, const Equations& y) {
        for (std::size_t i = 0; i < x.a.size(); ++i) x.a[i] += y.a[i];
        for (std::size_t i = 0; i < x.b.size(); ++i) x.b[i] += y.b[i];
        return x;
      });
  // The change of each entry, entries equal to 0 left out.
  std::vector<std::size_t> free;
  for (std::size_t c = 0; c < k; ++c) {
    if (codes.codebook[c] != 0) free.push_back(c);
  }
  const std::size_t n = free.size();
  double mean = 0;
  for (const std::size_t c : free) mean += sums.a[c * k + c] / static_cast<double>(n);
  std::vector<double> a(n * n), b(n);
  constexpr double kDamping = 1e-3;
  for (std::size_t i = 0; i < n; ++i) {
    b[i] = sums.b[free[i]];
    for (std::size_t c = 0; c < k; ++c) {
      b[i] -= sums.a[free[i] * k + c] * double{codes.codebook[c]};
    }
    for (std::size_t j = 0; j < n; ++j) a[i * n + j] = sums.a[free[i] * k + free[j]];
    a[i * n + i] += kDamping * mean;
  }
  if (n == 0 || !solve(a, b, n)) return false;
  std::vector<float> fresh = codes.codebook;
  for (std::size_t i = 0; i < n; ++i) {
    fresh[free[i]] = static_cast<float>(double{fresh[free[i]]} + b[i]);
    if (!std::isfinite(fresh[free[i]]) || fresh[free[i]] == 0) return false;
  }
  codes.codebook = std::move(fresh);
  const Sums errors = sums_of(input, codes, executor);
  codes.noise = errors.plain_noise;
  return true;
}

}  // namespace mcompress
