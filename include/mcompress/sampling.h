// Which samples calibration gets: whether they can be real, and how many are enough.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// Looks at the first samples (32 at most) and warns of what no real data are like: all samples
// equal or many twice ("data-duplicates"), inputs of one value ("data-constant"), NaN and infinity
// ("data-not-finite"), images whose neighbouring pixels have nothing to do with each other
// ("data-noise": random numbers stand in for data), and images of 0 to 255 beside others of 0 to 1
// ("data-scale"). An input counts as images when it has four axes, 1 or 3 channels and 8 x 8 pixels
// or more. Fails when the data can not be read.
Status check_samples(DataSource& data, std::span<const PortInfo> inputs, Diagnostics& diagnostics);

// How far ranges moved when the number of samples was doubled. The change of a value's range (8
// bits, least squared error) is the larger of what its two ends moved by, as a share of the new
// width; over all values, nearest rank.
struct RangeStep {
  std::int64_t samples = 0;  // after the step
  double median = 0, p95 = 0, largest = 0;
  std::string value;  // whose range moved most
};

struct StableOptions {
  std::int64_t first = 16;  // samples to begin with; rounded up to a model's fixed batch
  double change = 0.05;     // of p95, that counts as stable: 0.4 dB of rounding error
};

struct StableCalibration {
  CalibrationTable table;
  std::vector<RangeStep> steps;
  bool stable = false;  // false: there were no more samples
};

// Samples spread evenly over the data, twice as many each time, until a doubling moves 95 % of the
// ranges by no more than `change`, or there are none left. `observe` makes a table of part of the
// data; tables are merged, which gives that of all parts at once. Samples that do not fill a fixed
// batch at the end are left out.
Result<StableCalibration> calibrate_until_stable(
    DataSource& data, const std::function<Result<CalibrationTable>(DataSource&)>& observe,
    const StableOptions& options);

// The step between two tables of the same values.
RangeStep range_step(const CalibrationTable& before, const CalibrationTable& after);

}  // namespace mcompress
