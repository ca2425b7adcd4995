// What calibration holds beside the opened model: the runs in flight, the statistics that are being
// gathered, the table so far. And how a budget is shared out among them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "mcompress/runtime.h"

namespace mcompress {

std::uint64_t input_bytes(std::span<const NamedTensor> feeds);

// Of one run, in bytes.
struct RunMemory {
  std::uint64_t work = 0;   // values and what kernels work in, at the peak
  std::uint64_t input = 0;  // the samples
  std::uint64_t shown = 0;  // observed values, as if all were alive together

  // The samples count twice: they are read from something, or put together from several.
  std::uint64_t total() const { return work + 2 * input; }
  double per_input_byte() const {
    return input == 0 ? 0.0 : static_cast<double>(total()) / static_cast<double>(input);
  }
  // Of a run of `samples`, when this is one of `measured` (at least 1).
  RunMemory of(std::uint64_t samples, std::uint64_t measured) const;
};

// Bytes that the statistics of one value take while they are gathered, and what the table keeps
// of them.
std::uint64_t bytes_per_observer();
std::uint64_t bytes_per_entry();

struct MemoryShares {
  std::size_t values = 0;  // that are observed in one pass over the data
  std::size_t passes = 1;
  std::uint64_t run = 0;         // bytes of one run
  std::uint64_t statistics = 0;  // bytes of observers and table
  std::uint64_t for_runs = 0;    // bytes that are left for runs
  std::uint64_t at_once = 1;     // runs that fit into those, at least 1
  std::uint64_t least = 0;       // bytes without which it does not work
};
// Fewest passes first: as many values together as fit beside one run; then as many runs as fit
// beside those. Not more than kMostPasses, and one where even these do not make it fit.
inline constexpr std::size_t kMostPasses = 8;
MemoryShares share_memory(std::uint64_t budget, std::size_t values, const RunMemory& run);

}  // namespace mcompress
