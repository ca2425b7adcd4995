// What the runtime costs before it runs: the first session of a process, later ones, and the
// memory that handing weights over takes.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "mcompress/edit.h"
#include "mcompress/io.h"
#include "mcompress/runtime.h"

namespace mcompress {
namespace {

constexpr std::int64_t kSide = 4096;
constexpr int kLayers = 4;

std::unique_ptr<Model> model_of(std::string_view text) {
  Diagnostics diagnostics;
  return parse_model_text(text, diagnostics).value();
}

std::unique_ptr<Model> small_model() {
  return model_of(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) })");
}

// 256 MiB of weights that differ, so that the runtime can not share what it packs.
std::unique_ptr<Model> large_model() {
  std::string nodes, weights;
  for (int i = 0; i < kLayers; ++i) {
    const std::string n = std::to_string(i);
    const std::string out = i + 1 == kLayers ? "y" : "h" + n;
    nodes += out + " = MatMul (" + (i == 0 ? "x" : "h" + std::to_string(i - 1)) + ", w" + n + ")\n";
    weights += (i == 0 ? "" : ", ") + ("float[1] w" + n + " = {1}");
  }
  auto model = model_of(R"(<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 4096] x) => (float[N, 4096] y) <)" +
                        weights + "> {\n" + nodes + "}");
  Editor editor(*model);
  for (int i = 0; i < kLayers; ++i) {
    const std::vector<float> values(static_cast<std::size_t>(kSide * kSide),
                                    1.0F / static_cast<float>(i + 1));
    editor.set_constant(*model->graph().find("w" + std::to_string(i)),
                        make_float_tensor(values, {kSide, kSide}));
  }
  return model;
}

double resident_megabytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.rfind("VmRSS:", 0) == 0) return std::atof(line.c_str() + 6) / 1024;
  }
  return 0;
}

// One iteration only: a process starts once. Run it with --benchmark_filter=FirstSession to
// leave nothing before it.
void BM_FirstSession(benchmark::State& state) {
  const auto model = small_model();
  for (auto _ : state) {
    const auto runtime = find_runtime("onnxruntime").value();
    benchmark::DoNotOptimize(runtime->open(*model, {}).value());
  }
}
BENCHMARK(BM_FirstSession)->Iterations(1)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_LaterSession(benchmark::State& state) {
  const auto model = small_model();
  const auto runtime = find_runtime("onnxruntime").value();
  for (auto _ : state) benchmark::DoNotOptimize(runtime->open(*model, {}).value());
}
BENCHMARK(BM_LaterSession)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_Run(benchmark::State& state) {
  const auto session = find_runtime("onnxruntime").value()->open(*small_model(), {}).value();
  const std::vector<NamedTensor> feeds = {{"x", make_float_tensor(std::vector<float>(4), {1, 4})}};
  const std::vector<std::string> fetch = {"y"};
  for (auto _ : state) benchmark::DoNotOptimize(session->run(feeds, fetch).value());
}
BENCHMARK(BM_Run)->UseRealTime();

// 256 MiB: level, prepack. `grown_MB` is what the open session adds.
void BM_HandOver(benchmark::State& state) {
  static const std::unique_ptr<Model> model = large_model();
  const auto runtime = find_runtime("onnxruntime").value();
  SessionOptions options;
  options.optimisation = static_cast<Optimisation>(state.range(0));
  options.prepack = state.range(1) != 0;
  double grown = 0;
  for (auto _ : state) {
    const double before = resident_megabytes();
    const auto session = runtime->open(*model, options).value();
    grown = resident_megabytes() - before;
  }
  state.counters["grown_MB"] = grown;
}
BENCHMARK(BM_HandOver)
    ->ArgNames({"level", "prepack"})
    ->Args({0, 0})
    ->Args({0, 1})
    ->Args({3, 0})
    ->Args({3, 1})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace mcompress
