// Calibration from a compressed file: time, and peak memory of the process by number of samples,
// and the bare forward passes over the same samples for comparison. Each measurement is a process
// of its own, since memory peaks never go down. MCOMPRESS_BENCH_MODEL and MCOMPRESS_BENCH_DATA
// (npz) name a model and samples of one's own: it is prepared as `mcompress calibrate` prepares it,
// and what static quantization would look at is observed, in all samples. `of_forward` is the share
// of the forward passes' samples per second of processor time that calibration reaches.
//
// `paired` puts both into one process, on one thread, and alternates them: machines that do other
// work slow both alike. What is counted is processor time per sample, reading and unpacking the
// samples included, as the median over the rounds of
//   of_forward         forward passes one sample at a time, as an application runs them, over
//                      calibration in the runs it chooses; both after their first run
//   of_same_runs       forward passes in the same runs over calibration, both after their first run
//   of_forward_opened  as of_forward with everything: opening, the first run, the table
//   of_file            forward passes over all samples of the file over calibration as a user gets
//                      it, which looks at as many of them as move the ranges; with everything
#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zip.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "compress.h"
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

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// Processor time per sample: of all, and of what follows the first run.
struct PerSample {
  double whole = 0, after_first = 0;
};
class Stopwatch : public Progress {
 public:
  void update(std::string_view, std::uint64_t done, std::uint64_t, std::string_view) override {
    last_ = {processor_seconds(), static_cast<double>(done)};
    if (first_.second == 0) first_ = last_;
  }
  bool cancelled() const override { return false; }
  PerSample stop() const {
    return {(processor_seconds() - start_) / last_.second,
            (last_.first - first_.first) / (last_.second - first_.second)};
  }

 private:
  double start_ = processor_seconds();
  std::pair<double, double> first_, last_;  // seconds and samples
};

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

Result<std::unique_ptr<Model>> bench_model(const std::shared_ptr<Runtime>& runtime,
                                           Diagnostics& diagnostics) {
  if (model_file() == nullptr) return parse_model_text(model_text(), diagnostics);
  auto model = load_model(model_file(), {}, diagnostics);
  auto recipe = tools::builtin_recipe("quantize-static");
  if (!model.ok() || !recipe.ok()) return model;
  Services services;
  services.runtime = runtime;
  services.diagnostics = &diagnostics;
  Explain unheard;
  const Status prepared =
      run_unheard(**model, tools::steps_before(std::move(recipe).value(), "quantize-static"),
                  services, unheard);
  if (!prepared.ok()) return Status(prepared).error();
  return model;
}

std::vector<PortInfo> ports_of(const Model& model) {
  std::vector<PortInfo> ports;
  for (const Value* input : model.graph().inputs()) {
    if (input->initializer() != nullptr) continue;
    ports.push_back({std::string(input->name()), *input->type()});
  }
  return ports;
}

Result<CalibrationTable> observe_samples(Runtime& runtime, Model& model, DataSource& data,
                                         const CalibratorOptions& options, std::int64_t samples,
                                         Diagnostics& diagnostics, Progress& progress) {
  if (model_file() != nullptr) {
    return calibrate_activations(model, default_target(), runtime, data, options, samples,
                                 diagnostics, progress);
  }
  CalibrationRequest request;
  for (int i = 0; i < 13; ++i) request.values.push_back("y" + std::to_string(i));
  return calibrate(runtime, model, data, request, options, diagnostics, progress);
}

int run_file(const std::filesystem::path& path, int threads, Work what) {
  Diagnostics diagnostics;
  auto runtime = find_runtime("onnxruntime");
  auto model = bench_model(*runtime, diagnostics);
  if (!runtime.ok() || !model.ok()) return 1;
  auto data = open_data(path, ports_of(**model), {}, diagnostics);
  if (!data.ok()) return 1;
  if (what == Work::kForward) return forward(**runtime, **model, **data, threads);
  CalibratorOptions options;
  options.threads = threads;
  const auto table = observe_samples(**runtime, **model, **data, options, (*data)->count(),
                                     diagnostics, silent_progress());
  return table.ok() ? 0 : 1;
}

using Samples = std::vector<std::pair<std::int64_t, std::int64_t>>;  // first and count, per run

Result<PerSample> pass_forward(Runtime& runtime, const Model& model, DataSource& data,
                               const Samples& runs) {
  Stopwatch watch;
  SessionOptions options;
  options.threads = 1;
  auto session = runtime.open(model, options);
  if (!session.ok()) return std::move(session).error();
  const std::vector<std::string> fetch = {std::string(model.graph().outputs().front()->name())};
  std::int64_t done = 0;
  for (const auto& [first, count] : runs) {
    auto feeds = data.batch(first, count);
    if (!feeds.ok()) return std::move(feeds).error();
    const Status ran =
        (*session)->run(*feeds, fetch, [](std::size_t, const TensorView&) { return ok_status(); });
    if (!ran.ok()) return Status(ran).error();
    watch.update({}, static_cast<std::uint64_t>(done += count), 0, {});
  }
  return watch.stop();
}

struct Ratios {
  double of_forward = 0, of_same_runs = 0, of_forward_opened = 0, of_file = 0;
};

Result<Ratios> compare_paired(const std::filesystem::path& path, int rounds) {
  Diagnostics diagnostics;
  auto runtime = find_runtime("onnxruntime");
  auto model = bench_model(*runtime, diagnostics);
  if (!runtime.ok()) return std::move(runtime).error();
  if (!model.ok()) return std::move(model).error();
  auto data = open_data(path, ports_of(**model), {}, diagnostics);
  if (!data.ok()) return std::move(data).error();
  CalibratorOptions options;
  options.threads = 1;
  const std::int64_t all = (*data)->count();
  Samples singly, together;
  for (std::int64_t i = 0; i < all; ++i) singly.emplace_back(i, 1);
  std::vector<double> forward, same, opened, file;
  for (int round = 0; round <= rounds; ++round) {
    Stopwatch watch;
    auto table = observe_samples(**runtime, **model, **data, options, all, diagnostics, watch);
    if (!table.ok()) return std::move(table).error();
    const PerSample ours = watch.stop();
    const double started = processor_seconds();
    if (auto enough =
            observe_samples(**runtime, **model, **data, options, 0, diagnostics, silent_progress());
        !enough.ok()) {
      return std::move(enough).error();
    }
    const double by_default = processor_seconds() - started;
    together = table->observed;
    auto one = pass_forward(**runtime, **model, **data, singly);
    auto runs = pass_forward(**runtime, **model, **data, together);
    if (!one.ok()) return std::move(one).error();
    if (!runs.ok()) return std::move(runs).error();
    if (round == 0) continue;  // everything is cold
    forward.push_back(one->after_first / ours.after_first);
    same.push_back(runs->after_first / ours.after_first);
    opened.push_back(one->whole / ours.whole);
    file.push_back(one->whole * static_cast<double>(all) / by_default);
  }
  const auto median = [](std::vector<double> x) {
    std::nth_element(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2), x.end());
    return x[x.size() / 2];
  };
  return Ratios{median(forward), median(same), median(opened), median(file)};
}

// Processor seconds of the forward passes by samples and threads, to compare calibration with.
std::map<std::pair<std::int64_t, std::int64_t>, double> g_forward;

// The file is made by a child too, so that its memory is not inherited.
std::filesystem::path samples_file(std::int64_t samples) {
  std::fflush(nullptr);
  std::filesystem::path path =
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
  return path;
}

void measure(benchmark::State& state, Work what) {
  const std::int64_t samples = state.range(0);
  const std::filesystem::path path = samples_file(samples);
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

void paired(benchmark::State& state) {
  const std::filesystem::path path = samples_file(state.range(0));
  Ratios ratios;
  for (auto _ : state) {
    std::array<int, 2> ends{};
    if (pipe(ends.data()) != 0) std::abort();
    const pid_t child = fork();
    if (child == 0) {
      const auto measured = compare_paired(path, static_cast<int>(state.range(1)));
      if (measured.ok()) ratios = *measured;
      _exit(measured.ok() && write(ends[1], &ratios, sizeof(ratios)) == sizeof(ratios) ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    const bool ended = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!ended || read(ends[0], &ratios, sizeof(ratios)) != sizeof(ratios)) {
      state.SkipWithError("calibration failed");
    }
    for (const int end : ends) close(end);
  }
  std::filesystem::remove(path);
  state.counters["of_forward"] = ratios.of_forward;
  state.counters["of_same_runs"] = ratios.of_same_runs;
  state.counters["of_forward_opened"] = ratios.of_forward_opened;
  state.counters["of_file"] = ratios.of_file;
}
BENCHMARK(paired)
    ->ArgNames({"samples", "rounds"})
    ->Args({64, 9})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);
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
