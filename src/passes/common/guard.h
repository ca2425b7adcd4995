// Measures how far an edited model is from its original, on a few samples.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/runtime.h"

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
  // Runs `original` (null: a session of `model`, opened for this) and keeps its float outputs.
  // Fails as the runtime does.
  Status open_reference(Session* original, const Model& model);
  // Signal to quantization noise ratio over the samples, of the worst float output:
  // 10 log10(sum ref^2 / sum (ref - out)^2); 200 when equal, -200 when an output is not finite.
  Result<double> sqnr_db(const Model& candidate);
  Result<double> sqnr_db(Session& candidate) const;

 private:
  Runtime& runtime_;
  DataSource& data_;
  std::vector<std::int64_t> samples_;
  bool padding_ = true;
  std::vector<std::string> outputs_;
  std::vector<std::vector<NamedTensor>> feeds_;
  std::vector<std::vector<std::vector<float>>> reference_;  // [sample][output]
};

}  // namespace mcompress
