// Measures how far an edited model is from its original, on a few samples.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/runtime.h"
#include "support/executor.h"

namespace mcompress {

class Guard {
 public:
  enum class Samples : std::uint8_t { kSpread, kFirst };
  // Up to `samples` samples, spread evenly over the data or the first ones; of models of a fixed
  // batch that many batches.
  Guard(Runtime& runtime, DataSource& data, std::int64_t samples, Samples which = Samples::kSpread);
  // Those that begin at these numbers.
  Guard(Runtime& runtime, DataSource& data, std::vector<std::int64_t> samples)
      : runtime_(runtime), data_(data), samples_(std::move(samples)) {}

  // Leaves out what outputs [batch, length, ...] hold at positions that an input attention_mask
  // does not count. Before open_reference().
  void leave_padding_out() { padding_ = false; }
  // What is kept between comparisons, and one run, take at most so many bytes; 0: no limit. Samples
  // that are not kept are read and run in float32 again, which changes no figure. Before
  // open_reference().
  void limit_memory(std::uint64_t bytes) { limit_ = bytes; }
  // What a comparison takes at least under a limit: one run and its sample. After open_reference().
  std::uint64_t least_memory() const { return run_; }
  // What is held between comparisons.
  std::uint64_t held_memory() const;
  // "4 of 16 samples kept with their outputs, ...".
  std::string memory_plan() const;
  // Runs `original` (null: a session of `model`, opened for this) and keeps its float outputs.
  // Under a limit `original` may be asked again as long as this lives. With an executor, which has
  // to live as long, samples run side by side, which changes no figure; under a limit one by one.
  // Fails as the runtime does.
  Status open_reference(Session* original, const Model& model, const Executor* executor = nullptr);
  // A session of `candidate` as sqnr_db(candidate) would open it.
  Result<std::unique_ptr<Session>> open(const Model& candidate) const;
  // Signal to quantization noise ratio over the samples, of the worst float output:
  // 10 log10(sum ref^2 / sum (ref - out)^2); 200 when equal, -200 when an output is not finite.
  Result<double> sqnr_db(const Model& candidate);
  Result<double> sqnr_db(Session& candidate) const;

 private:
  struct Known {
    std::vector<NamedTensor> feeds;
    std::vector<std::vector<float>> outputs;  // of the original
    std::uint64_t bytes() const;
  };
  // What one sample adds to both sides of the ratio, by output.
  struct Sums {
    std::vector<double> signal, noise;
  };
  Result<std::vector<NamedTensor>> feeds_of(std::int64_t sample) const;
  Status run_original(Known& known) const;
  Status keep_what_fits();
  Result<Sums> compare(Session& candidate, const Known& known) const;
  // fn(0), fn(1), ... side by side where that is allowed.
  Status for_each_sample(std::size_t count, const std::function<Status(std::size_t)>& fn) const;
  SessionOptions session_options() const;

  Runtime& runtime_;
  DataSource& data_;
  std::vector<std::int64_t> samples_;
  bool padding_ = true;
  std::vector<std::string> outputs_;
  std::vector<Known> known_;  // of the first samples_; all of them without a limit
  std::uint64_t limit_ = 0, run_ = 0;
  std::unique_ptr<Session> own_;
  Session* original_ = nullptr;
  const Executor* executor_ = nullptr;
};

}  // namespace mcompress
