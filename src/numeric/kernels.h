// Hot loops over float spans, compiled for every instruction set Highway knows on this machine and
// chosen at run time. Each result is the same on every instruction set: element-wise IEEE
// operations, exact integer-like sums, or sums over a fixed number of lanes in a fixed order.
// Outside this folder prefer stats.h, histogram.h, quantize.h and error.h, where these fit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mcompress::kernel {

// Largest block the block kernels take: 16 KiB of floats, so a second pass reads the L1 cache.
inline constexpr std::size_t kBlock = 4096;

struct BlockRange {
  float min = 0.0f, max = 0.0f;  // meaningless when non_finite is not 0
  std::uint32_t zeros = 0;       // +0 and -0
  std::uint32_t non_finite = 0;  // NaN and infinities
};
// 1 <= n <= kBlock.
BlockRange block_range(const float* x, std::size_t n);

// Digit sums of x and x^2 (see stats.h): three digits each, out = {x2, x1, x0, q2, q1, q0}, the
// most significant first. Every finite input obeys |x| <= 2^(g+25), where magic = 1.5 * 2^(52 +
// grid). The sums are exact, so their order does not matter. n <= kBlock.
void digit_sums(const float* x, std::size_t n, const std::array<double, 3>& magic_x,
                const std::array<double, 3>& magic_q, std::array<double, 6>& out);

// Adds 1 to the bin of each value but zeros: bin = trunc(x * inverse_width) for x > 0, one less for
// x < 0, so that halving the resolution is an arithmetic shift. inverse_width is a power of two.
// Bin b has kCountCopies counts, from `counts` + b * kCountCopies on, that together hold the
// result: neighbours that fall into one bin, as most do, would wait for each other in one count.
// Zeros are only numbered. Stops in front of a stretch of at most kCountStep values in which one is
// NaN or outside lowest .. highest, which hold 0 and whose bins lie between -2048 and 2047. Bin
// `spare` must exist; its counts mean nothing. No count may pass 16 bits: n <= kMostCounted.
inline constexpr std::size_t kCountCopies = 4;
inline constexpr std::size_t kCountStep = 256;
inline constexpr std::size_t kMostCounted = kCountCopies * (65535 - kCountStep);
struct CountGrid {
  float lowest = 0.0f, highest = 0.0f, inverse_width = 1.0f;
  std::int32_t spare = 0;
};
struct CountedRun {
  std::size_t done = 0;  // values counted, from the first on
  std::size_t zeros = 0;
  float min = 0.0f, max = 0.0f;  // of the `done` values; meaningless when there are none
};
CountedRun count_run(const float* x, std::size_t n, const CountGrid& grid, std::uint16_t* counts);

// y = clamp(round_half_even(clamp(x / scale, lo, hi))) + zero_point with lo, hi integers; NaN gives
// zero_point. lo = code minimum - zero_point, hi = code maximum - zero_point.
struct QuantizeArgs {
  float scale = 1.0f, lo = 0.0f, hi = 0.0f;
  std::int32_t zero_point = 0;
};
void quantize(const float* x, std::size_t n, const QuantizeArgs& args, std::int8_t* y);
void quantize(const float* x, std::size_t n, const QuantizeArgs& args, std::uint8_t* y);
void quantize(const float* x, std::size_t n, const QuantizeArgs& args, std::int16_t* y);
void quantize(const float* x, std::size_t n, const QuantizeArgs& args, std::uint16_t* y);
// One scale per element, zero point 0.
void quantize_scales(const float* x, const float* scales, std::size_t n, float lo, float hi,
                     std::int8_t* y);

// Sums over 16 lanes: element i of a call belongs to lane i % 16.
inline constexpr std::size_t kLanes = 16;
struct ErrorLanes {
  alignas(64) std::array<double, kLanes> xx{}, yy{}, xy{}, dd{}, d{}, max_abs{};
};
// n is a multiple of kLanes; all values finite. d = y - x in double.
void error_sums(const float* x, const float* y, std::size_t n, ErrorLanes& lanes);

// True when every value of the span is finite.
bool all_finite(const float* x, std::size_t n);

// For each of 32 candidate grids k: q = round_half_even(clamp(x / scale[k], lo[k], hi[k])), and
// moments wq[k] += h x q, qq[k] += h q^2 in element order; elements that are not finite are
// skipped. `importance` may be null (h = 1).
inline constexpr std::size_t kCandidates = 32;
struct CandidateGrids {
  alignas(64) std::array<float, kCandidates> scale{}, lo{}, hi{};
};
struct CandidateMoments {
  alignas(64) std::array<double, kCandidates> wq{}, qq{};
};
void candidate_moments(const float* x, const float* importance, std::size_t n,
                       const CandidateGrids& grids, CandidateMoments& moments);

// Sum over i of counts[i] * (middle - scale * code)^2, where code is middle / scale, clamped to
// [lo, hi] and rounded half to even: the squared error of rounding a histogram to a grid. Element i
// belongs to lane i % 8. n is a multiple of 8.
double grid_error(const double* middles, const double* counts, std::size_t n, double scale,
                  double lo, double hi);

// scaled = x * inverse; codes = round_half_even(clamp(scaled, -127, 127)). All values finite.
void round_codes(const float* x, std::size_t n, float inverse, float* scaled, std::int8_t* codes);

// What rounding left over, d = scaled - code: sums of d^2 and of d over 8 lanes (element i belongs
// to lane i % 8), and the largest sum of the same-sign magnitudes of the codes 2j and 2j+1.
struct CodeErrors {
  double squares = 0.0, sum = 0.0;
  std::int32_t worst_pair = 0;
};
CodeErrors code_errors(const float* scaled, const std::int8_t* codes, std::size_t n);

// The largest sum of the same-sign magnitudes of x[2j] and x[2j+1]. All values finite.
float pair_peak(const float* x, std::size_t n);

// sums[r] += the sum of row r over 16 lanes (element i belongs to lane i % 16), whose halves are
// added until one is left. Where a lane has eight more elements, their sum is taken in float.
void row_sums(const float* x, std::size_t rows, std::size_t columns, double* sums);
// sums[c] += x[r * columns + c] for each of `rows` rows, in the order of rows.
void add_rows(const float* x, std::size_t rows, std::size_t columns, double* sums);

// Test hooks: the instruction sets this machine and build offer, and a mask that restricts the
// choice (0 lifts the restriction).
std::vector<std::int64_t> available_targets();
const char* target_name(std::int64_t target);
void force_targets(std::int64_t mask);

}  // namespace mcompress::kernel
