#include "calibration/run_memory.h"

#include <algorithm>

#include "calibration/observers.h"

namespace mcompress {
namespace {

// Stacks, local counts and decoded pieces of one run.
constexpr std::uint64_t kRunExtra = 128 << 10;

std::uint64_t less(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

}  // namespace

std::uint64_t input_bytes(std::span<const NamedTensor> feeds) {
  std::uint64_t bytes = 0;
  for (const NamedTensor& feed : feeds) bytes += feed.tensor.byte_size();
  return bytes;
}

RunMemory RunMemory::of(std::uint64_t samples, std::uint64_t measured) const {
  const auto scaled = [&](std::uint64_t bytes) { return bytes / measured * samples; };
  return {scaled(work), scaled(input), scaled(shown)};
}

std::uint64_t bytes_per_observer() {
  return sizeof(ValueObserver) + 2 * Histogram::kBins * sizeof(std::uint64_t);
}
std::uint64_t bytes_per_entry() {
  return sizeof(ValueStats) + Histogram::kBins * sizeof(std::uint64_t);
}

MemoryShares share_memory(std::uint64_t budget, std::size_t values, const RunMemory& run) {
  MemoryShares shares;
  if (values == 0) return shares;
  shares.run = run.total() + kRunExtra;
  const std::uint64_t table = values * bytes_per_entry();
  const std::size_t fewest = (values + kMostPasses - 1) / kMostPasses;
  shares.least = shares.run + table + fewest * bytes_per_observer();
  const std::uint64_t fitting = less(budget, shares.run + table) / bytes_per_observer();
  const std::uint64_t together =
      shares.least > budget ? values : std::clamp<std::uint64_t>(fitting, fewest, values);
  shares.passes = static_cast<std::size_t>((values + together - 1) / together);
  shares.values = (values + shares.passes - 1) / shares.passes;  // of about equal size
  shares.statistics = table + shares.values * bytes_per_observer();
  shares.for_runs = less(budget, shares.statistics);
  shares.at_once = std::max<std::uint64_t>(shares.for_runs / shares.run, 1);
  return shares;
}

}  // namespace mcompress
