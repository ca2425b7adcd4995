#include "passes/common/channels/channel_effects.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "mcompress/edit.h"
#include "passes/common/channels/channel_cut.h"
#include "passes/common/channels/channel_regression.h"
#include "passes/common/guard.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Below this, what is measured is the rounding of the runtime.
constexpr double kLeastNoise = 1e-8;

std::vector<std::uint32_t> by_score(const ChannelTrace& trace, const ChannelTrace::Group& group,
                                    const std::vector<double>& scores) {
  std::vector<std::uint32_t> units;
  for (const std::uint32_t unit : group.units) {
    if (!trace.is_frozen(unit)) units.push_back(unit);
  }
  std::ranges::stable_sort(units,
                           [&](std::uint32_t a, std::uint32_t b) { return scores[a] < scores[b]; });
  return units;
}

// Samples between those that layers are fitted on, which are spread evenly.
std::vector<std::int64_t> samples_between(DataSource& data, std::int64_t fitted,
                                          std::int64_t wanted) {
  const std::int64_t step = std::max<std::int64_t>(data.fixed_batch(), 1);
  const std::int64_t total = data.count() / step;
  fitted = std::min(fitted, total);
  const std::int64_t count = std::min(wanted, fitted);
  std::vector<std::int64_t> samples;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t gap = i * fitted / count;
    samples.push_back(step * ((2 * gap + 1) * total / (2 * fitted)));
  }
  return samples;
}

class Trials {
 public:
  Trials(const ChannelTrace& trace, const std::vector<double>& scores,
         const ChannelTrialOptions& options, Guard& guard, PassContext& context)
      : trace_(trace), scores_(scores), options_(options), guard_(guard), context_(context) {}

  Result<ChannelEffect> effect_of(const ChannelTrace::Group& group) {
    const auto units = by_score(trace_, group, scores_);
    ChannelEffect effect;
    std::size_t tried = 0;
    for (const double share : {options_.few, options_.many}) {
      const auto wanted =
          static_cast<std::size_t>(std::lround(share * static_cast<double>(units.size())));
      const std::size_t count = std::min(units.size(), std::max<std::size_t>(wanted, 1));
      if (count == tried) continue;
      std::vector<bool> cut(trace_.units());
      double scored = 0;
      for (std::size_t i = 0; i < count; ++i) cut[units[i]] = true, scored += scores_[units[i]];
      MCOMPRESS_ASSIGN(const double noise, noise_of(std::move(cut)));
      if (noise < 0) return effect;
      if (tried > 0 && scored > effect.scored && effect.scored > 0) {
        effect.exponent =
            std::clamp(std::log(noise / effect.noise) / std::log(scored / effect.scored), 1.0, 4.0);
      }
      effect.tried = true;
      effect.noise = noise;
      effect.scored = scored;
      tried = count;
    }
    return effect;
  }

 private:
  // Negative: nothing could be cut.
  Result<double> noise_of(std::vector<bool> cut) {
    const Model& model = trace_.model();
    // Ids and order of a copy are those of the model: so are its units.
    const std::unique_ptr<Model> trial = model.clone();
    const ChannelTrace of_trial(*trial);
    Editor edit(*trial, &onnx_catalog());
    KeptByName kept;
    MCOMPRESS_ASSIGN(const std::int64_t gone,
                     cut_channels(of_trial, std::move(cut), edit, context_.tensors(), kept));
    if (gone == 0) return -1.0;
    if (options_.repair) {
      ChannelRepairOptions how;
      how.samples = options_.fit_samples;
      how.levels = 1;
      how.editor = &edit;
      MCOMPRESS_TRY(repair_channels(model, *trial, kept, how, context_));
    }
    MCOMPRESS_ASSIGN(const double sqnr, guard_.sqnr_db(*trial));
    return std::max(std::pow(10, -sqnr / 10), kLeastNoise);
  }

  const ChannelTrace& trace_;
  const std::vector<double>& scores_;
  const ChannelTrialOptions& options_;
  Guard& guard_;
  PassContext& context_;
};

}  // namespace

Result<std::vector<ChannelEffect>> channel_effects(const ChannelTrace& trace,
                                                   const std::vector<double>& scores,
                                                   const std::vector<std::string>& why,
                                                   const ChannelTrialOptions& options,
                                                   PassContext& context) {
  std::vector<ChannelEffect> effects(trace.groups().size());
  MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
  DataSource& data = *context.calibration_data();
  Guard guard(*runtime, data, samples_between(data, options.fit_samples, options.samples));
  guard.leave_padding_out();
  MCOMPRESS_TRY(guard.open_reference(nullptr, trace.model(), &context.executor()));
  Trials trials(trace, scores, options, guard, context);
  for (std::size_t g = 0; g < effects.size(); ++g) {
    if (!why[g].empty()) continue;
    if (context.progress().cancelled()) {
      return Error(Code::kCancelled, "cancelled", "interrupted while groups were tried");
    }
    context.progress().update("try groups", g, effects.size(), "groups");
    MCOMPRESS_ASSIGN(effects[g], trials.effect_of(trace.groups()[g]));
  }
  return effects;
}

void apply_effect(const ChannelTrace& trace, const ChannelTrace::Group& group,
                  const ChannelEffect& effect, std::vector<double>& scores) {
  if (!(effect.scored > 0)) return;
  const auto noise = [&](double sum) {
    return effect.noise * std::pow(sum / effect.scored, effect.exponent);
  };
  double sum = effect.spent;
  for (const std::uint32_t unit : by_score(trace, group, scores)) {
    const double before = noise(sum);
    sum += scores[unit];
    scores[unit] = noise(sum) - before;
  }
}

}  // namespace mcompress
