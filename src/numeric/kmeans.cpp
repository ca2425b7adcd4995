#include "numeric/kmeans.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mcompress {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr std::uint32_t kZeroMark = std::uint32_t{1} << 31;

struct Bin {
  double weight = 0, first = 0, second = 0;
  std::uint64_t count = 0;
};

}  // namespace

ExactKmeans::ExactKmeans(WeightedPoints points, std::size_t most, bool zero)
    : points_(std::move(points)), most_(std::max<std::size_t>(most, 1)), zero_(zero) {
  const std::size_t n = points_.values.size();
  weight_.resize(n + 1), first_.resize(n + 1), second_.resize(n + 1);
  for (std::size_t i = 0; i < n; ++i) {
    const double w = points_.weights[i], x = points_.values[i];
    weight_[i + 1] = weight_[i] + w;
    first_[i + 1] = first_[i] + w * x;
    second_[i + 1] = second_[i] + w * x * x;
  }
  most_ = effective(most_);
  // E[m][i] without the zero cluster, and with it.
  std::vector<double> plain(n + 1, kInfinite), next(n + 1);
  std::vector<double> zeroed(n + 1, kInfinite), next_zeroed(n + 1);
  plain[0] = 0;
  for (std::size_t m = 0; m < most_; ++m) {
    plain_.emplace_back(n + 1);
    fill_row(m + 1, plain, next, plain_.back());
    if (zero_) {
      with_zero_.emplace_back(n + 1);
      fill_row(m + 1, zeroed, next_zeroed, with_zero_.back());
      // The cost of the zero cluster is a difference of sums: its best start is a running minimum.
      // It may hold no point.
      double least = kInfinite;
      std::uint32_t start = 0;
      for (std::size_t i = 0; i <= n; ++i) {
        if (plain[i] - second_[i] < least) {
          least = plain[i] - second_[i];
          start = static_cast<std::uint32_t>(i);
        }
        if (least + second_[i] < next_zeroed[i]) {
          next_zeroed[i] = least + second_[i];
          with_zero_.back()[i] = start | kZeroMark;
        }
      }
      zeroed.swap(next_zeroed);
    }
    plain.swap(next);
    errors_.push_back(std::max(0.0, zero_ ? zeroed[n] : plain[n]));
  }
}

std::size_t ExactKmeans::effective(std::size_t k) const {
  const std::size_t n = points_.values.size();
  const bool has_zero = std::ranges::find(points_.values, 0.0) != points_.values.end();
  const std::size_t useful = std::max<std::size_t>(1, n + (zero_ && !has_zero ? 1 : 0));
  return std::min(k, std::min(useful, most_));
}

double ExactKmeans::cost(std::size_t from, std::size_t to) const {
  const double w = weight_[to] - weight_[from], x = first_[to] - first_[from];
  return std::max(0.0, second_[to] - second_[from] - x * x / w);
}

// now[i] = min over j < i of before[j] + cost(j, i). At least `row - 1` points stand before.
void ExactKmeans::fill_row(std::size_t row, std::span<const double> before, std::span<double> now,
                           std::vector<std::uint32_t>& best) {
  const std::size_t n = points_.values.size();
  std::ranges::fill(now, kInfinite);
  struct Task {
    std::size_t first, last, from, to;  // i in [first, last), j in [from, to]
  };
  static_cast<void>(row);
  std::vector<Task> tasks;
  if (n > 0) tasks.push_back({1, n + 1, 0, n - 1});
  while (!tasks.empty()) {
    const Task task = tasks.back();
    tasks.pop_back();
    const std::size_t i = task.first + (task.last - task.first) / 2;
    std::size_t at = task.from;
    for (std::size_t j = task.from; j <= std::min(task.to, i - 1); ++j) {
      if (before[j] == kInfinite) continue;
      const double error = before[j] + cost(j, i);
      if (error < now[i]) now[i] = error, at = j;
    }
    best[i] = static_cast<std::uint32_t>(at);
    // Where there is no solution yet nothing is known of the neighbours.
    const bool known = now[i] < kInfinite;
    if (i > task.first) tasks.push_back({task.first, i, task.from, known ? at : task.to});
    if (i + 1 < task.last) tasks.push_back({i + 1, task.last, known ? at : task.from, task.to});
  }
}

double ExactKmeans::error(std::size_t k) const { return errors_[effective(k) - 1]; }

KmeansResult ExactKmeans::clusters(std::size_t k) const {
  const std::size_t wanted = effective(k);
  KmeansResult result;
  result.error = errors_[wanted - 1];
  std::size_t end = points_.values.size();
  bool zeroed = zero_;
  for (std::size_t m = wanted; m > 0; --m) {
    const std::uint32_t entry = (zeroed ? with_zero_ : plain_)[m - 1][end];
    const std::size_t start = entry & ~kZeroMark;
    if (zeroed && (entry & kZeroMark) != 0) {
      result.centroids.push_back(0);
      zeroed = false;
    } else if (end > start) {
      result.centroids.push_back((first_[end] - first_[start]) / (weight_[end] - weight_[start]));
    }
    end = start;
  }
  std::ranges::sort(result.centroids);
  return result;
}

BinnedValues binned_values(std::span<const float> values, std::span<const float> importance,
                           std::size_t bins, const Executor& executor) {
  constexpr std::size_t kGrain = std::size_t{1} << 20;
  struct Range {
    float low = std::numeric_limits<float>::infinity();
    float high = -std::numeric_limits<float>::infinity();
  };
  const Range range = executor.ordered_reduce(
      values.size(), kGrain, Range{},
      [&](std::size_t begin, std::size_t end) {
        Range part;
        for (std::size_t i = begin; i < end; ++i) {
          part.low = std::min(part.low, values[i]), part.high = std::max(part.high, values[i]);
        }
        return part;
      },
      [](Range a, const Range& b) {
        return Range{std::min(a.low, b.low), std::max(a.high, b.high)};
      });
  // The middle bin holds zeros alone: pruned weights are a point of their own.
  const std::size_t width = std::max<std::size_t>(bins, 3);
  const double span = double{range.high} - double{range.low};
  const double scale = span > 0 ? static_cast<double>(width - 1) / span : 0;
  const std::size_t zero = width;
  std::vector<Bin> all = executor.ordered_reduce(
      values.size(), kGrain, std::vector<Bin>(width + 1),
      [&](std::size_t begin, std::size_t end) {
        std::vector<Bin> part(width + 1);
        for (std::size_t i = begin; i < end; ++i) {
          const double x = double{values[i]};
          const double w = importance.empty() ? 1 : double{importance[i]};
          Bin& bin =
              part[x == 0 ? zero : static_cast<std::size_t>((x - double{range.low}) * scale)];
          bin.weight += w, bin.first += w * x, bin.second += w * x * x;
          ++bin.count;
        }
        return part;
      },
      [](std::vector<Bin> a, std::vector<Bin>&& b) {
        for (std::size_t i = 0; i < a.size(); ++i) {
          a[i].weight += b[i].weight, a[i].first += b[i].first;
          a[i].second += b[i].second, a[i].count += b[i].count;
        }
        return a;
      });
  BinnedValues histogram;
  const auto add = [&](const Bin& bin) {
    histogram.signal += bin.second;
    if (bin.weight <= 0) return;
    const double mean = bin.first / bin.weight;
    histogram.inside += std::max(0.0, bin.second - bin.first * mean);
    // Rounding may bring two means together.
    if (!histogram.points.values.empty() && histogram.points.values.back() >= mean) {
      histogram.points.weights.back() += bin.weight;
      return;
    }
    histogram.points.values.push_back(mean);
    histogram.points.weights.push_back(bin.weight);
  };
  bool zero_added = false;
  for (std::size_t i = 0; i < width; ++i) {
    if (!zero_added && all[i].weight > 0 && all[i].first > 0) {
      add(all[zero]);
      zero_added = true;
    }
    add(all[i]);
  }
  if (!zero_added) add(all[zero]);
  return histogram;
}

}  // namespace mcompress
