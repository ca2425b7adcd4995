// Positions of padded sequences.
#pragma once

#include <vector>

#include "mcompress/runtime.h"

namespace mcompress {

// Positions that count, [batch * length] of an input `attention_mask` [batch, length], where it is
// not 0. Others are computed, but nobody looks at what comes out, and they are often most. Empty:
// there is no such input, and all count.
std::vector<bool> counted_positions(const std::vector<NamedTensor>& feeds);

}  // namespace mcompress
