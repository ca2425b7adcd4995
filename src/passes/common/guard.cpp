#include "passes/common/guard.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "passes/common/memory_share.h"
#include "passes/common/padding.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kExactDb = 200;

// What is not finite is not compared.
void leave_out(const std::vector<bool>& counted, std::span<const std::int64_t> dims,
               std::vector<float>& values) {
  if (dims.size() < 3 || dims[0] * dims[1] != static_cast<std::int64_t>(counted.size())) return;
  const std::size_t width = values.size() / counted.size();
  for (std::size_t i = 0; i < counted.size(); ++i) {
    if (counted[i]) continue;
    std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(i * width), width, std::nanf(""));
  }
}

}  // namespace

Guard::Guard(Runtime& runtime, DataSource& data, std::int64_t samples, Samples which)
    : runtime_(runtime), data_(data) {
  const std::int64_t step = std::max<std::int64_t>(data.fixed_batch(), 1);
  const std::int64_t total = data.count() / step;
  const std::int64_t count = std::min(samples, total);
  for (std::int64_t i = 0; i < count; ++i) {
    samples_.push_back(step * (which == Samples::kFirst ? i : i * total / count));
  }
}

SessionOptions Guard::session_options() const {
  SessionOptions options;
  options.optimisation = Optimisation::kAll;  // the kernels an application would run
  options.count_memory = limit_ > 0;          // nothing stays in store between runs
  return options;
}

std::uint64_t Guard::Known::bytes() const {
  std::uint64_t bytes = 0;
  for (const NamedTensor& feed : feeds) bytes += feed.tensor.byte_size();
  for (const std::vector<float>& output : outputs) bytes += output.size() * sizeof(float);
  return bytes;
}

Result<std::vector<NamedTensor>> Guard::feeds_of(std::int64_t sample) const {
  return data_.batch(sample, std::max<std::int64_t>(data_.fixed_batch(), 1));
}

Status Guard::run_original(Known& known) const {
  known.outputs.resize(outputs_.size());
  const std::vector<bool> counted = padding_ ? std::vector<bool>() : counted_positions(known.feeds);
  return original_->run(known.feeds, outputs_,
                        [&](std::size_t output, const TensorView& view) -> Status {
                          std::vector<float>& values = known.outputs[output];
                          values.resize(view.bytes.size() / sizeof(float));
                          if (!values.empty()) {
                            std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
                          }
                          if (!counted.empty()) leave_out(counted, view.dims, values);
                          return ok_status();
                        });
}

Status Guard::for_each_sample(std::size_t count,
                              const std::function<Status(std::size_t)>& fn) const {
  if (executor_ != nullptr && limit_ == 0) {
    return executor_->try_parallel_for(count, 1, [&](std::size_t i, std::size_t) { return fn(i); });
  }
  for (std::size_t i = 0; i < count; ++i) MCOMPRESS_TRY(fn(i));
  return ok_status();
}

Status Guard::open_reference(Session* original, const Model& model, const Executor* executor) {
  executor_ = executor;
  // Under a limit only a session that counts will do.
  if (original == nullptr || (limit_ > 0 && !original->memory_use().ok())) {
    MCOMPRESS_ASSIGN(own_, runtime_.open(model, session_options()));
    original = own_.get();
  }
  original_ = original;
  for (const PortInfo& port : original->outputs()) {
    if (port.type.element == DataType::kFloat) outputs_.push_back(port.name);
  }
  if (limit_ == 0) {
    known_.resize(samples_.size());
    for (std::size_t s = 0; s < samples_.size(); ++s) {
      MCOMPRESS_ASSIGN(known_[s].feeds, feeds_of(samples_[s]));
    }
    MCOMPRESS_TRY(
        for_each_sample(known_.size(), [this](std::size_t s) { return run_original(known_[s]); }));
  } else {
    MCOMPRESS_TRY(keep_what_fits());
  }
  if (known_.size() == samples_.size()) own_.reset();
  return ok_status();
}

Status Guard::keep_what_fits() {
  std::uint64_t bytes = 0;
  for (const std::int64_t sample : samples_) {
    Known known;
    MCOMPRESS_ASSIGN(known.feeds, feeds_of(sample));
    MCOMPRESS_TRY(run_original(known));
    bytes += known.bytes();
    if (run_ == 0) {
      MCOMPRESS_ASSIGN(const MemoryUse use, original_->memory_use());
      run_ = with_room(use.peak_bytes) + known.bytes();
    }
    if (bytes > rest_of(limit_, run_)) break;
    known_.push_back(std::move(known));
  }
  return ok_status();
}

std::uint64_t Guard::held_memory() const {
  std::uint64_t bytes = 0;
  for (const Known& known : known_) bytes += known.bytes();
  return bytes;
}

std::string Guard::memory_plan() const {
  return std::to_string(known_.size()) + " of " + std::to_string(samples_.size()) +
         " samples kept with their outputs, the others run again; a run takes " + memory_text(run_);
}

Result<std::unique_ptr<Session>> Guard::open(const Model& candidate) const {
  return runtime_.open(candidate, session_options());
}

Result<double> Guard::sqnr_db(const Model& candidate) {
  if (outputs_.empty() || samples_.empty()) return kExactDb;
  MCOMPRESS_ASSIGN(const auto session, open(candidate));
  return sqnr_db(*session);
}

Result<Guard::Sums> Guard::compare(Session& candidate, const Known& known) const {
  Sums sums{std::vector<double>(outputs_.size(), 0), std::vector<double>(outputs_.size(), 0)};
  MCOMPRESS_TRY(candidate.run(
      known.feeds, outputs_, [&](std::size_t output, const TensorView& view) -> Status {
        const std::vector<float>& expected = known.outputs[output];
        if (view.bytes.size() != expected.size() * sizeof(float)) {
          sums.noise[output] = std::nan("");
          return ok_status();
        }
        for (std::size_t i = 0; i < expected.size(); ++i) {
          float value;
          std::memcpy(&value, view.bytes.data() + i * sizeof(float), sizeof value);
          // Where the original itself is not finite there is nothing to compare.
          if (!std::isfinite(expected[i])) continue;
          const double error = double{value} - expected[i];
          sums.signal[output] += double{expected[i]} * expected[i];
          sums.noise[output] += error * error;
        }
        return ok_status();
      }));
  return sums;
}

Result<double> Guard::sqnr_db(Session& candidate) const {
  std::vector<Sums> by_sample(samples_.size());
  MCOMPRESS_TRY(for_each_sample(samples_.size(), [&](std::size_t s) -> Status {
    Known again;
    if (s >= known_.size()) {
      MCOMPRESS_ASSIGN(again.feeds, feeds_of(samples_[s]));
      MCOMPRESS_TRY(run_original(again));
    }
    MCOMPRESS_ASSIGN(by_sample[s], compare(candidate, s < known_.size() ? known_[s] : again));
    return ok_status();
  }));
  double worst = kExactDb;
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    double signal = 0, noise = 0;
    for (const Sums& sums : by_sample) {
      signal += sums.signal[i];
      noise += sums.noise[i];
    }
    if (!std::isfinite(noise)) return -kExactDb;
    if (noise <= 0) continue;
    const double db = signal > 0 ? 10 * std::log10(signal / noise) : -kExactDb;
    worst = std::min(worst, db);
  }
  return worst;
}

}  // namespace mcompress
