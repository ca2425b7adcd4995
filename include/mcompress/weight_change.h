// Weights of two forms of one model side by side: how their values are distributed and how far
// they moved, whatever they are stored as.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"

namespace mcompress {

// Counts of finite values in equal bins over [low, high]; the last bin holds `high` too.
struct ValueHistogram {
  double low = 0, high = 0;
  std::vector<std::uint64_t> before, after;  // the same bins for both models
};

struct WeightChange {
  std::string name;            // of the reference's initializer
  std::string layer, op_type;  // the candidate's node that reads it first
  std::int64_t elements_before = 0, elements_after = 0;
  std::uint64_t zeros_before = 0, zeros_after = 0;
  // 10 log10(sum a^2 / sum (a - b)^2) in dB, +inf: equal values; empty where the dimensions differ.
  std::optional<double> sqnr_db;
  ValueHistogram histogram;
  std::string why_not;  // why there is no histogram; empty: there is one
};

struct WeightChangeOptions {
  std::size_t most = 12;            // of the largest weights
  std::size_t bins = 48;            // of each histogram, 1 to 4096
  std::int64_t min_elements = 256;  // smaller constants are no weights here
};

// The largest float weights of `before` that nodes of `after` read under the same name, or under
// one that starts with it and "_" ("w" as "w_quantized"), largest first. What stands between the
// stored constants and the node (DequantizeLinear, a codebook, Cast, Reshape...) is run as a model
// of its own; the packed weights of MatMulNBits and GatherBlockQuantized are computed back. One
// weight at a time is held, as float32. Fails as tensors can not be read; a part that the runtime
// can not run has `why_not`.
Result<std::vector<WeightChange>> weight_changes(Runtime& runtime, const Model& before,
                                                 const Model& after,
                                                 const WeightChangeOptions& options,
                                                 Progress& progress);

}  // namespace mcompress
