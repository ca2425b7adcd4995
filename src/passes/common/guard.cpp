#include "passes/common/guard.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "passes/common/padding.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kExactDb = 200;

SessionOptions plain_session() {
  SessionOptions options;
  options.optimisation = Optimisation::kAll;  // the kernels an application would run
  return options;
}

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

Status Guard::open_reference(Session* original, const Model& model) {
  std::unique_ptr<Session> own;
  if (original == nullptr) {
    MCOMPRESS_ASSIGN(own, runtime_.open(model, plain_session()));
  }
  Session* const session = original != nullptr ? original : own.get();
  for (const PortInfo& port : session->outputs()) {
    if (port.type.element == DataType::kFloat) outputs_.push_back(port.name);
  }
  const std::int64_t step = std::max<std::int64_t>(data_.fixed_batch(), 1);
  for (const std::int64_t sample : samples_) {
    MCOMPRESS_ASSIGN(auto feeds, data_.batch(sample, step));
    MCOMPRESS_ASSIGN(const auto results, session->run(feeds, outputs_));
    std::vector<std::vector<float>> reference;
    const std::vector<bool> counted = padding_ ? std::vector<bool>() : counted_positions(feeds);
    for (const Tensor& tensor : results) {
      MCOMPRESS_ASSIGN(auto values, read_floats(tensor));
      if (!counted.empty()) leave_out(counted, tensor.dims(), values);
      reference.push_back(std::move(values));
    }
    feeds_.push_back(std::move(feeds));
    reference_.push_back(std::move(reference));
  }
  return ok_status();
}

Result<double> Guard::sqnr_db(const Model& candidate) {
  if (outputs_.empty() || feeds_.empty()) return kExactDb;
  MCOMPRESS_ASSIGN(const auto session, runtime_.open(candidate, plain_session()));
  return sqnr_db(*session);
}

Result<double> Guard::sqnr_db(Session& candidate) const {
  std::vector<double> signal(outputs_.size(), 0);
  std::vector<double> noise(outputs_.size(), 0);
  for (std::size_t s = 0; s < feeds_.size(); ++s) {
    MCOMPRESS_TRY(candidate.run(
        feeds_[s], outputs_, [&](std::size_t output, const TensorView& view) -> Status {
          const std::vector<float>& expected = reference_[s][output];
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
