// Tokens per second, target by target in turn.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "mcompress/language.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Nearest rank.
double percentile(std::vector<double> values, double percent) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const double rank = std::ceil(percent / 100 * static_cast<double>(values.size()));
  return values[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
}

double per_second(double count, const std::vector<double>& milliseconds) {
  const double sum = std::accumulate(milliseconds.begin(), milliseconds.end(), 0.0);
  return sum > 0 ? 1000 * count / sum : 0;
}

struct Runner {
  std::unique_ptr<Session> session;
  std::optional<Generator> generator;
  std::vector<double> first, steps;
  double spent = 0, prompt_tokens = 0;
};

}  // namespace

Result<std::vector<GenerationTimes>> bench_generation(
    std::span<const GenerationTarget> targets, std::span<const std::vector<std::int64_t>> prompts,
    const GenerationOptions& options, Progress& progress) {
  if (prompts.empty() || targets.empty() || options.tokens < 2) {
    return Error(Code::kUsage, "bench-no-data", "a prompt and two tokens to generate are wanted");
  }
  std::vector<Runner> runners(targets.size());
  for (std::size_t i = 0; i < targets.size(); ++i) {
    auto opened = targets[i].open();
    if (!opened.ok()) return std::move(opened).error().in_file(targets[i].name);
    runners[i].session = std::move(opened).value();
    auto made = Generator::make(*runners[i].session, targets[i].roles, {});
    if (!made.ok()) return std::move(made).error().in_file(targets[i].name);
    runners[i].generator = std::move(made).value();
  }
  constexpr std::int64_t kLeastRounds = 3;
  std::int64_t counted = 0;
  for (std::int64_t round = 0;; ++round) {
    const bool warm = round >= options.warm_up;
    if (warm) {
      double least = runners.front().spent;
      for (const Runner& runner : runners) least = std::min(least, runner.spent);
      const bool enough = options.rounds > 0
                              ? counted >= options.rounds
                              : counted >= kLeastRounds && least >= options.seconds * 1000;
      if (enough) break;
      progress.update("bench", static_cast<std::uint64_t>(least),
                      static_cast<std::uint64_t>(options.seconds * 1000), "milliseconds");
      ++counted;
    }
    const auto& prompt = prompts[static_cast<std::size_t>(round) % prompts.size()];
    for (std::size_t i = 0; i < targets.size(); ++i) {
      auto done = runners[i].generator->run(prompt, options.tokens, progress);
      if (!done.ok()) return std::move(done).error().in_file(targets[i].name);
      if (!warm) continue;
      Runner& runner = runners[i];
      runner.first.push_back(done->first_ms);
      runner.steps.insert(runner.steps.end(), done->steps_ms.begin(), done->steps_ms.end());
      runner.prompt_tokens += static_cast<double>(prompt.size());
      runner.spent += done->first_ms;
      for (const double step : done->steps_ms) runner.spent += step;
    }
  }
  std::vector<GenerationTimes> results;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const Runner& runner = runners[i];
    GenerationTimes times;
    times.name = targets[i].name;
    times.cached = runner.generator->cached();
    times.rounds = counted;
    times.prompt_tokens = static_cast<std::int64_t>(runner.prompt_tokens);
    times.first_ms = percentile(runner.first, 50);
    times.step_ms = percentile(runner.steps, 50);
    times.step_p99_ms = percentile(runner.steps, 99);
    times.prefill_per_second = per_second(runner.prompt_tokens, runner.first);
    times.decode_per_second = per_second(static_cast<double>(runner.steps.size()), runner.steps);
    results.push_back(std::move(times));
  }
  return results;
}

}  // namespace mcompress
