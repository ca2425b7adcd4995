// Calibration from a compressed file: time, and peak memory of the process by number of samples,
// and the bare forward passes over the same samples for comparison. Each measurement is a process
// of its own, since memory peaks never go down. MCOMPRESS_BENCH_MODEL and MCOMPRESS_BENCH_DATA
// (npz) name a model and samples of one's own: what static quantization would look at is observed,
// in all samples. `of_forward` is the share of the forward passes' samples per second of processor
// time that calibration reaches.
#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zip.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/io.h"
#include "mcompress/pipeline.h"
#include "mcompress/target.h"

namespace {

using namespace mcompress;

constexpr std::int64_t kSide = 96;

// A chain of convolutions; activations are large against weights.
std::string model_text() {
  std::string text = R"(<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 3, 96, 96] x) => (float[n, 8, 96, 96] y12) <float[8, 3, 3, 3] w0 = {)";
  for (int i = 0; i < 216; ++i) text += (i > 0 ? ", 0.0" : "0.0") + std::to_string(i % 7);
  text += "}, float[8, 8, 3, 3] w = {";
  for (int i = 0; i < 576; ++i) text += (i > 0 ? ", 0.0" : "0.0") + std::to_string(i % 5);
  text += "}> {\n";
  for (int i = 0; i < 13; ++i) {
    const std::string in = i == 0 ? "x, w0" : "y" + std::to_string(i - 1) + ", w";
    const std::string number = std::to_string(i);
    text += "c" + number + " = Conv <pads = [1, 1, 1, 1]> (" + in + ")\n";
    text += "y" + number + " = Relu(c" + number + ")\n";
  }
  return text + "}";
}

void make_data(const std::filesystem::path& path, std::int64_t samples) {
  std::string bytes("\x93NUMPY\x01\x00\x76\x00", 10);
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                       std::to_string(samples) + ", 3, 96, 96), }";
  header.resize(117, ' ');
  bytes += header + "\n";
  std::mt19937 random(1);
  std::vector<float> values(static_cast<std::size_t>(samples * 3 * kSide * kSide));
  for (float& x : values) x = static_cast<float>(random() % 256) / 255.0f;
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  if (archive == nullptr) std::abort();
  zip_source_t* source = zip_source_buffer(archive, bytes.data(), bytes.size(), 0);
  const zip_int64_t index = zip_file_add(archive, "x.npy", source, 0);
  zip_set_file_compression(archive, static_cast<zip_uint64_t>(index), ZIP_CM_DEFLATE, 1);
  if (index < 0 || zip_close(archive) != 0) std::abort();
}

// The same samples through the same model on as many threads, and nobody looks at a value.
int forward(Runtime& runtime, const Model& model, DataSource& data, int threads) {
  SessionOptions options;
  options.threads = 1;
  auto session = runtime.open(model, options);
  if (!session.ok()) return 1;
  const std::vector<std::string> fetch = {std::string(model.graph().outputs().front()->name())};
  std::mutex reading;
  std::int64_t next = 0;
  std::atomic<bool> failed = false;
  const auto work = [&] {
    while (!failed) {
      std::vector<NamedTensor> feeds;
      {
        const std::lock_guard lock(reading);
        if (next >= data.count()) return;
        auto read = data.batch(next++, 1);
        if (!read.ok()) {
          failed = true;
          return;
        }
        feeds = std::move(read).value();
      }
      const Status ran =
          (*session)->run(feeds, fetch, [](std::size_t, const TensorView&) { return ok_status(); });
      if (!ran.ok()) failed = true;
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  return failed ? 1 : 0;
}

enum class Work : std::uint8_t { kForward, kCalibrate };

const char* model_file() { return std::getenv("MCOMPRESS_BENCH_MODEL"); }

Result<std::unique_ptr<Model>> bench_model(Diagnostics& diagnostics) {
  if (model_file() == nullptr) return parse_model_text(model_text(), diagnostics);
  return load_model(model_file(), {}, diagnostics);
}

int run_file(const std::filesystem::path& path, int threads, Work what) {
  Diagnostics diagnostics;
  auto runtime = find_runtime("onnxruntime");
  auto model = bench_model(diagnostics);
  if (!runtime.ok() || !model.ok()) return 1;
  std::vector<PortInfo> ports;
  for (const Value* input : (*model)->graph().inputs()) {
    if (input->initializer() != nullptr) continue;
    ports.push_back({std::string(input->name()), *input->type()});
  }
  auto data = open_data(path, ports, {}, diagnostics);
  if (!data.ok()) return 1;
  if (what == Work::kForward) return forward(**runtime, **model, **data, threads);
  CalibratorOptions options;
  options.threads = threads;
  if (model_file() != nullptr) {
    return calibrate_activations(**model, default_target(), **runtime, **data, options,
                                 (*data)->count(), diagnostics, silent_progress())
                   .ok()
               ? 0
               : 1;
  }
  CalibrationRequest request;
  for (int i = 0; i < 13; ++i) request.values.push_back("y" + std::to_string(i));
  auto table =
      calibrate(**runtime, **model, **data, request, options, diagnostics, silent_progress());
  return table.ok() ? 0 : 1;
}

// Processor seconds of the forward passes by samples and threads, to compare calibration with.
std::map<std::pair<std::int64_t, std::int64_t>, double> g_forward;

void measure(benchmark::State& state, Work what) {
  const std::int64_t samples = state.range(0);
  std::fflush(nullptr);
  // The file is made by a child too, so that its memory is not inherited.
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() /
      ("calibration_bench_" + std::to_string(getpid()) + "_" + std::to_string(samples) + ".npz");
  const char* given = std::getenv("MCOMPRESS_BENCH_DATA");
  if (given != nullptr) {
    std::filesystem::copy_file(given, path, std::filesystem::copy_options::overwrite_existing);
  } else if (const pid_t maker = fork(); maker == 0) {
    make_data(path, samples);
    _exit(0);
  } else {
    int status = 0;
    waitpid(maker, &status, 0);
  }
  double peak = 0;
  double processor = 0;  // seconds, which other work on the machine hardly changes
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    const pid_t child = fork();
    if (child == 0) _exit(run_file(path, static_cast<int>(state.range(1)), what));
    int status = 0;
    rusage usage{};
    wait4(child, &status, 0, &usage);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    state.SetIterationTime(took.count());
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      state.SkipWithError("calibration failed");
      break;
    }
    peak = std::max(peak, static_cast<double>(usage.ru_maxrss) * 1024);
    for (const timeval& part : {usage.ru_utime, usage.ru_stime}) {
      processor += static_cast<double>(part.tv_sec) + static_cast<double>(part.tv_usec) / 1e6;
    }
  }
  std::filesystem::remove(path);
  state.counters["peak_MB"] = peak / 1e6;
  processor /= static_cast<double>(state.iterations());
  state.counters["cpu_s"] = processor;
  const std::pair key(samples, state.range(1));
  if (what == Work::kForward) g_forward[key] = processor;
  if (what == Work::kCalibrate && g_forward.contains(key)) {
    state.counters["of_forward"] = g_forward[key] / processor;
  }
  state.counters["samples/s"] = benchmark::Counter(
      static_cast<double>(samples * state.iterations()), benchmark::Counter::kIsRate);
}

void calibration(benchmark::State& state) { measure(state, Work::kCalibrate); }
void forward_passes(benchmark::State& state) { measure(state, Work::kForward); }
BENCHMARK(forward_passes)
    ->ArgNames({"samples", "threads"})
    ->Args({1024, 1})
    ->Args({1024, 2})
    ->UseManualTime()
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(calibration)
    ->ArgNames({"samples", "threads"})
    ->Args({64, 1})
    ->Args({1024, 1})
    ->Args({64, 2})
    ->Args({1024, 2})
    ->UseManualTime()
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
