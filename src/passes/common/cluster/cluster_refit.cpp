#include <algorithm>
#include <cmath>

#include "passes/common/cluster/cluster_fit.h"

namespace mcompress {
namespace {

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

// Numbers `book` of entries for the rows [first, last), in place; those of a vector are unknowns
// each. False: nothing changed.
bool refit_rows(const ClusterInput& input, const RowView& view, std::span<const double> moments,
                const ClusterCodes& codes, std::size_t first, std::size_t last,
                std::span<float> book, const Executor& executor) {
  const std::size_t columns = view.columns(), k = book.size();
  // All rows add to the same k equations: some of them tell as much.
  constexpr double kWork = 4e9;
  // Many unknowns are met in few of a row's products.
  const bool scattered = k > columns;
  const double row_work =
      static_cast<double>(columns) * static_cast<double>(columns + (scattered ? 0 : k));
  const auto most = static_cast<std::size_t>(std::max(1.0, kWork / row_work));
  const std::size_t step = (last - first + most - 1) / most;
  struct Equations {
    std::vector<double> a, b;
  };
  const std::size_t used = (last - first + step - 1) / step;
  // k^2 numbers for each part of the sum.
  constexpr std::size_t kRows = 4, kParts = 8;
  const std::size_t grain = k <= 256 ? kRows : std::max(kRows, (used + kParts - 1) / kParts);
  const Equations sums = executor.ordered_reduce(
      used, grain, Equations{std::vector<double>(k * k), std::vector<double>(k)},
      [&](std::size_t begin, std::size_t end) {
        Equations part{std::vector<double>(k * k), std::vector<double>(k)};
        std::vector<double> sum(k);
        for (std::size_t n = begin; n < end; ++n) {
          std::vector<std::size_t> entry(columns);
          std::vector<double> real(columns);
          for (std::size_t c = 0; c < columns; ++c) {
            const std::size_t element = view.element(first + n * step, c), d = codes.dimension;
            entry[c] = codes.codes[element / d] * d + element % d;
            real[c] = double{input.values[element]};
          }
          for (std::size_t i = 0; i < columns; ++i) {
            double with = 0;
            const double* const row = moments.data() + i * columns;
            double* const equation = part.a.data() + entry[i] * k;
            if (scattered) {
              for (std::size_t j = 0; j < columns; ++j) {
                equation[entry[j]] += row[j];
                with += row[j] * real[j];
              }
            } else {
              std::ranges::fill(sum, 0);
              for (std::size_t j = 0; j < columns; ++j) {
                sum[entry[j]] += row[j];
                with += row[j] * real[j];
              }
              for (std::size_t c = 0; c < k; ++c) equation[c] += sum[c];
            }
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
  // The change of each number, those equal to 0 left out.
  std::vector<std::size_t> free;
  for (std::size_t c = 0; c < k; ++c) {
    if (book[c] != 0) free.push_back(c);
  }
  const std::size_t n = free.size();
  double mean = 0;
  for (const std::size_t c : free) mean += sums.a[c * k + c] / static_cast<double>(n);
  std::vector<double> a(n * n), b(n);
  constexpr double kDamping = 1e-3;
  for (std::size_t i = 0; i < n; ++i) {
    b[i] = sums.b[free[i]];
    for (std::size_t c = 0; c < k; ++c) {
      b[i] -= sums.a[free[i] * k + c] * double{book[c]};
    }
    for (std::size_t j = 0; j < n; ++j) a[i * n + j] = sums.a[free[i] * k + free[j]];
    a[i * n + i] += kDamping * mean;
  }
  if (n == 0 || !solve(a, b, n)) return false;
  std::vector<float> fresh(book.begin(), book.end());
  for (std::size_t i = 0; i < n; ++i) {
    fresh[free[i]] = static_cast<float>(double{fresh[free[i]]} + b[i]);
    if (!std::isfinite(fresh[free[i]]) || fresh[free[i]] == 0) return false;
  }
  std::ranges::copy(fresh, book.begin());
  return true;
}

}  // namespace

bool refit_codebook(const ClusterInput& input, const RowView& view, std::span<const double> moments,
                    ClusterCodes& codes, const Executor& executor) {
  if (moments.size() != view.columns() * view.columns()) return false;
  const ChannelGroups& groups = codes.groups;
  const std::size_t size = groups.count == 1 ? view.rows : groups.size;
  const std::size_t entries = codes.entries() * codes.dimension;
  bool changed = false;
  for (std::size_t g = 0; g < groups.count; ++g) {
    const std::span<float> book(codes.codebook.data() + g * entries, entries);
    changed = refit_rows(input, view, moments, codes, g * size, std::min(view.rows, (g + 1) * size),
                         book, executor) ||
              changed;
  }
  if (!changed) return false;
  measure_codes(input, codes);
  return true;
}

}  // namespace mcompress
