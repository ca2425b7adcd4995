// A tensor seen along one axis: flat index = (o * channels + c) * inner + i.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace mcompress {

struct ChannelLayout {
  std::int64_t outer = 1, channels = 1, inner = 1;

  std::int64_t elements() const { return outer * channels * inner; }
  std::int64_t channel_of(std::int64_t flat) const { return flat / inner % channels; }
};

// Splits `count` elements from flat index `first` on into runs of one channel each and calls
// receive(channel, offset_from_first, length) in order.
template <class Receive>
void for_each_channel_run(const ChannelLayout& layout, std::int64_t first, std::size_t count,
                          Receive&& receive) {
  std::size_t done = 0;
  if (count == 0) return;
  std::int64_t channel = layout.channel_of(first);
  std::int64_t left = layout.inner - first % layout.inner;
  while (done < count) {
    const std::size_t length = std::min(count - done, static_cast<std::size_t>(left));
    receive(channel, done, length);
    done += length;
    left = layout.inner;
    channel = channel + 1 == layout.channels ? 0 : channel + 1;
  }
}

}  // namespace mcompress
