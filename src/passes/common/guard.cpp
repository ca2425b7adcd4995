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

Result<Guard::Known> Guard::run_original(std::int64_t sample) const {
  Known known;
  MCOMPRESS_ASSIGN(known.feeds,
                   data_.batch(sample, std::max<std::int64_t>(data_.fixed_batch(), 1)));
  known.outputs.resize(outputs_.size());
  const std::vector<bool> counted = padding_ ? std::vector<bool>() : counted_positions(known.feeds);
  MCOMPRESS_TRY(original_->run(known.feeds, outputs_,
                               [&](std::size_t output, const TensorView& view) -> Status {
                                 std::vector<float>& values = known.outputs[output];
                                 values.resize(view.bytes.size() / sizeof(float));
                                 if (!values.empty())
                                   std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
                                 if (!counted.empty()) leave_out(counted, view.dims, values);
                                 return ok_status();
                               }));
  return known;
}

Status Guard::open_reference(Session* original, const Model& model) {
  // Under a limit only a session that counts will do.
  if (original == nullptr || (limit_ > 0 && !original->memory_use().ok())) {
    MCOMPRESS_ASSIGN(own_, runtime_.open(model, session_options()));
    original = own_.get();
  }
  original_ = original;
  for (const PortInfo& port : original->outputs()) {
    if (port.type.element == DataType::kFloat) outputs_.push_back(port.name);
  }
  std::uint64_t bytes = 0;
  for (const std::int64_t sample : samples_) {
    MCOMPRESS_ASSIGN(Known known, run_original(sample));
    bytes += known.bytes();
    if (limit_ > 0 && run_ == 0) {
      MCOMPRESS_ASSIGN(const MemoryUse use, original->memory_use());
      run_ = with_room(use.peak_bytes) + known.bytes();
    }
    if (limit_ > 0 && bytes > rest_of(limit_, run_)) break;
    known_.push_back(std::move(known));
  }
  if (known_.size() == samples_.size()) own_.reset();
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

Result<double> Guard::sqnr_db(const Model& candidate) {
  if (outputs_.empty() || samples_.empty()) return kExactDb;
  MCOMPRESS_ASSIGN(const auto session, runtime_.open(candidate, session_options()));
  return sqnr_db(*session);
}

Result<double> Guard::sqnr_db(Session& candidate) const {
  std::vector<double> signal(outputs_.size(), 0);
  std::vector<double> noise(outputs_.size(), 0);
  for (std::size_t s = 0; s < samples_.size(); ++s) {
    Known again;
    if (s >= known_.size()) {
      MCOMPRESS_ASSIGN(again, run_original(samples_[s]));
    }
    const Known& known = s < known_.size() ? known_[s] : again;
    MCOMPRESS_TRY(candidate.run(
        known.feeds, outputs_, [&](std::size_t output, const TensorView& view) -> Status {
          const std::vector<float>& expected = known.outputs[output];
          if (view.bytes.size() != expected.size() * sizeof(float)) {
            noise[output] = std::nan("");
            return ok_status();
          }
          for (std::size_t i = 0; i < expected.size(); ++i) {
            float value;
            std::memcpy(&value, view.bytes.data() + i * sizeof(float), sizeof value);
            // Where the original itself is not finite there is nothing to compare.
            if (!std::isfinite(expected[i])) continue;
            const double error = double{value} - expected[i];
            signal[output] += double{expected[i]} * expected[i];
            noise[output] += error * error;
          }
          return ok_status();
        }));
  }
  double worst = kExactDb;
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    if (!std::isfinite(noise[i])) return -kExactDb;
    if (noise[i] <= 0) continue;
    const double db = signal[i] > 0 ? 10 * std::log10(signal[i] / noise[i]) : -kExactDb;
    worst = std::min(worst, db);
  }
  return worst;
}

}  // namespace mcompress
