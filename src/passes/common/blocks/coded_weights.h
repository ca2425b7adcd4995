// Pruned weights that are integers, too: which ones, and how they are written.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "mcompress/pass.h"
#include "passes/common/blocks/block_plan.h"
#include "passes/common/weights.h"

namespace mcompress {

struct CodedRequest {
  std::string type = "int8";     // as block_format() has it
  std::int64_t block_size = -1;  // -1: whole rows of 8 bits, else 32, or what the target takes
  std::string scales = "auto";   // float32, float16, bfloat16; auto: float16 of 4 bits
};

// A weight that can be rounded: its grid, or the reason why not.
struct CodedPlan {
  std::optional<BlockFormat> format;
  std::string why;
};
// Fails with kUsage for a block size that is none, and as reading does.
Result<CodedPlan> plan_coded(Value& value, const WeightView& view, const CodedRequest& request,
                             PassContext& context);

// Writes rows in their codes: 8 bits with a scale per row as quantize-weights does, others as
// quantize-blocks. `value` is a constant that was planned with `request`, `view` what one reader
// takes it for. Fails as the editor does.
Status write_coded(Value& value, const WeightView& view, const BlockRows& rows,
                   const CodedRequest& request, PassContext& context);

// Bytes of codes, scales and zero points.
std::uint64_t coded_bytes(const BlockRows& rows);

}  // namespace mcompress
