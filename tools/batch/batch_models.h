// The models of a batch, and the files each is made of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mcompress/status.h"

namespace mcompress::tools {

struct BatchModel {
  std::string file, place;  // the model; its result below the folder of results
};
// Those of a folder, a pattern, or a .txt file with a model a line; each once, sorted by place.
// Hidden folders and the folder of results are left out. Fails with kInput where there are none,
// with kUsage where two would have one place.
Result<std::vector<BatchModel>> find_batch_models(const std::string& source,
                                                  const std::string& results);

// A model and what lies beside it under its name: external data. Sorted.
std::vector<std::string> model_files(const std::string& model);
std::uint64_t model_bytes(const std::string& model);

}  // namespace mcompress::tools
