#include "passes/common/padding.h"

namespace mcompress {

std::vector<bool> counted_positions(const std::vector<NamedTensor>& feeds) {
  for (const NamedTensor& feed : feeds) {
    if (feed.name != "attention_mask" || feed.tensor.dims().size() != 2) continue;
    const auto numbers = read_floats(feed.tensor);
    if (!numbers.ok()) return {};
    std::vector<bool> counted;
    for (const float number : *numbers) counted.push_back(number != 0);
    return counted;
  }
  return {};
}

}  // namespace mcompress
