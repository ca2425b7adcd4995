// Which names are taken.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "support/hash.h"

namespace mcompress {

// Names by their digests, eight bytes each. Two names of one digest count as one name, which costs
// the second a suffix that it does not need.
class NameSet {
 public:
  explicit NameSet(std::size_t names) : entries_(std::bit_ceil(2 * names + 2)) {}
  // False: it was there.
  bool insert(std::string_view name) {
    if (2 * count_ >= entries_.size()) grow();
    return enter(digest_of(name));
  }
  bool contains(std::string_view name) const {
    const std::uint64_t digest = digest_of(name);
    return entries_[place_of(digest)] == digest;
  }

 private:
  static std::uint64_t digest_of(std::string_view name) {
    return std::max<std::uint64_t>(1, digest_bytes(name));  // 0: free
  }
  std::size_t place_of(std::uint64_t digest) const {
    std::size_t at = digest & (entries_.size() - 1);
    while (entries_[at] != 0 && entries_[at] != digest) at = (at + 1) & (entries_.size() - 1);
    return at;
  }
  bool enter(std::uint64_t digest) {
    std::uint64_t& entry = entries_[place_of(digest)];
    if (entry == digest) return false;
    entry = digest;
    ++count_;
    return true;
  }
  void grow() {
    const std::vector<std::uint64_t> before =
        std::exchange(entries_, std::vector<std::uint64_t>(2 * entries_.size()));
    count_ = 0;
    for (const std::uint64_t digest : before) {
      if (digest != 0) enter(digest);
    }
  }

  std::vector<std::uint64_t> entries_;
  std::size_t count_ = 0;
};

}  // namespace mcompress
