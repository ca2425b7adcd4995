// Loading and saving a model of 1 GB with external data, against copying its files, in one run.
// Each measured piece of work runs in a process of its own, whose peak memory is the one shown.
//
// Counters: `of_copy` is the speed relative to a copy that is flushed as a save is, `of_cp`
// relative to one that is left to the page cache; `peak_MB` the peak resident memory of a save.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "mcompress/edit.h"
#include "mcompress/io.h"

namespace mcompress {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kTensors = 64;
constexpr std::int64_t kElements = 4 << 20;  // 16 MiB each

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "io_bench: %s failed\n", what);
  std::exit(1);
}

struct Cost {
  double seconds = 0;
  double peak_megabytes = 0;
};

Cost in_own_process(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = ::fork();
  require(child >= 0, "fork");
  if (child == 0) {
    work();
    std::_Exit(0);
  }
  int status = 0;
  struct rusage usage = {};
  require(::wait4(child, &status, 0, &usage) == child && status == 0, "the work");
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  return {taken.count(), static_cast<double>(usage.ru_maxrss) / 1024};
}

void copy_with_flush(const fs::path& from, const fs::path& to, bool flush) {
  fs::copy_file(from, to, fs::copy_options::overwrite_existing);
  if (!flush) return;
  const int file = ::open(to.c_str(), O_RDONLY);
  require(file >= 0 && ::fsync(file) == 0, "flush");
  ::close(file);
}

// A model with 1 GB of weights beside it; made once.
class BigModel {
 public:
  BigModel() {
    std::string pattern = (fs::temp_directory_path() / "mcompress-bench-XXXXXX").string();
    require(::mkdtemp(pattern.data()) != nullptr, "folder");
    folder_ = pattern;
    (void)in_own_process([&] { make(); });
  }
  ~BigModel() { fs::remove_all(folder_); }
  BigModel(const BigModel&) = delete;
  BigModel& operator=(const BigModel&) = delete;

  fs::path input() const { return folder_ / "in.onnx"; }
  fs::path output() const { return folder_ / "out.onnx"; }

 private:
  void make() const {
    Model model;
    Editor editor(model);
    editor.set_opset("", 17);
    editor.require_ir_version(8);
    const auto factory = make_tensor_factory(0);
    std::uint32_t state = 1;
    for (std::int64_t i = 0; i < kTensors; ++i) {
      auto tensor = factory->make(DataType::kFloat, {kElements},
                                  [&](std::uint64_t, std::span<std::byte> bytes) {
                                    for (std::byte& byte : bytes) {
                                      state = state * 1664525 + 1013904223;
                                      byte = static_cast<std::byte>(state >> 24);
                                    }
                                    return ok_status();
                                  });
      require(tensor.ok(), "tensor");
      editor.add_initializer(model.graph(), "w" + std::to_string(i), *tensor);
    }
    SaveOptions options;
    options.external = SaveOptions::External::kAlways;
    require(save_model(model, input(), options, silent_progress()).ok(), "first save");
  }

  fs::path folder_;
};

void load_and_save(const BigModel& big) {
  Diagnostics diagnostics;
  const auto model = load_model(big.input(), {}, diagnostics);
  require(model.ok(), "load");
  require(save_model(**model, big.output(), {}, silent_progress()).ok(), "save");
}

void copy_files(const BigModel& big, bool flush) {
  for (const char* suffix : {".data", ""}) {
    copy_with_flush(big.input().string() + suffix, big.output().string() + suffix, flush);
  }
}

void forget_output(const BigModel& big) {
  fs::remove(big.output());
  fs::remove(big.output().string() + ".data");
  ::sync();
}

void load_save_external(benchmark::State& state) {
  const BigModel big;
  double flushed = 0;
  double cached = 0;
  double saved = 0;
  double peak = 0;
  for (auto _ : state) {
    forget_output(big);
    flushed += in_own_process([&] { copy_files(big, true); }).seconds;
    forget_output(big);
    cached += in_own_process([&] { copy_files(big, false); }).seconds;
    forget_output(big);
    const Cost cost = in_own_process([&] { load_and_save(big); });
    saved += cost.seconds;
    peak = std::max(peak, cost.peak_megabytes);
    state.SetIterationTime(cost.seconds);
  }
  state.SetBytesProcessed(state.iterations() * kTensors * kElements * 4);
  state.counters["of_copy"] = flushed / saved;
  state.counters["of_cp"] = cached / saved;
  state.counters["peak_MB"] = peak;
}
BENCHMARK(load_save_external)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(5);

void load_only(benchmark::State& state) {
  const BigModel big;
  double peak = 0;
  for (auto _ : state) {
    const Cost cost = in_own_process([&] {
      Diagnostics diagnostics;
      require(load_model(big.input(), {}, diagnostics).ok(), "load");
    });
    peak = std::max(peak, cost.peak_megabytes);
    state.SetIterationTime(cost.seconds);
  }
  state.counters["peak_MB"] = peak;
}
BENCHMARK(load_only)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(5);

}  // namespace
}  // namespace mcompress
