// Writing weights in few bits into the graph.
#pragma once

#include "mcompress/pass.h"
#include "passes/common/blocks/block_plan.h"

namespace mcompress {

// kMatMulNBits, y = x W of K inputs and N outputs:
//   x, codes [N, blocks, block * bits / 8], scales [N, blocks], zero points -> MatMulNBits (-> Add)
// kGatherBlock:
//   codes [rows, columns * bits / 8], indices, scales, zero points -> GatherBlockQuantized
// kDequantize:
//   codes (of the weight's shape), scales, zero points -> DequantizeLinear(axis, block_size)
// kFold, any opset from 7 on: bytes are looked up in a table of the codes that they hold,
//   bytes -> Cast -> Gather([256, 8 / bits]) -> Reshape [rows, blocks, block]
//     (-> Sub zero points) -> Mul scales -> Reshape (-> Slice) (-> Transpose) -> Reshape
// all of which is computed when the model is loaded. float16 and bfloat16 scales pass a Cast, which
// is, too. Weights that are read in 16-bit floats have scales of their type in the other forms, and
// another Cast at the end of this one. Holders of one unit share codes, scales and zero points.
//
// Takes every reader of the unit's holders to the new form and erases the constants; `how` is what
// reports say of the rounding. Fails as the editor does.
Status emit_blocks(const BlockUnit& unit, const BlockRows& rows, const std::string& how,
                   PassContext& context);

}  // namespace mcompress
