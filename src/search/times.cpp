#include "search/times.h"

#include <algorithm>
#include <numeric>

#include "search/places.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr int kRuns = 15;
constexpr int kTurns = 3;  // what else the machine does only ever adds: the fastest turn counts

class Profiling {
 public:
  explicit Profiling(SearchSpace& space)
      : space_(space), places_(places_of_layers(space.prepared(), space.layers())) {}

  Status run() {
    DataSource& data = *space_.services().data;
    MCOMPRESS_ASSIGN(feed_, data.batch(0, std::max<std::int64_t>(1, data.fixed_batch())));
    const std::size_t forms = space_.options().forms.size(), layers = space_.layers().size();
    std::vector<std::vector<std::size_t>> choices;
    for (std::size_t form = 0; form < forms; ++form) choices.push_back(uniform(form));
    std::size_t integers = 0;
    while (integers < forms && !space_.options().forms[integers].integers) ++integers;
    if (integers < forms && layers > 1) {
      for (const std::size_t odd : {0U, 1U}) {
        std::vector<std::size_t> every_second = choices[integers];
        for (std::size_t layer = odd; layer < layers; layer += 2) every_second[layer] = 0;
        choices.push_back(std::move(every_second));
      }
    }
    MCOMPRESS_TRY(profile(choices));
    for (std::size_t form = 0; form < forms; ++form) {
      for (std::size_t layer = 0; layer < layers; ++layer) {
        space_.layers()[layer].effects[form].microseconds = times_[form][layer];
      }
    }
    if (choices.size() > forms) find_borders(forms, integers);
    return ok_status();
  }

 private:
  std::vector<std::size_t> uniform(std::size_t form) const {
    std::vector<std::size_t> choice = space_.plain();
    for (std::size_t layer = 0; layer < choice.size(); ++layer) {
      if (space_.layers()[layer].effects[form].applies) choice[layer] = form;
    }
    return choice;
  }

  // The choices in turn, so that a slow minute of the machine meets all.
  Status profile(const std::vector<std::vector<std::size_t>>& choices) {
    times_.resize(choices.size());
    std::vector<std::unique_ptr<Model>> models(choices.size());
    SearchMemory* memory = space_.services().memory;
    Progress* progress = space_.services().services.progress;
    std::vector<std::string> keys;
    std::vector<bool> known(choices.size(), false);
    for (std::size_t i = 0; i < choices.size(); ++i) {
      keys.push_back(space_.key(choices[i], "kernel times"));
      if (memory == nullptr) continue;
      const auto found = memory->known.find(keys[i]);
      known[i] = found != memory->known.end() && found->second.size() == space_.layers().size();
      if (known[i]) times_[i] = found->second;
    }
    for (int turn = 0; turn < kTurns; ++turn) {
      for (std::size_t i = 0; i < choices.size(); ++i) {
        if (progress != nullptr && progress->cancelled()) {
          return Error(Code::kCancelled, "cancelled", "interrupted");
        }
        if (known[i]) continue;
        if (models[i] == nullptr) {
          MCOMPRESS_ASSIGN(SearchSpace::Built built, space_.build(choices[i]));
          models[i] = std::move(built.model);
        }
        MCOMPRESS_ASSIGN(std::vector<double> times, profile_one(*models[i]));
        if (times_[i].empty() || sum(times) < sum(times_[i])) times_[i] = std::move(times);
        if (progress != nullptr) {
          progress->update("profiling forms",
                           static_cast<std::uint64_t>(turn) * choices.size() + i + 1,
                           std::uint64_t{kTurns} * choices.size(), "sessions");
        }
      }
    }
    if (memory == nullptr) return ok_status();
    for (std::size_t i = 0; i < choices.size(); ++i) memory->known[keys[i]] = times_[i];
    return memory->changed != nullptr ? memory->changed() : ok_status();
  }

  static double sum(const std::vector<double>& numbers) {
    return std::accumulate(numbers.begin(), numbers.end(), 0.0);
  }

  Result<std::vector<double>> profile_one(const Model& model) const {
    SessionOptions options;
    options.threads = space_.services().session_threads;
    options.profile = true;
    MCOMPRESS_ASSIGN(const auto session, space_.services().services.runtime->open(model, options));
    std::vector<std::string> fetch;
    for (const PortInfo& port : session->outputs()) fetch.push_back(port.name);
    const auto ignore = [](std::size_t, const TensorView&) { return ok_status(); };
    for (int run = 0; run < kRuns; ++run) MCOMPRESS_TRY(session->run(feed_, fetch, ignore));
    MCOMPRESS_ASSIGN(const std::string trace, session->trace());
    MCOMPRESS_ASSIGN(const auto kernels, kernel_times(trace, kRuns));
    return times_of_layers(places_, kernels, space_.layers().size());
  }

  // Every second layer in integers and the others: together each layer once in each form, and each
  // border twice.
  void find_borders(std::size_t forms, std::size_t integers) {
    const auto& layers = space_.layers();
    for (SearchBorder& border : space_.borders()) {
      if (border.right != border.left + 1) continue;
      if (!layers[border.left].effects[integers].applies ||
          !layers[border.right].effects[integers].applies) {
        continue;
      }
      const double together = times_[forms][border.left] + times_[forms + 1][border.left];
      const double alone = times_[0][border.left] + times_[integers][border.left];
      border.microseconds = std::max(0.0, (together - alone) / 2);
      // A layer that was not put in integers between floats would lose more at its two borders than
      // it saves.
      for (const std::size_t layer : {border.left, border.right}) {
        if (!layers[layer].effects[integers].only_together) continue;
        const double saved = times_[0][layer] - times_[integers][layer];
        border.microseconds = std::max(border.microseconds, saved / 2);
      }
    }
  }

  SearchSpace& space_;
  LayerPlaces places_;
  std::vector<NamedTensor> feed_;
  std::vector<std::vector<double>> times_;  // by choice and layer
};

}  // namespace

Status measure_times(SearchSpace& space) { return Profiling(space).run(); }

}  // namespace mcompress
