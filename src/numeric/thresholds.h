// Clipping ranges for quantization, chosen on a histogram. Every range contains 0 and lies inside
// [min(x, 0), max(x, 0)]; an empty histogram gives {0, 0}. Only IEEE basic operations in a fixed
// order are used, so the range is the same on every machine.
#pragma once

#include "numeric/histogram.h"
#include "numeric/quantize.h"

namespace mcompress {

// How the range will be used: an asymmetric quantizer clips both ends on its own, a symmetric one
// clips |x| and the range returned is [-t, t].
enum class RangeShape : std::uint8_t { kAsymmetric, kSymmetric };

Range minmax_range(const Histogram& histogram, RangeShape shape);

// Leaves out at most `tail` (0..1) of the finite values: tail / 2 at each end, or the tail of |x|.
// Linear interpolation inside a bin. 99.99 % is tail = 1e-4.
Range percentile_range(const Histogram& histogram, double tail, RangeShape shape);

// Minimises sum over bins of count (v - dequantize(quantize(v)))^2, v the middle of the bin, over a
// grid of 100 clipping values per end (1 %, 2 %, .. 100 % of the end), one end after the other
// until nothing changes (three rounds at most). Exact zeros cost nothing. For types wider than 8
// bits the bins are coarser than the quantization step, and the full range is returned.
Range mse_range(const Histogram& histogram, QuantType type, RangeShape shape);

// Minimises the Kullback-Leibler divergence of the quantized histogram from the clipped one
// (Migacz, "8-bit Inference with TensorRT", 2017), generalised to two ends: for an asymmetric range
// each end is searched on its own, two rounds. Reference P: counts with the clipped mass added to
// the end bins. Q: counts inside, spread evenly over the non-empty bins of each level, mixed
// with 2^-12 of the uniform distribution over the bins where P > 0. Exact zeros are left out, as in
// practice zero padding and ReLU would otherwise dominate. With fewer bins than levels, or a
// type wider than 8 bits, the full range is returned.
Range entropy_range(const Histogram& histogram, QuantType type, RangeShape shape);

}  // namespace mcompress
