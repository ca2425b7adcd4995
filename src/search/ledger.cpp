#include "search/ledger.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/try.h"

namespace mcompress {

namespace {

bool in_integers(const SearchSpace& space, std::size_t form) {
  return space.options().forms[form].integers;
}

}  // namespace

double SearchLedger::predicted_noise(std::span<const std::size_t> choice) const {
  double sum = 0;
  for (std::size_t layer = 0; layer < choice.size(); ++layer) {
    sum += space_.layers()[layer].effects[choice[layer]].noise;
  }
  for (const SearchBorder& border : space_.borders()) {
    const bool both =
        in_integers(space_, choice[border.left]) && in_integers(space_, choice[border.right]);
    if (both) sum -= 2 * border.noise;
  }
  return std::max(sum, 0.0);
}

double SearchLedger::layers_time(std::span<const std::size_t> choice) const {
  double sum = 0;
  for (std::size_t layer = 0; layer < choice.size(); ++layer) {
    sum += space_.layers()[layer].effects[choice[layer]].microseconds;
  }
  for (const SearchBorder& border : space_.borders()) {
    const bool apart =
        in_integers(space_, choice[border.left]) != in_integers(space_, choice[border.right]);
    if (apart) sum += border.microseconds;
  }
  return sum;
}

namespace {

double middle_of(std::vector<double> numbers) {
  if (numbers.empty()) return 1;
  std::sort(numbers.begin(), numbers.end());
  return numbers[numbers.size() / 2];
}

}  // namespace

std::optional<double> SearchLedger::predicted_latency(std::span<const std::size_t> choice) const {
  const double plain = layers_time(space_.plain());
  if (plain <= 0) return std::nullopt;
  return middle_of(slower_) * layers_time(choice) / plain;
}

double SearchLedger::time_budget() const {
  const double limit = space_.options().limits.max_latency;
  const double plain = layers_time(space_.plain());
  if (limit <= 0 || plain <= 0) return std::numeric_limits<double>::infinity();
  return limit * plain / middle_of(slower_);
}

double SearchLedger::predicted_bytes(std::span<const std::size_t> choice) const {
  auto sum = static_cast<double>(space_.base_bytes());
  for (std::size_t layer = 0; layer < choice.size(); ++layer) {
    sum += static_cast<double>(space_.layers()[layer].effects[choice[layer]].bytes);
  }
  for (std::size_t form = 0; form < space_.form_bytes().size(); ++form) {
    const bool used = std::find(choice.begin(), choice.end(), form) != choice.end();
    if (used) sum += space_.form_bytes()[form];
  }
  return sum;
}

namespace {

// How far from holding, summed over the limits as shares of them; 0: all hold.
double violation(const SearchLimits& limits, const SearchPoint& point) {
  double sum = 0;
  if (limits.max_bytes > 0 && point.bytes > limits.max_bytes) {
    sum += static_cast<double>(point.bytes) / static_cast<double>(limits.max_bytes) - 1;
  }
  if (limits.max_drop < 100 && !(point.quality.drop <= limits.max_drop + 1e-9)) {
    sum += (point.quality.drop - limits.max_drop) / 10;
  }
  if (limits.min_sqnr > 0 && !(point.quality.sqnr_db >= limits.min_sqnr)) {
    sum += (limits.min_sqnr - point.quality.sqnr_db) / 20;
  }
  if (limits.max_latency > 0 && point.latency && *point.latency > limits.max_latency) {
    sum += *point.latency / limits.max_latency - 1;
  }
  return std::isnan(sum) ? std::numeric_limits<double>::infinity() : sum;
}

bool finer(SearchPrefer prefer, const SearchPoint& a, const SearchPoint& b) {
  const auto key = [prefer](const SearchPoint& point) {
    const double drop = preferred_drop(prefer, point.quality);
    const double noise = std::isnan(point.quality.sqnr_db) ? 1e9 : -point.quality.sqnr_db;
    return prefer == SearchPrefer::kSqnr ? std::pair(noise, drop) : std::pair(drop, noise);
  };
  if (key(a) != key(b)) return key(a) < key(b);
  return a.bytes < b.bytes;
}

}  // namespace

bool better_point(const SearchOptions& options, const SearchPoint& a, const SearchPoint& b) {
  const SearchLimits& limits = options.limits;
  if (a.holds != b.holds) return a.holds;
  if (!a.holds) {
    const double x = violation(limits, a), y = violation(limits, b);
    return x != y ? x < y : finer(options.prefer, a, b);
  }
  const bool fewest_bytes = limits.max_bytes == 0 && limits.max_latency == 0;
  if (fewest_bytes && a.bytes != b.bytes) return a.bytes < b.bytes;
  return finer(options.prefer, a, b);
}

Result<const SearchPoint*> SearchLedger::evaluate(const std::vector<std::size_t>& choice,
                                                  std::string origin, SearchSpace::Built built) {
  if (seen_.contains(choice)) return nullptr;
  const SearchServices& services = space_.services();
  Progress* progress = services.services.progress;
  if (progress != nullptr && progress->cancelled()) {
    return Error(Code::kCancelled, "cancelled", "interrupted");
  }
  SearchPoint point;
  point.choice = choice;
  point.origin = std::move(origin);
  point.predicted_db = -10 * std::log10(std::max(predicted_noise(choice), 1e-20));
  point.predicted_latency = predicted_latency(choice);
  const bool timed = space_.options().limits.max_latency > 0 && services.latency != nullptr;
  const std::string key = space_.key(choice, timed ? "quality and time" : "quality");
  const std::vector<double>* known = nullptr;
  if (services.memory != nullptr) {
    const auto found = services.memory->known.find(key);
    if (found != services.memory->known.end() && found->second.size() == 4) known = &found->second;
  }
  if (known != nullptr) {
    point.bytes = static_cast<std::uint64_t>((*known)[0]);
    point.quality = {(*known)[1], (*known)[2]};
    if (timed) point.latency = (*known)[3];
    ++outcome_.remembered;
  } else {
    if (built.model == nullptr) {
      MCOMPRESS_ASSIGN(built, space_.build(choice));
    }
    point.bytes = built.bytes;
    MCOMPRESS_ASSIGN(const auto session, space_.open_session(*built.model));
    MCOMPRESS_ASSIGN(point.quality, services.judge(*session));
    if (timed) {
      MCOMPRESS_ASSIGN(point.latency, services.latency(*built.model));
    }
    if (services.memory != nullptr) {
      services.memory->known[key] = {static_cast<double>(point.bytes), point.quality.drop,
                                     point.quality.sqnr_db, point.latency.value_or(0)};
      if (services.memory->changed != nullptr) MCOMPRESS_TRY(services.memory->changed());
    }
  }
  const double layers = layers_time(choice), plain = layers_time(space_.plain());
  if (point.latency && layers > 0 && plain > 0) {
    constexpr std::size_t kLast = 3;
    if (slower_.size() == kLast) slower_.erase(slower_.begin());
    slower_.push_back(std::clamp(*point.latency * plain / layers, 0.1, 10.0));
  }
  outcome_.evaluations += 1;
  if (progress != nullptr) {
    progress->update("evaluating", static_cast<std::uint64_t>(outcome_.evaluations),
                     static_cast<std::uint64_t>(limit()), "evaluations");
  }
  point.holds = violation(space_.options().limits, point) <= 0;
  seen_.emplace(choice, outcome_.points.size());
  outcome_.points.push_back(std::move(point));
  const SearchPoint& added = outcome_.points.back();
  if (!outcome_.best || better_point(space_.options(), added, *best()))
    outcome_.best = outcome_.points.size() - 1;
  return &outcome_.points.back();
}

// What layers have in common (a shape, an operator set) is counted with each of them, and so the
// sum of the layers is off, by much the same for choices that are much the same.
Result<FittedChoice> SearchLedger::fit(const SearchLosses& losses, std::uint64_t bytes,
                                       int rounds) {
  MCOMPRESS_ASSIGN(FittedChoice fitted, fit_by(losses, bytes, rounds, false));
  if (fitted.built.model == nullptr || fitted.built.as_written) return fitted;
  MCOMPRESS_ASSIGN(fitted.built, space_.build(fitted.choice));
  if (fitted.built.bytes <= bytes) return fitted;
  return fit_by(losses, bytes, rounds, true);
}

Result<FittedChoice> SearchLedger::fit_by(const SearchLosses& losses, std::uint64_t bytes,
                                          int rounds, bool as_written) {
  const auto build = [&](const std::vector<std::size_t>& choice) {
    return as_written ? space_.build(choice) : space_.build_for_bytes(choice);
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  FittedChoice fitted;
  const auto allowed = static_cast<double>(bytes);
  double budget = allowed - off_, fits = -kInfinity, exceeds = kInfinity;
  std::vector<std::size_t> last;
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::size_t> choice = counted_choice(space_, losses, budget, time_budget());
    if (choice.empty() && round == 0) {
      // Counting may be what is off: the least there is shows by how much.
      choice = smallest_choice(space_);
      if (knows(choice)) break;
      MCOMPRESS_ASSIGN(SearchSpace::Built built, build(choice));
      const auto got = static_cast<double>(built.bytes);
      if (got > allowed) break;
      off_ = got - predicted_bytes(choice);
      budget = allowed - off_;
      fitted = {std::move(choice), std::move(built)};
      continue;
    }
    if (choice.empty() || choice == last) break;
    last = choice;
    if (knows(choice)) {
      if (fitted.choice.empty()) fitted.choice = std::move(choice);
      break;
    }
    const double counted = predicted_bytes(choice);
    MCOMPRESS_ASSIGN(SearchSpace::Built built, build(choice));
    const auto got = static_cast<double>(built.bytes);
    double next = allowed - (got - counted);
    if (got > allowed) {
      exceeds = budget;
      next = std::min(next, budget - (got - allowed));
      if (next <= fits) next = (fits + budget) / 2;
    } else {
      fits = budget;
      off_ = got - counted;
      if (fitted.built.model == nullptr || built.bytes > fitted.built.bytes) {
        fitted = {std::move(choice), std::move(built)};
      }
      // Hardly anything is left: good enough.
      if ((allowed - got) * 300 < allowed || next <= budget) break;
      if (next >= exceeds) next = (budget + exceeds) / 2;
    }
    budget = next;
  }
  return fitted;
}

Status try_uniform_forms(SearchSpace& space, SearchLedger& ledger, std::size_t most) {
  struct Uniform {
    std::vector<std::size_t> choice;
    std::size_t form;
    double noise, bytes;
  };
  std::vector<Uniform> all;
  for (std::size_t form = 1; form < space.options().forms.size(); ++form) {
    Uniform uniform{space.plain(), form, 0, 0};
    bool any = false;
    for (std::size_t layer = 0; layer < space.layers().size(); ++layer) {
      if (!space.layers()[layer].effects[form].applies) continue;
      uniform.choice[layer] = form;
      any = true;
    }
    if (!any) continue;
    uniform.noise = ledger.predicted_noise(uniform.choice);
    uniform.bytes = ledger.predicted_bytes(uniform.choice);
    all.push_back(std::move(uniform));
  }
  // The best that may fit first; by size where bytes are what is looked for.
  std::stable_sort(all.begin(), all.end(),
                   [](const Uniform& a, const Uniform& b) { return a.noise < b.noise; });
  const std::uint64_t limit = space.options().limits.max_bytes;
  std::size_t tried = 0;
  for (const Uniform& uniform : all) {
    if (tried == most || !ledger.can_afford()) break;
    if (ledger.knows(uniform.choice)) continue;
    const double slowest = 1.25 * space.options().limits.max_latency;
    if (slowest > 0 && ledger.predicted_latency(uniform.choice).value_or(0) > slowest) continue;
    SearchSpace::Built built;
    if (limit > 0) {
      if (uniform.bytes > static_cast<double>(limit) * 1.1) continue;
      MCOMPRESS_ASSIGN(built, space.build(uniform.choice));
      if (built.bytes > limit) continue;
    }
    MCOMPRESS_TRY(ledger.evaluate(
        uniform.choice, "uniform " + space.options().forms[uniform.form].name, std::move(built)));
    ++tried;
  }
  return ok_status();
}

}  // namespace mcompress
