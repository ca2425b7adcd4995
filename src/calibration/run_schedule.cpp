#include "calibration/run_schedule.h"

#include <string>
#include <utility>

#include "support/try.h"

namespace mcompress {
namespace {

// Activations of one run that are looked at: little enough for the cache, enough to make the fixed
// costs of a run small.
constexpr std::uint64_t kRunBytes = 8 << 20;
constexpr std::int64_t kMaxBatch = 64;
// How many samples are enough: those whose activations fill the wanted bytes, but kUsualSamples
// unless these pass kMostBytes, and kLeastSamples in any case. Small layers need samples, since
// each gives them few values; large layers have seen it all after some dozens.
constexpr std::int64_t kLeastSamples = 20;
constexpr std::int64_t kUsualSamples = 32;
constexpr std::uint64_t kMostBytes = 512 << 20;
constexpr std::int64_t kMaxFixedBatch = 1 << 16;

Result<Tensor> join_rows(const Tensor& left, const Tensor& right) {
  std::vector<std::int64_t> dims(left.dims().begin(), left.dims().end());
  if (dims.empty()) return left;  // a scalar that belongs to every sample
  dims[0] += right.dims()[0];
  std::vector<std::byte> bytes;
  bytes.reserve(static_cast<std::size_t>(left.byte_size() + right.byte_size()));
  for (const Tensor* part : {&left, &right}) {
    MCOMPRESS_ASSIGN(const Pinned pin, part->storage()->pin(0, part->byte_size()));
    bytes.insert(bytes.end(), pin.bytes().begin(), pin.bytes().end());
  }
  return make_bytes_tensor(left.dtype(), std::move(dims), std::move(bytes));
}

}  // namespace

Result<RunSchedule> make_schedule(const DataSource& data, const CalibrationRequest& request,
                                  const CalibratorOptions& options) {
  RunSchedule schedule;
  schedule.samples = data.count();
  if (request.samples > 0) schedule.samples = std::min(schedule.samples, request.samples);
  const std::int64_t fixed = data.fixed_batch();
  if (fixed > kMaxFixedBatch) {
    return Error(Code::kUnsupported, "batch-size",
                 "the model wants " + std::to_string(fixed) + " samples at once");
  }
  if (fixed > 0) {
    schedule.first = schedule.batch = fixed;
    schedule.wrap = fixed > 1;
  } else if (data.can_batch() && options.batch > 0) {
    schedule.first = schedule.batch = options.batch;
  }
  return schedule;
}

void pick_runs(RunSchedule& schedule, std::uint64_t bytes_per_sample, std::uint64_t wanted_bytes) {
  const auto filling = [&](std::uint64_t bytes) {
    return static_cast<std::int64_t>(bytes / std::max<std::uint64_t>(bytes_per_sample, 1));
  };
  const std::int64_t wanted = std::max(
      {kLeastSamples, filling(wanted_bytes), std::min(kUsualSamples, filling(kMostBytes))});
  const std::int64_t rest = schedule.all_runs() - 1;
  const std::int64_t needed =
      (std::max<std::int64_t>(wanted - schedule.first, 0) + schedule.batch - 1) / schedule.batch;
  if (needed > 0 && needed < rest) schedule.picked = needed;
}

std::int64_t batch_for(std::uint64_t bytes_per_sample) {
  const std::uint64_t fitting = kRunBytes / std::max<std::uint64_t>(bytes_per_sample, 1);
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(fitting), 1, kMaxBatch);
}

Result<std::vector<NamedTensor>> read_run(DataSource& data, const RunSchedule& schedule,
                                          std::int64_t run) {
  std::int64_t wanted = schedule.size(run);
  std::int64_t begin = schedule.begin(run);
  std::vector<NamedTensor> feeds;
  while (wanted > 0) {
    const std::int64_t count = std::min(wanted, schedule.samples - begin);
    MCOMPRESS_ASSIGN(std::vector<NamedTensor> part, data.batch(begin, count));
    if (feeds.empty()) {
      feeds = std::move(part);
    } else {
      for (std::size_t i = 0; i < feeds.size(); ++i) {
        MCOMPRESS_ASSIGN(feeds[i].tensor, join_rows(feeds[i].tensor, part[i].tensor));
      }
    }
    wanted -= count;
    begin = 0;
  }
  return feeds;
}

}  // namespace mcompress
