#include "search/measure.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "support/executor.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::int64_t kLeastSamples = 4;
constexpr double kNoNoise = 1e-20;

// Of the difference; infinite where shapes differ or something is not finite.
double energy_apart(const std::vector<float>& wanted, const TensorView& view) {
  constexpr double kLost = std::numeric_limits<double>::infinity();
  if (view.bytes.size() != wanted.size() * sizeof(float)) return kLost;
  double sum = 0;
  for (std::size_t k = 0; k < wanted.size(); ++k) {
    float value = 0;
    std::memcpy(&value, view.bytes.data() + k * sizeof(float), sizeof(float));
    if (!std::isfinite(wanted[k])) continue;
    const double apart = static_cast<double>(value) - wanted[k];
    if (!std::isfinite(apart)) return kLost;
    sum += apart * apart;
  }
  return sum;
}

// The first float32 output on some samples, and how far candidates are from it.
class OutputMeter {
 public:
  static Result<OutputMeter> open(const SearchSpace& space, std::int64_t samples) {
    OutputMeter meter;
    DataSource& data = *space.services().data;
    const std::int64_t at_once = std::max<std::int64_t>(1, data.fixed_batch());
    const std::int64_t runs = std::max<std::int64_t>(1, samples / at_once);
    const std::int64_t all = std::max<std::int64_t>(1, data.count() / at_once);
    for (std::int64_t i = 0; i < std::min(runs, all); ++i) {
      const std::int64_t at = (2 * i + 1) * all / (2 * std::min(runs, all));
      MCOMPRESS_ASSIGN(auto feed, data.batch(at * at_once, at_once));
      meter.feeds_.push_back(std::move(feed));
    }
    meter.samples_ = static_cast<std::int64_t>(meter.feeds_.size()) * at_once;
    MCOMPRESS_ASSIGN(const auto session, space.open_session(space.prepared()));
    for (const PortInfo& port : session->outputs()) {
      if (port.type.element != DataType::kFloat || !meter.fetch_.empty()) continue;
      meter.fetch_.push_back(port.name);
    }
    if (meter.fetch_.empty()) {
      return Error(Code::kUnsupported, "no-float-output",
                   "the model has no float32 output by which layers could be judged");
    }
    for (const auto& feed : meter.feeds_) {
      std::vector<float>& kept = meter.wanted_.emplace_back();
      MCOMPRESS_TRY(
          session->run(feed, meter.fetch_, [&kept](std::size_t, const TensorView& view) -> Status {
            kept.resize(view.bytes.size() / sizeof(float));
            std::memcpy(kept.data(), view.bytes.data(), kept.size() * sizeof(float));
            return ok_status();
          }));
      for (const float value : kept) {
        if (std::isfinite(value)) meter.energy_ += static_cast<double>(value) * value;
      }
    }
    return meter;
  }

  std::int64_t samples() const { return samples_; }

  // Energy of the difference as a share of that of the reference; what is not finite, or has
  // another shape, counts as all of it.
  Result<double> noise(Session& session, const Executor& executor) const {
    std::vector<double> sums(feeds_.size());  // not finite: lost
    MCOMPRESS_TRY(
        executor.try_parallel_for(feeds_.size(), 1, [&](std::size_t i, std::size_t) -> Status {
          return session.run(feeds_[i], fetch_, [&](std::size_t, const TensorView& view) -> Status {
            sums[i] = energy_apart(wanted_[i], view);
            return ok_status();
          });
        }));
    double sum = 0;
    for (const double of_run : sums) sum += of_run;
    if (!std::isfinite(sum)) return 1.0;
    return sum / std::max(energy_, std::numeric_limits<double>::min());
  }

 private:
  OutputMeter() = default;
  std::vector<std::vector<NamedTensor>> feeds_;
  std::vector<std::string> fetch_;
  std::vector<std::vector<float>> wanted_;
  double energy_ = 0;
  std::int64_t samples_ = 0;
};

// Which forms are run when not all can be: the ends of the range of bytes and what lies between.
std::vector<bool> chosen_forms(const SearchLayer& layer, std::size_t count) {
  std::vector<std::size_t> order;
  for (std::size_t form = 1; form < layer.effects.size(); ++form) {
    const SearchEffect& effect = layer.effects[form];
    if (effect.applies && !effect.only_shared) order.push_back(form);
  }
  std::stable_sort(order.begin(), order.end(), [&layer](std::size_t a, std::size_t b) {
    return layer.effects[a].bytes < layer.effects[b].bytes;
  });
  std::vector<bool> run(layer.effects.size(), false);
  const std::size_t n = std::min(count, order.size());
  for (std::size_t i = 0; i < n; ++i) {
    run[order[n == 1 ? order.size() / 2 : i * (order.size() - 1) / (n - 1)]] = true;
  }
  return run;
}

}  // namespace

std::vector<double> interpolated_noise(const std::vector<double>& bits,
                                       const std::vector<std::optional<double>>& noise) {
  const double slope = -2 * std::log(2.0);       // an error half as large for each bit more
  std::vector<std::pair<double, double>> known;  // bits, log noise
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (noise[i]) known.emplace_back(bits[i], std::log(std::max(*noise[i], kNoNoise)));
  }
  std::sort(known.begin(), known.end());
  std::vector<double> filled(bits.size());
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (noise[i]) {
      filled[i] = *noise[i];
      continue;
    }
    const auto right =
        std::lower_bound(known.begin(), known.end(), std::make_pair(bits[i], -1e300));
    double y = 0;
    if (right == known.begin()) {
      y = known.front().second + slope * (bits[i] - known.front().first);
    } else if (right == known.end()) {
      y = known.back().second + slope * (bits[i] - known.back().first);
    } else {
      const auto left = right - 1;
      const double width = right->first - left->first;
      const double share = width > 0 ? (bits[i] - left->first) / width : 0;
      y = left->second + share * (right->second - left->second);
    }
    filled[i] = std::exp(y);
  }
  return filled;
}

// The mean ratio, in logarithms, of the noises of two forms on the layers that have both, times the
// noise of one of them here: that which most layers have.
void fill_shared_noise(std::span<SearchLayer> layers) {
  const auto known = [](const SearchEffect& effect) {
    return effect.measured && effect.noise > kNoNoise;
  };
  for (SearchLayer& layer : layers) {
    for (std::size_t form = 1; form < layer.effects.size(); ++form) {
      SearchEffect& effect = layer.effects[form];
      if (!effect.only_shared) continue;
      std::size_t most = 0;
      for (std::size_t beside = 1; beside < layer.effects.size(); ++beside) {
        if (!known(layer.effects[beside])) continue;
        std::size_t count = 0;
        double sum = 0;
        for (const SearchLayer& other : layers) {
          if (!known(other.effects[form]) || !known(other.effects[beside])) continue;
          sum += std::log(other.effects[form].noise / other.effects[beside].noise);
          ++count;
        }
        if (count <= most) continue;
        most = count;
        effect.noise = layer.effects[beside].noise * std::exp(sum / static_cast<double>(count));
      }
      if (most == 0) effect.applies = false;  // nothing is known of it
    }
  }
}

namespace {

class Measuring {
 public:
  Measuring(SearchSpace& space, double evaluations)
      : space_(space),
        evaluations_(evaluations),
        executor_(space.services().session_threads > 1 ? 1 : space.services().services.threads) {}

  Result<MeasureCost> run() {
    const std::size_t layers = space_.layers().size(), forms = space_.options().forms.size();
    const std::size_t all = layers * (forms - 1);
    const auto judged =
        static_cast<double>(std::max<std::int64_t>(1, space_.services().judged_samples));
    const double samples_to_run = evaluations_ * judged;
    std::int64_t samples = std::min(space_.options().samples, space_.services().data->count());
    const auto affordable = static_cast<std::int64_t>(samples_to_run / static_cast<double>(all));
    samples = std::min(samples, std::max(affordable, kLeastSamples));
    samples = std::max<std::int64_t>(samples, 1);
    MCOMPRESS_ASSIGN(meter_, OutputMeter::open(space_, samples));
    cost_.samples = meter_->samples();
    std::size_t per_layer = forms - 1;
    double trials = samples_to_run / static_cast<double>(cost_.samples);
    // Borders come first where they take no more than half.
    const std::size_t integers = integer_form();
    const auto pairs = static_cast<double>(integers < forms ? space_.borders().size() : 0);
    const bool with_borders = pairs > 0 && pairs * 2 <= trials;
    if (with_borders) trials -= pairs;
    if (trials < static_cast<double>(all)) {
      per_layer =
          std::max<std::size_t>(1, static_cast<std::size_t>(trials / static_cast<double>(layers)));
    }
    models_.resize(layers);
    // Kept for the noise as far as they are small together.
    constexpr std::uint64_t kMostKept = std::uint64_t{256} << 20;
    keeps_ = space_.base_bytes() * all <= kMostKept;
    for (std::size_t layer = 0; layer < layers; ++layer) {
      MCOMPRESS_TRY(find_bytes(layer));
      show("counting bytes", layer + 1);
    }
    MCOMPRESS_TRY(find_form_bytes());
    for (std::size_t layer = 0; layer < layers; ++layer) {
      MCOMPRESS_TRY(find_noise(layer, per_layer));
      show("measuring layers", layer + 1);
    }
    fill_shared_noise(space_.layers());
    if (with_borders) MCOMPRESS_TRY(find_borders(integers));
    if (integers < forms) MCOMPRESS_TRY(find_noise_together(integers, trials));
    cost_.evaluations = static_cast<double>(cost_.trials * cost_.samples) / judged;
    return cost_;
  }

 private:
  Status check() const {
    const Progress* progress = space_.services().services.progress;
    if (progress != nullptr && progress->cancelled()) {
      return Error(Code::kCancelled, "cancelled", "interrupted");
    }
    return ok_status();
  }

  void show(std::string_view stage, std::size_t done) {
    Progress* progress = space_.services().services.progress;
    if (progress != nullptr) progress->update(stage, done, space_.layers().size(), "layers");
  }

  std::vector<std::size_t> alone(std::size_t layer, std::size_t form) const {
    std::vector<std::size_t> choice = space_.plain();
    choice[layer] = form;
    return choice;
  }

  // The first that computes in integers; the number of forms: none does.
  std::size_t integer_form() const {
    const auto& forms = space_.options().forms;
    const auto found = std::find_if(forms.begin(), forms.end(),
                                    [](const SearchForm& form) { return form.integers; });
    return static_cast<std::size_t>(found - forms.begin());
  }

  // Two neighbours in integers do not quantize twice what goes from one to the other: half of what
  // they have less of noise than the sum of both alone.
  Status find_borders(std::size_t form) {
    const auto& layers = space_.layers();
    for (SearchBorder& border : space_.borders()) {
      const SearchEffect &left = layers[border.left].effects[form],
                         &right = layers[border.right].effects[form];
      if (!left.applies || !right.applies || !left.measured || !right.measured) continue;
      if (left.only_together || right.only_together) continue;
      MCOMPRESS_TRY(check());
      std::vector<std::size_t> choice = alone(border.left, form);
      choice[border.right] = form;
      MCOMPRESS_ASSIGN(const double both, noise_of(choice, nullptr));
      ++cost_.trials;
      const double most = std::min(left.noise, right.noise) / 2;
      border.noise = std::clamp((left.noise + right.noise - both) / 2, 0.0, most);
    }
    return changed();
  }

  // Of layers that compute in integers only beside others: what all lose less without one. Where
  // that is too much to run, each has its share of what all lose.
  Status find_noise_together(std::size_t form, double trials) {
    auto& layers = space_.layers();
    std::vector<std::size_t> all = space_.plain(), wanted;
    std::int64_t count = 0;
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      if (!layers[layer].effects[form].applies) continue;
      all[layer] = form;
      ++count;
      if (layers[layer].effects[form].only_together) wanted.push_back(layer);
    }
    if (wanted.empty()) return ok_status();
    MCOMPRESS_ASSIGN(const double together, noise_of(all, nullptr));
    ++cost_.trials;
    const bool each = static_cast<double>(wanted.size()) * 4 <= trials;
    for (const std::size_t layer : wanted) {
      SearchEffect& effect = layers[layer].effects[form];
      double share = together / static_cast<double>(count);
      if (each) {
        MCOMPRESS_TRY(check());
        std::vector<std::size_t> others = all;
        others[layer] = 0;
        MCOMPRESS_ASSIGN(const double without, noise_of(others, nullptr));
        ++cost_.trials;
        share = std::max(together - without, share / 10);
      }
      // Not less than the weights alone in as many bits lose, which is what was measured.
      effect.noise = effect.measured ? std::max(effect.noise, share) : share;
      effect.measured = each;
    }
    return changed();
  }

  Status changed() const {
    const SearchMemory* memory = space_.services().memory;
    return memory != nullptr && memory->changed != nullptr ? memory->changed() : ok_status();
  }

  const std::vector<double>* remembered(const std::string& key) const {
    const SearchMemory* memory = space_.services().memory;
    if (memory == nullptr) return nullptr;
    const auto found = memory->known.find(key);
    return found != memory->known.end() && found->second.size() == 1 ? &found->second : nullptr;
  }

  void remember(const std::string& key, double number) {
    SearchMemory* memory = space_.services().memory;
    if (memory != nullptr) memory->known[key] = {number};
  }

  Status find_bytes(std::size_t layer) {
    auto& effects = space_.layers()[layer].effects;
    effects.assign(space_.options().forms.size(), {});
    effects[0].applies = effects[0].measured = true;
    models_[layer].resize(effects.size());
    for (std::size_t form = 1; form < effects.size(); ++form) {
      MCOMPRESS_TRY(check());
      const std::vector<std::size_t> choice = alone(layer, form);
      MCOMPRESS_ASSIGN(effects[form].bytes,
                       bytes_of(choice, keeps_ ? &models_[layer][form] : nullptr));
      if (!space_.options().forms[form].integers) continue;
      const auto* known = remembered(space_.key(choice, "in integers"));
      effects[form].only_together = known != nullptr && known->front() == 0;
    }
    return ok_status();
  }

  // More than with all layers as they are. `model`: where to keep what is built; null: nowhere.
  Result<std::int64_t> bytes_of(const std::vector<std::size_t>& choice,
                                std::unique_ptr<Model>* model) {
    const std::string key = space_.key(choice, "bytes");
    if (const auto* known = remembered(key)) return static_cast<std::int64_t>(known->front());
    MCOMPRESS_ASSIGN(SearchSpace::Built built,
                     model != nullptr ? space_.build(choice) : space_.build_for_bytes(choice));
    const auto bytes =
        static_cast<std::int64_t>(built.bytes) - static_cast<std::int64_t>(space_.base_bytes());
    remember(key, static_cast<double>(bytes));
    remember(space_.key(choice, "in integers"), built.in_integers ? 1 : 0);
    if (model != nullptr) *model = std::move(built.model);
    return bytes;
  }

  // What a form takes once is counted with each layer alone, and but once with all of them:
  // the sum of n layers alone is n - 1 times that larger than all together.
  Status find_form_bytes() {
    auto& layers = space_.layers();
    for (std::size_t form = 1; form < space_.options().forms.size(); ++form) {
      std::vector<std::size_t> choice = space_.plain();
      std::int64_t sum = 0, count = 0;
      for (std::size_t layer = 0; layer < layers.size(); ++layer) {
        if (layers[layer].effects[form].bytes == 0) continue;  // the form does not apply
        choice[layer] = form;
        sum += layers[layer].effects[form].bytes;
        ++count;
      }
      if (count > 1) {
        MCOMPRESS_TRY(check());
        MCOMPRESS_ASSIGN(const std::int64_t all, bytes_of(choice, nullptr));
        const std::int64_t whole = (sum - all) / (count - 1);
        space_.form_bytes()[form] = static_cast<double>(std::max<std::int64_t>(0, whole));
      }
      const auto once = static_cast<std::int64_t>(space_.form_bytes()[form]);
      for (SearchLayer& layer : layers) {
        SearchEffect& effect = layer.effects[form];
        if (effect.bytes == 0) continue;
        effect.bytes -= once;
        effect.applies = space_.options().forms[form].integers || effect.bytes < 0;
      }
      if (once > 0) MCOMPRESS_TRY(find_shared_bytes(form, choice));
    }
    return changed();
  }

  // Layers too small to pay for what the form takes once: what they take beside `others`, those
  // that have the form.
  Status find_shared_bytes(std::size_t form, const std::vector<std::size_t>& others) {
    auto& layers = space_.layers();
    MCOMPRESS_ASSIGN(const std::int64_t before, bytes_of(others, nullptr));
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      if (others[layer] == form) continue;
      MCOMPRESS_TRY(check());
      std::vector<std::size_t> choice = others;
      choice[layer] = form;
      MCOMPRESS_ASSIGN(const std::int64_t with, bytes_of(choice, nullptr));
      SearchEffect& effect = layers[layer].effects[form];
      effect.bytes = with - before;
      effect.applies = effect.only_shared = effect.bytes < 0;
    }
    return ok_status();
  }

  Status find_noise(std::size_t layer, std::size_t per_layer) {
    SearchLayer& at = space_.layers()[layer];
    const std::vector<bool> run = chosen_forms(at, per_layer);
    std::vector<std::optional<double>> noise(at.effects.size());
    std::vector<double> bits(at.effects.size(), 32);
    bool any = false;
    for (std::size_t form = 1; form < at.effects.size(); ++form) {
      SearchEffect& effect = at.effects[form];
      const auto whole = static_cast<double>(std::max<std::uint64_t>(at.weight_bytes, 1));
      bits[form] = 32 * (1 + static_cast<double>(effect.bytes) / whole);
      if (!run[form]) continue;
      MCOMPRESS_TRY(check());
      MCOMPRESS_ASSIGN(noise[form], noise_of(alone(layer, form), models_[layer][form].get()));
      ++cost_.trials;
      any = effect.measured = true;
    }
    models_[layer].clear();
    if (!any) return ok_status();
    const std::vector<double> filled = interpolated_noise(bits, noise);
    for (std::size_t form = 1; form < at.effects.size(); ++form) {
      at.effects[form].noise = filled[form];
    }
    return changed();
  }

  // `model`: of this choice; null: not built yet.
  Result<double> noise_of(const std::vector<std::size_t>& choice, const Model* model) {
    const std::string key =
        space_.key(choice, "noise of " + std::to_string(cost_.samples) + " samples");
    if (const auto* known = remembered(key)) {
      ++cost_.remembered;
      return known->front();
    }
    SearchSpace::Built built;
    if (model == nullptr) {
      MCOMPRESS_ASSIGN(built, space_.build(choice));
      model = built.model.get();
    }
    MCOMPRESS_ASSIGN(const auto session, space_.open_session(*model));
    MCOMPRESS_ASSIGN(const double noise, meter_->noise(*session, executor_));
    remember(key, noise);
    return noise;
  }

  SearchSpace& space_;
  double evaluations_;
  Executor executor_;
  std::optional<OutputMeter> meter_;
  std::vector<std::vector<std::unique_ptr<Model>>> models_;  // by layer and form
  bool keeps_ = false;
  MeasureCost cost_;
};

}  // namespace

Result<MeasureCost> measure_layers_and_forms(SearchSpace& space, double evaluations) {
  return Measuring(space, evaluations).run();
}

}  // namespace mcompress
