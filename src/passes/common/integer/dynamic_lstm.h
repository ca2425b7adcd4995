// LSTM with int8 weights and activations that are quantized on every step.
#pragma once

#include <string>

#include "mcompress/ir.h"
#include "mcompress/pass.h"

namespace mcompress {

// Exchanges the last two dimensions of int8 codes: [..., r, c] -> [..., c, r]. The codes are in
// memory twice meanwhile. Fails as storage does.
Result<Tensor> transposed_codes(const Tensor& codes, TensorFactory& tensors);

// Why the node can not become a DynamicQuantizeLSTM, apart from what the target says; empty: it
// can. W [D, 4H, I] and R [D, 4H, H] have to be constant float32 of known shape.
std::string why_not_dynamic_lstm(const Node& node);

//   x ── LSTM(W, R, B, ..)        becomes
//   x ── com.microsoft.DynamicQuantizeLSTM(Wq [D, I, 4H], Rq [D, H, 4H], B, ..,
//                                          scale(W) [D, 4H], 0, scale(R) [D, 4H], 0)
//
// One symmetric scale per gate and hidden unit (or per direction when not `per_channel`); biases,
// peepholes, states, clip and activations stay float32. x and the hidden state are quantized per
// tensor on every step. ONNX Runtime: contrib_ops/cpu/quantization/dynamic_quantize_lstm.cc.
Status make_dynamic_lstm(Node& node, bool per_channel, PassContext& context);

}  // namespace mcompress
