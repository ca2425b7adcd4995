#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <mutex>
#include <utility>

#include "mcompress/evaluate.h"
#include "numeric/error.h"
#include "runtime/decisions.h"
#include "runtime/feeds.h"
#include "support/executor.h"
#include "support/try.h"

namespace mcompress {
namespace {

bool is_float(DataType type) {
  const DTypeInfo* info = find_dtype(type);
  return info != nullptr && info->floating;
}

struct Track {
  OutputError error;
  ErrorAccumulator total;
  std::int64_t equal_rows = 0;

  // Of samples that come later.
  void add(const Track& other) {
    total.merge(other.total);
    equal_rows += other.equal_rows;
    error.rows += other.error.rows;
    error.differing_shapes += other.error.differing_shapes;
    if (other.error.worst_sqnr_db < error.worst_sqnr_db) {
      error.worst_sqnr_db = other.error.worst_sqnr_db;
      error.worst_sample = other.error.worst_sample;
    }
  }
};

std::vector<std::string> common_outputs(const Session& reference, const Session& candidate) {
  std::vector<std::string> names;
  for (const PortInfo& port : reference.outputs()) {
    const bool shared = std::any_of(candidate.outputs().begin(), candidate.outputs().end(),
                                    [&](const PortInfo& other) { return other.name == port.name; });
    if (shared) names.push_back(port.name);
  }
  return names;
}

void compare_rows(std::span<const std::int64_t> dims, std::span<const float> reference,
                  std::span<const float> candidate, Track& track) {
  if (dims.empty() || dims.back() < 2) return;
  const auto width = static_cast<std::size_t>(dims.back());
  for (std::size_t start = 0; start + width <= reference.size(); start += width) {
    ++track.error.rows;
    if (argmax(reference.subspan(start, width)) == argmax(candidate.subspan(start, width))) {
      ++track.equal_rows;
    }
  }
}

Status add_sample(std::int64_t sample, const Tensor& reference, const TensorView& view,
                  Track& track) {
  if (reference.dtype() == DataType::kUndefined) return ok_status();  // a sequence, or no value
  if (!std::equal(view.dims.begin(), view.dims.end(), reference.dims().begin(),
                  reference.dims().end())) {
    ++track.error.differing_shapes;
    return ok_status();
  }
  MCOMPRESS_ASSIGN(const std::vector<float> expected, read_floats(reference));
  MCOMPRESS_ASSIGN(const std::vector<float> actual, view_values(view, track.error.output));
  ErrorAccumulator one;
  one.add(expected, actual);
  track.total.merge(one);
  const double sqnr = one.stats().sqnr_db();
  if (sqnr < track.error.worst_sqnr_db) {
    track.error.worst_sqnr_db = sqnr;
    track.error.worst_sample = sample;
  }
  if (is_float(reference.dtype())) compare_rows(view.dims, expected, actual, track);
  return ok_status();
}

Status compare_sample(Session& reference, Session& candidate, const std::vector<std::string>& names,
                      std::int64_t sample, const Result<std::vector<NamedTensor>>& feeds,
                      std::vector<Track>& tracks) {
  if (!feeds.ok()) return feeds.error();
  MCOMPRESS_ASSIGN(const auto expected, reference.run(*feeds, names));
  return candidate.run(*feeds, names, [&](std::size_t i, const TensorView& view) {
    return add_sample(sample, expected[i], view, tracks[i]);
  });
}

OutputError finish(Track& track) {
  const ErrorStats stats = track.total.stats();
  OutputError& error = track.error;
  error.values = static_cast<std::int64_t>(stats.count);
  error.differing_non_finite = static_cast<std::int64_t>(stats.differing_non_finite);
  error.sqnr_db = stats.sqnr_db();
  error.cosine = stats.cosine();
  error.max_abs_error = stats.max_abs_error;
  if (error.rows > 0) {
    error.argmax_agreement =
        static_cast<double>(track.equal_rows) / static_cast<double>(error.rows);
  }
  return std::move(error);
}

}  // namespace

Result<Comparison> compare_outputs(Session& reference, Session& candidate, DataSource& data,
                                   const CompareOptions& options, Progress& progress) {
  std::vector<std::string> names = options.outputs;
  if (names.empty()) names = common_outputs(reference, candidate);
  if (names.empty()) {
    return Error(Code::kInput, "no-common-output", "the two models have no output in common");
  }
  MCOMPRESS_TRY(check_fetch(reference.outputs(), names));
  MCOMPRESS_TRY(check_fetch(candidate.outputs(), names));
  const auto new_tracks = [&] {
    std::vector<Track> tracks(names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      tracks[i].error.output = names[i];
      tracks[i].error.worst_sqnr_db = std::numeric_limits<double>::infinity();
    }
    return tracks;
  };
  Comparison result;
  result.samples = options.limit > 0 ? std::min(options.limit, data.count()) : data.count();
  const std::int64_t step = std::max<std::int64_t>(data.fixed_batch(), 1);
  result.samples -= result.samples % step;
  std::mutex reading;
  const auto read = [&](std::int64_t sample) -> Result<std::vector<NamedTensor>> {
    const std::lock_guard lock(reading);
    if (progress.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
    progress.update("compare", static_cast<std::uint64_t>(sample),
                    static_cast<std::uint64_t>(result.samples), "samples");
    return data.batch(sample, step);
  };
  std::vector<std::vector<Track>> parts(static_cast<std::size_t>(result.samples / step));
  const Executor executor(options.threads);
  MCOMPRESS_TRY(executor.try_parallel_for(parts.size(), 1, [&](std::size_t part, std::size_t) {
    const std::int64_t sample = static_cast<std::int64_t>(part) * step;
    parts[part] = new_tracks();
    return compare_sample(reference, candidate, names, sample, read(sample), parts[part]);
  }));
  std::vector<Track> tracks = new_tracks();
  for (const std::vector<Track>& part : parts) {
    for (std::size_t i = 0; i < tracks.size(); ++i) tracks[i].add(part[i]);
  }
  for (Track& track : tracks) result.outputs.push_back(finish(track));
  return result;
}

}  // namespace mcompress
