#include "numeric/fixed_math.h"

#include <bit>
#include <cstdint>

namespace mcompress {

double fixed_log2(double x) {
  const std::uint64_t bits = std::bit_cast<std::uint64_t>(x);
  std::int32_t exponent = static_cast<std::int32_t>((bits >> 52) & 0x7ff) - 1023;
  double m = std::bit_cast<double>((bits & 0xfffffffffffffULL) | (std::uint64_t{1023} << 52));
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  // ln m = 2 artanh t, t = (m-1)/(m+1), |t| < 0.1716: the first term left out is below 3e-18.
  const double t = (m - 1.0) / (m + 1.0);
  const double u = t * t;
  double series = 0.0;
  for (int k = 21; k >= 1; k -= 2) series = series * u + 1.0 / k;
  constexpr double kTwoOverLn2 = 2.8853900817779268;
  return static_cast<double>(exponent) + kTwoOverLn2 * (t * series);
}

}  // namespace mcompress
