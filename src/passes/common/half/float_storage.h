// Float tensors stored in narrower floats: what of them survives, and the codes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "mcompress/pass.h"
#include "passes/common/weights.h"

namespace mcompress {

// What becomes of the elements of a float32 tensor in a narrower type, without a scale.
struct FloatScan {
  double largest = 0;          // finite magnitude
  std::int64_t nan_count = 0;  // these and infinities stay what they are, where the type has them
  std::int64_t infinity_count = 0;
  std::int64_t beyond = 0;     // finite, but would round to infinity
  std::int64_t vanishing = 0;  // not 0, but would round to 0
  double sqnr_db = 0;          // of the elements that are finite before and after; 200 when exact
};

// Reads the tensor once, in parallel and in parts. Fails as reading does.
Result<FloatScan> scan_floats(const Tensor& tensor, DataType type, const Executor& executor);

// The largest finite number of float16, bfloat16 or an 8-bit float type.
double largest_number(DataType type);
bool has_infinity(DataType type);

enum class FloatScales : std::uint8_t {
  kNone,
  kPower,    // one power of two for the tensor, exact: the largest number lands below the limit
  kTensor,   // one number for the tensor
  kChannel,  // one per channel
};

struct StoredFloat {
  Tensor codes;
  std::optional<Tensor> scale;  // float32, broadcasts against the codes
  double sqnr_db = 0;           // with scales only: scan_floats() has it for the rest
};

// Rounds a float32 tensor half to even; with scales, codes are x / scale, and beyond the largest
// number they saturate. kTensor and kChannel take, of four alignments within one octave, the one of
// least squared error. `layout` is for kChannel. Codes above the heap's budget are computed again
// where they are needed instead of being kept. Fails as reading does.
Result<StoredFloat> store_floats(const Tensor& tensor, DataType type, FloatScales scales,
                                 const WeightView* layout, TensorFactory& tensors,
                                 const Executor& executor);

}  // namespace mcompress
