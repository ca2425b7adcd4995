// What cuts are worth in time: of whole runs, and of each product.
#pragma once

#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

// Kernel time of each product of the top graph by id of its node, in microseconds per run, by the
// runtime's own profile. What follows a product, up to the next one, belongs to it; what belongs to
// none is left out. Runs on the first sample of the calibration data. Fails as the data and the
// runtime do.
Result<std::vector<double>> product_times(const Model& model, PassContext& context);

// The median time of a run of `model`, as a share of that of `dense`, on the first sample of the
// calibration data; the two take turns. Fails as the data and the runtime do.
Result<double> run_time_left(const Model& dense, const Model& model, PassContext& context);

}  // namespace mcompress
