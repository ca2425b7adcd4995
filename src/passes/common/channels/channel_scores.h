// What each unit is worth.
#pragma once

#include <cstdint>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/channels/channel_groups.h"

namespace mcompress {

struct ChannelScoreOptions {
  bool by_data = false;  // else by the weights alone
  std::int64_t samples = 64;
  double damping = 0.01;
};

// By unit: the energy that is lost at the readers of its slices, as a share of what they make, all
// readers together. By data: what is left after the other inputs made up for it (block_losses);
// else, and for readers whose inputs can not be seen, the share of the squares of the slices,
// weighed by those of the makers. Fails as the data and the runtime do.
Result<std::vector<double>> channel_scores(const ChannelTrace& trace,
                                           const ChannelScoreOptions& options,
                                           PassContext& context);

}  // namespace mcompress
