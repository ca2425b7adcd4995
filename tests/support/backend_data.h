// ONNX's own backend test data: a model and, beside it, data sets of inputs and expected outputs.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "mcompress/io.h"

namespace mcompress::testing {

// All model files, sorted; empty where cmake/bootstrap.sh has not made them.
std::vector<std::filesystem::path> find_backend_models();

using BackendOutputs = std::vector<Tensor>;

// What the runtime computes, without any optimiser of its own, from the first data set beside the
// model file; nothing when a kernel is missing or an input is no tensor.
std::optional<BackendOutputs> backend_outputs(const Model& model,
                                              const std::filesystem::path& model_file);

// |a - b| <= absolute + relative |a|.
struct Closeness {
  double absolute = 0;
  double relative = 0;
};
// Of ONNX's own runner of these data, for every operator that states none.
constexpr Closeness kBackendCloseness = {1e-7, 1e-3};

enum class Likeness { kDifferent, kClose, kSameBits };
// Types and shapes have to agree, not-a-numbers and infinities have to stand in the same places,
// and what is no float is the same or different.
Likeness likeness(const BackendOutputs& left, const BackendOutputs& right, Closeness allowed);

}  // namespace mcompress::testing
