// Some samples of a source, as a source.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mcompress/calibration.h"

namespace mcompress {

// The samples at `indices`, in that order; ascending ones are read forward. The source must outlive
// the result.
std::unique_ptr<DataSource> choose_samples(DataSource& source, std::vector<std::int64_t> indices);
// The same, holding the source; `file` is what it came from.
std::unique_ptr<DataSource> choose_samples(std::unique_ptr<DataSource> source,
                                           std::vector<std::int64_t> indices,
                                           const std::string& file);

}  // namespace mcompress
