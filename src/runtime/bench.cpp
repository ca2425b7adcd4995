#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "ir/convert.h"
#include "mcompress/evaluate.h"
#include "runtime/feeds.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Nearest rank of a sorted list.
double percentile(const std::vector<double>& sorted, double percent) {
  const double rank = std::ceil(percent / 100 * static_cast<double>(sorted.size()));
  return sorted[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
}

Status run_once(Session& session, std::span<const NamedTensor> feeds, double& milliseconds) {
  const Clock::time_point start = Clock::now();
  Status status = session.run(feeds, std::span<const std::string>(),
                              [](std::size_t, const TensorView&) { return ok_status(); });
  milliseconds = milliseconds_since(start);
  return status;
}

void summarise(std::vector<double>& times, BenchTimes& result) {
  std::sort(times.begin(), times.end());
  double sum = 0;
  for (const double time : times) sum += time;
  result.runs = static_cast<std::int64_t>(times.size());
  if (times.empty()) return;
  result.min_ms = times.front();
  result.p50_ms = percentile(times, 50);
  result.p90_ms = percentile(times, 90);
  result.p99_ms = percentile(times, 99);
  result.mean_ms = sum / static_cast<double>(times.size());
  if (sum > 0) result.runs_per_second = 1000 * static_cast<double>(times.size()) / sum;
}

Error named(Error error, const std::string& target) { return std::move(error).in_file(target); }

// SplitMix64 (Steele, Lea and Flood, 2014).
std::uint64_t next_random(std::uint64_t& state) {
  state += 0x9e3779b97f4a7c15U;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

Result<std::vector<std::int64_t>> feed_shape(const PortInfo& port, const FeedOptions& options) {
  if (const auto given = options.shapes.find(port.name); given != options.shapes.end()) {
    return given->second;
  }
  Location where;
  where.subject = port.name;
  if (!port.type.shape) {
    return Error(Code::kInput, "feed-shape-unknown", "the model does not say the input's rank",
                 std::move(where), "give its shape");
  }
  std::vector<std::int64_t> dims;
  for (const Dim& dim : *port.type.shape) dims.push_back(dim.size.value_or(options.free_size));
  return dims;
}

}  // namespace

Result<std::vector<BenchTimes>> bench_sessions(std::span<const BenchTarget> targets,
                                               std::span<const std::vector<NamedTensor>> samples,
                                               const BenchOptions& options, Progress& progress) {
  if (samples.empty()) return Error(Code::kUsage, "bench-no-data", "there is nothing to feed");
  if (targets.empty()) return std::vector<BenchTimes>();
  std::vector<BenchTimes> results(targets.size());
  std::vector<std::unique_ptr<Session>> sessions(targets.size());
  std::vector<std::vector<double>> loads(targets.size()), times(targets.size());
  const auto stopped = [&] { return progress.cancelled(); };
  const Error cancelled(Code::kCancelled, "cancelled", "stopped on request");

  for (std::int64_t load = 0; load < std::max<std::int64_t>(options.loads, 1); ++load) {
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (stopped()) return cancelled;
      sessions[i].reset();
      const Clock::time_point start = Clock::now();
      Result<std::unique_ptr<Session>> opened = targets[i].open();
      loads[i].push_back(milliseconds_since(start));
      if (!opened.ok()) return named(std::move(opened).error(), targets[i].name);
      sessions[i] = std::move(opened).value();
    }
  }
  const double wanted = options.seconds * 1000;
  std::vector<double> spent(targets.size(), 0);
  for (std::int64_t round = -options.warm_up;; ++round) {
    if (round >= 0) {
      const double least = *std::min_element(spent.begin(), spent.end());
      const bool enough = round >= options.min_rounds && least >= wanted;
      if (enough || (options.max_rounds > 0 && round >= options.max_rounds)) break;
      progress.update("bench", static_cast<std::uint64_t>(std::min(least, wanted)),
                      static_cast<std::uint64_t>(wanted), "milliseconds");
    }
    const auto turn = static_cast<std::size_t>(round + options.warm_up);
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (stopped()) return cancelled;
      double time = 0;
      Status status = run_once(*sessions[i], samples[turn % samples.size()], time);
      if (!status.ok()) return named(std::move(status).error(), targets[i].name);
      if (round < 0) continue;
      times[i].push_back(time);
      spent[i] += time;
    }
  }
  for (std::size_t i = 0; i < targets.size(); ++i) {
    results[i].name = targets[i].name;
    std::sort(loads[i].begin(), loads[i].end());
    results[i].load_ms = percentile(loads[i], 50);
    summarise(times[i], results[i]);
  }
  return results;
}

Result<std::vector<NamedTensor>> make_feeds(std::span<const PortInfo> inputs,
                                            const FeedOptions& options) {
  std::uint64_t state = options.seed;
  std::vector<NamedTensor> feeds;
  for (const PortInfo& port : inputs) {
    MCOMPRESS_ASSIGN(std::vector<std::int64_t> dims, feed_shape(port, options));
    const std::optional<std::int64_t> count = element_count(dims);
    const std::optional<std::uint64_t> bytes =
        count.has_value() ? packed_bytes(port.type.element, *count) : std::nullopt;
    Location where;
    where.subject = port.name;
    if (!bytes.has_value()) {
      return Error(Code::kUnsupported, "feed-not-numeric",
                   "no data can be made up for " + port_type_text(port.type), std::move(where));
    }
    std::vector<std::byte> content(static_cast<std::size_t>(*bytes));
    if (can_encode(port.type.element)) {
      std::vector<float> values(static_cast<std::size_t>(*count));
      for (float& value : values) {
        value = static_cast<float>(next_random(state) >> 40) * 0x1p-23F - 1.0F;
      }
      encode_from_float(port.type.element, values, content, {});
    }
    feeds.push_back(
        {port.name, make_bytes_tensor(port.type.element, std::move(dims), std::move(content))});
  }
  return feeds;
}

}  // namespace mcompress
