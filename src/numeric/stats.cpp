#include "numeric/stats.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "numeric/kernels.h"

namespace mcompress {
namespace {
constexpr std::int32_t kDigitBits = 26;
}

double RangeStats::variance() const {
  if (count == 0) return 0.0;
  const double average = mean();
  return std::max(0.0, sum_sq / static_cast<double>(count) - average * average);
}

std::int32_t ExactSum::position_of(double max_abs) {
  int exponent = 0;
  (void)std::frexp(max_abs, &exponent);  // max_abs < 2^exponent <= 2 max_abs
  const int above = exponent - (kDigitBits - 1);
  // Division that rounds up for negative numbers too.
  return above > 0 ? (above + kDigitBits - 1) / kDigitBits : -((-above) / kDigitBits);
}

std::array<double, 3> ExactSum::magic(std::int32_t position) {
  std::array<double, 3> result{};
  for (int i = 0; i < 3; ++i) {
    result[static_cast<std::size_t>(i)] = std::ldexp(1.5, 52 + kDigitBits * (position - i));
  }
  return result;
}

void ExactSum::add(std::int32_t position, const double* digit_sums) {
  State other{position, {}};
  for (int i = 0; i < 3; ++i) {
    // A multiple of the unit with fewer than 53 bits: scaling and conversion are exact.
    other.digits[static_cast<std::size_t>(i)] =
        static_cast<std::int64_t>(std::ldexp(digit_sums[i], -kDigitBits * (position - i)));
  }
  add_digits(other);
}

void ExactSum::add_digits(State other) {
  if (other.position > state_.position) std::swap(other, state_);
  const std::int64_t shift = std::int64_t{state_.position} - other.position;
  for (std::int64_t i = 0; i + shift < 3; ++i) {
    state_.digits[static_cast<std::size_t>(i + shift)] += other.digits[static_cast<std::size_t>(i)];
  }
}

double ExactSum::value() const {
  double total = 0.0;
  for (int i = 2; i >= 0; --i) {
    total += std::ldexp(static_cast<double>(state_.digits[static_cast<std::size_t>(i)]),
                        kDigitBits * (state_.position - i));
  }
  return total;
}

StatsAccumulator::Block StatsAccumulator::add_block(std::span<const float> block,
                                                    std::span<float> clean, Sums wanted) {
  assert(block.size() <= kernel::kBlock);
  Block result{block, 0};
  if (block.empty()) return result;
  kernel::BlockRange range = kernel::block_range(block.data(), block.size());
  if (range.non_finite != 0) {
    assert(clean.size() >= block.size());
    result.replaced = range.non_finite;
    for (std::size_t i = 0; i < block.size(); ++i) {
      const bool finite = std::isfinite(block[i]);
      clean[i] = finite ? block[i] : 0.0f;
      if (std::isnan(block[i])) {
        ++nan_count_;
      } else if (!finite) {
        ++inf_count_;
      }
    }
    result.values = clean.first(block.size());
    if (result.replaced == block.size()) return result;
    // The zeros put in are not data: take the range of the finite values alone.
    range.min = range.max = 0.0f;
    bool first = true;
    for (const float v : block) {
      if (!std::isfinite(v)) continue;
      range.min = first ? v : std::min(range.min, v);
      range.max = first ? v : std::max(range.max, v);
      first = false;
    }
  }
  add_seen({range.min, range.max}, block.size() - result.replaced, range.zeros);
  const double largest = std::max(std::fabs(static_cast<double>(range.min)),
                                  std::fabs(static_cast<double>(range.max)));
  if (largest > 0.0 && wanted == Sums::kExact) {
    const std::int32_t at = ExactSum::position_of(largest);
    const std::int32_t at_sq = ExactSum::position_of(largest * largest);
    std::array<double, 6> sums{};
    kernel::digit_sums(result.values.data(), result.values.size(), ExactSum::magic(at),
                       ExactSum::magic(at_sq), sums);
    sum_.add(at, sums.data());
    sum_sq_.add(at_sq, sums.data() + 3);
  }
  return result;
}

void StatsAccumulator::add_seen(Range range, std::uint64_t count, std::uint64_t zeros) {
  if (count == 0) return;
  range.lo += 0.0f;  // -0 becomes +0
  range.hi += 0.0f;
  min_ = count_ == 0 ? range.lo : std::min(min_, range.lo);
  max_ = count_ == 0 ? range.hi : std::max(max_, range.hi);
  recent_ =
      recent_ ? Range{std::min(recent_->lo, range.lo), std::max(recent_->hi, range.hi)} : range;
  count_ += count;
  zero_count_ += zeros;
}

void StatsAccumulator::add(std::span<const float> values) {
  std::array<float, kernel::kBlock> clean;
  while (!values.empty()) {
    const std::size_t n = std::min(values.size(), kernel::kBlock);
    add_block(values.first(n), clean);
    values = values.subspan(n);
  }
}

void StatsAccumulator::merge(const StatsAccumulator& other) {
  if (other.count_ != 0) {
    min_ = count_ == 0 ? other.min_ : std::min(min_, other.min_);
    max_ = count_ == 0 ? other.max_ : std::max(max_, other.max_);
  }
  count_ += other.count_;
  nan_count_ += other.nan_count_;
  inf_count_ += other.inf_count_;
  zero_count_ += other.zero_count_;
  sum_.merge(other.sum_);
  sum_sq_.merge(other.sum_sq_);
}

RangeStats StatsAccumulator::stats() const {
  return {min_, max_, sum_.value(), sum_sq_.value(), count_, nan_count_, inf_count_, zero_count_};
}

StatsAccumulator::State StatsAccumulator::state() const {
  return {min_, max_, count_, nan_count_, inf_count_, zero_count_, sum_.state(), sum_sq_.state()};
}

std::optional<StatsAccumulator> StatsAccumulator::from_state(const State& state) {
  const bool finite = std::isfinite(state.min) && std::isfinite(state.max);
  if (!finite || state.min > state.max || state.zero_count > state.count) return std::nullopt;
  if (state.count == 0 && (state.min != 0.0f || state.max != 0.0f)) return std::nullopt;
  for (const ExactSum::State* sum : {&state.sum, &state.sum_sq}) {
    if (sum->position < -1000 || sum->position > 100) return std::nullopt;
  }
  StatsAccumulator result;
  result.min_ = state.min;
  result.max_ = state.max;
  result.count_ = state.count;
  result.nan_count_ = state.nan_count;
  result.inf_count_ = state.inf_count;
  result.zero_count_ = state.zero_count;
  result.sum_.set_state(state.sum);
  result.sum_sq_.set_state(state.sum_sq);
  return result;
}

}  // namespace mcompress
