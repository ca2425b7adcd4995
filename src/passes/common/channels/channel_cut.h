// Taking units out of a model: weights are sliced, lists of sizes rewritten, types follow.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/channels/channel_groups.h"

namespace mcompress {

// Which indices of each axis of a constant are still there, as numbers in the uncut constant.
using KeptIndices = std::vector<std::vector<std::int64_t>>;
using KeptByName = std::map<std::string, KeptIndices, std::less<>>;

// `cut`: by unit; frozen units stay, and so does the first unit of an axis that would be empty.
// `kept` gains or updates an entry for each constant that was sliced. Returns the number of units
// that were cut. Fails as reading the weights does.
Result<std::int64_t> cut_channels(const ChannelTrace& trace, std::vector<bool> cut, Editor& editor,
                                  TensorFactory& tensors, KeptByName& kept);

// How many indices of an axis stay.
std::int64_t kept_count(const ChannelTrace& trace, const AxisCells& cells,
                        const std::vector<bool>& cut);

}  // namespace mcompress
