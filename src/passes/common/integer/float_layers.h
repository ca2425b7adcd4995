// Layers that are to stay in float32 between integer ones.
#pragma once

#include "mcompress/edit.h"
#include "mcompress/target.h"

namespace mcompress {

// ONNX Runtime rounds the float32 weight of a Conv, ConvTranspose or Gemm to int8, with one scale
// for all of it, where it finds
//
//   q ── DQ(s, z) ── Conv(W, b) ── [Relu or Clip] ── Q
//
// and s is one number (core/optimizer/qdq_transformer/weight_bias_quantization.cc). With
//
//   q ── DQ([s, ..., s], [z, ..., z], axis = 1) ── Conv(W, b) ── [Relu or Clip] ── Q
//
// the layer computes on the same values in float32. A DequantizeLinear of its own is written for
// each such layer of the top graph whose rule says so (OperatorRule::rounds_float_weights); where
// the opset has no scales per axis, nothing is. Returns how many there are.
int keep_float_layers(Editor& edit, const Target& target);

}  // namespace mcompress
