// Drift: how far new data leave the activations that a model was calibrated with.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/status.h"

namespace mcompress {

enum class DriftVerdict : std::uint8_t { kStable, kWatch, kRecalibrate };
std::string_view verdict_name(DriftVerdict verdict);  // "stable", "watch", "recalibrate"

// One value of the model, calibrated against seen now.
struct ValueDrift {
  std::string value;
  // Population stability index over the tenths of what was calibrated, zeros apart: the sum of
  // (q - p) ln(q / p), where a share of 0 counts as 0.0001. Below 0.1 is called stable, above 0.25
  // shifted.
  double psi = 0;
  // Kolmogorov-Smirnov: the largest distance of the two cumulative distributions, at bin borders.
  double ks = 0;
  // Shares of the elements seen now: outside the calibrated minimum and maximum, and outside the
  // range of 8 bits with the least squared error on what was calibrated. To a bin's width.
  double outside = 0, saturated = 0;
  double calibrated_saturated = 0;  // the latter share among the calibrated elements
  ValueRange calibrated, seen;      // minimum and maximum
  std::int64_t not_finite = 0;      // elements seen now
  DriftVerdict verdict = DriftVerdict::kStable;
};

struct Drift {
  std::vector<ValueDrift> values;  // the highest PSI first, then the largest share outside
  std::int64_t calibrated_samples = 0, samples = 0;
  // What the PSI of equal data would be on average if a sample's elements went together entirely:
  // 10 (1/n + 1/m) of n calibrated and m new samples. Verdicts allow for it.
  double noise = 0;
  DriftVerdict verdict = DriftVerdict::kStable;  // the worst of all values
};

// Shapes of distributions do not depend on the number of elements. `noise` is that of Drift.
ValueDrift compare_stats(std::string_view value, const ValueStats& calibrated,
                         const ValueStats& seen, double noise);

// A value is to be recalibrated when its PSI passes 0.25 and the noise together, or more than 1 %
// of its elements lie outside; to be watched from 0.1 or 0.1 % on. Fails (kInput) when the tables
// are of different models, or `seen` lacks a value of `calibrated`.
Result<Drift> find_drift(const CalibrationTable& calibrated, const CalibrationTable& seen);

}  // namespace mcompress
