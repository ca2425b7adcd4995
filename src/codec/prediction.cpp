#include "codec/prediction.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace mcompress::codec {
namespace {

constexpr std::size_t kLeastBytes = 4096;
constexpr std::size_t kSample = std::size_t{1} << 16;  // numbers that taps are fitted to
constexpr std::size_t kLagSample = 4096;               // numbers that each lag is tried on
constexpr std::size_t kLags = 4608;
constexpr std::size_t kCandidates = 12;

using Numbers = std::vector<std::int16_t>;

std::uint8_t centre_of(Bytes bytes) {
  // Bytes above 127 next to small ones are negative: the mean on the circle of the larger half.
  std::int64_t plain = 0, turned = 0;
  std::int64_t plain_square = 0, turned_square = 0;
  for (const std::uint8_t byte : bytes) {
    const std::int64_t a = byte, b = static_cast<std::int8_t>(byte);
    plain += a, turned += b, plain_square += a * a, turned_square += b * b;
  }
  const auto n = static_cast<std::int64_t>(bytes.size());
  const auto spread = [n](std::int64_t sum, std::int64_t square) {
    return static_cast<double>(square) -
           static_cast<double>(sum) * static_cast<double>(sum) / static_cast<double>(n);
  };
  const bool is_signed = spread(turned, turned_square) < spread(plain, plain_square);
  const std::int64_t sum = is_signed ? turned : plain;
  return static_cast<std::uint8_t>((sum >= 0 ? sum + n / 2 : sum - n / 2) / n);
}

std::int64_t product(const Numbers& s, std::size_t from, std::size_t count, std::size_t lag,
                     std::size_t other) {
  std::int64_t total = 0;
  for (std::size_t begin = from; begin < from + count; begin += 1024) {
    const std::size_t end = std::min(begin + 1024, from + count);
    std::int32_t part = 0;
    for (std::size_t i = begin; i < end; ++i) {
      part += std::int32_t{s[i - lag]} * std::int32_t{s[i - other]};
    }
    total += part;
  }
  return total;
}

// Lags by falling strength of their correlation, the nearest three among them.
std::vector<std::size_t> strongest_lags(const Numbers& s) {
  const std::size_t most = std::min(kLags, s.size() / 4);
  const std::size_t from = std::max(most, s.size() / 2);
  const std::size_t count = std::min(kLagSample, s.size() - from);
  std::vector<std::pair<std::int64_t, std::size_t>> found;
  for (std::size_t lag = 1; lag <= most; ++lag) {
    const std::int64_t p = product(s, from, count, 0, lag);
    found.emplace_back(lag <= 3 ? -std::int64_t{1} << 62 : -std::abs(p), lag);
  }
  std::sort(found.begin(), found.end());
  std::vector<std::size_t> lags;
  for (std::size_t i = 0; i < std::min(kCandidates, found.size()); ++i) {
    lags.push_back(found[i].second);
  }
  return lags;
}

// Solves a x = b of n unknowns; false where a is singular.
bool solve_taps(std::vector<double> a, std::vector<double> b, std::size_t n,
                std::vector<double>& x) {
  for (std::size_t j = 0; j < n; ++j) {
    if (!(a[j * n + j] > 0)) return false;
    for (std::size_t i = j + 1; i < n; ++i) {
      const double factor = a[i * n + j] / a[j * n + j];
      for (std::size_t k = j; k < n; ++k) a[i * n + k] -= factor * a[j * n + k];
      b[i] -= factor * b[j];
    }
  }
  x.assign(n, 0);
  for (std::size_t i = n; i-- > 0;) {
    double sum = b[i];
    for (std::size_t k = i + 1; k < n; ++k) sum -= a[i * n + k] * x[k];
    x[i] = sum / a[i * n + i];
  }
  return true;
}

}  // namespace

std::optional<Predictor> find_predictor(Bytes bytes) {
  if (bytes.size() < kLeastBytes) return std::nullopt;
  Predictor predictor;
  predictor.centre = centre_of(bytes);
  Numbers s(bytes.size());
  std::ranges::transform(bytes, s.begin(), [&](std::uint8_t byte) {
    return static_cast<std::int8_t>(byte - predictor.centre);
  });
  const std::vector<std::size_t> lags = strongest_lags(s);
  if (lags.empty()) return std::nullopt;
  // Products of all pairs of candidates, and of each with the number itself (lag 0).
  const std::size_t n = lags.size();
  const std::size_t from = *std::max_element(lags.begin(), lags.end());
  const std::size_t count = std::min(kSample, s.size() - from);
  std::vector<double> with(n), among(n * n);
  for (std::size_t i = 0; i < n; ++i) {
    with[i] = static_cast<double>(product(s, from, count, 0, lags[i]));
    for (std::size_t j = 0; j <= i; ++j) {
      among[i * n + j] = among[j * n + i] =
          static_cast<double>(product(s, from, count, lags[i], lags[j]));
    }
  }
  const auto energy = static_cast<double>(product(s, from, count, 0, 0));
  if (!(energy > 0)) return std::nullopt;
  std::vector<std::size_t> taken;
  std::vector<double> coefficients;
  double left = energy;
  // An eighth of a bit of a thousand: 2^(2 * 0.006).
  constexpr double kWorth = 0.992;
  while (taken.size() < std::min(kMostTaps, n)) {
    std::size_t best = n;
    double least = left * kWorth;
    std::vector<double> best_x;
    for (std::size_t c = 0; c < n; ++c) {
      if (std::ranges::find(taken, c) != taken.end()) continue;
      std::vector<std::size_t> tried = taken;
      tried.push_back(c);
      const std::size_t m = tried.size();
      std::vector<double> a(m * m), b(m), x;
      for (std::size_t i = 0; i < m; ++i) {
        b[i] = with[tried[i]];
        for (std::size_t j = 0; j < m; ++j) a[i * m + j] = among[tried[i] * n + tried[j]];
      }
      if (!solve_taps(a, b, m, x)) continue;
      double error = energy;
      for (std::size_t i = 0; i < m; ++i) error -= x[i] * b[i];
      if (error < least) least = error, best = c, best_x = x;
    }
    if (best == n) break;
    taken.push_back(best);
    coefficients = best_x;
    left = least;
  }
  for (std::size_t i = 0; i < taken.size(); ++i) {
    const double steps = std::floor(coefficients[i] * (1 << kTapBits) + 0.5);
    const auto coefficient = static_cast<std::int8_t>(std::clamp(steps, -127.0, 127.0));
    if (coefficient == 0) continue;
    predictor.taps.push_back({static_cast<std::uint32_t>(lags[taken[i]]), coefficient});
  }
  if (predictor.taps.empty()) return std::nullopt;
  return predictor;
}

namespace {

// Calls step(i, prediction) from the first byte to the last; what it returns is s[i].
template <class Step>
void run_predictor(std::size_t count, const Predictor& predictor, const Step& step) {
  std::size_t front = 0;
  for (const Tap& tap : predictor.taps) front = std::max<std::size_t>(front, tap.lag);
  // Zeros in front, so that no lag looks at anything else.
  std::vector<std::int8_t> s(front + count);
  for (std::size_t i = front; i < s.size(); ++i) {
    int sum = 1 << (kTapBits - 1);
    for (const Tap& tap : predictor.taps) sum += int{tap.coefficient} * s[i - tap.lag];
    s[i] = step(i - front, sum >> kTapBits);
  }
}

}  // namespace

Buffer predicted_away(Bytes bytes, const Predictor& predictor) {
  Buffer out(bytes.size());
  run_predictor(bytes.size(), predictor, [&](std::size_t i, int prediction) {
    const auto s = static_cast<std::int8_t>(bytes[i] - predictor.centre);
    out[i] = static_cast<std::uint8_t>(s - prediction);
    return s;
  });
  return out;
}

void predict_back(std::span<std::uint8_t> bytes, const Predictor& predictor) {
  run_predictor(bytes.size(), predictor, [&](std::size_t i, int prediction) {
    const auto s = static_cast<std::int8_t>(bytes[i] + prediction);
    bytes[i] = static_cast<std::uint8_t>(s + predictor.centre);
    return s;
  });
}

}  // namespace mcompress::codec
