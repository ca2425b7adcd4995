// Execution engines. ONNX Runtime executes every graph; the rest of the library sees this door.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/io.h"
#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress {

struct PortInfo {
  std::string name;
  TypeInfo type;
};

// A view of one tensor result that lives only during the call that delivers it.
struct TensorView {
  DataType dtype = DataType::kUndefined;
  std::span<const std::int64_t> dims;
  std::span<const std::byte> bytes;
};

struct ProfileEvent {
  std::string node, op_type, provider;
  double microseconds = 0;
  std::int64_t calls = 0;
};

// Bytes the runtime asked its allocator for, beyond what an opened session holds anyway.
struct MemoryUse {
  std::uint64_t peak_bytes = 0;  // the most it held at a time: values and what kernels work in
  std::uint64_t allocations = 0;
  std::uint64_t session_bytes = 0;  // what the session held before: weights, packed or not
};

class Session {
 public:
  virtual ~Session() = default;
  virtual std::span<const PortInfo> inputs() const = 0;
  virtual std::span<const PortInfo> outputs() const = 0;  // extra outputs included, at the end
  // Runs once. Feeds are handed over without a copy; results are copied out. Fails with
  // kUnsupported (the runtime has no such kernel) or kInput (bad feeds), naming the node.
  virtual Result<std::vector<Tensor>> run(std::span<const NamedTensor> feeds,
                                          std::span<const std::string> fetch) = 0;
  // The same without copying results: `receive(i, view)` for fetch[i], in order. A result that is
  // no tensor, or an optional without value, is skipped.
  using ReceiveFn = std::function<Status(std::size_t, const TensorView&)>;
  virtual Status run(std::span<const NamedTensor> feeds, std::span<const std::string> fetch,
                     const ReceiveFn& receive) = 0;
  // Runs once and shows each value of SessionOptions::observed the moment it exists, in the order
  // of the graph: `receive(i, view)` for observed[i], on this thread. No value is kept for it, so
  // that memory does not grow with their number. Sessions may be asked from several threads at
  // once.
  virtual Status observe(std::span<const NamedTensor> feeds, const ReceiveFn& receive) {
    static_cast<void>(feeds), static_cast<void>(receive);
    return Error(Code::kUnsupported, "runtime-observe", "this runtime can not show values");
  }
  // Ends profiling (SessionOptions::profile) and returns time per node, sorted by time.
  virtual Result<std::vector<ProfileEvent>> profile() = 0;
  // Ends profiling and returns the runtime's own trace, every event of every run, in the Trace
  // Event Format that chrome://tracing and Perfetto read. Instead of profile(), not beside it.
  virtual Result<std::string> trace() {
    return Error(Code::kUnsupported, "runtime-trace", "this runtime writes no trace");
  }
  // What the last run took (SessionOptions::count_memory).
  virtual Result<MemoryUse> memory_use() {
    return Error(Code::kUnsupported, "runtime-memory", "this runtime does not count its memory");
  }
};

enum class Optimisation : std::uint8_t { kNone, kBasic, kExtended, kAll };

struct SessionOptions {
  int threads = 1;
  Optimisation optimisation = Optimisation::kAll;
  std::vector<std::string> extra_outputs;  // values of the top graph to expose
  std::vector<std::string> observed;       // values of the top graph for Session::observe
  bool profile = false;
  bool prepack = true;  // off: lower memory, faster load, slower runs
  bool memory_arena = true;
  bool count_memory = false;  // every value by itself instead of arena and plan: slower
  std::filesystem::path optimised_model_path;  // where the runtime writes its own graph; or empty
};

class Runtime {
 public:
  virtual ~Runtime() = default;
  // Starts, on a thread of its own, what the first session would have to wait for.
  virtual void warm_up() {}
  virtual std::string_view name() const = 0;  // "onnxruntime 1.32.0"
  // Opens the model as it stands in memory: the graph is serialised without its large tensors,
  // which are handed over one by one.
  virtual Result<std::unique_ptr<Session>> open(const Model& model,
                                                const SessionOptions& options) = 0;
  // Opens a file on disk, as an application would.
  virtual Result<std::unique_ptr<Session>> open_file(const std::filesystem::path& path,
                                                     const SessionOptions& options) = 0;
  // Operators ("domain:op_type", default domain "") of the graph the runtime would execute after
  // its own optimisation, with their counts: shows which integer kernels were really formed.
  virtual Result<std::vector<std::pair<std::string, std::int64_t>>> executed_operators(
      const Model& model, const SessionOptions& options) = 0;
};

// Kernel time per node out of what Session::trace returned; most expensive first, then by name.
// `file` stands for it in messages. Fails with kInput for text that is no such trace.
Result<std::vector<ProfileEvent>> parse_profile(std::string_view trace, std::string_view file);

// "onnxruntime" is the only one so far. Fails with kUnsupported for another name.
Result<std::shared_ptr<Runtime>> find_runtime(std::string_view wanted);

}  // namespace mcompress
