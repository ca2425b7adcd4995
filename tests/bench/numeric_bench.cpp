// Kernels of src/numeric against the loop one would write first. Every benchmark times both in turn
// in the same run: "ratio" is naive time / kernel time, "GB/s" the input bytes per second of the
// kernel.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <random>
#include <vector>

#include "ir/convert.h"
#include "numeric/error.h"
#include "numeric/histogram.h"
#include "numeric/kernels.h"
#include "numeric/quantize.h"
#include "numeric/scale_search.h"
#include "numeric/stats.h"
#include "numeric/thresholds.h"

namespace mcompress {
namespace {

constexpr std::size_t kElements = std::size_t{1} << 20;  // 4 MiB: beyond L2

const std::vector<float>& data() {
  static const std::vector<float> values = [] {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> v(kElements);
    for (float& x : v) x = normal(random);
    return v;
  }();
  return values;
}

// CPU time of this thread: the figures hold on a busy machine too.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double seconds_of(const auto& work) {
  const double start = thread_seconds();
  work();
  return thread_seconds() - start;
}

// Times `kernel` under the benchmark loop and `naive` a fifth as often; the counters compare the
// fastest runs, which other load on the machine disturbs least.
void compare(benchmark::State& state, std::size_t bytes, const auto& kernel, const auto& naive) {
  double kernel_best = HUGE_VAL, naive_best = HUGE_VAL;
  int runs = 0;
  for (auto _ : state) {
    const double time = seconds_of(kernel);
    state.SetIterationTime(time);
    kernel_best = std::min(kernel_best, time);
    if (runs++ % 5 == 0) naive_best = std::min(naive_best, seconds_of(naive));
  }
  state.counters["GB/s"] = static_cast<double>(bytes) / kernel_best * 1e-9;
  state.counters["ratio"] = naive_best / kernel_best;
}

void stats(benchmark::State& state) {
  compare(
      state, kElements * 4,
      [] {
        StatsAccumulator accumulator;
        accumulator.add(data());
        benchmark::DoNotOptimize(accumulator.stats());
      },
      [] {
        float lo = data()[0], hi = lo;
        double sum = 0, squares = 0;
        std::size_t zeros = 0, bad = 0;
        for (const float x : data()) {
          if (!std::isfinite(x)) {
            ++bad;
            continue;
          }
          lo = std::min(lo, x);
          hi = std::max(hi, x);
          sum += static_cast<double>(x);
          squares += static_cast<double>(x) * static_cast<double>(x);
          zeros += x == 0 ? 1 : 0;
        }
        benchmark::DoNotOptimize(sum + squares + static_cast<double>(lo + hi) +
                                 static_cast<double>(zeros + bad));
      });
}

void histogram_of(benchmark::State& state, const std::vector<float>& values) {
  compare(
      state, values.size() * 4,
      [&] {
        Histogram histogram;
        histogram.add(values);
        benchmark::DoNotOptimize(histogram.counts().data());
      },
      [&] {
        // Fixed range known beforehand, which takes a pass of its own in practice.
        std::vector<std::uint64_t> counts(2048);
        for (const float x : values) {
          const auto bin = static_cast<std::int64_t>(std::floor((x + 8.0f) / 16.0f * 2048.0f));
          ++counts[static_cast<std::size_t>(std::clamp<std::int64_t>(bin, 0, 2047))];
        }
        benchmark::DoNotOptimize(counts.data());
      });
}
void histogram(benchmark::State& state) { histogram_of(state, data()); }
void histogram_relu(benchmark::State& state) {
  std::vector<float> values = data();
  for (float& x : values) x = std::max(x, 0.0f);
  histogram_of(state, values);
}

void quantize(benchmark::State& state) {
  std::vector<std::int8_t> out(kElements);
  compare(
      state, kElements * 4,
      [&] {
        quantize_span<std::int8_t>(data(), {0.03f, 3}, {-128, 127}, out);
        benchmark::DoNotOptimize(out.data());
      },
      [&] {
        for (std::size_t i = 0; i < kElements; ++i) {
          const float q = std::nearbyintf(data()[i] / 0.03f) + 3.0f;
          out[i] = static_cast<std::int8_t>(std::clamp(q, -128.0f, 127.0f));
        }
        benchmark::DoNotOptimize(out.data());
      });
}

void error(benchmark::State& state) {
  std::vector<float> other = data();
  for (float& x : other) x *= 1.01f;
  compare(
      state, kElements * 8,
      [&] {
        ErrorAccumulator accumulator;
        accumulator.add(data(), other);
        benchmark::DoNotOptimize(accumulator.stats());
      },
      [&] {
        double xx = 0, yy = 0, xy = 0, dd = 0, top = 0;
        for (std::size_t i = 0; i < kElements; ++i) {
          const double x = data()[i], y = other[i];
          if (!std::isfinite(x) || !std::isfinite(y)) continue;
          xx += x * x;
          yy += y * y;
          xy += x * y;
          dd += (x - y) * (x - y);
          top = std::max(top, std::fabs(x - y));
        }
        benchmark::DoNotOptimize(xx + yy + xy + dd + top);
      });
}

void scale_search(benchmark::State& state) {
  const std::size_t used = kElements / 16;
  const std::span<const float> values = std::span(data()).first(used);
  const ChannelLayout layout{1, 64, static_cast<std::int64_t>(used / 64)};
  const std::vector<float> absmax(64, 5.0f);
  compare(
      state, used * 4,
      [&] {
        ChannelScaleSearch search(layout, absmax, {});
        search.add(0, values, {});
        benchmark::DoNotOptimize(search.scales());
      },
      [&] {
        std::vector<double> best(64, HUGE_VAL);
        for (int k = 0; k < 32; ++k) {
          const float scale = 5.0f / 127.0f * (1.0f - static_cast<float>(k) * 0.5f / 31.0f);
          for (std::size_t c = 0; c < 64; ++c) {
            double sum = 0;
            for (const float x : values.subspan(c * (used / 64), used / 64)) {
              const float q = std::clamp(std::nearbyintf(x / scale), -127.0f, 127.0f);
              const double e = static_cast<double>(x - q * scale);
              sum += e * e;
            }
            best[c] = std::min(best[c], sum);
          }
        }
        benchmark::DoNotOptimize(best.data());
      });
}

void narrow(benchmark::State& state, DataType type) {
  std::vector<std::byte> packed(kElements * 2);
  std::vector<float> back(kElements);
  for (auto _ : state) {
    state.SetIterationTime(seconds_of([&] {
      encode_from_float(type, data(), packed, {});
      decode_to_float(type, packed, back);
      benchmark::DoNotOptimize(back.data());
    }));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kElements * 4));
}
void float16_both_ways(benchmark::State& state) { narrow(state, DataType::kFloat16); }
void bfloat16_both_ways(benchmark::State& state) { narrow(state, DataType::kBfloat16); }
void float8_both_ways(benchmark::State& state) { narrow(state, DataType::kFloat8E4M3FN); }

void threshold(benchmark::State& state, const auto& choose) {
  Histogram histogram;
  histogram.add(data());
  for (auto _ : state) {
    state.SetIterationTime(seconds_of([&] { benchmark::DoNotOptimize(choose(histogram)); }));
  }
}
void mse_threshold(benchmark::State& state) {
  threshold(state, [](const Histogram& h) {
    return mse_range(h, {8, false}, RangeShape::kAsymmetric);
  });
}
void entropy_threshold(benchmark::State& state) {
  threshold(state, [](const Histogram& h) {
    return entropy_range(h, {8, false}, RangeShape::kAsymmetric);
  });
}

BENCHMARK(stats)->UseManualTime();
BENCHMARK(histogram)->UseManualTime();
BENCHMARK(histogram_relu)->UseManualTime();
BENCHMARK(quantize)->UseManualTime();
BENCHMARK(error)->UseManualTime();
BENCHMARK(scale_search)->UseManualTime();
BENCHMARK(float16_both_ways)->UseManualTime();
BENCHMARK(bfloat16_both_ways)->UseManualTime();
BENCHMARK(float8_both_ways)->UseManualTime();
BENCHMARK(mse_threshold)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(entropy_threshold)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace mcompress
