// Both coders, on one thread, beside memcpy and zstd's decoder on the same bytes. Bytes per second
// are those of the symbols; `bits` and `over_entropy_%` say how small they became.
#include <benchmark/benchmark.h>
#include <zstd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "codec/adaptive.h"
#include "codec/huffman.h"
#include "codec/rans.h"

namespace {

using namespace mcompress::codec;

constexpr std::size_t kSize = 1 << 18, kSmall = 1 << 14;

// deviation x 10: 0 stands for one byte in ten that is not zero.
Buffer symbols(std::int64_t tenths, std::size_t size = kSize) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal(0, static_cast<double>(tenths) / 10);
  Buffer data(size);
  for (std::uint8_t& byte : data) {
    byte = tenths == 0
               ? static_cast<std::uint8_t>(random() % 10 == 0 ? 1 + random() % 15 : 0)
               : static_cast<std::uint8_t>(std::lround(std::clamp(normal(random), -127., 127.)));
  }
  return data;
}

void report(benchmark::State& state, const Buffer& data, std::size_t coded) {
  double entropy = 0;
  for (const std::uint32_t count : count_bytes(data)) {
    if (count > 0) entropy -= count * std::log2(count / static_cast<double>(data.size()));
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * data.size()));
  state.counters["bits"] = 8.0 * static_cast<double>(coded) / static_cast<double>(data.size());
  state.counters["over_entropy_%"] = 100 * (8.0 * static_cast<double>(coded) / entropy - 1);
}

Buffer huffman(const Buffer& data) {
  Buffer coded;
  huffman_encode(data, huffman_lengths(count_bytes(data), kFastHuffmanBits), coded);
  return coded;
}
Buffer adaptive(const Buffer& data) { return *adaptive_encode(data, ~std::size_t{0}); }
Buffer rans(const Buffer& data) {
  Buffer coded;
  rans_encode(data, rans_frequencies(count_bytes(data)), coded);
  return coded;
}

template <Buffer (*kEncode)(const Buffer&)>
void encode(benchmark::State& state) {
  const Buffer data = symbols(state.range(0), static_cast<std::size_t>(state.range(1)));
  for (auto _ : state) benchmark::DoNotOptimize(kEncode(data).data());
  report(state, data, kEncode(data).size());
}

void huffman_back(benchmark::State& state) {
  const Buffer data = symbols(state.range(0)), coded = huffman(data);
  Buffer out(data.size());
  for (auto _ : state) benchmark::DoNotOptimize(huffman_decode(coded, out));
  report(state, data, coded.size());
}
void rans_back(benchmark::State& state) {
  const Buffer data = symbols(state.range(0)), coded = rans(data);
  Buffer out(data.size());
  const bool plain = state.range(1) != 0;
  for (auto _ : state) benchmark::DoNotOptimize(rans_decode(coded, out, plain));
  report(state, data, coded.size());
}
void adaptive_back(benchmark::State& state) {
  const Buffer data = symbols(state.range(0), kSmall), coded = adaptive(data);
  Buffer out(data.size());
  for (auto _ : state) benchmark::DoNotOptimize(adaptive_decode(coded, out));
  report(state, data, coded.size());
}
void copy(benchmark::State& state) {
  const Buffer data = symbols(state.range(0));
  Buffer out(data.size());
  for (auto _ : state) {
    std::memcpy(out.data(), data.data(), data.size());
    benchmark::ClobberMemory();
  }
  report(state, data, data.size());
}
void zstd_back(benchmark::State& state) {
  const Buffer data = symbols(state.range(0));
  Buffer coded(ZSTD_compressBound(data.size())), out(data.size());
  coded.resize(ZSTD_compress(coded.data(), coded.size(), data.data(), data.size(), 3));
  for (auto _ : state) {
    benchmark::DoNotOptimize(ZSTD_decompress(out.data(), out.size(), coded.data(), coded.size()));
  }
  report(state, data, coded.size());
}

// Blocks of most tensors, and of large ones.
void sizes(benchmark::internal::Benchmark* bench) {
  for (const std::int64_t tenths : {0, 20, 300}) {
    for (const std::int64_t size : {1 << 18, 1 << 20}) bench->Args({tenths, size});
  }
}

BENCHMARK(copy)->Arg(300);
BENCHMARK(encode<huffman>)->Name("huffman_encode")->Apply(sizes);
BENCHMARK(huffman_back)->Name("huffman_decode")->Arg(0)->Arg(20)->Arg(300);
BENCHMARK(encode<adaptive>)->Name("adaptive_encode")->Args({20, kSmall})->Args({300, kSmall});
BENCHMARK(adaptive_back)->Name("adaptive_decode")->Arg(20)->Arg(300);
BENCHMARK(encode<rans>)->Name("rans_encode")->Apply(sizes);
BENCHMARK(rans_back)
    ->Name("rans_decode")
    ->Args({0, 0})
    ->Args({20, 0})
    ->Args({300, 0})
    ->Args({300, 1});
BENCHMARK(zstd_back)->Name("zstd_decode")->Arg(0)->Arg(20)->Arg(300);

}  // namespace
