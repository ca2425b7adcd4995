#include "passes/common/cluster/cluster_feedback.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace mcompress {
namespace {

class Sweep {
 public:
  Sweep(const ClusterInput& input, const RowView& view, const GramFactor& factor,
        ClusterCodes& codes, const Executor& executor)
      : input_(input), view_(view), factor_(factor), codes_(codes), executor_(executor) {}

  // The mean cost of an error. `penalty`: of each code, or empty.
  double run(std::span<const double> penalty) {
    constexpr std::size_t kRows = 4;
    const double cost = executor_.ordered_reduce(
        view_.rows, kRows, 0.0,
        [&](std::size_t begin, std::size_t end) {
          double part = 0;
          std::vector<double> left(view_.columns());
          for (std::size_t row = begin; row < end; ++row) part += sweep(row, penalty, left);
          return part;
        },
        [](double a, double b) { return a + b; });
    return cost / static_cast<double>(codes_.codes.size());
  }

 private:
  double sweep(std::size_t row, std::span<const double> penalty, std::vector<double>& left) {
    const std::size_t n = view_.columns(), entries = codes_.entries();
    const float* const book =
        codes_.codebook.data() + codes_.groups.of(view_.element(row, 0)) * entries;
    for (std::size_t j = 0; j < n; ++j) {
      left[j] = double{input_.values[view_.element(row, factor_.order[j])]};
    }
    double cost = 0;
    for (std::size_t j = 0; j < n; ++j) {
      const std::size_t at = view_.element(row, factor_.order[j]);
      const double* const upper = factor_.upper.data() + j * n;
      const double weight = 1 / (upper[j] * upper[j]);
      std::uint8_t& code = codes_.codes[at];
      // What is 0 stays so: its code is that of 0.
      if (input_.values[at] != 0) code = best(left[j], weight, {book, entries}, penalty);
      const double off = left[j] - double{book[code]};
      cost += off * off * weight;
      const double error = off / upper[j];
      for (std::size_t k = j + 1; k < n; ++k) left[k] -= error * upper[k];
    }
    return cost;
  }

  static std::uint8_t best(double x, double weight, std::span<const float> book,
                           std::span<const double> penalty) {
    std::size_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t c = 0; c < book.size(); ++c) {
      const double off = x - double{book[c]};
      const double cost = off * off * weight + (penalty.empty() ? 0 : penalty[c]);
      if (cost < least) least = cost, best = c;
    }
    return static_cast<std::uint8_t>(best);
  }

  const ClusterInput& input_;
  const RowView& view_;
  const GramFactor& factor_;
  ClusterCodes& codes_;
  const Executor& executor_;
};

// The same with vectors for entries (van Baalen et al., "GPTVQ", 2024).
class VectorSweep {
 public:
  VectorSweep(const ClusterInput& input, const RowView& view, const GramFactor& factor,
              ClusterCodes& codes, const Executor& executor)
      : input_(input),
        view_(view),
        factor_(factor),
        codes_(codes),
        executor_(executor),
        across_(vector_layout(view, codes.dimension) == VectorLayout::kRows) {}

  double run(std::span<const double> penalty) {
    // Rows that are chosen together.
    const std::size_t together = across_ ? codes_.dimension : 1;
    const double cost = executor_.ordered_reduce(
        view_.rows / together, 4, 0.0,
        [&](std::size_t begin, std::size_t end) {
          double part = 0;
          std::vector<double> left(view_.columns() * together);
          for (std::size_t i = begin; i < end; ++i) {
            part += across_ ? across(i * together, penalty, left) : along(i, penalty, left);
          }
          return part;
        },
        [](double a, double b) { return a + b; });
    return cost / static_cast<double>(codes_.codes.size());
  }

 private:
  const float* entry(std::size_t code) const {
    return codes_.codebook.data() + code * codes_.dimension;
  }

  // left[j]: what column j has to be.
  double along(std::size_t row, std::span<const double> penalty, std::vector<double>& left) {
    const std::size_t n = view_.columns(), d = codes_.dimension;
    for (std::size_t j = 0; j < n; ++j) left[j] = double{input_.values[view_.element(row, j)]};
    double total = 0;
    std::array<double, kMostDimension> now{}, error{}, best_error{};
    for (std::size_t j = 0; j < n; j += d) {
      const auto upper = [&](std::size_t k, std::size_t column) {
        return factor_.upper[(j + k) * n + column];
      };
      double least = std::numeric_limits<double>::infinity(), least_error = 0;
      std::size_t best = 0;
      for (std::size_t c = 0; c < codes_.entries(); ++c) {
        double cost = 0;
        std::copy_n(left.begin() + static_cast<std::ptrdiff_t>(j), d, now.begin());
        for (std::size_t k = 0; k < d; ++k) {
          error[k] = (now[k] - double{entry(c)[k]}) / upper(k, j + k);
          cost += error[k] * error[k];
          for (std::size_t l = k + 1; l < d; ++l) now[l] -= error[k] * upper(k, j + l);
        }
        const double with = cost + (penalty.empty() ? 0 : penalty[c]);
        if (with < least) least = with, least_error = cost, best = c, best_error = error;
      }
      codes_.codes[view_.element(row, j) / d] = static_cast<std::uint8_t>(best);
      total += least_error;
      for (std::size_t k = 0; k < d; ++k) {
        for (std::size_t l = j + d; l < n; ++l) left[l] -= best_error[k] * upper(k, l);
      }
    }
    return total;
  }

  // left[k * columns + j]: what the j-th column of the factor has to be in the k-th row.
  double across(std::size_t row, std::span<const double> penalty, std::vector<double>& left) {
    const std::size_t n = view_.columns(), d = codes_.dimension;
    for (std::size_t k = 0; k < d; ++k) {
      for (std::size_t j = 0; j < n; ++j) {
        left[k * n + j] = double{input_.values[view_.element(row + k, factor_.order[j])]};
      }
    }
    double total = 0;
    for (std::size_t j = 0; j < n; ++j) {
      const double* const upper = factor_.upper.data() + j * n;
      const double weight = 1 / (upper[j] * upper[j]);
      double least = std::numeric_limits<double>::infinity(), least_error = 0;
      std::size_t best = 0;
      for (std::size_t c = 0; c < codes_.entries(); ++c) {
        double cost = 0;
        for (std::size_t k = 0; k < d; ++k) {
          const double off = left[k * n + j] - double{entry(c)[k]};
          cost += off * off * weight;
        }
        const double with = cost + (penalty.empty() ? 0 : penalty[c]);
        if (with < least) least = with, least_error = cost, best = c;
      }
      codes_.codes[view_.element(row, factor_.order[j]) / d] = static_cast<std::uint8_t>(best);
      total += least_error;
      for (std::size_t k = 0; k < d; ++k) {
        const double error = (left[k * n + j] - double{entry(best)[k]}) / upper[j];
        for (std::size_t l = j + 1; l < n; ++l) left[k * n + l] -= error * upper[l];
      }
    }
    return total;
  }

  static constexpr std::size_t kMostDimension = 4;

  const ClusterInput& input_;
  const RowView& view_;
  const GramFactor& factor_;
  ClusterCodes& codes_;
  const Executor& executor_;
  bool across_;
};

template <class Kind>
void sweep_with_rate(Kind& sweep, double rate, const ClusterCodes& codes) {
  const double mean = sweep.run({});
  constexpr int kPasses = 3;
  for (int pass = 0; rate > 0 && pass < kPasses; ++pass) {
    sweep.run(bit_penalties(codes, rate * mean));
  }
}

}  // namespace

VectorLayout vector_layout(const RowView& view, std::size_t dimension) {
  if (view.inner % dimension == 0) return VectorLayout::kColumns;
  const bool across = view.inner == 1 && view.rows % dimension == 0;
  return across ? VectorLayout::kRows : VectorLayout::kNeither;
}

std::optional<GramFactor> factor_of_codes(std::span<const double> moments, std::size_t columns,
                                          std::int64_t rows, bool in_order) {
  constexpr double kLeast = 0.01;
  FactorOptions options;
  options.damping =
      std::max(kLeast, static_cast<double>(columns) / (3 * static_cast<double>(rows)));
  options.largest_first = !in_order;
  return factor_gram(moments, columns, options);
}

ClusterCodes even_clusters(const ClusterInput& input, double step, std::size_t most,
                           const Executor& executor) {
  float largest = 0;
  for (const float x : input.values) largest = std::max(largest, std::fabs(x));
  const std::size_t most_beside = (most - 1) / 2;
  const double reach =
      std::min(std::ceil(double{largest} / step - 0.5), static_cast<double>(most_beside));
  const auto side = static_cast<std::int64_t>(std::max(1.0, reach));
  ClusterCodes codes;
  for (std::int64_t i = -side; i <= side; ++i) {
    codes.codebook.push_back(static_cast<float>(static_cast<double>(i) * step));
  }
  codes.codes.resize(input.values.size());
  constexpr std::size_t kGrain = std::size_t{1} << 18;
  executor.parallel_for(codes.codes.size(), kGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const double at = std::round(double{input.values[i]} / step);
      const double kept = std::clamp(at, -static_cast<double>(side), static_cast<double>(side));
      codes.codes[i] = static_cast<std::uint8_t>(static_cast<std::int64_t>(kept) + side);
    }
  });
  measure_codes(input, codes);
  return codes;
}

void adapt_codes(const ClusterInput& input, const RowView& view, const GramFactor& factor,
                 double rate, ClusterCodes& codes, const Executor& executor) {
  if (codes.dimension > 1) {
    VectorSweep sweep(input, view, factor, codes, executor);
    sweep_with_rate(sweep, rate, codes);
  } else {
    Sweep sweep(input, view, factor, codes, executor);
    sweep_with_rate(sweep, rate, codes);
    if (codes.groups.count == 1) drop_unused(codes);
  }
  measure_codes(input, codes);
}

}  // namespace mcompress
