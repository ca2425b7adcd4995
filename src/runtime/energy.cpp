#include <algorithm>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include "mcompress/evaluate.h"

namespace mcompress {
namespace {

std::optional<std::uint64_t> read_count(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::uint64_t count = 0;
  if (!(in >> count)) return std::nullopt;
  return count;
}

}  // namespace

EnergyMeter::EnergyMeter(const std::filesystem::path& folder) {
  std::error_code failure;
  for (std::filesystem::directory_iterator entry(folder, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    const std::string name = entry->path().filename().string();
    // "intel-rapl:0" is a package; "intel-rapl:0:1" is a part of it and counted there.
    // "intel-rapl-mmio:0" is another door to the same counter.
    const std::size_t colon = name.find(':');
    if (!name.starts_with("intel-rapl:") || name.find(':', colon + 1) != std::string::npos) {
      continue;
    }
    Package package;
    package.counter = entry->path() / "energy_uj";
    package.range = read_count(entry->path() / "max_energy_range_uj").value_or(0);
    if (read_count(package.counter)) packages_.push_back(std::move(package));
  }
  std::sort(packages_.begin(), packages_.end(),
            [](const Package& a, const Package& b) { return a.counter < b.counter; });
}

void EnergyMeter::start() {
  for (Package& package : packages_) package.start = read_count(package.counter);
}

std::optional<double> EnergyMeter::joules() const {
  if (packages_.empty()) return std::nullopt;
  std::uint64_t sum = 0;
  for (const Package& package : packages_) {
    const std::optional<std::uint64_t> now = read_count(package.counter);
    if (!now || !package.start) return std::nullopt;
    // The counter starts again at 0 when it has reached its range.
    if (*now < *package.start && package.range <= *package.start) return std::nullopt;
    sum += *now >= *package.start ? *now - *package.start : package.range - *package.start + *now;
  }
  return static_cast<double>(sum) * 1e-6;
}

}  // namespace mcompress
