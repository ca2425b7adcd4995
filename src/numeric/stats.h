// Streaming minimum, maximum, mean and energy of float data. The result is a function of the
// multiset of values: neither chunk sizes, nor the order of merges, nor the instruction set change
// a bit of it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace mcompress {

struct Range {
  float lo = 0.0f, hi = 0.0f;
  bool operator==(const Range&) const = default;
};

// Sums over finite values only. min = max = 0 when there are none.
struct RangeStats {
  float min = 0.0f, max = 0.0f;  // never -0
  double sum = 0.0, sum_sq = 0.0;
  std::uint64_t count = 0;  // finite values, zeros included
  std::uint64_t nan_count = 0, inf_count = 0;
  std::uint64_t zero_count = 0;  // +0 and -0

  double mean() const { return count == 0 ? 0.0 : sum / static_cast<double>(count); }
  // Population variance, never negative.
  double variance() const;
  bool operator==(const RangeStats&) const = default;
};

// A sum that does not depend on the order of its terms. Each term x is written in balanced digits
// of radix 2^26 at absolute positions, x = sum_p d_p 2^(26 p), |d_p| <= 2^25, and only the three
// digits at and below the position of the largest term are kept, each as an exact integer sum.
// What is lost is below 2^-53 of the largest |x| per term. Idea: Demmel and Nguyen, "Parallel
// Reproducible Summation", 2015. Good for 2^37 terms, after which the digit sums could overflow.
class ExactSum {
 public:
  struct State {
    std::int32_t position = 0;  // of digits[0], in steps of 26 bits
    std::array<std::int64_t, 3> digits{};
    bool operator==(const State&) const = default;
  };

  // Smallest position p with max_abs < 2^(26 p + 25). max_abs is finite and above 0.
  static std::int32_t position_of(double max_abs);
  // 1.5 * 2^(52 + 26 p) for p, p-1, p-2: adding and subtracting it rounds to a multiple of 2^(26
  // p).
  static std::array<double, 3> magic(std::int32_t position);

  // Adds digit sums at `position`, given as multiples of 2^(26 p).
  void add(std::int32_t position, const double* digit_sums);
  void merge(const ExactSum& other) { add_digits(other.state_); }
  double value() const;

  const State& state() const { return state_; }
  void set_state(const State& state) { state_ = state; }

 private:
  void add_digits(State other);
  State state_{kLowest, {}};
  static constexpr std::int32_t kLowest = -1000;
};

// Accumulates RangeStats. Copyable; 100 bytes or so.
class StatsAccumulator {
 public:
  struct State {
    float min = 0.0f, max = 0.0f;
    std::uint64_t count = 0, nan_count = 0, inf_count = 0, zero_count = 0;
    ExactSum::State sum, sum_sq;
    bool operator==(const State&) const = default;
  };

  void add(std::span<const float> values);
  void merge(const StatsAccumulator& other);
  RangeStats stats() const;

  // A block of at most kernel::kBlock values, already in cache. Returns the values to bin: the
  // input itself, or, when it holds NaN or infinity, a copy in `clean` with these set to 0, whose
  // number is `replaced`.
  struct Block {
    std::span<const float> values;
    std::uint32_t replaced = 0;
  };
  // kNone leaves the sums at 0, for users that have them from elsewhere.
  enum class Sums : std::uint8_t { kExact, kNone };
  Block add_block(std::span<const float> block, std::span<float> clean, Sums sums = Sums::kExact);

  // Finite values that were looked at elsewhere: their range (min <= max) and how many of them are
  // zeros. Adds nothing to the sums.
  void add_seen(Range range, std::uint64_t count, std::uint64_t zeros);

  std::uint64_t not_finite() const { return nan_count_ + inf_count_; }
  // The range of the finite values added since this was last asked for; empty when there were none.
  std::optional<Range> take_recent() { return std::exchange(recent_, std::nullopt); }

  State state() const;
  // Empty when the parts contradict each other.
  static std::optional<StatsAccumulator> from_state(const State& state);

 private:
  float min_ = 0.0f, max_ = 0.0f;
  std::uint64_t count_ = 0, nan_count_ = 0, inf_count_ = 0, zero_count_ = 0;
  ExactSum sum_, sum_sq_;
  std::optional<Range> recent_;
};

}  // namespace mcompress
