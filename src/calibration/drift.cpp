#include "mcompress/drift.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kShifted = 0.25, kMoved = 0.1;        // of the PSI
constexpr double kFarOutside = 0.01, kOutside = 1e-3;  // shares of elements
constexpr std::size_t kTenths = 10;
constexpr double kLeastShare = 1e-4;

// Elements of both distributions in one place, in the order of values: bins of equal width, and the
// zeros in front of the bin that begins with 0.
struct PairedCell {
  double calibrated = 0, seen = 0;  // shares
  bool zeros = false;
};

// Bins twice as wide, `times` over.
std::int64_t coarser(std::int64_t bin, int times) { return bin >> std::min(times, 62); }

std::vector<PairedCell> pair_cells(const ValueStats& calibrated, const ValueStats& seen) {
  const int exponent = std::max(calibrated.exponent, seen.exponent);
  std::map<std::int64_t, PairedCell> cells;
  PairedCell zeros;
  zeros.zeros = true;
  const auto fill = [&](const ValueStats& stats, double PairedCell::*share) {
    if (stats.count == 0) return;
    const double one = 1.0 / static_cast<double>(stats.count);
    for (std::size_t i = 0; i < stats.bins.size(); ++i) {
      if (stats.bins[i] == 0) continue;
      const std::int64_t bin = stats.first_bin + static_cast<std::int64_t>(i);
      std::uint64_t count = stats.bins[i];
      if (bin == 0) count -= std::min(count, static_cast<std::uint64_t>(stats.zero_count));
      if (count == 0) continue;
      cells[coarser(bin, exponent - stats.exponent)].*share += static_cast<double>(count) * one;
    }
    zeros.*share = static_cast<double>(stats.zero_count) * one;
  };
  fill(calibrated, &PairedCell::calibrated);
  fill(seen, &PairedCell::seen);
  std::vector<PairedCell> ordered;
  bool placed = false;
  for (const auto& [bin, cell] : cells) {
    if (bin >= 0 && !placed) {
      ordered.push_back(zeros);
      placed = true;
    }
    ordered.push_back(cell);
  }
  if (!placed) ordered.push_back(zeros);
  return ordered;
}

double ks_of(const std::vector<PairedCell>& cells) {
  double gap = 0, largest = 0;
  for (const PairedCell& cell : cells) {
    gap += cell.calibrated - cell.seen;
    largest = std::max(largest, std::abs(gap));
  }
  return std::min(largest, 1.0);
}

double psi_of(const std::vector<PairedCell>& cells) {
  double psi = 0;
  const auto add = [&psi](const PairedCell& group) {
    const double p = std::max(group.calibrated, kLeastShare);
    const double q = std::max(group.seen, kLeastShare);
    psi += (q - p) * std::log(q / p);
  };
  double nonzero = 0;
  for (const PairedCell& cell : cells) {
    if (cell.zeros) {
      if (cell.calibrated > 0 || cell.seen > 0) add(cell);
    } else {
      nonzero += cell.calibrated;
    }
  }
  // The last group takes what lies above all that was calibrated, the first what lies below.
  PairedCell group;
  double before = 0;  // of the calibrated elements, up to here
  std::size_t tenth = 1;
  const auto border = [&] {
    return nonzero * static_cast<double>(tenth) / static_cast<double>(kTenths);
  };
  for (const PairedCell& cell : cells) {
    if (cell.zeros) continue;
    // Rounding must not open a group of its own for what is left of the last tenth.
    constexpr double kSlack = 1e-12;
    if (group.calibrated > 0 && before >= border() - kSlack && tenth < kTenths &&
        nonzero - before > kSlack) {
      add(group);
      group = PairedCell();
      while (tenth < kTenths && border() <= before + kSlack) ++tenth;
    }
    group.calibrated += cell.calibrated;
    group.seen += cell.seen;
    before += cell.calibrated;
  }
  if (group.calibrated > 0 || group.seen > 0) add(group);
  return psi;
}

// The share of elements in bins that lie wholly outside.
double share_outside(const ValueStats& stats, const ValueRange& range) {
  if (stats.count == 0) return 0;
  const double width = std::ldexp(1.0, stats.exponent);
  double outside = 0;
  for (std::size_t i = 0; i < stats.bins.size(); ++i) {
    const double low = static_cast<double>(stats.first_bin + static_cast<std::int64_t>(i)) * width;
    // A bin of positive values holds its lower end, one of negative values its upper end.
    const bool negative = low < 0;
    const bool above = negative ? low >= range.maximum : low > range.maximum;
    const bool below = negative ? low + width < range.minimum : low + width <= range.minimum;
    if (above || below) outside += static_cast<double>(stats.bins[i]);
  }
  return outside / static_cast<double>(stats.count);
}

DriftVerdict verdict_of(const ValueDrift& drift, double noise) {
  if (drift.psi > kShifted + noise || drift.outside > kFarOutside) {
    return DriftVerdict::kRecalibrate;
  }
  if (drift.psi > kMoved + noise || drift.outside > kOutside || drift.not_finite > 0) {
    return DriftVerdict::kWatch;
  }
  return DriftVerdict::kStable;
}

}  // namespace

std::string_view verdict_name(DriftVerdict verdict) {
  switch (verdict) {
    case DriftVerdict::kStable:
      return "stable";
    case DriftVerdict::kWatch:
      return "watch";
    case DriftVerdict::kRecalibrate:
      break;
  }
  return "recalibrate";
}

ValueDrift compare_stats(std::string_view value, const ValueStats& calibrated,
                         const ValueStats& seen, double noise) {
  ValueDrift drift;
  drift.value = value;
  drift.calibrated = {calibrated.minimum, calibrated.maximum};
  drift.seen = {seen.minimum, seen.maximum};
  drift.not_finite = seen.nan_count + seen.infinity_count;
  if (calibrated.count > 0 && seen.count > 0) {
    const std::vector<PairedCell> cells = pair_cells(calibrated, seen);
    drift.psi = psi_of(cells);
    drift.ks = ks_of(cells);
    // Zero is in every range that is quantized.
    drift.outside =
        share_outside(seen, {std::min(calibrated.minimum, 0.0), std::max(calibrated.maximum, 0.0)});
    const ValueRange range = choose_range(calibrated, RangeMethod::kMse, 100, 256, false);
    drift.saturated = share_outside(seen, range);
    drift.calibrated_saturated = share_outside(calibrated, range);
  }
  drift.verdict = verdict_of(drift, noise);
  return drift;
}

Result<Drift> find_drift(const CalibrationTable& calibrated, const CalibrationTable& seen) {
  if (calibrated.model_digest != seen.model_digest) {
    return Error(Code::kInput, "table-of-another-model",
                 "the table was made from another model: " + hex_digest(calibrated.model_digest) +
                     " and " + hex_digest(seen.model_digest));
  }
  Drift drift;
  drift.calibrated_samples = calibrated.samples;
  drift.samples = seen.samples;
  for (const std::int64_t samples : {calibrated.samples, seen.samples}) {
    drift.noise +=
        static_cast<double>(kTenths) / static_cast<double>(std::max<std::int64_t>(samples, 1));
  }
  for (const auto& [name, stats] : calibrated.all()) {
    const ValueStats* now = seen.find(name);
    if (now == nullptr) {
      return Error(Code::kInput, "table-values-differ", "nothing was seen of this value",
                   {{}, {}, name});
    }
    drift.values.push_back(compare_stats(name, stats, *now, drift.noise));
    drift.verdict = std::max(drift.verdict, drift.values.back().verdict);
  }
  std::ranges::stable_sort(drift.values, [](const ValueDrift& a, const ValueDrift& b) {
    return std::pair(a.psi, a.outside) > std::pair(b.psi, b.outside);
  });
  return drift;
}

}  // namespace mcompress
