// Cuts of coupling groups whose readers do not look: what is left has to run and compute the same.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "mcompress/edit.h"
#include "mcompress/runtime.h"
#include "passes/common/channels/channel_groups.h"

namespace mcompress::testing {

// Makes what reads the units 0.
void zero_readers(const ChannelTrace& trace, const std::vector<bool>& cut, Editor& editor);

// Zeroes the readers of the chosen units that may go, cuts the units, and expects the rest to pass
// the checker and, in ONNX Runtime, to compute what it did before the cut, within |a - b| <=
// tolerance (1 + |a|). `feeds` empty: seeded inputs. How many units went.
std::int64_t cut_and_compare(Model& model, const std::function<bool(std::uint32_t)>& chosen,
                             const std::string& what, const std::vector<NamedTensor>& feeds = {},
                             double tolerance = 1e-3);

}  // namespace mcompress::testing
