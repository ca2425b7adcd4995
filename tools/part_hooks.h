// What a part of a product adds to the job of one model.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "compress.h"

namespace mcompress::tools {

struct PartHooks {
  // Makes the samples that passes see of the model; empty: they are options.calib and
  // options.input.
  std::function<Result<std::unique_ptr<DataSource>>(const Model&)> calibration;
  // Gets the result of a run that succeeds or is written all the same.
  std::function<Status(const Model&)> result;
};

// compress() with these.
Status compress(Job job, PartHooks hooks, Console& console);

// open_samples for some of a model's inputs.
Result<std::unique_ptr<DataSource>> open_samples_for(const std::string& path, const Model& model,
                                                     const std::vector<PortInfo>& ports,
                                                     const DataFlags& flags, std::int64_t limit,
                                                     Console& console);

}  // namespace mcompress::tools
