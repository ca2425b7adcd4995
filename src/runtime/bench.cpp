#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
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

// Of the last and the last but one `kWindow` times.
constexpr std::size_t kWindow = 5;
constexpr std::size_t kMostWarmUp = 200;

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return percentile(times, 50);
}

bool stable(const std::vector<double>& times) {
  if (times.size() < 2 * kWindow) return false;
  const auto end = times.end();
  const double before = median({end - 2 * kWindow, end - kWindow});
  const double after = median({end - kWindow, end});
  return std::fabs(after - before) <= 0.03 * before;
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

// Sizes of what the inputs of a language model have in common.
struct MadeUpTokens {
  std::vector<LanguageInput> roles;  // of those that follow from the sizes
  std::int64_t batch = 1, length = 1, past = 0;

  const LanguageInput* find(std::string_view name) const {
    const auto found = std::ranges::find(roles, name, &LanguageInput::name);
    return found == roles.end() ? nullptr : &*found;
  }
};

std::optional<MadeUpTokens> made_up_tokens(std::span<const PortInfo> inputs,
                                           const FeedOptions& options) {
  if (!options.shapes.empty()) return std::nullopt;
  MadeUpTokens tokens;
  tokens.roles = language_inputs(inputs, {});
  const LanguageInput* ids = find_role(tokens.roles, InputRole::kTokenIds);
  if (ids == nullptr || ids->dims.size() != 2) return std::nullopt;
  tokens.batch = ids->dims[0] > 0 ? ids->dims[0] : options.free_size;
  tokens.length = ids->dims[1] > 0 ? ids->dims[1] : options.free_size;
  const LanguageInput* past = find_role(tokens.roles, InputRole::kPast);
  if (past != nullptr && std::ranges::count(past->dims, LanguageInput::kLength) > 0) {
    tokens.past = options.free_size;
  }
  std::erase_if(tokens.roles, [](const LanguageInput& input) {
    return input.role == InputRole::kTokenIds ||
           std::ranges::count(input.dims, LanguageInput::kUnknown) > 0;
  });
  return tokens;
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
  std::vector<double> spent(targets.size(), 0);
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
  std::size_t turn = 0;
  const auto round = [&](std::vector<std::vector<double>>& counted) -> Status {
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (stopped()) return cancelled;
      double time = 0;
      Status status = run_once(*sessions[i], samples[turn % samples.size()], time);
      if (!status.ok()) return named(std::move(status).error(), targets[i].name);
      counted[i].push_back(time);
    }
    ++turn;
    return ok_status();
  };
  const auto least_spent = [](const std::vector<std::vector<double>>& counted) {
    double least = std::numeric_limits<double>::infinity();
    for (const std::vector<double>& list : counted) {
      least = std::min(least, std::accumulate(list.begin(), list.end(), 0.0));
    }
    return least;
  };

  std::vector<std::vector<double>> warming(targets.size());
  const bool until_stable = options.warm_up == BenchOptions::kUntilStable;
  const auto warm = [&] {
    const std::size_t done = warming[0].size();
    if (!until_stable) return static_cast<std::int64_t>(done) >= options.warm_up;
    return done >= kMostWarmUp || (done >= 3 && least_spent(warming) >= wanted) ||
           std::all_of(warming.begin(), warming.end(), stable);
  };
  while (!warm()) MCOMPRESS_TRY(round(warming));

  double least = 0;
  for (std::int64_t done = 0;; ++done) {
    const bool enough = done >= options.min_rounds && least >= wanted;
    if (enough || (options.max_rounds > 0 && done >= options.max_rounds)) break;
    progress.update("bench", static_cast<std::uint64_t>(std::min(least, wanted)),
                    static_cast<std::uint64_t>(wanted), "milliseconds");
    MCOMPRESS_TRY(round(times));
    for (std::size_t i = 0; i < times.size(); ++i) spent[i] += times[i].back();
    least = *std::min_element(spent.begin(), spent.end());
  }
  for (std::size_t i = 0; i < targets.size(); ++i) {
    results[i].name = targets[i].name;
    std::sort(loads[i].begin(), loads[i].end());
    results[i].load_ms = percentile(loads[i], 50);
    results[i].warm_up = static_cast<std::int64_t>(warming[i].size());
    summarise(times[i], results[i]);
    if (options.energy == nullptr) continue;
    double alone = 0;
    std::int64_t runs = 0;
    options.energy->start();
    while (runs < options.min_rounds || (alone < wanted && options.max_rounds == 0)) {
      if (stopped()) return cancelled;
      double time = 0;
      const std::size_t at = static_cast<std::size_t>(runs) % samples.size();
      Status status = run_once(*sessions[i], samples[at], time);
      if (!status.ok()) return named(std::move(status).error(), targets[i].name);
      alone += time;
      ++runs;
    }
    const std::optional<double> joules = options.energy->joules();
    if (joules && runs > 0) results[i].joules_per_run = *joules / static_cast<double>(runs);
  }
  return results;
}

Result<std::vector<NamedTensor>> make_feeds(std::span<const PortInfo> inputs,
                                            const FeedOptions& options) {
  std::uint64_t state = options.seed;
  std::vector<NamedTensor> feeds;
  const std::optional<MadeUpTokens> tokens = made_up_tokens(inputs, options);
  for (const PortInfo& port : inputs) {
    std::vector<std::int64_t> dims;
    const LanguageInput* role = tokens ? tokens->find(port.name) : nullptr;
    if (role != nullptr) {
      MCOMPRESS_ASSIGN(Tensor derived,
                       derive_input(*role, tokens->batch, tokens->length, tokens->past, {}));
      if (role->role != InputRole::kPast) {
        feeds.push_back({port.name, std::move(derived)});
        continue;
      }
      dims.assign(derived.dims().begin(), derived.dims().end());
    } else {
      MCOMPRESS_ASSIGN(dims, feed_shape(port, options));
    }
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
