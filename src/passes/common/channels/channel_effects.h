// What the outputs of the model lose when part of a coupling group goes: two trials per group.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/channels/channel_groups.h"

namespace mcompress {

struct ChannelTrialOptions {
  double few = 1.0 / 6, many = 0.5;  // shares of the units that may go, of the two trials
  std::int64_t samples = 16;         // that results are compared on, none of the next
  std::int64_t fit_samples = 64;     // that the readers are fitted on
  bool repair = true;                // readers are fitted before results are compared
};

// What the outputs lose when units go whose scores sum up to s: noise * (s / scored) ^ exponent, a
// share of the energy of the worst float output.
struct ChannelEffect {
  bool tried = false;
  double scored = 0, noise = 0;
  double exponent = 1;  // 1 to 4: units that stand in for each other cost more the more of them go
  double spent = 0;     // scores of the units that are gone
};

// By group of the trace. Losses at layers say little across layers: that of a layer in front of
// the outputs passes another half of the network than that of the first one, or an average hides
// it. So the cheapest units of each group are taken out of a copy of the model, a few of them and
// half of them. `why`: by group, why it is not touched; empty: it is tried. Fails as the data and
// the runtime do.
Result<std::vector<ChannelEffect>> channel_effects(const ChannelTrace& trace,
                                                   const std::vector<double>& scores,
                                                   const std::vector<std::string>& why,
                                                   const ChannelTrialOptions& options,
                                                   PassContext& context);

// Scores of the units of a group, so that each has what the outputs lose by it after those that are
// cheaper.
void apply_effect(const ChannelTrace& trace, const ChannelTrace::Group& group,
                  const ChannelEffect& effect, std::vector<double>& scores);

}  // namespace mcompress
