// Writes a static plan into the graph as QuantizeLinear/DequantizeLinear pairs.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/pass.h"
#include "passes/common/integer/static_plan.h"
#include "passes/common/weights.h"

namespace mcompress {

// Affine quantization of an activation: real = (code - zero_point) * scale.
struct ActivationScale {
  float scale = 1;
  std::int32_t zero_point = 0;  // uint8 0..255, int8 -128..127
  bool operator==(const ActivationScale&) const = default;
};

// Weights that were rounded before, by the id of their node and the scale of what it reads: the
// same plan is written into a trial copy and then into the model.
using RoundedWeights = std::map<std::pair<std::uint32_t, float>, QuantizedWeight>;

struct EmitOptions {
  std::map<std::uint32_t, ActivationScale> scales;  // by value id, every tensor of the plan
  const CalibrationTable* table = nullptr;          // channel means, for bias correction
  bool bias_correction = true;
  bool search_scale = true;
  WeightForm weight_form = WeightForm::kSymmetric;  // kSymmetric or kAffineInt8
  int weight_bits = 8;                              // 7 or 8
  bool one_weight_scale = false;                    // per tensor instead of per channel
  // Taken off the biases besides, by node id and channel; null: nothing.
  const std::map<std::uint32_t, std::vector<double>>* bias_shifts = nullptr;
  RoundedWeights* rounded = nullptr;  // filled and used; null: every weight is rounded anew
};

// Whether a shift of a weighted node's output can be taken off by a bias: Conv and Gemm have one or
// get one, a MatMul needs a constant that is added right behind it.
bool has_room_for_shift(const IntegerNode& node);

// before:  x ── Conv(W, b) ── Relu ── y
// after:   x ── Q ── DQ ── Conv(DQ(Wq), DQ(bq)) ── Q ── DQ ── y      (Relu: the range starts at 0)
//
// Weights: int8, one scale per output channel or tensor, explicit zero point. Biases: int32 at
// scale(x) * scale(W). Bias correction takes the mean of the weight error's effect off the bias:
// b[o] -= sum over inputs i of (Wq - W)[o, i] * mean(x[i]).
// Fails with kInternal on a defect only.
Status emit_static(const StaticPlan& plan, const Target& target, const EmitOptions& options,
                   Editor& edit, TensorFactory& tensors, const Executor& executor,
                   Explain& explain);

}  // namespace mcompress
